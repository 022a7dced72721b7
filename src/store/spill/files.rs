//! The files themselves: their names, what is written to them, and when the next one begins.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::{Spill, SpillOptions};
use crate::id::{QueueId, SegmentNo};
use crate::store::OnDisk;
use crate::store::RecordBatch;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::index::Place;
use crate::store::record::Target;
use std::collections::BTreeMap;
use std::io::IoSlice;

const NAME_PREFIX: &str = "spill-";
const INDEX_SUFFIX: &str = ".idx";
/// Bytes that are written at once, but for the last message.
const WRITE_BYTES: usize = 1024 * 1024;

/// The files that there are.
#[derive(Debug, Default)]
pub(super) struct Files {
    all: BTreeMap<SegmentNo, File>,
    /// The one that is written to.
    current: Option<SegmentNo>,
    last: u64,
    batch: RecordBatch,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct File {
    pub(super) len: u64,
    /// Some of it could not be read.
    pub(super) is_damaged: bool,
}

pub(super) fn file_name(number: SegmentNo) -> String {
    format!("{NAME_PREFIX}{number}")
}

pub(super) fn index_name(number: SegmentNo) -> String {
    format!("{NAME_PREFIX}{number}{INDEX_SUFFIX}")
}

/// Whether a file of this name is one of these, or an index of one.
pub(in crate::store) fn is_spill(file: &str) -> bool {
    let name = file.strip_suffix(INDEX_SUFFIX).unwrap_or(file);
    let number = name.strip_prefix(NAME_PREFIX).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Removes what an earlier run left. Its messages ended with it, so an error stops nothing.
pub(in crate::store) fn clear(disk: &dyn Disk, files: &[String]) {
    for file in files.iter().filter(|file| is_spill(file)) {
        if let Err(error) = disk.remove(file) {
            tracing::warn!("a file of transient messages that are gone stays: {error}");
        }
    }
}

impl Files {
    /// Writes messages from the first on, one at least; says where each lies.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        queue: QueueId,
        messages: &[OnDisk],
        options: &SpillOptions,
    ) -> Result<Vec<Place>, StoreError> {
        let segment = self.begin(disk)?;
        let end = self.all.get(&segment).map_or(0, |file| file.len);
        let bytes_max = usize::try_from(options.file_bytes.saturating_sub(end));
        let bytes_max = bytes_max.unwrap_or(usize::MAX).min(WRITE_BYTES);
        self.batch.clear();
        let mut places = Vec::new();
        for OnDisk { seq, due, message } in messages {
            let block = self.batch.complete();
            let (own, before) = (block.own_len(), block.len());
            if before >= bytes_max && before > 0 {
                break;
            }
            self.batch.enqueue(message, &[Target { queue, seq: *seq, due: *due }]);
            let block = self.batch.complete();
            let crc = crc32c::crc32c(block.own_from(own));
            places.push(Place {
                segment,
                seq: *seq,
                offset: end + before as u64,
                len: u32::try_from(block.len() - before)
                    .expect("limits.rs keeps a record far below 4 GiB"),
                crc: message
                    .large_body()
                    .iter()
                    .fold(crc, |crc, part| crc32c::crc32c_append(crc, part)),
                body_len: u32::try_from(message.body_len()).expect("a body is at most 512 MiB"),
            });
        }
        let written = self.write(disk, segment, end, options);
        self.batch.clear();
        written?;
        Ok(places)
    }

    fn write(
        &mut self,
        disk: &dyn Disk,
        segment: SegmentNo,
        end: u64,
        options: &SpillOptions,
    ) -> Result<(), StoreError> {
        let file = file_name(segment);
        let block = self.batch.complete();
        let len = block.len() as u64;
        if disk.room()?.is_some_and(|room| room < options.reserve_bytes.saturating_add(len)) {
            let why = "the disk is nearly full, and the journal needs what is left";
            return Err(StoreError::refused("write to", disk.path(&file), why));
        }
        let mut pieces = Vec::new();
        block.slices(&mut pieces);
        let pieces: Vec<_> = pieces.into_iter().map(IoSlice::new).collect();
        disk.write_at(&file, end, &pieces)?;
        self.all.entry(segment).or_default().len = end + len;
        Ok(())
    }

    /// The file to write to, a new one if need be.
    fn begin(&mut self, disk: &dyn Disk) -> Result<SegmentNo, StoreError> {
        if let Some(current) = self.current {
            return Ok(current);
        }
        let number = SegmentNo(self.last + 1);
        disk.create(&file_name(number))?;
        self.last += 1;
        self.all.insert(number, File::default());
        self.current = Some(number);
        Ok(number)
    }

    /// The current file, if it is full; another will be next.
    pub(super) fn leave_full(&mut self, options: &SpillOptions) -> Option<SegmentNo> {
        let all = &self.all;
        let is_full = |number: &mut SegmentNo| {
            all.get(number).is_none_or(|file| file.len >= options.file_bytes)
        };
        self.current.take_if(is_full)
    }

    pub(super) fn numbers(&self) -> Vec<SegmentNo> {
        self.all.keys().copied().collect()
    }

    pub(super) fn get(&self, number: SegmentNo) -> File {
        self.all.get(&number).copied().unwrap_or_default()
    }

    pub(super) fn is_current(&self, number: SegmentNo) -> bool {
        self.current == Some(number)
    }

    pub(super) fn mark_damaged(&mut self, number: SegmentNo) {
        if let Some(file) = self.all.get_mut(&number) {
            file.is_damaged = true;
        }
    }
}

impl Spill {
    /// Writes the index of a full file out of memory.
    pub(super) fn seal(&self, disk: &dyn Disk, number: SegmentNo) {
        let Some(open) = self.index.lock().open(number) else { return };
        let (file, salt) = (index_name(number), self.options.salt);
        match open.seal_unsynced(disk, &file, number, salt) {
            Ok(sealed) => self.index.lock().put_sealed(number, sealed),
            Err(error) => tracing::warn!("an index of spilled messages stays in memory: {error}"),
        }
    }

    /// Removes a file and its index. What cannot be removed is left to the next start.
    pub(super) fn remove(&self, files: &mut Files, disk: &dyn Disk, number: SegmentNo) {
        self.index.lock().remove(number);
        files.all.remove(&number);
        files.current.take_if(|current| *current == number);
        let index = index_name(number);
        let index = disk.len(&index).is_ok().then_some(index);
        for file in std::iter::once(file_name(number)).chain(index) {
            if let Err(error) = disk.remove(&file) {
                tracing::warn!("a file of transient messages that are gone stays: {error}");
            }
        }
    }
}
