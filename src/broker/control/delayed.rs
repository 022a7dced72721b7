//! Delayed messages: list those that wait, cancel one, or let it wait until another time.
//!
//! Their ids need all of 64 bits, which many a reader of JSON would round: they are told as text,
//! and taken as text or as a number.

use super::{Arguments, Done, Error, Kind, parse};
use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::exception::Resource;
use crate::id::Seq;
use crate::limits::DELAYED_LIST_LEN_MAX;
use crate::queue::Queue;
use crate::store::Reach;
use crate::time::UnixMillis;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct List {
    vhost: String,
    exchange: String,
    /// Only those behind this one.
    after: Option<Id>,
    limit: usize,
}

#[derive(Deserialize)]
struct Cancel {
    vhost: String,
    exchange: String,
    id: Id,
}

#[derive(Deserialize)]
struct Reschedule {
    vhost: String,
    exchange: String,
    id: Id,
    /// Unix milliseconds.
    deliver_at: u64,
}

pub(super) fn list_delayed(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    let List { vhost, exchange, after, limit } = parse(arguments)?;
    let queue = find(broker, &vhost, &exchange)?;
    let from = after.as_ref().map(Id::read).transpose()?.map_or(0, |after| after.saturating_add(1));
    let rows = queue.waiting(Seq(from), limit.min(DELAYED_LIST_LEN_MAX)).into_iter();
    let rows = rows.map(|waiting| {
        json!({
            "id": waiting.seq.0.to_string(),
            "deliver_at": waiting.seq.time().0,
            "persistent": waiting.persistent,
        })
    });
    Ok(Done { value: rows.collect(), reach: Reach::default() })
}

pub(super) fn cancel_delayed(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    let Cancel { vhost, exchange, id } = parse(arguments)?;
    let id = id.read()?;
    let queue = find(broker, &vhost, &exchange)?;
    let cancelled = queue.cancel_waiting(Seq(id), &mut workspace.turn(broker));
    broker.finish_turn(workspace);
    match cancelled {
        Ok((lsn, true)) => {
            tracing::info!("delayed message {id} of exchange '{exchange}' is cancelled");
            Ok(Done { value: Value::Null, reach: Reach::of(lsn, queue.durability()) })
        }
        Ok((_, false)) | Err(_) => Err(not_waiting(id, &exchange)),
    }
}

pub(super) fn reschedule_delayed(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    let Reschedule { vhost, exchange, id, deliver_at } = parse(arguments)?;
    let id = id.read()?;
    let queue = find(broker, &vhost, &exchange)?;
    let until = UnixMillis(deliver_at);
    let found = queue.reschedule_waiting(Seq(id), until, &mut workspace.turn(broker));
    broker.finish_turn(workspace);
    if found == Ok(true) {
        tracing::info!(
            "delayed message {id} of exchange '{exchange}' now waits until {deliver_at}"
        );
        // A power loss leaves it waiting until the one time or the other.
        return Ok(Done { value: Value::Null, reach: Reach::default() });
    }
    Err(not_waiting(id, &exchange))
}

impl Id {
    fn read(&self) -> Result<u64, Error> {
        match self {
            Self::Number(id) => Ok(*id),
            Self::Text(text) => text.parse().map_err(|_| {
                let text = format!("'{text}' is no id of a delayed message: see list_delayed");
                Error { kind: Kind::NotFound, text }
            }),
        }
    }
}

fn not_waiting(id: u64, exchange: &str) -> Error {
    let text = format!("no message {id} waits in exchange '{exchange}' any more");
    Error { kind: Kind::NotFound, text }
}

fn find(broker: &Broker, vhost: &str, exchange: &str) -> Result<Arc<Queue>, Error> {
    let error = |kind, text| Error { kind, text };
    let no_vhost = || error(Kind::NoVhost, format!("Virtual host '{vhost}' does not exist"));
    let found = broker.vhost(vhost).ok_or_else(no_vhost)?;
    let resource = Resource::Exchange { vhost, name: exchange };
    if found.exchange(exchange).is_none() {
        return Err(error(Kind::NotFound, format!("there is no {resource}")));
    }
    found.delay_queue(exchange).ok_or_else(|| {
        error(Kind::NotFound, format!("{resource} is not of type x-delayed-message"))
    })
}
