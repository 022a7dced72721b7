//! Messages that wait for their time: a queue without consumers, of which a message leaves when it
//! is due, to be routed.
//!
//! Such a queue is timed: order by seq is order by time, and among equal times by age, in memory,
//! in pages and on disk. So what waits needs nothing in memory but its seq, and no timer of its
//! own. What is due leaves as a dead letter does: checked out with nobody, until one record says
//! that it has moved.

use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::Effects;
use super::ready::{Entry, Head, Ready};
use crate::id::Seq;
use crate::limits::{CLOCK_JUMP_MS, RELEASE_READ_AHEAD_MS, RELEASES_UNDER_WAY_MAX};
use crate::store::RecordBatch;
use crate::time::UnixMillis;

/// Numbers of one millisecond: all of them, and those that a first message may get.
const NUMBERS: u64 = (1 << Seq::TIME_AT) - 1;
const FIRST_NUMBERS: u64 = NUMBERS >> 1;

/// A message that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Names it within its queue.
    pub seq: Seq,
    pub persistent: bool,
}

impl QueueCore {
    /// The seq of a message that is due then: behind all others of that time.
    ///
    /// No seq is given again, or an end that is still to be recorded would end the new message, and
    /// an old one's record would pass for the new one's. What is given up is known, also to a start
    /// if it has a record; what has been released lies below. The first of a millisecond begins at
    /// the count of messages, which a start takes up: so nothing is given again to a clock that was
    /// set back in between, unless half of the numbers have been gone through since. If a
    /// millisecond has no number left, its messages go behind those of the next.
    pub(super) fn next_timed_seq(&self, due: UnixMillis) -> Seq {
        let first = Seq::timed(due).0 | self.next_seq & FIRST_NUMBERS;
        let mut seq = first.max(self.released + 1);
        loop {
            let end = seq | NUMBERS;
            let given_up = self.returns.given_up_within(seq, end);
            match self.ready.last_within(seq, end).max(given_up) {
                None => return Seq(seq),
                Some(last) if last < end => return Seq(last + 1),
                Some(_) => seq = end + 1,
            }
        }
    }

    /// Lets go what is due. False if there is more than `budget` of it: the queue asks to be looked
    /// at again at once.
    pub(super) fn release(&mut self, budget: &mut usize, effects: &mut Effects) -> bool {
        let now = effects.now.unix;
        // Whoever has moved some asks for more.
        while self.dying < RELEASES_UNDER_WAY_MAX
            && self.ready.head_due() <= now
            && let Head::Resident = self.ready.head()
        {
            if *budget == 0 {
                self.ask_again(effects);
                return false;
            }
            *budget -= 1;
            let Some(entry) = self.ready.pop() else { break };
            self.released = self.released.max(entry.seq);
            self.send_away(entry, Reason::Released, effects);
        }
        // What nobody can wait for any more: the clock may have been set back a little.
        let over = Seq::timed(UnixMillis(now.0.saturating_sub(CLOCK_JUMP_MS)));
        self.returns.forget_through(self.released.max(over.0));
        if self.ready.is_clear() {
            self.deadlines.first = UnixMillis::NEVER;
        }
        if let Some((seq, due)) = self.wanted().filter(|_| !self.loading)
            && due <= now.plus(RELEASE_READ_AHEAD_MS)
        {
            self.ask_to_load(seq, effects);
        }
        true
    }

    /// When there is something to let go, or to read so that it can be.
    pub(super) fn next_release(&self) -> UnixMillis {
        let head = match self.ready.head() {
            Head::Resident if self.dying < RELEASES_UNDER_WAY_MAX => self.ready.head_due(),
            // Whoever brings it back, shows it or makes room will look.
            Head::Resident | Head::Evicted(_) | Head::Nothing => UnixMillis::NEVER,
        };
        let wanted = self.wanted().filter(|_| !self.loading);
        let read = wanted.map(|(_, due)| UnixMillis(due.0.saturating_sub(RELEASE_READ_AHEAD_MS)));
        head.min(read.unwrap_or(UnixMillis::NEVER))
    }

    /// The first message that should come back from disk, and when it is due.
    fn wanted(&self) -> Option<(u64, UnixMillis)> {
        if let Head::Evicted(seq) = self.ready.head() {
            return Some((seq, self.ready.head_due()));
        }
        let seq = self.ready.lacks_ahead(&self.paging)?;
        Some((seq, Seq(seq).time()))
    }

    /// Those that wait, the next first, from `from` on: at most `max`.
    #[must_use]
    pub fn waiting(&self, from: Seq, max: usize) -> Vec<Waiting> {
        self.ready.waiting(from.0, max)
    }

    /// Ends a message that waits. False if it does not wait here any more.
    pub fn cancel_waiting(
        &mut self,
        seq: Seq,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let Some(entry) = self.give_up(seq.0) else { return false };
        if entry.persistent {
            records.ack(self.id, [(seq, seq)]);
        }
        effects.ended.extend(entry.message);
        true
    }

    /// Has a message that waits wait until another time. It keeps its place until one record says
    /// that it has moved, and is another one from then on. False if it does not wait here any more.
    pub fn reschedule_waiting(
        &mut self,
        seq: Seq,
        until: UnixMillis,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let Some(entry) = self.give_up(seq.0) else { return false };
        self.send_away(entry, Reason::Rescheduled(until), effects);
        self.dispatch(records, effects);
        true
    }

    /// Takes out a message that waits. Its seq is not given again before its time.
    fn give_up(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.ready.take_waiting(seq)?;
        self.returns.give_up(seq, entry.persistent);
        Some(entry)
    }
}

impl Ready {
    /// The highest seq from `first` to `last` that is there, be it readable or not.
    fn last_within(&self, first: u64, last: u64) -> Option<u64> {
        let in_fifo = self.fifo.last_up_to(last).map(|entry| entry.seq);
        let returned = self.returned.range(first..=last).next_back().map(|(seq, _)| *seq);
        let paged = self.middle.as_ref().and_then(|middle| {
            let at = middle.pages.partition_point(|page| page.first().0 <= last).checked_sub(1)?;
            middle.pages[at].last_up_to(last)
        });
        let damaged = self.damaged.as_ref().and_then(|damaged| {
            let at = damaged.all.partition_point(|run| run.0.0 <= last).checked_sub(1)?;
            Some(damaged.all[at].1.0.min(last))
        });
        let found = in_fifo.into_iter().chain(returned).chain(paged).chain(damaged).max();
        found.filter(|seq| *seq >= first)
    }

    fn waiting(&self, from: u64, max: usize) -> Vec<Waiting> {
        let waiting = |entry: &Entry| (entry.seq, entry.persistent);
        let mut found: Vec<_> = self.fifo.iter_from(from).take(max).map(waiting).collect();
        let returned = self.returned.range(from..).map(|(_, entry)| entry);
        found.extend(returned.filter(|entry| !entry.reserved).take(max).map(waiting));
        if let Some(middle) = &self.middle {
            let at = middle.pages.partition_point(|page| page.last().0 < from);
            let paged = middle.pages.range(at..).flat_map(|page| page.walk());
            let paged = paged.skip_while(|(seq, _)| *seq < from).take(max);
            found.extend(paged.map(|(seq, marks)| (seq, marks.persistent())));
        }
        found.sort_unstable();
        found.truncate(max);
        let waiting = |(seq, persistent)| Waiting { seq: Seq(seq), persistent };
        found.into_iter().map(waiting).collect()
    }

    /// Takes a visible message out.
    fn take_waiting(&mut self, seq: u64) -> Option<Entry> {
        let entry = match self.fifo.remove(seq) {
            Some(entry) => Some(entry),
            None if self.returned.get(&seq).is_some_and(|entry| !entry.reserved) => {
                self.returned.remove(&seq)
            }
            None => return self.take_paged(seq),
        }?;
        self.uncount(&entry);
        Some(entry)
    }
}
