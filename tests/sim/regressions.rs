//! What once failed: the shortest way there, and the seeds that found it. What a seed does changes
//! with the workload, so the seeds are worth less than the ways.

use super::ops::{Consume, Message, Mode, Op};
use super::world::World;
use super::{OPERATIONS, run};

/// They showed, in this order: confirms on a channel that was refused, -ok and commit-ok that left
/// before the disk had them, deliveries of one connection in another's inbox, a cancel whose last
/// deliveries overtook others of their channel, and one whose last deliveries had higher tags than
/// a get-ok behind it.
const SEEDS: [u64; 10] = [2, 75, 26, 61, 86, 87, 30, 52, 135, 242];

const DURABLE: usize = 0;
const TRANSIENT: usize = 3;

#[test]
fn seeds_that_failed_pass() {
    for seed in SEEDS {
        run(seed, OPERATIONS);
    }
}

fn publish(world: &mut World, key: &'static str) -> Op {
    let message = Message { exchange: 0, key, persistent: true, mandatory: false, body_len: 5 };
    world.oracle.messages.push(message);
    Op::Publish(world.oracle.messages.len() as u32 - 1)
}

fn consume(queue: usize, tag: u32) -> Op {
    Op::Consume(Consume { queue, tag, no_ack: false, exclusive: false, priority: 0 })
}

#[test]
fn what_a_cancel_brings_out_overtakes_nothing_of_its_channel() {
    let mut world = World::still(2);
    for at in [0, 1] {
        world.say(at, 1, Op::OpenChannel);
        world.say(at, 1, Op::DeclareQueue(TRANSIENT));
    }
    world.say(0, 1, consume(TRANSIENT, 1));
    world.say(0, 1, consume(TRANSIENT, 2));
    world.calm_down();
    for _ in 0..5 {
        let publish = publish(&mut world, "t0");
        world.say(1, 1, publish);
    }
    world.say(0, 1, Op::Cancel(2));
    world.calm_down();
    world.oracle.check_quiet(&world.gauges());
}

#[test]
fn tags_count_up_on_the_wire_though_a_get_follows_a_cancel() {
    let mut world = World::still(2);
    for at in [0, 1] {
        world.say(at, 1, Op::OpenChannel);
        world.say(at, 1, Op::DeclareQueue(TRANSIENT));
        world.say(at, 1, Op::DeclareQueue(DURABLE));
    }
    world.say(0, 1, consume(TRANSIENT, 1));
    world.calm_down();
    for queue in ["d0", "t0"] {
        let publish = publish(&mut world, queue);
        world.say(1, 1, publish);
    }
    world.say(0, 1, Op::Cancel(1));
    world.say(0, 1, Op::Get { queue: DURABLE, no_ack: false });
    world.calm_down();
    world.oracle.check_quiet(&world.gauges());
}

#[test]
fn close_ok_lets_no_reply_out_before_the_disk_has_it() {
    let mut world = World::still(1);
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(DURABLE));
    world.say(0, 1, Op::CloseChannel);
    world.hear(0);
    world.calm_down();
    world.oracle.check_quiet(&world.gauges());
}

#[test]
fn a_channel_that_was_refused_confirms_nothing_more() {
    let mut world = World::still(1);
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(DURABLE));
    world.say(0, 1, Op::Select(Mode::Confirm));
    world.calm_down();
    let publish = publish(&mut world, "d0");
    world.say(0, 1, publish);
    world.say(0, 1, Op::Purge(TRANSIENT));
    world.hear(0);
    // The disk has it before the client's close-ok comes.
    world.round();
    world.hear(0);
    world.calm_down();
    world.oracle.check_quiet(&world.gauges());
}

#[test]
fn what_one_connection_had_when_the_disk_failed_reaches_no_other() {
    let mut world = World::still(2);
    for at in [0, 1] {
        world.say(at, 1, Op::OpenChannel);
        world.say(at, 1, Op::DeclareQueue(TRANSIENT));
    }
    world.say(0, 1, consume(TRANSIENT, 1));
    world.calm_down();
    for at in [0, 1] {
        world.say(at, 1, Op::DeclareQueue(DURABLE + at));
    }
    let publish = publish(&mut world, "t0");
    world.say(1, 1, publish);
    world.fail_disk();
    world.round();
    world.inbox(0);
    world.inbox(1);
    world.crash();
}
