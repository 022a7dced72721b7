//! Compaction: what is left of segments, and who reads them meanwhile.

use super::samples::{message, queue, run, to, vhost};
use super::segment::{file_name, number_of};
use super::{
    Definition, Disk, Durability, MemoryDisk, Options, RealDisk, RecordBatch, Source, Standing,
    Store, open, scan,
};
use crate::id::{QueueId, SegmentNo, Seq};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const QUEUE: QueueId = QueueId(1);

fn options(salt: u64) -> Options {
    let (segment_bytes, frame_bytes, page_len, slack_segments) = (16 * 1024, 150, 4, 0);
    let options = Options::new(Durability::Fsync, salt);
    Options { segment_bytes, frame_bytes, page_len, slack_segments, ..options }
}

/// Queue 1 holds these seqs and gives `next` next, queue 2 holds nothing.
struct Held {
    live: Vec<u64>,
    next: u64,
}

impl Source for Held {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        [vhost("/"), queue(1, "/"), queue(2, "/")].into_iter().for_each(each);
    }

    fn standings(&self, _: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        let live = self.live.iter().map(|seq| run(*seq, *seq)).collect();
        each(QUEUE, Standing { next_seq: Seq(self.next), live, ..Standing::default() });
        each(QueueId(2), Standing { next_seq: Seq(self.next), ..Standing::default() });
    }

    fn live_bytes(&self) -> u64 {
        self.live.len() as u64 * 100
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(3)
    }
}

fn body(seq: u64) -> Vec<u8> {
    seq.to_be_bytes().repeat(12)
}

/// A store with messages 0 to `count` of queue 1, some of them in transactions, some also for
/// queue 2, of which all but each `kept`th is acked.
fn store(disk: &dyn Disk, count: u64, kept: usize) -> (Store, Held) {
    let (store, _) = open(disk, &options(1)).unwrap();
    let mut batch = RecordBatch::new();
    Held { live: Vec::new(), next: 0 }.definitions(&mut |it| batch.definition(&it));
    for seq in 0..count {
        let (one, both) = ([to(1, seq)], [to(1, seq), to(2, seq)]);
        match seq % 3 {
            0 => batch.enqueue(&message(&body(seq)), &one),
            1 => batch.enqueue(&message(&body(seq)), &both),
            _ => {
                batch.begin_transaction();
                batch.enqueue(&message(b"only for queue 2"), &[to(2, count + seq)]);
                batch.enqueue(&message(&body(seq)), &both);
                batch.end_transaction();
            }
        }
        store.journal().append(&mut batch);
        store.journal().round(disk).unwrap();
    }
    let live: Vec<_> = (0..count).step_by(kept).collect();
    let dead = (0..count).filter(|seq| !live.contains(seq));
    batch.ack(QUEUE, dead.map(|seq| run(seq, seq)));
    batch.purge(QueueId(2), Seq(2 * count), []);
    store.journal().append(&mut batch);
    (store, Held { live, next: 2 * count })
}

fn reclaim(store: &Store, disk: &dyn Disk, source: &dyn Source) {
    for _ in 0..3 {
        store.checkpoint(disk, source).unwrap();
        let mut looks = true;
        while store.reclaim(disk, source, looks).unwrap() {
            looks = false;
        }
    }
}

fn assert_readable(store: &Store, disk: &dyn Disk, held: &Held) {
    let wanted: Vec<_> = held.live.iter().map(|seq| run(*seq, *seq)).collect();
    let loaded = store.load(disk, QUEUE, &wanted, usize::MAX, u64::MAX).unwrap();
    let read: Vec<_> =
        loaded.messages.iter().map(|it| (it.seq.0, it.message.body_to_vec())).collect();
    let expected: Vec<_> = held.live.iter().map(|seq| (*seq, body(*seq))).collect();
    assert_eq!((loaded.lost, read), (vec![], expected));
}

fn segments(disk: &dyn Disk) -> Vec<SegmentNo> {
    disk.list().unwrap().iter().filter_map(|file| number_of(file)).collect()
}

fn bytes(disk: &dyn Disk) -> u64 {
    segments(disk).iter().map(|number| disk.len(&file_name(*number)).unwrap()).sum()
}

#[test]
fn what_lives_is_kept_and_nothing_else() {
    let disk = MemoryDisk::new();
    let (store, held) = store(&disk, 800, 4);
    let before = bytes(&disk);
    reclaim(&store, &disk, &held);
    let after = bytes(&disk);
    // A file has a header of 1 KiB, whatever is in it.
    assert!(after * 5 < before * 2, "{before} bytes became {after}");
    assert_readable(&store, &disk, &held);
    // No message that is dead has a place any more, but in what may be replayed.
    let stored = store.stored(&disk, QUEUE, Seq(0), Seq(500)).unwrap();
    let expected: Vec<_> = (0..=500).step_by(4).map(|seq| run(seq, seq)).collect();
    assert_eq!(stored, expected);
    store.journal().close_clean(&disk).unwrap();

    let (store, recovered) = open(&disk, &options(2)).unwrap();
    assert_readable(&store, &disk, &held);
    let there = store.read_all(&disk, QUEUE, &recovered.queues[&QUEUE]).unwrap();
    assert_eq!(there.iter().map(|it| it.seq.0).collect::<Vec<_>>(), held.live);
    // What was compacted once is compacted again, with another salt, and freed in the end.
    let salts = |disk: &dyn Disk| {
        let headers = segments(disk).into_iter();
        let headers = headers.filter_map(|number| scan::header(disk, &file_name(number)).unwrap());
        headers.map(|header| (header.number, (header.salt, header.end))).collect::<Vec<_>>()
    };
    let first = salts(&disk);
    let held = Held { live: vec![0, 160, 320], ..held };
    reclaim(&store, &disk, &held);
    assert_readable(&store, &disk, &held);
    let second = salts(&disk);
    let again = second.iter().find(|it| first.iter().any(|old| old.0 == it.0 && old.1 != it.1));
    assert!(again.is_some(), "{first:?} became {second:?}");
    reclaim(&store, &disk, &Held { live: Vec::new(), ..held });
    assert!(segments(&disk).len() <= 2, "{:?}", segments(&disk));
}

#[test]
fn an_old_index_is_not_taken_for_that_of_a_compacted_segment() {
    let disk = MemoryDisk::new();
    let (store, held) = store(&disk, 300, 10);
    store.checkpoint_now(&disk, &held).unwrap();
    let old: Vec<_> = disk.list().unwrap().into_iter().filter(|it| it.ends_with(".idx")).collect();
    let old: Vec<_> = old.iter().map(|file| (file, disk.contents(file).unwrap())).collect();
    assert!(!old.is_empty());
    reclaim(&store, &disk, &held);
    let there = disk.list().unwrap();
    for (file, bytes) in old.into_iter().filter(|(file, _)| there.contains(file)) {
        disk.overwrite(file, bytes);
    }
    let (store, _) = open(&disk, &options(2)).unwrap();
    assert_readable(&store, &disk, &held);
}

#[test]
fn a_damaged_segment_is_left_alone() {
    let disk = MemoryDisk::new();
    let (store, held) = store(&disk, 300, 10);
    store.checkpoint_now(&disk, &held).unwrap();
    let file = file_name(SegmentNo(1));
    let mut rotten = disk.contents(&file).unwrap();
    rotten[2000] ^= 1;
    disk.overwrite(&file, rotten.clone());
    let error = loop {
        match store.reclaim(&disk, &held, false) {
            Ok(more) => assert!(more, "the damage is not found"),
            Err(error) => break error,
        }
    };
    assert!(error.damaged_at().is_some(), "{error}");
    assert_eq!(disk.contents(&file), Some(rotten));
    assert!(!disk.list().unwrap().contains(&super::rewrite::NEW_FILE.to_owned()));
}

#[test]
fn whoever_reads_meanwhile_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let (store, held) = store(&disk, 600, 4);
    store.checkpoint_now(&disk, &held).unwrap();
    store.index_new(&disk).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        assert_readable(&store, &disk, &held);
                    }
                })
            })
            .collect();
        reclaim(&store, &disk, &held);
        done.store(true, Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_readable(&store, &disk, &held);
}
