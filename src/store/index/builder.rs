//! The index of a segment in RAM, built record by record. What a sealed one is, `sealed` says.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::Place;
use super::page::Entry;
use super::pages::{QueuePages, Shelf, lookup};
use super::view::{PageBytes, View};
use crate::id::{QueueId, Seq};
use crate::store::assembly::{Assembly, Step};
use crate::store::frame::Frame;
use crate::store::long::Run;
use crate::store::record::{BadRecord, RawRecord, Target};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use std::borrow::Cow;

/// Dead bytes for each entry of a page, or each queue, that are worth sweeping away.
const DEAD_PER_ENTRY: usize = 32;

/// An open index: pages as bytes, one open page for each queue.
#[derive(Clone, Debug)]
pub struct SegmentIndexer {
    page_len: usize,
    queues: HashMap<QueueId, QueuePages>,
    /// Closed pages of all queues, in the order in which they were closed.
    shelf: Vec<u8>,
    /// Bytes of it that belong to no page any more.
    shelf_dead: usize,
    /// What the queues' pages take beside their slots in the map.
    queues_memory: usize,
    /// The targets of one record, reused.
    targets: Vec<Target>,
    assembly: Assembly,
    records: u64,
    end: u64,
}

impl SegmentIndexer {
    /// An empty index whose pages have at most `page_len` entries.
    ///
    /// # Panics
    /// If `page_len` is zero.
    #[must_use]
    pub fn new(page_len: usize) -> Self {
        assert!(page_len > 0, "an index page has room for an entry");
        Self {
            page_len,
            queues: HashMap::new(),
            shelf: Vec::new(),
            shelf_dead: 0,
            queues_memory: 0,
            targets: Vec::new(),
            assembly: Assembly::default(),
            records: 0,
            end: 0,
        }
    }

    /// Takes in the records of the next frame.
    ///
    /// # Errors
    /// If a record cannot be read; those before it are in the index.
    pub fn add(&mut self, frame: &Frame<'_>) -> Result<(), BadRecord> {
        self.add_noting(frame, &mut |_| {})
    }

    /// As `add`, telling `first` of each queue that had no entry before.
    pub(super) fn add_noting(
        &mut self,
        frame: &Frame<'_>,
        first: &mut dyn FnMut(QueueId),
    ) -> Result<(), BadRecord> {
        let mut assembly = std::mem::take(&mut self.assembly);
        let payload_offset = frame.payload_offset();
        let read = assembly.frame(frame, |step| match step {
            Step::Record(raw, run) => self.record(payload_offset, &raw, run, first),
            Step::Done => Ok(()),
        });
        self.assembly = assembly;
        read?;
        self.end = self.end.max(frame.end());
        Ok(())
    }

    #[inline]
    fn record(
        &mut self,
        payload_offset: u64,
        raw: &RawRecord<'_>,
        run: Option<Run>,
        first: &mut dyn FnMut(QueueId),
    ) -> Result<(), BadRecord> {
        let mut targets = std::mem::take(&mut self.targets);
        let enqueue = raw.enqueue(&mut targets);
        if let Ok(Some(body_len)) = enqueue {
            let (offset, len, crc) = match run {
                Some(run) => (run.offset, run.len, run.crc),
                None => (
                    payload_offset + raw.at as u64,
                    u32::try_from(raw.bytes.len()).map_err(|_| BadRecord::TooLong)?,
                    crc32c::crc32c(raw.bytes),
                ),
            };
            let mut entry = Entry { seq: Seq(0), offset, len, crc, body_len };
            self.records += 1;
            for target in &targets {
                entry.seq = target.seq;
                self.entry(target.queue, &entry, first);
            }
        }
        self.targets = targets;
        enqueue.map(drop)
    }

    /// Takes in one message by its place, for a file whose writer knows where each lies. Tells
    /// `first` of a queue that had no entry before.
    pub(super) fn put(&mut self, queue: QueueId, place: &Place, first: &mut dyn FnMut(QueueId)) {
        let Place { seq, offset, len, crc, body_len, .. } = *place;
        self.entry(queue, &Entry { seq, offset, len, crc, body_len }, first);
        self.records += 1;
        self.end = self.end.max(offset + u64::from(len));
    }

    #[inline]
    fn entry(&mut self, queue: QueueId, entry: &Entry, first: &mut dyn FnMut(QueueId)) {
        let pages = match self.queues.entry(queue) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                first(queue);
                slot.insert(QueuePages::new())
            }
        };
        let before = pages.memory_len();
        pages.open.push(entry);
        if pages.open.count() >= self.page_len {
            let mut shelf = Shelf { base: &[], more: &mut self.shelf, dead: self.shelf_dead };
            pages.close(queue, &mut shelf, self.page_len);
            self.shelf_dead = shelf.dead;
        }
        self.queues_memory += pages.memory_len();
        self.queues_memory -= before;
        if self.shelf_dead > self.shelf.len() / 2 {
            self.sweep();
        }
    }

    /// Takes pages that late entries made obsolete off the shelf. That costs a look at each queue,
    /// so it must be worth it.
    #[cold]
    fn sweep(&mut self) {
        if self.shelf_dead < DEAD_PER_ENTRY * self.page_len.max(self.queues.len()) {
            return;
        }
        let mut swept = Vec::with_capacity(self.shelf.len() - self.shelf_dead);
        for page in self.queues.values_mut().flat_map(|pages| &mut pages.closed) {
            let offset = swept.len() as u64;
            swept.extend_from_slice(lookup(&self.shelf, &[], page).unwrap_or_default());
            page.offset = offset;
        }
        self.shelf = swept;
        self.shelf_dead = 0;
    }

    /// What lies before `end` and was not taken in cannot be read.
    pub(in crate::store) fn skip_to(&mut self, end: u64) {
        self.assembly = Assembly::default();
        self.end = self.end.max(end);
    }

    /// Where the indexed part of the segment's file ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// ENQUEUE records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        let slots = self.queues.capacity() * size_of::<(QueueId, QueuePages)>();
        let targets = self.targets.capacity() * size_of::<Target>();
        self.shelf.capacity() + self.queues_memory + slots + targets
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.queues.keys().copied()
    }

    /// A queue's pages as they are now.
    pub(super) fn view(&self, queue: QueueId) -> Option<View<'_>> {
        let pages = self.queues.get(&queue)?;
        let mut more = Vec::new();
        let mut shelf = Shelf { base: &self.shelf, more: &mut more, dead: 0 };
        let pages = pages.all(queue, &mut shelf, self.page_len);
        let bytes = PageBytes::Memory { base: &self.shelf, more };
        Some(View { queue, pages: Cow::Owned(pages), bytes })
    }
}
