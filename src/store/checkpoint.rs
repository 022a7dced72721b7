//! Checkpoints: brings the catalogue up to the segment that is written to, off the confirm path,
//! and gives up the segments in which nothing lives any more.
//!
//! ```text
//! a segment is left ── gate ── definitions and standings ── flush the journal
//!     ── catalogue: slices, the last with `Meta` ── flush ── CHECKPOINT record ── flush again
//!     ── snapshot ── dead segments are recycled
//! ```
//! Which segments are dead is known without looking into them: a message with a seq that a queue
//! had not given at some checkpoint lies in no segment before that checkpoint's.

use super::Options;
use super::catalogue::{Catalogue, CatalogueError};
use super::compaction::Compaction;
use super::contents::Contents;
use super::definition::Definition;
use super::disk::Disk;
use super::entries::{self, Meta, Standing};
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::gap::Gap;
use super::journal::Journal;
use super::segment::{file_name, index_name};
use super::snapshot::{self, SnapshotError};
use super::stored_keys::StoredKeys;
use super::sum::Sum;
use crate::id::{CacheId, QueueId, SegmentNo, Seq};
use crate::limits::CATALOGUE_SLICE_MAX;
use hashbrown::{HashMap, HashSet};
use std::fmt::Display;
use std::mem;

/// What a checkpoint asks of the broker.
pub trait Source {
    /// Returns when every record that was appended before is visible in its queues.
    fn pass_gate(&self);

    /// Hands over every definition there is, each behind those that it names.
    fn definitions(&self, each: &mut dyn FnMut(Definition));

    /// Hands over where the stored queues stand: those that changed since the last time, or `all`.
    fn standings(&self, all: bool, each: &mut dyn FnMut(QueueId, Standing));

    /// Hands over the keys of the stored caches: those that changed since the last time, or `all`.
    /// A source without caches has none.
    fn caches(&self, _all: bool, _each: &mut dyn FnMut(CacheId, StoredKeys)) {}

    /// Bytes of messages in stored queues, about.
    fn live_bytes(&self) -> u64;

    /// The id that the next queue gets.
    fn next_queue_id(&self) -> QueueId;

    /// Whether a queue is held for this gap, whose file may still be restored. A source that waits
    /// for no operator says no.
    fn is_held_for(&self, _gap: &Gap) -> bool {
        false
    }
}

pub(super) struct Checkpointer {
    /// Opened by the first checkpoint that needs it.
    catalogue: Option<Box<dyn Catalogue>>,
    /// The catalogue lacks what earlier checkpoints held.
    is_stale: bool,
    meta: Meta,
    /// The segment from which the snapshot's records are replayed.
    snapshot: Option<SegmentNo>,
    snapshot_bytes: u64,
    /// Bytes of segments left since.
    bytes_since_snapshot: u64,
    /// Of each queue that had messages at the last checkpoint.
    histories: HashMap<QueueId, History>,
    /// Files of segments that the catalogue does not know, to be given up with the next checkpoint.
    orphans: Vec<SegmentNo>,
    pub(super) compaction: Compaction,
}

/// The first seqs that a queue had not given when a segment was begun, in order.
#[derive(Debug, Default)]
struct History(Vec<(SegmentNo, Seq)>);

impl History {
    /// The first segment that can hold a message from `oldest` on. Forgets what is behind it.
    fn oldest(&mut self, oldest: Seq) -> Option<SegmentNo> {
        let later = self.0.partition_point(|(_, next)| *next <= oldest);
        self.0.drain(..later.saturating_sub(1));
        self.0.first().map(|(segment, _)| *segment)
    }
}

#[derive(Debug)]
enum Failed {
    Catalogue(CatalogueError),
    Store(StoreError),
}

impl From<CatalogueError> for Failed {
    fn from(error: CatalogueError) -> Self {
        Self::Catalogue(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Checkpointer {
    /// `meta` says what was recovered; a catalogue that `is_stale` does not.
    pub(super) fn new(
        is_stale: bool,
        meta: Meta,
        snapshot: Option<SegmentNo>,
        options: &Options,
    ) -> Self {
        Self {
            catalogue: None,
            is_stale,
            meta,
            snapshot,
            snapshot_bytes: 0,
            bytes_since_snapshot: u64::MAX / 2,
            histories: HashMap::new(),
            orphans: Vec::new(),
            compaction: Compaction::new(options),
        }
    }

    /// A queue that was recovered has messages from this segment on.
    pub(super) fn recovered(&mut self, queue: QueueId, first: SegmentNo) {
        self.histories.insert(queue, History(vec![(first, Seq(0))]));
    }

    pub(super) fn orphans(&mut self, segments: Vec<SegmentNo>) {
        self.orphans = segments;
    }

    /// Makes a checkpoint if a segment was left since the last one. False if none was.
    pub(super) fn run(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        source: &dyn Source,
    ) -> Result<bool, StoreError> {
        let left = journal.take_complete();
        let Some((last, complete)) = left.last().copied() else {
            return Ok(false);
        };
        self.compaction.forget();
        for (number, complete) in &left {
            contents.complete(*number, *complete, None);
            self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(complete.end);
        }
        let replay_from = SegmentNo(last.0 + 1);
        disk.reach(Failpoint::CheckpointBegun)?;
        source.pass_gate();
        disk.reach(Failpoint::GatePassed)?;
        let definitions = journal.take_definitions();
        let taken = self.take(disk, journal, source, replay_from, definitions)?;
        let meta = Meta {
            format: entries::FORMAT,
            generation: self.meta.generation + 1,
            replay_from,
            last_lsn: complete.last_lsn,
            clean: false,
            next_queue: source.next_queue_id(),
            sum: Sum::default(),
        };
        let freed = self.dead(contents, taken.oldest, replay_from);
        match self.write(disk, journal, contents, &taken, meta, &freed) {
            Ok(()) => {}
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::Catalogue(error)) => {
                self.abandon(disk, &error)?;
                return Ok(true);
            }
        }
        self.give_up(disk, journal, contents, &freed)?;
        self.keep_indexes(disk, contents)?;
        self.compaction.trim(disk, contents, &left)?;
        self.compaction.due();
        Ok(true)
    }

    /// Asks the broker for what changed, and waits until all of it is durable.
    fn take(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        source: &dyn Source,
        replay_from: SegmentNo,
        definitions: Vec<Definition>,
    ) -> Result<Taken, StoreError> {
        let all = self.is_stale;
        let mut definitions = definitions;
        if all {
            definitions.clear();
            source.definitions(&mut |definition| definitions.push(definition));
        }
        let before = self.meta.replay_from;
        let mut standings = Vec::new();
        source.standings(all, &mut |queue, standing| {
            let next = standing.next_seq;
            match standing.oldest() {
                Some(oldest) => {
                    let history = self.histories.entry(queue);
                    // A queue that had nothing at the last checkpoint has nothing from before it.
                    let history = history.or_insert_with(|| History(vec![(before, Seq(0))]));
                    // A timed seq does not say when it was given: compaction finds what is dead.
                    if !queue.is_timed() {
                        history.0.push((replay_from, next));
                        history.oldest(oldest);
                    }
                }
                None => {
                    self.histories.remove(&queue);
                }
            }
            standings.push((queue, standing));
        });
        let mut caches = Vec::new();
        source.caches(all, &mut |cache, keys| caches.push((cache, keys)));
        for definition in &definitions {
            if let Definition::QueueDeleted { id } = definition {
                self.histories.remove(id);
            }
        }
        if all {
            let there: HashSet<_> = standings.iter().map(|(queue, _)| *queue).collect();
            self.histories.retain(|queue, _| there.contains(queue));
        }
        let oldest = self.histories.values().filter_map(|history| history.0.first());
        let oldest = oldest.map(|(segment, _)| *segment).min().unwrap_or(replay_from);
        // What was taken is in the journal, but perhaps not on the disk.
        disk.reach(Failpoint::StandingsTaken)?;
        journal.flush(disk)?;
        disk.reach(Failpoint::JournalFlushed)?;
        Ok(Taken { definitions, standings, caches, oldest })
    }

    fn write(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        taken: &Taken,
        mut meta: Meta,
        freed: &[SegmentNo],
    ) -> Result<(), Failed> {
        if self.catalogue.is_none() {
            self.catalogue = Some(self.open_catalogue(disk)?);
            disk.reach(Failpoint::CatalogueOpened)?;
        }
        let catalogue = self.catalogue.as_deref_mut();
        let catalogue = catalogue.expect("it was opened above");
        let mut sum = if self.is_stale { Sum::default() } else { self.meta.sum };
        let mut slice = Vec::new();
        for definition in &taken.definitions {
            // What ends with something is looked up in the catalogue.
            if slice.len() >= CATALOGUE_SLICE_MAX || definition.is_end() && !slice.is_empty() {
                sum.write(catalogue, &mut slice)?;
                disk.reach(Failpoint::SliceWritten)?;
            }
            entries::definition(definition, catalogue, &mut slice)?;
        }
        for (queue, standing) in &taken.standings {
            entries::standing(*queue, standing, catalogue, &mut slice)?;
            if slice.len() >= CATALOGUE_SLICE_MAX {
                sum.write(catalogue, &mut slice)?;
            }
        }
        for (cache, keys) in &taken.caches {
            entries::keys(*cache, keys, catalogue, &mut slice)?;
            sum.write(catalogue, &mut slice)?;
        }
        for (number, complete) in contents.segments() {
            slice.push(entries::segment(number, Some(&complete)));
        }
        slice.extend(freed.iter().map(|number| entries::segment(*number, None)));
        for (number, gaps) in contents.gaps() {
            let lives = freed.binary_search(&number).is_err();
            slice.push(entries::segment_gaps(number, lives.then_some(&*gaps)));
        }
        sum.write(catalogue, &mut slice)?;
        disk.reach(Failpoint::SliceWritten)?;
        meta.sum = sum;
        slice.push(entries::meta(&meta));
        catalogue.write(&mut slice)?;
        disk.reach(Failpoint::MetaWritten)?;
        catalogue.flush()?;
        disk.reach(Failpoint::CatalogueFlushed)?;
        self.is_stale = false;
        self.meta = meta;
        journal.append_checkpoint(meta.generation, freed);
        disk.reach(Failpoint::CheckpointAppended)?;
        journal.flush(disk)?;
        disk.reach(Failpoint::CheckpointSafe)?;
        // Written behind what it says, so it may be lost but never wrong.
        catalogue.write(&mut vec![entries::safe(journal.durable_lsn())])?;
        if self.bytes_since_snapshot / 16 >= self.snapshot_bytes {
            match snapshot::write(disk, &meta, catalogue) {
                Ok(len) => {
                    self.snapshot_bytes = len;
                    self.snapshot = Some(meta.replay_from);
                    self.bytes_since_snapshot = 0;
                }
                Err(SnapshotError::Catalogue(error)) => return Err(error.into()),
                // On a full disk the dead segments make room for the next one.
                Err(SnapshotError::Disk(error)) => {
                    tracing::warn!("there is no new snapshot of the catalogue: {error}");
                }
            }
        }
        Ok(())
    }

    /// Segments in which nothing lives and from which nothing is replayed any more.
    fn dead(
        &mut self,
        contents: &Contents,
        oldest: SegmentNo,
        replay_from: SegmentNo,
    ) -> Vec<SegmentNo> {
        let bound = oldest.min(self.unreplayed_below(replay_from));
        let segments = contents.segments().into_iter().map(|(number, _)| number);
        let dead = segments.filter(|number| *number < bound);
        let mut dead: Vec<_> = dead.chain(mem::take(&mut self.orphans)).collect();
        dead.extend(self.compaction.take_emptied());
        dead.sort_unstable();
        dead.dedup();
        dead
    }

    /// Neither a checkpoint from here on nor the snapshot replays a segment before this one.
    fn unreplayed_below(&self, replay_from: SegmentNo) -> SegmentNo {
        replay_from.min(self.snapshot.unwrap_or(SegmentNo(0)))
    }

    /// The next checkpoint writes a snapshot too, so that the old one keeps no segment.
    pub(super) fn want_snapshot(&mut self) {
        self.bytes_since_snapshot = u64::MAX / 2;
    }

    /// What is needed to compact segments: the catalogue of the last checkpoint, its meta, and the
    /// segment before which all are fit.
    pub(super) fn finished(&mut self) -> Option<(&mut dyn Catalogue, Meta, SegmentNo)> {
        let below = self.unreplayed_below(self.meta.replay_from);
        let catalogue = self.catalogue.as_deref_mut().filter(|_| !self.is_stale)?;
        Some((catalogue, self.meta, below))
    }

    /// The checkpoint that says so is safe: the files may go.
    fn give_up(
        &mut self,
        disk: &dyn Disk,
        journal: &Journal,
        contents: &Contents,
        freed: &[SegmentNo],
    ) -> Result<(), StoreError> {
        if freed.is_empty() {
            return Ok(());
        }
        let files = disk.list()?;
        for number in freed {
            disk.reach(Failpoint::FreeBegun)?;
            contents.forget(*number);
            let index = index_name(*number);
            if files.contains(&index) {
                disk.remove(&index)?;
                disk.reach(Failpoint::FreeIndexRemoved)?;
            }
            let file = file_name(*number);
            if files.contains(&file) {
                journal.recycle(disk, &file)?;
            }
        }
        disk.reach(Failpoint::FreeOver)
    }

    /// What has survived a checkpoint may stay long: a start must not read it to index it.
    fn keep_indexes(&self, disk: &dyn Disk, contents: &Contents) -> Result<(), StoreError> {
        let old = contents.segments().into_iter().map(|(number, _)| number);
        let newest = SegmentNo(self.meta.replay_from.0.saturating_sub(1));
        for number in old.filter(|number| *number < newest) {
            contents.seal(disk, number)?;
        }
        Ok(())
    }

    /// Opens the catalogue. If everything is to be written, it must hold nothing: one that could
    /// not be put aside before would keep entries that no sum knows.
    fn open_catalogue(&self, disk: &dyn Disk) -> Result<Box<dyn Catalogue>, Failed> {
        let mut catalogue = disk.catalogue()?;
        let mut is_new = true;
        if self.is_stale {
            catalogue.scan(b"", &mut |_, _| {
                is_new = false;
                false
            })?;
        }
        if !is_new {
            drop(catalogue);
            disk.discard_catalogue()?;
            catalogue = disk.catalogue()?;
        }
        Ok(catalogue)
    }

    /// The catalogue is of no use any more: the next checkpoint makes a new one, with everything.
    pub(super) fn abandon(
        &mut self,
        disk: &dyn Disk,
        error: &dyn Display,
    ) -> Result<(), StoreError> {
        tracing::error!("the catalogue is made anew from what is known, nothing is lost: {error}");
        self.catalogue = None;
        self.is_stale = true;
        disk.reach(Failpoint::CatalogueDiscards)?;
        disk.discard_catalogue()?;
        disk.reach(Failpoint::CatalogueDiscarded)
    }
}

struct Taken {
    definitions: Vec<Definition>,
    standings: Vec<(QueueId, Standing)>,
    caches: Vec<(CacheId, StoredKeys)>,
    /// Nothing that lives lies before it.
    oldest: SegmentNo,
}
