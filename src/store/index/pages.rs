//! The pages of one queue in one segment: ascending, without overlap, each seq once.
//!
//! Entries mostly arrive in order and become a page as they are. A late one goes into the page that
//! spans it, which is written anew; so lookups never meet two pages for one seq.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::page::{self, Entry, OpenPage, PageHead};
use crate::id::{QueueId, Seq};

/// Bytes of pages, those of `base` first.
pub(super) struct Shelf<'a> {
    pub(super) base: &'a [u8],
    pub(super) more: &'a mut Vec<u8>,
    /// Bytes of pages that others took the place of.
    pub(super) dead: usize,
}

impl Shelf<'_> {
    fn entries(&self, queue: QueueId, head: &PageHead) -> Vec<Entry> {
        let bytes = lookup(self.base, self.more, head).unwrap_or_default();
        page::decode(bytes, queue, head).expect("an index page in memory is as it was written")
    }

    fn write(&mut self, queue: QueueId, page: &OpenPage) -> PageHead {
        let mut head = page.write(queue, self.more);
        head.offset += self.base.len() as u64;
        head
    }
}

/// The bytes of a page within `base`, or `more` behind it.
pub(super) fn lookup<'a>(base: &'a [u8], more: &'a [u8], head: &PageHead) -> Option<&'a [u8]> {
    let (at, len) = (usize::try_from(head.offset).ok()?, head.len as usize);
    let (bytes, at) = match at.checked_sub(base.len()) {
        Some(behind) => (more, behind),
        None => (base, at),
    };
    bytes.get(at..at.checked_add(len)?)
}

/// A queue's pages on their way to be one: closed ones, and the one that takes entries.
#[derive(Clone, Debug)]
pub(super) struct QueuePages {
    pub(super) closed: Vec<PageHead>,
    pub(super) open: OpenPage,
}

impl QueuePages {
    pub(super) fn new() -> Self {
        Self { closed: Vec::new(), open: OpenPage::new() }
    }

    /// Closes a full page. If entries came out of order, the last quarter stays, so that one that
    /// is a little late finds its neighbours still open.
    #[cold]
    pub(super) fn close(&mut self, queue: QueueId, shelf: &mut Shelf<'_>, page_len: usize) {
        if let Some(head) = self.whole(queue, shelf) {
            self.closed.push(head);
            self.open.clear();
            return;
        }
        let mut entries = self.open.sorted();
        let stay = entries.split_off(entries.len() - entries.len() / 4);
        self.open.clear();
        stay.iter().for_each(|entry| self.open.push(entry));
        place(queue, &entries, &mut self.closed, shelf, page_len);
    }

    /// All entries as closed pages; those that are only open now lie in `shelf.more`.
    pub(super) fn all(
        &self,
        queue: QueueId,
        shelf: &mut Shelf<'_>,
        page_len: usize,
    ) -> Vec<PageHead> {
        let mut pages = self.closed.clone();
        if self.open.count() == 0 {
            return pages;
        }
        match self.whole(queue, shelf) {
            Some(head) => pages.push(head),
            None => place(queue, &self.open.sorted(), &mut pages, shelf, page_len),
        }
        pages
    }

    /// Writes the open page as it is, if it is in order and belongs behind all others.
    fn whole(&self, queue: QueueId, shelf: &mut Shelf<'_>) -> Option<PageHead> {
        let first = self.open.ascends_from()?;
        let behind = self.closed.last().is_none_or(|last| last.last < first);
        behind.then(|| shelf.write(queue, &self.open))
    }

    pub(super) fn memory_len(&self) -> usize {
        self.closed.capacity() * size_of::<PageHead>() + self.open.capacity()
    }
}

/// The first page that ends at or behind `seq`.
pub(super) fn at_or_behind(pages: &[PageHead], seq: Seq) -> usize {
    pages.partition_point(|page| page.last < seq)
}

/// Puts sorted entries where they belong: into the page that spans them, into the one before if
/// that has room, or on pages of their own. Of those that are there already nothing changes.
fn place(
    queue: QueueId,
    entries: &[Entry],
    pages: &mut Vec<PageHead>,
    shelf: &mut Shelf<'_>,
    page_len: usize,
) {
    let mut rest = entries;
    while let Some(next) = rest.first() {
        let at = at_or_behind(pages, next.seq);
        let page = pages.get(at).copied();
        let spanning = page.filter(|page| page.first <= next.seq);
        let here = rest.partition_point(|entry| match (spanning, page) {
            (Some(page), _) => entry.seq <= page.last,
            (None, Some(behind)) => entry.seq < behind.first,
            (None, None) => true,
        });
        let (here, behind) = rest.split_at(here);
        rest = behind;
        let before = at.checked_sub(1).and_then(|before| pages.get(before)).copied();
        let roomy = before.filter(|page| page.count as usize + here.len() <= page_len);
        let (at, page) = match (spanning, roomy) {
            (Some(page), _) => (at, page),
            (None, Some(page)) => (at - 1, page),
            (None, None) => {
                let new = write(queue, here, shelf, page_len);
                pages.splice(at..at, new);
                continue;
            }
        };
        let mut merged = shelf.entries(queue, &page);
        let count = merged.len();
        merged.extend_from_slice(here);
        page::sort(&mut merged);
        if merged.len() > count {
            let new = write(queue, &merged, shelf, page_len);
            pages.splice(at..=at, new);
            shelf.dead += page.len as usize;
        }
    }
}

/// Writes sorted entries as pages of about the same length.
fn write(
    queue: QueueId,
    entries: &[Entry],
    shelf: &mut Shelf<'_>,
    page_len: usize,
) -> Vec<PageHead> {
    let pages = entries.len().div_ceil(page_len).max(1);
    let chunks = entries.chunks(entries.len().div_ceil(pages).max(1));
    chunks
        .map(|chunk| {
            let mut page = OpenPage::new();
            chunk.iter().for_each(|entry| page.push(entry));
            shelf.write(queue, &page)
        })
        .collect()
}
