//! The one thing of the store that a queue knows: somewhere to put records.

use super::batch::RecordBatch;
use super::journal::Journal;
use crate::id::Lsn;

/// Takes records. Called with a queue locked, so it must be short.
pub trait Log: Send + Sync {
    /// Takes the batch's records, leaving it empty; the LSN of the last, zero if there was none.
    fn append(&self, batch: &mut RecordBatch) -> Lsn;
}

impl Log for Journal {
    fn append(&self, batch: &mut RecordBatch) -> Lsn {
        Self::append(self, batch)
    }
}
