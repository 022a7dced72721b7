//! What an operator gives up so that a damaged journal can be used again: places that no start
//! passes over, since nobody could hold whom they may have hit.

use super::disk::Disk;
use super::entries::Complete;
use super::error::StoreError;
use super::gap::{self, Found, Gap};
use super::replay::Replay;
use super::scan::{self, Scan};
use super::segment::{SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use super::touches::Touches;
use crate::id::{Lsn, SegmentNo};
use std::fmt::Write as _;

/// Names that one line has, at most.
const NAMES_MAX: usize = 10;

/// What to do about damage at which a start is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Refused,
    Accepted,
}

/// One place.
#[derive(Clone, Debug)]
pub(super) struct GivenUp {
    pub(super) segment: SegmentNo,
    /// Its file is there, and has something else that counts.
    pub(super) is_there: bool,
    /// For an operator.
    pub(super) what: String,
}

impl GivenUp {
    /// A place within a segment, and whom it may have hit.
    pub(super) fn gap(found: &Found, replay: &Replay) -> Self {
        let Found { gap, touches, why } = found;
        let Gap { segment, damaged_at, first, last, .. } = *gap;
        let mut what = format!("{} at byte {damaged_at}: {why}; ", file_name(segment));
        let _ = write!(what, "records {first} to {last} are lost{}", named(*touches, replay));
        Self { segment, is_there: true, what }
    }

    /// A segment whose file is not there, with all its records.
    pub(super) fn missing(segment: SegmentNo, first: Lsn, last: Lsn) -> Self {
        let file = file_name(segment);
        let what = format!(
            "{file} is not there: records {first} to {last} are lost, of whatever queue, delayed \
             message or definition"
        );
        Self { segment, is_there: false, what }
    }

    /// One that a checkpoint knows, and in which messages lived.
    pub(super) fn unsettled(segment: SegmentNo) -> Self {
        let file = file_name(segment);
        let what =
            format!("{file} is not there: the messages in it that were not settled are lost");
        Self { segment, is_there: false, what }
    }

    /// A place of a segment that a checkpoint knows.
    fn old(gap: &Gap, why: &str) -> Self {
        let Gap { segment, damaged_at, end, .. } = *gap;
        let what = format!(
            "{} at byte {damaged_at}: {why}; the messages up to byte {end} are lost",
            file_name(segment)
        );
        Self { segment, is_there: true, what }
    }
}

/// Whom records may name, as far as a line goes.
fn named(touches: Touches, replay: &Replay) -> String {
    let mut text = String::new();
    let queues = replay.definitions.queues().filter(|(id, _)| touches.meets(Touches::queue(*id)));
    let mut names: Vec<_> = queues
        .map(|(id, queue)| {
            let kind = if id.is_timed() { "delayed messages of exchange" } else { "queue" };
            format!("{kind} '{}' in vhost '{}'", queue.name, queue.vhost)
        })
        .collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    if touches.meets(Touches::DEFINITIONS) {
        names.push("definitions".to_owned());
    }
    if !names.is_empty() {
        let _ = write!(text, ", which may be of: {}", names.join(", "));
    }
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// The gaps of a segment that no start replays, those that were known among them, and what is new
/// of it.
///
/// # Errors
/// The disk's.
pub(super) fn survey(
    disk: &dyn Disk,
    header: &SegmentHeader,
    complete: Complete,
    known: &[Gap],
) -> Result<(Vec<Gap>, Vec<GivenUp>), StoreError> {
    let (segment, end) = (header.number, header.end_now(complete.end));
    let (mut gaps, mut given_up) = (Vec::new(), Vec::new());
    if scan::whole(disk, *header, end, known, &mut |_| Ok(())).is_ok() {
        return Ok((known.to_vec(), given_up));
    }
    let mut scan = Scan::new(disk, file_name(segment), *header, end)?;
    let mut offset = SEGMENT_HEADER_LEN as u64;
    let mut last_lsn = Lsn(header.first_lsn.0.saturating_sub(1));
    while offset < end {
        let known = known.iter().find(|gap| gap.offset == offset && gap.end > offset).copied();
        let none = match scan.frame(offset, last_lsn)? {
            _ if known.is_some() => None,
            Ok(frame) => {
                (offset, last_lsn.0) = (frame.end(), last_lsn.0 + u64::from(frame.header.records));
                continue;
            }
            Err(none) => Some(none),
        };
        let gap = match (known, none) {
            (None, Some(none)) => {
                let found = gap::find(&mut scan, offset, last_lsn, None, &none)?;
                let rest = Gap {
                    segment,
                    offset,
                    damaged_at: none.at,
                    end,
                    first: Lsn(last_lsn.0 + 1),
                    last: complete.last_lsn.max(last_lsn),
                };
                let gap = found.map_or(rest, |found| found.gap);
                given_up.push(GivenUp::old(&gap, none.why));
                gap
            }
            (Some(known), _) => known,
            (None, None) => return Ok((gaps, given_up)),
        };
        (offset, last_lsn) = (gap.end, gap.last);
        gaps.push(gap);
    }
    Ok((gaps, given_up))
}
