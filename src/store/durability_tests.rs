//! Records that are to be synced and records that are not, in one journal.

use super::samples::{backlog, message, opened, queue, to, vhost};
use super::{Durability, Journal, MemoryDisk, Options, Reach, RecordBatch, Waiter, open};
use crate::id::Lsn;
use parking_lot::Mutex;
use std::sync::Arc;

type Told = Arc<Mutex<Vec<(&'static str, Option<Lsn>)>>>;

/// Writes down under its name what it is told.
struct Witness(&'static str, Told);

impl Waiter for Witness {
    fn reached(&self, lsn: Lsn) {
        self.1.lock().push((self.0, Some(lsn)));
    }

    fn failed(&self) {
        self.1.lock().push((self.0, None));
    }
}

struct Bench {
    disk: MemoryDisk,
    journal: Arc<Journal>,
    told: Told,
}

impl Bench {
    /// With a vhost and queue 1, which are records 1 and 2 and synced.
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let journal = Arc::clone(opened(&disk, 7).store.journal());
        let mut batch = RecordBatch::new();
        batch.definition(&vhost("/"));
        batch.definition(&queue(1, "/"));
        journal.append(&mut batch);
        journal.round(&disk).unwrap();
        Self { disk, journal, told: Told::default() }
    }

    /// Appends a message for queue 1, and waits for it under that name.
    fn publish(&self, name: &'static str, seq: u64, durability: Durability) -> Lsn {
        let mut batch = RecordBatch::new();
        batch.enqueue(&message(&seq.to_be_bytes()), &[to(1, seq)]);
        let lsn = self.journal.append_as(&mut batch, durability);
        let witness = Arc::new(Witness(name, Arc::clone(&self.told)));
        self.journal.wait(lsn, durability, witness);
        lsn
    }

    /// One round: how many syncs it took.
    fn round(&self) -> u64 {
        let before = self.disk.syncs();
        self.journal.round(&self.disk).unwrap();
        self.disk.syncs() - before
    }

    fn reach(&self) -> (u64, u64) {
        let reach = self.journal.reach();
        (reach.written.0, reach.durable.0)
    }

    fn told(&self) -> Vec<(&'static str, Option<u64>)> {
        let told = self.told.lock();
        told.iter().map(|(name, lsn)| (*name, lsn.map(|lsn| lsn.0))).collect()
    }
}

#[test]
fn records_that_ask_for_no_sync_cause_none() {
    let bench = Bench::new();
    for seq in 1..=3 {
        bench.publish("os", seq, Durability::Os);
        assert_eq!(bench.round(), 0);
        bench.journal.seal(&bench.disk).unwrap();
    }
    assert_eq!(bench.told(), [("os", Some(3)), ("os", Some(4)), ("os", Some(5))]);
    assert_eq!(bench.reach(), (5, 2));
    assert_eq!(bench.journal.pending_bytes(), 0);
    assert!(bench.journal.reach().meets(bench.journal.appended_reach()));
}

#[test]
fn a_round_with_both_kinds_syncs_once_and_tells_the_one_before_and_the_other_behind() {
    let bench = Bench::new();
    bench.publish("first os", 1, Durability::Os);
    bench.publish("first fsync", 2, Durability::Fsync);
    bench.publish("second os", 3, Durability::Os);
    bench.publish("second fsync", 4, Durability::Fsync);
    bench.publish("third os", 5, Durability::Os);
    assert_eq!(bench.round(), 1);
    let names = ["first os", "second os", "third os", "first fsync", "second fsync"];
    assert_eq!(bench.told(), names.map(|name| (name, Some(7))));
    assert_eq!(bench.reach(), (7, 7));
}

#[test]
fn a_later_sync_covers_what_was_only_written_and_no_frame_says_so_before() {
    let bench = Bench::new();
    let written = bench.publish("os", 1, Durability::Os);
    bench.round();
    let covering = bench.publish("fsync", 2, Durability::Fsync);
    let least = |seed| opened(&bench.disk.crash(seed), 8).last_lsn;
    // Some crash loses it, and is called a torn tail: nothing stated that it was safe.
    assert_eq!((0..100).map(least).min(), Some(Lsn(written.0 - 1)));
    assert_eq!(bench.round(), 1);
    assert!((0..100).map(least).min() >= Some(covering));
    let messages = backlog(&opened(&bench.disk.crash(1), 8), 1);
    assert_eq!(messages.len(), 2);
}

#[test]
fn a_flush_makes_durable_what_asked_for_no_sync() {
    let bench = Bench::new();
    let lsn = bench.publish("os", 1, Durability::Os);
    bench.round();
    let late = Arc::new(Witness("late", Arc::clone(&bench.told)));
    bench.journal.wait(lsn, Durability::Fsync, late);
    bench.journal.flush(&bench.disk).unwrap();
    assert_eq!(bench.told(), [("os", Some(3)), ("late", Some(3))]);
    assert_eq!(bench.reach(), (3, 3));
}

#[test]
fn in_a_journal_of_the_other_durability_records_get_what_they_ask_for() {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &Options::new(Durability::Os, 7)).unwrap();
    let journal = Arc::clone(store.journal());
    let bench = Bench { disk, journal, told: Told::default() };
    let mut batch = RecordBatch::new();
    batch.definition(&vhost("/"));
    batch.definition(&queue(1, "/"));
    bench.journal.append(&mut batch);
    assert_eq!(bench.round(), 0);
    bench.publish("fsync", 1, Durability::Fsync);
    assert_eq!(bench.round(), 1);
    assert_eq!(bench.told(), [("fsync", Some(3))]);
}

#[test]
fn a_sync_that_fails_takes_back_nothing_that_was_told_and_tells_nothing_more() {
    let bench = Bench::new();
    bench.publish("early os", 1, Durability::Os);
    bench.round();
    bench.disk.fail_sync_after(0);
    bench.publish("os", 2, Durability::Os);
    bench.publish("fsync", 3, Durability::Fsync);
    bench.journal.round(&bench.disk).unwrap_err();
    let told = [("early os", Some(3)), ("os", Some(5)), ("fsync", None)];
    assert_eq!(bench.told(), told);
    bench.publish("late os", 4, Durability::Os);
    bench.publish("late fsync", 5, Durability::Fsync);
    assert_eq!(bench.told()[3..], [("late os", None), ("late fsync", None)]);
    assert_eq!(bench.reach(), (5, 2));
}

#[test]
fn a_write_that_fails_fails_both() {
    let bench = Bench::new();
    bench.disk.limit_room(10);
    bench.publish("os", 1, Durability::Os);
    bench.publish("fsync", 2, Durability::Fsync);
    bench.journal.round(&bench.disk).unwrap_err();
    assert_eq!(bench.told(), [("os", None), ("fsync", None)]);
    assert_eq!(bench.journal.reach(), Reach { written: Lsn(2), durable: Lsn(2) });
}

/// With a segment for every record or two, each kind begins and leaves segments.
#[test]
fn segments_that_were_left_without_a_sync_are_synced_by_the_next() {
    let disk = MemoryDisk::new();
    let options = Options { segment_records: 1, ..Options::new(Durability::Fsync, 7) };
    let (store, _) = open(&disk, &options).unwrap();
    let journal = store.journal();
    let mut batch = RecordBatch::new();
    batch.definition(&vhost("/"));
    batch.definition(&queue(1, "/"));
    journal.append(&mut batch);
    for seq in 1..=12_u64 {
        let durability = if seq % 4 == 0 { Durability::Fsync } else { Durability::Os };
        batch.enqueue(&message(&seq.to_be_bytes()), &[to(1, seq)]);
        journal.append_as(&mut batch, durability);
        journal.round(&disk).unwrap();
        for seed in 0..20 {
            let recovered = opened(&disk.crash(seed), 8);
            assert!(recovered.last_lsn >= journal.durable_lsn());
            let messages = backlog(&recovered, 1);
            assert!(messages.iter().map(|m| m.0).eq(1..=messages.len() as u64), "a prefix");
        }
    }
    assert_eq!(journal.durable_lsn(), Lsn(14));
}
