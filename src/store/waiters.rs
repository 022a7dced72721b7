//! Who waits for the disk: told once, by the thread that synced, when its LSN is reached.

use crate::id::Lsn;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

/// One that waits, such as a link with confirms due. Both calls come from the store's thread, or
/// from within `Journal::wait` if there is nothing to wait for; they may push and wake, no more.
pub trait Waiter: Send + Sync {
    /// All records up to `lsn` are durable, among them the one that was waited for. It may be far
    /// beyond that one. To hear of later ones, register again.
    fn durable(&self, lsn: Lsn);

    /// The record will never be known to be durable: the disk failed or the journal was closed.
    fn failed(&self);
}

/// The waiters by LSN, and how to tell them apart on one LSN.
#[derive(Default)]
pub(super) struct Waiters {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    by_lsn: BTreeMap<(Lsn, u64), Arc<dyn Waiter>>,
    arrivals: u64,
    closed: bool,
}

impl Waiters {
    /// Keeps the waiter until `lsn` is reached, unless it is by now. `durable` reads how far the
    /// disk is; reading it under the lock makes sure that no waiter falls between two rounds.
    pub(super) fn register(&self, lsn: Lsn, waiter: Arc<dyn Waiter>, durable: impl Fn() -> Lsn) {
        let mut list = self.list.lock();
        let reached = durable();
        if reached >= lsn {
            drop(list);
            waiter.durable(reached);
        } else if list.closed {
            drop(list);
            waiter.failed();
        } else {
            list.arrivals += 1;
            let arrival = list.arrivals;
            list.by_lsn.insert((lsn, arrival), waiter);
        }
    }

    /// Tells all that wait for `lsn` or less.
    pub(super) fn reach(&self, lsn: Lsn) {
        let reached = {
            let mut list = self.list.lock();
            let later = list.by_lsn.split_off(&(Lsn(lsn.0 + 1), 0));
            mem::replace(&mut list.by_lsn, later)
        };
        for waiter in reached.values() {
            waiter.durable(lsn);
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
