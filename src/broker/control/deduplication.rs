//! What queues and exchanges remember in order to leave out duplicates.

use super::{Arguments, Done, Error, Kind, parse};
use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::store::Reach;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct List {
    vhost: String,
}

pub(super) fn list_deduplication(
    broker: &Broker,
    arguments: Arguments,
    _: &mut Workspace,
) -> Result<Done, Error> {
    let List { vhost } = parse(arguments)?;
    let no_vhost =
        || Error { kind: Kind::NoVhost, text: format!("Virtual host '{vhost}' does not exist") };
    let mut found = broker.vhost(&vhost).ok_or_else(no_vhost)?.remembering();
    found.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let rows = found.iter().map(|(object, name, deduplicator)| {
        json!({
            "object": object,
            "name": &**name,
            "keys": deduplicator.keys.get(),
            "cache_size": deduplicator.cache_len,
            "bytes": deduplicator.bytes(),
            "duplicates": deduplicator.duplicates.get(),
        })
    });
    Ok(Done { value: rows.collect(), reach: Reach::default() })
}
