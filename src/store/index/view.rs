//! One queue's pages in one segment, open or sealed, and what can be asked of them.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::page::{self, Entry, PageHead};
use super::pages::{at_or_behind, lookup};
use super::runs;
use crate::id::{QueueId, Seq};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use std::borrow::Cow;

/// Pages in ascending order, without overlap.
pub(super) struct View<'a> {
    pub(super) queue: QueueId,
    pub(super) pages: Cow<'a, [PageHead]>,
    pub(super) bytes: PageBytes<'a>,
}

/// Where the pages' bytes lie.
pub(super) enum PageBytes<'a> {
    Memory { base: &'a [u8], more: Vec<u8> },
    File { disk: &'a dyn Disk, file: &'a str },
}

impl View<'_> {
    /// The entries of one of the pages.
    pub(super) fn entries(&self, head: &PageHead) -> Result<Vec<Entry>, StoreError> {
        match &self.bytes {
            PageBytes::Memory { .. } => {
                let entries = page::decode(self.memory(head), self.queue, head);
                Ok(entries.expect("an index page in memory is as it was written"))
            }
            PageBytes::File { disk, file } => {
                let mut bytes = vec![0; head.len as usize];
                let read = disk.read_at(file, head.offset, &mut bytes)?;
                bytes.truncate(read);
                page::decode(&bytes, self.queue, head)
                    .map_err(|what| StoreError::damaged(disk.path(file), head.offset, what))
            }
        }
    }

    /// The bytes of a page that lies in memory; nothing if it does not.
    pub(super) fn memory(&self, head: &PageHead) -> &[u8] {
        match &self.bytes {
            PageBytes::Memory { base, more } => lookup(base, more, head).unwrap_or_default(),
            PageBytes::File { .. } => &[],
        }
    }

    /// The first page at or behind `from` that may hold a seq of the runs.
    pub(super) fn next_page(&self, from: usize, wanted: &[(Seq, Seq)]) -> Option<usize> {
        let mut at = from;
        loop {
            let page = self.pages.get(at)?;
            let run = runs::at_or_behind(wanted, page.first)?;
            if run.0 <= page.last {
                return Some(at);
            }
            at += at_or_behind(self.pages.get(at..)?, run.0);
        }
    }

    /// Appends the runs of seqs from `first` to `last` that are here.
    pub(super) fn stored(
        &self,
        first: Seq,
        last: Seq,
        into: &mut Vec<(Seq, Seq)>,
    ) -> Result<(), StoreError> {
        let from = at_or_behind(&self.pages, first);
        let pages = self.pages.get(from..).unwrap_or_default();
        let asked = first <= last;
        for page in pages.iter().take_while(|page| asked && page.first <= last) {
            if page.is_dense() {
                runs::push(into, page.first.max(first), page.last.min(last));
                continue;
            }
            for entry in self.entries(page)? {
                if (first..=last).contains(&entry.seq) {
                    runs::push(into, entry.seq, entry.seq);
                }
            }
        }
        Ok(())
    }

    /// How many entries lie in the runs, and the bytes of their bodies.
    pub(super) fn live(&self, wanted: &[(Seq, Seq)]) -> Result<(u64, u64), StoreError> {
        let (mut count, mut bytes) = (0, 0);
        let mut from = 0;
        while let Some(at) = self.next_page(from, wanted) {
            let Some(page) = self.pages.get(at) else { break };
            if runs::cover(wanted, page.first, page.last) {
                count += u64::from(page.count);
                bytes += page.body_bytes;
            } else {
                let entries = self.entries(page)?;
                for entry in runs::within(&entries, wanted) {
                    count += 1;
                    bytes += u64::from(entry.body_len);
                }
            }
            from = at + 1;
        }
        Ok((count, bytes))
    }
}

/// What a segment has of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    pub queue: QueueId,
    pub first: Seq,
    pub last: Seq,
    pub count: u64,
    /// Of bodies.
    pub bytes: u64,
}

impl Tally {
    /// Of a queue's pages, in order; `None` if there is none.
    pub(super) fn of(queue: QueueId, pages: &[PageHead]) -> Option<Self> {
        let (first, last) = pages.first().zip(pages.last())?;
        Some(Self {
            queue,
            first: first.first,
            last: last.last,
            count: pages.iter().map(|page| u64::from(page.count)).sum(),
            bytes: pages.iter().map(|page| page.body_bytes).sum(),
        })
    }
}
