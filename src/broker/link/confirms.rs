//! Publisher confirms of one channel: which publishes still wait for the disk, and what to say.
//!
//! The client counts its publishes from 1, and so do we. Publishes of one batch wait for the
//! batch's last record; they are confirmed strictly in publish order, which keeps runs long.
//! RabbitMQ may confirm out of order, so no client can rely on either.

use crate::config::Durability;
use crate::id::Lsn;
use crate::limits::UNCONFIRMED_MAX;
use crate::store::Reach;
use std::collections::VecDeque;
use std::mem;

/// The confirm state of a channel in confirm mode.
#[derive(Debug)]
pub struct Confirms {
    /// Publishes counted so far.
    published: u64,
    /// Publishes that are in some run.
    registered: u64,
    /// The strongest that those not yet in a run ask for.
    durability: Durability,
    /// Publishes told to the client.
    reported: u64,
    /// Publishes told to be refused, but below others that were not yet told of; ascending.
    refused: VecDeque<u64>,
    /// Runs in publish order: all up to a number wait for this.
    waiting: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    up_to: u64,
    reach: Reach,
}

/// One `basic.ack` to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub up_to: u64,
    pub multiple: bool,
    /// Publishes that it confirms.
    pub count: u64,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            published: 0,
            registered: 0,
            durability: Durability::Os,
            reported: 0,
            refused: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }
}

impl Confirms {
    /// Counts one publish, whose queues ask for no more than `durability`.
    pub fn publish(&mut self, durability: Durability) {
        self.published += 1;
        self.durability = self.durability.max(durability);
    }

    /// What the next publish's number will be.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.published + 1
    }

    /// A queue has refused that publish, which is in no run yet. False if another one had: it is
    /// told once.
    pub fn refuse(&mut self, number: u64) -> bool {
        let place = self.refused.binary_search(&number);
        place.is_err_and(|at| {
            self.refused.insert(at, number);
            true
        })
    }

    /// All publishes counted so far, and maybe others, are in the journal's buffer and safe at
    /// `reach`.
    pub fn register(&mut self, mut reach: Reach) {
        if self.registered == self.published {
            return;
        }
        self.registered = self.published;
        if mem::replace(&mut self.durability, Durability::Os) == Durability::Os {
            // What is to be synced is another channel's.
            reach.durable = Lsn(0);
        }
        // An older run may wait for more: then this one does too, as order demands.
        let reach = self.waiting.back().map_or(reach, |run| run.reach.max(reach));
        match self.waiting.back_mut() {
            Some(run) if run.reach == reach => run.up_to = self.published,
            _ => self.waiting.push_back(Run { up_to: self.published, reach }),
        }
    }

    /// What may be confirmed now that the journal has come so far.
    pub fn report(&mut self, reached: Reach) -> Option<Ack> {
        let mut up_to = self.reported;
        while let Some(run) = self.waiting.front().filter(|run| reached.meets(run.reach)) {
            up_to = run.up_to;
            self.waiting.pop_front();
        }
        let mut count = up_to - self.reported;
        self.reported = up_to;
        // The client does not wait for what was refused: an ack may go past it, but not name it.
        let told = self.refused.partition_point(|number| *number <= up_to);
        for refused in self.refused.drain(..told).rev() {
            count -= 1;
            up_to -= u64::from(refused == up_to);
        }
        (count > 0).then_some(Ack { up_to, multiple: count > 1, count })
    }

    /// What the oldest waiting publish waits for.
    #[must_use]
    pub fn next_reach(&self) -> Option<Reach> {
        self.waiting.front().map(|run| run.reach)
    }

    #[must_use]
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// So many wait that the publisher must not be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.published - self.reported >= UNCONFIRMED_MAX as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Durability::{Fsync, Os};
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn publish(confirms: &mut Confirms, lsn: u64, durability: Durability) {
        confirms.publish(durability);
        confirms.register(Reach::of(Lsn(lsn), durability));
    }

    fn at(written: u64, durable: u64) -> Reach {
        Reach { written: Lsn(written), durable: Lsn(durable) }
    }

    #[test]
    fn an_older_publish_that_waits_for_the_disk_holds_back_a_newer_one() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 5, Fsync);
        publish(&mut confirms, 0, Os);
        assert_eq!(confirms.report(at(9, 4)), None);
        assert_eq!(confirms.report(at(9, 5)), Some(Ack { up_to: 2, multiple: true, count: 2 }));
        assert_eq!(confirms.report(at(9, 9)), None);
    }

    #[test]
    fn each_publish_waits_for_what_its_queues_ask_and_for_those_before_it() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 1, Os);
        publish(&mut confirms, 2, Fsync);
        publish(&mut confirms, 3, Os);
        assert_eq!(confirms.report(at(3, 0)), Some(Ack { up_to: 1, multiple: false, count: 1 }));
        assert_eq!(confirms.report(at(2, 2)), Some(Ack { up_to: 2, multiple: false, count: 1 }));
        assert_eq!(confirms.next_reach(), Some(at(3, 2)));
        assert_eq!(confirms.report(at(3, 2)), Some(Ack { up_to: 3, multiple: false, count: 1 }));
    }

    #[test]
    fn another_channels_sync_is_not_waited_for() {
        let (mut os, mut fsync) = (Confirms::default(), Confirms::default());
        os.publish(Os);
        fsync.publish(Os);
        fsync.publish(Fsync);
        for confirms in [&mut os, &mut fsync] {
            confirms.register(at(7, 6));
        }
        assert_eq!(os.report(at(7, 5)), Some(Ack { up_to: 1, multiple: false, count: 1 }));
        assert_eq!(fsync.report(at(7, 5)), None);
    }

    #[test]
    fn a_single_publish_is_confirmed_without_multiple() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, 0, Os);
        assert_eq!(confirms.report(at(0, 0)), Some(Ack { up_to: 1, multiple: false, count: 1 }));
    }

    #[test]
    fn what_is_not_registered_is_not_confirmed() {
        let mut confirms = Confirms::default();
        confirms.publish(Fsync);
        assert_eq!(confirms.report(at(100, 100)), None);
        assert_eq!(confirms.next_reach(), None);
    }

    /// Publishes one batch of which these were refused, waiting for `lsn`.
    fn batch(confirms: &mut Confirms, count: u64, refused: &[u64], lsn: u64) {
        (0..count).for_each(|_| confirms.publish(Fsync));
        assert!(refused.iter().all(|number| confirms.refuse(*number)));
        assert!(!refused.iter().any(|number| confirms.refuse(*number)), "told once");
        confirms.register(Reach::of(Lsn(lsn), Fsync));
    }

    #[test]
    fn an_ack_goes_past_what_was_refused_and_never_names_it() {
        let ack = |up_to, multiple, count| Some(Ack { up_to, multiple, count });
        let cases: [(&[u64], Option<Ack>); 8] = [
            (&[], ack(4, true, 4)),
            (&[1], ack(4, true, 3)),
            (&[2, 3], ack(4, true, 2)),
            (&[4], ack(3, true, 3)),
            (&[3, 4], ack(2, true, 2)),
            (&[2, 3, 4], ack(1, false, 1)),
            (&[1, 2, 3], ack(4, false, 1)),
            (&[1, 2, 3, 4], None),
        ];
        for (refused, expected) in cases {
            let mut confirms = Confirms::default();
            batch(&mut confirms, 4, refused, 1);
            assert_eq!(confirms.report(at(1, 1)), expected, "{refused:?} refused");
            assert_eq!((confirms.next_reach(), confirms.reported()), (None, 4));
            // Numbers go on behind them.
            batch(&mut confirms, 2, &[6], 2);
            assert_eq!(confirms.report(at(2, 2)), ack(5, false, 1));
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// So many, of which those at these places are refused.
        Publish(Vec<bool>),
        Reach(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            vec(prop::bool::weighted(0.3), 1..8).prop_map(Step::Publish),
            (0..4_u64).prop_map(Step::Reach),
        ]
    }

    proptest! {
        /// A client settles what a nack names, and what an ack names or, if it is multiple, goes
        /// past and is not settled.
        #[test]
        fn a_client_hears_of_each_publish_once_and_not_too_early(
            steps in vec(step(), 1..40),
        ) {
            let mut confirms = Confirms::default();
            let (mut lsn, mut reached) = (0, 0);
            // By publish: the LSN that it waits for, or `None` once the client has settled it.
            let mut client: Vec<Option<u64>> = Vec::new();
            for step in steps.into_iter().chain([Step::Reach(u64::MAX)]) {
                match step {
                    Step::Publish(refused) => {
                        lsn += 1;
                        let first = confirms.next_number();
                        client.extend(refused.iter().map(|refused| (!refused).then_some(lsn)));
                        let numbers = (first..).zip(&refused);
                        let refused = numbers.filter_map(|(n, refused)| refused.then_some(n));
                        let refused: Vec<_> = refused.collect();
                        batch(&mut confirms, client.len() as u64 + 1 - first, &refused, lsn);
                    }
                    Step::Reach(further) => {
                        reached = lsn.min(reached + further.min(lsn));
                        let due = client.iter().flatten().filter(|lsn| **lsn <= reached).count();
                        let ack = confirms.report(at(reached, reached));
                        prop_assert_eq!(ack.map_or(0, |ack| ack.count), due as u64);
                        let Some(ack) = ack else { continue };
                        let last = usize::try_from(ack.up_to).unwrap() - 1;
                        prop_assert!(client[last].is_some(), "it names what was settled");
                        let first = if ack.multiple { 0 } else { last };
                        for publish in &mut client[first..=last] {
                            prop_assert!(publish.take().is_none_or(|lsn| lsn <= reached));
                        }
                    }
                }
            }
            prop_assert!(client.iter().all(Option::is_none));
            prop_assert_eq!(confirms.reported(), client.len() as u64);
            prop_assert!(confirms.refused.is_empty() && confirms.waiting.is_empty());
        }
    }
}
