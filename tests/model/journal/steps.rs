//! What happens to the journal, by chance.

use proptest::collection::vec;
use proptest::prelude::*;

pub(super) const QUEUES: u64 = 4;

#[derive(Clone, Debug)]
pub(super) enum Change {
    Declare(u64),
    Delete(u64),
    Publish(Vec<u64>, usize),
    Ack(u64, usize, usize),
    Requeue(u64, usize, usize),
    /// Where returns are counted.
    Returned(u64, usize, usize),
    Purge(u64, usize),
    SetParameter(u64, u16),
    ClearParameter(u64),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Record(Change),
    Transaction(Vec<Change>),
    Round,
    Seal,
    Checkpoint,
    /// The keeper looks for room, and compacts what it finds.
    Reclaim,
    /// The keeper prepares the next segment's file.
    Prepare,
    FailSync,
    StopAndStart,
    /// The process ends and starts again, while the power stays on.
    Kill,
    Crash(u64),
    /// The power goes after so many disk operations, be they of rounds, a stop or a start.
    CrashAfter(usize, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let size = prop_oneof![8 => 0..900_usize, 1 => 16_000..40_000_usize];
    prop_oneof![
        2 => (0..QUEUES).prop_map(Change::Declare),
        1 => (0..QUEUES).prop_map(Change::Delete),
        8 => (vec(0..QUEUES, 1..4), size).prop_map(|(to, size)| Change::Publish(to, size)),
        4 => (0..QUEUES, 0..9_usize, 1..4_usize).prop_map(|(q, at, n)| Change::Ack(q, at, n)),
        2 => (0..QUEUES, 0..9_usize, 1..4_usize).prop_map(|(q, at, n)| Change::Requeue(q, at, n)),
        2 => (0..QUEUES, 0..9_usize, 1..4_usize).prop_map(|(q, at, n)| Change::Returned(q, at, n)),
        1 => (0..QUEUES, 0..3_usize).prop_map(|(q, spared)| Change::Purge(q, spared)),
        1 => (0..3_u64, any::<u16>()).prop_map(|(name, value)| Change::SetParameter(name, value)),
        1 => (0..3_u64).prop_map(Change::ClearParameter),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => change().prop_map(Step::Record),
        3 => vec(change(), 1..6).prop_map(Step::Transaction),
        8 => Just(Step::Round),
        2 => Just(Step::Seal),
        3 => Just(Step::Checkpoint),
        3 => Just(Step::Reclaim),
        2 => Just(Step::Prepare),
        1 => Just(Step::FailSync),
        1 => Just(Step::StopAndStart),
        2 => Just(Step::Kill),
        2 => any::<u64>().prop_map(Step::Crash),
        2 => (0..12_usize, any::<u64>()).prop_map(|(after, seed)| Step::CrashAfter(after, seed)),
    ]
}
