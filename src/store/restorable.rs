//! Gaps that the file's return from a copy would still fill: a start found them in what it
//! replayed, and queues are held for them. A checkpoint would make the next start begin behind
//! them, so none is made, not by a clean stop either, until the queues are released or the journal
//! has grown by a bound.

use super::checkpoint::Source;
use super::disk::Disk;
use super::error::StoreError;
use super::gap::Gap;
use super::journal::Journal;
use super::recovery::Replayed;
use crate::limits::GAP_SEGMENTS_MAX;
use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Restorable {
    gaps: Mutex<Vec<Gap>>,
    /// The journal may grow by so many bytes before a checkpoint passes them.
    spare_bytes: u64,
    segment_bytes: u64,
}

impl Restorable {
    pub(super) fn after(replayed: &Replayed, segment_bytes: u64) -> Self {
        let definitions = &replayed.replay.definitions;
        let found = replayed.replay.gaps.iter().map(|found| found.gap);
        let gaps: Vec<_> =
            found.filter(|gap| definitions.held().any(|(_, _, held)| held == gap)).collect();
        let behind = gaps.first().map_or(0, |first| {
            replayed.segments.range(first.segment..).map(|(_, complete)| complete.end).sum()
        });
        let bound = segment_bytes.saturating_mul(GAP_SEGMENTS_MAX);
        // However often it is started, each broker leaves time to look.
        let spare_bytes = bound.saturating_sub(behind).max(segment_bytes);
        Self { gaps: Mutex::new(gaps), spare_bytes, segment_bytes }
    }

    /// The file of this gap may still come back, until the journal has grown by so many bytes since
    /// the start. `None` if a checkpoint has passed it, or may do so now.
    pub(super) fn spare_bytes(&self, gap: &Gap) -> Option<u64> {
        self.gaps.lock().contains(gap).then_some(self.spare_bytes)
    }

    /// Whether a checkpoint has to wait. Once it has not, none does any more.
    pub(super) fn hinders(
        &self,
        disk: &dyn Disk,
        journal: &Journal,
        source: &dyn Source,
    ) -> Result<bool, StoreError> {
        let mut gaps = self.gaps.lock().clone();
        if gaps.is_empty() {
            return Ok(false);
        }
        gaps.retain(|gap| source.is_held_for(gap));
        let grown: u64 = journal.extents().iter().map(|(_, end)| *end).sum();
        // Without a checkpoint no room comes back.
        let has_room = disk.room()?.is_none_or(|room| room / 2 >= self.segment_bytes);
        if !gaps.is_empty()
            && (grown > self.spare_bytes || !has_room || journal.has_many_definitions())
        {
            tracing::warn!(
                "a checkpoint passes the damage for which queues are held: from now on a file that \
                 is restored brings nothing back for them"
            );
            gaps.clear();
        }
        let hinders = !gaps.is_empty();
        *self.gaps.lock() = gaps;
        Ok(hinders)
    }
}

/// A length for an operator.
pub(super) fn length(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib => format!("{mib} MiB"),
    }
}
