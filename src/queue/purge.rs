//! Taking everything that is ready out of a queue at once: on demand, or because the queue ends.

use super::core::QueueCore;
use super::effects::Effects;
use super::gets::tell_got;
use super::outlet::{EndReason, Event};
use super::ready::{Dropped, Ready};
use super::runs::runs;
use crate::id::Seq;
use crate::limits::WORK_PER_LOCK_MAX;
use crate::store::RecordBatch;

/// The messages that a purge takes, whichever is shorter to say.
#[derive(Debug, PartialEq, Eq)]
enum Purged {
    These(Vec<(Seq, Seq)>),
    AllBut(Vec<(Seq, Seq)>),
}

impl QueueCore {
    /// Removes every message that is ready, waits or cannot be read; the caller drops them without
    /// the lock.
    pub fn purge(&mut self, records: &mut RecordBatch, effects: &mut Effects) -> Dropped {
        if self.durable && self.message_count() + self.ready.damaged_len() > 0 {
            match self.purged() {
                Purged::These(runs) => records.ack(self.id, runs),
                Purged::AllBut(runs) => records.purge(self.id, self.end_of_seqs(), runs),
            }
        }
        let purged = self.ready.take_all().with_retrying(self.retries.take());
        let purged = purged.with_forgotten(self.forget_keys());
        self.returns.keep(&self.checkout);
        // Whoever waited for a message that is gone finds the queue empty.
        let mut budget = WORK_PER_LOCK_MAX;
        self.serve_gets(&mut budget, records, effects);
        purged
    }

    /// Every seq that was given lies before.
    fn end_of_seqs(&self) -> Seq {
        match self.behaviour.max_priority {
            None => Seq(self.next_seq),
            Some(lowest) => {
                lowest.checked_add(1).map_or(Seq(u64::MAX), |rank| Seq::ranked(rank, 0))
            }
        }
    }

    /// What a purge takes, said in as few runs as can be. A hundred thousand unacked messages are
    /// not even sorted if all that is ready is one run.
    fn purged(&self) -> Purged {
        let staying = self.checkout.len() + self.ready.reserved_len();
        let mut these = self.ready.runs(staying);
        if let Some(retries) = &self.retries {
            let waiting = retries.runs(staying);
            these = these.zip(waiting).map(|(ready, waiting)| [ready, waiting].concat());
        }
        if let Some(these) = these.as_ref().filter(|runs| runs.len() == 1) {
            return Purged::These(these.clone());
        }
        let out = self.checkout.entries().map(|entry| entry.seq);
        let mut stay: Vec<u64> = out.chain(self.ready.reserved_seqs()).collect();
        stay.sort_unstable();
        let except = runs(stay);
        match these {
            Some(these) if these.len() < except.len() => Purged::These(these),
            _ => Purged::AllBut(except),
        }
    }

    /// The queue ends: consumers are told, messages are the caller's to drop without the lock.
    pub fn end(&mut self, effects: &mut Effects) -> (Dropped, impl Drop + use<>) {
        let reason = EndReason::QueueGone;
        self.consumers.remove_all(|token| Event::Ended { token, reason });
        self.push_events(effects);
        for waiter in self.get_waiters.take().into_iter().flat_map(|waiters| *waiters) {
            tell_got(&waiter, None, 0, effects);
        }
        let checked_out = self.checkout.take_all();
        self.dying = 0;
        self.absent_dead = None;
        let dropped = self.ready.take_all().with_retrying(self.retries.take());
        (dropped.with_forgotten(self.forget_keys()), checked_out)
    }
}

impl Ready {
    /// What a purge takes as runs, in no order. `None` if there are more than `max` runs or
    /// requeued messages, since finding out more would cost more, or if some are invisible.
    fn runs(&self, max: usize) -> Option<Vec<(Seq, Seq)>> {
        if self.reserved_len() > 0 || self.returned.len() > max {
            return None;
        }
        let mut found = runs(self.returned.keys().copied());
        found.extend(self.damaged.iter().flat_map(|damaged| &damaged.all));
        found.extend(self.runs_in_order(max.checked_sub(found.len())?));
        (found.len() <= max).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{get, publish, with};
    use super::super::settings::Behaviour;
    use super::super::settle::Settlement;
    use super::*;

    fn run(first: u64, last: u64) -> (Seq, Seq) {
        (Seq(first), Seq(last))
    }

    #[test]
    fn what_a_purge_takes_is_said_in_as_few_runs_as_can_be() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(10, records, effects);
        assert_eq!(core.purged(), Purged::AllBut(vec![]));
        // 1, 3 and 5 stay out, all that is ready is one run.
        let out: Vec<_> = (0..6).map(|_| get(&mut core, records, effects)).collect();
        core.settle(&[out[1], out[3], out[5]], Settlement::Ack, records, effects);
        assert_eq!(core.purged(), Purged::These(vec![run(7, 10)]));
        // 1 and 5 are back: three runs are ready, and one is out.
        core.settle(&[out[0], out[4]], Settlement::Requeue, records, effects);
        assert_eq!(core.purged(), Purged::AllBut(vec![run(3, 3)]));
        // An invisible message is not named by what goes.
        let target = core.reserve(publish(), effects).unwrap();
        assert_eq!(core.purged(), Purged::AllBut(vec![run(3, 3), run(11, 11)]));
        core.show(&[target.seq], records, effects);
        core.settle(&[out[2]], Settlement::Requeue, records, effects);
        assert_eq!(core.purged(), Purged::AllBut(vec![]));
        core.purge(records, effects);
        assert_eq!(core.ready_len(), 0);
    }

    #[test]
    fn two_runs_that_go_are_fewer_than_four_that_stay() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(9, records, effects);
        let out: Vec<_> = (0..8).map(|_| get(&mut core, records, effects)).collect();
        core.settle(&[out[1], out[3], out[6]], Settlement::Ack, records, effects);
        core.settle(&[out[5]], Settlement::Requeue, records, effects);
        // 1, 3, 5 and 8 are out.
        assert_eq!(core.purged(), Purged::These(vec![run(6, 6), run(9, 9)]));
    }

    #[test]
    fn what_waits_for_its_next_attempt_goes_too() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(7, records, effects);
        let delay = Behaviour { retry_delay_ms: Some((100, 100)), ..Behaviour::default() };
        core.set_behaviour(delay, records, effects);
        let out: Vec<_> = (0..6).map(|_| get(&mut core, records, effects)).collect();
        core.settle(&[out[2], out[4]], Settlement::Ack, records, effects);
        core.settle(&out[..1], Settlement::Retry, records, effects);
        // 2, 4 and 6 are out.
        assert_eq!(core.purged(), Purged::These(vec![run(7, 7), run(1, 1)]));
        core.settle(&out[1..2], Settlement::Retry, records, effects);
        core.settle(&out[3..4], Settlement::Retry, records, effects);
        assert_eq!(core.purged(), Purged::AllBut(vec![run(6, 6)]));
        core.purge(records, effects);
        assert_eq!((core.message_count(), core.unacked_len()), (0, 1));
    }

    #[test]
    fn what_is_visible_makes_runs() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(30, records, effects);
        let out: Vec<_> = (0..9).map(|_| get(&mut core, records, effects)).collect();
        core.settle(&[out[3], out[7]], Settlement::Requeue, records, effects);
        core.page_out(&[run(12, 20)], 0, 0, 100);
        let runs = vec![run(8, 8), run(4, 4), run(10, 30)];
        assert_eq!(core.ready.runs(3), Some(runs));
        assert_eq!(core.ready.runs(2), None);
        assert_eq!(core.ready.runs(0), None);
        core.reserve(publish(), effects);
        assert_eq!(core.ready.runs(3), None);
    }
}
