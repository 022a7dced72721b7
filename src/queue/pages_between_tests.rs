//! Urgent messages in pages: how much memory they take, what one lock hold does, and their order.

use super::core::{Publish, QueueCore};
use super::effects::Effects;
use super::load::Paging;
use super::outlet::Outlet;
use super::page::Page;
use super::ready::Entry;
use super::samples::{Sink, publish, spec};
use super::settings::Behaviour;
use crate::id::{QueueId, Seq};
use crate::limits::{JOINED_PAGES_AT_ONCE, JOINING_PAGES_AT_ONCE, PAGE_LEN, WORK_PER_LOCK_MAX};
use crate::store::{OnDisk, RecordBatch};
use std::sync::Arc;

const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];
/// Urgent ones, and one below.
const LEVELS: u8 = 5;

struct World {
    core: QueueCore,
    records: RecordBatch,
    effects: Effects,
    sink: Arc<Sink>,
}

impl World {
    fn new() -> Self {
        let behaviour = Behaviour { max_priority: Some(LEVELS), ..Behaviour::default() };
        let core = QueueCore::new(QueueId(1), true).with_behaviour(behaviour);
        let (records, effects) = (RecordBatch::new(), Effects::new());
        Self { core, records, effects, sink: Arc::default() }
    }

    fn with_page_len(page_len: usize) -> Self {
        let mut world = Self::new();
        world.core = world.core.with_paging(Paging { page_len, ..Paging::default() });
        world
    }

    fn publish(&mut self, priority: u8, count: usize, persistent: bool) {
        let mut batch = vec![Publish { priority, persistent, ..publish() }; count];
        self.core.publish(&mut batch, &mut self.records, &mut self.effects);
        self.records = RecordBatch::new();
    }

    /// What the pager does; says how many became pages between others.
    fn relieve(&mut self, keep_head: usize, keep_tail: usize) -> usize {
        while self.core.page_out(&ALL, keep_head, keep_tail, WORK_PER_LOCK_MAX).steps > 0 {}
        self.relieve_between(&ALL, keep_head)
    }

    fn relieve_between(&mut self, stored: &[(Seq, Seq)], keep: usize) -> usize {
        let (mut below, mut paged) = (Seq(u64::MAX), 0);
        while let Some((first, last)) = self.core.pageable_between(keep, below) {
            let (before, resident) = (self.core.ready.absent, self.core.resident_bytes());
            let pages = self.pages().filter(|page| page.last() >= first && page.first() <= last);
            assert!(pages.count() <= JOINED_PAGES_AT_ONCE);
            let freed = self.core.page_out_between(stored, first, last);
            assert_eq!(self.core.ready.absent - before, freed.steps);
            assert_eq!(resident - self.core.resident_bytes(), freed.bytes);
            assert!(freed.steps <= JOINING_PAGES_AT_ONCE);
            paged += freed.steps;
            below = first;
        }
        paged
    }

    fn pages(&self) -> impl Iterator<Item = &Page> {
        self.core.ready.middle.iter().flat_map(|middle| &middle.pages)
    }

    /// Bytes of entries and pages, and of what there is room for.
    fn memory(&self) -> usize {
        let ready = &self.core.ready;
        let middle = ready.middle.as_ref().unwrap();
        let entries = ready.fifo.capacity() + middle.tail.capacity() + ready.returned.len();
        let free = (middle.pages.capacity() - middle.pages.len()) * size_of::<Page>();
        self.pages().map(Page::memory).sum::<usize>() + free + entries * size_of::<Entry>()
    }

    /// Answers the load that is open, if one is.
    fn answer(&mut self) -> bool {
        let Some(load) = self.effects.loads.pop() else { return false };
        let seqs = load.runs.iter().flat_map(|(first, last)| first.0..=last.0);
        let read = seqs.map(|seq| OnDisk::new(Seq(seq), publish().message)).collect();
        self.core.loaded(read, &[], &mut self.records, &mut self.effects);
        true
    }

    /// Gives all to one consumer; says in which order it came.
    fn drain(&mut self) -> Vec<Seq> {
        let outlet: Arc<dyn Outlet> = Arc::clone(&self.sink) as _;
        let spec = super::ConsumerSpec { no_ack: true, ..spec(&outlet, 1) };
        let key = self.core.consume(spec, &mut self.records, &mut self.effects).unwrap();
        let mut order = Vec::new();
        loop {
            self.core.push_events(&mut self.effects);
            let part: Vec<_> = self.sink.deliveries().into_iter().map(|(_, seq)| seq).collect();
            let (count, bytes) = (part.len().try_into().unwrap(), part.len() as u64);
            order.extend(part);
            self.core.grant(key, count, bytes, &mut self.records, &mut self.effects);
            self.records = RecordBatch::new();
            if !self.answer() && count == 0 {
                return order;
            }
        }
    }
}

#[test]
fn a_million_urgent_messages_take_less_than_300_kb_and_come_back_in_order() {
    let mut world = World::new();
    world.publish(0, 1, true);
    for burst in 0..100 {
        world.publish(1 + (burst % LEVELS), 10_000, true);
        if burst % 20 == 19 {
            world.relieve(1_000, 100);
        }
    }
    assert_eq!(world.core.ready_len(), 1_000_001);
    let resident = world.core.ready_len() - world.core.absent_seqs().len();
    assert!(resident <= 1_000 + 1, "{resident} are in memory");
    let memory = world.memory();
    assert!(memory < 300_000, "{memory}");
    let all = world.core.ready_seqs();
    assert_eq!(world.drain(), all);
    assert_eq!((world.core.ready_len(), world.core.ready_bytes()), (0, 0));
    assert_eq!(world.core.resident_bytes(), 0);
}

#[test]
fn urgent_messages_of_any_order_take_little_more_than_an_octet_each() {
    let mut world = World::new();
    for nth in 0..100_000_u64 {
        let chance = nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        world.publish((chance % (u64::from(LEVELS) + 1)) as u8, 1, true);
        if nth % 20_000 == 19_999 {
            world.relieve(0, 0);
        }
    }
    assert_eq!(world.core.absent_seqs().len(), 100_000);
    let memory = world.memory();
    assert!(memory < 130_000, "{memory}");
    let of_one_rank = |page: &Page| page.first().rank() == page.last().rank();
    assert!(world.pages().all(of_one_rank));
    assert!(world.pages().count() < 3 * 100_000 / PAGE_LEN, "pages are full as a rule");
    let all = world.core.ready_seqs();
    assert_eq!(world.drain(), all);
}

#[test]
fn what_consumers_take_next_stays_whatever_its_rank() {
    let mut world = World::new();
    for priority in [0, 1, 5, 3, 0, 5, 2, 4] {
        world.publish(priority, 100, true);
    }
    world.relieve(250, 10);
    let absent = world.core.absent_seqs();
    let all = world.core.ready_seqs();
    assert!(!absent.contains(&all[249]) && absent.contains(&all[250]), "of 800 the first 250 stay");
    assert_eq!(world.drain(), all);
}

/// Each page of a start may have millions of messages.
#[test]
fn urgent_messages_behind_long_pages_leave_those_as_they_are() {
    let mut world = World::new();
    for rank in 0..=LEVELS {
        let (first, last) = (Seq::ranked(rank, 1), Seq::ranked(rank, 1_000_000_000));
        world.core.restore_page(Page::dense(first, last, 1_000_000_000, false));
    }
    for priority in [3, 1, 4, 1, 5] {
        world.publish(priority, 100, true);
    }
    assert_eq!(world.relieve(10, 10), 500);
    let lens: Vec<_> = world.pages().map(Page::len).collect();
    let long = 1_000_000_000;
    assert_eq!(lens, [long, 100, long, 100, long, 100, long, long, 200, long]);
}

#[test]
fn what_was_not_stored_joins_its_page_later_up_to_twice_the_length() {
    let mut world = World::with_page_len(4);
    for _ in 0..4 {
        world.publish(5, 1, true);
        world.publish(5, 3, false);
    }
    world.publish(0, 1, true);
    world.publish(5, 1, true);
    let persistent: Vec<_> = [1, 5, 9, 13, 18].map(|age| Seq::ranked(0, age)).into();
    let stored: Vec<_> = persistent.iter().map(|seq| (*seq, *seq)).collect();
    world.core.page_out(&stored, 0, 1, 100);
    world.relieve_between(&stored, 0);
    assert_eq!(world.core.absent_seqs(), persistent);
    world.relieve_between(&ALL, 0);
    let lens: Vec<_> = world.pages().map(Page::len).collect();
    assert_eq!(lens, [8, 3, 1], "five more stay in memory");
    assert_eq!(world.core.ready_bytes(), 18);
    let all = world.core.ready_seqs();
    assert_eq!(world.drain(), all);
    assert_eq!(world.core.ready_bytes(), 0);
}

#[test]
fn urgent_messages_that_become_a_page_during_a_load_come_before_what_it_brings() {
    let mut world = World::new();
    world.publish(1, 100, true);
    world.publish(0, 100, true);
    world.relieve(0, 0);
    let outlet: Arc<dyn Outlet> = Arc::clone(&world.sink) as _;
    let (records, effects) = (&mut world.records, &mut world.effects);
    let key = world.core.consume(spec(&outlet, 1), records, effects).unwrap();
    assert_eq!(world.effects.loads.len(), 1);
    // Nobody takes them meanwhile, or they would be handed over at once.
    world.core.cancel(key, &mut world.records, &mut world.effects);
    world.publish(5, 100, true);
    assert_eq!(world.relieve(0, 0), 100);
    let first_page = world.pages().next().map(Page::first);
    assert_eq!(first_page, Some(Seq::ranked(0, 201)));
    assert!(world.answer());
    let all = world.core.ready_seqs();
    assert_eq!((all.len(), world.core.absent_seqs().len()), (300, 300));
    assert_eq!(world.drain(), all);
}

#[test]
fn an_invisible_urgent_message_stays_and_is_shown_in_its_place() {
    let mut world = World::new();
    world.publish(5, 5, true);
    let publish = Publish { priority: 5, ..publish() };
    let target = world.core.reserve(publish, &mut world.effects).unwrap();
    world.publish(5, 5, true);
    world.publish(0, 1, true);
    world.publish(3, 5, true);
    while world.core.page_out(&ALL, 0, 0, WORK_PER_LOCK_MAX).steps > 0 {}
    world.relieve_between(&ALL, 0);
    assert_eq!(world.core.ready_len(), 16);
    world.core.show(&[target.seq], &mut world.records, &mut world.effects);
    let all = world.core.ready_seqs();
    assert_eq!((all.len(), all.contains(&target.seq)), (17, true));
    assert_eq!(world.drain(), all);
}

#[test]
fn queues_where_messages_join_at_the_end_have_nothing_between() {
    let mut world = World::new();
    world.core = QueueCore::new(QueueId(1), true);
    world.publish(5, 5_000, true);
    assert_eq!(world.core.pageable_between(0, Seq(u64::MAX)), None);
}
