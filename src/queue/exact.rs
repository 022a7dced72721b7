//! Messages that expire at their time wherever they stand (`x-expiry = exact`): behind others that
//! live longer, among requeued ones, in lower priorities, in pages on disk.
//!
//! The queue still has one deadline, the first of all times that it knows, and what becomes due
//! leaves at the tick that it asked for, in the order of times. A message that is due is never
//! handed over: the head is looked at in any case. What lies on disk is read before it ends: its
//! body counts in the queue's bytes, a dead letter needs it, and what waited over a restart knows
//! no more than a bound of its time. Only what is due is read, so a page is not read again and
//! again.

use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::{Effects, Load};
use super::load::Answer;
use super::ready::Entry;
use crate::limits::{EXPIRED_PER_LOCK_MAX, WORK_PER_LOCK_MAX};
use crate::store::RecordBatch;
use crate::time::UnixMillis;
use std::collections::btree_map::Entry::Occupied;

impl QueueCore {
    /// A policy has changed how messages expire.
    #[cold]
    pub(super) fn switch_expiry(&mut self, exact: bool, effects: &mut Effects) {
        if exact {
            self.ready.begin_dues();
            self.ask_again(effects);
        } else {
            effects.unneeded.extend(self.ready.dues.take().map(|dues| *dues));
        }
    }

    /// Adds a message to a queue whose messages go into the map.
    pub(super) fn push_mapped(&mut self, entry: Entry) {
        let was_exact = self.ready.dues.is_none() && !self.id.is_timed();
        if was_exact && self.ready.returned.is_empty() {
            self.ready.mapped = false;
            self.ready.push(entry);
        } else {
            self.ready.push_mapped(entry);
        }
    }

    /// Ends what is due, as much of it as one lock hold may, and asks for what has to be read. On
    /// hold nothing ends, but what the queue had goes into the map, or it could not leave memory.
    #[cold]
    pub(super) fn expire_anywhere(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        let (mut moves, mut ends) = (WORK_PER_LOCK_MAX, EXPIRED_PER_LOCK_MAX);
        self.ready.sweep(&mut moves);
        if !self.on_hold {
            self.expire_listed(&mut ends, records, effects);
            self.raise_first_due();
            self.ask_for_due(effects);
        }
        if moves == 0 || ends == 0 {
            self.ask_again(effects);
        }
    }

    /// Forgets times that are over: the next start reads pages through once the queue's first time
    /// has come. An invisible message has none listed.
    fn raise_first_due(&mut self) {
        let known = self.ready.dues.as_ref().filter(|_| self.ready.reserved_len() == 0);
        if let Some(first) = known.and_then(|dues| dues.first()) {
            self.deadlines.first = first;
        }
    }

    fn expire_listed(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        while *budget > 0
            && !self.mourns_enough()
            && let Some(dues) = &mut self.ready.dues
            && let Some(&(due, seq)) = dues.listed.first()
            && due <= effects.now.unix
        {
            *budget -= 1;
            dues.listed.pop_first();
            match self.ready.returned.entry(seq) {
                // What was listed was a bound, from before it lay in a page.
                Occupied(entry) if entry.get().message.is_some() && entry.get().due > due => {}
                Occupied(entry) if entry.get().message.is_some() => {
                    let entry = entry.remove();
                    self.ready.uncount(&entry);
                    self.forget_known(&entry);
                    self.bury(entry, Reason::Expired, records, effects);
                }
                // Whether there is such a message is seen when it is asked for.
                _ => drop(dues.overdue.insert(seq)),
            }
        }
    }

    /// When something becomes due that the queue can end, or should ask for.
    pub(super) fn next_due_anywhere(&self, now: UnixMillis) -> UnixMillis {
        let never = UnixMillis::NEVER;
        let Some(dues) = self.ready.dues.as_ref().filter(|_| !self.mourns_enough()) else {
            return never;
        };
        if dues.sweep.is_some() || dues.wants_load(now) && !self.loading {
            return now;
        }
        // Whoever answers the load asks for the rest.
        let listed = dues.listed.first().map_or(never, |(due, _)| *due);
        let unread = dues.unread.map_or(never, |unread| unread.due);
        if unread > now { listed.min(unread) } else { listed }
    }

    /// Asks for what is due and lies in pages, unless something else is asked for.
    pub(super) fn ask_for_due(&mut self, effects: &mut Effects) {
        if self.loading || self.mourns_enough() {
            return;
        }
        let runs = self.ready.runs_of_due(effects.now.unix, &self.paging);
        if !runs.is_empty() {
            self.loading = true;
            effects.loads.push(Load { queue: self.id, runs });
        }
    }

    /// Ends those of the answers that are due and lie in pages, and lists the times of the others
    /// if the load was for that. Leaves in `answers` what consumers wait for. False if they do not.
    #[cold]
    pub(super) fn loaded_due(
        &mut self,
        answers: &mut Vec<Answer>,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let asked = self.ready.note_answered(answers);
        let (now, ours) = (effects.now.unix, asked.is_some());
        let goes = |answer: &mut Answer| match &answer.message {
            Some(_) => answer.due <= now,
            None => ours,
        };
        let going = answers.extract_if(.., goes).collect();
        if ours {
            self.ready.list_answered(answers);
            effects.ended.extend(answers.drain(..).filter_map(|answer| answer.message));
        }
        let mut others = Vec::new();
        let mut expired = self.ready.take_from_pages(going, &mut others);
        for answer in others {
            match self.ready.take_evicted(answer) {
                Ok(entry) => expired.push(entry),
                Err(answer) => answers.push(answer),
            }
        }
        expired.sort_by_key(|entry| entry.seq);
        answers.sort_by_key(|answer| answer.seq);
        for entry in expired {
            self.ready.unlist(entry.due, entry.seq);
            self.forget_known(&entry);
            self.bury(entry, Reason::Expired, records, effects);
        }
        self.raise_first_due();
        !ours
    }

    /// The lanes of a queue with keys may know it.
    fn forget_known(&mut self, entry: &Entry) {
        if let Some(keyed) = &mut self.keyed {
            keyed.forget(entry);
        }
    }
}
