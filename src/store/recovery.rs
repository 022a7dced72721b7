//! Reads the journal from its beginning, and tells a torn tail from damage.
//!
//! A frame that cannot be read is the torn end of a crashed broker's last write if nothing from it
//! on was ever safe: it is cut, and logged. It is damage if a frame, be it a later one, states that
//! its records were safe: then the start is refused with file and offset, and no byte is changed.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::{
    self, BadHeader, FILE_HEADER_LEN, FORMAT_VERSION, FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader,
};
use super::replay::{Recovered, Replay, Torn};
use super::writer::{JOURNAL_FILE, Writer};
use crate::id::Lsn;
use std::io::{self, IoSlice};

/// A journal gets its name when its header is safe.
const NEW_JOURNAL_FILE: &str = "journal.new";

/// Bytes read at once; a frame that is longer is read whole.
const CHUNK_LEN: usize = 1024 * 1024;

/// Replays the journal and leaves the file ready for the writer to go on. A new journal has `salt`.
pub(super) fn recover(disk: &dyn Disk, salt: u64) -> Result<(Recovered, Writer), StoreError> {
    if !disk.list()?.iter().any(|file| file == JOURNAL_FILE) {
        create(disk, salt)?;
    }
    let mut scan = Scan::begin(disk)?;
    let mut replay = Replay::new();
    let mut offset = FILE_HEADER_LEN as u64;
    let mut stated = Lsn(0);
    let mut torn = None;
    while offset < scan.len {
        match scan.frame(offset, replay.last_lsn())? {
            Ok(header) => {
                let payload = scan.payload(offset, &header)?;
                apply(disk, &mut replay, offset, &header, payload)?;
                stated = stated.max(header.synced_lsn);
                offset += FRAME_HEADER_LEN as u64 + u64::from(header.payload_len);
            }
            Err(why) => {
                stated = stated.max(scan.stated_beyond(offset)?);
                torn = Some(scan.judge(offset, replay.last_lsn(), stated, why)?);
                break;
            }
        }
    }
    if let Some(torn) = torn {
        disk.truncate(JOURNAL_FILE, torn.offset)?;
    }
    // A killed broker's last writes may be in the page cache only, and so may a new name; the next
    // frame will state that all of it is safe.
    disk.sync(JOURNAL_FILE)?;
    disk.sync_dir()?;
    let writer = Writer::after(replay.last_lsn(), stated, scan.salt);
    Ok((replay.finish(torn), writer))
}

fn create(disk: &dyn Disk, salt: u64) -> Result<(), StoreError> {
    disk.create(NEW_JOURNAL_FILE)?;
    let header = frame::encode_file_header(salt);
    disk.append(NEW_JOURNAL_FILE, &[IoSlice::new(&header)])?;
    disk.sync(NEW_JOURNAL_FILE)?;
    disk.rename(NEW_JOURNAL_FILE, JOURNAL_FILE)
}

/// A whole frame that does not add up was written so, by another version or by our mistake.
fn apply(
    disk: &dyn Disk,
    replay: &mut Replay,
    offset: u64,
    header: &FrameHeader,
    payload: &[u8],
) -> Result<(), StoreError> {
    let damaged = |what| StoreError::damaged(disk.path(JOURNAL_FILE), offset, what);
    replay.frame(payload).map_err(|bad| {
        let lsn = replay.last_lsn().0 + 1;
        damaged(format!("record {lsn} of a frame that is whole: {bad}"))
    })?;
    if header.last_lsn() == Some(replay.last_lsn()) {
        Ok(())
    } else {
        let records = header.records;
        Err(damaged(format!("a frame that is whole holds other than {records} records")))
    }
}

fn unknown_version(disk: &dyn Disk, version: u32) -> StoreError {
    let why = format!(
        "it has format version {version}, and this broker knows only {FORMAT_VERSION}; \
         use the version of Leveret that wrote it, or a newer one"
    );
    StoreError::refused("read", disk.path(JOURNAL_FILE), why)
}

/// The file, read through a window.
struct Scan<'a> {
    disk: &'a dyn Disk,
    len: u64,
    salt: u64,
    window_at: u64,
    window: Vec<u8>,
}

impl<'a> Scan<'a> {
    fn begin(disk: &'a dyn Disk) -> Result<Self, StoreError> {
        let mut scan =
            Self { disk, len: disk.len(JOURNAL_FILE)?, salt: 0, window_at: 0, window: Vec::new() };
        let header = scan.header::<FILE_HEADER_LEN>(0)?;
        let salt = header
            .map_or(Err(BadHeader::Damaged("the file ends within its header")), |header| {
                frame::decode_file_header(&header)
            });
        match salt {
            Ok(salt) => scan.salt = salt,
            Err(BadHeader::Version(version)) => return Err(unknown_version(disk, version)),
            Err(BadHeader::Damaged(what)) => {
                return Err(StoreError::damaged(disk.path(JOURNAL_FILE), 0, what));
            }
        }
        Ok(scan)
    }

    /// The header of the frame at `offset`, whose payload is there and sums up; or why not.
    fn frame(
        &mut self,
        offset: u64,
        last_lsn: Lsn,
    ) -> Result<Result<FrameHeader, &'static str>, StoreError> {
        let Some(bytes) = self.header(offset)? else {
            return Ok(Err("the file ends within a frame's header"));
        };
        let header = match FrameHeader::decode(&bytes, self.salt) {
            Ok(header) => header,
            Err(BadHeader::Damaged(why)) => return Ok(Err(why)),
            Err(BadHeader::Version(version)) => return Err(unknown_version(self.disk, version)),
        };
        if header.first_lsn != Lsn(last_lsn.0 + 1) {
            return Ok(Err("the frame that belongs here is missing"));
        }
        let behind_header = self.len - offset - FRAME_HEADER_LEN as u64;
        if u64::from(header.payload_len) > behind_header {
            return Ok(Err("the file ends within a frame"));
        }
        let payload = self.payload(offset, &header)?;
        if crc32c::crc32c(payload) != header.payload_crc {
            return Ok(Err("the checksum of a frame's payload differs"));
        }
        Ok(Ok(header))
    }

    fn payload(&mut self, offset: u64, header: &FrameHeader) -> Result<&[u8], StoreError> {
        let at = offset + FRAME_HEADER_LEN as u64;
        let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        self.read(at, payload_len)
    }

    /// The highest synced LSN that any frame header from `offset` on states. A header within a
    /// message cannot mislead: without the salt it is none, and a copy of an old one states less.
    fn stated_beyond(&mut self, mut offset: u64) -> Result<Lsn, StoreError> {
        let mut stated = Lsn(0);
        let salt = self.salt;
        while self.len - offset >= FRAME_HEADER_LEN as u64 {
            let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
            let chunk = self.read(offset, left.min(CHUNK_LEN))?;
            let headers = chunk
                .windows(FRAME_HEADER_LEN)
                .filter(|bytes| bytes.starts_with(&FRAME_MAGIC))
                .filter_map(|bytes| FrameHeader::decode(bytes.first_chunk()?, salt).ok());
            stated = headers.fold(stated, |stated, header| stated.max(header.synced_lsn));
            offset += (chunk.len() - FRAME_HEADER_LEN + 1) as u64;
        }
        Ok(stated)
    }

    /// Says what a frame that cannot be read is: a torn tail, or an error.
    fn judge(
        &self,
        offset: u64,
        last_lsn: Lsn,
        stated: Lsn,
        why: &str,
    ) -> Result<Torn, StoreError> {
        let path = self.disk.path(JOURNAL_FILE);
        let bytes = self.len - offset;
        let lost = last_lsn.0 + 1;
        if lost <= stated.0 {
            let what = format!(
                "{why}; records {lost} to {stated} were safely stored and cannot be read from \
                 here on. Nothing was changed: restore the file from a copy"
            );
            return Err(StoreError::damaged(path, offset, what));
        }
        let file = path.display();
        tracing::warn!(
            "{file}: a crash left a torn tail, cut from byte {offset} to {end} ({bytes} bytes \
             behind record {last_lsn}, never known to be safe): {why}",
            end = self.len
        );
        Ok(Torn { offset, bytes })
    }

    fn header<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>, StoreError> {
        if self.len - offset < N as u64 {
            return Ok(None);
        }
        Ok(self.read(offset, N)?.first_chunk().copied())
    }

    /// `len` bytes from `offset` on, which the file has. No number that was read makes the window
    /// longer than the file.
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let within = |window_at: u64, window: &[u8]| {
            let skip = usize::try_from(offset.checked_sub(window_at)?).ok()?;
            (window.len().checked_sub(skip)? >= len).then_some(skip)
        };
        if within(self.window_at, &self.window).is_none() {
            let left = usize::try_from(self.len - offset).unwrap_or(usize::MAX);
            self.window.resize(left.min(len.max(CHUNK_LEN)), 0);
            self.window.shrink_to(CHUNK_LEN);
            self.window_at = offset;
            let read = self.disk.read_at(JOURNAL_FILE, offset, &mut self.window)?;
            self.window.truncate(read);
        }
        within(self.window_at, &self.window)
            .and_then(|skip| self.window.get(skip..skip.checked_add(len)?))
            .ok_or_else(|| {
                let ended = io::ErrorKind::UnexpectedEof.into();
                StoreError::io("read", self.disk.path(JOURNAL_FILE), ended)
            })
    }
}
