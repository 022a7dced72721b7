//! Messages of a queue that the disk holds but cannot give back. They are never delivered and never
//! end by themselves: a purge or the queue's end takes them, and a repaired disk may bring them
//! back at the next start.

use super::runs::insert;
use crate::id::Seq;

#[derive(Debug, Default)]
pub(super) struct Damaged {
    /// Sorted runs.
    pub(super) all: Vec<(Seq, Seq)>,
    /// Those of them that are marked redelivered.
    pub(super) redelivered: Vec<(Seq, Seq)>,
    pub(super) len: usize,
}

impl Damaged {
    pub(super) fn insert(&mut self, seq: u64, redelivered: bool) {
        insert(&mut self.all, seq);
        if redelivered {
            insert(&mut self.redelivered, seq);
        }
        self.len += 1;
    }
}
