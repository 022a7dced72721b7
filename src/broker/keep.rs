//! What a broker does in the background, on one thread that has time.

use super::Broker;
use crate::store::Disk;

impl Broker {
    /// Does what is due now. An error is logged, and what failed is tried again when it is due
    /// again: nothing here is needed for a confirm.
    pub fn keep(&self, disk: &dyn Disk) {
        if let Err(error) = self.journal.prepare_segment(disk) {
            tracing::warn!("the next segment is not prepared, storing will be slower: {error}");
        }
    }
}
