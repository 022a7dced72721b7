//! Dead letters, expiry, length limits and refusals over random histories with power losses: each
//! confirmed message is in its queue, in all targets of its move, settled, or dropped by a rule.
//!
//! Histories are judged, not predicted: by the numbers in bodies and by x-death, see `ledger`. In
//! half of them no rule drops anything, so that nothing may be missing.

#![allow(clippy::unwrap_used, reason = "where something fails, the test has failed")]

mod ledger;
mod steps;
mod world;

use ledger::Stats;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use steps::{Setup, Step, step};
use world::World;

const CASES: u32 = 400;

fn config() -> Config {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = Config::default();
    Config { cases: if asked { config.cases } else { CASES }, ..config }
}

fn run(setup: &Setup, history: &[Step]) -> Stats {
    let mut world = World::new(setup);
    history.iter().for_each(|step| world.step(step));
    world.end()
}

/// `PROPTEST_CASES` says how many histories.
#[test]
fn a_dead_letter_is_in_its_old_place_or_in_all_new_ones() {
    let total = Cell::new(Stats::default());
    let histories = (any::<Setup>(), vec(step(), 1..60));
    let judged = TestRunner::new(config()).run(&histories, |(setup, history)| {
        let stats = run(&setup, &history);
        total.set(total.get().plus(&stats));
        Ok(())
    });
    judged.unwrap_or_else(|failure| panic!("{failure}"));
    let stats = total.get();
    println!("{stats:?}");
    let Stats { crashes, torn_rounds, letters, nacks, refused_commits, loads, .. } = stats;
    for reached in [crashes, torn_rounds, letters, nacks, refused_commits, loads] {
        assert!(reached > 20, "the histories reach too little: {stats:?}");
    }
}
