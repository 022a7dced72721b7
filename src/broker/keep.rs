//! What a broker does in the background, on one thread that has time, and at its end.

use super::Broker;
use super::link::Workspace;
use crate::store::{Disk, StoreError};

impl Broker {
    /// Does what is due now. An error is logged, and what failed is tried again when it is due
    /// again: nothing here is needed for a confirm.
    pub fn keep(&self, disk: &dyn Disk) {
        if let Err(error) = self.journal().prepare_segment(disk) {
            tracing::warn!("the next segment is not prepared, storing will be slower: {error}");
        }
        if let Err(error) = self.store.checkpoint(disk, self) {
            tracing::error!("there is no checkpoint, a start will take longer: {error}");
        }
        self.reclaim(disk);
    }

    /// Makes a checkpoint now, unless nothing was written since the last.
    ///
    /// # Errors
    /// The disk's.
    pub fn checkpoint(&self, disk: &dyn Disk) -> Result<bool, StoreError> {
        self.store.checkpoint_now(disk, self)
    }

    /// Writes everything out, behind the last turn of the last connection, and that the broker
    /// stopped in good order.
    ///
    /// # Errors
    /// The disk's, of what the journal needs.
    pub fn close(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.store.drop_spilled(disk);
        self.record_dying();
        if let Err(error) = self.checkpoint(disk) {
            tracing::error!("there is no last checkpoint, a start will take longer: {error}");
        }
        self.journal().close_clean(disk)
    }

    /// Dead letters that have not moved stay in their old queues, and some were delivered there.
    fn record_dying(&self) {
        let mut workspace = Workspace::default();
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for queue in vhosts.iter().flat_map(|vhost| vhost.queues()) {
            queue.record_dying(&mut workspace.turn(self));
        }
    }
}
