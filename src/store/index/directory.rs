//! Which pages a sealed index has: in RAM two arrays, on disk a list of numbers.
//!
//! ```text
//! directory = queue*                                       by ascending id
//! queue = id - the one before - 1 | pages | page*          by ascending seq
//! page  = first seq - last of the one before - 1 | last - first | entries | body bytes | length
//! ```
//! Pages lie one after the other in the order of the directory, from the file's first byte on. All
//! numbers are LEB128; for what has none before it, "the one before" is -1.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::page::PageHead;
use crate::id::{QueueId, Seq};
use crate::store::batch::put_varint;
use crate::store::record::take_varint;

/// All queues' pages, without an allocation for each queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    queues: Box<[Pages]>,
    pages: Box<[PageHead]>,
}

/// A queue, and where its pages begin among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pages {
    queue: QueueId,
    from: u32,
}

/// Writes a directory.
#[derive(Default)]
pub(super) struct DirectoryWriter {
    pub(super) bytes: Vec<u8>,
    pub(super) queues: u64,
    pub(super) entries: u64,
    pub(super) pages_len: u64,
    next_queue: u64,
}

impl DirectoryWriter {
    /// The next queue and its pages.
    pub(super) fn queue(&mut self, queue: QueueId, pages: &[PageHead]) {
        let out = &mut self.bytes;
        put_varint(out, queue.0.wrapping_sub(self.next_queue));
        put_varint(out, pages.len() as u64);
        let mut next_seq = 0;
        for page in pages {
            put_varint(out, page.first.0.wrapping_sub(next_seq));
            put_varint(out, page.last.0.wrapping_sub(page.first.0));
            put_varint(out, page.count.into());
            put_varint(out, page.body_bytes);
            put_varint(out, page.len.into());
            next_seq = page.last.0.wrapping_add(1);
            self.entries += u64::from(page.count);
            self.pages_len += u64::from(page.len);
        }
        self.next_queue = queue.0.wrapping_add(1);
        self.queues += 1;
    }
}

impl Directory {
    /// Grows with the bytes that are there. `None` if they are no directory of pages that fill
    /// `pages_len` bytes.
    pub(super) fn decode(bytes: &[u8], pages_len: u64) -> Option<Self> {
        let mut rest = bytes;
        let (mut queues, mut pages) = (Vec::new(), Vec::new());
        let mut offset = 0;
        let mut next_queue = Some(0_u64);
        while !rest.is_empty() {
            let queue = next_queue?.checked_add(take_varint(&mut rest).ok()?)?;
            queues.push(Pages { queue: QueueId(queue), from: u32::try_from(pages.len()).ok()? });
            next_queue = queue.checked_add(1);
            let mut next_seq = Some(0_u64);
            for _ in 0..take_varint(&mut rest).ok()? {
                let page = take_page(&mut rest, next_seq?, offset)?;
                offset = page.offset.checked_add(page.len.into())?;
                next_seq = page.last.0.checked_add(1);
                pages.push(page);
            }
        }
        (offset == pages_len).then(|| Self { queues: queues.into(), pages: pages.into() })
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.queues.iter().map(|pages| pages.queue)
    }

    /// The pages of a queue, if there are any.
    pub(super) fn pages(&self, queue: QueueId) -> Option<&[PageHead]> {
        let at = self.queues.binary_search_by_key(&queue, |pages| pages.queue).ok()?;
        self.pages_at(at)
    }

    /// Every queue with its pages.
    pub(super) fn all(&self) -> impl Iterator<Item = (QueueId, &[PageHead])> {
        let queues = self.queues.iter().enumerate();
        queues.filter_map(|(at, pages)| Some((pages.queue, self.pages_at(at)?)))
    }

    fn pages_at(&self, at: usize) -> Option<&[PageHead]> {
        let from = self.queues.get(at)?.from as usize;
        let to = self.queues.get(at + 1).map_or(self.pages.len(), |next| next.from as usize);
        self.pages.get(from..to)
    }

    /// How many queues and entries there are.
    pub(super) fn counts(&self) -> (u64, u64) {
        let entries = self.pages.iter().map(|page| u64::from(page.count)).sum();
        (self.queues.len() as u64, entries)
    }

    pub(super) fn memory_len(&self) -> usize {
        size_of_val(&*self.queues) + size_of_val(&*self.pages)
    }
}

fn take_page(rest: &mut &[u8], next_seq: u64, offset: u64) -> Option<PageHead> {
    let first = next_seq.checked_add(take_varint(rest).ok()?)?;
    let last = first.checked_add(take_varint(rest).ok()?)?;
    let count = take_varint(rest).ok()?;
    let body_bytes = take_varint(rest).ok()?;
    let len = take_varint(rest).ok()?;
    // Each seq of the page is there once.
    let fits = count > 0 && count - 1 <= last - first;
    fits.then_some(PageHead {
        first: Seq(first),
        last: Seq(last),
        body_bytes,
        offset,
        len: u32::try_from(len).ok()?,
        count: u32::try_from(count).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(first: u64, last: u64, offset: u64) -> PageHead {
        let (first, last) = (Seq(first), Seq(last));
        PageHead { first, last, body_bytes: 77, offset, len: 50, count: 3 }
    }

    #[test]
    fn a_directory_comes_back_and_costs_little() {
        let mut writer = DirectoryWriter::default();
        let one = [page(0, 2, 0)];
        let many = [page(5, 9, 50), page(10, 12, 100), page(u64::MAX - 2, u64::MAX, 150)];
        writer.queue(QueueId(0), &one);
        writer.queue(QueueId(u64::MAX), &many);
        let directory = Directory::decode(&writer.bytes, writer.pages_len).unwrap();
        assert_eq!(directory.pages(QueueId(0)), Some(one.as_slice()));
        assert_eq!(directory.pages(QueueId(u64::MAX)), Some(many.as_slice()));
        assert_eq!(directory.pages(QueueId(1)), None);
        assert_eq!(directory.counts(), (writer.queues, writer.entries));
        assert_eq!(directory.memory_len(), 2 * 16 + 4 * 40);
        for len in 0..writer.bytes.len() {
            assert!(Directory::decode(&writer.bytes[..len], writer.pages_len).is_none());
        }
        assert!(Directory::decode(&writer.bytes, writer.pages_len + 1).is_none());
    }

    #[test]
    fn hostile_numbers_are_refused() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let pages = |page: &[u8]| Directory::decode(&[&[0, 1], page].concat(), 5);
        assert!(Directory::decode(&[&[0], huge.as_slice()].concat(), 0).is_none());
        assert!(pages(&[0, 2, 3, 9, 5]).is_some());
        assert!(pages(&[0, 2, 4, 9, 5]).is_none(), "more entries than seqs");
        assert!(pages(&[0, 2, 0, 9, 5]).is_none(), "a page without entries");
        assert!(pages(&[huge.as_slice(), &[1, 1, 9, 5]].concat()).is_none(), "seqs overflow");
    }
}
