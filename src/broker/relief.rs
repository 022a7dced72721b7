//! Memory: what leaves it when the queues hold more than their budget.

use super::Broker;
use crate::id::Seq;
use crate::queue::Queue;
use crate::store::{Bell, Disk, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of ready messages that stay in memory at the head and at the tail of a long queue.
const KEPT_BYTES: u64 = 16 * 1024 * 1024;

/// When the next look is due, and who is called then.
pub(super) struct Relief {
    bell: Bell,
    /// Resident bytes up to which nothing leaves memory.
    budget: u64,
    /// Above the budget if the last look found nothing more that could leave.
    due_at: AtomicU64,
}

impl Relief {
    pub(super) fn new(budget: u64) -> Self {
        Self { bell: Bell::default(), budget, due_at: AtomicU64::new(budget) }
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

    /// Lets stored messages leave memory until the queues are well within their budget.
    pub fn relieve(&self, disk: &dyn Disk) {
        let budget = self.relief.budget;
        if self.residence.total() <= self.relief.due_at.load(Relaxed) {
            return;
        }
        let relieved = self.store.index_new(disk).and_then(|()| {
            let enough = budget - budget / 4;
            // What is read ahead stays at the head, or it would come back at once.
            let load = self.config.sizes.load_len;
            let kept = [(2 * load, load / 4), (load / 16, load / 64), (0, 0)];
            kept.into_iter().try_for_each(|kept| self.page_out_until(disk, enough, kept))
        });
        if let Err(error) = relieved {
            tracing::error!("messages stay in memory that should leave it: {error}");
        }
        let left = self.residence.total();
        self.relief.due_at.store(budget.max(left + left / 8), Relaxed);
    }

    fn page_out_until(
        &self,
        disk: &dyn Disk,
        enough: u64,
        kept: (usize, usize),
    ) -> Result<(), StoreError> {
        if self.residence.total() <= enough {
            return Ok(());
        }
        let mut queues = self.resident_queues();
        queues.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (_, queue) in queues {
            if self.residence.total() <= enough {
                return Ok(());
            }
            self.page_out(disk, &queue, kept)?;
            if kept.0 == 0 {
                let stored = self.store.stored(disk, queue.id, Seq(0), Seq(u64::MAX))?;
                // A queue that is gone holds nothing.
                let _ = queue.evict_bodies(&stored);
            }
        }
        Ok(())
    }

    fn page_out(
        &self,
        disk: &dyn Disk,
        queue: &Queue,
        (head, tail): (usize, usize),
    ) -> Result<(), StoreError> {
        let counters = &queue.counters;
        let body_len = counters.ready_bytes.get() / counters.ready.get().max(1);
        let fitting = usize::try_from(KEPT_BYTES / body_len.max(1)).unwrap_or(usize::MAX);
        let (head, tail) = (head.min(fitting), tail.min(fitting));
        let Some((first, last)) = queue.pageable(head, tail) else { return Ok(()) };
        let stored = self.store.stored(disk, queue.id, first, last)?;
        // A queue that is gone holds nothing.
        let _ = queue.page_out(&stored, head, tail, usize::MAX);
        Ok(())
    }

    fn resident_queues(&self) -> Vec<(u64, Arc<Queue>)> {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let mut resident = Vec::new();
        for vhost in vhosts {
            let state = vhost.state.read();
            let durable = state.by_id.values().filter(|queue| queue.settings.durable);
            let bytes = durable.map(|queue| (queue.counters.resident_bytes.get(), queue));
            let held = bytes.filter(|(bytes, _)| *bytes > 0);
            resident.extend(held.map(|(bytes, queue)| (bytes, Arc::clone(queue))));
        }
        resident
    }
}
