//! Deduplication over random histories with power losses, against a list of what was published: who
//! gets which message is predicted, before and after each crash, from how far the journal came.

#![allow(clippy::unwrap_used, reason = "where something fails, the test has failed")]

mod prediction;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use world::{Stats, World};

const CASES: u32 = 300;

/// One message: which way, its key and how long that is remembered, if it says so.
#[derive(Clone, Copy, Debug)]
struct Publication {
    way: usize,
    key: Option<u8>,
    ttl: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<Publication>),
    /// Whether it is committed or rolled back.
    Transaction(Vec<Publication>, bool),
    Pass(u64),
    Purge(usize),
    /// Deletes an exchange and declares it again.
    Renew,
    Round,
    Checkpoint,
    Keep,
    Look,
    Stop,
    /// Whether the catalogue is lost too.
    Crash(u64, bool),
    /// While a round, a checkpoint and the keeper are at work.
    Cut(Index, u64, u64),
}

fn publication() -> impl Strategy<Value = Publication> {
    let key = prop::option::weighted(0.9, 0..7_u8);
    let ttl = prop::option::weighted(0.2, 0..80_u64);
    (0..world::WAYS, key, ttl).prop_map(|(way, key, ttl)| Publication { way, key, ttl })
}

fn step() -> impl Strategy<Value = Step> {
    let seed = any::<u64>;
    prop_oneof![
        8 => vec(publication(), 1..8).prop_map(Step::Publish),
        3 => (vec(publication(), 1..6), prop::bool::weighted(0.8))
            .prop_map(|(all, commits)| Step::Transaction(all, commits)),
        2 => (0..60_u64).prop_map(Step::Pass),
        1 => (0..world::QUEUES.len()).prop_map(Step::Purge),
        1 => Just(Step::Renew),
        4 => Just(Step::Round),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Keep),
        1 => Just(Step::Look),
        1 => Just(Step::Stop),
        1 => (seed(), any::<bool>()).prop_map(|(seed, loses)| Step::Crash(seed, loses)),
        2 => (any::<Index>(), 0..3_u64, seed()).prop_map(|(at, nth, s)| Step::Cut(at, nth, s)),
    ]
}

/// `PROPTEST_CASES` says how many histories.
#[test]
fn one_message_of_a_key_arrives_and_none_that_was_confirmed_is_lost() {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config::default();
    let config = Config { cases: if asked { config.cases } else { CASES }, ..config };
    let total = Cell::new(Stats::default());
    let histories = (200..3000_u64, vec(step(), 1..60));
    let judged = TestRunner::new(config).run(&histories, |(segment_bytes, steps)| {
        let mut world = World::new(segment_bytes);
        steps.iter().for_each(|step| world.step(step));
        total.set(total.get().plus(&world.end()));
        Ok(())
    });
    judged.unwrap_or_else(|failure| panic!("{failure}"));
    let stats = total.get();
    println!("{stats:?}");
    let Stats { duplicates, skipped, lost, nacks, refused_commits, cuts, late } = stats;
    for reached in [duplicates, skipped, lost, nacks, refused_commits, cuts, late] {
        assert!(reached > 20, "the histories reach too little: {stats:?}");
    }
}
