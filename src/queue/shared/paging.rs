//! How a queue's messages leave memory and come back, a bounded number to a lock hold. Which of
//! them, and where they are read from, is said from outside.

use super::{Gone, Queue, Turn};
use crate::id::Seq;
use crate::limits::WORK_PER_LOCK_MAX;
use crate::queue::core::QueueCore;
use crate::queue::page_out::Sweep;
use crate::queue::spill::Transient;
use crate::store::OnDisk;

impl Queue {
    /// As `QueueCore::pageable`. `None` too if the queue is gone.
    #[must_use]
    pub fn pageable(&self, keep_head: usize, keep_tail: usize) -> Option<(Seq, Seq)> {
        self.look(|core| core.pageable(keep_head, keep_tail)).filter(|_| !self.is_gone())
    }

    /// As `QueueCore::page_out`, for any number of messages. Says how many bytes left memory.
    ///
    /// # Errors
    /// `Gone`.
    pub fn page_out(
        &self,
        stored: &[(Seq, Seq)],
        keep_head: usize,
        keep_tail: usize,
        max: usize,
    ) -> Result<u64, Gone> {
        let (mut left, mut bytes) = (max, 0);
        loop {
            let part = left.min(WORK_PER_LOCK_MAX);
            let freed = self.relieve(|core| core.page_out(stored, keep_head, keep_tail, part))?;
            left -= freed.steps;
            bytes += freed.bytes;
            if left == 0 || freed.steps < part {
                return Ok(bytes);
            }
        }
    }

    /// As `QueueCore::pageable_between`. `None` too if the queue is gone.
    pub fn pageable_between(&self, keep: usize, below: Seq) -> Option<(Seq, Seq)> {
        self.look(|core| core.pageable_between(keep, below)).filter(|_| !self.is_gone())
    }

    /// As `QueueCore::page_out_between`. Says how many bytes left memory.
    ///
    /// # Errors
    /// `Gone`.
    pub fn page_out_between(
        &self,
        stored: &[(Seq, Seq)],
        first: Seq,
        last: Seq,
    ) -> Result<u64, Gone> {
        self.relieve(|core| core.page_out_between(stored, first, last)).map(|freed| freed.bytes)
    }

    /// Drops the contents of all requeued, checked-out and waiting messages that `stored` holds:
    /// sorted runs of seqs that can be read from disk. Says how many bytes left memory.
    ///
    /// # Errors
    /// `Gone`.
    pub fn evict_bodies(&self, stored: &[(Seq, Seq)]) -> Result<u64, Gone> {
        let (mut sweep, mut bytes) = (Sweep::default(), 0);
        while !sweep.is_over() {
            let evict =
                |core: &mut QueueCore| core.evict_bodies(stored, &mut sweep, WORK_PER_LOCK_MAX);
            bytes += self.relieve(evict)?.bytes;
        }
        Ok(bytes)
    }

    /// As `QueueCore::transient`. Nothing if the queue is gone.
    #[must_use]
    pub fn transient(&self, first: Seq, last: Seq, max: usize) -> Transient {
        self.look(|core| core.transient(first, last, max))
    }

    /// As `QueueCore::transient_between`. Nothing if the queue is gone.
    #[must_use]
    pub fn transient_between(&self, first: Seq, last: Seq) -> Transient {
        self.look(|core| core.transient_between(first, last))
    }

    /// As `QueueCore::transient_aside`. Nothing if the queue is gone.
    #[must_use]
    pub fn transient_aside(&self, sweep: &mut Sweep, max: usize) -> Transient {
        self.look(|core| core.transient_aside(sweep, max))
    }

    /// As `QueueCore::absent_runs`. Nothing if the queue is gone.
    #[must_use]
    pub fn absent_runs(&self) -> Vec<(Seq, Seq)> {
        self.look(|core| core.absent_runs())
    }

    /// Answers a load: messages that it asked for, and those of them that cannot be read.
    ///
    /// # Errors
    /// `Gone`.
    pub fn loaded(
        &self,
        messages: Vec<OnDisk>,
        lost: &[Seq],
        turn: &mut Turn<'_>,
    ) -> Result<(), Gone> {
        let loaded = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.loaded(messages, lost, turn.records, turn.effects);
        };
        self.run(turn, loaded).map(drop)
    }
}
