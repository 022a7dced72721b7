//! Reads one segment's frames, whoever wants them: recovery, the index, an offline check.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::{BadHeader, FORMAT_VERSION, FRAME_HEADER_LEN, FRAME_MAGIC, Frame, FrameHeader};
use super::gap::Gap;
use super::record::BadRecord;
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use crate::id::{Lsn, SegmentNo};
use crate::limits::FRAME_BYTES;
use std::io;

/// Bytes read at once: one frame, whatever its length, or many.
const WINDOW_LEN: usize = FRAME_HEADER_LEN + FRAME_BYTES;

/// A segment's file, read through a window.
pub(super) struct Scan<'a> {
    disk: &'a dyn Disk,
    file: String,
    /// Nothing behind it is looked at.
    len: u64,
    header: SegmentHeader,
    window_at: u64,
    window: Vec<u8>,
    /// No record that begins before it lacks a frame.
    whole_to: u64,
}

/// Why no frame can be read at some place.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoFrame {
    /// Where it should be: behind the place that was asked for if a record goes on there.
    pub(super) at: u64,
    pub(super) why: &'static str,
    /// A frame of this segment began here.
    pub(super) began: bool,
}

/// Reads a segment's header. `None` if the file waits to be used.
pub(super) fn header(disk: &dyn Disk, file: &str) -> Result<Option<SegmentHeader>, StoreError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let read = disk.read_at(file, 0, &mut bytes)?;
    let header = SegmentHeader::decode(bytes.get(..read).unwrap_or_default());
    header.map_err(|bad| match bad {
        BadHeader::Version(version) => unknown_version(disk, file, version),
        BadHeader::Damaged(what) => StoreError::damaged(disk.path(file), 0, what),
    })
}

/// Says which of the two places of a segment's header do not hold it any more.
pub(super) fn bad_copies(disk: &dyn Disk, file: &str) -> Result<Vec<u64>, StoreError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    disk.read_at(file, 0, &mut bytes)?;
    Ok(SegmentHeader::bad_copies(&bytes))
}

type EachFrame<'a> = dyn FnMut(&Frame<'_>) -> Result<(), BadRecord> + 'a;

/// Reads a segment's frames from the first on, up to `end`, all of which must be whole, but for
/// `gaps`, which are known. Passes each frame, and returns the last LSN.
pub(super) fn whole(
    disk: &dyn Disk,
    header: SegmentHeader,
    end: u64,
    gaps: &[Gap],
    each: &mut EachFrame<'_>,
) -> Result<Lsn, StoreError> {
    let file = file_name(header.number);
    let mut scan = Scan::new(disk, file.clone(), header, end)?;
    let mut offset = SEGMENT_HEADER_LEN as u64;
    let mut last_lsn = Lsn(header.first_lsn.0.saturating_sub(1));
    while offset < end {
        if let Some(gap) = gaps.iter().find(|gap| gap.offset == offset && gap.len() > 0) {
            (offset, last_lsn) = (gap.end, gap.last);
            continue;
        }
        let damaged = |at, what: String| StoreError::damaged(disk.path(&file), at, what);
        let frame = match scan.frame(offset, last_lsn)? {
            Ok(frame) => frame,
            Err(none) => return Err(damaged(none.at, none.why.to_owned())),
        };
        each(&frame).map_err(|bad| damaged(offset, format!("a frame that is whole: {bad}")))?;
        offset = frame.end();
        last_lsn = Lsn(last_lsn.0 + u64::from(frame.header.records));
    }
    Ok(last_lsn)
}

impl<'a> Scan<'a> {
    /// Reads up to `end`, or the file's end if that comes first.
    pub(super) fn new(
        disk: &'a dyn Disk,
        file: String,
        header: SegmentHeader,
        end: u64,
    ) -> Result<Self, StoreError> {
        let len = disk.len(&file)?.min(end);
        Ok(Self { disk, file, len, header, window_at: 0, window: Vec::new(), whole_to: 0 })
    }

    pub(super) fn segment(&self) -> SegmentNo {
        self.header.number
    }

    /// The frame at `offset` whose payload sums up and whose first record follows `last_lsn`; or
    /// why there is none. The first frame of a record comes only if all others of it are whole: so
    /// who goes on will see the record's end.
    pub(super) fn frame(
        &mut self,
        offset: u64,
        last_lsn: Lsn,
    ) -> Result<Result<Frame<'_>, NoFrame>, StoreError> {
        if offset < self.whole_to {
            return self.one(offset, last_lsn);
        }
        let header = match self.one(offset, last_lsn)? {
            Ok(frame) => frame.header,
            Err(none) => return Ok(Err(none)),
        };
        if header.before > 0 {
            let why = "a record goes on here whose first frame is missing";
            return Ok(Err(NoFrame { at: offset, why, began: true }));
        }
        if header.left > 0 {
            if let Err(none) = self.look_ahead(offset, &header, last_lsn)? {
                return Ok(Err(none));
            }
            return self.one(offset, last_lsn);
        }
        let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        let payload = self.read(offset + FRAME_HEADER_LEN as u64, len)?;
        Ok(Ok(Frame { header, offset, payload }))
    }

    /// Looks whether the record that begins with this frame is whole.
    fn look_ahead(
        &mut self,
        offset: u64,
        first: &FrameHeader,
        last_lsn: Lsn,
    ) -> Result<Result<(), NoFrame>, StoreError> {
        let mut previous = *first;
        let mut at = offset + FRAME_HEADER_LEN as u64 + u64::from(first.payload_len);
        while previous.left > 0 {
            let none = |at, why| Ok(Err(NoFrame { at, why, began: true }));
            let header = match self.one(at, last_lsn)? {
                Ok(frame) => frame.header,
                Err(missing) => return none(at, missing.why),
            };
            if !header.goes_on(&previous) {
                return none(at, "a frame does not go on with the record before it");
            }
            previous = header;
            at += FRAME_HEADER_LEN as u64 + u64::from(header.payload_len);
        }
        self.whole_to = at;
        Ok(Ok(()))
    }

    /// The frame at `offset`, by itself.
    fn one(
        &mut self,
        offset: u64,
        last_lsn: Lsn,
    ) -> Result<Result<Frame<'_>, NoFrame>, StoreError> {
        let none = |why, began| Ok(Err(NoFrame { at: offset, why, began }));
        let Some(bytes) = self.frame_header(offset)? else {
            return none("the file ends within a frame's header", offset < self.len);
        };
        let header = match FrameHeader::decode(&bytes, self.header.salt) {
            Ok(header) => header,
            Err(BadHeader::Damaged(why)) => {
                let first = Lsn(last_lsn.0.saturating_add(1));
                return none(why, FrameHeader::began(&bytes, self.header.salt, first));
            }
            Err(BadHeader::Version(version)) => {
                return Err(unknown_version(self.disk, &self.file, version));
            }
        };
        if header.first_lsn != Lsn(last_lsn.0 + 1) {
            return none("the frame that belongs here is missing", true);
        }
        let at = offset + FRAME_HEADER_LEN as u64;
        if u64::from(header.payload_len) > self.len - at {
            return none("the file ends within a frame", true);
        }
        let payload = self.read(at, usize::try_from(header.payload_len).unwrap_or(usize::MAX))?;
        if crc32c::crc32c(payload) != header.payload_crc {
            return none("the checksum of a frame's payload differs", true);
        }
        Ok(Ok(Frame { header, offset, payload }))
    }

    /// The highest synced LSN that any frame header from `offset` on states, if there is a frame. A
    /// header within a message cannot mislead: without the salt it is none, and a copy of an old
    /// one states less.
    pub(super) fn stated_beyond(&mut self, offset: u64) -> Result<Option<Lsn>, StoreError> {
        let mut stated = None;
        self.headers(offset, &mut |_, header| {
            stated = stated.max(Some(header.synced_lsn));
            true
        })?;
        Ok(stated)
    }

    /// The first frame header from `offset` on of a record that is not before `least`, and where it
    /// lies; nothing is said of its payload. A copy of an old one is before, see `stated_beyond`.
    pub(super) fn next_header(
        &mut self,
        offset: u64,
        least: Lsn,
    ) -> Result<Option<(u64, FrameHeader)>, StoreError> {
        let mut found = None;
        self.headers(offset, &mut |at, header| {
            if header.first_lsn >= least {
                found = Some((at, header));
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// Passes every frame header from `offset` on and where it lies, as long as `each` goes on.
    fn headers(
        &mut self,
        mut offset: u64,
        each: &mut dyn FnMut(u64, FrameHeader) -> bool,
    ) -> Result<(), StoreError> {
        let salt = self.header.salt;
        while self.len.saturating_sub(offset) >= FRAME_HEADER_LEN as u64 {
            let chunk = self.chunk(offset)?;
            for at in memchr::memmem::find_iter(chunk, &FRAME_MAGIC) {
                let header = chunk.get(at..).and_then(|bytes| bytes.first_chunk());
                let header = header.and_then(|bytes| FrameHeader::decode(bytes, salt).ok());
                if header.is_some_and(|header| !each(offset + at as u64, header)) {
                    return Ok(());
                }
            }
            offset += (chunk.len() - FRAME_HEADER_LEN + 1) as u64;
        }
        Ok(())
    }

    /// The bytes from `offset` on that one read gives, a header at least: those of the window if
    /// they are in it, so that many looks at short frames cost one read.
    fn chunk(&mut self, offset: u64) -> Result<&[u8], StoreError> {
        let window_end = self.window_at + self.window.len() as u64;
        let ahead = window_end.saturating_sub(offset);
        let is_in = offset >= self.window_at && ahead >= FRAME_HEADER_LEN as u64;
        let len = if is_in { ahead } else { self.len - offset };
        self.read(offset, usize::try_from(len).map_or(WINDOW_LEN, |len| len.min(WINDOW_LEN)))
    }

    fn frame_header(&mut self, offset: u64) -> Result<Option<[u8; FRAME_HEADER_LEN]>, StoreError> {
        if self.len.saturating_sub(offset) < FRAME_HEADER_LEN as u64 {
            return Ok(None);
        }
        Ok(self.read(offset, FRAME_HEADER_LEN)?.first_chunk().copied())
    }

    /// `len` bytes from `offset` on, which the file has: at most a window.
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let within = |window_at: u64, window: &[u8]| {
            let skip = usize::try_from(offset.checked_sub(window_at)?).ok()?;
            (window.len().checked_sub(skip)? >= len).then_some(skip)
        };
        if within(self.window_at, &self.window).is_none() {
            let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
            self.window.resize(left.min(WINDOW_LEN), 0);
            self.window_at = offset;
            let read = self.disk.read_at(&self.file, offset, &mut self.window)?;
            self.window.truncate(read);
        }
        within(self.window_at, &self.window)
            .and_then(|skip| self.window.get(skip..skip.checked_add(len)?))
            .ok_or_else(|| {
                let ended = io::ErrorKind::UnexpectedEof.into();
                StoreError::io("read", self.disk.path(&self.file), ended)
            })
    }
}

fn unknown_version(disk: &dyn Disk, file: &str, version: u32) -> StoreError {
    let why = format!(
        "it has format version {version}, and this broker knows only {FORMAT_VERSION}; \
         use the version of Leveret that wrote it, or a newer one"
    );
    StoreError::refused("read", disk.path(file), why)
}
