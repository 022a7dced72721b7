//! Looks at a data directory offline and says what is wrong in it, and where. Changes nothing.
//!
//! Whatever a start would decide is decided by the start's own code: which copy of the catalogue
//! counts, what is a torn tail and what is damage. On top of that, this reads what a start leaves
//! for later: segments before the checkpoint, indexes, and every message.

mod entries;
mod held;
mod report;
mod segments;

pub use report::{Finding, Report, Severity, Totals};

use super::contents::Contents;
use super::definitions::StoredQueue;
use super::disk::Disk;
use super::error::StoreError;
use super::given_up::Loss;
use super::recovery::{Replayed, Segments};
use super::scan;
use super::segment::{self, file_name};
use super::snapshot;
use super::spill;
use super::start::{self, Copies, Doubt, Start};
use super::supply;
use crate::id::{QueueId, SegmentNo};
use std::collections::BTreeMap;
use std::path::Path;

/// The catalogue, where a finding names a file.
const CATALOGUE: &str = "catalogue";

/// Reads everything that the disk holds. `page_len` is as for `Options`.
///
/// # Errors
/// If the directory itself cannot be read: nothing can be said then.
pub fn check(disk: &dyn Disk, page_len: usize) -> Result<Report, StoreError> {
    let files = disk.list()?;
    let (segments, bad) = Segments::gather(disk)?;
    if let Some(denied) = bad.iter().find(|error| error.is_denied()) {
        return Err(denied.clone());
    }
    let mut check = Check { disk, page_len, report: Report::default() };
    bad.iter().for_each(|error| check.damage(error));
    for number in segments.used.keys() {
        check.header_copies(*number);
    }
    check.report.totals.segments = segments.used.len() as u64;
    let copies = Copies::read(start::read(disk.catalogue_copy()), disk);
    if let Some(denied) = copies.snapshot.as_ref().err().filter(|error| error.is_denied()) {
        return Err(denied.clone());
    }
    let known = Known::of(&copies);
    let (found, doubts) = start::find(disk, &segments, copies, page_len, Loss::Refused);
    doubts.iter().for_each(|doubt| check.doubt(doubt));
    let living = match found {
        Ok(start) if bad.is_empty() => {
            check.copies(&known, &start);
            check.start(&segments, start)
        }
        other => {
            // Which segments count is not known; each can still be looked at by itself.
            if let Err(error) = other
                && bad.iter().all(|known| known.path() != error.path())
            {
                check.damage(&error);
            }
            check.each_segment(&segments);
            segments.used.keys().copied().collect()
        }
    };
    check.strays(&files, &segments, &living)?;
    Ok(check.report)
}

/// What the copies of the catalogue said before they were used.
struct Known {
    has_catalogue: bool,
    is_readable: bool,
    has_snapshot: bool,
    /// There was trouble reading it.
    snapshot_failed: bool,
}

impl Known {
    fn of(copies: &Copies) -> Self {
        Self {
            has_catalogue: matches!(copies.catalogue, Ok(Some(_))),
            is_readable: copies.catalogue.is_ok(),
            has_snapshot: matches!(copies.snapshot, Ok(Some(_))),
            snapshot_failed: copies.snapshot.is_err(),
        }
    }
}

struct Check<'a> {
    disk: &'a dyn Disk,
    page_len: usize,
    report: Report,
}

impl Check<'_> {
    fn find(&mut self, severity: Severity, file: &str, offset: Option<u64>, what: &str) {
        let (file, what) = (file.to_owned(), what.to_owned());
        self.report.findings.push(Finding { severity, file, offset, what });
    }

    fn damage(&mut self, error: &StoreError) {
        self.error(Severity::Damage, error);
    }

    /// Files it under the file that the error names.
    fn error(&mut self, severity: Severity, error: &StoreError) {
        let file = error.path().file_name().map(Path::new);
        let file = file.map_or_else(String::new, |file| file.display().to_string());
        self.find(severity, &file, error.damaged_at(), &error.reason());
    }

    fn doubt(&mut self, doubt: &Doubt) {
        match doubt {
            Doubt::Snapshot(error) => {
                let what = format!("{}; the next checkpoint writes a new one", error.reason());
                self.find(Severity::Mended, snapshot::FILE, error.damaged_at(), &what);
            }
            Doubt::Unreadable(why) => {
                let what = format!("it is of no use, the next start makes it anew: {why}");
                self.find(Severity::Mended, CATALOGUE, None, &what);
            }
            Doubt::RolledBack(why) => {
                let what = format!("it was rolled back, the next start makes it anew: {why}");
                self.find(Severity::Mended, CATALOGUE, None, &what);
            }
        }
    }

    fn header_copies(&mut self, number: SegmentNo) {
        let file = file_name(number);
        match scan::bad_copies(self.disk, &file) {
            Ok(bad) => {
                for offset in bad {
                    let what = "one of the two places of its header is damaged; the other is whole";
                    self.find(Severity::Note, &file, Some(offset), what);
                }
            }
            Err(error) => self.damage(&error),
        }
    }

    /// What the journal says of the copies, and they of the journal.
    fn copies(&mut self, known: &Known, start: &Start) {
        let replay = &start.replayed.replay;
        let newest = start.generation.max(replay.generation);
        if newest > 0 && !known.has_catalogue && known.is_readable {
            let what = "it is not there; the next start makes it anew";
            self.find(Severity::Mended, CATALOGUE, None, what);
        }
        if newest > 0 && !known.has_snapshot && !known.snapshot_failed {
            let what = "it is not there; the next checkpoint writes it";
            self.find(Severity::Mended, snapshot::FILE, None, what);
        }
        if newest == 0 || replay.named >= start.generation {
            return;
        }
        let end = file_name(start.replayed.tail.segment);
        let offset = Some(start.replayed.tail.end);
        let what = format!(
            "the journal does not name checkpoint {}: a crash came in between, or its end is \
                 lost",
            start.generation
        );
        self.find(Severity::Note, &end, offset, &what);
    }

    /// Looks at all that a start from here would ever need. Returns the segments among it.
    fn start(&mut self, segments: &Segments, start: Start) -> Vec<SegmentNo> {
        let Replayed { replay, tail, torn, segments: living, gaps, indexers, .. } = start.replayed;
        self.held(&replay, &gaps);
        if let Some(torn) = torn {
            let what = "a crash left a torn tail from here on, which was never known to be safe; \
                        the next start cuts it";
            self.find(Severity::Mended, &file_name(torn.segment), Some(torn.offset), what);
        }
        for number in segments.used.keys() {
            if *number > tail.segment {
                let what = "it was begun behind the end of the journal and was never known to be \
                            safe; the next start removes it";
                self.find(Severity::Mended, &file_name(*number), None, what);
            } else if !living.contains_key(number) {
                let what = "nothing that lives is in it; a checkpoint gives it up";
                self.find(Severity::Note, &file_name(*number), None, what);
            }
        }
        let contents = Contents::new(self.page_len);
        gaps.iter().for_each(|(number, gaps)| contents.set_gaps(*number, gaps));
        let behind = SegmentNo(tail.segment.0 + 1);
        let first_replayed = indexers.first().map_or(behind, |(number, _)| *number);
        let mut indexers: BTreeMap<_, _> = indexers.into_iter().collect();
        let mut before = None;
        for (number, complete) in &living {
            let Some(header) = segments.used.get(number) else { continue };
            self.link(header, before);
            before = Some((*number, *complete));
            let wants_index = number.0 + 1 < first_replayed.0;
            let indexer = indexers.remove(number);
            self.living(&contents, header, *complete, indexer, wants_index);
        }
        let mut queues: Vec<_> = replay.queues.iter().collect();
        queues.sort_unstable_by_key(|(id, _)| **id);
        self.report.totals.queues = queues.len() as u64;
        for (id, standing) in queues {
            let queue = replay.definitions.queue(*id);
            let title = queue.map_or_else(|| format!("queue number {id}"), |it| title(*id, it));
            self.queue(&contents, (*id, &title), standing);
        }
        living.into_keys().collect()
    }

    /// Files that belong to nobody, or wait for a use.
    fn strays(
        &mut self,
        files: &[String],
        segments: &Segments,
        living: &[SegmentNo],
    ) -> Result<(), StoreError> {
        for file in files {
            let index_of = segment::indexed(file);
            let number = segment::number_of(file);
            let is_unused = number.is_some_and(|number| segments.unused.contains(&number));
            let what = if is_unused || supply::is_prepared(file) {
                "it is prepared for use; the next start removes it"
            } else if index_of.is_some_and(|number| !living.contains(&number)) {
                "it is the index of a segment that does not count"
            } else if file.contains(".broken-") {
                "it was put aside and may be removed"
            } else if number.is_some() || index_of.is_some() || file == snapshot::FILE {
                continue;
            } else if spill::is_spill(file) {
                "it held transient messages, which a crash ended; the next start removes it"
            } else {
                "it belongs to no part of the store"
            };
            self.find(Severity::Note, file, None, what);
        }
        for file in self.disk.broken_catalogues()? {
            self.find(Severity::Note, &file, None, "it was put aside and may be removed");
        }
        Ok(())
    }
}

/// What a finding calls a queue; one of messages that wait has the name of its exchange.
fn title(id: QueueId, queue: &StoredQueue) -> String {
    let kind = if id.is_timed() { "exchange" } else { "queue" };
    format!("{kind} '{}' in vhost '{}'", queue.name, queue.vhost)
}
