//! A disk that has no room for what no confirm needs, or cannot read: the broker goes on.

use super::ops::{Message, Mode, Op, QUEUES};
use super::world::{World, open};
use leveret::store::MemoryDisk;

const STORED: usize = 60;

fn publish(world: &mut World, body_len: usize) {
    let (exchange, key) = (0, QUEUES[0].0);
    let message = Message { exchange, key, persistent: true, mandatory: false, body_len };
    world.oracle.messages.push(message);
    world.say(0, 1, Op::Publish(world.oracle.messages.len() as u32 - 1));
}

/// A client stores what fills some segments, while the keeper does what it can.
fn store(world: &mut World) {
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(0));
    world.say(0, 1, Op::Select(Mode::Confirm));
    for nth in 0..STORED {
        publish(world, if nth % 10 == 0 { 9000 } else { 90 });
        world.round();
        world.keep();
        if nth % 4 == 0 {
            world.checkpoint();
        }
        world.hear(0);
    }
    world.calm_down();
    assert!(world.broker.journal().error().is_none(), "the journal can write");
    // Every publish is confirmed.
    world.oracle.check_quiet(&world.gauges());
}

/// Takes all that is there, from disk where it left memory.
fn take(world: &mut World) {
    world.say(0, 1, Op::OpenChannel);
    for _ in 0..STORED {
        world.say(0, 1, Op::Get { queue: 0, no_ack: false });
        world.calm_down();
    }
    world.oracle.check_quiet(&world.gauges());
}

fn start_again(world: &mut World) {
    world.crash();
    world.calm_down();
}

#[test]
fn a_full_disk_keeps_the_keeper_from_its_work_and_no_publisher_from_its_confirms() {
    for part in ["segment.new", "snapshot", "idx"] {
        let mut world = World::still(1);
        world.disk.fill_up_for(Some(part));
        store(&mut world);
        let files = leveret::store::Disk::list(&world.disk).unwrap_or_default();
        let left = files.iter().find(|file| file.ends_with(".new"));
        assert_eq!(left, None, "what could not be finished takes no room");
        assert!(world.oracle.stats.pages_out > 0, "messages left memory");
        start_again(&mut world);
        take(&mut world);
        assert!(world.oracle.stats.loads > 0, "messages came back");
    }
}

#[test]
fn a_disk_that_takes_no_index_is_no_obstacle_to_a_start() {
    let mut world = World::still(1);
    world.disk.fill_up_for(Some("idx"));
    store(&mut world);
    let left: MemoryDisk = world.disk.crash(0);
    left.fill_up_for(Some("idx"));
    let broker = open(&left, 3).expect("indexes are of no account");
    let ready = broker.vhost("/").and_then(|vhost| {
        let queues = vhost.queues();
        queues
            .iter()
            .find(|queue| &*queue.name.to_string() == "d0")
            .map(|it| it.counters.ready.get())
    });
    assert_eq!(ready, Some(STORED as u64));
}

#[test]
fn messages_that_cannot_be_read_are_set_aside_and_come_back_with_the_disk() {
    for part in ["segment", "idx"] {
        let mut world = World::still(1);
        store(&mut world);
        world.disk.fail_reads_of(Some(part));
        world.oracle.set_aside();
        for nth in 0..STORED / 2 {
            // The first ones are on disk only.
            world.say(0, 1, Op::Get { queue: 0, no_ack: false });
            publish(&mut world, 40 + nth);
            world.round();
            world.keep();
            world.hear(0);
            world.calm_down();
        }
        assert!(world.broker.journal().error().is_none(), "the journal can write");
        assert!(world.oracle.stats.loads > 0, "what is on disk was wanted");
        // All of them are there once it can be read again.
        start_again(&mut world);
        let (ready, ..) = world.gauges()[QUEUES[0].0];
        assert_eq!(ready as usize, STORED + STORED / 2);
        take(&mut world);
    }
}
