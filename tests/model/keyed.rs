//! Queues with `x-group-key` or `x-fair-key` against a naive model: whatever comes and goes, a
//! key's messages keep their order, no group is at two consumers, nothing that may go is idle, and
//! keys take turns.

mod check;
mod world;

use leveret::name::Name;
use leveret::queue::{Behaviour, DeadLetter, DeadLetterStrategy, Settlement};
use proptest::prelude::*;
use world::{Post, World};

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<Post>),
    Reserve(Post),
    Record { show: bool },
    Consume { prefetch: u32, no_ack: bool, limited: bool },
    Cancel(usize),
    Get { no_ack: bool },
    Settle { picks: Vec<usize>, how: Settlement },
    Bury(usize),
    Purge,
    PageOut { keep_head: usize, keep_tail: usize, max: usize },
    EvictBodies(usize),
    Answer { looked_at: usize, lost: u64 },
    Advance(u64),
    Behave(Policy),
    Restart,
}

/// What a policy changes while messages wait, are out and die.
#[derive(Clone, Copy, Debug)]
struct Policy {
    dead_letters: bool,
    max_length: Option<u64>,
    exact_expiry: bool,
}

fn post() -> impl Strategy<Value = Post> {
    let ttl = prop::option::weighted(0.15, 0..40_u64);
    (prop::option::weighted(0.9, 0..5_u8), prop::bool::weighted(0.8), ttl)
        .prop_map(|(key, persistent, ttl_ms)| Post { key, persistent, ttl_ms })
}

fn op() -> impl Strategy<Value = Op> {
    let how = prop_oneof![
        4 => Just(Settlement::Ack),
        1 => Just(Settlement::Requeue),
        1 => Just(Settlement::Retry),
        1 => Just(Settlement::Discard)
    ];
    let settle = (prop::collection::vec(any::<usize>(), 1..6), how);
    let consume = (0..4_u32, prop::bool::weighted(0.2), prop::bool::weighted(0.3));
    let lost = prop_oneof![4 => Just(0), 1 => any::<u64>()];
    prop_oneof![
        8 => prop::collection::vec(post(), 1..8).prop_map(Op::Publish),
        2 => post().prop_map(Op::Reserve),
        3 => prop::bool::weighted(0.7).prop_map(|show| Op::Record { show }),
        4 => consume.prop_map(|(prefetch, no_ack, limited)| {
            Op::Consume { prefetch, no_ack, limited }
        }),
        3 => any::<usize>().prop_map(Op::Cancel),
        3 => any::<bool>().prop_map(|no_ack| Op::Get { no_ack }),
        10 => settle.prop_map(|(picks, how)| Op::Settle { picks, how }),
        2 => (1..9_usize).prop_map(Op::Bury),
        1 => Just(Op::Purge),
        4 => (0..4_usize, 0..4_usize, 1..30_usize).prop_map(|(keep_head, keep_tail, max)| {
            Op::PageOut { keep_head, keep_tail, max }
        }),
        2 => (1..20_usize).prop_map(Op::EvictBodies),
        8 => (1..9_usize, lost).prop_map(|(looked_at, lost)| Op::Answer { looked_at, lost }),
        2 => (0..30_u64).prop_map(Op::Advance),
        2 => policy().prop_map(Op::Behave),
        1 => Just(Op::Restart),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let max_length = prop::option::weighted(0.2, 0..12_u64);
    (prop::bool::weighted(0.3), max_length, prop::bool::weighted(0.3)).prop_map(
        |(dead_letters, max_length, exact_expiry)| Policy {
            dead_letters,
            max_length,
            exact_expiry,
        },
    )
}

impl Policy {
    fn over(self, behaviour: Behaviour) -> Behaviour {
        let Self { dead_letters, max_length, exact_expiry } = self;
        let dead_letter = dead_letters.then(|| DeadLetter {
            exchange: Name::new("dlx"),
            routing_key: None,
            strategy: DeadLetterStrategy::default(),
        });
        Behaviour { dead_letter, max_length, exact_expiry, ..behaviour }
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    (any::<bool>(), prop::bool::weighted(0.2), policy()).prop_map(|(groups, single, policy)| {
        let key = Some(Name::new("k"));
        policy.over(Behaviour {
            group_key: key.clone().filter(|_| groups),
            fair_key: key.filter(|_| !groups),
            single_active_consumer: single,
            ..Behaviour::default()
        })
    })
}

impl World {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish(posts) => self.publish(&posts),
            Op::Reserve(post) => self.reserve(post),
            Op::Record { show } => self.record(show),
            Op::Consume { prefetch, no_ack, limited } => self.consume(prefetch, no_ack, limited),
            Op::Cancel(nth) => self.cancel(nth),
            Op::Get { no_ack } => self.get(no_ack),
            Op::Settle { picks, how } => self.settle_some(&picks, how),
            Op::Bury(max) => self.bury(max),
            Op::Purge => self.purge(),
            Op::PageOut { keep_head, keep_tail, max } => {
                self.page_out(keep_head, keep_tail, max);
            }
            Op::EvictBodies(max) => self.evict_bodies(max),
            Op::Answer { looked_at, lost } => self.answer(looked_at, lost),
            Op::Advance(ms) => self.advance(ms),
            Op::Behave(policy) => self.set_behaviour(policy.over(self.behaviour.clone())),
            Op::Restart => self.restart(),
        }
    }
}

fn keyed(key: u8) -> Post {
    Post { key: Some(key), persistent: true, ttl_ms: None }
}

fn grouping() -> Behaviour {
    Behaviour { group_key: Some(Name::new("k")), ..Behaviour::default() }
}

fn fair() -> Behaviour {
    Behaviour { fair_key: Some(Name::new("k")), ..Behaviour::default() }
}

#[test]
fn a_group_goes_to_one_consumer_while_others_go_elsewhere() {
    let mut world = World::new(grouping());
    world.consume(1, false, false);
    world.consume(1, false, false);
    world.publish(&[keyed(0), keyed(0), keyed(1), keyed(0)]);
    assert_eq!(world.out(), [(1, Some(1)), (3, Some(2))]);
    world.settle(&[3], Settlement::Ack);
    assert_eq!(world.out(), [(1, Some(1))]);
    world.settle(&[1], Settlement::Requeue);
    assert_eq!(world.out().len(), 1);
    let (first, _) = world.out()[0];
    assert_eq!(first, 1, "what came back goes before what came behind it");
}

#[test]
fn the_next_consumer_gets_what_the_last_one_returned_from_the_oldest_on() {
    let mut world = World::new(grouping());
    world.consume(0, false, false);
    world.publish(&[keyed(0), keyed(0), keyed(0)]);
    world.consume(2, false, false);
    world.cancel(0);
    world.publish(&[keyed(0)]);
    world.settle(&[3, 2], Settlement::Requeue);
    assert_eq!(world.out(), [(1, Some(1))], "the key is held until all of it is settled");
    world.settle(&[1], Settlement::Requeue);
    assert_eq!(world.out(), [(1, Some(2)), (2, Some(2))]);
}

#[test]
fn a_small_tenant_is_served_at_once_behind_a_long_backlog() {
    let mut world = World::new(fair());
    world.publish(&[keyed(0); 500]);
    world.publish(&[keyed(1), keyed(2), keyed(1)]);
    world.consume(6, false, false);
    let seqs: Vec<_> = world.out().into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(seqs, [1, 2, 3, 501, 502, 503]);
}

#[test]
fn a_restart_keeps_groups_and_turns_though_their_keys_are_on_disk() {
    for behaviour in [grouping(), fair()] {
        let mut world = World::new(behaviour);
        for key in 0..40 {
            world.publish(&[keyed(key % 5), keyed(0)]);
        }
        world.restart();
        world.consume(3, false, false);
        world.consume(3, false, false);
        world.publish(&[keyed(3), keyed(7)]);
        world.finish();
    }
}

proptest! {
    #[test]
    fn any_history_keeps_order_and_leaves_nothing_idle(
        behaviour in behaviour(),
        ops in prop::collection::vec(op(), 1..100),
    ) {
        let mut world = World::new(behaviour);
        ops.into_iter().for_each(|op| world.apply(op));
        world.finish();
    }
}
