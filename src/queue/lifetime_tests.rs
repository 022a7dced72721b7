//! Expiry, length limits, dead letters and priorities of one queue, in virtual time.

use super::core::Publish;
use super::deadletter::{Dead, Reason};
use super::gets::Got;
use super::held_back::Obstacle;
use super::outlet::{Event, Outlet};
use super::page::Page;
use super::samples::{FOREVER, Sink, World, publish, spec};
use super::settings::{Behaviour, DeadLetter, DeadLetterStrategy, Overflow};
use super::settle::Settlement;
use crate::id::{ConsumerToken, QueueId, Seq};
use crate::limits::{DYING_MAX, WORK_PER_LOCK_MAX};
use crate::name::Name;
use crate::store::OnDisk;
use crate::time::UnixMillis;
use std::sync::Arc;

const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];

fn mourned() -> Behaviour {
    let dead_letter = DeadLetter {
        exchange: Name::new("dlx"),
        routing_key: None,
        strategy: DeadLetterStrategy::default(),
    };
    Behaviour { dead_letter: Some(dead_letter), ..Behaviour::default() }
}

#[test]
fn one_deadline_is_asked_for_and_only_the_head_expires() {
    let mut world = World::new(Behaviour::default());
    world.publish(&[500, FOREVER, 100]);
    assert_eq!(world.asked(), [1500]);
    assert_eq!((world.tick(1499), world.asked()), (3, vec![1500]));
    assert_eq!((world.tick(1500), world.asked()), (2, vec![]), "a live one is at the head");
    assert_eq!(world.got(), Some(2));
    assert_eq!((world.core.ready_len(), world.got()), (1, None), "the last has expired long ago");
    assert_eq!(world.core.ready_len(), 0);
}

#[test]
fn the_smaller_of_two_times_counts_and_a_later_policy_changes_no_message() {
    let behaviour = |ms| Behaviour { message_ttl_ms: ms, ..Behaviour::default() };
    let mut world = World::new(behaviour(Some(300)));
    world.publish(&[FOREVER, 900]);
    let (records, effects) = (&mut world.records, &mut world.effects);
    assert!(world.core.set_behaviour(behaviour(None), records, effects));
    world.publish(&[FOREVER]);
    assert_eq!((world.tick(1299), world.tick(1300)), (3, 1));
}

#[test]
fn what_expires_at_once_reaches_a_consumer_that_waits_and_nobody_else() {
    let mut world = World::new(mourned());
    world.publish(&[0]);
    assert_eq!((world.core.ready_len(), world.dead()), (0, vec![(1, Reason::Expired)]));
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.consume(spec(&outlet, 7), records, effects);
    world.publish(&[0]);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens(), world.dead()), (vec![7], vec![]));
}

#[test]
fn a_requeued_message_keeps_its_time() {
    let mut world = World::new(Behaviour::default());
    world.publish(&[500]);
    let out = world.take(1)[0];
    world.at(1400);
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&[out], Settlement::Requeue, records, effects);
    assert_eq!((world.tick(1499), world.tick(1500)), (1, 0));
}

#[test]
fn many_that_expire_together_go_in_several_lock_holds() {
    let mut world = World::new(Behaviour::default());
    let count = 2 * WORK_PER_LOCK_MAX + 10;
    world.publish(&vec![100; count]);
    world.asked();
    assert_eq!(world.tick(5000), count - WORK_PER_LOCK_MAX);
    assert_eq!(world.asked(), [5000], "it goes on at once");
    assert_eq!((world.tick(5000), world.tick(5000)), (10, 0));
}

#[test]
fn the_time_of_a_paged_message_is_looked_up_when_it_may_have_come() {
    let mut world = World::new(mourned());
    world.publish(&[800, 300, 900]);
    let gone = world.core.page_out(&ALL, 0, 0, 100);
    assert_eq!(gone.steps, 3);
    world.asked();
    // The page knows only when none of its messages expires.
    assert_eq!((world.tick(1299), world.asked()), (3, vec![1300]));
    assert_eq!(world.tick(1300), 3);
    let load = world.effects.loads.pop().unwrap();
    assert_eq!(load.runs, [(Seq(1), Seq(3))]);
    assert!(world.asked().is_empty(), "whoever brings it back will look");
    let dues = [(1, 1800), (2, 1300), (3, 1900)];
    let read = dues.map(|(seq, due)| OnDisk {
        due: UnixMillis(due),
        ..OnDisk::new(Seq(seq), publish().message)
    });
    world.core.loaded(read.into(), &[], &mut world.records, &mut world.effects);
    assert_eq!(world.asked(), [1800]);
    assert_eq!(world.tick(1800), 1);
    assert_eq!(world.dead(), [(1, Reason::Expired), (2, Reason::Expired)]);
}

#[test]
fn a_dead_letter_stays_until_it_has_moved_and_counts_nowhere() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER; 2]);
    let out = world.take(1)[0];
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&[out], Settlement::Discard, records, effects);
    let dead = world.effects.dead.pop().unwrap();
    assert_eq!((dead.reason, dead.recorded), (Reason::Rejected, true));
    assert_eq!((world.core.ready_len(), world.core.unacked_len()), (1, 0));
    assert_eq!(world.core.alive().live, [(Seq(1), Seq(2))]);
    drop(world.core.purge(&mut world.records, &mut world.effects));
    assert_eq!(world.core.alive().live, [(Seq(1), Seq(1))], "a purge takes what is ready");
    world.records.clear();
    let place = dead.place.unwrap();
    world.core.buried(&[place, place], true, &mut world.records, &mut world.effects);
    assert_eq!((world.core.alive().live, world.records.records()), (vec![], 1));
}

#[test]
fn one_that_dies_while_its_content_is_on_disk_is_read_first() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER; 2]);
    let out = world.take(2);
    let mut sweep = super::page_out::Sweep::default();
    world.core.evict_bodies(&ALL, &mut sweep, 100);
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&out, Settlement::Discard, records, effects);
    assert!(world.dead().is_empty());
    let load = world.effects.loads.pop().unwrap();
    assert_eq!(load.runs, [(Seq(1), Seq(2))]);
    let read = vec![OnDisk::new(Seq(1), publish().message)];
    world.core.loaded(read, &[Seq(2)], &mut world.records, &mut world.effects);
    assert_eq!(world.dead(), [(1, Reason::Rejected)]);
    assert_eq!((world.core.damaged_len(), world.core.unacked_len()), (1, 0));
}

#[test]
fn a_queue_that_ends_while_dead_letters_wait_has_none_left() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER]);
    let out = world.take(1)[0];
    let mut sweep = super::page_out::Sweep::default();
    world.core.evict_bodies(&ALL, &mut sweep, 100);
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&[out], Settlement::Discard, records, effects);
    drop(world.core.end(&mut world.effects));
    assert_eq!((world.core.unacked_len(), world.core.ready_len()), (0, 0));
    world.core.loaded(Vec::new(), &[], &mut world.records, &mut world.effects);
    world.effects.loads.clear();
    world.tick(2000);
    assert!(world.effects.loads.len() + world.dead().len() == 0, "nothing is left to be read");
}

#[test]
fn the_oldest_go_when_there_are_too_many_or_too_many_bytes() {
    for (max_length, max_length_bytes) in [(Some(2), None), (None, Some(2)), (Some(9), Some(2))] {
        let mut world = World::new(Behaviour { max_length, max_length_bytes, ..mourned() });
        world.publish(&[FOREVER; 5]);
        let gone = [1, 2, 3].map(|seq| (seq, Reason::MaxLength));
        assert_eq!((world.dead(), world.core.ready_len()), (gone.to_vec(), 2));
    }
    let mut world = World::new(Behaviour { max_length: Some(0), ..Behaviour::default() });
    world.publish(&[FOREVER]);
    assert_eq!((world.core.ready_len(), world.effects.ended.len()), (0, 1));
}

#[test]
fn a_requeued_message_counts_again_and_may_have_to_go() {
    let mut world = World::new(Behaviour { max_length: Some(1), ..mourned() });
    world.publish(&[FOREVER]);
    let out = world.take(1)[0];
    world.publish(&[FOREVER]);
    assert!(world.dead().is_empty());
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&[out], Settlement::Requeue, records, effects);
    assert_eq!((world.dead(), world.got()), (vec![(1, Reason::MaxLength)], Some(2)));
}

#[test]
fn a_full_queue_refuses_and_a_place_that_is_reserved_is_taken() {
    for (overflow, dead) in [
        (Overflow::RejectPublish, vec![]),
        (Overflow::RejectPublishDlx, vec![(0, Reason::MaxLength); 2]),
    ] {
        let mut world = World::new(Behaviour { max_length: Some(2), overflow, ..mourned() });
        let marked = |mark| Publish { mark, ..publish() };
        let reserved = world.core.reserve(marked(1), &mut world.effects).unwrap();
        let mut batch = vec![marked(2), marked(3)];
        world.core.publish(&mut batch, &mut world.records, &mut world.effects);
        assert_eq!(world.core.reserve(marked(4), &mut world.effects), None);
        assert_eq!((&*world.effects.refused, world.core.ready_len()), (&[3, 4][..], 1));
        assert_eq!(world.dead(), dead);
        let (records, effects) = (&mut world.records, &mut world.effects);
        world.core.withdraw(&[reserved.seq], records, effects);
        assert!(world.core.reserve(marked(5), &mut world.effects).is_some());
    }
}

#[test]
fn a_shorter_limit_takes_effect_at_once() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER; 4]);
    let behaviour = Behaviour { max_length: Some(1), ..mourned() };
    world.core.set_behaviour(behaviour, &mut world.records, &mut world.effects);
    assert_eq!((world.dead().len(), world.got()), (3, Some(4)));
}

#[test]
fn an_unused_queue_asks_for_its_end_and_use_puts_it_off() {
    let mut world = World::new(Behaviour { expires_ms: Some(500), ..Behaviour::default() });
    world.core.touch(&mut world.effects);
    assert_eq!(world.asked(), [1500]);
    world.at(1400);
    assert_eq!(world.got(), None);
    world.tick(1500);
    assert_eq!((world.effects.idle.len(), world.asked()), (0, vec![1900]));
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let (records, effects) = (&mut world.records, &mut world.effects);
    let key = world.core.consume(spec(&outlet, 1), records, effects).unwrap();
    world.tick(1900);
    assert!(world.effects.idle.is_empty() && !world.is_idle(9999));
    world.core.cancel(key, &mut world.records, &mut world.effects);
    assert_eq!(world.asked(), [2400]);
    world.tick(2400);
    assert_eq!(world.effects.idle, [QueueId(1)]);
}

#[test]
fn a_queue_from_before_a_restart_counts_from_the_first_look() {
    let mut world = World::new(Behaviour { expires_ms: Some(500), ..Behaviour::default() });
    assert!(!world.is_idle(1_000_000));
    world.tick(8000);
    assert_eq!((world.effects.idle.len(), world.asked()), (0, vec![8500]));
}

#[test]
fn too_many_dead_letters_hold_up_more_of_them_until_they_have_moved() {
    let mut world = World::new(mourned());
    let count = DYING_MAX + 100;
    world.publish(&vec![100; count]);
    let mut ticks = 0;
    while world.tick(5000) > 100 {
        ticks += 1;
        assert!(ticks < 10);
    }
    assert_eq!((world.core.ready_len(), world.effects.dead.len()), (100, DYING_MAX));
    world.asked();
    assert_eq!((world.tick(6000), world.asked()), (100, vec![]), "nobody looks in vain");
    let places: Vec<_> = world.effects.dead.drain(..).filter_map(|dead| dead.place).collect();
    world.core.buried(&places, true, &mut world.records, &mut world.effects);
    assert_eq!((world.core.ready_len(), world.effects.dead.len()), (0, 100));
}

#[test]
fn a_get_behind_letters_that_nobody_takes_finds_nothing() {
    let mut world = World::new(mourned());
    world.publish(&vec![100; DYING_MAX + 1]);
    while world.tick(5000) > 1 {}
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let get = |world: &mut World| {
        let World { core, records, effects } = world;
        core.get(&outlet, ConsumerToken(7), true, records, effects)
    };
    assert!(matches!(get(&mut world), Got::Later), "the letters are on their way");
    world.core.withdraw_get(ConsumerToken(7));
    let held = |dead: &Dead| dead.place.map(|(slot, seq)| (slot, seq, dead.reason));
    let letters: Vec<_> = world.effects.dead.iter().filter_map(held).collect();
    assert!(world.core.hold_back(&letters, Obstacle::NoTaker, &mut world.effects));
    assert!(matches!(get(&mut world), Got::Empty));
}

#[test]
fn consumers_get_nothing_while_too_much_of_what_they_rejected_has_not_moved() {
    let mut world = World::new(mourned());
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    world.core.consume(spec(&outlet, 1), &mut world.records, &mut world.effects);
    world.publish(&vec![FOREVER; DYING_MAX]);
    world.core.push_events(&mut world.effects);
    let out = sink.deliveries();
    assert_eq!(out.len(), DYING_MAX);
    world.core.settle(&out, Settlement::Discard, &mut world.records, &mut world.effects);
    // The first has used its credit.
    world.core.consume(spec(&outlet, 2), &mut world.records, &mut world.effects);
    world.publish(&[FOREVER]);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.deliveries().len(), world.core.ready_len()), (0, 1));
    let place = world.effects.dead.pop().and_then(|dead| dead.place).unwrap();
    world.core.buried(&[place], true, &mut world.records, &mut world.effects);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.deliveries().len(), world.core.ready_len()), (1, 0));
}

#[test]
fn urgent_messages_overtake_and_equals_keep_their_order() {
    let mut world = World::new(Behaviour { max_priority: Some(2), ..Behaviour::default() });
    let ranked = |priority| Publish { priority, ..publish() };
    let mut batch: Vec<_> = [0, 2, 1, 9, 0, 1].map(ranked).into();
    world.core.publish(&mut batch, &mut world.records, &mut world.effects);
    let order: Vec<_> = (0..6).filter_map(|_| world.got()).map(|seq| Seq(seq).age()).collect();
    assert_eq!(order, [2, 4, 3, 6, 1, 5]);
}

#[test]
fn an_urgent_message_that_is_invisible_stops_those_behind_it_until_it_is_shown() {
    let mut world = World::new(Behaviour { max_priority: Some(1), ..Behaviour::default() });
    world.publish(&[FOREVER]);
    let urgent = Publish { priority: 1, ..publish() };
    let target = world.core.reserve(urgent, &mut world.effects).unwrap();
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    world.core.consume(spec(&outlet, 1), &mut world.records, &mut world.effects);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens().len(), world.core.ready_len()), (0, 1));
    drop(world.core.purge(&mut world.records, &mut world.effects));
    world.core.show(&[target.seq], &mut world.records, &mut world.effects);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens().len(), world.core.unacked_len()), (1, 1));
}

/// Two messages that lie on disk, of which the second expires at 1100, and what a load brings.
fn absent_pair() -> (World, Vec<OnDisk>) {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER, 100]);
    world.core.page_out(&ALL, 0, 0, 100);
    let second = OnDisk { due: UnixMillis(1100), ..OnDisk::new(Seq(2), publish().message) };
    (world, vec![OnDisk::new(Seq(1), publish().message), second])
}

#[test]
fn of_two_gets_that_wait_the_second_does_not_find_what_has_expired() {
    let (mut world, read) = absent_pair();
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    let (records, effects) = (&mut world.records, &mut world.effects);
    for token in 1..=2 {
        let got = world.core.get(&outlet, ConsumerToken(token), true, records, effects);
        assert!(matches!(got, Got::Later));
    }
    effects.now.unix = UnixMillis(1100);
    world.core.loaded(read, &[], records, effects);
    let events = std::mem::take(&mut *sink.0.lock());
    let found = |event: &Event| matches!(event, Event::Got { delivery: Some(_), .. });
    assert_eq!(events.iter().map(found).collect::<Vec<_>>(), [true, false]);
    assert_eq!(world.dead(), [(2, Reason::Expired)]);
}

#[test]
fn a_consumer_behind_a_get_does_not_get_what_has_expired() {
    let (mut world, read) = absent_pair();
    let sink = Arc::new(Sink::default());
    let outlet: Arc<dyn Outlet> = sink.clone();
    let (records, effects) = (&mut world.records, &mut world.effects);
    let got = world.core.get(&outlet, ConsumerToken(1), true, records, effects);
    assert!(matches!(got, Got::Later));
    world.core.consume(spec(&outlet, 2), records, effects);
    effects.now.unix = UnixMillis(1100);
    world.core.loaded(read, &[], records, effects);
    world.core.push_events(&mut world.effects);
    assert_eq!((sink.tokens(), world.dead()), (vec![1], vec![(2, Reason::Expired)]));
}

#[test]
fn a_get_that_looks_past_an_invisible_message_does_not_find_what_has_expired() {
    let mut world = World::new(mourned());
    world.core.reserve(publish(), &mut world.effects).unwrap();
    world.publish(&[100, FOREVER]);
    world.at(1100);
    assert_eq!((world.got(), world.dead()), (Some(3), vec![(2, Reason::Expired)]));
}

#[test]
fn a_delivery_that_is_rejected_twice_at_once_dies_once() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER]);
    let out = world.take(1)[0];
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&[out, out], Settlement::Discard, records, effects);
    assert_eq!(world.core.recorded(&[out], Settlement::Ack), []);
    world.core.settle(&[out], Settlement::Ack, &mut world.records, &mut world.effects);
    assert_eq!((world.dead(), world.core.unacked_len()), (vec![(1, Reason::Rejected)], 0));
    assert_eq!(world.core.alive().live, [out.1].map(|seq| (seq, seq)));
}

#[test]
fn a_queue_may_end_before_its_dead_letters_have_moved() {
    let mut world = World::new(mourned());
    world.publish(&[0]);
    drop(world.core.end(&mut world.effects));
    assert_eq!((world.core.ready_len(), world.core.unacked_len()), (0, 0));
    let place = world.effects.dead.pop().unwrap().place.unwrap();
    world.records.clear();
    world.core.buried(&[place], true, &mut world.records, &mut world.effects);
    assert!(world.records.is_empty());
}

#[test]
fn an_urgent_message_that_is_invisible_is_not_spilled() {
    let mut world = World::new(Behaviour { max_priority: Some(1), ..Behaviour::default() });
    world.publish(&[FOREVER]);
    let urgent = Publish { priority: 1, persistent: false, ..publish() };
    let target = world.core.reserve(urgent, &mut world.effects).unwrap();
    let spilled = |world: &World| {
        let mut sweep = super::page_out::Sweep::default();
        world.core.transient_aside(&mut sweep, 100).messages.len()
    };
    assert_eq!(spilled(&world), 0);
    world.core.show(&[target.seq], &mut world.records, &mut world.effects);
    assert_eq!(spilled(&world), 1);
}

#[test]
fn a_message_that_could_not_be_read_once_keeps_its_time_when_it_can() {
    let mut world = World::new(Behaviour::default());
    // The checkpoint's bound did not know of it.
    world.core.restore_page(Page::dense(Seq(1), Seq(1), 1, false));
    let (records, effects) = (&mut world.records, &mut world.effects);
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let got = world.core.get(&outlet, ConsumerToken(1), false, records, effects);
    assert!(matches!(got, Got::Later));
    world.core.withdraw_get(ConsumerToken(1));
    let read = OnDisk { due: UnixMillis(1500), ..OnDisk::new(Seq(1), publish().message) };
    world.core.loaded(vec![read], &[], records, effects);
    assert_eq!(world.asked(), [1500]);
    assert_eq!((world.tick(1499), world.tick(1500)), (1, 0));
}
