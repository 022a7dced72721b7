//! What a queue with keys knows of its messages, and what that costs.

use super::super::consumers::ConsumerSpec;
use super::super::core::Publish;
use super::super::effects::Effects;
use super::super::outlet::{Event, Outlet};
use super::super::samples::{Sink, get, publish, spec};
use super::super::settle::Settlement;
use super::*;
use crate::id::{QueueId, Seq};
use crate::limits::{READ_AHEAD_LEN, WORK_PER_LOCK_MAX};
use crate::message::Message;
use crate::store::{OnDisk, RecordBatch};
use crate::table::{TableBuilder, Value};
use std::sync::Arc;

fn with_key(key: u32) -> Publish {
    let table = TableBuilder::new().put(b"k", Value::U32(key)).finish();
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0];
    let table = table.as_ref().bytes();
    header.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
    header.extend_from_slice(table);
    let message = Message::new(b"", b"q", &header, b"x", &mut Vec::new());
    Publish { message, ..publish() }
}

fn grouping() -> Behaviour {
    Behaviour { group_key: Some(Name::new("k")), ..Behaviour::default() }
}

fn fair() -> Behaviour {
    Behaviour { fair_key: Some(Name::new("k")), ..Behaviour::default() }
}

struct Bench {
    core: QueueCore,
    records: RecordBatch,
    effects: Effects,
    sink: Arc<Sink>,
}

impl Bench {
    fn new(behaviour: Behaviour) -> Self {
        Self {
            core: QueueCore::new(QueueId(1), true).with_behaviour(behaviour),
            records: RecordBatch::new(),
            effects: Effects::new(),
            sink: Arc::default(),
        }
    }

    fn publish(&mut self, keys: impl Iterator<Item = u32>) {
        let mut batch = keys.map(with_key).collect();
        self.core.publish(&mut batch, &mut self.records, &mut self.effects);
    }

    fn consume(&mut self, token: u64, prefetch: u32) -> ConsumerKey {
        let outlet = Arc::clone(&self.sink) as Arc<dyn Outlet>;
        let spec = ConsumerSpec { prefetch, ..spec(&outlet, token) };
        self.core.consume(spec, &mut self.records, &mut self.effects).unwrap()
    }

    /// Slots and seqs of what was delivered.
    fn delivered(&mut self) -> Vec<(u32, Seq)> {
        self.core.push_events(&mut self.effects);
        let events = std::mem::take(&mut *self.sink.0.lock());
        let deliveries = events.into_iter().filter_map(|event| match event {
            Event::Delivery(delivery) => Some((delivery.slot, delivery.seq)),
            _ => None,
        });
        deliveries.collect()
    }

    fn known(&self) -> usize {
        self.core.keyed.as_ref().unwrap().lanes.waiting_len()
    }
}

#[test]
fn groups_know_a_window_of_a_long_queue_and_the_rest_may_become_pages() {
    let mut bench = Bench::new(grouping());
    bench.publish((0..20_000).map(|n| n % 10));
    assert_eq!(bench.known(), 0, "nobody takes anything");
    bench.consume(1, 1);
    assert_eq!(bench.known(), READ_AHEAD_LEN - 1);
    let all = [(Seq(1), Seq(u64::MAX))];
    let before = bench.core.resident_bytes();
    bench.core.page_out(&all, 0, 0, WORK_PER_LOCK_MAX);
    let freed = before - bench.core.resident_bytes();
    assert_eq!(freed, before / 20_000 * WORK_PER_LOCK_MAX as u64);
    let mut next = 1;
    while next <= 4_000 {
        for (slot, seq) in bench.delivered() {
            assert_eq!(seq, Seq(next));
            next += 1;
            let (records, effects) = (&mut bench.records, &mut bench.effects);
            bench.core.settle(&[(slot, seq)], Settlement::Ack, records, effects);
        }
    }
    assert!(bench.known() < READ_AHEAD_LEN);
}

#[test]
fn a_group_that_is_held_does_not_hide_what_stands_far_behind_it() {
    let mut bench = Bench::new(grouping());
    bench.publish((0..30_000).map(|_| 0));
    bench.publish(std::iter::once(1));
    bench.consume(1, 1);
    bench.consume(2, 1);
    // One lock hold looks at so many; the queue asks to go on.
    while bench.core.unacked_len() < 2 {
        let asked = bench.effects.deadlines.drain(..).count();
        assert!(asked > 0, "{} are known", bench.known());
        bench.core.tick(&mut bench.records, &mut bench.effects);
    }
    let seqs: Vec<_> = bench.delivered().into_iter().map(|(_, seq)| seq.0).collect();
    assert_eq!(seqs, [1, 30_001]);
}

#[test]
fn locked_keys_cost_nothing_however_many_there_are() {
    let mut bench = Bench::new(grouping());
    bench.publish(0..3_000);
    bench.consume(1, 0);
    assert_eq!(bench.delivered().len(), 3_000);
    bench.publish(0..3_000);
    assert_eq!(bench.delivered().len(), 3_000, "they go to who has the key");
    let key = bench.consume(2, 0);
    bench.core.cancel(key, &mut bench.records, &mut bench.effects);
    assert_eq!((bench.known(), bench.core.unacked_len()), (0, 6_000));
}

#[test]
fn a_queue_that_is_purged_forgets_its_keys() {
    let mut bench = Bench::new(fair());
    bench.publish(0..1_000);
    let (records, effects) = (&mut bench.records, &mut bench.effects);
    let out = get(&mut bench.core, records, effects);
    assert_eq!(bench.core.keyed.as_ref().unwrap().lanes.waiting_len(), 999);
    drop(bench.core.purge(records, effects));
    assert_eq!((bench.known(), bench.core.ready_len()), (0, 0));
    bench.core.settle(&[out], Settlement::Requeue, &mut bench.records, &mut bench.effects);
    assert_eq!((bench.known(), bench.core.ready_len()), (1, 1));
}

#[test]
fn retries_are_not_delayed_and_those_of_before_come_back_in_their_places() {
    let delayed = Behaviour { retry_delay_ms: Some((100, 100)), ..grouping() };
    let mut bench = Bench::new(delayed);
    bench.core.restore_next_seq(Seq(3));
    let (never, later) = (UnixMillis::NEVER, UnixMillis(1_000));
    bench.core.restore_retrying((Seq(2), 1), true, never, later);
    bench.publish([7, 7].into_iter());
    bench.consume(1, 1);
    let load = bench.effects.loads.pop().unwrap();
    assert_eq!(load.runs, [(Seq(2), Seq(2))]);
    let found = OnDisk { seq: Seq(2), due: never, message: with_key(7).message };
    bench.core.loaded(vec![found], &[], &mut bench.records, &mut bench.effects);
    for _ in 0..2 {
        let out = bench.delivered();
        assert_eq!(out.iter().map(|(_, seq)| seq.0).collect::<Vec<_>>(), [2]);
        let (records, effects) = (&mut bench.records, &mut bench.effects);
        bench.core.settle(&out, Settlement::Retry, records, effects);
    }
}

#[test]
fn keys_and_priorities_do_not_go_together_whatever_is_stored() {
    let both = Behaviour { fair_key: Some(Name::new("f")), ..grouping() };
    assert_eq!(Keyed::of(&both).unwrap().sharing, Sharing::Locking);
    assert!(Keyed::of(&Behaviour { max_priority: Some(3), ..both }).is_none());
}
