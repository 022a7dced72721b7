//! Where the contents of messages are found again: the index of each segment, made when it is
//! needed, and read by whoever wants messages back.

use super::disk::Disk;
use super::entries::Complete;
use super::entries::Standing;
use super::error::StoreError;
use super::gap::Gap;
use super::index::{BadIndex, Index, SealedIndex, SegmentIndexer, Tally};
use super::journal::Journal;
use super::reader;
use super::recovered::StoredPage;
use super::scan::{self, Scan};
use super::segment::{SEGMENT_HEADER_LEN, file_name, index_name};
use crate::id::{Lsn, QueueId, SegmentNo, Seq};
use crate::store::OnDisk;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub(super) struct Contents {
    page_len: usize,
    /// Held while a segment's file and its index may not fit each other: taken before `state`.
    rewriting: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    index: Index,
    /// Segments that take no more records.
    complete: BTreeMap<SegmentNo, Complete>,
    /// Where those of them cannot be read.
    gaps: BTreeMap<SegmentNo, Arc<[Gap]>>,
    /// The newest of those, be it forgotten by now.
    newest: SegmentNo,
    /// How far the segment that is written to is indexed.
    current: Option<Current>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    segment: SegmentNo,
    offset: u64,
    last_lsn: Lsn,
}

/// Messages of a queue that were read.
#[derive(Debug, Default)]
pub struct Loaded {
    pub messages: Vec<OnDisk>,
    /// Wanted, and not to be read.
    pub lost: Vec<Seq>,
    /// Why the first of them is not, as far as nobody has logged it.
    pub why: Option<StoreError>,
}

impl Contents {
    pub(super) fn new(page_len: usize) -> Self {
        let state = State {
            index: Index::new(),
            complete: BTreeMap::new(),
            gaps: BTreeMap::new(),
            newest: SegmentNo(0),
            current: None,
        };
        Self { page_len, rewriting: Mutex::default(), state: Mutex::new(state) }
    }

    /// A segment takes no more records, and this is its index if it was made on the way.
    pub(super) fn complete(
        &self,
        segment: SegmentNo,
        complete: Complete,
        indexer: Option<SegmentIndexer>,
    ) {
        let mut state = self.state.lock();
        state.complete(segment, complete);
        if let Some(indexer) = indexer {
            state.index.put_open(segment, indexer);
        }
    }

    /// Where a segment cannot be read; known before anything asks for its index.
    pub(super) fn set_gaps(&self, segment: SegmentNo, gaps: &[Gap]) {
        self.state.lock().gaps.insert(segment, gaps.into());
    }

    /// The same, for those that have any.
    pub(super) fn gaps(&self) -> BTreeMap<SegmentNo, Arc<[Gap]>> {
        self.state.lock().gaps.clone()
    }

    fn gaps_of(&self, segment: SegmentNo) -> Arc<[Gap]> {
        self.state.lock().gaps.get(&segment).cloned().unwrap_or_default()
    }

    /// As `complete`, with an index that lies in a file.
    pub(super) fn complete_sealed(
        &self,
        segment: SegmentNo,
        complete: Complete,
        sealed: SealedIndex,
    ) {
        let mut state = self.state.lock();
        state.complete(segment, complete);
        state.index.put_sealed(segment, sealed);
    }

    /// Nothing in the segment lives; its files are the caller's.
    pub(super) fn forget(&self, segment: SegmentNo) {
        let mut state = self.state.lock();
        state.complete.remove(&segment);
        state.gaps.remove(&segment);
        state.index.remove(segment);
    }

    pub(super) fn segments(&self) -> Vec<(SegmentNo, Complete)> {
        let state = self.state.lock();
        state.complete.iter().map(|(number, complete)| (*number, *complete)).collect()
    }

    /// What the segment has of each queue.
    pub(super) fn tally(
        &self,
        disk: &dyn Disk,
        segment: SegmentNo,
    ) -> Result<Vec<Tally>, StoreError> {
        self.seal(disk, segment)?;
        let state = self.state.lock();
        if !state.index.has(segment) {
            // Without one it would look empty.
            let why = "it has no index";
            return Err(StoreError::refused("weigh", disk.path(&file_name(segment)), why));
        }
        Ok(state.index.tally(segment).collect())
    }

    /// How many of the segment's messages of the queue lie in `live`, and the bytes of their
    /// bodies.
    pub(super) fn live(
        &self,
        disk: &dyn Disk,
        segment: SegmentNo,
        queue: QueueId,
        live: &[(Seq, Seq)],
    ) -> Result<(u64, u64), StoreError> {
        self.with_index(disk, |index| index.live(segment, queue, live, disk))
    }

    /// Puts a compacted segment, written safely to `new`, in place of the one that is there.
    pub(super) fn replace(
        &self,
        disk: &dyn Disk,
        segment: SegmentNo,
        new: &str,
        indexer: SegmentIndexer,
    ) -> Result<(), StoreError> {
        {
            // A reader that fails between the two waits until they fit each other again.
            let _held = self.rewriting.lock();
            disk.rename(new, &file_name(segment))?;
            self.state.lock().index.put_open(segment, indexer);
        }
        disk.sync_dir()?;
        self.seal(disk, segment)
    }

    pub(super) fn get(&self, segment: SegmentNo) -> Option<Complete> {
        self.state.lock().complete.get(&segment).copied()
    }

    pub(super) fn has(&self, segment: SegmentNo) -> bool {
        self.get(segment).is_some()
    }

    pub(super) fn page_len(&self) -> usize {
        self.page_len
    }

    /// Makes sure that the segment's index lies in a file: read if it is there, written if not.
    pub(super) fn seal(&self, disk: &dyn Disk, segment: SegmentNo) -> Result<(), StoreError> {
        let (complete, open) = {
            let state = self.state.lock();
            let Some(complete) = state.complete.get(&segment).copied() else { return Ok(()) };
            let open = state.index.open(segment);
            if open.is_none() && state.index.has(segment) {
                return Ok(());
            }
            (complete, open)
        };
        let Some(header) = scan::header(disk, &file_name(segment))? else {
            let why = "a segment that was written is empty";
            return Err(StoreError::damaged(disk.path(&file_name(segment)), 0, why));
        };
        let end = header.end_now(complete.end);
        let open = open.filter(|open| open.end() >= end);
        let file = index_name(segment);
        let sealed = SealedIndex::open(disk, &file, segment, header.salt);
        let sealed = match (sealed, open) {
            (Ok(sealed), _) if sealed.end() == end => sealed,
            (_, Some(open)) => open.seal(disk, &file, segment, header.salt)?,
            _ => {
                let indexer = self.build(disk, segment, end)?;
                match indexer.seal(disk, &file, segment, header.salt) {
                    Ok(sealed) => sealed,
                    Err(error) => {
                        // A disk that takes no more files must not cost what was just read.
                        self.state.lock().put_open(segment, indexer);
                        return Err(error);
                    }
                }
            }
        };
        let mut state = self.state.lock();
        if state.complete.contains_key(&segment) {
            state.index.put_sealed(segment, sealed);
        }
        Ok(())
    }

    /// The segment's index is there, be it in memory only.
    pub(super) fn is_indexed(&self, segment: SegmentNo) -> bool {
        self.state.lock().index.segments().any(|indexed| indexed == segment)
    }

    /// Indexes all that was written so far.
    pub(super) fn catch_up(&self, disk: &dyn Disk, journal: &Journal) -> Result<(), StoreError> {
        let extents = journal.extents();
        let behind: BTreeMap<_, _> = {
            let state = self.state.lock();
            let complete = state.complete.iter().map(|(number, complete)| (*number, complete.end));
            let written = extents.into_iter().filter(|(_, end)| *end > 0);
            let is_behind = |it: &(SegmentNo, u64)| state.index.is_behind(it.0, it.1);
            complete.chain(written).filter(is_behind).collect()
        };
        for (number, end) in behind {
            match self.advance(disk, number, end) {
                // The files of a segment that was given up meanwhile are not there to be read.
                Err(error) if !self.state.lock().is_forgotten(number) => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Indexes a segment from where it was left up to `end`.
    fn advance(&self, disk: &dyn Disk, segment: SegmentNo, end: u64) -> Result<(), StoreError> {
        let Some(header) = scan::header(disk, &file_name(segment))? else { return Ok(()) };
        let end = header.end_now(end);
        let (is_behind, is_new, current) = {
            let state = self.state.lock();
            let current = state.current.filter(|current| current.segment == segment);
            (state.index.is_behind(segment, end), !state.index.has(segment), current)
        };
        let mut current = match current {
            _ if !is_behind => return Ok(()),
            Some(current) => current,
            None if is_new => {
                self.state.lock().put_open(segment, SegmentIndexer::new(self.page_len));
                let offset = SEGMENT_HEADER_LEN as u64;
                Current { segment, offset, last_lsn: Lsn(header.first_lsn.0.saturating_sub(1)) }
            }
            None => {
                // Nobody knows where to go on. What is there answers until all of it is.
                let whole = self.build(disk, segment, end)?;
                self.state.lock().put_open(segment, whole);
                return Ok(());
            }
        };
        let mut scan = Scan::new(disk, file_name(segment), header, end)?;
        while let Ok(frame) = scan.frame(current.offset, current.last_lsn)? {
            let mut state = self.state.lock();
            state.index.extend(segment, &frame).map_err(|bad| {
                let what = format!("a frame that is whole: {bad}");
                StoreError::damaged(disk.path(&file_name(segment)), frame.offset, what)
            })?;
            current.offset = frame.end();
            current.last_lsn = Lsn(current.last_lsn.0 + u64::from(frame.header.records));
            // Whoever goes on begins with a record.
            if frame.header.left == 0 {
                state.current = Some(current);
            }
        }
        self.state.lock().current = Some(current);
        Ok(())
    }

    /// Reads a complete segment's frames into an index of its own.
    fn build(
        &self,
        disk: &dyn Disk,
        segment: SegmentNo,
        end: u64,
    ) -> Result<SegmentIndexer, StoreError> {
        let mut indexer = SegmentIndexer::new(self.page_len);
        let Some(header) = scan::header(disk, &file_name(segment))? else { return Ok(indexer) };
        let end = header.end_now(end);
        let gaps = self.gaps_of(segment);
        scan::whole(disk, header, end, &gaps, &mut |frame| indexer.add(frame))?;
        indexer.skip_to(end);
        Ok(indexer)
    }

    /// The runs of seqs from `first` to `last` that can be read from disk.
    pub(super) fn stored(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        first: Seq,
        last: Seq,
    ) -> Result<Vec<(Seq, Seq)>, StoreError> {
        self.with_index(disk, |index| index.stored(queue, first, last, disk))
    }

    /// The queue's messages that live, for a start.
    pub(super) fn restore(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        standing: &Standing,
    ) -> Result<Vec<StoredPage>, StoreError> {
        self.with_index(disk, |index| index.restore(queue, standing, self.page_len, disk))
    }

    /// The first segment that has messages of the queue.
    pub(super) fn first_segment(&self, queue: QueueId) -> Option<SegmentNo> {
        self.state.lock().index.first_segment(queue)
    }

    /// Reads wanted messages from the first on, as many as fit `messages_max` and `bytes_max`.
    pub(super) fn read(
        &self,
        disk: &dyn Disk,
        queue: QueueId,
        wanted: &[(Seq, Seq)],
        messages_max: usize,
        bytes_max: u64,
    ) -> Result<Loaded, StoreError> {
        let find = |index: &Index| index.find(queue, wanted, messages_max, bytes_max, disk);
        let found = self.with_index(disk, find)?;
        let mut read = reader::read(disk, &file_name, queue, &found.places);
        if !read.failures.is_empty() {
            // A segment that was compacted meanwhile is another file now; no other must become one
            // between this look and the reading.
            let held = self.rewriting.lock();
            let again = self.ask(disk, Some(&held), find)?;
            if again.places != found.places {
                read = reader::read(disk, &file_name, queue, &again.places);
            }
        }
        let why = read.failures.first().map(|(_, error)| error.clone());
        let mut loaded = Loaded { messages: read.messages, lost: Vec::new(), why };
        loaded.lost.extend(read.failures.into_iter().map(|(seq, _)| seq));
        // Who asks knows which seqs there are; one that no index has is as bad as one that rots.
        let mut known: Vec<_> = loaded.messages.iter().map(|stored| stored.seq).collect();
        known.extend(&loaded.lost);
        known.sort_unstable();
        let absent = wanted.iter().flat_map(|run| run.0.0..=run.1.0).map(Seq);
        let absent = absent.take_while(|seq| *seq <= found.through);
        let absent: Vec<_> = absent.filter(|seq| known.binary_search(seq).is_err()).collect();
        if let Some(seq) = absent.first() {
            loaded.why.get_or_insert_with(|| {
                let why = format!("no segment has message {seq}");
                StoreError::refused("read from", disk.path(""), why)
            });
        }
        loaded.lost.extend(absent);
        Ok(loaded)
    }

    fn with_index<T>(
        &self,
        disk: &dyn Disk,
        ask: impl Fn(&Index) -> Result<T, BadIndex>,
    ) -> Result<T, StoreError> {
        self.ask(disk, None, ask)
    }

    /// Asks the index; an index that cannot be read is made anew from its segment first. `held`
    /// says that no segment is replaced meanwhile.
    fn ask<T>(
        &self,
        disk: &dyn Disk,
        held: Option<&MutexGuard<'_, ()>>,
        ask: impl Fn(&Index) -> Result<T, BadIndex>,
    ) -> Result<T, StoreError> {
        let mut mended = None;
        loop {
            let bad = match ask(&self.state.lock().index) {
                Ok(answer) => return Ok(answer),
                Err(bad) => bad,
            };
            if mended == Some(bad.segment) {
                return Err(bad.error);
            }
            tracing::warn!("an index is made anew: {}", bad.error);
            mended = Some(bad.segment);
            let end = self.state.lock().complete.get(&bad.segment).map(|complete| complete.end);
            let Some(end) = end else { return Err(bad.error) };
            let _held = held.is_none().then(|| self.rewriting.lock());
            let indexer = self.build(disk, bad.segment, end)?;
            self.state.lock().put_open(bad.segment, indexer);
        }
    }
}

impl State {
    fn complete(&mut self, segment: SegmentNo, complete: Complete) {
        self.complete.insert(segment, complete);
        self.newest = self.newest.max(segment);
    }

    /// Nothing in it lives any more. Segments become complete in order.
    fn is_forgotten(&self, segment: SegmentNo) -> bool {
        segment <= self.newest && !self.complete.contains_key(&segment)
    }

    /// Whoever read the segment may come late: one that was forgotten meanwhile gets no index.
    fn put_open(&mut self, segment: SegmentNo, indexer: SegmentIndexer) {
        if !self.is_forgotten(segment) {
            self.index.put_open(segment, indexer);
        }
    }
}
