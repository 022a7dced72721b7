//! A segment, one file of the journal: its name and its header.
//!
//! ```text
//! file   = header | header again, in the next sector | frame*
//! header = magic 8 | format version u32 | number u64 | salt u64 | first LSN u64
//!        | previous segment u64 | its end u64 | own end u64 | crc32c of these u32
//!        | what frames near that end touched u64 | crc32c of all of these u32 | zeros to 512
//! ```
//! Any version ends its first fields in their checksum, so that a header of another one is told
//! from a damaged one.
//! A segment knows its own end only if it was compacted; then it is never replayed again.
//!
//! The salt is new with each use, so that nothing that was in the file before passes for a frame.
//! A header is written together with the first frame; until then both places are zero. It says
//! where the segment before it ends, so what lies behind that end is never read as a part of it.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::frame::{BadHeader, FORMAT_VERSION, Fields, sums_up, take};
use super::touches::Touches;
use crate::id::{Lsn, SegmentNo};

const MAGIC: [u8; 8] = *b"LEVERETJ";
const SECTOR: usize = 512;
/// With a checksum at its end.
const FIRST_LEN: usize = 64;
const COPY_LEN: usize = 76;

/// Frames begin here.
pub(super) const SEGMENT_HEADER_LEN: usize = 2 * SECTOR;

const NAME_PREFIX: &str = "segment-";
const INDEX_SUFFIX: &str = ".idx";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) number: SegmentNo,
    pub(super) salt: u64,
    /// The LSN of the first record.
    pub(super) first_lsn: Lsn,
    /// Zero if there was none.
    pub(super) previous: SegmentNo,
    /// Where the previous segment's last frame ends.
    pub(super) previous_end: u64,
    /// Where the last frame ends in a segment that was compacted; zero in any other.
    pub(super) end: u64,
    /// What the frames near the previous segment's end touched.
    pub(super) previous_touched: Touches,
}

impl SegmentHeader {
    pub(super) fn is_compacted(&self) -> bool {
        self.end > 0
    }

    /// Where the last frame ends, given where it ended when the segment was left.
    pub(super) fn end_now(&self, left_at: u64) -> u64 {
        if self.is_compacted() { self.end } else { left_at }
    }

    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = Fields::<FIRST_LEN>::new();
        out.put(&MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&self.number.0.to_le_bytes());
        out.put(&self.salt.to_le_bytes());
        out.put(&self.first_lsn.0.to_le_bytes());
        out.put(&self.previous.0.to_le_bytes());
        out.put(&self.previous_end.to_le_bytes());
        out.put(&self.end.to_le_bytes());
        let first = out.finish();
        let mut out = Fields::<COPY_LEN>::new();
        out.put(&first);
        out.put(&self.previous_touched.bits().to_le_bytes());
        let copy = out.finish();
        let mut header = [0; SEGMENT_HEADER_LEN];
        for sector in header.chunks_mut(SECTOR) {
            sector.iter_mut().zip(copy).for_each(|(to, from)| *to = from);
        }
        header
    }

    /// Reads the header from either place. `None` if the segment was never used.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, BadHeader> {
        let (Some(first), Some(second)) = (sector(bytes, 0), sector(bytes, 1)) else {
            // Its first write did not get far, and never became safe.
            return Ok(None);
        };
        let copies = (Self::decode_copy(first), Self::decode_copy(second));
        match copies {
            (Ok(header), _) | (_, Ok(header)) => Ok(Some(header)),
            // One bit in a file that waits to be used hurts nobody.
            _ if is_blank(first) || is_blank(second) => Ok(None),
            (Err(bad), Err(_)) => Err(bad),
        }
    }

    /// Where the places begin that do not hold the header.
    pub(super) fn bad_copies(bytes: &[u8]) -> Vec<u64> {
        let copy = |nth| sector(bytes, nth).is_some_and(|it| Self::decode_copy(it).is_ok());
        (0..2).filter(|nth| !copy(*nth)).map(|nth| (nth * SECTOR) as u64).collect()
    }

    fn decode_copy(sector: &[u8; SECTOR]) -> Result<Self, BadHeader> {
        let differs = BadHeader::Damaged("the checksum of the segment's header differs");
        let copy = sector.first_chunk::<COPY_LEN>().ok_or(differs)?;
        let mut rest = copy.as_slice();
        if take(&mut rest) != Some(MAGIC) {
            return Err(BadHeader::Damaged("this is not a segment of a journal"));
        }
        let version = take(&mut rest).map(u32::from_le_bytes).ok_or(differs)?;
        if !copy.first_chunk::<FIRST_LEN>().is_some_and(|first| sums_up(first)) {
            return Err(differs);
        }
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        if !sums_up(copy) {
            return Err(differs);
        }
        let mut header = || {
            Some(Self {
                number: SegmentNo(take(&mut rest).map(u64::from_le_bytes)?),
                salt: take(&mut rest).map(u64::from_le_bytes)?,
                first_lsn: Lsn(take(&mut rest).map(u64::from_le_bytes)?),
                previous: SegmentNo(take(&mut rest).map(u64::from_le_bytes)?),
                previous_end: take(&mut rest).map(u64::from_le_bytes)?,
                end: take(&mut rest).map(u64::from_le_bytes)?,
                previous_touched: take::<4>(&mut rest)
                    .and_then(|_| take(&mut rest))
                    .map(u64::from_le_bytes)
                    .map(Touches::from_bits)?,
            })
        };
        header().ok_or(differs)
    }
}

fn sector(bytes: &[u8], nth: usize) -> Option<&[u8; SECTOR]> {
    bytes.get(nth * SECTOR..)?.first_chunk()
}

fn is_blank(sector: &[u8; SECTOR]) -> bool {
    sector.iter().all(|byte| *byte == 0)
}

/// The name of a segment's file.
pub(super) fn file_name(number: SegmentNo) -> String {
    format!("{NAME_PREFIX}{:010}", number.0)
}

/// The name of the file with a segment's index.
pub(super) fn index_name(number: SegmentNo) -> String {
    format!("{}{INDEX_SUFFIX}", file_name(number))
}

/// The number of the segment whose index has this name.
pub(super) fn indexed(file: &str) -> Option<SegmentNo> {
    number_of(file.strip_suffix(INDEX_SUFFIX)?)
}

/// The number of the segment whose file has this name.
pub(super) fn number_of(file: &str) -> Option<SegmentNo> {
    let number = SegmentNo(file.strip_prefix(NAME_PREFIX)?.parse().ok()?);
    (file_name(number) == file).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::QueueId;

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: SegmentNo(3),
            salt: 5,
            first_lsn: Lsn(70),
            previous: SegmentNo(2),
            previous_end: 4096,
            end: 0,
            previous_touched: Touches::queue(QueueId(9)),
        }
    }

    #[test]
    fn a_header_comes_back_from_either_place() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(Some(header())));
        for bit in 0..SEGMENT_HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&flipped), Ok(Some(header())), "bit {bit}");
        }
        let mut lost = bytes;
        lost[0] ^= 1;
        lost[SECTOR + 9] ^= 1;
        assert!(matches!(SegmentHeader::decode(&lost), Err(BadHeader::Damaged(_))));
    }

    #[test]
    fn an_unused_segment_is_told_from_a_damaged_one() {
        let mut zeros = [0; SEGMENT_HEADER_LEN];
        assert_eq!(SegmentHeader::decode(&zeros), Ok(None));
        assert_eq!(SegmentHeader::decode(&[]), Ok(None));
        zeros[7] = 1;
        assert_eq!(SegmentHeader::decode(&zeros), Ok(None));
        zeros[SECTOR] = 1;
        assert!(SegmentHeader::decode(&zeros).is_err());
    }

    #[test]
    fn names_are_numbers_and_nothing_else_is_a_name() {
        let name = file_name(SegmentNo(12));
        assert_eq!(name, "segment-0000000012");
        assert_eq!(number_of(&name), Some(SegmentNo(12)));
        for other in ["segment-12", "segment-+000000012", "segment-0000000012.idx", "lock"] {
            assert_eq!(number_of(other), None, "{other}");
        }
        assert_eq!(indexed(&index_name(SegmentNo(12))), Some(SegmentNo(12)));
        assert_eq!((indexed(&name), indexed("segment-12.idx")), (None, None));
    }
}
