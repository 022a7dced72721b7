//! A turn of several records is no transaction: a power loss may leave its first ones. Then all is
//! as some of its operations left it, from the first on.

use super::ops::{Binding, Message, Op, QUEUES};
use super::world::World;
use super::{Run, drain};
use leveret::store::Failpoint;

const FANOUT: usize = 1;

fn publish(world: &mut World, queue: usize) -> Op {
    let key = QUEUES[queue].0;
    let message = Message { exchange: 0, key, persistent: true, mandatory: false, body_len: 50 };
    world.oracle.messages.push(message);
    Op::Publish(world.oracle.messages.len() as u32 - 1)
}

fn bind(queue: usize) -> Op {
    Op::Bind(Binding { exchange: FANOUT, queue, key: "" })
}

/// Things that were there are changed, deleted and made again.
fn one_turn(world: &mut World) -> Vec<Op> {
    vec![
        Op::DeclareQueue(1),
        publish(world, 1),
        bind(1),
        publish(world, 0),
        Op::DeleteQueue(0),
        Op::DeclareQueue(0),
        publish(world, 0),
        bind(0),
        Op::DeleteExchange(FANOUT),
        Op::DeclareExchange(FANOUT),
        Op::Purge(1),
        Op::DeleteQueue(1),
    ]
}

#[test]
fn a_power_loss_within_a_turn_leaves_what_its_first_operations_did() {
    let mut parts = 0;
    for seed in 0..400 {
        let mut run = Run { seed, world: World::still_from(seed, 1) };
        let world = &mut run.world;
        let publish = publish(world, 0);
        let first = [Op::OpenChannel, Op::DeclareQueue(0), Op::DeclareExchange(FANOUT), bind(0)];
        first.into_iter().chain([publish]).for_each(|op| world.say(0, 1, op));
        world.calm_down();
        let turn = one_turn(world);
        let client = &mut world.seats[0].client;
        turn.into_iter().for_each(|op| client.send(1, op, &world.oracle.messages));
        let all = client.out.len();
        world.deliver_bytes(0, all);
        world.disk.cut_power_at(Failpoint::RoundWritten, 0);
        world.round();
        world.crash();
        drain(world);
        parts += world.oracle.stats.parts_of_turns;
    }
    assert!(parts > 20, "{parts} starts behind a part of a turn");
    println!("{parts} starts behind a part of a turn");
}
