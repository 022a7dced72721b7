//! Writes what lives of a segment to a new file. Which segment, and what becomes of the file, is
//! the caller's.
//!
//! The file is a segment like others, with a salt of its own, and its header says where it ends. It
//! holds ENQUEUE records only: those of transactions become plain ones, and one for several queues
//! is kept whole. It is read by its index and never replayed, so its LSNs mean nothing but order.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::assembly::{Assembly, Step};
use super::disk::Disk;
use super::error::StoreError;
use super::frame::{Frame, FrameHeader};
use super::index::SegmentIndexer;
use super::long::{self, Run};
use super::record::{BadRecord, RawRecord, Target};
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
    /// Payload of a frame, at most, but for frames that are copied as they are.
    pub(super) frame_bytes: usize,
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
    let Rewrite { header, end, live, salt, len_max, page_len, frame_bytes } = *rewrite;
    let file = file_name(header.number);
    let mut scan = Scan::new(disk, file.clone(), header, end)?;
    let mut out = Out {
        disk,
        from: &file,
        salt,
        live,
        frame_bytes,
        indexer: SegmentIndexer::new(page_len),
        assembly: Assembly::default(),
        payload: Vec::new(),
        lens: Vec::new(),
        long: None,
        end: SEGMENT_HEADER_LEN as u64,
        last_lsn: Lsn(header.first_lsn.0.saturating_sub(1)),
        targets: Vec::new(),
    };
    let mut offset = SEGMENT_HEADER_LEN as u64;
    let mut last_lsn = out.last_lsn;
    while offset < end {
        let damaged = |at, what: String| StoreError::damaged(disk.path(&file), at, what);
        let frame = match scan.frame(offset, last_lsn)? {
            Ok(frame) => frame,
            Err(none) => return Err(damaged(none.at, none.why.to_owned())),
        };
        out.take(&frame).map_err(|bad| damaged(offset, format!("a frame that is whole: {bad}")))?;
        offset = frame.end();
        last_lsn = Lsn(last_lsn.0 + u64::from(frame.header.records));
        out.write()?;
        if out.end + out.payload.len() as u64 > len_max {
            return Ok(None);
        }
    }
    out.frames()?;
    let header = SegmentHeader { salt, end: out.end, ..header };
    disk.write_at(NEW_FILE, 0, &[IoSlice::new(&header.encode())])?;
    disk.sync(NEW_FILE)?;
    Ok(Some((out.indexer, out.end)))
}

/// The new file, and the frame that is gathered.
struct Out<'a> {
    disk: &'a dyn Disk,
    /// The old file.
    from: &'a str,
    salt: u64,
    live: &'a HashMap<QueueId, RunSet>,
    frame_bytes: usize,
    indexer: SegmentIndexer,
    assembly: Assembly,
    payload: Vec<u8>,
    /// The lengths of the records in `payload`.
    lens: Vec<usize>,
    /// A record with frames of its own that ended in the last old frame, and its length.
    long: Option<(Run, usize)>,
    end: u64,
    last_lsn: Lsn,
    /// The targets of one record, reused.
    targets: Vec<Target>,
}

impl Out<'_> {
    /// Keeps what lives of an old frame.
    fn take(&mut self, frame: &Frame<'_>) -> Result<(), BadRecord> {
        let mut assembly = std::mem::take(&mut self.assembly);
        let taken = assembly.frame(frame, |step| match step {
            Step::Record(record, run) => self.record(&record, run),
            Step::Done => Ok(()),
        });
        self.assembly = assembly;
        taken
    }

    fn record(&mut self, record: &RawRecord<'_>, run: Option<Run>) -> Result<(), BadRecord> {
        if record.enqueue(&mut self.targets)?.is_none() {
            return Ok(());
        }
        let live = self.live;
        let lives = |to: &Target| live.get(&to.queue).is_some_and(|live| live.contains(to.seq));
        if self.targets.iter().any(lives) {
            match run {
                Some(run) => self.long = Some((run, record.len())),
                None => {
                    self.payload.extend_from_slice(record.bytes);
                    self.lens.push(record.bytes.len());
                }
            }
        }
        Ok(())
    }

    /// Writes what was kept, but not a frame that others may fill.
    fn write(&mut self) -> Result<(), StoreError> {
        if self.payload.len() >= self.frame_bytes || self.long.is_some() {
            self.frames()?;
        }
        self.long.take().map_or(Ok(()), |(run, len)| self.copy(&run, len))
    }

    /// Writes the records that were gathered.
    fn frames(&mut self) -> Result<(), StoreError> {
        let payload = std::mem::take(&mut self.payload);
        let mut rest = payload.as_slice();
        let mut lens = std::mem::take(&mut self.lens).into_iter().peekable();
        while let Some(mut len) = lens.next() {
            let mut records = 1;
            while let Some(more) = lens.next_if(|more| len + more <= self.frame_bytes) {
                len += more;
                records += 1;
            }
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            self.frame(frame, records, (0, 0))?;
            rest = behind;
        }
        self.payload = payload;
        self.payload.clear();
        Ok(())
    }

    /// Copies a record's own frames, one at a time.
    fn copy(&mut self, run: &Run, len: usize) -> Result<(), StoreError> {
        let (disk, from) = (self.disk, self.from);
        let mut before = 0;
        long::read(disk, from, run.offset, run.len, &mut |_, payload| {
            let left = len.saturating_sub(before + payload.len());
            self.frame(&payload, u64::from(left == 0), (before, left))?;
            before += payload.len();
            Ok(())
        })
    }

    fn frame(
        &mut self,
        payload: &[u8],
        records: u64,
        (before, left): (usize, usize),
    ) -> Result<(), StoreError> {
        let piece = IoSlice::new(payload);
        let first_lsn = Lsn(self.last_lsn.0 + 1);
        // Nothing is ever judged by what this frame states to be safe.
        let header = FrameHeader::new(first_lsn, records, Lsn(0), &[piece]).part(before, left);
        let encoded = header.encode(self.salt);
        self.disk.write_at(NEW_FILE, self.end, &[IoSlice::new(&encoded), piece])?;
        let frame = Frame { header, offset: self.end, payload };
        let added = self.indexer.add(&frame);
        added.map_err(|bad| {
            let what = format!("a record that was read before: {bad}");
            StoreError::damaged(self.disk.path(NEW_FILE), self.end, what)
        })?;
        self.end = frame.end();
        self.last_lsn.0 += records;
        Ok(())
    }
}
