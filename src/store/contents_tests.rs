//! Where messages are found again while segments come and go.

use super::samples::{message, queue, run, to, vhost};
use super::segment::{file_name, index_name, number_of};
use super::{
    Definition, Disk, Durability, Layer, MemoryDisk, Options, RealDisk, RecordBatch, Source,
    Standing, Store, StoreError, open,
};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::store::OnDisk;
use parking_lot::Mutex;
use std::ops::Range;

const QUEUE: QueueId = QueueId(1);

fn options(salt: u64) -> Options {
    let (segment_bytes, page_len) = (4096, 4);
    Options { segment_bytes, page_len, ..Options::new(Durability::Fsync, salt) }
}

/// The seqs that queue 1 holds; the next is the one behind them.
struct Held(Range<u64>);

impl Source for Held {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        [vhost("/"), queue(1, "/")].into_iter().for_each(each);
    }

    fn standings(&self, _: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        let live = self.0.clone().map(|seq| run(seq, seq)).collect();
        each(QUEUE, Standing { next_seq: Seq(self.0.end), live, ..Standing::default() });
    }

    fn live_bytes(&self) -> u64 {
        (self.0.end - self.0.start) * 100
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(2)
    }
}

fn begin(disk: &dyn Disk, salt: u64) -> Store {
    let (store, _) = open(disk, &options(salt)).unwrap();
    let mut batch = RecordBatch::new();
    Held(0..0).definitions(&mut |it| batch.definition(&it));
    store.journal().append(&mut batch);
    store
}

fn body(seq: u64) -> Vec<u8> {
    seq.to_be_bytes().repeat(12)
}

fn publish(store: &Store, disk: &dyn Disk, seqs: Range<u64>) {
    for seq in seqs {
        let mut batch = RecordBatch::new();
        batch.enqueue(&message(&body(seq)), &[to(1, seq)]);
        store.journal().append(&mut batch);
        store.journal().round(disk).unwrap();
    }
}

fn all_stored(store: &Store, disk: &dyn Disk) -> Vec<(Seq, Seq)> {
    store.stored(disk, QUEUE, Seq(0), Seq(u64::MAX)).unwrap()
}

fn assert_readable(store: &Store, disk: &dyn Disk, seqs: Range<u64>) {
    let wanted = [run(seqs.start, seqs.end - 1)];
    let loaded = store.load(disk, QUEUE, &wanted, usize::MAX, u64::MAX).unwrap();
    let read: Vec<_> = loaded.messages.iter().map(|it| it.seq.0).collect();
    assert_eq!((loaded.lost, read), (vec![], seqs.collect()));
    let is_right = |it: &OnDisk| it.message.body_to_vec() == body(it.seq.0);
    assert!(loaded.messages.iter().all(is_right));
}

fn segments(disk: &dyn Disk) -> Vec<SegmentNo> {
    disk.list().unwrap().iter().filter_map(|file| number_of(file)).collect()
}

#[test]
fn a_segment_that_was_left_is_indexed_to_its_end_before_any_checkpoint() {
    let disk = MemoryDisk::new();
    let store = begin(&disk, 1);
    publish(&store, &disk, 0..10);
    store.index_new(&disk).unwrap();
    assert_eq!(all_stored(&store, &disk), [run(0, 9)]);
    // The rest of the first segment, all of some others, and a part of the last.
    publish(&store, &disk, 10..100);
    assert!(segments(&disk).len() > 3);
    store.index_new(&disk).unwrap();
    assert_eq!(all_stored(&store, &disk), [run(0, 99)]);
    assert_readable(&store, &disk, 0..100);
    // And those that a checkpoint knows.
    store.checkpoint(&disk, &Held(0..100)).unwrap();
    publish(&store, &disk, 100..150);
    store.index_new(&disk).unwrap();
    assert_eq!(all_stored(&store, &disk), [run(0, 149)]);
    assert_readable(&store, &disk, 0..150);
}

/// Does something behind the next read of a file, once.
struct Interrupted<'a> {
    disk: &'a MemoryDisk,
    file: String,
    behind: Mutex<Option<Box<dyn FnOnce() + Send + 'a>>>,
}

impl Layer for Interrupted<'_> {
    fn below(&self) -> &dyn Disk {
        self.disk
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        let read = self.disk.read_at(file, offset, out);
        let behind = if file == self.file { self.behind.lock().take() } else { None };
        if let Some(behind) = behind {
            behind();
        }
        read
    }
}

#[test]
fn a_segment_that_is_given_up_while_it_is_indexed_gets_no_index() {
    let disk = MemoryDisk::new();
    let store = begin(&disk, 1);
    publish(&store, &disk, 0..60);
    let give_up = || {
        // From the first on nothing before it is replayed, and with the second nothing there lives.
        store.checkpoint_now(&disk, &Held(0..60)).unwrap();
        publish(&store, &disk, 60..61);
        store.checkpoint_now(&disk, &Held(60..61)).unwrap();
        assert!(!segments(&disk).contains(&SegmentNo(1)));
    };
    let interrupted = Interrupted {
        disk: &disk,
        file: file_name(SegmentNo(1)),
        behind: Mutex::new(Some(Box::new(give_up))),
    };
    store.index_new(&interrupted).unwrap();
    assert!(interrupted.behind.lock().is_none(), "the segment was read");
    assert!(!store.contents.is_indexed(SegmentNo(1)), "nobody would ever forget it again");
    store.index_new(&disk).unwrap();
    assert_eq!(all_stored(&store, &disk), [run(60, 60)]);
}

#[test]
fn more_segments_than_files_are_kept_open_are_read_right() {
    const FILES: usize = 200;
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let store = begin(&disk, 1);
    let mut next = 0;
    while segments(&disk).len() < FILES {
        publish(&store, &disk, next..next + 4);
        next += 4;
        store.journal().leave_segment();
    }
    store.checkpoint_now(&disk, &Held(0..next)).unwrap();
    store.index_new(&disk).unwrap();
    // Again and again, so that files come and go.
    for _ in 0..2 {
        assert_readable(&store, &disk, 0..next);
        assert_readable(&store, &disk, next - 9..next);
    }
}

/// Two messages of these lengths, in a segment that has an index.
fn store_pair(disk: &MemoryDisk, salt: u64, lens: [usize; 2]) {
    let store = begin(disk, salt);
    let mut batch = RecordBatch::new();
    for (seq, len) in (0..).zip(lens) {
        batch.enqueue(&message(&vec![b'x'; len]), &[to(1, seq)]);
    }
    store.journal().append(&mut batch);
    // The second one gives what the first left an index.
    store.checkpoint_now(disk, &Held(0..2)).unwrap();
    store.checkpoint_now(disk, &Held(0..2)).unwrap();
    store.journal().close_clean(disk).unwrap();
}

#[test]
fn an_index_of_an_earlier_use_of_a_segment_is_not_believed() {
    let (old, new) = (MemoryDisk::new(), MemoryDisk::new());
    store_pair(&old, 1, [10, 90]);
    store_pair(&new, 2, [90, 10]);
    let (file, index) = (file_name(SegmentNo(1)), index_name(SegmentNo(1)));
    // All but its salt fits: the segment's number, and where its last frame ends.
    assert_eq!(old.len(&file).unwrap(), new.len(&file).unwrap());
    assert!(new.list().unwrap().contains(&index));
    new.overwrite(&index, old.contents(&index).unwrap());
    let (store, recovered) = open(&new, &options(3)).unwrap();
    let all = store.read_all(&new, QUEUE, &recovered.queues[&QUEUE]).unwrap();
    let lens: Vec<_> = all.iter().map(|it| it.message.body_len()).collect();
    assert_eq!(lens, [90, 10]);
}
