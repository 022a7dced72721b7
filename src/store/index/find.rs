//! Wanted seqs of a queue, found over all its segments in seq order.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::page::Entry;
use super::runs;
use super::view::View;
use super::{BadIndex, Place};
use crate::id::{SegmentNo, Seq};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What `Index::find` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By ascending seq.
    pub places: Vec<Place>,
    /// Every wanted seq up to this one, included, is in `places` or in no index.
    pub through: Seq,
}

/// How much may be found at once; the first message always may.
pub(super) struct Limits {
    pub(super) messages: usize,
    pub(super) bytes: u64,
}

/// Reads pages in the order of their first seqs. What no page to come can precede is final.
pub(super) fn find(
    views: &[(SegmentNo, View<'_>)],
    wanted: &[(Seq, Seq)],
    limits: Limits,
) -> Result<Found, BadIndex> {
    let mut places = Places { found: Vec::new(), pending: Vec::new(), limits };
    let mut pages = BinaryHeap::new();
    let next_page = |at: usize, from: usize| {
        let (_, view) = views.get(at)?;
        let page = view.next_page(from, wanted)?;
        Some(Reverse((view.pages.get(page)?.first, at, page)))
    };
    pages.extend((0..views.len()).filter_map(|at| next_page(at, 0)));
    while let Some(Reverse((first, at, page))) = pages.pop() {
        let limited = places.settle(Some(first));
        if let Some(through) = limited.or_else(|| places.full()) {
            return Ok(Found { places: places.found, through });
        }
        let Some((segment, view)) = views.get(at) else { continue };
        let Some(head) = view.pages.get(page) else { continue };
        let entries = view.entries(head);
        let entries = entries.map_err(|error| BadIndex { segment: *segment, error })?;
        places.add(*segment, runs::within(&entries, wanted));
        pages.extend(next_page(at, page + 1));
    }
    let limited = places.settle(None);
    let end = wanted.last().map_or(Seq(0), |run| run.1);
    Ok(Found { places: places.found, through: limited.unwrap_or(end) })
}

struct Places {
    found: Vec<Place>,
    /// Sorted; a page to come may have lower seqs.
    pending: Vec<Place>,
    limits: Limits,
}

impl Places {
    /// Adds a page's entries. A seq in several segments counts in the last one, which is kept the
    /// longest.
    fn add<'a>(&mut self, segment: SegmentNo, entries: impl Iterator<Item = &'a Entry>) {
        let before = self.pending.last().map(|place| place.seq);
        let middle = self.pending.len();
        self.pending.extend(entries.map(|entry| Place {
            segment,
            seq: entry.seq,
            offset: entry.offset,
            len: entry.len,
            crc: entry.crc,
            body_len: entry.body_len,
        }));
        if self.pending.get(middle).is_some_and(|place| Some(place.seq) <= before) {
            self.pending.sort_by_key(|place| (place.seq, Reverse(place.segment)));
            self.pending.dedup_by_key(|place| place.seq);
        }
    }

    /// What is before `first` is final. If that is more than the limits allow, says what was
    /// reached.
    fn settle(&mut self, first: Option<Seq>) -> Option<Seq> {
        let settled = first.map_or(self.pending.len(), |first| {
            self.pending.partition_point(|place| place.seq < first)
        });
        for at in 0..settled {
            let Some(place) = self.pending.get(at) else { break };
            let len = u64::from(place.len);
            if let Some(last) = self.found.last()
                && (self.full().is_some() || self.limits.bytes < len)
            {
                return Some(last.seq);
            }
            self.limits.bytes = self.limits.bytes.saturating_sub(len);
            self.found.push(*place);
        }
        self.pending.drain(..settled);
        None
    }

    /// The last seq, if no other may follow it.
    fn full(&self) -> Option<Seq> {
        let full = self.limits.messages <= self.found.len() || self.limits.bytes == 0;
        self.found.last().filter(|_| full).map(|last| last.seq)
    }
}
