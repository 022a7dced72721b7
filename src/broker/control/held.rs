//! Held queues: list them, and let one go on.

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

/// A row for each place where damage may have hit a queue.
pub(super) fn list_held_queues(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    let List { vhost } = parse(arguments)?;
    let held = find(broker, &vhost)?.held();
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
    Ok(Done { value: rows.collect(), reach: Reach::default() })
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
    let released = found.release(&queue, broker, workspace);
    broker.finish_turn(workspace);
    let reach = released.ok_or_else(|| error(Kind::NotFound, format!("{resource} is not held")))?;
    tracing::warn!("{resource} is released: it goes on with what is there");
    Ok(Done { value: Value::Null, reach })
}

fn find(broker: &Broker, vhost: &str) -> Result<Arc<Vhost>, Error> {
    let text = || format!("Virtual host '{vhost}' does not exist");
    broker.vhost(vhost).ok_or_else(|| Error { kind: Kind::NoVhost, text: text() })
}
