//! What survives a crash: a journal in segments, replayed at start.
//!
//! ```text
//! definitions, messages, acks ──> RecordBatch ──> Journal ──round()──> Disk
//!                                                                       │ open()
//!               Recovered { definitions, queues with messages } <───┘
//! ```
//! A record is durable once `Journal::durable_lsn` reached its LSN, and stays: a crash or a power
//! loss leaves all records up to some LSN that is not before it. One record is all or nothing, be
//! it a message for a thousand queues or a transaction. What the disk loses or changes later is
//! found by checksums and refused with file and offset; it is never passed on.

mod batch;
mod bell;
mod definition;
mod definitions;
mod disk;
mod error;
mod frame;
mod journal;
mod log;
mod memory_disk;
mod pending;
mod record;
mod recovery;
mod replay;
mod scan;
mod segment;
mod supply;
mod waiters;
mod writer;

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod samples;

pub use batch::RecordBatch;
pub use bell::Bell;
pub use definition::{BoundTo, Definition};
pub use definitions::{Definitions, StoredBinding, StoredExchange, StoredQueue, StoredVhost};
pub use disk::{Disk, RealDisk};
pub use error::StoreError;
pub use journal::{Durability, Journal, JournalCounters};
pub use log::Log;
pub use memory_disk::MemoryDisk;
pub use record::Target;
pub use replay::{Recovered, RecoveredMessage, RecoveredQueue, Torn};
pub use waiters::Waiter;

use crate::id::Lsn;
use crate::limits::SEGMENT_BYTES;
use writer::Writer;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub durability: Durability,
    /// Random, and new for each start: it keeps other bytes from passing for what this broker
    /// writes.
    pub salt: u64,
    /// Length of a segment; one that holds a longer message is longer.
    pub segment_bytes: u64,
}

impl Options {
    #[must_use]
    pub fn new(durability: Durability, salt: u64) -> Self {
        Self { durability, salt, segment_bytes: SEGMENT_BYTES }
    }
}

/// Replays what the disk holds and opens the journal behind it.
///
/// # Errors
/// If the disk fails, or the journal is damaged or of another version.
pub fn open(disk: &dyn Disk, options: &Options) -> Result<(Journal, Recovered), StoreError> {
    let (recovered, tail) = recovery::recover(disk)?;
    let writer = Writer::after(tail, options.segment_bytes, options.salt);
    let journal = Journal::new(writer, options.durability);
    // What this broker delivers leaves no record. Without a mark, a crash would look like the clean
    // stop before it, and delivered messages would not count as redelivered.
    if recovered.last_lsn > Lsn(0) {
        journal.begin(disk)?;
    }
    Ok((journal, recovered))
}
