//! Delayed messages: their numbers, their pages, and how many are on their way at once.

use super::core::{Publish, QueueCore};
use super::effects::Effects;
use super::load::Paging;
use super::page::{Page, Paged};
use super::samples::publish;
use crate::id::{QueueId, Seq};
use crate::limits::{
    CLOCK_JUMP_MS, GIVEN_UP_FORGOTTEN_AT_ONCE, JOINED_PAGES_AT_ONCE, RELEASES_UNDER_WAY_MAX,
};
use crate::store::{CameBack, OnDisk, RecordBatch};
use crate::time::{Delay, UnixMillis};

struct World {
    core: QueueCore,
    records: RecordBatch,
    effects: Effects,
}

impl World {
    fn new() -> Self {
        let core = QueueCore::new(QueueId::timed(1), true);
        Self { core, records: RecordBatch::new(), effects: Effects::new() }
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.effects.now.unix = UnixMillis(now);
        self
    }

    fn publish(&mut self, delay: Delay) {
        let publish = Publish { delay: Some(delay), ..publish() };
        self.core.publish(&mut vec![publish], &mut self.records, &mut self.effects);
    }

    fn tick(&mut self) -> Vec<Seq> {
        self.core.tick(&mut self.records, &mut self.effects);
        self.moved()
    }

    /// Where those are that left, which have moved now.
    fn moved(&mut self) -> Vec<Seq> {
        let mut all = Vec::new();
        while !self.effects.dead.is_empty() {
            let dead = std::mem::take(&mut self.effects.dead);
            let places: Vec<_> = dead.iter().filter_map(|dead| dead.place).collect();
            self.core.buried(&places, true, &mut self.records, &mut self.effects);
            all.extend(places.into_iter().map(|(_, seq)| seq));
        }
        all
    }

    fn seqs(&self) -> Vec<u64> {
        self.core.waiting(Seq(0), usize::MAX).iter().map(|waiting| waiting.seq.0).collect()
    }
}

#[test]
fn what_is_due_at_one_time_keeps_its_order_whatever_the_numbers_are() {
    let mut world = World::new();
    // The last number with which a message may begin, and the first.
    for next_seq in [(1 << 19) - 2, 5] {
        world.core.next_seq = next_seq;
        for _ in 0..4 {
            world.publish(Delay::until(UnixMillis(7)));
        }
    }
    let seqs = world.seqs();
    assert_eq!(seqs.len(), 8);
    assert!(seqs.iter().all(|seq| Seq(*seq).time() == UnixMillis(7)), "{seqs:?}");
    let order: Vec<_> = world.at(7).tick();
    assert_eq!(order.iter().map(|seq| seq.0).collect::<Vec<_>>(), seqs);
}

#[test]
fn a_millisecond_without_numbers_goes_on_in_the_next_and_nothing_is_early() {
    let mut world = World::new();
    let last = Seq::timed(UnixMillis(8)).0 - 1;
    world.publish(Delay::until(UnixMillis(8)));
    let taken = world.seqs()[0];
    // As if all numbers of the millisecond before, and the one behind it, had been given.
    world.core.released = last;
    world.publish(Delay::until(UnixMillis(7)));
    assert_eq!(world.seqs(), [taken, taken + 1]);
    assert_eq!(world.at(7).tick(), []);
    assert_eq!(world.at(8).tick(), [Seq(taken), Seq(taken + 1)]);
}

#[test]
fn a_clock_behind_gives_no_seq_again() {
    let mut world = World::new();
    world.publish(Delay::until(UnixMillis(5)));
    let gone = world.at(5).tick();
    world.core.next_seq = 1;
    world.at(4).publish(Delay::for_ms(1));
    assert!(world.seqs()[0] > gone[0].0);
    assert_eq!(world.at(5).tick().len(), 1);
}

#[test]
fn no_more_are_on_their_way_at_once_than_may_be() {
    let mut world = World::new();
    for _ in 0..3 * RELEASES_UNDER_WAY_MAX {
        world.publish(Delay::for_ms(10));
    }
    world.at(10);
    world.core.tick(&mut world.records, &mut world.effects);
    assert_eq!(world.effects.dead.len(), RELEASES_UNDER_WAY_MAX);
    assert_eq!(world.core.unacked_len(), 0);
    assert_eq!(world.moved().len(), 3 * RELEASES_UNDER_WAY_MAX);
    assert_eq!((world.core.ready_len(), world.core.resident_bytes()), (0, 0));
}

#[test]
fn the_queue_asks_for_one_look_and_earlier_if_something_earlier_comes() {
    let mut world = World::new();
    let asked = |world: &mut World, ms| {
        world.publish(Delay::for_ms(ms));
        std::mem::take(&mut world.effects.deadlines)
    };
    let id = QueueId::timed(1);
    assert_eq!(asked(&mut world, 50), [(id, UnixMillis(50))]);
    assert_eq!(asked(&mut world, 60), []);
    assert_eq!(asked(&mut world, 40), [(id, UnixMillis(40))]);
    assert_eq!(world.at(40).tick().len(), 1);
    assert_eq!(world.effects.deadlines, [(id, UnixMillis(50))]);
}

/// Pages of messages that came in any order are as many as they must be, and a few octets each.
#[test]
fn paged_messages_in_random_order_take_ten_bytes_each() {
    const COUNT: u64 = 100_000;
    let mut world = World::new();
    world.core = world.core.with_paging(Paging::default());
    let all = [(Seq(0), Seq(u64::MAX))];
    for nth in 0..COUNT {
        // Anywhere within a day.
        let ms = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        world.publish(Delay::for_ms(1 + ms % 86_400_000));
        world.records = RecordBatch::new();
        if nth % 10_000 == 9_999 {
            let mut below = Seq(u64::MAX);
            while let Some((first, last)) = world.core.pageable_between(100, below) {
                world.core.page_out_between(&all, first, last);
                below = first;
            }
        }
    }
    let middle = world.core.ready.middle.as_ref().unwrap();
    assert_eq!(world.core.ready_len() as u64, COUNT);
    let memory: usize = middle.pages.iter().map(|page| page.memory()).sum();
    assert!(memory as u64 <= 10 * COUNT, "{memory}");
    assert!(middle.pages.len() < 4 * COUNT as usize / 1_024, "{}", middle.pages.len());
    assert!(world.core.resident_bytes() < 100_000);
}

#[test]
fn there_are_numbers_behind_the_last_time() {
    let mut world = World::new();
    // As if all numbers of that millisecond, and of the one behind it, had been given.
    let end = Seq::timed(UnixMillis(u64::MAX)).0 + (2 << Seq::TIME_AT) - 1;
    world.core.released = end;
    for _ in 0..3 {
        world.publish(Delay::until(UnixMillis(u64::MAX)));
    }
    assert_eq!(world.seqs(), [end + 1, end + 2, end + 3]);
}

#[test]
fn what_gives_up_its_place_leaves_its_seq_to_nobody() {
    let last_first_number = (1 << 19) - 1;
    for reschedules in [false, true] {
        let mut world = World::new();
        world.core.next_seq = last_first_number;
        let publish_at_7 = |world: &mut World| {
            world.publish(Delay::until(UnixMillis(7)));
            *world.seqs().last().unwrap()
        };
        let first = publish_at_7(&mut world);
        let second = publish_at_7(&mut world);
        let World { core, records, effects } = &mut world;
        assert!(if reschedules {
            core.reschedule_waiting(Seq(second), UnixMillis(7), records, effects)
        } else {
            core.cancel_waiting(Seq(second), records, effects)
        });
        let third = publish_at_7(&mut world);
        assert_eq!([second, third], [first + 1, first + 2]);
        world.at(7).tick();
        assert_eq!(world.core.returns.len(), 0, "its time is over");
    }
}

/// As a checkpoint and a start leave the queue, where the numbers of a millisecond begin again.
#[test]
fn a_start_knows_which_seqs_were_given_up() {
    for reschedules in [false, true] {
        let mut world = World::new();
        world.core.next_seq = (1 << 19) - 1;
        (0..3).for_each(|_| world.publish(Delay::until(UnixMillis(7))));
        let given_up = *world.seqs().last().unwrap();
        let World { core, records, effects } = &mut world;
        assert!(if reschedules {
            core.reschedule_waiting(Seq(given_up), UnixMillis(9), records, effects)
        } else {
            core.cancel_waiting(Seq(given_up), records, effects)
        });
        world.moved();
        let alive = world.core.alive();
        let seqs: Vec<_> = world.seqs();
        world.core = QueueCore::new(QueueId::timed(1), true);
        world.core.restore_next_seq(alive.next_seq);
        let page = seqs.iter().map(|seq| Paged {
            seq: Seq(*seq),
            body_len: 0,
            persistent: true,
            redelivered: false,
            due: UnixMillis::NEVER,
        });
        world.core.restore_page(Page::new(page).unwrap());
        world.core.restore_returns(alive.returns);
        world.publish(Delay::until(UnixMillis(7)));
        assert_eq!(world.seqs(), [seqs, vec![given_up + 1]].concat());
    }
}

#[test]
fn a_seq_whose_record_cannot_be_read_is_not_given_again() {
    let mut world = World::new();
    world.core = world.core.with_paging(Paging { page_len: 4, ..Paging::default() });
    world.core.next_seq = (1 << 19) - 1;
    (0..2).for_each(|_| world.publish(Delay::until(UnixMillis(7))));
    let seqs = world.seqs();
    let (first, last) = world.core.pageable_between(0, Seq(u64::MAX)).unwrap();
    world.core.page_out_between(&[(Seq(0), Seq(u64::MAX))], first, last);
    assert_eq!(world.tick(), [], "it is not due");
    let World { core, records, effects } = &mut world;
    let first = OnDisk { seq: Seq(seqs[0]), due: UnixMillis(7), message: publish().message };
    core.loaded(vec![first], &[Seq(seqs[1])], records, effects);
    assert_eq!((core.damaged_len(), core.ready_len()), (1, 1));
    world.publish(Delay::until(UnixMillis(7)));
    assert_eq!(world.seqs(), [seqs[0], seqs[1] + 1]);
}

#[test]
fn what_was_given_up_is_forgotten_though_nothing_follows_it() {
    let mut world = World::new();
    for ms in [7, 8, 9] {
        world.publish(Delay::until(UnixMillis(ms)));
    }
    world.publish(Delay::until(UnixMillis(u64::MAX)));
    for seq in &world.seqs()[..3] {
        let World { core, records, effects } = &mut world;
        assert!(core.cancel_waiting(Seq(*seq), records, effects));
    }
    let earlier =
        (1..=GIVEN_UP_FORGOTTEN_AT_ONCE as u64 + 9).map(|at| (Seq(at), CameBack::GIVEN_UP));
    world.core.restore_returns(earlier);
    assert_eq!(world.at(CLOCK_JUMP_MS + 1).tick(), []);
    assert_eq!(world.core.returns.len(), 12, "not all in one lock hold");
    for (ms, known) in [(6, 3), (8, 2), (10, 0)] {
        assert_eq!(world.at(CLOCK_JUMP_MS + ms).tick(), []);
        assert_eq!(world.core.returns.len(), known, "an hour and {ms} ms");
    }
}

/// Or the lock would be held, and memory taken, for all that waits.
#[test]
fn messages_leave_memory_for_a_few_pages_at_once() {
    let mut world = World::new();
    world.core = world.core.with_paging(Paging { page_len: 4, ..Paging::default() });
    let publish_all = |world: &mut World| {
        (0..4_000).for_each(|nth| world.publish(Delay::until(UnixMillis(1_000 + 10 * nth))));
    };
    let leave = |world: &mut World| {
        let (mut below, mut most) = (Seq(u64::MAX), 0);
        while let Some((first, last)) = world.core.pageable_between(0, below) {
            let pages = world.core.ready.middle.iter().flat_map(|middle| &middle.pages);
            let between = pages.filter(|page| page.last() >= first && page.first() <= last);
            most = most.max(between.count());
            world.core.page_out_between(&[(Seq(0), Seq(u64::MAX))], first, last);
            below = first;
        }
        assert_eq!(world.core.absent_seqs().len(), world.core.ready_len());
        most
    };
    publish_all(&mut world);
    assert_eq!(leave(&mut world), 0);
    publish_all(&mut world);
    assert_eq!(leave(&mut world), JOINED_PAGES_AT_ONCE);
}
