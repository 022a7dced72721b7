//! The journal at run time: what is durable when, who is told, what a failed disk does.

use super::samples::{backlog, message, opened, queue, to, vhost};
use super::{
    Disk, Durability, Journal, Layer, MemoryDisk, Options, Reach, RecordBatch, StoreError, Waiter,
    open,
};
use crate::id::{Lsn, QueueId};
use crate::limits::INLINE_BODY_MAX;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread;

/// Keeps what it is told.
#[derive(Default)]
struct Witness(Mutex<Vec<Option<Lsn>>>);

impl Witness {
    fn told(&self) -> Vec<Option<Lsn>> {
        self.0.lock().clone()
    }
}

impl Waiter for Witness {
    fn reached(&self, lsn: Lsn) {
        self.0.lock().push(Some(lsn));
    }

    fn failed(&self) {
        self.0.lock().push(None);
    }
}

fn journal(disk: &dyn Disk) -> Arc<Journal> {
    opened(disk, 7).store.journal().clone()
}

/// A batch with one message for queue 1.
fn publish(seq: u64) -> RecordBatch {
    let mut batch = RecordBatch::new();
    batch.enqueue(&message(&seq.to_be_bytes()), &[to(1, seq)]);
    batch
}

fn declare(journal: &Journal) -> Lsn {
    let mut batch = RecordBatch::new();
    batch.definition(&vhost("/"));
    batch.definition(&queue(1, "/"));
    journal.append(&mut batch)
}

#[test]
fn records_are_counted_from_one_and_durable_after_a_round() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    assert_eq!(journal.append(&mut RecordBatch::new()), Lsn(0));
    assert_eq!(declare(&journal), Lsn(2));
    assert!(journal.pending_bytes() > 0);
    assert_eq!(journal.durable_lsn(), Lsn(0));
    assert!(journal.round(&disk).unwrap());
    assert!(!journal.round(&disk).unwrap());
    assert_eq!(journal.durable_lsn(), Lsn(2));
    assert_eq!(journal.pending_bytes(), 0);
    let mut batch = publish(1);
    assert_eq!(journal.append(&mut batch), Lsn(3));
    assert!(batch.is_empty(), "the journal took its records");
    assert_eq!(journal.counters().records.get(), 2);
}

#[test]
fn what_is_safe_is_stated_once() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    declare(&journal);
    journal.round(&disk).unwrap();
    let (appends, syncs) = (disk.writes(), disk.syncs());
    journal.seal(&disk).unwrap();
    journal.seal(&disk).unwrap();
    assert_eq!((disk.writes(), disk.syncs()), (appends + 1, syncs));
}

#[test]
fn a_transaction_is_one_record() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    declare(&journal);
    let mut batch = RecordBatch::new();
    batch.begin_transaction();
    for seq in 1..=10 {
        batch.enqueue(&message(b"tx"), &[to(1, seq)]);
    }
    batch.end_transaction();
    assert_eq!(journal.append(&mut batch), Lsn(3));
}

#[test]
fn a_waiter_is_told_once_when_its_lsn_is_durable() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    let (early, late, past) = <(Arc<Witness>, Arc<Witness>, Arc<Witness>)>::default();
    let declared = declare(&journal);
    journal.wait(Lsn(1), Durability::Fsync, early.clone());
    journal.wait(Lsn(3), Durability::Fsync, late.clone());
    journal.round(&disk).unwrap();
    assert_eq!(early.told(), [Some(declared)]);
    assert_eq!(late.told(), []);
    for seq in 1..=5 {
        journal.append(&mut publish(seq));
    }
    journal.round(&disk).unwrap();
    journal.append(&mut publish(6));
    journal.round(&disk).unwrap();
    assert_eq!(early.told(), [Some(declared)]);
    assert_eq!(late.told(), [Some(Lsn(7))]);
    journal.wait(Lsn(8), Durability::Fsync, past.clone());
    assert_eq!(past.told(), [Some(Lsn(8))], "there is nothing to wait for");
}

#[test]
fn after_a_failed_sync_nothing_becomes_durable_and_all_waiters_are_told() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    let declared = declare(&journal);
    journal.round(&disk).unwrap();
    disk.fail_sync_after(0);
    let (during, after) = <(Arc<Witness>, Arc<Witness>)>::default();
    let lost = journal.append(&mut publish(1));
    journal.wait(lost, Durability::Fsync, during.clone());
    let error = journal.round(&disk).unwrap_err().to_string();
    assert_eq!(error, "cannot sync segment-0000000001: Input/output error");
    assert_eq!(during.told(), [None]);
    assert_eq!(journal.durable_lsn(), declared);
    let mut refused = publish(2);
    assert_eq!(journal.append(&mut refused), Journal::NEVER);
    assert!(refused.is_empty());
    journal.wait(lost, Durability::Fsync, after.clone());
    journal.wait(Journal::NEVER, Durability::Fsync, after.clone());
    assert_eq!(after.told(), [None, None]);
    let writes = disk.writes();
    assert_eq!(journal.round(&disk).unwrap_err().to_string(), error);
    assert_eq!(journal.seal(&disk).unwrap_err().to_string(), error);
    assert_eq!(journal.close_clean(&disk).unwrap_err().to_string(), error);
    assert_eq!(journal.error().unwrap().to_string(), error);
    assert_eq!(disk.writes(), writes, "nothing is tried again");
    assert_eq!(journal.durable_lsn(), declared);
}

#[test]
fn a_full_disk_fails_the_journal_and_leaves_a_torn_tail() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    let declared = declare(&journal);
    journal.round(&disk).unwrap();
    disk.limit_room(60);
    journal.append(&mut publish(1));
    let error = journal.round(&disk).unwrap_err().to_string();
    assert!(error.starts_with("cannot write to segment-0000000001: "), "{error}");
    assert_eq!(journal.durable_lsn(), declared);
    let left = disk.crash(0);
    let (_, recovered) = open(&left, &Options::new(Durability::Fsync, 8)).unwrap();
    assert_eq!(recovered.last_lsn, declared);
}

#[test]
fn with_durability_os_nothing_is_synced_and_no_frame_says_so() {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &Options::new(Durability::Os, 7)).unwrap();
    let journal = store.journal();
    let syncs = disk.syncs();
    for seq in 1..=3 {
        declare(journal);
        journal.append(&mut publish(seq));
        assert!(journal.round(&disk).unwrap());
        journal.seal(&disk).unwrap();
    }
    assert_eq!(journal.reach(), Reach { written: Lsn(9), durable: Lsn(0) });
    assert_eq!(disk.syncs(), syncs);
    for seed in 0..100 {
        let left = disk.crash(seed);
        open(&left, &Options::new(Durability::Os, 7))
            .expect("a power loss tears, it is never called damage");
    }
}

#[test]
fn records_after_a_clean_close_are_refused() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    let told = Arc::<Witness>::default();
    let declared = declare(&journal);
    journal.wait(declared, Durability::Fsync, told.clone());
    journal.close_clean(&disk).unwrap();
    assert_eq!(told.told(), [Some(Lsn(3))], "the mark is a record as well");
    assert_eq!(journal.append(&mut publish(1)), Journal::NEVER);
    assert!(open(&disk, &Options::new(Durability::Fsync, 8)).unwrap().1.clean);
}

/// Holds every sync until it is let through.
struct Gate {
    disk: MemoryDisk,
    open: Mutex<bool>,
    moved: Condvar,
}

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock() = open;
        self.moved.notify_all();
    }
}

impl Layer for Gate {
    fn below(&self) -> &dyn Disk {
        &self.disk
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        self.moved.wait_while(&mut open, |open| !*open);
        self.disk.sync(file)
    }
}

#[test]
fn what_gathers_during_a_sync_shares_the_next_one() {
    let gate = Gate { disk: MemoryDisk::new(), open: Mutex::new(true), moved: Condvar::new() };
    let journal = journal(&gate);
    declare(&journal);
    journal.round(&gate).unwrap();
    gate.set(false);
    let syncs = gate.disk.syncs();
    let witness = Arc::<Witness>::default();
    thread::scope(|scope| {
        let store = scope.spawn(|| journal.run_until_stopped(&gate));
        let publishers: Vec<_> = (0..4_u64)
            .map(|publisher| {
                let journal = &journal;
                scope.spawn(move || {
                    for seq in 0..50 {
                        journal.append(&mut publish(publisher * 50 + seq));
                    }
                })
            })
            .collect();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        journal.wait(Lsn(202), Durability::Fsync, witness.clone());
        assert_eq!(journal.durable_lsn(), Lsn(2));
        journal.stop();
        gate.set(true);
        store.join().unwrap().unwrap();
    });
    assert_eq!(journal.durable_lsn(), Lsn(202));
    assert_eq!(witness.told(), [Some(Lsn(202))]);
    let syncs = gate.disk.syncs() - syncs;
    assert!((1..=2).contains(&syncs), "{syncs} syncs for 200 appends");
}

#[test]
fn the_store_thread_wakes_for_each_of_many_lone_appends_and_stops_when_told() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    declare(&journal);
    thread::scope(|scope| {
        let store = scope.spawn(|| journal.run_until_stopped(&disk));
        for seq in 1..=200 {
            let lsn = journal.append(&mut publish(seq));
            while journal.durable_lsn() < lsn {
                thread::yield_now();
            }
        }
        journal.stop();
        store.join().unwrap().unwrap();
    });
    assert_eq!(journal.counters().records.get(), 202);
}

#[test]
fn long_rounds_and_long_messages_come_back_whole() {
    let disk = MemoryDisk::new();
    let journal = journal(&disk);
    declare(&journal);
    let mut expected = Vec::new();
    let mut batch = RecordBatch::new();
    let lengths = [10, 1024, INLINE_BODY_MAX, INLINE_BODY_MAX + 1, 3_000_000];
    for seq in 0..400_u64 {
        let len = match seq {
            7 | 200 | 399 => 9_000_000,
            _ => lengths[seq as usize % 4],
        };
        let body = vec![seq as u8; len];
        batch.enqueue(&message(&body), &[to(1, seq)]);
        expected.push((seq, body, true));
        if seq % 37 == 0 {
            journal.append(&mut batch);
        }
    }
    journal.append(&mut batch);
    let before = disk.writes();
    journal.round(&disk).unwrap();
    assert!(disk.writes() - before > 3, "one round, several frames");
    let opened = opened(&disk, 8);
    assert_eq!(opened.last_lsn, Lsn(402));
    assert_eq!(opened.queues[&QueueId(1)].next_seq.0, 400);
    assert!(backlog(&opened, 1) == expected);
}
