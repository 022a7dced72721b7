//! The one thing of the store that a queue knows: somewhere to put records.

use super::batch::RecordBatch;
use super::journal::Journal;
use crate::config::Durability;
use crate::id::Lsn;

/// Takes records. Called with a queue locked, so it must be short.
pub trait Log: Send + Sync {
    /// Takes the batch's records, leaving it empty; the LSN of the last, zero if there was none.
    /// They are synced if that, or a record near them, asks for it.
    fn append_as(&self, batch: &mut RecordBatch, durability: Durability) -> Lsn;
}

impl Log for Journal {
    fn append_as(&self, batch: &mut RecordBatch, durability: Durability) -> Lsn {
        Self::append_as(self, batch, durability)
    }
}
