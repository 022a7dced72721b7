//! Messages of a queue that the disk holds but cannot give back. They are never delivered and never
//! end by themselves: a purge, the queue's end or an operator takes them, and a repaired disk may
//! bring them back at the next start.

use super::core::QueueCore;
use super::runs::insert;
use crate::id::Seq;
use crate::store::RecordBatch;

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

impl QueueCore {
    /// Ends those messages of the queue; says how many. No later start looks for them.
    pub fn give_up_damaged(&mut self, records: &mut RecordBatch) -> u64 {
        let Some(damaged) = self.ready.damaged.take() else { return 0 };
        for (first, last) in &damaged.all {
            (first.0..=last.0).for_each(|seq| self.returns.forget(seq));
        }
        if self.durable {
            records.ack(self.id, damaged.all.iter().copied());
        }
        damaged.len as u64
    }
}
