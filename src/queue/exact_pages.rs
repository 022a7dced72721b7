//! Pages of an exact queue: made from the map, wherever its messages belong, and read for what is
//! due in them.

use super::core::body_len;
use super::dues::{Asked, Unread};
use super::load::{Answer, Paging};
use super::page::{Page, PageBuilder, Paged};
use super::page_out::Freed;
use super::ready::{Entry, Ready};
use super::runs::{add_run, runs};
use crate::id::Seq;
use crate::limits::DUE_PAGES_PER_LOAD;
use crate::time::UnixMillis;
use std::collections::VecDeque;

/// What stays in memory when pages are made.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    /// So many of the first messages, and of the last.
    pub(super) head: usize,
    pub(super) tail: usize,
    /// All seqs up to this one.
    pub(super) through: u64,
}

impl Ready {
    /// Pages are made from the map: an exact queue's, and what such a queue has left in it.
    pub(super) fn pages_from_map(&self) -> bool {
        let no_tail = || self.middle.as_ref().is_none_or(|middle| middle.tail.is_empty());
        self.dues.is_some() || self.mapped && self.fifo.is_empty() && no_tail()
    }

    /// As `pageable`, of the map: what may join the last page, or if there is nothing, go before
    /// the first one.
    pub(super) fn pageable_mapped(&self, keep: Keep) -> Option<(Seq, Seq)> {
        let span = |(from, to): (u64, u64)| {
            let mut leaving = self.returned.range(from..=to).map(|(seq, _)| Seq(*seq));
            let first = leaving.next()?;
            Some((first, leaving.next_back().unwrap_or(first)))
        };
        let tail = self.leaving_tail(keep).and_then(span);
        tail.or_else(|| self.leaving_head(keep).and_then(span))
    }

    /// Not all of what is in memory is in the map, and not all of its times are listed.
    pub(super) fn is_unswept(&self) -> bool {
        self.dues.as_ref().is_some_and(|dues| dues.sweep.is_some())
    }

    /// Between which seqs messages may join the last page.
    fn leaving_tail(&self, keep: Keep) -> Option<(u64, u64)> {
        let last = self.middle.as_ref().and_then(|middle| middle.pages.back()).map(Page::last);
        if self.is_unswept() {
            return None;
        }
        let from = match last {
            Some(last) => last.0 + 1,
            None => *self.returned.keys().nth(keep.head)?,
        };
        let from = from.max(keep.through.saturating_add(1));
        let to = *self.returned.keys().nth_back(keep.tail)?;
        (from <= to).then_some((from, to))
    }

    /// Between which seqs messages may go into pages before the first one.
    fn leaving_head(&self, keep: Keep) -> Option<(u64, u64)> {
        if self.is_unswept() {
            return None;
        }
        let to = self.middle.as_ref()?.first().checked_sub(1)?;
        let from = *self.returned.keys().nth(keep.head)?;
        let from = from.max(keep.through.saturating_add(1));
        (from <= to).then_some((from, to))
    }

    /// As `QueueCore::page_out`, of the map. Only what is stored is looked at. What stands between
    /// pages stays, but for urgent messages, see `pages_between`: a page does not know how many
    /// bytes each of its messages has, so no page can be divided.
    pub(super) fn page_mapped(
        &mut self,
        stored: &[(Seq, Seq)],
        keep: Keep,
        max: usize,
        page_len: usize,
    ) -> Freed {
        let mut freed = Freed::default();
        if let Some(range) = self.leaving_tail(keep) {
            let leaving = self.stored_within(stored, range).take(max).collect();
            let leaving = self.let_leave(leaving, &mut freed);
            self.append_pages(leaving, page_len);
        }
        if let Some(range) = self.leaving_head(keep).filter(|_| freed.steps < max) {
            let mut leaving: Vec<u64> =
                self.stored_within(stored, range).rev().take(max - freed.steps).collect();
            leaving.reverse();
            let leaving = self.let_leave(leaving, &mut freed);
            if let Some(middle) = &mut self.middle {
                let of_one_rank = leaving.chunk_by(|a, b| a.seq.rank() == b.seq.rank()).rev();
                let parts = of_one_rank.flat_map(|part| part.rchunks(page_len));
                let pages = parts.filter_map(|part| Page::new(part.iter().copied()));
                pages.for_each(|page| middle.push_page_front(page));
            }
        }
        freed
    }

    /// Visible messages in the map that `stored` holds.
    pub(super) fn stored_within(
        &self,
        stored: &[(Seq, Seq)],
        (from, to): (u64, u64),
    ) -> impl DoubleEndedIterator<Item = u64> {
        let after = stored.partition_point(|(_, last)| last.0 < from);
        let until = stored.partition_point(|(first, _)| first.0 <= to);
        let runs = stored.get(after..until).unwrap_or_default().iter();
        let runs = runs.map(move |(first, last)| first.0.max(from)..=last.0.min(to));
        let entries = runs.flat_map(|run| self.returned.range(run));
        entries.filter(|(_, entry)| !entry.reserved).map(|(seq, _)| *seq)
    }

    /// Takes these out of the map, for pages. Their times stay listed.
    pub(super) fn let_leave(&mut self, seqs: Vec<u64>, freed: &mut Freed) -> Vec<Paged> {
        let mut leaving = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let Some(mut entry) = self.returned.remove(&seq) else { continue };
            freed.steps += 1;
            leaving.push(Paged::of(&entry));
            if entry.message.is_some() {
                self.count_absent(entry.body_len.into());
            }
            freed.take(&mut entry);
        }
        leaving
    }

    /// Makes pages behind the others.
    fn append_pages(&mut self, messages: Vec<Paged>, page_len: usize) {
        if messages.is_empty() {
            return;
        }
        let middle = self.middle.get_or_insert_default();
        let mut open =
            middle.pop_open_page(page_len).map_or_else(PageBuilder::default, PageBuilder::reopen);
        for message in messages {
            if !open.takes(message.seq.0, page_len) {
                std::mem::take(&mut open).finish().into_iter().for_each(|it| middle.push_page(it));
            }
            open.push(message);
        }
        open.finish().into_iter().for_each(|page| middle.push_page(page));
    }

    /// What one load should bring of what is due and lies in pages.
    pub(super) fn runs_of_due(&mut self, now: UnixMillis, paging: &Paging) -> Vec<(Seq, Seq)> {
        let overdue = self.next_overdue(paging);
        let Some(dues) = &mut self.dues else { return Vec::new() };
        if !overdue.is_empty() {
            let found = runs(overdue.iter().copied());
            dues.asked = Some(Asked::Overdue(overdue));
            return found;
        }
        let Some(unread) = dues.unread.filter(|unread| unread.due <= now) else {
            return Vec::new();
        };
        let pages = self.middle.as_ref().map(|middle| &middle.pages);
        let found = pages.map_or_else(Vec::new, |pages| unread_runs(pages, unread, paging));
        if found.is_empty() {
            dues.unread = None;
        } else {
            dues.asked = Some(Asked::Unread(found.clone()));
        }
        found
    }

    /// Takes from `overdue` what one load should bring: from pages, and what is in the map without
    /// its content. The rest has come back, or has ended.
    fn next_overdue(&mut self, paging: &Paging) -> Vec<u64> {
        let (Some(dues), none) = (&mut self.dues, VecDeque::new()) else { return Vec::new() };
        let pages = self.middle.as_ref().map_or(&none, |middle| &middle.pages);
        let (mut found, mut bytes, mut left) = (Vec::new(), paging.load_bytes, DUE_PAGES_PER_LOAD);
        let len_max = paging.load_len.max(1);
        while left > 0
            && found.len() < len_max
            && let Some(first) = dues.overdue.pop_first()
        {
            let mut absent = vec![first];
            if let Some(page) = page_at(pages, first).map(|at| &pages[at]) {
                left -= 1;
                let of_page = |seq: &&u64| **seq <= page.last().0;
                while found.len() + absent.len() < len_max
                    && let Some(seq) = dues.overdue.first().filter(of_page)
                {
                    absent.push(*seq);
                    dues.overdue.pop_first();
                }
                let mut there = split_present(page, &mut absent);
                let fitting = usize::try_from(bytes / page.body_len_mean()).unwrap_or(usize::MAX);
                let fitting = fitting.max(usize::from(found.is_empty())).min(there.len());
                bytes = bytes.saturating_sub(fitting as u64 * page.body_len_mean());
                if fitting < there.len() {
                    left = 0;
                    dues.overdue.extend(there.drain(fitting..));
                }
                found.append(&mut there);
            }
            for seq in absent {
                match self.returned.get(&seq) {
                    Some(entry) if entry.message.is_none() => {
                        bytes = bytes.saturating_sub(entry.body_len.into());
                        found.push(seq);
                    }
                    Some(entry) => drop(dues.listed.insert((entry.due, seq))),
                    None => {}
                }
            }
            if bytes == 0 {
                break;
            }
        }
        found.sort_unstable();
        found
    }

    /// A load is answered. Says what it had asked for if it was one for what is due; what it did
    /// not look at is asked for again.
    pub(super) fn note_answered(&mut self, answers: &[Answer]) -> Option<Asked> {
        let dues = self.dues.as_mut()?;
        let asked = dues.asked.take()?;
        let answered = |seq: &u64| answers.binary_search_by_key(seq, |answer| answer.seq).is_ok();
        match (&asked, &mut dues.unread) {
            (Asked::Overdue(seqs), _) => {
                dues.overdue.extend(seqs.iter().filter(|seq| !answered(seq)));
            }
            (Asked::Unread(runs), Some(unread)) => {
                let mut seqs = runs.iter().flat_map(|(first, last)| first.0..=last.0);
                let behind = || runs.last().map_or(0, |(_, last)| last.0.saturating_add(1));
                unread.from = seqs.find(|seq| !answered(seq)).unwrap_or_else(behind);
            }
            (Asked::Unread(_), None) => {}
        }
        Some(asked)
    }

    /// These are on disk and not due.
    pub(super) fn list_answered(&mut self, answers: &[Answer]) {
        let Some(dues) = &mut self.dues else { return };
        for answer in answers {
            if let Some(entry) = self.returned.get_mut(&answer.seq) {
                dues.listed.remove(&(entry.due, entry.seq));
                entry.due = answer.due;
            }
            if answer.due != UnixMillis::NEVER {
                dues.listed.insert((answer.due, answer.seq));
            }
        }
    }

    /// Takes these messages, whose seqs increase, out of their pages. Those that cannot be read are
    /// damaged; those that are in no page go to `others`.
    pub(super) fn take_from_pages(
        &mut self,
        mut answers: Vec<Answer>,
        others: &mut Vec<Answer>,
    ) -> Vec<Entry> {
        let mut taken = Vec::new();
        // The last ones first: pages that end move only those behind them.
        while let Some(last) = answers.pop() {
            let pages = self.middle.as_ref().map(|middle| &middle.pages);
            let found = pages.and_then(|pages| Some((page_at(pages, last.seq)?, pages)));
            let Some((at, first)) = found.map(|(at, pages)| (at, pages[at].first().0)) else {
                others.push(last);
                continue;
            };
            let mut part = answers.split_off(answers.partition_point(|it| it.seq < first));
            part.push(last);
            self.take_from_page(at, part, others, &mut taken);
        }
        if self.middle.as_ref().is_some_and(|middle| middle.pages.is_empty())
            && let Some(middle) = self.middle.take()
        {
            middle.join(&mut self.fifo);
        }
        taken
    }

    fn take_from_page(
        &mut self,
        at: usize,
        answers: Vec<Answer>,
        others: &mut Vec<Answer>,
        taken: &mut Vec<Entry>,
    ) {
        let Some(middle) = &mut self.middle else { return };
        let page = &middle.pages[at];
        let (len, mut bytes) = (page.len(), page.bytes());
        let mut rest = PageBuilder::default();
        let (mut answers, mut lost) = (answers.into_iter().peekable(), Vec::new());
        let before = taken.len();
        for (seq, marks) in page.walk() {
            while let Some(answer) = answers.next_if(|answer| answer.seq < seq) {
                others.push(answer);
            }
            let (persistent, redelivered) = (marks.persistent(), marks.redelivered());
            let Some(answer) = answers.next_if(|answer| answer.seq == seq) else {
                let due = page.due();
                rest.push(Paged { seq: Seq(seq), body_len: 0, persistent, redelivered, due });
                continue;
            };
            let Some(message) = answer.message else {
                lost.push((seq, redelivered));
                continue;
            };
            let (due, body_len) = (answer.due, body_len(&message));
            let (message, reserved) = (Some(message), false);
            bytes = bytes.saturating_sub(body_len.into());
            taken.push(Entry { seq, message, body_len, due, persistent, redelivered, reserved });
        }
        others.extend(answers);
        let gone = taken.len() - before + lost.len();
        let fewer = page.bytes() - bytes;
        middle.paged -= gone;
        let fewer = match rest.finish() {
            Some(rest) => {
                middle.pages[at] = rest.with_bytes(bytes);
                fewer
            }
            // What the lost ones had, or what the page had said too much, goes with it.
            None => {
                debug_assert_eq!(len, gone, "a page that is empty has given up all");
                middle.pages.remove(at);
                fewer + bytes
            }
        };
        (0..gone).for_each(|_| self.count_present(0));
        self.count_fewer_bytes(fewer);
        lost.into_iter().for_each(|(seq, redelivered)| self.damage(seq, redelivered));
    }
}

/// The page within whose bounds `seq` lies.
fn page_at(pages: &VecDeque<Page>, seq: u64) -> Option<usize> {
    let at = pages.partition_point(|page| page.last().0 < seq);
    pages.get(at).is_some_and(|page| page.first().0 <= seq).then_some(at)
}

/// Takes from these seqs, which increase, those that the page has.
fn split_present(page: &Page, seqs: &mut Vec<u64>) -> Vec<u64> {
    if is_dense(page) {
        return std::mem::take(seqs);
    }
    let mut walk = page.walk().map(|(seq, _)| seq).peekable();
    let is_there = |seq: &mut u64| {
        while walk.next_if(|there| there < seq).is_some() {}
        walk.peek() == Some(seq)
    };
    seqs.extract_if(.., is_there).collect()
}

fn is_dense(page: &Page) -> bool {
    page.last().0 - page.first().0 + 1 == page.len() as u64
}

/// The first unread messages, as many as one load brings.
fn unread_runs(pages: &VecDeque<Page>, unread: Unread, paging: &Paging) -> Vec<(Seq, Seq)> {
    let (mut found, mut left, mut bytes) = (Vec::new(), paging.load_len.max(1), paging.load_bytes);
    let at = pages.partition_point(|page| page.last().0 < unread.from);
    let near = pages.range(at..).take(DUE_PAGES_PER_LOAD);
    for page in near.take_while(|page| page.first().0 <= unread.to) {
        let fitting = usize::try_from(bytes / page.body_len_mean()).unwrap_or(usize::MAX);
        let count = left.min(fitting.max(usize::from(found.is_empty())));
        let first = page.first().0.max(unread.from);
        let (mut taken, last) = (0, page.last().0);
        if is_dense(page) {
            taken = usize::try_from(last - first + 1).unwrap_or(usize::MAX).min(count);
            if taken > 0 {
                add_run(&mut found, (first, first + (taken - 1) as u64));
            }
        } else {
            let seqs = page.walk().map(|(seq, _)| seq).skip_while(|seq| *seq < first);
            for seq in seqs.take(count) {
                add_run(&mut found, (seq, seq));
                taken += 1;
            }
        }
        left -= taken;
        bytes = bytes.saturating_sub(taken as u64 * page.body_len_mean());
        // The rest of a page comes before the next one.
        if found.last().is_none_or(|(_, asked)| asked.0 < last) {
            break;
        }
    }
    found
}
