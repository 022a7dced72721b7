//! Memory: what leaves it when the queues hold more than their budget. Stored messages leave it
//! here, and long before transient ones do, see `spill`.

use super::Broker;
use crate::config::Sizes;
use crate::id::Seq;
use crate::queue::Queue;
use crate::store::{Bell, Disk, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of ready messages that stay in memory at the head and at the tail of a long queue.
const KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// When the next look is due, and who is called then.
pub(super) struct Relief {
    pub(super) bell: Bell,
    /// Resident bytes up to which nothing leaves memory.
    budget: u64,
    /// Above the budget if the last look found nothing more that could leave.
    due_at: AtomicU64,
}

/// Ready messages that stay in memory at the head and at the tail of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) head: usize,
    pub(super) tail: usize,
}

impl Kept {
    pub(super) const NOTHING: Self = Self { head: 0, tail: 0 };

    /// Less and less, as need be. What is read ahead stays at the head, or it would come back at
    /// once.
    fn rounds(sizes: &Sizes) -> [Self; 3] {
        let load = sizes.load_len;
        let much = Self { head: 2 * load, tail: load / 4 };
        [much, Self { head: load / 16, tail: load / 64 }, Self::NOTHING]
    }
}

impl Relief {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let budget = sizes.resident_bytes;
        let due_at = budget.min(sizes.spill_bytes.unwrap_or(u64::MAX));
        Self { bell: Bell::default(), budget, due_at: AtomicU64::new(due_at) }
    }

    /// The next look is due at this many bytes, if not before.
    pub(super) fn due_by(&self, bytes: u64) {
        self.due_at.fetch_min(bytes, Relaxed);
    }
}

impl Broker {
    /// Rings if the queues hold too much. Costs two loads if they do not.
    pub fn check_memory(&self) {
        let (total, due_at) = (self.residence.total(), self.relief.due_at.load(Relaxed));
        if total > due_at {
            self.relief.bell.ring();
        } else if due_at > self.relief.budget && total < due_at / 2 {
            // What could not leave is gone: what comes now may be able to.
            self.relief.due_at.store(self.relief.budget.max(total), Relaxed);
        }
    }

    /// Rings when messages should leave memory.
    #[must_use]
    pub fn relief_bell(&self) -> &Bell {
        &self.relief.bell
    }

    /// Lets messages leave memory until the queues are well within their budget: stored ones, and
    /// if that is not enough, transient ones. Gives room back that those no longer need.
    pub fn relieve(&self, disk: &dyn Disk) {
        if self.residence.total() > self.relief.due_at.load(Relaxed) {
            self.let_leave(disk);
        }
        self.reclaim_spilled(disk);
    }

    fn let_leave(&self, disk: &dyn Disk) {
        let budget = self.relief.budget;
        let rounds = Kept::rounds(&self.config.sizes);
        let relieved = self.store.index_new(disk).and_then(|()| {
            let enough = budget - budget / 4;
            rounds.into_iter().try_for_each(|kept| self.page_out_until(disk, enough, kept))
        });
        if let Err(error) = relieved {
            tracing::error!("messages stay in memory that should leave it: {error}");
        }
        self.spill(disk, &rounds);
        let left = self.residence.total();
        let more = left + left / 8;
        let spill_at = self.spilling.budget.load(Relaxed);
        // What could not be spilled would ring again at once.
        let spill_at = if left <= self.spilling.enough() { spill_at } else { spill_at.max(more) };
        self.relief.due_at.store(budget.max(more).min(spill_at), Relaxed);
    }

    fn page_out_until(&self, disk: &dyn Disk, enough: u64, kept: Kept) -> Result<(), StoreError> {
        if self.residence.total() <= enough {
            return Ok(());
        }
        for queue in self.resident_queues(|queue| queue.settings.durable) {
            if self.residence.total() <= enough {
                return Ok(());
            }
            if !queue.id.is_timed() {
                self.page_out(disk, &queue, kept)?;
            }
            self.page_out_between(disk, &queue, self.kept_of(&queue, kept).head, enough, false)?;
            if kept == Kept::NOTHING && !queue.id.is_timed() {
                let stored = self.store.stored(disk, queue.id, Seq(0), Seq(u64::MAX))?;
                // A queue that is gone holds nothing.
                let _ = queue.evict_bodies(&stored);
            }
        }
        Ok(())
    }

    fn page_out(&self, disk: &dyn Disk, queue: &Queue, kept: Kept) -> Result<(), StoreError> {
        let Kept { head, tail } = self.kept_of(queue, kept);
        let Some((first, last)) = queue.pageable(head, tail) else { return Ok(()) };
        let stored = self.store.stored(disk, queue.id, first, last)?;
        // A queue that is gone holds nothing.
        let _ = queue.page_out(&stored, head, tail, usize::MAX);
        Ok(())
    }

    /// Lets messages of a queue where they join anywhere leave memory until the queues hold
    /// `enough`, the latest first, but none of its first `keep`. Those that are in no journal are
    /// spilled, or stay.
    pub(super) fn page_out_between(
        &self,
        disk: &dyn Disk,
        queue: &Queue,
        keep: usize,
        enough: u64,
        spills: bool,
    ) -> Result<(), StoreError> {
        let mut below = Seq(u64::MAX);
        while self.residence.total() > enough
            && let Some((first, last)) = queue.pageable_between(keep, below)
        {
            below = first;
            if spills {
                let transient = queue.transient_between(first, last);
                self.write(disk, queue.id, transient.messages, first, last)?;
            }
            let stored = self.store.stored(disk, queue.id, first, last)?;
            if queue.page_out_between(&stored, first, last).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// As much as that, but no more than a few MiB of this queue.
    pub(super) fn kept_of(&self, queue: &Queue, Kept { head, tail }: Kept) -> Kept {
        let counters = &queue.counters;
        let body_len = counters.ready_bytes.get() / counters.ready.get().max(1);
        let fitting = usize::try_from(KEPT_BYTES / body_len.max(1)).unwrap_or(usize::MAX);
        Kept { head: head.min(fitting), tail: tail.min(fitting) }
    }

    /// Queues with messages in memory, those with the most bytes first, then older ones.
    pub(super) fn resident_queues(&self, which: impl Fn(&Queue) -> bool) -> Vec<Arc<Queue>> {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let mut resident = Vec::new();
        for vhost in vhosts {
            let state = vhost.state.read();
            let queues = state.by_id.values().filter(|queue| which(queue));
            let bytes = queues.map(|queue| (queue.counters.resident_bytes.get(), queue));
            let held = bytes.filter(|(bytes, _)| *bytes > 0);
            resident.extend(held.map(|(bytes, queue)| (bytes, Arc::clone(queue))));
        }
        resident.sort_unstable_by_key(|(bytes, queue)| (std::cmp::Reverse(*bytes), queue.id));
        resident.into_iter().map(|(_, queue)| queue).collect()
    }
}
