//! Where a start begins: at the newest checkpoint that fits the journal, be it the catalogue's or
//! the snapshot's, or at the journal's first record. Changes nothing.

use super::base::Base;
use super::catalogue::{Catalogue, CatalogueError};
use super::disk::Disk;
use super::error::StoreError;
use super::given_up::Loss;
use super::recovery::{self, Failed, Replayed, Segments};
use super::snapshot;
use super::sum::Sum;
use crate::id::SegmentNo;
use std::fmt;

/// Where a start began, and what else it found on the way.
pub(super) struct Start {
    pub(super) replayed: Replayed,
    pub(super) generation: u64,
    pub(super) sum: Sum,
    /// The catalogue does not fit the journal, or there is none.
    pub(super) is_stale: bool,
    pub(super) snapshot: Option<SegmentNo>,
}

/// What the copies of the last checkpoint say, each as far as it can be read.
pub(super) struct Copies {
    pub(super) catalogue: Result<Option<Base>, String>,
    pub(super) snapshot: Result<Option<Base>, StoreError>,
    /// No checkpoint was ever finished in the catalogue: what is in it may stay.
    pub(super) is_blank: bool,
}

impl Copies {
    pub(super) fn read(catalogue: Result<Option<Base>, String>, disk: &dyn Disk) -> Self {
        let is_blank = matches!(catalogue, Ok(None));
        Self { catalogue, snapshot: snapshot::read(disk), is_blank }
    }
}

/// What the catalogue says; nothing if no checkpoint was ever finished. It is closed again: a
/// broker that stores nothing needs no memory for it.
pub(super) fn read(
    opened: Result<Option<Box<dyn Catalogue>>, CatalogueError>,
) -> Result<Option<Base>, String> {
    let Some(mut catalogue) = opened.map_err(|error| error.to_string())? else { return Ok(None) };
    Base::read(|kind, each| catalogue.scan(kind, each))
}

/// Why a copy is of no use.
#[derive(Debug)]
pub(super) enum Doubt {
    Unreadable(String),
    RolledBack(String),
    Snapshot(StoreError),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the catalogue is of no use: {why}"),
            Self::RolledBack(why) => write!(f, "the catalogue was rolled back: {why}"),
            Self::Snapshot(error) => {
                write!(f, "the snapshot of the catalogue is of no use: {error}")
            }
        }
    }
}

/// Tries the catalogue, then the snapshot, then a journal of which nothing was ever given up. Says
/// which copies are of no use; the snapshot's state is judged even if nothing depends on it.
pub(super) fn find(
    disk: &dyn Disk,
    segments: &Segments,
    copies: Copies,
    page_len: usize,
    loss: Loss,
) -> (Result<Start, StoreError>, Vec<Doubt>) {
    let mut doubts = Vec::new();
    let mut snapshot_error = None;
    let saved = copies.snapshot.unwrap_or_else(|error| {
        snapshot_error = Some(error.clone());
        doubts.push(Doubt::Snapshot(error));
        None
    });
    let snapshot = saved.as_ref().map(|base| base.meta.replay_from);
    // What one of them knows to be there must be there whichever counts.
    let catalogued = copies.catalogue.as_ref().ok().and_then(Option::as_ref);
    let safe = [catalogued, saved.as_ref()].into_iter().flatten().map(|base| base.safe).max();
    let safe = safe.unwrap_or_default();
    let attempt =
        |base: Base, newest| recovery::replay(disk, segments, base, newest, safe, page_len, loss);
    let mut first_error = None;
    match copies.catalogue {
        Ok(Some(base)) => {
            let (generation, sum) = (base.meta.generation, base.meta.sum);
            match attempt(base, true) {
                Ok(replayed) => {
                    // What is given up has to leave the catalogue too.
                    let is_stale = !replayed.given_up.is_empty();
                    let start = Start { replayed, generation, sum, is_stale, snapshot };
                    return (Ok(start), doubts);
                }
                Err(Failed::Outdated(why)) => doubts.push(Doubt::RolledBack(why)),
                // Nothing else than the newest must be the base of what is given up.
                Err(Failed::Store(error)) if loss == Loss::Accepted => return (Err(error), doubts),
                Err(Failed::Store(error)) => first_error = Some(error),
            }
        }
        Ok(None) => {}
        Err(why) => doubts.push(Doubt::Unreadable(why)),
    }
    // Without both, a journal that is no longer whole has nothing to begin from.
    let mut first_error = first_error.or(snapshot_error);
    for base in saved.into_iter().chain([Base::empty()]) {
        let generation = base.meta.generation;
        match attempt(base, false) {
            Ok(replayed) => {
                let (sum, is_stale) = (Sum::default(), true);
                let start = Start { replayed, generation, sum, is_stale, snapshot };
                return (Ok(start), doubts);
            }
            Err(Failed::Store(error)) if loss == Loss::Accepted => {
                return (Err(first_error.unwrap_or(error)), doubts);
            }
            Err(Failed::Store(error)) => first_error = first_error.or(Some(error)),
            Err(Failed::Outdated(_)) => {}
        }
    }
    (Err(first_error.expect("the last attempt ended in an error")), doubts)
}
