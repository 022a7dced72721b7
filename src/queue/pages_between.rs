//! Pages of queues whose messages join anywhere between those that wait: timed ones, see
//! `delayed_pages`, and ones with priorities, where a new message stands behind all of its rank and
//! before the next rank.
//!
//! Where there are priorities the lowest rank leaves memory as any queue does, see `page_out`; here
//! goes what lies in the map beside it. Each page has one rank, and none is divided: what stands
//! within one joins it, up to twice its length.

use super::core::QueueCore;
use super::middle::Middle;
use super::page::{Page, PageBuilder};
use super::page_out::Freed;
use super::ready::{Entry, Ready};
use super::runs::holds;
use super::spill::Transient;
use crate::id::Seq;
use crate::limits::{JOINED_PAGES_AT_ONCE, JOINING_PAGES_AT_ONCE, WORK_PER_LOCK_MAX};

impl QueueCore {
    /// First and last of the messages in memory that may leave it next: the latest of those before
    /// `below`, but none of the first `keep`. They join no more than a few pages. `None` too if
    /// messages join this queue at its end only.
    pub fn pageable_between(&mut self, keep: usize, below: Seq) -> Option<(Seq, Seq)> {
        let (from, to) = if self.id.is_timed() {
            self.ready.put_aside();
            (self.ready.returned.keys().nth(keep).copied()?, u64::MAX)
        } else if self.has_ranks() {
            self.ready.make_room_between(keep)?
        } else {
            return None;
        };
        self.ready.latest_between(from, to.min(below.0))
    }

    /// The transient messages in memory from `first` to `last`.
    #[must_use]
    pub fn transient_between(&self, first: Seq, last: Seq) -> Transient {
        let mut found = Transient::default();
        let between = self.ready.returned.range(first.0..=last.0).map(|(_, entry)| entry);
        between.filter(|entry| !entry.reserved).for_each(|entry| found.look(entry));
        found
    }

    /// Makes pages of the messages from `first` to `last` that `stored` holds: sorted runs of seqs
    /// that can be read from disk.
    pub fn page_out_between(&mut self, stored: &[(Seq, Seq)], first: Seq, last: Seq) -> Freed {
        let page_len = self.paging.page_len.max(1);
        if self.id.is_timed() {
            return self.ready.page_waiting(stored, (first.0, last.0), page_len);
        }
        self.ready.page_ranked(stored, (first.0, last.0), page_len)
    }

    fn has_ranks(&self) -> bool {
        self.behaviour.max_priority.is_some() && self.keyed.is_none()
    }
}

impl Ready {
    /// The latest messages in the map from `from` on and before `end`: as many as may leave in one
    /// lock hold, and join pages near each other.
    fn latest_between(&self, from: u64, end: u64) -> Option<(Seq, Seq)> {
        let mut leaving = self.returned.range(from..end.max(from)).rev();
        let (last, _) = leaving.next()?;
        let near = self.pages_up_to(*last, JOINED_PAGES_AT_ONCE);
        let near =
            leaving.take(JOINING_PAGES_AT_ONCE - 1).take_while(|(seq, _)| **seq >= near).last();
        let first = near.map_or(last, |(seq, _)| seq);
        Some((Seq(*first), Seq(*last)))
    }

    /// Where the last `max` of the pages begin that begin before this seq.
    fn pages_up_to(&self, seq: u64, max: usize) -> u64 {
        let Some(middle) = &self.middle else { return 0 };
        let end = middle.pages.partition_point(|page| page.first().0 <= seq);
        end.checked_sub(max).map_or(0, |at| middle.pages[at].first().0)
    }

    /// Puts into the map what stands in the way of pages: they come behind the head window and
    /// before the tail. Says where they may be, behind the first `keep` messages.
    fn make_room_between(&mut self, keep: usize) -> Option<(u64, u64)> {
        if self.is_unswept() {
            return None;
        }
        let from = self.end_of_kept(keep)?;
        let latest = self.returned.last_key_value().map(|(seq, _)| *seq)?;
        let Some(middle) = &mut self.middle else {
            // What the fifo has from there on becomes the tail.
            let mut behind = self.fifo.split_off(from);
            if behind.front().is_some_and(|entry| entry.seq < latest) {
                let aside = std::iter::from_fn(|| behind.pop_front()).take(WORK_PER_LOCK_MAX);
                self.returned.extend(aside.map(with_seq));
            }
            let end = behind.front().map_or(u64::MAX, |entry| entry.seq);
            self.fifo.append(behind);
            return Some((from, end));
        };
        let covers =
            |last: &Entry| last.seq > from && self.returned.range(from..last.seq).next().is_some();
        if self.fifo.back().is_some_and(covers) {
            let aside = std::iter::from_fn(|| self.fifo.pop_back_if(|last| last.seq >= from));
            self.returned.extend(aside.take(WORK_PER_LOCK_MAX).map(with_seq));
        }
        if middle.tail.front().is_some_and(|entry| entry.seq < latest) {
            let aside = std::iter::from_fn(|| middle.tail.pop_front()).take(WORK_PER_LOCK_MAX);
            self.returned.extend(aside.map(with_seq));
        }
        let from = self.fifo.back().map_or(from, |last| from.max(last.seq + 1));
        Some((from, middle.tail.front().map_or(u64::MAX, |entry| entry.seq)))
    }

    /// The first message behind the `keep` that consumers would take next, and that are in memory.
    fn end_of_kept(&self, keep: usize) -> Option<u64> {
        let mut fifo = self.fifo.iter().map(|entry| entry.seq).peekable();
        let mut returned = self.returned.keys().copied().peekable();
        let mut in_memory = std::iter::from_fn(|| match (fifo.peek(), returned.peek()) {
            (Some(a), Some(b)) if b < a => returned.next(),
            (None, _) => returned.next(),
            (Some(_), _) => fifo.next(),
        });
        let behind = in_memory.nth(keep);
        let paged = self.middle.as_ref().map(|middle| middle.first());
        behind.into_iter().chain(paged).min()
    }

    /// As `QueueCore::page_out_between`, where each message has a rank. What cannot join a page
    /// without dividing it stays.
    fn page_ranked(
        &mut self,
        stored: &[(Seq, Seq)],
        (first, last): (u64, u64),
        page_len: usize,
    ) -> Freed {
        let mut freed = Freed::default();
        let Some((first, end)) = self.room_between(first, last) else { return freed };
        let in_range = self.returned.range(first..end);
        let leaving = in_range.filter(|(seq, entry)| !entry.reserved && holds(stored, **seq));
        let mut leaving: Vec<u64> = leaving.map(|(seq, _)| *seq).collect();
        if !leaving.is_empty() && self.middle.is_none() {
            self.middle = Some(Box::new(Middle::split(&mut self.fifo, first)));
        }
        // The last ones first: pages that are new move only those behind them.
        while let (Some(last), Some(middle)) = (leaving.last(), &self.middle) {
            let at = middle.pages.partition_point(|page| page.last().0 < *last);
            let within = middle.pages.get(at).filter(|page| page.first().0 <= *last);
            let before = at.checked_sub(1).map(|before| &middle.pages[before]);
            let behind = before.map_or(0, |page| page.last().0 + 1);
            let from = within.map_or(behind, |page| page.first().0);
            let is_within = within.is_some();
            let part = leaving.split_off(leaving.partition_point(|seq| *seq < from));
            if is_within {
                self.grow_page(at, part, page_len, &mut freed);
            } else {
                self.add_pages(at, part, page_len, &mut freed);
            }
        }
        freed
    }

    /// The part of `first` to `last`, and its end, where there may be pages: the queue may have
    /// changed since that was asked.
    fn room_between(&self, first: u64, last: u64) -> Option<(u64, u64)> {
        let end = last.saturating_add(1);
        let (first, tail) = match &self.middle {
            Some(middle) => {
                let behind = self.fifo.back().map_or(0, |entry| entry.seq + 1);
                (first.max(behind), middle.tail.front())
            }
            None => (first, self.fifo.iter_from(first).next()),
        };
        let end = tail.map_or(end, |entry| end.min(entry.seq));
        (first < end).then_some((first, end))
    }

    /// Puts messages, all of them between its first and its last, into a page, as many as fit.
    fn grow_page(&mut self, at: usize, mut seqs: Vec<u64>, page_len: usize, freed: &mut Freed) {
        let page = self.middle.as_ref().map(|middle| &middle.pages[at]);
        seqs.truncate(page.map_or(0, |page| (2 * page_len).saturating_sub(page.len())));
        let mut messages = self.let_leave(seqs, freed);
        let Some(middle) = &mut self.middle else { return };
        middle.paged += messages.len();
        let page = &mut middle.pages[at];
        let due = page.due();
        messages.extend(page.messages(|_| due));
        // Two lists in order, one behind the other: that is one pass.
        messages.sort_by_key(|message| message.seq);
        Page::new(messages).into_iter().for_each(|grown| *page = grown);
    }

    /// Makes pages of messages that stand before page `at` and behind the one before that, or adds
    /// them to that one if nothing else would be within it then.
    fn add_pages(&mut self, mut at: usize, seqs: Vec<u64>, page_len: usize, freed: &mut Freed) {
        let (Some(&first), Some(middle)) = (seqs.first(), &mut self.middle) else { return };
        let mut open = PageBuilder::default();
        if let Some(before) = at.checked_sub(1).map(|before| &middle.pages[before])
            && before.takes(first, page_len)
            && self.returned.range(before.last().0..first).next().is_none()
            && let Some(page) = middle.pages.remove(at - 1)
        {
            at -= 1;
            middle.paged -= page.len();
            open = PageBuilder::reopen(page);
        }
        let mut written = Vec::new();
        for message in self.let_leave(seqs, freed) {
            if !open.takes(message.seq.0, page_len) {
                written.extend(std::mem::take(&mut open).finish());
            }
            open.push(message);
        }
        written.extend(open.finish());
        let Some(middle) = &mut self.middle else { return };
        for page in written.into_iter().rev() {
            middle.paged += page.len();
            middle.pages.insert(at, page);
        }
    }
}

fn with_seq(entry: Entry) -> (u64, Entry) {
    (entry.seq, entry)
}
