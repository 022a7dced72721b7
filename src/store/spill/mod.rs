//! Transient messages that left memory: in files of their own, never synced and no part of
//! recovery. A start and a stop in good order remove them.
//!
//! ```text
//! messages ──write()──> spill-N ──> index in RAM ──a full file's is sealed──> spill-N.idx
//!                          └────────── stored(), read() ──────────┘
//! ```
//! A file holds bare ENQUEUE records, one for each (queue, seq), and their checksums stand in its
//! index. Of full files only the directory of the index stays in RAM. Which messages are still
//! wanted is the queues' business: see `reclaim`.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

mod files;
mod reclaim;

#[cfg(test)]
mod tests;

use super::Options;
use super::contents::Loaded;
use super::disk::Disk;
use super::error::StoreError;
use super::index::{BadIndex, Index, runs};
use super::reader;
use super::run_set::RunSet;
use crate::id::{QueueId, Seq};
use crate::store::OnDisk;
use files::{Files, file_name};
use parking_lot::Mutex;

pub(super) use files::{clear, is_spill};

/// How transient messages are spilled.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpillOptions {
    /// A file that is this long takes no more.
    pub(super) file_bytes: u64,
    /// Entries of an index page.
    pub(super) page_len: usize,
    /// Bytes that are left free on the disk: the journal needs them more.
    pub(super) reserve_bytes: u64,
    /// Of the indexes.
    pub(super) salt: u64,
}

impl From<&Options> for SpillOptions {
    fn from(options: &Options) -> Self {
        Self {
            file_bytes: options.spill_file_bytes,
            page_len: options.page_len,
            reserve_bytes: options.segment_bytes.saturating_mul(2),
            salt: options.salt,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Spill {
    options: SpillOptions,
    /// Held while files change: taken before `index`, and before any queue is asked.
    files: Mutex<Files>,
    index: Mutex<Index>,
}

/// What was read, and what is not here.
#[derive(Debug)]
pub(super) struct Spilled {
    pub(super) loaded: Loaded,
    /// Of the wanted seqs up to the last that was looked for, those that no file has.
    pub(super) rest: Vec<(Seq, Seq)>,
}

impl Spill {
    pub(super) fn new(options: SpillOptions) -> Self {
        Self { options, files: Mutex::default(), index: Mutex::default() }
    }

    /// Writes messages of a queue.
    ///
    /// # Errors
    /// The disk's, or that it is nearly full. Some of the messages may be there then.
    pub(super) fn write(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        messages: &[OnDisk],
    ) -> Result<(), StoreError> {
        self.write_to(&mut self.files.lock(), disk, queue, messages)
    }

    fn write_to(
        &self,
        files: &mut Files,
        disk: &dyn Disk,
        queue: QueueId,
        messages: &[OnDisk],
    ) -> Result<(), StoreError> {
        let mut rest = messages;
        while !rest.is_empty() {
            let places = files.append(disk, queue, rest, &self.options)?;
            rest = rest.get(places.len()..).unwrap_or_default();
            let mut index = self.index.lock();
            places.iter().for_each(|place| index.put(queue, place, self.options.page_len));
            drop(index);
            if let Some(full) = files.leave_full(&self.options) {
                self.seal(disk, full);
            }
        }
        Ok(())
    }

    /// The runs of seqs from `first` to `last` that can be read.
    pub(super) fn stored(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        first: Seq,
        last: Seq,
    ) -> Vec<(Seq, Seq)> {
        self.ask(disk, |index| index.stored(queue, first, last, disk))
    }

    /// Reads wanted messages from the first on, as many as fit both bounds. `None` if there is
    /// nothing of the queue.
    pub(super) fn read(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        wanted: &[(Seq, Seq)],
        messages_max: usize,
        bytes_max: u64,
    ) -> Option<Spilled> {
        self.index.lock().first_segment(queue)?;
        let find = |index: &Index| index.find(queue, wanted, messages_max, bytes_max, disk);
        let mut found = self.ask(disk, find);
        let mut read = reader::read(disk, &file_name, queue, &found.places);
        if !read.failures.is_empty() {
            // What was moved to another file is found there; nothing moves between this look and
            // the reading.
            let _held = self.files.lock();
            let again = self.ask(disk, find);
            if again.places != found.places {
                read = reader::read(disk, &file_name, queue, &again.places);
                found = again;
            }
        }
        if let Some((seq, error)) = read.failures.first() {
            let more = read.failures.len() - 1;
            tracing::error!(
                "queue {queue}: transient message {seq} and {more} more cannot be read; they are \
                 set aside: {error}"
            );
        }
        let lost = read.failures.into_iter().map(|(seq, _)| seq).collect();
        let mut rest: RunSet = wanted.iter().copied().collect();
        let mut here = Vec::new();
        found.places.iter().for_each(|place| runs::push(&mut here, place.seq, place.seq));
        here.into_iter().for_each(|(first, last)| rest.remove(first..=last));
        let rest = rest.within(Seq(0), found.through).collect();
        Some(Spilled { loaded: Loaded { messages: read.messages, lost, why: None }, rest })
    }

    /// Whether there is any message.
    pub(super) fn is_empty(&self) -> bool {
        self.index.lock().segments().next().is_none()
    }

    /// Removes all files: nobody wants anything any more.
    pub(super) fn close(&self, disk: &dyn Disk) {
        let mut files = self.files.lock();
        for number in files.numbers() {
            self.remove(&mut files, disk, number);
        }
    }

    /// Asks the index. One that cannot be read is given up, and its file's messages with it.
    fn ask<T>(&self, disk: &dyn Disk, ask: impl Fn(&Index) -> Result<T, BadIndex>) -> T {
        loop {
            let mut index = self.index.lock();
            match ask(&index) {
                Ok(answer) => return answer,
                Err(bad) => {
                    let file = disk.path(&file_name(bad.segment));
                    let error = bad.error;
                    tracing::error!("the messages in {} are lost: {error}", file.display());
                    index.remove(bad.segment);
                }
            }
        }
    }
}
