//! What the tests of this module store.

use super::definition::Definition;
use super::record::Target;
use super::replay::Recovered;
use crate::id::{QueueId, Seq};
use crate::message::Message;
use crate::table::Table;

pub(super) fn message(body: &[u8]) -> Message {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    Message::new(b"exchange", b"key", &header, body, &mut Vec::new())
}

pub(super) fn to(queue: u64, seq: u64) -> Target {
    Target { queue: QueueId(queue), seq: Seq(seq) }
}

pub(super) fn run(first: u64, last: u64) -> (Seq, Seq) {
    (Seq(first), Seq(last))
}

pub(super) fn vhost(name: &str) -> Definition {
    let name = name.to_owned();
    Definition::VhostCreated { name }
}

pub(super) fn queue(id: u64, vhost: &str) -> Definition {
    Definition::QueueDeclared {
        id: QueueId(id),
        vhost: vhost.to_owned(),
        name: format!("queue-{id}"),
        auto_delete: false,
        arguments: Table::default(),
    }
}

/// Seq, body and redelivered of each message of a queue.
pub(super) fn backlog(recovered: &Recovered, queue: u64) -> Vec<(u64, Vec<u8>, bool)> {
    let messages = recovered.queues[&QueueId(queue)].messages.iter();
    messages.map(|entry| (entry.seq.0, entry.message.body_to_vec(), entry.redelivered)).collect()
}
