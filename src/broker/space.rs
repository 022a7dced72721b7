//! Room on disk: when the keeper looks for it. What it does then is the store's.

use super::Broker;
use crate::store::Disk;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[derive(Default)]
pub(super) struct Space {
    /// A look is due.
    look: AtomicBool,
}

impl Broker {
    /// Lets the keeper and the pager look whether much of the disk is taken by what is dead. For
    /// whoever has a clock: every few seconds.
    pub fn look_at_space(&self) {
        self.space.look.store(true, Relaxed);
        self.journal().bell().ring();
        self.look_at_spilled();
    }

    /// Gives a little room back, and comes again soon if there is more.
    pub(super) fn reclaim(&self, disk: &dyn Disk) {
        let looks = self.space.look.swap(false, Relaxed);
        match self.store.reclaim(disk, self, looks) {
            Ok(false) => {}
            Ok(true) => self.journal().bell().ring(),
            Err(error) => tracing::error!("dead messages keep their room on disk: {error}"),
        }
    }
}
