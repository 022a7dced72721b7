//! Reads the journal from its beginning, segment by segment, and tells a torn tail from damage.
//!
//! A frame that cannot be read is the torn end of a crashed broker's last write if nothing from it
//! on was ever safe: it is cut, and logged. It is damage if a frame, be it a later one, states that
//! its records were safe: then the start is refused with file and offset, and no byte is changed.
//!
//! The next record begins a new segment, which says where the one before it ends: so what a crash
//! left behind that end is never read again.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::FRAME_HEADER_LEN;
use super::replay::{Recovered, Replay, Torn};
use super::scan::{self, NoFrame, Scan};
use super::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use super::supply;
use super::writer::Tail;
use crate::id::{Lsn, SegmentNo};

/// Replays the journal and leaves its files ready for the writer to go on.
pub(super) fn recover(disk: &dyn Disk) -> Result<(Recovered, Tail), StoreError> {
    let files = disk.list()?;
    let mut numbers: Vec<_> = files.iter().filter_map(|file| segment::number_of(file)).collect();
    numbers.sort_unstable();
    let mut used = Vec::new();
    let mut unused = Vec::new();
    for number in numbers {
        match scan::header(disk, &file_name(number))? {
            Some(header) if header.number == number => used.push(header),
            Some(_) => {
                let what = "it holds another segment than its name says";
                return Err(StoreError::damaged(disk.path(&file_name(number)), 0, what));
            }
            None => unused.push(number),
        }
    }
    supply::clear(disk, &files)?;
    let mut chain = Chain { disk, replay: Replay::new(), stated: Lsn(0), torn: None, end: 0 };
    let kept = chain.walk(&used)?;
    let tail = chain.cut(&used, kept)?;
    for number in unused {
        disk.remove(&file_name(number))?;
    }
    // A killed broker's last writes may be in the page cache only, and so may a name; the next
    // frame will state that all of it is safe.
    for header in used.get(..kept).unwrap_or_default() {
        disk.sync(&file_name(header.number))?;
    }
    disk.sync_dir()?;
    Ok((chain.replay.finish(chain.torn), tail))
}

/// The segments, one behind the other.
struct Chain<'a> {
    disk: &'a dyn Disk,
    replay: Replay,
    stated: Lsn,
    torn: Option<Torn>,
    /// Where the last segment's last frame ends.
    end: u64,
}

/// Where a segment's last frame ends, and why nothing follows.
struct End {
    offset: u64,
    none: NoFrame,
}

impl Chain<'_> {
    /// Replays the segments up to the last that is whole or torn; says how many those are.
    fn walk(&mut self, used: &[SegmentHeader]) -> Result<usize, StoreError> {
        let mut previous = SegmentNo(0);
        for (nth, header) in used.iter().enumerate() {
            if header.previous != previous {
                // Only the first can come here: its predecessor is gone, or never became safe.
                self.learn_what_was_safe(used)?;
                let torn = self.stated == Lsn(0);
                return if torn { Ok(0) } else { Err(self.missing(header)) };
            }
            let next = used.get(nth + 1).filter(|next| next.previous == header.number);
            let end = self.segment(header, next.map_or(u64::MAX, |next| next.previous_end))?;
            (previous, self.end) = (header.number, end.offset);
            if next.is_none_or(|next| next.previous_end != end.offset) {
                self.judge(used.get(nth..).unwrap_or_default(), &end)?;
                return Ok(nth + 1);
            }
        }
        Ok(used.len())
    }

    fn missing(&self, header: &SegmentHeader) -> StoreError {
        let file = file_name(header.previous);
        let what = format!("it is not there, and {} follows it", file_name(header.number));
        StoreError::refused("read", self.disk.path(&file), what)
    }

    /// Replays one segment's frames as far as they can be read.
    fn segment(&mut self, header: &SegmentHeader, limit: u64) -> Result<End, StoreError> {
        let file = file_name(header.number);
        let mut scan = Scan::new(self.disk, file.clone(), *header, limit)?;
        let mut offset = SEGMENT_HEADER_LEN as u64;
        loop {
            let (frame, payload) = match scan.frame(offset, self.replay.last_lsn())? {
                Ok(frame) => frame,
                Err(none) => return Ok(End { offset, none }),
            };
            // A whole frame that does not add up was written so, by another version or by our
            // mistake.
            let damaged = |what| StoreError::damaged(self.disk.path(&file), offset, what);
            self.replay.frame(payload).map_err(|bad| {
                let lsn = self.replay.last_lsn().0 + 1;
                damaged(format!("record {lsn} of a frame that is whole: {bad}"))
            })?;
            if frame.last_lsn() != Some(self.replay.last_lsn()) {
                let records = frame.records;
                return Err(damaged(format!(
                    "a frame that is whole holds other than {records} records"
                )));
            }
            self.stated = self.stated.max(frame.synced_lsn);
            offset += FRAME_HEADER_LEN as u64 + u64::from(frame.payload_len);
        }
    }

    /// Says what follows the last frame that can be read: nothing, a torn tail, or an error.
    fn judge(&mut self, rest: &[SegmentHeader], end: &End) -> Result<(), StoreError> {
        let Some((broken, later)) = rest.split_first() else { return Ok(()) };
        let file = file_name(broken.number);
        let mut scan = Scan::new(self.disk, file.clone(), *broken, u64::MAX)?;
        let beyond = scan.stated_beyond(end.offset)?;
        self.stated = self.stated.max(beyond.unwrap_or_default());
        self.learn_what_was_safe(later)?;
        let (last, why) = (self.replay.last_lsn(), end.none.why);
        let lost = last.0 + 1;
        if lost <= self.stated.0 {
            if let Some(next) = later.first().filter(|next| next.previous != broken.number) {
                return Err(self.missing(next));
            }
            let what = format!(
                "{why}; records {lost} to {stated} were safely stored and cannot be read from \
                 here on. Nothing was changed: restore the file from a copy",
                stated = self.stated
            );
            return Err(StoreError::damaged(self.disk.path(&file), end.offset, what));
        }
        if beyond.is_some() || end.none.began || !later.is_empty() {
            tracing::warn!(
                "{}: a crash left a torn tail, cut at byte {} behind record {last}; it was never \
                 known to be safe: {why}",
                self.disk.path(&file).display(),
                end.offset
            );
            self.torn = Some(Torn { segment: broken.number, offset: end.offset });
        }
        Ok(())
    }

    /// Reads what the frames of these segments state, whether they can be read in order or not.
    fn learn_what_was_safe(&mut self, segments: &[SegmentHeader]) -> Result<(), StoreError> {
        for header in segments {
            let mut scan = Scan::new(self.disk, file_name(header.number), *header, u64::MAX)?;
            let stated = scan.stated_beyond(SEGMENT_HEADER_LEN as u64)?;
            self.stated = self.stated.max(stated.unwrap_or_default());
        }
        Ok(())
    }

    /// Cuts what is no part of the journal, and says where it goes on.
    fn cut(&self, used: &[SegmentHeader], kept: usize) -> Result<Tail, StoreError> {
        let (kept, torn) = used.split_at(kept);
        for header in torn {
            self.disk.remove(&file_name(header.number))?;
        }
        let last_lsn = self.replay.last_lsn();
        let mut tail = Tail { segment: SegmentNo(0), end: 0, last_lsn, stated: self.stated };
        if let Some(last) = kept.last() {
            tail.segment = last.number;
            tail.end = self.end;
            self.disk.truncate(&file_name(last.number), tail.end)?;
        }
        Ok(tail)
    }
}
