//! Transient messages that left memory, on a disk that has room for them or not, and that gives
//! them back or not: nobody notices more than he must.

use super::ops::{Message, Op, QUEUES};
use super::world::World;
use leveret::store::Disk;

const COUNT: usize = 20;
/// So long that the queue's residence is reported.
const BODY_LEN: usize = 9_000;

fn publish(world: &mut World, queue: usize, persistent: bool) {
    let key = QUEUES[queue].0;
    let body_len = BODY_LEN;
    let message = Message { exchange: 0, key, persistent, mandatory: false, body_len };
    world.oracle.messages.push(message);
    world.say(0, 1, Op::Publish(world.oracle.messages.len() as u32 - 1));
}

/// Some wait in a queue, one in three persistent if it is durable.
fn fill(world: &mut World, queue: usize) {
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareQueue(queue));
    world.calm_down();
    (0..COUNT).for_each(|nth| publish(world, queue, nth.is_multiple_of(3)));
    world.calm_down();
}

fn spill_files(world: &World) -> usize {
    let files = world.disk.list().expect("a healthy disk says what it has");
    files.iter().filter(|file| file.starts_with("spill")).count()
}

/// Takes what is there; the oracle knows what that must be.
fn take(world: &mut World, queue: usize, count: usize) {
    for _ in 0..count {
        world.say(0, 1, Op::Get { queue, no_ack: true });
        world.calm_down();
    }
    world.oracle.check_quiet(&world.gauges());
}

/// The kind of world in which transient messages are spilled.
fn world() -> World {
    let world = World::still(1);
    assert!(world.broker.config.sizes.spill_bytes.is_some());
    world
}

#[test]
fn transient_messages_of_any_queue_leave_memory_and_come_back_in_order() {
    for queue in [0, 3] {
        let mut world = world();
        fill(&mut world, queue);
        let before = world.broker.residence.total();
        world.keep();
        assert!(world.broker.residence.total() < before / 4 && spill_files(&world) > 0);
        take(&mut world, queue, COUNT);
        assert!(world.oracle.stats.loads > 0, "messages came back");
        world.broker.look_at_space();
        world.keep();
        assert_eq!(spill_files(&world), 0, "what is gone takes no room");
    }
}

#[test]
fn a_purge_and_a_deletion_take_what_was_spilled() {
    for end in [Op::Purge(3), Op::DeleteQueue(3)] {
        let mut world = world();
        fill(&mut world, 3);
        world.keep();
        assert!(spill_files(&world) > 0);
        world.say(0, 1, end);
        world.calm_down();
        world.broker.look_at_space();
        world.keep();
        assert_eq!(spill_files(&world), 0);
        world.oracle.check_quiet(&world.gauges());
    }
}

#[test]
fn without_room_on_disk_they_stay_in_memory_and_nothing_stops() {
    let mut world = world();
    world.disk.fill_up_for(Some("spill"));
    fill(&mut world, 3);
    let before = world.broker.residence.total();
    (0..3).for_each(|_| world.keep());
    assert_eq!((world.broker.residence.total(), spill_files(&world)), (before, 0));
    assert!(world.broker.journal().error().is_none());
    // Once there is room, whoever looks at the memory lets it be tried again.
    world.disk.fill_up_for(None);
    world.broker.set_spill_budget(u64::MAX);
    world.keep();
    assert!(world.broker.residence.total() < before / 4 && spill_files(&world) > 0);
    take(&mut world, 3, COUNT);
}

#[test]
fn what_cannot_be_read_back_is_set_aside_and_its_queue_goes_on() {
    let mut world = world();
    fill(&mut world, 3);
    world.keep();
    world.disk.fail_reads_of(Some("spill"));
    world.oracle.set_aside();
    world.say(0, 1, Op::Get { queue: 3, no_ack: true });
    world.calm_down();
    world.disk.fail_reads_of(None);
    publish(&mut world, 3, false);
    let left = world.gauges()[QUEUES[3].0].0 as usize;
    assert!((1..COUNT).contains(&left), "{left} of {COUNT} are left");
    for _ in 0..left {
        world.say(0, 1, Op::Get { queue: 3, no_ack: true });
        world.calm_down();
    }
    assert_eq!(world.gauges()[QUEUES[3].0].0, 0, "the last that was published is out");
}
