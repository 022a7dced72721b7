//! What a start passes over, and which queues it holds for that.

use super::{Check, Severity};
use crate::id::SegmentNo;
use crate::store::gap::{Found, Gap};
use crate::store::held;
use crate::store::replay::Replay;
use std::collections::BTreeMap;

impl Check<'_> {
    /// Each gap, be it known from before, and each queue that is held.
    pub(super) fn held(&mut self, replay: &Replay, gaps: &BTreeMap<SegmentNo, Vec<Gap>>) {
        for gap in gaps.values().flatten() {
            let is_held = replay.definitions.held().any(|(_, _, held)| held == gap);
            let severity = if is_held { Severity::Held } else { Severity::Note };
            let found = replay.gaps.iter().find(|found| found.gap == *gap);
            let why = found.map_or("it could not be read at an earlier start", |it| it.why);
            let what = format!("{why}; {}", gap.loss());
            self.find(severity, &gap.file(), Some(gap.damaged_at), &what);
        }
        for (Found { gap, .. }, what) in held::forgetful(replay) {
            self.find(Severity::Held, &gap.file(), Some(gap.damaged_at), &what);
        }
        for (_, queue, gap) in replay.definitions.held() {
            let is_replayed = replay.gaps.iter().any(|found| found.gap == *gap);
            let what = held::sentence(&queue.vhost, &queue.name, is_replayed);
            self.find(Severity::Held, &gap.file(), Some(gap.damaged_at), &what);
        }
    }
}
