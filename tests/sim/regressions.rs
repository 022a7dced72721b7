//! What once failed: the shortest way there, and the seeds that found it. What a seed does changes
//! with the workload, so the seeds are worth less than the ways.

use super::ops::{Consume, How, Message, Mode, Op};
use super::world::World;
use super::{OPERATIONS, run};

/// They showed, in this order: confirms on a channel that was refused, -ok and commit-ok that left
/// before the disk had them, deliveries of one connection in another's inbox, a cancel whose last
/// deliveries overtook others of their channel, and one whose last deliveries had higher tags than
/// a get-ok behind it; then a snapshot that was copied from a rotten catalogue (3 and 52), and a
/// flipped bit in the catalogue's `Meta`, for which records that were safe were cut (5543), and a
/// commit whose acks of one queue, some of them of transient messages, were written twice (21648).
const SEEDS: [u64; 13] = [2, 75, 26, 61, 86, 87, 30, 52, 135, 242, 3, 5543, 21648];

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

/// A mistake in the marks of changed queues went unnoticed by hundreds of seeds: there is always
/// another change soon.
#[test]
fn the_next_checkpoint_knows_what_a_commit_alone_has_settled() {
    let mut world = World::still(2);
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(DURABLE));
    for _ in 0..3 {
        let publish = publish(&mut world, "d0");
        world.say(0, 1, publish);
    }
    world.say(1, 1, Op::OpenChannel);
    world.say(1, 1, Op::Select(Mode::Transaction));
    world.say(1, 1, Op::Get { queue: DURABLE, no_ack: false });
    world.calm_down();
    world.checkpoint();
    world.say(1, 1, Op::Settle { tag: 1, multiple: false, how: How::Ack });
    world.say(1, 1, Op::Commit);
    world.calm_down();
    world.checkpoint();
    world.crash();
    world.calm_down();
    world.oracle.check_quiet(&world.gauges());
}

/// A catalogue that had lost entries while it was in use was copied into the snapshot, and the
/// segments from which both could have been made anew were given up.
#[test]
fn a_snapshot_is_no_copy_of_a_catalogue_that_has_rotted() {
    for seed in 0..30 {
        let mut world = World::still(1);
        world.say(0, 1, Op::OpenChannel);
        world.say(0, 1, Op::DeclareQueue(DURABLE));
        world.checkpoint();
        world.disk.rot_catalogue(seed);
        for _ in 0..8 {
            for _ in 0..4 {
                let message = publish(&mut world, "d0");
                world.oracle.messages.last_mut().expect("it is there").body_len = 9000;
                world.say(0, 1, message);
            }
            world.calm_down();
            world.checkpoint();
            world.say(0, 1, Op::Purge(DURABLE));
        }
        world.calm_down();
        world.crash();
        world.calm_down();
        world.oracle.check_quiet(&world.gauges());
    }
}
