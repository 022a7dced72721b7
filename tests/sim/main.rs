//! The whole broker in a simulator: clients that speak AMQP, a disk that loses power, a clock and
//! chance from a seed; and an oracle that knows what may and what must be seen.
//!
//! A failure prints its seed and the last steps. `LEVERET_SEEDS=7` or `=100..200` runs those, and
//! `LEVERET_LONG=1` runs many. A seed that once failed stays in `regressions.rs`.

mod client;
mod faults;
mod flips;
mod gate;
mod keeper;
mod ops;
mod oracle;
mod parts;
mod points;
mod regressions;
mod rng;
mod ruled;
mod ruled_world;
mod shortage;
mod spill;
mod wire;
mod workload;
mod world;

use leveret::store::Failpoint;
use ops::{Op, QUEUES};
use oracle::Stats;
use ruled::RuledStats;
use std::ops::Range;
use world::World;

const SEEDS: Range<u64> = 0..130;
const SEEDS_LONG: Range<u64> = 0..5000;
const OPERATIONS: usize = 400;

/// Says which seed it was if the test ends badly.
struct Run {
    seed: u64,
    world: World,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for step in self.world.trace() {
                eprintln!("  {step}");
            }
            eprintln!("with rules: {:?}", self.world.ledger.setup());
            eprintln!("LEVERET_SEEDS={} failed, with {:?}", self.seed, self.world.workload.options);
        }
    }
}

/// What happened how often, and all that clients read, summed up.
struct Outcome {
    stats: Stats,
    ruled: RuledStats,
    digest: u64,
}

/// Runs one seed to its end; says what happened how often, and sums up all that clients read.
fn run(seed: u64, operations: usize) -> Outcome {
    let mut run = Run { seed, world: World::new(seed) };
    let world = &mut run.world;
    world.run(operations);
    world.calm_down();
    world.check_quiet();
    // Either way it goes on with a disk that does not fail.
    world.cuts.clear();
    if world.rng.percent(50) {
        world.crash()
    } else {
        world.stop()
    }
    drain(world);
    world.stop();
    count_places(world);
    Outcome {
        stats: std::mem::take(&mut world.oracle.stats),
        ruled: std::mem::take(&mut world.ledger.stats),
        digest: world.digest,
    }
}

/// Counts how often the store came to places that count.
fn count_places(world: &mut World) {
    let reached = |point| world.reached.get(&point).copied().unwrap_or_default();
    let stats = &mut world.oracle.stats;
    stats.prepared = reached(Failpoint::Prepared);
    stats.segments_begun = reached(Failpoint::SegmentBegun);
    stats.segments_freed = reached(Failpoint::FreeRenamed) + reached(Failpoint::FreeRemoved);
    stats.snapshots = reached(Failpoint::SnapshotSafe);
    stats.indexes = reached(Failpoint::IndexSafe);
    stats.catalogue_rebuilds = reached(Failpoint::CatalogueDiscarded);
    stats.checkpoints = reached(Failpoint::CheckpointSafe);
    stats.seeds_with_checkpoints = u64::from(stats.checkpoints > 1);
    stats.seeds_with_loads = u64::from(stats.loads > 0);
    stats.seeds_with_freed_segments = u64::from(stats.segments_freed > 0);
}

/// One client takes all that is there: every message comes out, once, and in order.
fn drain(world: &mut World) {
    for at in 0..world.seats.len() {
        world.cut(at);
    }
    world.calm_down();
    let order = [Op::OpenChannel].into_iter();
    let gauges = world.gauges();
    let gets = (0..QUEUES.len()).filter_map(|queue| {
        let (ready, unacked, _) = gauges.get(QUEUES[queue].0)?;
        assert_eq!(*unacked, 0, "nobody is left who could hold anything");
        Some(vec![Op::Get { queue, no_ack: true }; *ready as usize + 1])
    });
    let gets: Vec<_> = order.chain(gets.flatten()).collect();
    world.oracle.stats.drained += gets.len() as u64;
    for op in gets {
        let client = &mut world.seats[0].client;
        client.send(1, op, &world.oracle.messages);
        let all = client.out.len();
        world.deliver_bytes(0, all);
        world.read(0, usize::MAX);
    }
    world.calm_down();
    world.check_quiet();
    world.oracle.check_drained();
    world.drain_ruled();
}

fn is_long() -> bool {
    std::env::var_os("LEVERET_LONG").is_some()
}

fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("LEVERET_SEEDS") else {
        return if is_long() { SEEDS_LONG } else { SEEDS };
    };
    let number = |text: &str| text.trim().parse::<u64>().expect("LEVERET_SEEDS is 7 or 100..200");
    match asked.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&asked)..number(&asked) + 1,
    }
}

#[test]
fn any_history_keeps_every_promise() {
    let (mut total, mut ruled) = (Stats::default(), RuledStats::default());
    let seeds = seeds();
    for seed in seeds.clone() {
        let outcome = run(seed, OPERATIONS);
        total.add(&outcome.stats);
        ruled.add(&outcome.ruled);
    }
    println!("seeds {seeds:?}: {total:?}, with rules: {ruled:?}");
    if seeds.end - seeds.start >= 100 {
        total.check_reach();
        ruled.check_reach();
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..10 {
        let [first, second] = [0, 1].map(|_| run(seed, OPERATIONS).digest);
        assert_eq!(first, second, "seed {seed}: all that clients have read");
    }
}
