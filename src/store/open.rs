//! Opening a store: the newest checkpoint that fits the journal, the records behind it, and what
//! all of it adds up to.

use super::base::Base;
use super::checkpoint::Checkpointer;
use super::contents::Contents;
use super::disk::Disk;
use super::entries::{self, Meta};
use super::error::StoreError;
use super::recovered::{Recovered, RecoveredQueue};
use super::recovery::{self, Failed, Replayed, Segments};
use super::sum::Sum;
use super::writer::Writer;
use super::{Journal, Options, Store, rewrite, snapshot, supply};
use crate::id::{Lsn, SegmentNo};
use parking_lot::Mutex;
use std::sync::Arc;

/// Where a start began, and what else it found on the way.
struct Found {
    replayed: Replayed,
    generation: u64,
    sum: Sum,
    /// The catalogue does not fit the journal, or there is none.
    is_stale: bool,
    snapshot: Option<SegmentNo>,
}

/// Recovers what the disk holds and opens the journal behind it.
///
/// # Errors
/// If the disk fails, or the journal is damaged or of another version.
pub fn open(disk: &dyn Disk, options: &Options) -> Result<(Store, Recovered), StoreError> {
    let segments = Segments::read(disk)?;
    let Found { replayed, generation, sum, is_stale, snapshot } = find(disk, &segments, options)?;
    recovery::settle(disk, &segments, &replayed)?;
    let files = disk.list()?;
    supply::clear(disk, &files)?;
    rewrite::clear(disk, &files)?;
    let Replayed { replay, tail, torn, segments: living, indexers } = replayed;

    let contents = Contents::new(options.page_len);
    let orphans = segments.used.keys().filter(|number| !living.contains_key(number));
    let orphans: Vec<_> = orphans.copied().filter(|number| *number <= tail.segment).collect();
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
        contents.seal(disk, *number)?;
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
        let (next_seq, changed) = (standing.next_seq, replay.changed.contains(&id));
        queues.insert(id, RecoveredQueue { next_seq, changed, pages });
    }
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
        next_queue_id: replay.next_queue_id,
        last_lsn: replay.last_lsn,
        clean: replay.clean,
        torn,
    };
    let journal = Arc::new(journal);
    Ok((Store { journal, contents, checkpointer: Mutex::new(checkpointer) }, recovered))
}

/// Tries the catalogue, then the snapshot, then a journal of which nothing was ever given up.
fn find(disk: &dyn Disk, segments: &Segments, options: &Options) -> Result<Found, StoreError> {
    let attempt =
        |base: Base, newest| recovery::replay(disk, segments, base, newest, options.page_len);
    let saved = snapshot::read(disk);
    let snapshot = saved.as_ref().ok().and_then(|base| Some(base.as_ref()?.meta.replay_from));
    let mut first_error = None;
    match read_catalogue(disk) {
        Ok(Some(base)) => {
            let Meta { generation, sum, .. } = base.meta;
            match attempt(base, true) {
                Ok(replayed) => {
                    let is_stale = false;
                    return Ok(Found { replayed, generation, sum, is_stale, snapshot });
                }
                Err(Failed::Outdated(why)) => {
                    tracing::error!("the catalogue was rolled back, it is made anew: {why}");
                }
                Err(Failed::Store(error)) => first_error = Some(error),
            }
        }
        Ok(None) => {}
        Err(why) => tracing::error!("the catalogue is of no use, it is made anew: {why}"),
    }
    let saved = saved.unwrap_or_else(|error| {
        tracing::error!("the snapshot of the catalogue is of no use: {error}");
        None
    });
    for base in saved.into_iter().chain([Base::empty()]) {
        let generation = base.meta.generation;
        match attempt(base, false) {
            Ok(replayed) => {
                if disk.has_catalogue() {
                    disk.discard_catalogue()?;
                }
                let (sum, is_stale) = (Sum::default(), true);
                return Ok(Found { replayed, generation, sum, is_stale, snapshot });
            }
            Err(Failed::Store(error)) => first_error = first_error.or(Some(error)),
            Err(Failed::Outdated(_)) => {}
        }
    }
    Err(first_error.expect("the last attempt ended in an error"))
}

/// What the catalogue says; nothing if no checkpoint was ever finished. It is closed again: a
/// broker that stores nothing needs no memory for it.
fn read_catalogue(disk: &dyn Disk) -> Result<Option<Base>, String> {
    if !disk.has_catalogue() {
        return Ok(None);
    }
    let mut catalogue = disk.catalogue().map_err(|error| error.to_string())?;
    Base::read(|kind, each| catalogue.scan(kind, each))
}
