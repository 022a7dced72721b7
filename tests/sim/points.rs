//! The power goes at each named place of the store, and once more in the start that follows.

use super::ops::{Message, Op, QUEUES};
use super::world::World;
use super::{OPERATIONS, Run, drain, is_long};
use leveret::store::Failpoint;

/// Places that a start comes to: each is where the power goes the second time.
const IN_A_START: [Failpoint; 16] = [
    Failpoint::Replayed,
    Failpoint::SettleRemoved,
    Failpoint::SettleTruncated,
    Failpoint::SettleSynced,
    Failpoint::Settled,
    Failpoint::SparesCleared,
    Failpoint::IndexCreated,
    Failpoint::IndexRenamed,
    Failpoint::CatalogueDiscarded,
    Failpoint::OpenedAppends,
    Failpoint::SegmentCreated,
    Failpoint::SegmentBegun,
    Failpoint::RoundWritten,
    Failpoint::RoundSynced,
    Failpoint::RoundOver,
    Failpoint::OpenedSafe,
];

/// A persistent message for the first queue.
fn publish(world: &mut World, body_len: usize) -> Op {
    let message =
        Message { exchange: 0, key: QUEUES[0].0, persistent: true, mandatory: false, body_len };
    world.oracle.messages.push(message);
    Op::Publish(world.oracle.messages.len() as u32 - 1)
}

/// A client stores enough for a segment to be left, and for the next one to be prepared; in the
/// end nothing of it lives any more.
fn press(world: &mut World, nth: usize) {
    world.cut(0);
    world.calm_down();
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(0));
    for body_len in [10_000, 10_000, 10, 10] {
        let publish = publish(world, body_len);
        world.say(0, 1, publish);
    }
    if nth % 2 == 1 {
        for queue in 0..QUEUES.len() {
            world.say(0, 1, Op::DeclareQueue(queue));
            world.say(0, 1, Op::Purge(queue));
        }
    }
    world.round();
}

/// Before the keeper comes to the segment that was left, the client goes on, perhaps: what it does
/// is done in the queues, and pending in the journal.
fn go_on(world: &mut World) {
    let next = [
        Op::Purge(0),
        Op::DeleteQueue(0),
        publish(world, 10),
        Op::DeclareQueue(1),
        Op::Get { queue: 0, no_ack: true },
    ];
    for op in next {
        if world.rng.percent(30) {
            world.say(0, 1, op);
        }
    }
}

/// Runs a history in which the power goes at `point`; says whether it did, and went twice.
fn run(point: Failpoint, seed: u64, operations: usize) -> (bool, bool) {
    let mut run = Run { seed, world: World::new(seed) };
    let world = &mut run.world;
    world.note(|| format!("the power goes at {point:?}"));
    world.workload.options.rounds = 8000;
    world.workload.options.catalogue = 50;
    // At this place, and at no other before.
    world.workload.options.crashes_within = 0;
    // Somewhere on the way, not at the first chance.
    world.run(world.rng.below(operations / 2));
    let then = *world.rng.pick(&IN_A_START);
    world.cuts = vec![then, point];
    world.disk.cut_power_at(point, world.rng.below(3) as u64);
    world.run(operations / 2);
    // What is left to do to get there.
    for nth in 0..12 {
        if world.cuts.is_empty() {
            break;
        }
        world.run(operations / 20);
        for _ in 0..3 {
            press(world, nth);
            go_on(world);
            world.keep();
            world.checkpoint();
        }
        press(world, nth);
        go_on(world);
        world.keep();
        world.harm_catalogue();
        if world.disk.is_dark() || world.rng.percent(50) {
            world.crash();
        } else {
            world.stop();
        }
    }
    let outcome = (world.oracle.stats.cut_at_points > 0, world.oracle.stats.cut_starts > 0);
    world.cuts.clear();
    world.calm_down();
    world.crash();
    drain(world);
    world.stop();
    outcome
}

#[test]
fn a_power_loss_at_each_place_between_two_steps_loses_nothing() {
    let (seeds, operations) = if is_long() { (20, OPERATIONS) } else { (2, 100) };
    let mut nested = 0;
    for (nth, point) in Failpoint::ALL.iter().enumerate() {
        let run = |seed| run(*point, 1000 * nth as u64 + seed, operations);
        let mut runs: Vec<_> = (0..seeds).map(run).collect();
        // A few points are rarely come to.
        let more = (seeds..seeds + 20).take_while(|_| !runs.iter().any(|(cut, _)| *cut));
        if let Some(found) = more.map(run).find(|(cut, _)| *cut) {
            runs.push(found);
        }
        let cut = runs.iter().filter(|(cut, _)| *cut).count();
        assert!(cut > 0, "no power loss came to {point:?}");
        println!("{point:?}: {cut} of {seeds} runs");
        nested += runs.iter().filter(|(_, nested)| *nested).count();
    }
    assert!(nested > Failpoint::ALL.len() / 2, "{nested} starts were cut");
    println!("{nested} starts were cut");
}
