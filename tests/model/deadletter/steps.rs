//! What a history consists of.

use leveret::queue::Settlement;
use proptest::collection::vec;
use proptest::prelude::*;

/// Queues, of which the last keeps what it gets.
pub(super) const NAMES: [&str; 5] = ["q0", "q1", "q2", "q3", "end"];
pub(super) const END: usize = 4;
/// The exchange that leads to both of these.
pub(super) const FAN: &str = "fan";
pub(super) const FANNED: [usize; 2] = [2, 3];

pub(super) const OVERFLOWS: [&str; 3] = ["drop-head", "reject-publish", "reject-publish-dlx"];

/// Where a queue's dead letters go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum To {
    /// To an exchange with one queue; the letter keeps its routing key.
    Queue(usize),
    /// By a dead-letter key.
    Key(usize),
    /// By a dead-letter key of the default exchange, which is the queue's name.
    Default(usize),
    Fan,
    /// To an exchange that is missing.
    Missing,
    /// To the queue that the routing key names.
    OldKey,
}

#[derive(Clone, Debug)]
pub(super) struct Arguments {
    pub(super) to: Option<To>,
    pub(super) ttl: Option<u32>,
    pub(super) length: Option<u32>,
    pub(super) overflow: usize,
    pub(super) priorities: bool,
}

/// How a world begins.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Nothing is ever dropped: dead letters go on, and do not go round.
    pub(super) keeps_all: bool,
    pub(super) queues: Vec<Arguments>,
    pub(super) frame_bytes: usize,
    pub(super) segment_bytes: u64,
    pub(super) spills: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Publication {
    /// A queue, or the two of the fanout exchange.
    pub(super) to: usize,
    pub(super) persistent: bool,
    pub(super) ttl: Option<u64>,
    pub(super) priority: u8,
    pub(super) len: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) pattern: &'static str,
    pub(super) ttl: Option<u32>,
    pub(super) length: Option<u32>,
    pub(super) overflow: Option<usize>,
    pub(super) to: Option<To>,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Publish(Vec<Publication>),
    /// Gets some messages and settles them with publishes in one transaction.
    Commit(Vec<Publication>, usize, Vec<bool>),
    Get(usize, bool),
    Consume(usize),
    Cancel,
    Settle(prop::sample::Index, Settlement),
    SettleAll(Settlement),
    SetPolicy(u8, Policy),
    ClearPolicy(u8),
    /// Deleted and declared again.
    Renew(usize),
    Delete(usize),
    Declare(usize),
    Purge(usize),
    /// Time passes, and the ticker looks.
    Tick(u64),
    Load,
    Page,
    Round,
    Keep,
    Checkpoint,
    /// Everything becomes safe and is counted.
    Look,
    Crash(u64),
    /// The power goes in a round, at that of its places.
    CutRound(prop::sample::Index, u64, u64),
    Stop,
}

fn to(keeps_all: bool, from: usize) -> BoxedStrategy<Option<To>> {
    let target = if keeps_all { from + 1..NAMES.len() } else { 0..NAMES.len() };
    let one = (target, 0..3_u8).prop_map(|(queue, how)| match how {
        0 => To::Queue(queue),
        1 => To::Key(queue),
        _ => To::Default(queue),
    });
    if !keeps_all {
        let others = prop_oneof![Just(To::Missing), Just(To::OldKey), Just(To::Fan)];
        prop::option::weighted(0.8, prop_oneof![3 => one, 1 => others]).boxed()
    } else if from < FANNED[0] {
        prop_oneof![1 => one, 1 => Just(To::Fan)].prop_map(Some).boxed()
    } else {
        one.prop_map(Some).boxed()
    }
}

fn arguments(keeps_all: bool, queue: usize) -> BoxedStrategy<Arguments> {
    if queue == END {
        let keeps = Arguments { to: None, ttl: None, length: None, overflow: 0, priorities: false };
        return Just(keeps).boxed();
    }
    let ttl = prop::option::weighted(0.3, 0..40_u32);
    let length = prop::option::weighted(0.4, 0..5_u32);
    (to(keeps_all, queue), ttl, length, 0..3_usize, any::<bool>())
        .prop_map(move |(to, ttl, length, overflow, priorities)| {
            // A target that refuses drops.
            let overflow = if keeps_all && queue > 0 { 0 } else { overflow };
            Arguments { to, ttl, length, overflow, priorities }
        })
        .boxed()
}

impl Arbitrary for Setup {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Self> {
        let setup = |keeps_all| {
            let queues: Vec<_> = (0..NAMES.len()).map(|at| arguments(keeps_all, at)).collect();
            let frame_bytes = prop::sample::select(vec![100, 500, 1 << 20]);
            let segment_bytes = prop::sample::select(vec![6 * 1024, 64 * 1024]);
            (queues, frame_bytes, segment_bytes, any::<bool>()).prop_map(
                move |(queues, frame_bytes, segment_bytes, spills)| Self {
                    keeps_all,
                    queues,
                    frame_bytes,
                    segment_bytes,
                    spills,
                },
            )
        };
        any::<bool>().prop_flat_map(setup).boxed()
    }
}

fn publication() -> impl Strategy<Value = Publication> {
    let ttl = prop::option::weighted(0.2, 0..40_u64);
    let to = prop_oneof![3 => 0..2_usize, 2 => 2..=NAMES.len()];
    (to, prop::bool::weighted(0.8), ttl, 0..3_u8, 0..300_usize).prop_map(
        |(to, persistent, ttl, priority, len)| Publication { to, persistent, ttl, priority, len },
    )
}

fn settlement() -> impl Strategy<Value = Settlement> {
    prop_oneof![
        1 => Just(Settlement::Ack),
        3 => Just(Settlement::Discard),
        1 => Just(Settlement::Requeue),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let pattern = prop::sample::select(vec!["^q", "^q0", "^q[13]"]);
    let ttl = prop::option::weighted(0.4, 0..40_u32);
    let overflow = prop::option::weighted(0.3, 0..3_usize);
    let to = prop::option::weighted(0.3, (0..NAMES.len()).prop_map(To::Key));
    (pattern, ttl, prop::option::weighted(0.5, 0..6_u32), overflow, to).prop_map(
        |(pattern, ttl, length, overflow, to)| Policy { pattern, ttl, length, overflow, to },
    )
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let queue = || 0..NAMES.len();
    prop_oneof![
        8 => vec(publication(), 1..6).prop_map(Step::Publish),
        3 => (vec(publication(), 0..4), queue(), vec(any::<bool>(), 0..4))
            .prop_map(|(publications, from, rejects)| Step::Commit(publications, from, rejects)),
        3 => (queue(), prop::bool::weighted(0.2))
            .prop_map(|(queue, no_ack)| Step::Get(queue, no_ack)),
        2 => queue().prop_map(Step::Consume),
        1 => Just(Step::Cancel),
        4 => (any::<prop::sample::Index>(), settlement())
            .prop_map(|(which, how)| Step::Settle(which, how)),
        2 => settlement().prop_map(Step::SettleAll),
        1 => (0..2_u8, policy()).prop_map(|(name, policy)| Step::SetPolicy(name, policy)),
        1 => (0..2_u8).prop_map(Step::ClearPolicy),
        9 => step_of_the_node(),
    ]
}

fn step_of_the_node() -> impl Strategy<Value = Step> {
    let queue = || 0..END;
    prop_oneof![
        2 => queue().prop_map(Step::Renew),
        1 => queue().prop_map(Step::Delete),
        1 => queue().prop_map(Step::Declare),
        1 => queue().prop_map(Step::Purge),
        16 => (0..30_u64).prop_map(Step::Tick),
        8 => Just(Step::Load),
        8 => Just(Step::Page),
        12 => Just(Step::Round),
        3 => Just(Step::Keep),
        6 => Just(Step::Checkpoint),
        8 => Just(Step::Look),
        6 => any::<u64>().prop_map(Step::Crash),
        8 => (any::<prop::sample::Index>(), 0..3_u64, any::<u64>())
            .prop_map(|(point, passed, seed)| Step::CutRound(point, passed, seed)),
        3 => Just(Step::Stop),
    ]
}
