//! Segments for tests, with what a naive reader would say of them.

use super::{Index, Place, SegmentIndexer};
use crate::id::{Lsn, QueueId, SegmentNo, Seq};
use crate::store::batch::RecordBatch;
use crate::store::disk::Disk;
use crate::store::frame::{FRAME_HEADER_LEN, Frame, FrameHeader};
use crate::store::memory_disk::MemoryDisk;
use crate::store::record::{PREFIX_LEN, Target};
use crate::store::samples::{message, run};
use std::collections::BTreeMap;
use std::io::IoSlice;

/// Entries of a page: so few that every test crosses pages.
pub(in crate::store) const PAGE_LEN: usize = 4;

/// Bytes before each payload that are not the index's business.
const GAP: usize = FRAME_HEADER_LEN;

/// A segment, and where its messages lie.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Sample {
    pub(in crate::store) segment: SegmentNo,
    /// The segment's file.
    pub(in crate::store) bytes: Vec<u8>,
    /// Each payload's place and length in it.
    frames: Vec<(usize, usize)>,
    pub(in crate::store) expected: BTreeMap<QueueId, BTreeMap<Seq, Place>>,
}

/// What a test writes.
#[derive(Clone, Debug)]
pub(in crate::store) enum Part {
    /// A message with a body of this length.
    Message(Vec<Target>, usize),
    Ack(u64),
    Transaction(Vec<Self>),
}

impl Sample {
    pub(in crate::store) fn new(segment: u64, frames: &[Vec<Part>]) -> Self {
        let mut sample = Self { segment: SegmentNo(segment), ..Self::default() };
        for parts in frames {
            sample.bytes.resize(sample.bytes.len() + GAP, 0xee);
            let at = sample.bytes.len();
            for part in parts {
                let record = encode(part);
                sample.expect(part, sample.bytes.len());
                sample.bytes.extend_from_slice(&record);
            }
            sample.frames.push((at, sample.bytes.len() - at));
        }
        sample
    }

    fn expect(&mut self, part: &Part, offset: usize) {
        match part {
            Part::Message(targets, body_len) => {
                let record = encode(part);
                for target in targets {
                    let place = Place {
                        segment: self.segment,
                        seq: target.seq,
                        offset: offset as u64,
                        len: record.len() as u32,
                        crc: crc32c::crc32c(&record),
                        body_len: *body_len as u32,
                    };
                    let queue = self.expected.entry(target.queue).or_default();
                    queue.entry(target.seq).or_insert(place);
                }
            }
            Part::Ack(_) => {}
            Part::Transaction(parts) => {
                let mut at = offset + PREFIX_LEN;
                for part in parts {
                    self.expect(part, at);
                    at += encode(part).len();
                }
            }
        }
    }

    pub(in crate::store) fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|(at, len)| frame(*at as u64, &self.bytes[*at..at + len]))
    }

    pub(in crate::store) fn indexer(&self) -> SegmentIndexer {
        let mut indexer = SegmentIndexer::new(PAGE_LEN);
        self.frames().for_each(|frame| indexer.add(&frame).unwrap());
        indexer
    }

    pub(in crate::store) fn file(&self) -> String {
        file_of(self.segment)
    }

    /// Puts the segment's file there.
    pub(in crate::store) fn store(&self, disk: &MemoryDisk) {
        disk.overwrite(&self.file(), self.bytes.clone());
    }

    pub(in crate::store) fn salt(&self) -> u64 {
        self.segment.0 * 31
    }

    pub(super) fn put_sealed(&self, index: &mut Index, disk: &dyn Disk) {
        let file = index_file(self.segment);
        let indexer = self.indexer();
        let sealed = indexer.seal(disk, &file, self.segment, self.salt()).unwrap();
        index.put_sealed(self.segment, sealed);
    }

    /// The places of a queue, in seq order.
    pub(in crate::store) fn places(&self, queue: u64) -> Vec<Place> {
        let places = self.expected.get(&QueueId(queue)).into_iter();
        places.flat_map(|places| places.values().copied()).collect()
    }
}

/// A frame whose payload lies there.
pub(super) fn frame(payload_offset: u64, payload: &[u8]) -> Frame<'_> {
    let header = FrameHeader::new(Lsn(1), 1, Lsn(0), &[IoSlice::new(payload)]);
    Frame { header, offset: payload_offset - FRAME_HEADER_LEN as u64, payload }
}

pub(in crate::store) fn file_of(segment: SegmentNo) -> String {
    format!("segment-{segment}")
}

pub(super) fn index_file(segment: SegmentNo) -> String {
    format!("segment-{segment}.idx")
}

/// The body of a message, different for each first target.
pub(in crate::store) fn body(target: Target, len: usize) -> Vec<u8> {
    let seed = target.queue.0.wrapping_mul(31).wrapping_add(target.seq.0);
    (0..len as u64).map(|at| seed.wrapping_add(at) as u8).collect()
}

fn encode(part: &Part) -> Vec<u8> {
    let mut batch = RecordBatch::new();
    put(&mut batch, part);
    let mut pieces = Vec::new();
    batch.complete().slices(&mut pieces);
    pieces.concat()
}

fn put(batch: &mut RecordBatch, part: &Part) {
    match part {
        Part::Message(targets, len) => {
            let body = targets.first().map(|target| body(*target, *len));
            batch.enqueue(&message(&body.unwrap_or_default()), targets);
        }
        Part::Ack(queue) => batch.ack(QueueId(*queue), [run(1, 9)]),
        Part::Transaction(parts) => {
            batch.begin_transaction();
            parts.iter().for_each(|part| put(batch, part));
            batch.end_transaction();
        }
    }
}
