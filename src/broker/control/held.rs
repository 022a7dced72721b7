//! Held queues, and those of which messages are set aside since they cannot be read: list them, and
//! let one go on without what is lost.

use super::{Arguments, Done, Error, Kind, parse};
use crate::broker::link::Workspace;
use crate::broker::{Broker, Vhost};
use crate::exception::Resource;
use crate::store::Reach;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Deserialize)]
struct List {
    vhost: String,
}

#[derive(Deserialize)]
struct Release {
    vhost: String,
    name: String,
}

/// A row for each place where damage may have hit a queue, and one for each queue of which messages
/// are set aside.
pub(super) fn list_held_queues(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    let List { vhost } = parse(arguments)?;
    let vhost = find(broker, &vhost)?;
    let held = vhost.held();
    let rows = held.iter().flat_map(|(queue, gaps)| {
        let (messages, _) = queue.depth();
        gaps.iter().map(move |gap| {
            json!({
                "name": queue.name.to_string(),
                "messages": messages,
                "file": gap.file(),
                "offset": gap.damaged_at,
                "why": format!("{}; {}", gap.loss(), hope(broker.store.is_restorable(gap))),
            })
        })
    });
    let damaged = vhost.damaged();
    let damaged = damaged.iter().map(|(queue, len)| {
        let why = broker.why_set_aside(queue);
        let (messages, _) = queue.depth();
        let file = why.as_ref().and_then(|why| why.path().file_name());
        let reason = why.as_ref().map_or_else(|| "see the log".to_owned(), |why| why.reason());
        json!({
            "name": queue.name.to_string(),
            "messages": messages,
            "file": file.map(|file| file.display().to_string()),
            "offset": why.as_ref().and_then(|why| why.damaged_at()),
            "why": format!("{len} messages cannot be read and are set aside: {reason}"),
        })
    });
    Ok(Done { value: rows.chain(damaged).collect(), reach: Reach::default() })
}

/// What becomes of it if the file does come back.
fn hope(is_restorable: bool) -> &'static str {
    match is_restorable {
        true => "if the file is restored before the next start, they come back",
        false => "a checkpoint has passed them: the file would not bring them back",
    }
}

pub(super) fn release_queue(
    broker: &Broker,
    arguments: Arguments,
    workspace: &mut Workspace,
) -> Result<Done, Error> {
    let Release { vhost, name } = parse(arguments)?;
    let found = find(broker, &vhost)?;
    let resource = Resource::Queue { vhost: &vhost, name: &name };
    let error = |kind, text| Error { kind, text };
    let queue = found.queue(&name);
    let queue = queue.ok_or_else(|| error(Kind::NotFound, format!("there is no {resource}")))?;
    if let Some(reach) = found.release(&queue, broker, workspace) {
        broker.finish_turn(workspace);
        tracing::warn!("{resource} is released: it goes on with what is there");
        return Ok(Done { value: Value::Null, reach });
    }
    let given_up = queue.give_up_damaged(&mut workspace.turn(broker));
    broker.finish_turn(workspace);
    let (len, lsn) = given_up.unwrap_or_default();
    if len == 0 {
        return Err(error(Kind::NotFound, format!("{resource} is not held")));
    }
    tracing::warn!("{resource}: {len} messages that cannot be read are given up");
    Ok(Done { value: Value::Null, reach: Reach::of(lsn, queue.durability()) })
}

fn find(broker: &Broker, vhost: &str) -> Result<Arc<Vhost>, Error> {
    let text = || format!("Virtual host '{vhost}' does not exist");
    broker.vhost(vhost).ok_or_else(|| Error { kind: Kind::NoVhost, text: text() })
}
