//! Queues against a naive model: any history of verbs hands over what the model allows, keeps the
//! journal in step, and comes back from it after a power loss or a clean stop.

mod checks;
mod endings;
mod lifetime;
mod model;
mod ops;
mod paging;
mod publish;
mod retry;
mod settle;
mod shared;
mod spill;
mod stored;
mod world;

use leveret::queue::{Behaviour, Settlement};
use model::Consumer;
use ops::Op;
use paging::Answer;
use proptest::prelude::*;
use publish::Post;
use world::World;
pub(super) use world::{Mailbox, PAGING, QUEUE};

impl World {
    /// In a plain queue nothing ever becomes due.
    fn apply_plain(&mut self, op: &Op) {
        let plain = |post: &Post| Post { ttl_ms: u64::MAX, ..*post };
        match op {
            Op::Publish(batch) => self.publish(&batch.iter().map(plain).collect::<Vec<_>>()),
            Op::Reserve(post) => self.reserve(plain(post)),
            Op::Behave(_) => {}
            _ => self.apply(op),
        }
        assert_eq!((self.asked, &*self.dead), (None, &[][..]), "a plain queue asks for nothing");
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Publish(batch) => self.publish(batch),
            Op::Reserve(post) => self.reserve(*post),
            Op::Withdraw => self.withdraw(),
            Op::Record(show) => self.record(*show),
            Op::Consume(consumer) => self.consume(consumer.clone()),
            Op::Cancel(nth) => self.cancel(*nth),
            Op::Get { channel, no_ack } => self.get(*channel, *no_ack),
            Op::Settle { picks, how, transaction } => {
                let out: Vec<_> = self.model.out().map(|entry| entry.seq).collect();
                let mut seqs: Vec<_> =
                    picks.iter().filter_map(|pick| out.get(pick % out.len().max(1))).collect();
                seqs.dedup();
                let seqs: Vec<_> = seqs.into_iter().copied().collect();
                self.settle(&seqs, *how, *transaction);
            }
            Op::Grant(nth) => self.grant(*nth),
            Op::Limit { channel, limit } => self.limit(*channel, *limit),
            Op::Purge => self.purge(),
            Op::Evict(nth) => self.evict(*nth),
            Op::PageOut(page_out) => self.page_out(*page_out),
            Op::PageOutBetween { keep, holes, spills } => {
                self.page_out_between(*keep, *holes, *spills);
            }
            Op::EvictBodies { max, holes } => self.evict_bodies(*max, *holes),
            Op::Spill { keep_head, keep_tail, max } => self.spill(*keep_head, *keep_tail, *max),
            Op::SpillAside(max) => self.spill_aside(*max),
            Op::Answer(answer) => self.answer(*answer),
            Op::Round => self.round(),
            Op::Advance(ms) => self.advance(*ms),
            Op::Tick => drop(self.tick()),
            Op::Bury(count, recorded) => self.bury(*count, *recorded),
            Op::Behave(behaviour) => self.set_behaviour(behaviour),
            Op::Restart { clean, seed } => self.restart(*clean, *seed),
        }
    }

    /// Nothing stays behind: all that is there can be loaded, shown, gotten and settled.
    fn empty(&mut self) {
        self.record(true);
        self.answer_all();
        assert!(self.model.waiting.is_empty(), "every get is answered");
        while !self.model.consumers.is_empty() {
            self.cancel(0);
        }
        let out: Vec<_> = self.model.out().map(|entry| entry.seq).collect();
        self.settle(&out, Settlement::Requeue, false);
        while self.core.ready_len() > 0 {
            self.get(0, true);
            self.answer_all();
        }
        self.answer_all();
        self.bury(usize::MAX, false);
        let damaged = |entry: &model::Entry| entry.state == model::State::Damaged;
        assert!(self.model.entries.iter().all(damaged));
        self.purge();
        assert!(self.model.entries.is_empty());
    }
}

#[test]
fn what_was_evicted_again_is_asked_for_again() {
    let mut world = World::new(true);
    world.publish(&[Post::plain(true, 1)]);
    for asked in 1..=2 {
        world.evict(0);
        world.consume(Consumer::new(0, 0, false, 0));
        assert_eq!(world.load, Some(vec![1]), "time {asked}");
        world.cancel(0);
        world.answer(Answer::WHOLE);
    }
    world.empty();
}

#[test]
fn a_get_that_waits_is_served_before_consumers() {
    let mut world = World::new(true);
    world.publish(&[Post::plain(true, 1), Post::plain(true, 1)]);
    world.evict(0);
    world.get(0, false);
    world.consume(Consumer::new(0, 0, false, 1));
    world.purge();
    world.publish(&[Post::plain(true, 1), Post::plain(true, 1)]);
    world.answer(Answer::WHOLE);
    world.empty();
}

/// Four times the usual number: what hides in queues needs several verbs in a row.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases * 4, ..usual }
}

fn run(durable: bool, behaviour: Behaviour, ops: &[Op], seed: u64) {
    let is_plain = behaviour == Behaviour::default();
    let mut world = World::doing(durable, behaviour);
    for op in ops {
        if is_plain {
            world.apply_plain(op);
        } else {
            world.apply(op);
        }
    }
    if seed & 2 == 0 {
        world.wait_for_all();
    }
    world.restart(seed & 1 == 0, seed);
    world.wait_for_all();
    world.empty();
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn any_history_hands_over_and_stores_what_the_model_says(
        durable in prop::bool::weighted(0.8),
        behaviour in ops::behaviour(),
        ops in prop::collection::vec(ops::op(), 1..80),
        seed in any::<u64>(),
    ) {
        run(durable, behaviour, &ops, seed);
    }

    #[test]
    fn any_history_of_priorities_hands_over_and_stores_what_the_model_says(
        durable in prop::bool::weighted(0.8),
        behaviour in ops::behaviour_of_ranks(),
        ops in prop::collection::vec(ops::op_of_ranks(), 1..60),
        seed in any::<u64>(),
    ) {
        run(durable, behaviour, &ops, seed);
    }
}
