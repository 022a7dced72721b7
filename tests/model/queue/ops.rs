//! The verbs of a history, and how likely each is.

use super::lifetime::TTL_MS_MAX;
use super::model::Consumer;
use super::paging::{Answer, PageOut};
use super::publish::Post;
use super::world::CHANNELS;
use leveret::name::Name;
use leveret::queue::{Behaviour, DeadLetter, DeadLetterStrategy, Overflow, Settlement};
use proptest::prelude::*;

/// Three of the largest use up a consumer's credit of bytes.
pub(super) const BODY_LENS: [usize; 4] = [0, 1, 100, 2 << 20];

#[derive(Clone, Debug)]
pub(super) enum Op {
    Publish(Vec<Post>),
    Reserve(Post),
    Withdraw,
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
    /// What the pager does where messages join anywhere: how many stay, which are not on disk, and
    /// whether transient ones are written before.
    PageOutBetween {
        keep: usize,
        holes: u64,
        spills: bool,
    },
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
    Advance(u64),
    Tick,
    /// How many dead letters have moved, and whether a record of theirs says so.
    Bury(usize, bool),
    Behave(Behaviour),
    Restart {
        clean: bool,
        seed: u64,
    },
}

/// A message that waits for ever, half of the time.
fn post() -> impl Strategy<Value = Post> {
    let len = prop_oneof![
        6 => (any::<bool>(), prop::sample::select(&BODY_LENS[..3])),
        1 => Just((false, BODY_LENS[3])),
    ];
    let ttl_ms = prop_oneof![
        4 => Just(u64::MAX),
        1 => Just(0),
        3 => 1..=TTL_MS_MAX,
    ];
    (len, ttl_ms, 0..5_u8).prop_map(|((persistent, body_len), ttl_ms, priority)| Post {
        persistent,
        body_len,
        ttl_ms,
        priority,
    })
}

fn dead_letter() -> DeadLetter {
    let strategy = DeadLetterStrategy::default();
    DeadLetter { exchange: Name::new("dlx"), routing_key: None, strategy }
}

/// What a policy may say, each of it or nothing.
fn policy() -> impl Strategy<Value = Behaviour> {
    let overflow = prop::sample::select(vec![
        Overflow::DropHead,
        Overflow::RejectPublish,
        Overflow::RejectPublishDlx,
    ]);
    let len = prop::option::weighted(0.3, 0..8_u64);
    let bytes = prop::sample::select(vec![0, 1, 150, 3 << 20]);
    let bytes = prop::option::weighted(0.2, bytes);
    let ttl_ms = prop::option::weighted(0.3, 0..=TTL_MS_MAX);
    let expires_ms = prop::option::weighted(0.2, 1..=TTL_MS_MAX);
    let delivery_limit = prop::option::weighted(0.2, 0..4_u64);
    let delay = (1..=TTL_MS_MAX / 5, 0..TTL_MS_MAX);
    let delay = prop::option::weighted(0.4, delay.prop_map(|(min, more)| (min, min + more)));
    let limits = (len, bytes, delivery_limit);
    (overflow, limits, (ttl_ms, expires_ms, delay), (any::<bool>(), any::<bool>())).prop_map(
        |(overflow, limits, (message_ttl_ms, expires_ms, retry_delay_ms), flags)| Behaviour {
            overflow,
            max_length: limits.0,
            max_length_bytes: limits.1,
            delivery_limit: limits.2,
            message_ttl_ms,
            expires_ms,
            retry_delay_ms,
            dead_letter: flags.0.then(dead_letter),
            exact_expiry: flags.1,
            ..Behaviour::default()
        },
    )
}

/// What a queue is declared with: half of them are plain.
pub(super) fn behaviour() -> impl Strategy<Value = Behaviour> {
    let max_priority = prop::option::of(1..4_u8);
    let with = (policy(), max_priority, any::<bool>());
    let with = with.prop_map(|(policy, max_priority, single_active_consumer)| Behaviour {
        max_priority,
        single_active_consumer,
        ..policy
    });
    prop_oneof![1 => Just(Behaviour::default()), 1 => with]
}

fn consumer() -> impl Strategy<Value = Consumer> {
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    (0..CHANNELS, flags, 0..4_u32, 0..4_i64).prop_map(
        |(channel, (no_ack, exclusive), prefetch, priority)| Consumer {
            exclusive,
            priority: [0, 0, -5, 3][priority as usize],
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

fn page_out_between() -> impl Strategy<Value = Op> {
    let keep = prop_oneof![2 => Just(0), 1 => 0..6_usize];
    let with = (keep, holes(), any::<bool>());
    with.prop_map(|(keep, holes, spills)| Op::PageOutBetween { keep, holes, spills })
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

pub(super) fn op() -> impl Strategy<Value = Op> {
    let how = prop::sample::select(vec![
        Settlement::Ack,
        Settlement::Ack,
        Settlement::Requeue,
        Settlement::Retry,
        Settlement::Retry,
        Settlement::Discard,
    ]);
    let picks = prop::collection::vec(0..64_usize, 1..6);
    let settle = (picks, how, any::<bool>()).prop_map(|(picks, how, transaction)| Op::Settle {
        picks,
        how,
        transaction,
    });
    prop_oneof![
        12 => prop::collection::vec(post(), 1..5).prop_map(Op::Publish),
        3 => post().prop_map(|post| Op::Reserve(Post { body_len: 3, ..post })),
        1 => Just(Op::Withdraw),
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
        8 => page_out_between(),
        2 => (1..5_usize, holes()).prop_map(|(max, holes)| Op::EvictBodies { max, holes }),
        6 => spill(),
        2 => (1..5_usize).prop_map(Op::SpillAside),
        4 => answer().prop_map(Op::Answer),
        4 => Just(Op::Answer(Answer::WHOLE)),
        4 => Just(Op::Round),
        5 => (0..=TTL_MS_MAX / 2).prop_map(Op::Advance),
        5 => Just(Op::Tick),
        4 => (1..6_usize, any::<bool>()).prop_map(|(count, in_one)| Op::Bury(count, in_one)),
        2 => policy().prop_map(Op::Behave),
        1 => (any::<bool>(), any::<u64>()).prop_map(|(clean, seed)| Op::Restart { clean, seed }),
    ]
}

/// Of a queue with priorities that becomes long, leaves memory and comes back.
pub(super) fn op_of_ranks() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => op(),
        8 => prop::collection::vec(post(), 3..12).prop_map(Op::Publish),
        4 => page_out_between(),
        2 => page_out().prop_map(Op::PageOut),
        2 => Just(Op::Answer(Answer::WHOLE)),
    ]
}

/// Priorities, and little else that ends messages.
pub(super) fn behaviour_of_ranks() -> impl Strategy<Value = Behaviour> {
    let bytes = prop::option::weighted(0.1, Just(2 << 20));
    (1..4_u8, bytes, prop::bool::weighted(0.3)).prop_map(
        |(max_priority, max_length_bytes, exact_expiry)| Behaviour {
            max_priority: Some(max_priority),
            max_length_bytes,
            exact_expiry,
            ..Behaviour::default()
        },
    )
}
