//! Recovery: what comes back, what is cut, what is refused.

use super::frame::{FILE_HEADER_LEN, FRAME_HEADER_LEN};
use super::samples::{backlog, message, queue, run, to, vhost};
use super::writer::JOURNAL_FILE;
use super::{Definition, Disk, Durability, MemoryDisk, RealDisk, RecordBatch, Recovered, open};
use crate::id::{Lsn, QueueId, Seq};
use crate::message::Message;

/// Opens, appends each batch in a round of its own, and is killed.
fn write(disk: &dyn Disk, rounds: &[fn(&mut RecordBatch)]) {
    let (journal, _) = open(disk, Durability::Fsync, 7).unwrap();
    for fill in rounds {
        let mut batch = RecordBatch::new();
        fill(&mut batch);
        journal.append(&mut batch);
        journal.round(disk).unwrap();
    }
}

/// The same, but stops cleanly.
fn write_and_stop(disk: &dyn Disk, rounds: &[fn(&mut RecordBatch)]) {
    let (journal, _) = open(disk, Durability::Fsync, 7).unwrap();
    for fill in rounds {
        let mut batch = RecordBatch::new();
        fill(&mut batch);
        journal.append(&mut batch);
    }
    journal.close_clean(disk).unwrap();
}

fn recover(disk: &dyn Disk) -> Recovered {
    open(disk, Durability::Fsync, 8).unwrap().1
}

fn file(disk: &MemoryDisk) -> Vec<u8> {
    disk.contents(JOURNAL_FILE).unwrap()
}

fn disk_of(bytes: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.overwrite(JOURNAL_FILE, bytes.to_vec());
    disk
}

fn declare(batch: &mut RecordBatch) {
    batch.definition(&vhost("/"));
    batch.definition(&queue(1, "/"));
    batch.definition(&queue(2, "/"));
}

fn publish(batch: &mut RecordBatch) {
    batch.enqueue(&message(b"one"), &[to(1, 1), to(2, 1)]);
    batch.enqueue(&message(b"two"), &[to(1, 2)]);
    batch.enqueue(&message(b"three"), &[to(1, 3)]);
}

fn settle(batch: &mut RecordBatch) {
    batch.ack(QueueId(1), [run(2, 2)]);
    batch.requeue(QueueId(1), [run(3, 3)]);
}

#[test]
fn an_empty_directory_is_a_clean_start() {
    let disk = MemoryDisk::new();
    let recovered = recover(&disk);
    assert!(recovered.clean);
    assert_eq!(recovered.last_lsn, Lsn(0));
    assert_eq!(recovered.next_queue_id, QueueId(1));
    assert_eq!(disk.list().unwrap(), [JOURNAL_FILE]);
}

#[test]
fn after_a_clean_stop_only_what_was_requeued_is_redelivered() {
    let disk = MemoryDisk::new();
    write_and_stop(&disk, &[declare, publish, settle]);
    let recovered = recover(&disk);
    assert!(recovered.clean);
    assert_eq!(recovered.next_queue_id, QueueId(3));
    assert_eq!(recovered.queues[&QueueId(1)].next_seq, Seq(4));
    let expected = [(1, b"one".to_vec(), false), (3, b"three".to_vec(), true)];
    assert_eq!(backlog(&recovered, 1), expected);
    assert_eq!(backlog(&recovered, 2), [(1, b"one".to_vec(), false)]);
    let (Message::Small(first), Message::Small(second)) = (
        &recovered.queues[&QueueId(1)].messages[0].message,
        &recovered.queues[&QueueId(2)].messages[0].message,
    ) else {
        panic!()
    };
    assert!(std::ptr::eq(first.as_ref(), second.as_ref()), "shared");
}

#[test]
fn after_a_kill_everything_is_redelivered_and_stays_so() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish]);
    let recovered = recover(&disk);
    assert!(!recovered.clean);
    assert!(backlog(&recovered, 1).iter().all(|entry| entry.2));
    write_and_stop(&disk, &[|batch| batch.enqueue(&message(b"new"), &[to(2, 2)])]);
    let recovered = recover(&disk);
    assert!(recovered.clean);
    assert!(backlog(&recovered, 1).iter().all(|entry| entry.2));
    let expected = [(1, b"one".to_vec(), true), (2, b"new".to_vec(), false)];
    assert_eq!(backlog(&recovered, 2), expected);
}

#[test]
fn a_kill_right_after_a_start_from_a_clean_stop_is_not_clean() {
    let disk = MemoryDisk::new();
    write_and_stop(&disk, &[declare, publish]);
    write(&disk, &[]);
    let recovered = recover(&disk);
    assert!(!recovered.clean);
    assert!(backlog(&recovered, 1).iter().all(|entry| entry.2));
}

#[test]
fn a_purge_spares_what_is_checked_out() {
    let disk = MemoryDisk::new();
    let purge: fn(&mut RecordBatch) = |batch| {
        for seq in 4..=9 {
            batch.enqueue(&message(b"more"), &[to(1, seq)]);
        }
        batch.purge(QueueId(1), Seq(8), [run(6, 6), run(2, 3)]);
        batch.purge(QueueId(2), Seq(30), []);
    };
    write(&disk, &[declare, publish, purge]);
    let recovered = recover(&disk);
    let left: Vec<_> = backlog(&recovered, 1).iter().map(|entry| entry.0).collect();
    assert_eq!(left, [2, 3, 6, 8, 9]);
    assert!(backlog(&recovered, 2).is_empty());
    assert_eq!(recovered.queues[&QueueId(2)].next_seq, Seq(30));
}

#[test]
fn what_names_a_queue_that_is_gone_is_passed_over() {
    let disk = MemoryDisk::new();
    let end: fn(&mut RecordBatch) = |batch| {
        batch.definition(&Definition::QueueDeleted { id: QueueId(1) });
        batch.enqueue(&message(b"late"), &[to(1, 4), to(2, 2), to(77, 1)]);
        batch.ack(QueueId(1), [run(1, u64::MAX)]);
        batch.ack(QueueId(2), [run(50, 60)]);
        batch.definition(&queue(5, "no such vhost"));
    };
    write(&disk, &[declare, publish, end]);
    let recovered = recover(&disk);
    assert_eq!(recovered.queues.len(), 1);
    assert_eq!(recovered.next_queue_id, QueueId(3));
    let bodies: Vec<_> = backlog(&recovered, 2).into_iter().map(|e| e.1).collect();
    assert_eq!(bodies, [b"one".to_vec(), b"late".to_vec()]);
    assert_eq!(recovered.queues[&QueueId(2)].next_seq, Seq(61));
}

#[test]
fn a_deleted_vhost_takes_its_messages() {
    let disk = MemoryDisk::new();
    let end: fn(&mut RecordBatch) = |batch| {
        batch.definition(&vhost("other"));
        batch.definition(&queue(3, "other"));
        batch.enqueue(&message(b"stays"), &[to(3, 1)]);
        let name = "/".to_owned();
        batch.definition(&Definition::VhostDeleted { name });
    };
    write(&disk, &[declare, publish, end]);
    let recovered = recover(&disk);
    assert_eq!(recovered.queues.len(), 1);
    assert_eq!(backlog(&recovered, 3).len(), 1);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_the_frame_before() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish]);
    let before = file(&disk).len();
    let reference = backlog(&recover(&disk_of(&file(&disk))), 1);
    let (journal, _) = open(&disk, Durability::Fsync, 7).unwrap();
    let opened = file(&disk).len();
    let mut batch = RecordBatch::new();
    batch.begin_transaction();
    settle(&mut batch);
    publish(&mut batch);
    batch.end_transaction();
    journal.append(&mut batch);
    journal.round(&disk).unwrap();
    let whole = file(&disk);
    for len in opened..whole.len() {
        let torn = disk_of(&whole[..len]);
        let recovered = recover(&torn);
        assert_eq!(recovered.last_lsn, Lsn(7), "cut at {len}");
        assert_eq!(backlog(&recovered, 1), reference);
        let tail = recovered.torn.map(|torn| (torn.offset, torn.bytes));
        let expected = (opened as u64, (len - opened) as u64);
        assert_eq!(tail, (len > opened).then_some(expected));
        let again = recover(&torn);
        assert_eq!(again.torn, None, "it was cut off for good");
        assert_eq!(again.last_lsn, Lsn(8), "the start in between is a record");
    }
    assert!(opened > before);
}

/// Offsets at which a frame begins.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = FILE_HEADER_LEN;
    let mut frames = Vec::new();
    while at < bytes.len() {
        frames.push(at);
        let len: [u8; 4] = bytes[at + 16..at + 20].try_into().unwrap();
        at += FRAME_HEADER_LEN + u32::from_le_bytes(len) as usize;
    }
    frames
}

#[test]
fn a_bit_flipped_where_all_was_safe_is_refused_with_file_and_offset() {
    let disk = MemoryDisk::new();
    write_and_stop(&disk, &[declare, publish, settle]);
    write(&disk, &[publish, settle]);
    let (journal, _) = open(&disk, Durability::Fsync, 7).unwrap();
    journal.seal(&disk).unwrap();
    let bytes = file(&disk);
    let frames = frames(&bytes);
    let seal = *frames.last().unwrap();
    for bit in 0..seal * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let rotten = disk_of(&flipped);
        let error = open(&rotten, Durability::Fsync, 8).unwrap_err();
        let begins = frames.iter().filter(|at| **at <= bit / 8).max();
        let offset = begins.map_or(0, |at| *at as u64);
        assert_eq!(error.damaged_at(), Some(offset), "bit {bit}: {error}");
        let sentence = format!("journal is damaged at byte {offset}: ");
        assert!(error.to_string().starts_with(&sentence), "{error}");
        assert_eq!(file(&rotten), flipped, "nothing was changed");
    }
}

#[test]
fn a_bit_flipped_behind_what_is_known_to_be_safe_is_cut() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish, settle]);
    let bytes = file(&disk);
    let last = *frames(&bytes).last().unwrap();
    for bit in last * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let torn = disk_of(&flipped);
        let recovered = recover(&torn);
        assert_eq!(recovered.last_lsn, Lsn(6), "bit {bit}");
        assert_eq!(recovered.torn.unwrap().offset, last as u64);
        assert_eq!(backlog(&recovered, 1).len(), 3);
    }
}

#[test]
fn a_frame_that_vanished_whole_is_missed() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish, settle]);
    let bytes = file(&disk);
    let [first, second, ..] = frames(&bytes)[..] else { panic!() };
    let hole = [&bytes[..first], &bytes[second..]].concat();
    let error = open(&disk_of(&hole), Durability::Fsync, 8).unwrap_err();
    assert_eq!(error.damaged_at(), Some(first as u64));
}

#[test]
fn a_message_that_holds_an_old_journal_does_not_confuse_recovery() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish]);
    let copy = file(&disk);
    let (journal, _) = open(&disk, Durability::Fsync, 7).unwrap();
    let mut batch = RecordBatch::new();
    batch.enqueue(&message(&copy), &[to(2, 2)]);
    journal.append(&mut batch);
    journal.round(&disk).unwrap();
    let whole = file(&disk);
    let torn = disk_of(&whole[..whole.len() - 1]);
    assert_eq!(recover(&torn).last_lsn, Lsn(7));
    assert_eq!(backlog(&recover(&disk), 2)[1].1, copy);
}

#[test]
fn another_version_is_refused_with_a_sentence() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare]);
    let mut bytes = file(&disk);
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let refusal = open(&disk_of(&bytes), Durability::Fsync, 8).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "cannot read journal: it has format version 2, and this broker knows only 1; use the \
         version of Leveret that wrote it, or a newer one"
    );
    let other = disk_of(b"something else that is longer than a header");
    let refusal = open(&other, Durability::Fsync, 8).unwrap_err();
    assert_eq!(refusal.to_string(), "journal is damaged at byte 0: this is not a journal");
}

#[test]
fn a_crash_while_the_journal_is_made_is_no_obstacle() {
    let disk = MemoryDisk::new();
    disk.create("journal.new").unwrap();
    disk.append("journal.new", &[std::io::IoSlice::new(b"LEVER")]).unwrap();
    assert!(recover(&disk).clean);
    assert_eq!(disk.list().unwrap(), [JOURNAL_FILE]);
}

#[test]
fn a_start_makes_safe_what_a_killed_broker_left_unsynced() {
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        let (journal, _) = open(&disk, Durability::Os, 7).unwrap();
        for fill in [declare, publish, settle, publish] {
            let mut batch = RecordBatch::new();
            fill(&mut batch);
            journal.append(&mut batch);
            journal.round(&disk).unwrap();
        }
        disk.fail_sync_after(1);
        let error = open(&disk, Durability::Os, 7).unwrap_err();
        assert_eq!(error.operation(), "sync");
        assert!(recover(&disk.crash(seed)).last_lsn >= Lsn(11));
    }
}

#[test]
fn a_real_directory_holds_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    write(&disk, &[declare, publish]);
    drop(disk);
    let disk = RealDisk::open(directory.path()).unwrap();
    write_and_stop(&disk, &[settle]);
    let recovered = recover(&disk);
    assert!(recovered.clean);
    let expected = [(1, b"one".to_vec(), true), (3, b"three".to_vec(), true)];
    assert_eq!(backlog(&recovered, 1), expected);
}
