//! Memory: transient messages that leave it when the queues hold far more than they should. They
//! are written first, without a queue's lock, and then leave memory as stored ones do.
//!
//! Nothing here is needed by anybody: if the disk takes no more, messages stay where they are, and
//! the memory alarm protects what is left.

use super::Broker;
use super::alarm::Alarm;
use super::relief::Kept;
use crate::id::{QueueId, Seq};
use crate::limits::WORK_PER_LOCK_MAX;
use crate::queue::{Queue, Sweep, Transient};
use crate::store::OnDisk;
use crate::store::{Disk, StoreError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Messages, and bytes of them, that are written before they leave memory.
const BATCH_LEN: usize = 16_384;
const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// When transient messages leave memory.
pub(super) struct Spilling {
    /// Bytes that the queues may hold before.
    pub(super) budget: AtomicU64,
    /// Room on disk is to be looked for.
    looks: AtomicBool,
    /// The last attempt failed, and that was said.
    failed: AtomicBool,
}

impl Spilling {
    pub(super) fn new(budget: u64) -> Self {
        let budget = AtomicU64::new(budget);
        Self { budget, looks: AtomicBool::new(false), failed: AtomicBool::new(false) }
    }

    /// What is left in memory once it is enough.
    pub(super) fn enough(&self) -> u64 {
        let budget = self.budget.load(Relaxed);
        budget - budget / 4
    }
}

impl Broker {
    /// Sets what the queues may hold before transient messages leave memory, unless it is
    /// configured. For whoever sees how much memory there is; what failed is tried again.
    pub fn set_spill_budget(&self, bytes: u64) {
        let bytes = self.config.sizes.spill_bytes.unwrap_or(bytes);
        self.spilling.budget.store(bytes, Relaxed);
        if self.residence.total() > bytes {
            self.relief.due_by(bytes);
            self.check_memory();
        }
    }

    /// Lets the pager look whether spilled messages take room that it can give back.
    pub(super) fn look_at_spilled(&self) {
        if self.store.has_spilled() {
            self.spilling.looks.store(true, Relaxed);
            self.relief.bell.ring();
        }
    }

    /// Gives room back if that was asked for.
    pub(super) fn reclaim_spilled(&self, disk: &dyn Disk) {
        if !self.spilling.looks.swap(false, Relaxed) {
            return;
        }
        let wanted = |id: QueueId| {
            let queue = self.queue_by_id(id);
            queue.map(|queue| queue.absent_runs()).unwrap_or_default()
        };
        if let Err(error) = self.store.reclaim_spilled(disk, &wanted) {
            tracing::warn!("spilled messages that are gone keep their room on disk: {error}");
        }
    }

    /// Lets transient messages leave memory until the queues are well within their budget.
    pub(super) fn spill(&self, disk: &dyn Disk, kept: &[Kept]) {
        let total = self.residence.total();
        // Who publishes waits for room already, and it is not ours to take.
        if total <= self.spilling.budget.load(Relaxed) || self.alarms.is_set(Alarm::Disk) {
            return;
        }
        if !self.store.has_spilled() {
            tracing::info!("queues hold {total} bytes in memory: transient messages leave it");
        }
        let spilled = kept.iter().try_for_each(|kept| self.spill_until_enough(disk, *kept));
        let had_failed = self.spilling.failed.swap(spilled.is_err(), Relaxed);
        if let Err(error) = spilled
            && !had_failed
        {
            tracing::error!("transient messages stay in memory: {error}");
        }
    }

    fn spill_until_enough(&self, disk: &dyn Disk, kept: Kept) -> Result<(), StoreError> {
        if self.residence.total() <= self.spilling.enough() {
            return Ok(());
        }
        for queue in self.resident_queues(|_| true) {
            let fitting = self.kept_of(&queue, kept);
            if !queue.id.is_timed() {
                self.spill_queue(disk, &queue, fitting)?;
            }
            self.page_out_between(disk, &queue, fitting.head, self.spilling.enough(), true)?;
            if kept == Kept::NOTHING && !queue.id.is_timed() {
                self.spill_aside(disk, &queue)?;
            }
            if self.residence.total() <= self.spilling.enough() {
                break;
            }
        }
        Ok(())
    }

    /// Spills what waits in the middle of a queue.
    fn spill_queue(&self, disk: &dyn Disk, queue: &Queue, kept: Kept) -> Result<(), StoreError> {
        let Kept { head, tail } = kept;
        while self.residence.total() > self.spilling.enough() {
            let Some((first, last)) = queue.pageable(head, tail) else { break };
            let mut from = Some(first);
            let (messages, through) = gather(|| {
                let part = queue.transient(from?, last, WORK_PER_LOCK_MAX);
                from = part.through.filter(|_| part.steps == WORK_PER_LOCK_MAX);
                from = from.map(|seq| Seq(seq.0 + 1)).filter(|seq| *seq <= last);
                Some(part)
            });
            self.write(disk, queue.id, messages, first, through)?;
            let stored = self.store.stored(disk, queue.id, first, through)?;
            // A queue that is gone holds nothing.
            if queue.page_out(&stored, head, tail, usize::MAX).unwrap_or(0) == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Spills what was requeued or is with consumers.
    fn spill_aside(&self, disk: &dyn Disk, queue: &Queue) -> Result<(), StoreError> {
        let (all, mut sweep) = ((Seq(0), Seq(u64::MAX)), Sweep::default());
        while !sweep.is_over() {
            let (messages, _) = gather(|| {
                let looks = !sweep.is_over();
                looks.then(|| queue.transient_aside(&mut sweep, WORK_PER_LOCK_MAX))
            });
            self.write(disk, queue.id, messages, all.0, all.1)?;
        }
        let stored = self.store.stored(disk, queue.id, all.0, all.1)?;
        // A queue that is gone holds nothing.
        let _ = queue.evict_bodies(&stored);
        Ok(())
    }

    /// Writes those of the messages that are not on disk, where all lie from `first` to `last`.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        mut messages: Vec<OnDisk>,
        first: Seq,
        last: Seq,
    ) -> Result<(), StoreError> {
        let stored = self.store.stored(disk, queue, first, last)?;
        messages.retain(|OnDisk { seq, .. }| {
            let at = stored.partition_point(|run| run.1 < *seq);
            stored.get(at).is_none_or(|run| run.0 > *seq)
        });
        self.store.spill(disk, queue, &messages)
    }
}

/// Takes parts until they are enough for one go, or there is none; says how far it looked.
fn gather(mut next: impl FnMut() -> Option<Transient>) -> (Vec<OnDisk>, Seq) {
    let (mut messages, mut through, mut steps, mut bytes) = (Vec::new(), Seq(0), 0, 0);
    while steps < BATCH_LEN && bytes < BATCH_BYTES {
        let Some(part) = next() else { break };
        steps += part.steps;
        bytes += part.messages.iter().map(|stored| stored.message.len()).sum::<usize>();
        through = part.through.unwrap_or(through);
        messages.extend(part.messages);
    }
    (messages, through)
}
