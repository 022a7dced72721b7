//! Recovery: what comes back, what is cut, what is refused.

use super::frame::FRAME_HEADER_LEN;
use super::samples::{Opened, backlog, message, opened, queue, run, to, vhost};
use super::segment::{SEGMENT_HEADER_LEN, file_name, number_of};
use super::{
    Definition, Disk, Durability, MemoryDisk, Options, RealDisk, RecordBatch, check, open,
};
use crate::id::{Lsn, QueueId, SegmentNo, Seq};

/// Opens, appends each batch in a round of its own, and is killed.
fn write(disk: &dyn Disk, rounds: &[fn(&mut RecordBatch)]) {
    let (store, _) = open(disk, &Options::new(Durability::Fsync, 7)).unwrap();
    let journal = store.journal();
    for fill in rounds {
        let mut batch = RecordBatch::new();
        fill(&mut batch);
        journal.append(&mut batch);
        journal.round(disk).unwrap();
    }
}

/// The same, but stops cleanly.
fn write_and_stop(disk: &dyn Disk, rounds: &[fn(&mut RecordBatch)]) {
    let (store, _) = open(disk, &Options::new(Durability::Fsync, 7)).unwrap();
    let journal = store.journal();
    for fill in rounds {
        let mut batch = RecordBatch::new();
        fill(&mut batch);
        journal.append(&mut batch);
    }
    journal.close_clean(disk).unwrap();
}

fn recover(disk: &dyn Disk) -> Opened {
    opened(disk, 8)
}

/// The last segment's number and bytes.
fn last(disk: &MemoryDisk) -> (SegmentNo, Vec<u8>) {
    let number = disk.list().unwrap().iter().filter_map(|file| number_of(file)).max().unwrap();
    (number, disk.contents(&file_name(number)).unwrap())
}

/// The same disk, but for one segment.
fn with(disk: &MemoryDisk, number: SegmentNo, bytes: &[u8]) -> MemoryDisk {
    let other = MemoryDisk::new();
    for file in disk.list().unwrap() {
        other.overwrite(&file, disk.contents(&file).unwrap());
    }
    other.overwrite(&file_name(number), bytes.to_vec());
    other
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
    assert!(disk.list().unwrap().is_empty());
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
    let reference = backlog(&recover(&disk), 1);
    let (store, _) = open(&disk, &Options::new(Durability::Fsync, 9)).unwrap();
    let journal = store.journal();
    let (number, opened) = last(&disk);
    let mut batch = RecordBatch::new();
    batch.begin_transaction();
    settle(&mut batch);
    publish(&mut batch);
    batch.end_transaction();
    journal.append(&mut batch);
    journal.round(&disk).unwrap();
    let (same, whole) = last(&disk);
    assert_eq!(same, number);
    for len in opened.len()..whole.len() {
        for padded in [false, true] {
            // A prepared segment keeps its length, whatever was written.
            let mut bytes = whole[..len].to_vec();
            bytes.resize(if padded { whole.len() + 900 } else { len }, 0);
            let torn = with(&disk, number, &bytes);
            let recovered = recover(&torn);
            assert_eq!(recovered.last_lsn, Lsn(8), "cut at {len}");
            assert_eq!(backlog(&recovered, 1), reference);
            let named = recovered.torn.map(|torn| (torn.segment, torn.offset));
            // Magic, version and salt say that it is a frame of this segment.
            let begun = len >= opened.len() + 16 || !padded && len > opened.len();
            assert_eq!(named, begun.then_some((number, opened.len() as u64)), "cut at {len}");
            let again = recover(&torn);
            assert_eq!(again.torn, None, "it was cut off for good");
            assert_eq!(again.last_lsn, Lsn(9), "the start in between is a record");
        }
    }
}

/// Offsets at which a frame begins.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = SEGMENT_HEADER_LEN;
    let mut frames = Vec::new();
    while at < bytes.len() {
        frames.push(at);
        let len: [u8; 4] = bytes[at + 16..at + 20].try_into().unwrap();
        at += FRAME_HEADER_LEN + u32::from_le_bytes(len) as usize;
    }
    frames
}

#[test]
fn a_bit_flipped_where_all_was_safe_is_named_with_file_and_offset() {
    let disk = MemoryDisk::new();
    write_and_stop(&disk, &[declare, publish, settle]);
    write(&disk, &[publish, settle]);
    let (store, _) = open(&disk, &Options::new(Durability::Fsync, 9)).unwrap();
    let journal = store.journal();
    journal.seal(&disk).unwrap();
    let (end, _) = last(&disk);
    let mut passed = 0;
    for number in 1..=end.0 {
        let number = SegmentNo(number);
        let bytes = disk.contents(&file_name(number)).unwrap();
        let frames = frames(&bytes);
        let whole = if number == end { *frames.last().unwrap() } else { bytes.len() };
        for bit in SEGMENT_HEADER_LEN * 8..whole * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let rotten = with(&disk, number, &flipped);
            let begins = frames.iter().filter(|at| **at <= bit / 8).max();
            let offset = *begins.unwrap() as u64;
            let opened = open(&rotten.copy(), &Options::new(Durability::Fsync, 8));
            let Err(error) = opened else {
                let findings = check(&rotten, 4).unwrap().findings;
                let place = findings.first().map(|it| (it.file.clone(), it.offset));
                assert_eq!(place, Some((file_name(number), Some(offset))), "bit {bit}");
                passed += 1;
                continue;
            };
            assert_eq!(error.damaged_at(), Some(offset), "bit {bit}: {error}");
            let sentence = format!("{} is damaged at byte {offset}: ", file_name(number));
            assert!(error.to_string().starts_with(&sentence), "{error}");
        }
    }
    assert!(passed > 1000, "{passed}: a start goes on behind most of them");
}

#[test]
fn a_bit_flipped_behind_what_is_known_to_be_safe_is_cut() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish, settle]);
    let (number, bytes) = last(&disk);
    let end = *frames(&bytes).last().unwrap();
    for bit in end * 8..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let torn = with(&disk, number, &flipped);
        let recovered = recover(&torn);
        assert_eq!(recovered.last_lsn, Lsn(6), "bit {bit}");
        assert_eq!(backlog(&recovered, 1).len(), 3);
    }
}

#[test]
fn a_frame_that_vanished_whole_is_missed() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish, settle]);
    let (number, bytes) = last(&disk);
    let [first, second, ..] = frames(&bytes)[..] else { panic!() };
    let hole = with(&disk, number, &[&bytes[..first], &bytes[second..]].concat());
    let error = open(&hole, &Options::new(Durability::Fsync, 8)).unwrap_err();
    assert_eq!(error.damaged_at(), Some(first as u64));
}

#[test]
fn a_segment_that_vanished_is_missed_and_named() {
    let disk = MemoryDisk::new();
    for _ in 0..3 {
        write(&disk, &[declare, publish]);
    }
    for number in 1..=2 {
        let lost = with(&disk, SegmentNo(9), &[]);
        lost.remove(&file_name(SegmentNo(number))).unwrap();
        let error = open(&lost, &Options::new(Durability::Fsync, 8)).unwrap_err().to_string();
        let (lost, next) = (file_name(SegmentNo(number)), file_name(SegmentNo(number + 1)));
        let expected = format!(
            "cannot read {lost}: it is not there, and {next} follows it. Nothing was changed: \
             restore the file from a copy, or give up what is lost with `leveret check / --repair \
             --accept-loss`"
        );
        assert_eq!(error, expected);
    }
}

#[test]
fn a_message_that_holds_an_old_journal_does_not_confuse_recovery() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare, publish]);
    let (_, copy) = last(&disk);
    let (store, _) = open(&disk, &Options::new(Durability::Fsync, 9)).unwrap();
    let journal = store.journal();
    let mut batch = RecordBatch::new();
    batch.enqueue(&message(&copy), &[to(2, 2)]);
    journal.append(&mut batch);
    journal.round(&disk).unwrap();
    let (number, whole) = last(&disk);
    let torn = with(&disk, number, &whole[..whole.len() - 1]);
    assert_eq!(recover(&torn).last_lsn, Lsn(7));
    assert_eq!(backlog(&recover(&disk), 2)[1].1, copy);
}

#[test]
fn another_version_is_refused_with_a_sentence() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare]);
    let (number, mut bytes) = last(&disk);
    for copy in [0, 512] {
        bytes[copy + 8] = 9;
        let crc = crc32c::crc32c(&bytes[copy..copy + 60]);
        bytes[copy + 60..copy + 64].copy_from_slice(&crc.to_le_bytes());
    }
    let options = Options::new(Durability::Fsync, 8);
    let refusal = open(&with(&disk, number, &bytes), &options).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "cannot read segment-0000000001: it has format version 9, and this broker knows only 3; \
         use the version of Leveret that wrote it, or a newer one"
    );
    let other = with(&disk, number, &b"something else, longer than a header".repeat(40));
    let refusal = open(&other, &options).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "segment-0000000001 is damaged at byte 0: this is not a segment of a journal"
    );
}

#[test]
fn what_a_crash_left_of_preparing_a_segment_is_removed() {
    let disk = MemoryDisk::new();
    write(&disk, &[declare]);
    for file in ["segment.new", "segment.spare1", "segment-0000000002"] {
        disk.overwrite(file, vec![0; 3000]);
    }
    assert_eq!(recover(&disk).last_lsn, Lsn(3));
    assert_eq!(disk.list().unwrap(), [file_name(SegmentNo(1)), file_name(SegmentNo(2))]);
    assert_eq!(frames(&last(&disk).1).len(), 1, "the start's own record, in a new file");
}

#[test]
fn segments_follow_each_other_and_all_of_them_come_back() {
    let disk = MemoryDisk::new();
    let small = |salt| Options { segment_bytes: 4096, ..Options::new(Durability::Fsync, salt) };
    let mut expected = Vec::new();
    for start in 0..3 {
        let (store, recovered) = open(&disk, &small(start)).unwrap();
        let journal = store.journal();
        assert_eq!(
            recovered.queues.values().flat_map(|q| &q.pages).flat_map(|p| p.messages()).count(),
            expected.len()
        );
        let mut batch = RecordBatch::new();
        declare(&mut batch);
        journal.append(&mut batch);
        for n in 0..50 {
            let seq = start * 50 + n;
            let body = vec![seq as u8; 200];
            batch.enqueue(&message(&body), &[to(1, seq)]);
            journal.append(&mut batch);
            journal.round(&disk).unwrap();
            journal.prepare_segment(&disk).unwrap();
            expected.push((seq, body, true));
        }
    }
    let recovered = recover(&disk);
    assert_eq!(backlog(&recovered, 1), expected);
    assert!(last(&disk).0.0 > 12, "{}", last(&disk).0);
    for number in 1..last(&disk).0.0 {
        let len = disk.len(&file_name(SegmentNo(number))).unwrap();
        assert!(len <= 4096, "segment {number} has {len} bytes");
    }
}

#[test]
fn what_was_in_a_file_before_is_never_read_again() {
    let small = Options { segment_bytes: 4096, ..Options::new(Durability::Fsync, 3) };
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &small).unwrap();
    let journal = store.journal();
    let fill = |from: u64, count: u64| {
        let mut batch = RecordBatch::new();
        for seq in from..from + count {
            batch.enqueue(&message(&[7; 100]), &[to(1, seq)]);
            journal.append(&mut batch);
            journal.round(&disk).unwrap();
        }
    };
    let mut batch = RecordBatch::new();
    declare(&mut batch);
    journal.append(&mut batch);
    fill(1, 13);
    // As if the first segment were dead: its file comes round with all its frames in it.
    let old = disk.contents(&file_name(SegmentNo(1))).unwrap();
    let mut blank = old.clone();
    blank[..SEGMENT_HEADER_LEN].fill(0);
    disk.overwrite(&file_name(SegmentNo(2)), blank);
    journal.supply_for_tests(SegmentNo(2));
    fill(14, 10);
    let recovered = recover(&disk);
    assert_eq!(backlog(&recovered, 1).len(), 23);
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_start_makes_safe_what_a_killed_broker_left_unsynced() {
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        let (store, _) = open(&disk, &Options::new(Durability::Os, 7)).unwrap();
        let journal = store.journal();
        for fill in [declare, publish, settle, publish] {
            let mut batch = RecordBatch::new();
            fill(&mut batch);
            journal.append(&mut batch);
            journal.round(&disk).unwrap();
        }
        disk.fail_sync_after(1);
        let error = open(&disk, &Options::new(Durability::Os, 7)).unwrap_err();
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
