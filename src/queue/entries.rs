//! Messages of a queue that are in memory, in the order of their seqs, in chunks: a long list grows
//! without moving what it has, and gives memory back as it gets shorter.
//!
//! Which messages these are, and what they count for, is the ready side's.

use super::ready::Entry;
use std::collections::VecDeque;

/// Messages of a chunk: 7 KiB, of which the allocator wastes less than of 8. Memory for one is kept
/// in any case.
pub(super) const CHUNK_LEN: usize = 224;

/// See the module. Seqs increase from front to back.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Empty only if there is nothing at all.
    first: VecDeque<Entry>,
    /// What does not fit there.
    rest: Option<Box<Rest>>,
}

/// Never empty, and neither is a chunk of it.
#[derive(Debug, Default)]
struct Rest {
    chunks: VecDeque<VecDeque<Entry>>,
    /// In all chunks.
    len: usize,
}

impl Entries {
    /// Joins behind all others.
    #[inline]
    pub(super) fn push_back(&mut self, entry: Entry) {
        if self.rest.is_none() && self.first.len() < CHUNK_LEN {
            self.first.push_back(entry);
        } else {
            self.rest.get_or_insert_default().push_back(entry);
        }
    }

    /// Joins before all others.
    pub(super) fn push_front(&mut self, entry: Entry) {
        if self.first.len() >= CHUNK_LEN {
            let full = std::mem::take(&mut self.first);
            self.rest.get_or_insert_default().push_chunk_front(full);
        }
        self.first.push_front(entry);
    }

    #[inline]
    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.first.pop_front()?;
        if self.first.is_empty() {
            self.refill();
        }
        Some(entry)
    }

    pub(super) fn pop_back(&mut self) -> Option<Entry> {
        let Some(rest) = &mut self.rest else { return self.first.pop_back() };
        let entry = rest.pop_back();
        self.rest.take_if(|rest| rest.chunks.is_empty());
        entry
    }

    pub(super) fn pop_front_if(&mut self, goes: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        self.front().filter(|entry| goes(entry))?;
        self.pop_front()
    }

    pub(super) fn pop_back_if(&mut self, goes: impl FnOnce(&Entry) -> bool) -> Option<Entry> {
        self.back().filter(|entry| goes(entry))?;
        self.pop_back()
    }

    #[inline]
    pub(super) fn front(&self) -> Option<&Entry> {
        self.first.front()
    }

    #[inline]
    pub(super) fn back(&self) -> Option<&Entry> {
        let last = self.rest.as_ref().and_then(|rest| rest.chunks.back());
        last.unwrap_or(&self.first).back()
    }

    /// The message behind the first `count`.
    pub(super) fn nth(&self, mut count: usize) -> Option<&Entry> {
        for chunk in self.chunks() {
            if let Some(entry) = chunk.get(count) {
                return Some(entry);
            }
            count -= chunk.len();
        }
        None
    }

    /// The message before the last `count`.
    pub(super) fn nth_back(&self, count: usize) -> Option<&Entry> {
        self.nth(self.len().checked_sub(count)?.checked_sub(1)?)
    }

    /// The last message up to this seq.
    pub(super) fn last_up_to(&self, seq: u64) -> Option<&Entry> {
        let before = |chunk: &VecDeque<Entry>| chunk.front().is_some_and(|first| first.seq <= seq);
        let rest = self.rest.as_ref();
        let last = rest.and_then(|rest| {
            let at = rest.chunks.partition_point(before).checked_sub(1)?;
            rest.chunks.get(at)
        });
        let chunk = last.unwrap_or(&self.first);
        chunk.get(chunk.partition_point(|entry| entry.seq <= seq).checked_sub(1)?)
    }

    pub(super) fn get_mut(&mut self, seq: u64) -> Option<&mut Entry> {
        let chunk = match self.chunk_of(seq)? {
            None => &mut self.first,
            Some(at) => self.rest.as_mut()?.chunks.get_mut(at)?,
        };
        let at = place(chunk, seq)?;
        chunk.get_mut(at)
    }

    /// Takes out the message of this seq.
    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        match self.chunk_of(seq)? {
            None => {
                let entry = self.first.remove(place(&self.first, seq)?);
                if self.first.is_empty() {
                    self.refill();
                }
                entry
            }
            Some(at) => {
                let rest = self.rest.as_mut()?;
                let entry = rest.remove(at, seq);
                self.rest.take_if(|rest| rest.chunks.is_empty());
                entry
            }
        }
    }

    /// Takes off the messages from this seq on.
    pub(super) fn split_off(&mut self, seq: u64) -> Self {
        let mut behind = Self::default();
        if let Some(rest) = &mut self.rest {
            rest.split_off(seq).into_iter().for_each(|chunk| behind.append_chunk(chunk));
        }
        self.rest.take_if(|rest| rest.chunks.is_empty());
        if self.first.back().is_some_and(|last| last.seq >= seq) {
            // Then all of the rest was behind, too.
            let at = self.first.partition_point(|entry| entry.seq < seq);
            let cut =
                if at == 0 { std::mem::take(&mut self.first) } else { self.first.split_off(at) };
            behind.prepend_chunk(cut);
        }
        behind
    }

    /// Adds messages that come behind all others.
    pub(super) fn append(&mut self, behind: Self) {
        self.append_chunk(behind.first);
        let chunks = behind.rest.map(|rest| rest.chunks);
        chunks.into_iter().flatten().for_each(|chunk| self.append_chunk(chunk));
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.rest.as_ref().map_or(0, |rest| rest.len)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.chunks().flatten()
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry> {
        let rest = self.rest.map(|rest| rest.chunks).unwrap_or_default();
        std::iter::once(self.first).chain(rest).flatten()
    }

    /// The messages from this seq on.
    pub(super) fn iter_from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.chunks_from(seq).flatten().skip_while(move |entry| entry.seq < seq)
    }

    /// Parts that lie one after the other in memory.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &VecDeque<Entry>> {
        self.chunks_from(0)
    }

    /// As `chunks`, from that on in which this seq is or would be.
    pub(super) fn chunks_from(&self, seq: u64) -> impl Iterator<Item = &VecDeque<Entry>> {
        let is_before = |chunk: &VecDeque<Entry>| chunk.back().is_none_or(|last| last.seq < seq);
        let rest = self.rest.as_ref().map(|rest| {
            let at = rest.chunks.partition_point(is_before);
            rest.chunks.range(at..)
        });
        let first = (!is_before(&self.first)).then_some(&self.first);
        first.into_iter().chain(rest.into_iter().flatten())
    }

    /// For how many there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.chunks().map(VecDeque::capacity).sum()
    }

    /// Which chunk has this seq if any has: the first, or one of the rest.
    #[expect(clippy::option_option, reason = "no chunk, the first, one of the rest")]
    fn chunk_of(&self, seq: u64) -> Option<Option<usize>> {
        let is_before = |chunk: &VecDeque<Entry>| chunk.back().is_some_and(|last| last.seq < seq);
        if !is_before(&self.first) {
            return Some(None);
        }
        let rest = self.rest.as_ref()?;
        let at = rest.chunks.partition_point(is_before);
        (at < rest.chunks.len()).then_some(Some(at))
    }

    /// The first chunk is empty: the next takes its place.
    #[cold]
    fn refill(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        if let Some(chunk) = rest.chunks.pop_front() {
            rest.len -= chunk.len();
            self.first = chunk;
        }
        self.rest.take_if(|rest| rest.chunks.is_empty());
    }

    /// A short one joins the last, so that there are never many of them.
    fn append_chunk(&mut self, chunk: VecDeque<Entry>) {
        if chunk.is_empty() {
        } else if self.first.is_empty() {
            self.first = chunk;
        } else if self.rest.is_none() && self.first.len() + chunk.len() <= CHUNK_LEN {
            self.first.extend(chunk);
        } else {
            self.rest.get_or_insert_default().append_chunk(chunk);
        }
    }

    fn prepend_chunk(&mut self, chunk: VecDeque<Entry>) {
        let behind = std::mem::take(self);
        self.first = chunk;
        self.append(behind);
    }
}

impl Rest {
    fn push_back(&mut self, entry: Entry) {
        self.len += 1;
        match self.chunks.back_mut().filter(|last| last.len() < CHUNK_LEN) {
            Some(last) => last.push_back(entry),
            None => {
                let mut chunk = VecDeque::with_capacity(CHUNK_LEN);
                chunk.push_back(entry);
                self.chunks.push_back(chunk);
            }
        }
    }

    fn push_chunk_front(&mut self, chunk: VecDeque<Entry>) {
        self.len += chunk.len();
        self.chunks.push_front(chunk);
    }

    fn append_chunk(&mut self, chunk: VecDeque<Entry>) {
        self.len += chunk.len();
        match self.chunks.back_mut().filter(|last| last.len() + chunk.len() <= CHUNK_LEN) {
            Some(last) => last.extend(chunk),
            None => self.chunks.push_back(chunk),
        }
    }

    fn pop_back(&mut self) -> Option<Entry> {
        let last = self.chunks.back_mut()?;
        let entry = last.pop_back()?;
        self.len -= 1;
        if last.is_empty() {
            self.chunks.pop_back();
        }
        Some(entry)
    }

    fn remove(&mut self, at: usize, seq: u64) -> Option<Entry> {
        let chunk = self.chunks.get_mut(at)?;
        let entry = chunk.remove(place(chunk, seq)?)?;
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        Some(entry)
    }

    fn split_off(&mut self, seq: u64) -> VecDeque<VecDeque<Entry>> {
        let is_before = |chunk: &VecDeque<Entry>| chunk.back().is_some_and(|last| last.seq < seq);
        let at = self.chunks.partition_point(is_before);
        let mut behind = self.chunks.split_off(at);
        if let Some(chunk) = behind.front_mut() {
            let stay = chunk.partition_point(|entry| entry.seq < seq);
            if stay > 0 {
                let cut = chunk.split_off(stay);
                self.chunks.push_back(std::mem::replace(chunk, cut));
            }
        }
        self.len = self.chunks.iter().map(VecDeque::len).sum();
        behind
    }
}

impl Extend<Entry> for Entries {
    fn extend<T: IntoIterator<Item = Entry>>(&mut self, entries: T) {
        entries.into_iter().for_each(|entry| self.push_back(entry));
    }
}

fn place(chunk: &VecDeque<Entry>, seq: u64) -> Option<usize> {
    chunk.binary_search_by_key(&seq, |entry| entry.seq).ok()
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
