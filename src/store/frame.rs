//! Frames, in which records lie in a segment: fixed numbers, little-endian.
//!
//! ```text
//! frame = magic u32 | format version u32 | salt u64 | payload length u32 | first LSN u64
//!       | records u32 | synced LSN u64 | crc32c of payload u32 | crc32c of these u32 | payload
//! ```
//! The salt is the segment's, so that no other bytes pass for a frame of it. The synced LSN
//! is what was safe when the frame was written: it tells a torn tail from damage. A frame without
//! records is a seal, it only says that.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use crate::id::Lsn;
use std::io::IoSlice;

/// Grows with every change of frames, records or definitions.
pub(super) const FORMAT_VERSION: u32 = 2;

pub(super) const FRAME_MAGIC: [u8; 4] = *b"LVfr";

pub(super) const FRAME_HEADER_LEN: usize = 48;

/// What precedes a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) payload_len: u32,
    /// The LSN of the first record, or of the next one to come.
    pub(super) first_lsn: Lsn,
    pub(super) records: u32,
    pub(super) synced_lsn: Lsn,
    pub(super) payload_crc: u32,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// They are none, or not any more.
    Damaged(&'static str),
    /// They are one, whole, of a version that we do not know.
    Version(u32),
}

impl FrameHeader {
    /// A header for a payload in these pieces.
    pub(super) fn new(
        first_lsn: Lsn,
        records: u64,
        synced_lsn: Lsn,
        pieces: &[IoSlice<'_>],
    ) -> Self {
        let payload_len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let crc = |crc, piece: &IoSlice<'_>| crc32c::crc32c_append(crc, piece);
        Self {
            payload_len: u32::try_from(payload_len).expect("a frame is far below 4 GiB"),
            first_lsn,
            records: u32::try_from(records).expect("a frame has far below 4 G records"),
            synced_lsn,
            payload_crc: pieces.iter().fold(0, crc),
        }
    }

    pub(super) fn encode(&self, salt: u64) -> [u8; FRAME_HEADER_LEN] {
        let mut out = Fields::new();
        out.put(&FRAME_MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&salt.to_le_bytes());
        out.put(&self.payload_len.to_le_bytes());
        out.put(&self.first_lsn.0.to_le_bytes());
        out.put(&self.records.to_le_bytes());
        out.put(&self.synced_lsn.0.to_le_bytes());
        out.put(&self.payload_crc.to_le_bytes());
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8; FRAME_HEADER_LEN], salt: u64) -> Result<Self, BadHeader> {
        let mut rest = bytes.as_slice();
        let damaged = BadHeader::Damaged("no frame begins here");
        if take(&mut rest) != Some(FRAME_MAGIC) {
            return Err(damaged);
        }
        let version = take(&mut rest).map(u32::from_le_bytes);
        if take(&mut rest).map(u64::from_le_bytes) != Some(salt) {
            return Err(damaged);
        }
        let differs = BadHeader::Damaged("the checksum of a frame's header differs");
        let version = version.filter(|_| sums_up(bytes)).ok_or(differs)?;
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        let mut header = || {
            Some(Self {
                payload_len: take(&mut rest).map(u32::from_le_bytes)?,
                first_lsn: take(&mut rest).map(u64::from_le_bytes).map(Lsn)?,
                records: take(&mut rest).map(u32::from_le_bytes)?,
                synced_lsn: take(&mut rest).map(u64::from_le_bytes).map(Lsn)?,
                payload_crc: take(&mut rest).map(u32::from_le_bytes)?,
            })
        };
        header().ok_or(differs)
    }

    /// Whether this segment's next frame began here once, be it damaged: of the four numbers that
    /// are known of it, one may differ. An earlier use of the file left other ones.
    pub(super) fn began(bytes: &[u8; FRAME_HEADER_LEN], salt: u64, first: Lsn) -> bool {
        let mut rest = bytes.as_slice();
        let same = [
            take(&mut rest) == Some(FRAME_MAGIC),
            take(&mut rest) == Some(FORMAT_VERSION.to_le_bytes()),
            take(&mut rest) == Some(salt.to_le_bytes()),
            take::<4>(&mut rest).is_some() && take(&mut rest) == Some(first.0.to_le_bytes()),
        ];
        same.into_iter().filter(|same| *same).count() + 1 >= same.len()
    }

    /// The LSN of the last record, or of the last before a seal.
    pub(super) fn last_lsn(&self) -> Option<Lsn> {
        let end = self.first_lsn.0.checked_add(self.records.into())?;
        end.checked_sub(1).map(Lsn)
    }
}

/// A header of `N` bytes that ends in its own checksum.
pub(super) struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Fields<N> {
    pub(super) fn new() -> Self {
        let bytes = [0; N];
        Self { bytes, at: 0 }
    }

    pub(super) fn put(&mut self, field: &[u8]) {
        let end = self.at + field.len();
        let place = self.bytes.get_mut(self.at..end);
        let place = place.expect("the header's length is the sum of its fields");
        place.copy_from_slice(field);
        self.at = end;
    }

    pub(super) fn finish(mut self) -> [u8; N] {
        let crc = crc32c::crc32c(self.bytes.get(..self.at).unwrap_or_default());
        self.put(&crc.to_le_bytes());
        self.bytes
    }
}

pub(super) fn sums_up(header: &[u8]) -> bool {
    let parts = header.split_last_chunk::<4>();
    parts.is_some_and(|(fields, crc)| crc32c::crc32c(fields) == u32::from_le_bytes(*crc))
}

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        let pieces = [IoSlice::new(b"ab"), IoSlice::new(b"c")];
        FrameHeader::new(Lsn(7), 2, Lsn(6), &pieces)
    }

    #[test]
    fn headers_come_back_and_sum_over_all_pieces() {
        let header = header();
        assert_eq!(header.payload_crc, crc32c::crc32c(b"abc"));
        assert_eq!(header.last_lsn(), Some(Lsn(8)));
        assert_eq!(FrameHeader::decode(&header.encode(5), 5), Ok(header));
    }

    #[test]
    fn no_flipped_bit_passes() {
        let frame = header().encode(5);
        for bit in 0..FRAME_HEADER_LEN * 8 {
            let mut flipped = frame;
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refusal = FrameHeader::decode(&flipped, 5);
            assert!(matches!(refusal, Err(BadHeader::Damaged(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_damaged_header_is_told_from_an_earlier_use_of_the_file() {
        let frame = header().encode(5);
        for bit in 0..FRAME_HEADER_LEN * 8 {
            let mut flipped = frame;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::began(&flipped, 5, Lsn(7)), "bit {bit}");
        }
        assert!(!FrameHeader::began(&header().encode(6), 5, Lsn(9)));
        assert!(!FrameHeader::began(&[0; FRAME_HEADER_LEN], 5, Lsn(7)));
    }

    #[test]
    fn another_files_frame_is_none_of_ours() {
        assert!(FrameHeader::decode(&header().encode(5), 6).is_err());
    }

    #[test]
    fn an_unknown_version_is_told_from_damage() {
        let mut frame = header().encode(5);
        frame[4] = 9;
        let crc = crc32c::crc32c(&frame[..FRAME_HEADER_LEN - 4]);
        frame[FRAME_HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FrameHeader::decode(&frame, 5), Err(BadHeader::Version(9)));
    }
}
