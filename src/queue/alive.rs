//! What a checkpoint must know of a queue: which of its messages have not ended.

use super::core::QueueCore;
use super::entries::Entries;
use super::ready::Ready;
use super::runs::{add_run, joined, run_end, runs};
use crate::id::Seq;
use crate::store::CameBack;
use crate::time::UnixMillis;

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

impl QueueCore {
    /// What has not ended. Walks over what is checked out, returned, retried or beside a gap, never
    /// over what was published one after the other and waits.
    #[must_use]
    pub fn alive(&self) -> Alive {
        let mut live = self.ready.runs_in_order(usize::MAX);
        let mut redelivered = self.ready.redelivered_in_order();
        let mut due = self.deadlines.first;
        // These are in order, and may be all that is in memory.
        let mut returned = Vec::new();
        for (&seq, entry) in &self.ready.returned {
            add_run(&mut returned, (seq, seq));
            due = due.min(entry.due);
            if entry.redelivered {
                redelivered.push((Seq(seq), Seq(seq)));
            }
        }
        live.extend(returned);
        let out = self.checkout.entries().filter(|entry| entry.persistent);
        let waiting = self.retries.iter().flat_map(|retries| retries.entries());
        for entry in out.chain(waiting) {
            live.push((Seq(entry.seq), Seq(entry.seq)));
            due = due.min(entry.due);
            if entry.redelivered {
                redelivered.push((Seq(entry.seq), Seq(entry.seq)));
            }
        }
        if let Some(damaged) = &self.ready.damaged {
            live.extend(&damaged.all);
            redelivered.extend(&damaged.redelivered);
        }
        let next_seq = Seq(self.next_seq);
        let returns = self.came_back().collect();
        Alive { next_seq, due, live: joined(live), redelivered: joined(redelivered), returns }
    }
}

impl Ready {
    /// The messages of head window, pages and tail as runs, in order. Stops once there are more
    /// than `max`.
    pub(super) fn runs_in_order(&self, max: usize) -> Vec<(Seq, Seq)> {
        let mut found = Vec::new();
        add_runs(&self.fifo, max, &mut found);
        if let Some(middle) = &self.middle {
            for page in &middle.pages {
                if found.len() > max {
                    break;
                }
                page.add_runs(usize::MAX, &mut found);
            }
            add_runs(&middle.tail, max, &mut found);
        }
        found
    }

    /// Those of them that are marked redelivered. What was published since the last mark is not
    /// looked at.
    fn redelivered_in_order(&self) -> Vec<(Seq, Seq)> {
        let marked = |entries: &Entries| {
            let old = entries.iter().take_while(|entry| entry.seq < self.marked_below);
            runs(old.filter(|entry| entry.redelivered).map(|entry| entry.seq))
        };
        let mut found = marked(&self.fifo);
        if let Some(middle) = &self.middle {
            middle.pages.iter().for_each(|page| page.add_redelivered(&mut found));
            found.extend(marked(&middle.tail));
        }
        found
    }
}

fn add_runs(entries: &Entries, max: usize, found: &mut Vec<(Seq, Seq)>) {
    for chunk in entries.chunks() {
        let seq = |at: usize| chunk[at].seq;
        let mut at = 0;
        while at < chunk.len() && found.len() <= max {
            let end = run_end(at, chunk.len(), seq);
            add_run(found, (seq(at), seq(end)));
            at = end + 1;
        }
    }
}
