//! Which segments are compacted, and when: those that a few old messages keep.
//!
//! ```text
//! a checkpoint is finished ── much more room is taken than lives ── weigh the old segments
//!     ── free those in which nothing lives ── rewrite the emptiest, one at a time
//! ```
//! What lives is what the catalogue of the last finished checkpoint says: it only gets less. No
//! segment is touched that could be replayed, from that checkpoint or from the snapshot. The
//! catalogue goes on saying where a segment ended when it was left; a compacted one says itself
//! where it ends, so it does not matter which of the two a crash leaves.

use super::Options;
use super::base::Base;
use super::checkpoint::{Checkpointer, Source};
use super::contents::Contents;
use super::disk::Disk;
use super::entries::Complete;
use super::error::StoreError;
use super::journal::Journal;
use super::rewrite::{self, Rewrite};
use super::run_set::RunSet;
use super::scan;
use super::segment::{SEGMENT_HEADER_LEN, file_name};
use super::writer::mix;
use crate::id::{QueueId, SegmentNo, Seq};
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::mem;

/// What a record takes beside its body, at most, for an estimate.
const RECORD_BYTES: u64 = 256;

const HEADER_BYTES: u64 = SEGMENT_HEADER_LEN as u64;

pub(super) struct Compaction {
    salt: u64,
    segment_bytes: u64,
    frame_bytes: usize,
    slack_segments: u64,
    /// A checkpoint was finished, or somebody looked, and not all was done since.
    is_due: bool,
    /// The catalogue is that of a checkpoint that this broker finished.
    is_finished: bool,
    /// Little was written between the last two looks.
    is_calm: bool,
    /// Bytes the journal had written at the last look; more than it can write before the first.
    written: u64,
    /// Dead bytes that looks saw, and could not get rid of.
    waste: u64,
    weighed: Option<Weighed>,
    /// Nothing in them lives: the next checkpoint gives them up.
    emptied: Vec<SegmentNo>,
    /// Segments that turned out not to be worth it, and what lived in them then.
    dense: HashMap<SegmentNo, u64>,
}

/// What the last finished checkpoint says of the segments that may be compacted.
struct Weighed {
    live: HashMap<QueueId, RunSet>,
    segments: BTreeMap<SegmentNo, Weight>,
}

#[derive(Clone, Copy, Debug)]
struct Weight {
    /// Of its file.
    len: u64,
    /// Bytes that live, about.
    live: u64,
}

impl Weight {
    /// A compacted file that is longer is not worth it: half of what is behind the header.
    fn len_max(self) -> u64 {
        u64::midpoint(self.len, HEADER_BYTES)
    }
}

impl Compaction {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            salt: options.salt,
            segment_bytes: options.segment_bytes,
            frame_bytes: options.frame_bytes,
            slack_segments: options.slack_segments,
            is_due: false,
            is_finished: false,
            is_calm: false,
            written: u64::MAX,
            waste: 0,
            weighed: None,
            emptied: Vec::new(),
            dense: HashMap::new(),
        }
    }

    /// The catalogue changes: what it said is not asked any more.
    pub(super) fn forget(&mut self) {
        (self.is_due, self.is_finished) = (false, false);
        self.weighed = None;
    }

    /// A checkpoint is finished.
    pub(super) fn due(&mut self) {
        (self.is_due, self.is_finished) = (true, true);
    }

    pub(super) fn take_emptied(&mut self) -> Vec<SegmentNo> {
        mem::take(&mut self.emptied)
    }

    /// Cuts what was prepared for segments that were left early.
    pub(super) fn trim(
        &self,
        disk: &dyn Disk,
        contents: &Contents,
        left: &[(SegmentNo, Complete)],
    ) -> Result<(), StoreError> {
        for (number, complete) in left {
            // A file that is nearly full is worth more as it is: it can be used again.
            if complete.end < self.segment_bytes / 2 && contents.has(*number) {
                disk.truncate(&file_name(*number), complete.end)?;
            }
        }
        Ok(())
    }

    /// Bytes that may be taken beyond twice those that live.
    fn slack(&self) -> u64 {
        let segments = if self.is_calm { self.slack_segments.min(1) } else { self.slack_segments };
        segments * self.segment_bytes
    }

    /// Bytes of segments beyond twice those that live, but not of those that are given up.
    fn waste(&self, disk: &dyn Disk, contents: &Contents, live: u64) -> Result<u64, StoreError> {
        let mut taken = 0;
        for (number, _) in contents.segments() {
            if !self.emptied.contains(&number) {
                taken += disk.len(&file_name(number))?;
            }
        }
        Ok(u64::saturating_sub(taken, 2 * live))
    }

    /// The segment that is the cheapest to compact.
    fn emptiest(&self) -> Option<(SegmentNo, Weight)> {
        let is_dense = |number: &SegmentNo, live: u64| {
            self.dense.get(number).is_some_and(|before| live > before / 2)
        };
        let segments = self.weighed.iter().flat_map(|weighed| &weighed.segments);
        let thin = segments.filter(|(_, weight)| weight.live + HEADER_BYTES <= weight.len_max());
        let worth = thin.filter(|(number, weight)| !is_dense(number, weight.live));
        let emptiest = worth.min_by_key(|(_, weight)| weight.live);
        emptiest.map(|(number, weight)| (*number, *weight))
    }
}

impl Checkpointer {
    /// Looks how much is dead, from time to time. True if a checkpoint should be made now, since
    /// nothing else would ever bring one.
    pub(super) fn look(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        source: &dyn Source,
    ) -> Result<bool, StoreError> {
        let compaction = &mut self.compaction;
        let written = journal.counters().bytes.get();
        let segment_bytes = compaction.segment_bytes;
        let since = written.checked_sub(compaction.written);
        compaction.is_calm = since.is_some_and(|bytes| bytes < segment_bytes / 8);
        compaction.written = written;
        // Less slack may be left to it now than when it stopped.
        compaction.is_due |= compaction.is_finished;
        let waste = compaction.waste(disk, contents, source.live_bytes())?;
        compaction.waste = compaction.waste.min(waste);
        if waste <= compaction.slack() {
            return Ok(!compaction.emptied.is_empty());
        }
        if compaction.is_calm {
            journal.drop_spares(disk)?;
        }
        // What a checkpoint did not make less, the next one does not either.
        if waste < compaction.waste + segment_bytes / 2 && compaction.emptied.is_empty() {
            return Ok(false);
        }
        compaction.waste = waste;
        self.want_snapshot();
        Ok(true)
    }

    /// Compacts one segment if that pays. True if it did, and more may follow.
    pub(super) fn compact(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        source: &dyn Source,
    ) -> Result<bool, StoreError> {
        if !self.compaction.is_due {
            return Ok(false);
        }
        let done = self.compact_one(disk, journal, contents, source);
        if !matches!(done, Ok(true)) {
            self.compaction.is_due = false;
        }
        done
    }

    fn compact_one(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        source: &dyn Source,
    ) -> Result<bool, StoreError> {
        let live = source.live_bytes();
        if journal.error().is_some()
            || self.compaction.waste(disk, contents, live)? <= self.compaction.slack()
        {
            return Ok(false);
        }
        if self.compaction.weighed.is_none() && !self.weigh(disk, contents)? {
            return Ok(false);
        }
        // Segments in which nothing lives may have changed the answer.
        if self.compaction.waste(disk, contents, live)? <= self.compaction.slack() {
            return Ok(false);
        }
        let Some((number, weight)) = self.compaction.emptiest() else { return Ok(false) };
        self.compaction.rewrite(disk, contents, number, weight)?;
        Ok(true)
    }

    /// Finds out what lives in each segment that may be compacted. False if nobody can say.
    fn weigh(&mut self, disk: &dyn Disk, contents: &Contents) -> Result<bool, StoreError> {
        let Some((catalogue, meta, below)) = self.finished() else { return Ok(false) };
        let base = Base::read(|kind, each| catalogue.scan(kind, each));
        let base = match base {
            Ok(Some(base)) if base.meta == meta => base,
            Ok(_) => {
                self.abandon(disk, &"it is not as the last checkpoint left it")?;
                return Ok(false);
            }
            Err(error) => {
                self.abandon(disk, &error)?;
                return Ok(false);
            }
        };
        let Base { definitions, standings, .. } = base;
        let standings = standings.into_iter();
        let there = standings.filter(|(id, _)| definitions.queue(*id).is_some());
        let live = there.map(|(id, standing)| (id, standing.live)).collect();
        let mut weighed = Weighed { live, segments: BTreeMap::new() };
        let mut emptied = Vec::new();
        let gaps = contents.gaps();
        for (number, complete) in contents.segments() {
            if number < below {
                match weighed.weight(disk, contents, number, complete)? {
                    // It cannot be read through; it goes once nothing in it lives.
                    Some(_) if gaps.contains_key(&number) => {}
                    Some(weight) => drop(weighed.segments.insert(number, weight)),
                    None => emptied.push(number),
                }
            }
        }
        self.compaction.dense.retain(|number, _| weighed.segments.contains_key(number));
        self.compaction.emptied = emptied;
        self.compaction.weighed = Some(weighed);
        Ok(true)
    }
}

impl Weighed {
    /// `None` if nothing in the segment lives.
    fn weight(
        &self,
        disk: &dyn Disk,
        contents: &Contents,
        segment: SegmentNo,
        complete: Complete,
    ) -> Result<Option<Weight>, StoreError> {
        let len = disk.len(&file_name(segment))?;
        let (mut all, mut live) = ((0, 0), (0, 0));
        for tally in contents.tally(disk, segment)? {
            all = (all.0 + tally.count, all.1 + tally.bytes);
            let Some(standing) = self.live.get(&tally.queue) else { continue };
            let runs: Vec<(Seq, Seq)> = standing.within(tally.first, tally.last).collect();
            let (count, bytes) = contents.live(disk, segment, tally.queue, &runs)?;
            live = (live.0 + count, live.1 + bytes);
        }
        if live.0 == 0 {
            return Ok(None);
        }
        // A message for many queues counts many times, and a segment may hold more than messages.
        let size = |(count, bytes): (u64, u64)| bytes + count * RECORD_BYTES;
        let share = u128::from(len.min(complete.end)) * u128::from(size(live));
        let share = share / u128::from(size(all).max(1));
        let live = size(live).min(u64::try_from(share).unwrap_or(u64::MAX));
        Ok(Some(Weight { len, live }))
    }
}

impl Compaction {
    fn rewrite(
        &mut self,
        disk: &dyn Disk,
        contents: &Contents,
        number: SegmentNo,
        weight: Weight,
    ) -> Result<(), StoreError> {
        let Some(weighed) = &mut self.weighed else { return Ok(()) };
        // Whatever becomes of it, it is not tried again before the next checkpoint.
        weighed.segments.remove(&number);
        let (Some(complete), Some(header)) =
            (contents.get(number), scan::header(disk, &file_name(number))?)
        else {
            return Ok(());
        };
        let rewritten = rewrite::rewrite(
            disk,
            &Rewrite {
                header,
                end: header.end_now(complete.end),
                live: &weighed.live,
                // The salts of one number follow from each other, so none comes twice.
                salt: mix(self.salt, header.salt),
                len_max: weight.len_max(),
                page_len: contents.page_len(),
                frame_bytes: self.frame_bytes,
            },
        )?;
        match rewritten {
            Some((indexer, len)) => {
                contents.replace(disk, number, rewrite::NEW_FILE, indexer)?;
                tracing::debug!("{}: {} bytes became {len}", file_name(number), weight.len);
            }
            None => drop(self.dense.insert(number, weight.live)),
        }
        Ok(())
    }
}
