//! What survives a crash: a journal in segments, replayed at start.
//!
//! ```text
//! definitions, messages, acks ──> RecordBatch ──> Journal ──round()──> Disk
//!                                                                       │ open()
//!               Recovered { definitions, queues with messages } <───┘
//! ```
//! A record is durable once `Journal::durable_lsn` reached its LSN, and stays: a crash or a power
//! loss leaves all records up to some LSN that is not before it, and the end of the process alone
//! all that were written (`Reach`). One record is all or nothing, be
//! it a message for a thousand queues or a transaction. What the disk loses or changes later is
//! found by checksums and refused with file and offset; it is never passed on.

mod accept;
mod assembly;
mod base;
mod batch;
mod bell;
mod catalogue;
mod catalogue_log;
mod catalogue_place;
mod catalogue_thread;
mod check;
mod checkpoint;
mod compaction;
mod contents;
mod definition;
mod definitions;
mod disk;
mod entries;
mod error;
mod failpoints;
mod frame;
mod framing;
mod gap;
mod given_up;
mod held;
pub mod index;
mod journal;
mod layer;
mod log;
mod long;
mod memory_catalogue;
mod memory_disk;
mod memory_file;
mod on_disk;
mod open;
mod pending;
mod reach;
mod reader;
mod record;
mod recovered;
mod recovery;
mod repair;
mod replay;
mod restorable;
mod rewrite;
mod run_set;
mod scan;
mod segment;
mod snapshot;
mod spill;
mod start;
mod stored_keys;
mod sum;
mod supply;
mod touches;
mod waiters;
mod writer;

#[cfg(test)]
mod accept_tests;
#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod catalogue_tests;
#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod contents_tests;
#[cfg(test)]
mod durability_tests;
#[cfg(test)]
mod full_sample;
#[cfg(test)]
mod gap_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod long_tests;
#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod trouble_tests;

pub use crate::config::Durability;
pub use accept::{Accepted, accept_loss};
pub use batch::RecordBatch;
pub use bell::Bell;
pub use catalogue::{ANSWER_TIME, Catalogue, CatalogueError, Change, SledCatalogue};
pub use check::{Finding, Report, Severity, Totals, check};
pub use checkpoint::Source;
pub use contents::Loaded;
pub use definition::{BoundTo, Definition};
pub use definitions::{Definitions, StoredBinding, StoredExchange, StoredQueue, StoredVhost};
pub use disk::{Disk, RealDisk};
pub use entries::Standing;
pub use error::StoreError;
pub use failpoints::Failpoint;
pub use gap::Gap;
pub use journal::{Journal, JournalCounters};
pub use layer::Layer;
pub use log::Log;
pub use memory_disk::MemoryDisk;
pub use on_disk::OnDisk;
pub use open::open;
pub use reach::Reach;
pub use record::{CameBack, Target};
pub use recovered::{
    Recovered, RecoveredKeys, RecoveredMessage, RecoveredQueue, StoredMessage, StoredPage, Torn,
};
pub use repair::{Repair, repair};
pub use run_set::RunSet;
pub use stored_keys::StoredKeys;
pub use waiters::Waiter;

use crate::id::{QueueId, Seq};
use crate::limits::{
    FRAME_BYTES, INDEX_PAGE_LEN, SEGMENT_BYTES, SEGMENT_RECORDS_MAX, SLACK_SEGMENTS,
    SPILL_FILE_BYTES,
};
use checkpoint::Checkpointer;
use contents::Contents;
use parking_lot::Mutex;
use restorable::Restorable;
use spill::Spill;
use std::sync::Arc;

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of records for which nobody asks another one: those of definitions.
    pub durability: Durability,
    /// Random, and new for each start: it keeps other bytes from passing for what this broker
    /// writes.
    pub salt: u64,
    /// Length of a segment; one that holds a longer record is longer.
    pub segment_bytes: u64,
    /// Records of a segment, at most, but for what one round writes.
    pub segment_records: u64,
    /// Payload of a frame, at most; a longer record goes over several. From 64 bytes to
    /// `FRAME_BYTES`.
    pub frame_bytes: usize,
    /// Entries of an index page.
    pub page_len: usize,
    /// Dead segments that a busy broker keeps before it takes any trouble; an idle one keeps one.
    pub slack_segments: u64,
    /// Bytes of a file of spilled messages.
    pub spill_file_bytes: u64,
}

impl Options {
    #[must_use]
    pub fn new(durability: Durability, salt: u64) -> Self {
        Self {
            durability,
            salt,
            segment_bytes: SEGMENT_BYTES,
            segment_records: SEGMENT_RECORDS_MAX,
            frame_bytes: FRAME_BYTES,
            page_len: INDEX_PAGE_LEN,
            slack_segments: SLACK_SEGMENTS,
            spill_file_bytes: SPILL_FILE_BYTES,
        }
    }
}

/// One data directory's journal, and what is needed to find things in it again.
pub struct Store {
    journal: Arc<Journal>,
    contents: Contents,
    spill: Spill,
    checkpointer: Mutex<Checkpointer>,
    restorable: Restorable,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.journal.fmt(f)
    }
}

impl Store {
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// Makes a checkpoint if one is due: a segment was left, or many definitions changed. False if
    /// none was, or if it has to wait since a damaged file may still be restored.
    ///
    /// # Errors
    /// The disk's. If the journal has not failed, all goes on, and the next one is tried later.
    pub fn checkpoint(&self, disk: &dyn Disk, source: &dyn Source) -> Result<bool, StoreError> {
        if self.restorable.hinders(disk, &self.journal, source)? {
            return Ok(false);
        }
        if self.journal.has_many_definitions() {
            self.journal.leave_segment();
        }
        self.checkpointer.lock().run(disk, &self.journal, &self.contents, source)
    }

    /// As `checkpoint`, whether one is due or not, unless nothing was written since the last.
    ///
    /// # Errors
    /// As for `checkpoint`.
    pub fn checkpoint_now(&self, disk: &dyn Disk, source: &dyn Source) -> Result<bool, StoreError> {
        self.journal.flush(disk)?;
        if self.restorable.hinders(disk, &self.journal, source)? {
            return Ok(false);
        }
        self.journal.leave_segment();
        self.checkpoint(disk, source)
    }

    /// Whether what the gap lost comes back if its file does before the next start.
    #[must_use]
    pub fn is_restorable(&self, gap: &Gap) -> bool {
        self.restorable.spare_bytes(gap).is_some()
    }

    /// Gives room back, a little at a time: compacts one of the segments that a few old messages
    /// keep. Segments that were left count from the next `checkpoint` on. When it `looks`, it makes
    /// a checkpoint first if one would tell much more to be dead. True if there is more to do at
    /// once.
    ///
    /// # Errors
    /// As for `checkpoint`.
    pub fn reclaim(
        &self,
        disk: &dyn Disk,
        source: &dyn Source,
        looks: bool,
    ) -> Result<bool, StoreError> {
        let is_due = looks && {
            let mut checkpointer = self.checkpointer.lock();
            checkpointer.look(disk, &self.journal, &self.contents, source)?
        };
        if is_due {
            self.checkpoint_now(disk, source)?;
        }
        self.checkpointer.lock().compact(disk, &self.journal, &self.contents, source)
    }

    /// Reads wanted messages of a queue, from the first on, as many as fit both bounds but one;
    /// twice as many if some were spilled and others were not.
    ///
    /// # Errors
    /// The disk's, if nothing at all can be said of them.
    pub fn load(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        wanted: &[(Seq, Seq)],
        messages_max: usize,
        bytes_max: u64,
    ) -> Result<Loaded, StoreError> {
        let Some(spilled) = self.spill.read(disk, queue, wanted, messages_max, bytes_max) else {
            return self.contents.read(disk, queue, wanted, messages_max, bytes_max);
        };
        let mut loaded = spilled.loaded;
        if !spilled.rest.is_empty() {
            let rest = self.contents.read(disk, queue, &spilled.rest, messages_max, bytes_max)?;
            loaded.messages.extend(rest.messages);
            loaded.lost.extend(rest.lost);
            loaded.why = rest.why;
        }
        Ok(loaded)
    }

    /// Writes transient messages of a queue where `load` finds them until this process ends.
    ///
    /// # Errors
    /// The disk's, or that it is nearly full. Some of the messages may be there then; `stored`
    /// knows. Nothing else suffers.
    pub fn spill(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        messages: &[OnDisk],
    ) -> Result<(), StoreError> {
        self.spill.write(disk, queue, messages)
    }

    /// Whether there are spilled messages.
    #[must_use]
    pub fn has_spilled(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Gives back room that spilled messages took. `wanted` says which messages of a queue are not
    /// in memory, as sorted runs. Not to be called while others let messages leave memory.
    ///
    /// # Errors
    /// The disk's, or that it is nearly full.
    pub fn reclaim_spilled(
        &self,
        disk: &dyn Disk,
        wanted: &dyn Fn(QueueId) -> Vec<(Seq, Seq)>,
    ) -> Result<(), StoreError> {
        self.spill.reclaim(disk, wanted)
    }

    /// Removes all spilled messages: the broker stops.
    pub fn drop_spilled(&self, disk: &dyn Disk) {
        self.spill.close(disk);
    }

    /// Reads all messages of a recovered queue, for whoever wants to look at a store as it is.
    ///
    /// # Errors
    /// The disk's, or a message that cannot be read.
    pub fn read_all(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        recovered: &RecoveredQueue,
    ) -> Result<Vec<RecoveredMessage>, StoreError> {
        let mut all = Vec::new();
        for page in &recovered.pages {
            let runs: Vec<_> = page.messages().map(|(seq, _)| (seq, seq)).collect();
            let loaded = self.load(disk, queue, &runs, usize::MAX, u64::MAX)?;
            if let Some(lost) = loaded.lost.first() {
                let why = format!("message {lost} of queue {queue} cannot be read");
                return Err(StoreError::refused("read", disk.path(""), why));
            }
            all.extend(loaded.messages.into_iter().zip(page.messages()).map(
                |(stored, (_, redelivered))| {
                    let OnDisk { seq, due, message } = stored;
                    RecoveredMessage { seq, due, message, redelivered }
                },
            ));
        }
        Ok(all)
    }

    /// Makes what was written so far known to `stored` and `load`.
    ///
    /// # Errors
    /// The disk's, or damage.
    pub fn index_new(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.contents.catch_up(disk, &self.journal)
    }

    /// The runs of seqs from `first` to `last` that `load` can bring back.
    ///
    /// # Errors
    /// The disk's, or damage.
    pub fn stored(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        first: Seq,
        last: Seq,
    ) -> Result<Vec<(Seq, Seq)>, StoreError> {
        let mut stored = self.contents.stored(disk, queue, first, last)?;
        let spilled = self.spill.stored(disk, queue, first, last);
        if !spilled.is_empty() {
            stored.extend(spilled);
            index::runs::join(&mut stored);
        }
        Ok(stored)
    }
}
