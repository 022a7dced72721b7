//! The middle of a long queue, which lies on disk, and the new messages behind it. There is one
//! only while there are pages: a queue that fits into memory has none.

use super::entries::Entries;
use super::page::Page;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Middle {
    /// Oldest first; never empty between two verbs.
    pub(super) pages: VecDeque<Page>,
    /// Messages in the pages.
    pub(super) paged: usize,
    /// What is newer than the pages, in memory.
    pub(super) tail: Entries,
}

impl Middle {
    /// Entries from this seq on become the tail of a middle that has no pages yet.
    pub(super) fn split(fifo: &mut Entries, seq: u64) -> Self {
        Self { tail: fifo.split_off(seq), ..Self::default() }
    }

    /// The pages are gone: the tail goes behind the head window.
    pub(super) fn join(self, fifo: &mut Entries) {
        fifo.append(self.tail);
    }

    /// Messages, visible or not.
    pub(super) fn len(&self) -> usize {
        self.paged + self.tail.len()
    }

    /// Seq of the first message in the pages.
    pub(super) fn first(&self) -> u64 {
        self.pages.front().map_or(u64::MAX, |page| page.first().0)
    }

    pub(super) fn push_page(&mut self, page: Page) {
        self.paged += page.len();
        self.pages.push_back(page);
    }

    pub(super) fn push_page_front(&mut self, page: Page) {
        self.paged += page.len();
        self.pages.push_front(page);
    }

    pub(super) fn pop_page(&mut self) -> Option<Page> {
        let page = self.pages.pop_front()?;
        self.paged -= page.len();
        Some(page)
    }

    /// Takes the last page out if it has room for more.
    pub(super) fn pop_open_page(&mut self, page_len: usize) -> Option<Page> {
        let page = self.pages.pop_back_if(|page| page.len() < page_len)?;
        self.paged -= page.len();
        Some(page)
    }
}
