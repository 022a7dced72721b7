//! What the tests of this module store.

use super::definition::Definition;
use super::record::Target;
use super::{Disk, Durability, Options, Recovered, Store, open};
use crate::id::{QueueId, Seq};
use crate::message::Message;
use crate::table::Table;
use hashbrown::HashMap;

pub(super) fn message(body: &[u8]) -> Message {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    Message::new(b"exchange", b"key", &header, body, &mut Vec::new())
}

pub(super) fn to(queue: u64, seq: u64) -> Target {
    Target::new(QueueId(queue), Seq(seq))
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

/// What a store recovered, with all its messages read.
pub(super) struct Opened {
    pub(super) store: Store,
    recovered: Recovered,
    backlogs: HashMap<QueueId, Vec<(u64, Vec<u8>, bool)>>,
}

impl std::ops::Deref for Opened {
    type Target = Recovered;

    fn deref(&self) -> &Recovered {
        &self.recovered
    }
}

pub(super) fn opened(disk: &dyn Disk, salt: u64) -> Opened {
    opened_with(disk, &Options::new(Durability::Fsync, salt))
}

pub(super) fn opened_with(disk: &dyn Disk, options: &Options) -> Opened {
    let (store, recovered) = open(disk, options).unwrap();
    let read = |queue: &QueueId| (*queue, read(&store, &recovered, disk, *queue));
    let backlogs = recovered.queues.keys().map(read).collect();
    Opened { store, recovered, backlogs }
}

/// Seq, body and redelivered of each message of a queue.
pub(super) fn backlog(opened: &Opened, queue: u64) -> Vec<(u64, Vec<u8>, bool)> {
    opened.backlogs[&QueueId(queue)].clone()
}

fn read(
    store: &Store,
    recovered: &Recovered,
    disk: &dyn Disk,
    queue: QueueId,
) -> Vec<(u64, Vec<u8>, bool)> {
    let all = store.read_all(disk, queue, &recovered.queues[&queue]).unwrap();
    all.iter().map(|it| (it.seq.0, it.message.body_to_vec(), it.redelivered)).collect()
}
