//! Queues against a naive model: any history of verbs hands over what the model allows, keeps the
//! journal in step, and comes back from it after a power loss or a clean stop.

mod checks;
mod model;
mod paging;
mod settle;
mod shared;
mod spill;
mod stored;
mod world;

use leveret::queue::Settlement;
use model::Consumer;
use paging::{Answer, PageOut};
use proptest::prelude::*;
use world::{CHANNELS, World};

/// Three of the largest use up a consumer's credit of bytes.
const BODY_LENS: [usize; 4] = [0, 1, 100, 2 << 20];

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<(bool, usize)>),
    Reserve(bool),
    /// Records what is reserved, and shows it at once or later.
    Record(bool),
    Consume(Consumer),
    Cancel(usize),
    Get {
        channel: usize,
        no_ack: bool,
    },
    Settle {
        picks: Vec<usize>,
        how: Settlement,
        transaction: bool,
    },
    Grant(usize),
    Limit {
        channel: usize,
        limit: u32,
    },
    Purge,
    Evict(usize),
    PageOut(PageOut),
    EvictBodies {
        max: usize,
        holes: u64,
    },
    Spill {
        keep_head: usize,
        keep_tail: usize,
        max: usize,
    },
    SpillAside(usize),
    Answer(Answer),
    Round,
    Restart {
        clean: bool,
        seed: u64,
    },
}

impl World {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Publish(batch) => self.publish(batch),
            Op::Reserve(persistent) => self.reserve(*persistent),
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
            Op::EvictBodies { max, holes } => self.evict_bodies(*max, *holes),
            Op::Spill { keep_head, keep_tail, max } => self.spill(*keep_head, *keep_tail, *max),
            Op::SpillAside(max) => self.spill_aside(*max),
            Op::Answer(answer) => self.answer(*answer),
            Op::Round => self.round(),
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
        let damaged = |entry: &model::Entry| entry.state == model::State::Damaged;
        assert!(self.model.entries.iter().all(damaged));
        self.purge();
        assert!(self.model.entries.is_empty());
    }
}

fn publish() -> impl Strategy<Value = (bool, usize)> {
    prop_oneof![
        6 => (any::<bool>(), prop::sample::select(&BODY_LENS[..3])),
        1 => Just((false, BODY_LENS[3])),
    ]
}

fn consumer() -> impl Strategy<Value = Consumer> {
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    (0..CHANNELS, flags, 0..4_u32, 0..3_i64).prop_map(
        |(channel, (no_ack, exclusive), prefetch, priority)| Consumer {
            exclusive,
            priority: [0, 0, -5][priority as usize],
            ..Consumer::new(0, channel, no_ack, prefetch)
        },
    )
}

/// The disk has all, nearly all, or some.
fn holes() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 1 => (0..61_u32).prop_map(|at| 1 << at), 1 => any::<u64>()]
}

fn spill() -> impl Strategy<Value = Op> {
    let keep = prop_oneof![2 => Just(0), 1 => 0..4_usize];
    (keep.clone(), keep, 1..12_usize).prop_map(|(keep_head, keep_tail, max)| Op::Spill {
        keep_head,
        keep_tail,
        max,
    })
}

fn page_out() -> impl Strategy<Value = PageOut> {
    let keep = prop_oneof![2 => Just(0), 1 => 0..4_usize];
    (keep.clone(), keep, 1..20_usize, holes())
        .prop_map(|(keep_head, keep_tail, max, holes)| PageOut { keep_head, keep_tail, max, holes })
}

fn answer() -> impl Strategy<Value = Answer> {
    let lost =
        prop_oneof![3 => Just(0), 1 => (0..64_u32).prop_map(|at| 1 << at), 1 => any::<u64>()];
    let skipped = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    (0..8_usize, skipped, lost).prop_map(|(looked_at, skipped, lost)| Answer {
        looked_at,
        skipped,
        lost,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop::sample::select(vec![
        Settlement::Ack,
        Settlement::Ack,
        Settlement::Requeue,
        Settlement::Discard,
    ]);
    let picks = prop::collection::vec(0..64_usize, 1..6);
    let settle = (picks, how, any::<bool>()).prop_map(|(picks, how, transaction)| Op::Settle {
        picks,
        how,
        transaction,
    });
    prop_oneof![
        12 => prop::collection::vec(publish(), 1..5).prop_map(Op::Publish),
        3 => any::<bool>().prop_map(Op::Reserve),
        4 => any::<bool>().prop_map(Op::Record),
        6 => consumer().prop_map(Op::Consume),
        4 => (0..8_usize).prop_map(Op::Cancel),
        5 => (0..CHANNELS, any::<bool>()).prop_map(|(channel, no_ack)| Op::Get { channel, no_ack }),
        12 => settle,
        4 => (0..8_usize).prop_map(Op::Grant),
        2 => (0..CHANNELS, 0..3_u32).prop_map(|(channel, limit)| Op::Limit { channel, limit }),
        1 => Just(Op::Purge),
        3 => (0..32_usize).prop_map(Op::Evict),
        6 => Just(Op::Evict(0)),
        8 => page_out().prop_map(Op::PageOut),
        2 => (1..5_usize, holes()).prop_map(|(max, holes)| Op::EvictBodies { max, holes }),
        6 => spill(),
        2 => (1..5_usize).prop_map(Op::SpillAside),
        4 => answer().prop_map(Op::Answer),
        4 => Just(Op::Answer(Answer::WHOLE)),
        4 => Just(Op::Round),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(clean, seed)| Op::Restart { clean, seed }),
    ]
}

#[test]
fn what_was_evicted_again_is_asked_for_again() {
    let mut world = World::new(true);
    world.publish(&[(true, 1)]);
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
    world.publish(&[(true, 1), (true, 1)]);
    world.evict(0);
    world.get(0, false);
    world.consume(Consumer::new(0, 0, false, 1));
    world.purge();
    world.publish(&[(true, 1), (true, 1)]);
    world.answer(Answer::WHOLE);
    world.empty();
}

/// Four times the usual number: what hides in queues needs several verbs in a row.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases * 4, ..usual }
}

proptest! {
    #![proptest_config(cases())]
    #[test]
    fn any_history_hands_over_and_stores_what_the_model_says(
        durable in prop::bool::weighted(0.8),
        ops in prop::collection::vec(op(), 1..80),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(durable);
        for op in &ops {
            world.apply(op);
        }
        world.restart(seed & 1 == 0, seed);
        world.empty();
    }
}
