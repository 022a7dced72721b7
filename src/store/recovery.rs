//! Finds the newest checkpoint that fits the journal, reads the journal from there, segment by
//! segment, and tells a torn tail from damage.
//!
//! A record that is longer than a frame counts only if all of its frames are whole; the frames of
//! one that a crash left unfinished are cut with the rest.
//!
//! A frame that cannot be read is the torn end of a crashed broker's last write if nothing from it
//! on was ever safe: it is cut, and logged. It is damage if a frame, be it a later one, states that
//! its records were safe. If a later frame can be read, and masks say which queues the records in
//! between may name, those are held, and the replay goes on behind the gap. Otherwise the start is
//! refused with file and offset, and no byte is changed.
//!
//! The next record begins a new segment, which says where the one before it ends: so what a crash
//! left behind that end is never read again.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::base::Base;
use super::disk::Disk;
use super::entries::Complete;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::gap::{self, Found, Gap};
use super::given_up::{self, GivenUp, Loss};
use super::index::SegmentIndexer;
use super::recovered::Torn;
use super::replay::Replay;
use super::scan::{self, NoFrame, Scan};
use super::segment::{self, SEGMENT_HEADER_LEN, SegmentHeader, file_name};
use super::touches::{Nearby, Touches};
use super::writer::Tail;
use crate::command;
use crate::id::{Lsn, SegmentNo};
use crate::limits::{GAPS_MAX, HOLDS_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// The segments' headers, by number, and the files that wait to be used.
pub(super) struct Segments {
    pub(super) used: BTreeMap<SegmentNo, SegmentHeader>,
    pub(super) unused: Vec<SegmentNo>,
}

impl Segments {
    /// Reads all headers; the first that cannot be read is an error.
    pub(super) fn read(disk: &dyn Disk) -> Result<Self, StoreError> {
        let (segments, bad) = Self::gather(disk)?;
        bad.into_iter().next().map_or(Ok(segments), Err)
    }

    /// Reads all headers, and says what is wrong with those that cannot be read.
    pub(super) fn gather(disk: &dyn Disk) -> Result<(Self, Vec<StoreError>), StoreError> {
        let mut segments = Self { used: BTreeMap::new(), unused: Vec::new() };
        let mut bad = Vec::new();
        for number in disk.list()?.iter().filter_map(|file| segment::number_of(file)) {
            match scan::header(disk, &file_name(number)) {
                Ok(Some(header)) if header.number == number => {
                    segments.used.insert(number, header);
                }
                Ok(Some(_)) => {
                    let what = "it holds another segment than its name says";
                    bad.push(StoreError::damaged(disk.path(&file_name(number)), 0, what));
                }
                Ok(None) => segments.unused.push(number),
                Err(error) => bad.push(error),
            }
        }
        Ok((segments, bad))
    }
}

/// What a replay led to.
pub(super) struct Replayed {
    pub(super) replay: Replay,
    pub(super) tail: Tail,
    pub(super) torn: Option<Torn>,
    /// Every segment that may hold something that lives, those of the checkpoint included.
    pub(super) segments: BTreeMap<SegmentNo, Complete>,
    /// Where those cannot be read.
    pub(super) gaps: BTreeMap<SegmentNo, Vec<Gap>>,
    /// The index of each segment that was replayed.
    pub(super) indexers: Vec<(SegmentNo, SegmentIndexer)>,
    /// What no start passes over: nothing unless that was accepted.
    pub(super) given_up: Vec<GivenUp>,
}

/// Why a replay from some checkpoint led to nothing.
pub(super) enum Failed {
    /// The checkpoint is older than the journal says; another may fit.
    Outdated(String),
    Store(StoreError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Replays the journal behind `base`, changing nothing on the disk. A base that must be the
/// `newest` is none if the journal knows of a later checkpoint. A journal that ends before `safe`
/// is damaged. A `loss` that is accepted is passed over, as long as there is something to go on
/// with.
pub(super) fn replay(
    disk: &dyn Disk,
    segments: &Segments,
    base: Base,
    newest: bool,
    safe: Lsn,
    page_len: usize,
    loss: Loss,
) -> Result<Replayed, Failed> {
    let from = base.meta.replay_from;
    let generation = base.meta.generation;
    let previous = SegmentNo(from.0.saturating_sub(1));
    if let Some(header) = segments.used.range(from..).map(|it| it.1).find(|it| it.is_compacted()) {
        // Only what no checkpoint replays is ever compacted: this one is older than another.
        let file = file_name(header.number);
        let why = format!("{file} was compacted since checkpoint {generation}");
        if newest {
            return Err(Failed::Outdated(why));
        }
        let error = StoreError::refused("replay", disk.path(&file), why);
        return Err(Failed::Store(error));
    }
    let kept = base.segments.iter().filter(|(number, _)| **number < from);
    let gaps = base.gaps.iter().filter(|(number, _)| **number < from);
    let mut chain = Chain {
        disk,
        segments: kept.map(|(number, complete)| (*number, *complete)).collect(),
        gaps: gaps.map(|(number, gaps)| (*number, gaps.clone())).collect(),
        replay: Replay::after(base),
        stated: safe,
        is_later_known: false,
        torn: None,
        tail: (previous, 0),
        nearby: None,
        first_gap: None,
        indexers: Vec::new(),
        page_len,
        loss,
        given_up: Vec::new(),
    };
    chain.tail.1 = chain.segments.get(&previous).map_or(0, |complete| complete.end);
    let used: Vec<_> = segments.used.range(from..).map(|(_, header)| *header).collect();
    chain.walk(&used)?;
    if newest && chain.replay.generation > generation {
        let latest = chain.replay.generation;
        return Err(Failed::Outdated(format!("it ends with checkpoint {generation} of {latest}")));
    }
    chain.check_end()?;
    for freed in &chain.replay.freed {
        chain.segments.remove(freed);
    }
    chain.check_unsettled(segments)?;
    chain.gaps.retain(|number, _| chain.segments.contains_key(number));
    if loss == Loss::Accepted {
        chain.survey(segments)?;
    }
    chain.replay.finish();
    let tail = Tail {
        segment: chain.tail.0,
        end: chain.tail.1,
        last_lsn: chain.replay.last_lsn,
        stated: chain.stated,
        touched: chain.nearby.map_or(Touches::ALL, |mut nearby| nearby.until(chain.tail.1)),
    };
    let Chain { replay, torn, segments, gaps, indexers, given_up, .. } = chain;
    Ok(Replayed { replay, tail, torn, segments, gaps, indexers, given_up })
}

/// Makes the files what `replayed` says: cuts what is no part of the journal, and makes safe what
/// is. A killed broker's last writes may be in the page cache only, and so may a name; the next
/// frame will state that all of it is safe.
pub(super) fn settle(
    disk: &dyn Disk,
    segments: &Segments,
    replayed: &Replayed,
) -> Result<(), StoreError> {
    disk.reach(Failpoint::Replayed)?;
    let tail = &replayed.tail;
    for number in segments.used.range(SegmentNo(tail.segment.0 + 1)..).map(|(number, _)| number) {
        disk.remove(&file_name(*number))?;
        disk.reach(Failpoint::SettleRemoved)?;
    }
    for number in &segments.unused {
        disk.remove(&file_name(*number))?;
        disk.reach(Failpoint::SettleRemoved)?;
    }
    if segments.used.contains_key(&tail.segment) && tail.end > 0 {
        disk.truncate(&file_name(tail.segment), tail.end)?;
        disk.reach(Failpoint::SettleTruncated)?;
    }
    for (number, _) in &replayed.indexers {
        disk.sync(&file_name(*number))?;
    }
    disk.reach(Failpoint::SettleSynced)?;
    disk.sync_dir()?;
    disk.reach(Failpoint::Settled)
}

/// The segments, one behind the other.
struct Chain<'a> {
    disk: &'a dyn Disk,
    replay: Replay,
    stated: Lsn,
    /// What the segments behind this one state is in `stated`.
    is_later_known: bool,
    torn: Option<Torn>,
    /// The last segment so far, and where its last frame ends.
    tail: (SegmentNo, u64),
    /// What was touched near there, if that segment was replayed.
    nearby: Option<Nearby>,
    segments: BTreeMap<SegmentNo, Complete>,
    gaps: BTreeMap<SegmentNo, Vec<Gap>>,
    /// How a start is refused that cannot go on behind its first gap.
    first_gap: Option<StoreError>,
    indexers: Vec<(SegmentNo, SegmentIndexer)>,
    page_len: usize,
    loss: Loss,
    given_up: Vec<GivenUp>,
}

/// Where a segment's last frame ends, and why nothing follows.
struct End {
    offset: u64,
    none: NoFrame,
    /// The highest LSN that what lies behind it states to be safe, if there is a frame.
    beyond: Option<Lsn>,
}

impl Chain<'_> {
    /// Replays the segments up to the last that is whole or torn.
    fn walk(&mut self, used: &[SegmentHeader]) -> Result<(), StoreError> {
        for (nth, header) in used.iter().enumerate() {
            if header.previous != self.tail.0 {
                // Only the first can come here: its predecessor is gone, or never became safe.
                self.learn_what_was_safe(used)?;
                if self.stated <= self.replay.last_lsn {
                    return Ok(());
                }
                self.pass_missing(header)?;
            }
            let later = used.get(nth + 1..).unwrap_or_default();
            let next = later.first().filter(|next| next.previous == header.number);
            let end = self.segment(header, next, later)?;
            self.tail = (header.number, end.offset);
            let complete = Complete { end: end.offset, last_lsn: self.replay.last_lsn };
            self.segments.insert(header.number, complete);
            if next.is_none_or(|next| next.previous_end != end.offset)
                && !self.give_up_rest(header, later, &end)
            {
                return self.judge(header, later, &end);
            }
        }
        Ok(())
    }

    fn missing(&self, header: &SegmentHeader) -> StoreError {
        let file = file_name(header.previous);
        let what = format!(
            "it is not there, and {} follows it. Nothing was changed: {}",
            file_name(header.number),
            self.way_out()
        );
        StoreError::refused("read", self.disk.path(&file), what)
    }

    /// What an operator can do.
    fn way_out(&self) -> String {
        let accept = command::accept_loss(&self.disk.path(""));
        format!("restore the file from a copy, or give up what is lost with `{accept}`")
    }

    /// The segments before this one are not there: goes on with it if that is accepted, and if
    /// there is anything from before.
    fn pass_missing(&mut self, header: &SegmentHeader) -> Result<(), StoreError> {
        let last = self.replay.last_lsn;
        let has_begun = self.tail.0 > SegmentNo(0);
        if self.loss == Loss::Refused || !has_begun || header.first_lsn <= last {
            return Err(self.missing(header));
        }
        let (segment, offset) = (header.previous, 0);
        let (first, last) = (Lsn(last.0 + 1), Lsn(header.first_lsn.0 - 1));
        self.given_up.push(GivenUp::missing(segment, first, last));
        let gap = Gap { segment, offset, damaged_at: 0, end: 0, first, last };
        let why = "it is not there";
        self.replay.give_up(Found { gap, touches: Touches::ALL, why });
        Ok(())
    }

    /// Gives up what cannot be read at the end of a segment if that is accepted. False if it is
    /// not, or if nothing is lost.
    fn give_up_rest(&mut self, header: &SegmentHeader, later: &[SegmentHeader], end: &End) -> bool {
        let last = self.replay.last_lsn;
        if self.loss == Loss::Refused || last >= self.stated {
            return false;
        }
        let next = later.first();
        if next.is_some_and(|next| next.previous != header.number) {
            // What is not there between the two says more.
            return true;
        }
        let before = next.map_or(self.stated, |next| Lsn(next.first_lsn.0.saturating_sub(1)));
        let ends_at = next.map_or(end.offset, |next| next.previous_end.max(end.offset));
        let gap = Gap {
            segment: header.number,
            offset: end.offset,
            damaged_at: end.none.at,
            end: ends_at,
            first: Lsn(last.0 + 1),
            last: before.max(last),
        };
        let found = Found { gap, touches: Touches::ALL, why: end.none.why };
        self.given_up.push(GivenUp::gap(&found, &self.replay));
        if next.is_none() {
            // What follows begins with the records that are lost.
            self.stated = last;
            return false;
        }
        if gap.end > gap.offset {
            self.gaps.entry(header.number).or_default().push(gap);
            self.segments.insert(header.number, Complete { end: gap.end, last_lsn: gap.last });
            self.tail.1 = gap.end;
        }
        self.replay.give_up(found);
        true
    }

    /// The journal cannot end here if the segment that followed is gone.
    fn check_end(&mut self) -> Result<(), StoreError> {
        let (last, stated) = (self.replay.last_lsn, self.stated);
        if last >= stated {
            return Ok(());
        }
        let next = SegmentNo(self.tail.0.0 + 1);
        if self.loss == Loss::Accepted {
            self.given_up.push(GivenUp::missing(next, Lsn(last.0 + 1), stated));
            self.stated = last;
            return Ok(());
        }
        let why = format!(
            "it is not there, though records {} to {stated} were safely stored. Nothing was \
             changed: {}",
            last.0 + 1,
            self.way_out()
        );
        Err(StoreError::refused("read", self.disk.path(&file_name(next)), why))
    }

    /// Every segment in which something may live must be there.
    fn check_unsettled(&mut self, segments: &Segments) -> Result<(), StoreError> {
        let is_lost = |number: &SegmentNo| !segments.used.contains_key(number);
        let lost: Vec<_> = self.segments.keys().copied().filter(is_lost).collect();
        for number in lost {
            if self.loss == Loss::Refused {
                let why = format!(
                    "it is not there, though messages in it are not settled. Nothing was changed: \
                     {}",
                    self.way_out()
                );
                let missing = StoreError::refused("read", self.disk.path(&file_name(number)), why);
                // The record that gave it up may lie in a gap: then that is what is wrong.
                return Err(self.first_gap.take().unwrap_or(missing));
            }
            self.segments.remove(&number);
            self.given_up.push(GivenUp::unsettled(number));
        }
        Ok(())
    }

    /// Looks for damage in what is not replayed.
    fn survey(&mut self, segments: &Segments) -> Result<(), StoreError> {
        let replayed: BTreeSet<_> = self.indexers.iter().map(|(number, _)| *number).collect();
        for (number, complete) in self.segments.iter().filter(|it| !replayed.contains(it.0)) {
            let Some(header) = segments.used.get(number) else { continue };
            let known = self.gaps.get(number).map_or(&[][..], Vec::as_slice);
            let (gaps, lost) = given_up::survey(self.disk, header, *complete, known)?;
            if !lost.is_empty() {
                self.given_up.extend(lost);
                self.gaps.insert(*number, gaps);
            }
        }
        Ok(())
    }

    /// Replays one segment's frames as far as they can be read, and those behind gaps.
    fn segment(
        &mut self,
        header: &SegmentHeader,
        next: Option<&SegmentHeader>,
        later: &[SegmentHeader],
    ) -> Result<End, StoreError> {
        let file = file_name(header.number);
        let limit = next.map_or(u64::MAX, |next| next.previous_end);
        let mut scan = Scan::new(self.disk, file.clone(), *header, limit)?;
        let mut indexer = SegmentIndexer::new(self.page_len);
        let mut nearby = Nearby::default();
        let mut offset = SEGMENT_HEADER_LEN as u64;
        let end = loop {
            let frame = match scan.frame(offset, self.replay.last_lsn)? {
                Ok(frame) => frame,
                Err(none) if offset == limit => break End { offset, none, beyond: None },
                Err(none) => {
                    let beyond = self.learn(&mut scan, offset, later)?;
                    let end = End { offset, none, beyond };
                    let Some(found) = self.pass(&mut scan, &end, next)? else { break end };
                    // No frame of the gap begins behind it, so nobody misses any who looks back.
                    nearby.add(found.gap.end, found.touches);
                    offset = found.gap.end;
                    indexer.skip_to(offset);
                    continue;
                }
            };
            // A whole frame that does not add up was written so, by another version or by our
            // mistake.
            let damaged = |what| StoreError::damaged(self.disk.path(&file), offset, what);
            let read = self.replay.frame(&frame).and_then(|()| indexer.add(&frame));
            read.map_err(|bad| {
                let lsn = self.replay.last_lsn.0 + 1;
                damaged(format!("record {lsn} of a frame that is whole: {bad}"))
            })?;
            if frame.header.last_lsn() != Some(self.replay.last_lsn) {
                let records = frame.header.records;
                return Err(damaged(format!(
                    "a frame that is whole holds other than {records} records"
                )));
            }
            self.stated = self.stated.max(frame.header.synced_lsn);
            nearby.add(offset, frame.header.touches);
            offset = frame.end();
        };
        self.indexers.push((header.number, indexer));
        self.nearby = Some(nearby);
        Ok(end)
    }

    /// Reads what all frames state that lie behind a place where none can be read.
    fn learn(
        &mut self,
        scan: &mut Scan<'_>,
        offset: u64,
        later: &[SegmentHeader],
    ) -> Result<Option<Lsn>, StoreError> {
        let beyond = scan.stated_beyond(offset)?;
        self.stated = self.stated.max(beyond.unwrap_or_default());
        if !self.is_later_known {
            self.learn_what_was_safe(later)?;
            self.is_later_known = true;
        }
        Ok(beyond)
    }

    /// The gap that begins where no frame can be read, if it is damage of which masks say whom it
    /// may have hit, and if those can be held.
    fn pass(
        &mut self,
        scan: &mut Scan<'_>,
        end: &End,
        next: Option<&SegmentHeader>,
    ) -> Result<Option<Found>, StoreError> {
        let last = self.replay.last_lsn;
        let is_accepted = self.loss == Loss::Accepted;
        if last >= self.stated || self.replay.gaps.len() >= GAPS_MAX && !is_accepted {
            return Ok(None);
        }
        let found = gap::find(scan, end.offset, last, next, &end.none)?;
        let can_be_held = |found: &Found| {
            let holds_len = self.replay.holds_len + self.replay.touched(found.touches).count();
            found.touches.can_be_held()
                && holds_len <= HOLDS_MAX
                && self.replay.gaps.len() < GAPS_MAX
        };
        let found = found.filter(|found| is_accepted || can_be_held(found));
        if let Some(found) = &found {
            let refusal = self.refusal(found.gap.segment, &end.none);
            self.first_gap.get_or_insert(refusal);
            self.gaps.entry(found.gap.segment).or_default().push(found.gap);
            if !can_be_held(found) {
                self.given_up.push(GivenUp::gap(found, &self.replay));
                self.replay.give_up(*found);
            } else {
                self.replay.gap(*found);
            }
        }
        Ok(found)
    }

    /// What is said of damage behind which nothing can go on.
    fn refusal(&self, segment: SegmentNo, none: &NoFrame) -> StoreError {
        let what = format!(
            "{why}; records {lost} to {stated} were safely stored and cannot be read from here on. \
             Nothing was changed: {way_out}",
            why = none.why,
            lost = self.replay.last_lsn.0 + 1,
            stated = self.stated,
            way_out = self.way_out()
        );
        StoreError::damaged(self.disk.path(&file_name(segment)), none.at, what)
    }

    /// Says what follows the last frame that can be read: nothing, a torn tail, or an error.
    fn judge(
        &mut self,
        broken: &SegmentHeader,
        later: &[SegmentHeader],
        end: &End,
    ) -> Result<(), StoreError> {
        let (last, why) = (self.replay.last_lsn, end.none.why);
        if last < self.stated {
            if let Some(next) = later.first().filter(|next| next.previous != broken.number) {
                return Err(self.missing(next));
            }
            return Err(self.refusal(broken.number, &end.none));
        }
        if end.beyond.is_some() || end.none.began || !later.is_empty() {
            tracing::warn!(
                "{}: a crash left a torn tail, cut at byte {} behind record {last}; it was never \
                 known to be safe: {why}",
                self.disk.path(&file_name(broken.number)).display(),
                end.offset
            );
            self.torn = Some(Torn { segment: broken.number, offset: end.offset });
        }
        Ok(())
    }

    /// Reads what the frames of these segments state, whether they can be read in order or not.
    fn learn_what_was_safe(&mut self, segments: &[SegmentHeader]) -> Result<(), StoreError> {
        for header in segments {
            let mut scan = Scan::new(self.disk, file_name(header.number), *header, u64::MAX)?;
            let stated = scan.stated_beyond(SEGMENT_HEADER_LEN as u64)?;
            self.stated = self.stated.max(stated.unwrap_or_default());
        }
        Ok(())
    }
}
