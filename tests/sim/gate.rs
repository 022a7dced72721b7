//! A checkpoint beside a publisher on another thread: a message whose record is written and which
//! is not in all its queues yet must not be missing in some of them after a crash.

use super::flips::{image, look};
use super::ops::{Binding, Message, Op, QUEUES};
use super::wire::encode;
use super::world::World;
use leveret::session::{Progress, Scratch};
use leveret::time::{Millis, Now, UnixMillis};
use std::collections::BTreeMap;
use std::sync::mpsc;

const FANOUT: usize = 1;

/// One message after the other, each for all queues.
fn publishes(count: usize) -> (Vec<Message>, Vec<Vec<u8>>) {
    let (exchange, key) = (FANOUT, "");
    let message = Message { exchange, key, persistent: true, mandatory: false, body_len: 3 };
    let messages = vec![message; count];
    let bytes = (0..count).map(|id| encode(&Op::Publish(id as u32), 1, &messages));
    let bytes = bytes.collect();
    (messages, bytes)
}

#[test]
fn a_checkpoint_sees_a_message_in_all_its_queues_or_in_none() {
    let mut world = World::still(1);
    world.say(0, 1, Op::OpenChannel);
    world.say(0, 1, Op::DeclareExchange(FANOUT));
    for queue in 0..QUEUES.len() {
        world.say(0, 1, Op::DeclareQueue(queue));
        world.say(0, 1, Op::Bind(Binding { exchange: FANOUT, queue, key: "" }));
    }
    world.calm_down();
    let (messages, bytes) = publishes(if super::is_long() { 5000 } else { 500 });
    let mut session = world.seats.remove(0).session;
    // A checkpoint for every few publishes.
    let (allow, allowed) = mpsc::sync_channel(1);
    let publisher = std::thread::spawn(move || {
        let now = Now { monotonic: Millis(1000), unix: UnixMillis(1_700_000_000_000) };
        let mut scratch = Scratch::default();
        for (nth, publish) in bytes.into_iter().enumerate() {
            if nth % 10 == 0 {
                allowed.recv().expect("checkpoints go on");
            }
            let mut rest = publish.as_slice();
            while !rest.is_empty() {
                let taken = session.handle_input(now, rest, &mut scratch);
                assert!(taken.consumed > 0 || taken.progress == Progress::More, "it goes on");
                rest = &rest[taken.consumed..];
            }
        }
        session
    });
    let durable = QUEUES.iter().filter(|(_, durable)| *durable).count();
    let mut checkpoints = 0;
    while allow.send(()).is_ok() {
        world.broker.checkpoint(&world.disk).expect("the disk is well");
        checkpoints += 1;
        let found = look(&image(&world.disk), &messages).expect("an image opens");
        let mut queues: BTreeMap<u32, usize> = BTreeMap::new();
        for (id, _) in found.messages.into_values().map(|it| it.expect("it can be read")) {
            *queues.entry(id).or_default() += 1;
        }
        let partly = queues.iter().find(|(_, queues)| **queues != durable);
        assert_eq!(partly, None, "a message and the number of its queues");
        assert!(queues.keys().copied().eq(0..queues.len() as u32), "one of the first is missing");
    }
    drop(publisher.join().expect("it published all"));
    assert!(checkpoints >= messages.len() / 10, "{checkpoints} checkpoints");
}
