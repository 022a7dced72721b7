//! A place in a segment that cannot be read though it was safely stored, and what lies behind it.
//!
//! ```text
//! frame | damaged ... damaged | frame that begins a record | ...
//!       └─ gap: offset .. end, LSNs first .. last ─┘
//! ```
//! A frame whose header is whole says where the next one begins and what it touched. Where one is
//! not, the next whole header of the segment is looked for: it says what was touched near before.
//! At the end of a segment the next one's header does.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::error::StoreError;
use super::frame::FRAME_HEADER_LEN;
use super::scan::{NoFrame, Scan};
use super::segment::{self, SegmentHeader};
use super::touches::{Touches, reach_of};
use crate::id::{Lsn, SegmentNo};
use serde::{Deserialize, Serialize};

/// Bytes of a segment that a start passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Gap {
    pub segment: SegmentNo,
    /// Where its first frame begins.
    pub offset: u64,
    /// Where the frame begins that cannot be read: that one, or a later one of the same record.
    pub damaged_at: u64,
    /// Where the next frame that can be read begins, or where the segment ends.
    pub end: u64,
    /// The first record that is lost, and the last: before the first if none is.
    pub first: Lsn,
    pub last: Lsn,
}

impl Gap {
    /// The segment's file, within the data directory.
    #[must_use]
    pub fn file(&self) -> String {
        segment::file_name(self.segment)
    }

    /// No record lies in it: it was a seal.
    pub(super) fn is_harmless(&self) -> bool {
        self.last < self.first
    }

    /// More than the messages of which any queue can have lost a record here.
    pub(super) fn len(&self) -> u64 {
        self.end.saturating_sub(self.offset)
    }

    /// What is lost, for an operator.
    #[must_use]
    pub fn loss(&self) -> String {
        if self.is_harmless() {
            return "no record is lost".to_owned();
        }
        let Self { end, first, last, .. } = self;
        format!("records {first} to {last}, up to byte {end}, were safely stored and are lost")
    }
}

/// A gap, and whom the records in it may name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) gap: Gap,
    pub(super) touches: Touches,
    /// Why the frame cannot be read.
    pub(super) why: &'static str,
}

/// Looks behind `offset`, where no frame can be read, for one that can and that begins a record
/// behind `last_lsn`. `next` is the segment's successor, and `none` says why there is no frame.
/// `None` if there is nothing to go on with.
pub(super) fn find(
    scan: &mut Scan<'_>,
    offset: u64,
    last_lsn: Lsn,
    next: Option<&SegmentHeader>,
    none: &NoFrame,
) -> Result<Option<Found>, StoreError> {
    let segment = scan.segment();
    let first = Lsn(last_lsn.0.saturating_add(1));
    let found = |touches, end, next: Lsn| {
        let (damaged_at, last) = (none.at, Lsn(next.0.saturating_sub(1)));
        let gap = Gap { segment, offset, damaged_at, end, first, last };
        let touches = if gap.is_harmless() { Touches::NONE } else { touches };
        Some(Found { gap, touches, why: none.why })
    };
    let (mut touches, mut expected, mut at) = (Touches::NONE, first, offset);
    while let Some((header_at, header)) = scan.next_header(at, expected)? {
        let is_seen = header_at == at && header.first_lsn == expected;
        touches.add(between(is_seen, at, header_at, header.touched_before));
        let before = Lsn(header.first_lsn.0.saturating_sub(1));
        if header_at > offset && scan.frame(header_at, before)?.is_ok() {
            return Ok(found(touches, header_at, header.first_lsn));
        }
        touches.add(header.touches);
        expected = Lsn(header.first_lsn.0.saturating_add(header.records.into()));
        at = header_at + FRAME_HEADER_LEN as u64 + u64::from(header.payload_len);
    }
    let Some(next) = next.filter(|next| next.first_lsn >= expected && next.previous_end >= at)
    else {
        return Ok(None);
    };
    let end = next.previous_end;
    let is_seen = end == at && next.first_lsn == expected;
    touches.add(between(is_seen, at, end, next.previous_touched));
    Ok(found(touches, end, next.first_lsn))
}

/// What lies between two places was touched, where the second states what was touched near before
/// it: nothing if all of it was seen, and nobody knows if it begins too far before.
fn between(is_seen: bool, from: u64, to: u64, touched_before: Touches) -> Touches {
    match is_seen {
        true => Touches::NONE,
        // Frames must have been here, and the place has no room for them.
        false if from == to || from < reach_of(to) => Touches::ALL,
        false => touched_before,
    }
}
