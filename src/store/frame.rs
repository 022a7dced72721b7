//! Frames, in which records lie in a segment: fixed numbers, little-endian.
//!
//! ```text
//! frame = magic u32 | format version u32 | salt u64 | payload length u32 | before u32 | left u32
//!       | first LSN u64 | records u32 | synced LSN u64 | touches u64 | touched before u64
//!       | crc32c of payload u32 | crc32c of these u32 | payload
//! run   = frame with bytes left, no record* | frame with bytes before and none left, 1 record
//! ```
//! A payload has a bound. A record that is longer is a run of frames, one behind the other in one
//! segment, each of which says how many bytes of it came before and how many are left. The record
//! is there with the last of them, and nothing of it without.
//!
//! The salt is the segment's, so that no other bytes pass for a frame of it. The synced LSN
//! is what was safe when the frame was written: it tells a torn tail from damage. A frame without
//! records is a seal, it only says that. What the frame touches, and what those near before it do,
//! are masks of `touches`: they say whom damage can have hit.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::touches::Touches;
use crate::id::Lsn;
use crate::limits::FRAME_BYTES;
use std::io::IoSlice;

/// Grows with every change of frames, records or definitions.
pub(super) const FORMAT_VERSION: u32 = 3;

pub(super) const FRAME_MAGIC: [u8; 4] = *b"LVfr";

pub(super) const FRAME_HEADER_LEN: usize = 72;

/// What precedes a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) payload_len: u32,
    /// Bytes of this frame's record that the frames before hold; zero if it begins here.
    pub(super) before: u32,
    /// Bytes of it that follow in the next frames; zero if it ends here.
    pub(super) left: u32,
    /// The LSN of the first record, or of the next one to come.
    pub(super) first_lsn: Lsn,
    pub(super) records: u32,
    pub(super) synced_lsn: Lsn,
    /// What its records name; for a part of a record, what all of that names.
    pub(super) touches: Touches,
    /// The same of the frames near before it, in this segment.
    pub(super) touched_before: Touches,
    pub(super) payload_crc: u32,
}

/// A frame that is whole, and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub(super) header: FrameHeader,
    /// Of the header, in the segment's file.
    pub(super) offset: u64,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    pub(super) fn payload_offset(&self) -> u64 {
        self.offset + FRAME_HEADER_LEN as u64
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> u64 {
        self.payload_offset() + self.payload.len() as u64
    }
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
    /// A header for a payload in these pieces, of records that begin and end in it.
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
            before: 0,
            left: 0,
            first_lsn,
            records: u32::try_from(records).expect("a frame has far below 4 G records"),
            synced_lsn,
            touches: Touches::NONE,
            touched_before: Touches::NONE,
            payload_crc: pieces.iter().fold(0, crc),
        }
    }

    /// The same for records that touch this, behind frames that touched that.
    pub(super) fn touching(self, touches: Touches, touched_before: Touches) -> Self {
        Self { touches, touched_before, ..self }
    }

    /// The same for a part of a record, which has this many bytes in other frames.
    pub(super) fn part(self, before: usize, left: usize) -> Self {
        let [before, left] = [before, left].map(u32::try_from);
        let expected = "a record is below 4 GiB";
        Self { before: before.expect(expected), left: left.expect(expected), ..self }
    }

    /// Whether the frame behind `previous` goes on with its record.
    pub(super) fn goes_on(&self, previous: &Self) -> bool {
        let through = previous.before.checked_add(previous.payload_len);
        let left = self.payload_len.checked_add(self.left);
        let ends = u32::from(self.left == 0);
        (through, left, ends) == (Some(self.before), Some(previous.left), self.records)
            && self.payload_len > 0
    }

    pub(super) fn encode(&self, salt: u64) -> [u8; FRAME_HEADER_LEN] {
        let mut out = Fields::new();
        out.put(&FRAME_MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&salt.to_le_bytes());
        out.put(&self.payload_len.to_le_bytes());
        out.put(&self.before.to_le_bytes());
        out.put(&self.left.to_le_bytes());
        out.put(&self.first_lsn.0.to_le_bytes());
        out.put(&self.records.to_le_bytes());
        out.put(&self.synced_lsn.0.to_le_bytes());
        out.put(&self.touches.bits().to_le_bytes());
        out.put(&self.touched_before.bits().to_le_bytes());
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
                before: take(&mut rest).map(u32::from_le_bytes)?,
                left: take(&mut rest).map(u32::from_le_bytes)?,
                first_lsn: take(&mut rest).map(u64::from_le_bytes).map(Lsn)?,
                records: take(&mut rest).map(u32::from_le_bytes)?,
                synced_lsn: take(&mut rest).map(u64::from_le_bytes).map(Lsn)?,
                touches: take(&mut rest).map(u64::from_le_bytes).map(Touches::from_bits)?,
                touched_before: take(&mut rest).map(u64::from_le_bytes).map(Touches::from_bits)?,
                payload_crc: take(&mut rest).map(u32::from_le_bytes)?,
            })
        };
        let header = header().ok_or(differs)?;
        if header.payload_len as usize > FRAME_BYTES {
            return Err(BadHeader::Damaged("a frame is longer than any that is written"));
        }
        Ok(header)
    }

    /// As `decode`, for whoever knows from elsewhere that a frame of the segment is here.
    pub(super) fn decode_known(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<Self, BadHeader> {
        let mut rest = bytes.as_slice();
        let salt = take::<8>(&mut rest).and_then(|_| take(&mut rest)).map(u64::from_le_bytes);
        Self::decode(bytes, salt.unwrap_or_default())
    }

    /// Whether this segment's next frame began here once, be it damaged: of the four numbers that
    /// are known of it, one may differ. An earlier use of the file left other ones.
    pub(super) fn began(bytes: &[u8; FRAME_HEADER_LEN], salt: u64, first: Lsn) -> bool {
        let mut rest = bytes.as_slice();
        let same = [
            take(&mut rest) == Some(FRAME_MAGIC),
            take(&mut rest) == Some(FORMAT_VERSION.to_le_bytes()),
            take(&mut rest) == Some(salt.to_le_bytes()),
            take::<12>(&mut rest).is_some() && take(&mut rest) == Some(first.0.to_le_bytes()),
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
        let header = FrameHeader::new(Lsn(7), 2, Lsn(6), &pieces);
        header.touching(Touches::from_bits(5), Touches::from_bits(1 << 40))
    }

    #[test]
    fn headers_come_back_and_sum_over_all_pieces() {
        let header = header();
        assert_eq!(header.payload_crc, crc32c::crc32c(b"abc"));
        assert_eq!(header.last_lsn(), Some(Lsn(8)));
        assert_eq!(FrameHeader::decode(&header.encode(5), 5), Ok(header));
        assert_eq!(FrameHeader::decode_known(&header.encode(5)), Ok(header));
        let part = FrameHeader { records: 0, ..header.part(5, 9) };
        assert_eq!(FrameHeader::decode(&part.encode(5), 5), Ok(part));
    }

    #[test]
    fn a_frame_goes_on_with_a_record_only_where_the_one_before_it_stopped() {
        let header = |records, before, left| FrameHeader { records, ..header().part(before, left) };
        let first = header(0, 0, 9);
        assert!(header(0, 3, 6).goes_on(&first) && header(1, 6, 0).goes_on(&header(0, 3, 3)));
        let others = [header(0, 3, 5), header(0, 6, 6), header(1, 3, 6), header(2, 6, 0), first];
        assert!(others.iter().all(|other| !other.goes_on(&first)));
        assert!(!FrameHeader { payload_len: 0, ..header(0, 3, 9) }.goes_on(&first));
    }

    #[test]
    fn no_number_makes_a_reader_take_more_than_a_frame_may_have() {
        let payload_len = u32::try_from(FRAME_BYTES).unwrap();
        let longest = FrameHeader { payload_len, ..header() };
        assert_eq!(FrameHeader::decode(&longest.encode(5), 5), Ok(longest));
        let longer = FrameHeader { payload_len: payload_len + 1, ..header() };
        let refusal = FrameHeader::decode(&longer.encode(5), 5);
        assert!(matches!(refusal, Err(BadHeader::Damaged(_))), "{refusal:?}");
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
