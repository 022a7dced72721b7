//! How much the queues of a broker hold in memory, as one number for whoever decides what must
//! leave it. It is a little behind: a queue reports only what has become much.

use crate::counters::Gauge;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A queue's resident bytes may have changed by this much before it says so: most lock holds touch
/// nothing that is shared with other queues.
const UNREPORTED_MAX: u64 = 16 * 1024;

/// Resident bytes of all queues of a broker.
#[derive(Debug, Default)]
pub struct Residence {
    /// The sum of what each queue reported last, so never below zero.
    total: AtomicU64,
}

impl Residence {
    /// Bytes, right but for some KiB a queue.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }
}

/// One queue's part. Reports come one at a time, since they are made with the queue locked.
#[derive(Debug)]
pub(super) struct Share {
    residence: Arc<Residence>,
    reported: Gauge,
}

impl Share {
    pub(super) fn new(residence: &Arc<Residence>) -> Self {
        Self { residence: Arc::clone(residence), reported: Gauge::default() }
    }

    #[inline]
    pub(super) fn report(&self, bytes: u64) {
        if bytes.abs_diff(self.reported.get()) > UNREPORTED_MAX {
            self.set(bytes);
        }
    }

    /// The queue has ended.
    pub(super) fn give_back(&self) {
        self.set(0);
    }

    #[cold]
    fn set(&self, bytes: u64) {
        let change = bytes.wrapping_sub(self.reported.get());
        self.reported.set(bytes);
        self.residence.total.fetch_add(change, Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_become_much_is_reported_and_all_of_it_given_back() {
        let residence = Arc::new(Residence::default());
        let (a, b) = (Share::new(&residence), Share::new(&residence));
        a.report(UNREPORTED_MAX);
        assert_eq!(residence.total(), 0);
        a.report(UNREPORTED_MAX + 1);
        b.report(1_000_000);
        assert_eq!(residence.total(), 1_000_000 + UNREPORTED_MAX + 1);
        b.report(1_000_000 - UNREPORTED_MAX);
        assert_eq!(residence.total(), 1_000_000 + UNREPORTED_MAX + 1);
        b.report(500_000);
        a.give_back();
        assert_eq!(residence.total(), 500_000);
        drop((a, b));
        assert_eq!(residence.total(), 0);
    }
}
