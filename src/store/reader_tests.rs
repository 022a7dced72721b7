//! Messages read back from segments, whole and damaged.

use super::disk::Disk;
use super::error::StoreError;
use super::index::samples::{Part, Sample, body, file_of};
use super::index::{Index, Place};
use super::layer::Layer;
use super::memory_disk::MemoryDisk;
use super::reader::{Read, read};
use super::samples::{run, to};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::limits::{FRAME_BYTES, INLINE_BODY_MAX, MESSAGE_READ_BYTES_MAX, MESSAGE_READ_GAP_MAX};
use crate::store::OnDisk;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Segment `number` with queue 1's seqs from `first` on, beside other queues' messages.
fn sample(number: u64, first: u64, count: u64, len: usize) -> Sample {
    let parts = (first..first + count).map(|seq| match seq % 3 {
        0 => Part::Message(vec![to(1, seq), to(2, seq)], len),
        1 => Part::Transaction(vec![Part::Ack(1), Part::Message(vec![to(1, seq)], len)]),
        _ => Part::Message(vec![to(1, seq)], len),
    });
    let frames: Vec<_> = parts.map(|part| vec![part, Part::Message(vec![to(3, 1)], 40)]).collect();
    Sample::new(number, &frames)
}

fn read_all(disk: &dyn Disk, places: &[Place]) -> Read {
    read(disk, &file_of, QueueId(1), places)
}

fn came_back(read: &Read) -> Vec<u64> {
    read.messages.iter().map(|it| it.seq.0).collect()
}

fn seqs<T>(read: &[(Seq, T)]) -> Vec<u64> {
    read.iter().map(|(seq, _)| seq.0).collect()
}

#[test]
fn messages_come_back_from_all_segments_in_seq_order() {
    let disk = MemoryDisk::new();
    let samples = [sample(1, 0, 40, 9), sample(2, 40, 7, INLINE_BODY_MAX + 1)];
    let mut index = Index::new();
    for sample in &samples {
        sample.store(&disk);
        index.put_open(sample.segment, sample.indexer());
    }
    let wanted = [run(3, 20), run(30, 44)];
    let found = index.find(QueueId(1), &wanted, usize::MAX, u64::MAX, &disk).unwrap();
    let read = read_all(&disk, &found.places);
    assert!(read.failures.is_empty());
    assert_eq!(came_back(&read), (3..=20).chain(30..=44).collect::<Vec<_>>());
    for OnDisk { seq, message, .. } in &read.messages {
        let len = if seq.0 < 40 { 9 } else { INLINE_BODY_MAX + 1 };
        assert_eq!(message.body_to_vec(), body(to(1, seq.0), len));
        assert_eq!(message.contiguous().is_some(), seq.0 < 40);
    }
    assert!(read_all(&disk, &[]).messages.is_empty());
}

#[test]
fn a_flipped_bit_costs_one_message_and_names_its_place() {
    let (disk, sample) = (MemoryDisk::new(), sample(4, 1, 12, 30));
    let places = sample.places(1);
    for (number, place) in places.iter().enumerate() {
        for at in [0, u64::from(place.len) / 2, u64::from(place.len) - 1] {
            let mut bytes = sample.bytes.clone();
            bytes[(place.offset + at) as usize] ^= 4;
            disk.overwrite(&sample.file(), bytes);
            let read = read_all(&disk, &places);
            assert_eq!(read.messages.len(), places.len() - 1);
            let [(seq, error)] = read.failures.as_slice() else { panic!("{:?}", read.failures) };
            assert_eq!((*seq, error.damaged_at()), (places[number].seq, Some(place.offset)));
            let expected = format!(
                "segment-4 is damaged at byte {}: message {seq}: the checksum of its \
                 record differs",
                place.offset
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn a_cut_or_missing_file_fails_what_lies_there_and_no_more() {
    let (disk, sample) = (MemoryDisk::new(), sample(1, 1, 10, 30));
    let places = sample.places(1);
    let mut bytes = sample.bytes.clone();
    bytes.truncate((places[6].offset + 5) as usize);
    disk.overwrite(&sample.file(), bytes);
    let read = read_all(&disk, &places);
    assert_eq!(came_back(&read), (1..=6).collect::<Vec<_>>());
    assert_eq!(seqs(&read.failures), (7..=10).collect::<Vec<_>>());
    let elsewhere = Place { segment: SegmentNo(9), ..places[0] };
    let read = read_all(&disk, &[elsewhere, places[1]]);
    assert_eq!((came_back(&read), seqs(&read.failures)), (vec![2], vec![1]));
    assert!(read.failures[0].1.to_string().contains("segment-9"));
}

#[test]
fn a_record_that_is_not_the_wanted_one_is_refused() {
    let (disk, sample) = (MemoryDisk::new(), sample(1, 1, 4, 30));
    sample.store(&disk);
    let place = sample.places(1)[2];
    let others = [
        Place { seq: Seq(9), ..place },
        Place { body_len: 31, ..place },
        Place { offset: u64::MAX - 3, ..place },
        Place { len: u32::MAX, ..place },
    ];
    for other in others {
        let read = read_all(&disk, &[other]);
        assert_eq!((read.messages.len(), seqs(&read.failures)), (0, vec![other.seq.0]));
    }
    assert_eq!(read_all(&disk, &[place]).messages.len(), 1);
    let unrelated = read(&disk, &file_of, QueueId(5), &[place]);
    assert!(unrelated.messages.is_empty());
}

#[test]
fn what_lies_near_is_read_in_one_go() {
    let len = MESSAGE_READ_GAP_MAX as usize - 1000;
    let near = sample(1, 0, 2 * MESSAGE_READ_BYTES_MAX as u64 / len as u64, len);
    let disk = CountingDisk::new(&[&near]);
    let all = near.places(1);
    let one_in_three: Vec<_> = all.iter().step_by(3).copied().collect();
    let reads = disk.reads_for(&all);
    assert!((2..=4).contains(&reads), "{reads} reads");
    assert_eq!(disk.reads_for(&one_in_three), one_in_three.len(), "gaps of 126 KiB");
    let tiny = sample(2, 0, 3000, 10);
    let huge = sample(3, 0, 8, FRAME_BYTES - 200);
    let disk = CountingDisk::new(&[&tiny, &huge]);
    let sparse: Vec<_> = tiny.places(1).into_iter().step_by(50).collect();
    assert_eq!(disk.reads_for(&sparse), 1);
    assert_eq!(disk.reads_for(&huge.places(1)), 3);
}

#[test]
fn a_sector_that_cannot_be_read_costs_only_what_lies_on_it() {
    let sample = sample(1, 0, 30, 100);
    let places = sample.places(1);
    let mut disk = CountingDisk::new(&[&sample]);
    disk.bad_byte = Some(places[11].offset + 50);
    let read = read_all(&disk, &places);
    assert_eq!((read.messages.len(), seqs(&read.failures)), (29, vec![11]));
    assert!(read.failures[0].1.to_string().starts_with("cannot read segment-1"));
}

/// Counts reads, and checks how long they are; may have a byte that cannot be read.
struct CountingDisk {
    disk: MemoryDisk,
    reads: Mutex<BTreeMap<u64, usize>>,
    bad_byte: Option<u64>,
}

impl CountingDisk {
    fn new(samples: &[&Sample]) -> Self {
        let disk = MemoryDisk::new();
        samples.iter().for_each(|sample| sample.store(&disk));
        Self { disk, reads: Mutex::default(), bad_byte: None }
    }

    fn reads_for(&self, places: &[Place]) -> usize {
        self.reads.lock().clear();
        let read = read_all(self, places);
        assert_eq!((read.messages.len(), read.failures.len()), (places.len(), 0));
        let reads = self.reads.lock();
        let longest = places.iter().map(|place| place.len as usize).max().unwrap();
        assert!(reads.values().all(|len| *len <= longest.max(MESSAGE_READ_BYTES_MAX)));
        reads.len()
    }
}

impl Layer for CountingDisk {
    fn below(&self) -> &dyn Disk {
        &self.disk
    }

    fn read_at(&self, file: &str, at: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        self.reads.lock().insert(at, out.len());
        if self.bad_byte.is_some_and(|bad| (at..at + out.len() as u64).contains(&bad)) {
            let eio = std::io::Error::other("Input/output error");
            return Err(StoreError::io("read", self.path(file), eio));
        }
        self.disk.read_at(file, at, out)
    }
}
