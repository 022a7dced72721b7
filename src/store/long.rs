//! A record that is longer than a frame: put together from its frames, a bounded part at a time.
//!
//! Of a message only what precedes its body is kept, whatever comes; where the body lies, `Run`
//! says. Of other records all is kept: `limits.rs` bounds what they name.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::{BadHeader, FRAME_HEADER_LEN, Frame, FrameHeader};
use super::record::{
    ACK, BadRecord, CHECKPOINT, DEF, ENQUEUE, PREFIX_LEN, PURGE, REQUEUE, RETURNED, RawRecord,
    enqueue_head_len, prefix,
};

/// The frames that hold one record and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Of the first one's header in the segment's file.
    pub(super) offset: u64,
    /// Of all of them, headers included.
    pub(super) len: u32,
    /// crc32c of the checksums of their payloads.
    pub(super) crc: u32,
}

/// A record of which not all frames were seen yet.
#[derive(Clone, Debug)]
pub(super) struct Long {
    kind: u8,
    /// Of the record.
    len: usize,
    /// Bytes of it in frames to come.
    left: usize,
    /// What is kept of it.
    kept: Vec<u8>,
    /// How much that becomes; until it is known, all that there is.
    kept_len: Option<usize>,
    run: Run,
}

impl Long {
    /// Begins with the record at the start of `payload`, of a frame at `offset`. `None` if it fits
    /// into that.
    pub(super) fn begin(
        payload: &[u8],
        offset: u64,
        within_transaction: bool,
    ) -> Result<Option<Self>, BadRecord> {
        let (kind, len) = prefix(payload).ok_or(BadRecord::Truncated)?;
        let len = len + PREFIX_LEN;
        if len <= payload.len() {
            return Ok(None);
        }
        let kept_len = match kind {
            ENQUEUE => None,
            CHECKPOINT if within_transaction => return Err(BadRecord::Misplaced(kind)),
            ACK | REQUEUE | RETURNED | PURGE | DEF | CHECKPOINT => Some(len),
            other => return Err(BadRecord::UnknownKind(other)),
        };
        let run = Run { offset, len: 0, crc: 0 };
        Ok(Some(Self { kind, len, left: len, kept: Vec::new(), kept_len, run }))
    }

    /// Takes in the next frame, all of whose payload is this record's.
    pub(super) fn add(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), BadRecord> {
        self.left = self.left.checked_sub(payload.len()).ok_or(BadRecord::TooLong)?;
        let physical = u32::try_from(payload.len() + FRAME_HEADER_LEN);
        let len = physical.ok().and_then(|len| self.run.len.checked_add(len));
        self.run.len = len.ok_or(BadRecord::TooLong)?;
        self.run.crc = crc32c::crc32c_append(self.run.crc, &header.payload_crc.to_le_bytes());
        if self.kept_len.is_none() && self.kept.is_empty() {
            // Nearly always the first frame says it.
            self.learn(payload)?;
        }
        let wanted = self.kept_len.unwrap_or(self.len).saturating_sub(self.kept.len());
        self.kept.extend_from_slice(payload.get(..wanted).unwrap_or(payload));
        if self.kept_len.is_none() {
            let kept = std::mem::take(&mut self.kept);
            self.learn(&kept)?;
            self.kept = kept;
            self.kept.truncate(self.kept_len.unwrap_or(self.len));
        }
        if self.left == 0 && Some(self.kept.len()) != self.kept_len {
            return Err(BadRecord::Truncated);
        }
        Ok(())
    }

    /// Finds out how long the part before the body is, if its first bytes say so.
    fn learn(&mut self, first: &[u8]) -> Result<(), BadRecord> {
        match enqueue_head_len(first, self.len) {
            Ok(len) => self.kept_len = Some(len),
            Err(BadRecord::Truncated) => {}
            Err(bad) => return Err(bad),
        }
        Ok(())
    }

    /// Bytes of it in frames to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The record, of which nothing is left.
    pub(super) fn record(&self) -> RawRecord<'_> {
        RawRecord::assembled(self.kind, &self.kept, self.len - self.kept.len())
    }

    pub(super) fn run(&self) -> Run {
        self.run
    }
}

/// Is passed one frame of a run after the other, each in a buffer that may be kept.
type EachFrame<'a> = dyn FnMut(&FrameHeader, Vec<u8>) -> Result<(), StoreError> + 'a;

/// Reads the `len` bytes of a run at `offset`, a frame at a time.
///
/// # Errors
/// The disk's, where a frame is damaged, or what `each` says.
pub(super) fn read(
    disk: &dyn Disk,
    file: &str,
    offset: u64,
    len: u32,
    each: &mut EachFrame<'_>,
) -> Result<(), StoreError> {
    let end = offset.saturating_add(len.into());
    let mut at = offset;
    while at < end {
        let damaged = |what: &str| StoreError::damaged(disk.path(file), at, what);
        let mut bytes = [0; FRAME_HEADER_LEN];
        if disk.read_at(file, at, &mut bytes)? < bytes.len() {
            return Err(damaged("the file ends within a frame's header"));
        }
        let header = FrameHeader::decode_known(&bytes).map_err(|bad| match bad {
            BadHeader::Damaged(what) => damaged(what),
            BadHeader::Version(_) => damaged("a frame has another version than its segment"),
        })?;
        // No header has a number that makes this long.
        let mut payload = vec![0; header.payload_len as usize];
        let payload_at = at + FRAME_HEADER_LEN as u64;
        if disk.read_at(file, payload_at, &mut payload)? < payload.len() {
            return Err(damaged("the file ends within a frame"));
        }
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Err(damaged("the checksum of a frame's payload differs"));
        }
        at = Frame { header, offset: at, payload: &payload }.end();
        each(&header, payload)?;
    }
    Ok(())
}
