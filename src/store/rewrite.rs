//! Writes what lives of a segment to a new file. Which segment, and what becomes of the file, is
//! the caller's.
//!
//! The file is a segment like others, with a salt of its own, and its header says where it ends. It
//! holds ENQUEUE records only: those of transactions become plain ones, and one for several queues
//! is kept whole. It is read by its index and never replayed, so its LSNs mean nothing but order.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::{FRAME_HEADER_LEN, FrameHeader};
use super::index::SegmentIndexer;
use super::pending::FRAME_BYTES;
use super::record::{BadRecord, RawRecord, Records, Target};
use super::run_set::RunSet;
use super::scan::Scan;
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use crate::id::{Lsn, QueueId};
use hashbrown::HashMap;
use std::io::IoSlice;

/// Becomes a segment when all of it is safe.
pub(super) const NEW_FILE: &str = "segment.compact";

/// What is rewritten.
pub(super) struct Rewrite<'a> {
    /// Of the segment as it is.
    pub(super) header: SegmentHeader,
    /// Where its last frame ends.
    pub(super) end: u64,
    pub(super) live: &'a HashMap<QueueId, RunSet>,
    /// Of the new file.
    pub(super) salt: u64,
    /// A file that is longer is not worth it.
    pub(super) len_max: u64,
    pub(super) page_len: usize,
}

/// Writes the new file, safely, and gives its index and its length. `None` if it is not worth it,
/// and then there is no file.
///
/// # Errors
/// The disk's, or damage in the segment; there is no file then, as far as that can be had.
pub(super) fn rewrite(
    disk: &dyn Disk,
    rewrite: &Rewrite<'_>,
) -> Result<Option<(SegmentIndexer, u64)>, StoreError> {
    disk.create(NEW_FILE)?;
    let written = write(disk, rewrite);
    if !matches!(written, Ok(Some(_))) {
        // If even this fails, the first error says more, and the next start removes it.
        let _ = disk.remove(NEW_FILE);
    }
    written
}

/// Removes what a crash left of rewriting.
pub(super) fn clear(disk: &dyn Disk, files: &[String]) -> Result<(), StoreError> {
    if files.iter().any(|file| file == NEW_FILE) { disk.remove(NEW_FILE) } else { Ok(()) }
}

fn write(
    disk: &dyn Disk,
    rewrite: &Rewrite<'_>,
) -> Result<Option<(SegmentIndexer, u64)>, StoreError> {
    let Rewrite { header, end, live, salt, len_max, page_len } = *rewrite;
    let file = file_name(header.number);
    let mut scan = Scan::new(disk, file.clone(), header, end)?;
    let mut out = Out {
        disk,
        salt,
        live,
        indexer: SegmentIndexer::new(page_len),
        payload: Vec::new(),
        records: 0,
        end: SEGMENT_HEADER_LEN as u64,
        last_lsn: Lsn(header.first_lsn.0.saturating_sub(1)),
        targets: Vec::new(),
    };
    let mut offset = SEGMENT_HEADER_LEN as u64;
    let mut last_lsn = out.last_lsn;
    while offset < end {
        let damaged = |what: String| StoreError::damaged(disk.path(&file), offset, what);
        let (frame, payload) = match scan.frame(offset, last_lsn)? {
            Ok(frame) => frame,
            Err(none) => return Err(damaged(none.why.to_owned())),
        };
        out.take(payload).map_err(|bad| damaged(format!("a frame that is whole: {bad}")))?;
        offset += FRAME_HEADER_LEN as u64 + payload.len() as u64;
        last_lsn = Lsn(last_lsn.0 + u64::from(frame.records));
        if out.end + out.payload.len() as u64 > len_max {
            return Ok(None);
        }
        if out.payload.len() >= FRAME_BYTES {
            out.frame()?;
        }
    }
    out.frame()?;
    let header = SegmentHeader { salt, end: out.end, ..header };
    disk.write_at(NEW_FILE, 0, &[IoSlice::new(&header.encode())])?;
    disk.sync(NEW_FILE)?;
    Ok(Some((out.indexer, out.end)))
}

/// The new file, and the frame that is gathered.
struct Out<'a> {
    disk: &'a dyn Disk,
    salt: u64,
    live: &'a HashMap<QueueId, RunSet>,
    indexer: SegmentIndexer,
    payload: Vec<u8>,
    records: u64,
    end: u64,
    last_lsn: Lsn,
    /// The targets of one record, reused.
    targets: Vec<Target>,
}

impl Out<'_> {
    /// Keeps what lives of an old frame.
    fn take(&mut self, payload: &[u8]) -> Result<(), BadRecord> {
        let mut records = Records::new(payload);
        while let Some(record) = records.next_raw()? {
            match record.parts() {
                None => self.record(&record)?,
                Some(mut parts) => {
                    while let Some(part) = parts.next_raw()? {
                        self.record(&part)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &RawRecord<'_>) -> Result<(), BadRecord> {
        if record.enqueue(&mut self.targets)?.is_none() {
            return Ok(());
        }
        let live = self.live;
        let lives = |to: &Target| live.get(&to.queue).is_some_and(|live| live.contains(to.seq));
        if self.targets.iter().any(lives) {
            self.payload.extend_from_slice(record.bytes);
            self.records += 1;
        }
        Ok(())
    }

    /// Writes the frame, unless it is empty.
    fn frame(&mut self) -> Result<(), StoreError> {
        if self.records == 0 {
            return Ok(());
        }
        let payload = IoSlice::new(&self.payload);
        let first_lsn = Lsn(self.last_lsn.0 + 1);
        // Nothing is ever judged by what this frame states to be safe.
        let frame = FrameHeader::new(first_lsn, self.records, Lsn(0), &[payload]);
        let frame = frame.encode(self.salt);
        self.disk.write_at(NEW_FILE, self.end, &[IoSlice::new(&frame), payload])?;
        self.end += FRAME_HEADER_LEN as u64;
        let added = self.indexer.add(self.end, &self.payload);
        added.map_err(|bad| {
            let what = format!("a record that was read before: {bad}");
            StoreError::damaged(self.disk.path(NEW_FILE), self.end, what)
        })?;
        self.end += self.payload.len() as u64;
        self.last_lsn.0 += self.records;
        self.records = 0;
        self.payload.clear();
        Ok(())
    }
}
