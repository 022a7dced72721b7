//! The index against a naive map, and against files that are not what was written.

use super::samples::{PAGE_LEN, Part, Sample, frame, index_file};
use super::{Index, Place, SealedIndex, SegmentIndexer, Tally};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::store::batch::RecordBatch;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::frame::FRAME_HEADER_LEN;
use crate::store::memory_disk::MemoryDisk;
use crate::store::record::BadRecord;
use crate::store::samples::{message, run, to};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const QUEUES: u64 = 4;
const SEQS: u64 = 60;

/// Targets in the order in which queues give seqs, some late, some skipped, some a second time.
#[derive(Clone, Debug)]
enum Step {
    Next,
    Skip(u64),
    Late(u64),
    Anywhere(u64),
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let step = prop_oneof![
        12 => Just(Step::Next),
        1 => (1..4_u64).prop_map(Step::Skip),
        2 => (0..7_u64).prop_map(Step::Late),
        1 => (0..SEQS).prop_map(Step::Anywhere),
    ];
    let targets = prop::collection::vec((0..QUEUES, step), 1..4);
    let single = prop_oneof![
        5 => (targets, 0..40_usize).prop_map(|(targets, len)| Some((targets, len))),
        1 => Just(None),
    ];
    let several = prop::collection::vec(single, 1..5);
    prop::collection::vec((any::<bool>(), several), 1..20).prop_map(|groups| {
        let mut next = [0_u64; QUEUES as usize];
        let mut seq = |queue: u64, step: &Step| {
            let next = &mut next[queue as usize];
            let seq = match step {
                Step::Next => *next,
                Step::Skip(more) => *next + more,
                Step::Late(less) => next.saturating_sub(*less),
                Step::Anywhere(seq) => *seq,
            };
            *next = (*next).max(seq + 1);
            to(queue, seq)
        };
        let mut parts = Vec::new();
        for (transaction, several) in groups {
            let several = several.into_iter().map(|single| match single {
                Some((targets, len)) => Part::Message(
                    targets.iter().map(|(queue, step)| seq(*queue, step)).collect(),
                    len,
                ),
                None => Part::Ack(1),
            });
            if transaction {
                parts.push(Part::Transaction(several.collect()));
            } else {
                parts.extend(several);
            }
        }
        parts
    })
}

fn segments() -> impl Strategy<Value = Vec<Sample>> {
    let frames =
        parts().prop_map(|parts| parts.chunks(3).map(<[Part]>::to_vec).collect::<Vec<_>>());
    prop::collection::vec(frames, 1..4).prop_map(|segments| {
        let numbered = (1..).zip(&segments);
        numbered.map(|(number, frames)| Sample::new(number, frames)).collect()
    })
}

fn seqs() -> impl Strategy<Value = BTreeSet<u64>> {
    let some = prop::collection::btree_set(0..SEQS + 5, 0..40);
    prop_oneof![some, (0..SEQS, 0..SEQS).prop_map(|(from, len)| (from..from + len).collect())]
}

fn runs(seqs: impl IntoIterator<Item = u64>) -> Vec<(Seq, Seq)> {
    let mut runs = Vec::new();
    for seq in seqs {
        super::runs::push(&mut runs, Seq(seq), Seq(seq));
    }
    runs
}

/// What all segments have of a queue; of the same seq, that of the last segment.
fn naive(samples: &[Sample], queue: u64) -> BTreeMap<u64, Place> {
    let places = samples.iter().flat_map(|sample| sample.places(queue));
    places.map(|place| (place.seq.0, place)).collect()
}

#[derive(Clone, Debug)]
struct Questions {
    wanted: BTreeSet<u64>,
    range: (u64, u64),
    messages_max: usize,
    bytes_max: u64,
}

fn questions() -> impl Strategy<Value = Questions> {
    let limits = (0..12_usize, prop_oneof![0..500_u64, Just(u64::MAX)]);
    (seqs(), (0..SEQS, 0..SEQS), limits).prop_map(|(wanted, range, (messages_max, bytes_max))| {
        Questions { wanted, range, messages_max, bytes_max }
    })
}

fn check(index: &Index, disk: &MemoryDisk, samples: &[Sample], questions: &Questions) {
    for queue in 0..=QUEUES {
        let places = naive(samples, queue);
        let (first, last) = questions.range;
        let stored = index.stored(QueueId(queue), Seq(first), Seq(last), disk).unwrap();
        let seqs = places.keys().copied().filter(|seq| (first..=last).contains(seq));
        assert_eq!(stored, runs(seqs));
        check_find(index, disk, queue, &places, questions);
    }
    for sample in samples {
        let mut tallies: Vec<_> = index.tally(sample.segment).collect();
        tallies.sort_by_key(|tally| tally.queue);
        let expected = sample.expected.iter().map(|(queue, places)| Tally {
            queue: *queue,
            first: *places.first_key_value().unwrap().0,
            last: *places.last_key_value().unwrap().0,
            count: places.len() as u64,
            bytes: places.values().map(|place| u64::from(place.body_len)).sum(),
        });
        assert_eq!(tallies, expected.collect::<Vec<_>>());
        for queue in 0..=QUEUES {
            let live = sample.places(queue);
            let live = live.iter().filter(|place| questions.wanted.contains(&place.seq.0));
            let bytes = live.clone().map(|place| u64::from(place.body_len)).sum();
            let wanted = runs(questions.wanted.iter().copied());
            let counted = index.live(sample.segment, QueueId(queue), &wanted, disk).unwrap();
            assert_eq!(counted, (live.count() as u64, bytes));
        }
    }
}

/// Asks until all is found, and checks each answer.
fn check_find(
    index: &Index,
    disk: &MemoryDisk,
    queue: u64,
    places: &BTreeMap<u64, Place>,
    questions: &Questions,
) {
    let mut left = questions.wanted.clone();
    let wanted_places = places.iter().filter(|(seq, _)| questions.wanted.contains(seq));
    let mut expected: Vec<_> = wanted_places.map(|(_, place)| *place).collect();
    while let Some(end) = left.last().copied() {
        let (messages, bytes) = (questions.messages_max, questions.bytes_max);
        let wanted = runs(left.iter().copied());
        let found = index.find(QueueId(queue), &wanted, messages, bytes, disk).unwrap();
        let behind = expected.split_off(found.places.len());
        assert_eq!(found.places, expected);
        expected = behind;
        let taken: u64 = found.places.iter().map(|place| u64::from(place.len)).sum();
        assert!(found.places.len() <= messages.max(1));
        assert!(taken <= bytes || found.places.len() == 1);
        if found.through < Seq(end) {
            let last = found.places.last().unwrap();
            assert_eq!(found.through, last.seq);
            let full = found.places.len() >= messages || taken >= bytes;
            let next_len = expected.first().map(|place| u64::from(place.len));
            assert!(full || next_len.is_some_and(|len| taken + len > bytes), "it stopped early");
        }
        left = left.split_off(&(found.through.0 + 1));
    }
    assert!(expected.is_empty());
}

proptest! {
    #[test]
    fn open_and_sealed_indexes_say_what_a_naive_map_says(
        samples in segments(),
        sealed in any::<[bool; 3]>(),
        questions in questions(),
    ) {
        let disk = MemoryDisk::new();
        let mut index = Index::new();
        for (sample, sealed) in samples.iter().zip(sealed) {
            if sealed {
                sample.put_sealed(&mut index, &disk);
            } else {
                index.put_open(sample.segment, SegmentIndexer::new(PAGE_LEN));
                for frame in sample.frames() {
                    prop_assert_eq!(index.extend(sample.segment, &frame), Ok(true));
                }
            }
        }
        check(&index, &disk, &samples, &questions);
        // Sealing while it is open, and taking segments away, changes no answer about the others.
        for sample in &samples {
            if let Some(open) = index.open(sample.segment) {
                let file = index_file(sample.segment);
                let sealed = open.seal(&disk, &file, sample.segment, 1).unwrap();
                index.put_sealed(sample.segment, sealed);
            }
        }
        check(&index, &disk, &samples, &questions);
        for left in 1..=samples.len() {
            index.remove(samples[left - 1].segment);
            check(&index, &disk, &samples[left..], &questions);
        }
        prop_assert_eq!((index.by_queue.len(), index.by_queue_memory), (0, 0));
    }

    #[test]
    fn pages_neither_overlap_nor_grow_beyond_their_length(samples in segments()) {
        for sample in &samples {
            let indexer = sample.indexer();
            for view in indexer.queues().filter_map(|queue| indexer.view(queue)) {
                prop_assert!(view.pages.iter().all(|page| page.count as usize <= PAGE_LEN));
                prop_assert!(view.pages.iter().all(|page| page.first <= page.last));
                prop_assert!(view.pages.is_sorted_by(|a, b| a.last < b.first));
            }
        }
    }
}

#[test]
fn entries_in_no_order_are_found_and_leave_little_behind() {
    const COUNT: u64 = 4999;
    let single = |at: u64| Part::Message(vec![to(1, at * 2741 % COUNT)], at as usize % 7);
    let sample = Sample::new(1, &[(0..COUNT).map(single).collect()]);
    let indexer = sample.indexer();
    let pages = indexer.view(QueueId(1)).unwrap().pages.len();
    assert!(indexer.memory_len() < pages * 160, "{} for {pages}", indexer.memory_len());
    let disk = MemoryDisk::new();
    let mut index = Index::new();
    index.put_open(sample.segment, indexer);
    let wanted = (0..COUNT).step_by(3).collect();
    let questions = Questions { wanted, range: (7, COUNT - 9), messages_max: 999, ..everything() };
    check(&index, &disk, std::slice::from_ref(&sample), &questions);
    sample.put_sealed(&mut index, &disk);
    check(&index, &disk, std::slice::from_ref(&sample), &questions);
}

/// Three queues, a transaction, late entries: some 20 pages.
fn sample() -> Sample {
    let single = |seq: u64| Part::Message(vec![to(1 + seq % 2, seq / 2)], seq as usize % 5);
    let both = |seq: u64| Part::Message(vec![to(1, seq), to(2, seq), to(3, 9 * seq)], 11);
    let transaction = Part::Transaction(vec![both(22), Part::Ack(1), both(21)]);
    let first = (0..40).map(single).collect();
    Sample::new(7, &[first, vec![transaction], (23..30).map(both).collect()])
}

fn everything() -> Questions {
    let wanted = (0..=9 * 30).collect();
    Questions { wanted, range: (0, u64::MAX), messages_max: usize::MAX, bytes_max: u64::MAX }
}

fn open(disk: &dyn Disk, sample: &Sample) -> Result<SealedIndex, StoreError> {
    SealedIndex::open(disk, &index_file(sample.segment), sample.segment, sample.salt())
}

/// Every answer of an index is right or an error.
fn never_wrong(disk: &MemoryDisk, sample: &Sample) -> bool {
    let Ok(sealed) = open(disk, sample) else { return false };
    let mut index = Index::new();
    index.put_sealed(sample.segment, sealed);
    let mut all = true;
    for queue in 0..=4 {
        let wanted = [run(0, u64::MAX)];
        let found = index.find(QueueId(queue), &wanted, usize::MAX, u64::MAX, disk);
        match found {
            Ok(found) => assert_eq!(found.places, sample.places(queue)),
            Err(bad) => {
                assert_eq!(bad.segment, sample.segment);
                assert!(bad.error.damaged_at().is_some());
                all = false;
            }
        }
        if let Ok(stored) = index.stored(QueueId(queue), Seq(0), Seq(u64::MAX), disk) {
            assert_eq!(stored, runs(sample.places(queue).iter().map(|place| place.seq.0)));
        }
        // Cuts every page in two, so that each is decoded.
        let odd: Vec<_> = (0..300).map(|half| run(2 * half + 1, 2 * half + 1)).collect();
        if let Ok((count, _)) = index.live(sample.segment, QueueId(queue), &odd, disk) {
            let odd = sample.places(queue).iter().filter(|place| place.seq.0 % 2 == 1).count();
            assert_eq!(count, odd as u64);
        }
    }
    all
}

#[test]
fn no_flipped_bit_and_no_cut_of_a_sealed_index_gives_a_wrong_place() {
    let (disk, sample) = (MemoryDisk::new(), sample());
    let mut index = Index::new();
    sample.put_sealed(&mut index, &disk);
    check(&index, &disk, std::slice::from_ref(&sample), &everything());
    assert!(never_wrong(&disk, &sample));
    let file = index_file(sample.segment);
    let bytes = disk.contents(&file).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.overwrite(&file, flipped);
        assert!(!never_wrong(&disk, &sample), "bit {bit}");
    }
    for len in 0..bytes.len() {
        disk.overwrite(&file, bytes[..len].to_vec());
        assert!(open(&disk, &sample).is_err(), "{len} bytes");
    }
    disk.overwrite(&file, [bytes.as_slice(), b"x"].concat());
    assert!(open(&disk, &sample).is_err());
}

#[test]
fn a_missing_or_foreign_index_is_refused_with_a_reason() {
    let (disk, sample) = (MemoryDisk::new(), sample());
    assert!(open(&disk, &sample).unwrap_err().to_string().starts_with("cannot open"));
    let sealed = sample.indexer().seal(&disk, "a", SegmentNo(6), 3).unwrap();
    let entries = sample.expected.values().map(BTreeMap::len).sum::<usize>();
    assert_eq!(sealed.entries(), entries as u64);
    assert_eq!((sealed.records(), sealed.end()), (49, sample.bytes.len() as u64));
    let refusal = SealedIndex::open(&disk, "a", SegmentNo(7), 3).unwrap_err().to_string();
    assert_eq!(refusal, "cannot read a: it is the index of segment 6, not of 7");
    assert!(SealedIndex::open(&disk, "a", SegmentNo(6), 4).is_err(), "a recycled segment");
    SealedIndex::open(&disk, "a", SegmentNo(6), 3).unwrap();
}

#[test]
fn a_sealed_index_survives_a_power_loss_and_a_failed_one_leaves_nothing() {
    let (disk, sample) = (MemoryDisk::new(), sample());
    let file = index_file(sample.segment);
    let seal = || sample.indexer().seal(&disk, &file, sample.segment, sample.salt());
    disk.limit_room(100);
    seal().unwrap_err();
    disk.limit_room(usize::MAX);
    disk.fail_sync_after(0);
    seal().unwrap_err();
    assert!(disk.list().unwrap().is_empty());
    seal().unwrap();
    for seed in 0..20 {
        assert!(never_wrong(&disk.crash(seed), &sample));
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let mut indexer = SegmentIndexer::new(PAGE_LEN);
    let content = frame(72, &[1, 4, 0, 0, 0, 1, 2, 1, 9]);
    assert_eq!(indexer.add(&content), Err(BadRecord::Content));
    let cut = frame(153, &[1, 9, 0, 0, 0]);
    assert_eq!(indexer.add(&cut), Err(BadRecord::Truncated));
}

#[test]
fn a_million_entries_cost_ten_bytes_each_and_dense_ones_need_no_page() {
    let (records, per_frame) = (1_000_000_u64, 10_000);
    let (mut indexer, mut batch) = (SegmentIndexer::new(1024), RecordBatch::new());
    let message = message(b"0123456789abcdef");
    let mut at = FRAME_HEADER_LEN as u64;
    for nth in 0..records / per_frame {
        (0..per_frame).for_each(|it| batch.enqueue(&message, &[to(5, nth * per_frame + it)]));
        let mut pieces = Vec::new();
        batch.complete().slices(&mut pieces);
        let payload = pieces.concat();
        let frame = frame(at, &payload);
        indexer.add(&frame).unwrap();
        at = frame.end() + FRAME_HEADER_LEN as u64;
        batch.clear();
    }
    let pages = indexer.view(QueueId(5)).unwrap().pages.len();
    assert_eq!(pages as u64, records.div_ceil(1024));
    assert!(indexer.memory_len() < 20_000_000, "{}", indexer.memory_len());
    let disk = MemoryDisk::new();
    let sealed = indexer.seal(&disk, "a", SegmentNo(1), 1).unwrap();
    assert!(disk.len("a").unwrap() < 10 * records);
    let mut index = Index::new();
    index.put_sealed(SegmentNo(1), sealed);
    assert!(index.memory_len() < pages * 40 + 1000, "{}", index.memory_len());
    // Without the file, whoever looks at a page fails.
    disk.remove("a").unwrap();
    let stored = index.stored(QueueId(5), Seq(3), Seq(u64::MAX), &disk).unwrap();
    assert_eq!(stored, [run(3, records - 1)]);
    let live = [run(0, records)];
    let counted = index.live(SegmentNo(1), QueueId(5), &live, &disk).unwrap();
    assert_eq!(counted, (records, records * 16));
    index.find(QueueId(5), &live, 1, 1, &disk).unwrap_err();
}

#[test]
fn many_small_queues_cost_little_and_gone_ones_nothing() {
    let disk = MemoryDisk::new();
    let parts = (0..5000).map(|queue| Part::Message(vec![to(queue, 1)], 3)).collect();
    let sample = Sample::new(1, &[parts]);
    let mut index = Index::new();
    let empty = index.memory_len();
    sample.put_sealed(&mut index, &disk);
    assert!(index.memory_len() < 5000 * (40 + 16 + 2 * 24), "{}", index.memory_len());
    index.remove(sample.segment);
    assert!(index.memory_len() < empty + 2 * super::MAP_LEN_MIN * 24 + 100);
    assert_eq!(index.by_queue_memory, 0);
}
