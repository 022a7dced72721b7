//! Opening a store: makes the files what `start` says that they add up to, and a `Store` of it.

use super::checkpoint::Checkpointer;
use super::contents::Contents;
use super::disk::Disk;
use super::entries::Standing;
use super::entries::{self, Meta};
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::given_up::Loss;
use super::recovered::{Recovered, RecoveredKeys, RecoveredQueue};
use super::recovery::{self, Replayed, Segments};
use super::restorable::Restorable;
use super::segment;
use super::spill::{self, Spill};
use super::start::{self, Copies, Start};
use super::writer::Writer;
use super::{Journal, Options, Store, held, rewrite, supply};
use crate::command;
use crate::id::{Lsn, SegmentNo};
use parking_lot::Mutex;
use std::sync::Arc;

/// Recovers what the disk holds and opens the journal behind it.
///
/// # Errors
/// If the disk fails, or the journal is damaged or of another version.
pub fn open(disk: &dyn Disk, options: &Options) -> Result<(Store, Recovered), StoreError> {
    let copies = |disk: &dyn Disk| {
        let catalogue = disk.has_catalogue().then(|| disk.catalogue()).transpose();
        Copies::read(start::read(catalogue), disk)
    };
    open_with(disk, options, copies, Loss::Refused)
}

/// As `open`, from these copies of the catalogue.
pub(super) fn open_with(
    disk: &dyn Disk,
    options: &Options,
    copies: impl FnOnce(&dyn Disk) -> Copies,
    loss: Loss,
) -> Result<(Store, Recovered), StoreError> {
    let segments = Segments::read(disk)?;
    let copies = copies(disk);
    let is_blank = copies.is_blank;
    let (found, doubts) = start::find(disk, &segments, copies, options.page_len, loss);
    for doubt in doubts {
        tracing::error!("{doubt}; it is made anew");
    }
    let Start { replayed, generation, sum, is_stale, snapshot } = found?;
    if is_stale && !is_blank && disk.has_catalogue() {
        disk.reach(Failpoint::CatalogueDiscards)?;
        disk.discard_catalogue()?;
        disk.reach(Failpoint::CatalogueDiscarded)?;
    }
    recovery::settle(disk, &segments, &replayed)?;
    let files = disk.list()?;
    supply::clear(disk, &files)?;
    rewrite::clear(disk, &files)?;
    clear_indexes(disk, &files, &segments, replayed.tail.segment)?;
    spill::clear(disk, &files);
    disk.reach(Failpoint::SparesCleared)?;
    let restorable = Restorable::after(&replayed, options.segment_bytes);
    let Replayed { replay, tail, torn, segments: living, gaps, indexers, .. } = replayed;
    held::log(disk, &replay, &restorable);
    let unread = |number: &SegmentNo| indexers.first().is_none_or(|(first, _)| number < first);
    for (number, complete) in living.iter().filter(|(number, _)| unread(number)) {
        if let Some(header) = segments.used.get(number) {
            held::log_if_short(disk, *number, header.end_now(complete.end))?;
        }
    }

    let contents = Contents::new(options.page_len);
    let orphans = segments.used.keys().filter(|number| !living.contains_key(number));
    let orphans: Vec<_> = orphans.copied().filter(|number| *number <= tail.segment).collect();
    gaps.iter().for_each(|(number, gaps)| contents.set_gaps(*number, gaps));
    for (number, complete) in &living {
        contents.complete(*number, *complete, None);
    }
    let first_replayed = indexers.first().map_or(SegmentNo(u64::MAX), |(number, _)| *number);
    for (number, indexer) in indexers {
        if let Some(complete) = living.get(&number) {
            contents.complete(number, *complete, Some(indexer));
        }
    }
    for number in living.keys().filter(|number| **number < first_replayed) {
        if let Err(error) = contents.seal(disk, *number) {
            if !contents.is_indexed(*number) {
                return Err(with_way_out(disk, error));
            }
            tracing::warn!("the index of a segment stays in memory: {error}");
        }
    }

    let meta = Meta {
        format: entries::FORMAT,
        generation: generation.max(replay.generation),
        replay_from: first_replayed.min(SegmentNo(tail.segment.0 + 1)),
        last_lsn: replay.last_lsn,
        clean: false,
        next_queue: replay.next_queue_id,
        sum,
    };
    let mut checkpointer = Checkpointer::new(is_stale, meta, snapshot, options);
    checkpointer.orphans(orphans);
    let mut queues = hashbrown::HashMap::with_capacity(replay.queues.len());
    for (id, standing) in replay.queues {
        let pages = contents.restore(disk, id, &standing)?;
        if let Some(first) = contents.first_segment(id).filter(|_| !pages.is_empty()) {
            checkpointer.recovered(id, first);
        }
        let Standing { next_seq, due, returns, .. } = standing;
        let changed = replay.changed.contains(&id);
        queues.insert(id, RecoveredQueue { next_seq, due, changed, pages, returns });
    }
    let changed = &replay.changed_caches;
    let caches = replay.caches.into_iter();
    let caches =
        caches.map(|(id, keys)| (id, RecoveredKeys { keys, changed: changed.contains(&id) }));
    let caches = caches.collect();
    let writer = Writer::after(tail, options);
    let journal = Journal::new(writer, options.durability, replay.defined);
    // What this broker delivers leaves no record. Without a mark, a crash would look like the clean
    // stop before it, and delivered messages would not count as redelivered.
    if replay.last_lsn > Lsn(0) {
        journal.begin(disk)?;
    }
    let recovered = Recovered {
        definitions: replay.definitions,
        queues,
        caches,
        next_queue_id: replay.next_queue_id,
        last_lsn: replay.last_lsn,
        clean: replay.clean,
        torn,
    };
    let spill = Spill::new(options.into());
    let (journal, checkpointer) = (Arc::new(journal), Mutex::new(checkpointer));
    Ok((Store { journal, contents, spill, checkpointer, restorable }, recovered))
}

/// Of a segment that has no index and cannot be read for one.
fn with_way_out(disk: &dyn Disk, error: StoreError) -> StoreError {
    let Some(offset) = error.damaged_at() else { return error };
    let accept = command::accept_loss(&disk.path(""));
    let what = format!(
        "{}; restore the file from a copy, or give up what is lost with `{accept}`",
        error.reason()
    );
    StoreError::damaged(error.path().to_owned(), offset, what)
}

/// Removes the indexes of segments that are not there: a power loss may have kept them.
fn clear_indexes(
    disk: &dyn Disk,
    files: &[String],
    segments: &Segments,
    last: SegmentNo,
) -> Result<(), StoreError> {
    let is_there = |number: SegmentNo| number <= last && segments.used.contains_key(&number);
    let of_none = |file: &&String| segment::indexed(file).is_some_and(|number| !is_there(number));
    files.iter().filter(of_none).try_for_each(|file| disk.remove(file))
}
