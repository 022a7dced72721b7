//! Records that are longer than a frame: cut, flipped, fanned out, in transactions, read back,
//! compacted.

use super::frame::FRAME_HEADER_LEN;
use super::samples::{message, queue, run, to, vhost};
use super::segment::{SEGMENT_HEADER_LEN, file_name};
use super::{
    Definition, Disk, Durability, Journal, MemoryDisk, Options, RecordBatch, Recovered, Severity,
    Source, Standing, Store, Waiter, check, open,
};
use crate::id::{Lsn, QueueId, SegmentNo, Seq};
use crate::limits::{FRAME_BYTES, ROUND_BYTES};
use parking_lot::Mutex;
use std::sync::Arc;

const FRAME: usize = 100;

fn options(salt: u64) -> Options {
    let (segment_bytes, page_len, slack_segments) = (4096, 4, 0);
    let options = Options::new(Durability::Fsync, salt);
    Options { segment_bytes, frame_bytes: FRAME, page_len, slack_segments, ..options }
}

fn body(nth: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (nth * 31 + at * 7 + at / 251) as u8).collect()
}

fn put(store: &Store, disk: &dyn Disk, fill: impl FnOnce(&mut RecordBatch)) -> Lsn {
    let mut batch = RecordBatch::new();
    fill(&mut batch);
    let lsn = store.journal().append(&mut batch);
    store.journal().round(disk).unwrap();
    lsn
}

fn define(batch: &mut RecordBatch) {
    batch.definition(&vhost("/"));
    (1..=3).for_each(|id| batch.definition(&queue(id, "/")));
}

/// A store with three queues and a small message in the first.
fn begun(disk: &MemoryDisk) -> Store {
    let (store, _) = open(disk, &options(1)).unwrap();
    put(&store, disk, define);
    put(&store, disk, |batch| batch.enqueue(&message(b"small"), &[to(1, 1)]));
    store
}

type Backlog = Vec<(u64, Vec<u8>)>;

/// What each of the three queues holds after a start.
fn backlogs(disk: &dyn Disk, salt: u64) -> (Recovered, [Backlog; 3]) {
    let (store, recovered) = open(disk, &options(salt)).unwrap();
    let read = |id| {
        let id = QueueId(id);
        let all = store.read_all(disk, id, &recovered.queues[&id]).unwrap();
        all.into_iter().map(|it| (it.seq.0, it.message.body_to_vec())).collect()
    };
    let all = [1, 2, 3].map(read);
    (recovered, all)
}

/// The segment that is written to, as it is.
fn current(store: &Store, disk: &MemoryDisk) -> (SegmentNo, Vec<u8>) {
    let (segment, end) = store.journal().extents().pop().unwrap();
    let mut bytes = disk.contents(&file_name(segment)).unwrap();
    bytes.truncate(end as usize);
    (segment, bytes)
}

fn with(disk: &MemoryDisk, segment: SegmentNo, bytes: Vec<u8>) -> MemoryDisk {
    let other = disk.copy();
    other.overwrite(&file_name(segment), bytes);
    other
}

/// Where frames begin, with their payloads' lengths.
fn frames(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut at = SEGMENT_HEADER_LEN;
    let mut frames = Vec::new();
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().unwrap()) as usize;
        frames.push((at, len));
        at += FRAME_HEADER_LEN + len;
    }
    frames
}

#[test]
fn a_long_message_cut_at_any_byte_is_there_or_was_never_written() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let (segment, before) = current(&store, &disk);
    let large = body(7, 430);
    put(&store, &disk, |batch| batch.enqueue(&message(&large), &[to(1, 2), to(2, 1)]));
    let (same, whole) = current(&store, &disk);
    assert_eq!(same, segment);
    let parts = frames(&whole).len() - frames(&before).len();
    assert!(parts > 4, "{parts} frames");
    let (small, both) = ((1, b"small".to_vec()), large);
    for len in before.len()..=whole.len() {
        for padded in [false, true] {
            let mut bytes = whole[..len].to_vec();
            bytes.resize(if padded { whole.len() + 300 } else { len }, 0);
            let cut = with(&disk, segment, bytes);
            let (recovered, [one, two, _]) = backlogs(&cut, 2);
            // Where what is cut off is zeros, nothing is missing.
            if len == whole.len() || padded && whole[len..].iter().all(|byte| *byte == 0) {
                assert_eq!(one, [small.clone(), (2, both.clone())]);
                assert_eq!(two, [(1, both.clone())]);
                assert_eq!(recovered.torn, None);
            } else {
                assert_eq!((one, two), (vec![small.clone()], vec![]), "cut at {len}");
                let torn = recovered.torn.map(|torn| (torn.segment, torn.offset));
                let begun = len >= before.len() + 16 || !padded && len > before.len();
                assert_eq!(torn, begun.then_some((segment, before.len() as u64)), "cut at {len}");
            }
            // The next broker goes on behind it, and finds no trace.
            let (store, recovered) = open(&cut, &options(3)).unwrap();
            assert_eq!(recovered.torn, None);
            put(&store, &cut, |batch| batch.enqueue(&message(&body(9, 300)), &[to(3, 1)]));
            drop(store);
            assert_eq!(backlogs(&cut, 4).1[2], [(1, body(9, 300))]);
            assert!(!check(&cut, 4).unwrap().is_damaged());
        }
    }
}

#[test]
fn a_flip_in_any_frame_of_a_safe_message_is_named_where_it_is() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let behind = current(&store, &disk).1.len();
    put(&store, &disk, |batch| batch.enqueue(&message(&body(7, 430)), &[to(1, 2)]));
    let unsealed = disk.copy();
    store.journal().seal(&disk).unwrap();
    let (segment, whole) = current(&store, &disk);
    let ours = frames(&whole).into_iter().filter(|(at, len)| *at >= behind && *len > 0);
    for (at, len) in ours {
        for byte in at..at + FRAME_HEADER_LEN + len {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << (byte % 8);
            let rotten = with(&disk, segment, bytes.clone());
            let report = check(&rotten, 4).unwrap();
            let severity = match open(&rotten.copy(), &options(2)) {
                Ok((_, recovered)) => {
                    let held = recovered.definitions.held().map(|it| (it.0, it.2.damaged_at));
                    assert_eq!(held.collect::<Vec<_>>(), [(QueueId(1), at as u64)]);
                    Severity::Held
                }
                Err(error) => {
                    assert_eq!(error.damaged_at(), Some(at as u64), "{error}");
                    Severity::Damage
                }
            };
            let damage = report.findings.iter().find(|it| it.severity == severity);
            let place = damage.map(|it| (it.file.clone(), it.offset));
            assert_eq!(place, Some((file_name(segment), Some(at as u64))));
            // Nobody knew it to be safe: then it never was.
            bytes.truncate(unsealed.contents(&file_name(segment)).unwrap().len());
            let (_, [one, ..]) = backlogs(&with(&unsealed, segment, bytes), 2);
            assert_eq!(one, [(1, b"small".to_vec())]);
        }
    }
}

#[test]
fn a_frame_that_is_missing_in_between_is_noticed() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let behind = current(&store, &disk).1.len();
    put(&store, &disk, |batch| batch.enqueue(&message(&body(7, 430)), &[to(1, 2)]));
    let (segment, whole) = current(&store, &disk);
    let ours: Vec<_> = frames(&whole).into_iter().filter(|(at, _)| *at >= behind).collect();
    for (at, len) in ours {
        let mut bytes = whole.clone();
        bytes.drain(at..at + FRAME_HEADER_LEN + len);
        let (_, [one, ..]) = backlogs(&with(&disk, segment, bytes), 2);
        assert_eq!(one, [(1, b"small".to_vec())], "without the frame at {at}");
    }
}

#[test]
fn all_frames_of_a_record_lie_in_one_segment() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let mut expected = vec![(1, b"small".to_vec())];
    for (seq, len) in (2..).zip([1500, 1500, 1500, 3000, 9000, 10, 1500, 4000]) {
        expected.push((seq, body(seq, len)));
        put(&store, &disk, |batch| batch.enqueue(&message(&body(seq, len)), &[to(1, seq)]));
    }
    let (last, _) = store.journal().extents().pop().unwrap();
    assert!(last >= SegmentNo(5), "{last}");
    for number in 1..=last.0 {
        let bytes = disk.contents(&file_name(SegmentNo(number))).unwrap();
        let left = |at: usize| u32::from_le_bytes(bytes[at + 24..at + 28].try_into().unwrap());
        let frames = frames(&bytes);
        assert!(frames.iter().all(|(_, len)| *len <= FRAME));
        assert_eq!(frames.last().map(|(at, _)| left(*at)), Some(0), "segment {number}");
        // One record may make a segment longer, and is alone then.
        let ends = frames.iter().filter(|(at, _)| left(*at) == 0).count();
        assert!(bytes.len() <= 4096 || ends == 1, "segment {number}");
    }
    assert_eq!(backlogs(&disk, 2).1[0], expected);
}

#[test]
fn targets_that_fill_frames_of_their_own_come_back() {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &options(1)).unwrap();
    let queues = 1..=200;
    put(&store, &disk, |batch| {
        batch.definition(&vhost("/"));
        queues.clone().for_each(|id| batch.definition(&queue(id, "/")));
    });
    let targets: Vec<_> = queues.clone().map(|id| to(id, 1000 + id)).collect();
    let later: Vec<_> = queues.clone().map(|id| to(id, 2000 + id)).collect();
    put(&store, &disk, |batch| {
        batch.enqueue(&message(&body(1, 250)), &targets);
        batch.enqueue(&message(&body(2, 10)), &later);
        batch.ack(QueueId(7), (0..300).map(|nth| run(10 * nth, 10 * nth + 1)));
    });
    let (store, recovered) = open(&disk, &options(2)).unwrap();
    for id in queues.map(QueueId) {
        let read = store.read_all(&disk, id, &recovered.queues[&id]).unwrap();
        let read: Vec<_> = read.iter().map(|it| (it.seq.0, it.message.body_to_vec())).collect();
        let expected = [(1000 + id.0, body(1, 250)), (2000 + id.0, body(2, 10))];
        assert_eq!(read, expected, "queue {id}");
    }
    assert_eq!(recovered.queues[&QueueId(7)].next_seq, Seq(2992));
}

#[test]
fn a_long_transaction_is_all_or_nothing_at_any_frame() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let (segment, before) = current(&store, &disk);
    put(&store, &disk, |batch| {
        batch.begin_transaction();
        batch.enqueue(&message(&body(2, 20)), &[to(1, 2)]);
        batch.enqueue(&message(&body(3, 500)), &[to(1, 3), to(2, 1)]);
        batch.ack(QueueId(1), [run(1, 1)]);
        (4..12).for_each(|seq| batch.enqueue(&message(&body(seq, 20)), &[to(1, seq)]));
        batch.enqueue(&message(&body(12, 300)), &[to(3, 1)]);
        batch.end_transaction();
    });
    let (_, whole) = current(&store, &disk);
    for (at, _) in frames(&whole).into_iter().filter(|(at, _)| *at > before.len()) {
        let (recovered, [one, two, three]) =
            backlogs(&with(&disk, segment, whole[..at].to_vec()), 2);
        assert_eq!((one, two, three), (vec![(1, b"small".to_vec())], vec![], vec![]), "at {at}");
        assert_eq!(recovered.torn.map(|torn| torn.offset), Some(before.len() as u64));
    }
    let (recovered, [one, two, three]) = backlogs(&disk, 2);
    let len = |seq| if seq == 3 { 500 } else { 20 };
    let expected: Vec<_> = (2..12).map(|seq| (seq, body(seq, len(seq)))).collect();
    assert_eq!((one, two, three), (expected, vec![(1, body(3, 500))], vec![(1, body(12, 300))]));
    assert_eq!(recovered.torn, None);
}

#[test]
fn a_page_brings_long_messages_back_and_names_the_frame_that_rots() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let len = |seq: u64| if seq.is_multiple_of(2) { 350 } else { 20 };
    (2..=5).for_each(|seq| {
        put(&store, &disk, |batch| batch.enqueue(&message(&body(seq, len(seq))), &[to(1, seq)]));
    });
    store.index_new(&disk).unwrap();
    let all = [run(2, 5)];
    let loaded = store.load(&disk, QueueId(1), &all, 99, u64::MAX).unwrap();
    let read: Vec<_> =
        loaded.messages.iter().map(|it| (it.seq.0, it.message.body_to_vec())).collect();
    assert_eq!(read, (2..=5).map(|seq| (seq, body(seq, len(seq)))).collect::<Vec<_>>());
    let few = store.load(&disk, QueueId(1), &all, 99, 650).unwrap();
    assert_eq!((few.messages.len(), few.lost.len()), (1, 0), "its frames count as bytes");
    let (segment, whole) = current(&store, &disk);
    for (at, payload_len) in frames(&whole).into_iter().filter(|(_, len)| *len == FRAME) {
        for byte in [at + 30, at + FRAME_HEADER_LEN, at + FRAME_HEADER_LEN + payload_len - 1] {
            let mut bytes = whole.clone();
            bytes[byte] ^= 4;
            disk.overwrite(&file_name(segment), bytes);
            let loaded = store.load(&disk, QueueId(1), &all, 99, u64::MAX).unwrap();
            assert_eq!((loaded.messages.len(), loaded.lost.len()), (3, 1), "byte {byte}");
            assert_eq!(len(loaded.lost[0].0), 350);
        }
    }
}

/// Queue 1 holds these seqs, of those below `next`.
struct Held(Vec<u64>, u64);

impl Source for Held {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        each(vhost("/"));
        (1..=3).for_each(|id| each(queue(id, "/")));
    }

    fn standings(&self, _: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        let live = self.0.iter().map(|seq| run(*seq, *seq)).collect();
        each(QueueId(1), Standing { next_seq: Seq(self.1), live, ..Standing::default() });
        (2..=3).for_each(|id| each(QueueId(id), Standing::default()));
    }

    fn live_bytes(&self) -> u64 {
        self.0.len() as u64 * 200
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(4)
    }
}

#[test]
fn long_messages_survive_the_compaction_of_their_segments() {
    let disk = MemoryDisk::new();
    let store = begun(&disk);
    let len = |seq: u64| if seq.is_multiple_of(3) { 330 } else { 15 };
    for seq in 2..200 {
        put(&store, &disk, |batch| {
            let enqueue = |batch: &mut RecordBatch| {
                batch.enqueue(&message(&body(seq, len(seq))), &[to(1, seq)]);
            };
            if seq.is_multiple_of(2) {
                return enqueue(batch);
            }
            batch.begin_transaction();
            batch.requeue(QueueId(1), [run(1, 1)]);
            enqueue(batch);
            batch.end_transaction();
        });
    }
    let live: Vec<_> = (2..200).filter(|seq| seq % 9 == 3 || seq % 20 == 5).collect();
    put(&store, &disk, |batch| {
        batch.ack(QueueId(1), (1..200).filter(|it| !live.contains(it)).map(|it| run(it, it)));
    });
    let held = Held(live.clone(), 200);
    let segments = |disk: &MemoryDisk| {
        let files = disk.list().unwrap().into_iter();
        files.filter(|file| super::segment::number_of(file).is_some()).collect::<Vec<_>>()
    };
    let len_of =
        |disk: &MemoryDisk| segments(disk).iter().map(|file| disk.len(file).unwrap()).sum::<u64>();
    store.checkpoint_now(&disk, &held).unwrap();
    let before = len_of(&disk);
    for _ in 0..3 {
        store.checkpoint(&disk, &held).unwrap();
        let mut looks = true;
        while store.reclaim(&disk, &held, looks).unwrap() {
            looks = false;
        }
    }
    assert!(len_of(&disk) < before / 2, "{before} became {}", len_of(&disk));
    let expected: Vec<_> = live.iter().map(|seq| (*seq, body(*seq, len(*seq)))).collect();
    let wanted: Vec<_> = live.iter().map(|seq| run(*seq, *seq)).collect();
    let loaded = store.load(&disk, QueueId(1), &wanted, 999, u64::MAX).unwrap();
    let read: Vec<_> =
        loaded.messages.iter().map(|it| (it.seq.0, it.message.body_to_vec())).collect();
    assert_eq!((read, loaded.lost), (expected.clone(), vec![]));
    store.journal().close_clean(&disk).unwrap();
    drop(store);
    assert_eq!(check(&disk, 4).unwrap().findings.iter().map(|it| it.severity).min(), None);
    assert_eq!(backlogs(&disk, 2).1[0], expected);
}

#[test]
fn no_frame_or_piece_is_longer_than_its_bound_however_long_a_message_is() {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &Options::new(Durability::Fsync, 1)).unwrap();
    put(&store, &disk, define);
    let len = 3 * FRAME_BYTES + 1000;
    put(&store, &disk, |batch| {
        batch.enqueue(&message(&body(1, len)), &[to(1, 1)]);
        batch.enqueue(&message(&body(2, 1 << 20)), &[to(1, 2)]);
    });
    let (_, bytes) = current(&store, &disk);
    let frames = frames(&bytes);
    assert!(frames.iter().all(|(_, len)| *len <= FRAME_BYTES));
    assert_eq!(frames.len(), 1 + 4 + 1, "a message of 1 MiB is one frame");
    let (store, recovered) = open(&disk, &Options::new(Durability::Fsync, 2)).unwrap();
    let read = store.read_all(&disk, QueueId(1), &recovered.queues[&QueueId(1)]).unwrap();
    let bodies: Vec<_> = read.iter().map(|it| it.message.body_to_vec()).collect();
    assert!(bodies == [body(1, len), body(2, 1 << 20)]);
    let pieces = read[0].message.large_body();
    assert!(pieces.len() == 4 && pieces.iter().all(|piece| piece.len() <= FRAME_BYTES));
}

/// Writes down what it hears.
struct Noted(Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Waiter for Noted {
    fn reached(&self, _: Lsn) {
        self.0.lock().push(self.1);
    }

    fn failed(&self) {}
}

#[test]
fn a_confirm_does_not_wait_for_what_came_much_later() {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &Options::new(Durability::Fsync, 1)).unwrap();
    let journal: &Journal = store.journal();
    let heard = Arc::default();
    let mut batch = RecordBatch::new();
    let mut publish = |word, len| {
        batch.enqueue(&message(&vec![7; len]), &[to(1, 1)]);
        let lsn = journal.append(&mut batch);
        journal.wait(lsn, Durability::Fsync, Arc::new(Noted(Arc::clone(&heard), word)));
    };
    publish("small", 10);
    publish("large", ROUND_BYTES + 1);
    publish("behind", 10);
    let mut rounds = Vec::new();
    while journal.round(&disk).unwrap() {
        rounds.push(heard.lock().len());
    }
    assert_eq!((rounds, heard.lock().clone()), (vec![1, 2, 3], vec!["small", "large", "behind"]));
    publish("again", ROUND_BYTES + 1);
    publish("flushed", 10);
    journal.flush(&disk).unwrap();
    assert_eq!(heard.lock().len(), 5, "a flush leaves nothing behind");
    assert_eq!(journal.pending_bytes(), 0);
}
