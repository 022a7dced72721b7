//! The middle of a long queue, which lies on disk, and the new messages behind it. There is one
//! only while there are pages: a queue that fits into memory has none.

use super::page::Page;
use super::ready::Entry;
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Middle {
    /// Oldest first; never empty between two verbs.
    pub(super) pages: VecDeque<Page>,
    /// Messages in the pages.
    pub(super) paged: usize,
    /// What is newer than the pages, in memory.
    pub(super) tail: VecDeque<Entry>,
}

impl Middle {
    /// Entries from place `at` on become the tail of a middle that has no pages yet. Whichever part
    /// is shorter moves.
    pub(super) fn split(fifo: &mut VecDeque<Entry>, at: usize) -> Self {
        let tail = if at <= fifo.len() / 2 {
            let mut tail = std::mem::take(fifo);
            *fifo = tail.drain(..at).collect();
            tail
        } else {
            fifo.split_off(at)
        };
        Self { tail, ..Self::default() }
    }

    /// The pages are gone: the tail goes behind the head window. Whichever is shorter moves.
    pub(super) fn join(mut self, fifo: &mut VecDeque<Entry>) {
        if fifo.len() >= self.tail.len() {
            fifo.append(&mut self.tail);
        } else {
            while let Some(last) = fifo.pop_back() {
                self.tail.push_front(last);
            }
            *fifo = self.tail;
        }
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
