//! What a checkpoint must know of a queue: which of its messages have not ended. It is found a part
//! of the seqs at a time; others get the lock in between.
//!
//! No part need be of the same moment as another, since a start replays what comes behind. Let the
//! part that has a seq be of moment t, behind the checkpoint's gate. Whatever a record before the
//! segment that is replayed says of the seq was visible at t. If the message is in the part, every
//! record of its end is replayed. If it is not, then either it has no record yet, and the one that
//! comes is replayed, or it has ended, and the record of that is replayed or stands before; and as
//! any part looks at all places in one lock hold, none is missed on its way from one to another.
//! So each seq ends as its records say, whenever it was looked at, and what a start does with a
//! record it does for each seq alone. Marks and counts of returns are those of t, and replaying an
//! older one changes nothing. A part's bound on what expires first is one for its own messages, so
//! the first of all is one for all. A seq that was not given at the end of the copy was not given
//! when the segment began from which a start replays.

use super::core::QueueCore;
use super::entries::Entries;
use super::middle::Middle;
use super::ready::Ready;
use super::runs::{add_run, joined, run_end, runs};
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

impl QueueCore {
    /// What has not ended of these seqs. Walks over what is checked out, and of the range over what
    /// is returned, retried or beside a gap, never over what was published one after the other and
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
        let out = self.checkout.entries().filter(|entry| entry.persistent);
        let out = out.filter(|entry| range.contains(&entry.seq));
        let waiting = self.retries.iter().flat_map(|it| it.entries_from(*range.start()));
        let waiting = waiting.take_while(|entry| entry.seq <= *range.end());
        for entry in out.chain(waiting) {
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
        Alive { next_seq, due, live: joined(live), redelivered: joined(redelivered), returns }
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
        let all = self.ready.len() + self.retrying_len() + self.returns.len() + damaged;
        // Of pages, a part has half as many messages as it may have, or more.
        4 * (all / len_max.max(1)) + 16
    }

    /// A part from this seq on, and where the next begins.
    pub(super) fn alive_part(&self, from: u64, len_max: usize) -> (Alive, Option<u64>) {
        // A part walks over all that is checked out: then it may as well be that long.
        let next = self.part_end(from, len_max.max(self.checkout.len()).max(1));
        (self.alive_in(&(from..=next.map_or(u64::MAX, |next| next - 1))), next)
    }

    /// What has not ended, all at once: for a queue that nobody else waits for.
    #[must_use]
    pub fn alive(&self) -> Alive {
        let whole = self.alive_in(&(0..=u64::MAX));
        #[cfg(test)]
        (1..4).for_each(|len_max| self.check_parts(&whole, len_max));
        whole
    }
}

impl Alive {
    /// What parts come to that are asked for by their first seq and by how long they may be: each
    /// gives the first of the next. What comes meanwhile may be in them, so after `parts_max` the
    /// rest is one.
    pub(super) fn in_parts<E>(
        parts_max: usize,
        mut part: impl FnMut(u64, bool) -> Result<(Self, Option<u64>), E>,
    ) -> Result<Self, E> {
        let (mut all, mut next) = part(0, parts_max == 0)?;
        let mut parts = 1;
        while let Some(from) = next {
            let (more, after) = part(from, parts >= parts_max)?;
            all.next_seq = more.next_seq;
            all.due = all.due.min(more.due);
            more.live.into_iter().for_each(|(a, b)| add_run(&mut all.live, (a.0, b.0)));
            let marked = more.redelivered.into_iter();
            marked.for_each(|(a, b)| add_run(&mut all.redelivered, (a.0, b.0)));
            all.returns.extend(more.returns);
            (next, parts) = (after, parts + 1);
        }
        Ok(all)
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
mod tests {
    use super::super::gets::Got;
    use super::super::outlet::Outlet;
    use super::super::samples::{FOREVER, Sink, World};
    use super::super::settings::Behaviour;
    use super::super::settle::Settlement;
    use super::*;
    use crate::id::ConsumerToken;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];

    #[derive(Clone, Debug)]
    enum Step {
        Publish(usize),
        Take(usize),
        Ack(usize),
        Requeue(usize),
        PageOut(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..6_usize).prop_map(Step::Publish),
            (1..6_usize).prop_map(Step::Take),
            (0..9_usize).prop_map(Step::Ack),
            (0..9_usize).prop_map(Step::Requeue),
            (1..6_usize).prop_map(Step::PageOut),
        ]
    }

    impl World {
        /// Seqs that end by it are added to `ended`.
        fn apply(&mut self, step: &Step, out: &mut Vec<(u32, Seq)>, ended: &mut BTreeSet<u64>) {
            let pick = |out: &mut Vec<_>, nth: usize| {
                (!out.is_empty()).then(|| out.remove(nth % out.len()))
            };
            match *step {
                Step::Publish(count) => self.publish(&vec![FOREVER; count]),
                Step::Take(count) => {
                    for _ in 0..count {
                        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
                        let (records, effects) = (&mut self.records, &mut self.effects);
                        let got = self.core.get(&outlet, ConsumerToken(1), false, records, effects);
                        // What is on disk stays there.
                        let Got::Message { delivery, .. } = got else { break };
                        out.push((delivery.slot, delivery.seq));
                    }
                }
                Step::Ack(nth) => {
                    let picked = pick(out, nth);
                    self.settle(picked.as_slice(), Settlement::Ack);
                    ended.extend(picked.map(|(_, seq)| seq.0));
                }
                Step::Requeue(nth) => {
                    let picked = pick(out, nth);
                    self.settle(picked.as_slice(), Settlement::Requeue);
                }
                Step::PageOut(count) => drop(self.core.page_out(&ALL, 1, 1, count)),
            }
        }
    }

    fn seqs(runs: &[(Seq, Seq)]) -> BTreeSet<u64> {
        runs.iter().flat_map(|(first, last)| first.0..=last.0).collect()
    }

    impl QueueCore {
        /// Parts lie in their ranges, which leave nothing out, and come to the whole.
        pub(super) fn check_parts(&self, whole: &Alive, len_max: usize) {
            let mut from = 0;
            let parts = Alive::in_parts(usize::MAX, |start, is_rest| {
                assert_eq!((start, is_rest), (from, false));
                let next = self.part_end(start, len_max);
                let range = start..=next.map_or(u64::MAX, |next| next - 1);
                let part = self.alive_in(&range);
                let runs = part.live.iter().chain(&part.redelivered);
                let seqs = runs.flat_map(|run| [run.0, run.1]);
                let seqs = seqs.chain(part.returns.iter().map(|(seq, _)| *seq));
                seqs.for_each(|seq| assert!(range.contains(&seq.0), "{seq:?} not in {range:?}"));
                from = next.unwrap_or_default();
                Ok::<_, ()>((part, next))
            });
            assert_eq!(parts.as_ref(), Ok(whole));
        }
    }

    proptest! {
        #[test]
        fn no_message_is_missed_on_its_way_and_none_comes_back(
            before in vec(step(), 0..30),
            meanwhile in vec(vec(step(), 0..4), 1..40),
            exact in any::<bool>(),
            len_max in 1..5_usize,
            parts_max in 0..30_usize,
        ) {
            let mut world = World::new(Behaviour { exact_expiry: exact, ..Behaviour::default() });
            let (mut out, mut ended) = (Vec::new(), BTreeSet::new());
            before.iter().for_each(|step| world.apply(step, &mut out, &mut ended));
            let (first, ended_before) = (seqs(&world.core.alive().live), ended.clone());
            let (mut meanwhile, mut parts) = (meanwhile.iter().flatten(), 0);
            let copy = Alive::in_parts(parts_max, |from, is_rest| {
                let steps = meanwhile.by_ref().take(3);
                steps.for_each(|step| world.apply(step, &mut out, &mut ended));
                parts += 1;
                Ok::<_, ()>(world.core.alive_part(from, if is_rest { usize::MAX } else { len_max }))
            });
            let copy = copy.unwrap();
            let (live, last) = (seqs(&copy.live), seqs(&world.core.alive().live));
            prop_assert!(parts <= parts_max + 1);
            prop_assert!(live.is_superset(&first.intersection(&last).copied().collect()));
            prop_assert!(live.is_disjoint(&ended_before));
            prop_assert!(live.iter().all(|seq| *seq < copy.next_seq.0));
            prop_assert!(copy.live.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0));
            prop_assert!(seqs(&copy.redelivered).is_subset(&live));
        }
    }

    #[test]
    fn nobody_waits_for_more_than_a_part() {
        let mut world = World::new(Behaviour { exact_expiry: true, ..Behaviour::default() });
        world.publish(&[60_000; 1_000]);
        let (part, next) = world.core.alive_part(0, 64);
        assert_eq!((part.live, next), (vec![(Seq(1), Seq(64))], Some(65)));
        drop(world.core.page_out(&ALL, 0, 0, 900));
        // A page in which nothing is missing is one step, and 901 is the first that is in memory.
        assert_eq!(world.core.alive_part(65, 64).1, Some(901 + 64));
        assert!(world.core.alive_parts_max(64) > 1_000 / 64);
    }
}
