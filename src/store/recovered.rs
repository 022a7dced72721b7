//! What a broker starts with.

use super::definitions::Definitions;
use super::record::CameBack;
use super::stored_keys::StoredKeys;
use crate::id::{CacheId, Lsn, QueueId, SegmentNo, Seq};
use crate::message::Message;
use crate::time::UnixMillis;
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Recovered {
    pub definitions: Definitions,
    /// One for each queue of the definitions.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// The keys of caches that queues or exchanges of the definitions have; none if it is empty.
    pub caches: HashMap<CacheId, RecoveredKeys>,
    /// No stored queue ever had this id or a higher one.
    pub next_queue_id: QueueId,
    pub last_lsn: Lsn,
    /// The last broker stopped cleanly, or there was none. Otherwise every message is redelivered.
    pub clean: bool,
    /// What a crash left of its last write, and is cut off now.
    pub torn: Option<Torn>,
}

#[derive(Debug, Default)]
pub struct RecoveredKeys {
    pub keys: StoredKeys,
    /// The catalogue does not know all of this.
    pub changed: bool,
}

#[derive(Debug, Default)]
pub struct RecoveredQueue {
    /// No record used this seq or a higher one.
    pub next_seq: Seq,
    /// None of its messages expires before.
    pub due: UnixMillis,
    /// The catalogue does not know all of this.
    pub changed: bool,
    /// Its messages, by ascending seq; their contents lie on disk.
    pub pages: Vec<StoredPage>,
    /// How they came back, where that is counted. Those that wait are in no dense page. Of a timed
    /// queue the seqs that are given up: `CameBack::GIVEN_UP`.
    pub returns: BTreeMap<Seq, CameBack>,
}

/// Neighbouring messages of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredPage {
    /// Every seq from first to last, all redelivered or none; `bytes` of bodies.
    Dense {
        first: Seq,
        last: Seq,
        bytes: u64,
        redelivered: bool,
    },
    List(Vec<StoredMessage>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub seq: Seq,
    pub body_len: u32,
    pub redelivered: bool,
}

/// A message of a recovered queue, read.
#[derive(Clone, Debug)]
pub struct RecoveredMessage {
    pub seq: Seq,
    /// When it expires.
    pub due: UnixMillis,
    pub message: Message,
    pub redelivered: bool,
}

impl StoredPage {
    /// Of bodies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Dense { bytes, .. } => *bytes,
            Self::List(list) => list.iter().map(|message| u64::from(message.body_len)).sum(),
        }
    }

    /// Its messages' seqs and whether they are redelivered, in order.
    pub fn messages(&self) -> impl Iterator<Item = (Seq, bool)> {
        let (dense, list) = match self {
            Self::Dense { first, last, redelivered, .. } => {
                (Some((first.0..=last.0, *redelivered)), &[][..])
            }
            Self::List(list) => (None, list.as_slice()),
        };
        let dense = dense.into_iter();
        let dense = dense.flat_map(|(seqs, redelivered)| seqs.map(move |n| (Seq(n), redelivered)));
        dense.chain(list.iter().map(|message| (message.seq, message.redelivered)))
    }
}

/// Where a torn tail began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    pub segment: SegmentNo,
    pub offset: u64,
}
