//! A segment by itself: its frames and records, its link to the one before, its index.

use super::{Check, Severity};
use crate::id::{Lsn, SegmentNo};
use crate::store::assembly::{Assembly, Step};
use crate::store::contents::Contents;
use crate::store::entries::Complete;
use crate::store::error::StoreError;
use crate::store::frame::Frame;
use crate::store::gap::Gap;
use crate::store::index::{SealedIndex, SegmentIndexer};
use crate::store::record::BadRecord;
use crate::store::recovery::Segments;
use crate::store::scan;
use crate::store::segment::{SegmentHeader, file_name, index_name};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Check<'_> {
    /// A segment that counts: what a start did not read of it, and its index. What is found again
    /// of it is in `contents` then.
    pub(super) fn living(
        &mut self,
        contents: &Contents,
        header: &SegmentHeader,
        complete: Complete,
        replayed: Option<SegmentIndexer>,
        wants_index: bool,
    ) {
        let end = header.end_now(complete.end);
        let indexer = match replayed {
            Some(indexer) => {
                let first = header.first_lsn.0.saturating_sub(1);
                self.report.totals.records += complete.last_lsn.0.saturating_sub(first);
                indexer
            }
            None => {
                let (indexer, read) = self.read(header, end, &contents.gaps());
                match read {
                    // A compacted one lacks records.
                    Ok(last) if last == complete.last_lsn || header.is_compacted() => {}
                    Ok(last) => {
                        let stated = complete.last_lsn;
                        let what =
                            format!("its last record is {last}, and the checkpoint says {stated}");
                        let file = file_name(header.number);
                        self.find(Severity::Damage, &file, Some(complete.end), &what);
                    }
                    Err(error) => {
                        self.damage(&error);
                        return self.damaged(contents, header, complete, indexer);
                    }
                }
                indexer
            }
        };
        match self.index(header, &indexer, wants_index) {
            Some(sealed) => contents.complete_sealed(header.number, complete, sealed),
            None => contents.complete(header.number, complete, Some(indexer)),
        }
    }

    /// A segment of which some cannot be read: its index says where the rest is, if it is there.
    fn damaged(
        &mut self,
        contents: &Contents,
        header: &SegmentHeader,
        complete: Complete,
        read: SegmentIndexer,
    ) {
        let (disk, number) = (self.disk, header.number);
        let sealed = SealedIndex::open(disk, &index_name(number), number, header.salt);
        match sealed.ok().filter(|sealed| sealed.end() == header.end_now(complete.end)) {
            Some(sealed) => contents.complete_sealed(number, complete, sealed),
            None => contents.complete(number, complete, Some(read)),
        }
    }

    /// Reads a segment, record by record, as far as it can be read.
    fn read(
        &mut self,
        header: &SegmentHeader,
        end: u64,
        gaps: &BTreeMap<SegmentNo, Arc<[Gap]>>,
    ) -> (SegmentIndexer, Result<Lsn, StoreError>) {
        let mut indexer = SegmentIndexer::new(self.page_len);
        let records = &mut self.report.totals.records;
        let mut assembly = Assembly::default();
        let gaps = gaps.get(&header.number).map_or(&[][..], |gaps| gaps);
        let last_lsn = scan::whole(self.disk, *header, end, gaps, &mut |frame| {
            let read = decode(&mut assembly, frame)?;
            *records += read;
            if read != u64::from(frame.header.records) {
                return Err(BadRecord::TooLong);
            }
            indexer.add(frame)
        });
        if last_lsn.is_ok() {
            indexer.skip_to(end);
        }
        (indexer, last_lsn)
    }

    /// A segment says where the one before it ends.
    pub(super) fn link(&mut self, header: &SegmentHeader, before: Option<(SegmentNo, Complete)>) {
        let Some((number, before)) = before.filter(|(number, _)| *number == header.previous) else {
            return;
        };
        let file = file_name(header.number);
        if header.previous_end != before.end {
            let (ours, end) = (header.previous_end, before.end);
            let what = format!("it says that segment {number} ends at byte {ours}, not {end}");
            self.find(Severity::Damage, &file, Some(0), &what);
        }
        if header.first_lsn.0 != before.last_lsn.0 + 1 {
            let what = format!(
                "it begins with record {}, and segment {number} ends with {}",
                header.first_lsn, before.last_lsn
            );
            self.find(Severity::Damage, &file, Some(0), &what);
        }
    }

    /// The segment's index, if it is there and says what the segment says.
    fn index(
        &mut self,
        header: &SegmentHeader,
        built: &SegmentIndexer,
        is_wanted: bool,
    ) -> Option<SealedIndex> {
        let file = index_name(header.number);
        // Whatever it is that cannot be opened, the index is not there.
        if self.disk.len(&file).is_err() {
            if is_wanted {
                self.find(Severity::Mended, &file, None, "it is not there; a start makes it anew");
            }
            return None;
        }
        let opened = SealedIndex::open(self.disk, &file, header.number, header.salt);
        let compared = opened.and_then(|sealed| {
            // Of a segment whose only frame was torn both are zero.
            if sealed.end() != built.end() {
                let end = built.end();
                let why = format!("it ends at byte {}, and its segment at {end}", sealed.end());
                return Err(StoreError::refused("use", self.disk.path(&file), why));
            }
            sealed.compare(built, self.disk).map(|()| sealed)
        });
        let error = match compared {
            Ok(sealed) => return Some(sealed),
            Err(error) => error,
        };
        let what = format!("{}; it is made anew from its segment", error.reason());
        self.find(Severity::Mended, &file, error.damaged_at(), &what);
        None
    }

    /// Each segment by itself, as far as the one behind it says where it ends.
    pub(super) fn each_segment(&mut self, segments: &Segments) {
        let known: Vec<_> = self.report.findings.iter().map(|it| it.file.clone()).collect();
        let mut before: Option<(SegmentNo, Complete)> = None;
        for (number, header) in &segments.used {
            self.link(header, before.take());
            let next = segments.used.values().find(|next| next.previous == *number);
            // What is wrong with it is said already; behind that place nothing can be read.
            let is_known = known.contains(&file_name(*number));
            let Some(next) = next.filter(|_| !is_known) else { continue };
            match self.read(header, next.previous_end, &BTreeMap::new()).1 {
                Ok(last_lsn) => {
                    before = Some((*number, Complete { end: next.previous_end, last_lsn }));
                }
                Err(error) => self.damage(&error),
            }
        }
    }
}

/// Reads every record of a frame, and counts those that end in it. A message that is longer than a
/// frame is read with its queue.
fn decode(assembly: &mut Assembly, frame: &Frame<'_>) -> Result<u64, BadRecord> {
    let mut count = 0;
    assembly.frame(frame, |step| {
        match step {
            Step::Record(record, _) if record.lacks_body() => drop(record.head()?),
            Step::Record(record, _) => drop(record.decode()?),
            Step::Done => count += 1,
        }
        Ok(())
    })?;
    Ok(count)
}
