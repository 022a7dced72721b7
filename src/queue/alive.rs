//! What a checkpoint must know of a queue: which of its messages have not ended. It is found a part
//! at a time; others get the lock in between. First a part of the seqs is looked at in each lock
//! hold, in all places that are in their order. Then come the slots of what is checked out, which
//! are in no order, some in each; and what leaves its slot while this goes on leaves a note.
//!
//! No part need be of the same moment as another, since a start replays what comes behind. Of each
//! message the copy says one of two things, and either will do if both are true: that at some
//! moment t of the copy it had not ended, or that at some t it was not there. As t is behind the
//! checkpoint's gate, whatever a record before the segment that is replayed says of the seq was
//! visible at t. If the message is in the copy, every record of its end is replayed. If it is not,
//! then either it had no record at t, and the one that comes is replayed, or it had ended, and the
//! record of that is replayed or stands before.
//!
//! What is found had not ended then, be it in a part of the seqs, in a slot or by a note, which is
//! made while it is there. What is not found was not there when its seq was looked at. For as any
//! part looks at all those places in one lock hold, none is missed on its way from one to another;
//! and what was in a slot then was there still when the slots were looked at, or had left a note.
//!
//! So each seq ends as its records say, whenever it was looked at, and what a start does with a
//! record it does for each seq alone. Marks and counts of returns are those of such a moment, and
//! replaying an older one changes nothing. A part's bound on what expires first is one for its own
//! messages, so the first of all is one for all. A seq that was not given at the end of the copy
//! was not given when the segment began from which a start replays.

use super::core::QueueCore;
use super::entries::Entries;
use super::middle::Middle;
use super::ready::{Entry, Ready};
use super::runs::{add_run, extend_last, joined, run_end, runs};
use crate::id::Seq;
use crate::store::CameBack;
use crate::time::UnixMillis;
use std::ops::RangeInclusive;

/// A queue's messages at one moment. Runs are sorted and do not touch each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Seqs from this one on are not given yet.
    pub next_seq: Seq,
    /// None of its messages expires before.
    pub due: UnixMillis,
    /// Every persistent message that has not ended, and some that were never persistent; none that
    /// was and has ended.
    pub live: Vec<(Seq, Seq)>,
    /// Those of them that are marked redelivered.
    pub redelivered: Vec<(Seq, Seq)>,
    /// How those came back of which that is known, by ascending seq.
    pub returns: Vec<(Seq, CameBack)>,
}

type SeqRuns = Vec<(Seq, Seq)>;

/// Where the next part begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Seq(u64),
    /// Slots from `end` on were not there when the last seq was looked at.
    Slot {
        at: usize,
        end: usize,
    },
}

/// What one lock hold gives of a copy.
#[derive(Debug)]
pub(super) struct Part {
    alive: Alive,
    /// What has left its slot since the part before.
    notes: Found,
    next: Option<Place>,
}

impl Place {
    pub(super) const FIRST: Self = Self::Seq(0);
}

/// Persistent messages as they were found, in any order.
#[derive(Debug)]
pub(super) struct Found {
    live: SeqRuns,
    redelivered: SeqRuns,
    due: UnixMillis,
}

impl Default for Found {
    fn default() -> Self {
        Self { live: Vec::new(), redelivered: Vec::new(), due: UnixMillis::NEVER }
    }
}

impl Found {
    pub(super) fn add(&mut self, entry: &Entry) {
        if !entry.persistent {
            return;
        }
        extend_last(&mut self.live, entry.seq);
        if entry.redelivered {
            extend_last(&mut self.redelivered, entry.seq);
        }
        self.due = self.due.min(entry.due);
    }
}

impl QueueCore {
    /// What has not ended of these seqs, apart from what is checked out. Walks over what is
    /// returned, retried or beside a gap, never over what was published one after the other and
    /// waits.
    fn alive_in(&self, range: &RangeInclusive<u64>) -> Alive {
        let (mut live, mut redelivered) = self.ready.alive_in_order(range);
        let mut due = self.deadlines.first;
        // These are in order, and may be all that is in memory.
        let mut returned = Vec::new();
        for (&seq, entry) in self.ready.returned.range(range.clone()) {
            add_run(&mut returned, (seq, seq));
            due = due.min(entry.due);
            if entry.redelivered {
                redelivered.push((Seq(seq), Seq(seq)));
            }
        }
        live.extend(returned);
        let waiting = self.retries.iter().flat_map(|it| it.entries_from(*range.start()));
        for entry in waiting.take_while(|entry| entry.seq <= *range.end()) {
            live.push((Seq(entry.seq), Seq(entry.seq)));
            due = due.min(entry.due);
            if entry.redelivered {
                redelivered.push((Seq(entry.seq), Seq(entry.seq)));
            }
        }
        if let Some(damaged) = &self.ready.damaged {
            live.extend(within(&damaged.all, range));
            redelivered.extend(within(&damaged.redelivered, range));
        }
        let next_seq = Seq(self.next_seq);
        let returns = self.came_back(range).collect();
        Alive { next_seq, due, live, redelivered, returns }
    }

    /// The seq that begins the next part, if `from` begins one in which each place has `len_max`
    /// messages or a page. `None` if this is the last.
    fn part_end(&self, from: u64, len_max: usize) -> Option<u64> {
        let returned = self.ready.returned.range(from..).map(|(seq, _)| *seq).nth(len_max);
        let retries = self.retries.as_ref();
        let retrying = retries.and_then(|it| Some(it.entries_from(from).nth(len_max)?.seq));
        let counted = self.returns.seqs_from(from).nth(len_max);
        let ready = self.ready.part_end(from, len_max);
        [returned, retrying, counted, ready].into_iter().flatten().min()
    }

    /// How many such parts there may be, with room for what comes meanwhile.
    pub(super) fn alive_parts_max(&self, len_max: usize) -> usize {
        let damaged = self.ready.damaged.as_ref();
        let damaged = damaged.map_or(0, |it| it.all.len() + it.redelivered.len());
        let at_rest = self.ready.len() + self.retrying_len() + self.returns.len() + damaged;
        // What is out may come back meanwhile.
        let all = at_rest + self.checkout.len();
        // Of pages, a part has half as many messages as it may have, or more.
        4 * (all / len_max.max(1)) + 16
    }

    /// A part from there on, and where the next begins. If it is the rest, that of the seqs is one
    /// part.
    pub(super) fn alive_part(&mut self, from: Place, len_max: usize, is_rest: bool) -> Part {
        let part = self.look(from, len_max.max(1), is_rest);
        let notes = match part.next {
            Some(_) if from == Place::FIRST => self.checkout.begin_notes(),
            Some(_) => self.checkout.take_notes(),
            None => self.checkout.end_notes(),
        };
        Part { notes, ..part }
    }

    /// As `alive_part`, but for what has left its slot.
    fn look(&self, from: Place, len_max: usize, is_rest: bool) -> Part {
        let slots_len = self.checkout.slots_len();
        let (mut alive, at, end) = match from {
            Place::Seq(seq) => {
                let next = self.part_end(seq, if is_rest { usize::MAX } else { len_max });
                let alive = self.alive_in(&(seq..=next.map_or(u64::MAX, |next| next - 1)));
                if next.is_some() {
                    return Part { alive, notes: Found::default(), next: next.map(Place::Seq) };
                }
                (alive, 0, slots_len)
            }
            Place::Slot { at, end } => {
                let (next_seq, due) = (Seq(self.next_seq), self.deadlines.first);
                let (live, redelivered, returns) = (Vec::new(), Vec::new(), Vec::new());
                let alive = Alive { next_seq, due, live, redelivered, returns };
                (alive, at.min(slots_len), end.min(slots_len))
            }
        };
        // The first slots are looked at together with the last seqs: mostly that is all.
        let to = end.min(at.saturating_add(len_max));
        let mut found = Found::default();
        self.checkout.entries_in(at..to).for_each(|entry| found.add(entry));
        alive.add(found);
        let next = (to < end).then_some(Place::Slot { at: to, end });
        Part { alive, notes: Found::default(), next }
    }

    /// What has not ended, all at once: for a queue that nobody else waits for.
    #[must_use]
    pub fn alive(&self) -> Alive {
        let mut whole = self.look(Place::FIRST, usize::MAX, true).alive;
        whole.join();
        #[cfg(test)]
        (1..4).for_each(|len_max| self.check_parts(&whole, len_max));
        whole
    }
}

impl Alive {
    /// What parts come to that are asked for by where they begin: each says where the next does.
    /// What comes meanwhile may be in them, so after `parts_max` the rest of the seqs is one.
    pub(super) fn in_parts<E>(
        parts_max: usize,
        mut part: impl FnMut(Place, bool) -> Result<Part, E>,
    ) -> Result<Self, E> {
        let Part { alive: mut all, notes, mut next } = part(Place::FIRST, parts_max == 0)?;
        all.add(notes);
        let mut parts = 1;
        while let Some(from) = next {
            let more = part(from, parts >= parts_max)?;
            let Self { next_seq, due, live, redelivered, returns } = more.alive;
            all.next_seq = next_seq;
            all.add(Found { live, redelivered, due });
            all.add(more.notes);
            all.returns.extend(returns);
            (next, parts) = (more.next, parts + 1);
        }
        all.join();
        Ok(all)
    }

    fn add(&mut self, found: Found) {
        self.live.extend(found.live);
        self.redelivered.extend(found.redelivered);
        self.due = self.due.min(found.due);
    }

    /// Brings the runs in order. With many it takes time: nobody should wait for it.
    fn join(&mut self) {
        self.live = joined(std::mem::take(&mut self.live));
        self.redelivered = joined(std::mem::take(&mut self.redelivered));
    }
}

/// These sorted runs as far as they lie in a range.
fn within(runs: &[(Seq, Seq)], range: &RangeInclusive<u64>) -> impl Iterator<Item = (Seq, Seq)> {
    let (from, to) = (*range.start(), *range.end());
    let first = runs.partition_point(|(_, last)| last.0 < from);
    let rest = runs[first..].iter().take_while(move |(first, _)| first.0 <= to);
    rest.map(move |(first, last)| (Seq(first.0.max(from)), Seq(last.0.min(to))))
}

impl Ready {
    /// The messages of head window, pages and tail as runs, in order. Stops once there are more
    /// than `max`.
    pub(super) fn runs_in_order(&self, max: usize) -> Vec<(Seq, Seq)> {
        let mut found = Vec::new();
        add_runs(&self.fifo, &(0..=u64::MAX), max, &mut found);
        if let Some(middle) = &self.middle {
            for page in &middle.pages {
                if found.len() > max {
                    break;
                }
                page.add_runs(usize::MAX, &mut found);
            }
            add_runs(&middle.tail, &(0..=u64::MAX), max, &mut found);
        }
        found
    }

    /// Of head window, pages and tail the runs of these seqs, and those that are marked
    /// redelivered, in order. What was published since the last mark is not looked at.
    fn alive_in_order(&self, range: &RangeInclusive<u64>) -> (SeqRuns, SeqRuns) {
        let (mut live, mut marked) = (Vec::new(), Vec::new());
        self.add_entries(&self.fifo, range, &mut live, &mut marked);
        if let Some(middle) = &self.middle {
            let first = middle.pages.partition_point(|page| page.last().0 < *range.start());
            let pages = middle.pages.range(first..);
            for page in pages.take_while(|page| page.first().0 <= *range.end()) {
                page.add_within(range, &mut live, &mut marked);
            }
            self.add_entries(&middle.tail, range, &mut live, &mut marked);
        }
        (live, marked)
    }

    fn add_entries(
        &self,
        entries: &Entries,
        range: &RangeInclusive<u64>,
        live: &mut Vec<(Seq, Seq)>,
        marked: &mut Vec<(Seq, Seq)>,
    ) {
        add_runs(entries, range, usize::MAX, live);
        let end = self.marked_below.min(range.end().saturating_add(1));
        let old = entries.iter_from(*range.start()).take_while(|entry| entry.seq < end);
        marked.extend(runs(old.filter(|entry| entry.redelivered).map(|entry| entry.seq)));
    }

    /// As `QueueCore::part_end`, of all that is not in the map.
    fn part_end(&self, from: u64, len_max: usize) -> Option<u64> {
        let in_order = |entries: &Entries| Some(entries.iter_from(from).nth(len_max)?.seq);
        let in_runs = |runs: &[(Seq, Seq)]| {
            let first = runs.partition_point(|(_, last)| last.0 < from);
            Some(runs.get(first.saturating_add(len_max))?.0.0)
        };
        let middle = self.middle.as_deref();
        let damaged = self.damaged.as_deref();
        let ends = [
            in_order(&self.fifo),
            middle.and_then(|middle| middle.part_end(from, len_max)),
            middle.and_then(|middle| in_order(&middle.tail)),
            damaged.and_then(|damaged| in_runs(&damaged.all)),
            damaged.and_then(|damaged| in_runs(&damaged.redelivered)),
        ];
        ends.into_iter().flatten().min()
    }
}

impl Middle {
    /// As `QueueCore::part_end`, of the pages: one at least, and so many as are walked over in
    /// `len_max` steps.
    fn part_end(&self, from: u64, len_max: usize) -> Option<u64> {
        let first = self.pages.partition_point(|page| page.last().0 < from);
        let mut steps = 0;
        let mut pages = self.pages.range(first..);
        if let Some(page) = pages.next() {
            steps += page.steps();
        }
        let beyond = pages.find(|page| {
            steps += page.steps();
            steps > len_max
        });
        beyond.map(|page| page.first().0)
    }
}

fn add_runs(
    entries: &Entries,
    range: &RangeInclusive<u64>,
    max: usize,
    found: &mut Vec<(Seq, Seq)>,
) {
    for chunk in entries.chunks_from(*range.start()) {
        let seq = |at: usize| chunk[at].seq;
        let mut at = chunk.partition_point(|entry| entry.seq < *range.start());
        let len = chunk.partition_point(|entry| entry.seq <= *range.end());
        while at < len && found.len() <= max {
            let end = run_end(at, len, seq);
            add_run(found, (seq(at), seq(end)));
            at = end + 1;
        }
        if len < chunk.len() || found.len() > max {
            break;
        }
    }
}

#[cfg(test)]
#[path = "alive_tests.rs"]
mod tests;
