//! Exact expiry of one queue, in virtual time.

use super::core::{Publish, QueueCore};
use super::deadletter::Reason;
use super::effects::Effects;
use super::gets::Got;
use super::outlet::Outlet;
use super::page::Page;
use super::samples::{FOREVER, Sink, get, publish, spec};
use super::settings::{Behaviour, DeadLetter, DeadLetterStrategy};
use super::settle::Settlement;
use crate::id::{ConsumerToken, QueueId, Seq};
use crate::limits::{
    DUE_BYTES, DUE_PAGES_PER_LOAD, DYING_MAX, EXPIRED_PER_LOCK_MAX, LOAD_LEN, PAGE_LEN,
    WORK_PER_LOCK_MAX,
};
use crate::name::Name;
use crate::store::{OnDisk, RecordBatch};
use crate::time::{Millis, Now, Ttl, UnixMillis};
use std::sync::Arc;

const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];
const START: u64 = 1_000;

struct World {
    core: QueueCore,
    records: RecordBatch,
    effects: Effects,
    /// When each message expires, as the disk knows it, by seq less one.
    dues: Vec<u64>,
    /// Messages that loads brought.
    read: usize,
}

fn exact() -> Behaviour {
    Behaviour { exact_expiry: true, ..Behaviour::default() }
}

fn mourned() -> Behaviour {
    let exchange = Name::new("dlx");
    let strategy = DeadLetterStrategy::default();
    let dead_letter = Some(DeadLetter { exchange, routing_key: None, strategy });
    Behaviour { dead_letter, ..exact() }
}

impl World {
    fn new(behaviour: Behaviour) -> Self {
        let core = QueueCore::new(QueueId(1), true).with_behaviour(behaviour);
        let (records, effects) = (RecordBatch::new(), Effects::new());
        let mut world = Self { core, records, effects, dues: Vec::new(), read: 0 };
        world.at(START);
        world
    }

    fn at(&mut self, ms: u64) {
        self.effects.now = Now { unix: UnixMillis(ms), monotonic: Millis(ms) };
    }

    fn publish(&mut self, ttls: &[u64]) {
        let now = self.effects.now.unix.0;
        self.dues.extend(ttls.iter().map(|ttl| now.saturating_add(*ttl)));
        let publish = |ttl: &u64| Publish { ttl: Ttl::of_ms(*ttl), ..publish() };
        let mut batch = ttls.iter().map(publish).collect();
        self.core.publish(&mut batch, &mut self.records, &mut self.effects);
    }

    /// When it was asked to be looked at, since the last call: the last counts.
    fn asked(&mut self) -> Option<u64> {
        self.effects.deadlines.drain(..).next_back().map(|(_, at)| at.0)
    }

    /// Looks at the queue; says how many are ready.
    fn tick(&mut self, ms: u64) -> usize {
        self.at(ms);
        self.core.tick(&mut self.records, &mut self.effects);
        self.effects.drop_ended();
        self.core.ready_len()
    }

    /// As the ticker and the reader do until nothing is due.
    fn tick_all(&mut self, ms: u64) -> usize {
        self.tick(ms);
        while self.answer() || self.asked().is_some_and(|at| at <= ms) {
            self.tick(ms);
        }
        self.core.ready_len()
    }

    /// Answers a load as the disk does. False if none is asked for.
    fn answer(&mut self) -> bool {
        let Some(load) = self.effects.loads.pop() else { return false };
        let seqs = load.runs.iter().flat_map(|run| run.0.0..=run.1.0);
        let message = |seq: u64| OnDisk {
            due: UnixMillis(self.dues[seq as usize - 1]),
            ..OnDisk::new(Seq(seq), publish().message)
        };
        let messages: Vec<_> = seqs.map(message).collect();
        assert!(messages.len() <= LOAD_LEN);
        self.read += messages.len();
        self.core.loaded(messages, &[], &mut self.records, &mut self.effects);
        self.effects.drop_ended();
        true
    }

    fn page_out(&mut self) {
        while self.core.page_out(&ALL, 0, 0, WORK_PER_LOCK_MAX).steps == WORK_PER_LOCK_MAX {}
        assert_eq!(self.core.resident_bytes(), self.core.dues_bytes());
    }

    fn behave(&mut self, behaviour: Behaviour) {
        self.core.set_behaviour(behaviour, &mut self.records, &mut self.effects);
        self.effects.drop_ended();
    }

    /// Seqs and reasons of those that died since the last call.
    fn dead(&mut self) -> Vec<(u64, Reason)> {
        let dead = self.effects.dead.drain(..);
        dead.map(|dead| (dead.place.map_or(0, |(_, seq)| seq.0), dead.reason)).collect()
    }

    fn left(&self) -> Vec<u64> {
        self.core.ready_seqs().iter().map(|seq| seq.0).collect()
    }
}

#[test]
fn each_message_expires_in_its_time_wherever_it_stands() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER, 500, 300, 900, FOREVER]);
    assert_eq!(world.asked(), Some(1_300));
    assert_eq!((world.tick(1_299), world.asked()), (5, Some(1_300)));
    assert_eq!((world.tick(1_300), world.asked()), (4, Some(1_500)));
    assert_eq!((world.tick(1_500), world.asked()), (3, Some(1_900)));
    assert_eq!((world.tick(9_000), world.asked()), (2, None));
    let dead = [3, 2, 4].map(|seq| (seq, Reason::Expired));
    assert_eq!((world.dead(), world.left()), (dead.into(), vec![1, 5]));
    assert_eq!(world.core.dues_bytes(), 0);
}

#[test]
fn lower_priorities_expire_behind_urgent_ones() {
    let mut world = World::new(Behaviour { max_priority: Some(1), ..exact() });
    let of = |priority, ttl_ms| Publish { priority, ttl: Ttl::of_ms(ttl_ms), ..publish() };
    let mut batch = vec![of(0, 100), of(1, FOREVER), of(0, FOREVER), of(1, 200)];
    world.core.publish(&mut batch, &mut world.records, &mut world.effects);
    assert_eq!((world.tick(1_100), world.tick(1_200)), (3, 2));
    let ages: Vec<_> = world.core.ready_seqs().iter().map(|seq| seq.age()).collect();
    assert_eq!(ages, [2, 3]);
}

#[test]
fn what_is_out_expires_when_it_comes_back() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER, 500, 700]);
    let out: Vec<_> =
        (0..3).map(|_| get(&mut world.core, &mut world.records, &mut world.effects)).collect();
    world.asked();
    assert_eq!((world.tick(1_600), world.dead(), world.core.unacked_len()), (0, vec![], 3));
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.settle(&out, Settlement::Requeue, records, effects);
    assert_eq!(world.asked(), Some(1_600));
    assert_eq!((world.tick(1_600), world.dead()), (2, vec![(2, Reason::Expired)]));
    assert_eq!(world.asked(), Some(1_700));
}

#[test]
fn an_invisible_message_expires_once_it_is_shown() {
    let mut world = World::new(exact());
    world.publish(&[FOREVER]);
    let short = Publish { ttl: Ttl::of_ms(100), ..publish() };
    let places = [0; 2].map(|_| world.core.reserve(short.clone(), &mut world.effects).unwrap());
    world.asked();
    assert_eq!((world.tick(2_000), world.asked(), world.core.dues_bytes()), (1, None, 0));
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.withdraw(&[places[0].seq], records, effects);
    world.core.show(&[places[1].seq], records, effects);
    assert_eq!((world.core.ready_len(), world.asked()), (2, Some(2_000)));
    assert_eq!((world.tick(2_000), world.left()), (1, vec![1]));
}

#[test]
fn of_a_page_only_what_is_due_is_read_and_the_rest_stays_on_disk() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER, 500, 300, 900, 300]);
    world.page_out();
    world.asked();
    world.tick(1_300);
    assert_eq!(world.effects.loads[0].runs, [3, 5].map(|seq| (Seq(seq), Seq(seq))));
    assert_eq!(world.asked(), Some(1_500), "others do not wait for the disk");
    assert!(world.answer());
    assert_eq!(world.dead(), [3, 5].map(|seq| (seq, Reason::Expired)));
    assert_eq!((world.left(), world.core.absent_seqs().len()), (vec![1, 2, 4], 3));
    assert_eq!(world.core.ready_bytes(), 3);
    assert_eq!((world.tick_all(2_000), world.read), (1, 4));
    assert_eq!(world.core.absent_seqs(), [Seq(1)]);
}

#[test]
fn what_is_due_and_cannot_be_read_is_damaged() {
    let mut world = World::new(mourned());
    world.publish(&[FOREVER, 100, 100]);
    world.page_out();
    world.tick(1_100);
    world.effects.loads.clear();
    let read = OnDisk { due: UnixMillis(1_100), ..OnDisk::new(Seq(3), publish().message) };
    world.core.loaded(vec![read], &[Seq(2)], &mut world.records, &mut world.effects);
    assert_eq!(world.dead(), [(3, Reason::Expired)]);
    assert_eq!((world.left(), world.core.damaged_len()), (vec![1], 1));
    assert_eq!((world.tick_all(9_000), world.core.dues_bytes()), (1, 0));
}

#[test]
fn what_a_load_did_not_look_at_is_asked_for_again() {
    let mut world = World::new(exact());
    world.publish(&[FOREVER, 100, 100]);
    world.page_out();
    world.tick(1_100);
    let load = world.effects.loads.pop().unwrap();
    world.asked();
    world.core.loaded(vec![], &[], &mut world.records, &mut world.effects);
    assert_eq!(world.asked(), Some(1_100));
    world.tick(1_100);
    assert_eq!(world.effects.loads, [load]);
}

/// Times in no order, each once.
fn scattered(count: usize) -> Vec<u64> {
    (0..count as u64).map(|n| 1 + n * 7_919 % count as u64).collect()
}

#[test]
fn every_message_of_a_long_paged_queue_is_read_once_whatever_its_time() {
    let count = 20_000;
    let mut world = World::new(exact());
    world.publish(&scattered(count));
    assert_eq!(world.core.dues_bytes(), count as u64 * DUE_BYTES);
    world.page_out();
    for ms in (0..=count as u64).step_by(100) {
        let left = count - ms as usize;
        assert_eq!((world.tick_all(START + ms), world.core.absent_seqs().len()), (left, left));
    }
    assert_eq!((world.read, world.core.dues_bytes()), (count, 0));
}

#[test]
fn one_load_touches_few_pages() {
    let mut world = World::new(exact());
    let pages = 3 * DUE_PAGES_PER_LOAD;
    let one_of_each = |n: usize| if n.is_multiple_of(PAGE_LEN) { 100 } else { FOREVER };
    world.publish(&(0..pages * PAGE_LEN).map(one_of_each).collect::<Vec<_>>());
    world.page_out();
    world.tick(1_100);
    for _ in 0..3 {
        assert_eq!(world.effects.loads[0].runs.len(), DUE_PAGES_PER_LOAD);
        world.answer();
        world.tick(1_100);
    }
    assert_eq!((world.core.ready_len(), world.read), (pages * (PAGE_LEN - 1), pages));
}

/// A queue as a start restores it: pages, of which only a bound is known.
fn restored(count: usize, floor: u64) -> World {
    let mut world = World::new(exact());
    world.dues = (0..count as u64).map(|n| START + 2_000 + n * 7 % 1_000).collect();
    let mut core = QueueCore::new(QueueId(1), true);
    for first in (1..=count as u64).step_by(PAGE_LEN) {
        let last = (first + PAGE_LEN as u64 - 1).min(count as u64);
        let page = Page::dense(Seq(first), Seq(last), last - first + 1, false);
        core.restore_page(page.with_due(UnixMillis(floor)));
    }
    core.restore_due(UnixMillis(floor));
    world.core = core.with_behaviour(exact());
    world
}

#[test]
fn restored_pages_are_read_once_when_the_first_may_be_due() {
    let count = 3 * LOAD_LEN;
    let mut world = restored(count, 2_500);
    world.tick_all(2_400);
    assert_eq!((world.read, world.core.dues_bytes()), (0, 0));
    // The bound was too low: nothing is due, but now the times are known.
    assert_eq!((world.tick_all(2_500), world.read), (count, count));
    assert_eq!(world.core.resident_bytes(), count as u64 * DUE_BYTES, "no content stays");
    let due = world.dues.iter().filter(|due| **due <= 3_499).count();
    assert_eq!((world.tick_all(3_499), world.read), (count - due, count + due));
    assert_eq!((world.tick_all(9_000), world.read), (0, 2 * count));
}

#[test]
fn restored_messages_that_are_due_end_with_the_first_look() {
    let count = 2 * LOAD_LEN;
    let mut world = restored(count, 2_500);
    assert_eq!((world.tick_all(9_000), world.read, world.core.dues_bytes()), (0, count, 0));
    assert!(world.core.alive().live.is_empty());
}

#[test]
fn consumers_and_what_is_due_are_read_in_turn() {
    let count = 20 * LOAD_LEN;
    let mut world = restored(count, 0);
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let spec = spec(&outlet, 1);
    world.core.consume(spec, &mut world.records, &mut world.effects);
    let mut firsts = Vec::new();
    for _ in 0..4 {
        world.tick(START);
        firsts.push(world.effects.loads[0].runs[0].0.0);
        world.answer();
    }
    let len = LOAD_LEN as u64;
    // What was read for its time is read again for the consumer.
    assert_eq!(firsts, [1, 1 + len, 1 + len, 1 + 2 * len]);
    assert_eq!(world.core.unacked_len(), 2 * LOAD_LEN);
}

#[test]
fn many_that_expire_together_go_in_several_lock_holds() {
    let mut world = World::new(exact());
    let count = 2 * EXPIRED_PER_LOCK_MAX + 10;
    world.publish(&[FOREVER]);
    world.publish(&vec![100; count]);
    world.asked();
    assert_eq!(world.tick(5_000), 1 + count - EXPIRED_PER_LOCK_MAX);
    assert_eq!(world.asked(), Some(5_000), "it goes on at once");
    assert_eq!((world.tick(5_000), world.tick(5_000)), (11, 1));
    assert_eq!(world.left(), [1]);
}

#[test]
fn too_many_dead_letters_hold_up_more_of_them_until_they_have_moved() {
    for paged in [false, true] {
        let mut world = World::new(mourned());
        world.publish(&[FOREVER]);
        world.publish(&vec![100; DYING_MAX + 2 * LOAD_LEN]);
        if paged {
            world.page_out();
        }
        world.tick_all(5_000);
        let waiting = world.effects.dead.len();
        assert!((DYING_MAX..DYING_MAX + LOAD_LEN).contains(&waiting), "{waiting}");
        assert_eq!((world.asked(), world.effects.loads.len()), (None, 0), "nobody looks in vain");
        while !world.effects.dead.is_empty() {
            let places: Vec<_> = world.effects.dead.drain(..).filter_map(|it| it.place).collect();
            world.core.buried(&places, true, &mut world.records, &mut world.effects);
            world.tick_all(5_000);
        }
        assert_eq!((world.left(), world.core.unacked_len()), (vec![1], 0));
    }
}

#[test]
fn a_queue_that_becomes_exact_is_swept_in_steps_and_one_that_was_forgets_its_times() {
    let mut world = World::new(Behaviour::default());
    let count = 3 * WORK_PER_LOCK_MAX;
    world.publish(&[FOREVER]);
    world.publish(&vec![500; count / 3]);
    world.page_out();
    world.publish(&vec![600; count]);
    world.asked();
    world.behave(exact());
    world.publish(&[400]);
    let mut ticks = 0;
    while world.asked() == Some(START) {
        world.tick(START);
        ticks += 1;
    }
    assert_eq!(ticks, count / WORK_PER_LOCK_MAX + 1);
    assert_eq!(world.core.dues_bytes(), (count as u64 + 1) * DUE_BYTES);
    assert_eq!((world.tick_all(1_400), world.read), (1 + count + count / 3, 0));
    // The page's own times are read when the first of them may have come.
    assert_eq!((world.tick_all(1_500), world.read), (1 + count, 1 + count / 3));
    world.behave(Behaviour::default());
    assert_eq!((world.core.dues_bytes(), world.tick_all(1_600)), (0, 1 + count));
    world.behave(exact());
    assert_eq!(world.tick_all(1_600), 1);
}

#[test]
fn a_queue_that_was_exact_is_as_any_other_once_it_was_empty() {
    let mut world = World::new(exact());
    world.publish(&[FOREVER]);
    world.behave(Behaviour::default());
    world.publish(&[FOREVER]);
    assert_eq!((world.core.ready.returned.len(), world.core.ready.fifo.len()), (2, 0));
    drop(world.core.purge(&mut world.records, &mut world.effects));
    world.publish(&[FOREVER]);
    assert_eq!((world.core.ready.returned.len(), world.core.ready.fifo.len()), (0, 1));
}

#[test]
fn a_purge_forgets_all_times() {
    let mut world = World::new(exact());
    world.publish(&[100, 200, FOREVER]);
    world.page_out();
    world.publish(&[100; 9]);
    world.tick(1_100);
    drop(world.core.purge(&mut world.records, &mut world.effects));
    assert_eq!((world.core.dues_bytes(), world.core.resident_bytes()), (0, 0));
    // The load that was under way brings nothing back.
    assert!(world.answer());
    assert_eq!((world.left(), world.core.dues_bytes()), (vec![], 0));
}

#[test]
fn a_bound_from_before_a_message_lay_in_a_page_ends_nothing() {
    let mut world = World::new(exact());
    world.publish(&[100; 3]);
    world.page_out();
    // As of what waited over a start: only the disk knows that it never expires.
    world.dues = vec![u64::MAX; 3];
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    let World { core, records, effects, .. } = &mut world;
    assert!(matches!(core.get(&outlet, ConsumerToken(1), true, records, effects), Got::Later));
    assert!(world.answer());
    assert_eq!((world.left(), world.tick_all(START + 100)), (vec![2, 3], 2));
    assert_eq!((world.dead(), world.core.dues_bytes()), (vec![], 0));
}

#[test]
fn both_ends_of_an_exact_queue_stay_in_memory() {
    let mut world = World::new(exact());
    world.publish(&vec![FOREVER; 100]);
    assert_eq!(world.core.pageable(10, 20), Some((Seq(11), Seq(80))));
    assert_eq!(world.core.page_out(&ALL, 10, 20, 50).steps, 50);
    assert_eq!(world.core.pageable(10, 20), Some((Seq(61), Seq(80))));
    assert_eq!(world.core.page_out(&ALL, 10, 20, 50).steps, 20);
    assert_eq!(world.core.pageable(10, 20), None);
    assert_eq!(world.core.page_out(&ALL, 5, 20, 50).steps, 5);
    assert_eq!(world.core.absent_seqs(), (6..=80).map(Seq).collect::<Vec<_>>());
    // What is not stored stays, and is passed by.
    let stored = [(Seq(90), Seq(95))];
    assert_eq!(world.core.page_out(&stored, 0, 0, 50).steps, 6);
    assert_eq!(world.core.pageable(0, 0), Some((Seq(96), Seq(100))));
    assert_eq!(world.core.alive().live, [(Seq(1), Seq(100))]);
}

#[test]
fn a_restored_queue_in_which_nothing_expires_pages_out_without_a_tick() {
    let mut core = QueueCore::new(QueueId(1), true);
    core.restore_page(Page::dense(Seq(1), Seq(10), 10, false));
    let mut world = World::new(exact());
    world.core = core.with_behaviour(exact());
    world.publish(&[FOREVER; 90]);
    assert_eq!(world.asked(), None);
    world.page_out();
    assert_eq!(world.core.absent_seqs().len(), 100);
}

#[test]
fn a_checkpoint_is_told_of_the_first_time_that_is_left() {
    let mut world = World::new(exact());
    world.publish(&[FOREVER, 100, 5_000, 300]);
    assert_eq!((world.tick(1_100), world.core.alive().due), (3, UnixMillis(1_300)));
    world.page_out();
    assert_eq!((world.tick_all(1_300), world.core.alive().due), (2, UnixMillis(6_000)));
    // An invisible message and one that is out say theirs too.
    let short = Publish { ttl: Ttl::of_ms(10), ..publish() };
    let place = world.core.reserve(short, &mut world.effects).unwrap();
    assert_eq!((world.tick(1_400), world.core.alive().due), (2, UnixMillis(1_310)));
    let (records, effects) = (&mut world.records, &mut world.effects);
    world.core.withdraw(&[place.seq], records, effects);
    assert_eq!((world.tick_all(6_000), world.core.alive().due), (1, UnixMillis::NEVER));
}
