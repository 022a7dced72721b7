//! Messages that leave memory and come back, in pages and one by one: what may leave, what must
//! come back, and what a checkpoint is told meanwhile.

use super::model::{Entry, Model, State};
use super::world::{PAGING, World};
use leveret::id::Seq;
use leveret::limits::{DUE_BYTES, MESSAGE_OVERHEAD_BYTES};
use leveret::queue::{Reason, Sweep};
use std::collections::BTreeSet;

/// What a page-out is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageOut {
    pub(super) keep_head: usize,
    pub(super) keep_tail: usize,
    pub(super) max: usize,
    /// Which seqs the disk does not have.
    pub(super) holes: u64,
}

/// How a load is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// Messages that are looked at, from the first on.
    pub(super) looked_at: usize,
    /// Which of them are passed over nevertheless.
    pub(super) skipped: u64,
    /// Which of them cannot be read.
    pub(super) lost: u64,
}

impl Answer {
    pub(super) const WHOLE: Self = Self { looked_at: usize::MAX, skipped: 0, lost: 0 };
}

fn resident_bytes(entry: &Entry) -> u64 {
    entry.body_len + MESSAGE_OVERHEAD_BYTES
}

impl World {
    /// Seqs that the disk is said to have: never those whose record is not written or that were
    /// not spilled, and not all of the others. What ended may be among them.
    fn on_disk(&self, holes: u64) -> Vec<(Seq, Seq)> {
        let unwritten = |entry: &Entry| {
            entry.state == State::Reserved { recorded: false }
                || !entry.persistent && !self.spilled.contains(&entry.seq)
        };
        let absent: BTreeSet<_> =
            self.model.entries.iter().filter(|e| unwritten(e)).map(|e| e.seq).collect();
        let mut runs: Vec<(Seq, Seq)> = Vec::new();
        for seq in self.contents.keys().copied() {
            if absent.contains(&seq) || holes >> (seq % 61) & 1 == 1 {
                continue;
            }
            match runs.last_mut() {
                Some((_, last)) if last.0 + 1 == seq => last.0 = seq,
                _ => runs.push((Seq(seq), Seq(seq))),
            }
        }
        runs
    }

    /// Takes over which visible messages are in memory; says what those that left it had there.
    fn follow_absent(&mut self, may_leave: impl Fn(u64) -> bool) -> u64 {
        let absent: BTreeSet<_> = self.core.absent_seqs().iter().map(|seq| seq.0).collect();
        let mut bytes = 0;
        for entry in &mut self.model.entries {
            let State::Ready { evicted } = &mut entry.state else { continue };
            let is_absent = absent.contains(&entry.seq);
            assert!(is_absent || !*evicted, "seq {} came back from nowhere", entry.seq);
            if is_absent && !*evicted {
                assert!(may_leave(entry.seq), "seq {} left memory and is not on disk", entry.seq);
                *evicted = true;
                bytes += resident_bytes(entry);
            }
        }
        bytes
    }

    pub(super) fn page_out(&mut self, page_out: PageOut) {
        let PageOut { keep_head, keep_tail, max, holes } = page_out;
        let stored = self.on_disk(holes);
        let all_were_here = self.model.absent().is_empty();
        let resident = self.core.resident_bytes();
        let freed = self.core.page_out(&stored, keep_head, keep_tail, max);
        assert!(freed.steps <= max);
        let bytes = self.follow_absent(|seq| holds(&stored, seq));
        assert_eq!((freed.bytes, resident - self.core.resident_bytes()), (bytes, bytes));
        let absent = self.model.absent();
        if let (true, Some(first), Some(last)) = (all_were_here, absent.first(), absent.last()) {
            let waits = |state| matches!(state, State::Ready { .. } | State::Reserved { .. });
            let waiting: Vec<_> =
                self.model.entries.iter().filter(|e| waits(e.state)).map(|e| e.seq).collect();
            let before = waiting.iter().filter(|seq| *seq < first).count();
            let behind = waiting.iter().filter(|seq| *seq > last).count();
            assert!(before >= keep_head && behind >= keep_tail, "{before} and {behind} are left");
        }
        self.finish_aside();
    }

    /// Lets urgent messages become pages, the latest first, as long as some can.
    pub(super) fn page_out_between(&mut self, keep: usize, holes: u64, spills: bool) {
        let all_were_here = self.model.absent().is_empty();
        let mut below = Seq(u64::MAX);
        while let Some((first, last)) = self.core.pageable_between(keep, below) {
            assert!(self.model.behaviour.max_priority.is_some(), "no queue has them without ranks");
            assert!(first <= last && last < below, "{first} to {last} before {below}");
            below = first;
            if spills {
                let found = self.core.transient_between(first, last);
                self.write(&found);
            }
            let stored = self.on_disk(holes);
            let resident = self.core.resident_bytes();
            let freed = self.core.page_out_between(&stored, first, last);
            let asked = |seq| (first.0..=last.0).contains(&seq);
            let bytes = self.follow_absent(|seq| asked(seq) && holds(&stored, seq));
            assert_eq!((freed.bytes, resident - self.core.resident_bytes()), (bytes, bytes));
        }
        if let (true, Some(first)) = (all_were_here, self.model.absent().first()) {
            let waits = |state| matches!(state, State::Ready { .. } | State::Reserved { .. });
            let before =
                self.model.entries.iter().filter(|e| waits(e.state) && e.seq < *first).count();
            assert!(before >= keep, "{before} are left");
        }
        self.finish_aside();
    }

    /// Drops the contents of all that was requeued or is out, a few in a lock hold.
    pub(super) fn evict_bodies(&mut self, max: usize, holes: u64) {
        let stored = self.on_disk(holes);
        let (mut sweep, mut freed) = (Sweep::default(), 0);
        while !sweep.is_over() {
            let part = self.core.evict_bodies(&stored, &mut sweep, max);
            assert!(part.steps <= max);
            freed += part.bytes;
        }
        let mut bytes = self.follow_absent(|seq| holds(&stored, seq));
        for entry in &mut self.model.entries {
            if let State::Out { evicted, .. }
            | State::Dying { evicted, .. }
            | State::Waiting { evicted } = &mut entry.state
                && !*evicted
                && holds(&stored, entry.seq)
            {
                *evicted = true;
                bytes += resident_bytes(entry);
            }
        }
        assert_eq!(freed, bytes);
        self.finish_aside();
    }

    /// Answers the load, in part or as it should be. What is no longer wanted may be in it.
    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(asked) = self.load.take() else { return };
        let skipped = |seq: &u64| answer.skipped >> (seq % 64) & 1 == 1;
        let looked_at = asked.into_iter().take(answer.looked_at).filter(|seq| !skipped(seq));
        let looked_at: Vec<_> = looked_at.collect();
        // A page does not know which of its bytes are a lost message's, so limits would be blurred.
        let loses = self.model.behaviour.max_length_bytes.is_none();
        let is_lost = |seq: &u64| loses && answer.lost >> (seq % 64) & 1 == 1;
        let lost: Vec<Seq> = looked_at.iter().filter(|s| is_lost(s)).map(|s| Seq(*s)).collect();
        let read = looked_at.iter().filter(|seq| !is_lost(seq));
        let read: Vec<_> = read.map(|seq| self.stored_message(*seq)).collect();
        let before = self.model.absent();
        self.core.loaded(read, &lost, &mut self.records, &mut self.effects);
        let after = self.core.absent_seqs();
        // Pages come back from the first message on, so all before it must be known.
        let unknown = before.iter().find(|seq| !looked_at.contains(seq));
        for seq in &before {
            let stays = after.contains(&Seq(*seq));
            assert!(stays || looked_at.contains(seq), "seq {seq} came back by itself");
            let must = looked_at.contains(seq) && unknown.is_none_or(|unknown| seq < unknown);
            // What is read for its time stays where it is.
            let must = must && !self.model.behaviour.exact_expiry;
            assert!(!stays || !must, "seq {seq} was brought and did not come back");
            if !stays {
                let ready = State::Ready { evicted: false };
                self.model.find(*seq).state = if is_lost(seq) { State::Damaged } else { ready };
                self.expired_when_read(*seq);
            }
        }
        for seq in &looked_at {
            self.read_dead(*seq, is_lost(seq));
        }
        self.finish();
    }

    /// An exact queue ends what a load brings too late.
    fn expired_when_read(&mut self, seq: u64) {
        let Model { now, behaviour, .. } = &self.model;
        let (now, exact) = (*now, behaviour.exact_expiry);
        let entry = self.model.find(seq);
        let is_due = entry.state == State::Ready { evicted: false } && entry.due <= now;
        if exact && is_due && !self.core.ready_seqs().contains(&Seq(seq)) {
            self.model.die(seq, false, Reason::Expired);
        }
    }

    /// Answers every load as it should be; each must bring something or have become stale.
    pub(super) fn answer_all(&mut self) {
        for _ in 0..2 + 4 * self.model.entries.len() {
            if self.load.is_none() {
                return;
            }
            self.answer(Answer::WHOLE);
        }
        assert!(self.load.is_none(), "loads go on without end: {:?}", self.load);
    }

    /// At most one load is open, and it asks for what is there and not in memory.
    pub(super) fn note_loads(&mut self) {
        for load in self.effects.loads.drain(..) {
            assert!(self.load.is_none(), "two loads at a time");
            let seqs: Vec<_> = load.runs.iter().flat_map(|run| run.0.0..=run.1.0).collect();
            let untold = |e: &&Entry| matches!(e.state, State::Dying { told: false, .. });
            let dead = self.model.entries.iter().filter(untold).map(|entry| entry.seq);
            let absent: Vec<_> = self.model.absent().into_iter().chain(dead).collect();
            assert!(!seqs.is_empty() && seqs.is_sorted() && seqs.len() <= PAGING.load_len);
            assert!(seqs.iter().all(|seq| absent.contains(seq)), "{seqs:?} of {absent:?}");
            self.load = Some(seqs);
        }
    }

    pub(super) fn check_residence(&self) {
        let absent: Vec<_> = self.core.absent_seqs().iter().map(|seq| seq.0).collect();
        assert_eq!(absent, self.model.absent());
        let in_memory = self.model.entries.iter().filter(|entry| match entry.state {
            State::Ready { evicted }
            | State::Waiting { evicted }
            | State::Out { evicted, .. }
            | State::Dying { evicted, .. } => !evicted,
            State::Reserved { .. } => true,
            State::Damaged => false,
        });
        let bytes: u64 = in_memory.map(resident_bytes).sum();
        let dues_bytes = self.core.dues_bytes();
        assert_eq!(self.core.resident_bytes() - dues_bytes, bytes);
        let exact = self.model.behaviour.exact_expiry;
        // The time of a paged message that cannot be read is forgotten once it has come.
        let here = |state| matches!(state, State::Ready { .. } | State::Damaged);
        let here = self.model.entries.iter().filter(|entry| here(entry.state));
        // And what waited over a restart has a bound until it is read, or until that has come.
        let expires = here.filter(|it| exact && (it.due != u64::MAX || it.redelivered));
        let times = (expires.count() + self.bounds) as u64;
        assert!(dues_bytes <= times * DUE_BYTES, "what has ended has no time");
        let damaged = self.model.entries.iter().filter(|e| e.state == State::Damaged);
        assert_eq!(self.core.damaged_len(), damaged.count());
        let on_disk_only = self.model.entries.iter().filter(|entry| match entry.state {
            State::Ready { evicted }
            | State::Waiting { evicted }
            | State::Out { evicted, .. }
            | State::Dying { evicted, .. } => evicted,
            State::Reserved { .. } | State::Damaged => false,
        });
        let runs = self.core.absent_runs();
        assert!(runs.windows(2).all(|w| w[0].1.0 + 1 < w[1].0.0), "{runs:?}");
        let seqs = runs.iter().flat_map(|run| run.0.0..=run.1.0);
        assert!(seqs.eq(on_disk_only.map(|entry| entry.seq)), "{runs:?}");
    }

    /// A checkpoint is told of all that has not ended, and of nothing that has.
    pub(super) fn check_alive(&self) {
        let alive = self.core.alive();
        assert_eq!(alive.next_seq.0, self.next_seq);
        for runs in [&alive.live, &alive.redelivered] {
            assert!(runs.iter().all(|(first, last)| first <= last));
            assert!(runs.windows(2).all(|w| w[0].1.0 + 1 < w[1].0.0), "{runs:?}");
        }
        let mut known = BTreeSet::new();
        for entry in &self.model.entries {
            known.insert(entry.seq);
            let expires = entry.persistent && entry.state != State::Damaged;
            assert!(!expires || alive.due.0 <= entry.due, "{entry:?} expires before");
            let live = holds(&alive.live, entry.seq);
            let marked = holds(&alive.redelivered, entry.seq);
            let out = matches!(entry.state, State::Out { .. } | State::Dying { .. });
            let reserved = matches!(entry.state, State::Reserved { .. });
            assert!(live || reserved || out && !entry.persistent, "{entry:?} is alive");
            // What died of a return has been out: if it never moves, it comes back redelivered.
            let redelivered = entry.redelivered || entry.was_out;
            assert!(!marked || redelivered, "{entry:?} was never requeued");
            assert!(marked || !redelivered || out && !entry.persistent, "{entry:?}");
        }
        for (first, last) in alive.live.iter().chain(&alive.redelivered) {
            let ended = self.persistent.range(first.0..=last.0).find(|seq| !known.contains(seq));
            assert_eq!(ended, None, "what has ended is not alive");
        }
    }
}

fn holds(runs: &[(Seq, Seq)], seq: u64) -> bool {
    runs.iter().any(|(first, last)| (first.0..=last.0).contains(&seq))
}
