//! Where messages lie: the ENQUEUE record of each (queue, seq), segment by segment.
//!
//! ```text
//! a segment's records ──> SegmentIndexer (RAM) ──seal()──> SealedIndex (file; RAM: directory)
//!                                     └──────── Index ────────┘
//!                      (queue, seqs) ──find()──> places ──reader──> messages
//! ```
//! An index is derived: what is lost or rotten is built anew from its segment. It says what was
//! enqueued, not what is still there; acks and purges are the queue's business.

mod builder;
mod compare;
mod directory;
mod find;
mod page;
mod pages;
mod restore;
pub(super) mod runs;
mod sealed;
mod segments;
mod view;

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

pub use builder::SegmentIndexer;
pub use find::Found;
pub use sealed::SealedIndex;
pub use view::Tally;

use super::disk::Disk;
use super::error::StoreError;
use super::frame::Frame;
use super::record::BadRecord;
use crate::id::{QueueId, SegmentNo, Seq};
use find::Limits;
use hashbrown::HashMap;
use segments::Segments;
use std::collections::BTreeMap;
use std::sync::Arc;
use view::View;

/// A map smaller than this is not worth shrinking.
const MAP_LEN_MIN: usize = 1024;

/// Where the record of a message lies, and what it must sum up to. One that is longer than a frame
/// lies in frames of its own, a `Run`; it is told from others by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub segment: SegmentNo,
    pub seq: Seq,
    /// Of the record in the segment's file, or of its first frame.
    pub offset: u64,
    /// Of the record, prefix included, or of its frames.
    pub len: u32,
    /// crc32c of the record's bytes, or of the checksums of its frames' payloads.
    pub crc: u32,
    pub body_len: u32,
}

/// A segment's index cannot be read: it is to be built anew.
#[derive(Clone, Debug)]
pub struct BadIndex {
    pub segment: SegmentNo,
    pub error: StoreError,
}

/// The indexes of all segments that have one.
#[derive(Debug, Default)]
pub struct Index {
    segments: BTreeMap<SegmentNo, Segment>,
    by_queue: HashMap<QueueId, Segments>,
    /// What the values of `by_queue` take beside their slots.
    by_queue_memory: usize,
}

#[derive(Debug)]
enum Segment {
    /// Shared with the thread that seals it.
    Open(Arc<SegmentIndexer>),
    Sealed(SealedIndex),
}

impl Index {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an open index in place of what the segment had.
    pub fn put_open(&mut self, segment: SegmentNo, indexer: SegmentIndexer) {
        self.remove(segment);
        for queue in indexer.queues() {
            register(&mut self.by_queue, &mut self.by_queue_memory, queue, segment);
        }
        self.segments.insert(segment, Segment::Open(Arc::new(indexer)));
    }

    /// Puts a sealed index in place of what the segment had.
    pub fn put_sealed(&mut self, segment: SegmentNo, sealed: SealedIndex) {
        self.remove(segment);
        for queue in sealed.queues() {
            register(&mut self.by_queue, &mut self.by_queue_memory, queue, segment);
        }
        self.segments.insert(segment, Segment::Sealed(sealed));
    }

    /// Adds the next frame's records to an open index; false if the segment has none.
    ///
    /// # Errors
    /// If a record cannot be read; those before it are in the index.
    pub fn extend(&mut self, segment: SegmentNo, frame: &Frame<'_>) -> Result<bool, BadRecord> {
        let Some(Segment::Open(indexer)) = self.segments.get_mut(&segment) else {
            return Ok(false);
        };
        let (by_queue, memory) = (&mut self.by_queue, &mut self.by_queue_memory);
        // It is shared only while it is sealed, and then its segment takes no more records.
        let indexer = Arc::make_mut(indexer);
        indexer.add_noting(frame, &mut |queue| {
            register(by_queue, memory, queue, segment);
        })?;
        Ok(true)
    }

    /// Adds one message to the open index of its place's segment, or to a new one.
    pub fn put(&mut self, queue: QueueId, place: &Place, page_len: usize) {
        let segment = place.segment;
        let (by_queue, memory) = (&mut self.by_queue, &mut self.by_queue_memory);
        let new = || Segment::Open(Arc::new(SegmentIndexer::new(page_len)));
        let Segment::Open(indexer) = self.segments.entry(segment).or_insert_with(new) else {
            panic!("what is sealed takes no more messages");
        };
        Arc::make_mut(indexer).put(queue, place, &mut |queue| {
            register(by_queue, memory, queue, segment);
        });
    }

    /// The segment's open index, to be sealed while this one goes on answering.
    #[must_use]
    pub fn open(&self, segment: SegmentNo) -> Option<Arc<SegmentIndexer>> {
        match self.segments.get(&segment)? {
            Segment::Open(indexer) => Some(indexer.clone()),
            Segment::Sealed(_) => None,
        }
    }

    /// Forgets the segment's index; its file stays.
    pub fn remove(&mut self, segment: SegmentNo) {
        match self.segments.remove(&segment) {
            Some(Segment::Open(open)) => open.queues().for_each(|it| self.unregister(it, segment)),
            Some(Segment::Sealed(sealed)) => {
                sealed.queues().for_each(|it| self.unregister(it, segment));
            }
            None => {}
        }
        if self.by_queue.capacity() > MAP_LEN_MIN.max(4 * self.by_queue.len()) {
            self.by_queue.shrink_to(MAP_LEN_MIN);
        }
    }

    /// Whether the segment has an index.
    #[must_use]
    pub fn has(&self, segment: SegmentNo) -> bool {
        self.segments.contains_key(&segment)
    }

    /// Whether the segment has no index, or one that goes less far than `end`: a sealed one is
    /// whole.
    #[must_use]
    pub fn is_behind(&self, segment: SegmentNo, end: u64) -> bool {
        match self.segments.get(&segment) {
            Some(Segment::Open(indexer)) => indexer.end() < end,
            Some(Segment::Sealed(_)) => false,
            None => true,
        }
    }

    /// The segments that have an index.
    pub fn segments(&self) -> impl Iterator<Item = SegmentNo> {
        self.segments.keys().copied()
    }

    /// The runs of seqs from `first` to `last` that are in an index.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub fn stored(
        &self,
        queue: QueueId,
        first: Seq,
        last: Seq,
        disk: &dyn Disk,
    ) -> Result<Vec<(Seq, Seq)>, BadIndex> {
        let mut found = Vec::new();
        for (segment, view) in self.views(queue, disk) {
            let stored = view.stored(first, last, &mut found);
            stored.map_err(|error| BadIndex { segment, error })?;
        }
        runs::join(&mut found);
        Ok(found)
    }

    /// Where the messages of `wanted`, sorted runs, lie: at most `messages_max` of them, whose
    /// records have together at most `bytes_max` bytes; but one if there is one.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub fn find(
        &self,
        queue: QueueId,
        wanted: &[(Seq, Seq)],
        messages_max: usize,
        bytes_max: u64,
        disk: &dyn Disk,
    ) -> Result<Found, BadIndex> {
        let views: Vec<_> = self.views(queue, disk).collect();
        find::find(&views, wanted, Limits { messages: messages_max, bytes: bytes_max })
    }

    /// As `find`, in one segment only.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub fn find_in(
        &self,
        segment: SegmentNo,
        queue: QueueId,
        wanted: &[(Seq, Seq)],
        disk: &dyn Disk,
    ) -> Result<Found, BadIndex> {
        let view = self.view(segment, queue, disk).map(|view| (segment, view));
        let limits = Limits { messages: usize::MAX, bytes: u64::MAX };
        find::find(view.as_slice(), wanted, limits)
    }

    /// What the segment has of each of its queues.
    #[must_use]
    pub fn tally(&self, segment: SegmentNo) -> Box<dyn Iterator<Item = Tally> + '_> {
        match self.segments.get(&segment) {
            Some(Segment::Open(open)) => {
                let views = open.queues().filter_map(|queue| open.view(queue));
                Box::new(views.filter_map(|view| Tally::of(view.queue, &view.pages)))
            }
            Some(Segment::Sealed(sealed)) => Box::new(sealed.tally()),
            None => Box::new(std::iter::empty()),
        }
    }

    /// How many of the segment's entries of the queue lie in `live`, sorted runs, and the bytes of
    /// their bodies.
    ///
    /// # Errors
    /// If a page cannot be read.
    pub fn live(
        &self,
        segment: SegmentNo,
        queue: QueueId,
        live: &[(Seq, Seq)],
        disk: &dyn Disk,
    ) -> Result<(u64, u64), BadIndex> {
        let view = self.view(segment, queue, disk);
        let counted = view.map_or(Ok((0, 0)), |view| view.live(live));
        counted.map_err(|error| BadIndex { segment, error })
    }

    /// The first segment that has messages of the queue.
    #[must_use]
    pub fn first_segment(&self, queue: QueueId) -> Option<SegmentNo> {
        self.by_queue.get(&queue)?.as_slice().first().copied()
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        let segments = self.segments.values().map(|segment| match segment {
            Segment::Open(open) => open.memory_len(),
            Segment::Sealed(sealed) => sealed.memory_len(),
        });
        let slots = self.by_queue.capacity() * size_of::<(QueueId, Segments)>();
        segments.sum::<usize>() + slots + self.by_queue_memory
    }

    fn views<'a>(
        &'a self,
        queue: QueueId,
        disk: &'a dyn Disk,
    ) -> impl Iterator<Item = (SegmentNo, View<'a>)> {
        let segments = self.by_queue.get(&queue).map_or(&[][..], Segments::as_slice);
        segments
            .iter()
            .filter_map(move |segment| Some((*segment, self.view(*segment, queue, disk)?)))
    }

    fn view<'a>(
        &'a self,
        segment: SegmentNo,
        queue: QueueId,
        disk: &'a dyn Disk,
    ) -> Option<View<'a>> {
        match self.segments.get(&segment)? {
            Segment::Open(open) => open.view(queue),
            Segment::Sealed(sealed) => sealed.view(queue, disk),
        }
    }

    fn unregister(&mut self, queue: QueueId, segment: SegmentNo) {
        let Some(segments) = self.by_queue.get_mut(&queue) else {
            return;
        };
        self.by_queue_memory -= segments.memory_len();
        if segments.remove(segment) {
            self.by_queue_memory += segments.memory_len();
        } else {
            self.by_queue.remove(&queue);
        }
    }
}

fn register(
    by_queue: &mut HashMap<QueueId, Segments>,
    memory: &mut usize,
    queue: QueueId,
    segment: SegmentNo,
) {
    let segments = by_queue.entry(queue).or_insert(Segments::One(segment));
    *memory -= segments.memory_len();
    segments.insert(segment);
    *memory += segments.memory_len();
}
