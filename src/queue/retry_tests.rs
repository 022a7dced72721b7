//! How failed messages wait and come back, in virtual time.

use super::super::deadletter::Reason;
use super::super::gets::Got;
use super::super::outlet::{Event, Outlet};
use super::super::page_out::Sweep;
use super::super::samples::{FOREVER, Sink, World, publish, spec};
use super::super::settings::{Behaviour, DeadLetter, DeadLetterStrategy, Overflow};
use super::super::settle::Settlement;
use super::*;
use crate::id::ConsumerToken;
use crate::name::Name;
use crate::store::OnDisk;
use proptest::prelude::*;
use std::sync::Arc;

const START: u64 = 1000;
const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];

/// With so many messages.
fn world_of(behaviour: Behaviour, messages: usize) -> World {
    let mut world = World::new(behaviour);
    world.publish(&vec![FOREVER; messages]);
    world
}

impl World {
    /// So many messages fail.
    fn fail(&mut self, count: usize) {
        let out = self.take(count);
        self.settle(&out, Settlement::Retry);
    }

    /// Seqs of those that are ready after a look at that time.
    fn ready_at(&mut self, ms: u64) -> Vec<u64> {
        self.tick(ms);
        self.ready()
    }

    fn ready(&self) -> Vec<u64> {
        self.core.ready_seqs().iter().map(|seq| seq.0).collect()
    }

    /// Seqs of those that wait, and until when.
    fn waiting(&self) -> Vec<(u64, u64)> {
        self.core.retrying().map(|(seq, until)| (seq.0, until.0)).collect()
    }
}

fn delay(min: u64, max: u64) -> Behaviour {
    Behaviour { retry_delay_ms: Some((min, max)), ..Behaviour::default() }
}

fn mourned(behaviour: Behaviour) -> Behaviour {
    let exchange = Name::new("dlx");
    let strategy = DeadLetterStrategy::default();
    let dead_letter = Some(DeadLetter { exchange, routing_key: None, strategy });
    Behaviour { dead_letter, ..behaviour }
}

#[test]
fn what_failed_waits_twice_as_long_each_time_and_comes_back_to_its_place_and_marked() {
    let mut world = world_of(delay(100, 100_000), 3);
    let (mut now, mut waited) = (START, Vec::new());
    for times in 1..=12 {
        let out = world.take(1);
        assert_eq!(out[0].1, Seq(1), "it comes before those that were published later");
        world.settle(&out, Settlement::Retry);
        assert_eq!((world.ready(), world.core.message_count()), (vec![2, 3], 3));
        assert_eq!((world.core.unacked_len(), world.core.retrying_len()), (0, 1));
        let until = world.waiting()[0].1;
        assert_eq!(world.asked().last(), Some(&until));
        assert_eq!(world.ready_at(until - 1), [2, 3]);
        assert_eq!(world.ready_at(until), [1, 2, 3]);
        assert_eq!(world.core.returns.told(1).told(), Some(times));
        waited.push(until - now);
        now = until;
    }
    for (nth, ms) in waited.iter().enumerate() {
        let mean = (100 << nth).min(100_000);
        let range = (mean - mean / 5).max(100)..=(mean + mean / 5).min(100_000);
        assert!(range.contains(ms), "{ms} is not in {range:?}");
    }
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let Got::Message { delivery, ready_left } =
        world.core.get(&outlet, ConsumerToken(1), false, &mut world.records, &mut world.effects)
    else {
        panic!("it is there")
    };
    assert_eq!((delivery.seq, delivery.redelivered, ready_left), (Seq(1), true, 2));
}

#[test]
fn what_is_given_back_without_having_failed_is_ready_at_once_and_counts() {
    let mut world = world_of(delay(100, 1000), 2);
    let out = world.take(2);
    world.settle(&out, Settlement::Requeue);
    assert_eq!((world.ready(), world.waiting()), (vec![1, 2], vec![]));
    world.fail(1);
    let until = world.waiting()[0].1;
    assert!((START + 160..=START + 240).contains(&until), "the second time it is longer");
}

#[test]
fn without_a_delay_what_failed_is_ready_at_once() {
    for behaviour in
        [Behaviour::default(), Behaviour { delivery_limit: Some(5), ..Behaviour::default() }]
    {
        let mut world = world_of(behaviour, 2);
        world.fail(2);
        assert_eq!((world.ready(), world.waiting()), (vec![1, 2], vec![]));
        assert!(world.asked().is_empty());
    }
}

#[test]
fn one_time_is_given_alone_and_every_wait_is_that_long() {
    let mut world = world_of(delay(70, 70), 100);
    world.fail(100);
    assert!(world.waiting().iter().all(|(_, until)| *until == START + 70));
    assert_eq!(world.ready_at(START + 70).len(), 100);
}

#[test]
fn the_last_failure_kills_at_once() {
    let limited = Behaviour { delivery_limit: Some(1), ..delay(100, 100) };
    let mut world = world_of(mourned(limited), 1);
    world.fail(1);
    assert_eq!((world.waiting().len(), world.dead()), (1, vec![]));
    world.ready_at(START + 100);
    world.fail(1);
    assert_eq!((world.waiting().len(), world.dead()), (0, vec![(1, Reason::DeliveryLimit)]));
}

#[test]
fn what_expires_while_it_waits_dies_then_and_not_at_the_end_of_its_wait() {
    let mut world = world_of(mourned(delay(5000, 5000)), 0);
    world.publish(&[300, FOREVER]);
    world.fail(2);
    world.asked();
    assert_eq!(world.waiting(), [(1, START + 300), (2, START + 5000)]);
    assert_eq!((world.ready_at(START + 299), world.dead()), (vec![], vec![]));
    assert_eq!((world.ready_at(START + 300), world.dead()), (vec![], vec![(1, Reason::Expired)]));
    assert_eq!(world.ready_at(START + 5000), [2]);
}

#[test]
fn a_consumer_gets_what_has_waited_and_others_meanwhile() {
    let mut world = world_of(delay(100, 100), 1);
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    world.core.consume(spec(&outlet, 1), &mut world.records, &mut world.effects);
    let delivered = |world: &mut World| {
        world.core.push_events(&mut world.effects);
        let events: Vec<_> = sink.0.lock().drain(..).collect();
        let delivery = |event| match event {
            Event::Delivery(delivery) => (delivery.slot, delivery.seq),
            other => panic!("{other:?}"),
        };
        events.into_iter().map(delivery).collect::<Vec<_>>()
    };
    let out = delivered(&mut world);
    world.settle(&out, Settlement::Retry);
    assert_eq!(delivered(&mut world), []);
    world.publish(&[FOREVER]);
    assert_eq!(delivered(&mut world).last().map(|it| it.1), Some(Seq(2)));
    world.ready_at(START + 100);
    assert_eq!(delivered(&mut world).last().map(|it| it.1), Some(Seq(1)));
}

#[test]
fn a_get_finds_what_is_due_before_the_ticker_has_come() {
    let mut world = world_of(delay(100, 100), 1);
    world.fail(1);
    world.at(START + 99);
    assert_eq!(world.got(), None);
    world.at(START + 100);
    assert_eq!(world.got(), Some(1));
}

#[test]
fn a_purge_takes_what_waits_too_and_so_does_the_end() {
    let mut world = world_of(delay(100, 100), 5);
    let out = world.take(1);
    world.fail(2);
    assert_eq!(world.core.message_count(), 4);
    drop(world.core.purge(&mut world.records, &mut world.effects));
    assert_eq!((world.core.message_count(), world.core.retrying_bytes()), (0, 0));
    assert_eq!(world.core.alive().live, [(Seq(1), Seq(1))]);
    assert!(world.ready_at(START + 100).is_empty());
    world.settle(&out, Settlement::Retry);
    drop(world.core.end(&mut world.effects));
    assert_eq!((world.core.message_count(), world.core.resident_bytes()), (0, 0));
}

#[test]
fn what_waits_counts_in_the_length_and_the_oldest_goes_first() {
    let limited = Behaviour { max_length: Some(3), ..delay(100, 100) };
    let mut world = world_of(mourned(limited.clone()), 3);
    world.fail(2);
    world.publish(&[FOREVER]);
    assert_eq!((world.dead(), world.ready()), (vec![(1, Reason::MaxLength)], vec![3, 4]));
    world.publish(&[FOREVER, u64::MAX]);
    let dead = vec![(2, Reason::MaxLength), (3, Reason::MaxLength)];
    assert_eq!((world.dead(), world.ready()), (dead, vec![4, 5, 6]));

    let refuses = Behaviour { overflow: Overflow::RejectPublish, ..limited };
    let mut world = world_of(refuses, 3);
    world.fail(3);
    world.publish(&[FOREVER]);
    assert_eq!((world.effects.refused.len(), world.core.message_count()), (1, 3));
}

#[test]
fn bodies_leave_memory_while_their_messages_wait_and_are_asked_for_after() {
    let mut world = world_of(delay(100, 100), 4);
    world.fail(3);
    let (mut sweep, mut steps) = (Sweep::default(), 0);
    while !sweep.is_over() {
        steps += world.core.evict_bodies(&ALL, &mut sweep, 2).steps;
    }
    assert_eq!((steps, world.core.resident_bytes()), (3, 1 + MESSAGE_OVERHEAD_BYTES));
    assert_eq!(world.core.absent_runs(), [(Seq(1), Seq(3))]);
    assert_eq!(world.ready_at(START + 100), [1, 2, 3, 4]);
    assert!(matches!(world.get_no_ack(), Got::Later));
    let load = world.effects.loads.pop().unwrap();
    assert_eq!(load.runs, [(Seq(1), Seq(3))]);
}

#[test]
fn a_policy_that_takes_the_delay_away_ends_the_waits_and_another_delay_leaves_them() {
    let mut world = world_of(delay(1000, 1000), 2);
    world.fail(2);
    world.core.set_behaviour(delay(5, 5), &mut world.records, &mut world.effects);
    assert_eq!(world.waiting(), [(1, START + 1000), (2, START + 1000)]);
    world.core.set_behaviour(Behaviour::default(), &mut world.records, &mut world.effects);
    assert_eq!((world.waiting(), world.ready()), (vec![], vec![1, 2]));
}

#[test]
fn one_lock_hold_ends_so_many_waits_and_asks_for_the_next() {
    let many = crate::limits::WORK_PER_LOCK_MAX + 7;
    let mut world = world_of(delay(100, 100), many);
    world.fail(many);
    world.asked();
    assert_eq!(world.ready_at(START + 200).len(), many - 7);
    assert_eq!(world.asked(), [START + 200]);
    assert_eq!(world.ready_at(START + 200).len(), many);
    assert_eq!((world.asked(), world.core.retries.is_none()), (vec![], true));
}

#[test]
fn a_queue_in_which_too_many_wait_hands_nothing_over_and_goes_on_when_one_is_ready() {
    let mut world = world_of(delay(100, 100), 0);
    let most = RETRYING_MAX as u64;
    for seq in 1..=most {
        let until = UnixMillis(if seq == 7 { START + 500 } else { START + 900 });
        world.core.restore_retrying((Seq(seq), 1), true, UnixMillis::NEVER, until);
    }
    world.publish(&[FOREVER]);
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    world.core.consume(spec(&outlet, 9), &mut world.records, &mut world.effects);
    world.publish(&[FOREVER]);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens(), world.ready()), (vec![], vec![most + 1, most + 2]));
    assert_eq!(world.got(), None);
    world.ready_at(START + 500);
    let read = vec![OnDisk::new(Seq(7), publish().message)];
    assert_eq!(world.effects.loads.pop().unwrap().runs, [(Seq(7), Seq(7))]);
    world.core.loaded(read, &[], &mut world.records, &mut world.effects);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens(), world.ready()), (vec![9, 9, 9], vec![]));
}

#[test]
fn a_recovered_message_that_waits_learns_when_it_expires_as_it_is_read() {
    let mut world = world_of(mourned(delay(100, 100)), 0);
    let due = UnixMillis(START + 200);
    world.core.restore_due(due);
    let until = UnixMillis(START + 300);
    world.core.restore_retrying((Seq(4), 1), true, due, until);
    assert_eq!((world.waiting(), world.ready_at(START + 299)), (vec![(4, until.0)], vec![]));
    assert_eq!(world.core.next_seq, 5);
    // It may have expired by now, which only its content's record says.
    assert_eq!(world.ready_at(until.0), [4]);
    assert_eq!(world.effects.loads.pop().unwrap().runs, [(Seq(4), Seq(4))]);
    let read = OnDisk { due: UnixMillis(START + 400), ..OnDisk::new(Seq(4), publish().message) };
    world.core.loaded(vec![read], &[], &mut world.records, &mut world.effects);
    assert_eq!((world.ready(), world.dead()), (vec![4], vec![]));
    assert_eq!((world.ready_at(START + 400), world.dead()), (vec![], vec![(4, Reason::Expired)]));
}

#[test]
fn what_fails_together_is_tried_apart() {
    let mut world = world_of(delay(10_000, 80_000), 1000);
    world.fail(1000);
    let mut tried: Vec<_> = world.waiting().iter().map(|(_, until)| until - START).collect();
    tried.sort_unstable();
    assert!(tried[0] >= 10_000 && tried[999] <= 12_000, "{tried:?}");
    tried.dedup();
    assert!(tried.len() > 500, "{} times", tried.len());
}

proptest! {
    #[test]
    fn no_wait_is_shorter_than_the_least_or_longer_than_the_most(
        min in 0..u64::MAX / 4, more in 0..u64::MAX / 4, times: u32, few in 1..80_u32, seq: u64,
    ) {
        let max = min + more;
        for times in [times, few] {
            let until = wait_until((QueueId(1), seq), times, (min, max), UnixMillis(5)).0;
            prop_assert!((min + 5..=max + 5).contains(&until), "{}", until);
        }
    }
}
