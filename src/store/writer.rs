//! The end of the journal: puts frames into segments, one after the other, and knows how far they
//! are safe.
//!
//! A segment is left when a frame, or all frames of a record, do not fit any more. What was written
//! to it is made safe before the next one begins, unless nobody wants syncs. A segment's header is
//! written with its first frame, so beginning one costs no sync of its own if its file was
//! prepared.

use super::Options;
use super::batch::Block;
use super::disk::Disk;
use super::entries::Complete;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::frame::FrameHeader;
use super::framing::{self, Cut, Pieces};
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use super::supply::Supply;
use super::touches::{Nearby, Touches};
use crate::id::{Lsn, SegmentNo};
use crate::limits::FRAME_BYTES;
use std::io::IoSlice;
use std::sync::Arc;

/// A frame must have room for the prefix of a record.
const FRAME_BYTES_MIN: usize = 64;

/// Where the journal ends: what comes next begins in a new segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail {
    /// The last segment that was used; zero if there is none.
    pub(super) segment: SegmentNo,
    pub(super) end: u64,
    pub(super) last_lsn: Lsn,
    /// The last LSN that a frame states to be safe.
    pub(super) stated: Lsn,
    /// What the frames near the end touched.
    pub(super) touched: Touches,
}

#[derive(Debug)]
pub(super) struct Writer {
    supply: Arc<Supply>,
    segment_bytes: u64,
    segment_records: u64,
    frame_bytes: usize,
    salt: u64,
    segment: Segment,
    /// Segments that were left and not yet spoken of.
    complete: Vec<(SegmentNo, Complete)>,
    /// Files of earlier segments that no one asked to sync yet.
    loose: Vec<String>,
    /// The last record that was handed to the operating system.
    written: Lsn,
    /// The last that `fdatasync` covers. Stays behind `written` when no one asks for syncs.
    synced: Lsn,
    /// The last `synced` that a frame states.
    stated: Lsn,
}

/// The segment that is written to.
#[derive(Debug)]
struct Segment {
    number: SegmentNo,
    file: String,
    end: u64,
    records: u64,
    /// Nothing more is written to it.
    is_left: bool,
    /// Something was written to it since it was synced, be it a seal.
    is_loose: bool,
    nearby: Nearby,
}

impl Writer {
    /// Goes on behind `tail`, which is safe.
    pub(super) fn after(tail: Tail, options: &Options) -> Self {
        let number = tail.segment;
        Self {
            supply: Arc::new(Supply::after(number, options.segment_bytes)),
            segment_bytes: options.segment_bytes,
            segment_records: options.segment_records,
            frame_bytes: options.frame_bytes.clamp(FRAME_BYTES_MIN, FRAME_BYTES),
            salt: options.salt,
            segment: Segment {
                number,
                file: file_name(number),
                end: tail.end,
                records: 0,
                is_left: true,
                is_loose: false,
                nearby: Nearby::ending(tail.end, tail.touched),
            },
            complete: Vec::new(),
            loose: Vec::new(),
            written: tail.last_lsn,
            synced: tail.last_lsn,
            stated: tail.stated,
        }
    }

    pub(super) fn supply(&self) -> &Arc<Supply> {
        &self.supply
    }

    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    pub(super) fn synced(&self) -> Lsn {
        self.synced
    }

    /// Writes the blocks, in as many frames as it takes. Returns the bytes.
    pub(super) fn append(
        &mut self,
        disk: &dyn Disk,
        blocks: &[Block],
        sync: bool,
    ) -> Result<u64, StoreError> {
        let mut slices = Vec::new();
        blocks.iter().for_each(|block| block.slices(&mut slices));
        let mut pieces = Pieces::new(&slices);
        let mut bytes = 0;
        for cut in framing::cut(blocks, self.frame_bytes) {
            bytes += self.append_frame(disk, cut, &mut pieces, sync)?;
            if cut.left > 0 {
                disk.reach(Failpoint::PartWritten)?;
            }
        }
        Ok(bytes)
    }

    /// Makes safe what was written.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        for file in self.loose.drain(..) {
            disk.sync(&file)?;
        }
        if self.segment.is_loose {
            disk.sync(&self.segment.file)?;
            self.segment.is_loose = false;
        }
        self.synced = self.written;
        Ok(())
    }

    /// States how far the journal is safe, unless it says so: damage up to there is told from a
    /// torn tail. Not synced, since nothing is lost with it. Returns the bytes. Where the segment
    /// was left its end may be known already: then the next one's first frame says so.
    pub(super) fn seal(&mut self, disk: &dyn Disk) -> Result<u64, StoreError> {
        if self.stated == self.synced || self.segment.is_left {
            return Ok(0);
        }
        self.append_frame(disk, Cut::default(), &mut Pieces::new(&[]), false)
    }

    /// The next frame begins a new segment.
    pub(super) fn leave_segment(&mut self) {
        let last = &mut self.segment;
        if !last.is_left {
            last.is_left = true;
            let (end, last_lsn) = (last.end, self.written);
            self.complete.push((last.number, Complete { end, last_lsn }));
        }
    }

    /// The segments that were left since this was asked last.
    pub(super) fn take_complete(&mut self) -> Vec<(SegmentNo, Complete)> {
        std::mem::take(&mut self.complete)
    }

    /// Those segments; they will be asked for again.
    pub(super) fn complete(&self) -> &[(SegmentNo, Complete)] {
        &self.complete
    }

    /// There are such segments.
    pub(super) fn has_complete(&self) -> bool {
        !self.complete.is_empty()
    }

    /// The segment that is written to, and how far.
    pub(super) fn position(&self) -> (SegmentNo, u64) {
        (self.segment.number, self.segment.end)
    }

    fn append_frame(
        &mut self,
        disk: &dyn Disk,
        cut: Cut,
        from: &mut Pieces<'_, '_>,
        sync: bool,
    ) -> Result<u64, StoreError> {
        let mut pieces = vec![IoSlice::new(&[]); 2];
        from.take(cut.len, &mut pieces);
        let Cut { records, before, left, touches, room, .. } = cut;
        let first_lsn = Lsn(self.written.0 + 1);
        let begun = match room {
            Some(room) => self.make_room(disk, room, sync)?,
            None => None,
        };
        let begun_len = begun.map_or(0, |header| header.len() as u64);
        let offset = self.segment.end + begun_len;
        let touched_before = self.segment.nearby.until(offset);
        self.segment.nearby.add(offset, touches);
        let frame = FrameHeader::new(first_lsn, records, self.synced, &pieces)
            .part(before, left)
            .touching(touches, touched_before)
            .encode(self.salt_of(self.segment.number));
        if let [first, second, ..] = pieces.as_mut_slice() {
            *first = IoSlice::new(begun.as_ref().map_or(&[], <[u8; SEGMENT_HEADER_LEN]>::as_slice));
            *second = IoSlice::new(&frame);
        }
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        disk.write_at(&self.segment.file, self.segment.end, &pieces)?;
        self.segment.end += len as u64;
        self.segment.records += records;
        self.segment.is_loose = true;
        self.supply.used(self.segment.number, self.segment.end);
        self.written.0 += records;
        self.stated = self.synced;
        Ok(len as u64)
    }

    /// Begins the next segment if what comes does not fit into this one, and gives its header. A
    /// record that is longer than a segment makes its own one longer.
    fn make_room(
        &mut self,
        disk: &dyn Disk,
        len: u64,
        sync: bool,
    ) -> Result<Option<[u8; SEGMENT_HEADER_LEN]>, StoreError> {
        let last = &self.segment;
        let full = last.end + len > self.segment_bytes || last.records >= self.segment_records;
        if !last.is_left && !full {
            return Ok(None);
        }
        self.leave_segment();
        if self.segment.is_loose {
            self.loose.push(self.segment.file.clone());
            self.segment.is_loose = false;
        }
        if sync {
            self.sync(disk)?;
        }
        disk.reach(Failpoint::SegmentLeft)?;
        let number = SegmentNo(self.segment.number.0 + 1);
        let salt = self.salt_of(number);
        let last = &mut self.segment;
        let header = SegmentHeader {
            number,
            salt,
            first_lsn: Lsn(self.written.0 + 1),
            previous: last.number,
            previous_end: last.end,
            end: 0,
            previous_touched: last.nearby.until(last.end),
        };
        let file = file_name(number);
        if !self.supply.take(number) {
            disk.create(&file)?;
            disk.reach(Failpoint::SegmentCreated)?;
            disk.sync_dir()?;
        }
        disk.reach(Failpoint::SegmentBegun)?;
        self.segment = Segment {
            number,
            file,
            end: 0,
            records: 0,
            is_left: false,
            is_loose: false,
            nearby: Nearby::default(),
        };
        Ok(Some(header.encode()))
    }

    /// Each segment has its own salt, made from one random number.
    fn salt_of(&self, number: SegmentNo) -> u64 {
        mix(self.salt, number.0)
    }
}

/// A number made from a salt and another number (splitmix64).
pub(super) fn mix(salt: u64, number: u64) -> u64 {
    let mut mixed = salt.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
