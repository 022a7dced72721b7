//! Who waits for the journal to reach some LSN: told once, by the thread that got it there.

use crate::id::Lsn;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One that waits, such as a link with confirms due. Both calls come from the store's thread, or
/// from within `Journal::wait` if there is nothing to wait for; they may push and wake, no more.
pub trait Waiter: Send + Sync {
    /// All records up to `lsn` are as safe as was asked, among them the one that was waited for. It
    /// may be far beyond that one. To hear of later ones, register again.
    fn reached(&self, lsn: Lsn);

    /// The record will never be known to be so: the disk failed or the journal was closed.
    fn failed(&self);
}

/// How far all records have come on one step of their way to the disk, and who waits there.
pub(super) struct Waiters {
    reached: AtomicU64,
    list: Mutex<List>,
}

/// The waiters by LSN, and how to tell them apart on one LSN.
#[derive(Default)]
struct List {
    by_lsn: BTreeMap<(Lsn, u64), Arc<dyn Waiter>>,
    arrivals: u64,
    closed: bool,
}

impl Waiters {
    pub(super) fn after(reached: Lsn) -> Self {
        Self { reached: AtomicU64::new(reached.0), list: Mutex::default() }
    }

    pub(super) fn reached(&self) -> Lsn {
        Lsn(self.reached.load(Relaxed))
    }

    /// Keeps the waiter until `lsn` is reached, unless it is by now. Reading how far it is under
    /// the lock makes sure that no waiter falls between two rounds.
    pub(super) fn register(&self, lsn: Lsn, waiter: Arc<dyn Waiter>) {
        let mut list = self.list.lock();
        let reached = self.reached();
        if reached >= lsn {
            drop(list);
            waiter.reached(reached);
        } else if list.closed {
            drop(list);
            waiter.failed();
        } else {
            list.arrivals += 1;
            let arrival = list.arrivals;
            list.by_lsn.insert((lsn, arrival), waiter);
        }
    }

    /// It is `lsn` now: tells all that wait for that or less.
    pub(super) fn reach(&self, lsn: Lsn) {
        self.reached.store(lsn.0, Relaxed);
        let reached = {
            let mut list = self.list.lock();
            let later = list.by_lsn.split_off(&(Lsn(lsn.0 + 1), 0));
            mem::replace(&mut list.by_lsn, later)
        };
        for waiter in reached.values() {
            waiter.reached(lsn);
        }
    }

    /// Tells all others that they wait in vain, and whoever comes later.
    pub(super) fn close(&self) {
        let left = {
            let mut list = self.list.lock();
            list.closed = true;
            mem::take(&mut list.by_lsn)
        };
        for waiter in left.values() {
            waiter.failed();
        }
    }
}
