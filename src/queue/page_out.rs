//! Taking messages out of memory that the disk has too: runs of them as pages, or contents one by
//! one. When, and how much, is decided by who calls.

use super::core::QueueCore;
use super::exact_pages::Keep;
use super::middle::Middle;
use super::page::{Page, PageBuilder, Paged};
use super::ready::{Entry, Ready};
use super::runs::holds;
use crate::id::Seq;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::message::Message;

/// Contents that left memory; dropped without the lock, since freeing takes time.
#[derive(Debug, Default)]
pub struct Freed {
    /// What the queue's `resident_bytes` lost by it.
    pub bytes: u64,
    /// Messages that were looked at or moved. Fewer than allowed: nothing more is to be done.
    pub steps: usize,
    _contents: Vec<Message>,
}

impl Freed {
    pub(super) fn take(&mut self, entry: &mut Entry) {
        if let Some(message) = entry.message.take() {
            self.bytes += u64::from(entry.body_len) + MESSAGE_OVERHEAD_BYTES;
            self._contents.push(message);
        }
    }

    /// Drops contents that `stored` holds, of these entries by seq; says where to go on after
    /// `max` steps. `left` learns the length of each body.
    pub(super) fn sweep<'a>(
        &mut self,
        entries: impl Iterator<Item = (&'a u64, &'a mut Entry)>,
        stored: &[(Seq, Seq)],
        max: usize,
        mut left: impl FnMut(u64),
    ) -> Option<u64> {
        for (seq, entry) in entries {
            if self.steps == max {
                return Some(*seq);
            }
            self.steps += 1;
            if entry.message.is_some() && !entry.reserved && holds(stored, *seq) {
                left(entry.body_len.into());
                self.take(entry);
            }
        }
        None
    }
}

/// How far `evict_bodies` has come.
#[derive(Clone, Copy, Debug)]
pub struct Sweep(pub(super) Place);

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Requeued messages from this seq on come next.
    Returned(u64),
    /// Checked-out ones from this slot on come next.
    Slot(usize),
    /// Waiting ones from this seq on come next.
    Waiting(u64),
    Over,
}

impl Default for Sweep {
    fn default() -> Self {
        Self(Place::Returned(0))
    }
}

impl Sweep {
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.0, Place::Over)
    }
}

impl QueueCore {
    /// First and last of the ready messages in memory that may become pages now, if they are
    /// stored: none of the first `keep_head`, and none of the last `keep_tail`.
    #[must_use]
    pub fn pageable(&self, keep_head: usize, keep_tail: usize) -> Option<(Seq, Seq)> {
        if self.ready.pages_from_map() {
            return self.ready.pageable_mapped(self.keep(keep_head, keep_tail));
        }
        self.ready.pageable(keep_head, keep_tail)
    }

    /// Makes pages of what `pageable` names and `stored` holds: sorted runs of seqs that can be
    /// read from disk. Works on at most `max` messages. The head should be longer than what is read
    /// ahead, or what was just loaded goes out again.
    ///
    /// Messages between them that are not stored stay in memory, beside the pages. Nothing goes
    /// past an invisible message: it is published soon.
    pub fn page_out(
        &mut self,
        stored: &[(Seq, Seq)],
        keep_head: usize,
        keep_tail: usize,
        max: usize,
    ) -> Freed {
        let mut freed = Freed::default();
        let page_len = self.paging.page_len.max(1);
        if self.ready.pages_from_map() {
            let keep = self.keep(keep_head, keep_tail);
            return self.ready.page_mapped(stored, keep, max, page_len);
        }
        if max > 0
            && (self.ready.middle.is_some() || self.ready.split(stored, keep_head, keep_tail))
        {
            self.ready.page_tail(stored, keep_tail, max, page_len, &mut freed);
            self.ready.page_head(stored, keep_head, max, page_len, &mut freed);
        }
        freed
    }

    fn keep(&self, head: usize, tail: usize) -> Keep {
        let through = self.keyed.as_ref().map_or(0, |keyed| keyed.frontier());
        Keep { head, tail, through }
    }

    /// Drops the contents of requeued, checked-out and waiting messages that `stored` holds: sorted
    /// runs of seqs that can be read from disk. Looks at no more than `max` and goes on from where
    /// `sweep` stands.
    pub fn evict_bodies(&mut self, stored: &[(Seq, Seq)], sweep: &mut Sweep, max: usize) -> Freed {
        let mut freed = Freed::default();
        if let Place::Returned(from) = sweep.0 {
            let next = self.ready.evict_returned(stored, from, max, &mut freed);
            sweep.0 = next.map_or(Place::Slot(0), Place::Returned);
        }
        if let Place::Slot(from) = sweep.0 {
            let to = self.checkout.slots_len().min(from + (max - freed.steps));
            for slot in from..to {
                self.checkout.shed(slot, |entry| {
                    if holds(stored, entry.seq) {
                        freed.take(entry);
                    }
                });
            }
            freed.steps += to.saturating_sub(from);
            let over = to >= self.checkout.slots_len();
            sweep.0 = if over { Place::Waiting(0) } else { Place::Slot(to) };
        }
        if let Place::Waiting(from) = sweep.0 {
            let retries = self.retries.as_mut();
            let next = retries.and_then(|it| it.evict(stored, from, max, &mut freed));
            sweep.0 = next.map_or(Place::Over, Place::Waiting);
        }
        freed
    }

    /// Drops one ready message's content from memory. `None` if it cannot be read back.
    pub fn evict(&mut self, seq: Seq) -> Option<Message> {
        self.ready.evict(seq.0)
    }
}

impl Ready {
    fn pageable(&self, keep_head: usize, keep_tail: usize) -> Option<(Seq, Seq)> {
        let range = |first: Option<&Entry>, last: Option<&Entry>| {
            let (first, last) = (first?, last?);
            (first.seq <= last.seq).then_some((Seq(first.seq), Seq(last.seq)))
        };
        let Some(middle) = &self.middle else {
            return range(self.fifo.nth(keep_head), self.fifo.nth_back(keep_tail));
        };
        let last = middle.tail.nth_back(keep_tail);
        let first = middle.tail.front().filter(|entry| !entry.reserved);
        range(first, last).or_else(|| range(self.fifo.nth(keep_head), self.fifo.back()))
    }

    /// Makes a tail of the fifo from the first message on that can become a page. False if there is
    /// none.
    fn split(&mut self, stored: &[(Seq, Seq)], keep_head: usize, keep_tail: usize) -> bool {
        let range = (self.fifo.nth(keep_head), self.fifo.nth_back(keep_tail));
        let (Some(from), Some(to)) = range else { return false };
        let after = stored.partition_point(|(_, last)| last.0 < from.seq);
        let found = stored[after..].iter().find_map(|(first, last)| {
            let entry = self.fifo.iter_from(first.0.max(from.seq)).next()?;
            (entry.seq <= to.seq.min(last.0)).then_some(entry)
        });
        match found {
            Some(first) if !first.reserved => {
                let seq = first.seq;
                self.middle = Some(Box::new(Middle::split(&mut self.fifo, seq)));
                true
            }
            _ => false,
        }
    }

    /// Makes pages of the front of the tail, behind the others.
    fn page_tail(
        &mut self,
        stored: &[(Seq, Seq)],
        keep_tail: usize,
        max: usize,
        page_len: usize,
        freed: &mut Freed,
    ) {
        let (Some(middle), Some((_, last))) = (&mut self.middle, stored.last()) else { return };
        let mut open = PageBuilder::default();
        if middle.tail.len() > keep_tail {
            open = middle.pop_open_page(page_len).map_or(open, PageBuilder::reopen);
        }
        while freed.steps < max && middle.tail.len() > keep_tail {
            let next = middle.tail.pop_front_if(|entry| !entry.reserved && entry.seq <= last.0);
            let Some(mut entry) = next else { break };
            freed.steps += 1;
            if !holds(stored, entry.seq) {
                self.returned.insert(entry.seq, entry);
                continue;
            }
            if !open.takes(entry.seq, page_len) {
                std::mem::take(&mut open).finish().into_iter().for_each(|p| middle.push_page(p));
            }
            open.push(Paged::of(&entry));
            if entry.message.is_some() {
                self.absent += 1;
                self.absent_bytes += u64::from(entry.body_len);
            }
            freed.take(&mut entry);
        }
        open.finish().into_iter().for_each(|page| middle.push_page(page));
    }

    /// Makes pages of the end of the head window, before the others. What is there was mostly
    /// loaded, so it stops at what is not stored.
    fn page_head(
        &mut self,
        stored: &[(Seq, Seq)],
        keep_head: usize,
        max: usize,
        page_len: usize,
        freed: &mut Freed,
    ) {
        let Some(middle) = &mut self.middle else { return };
        let mut taken = Vec::new();
        while freed.steps < max && self.fifo.len() > keep_head {
            let can_go = |entry: &Entry| !entry.reserved && holds(stored, entry.seq);
            let Some(mut entry) = self.fifo.pop_back_if(can_go) else { break };
            freed.steps += 1;
            taken.push(Paged::of(&entry));
            if entry.message.is_some() {
                self.absent += 1;
                self.absent_bytes += u64::from(entry.body_len);
            }
            freed.take(&mut entry);
        }
        let of_one_rank = taken.chunk_by(|a, b| a.seq.rank() == b.seq.rank());
        for part in of_one_rank.flat_map(|part| part.chunks(page_len)) {
            let page = Page::new(part.iter().rev().copied());
            page.into_iter().for_each(|page| middle.push_page_front(page));
        }
    }

    /// Drops contents of returned messages from `from` on; says where to go on.
    fn evict_returned(
        &mut self,
        stored: &[(Seq, Seq)],
        from: u64,
        max: usize,
        freed: &mut Freed,
    ) -> Option<u64> {
        freed.sweep(self.returned.range_mut(from..), stored, max, |body_len| {
            self.absent += 1;
            self.absent_bytes += body_len;
        })
    }

    /// Drops the content of a visible persistent message, which the journal holds too.
    fn evict(&mut self, seq: u64) -> Option<Message> {
        let entry = self.find(seq)?;
        if entry.reserved || !entry.persistent {
            return None;
        }
        let message = entry.message.take()?;
        let bytes = entry.body_len.into();
        self.count_absent(bytes);
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::super::effects::Effects;
    use super::super::outlet::Outlet;
    use super::super::samples::{Sink, get, publish, spec, with};
    use super::super::settle::Settlement;
    use super::*;
    use crate::id::QueueId;
    use crate::limits::{LOAD_LEN, PAGE_LEN, WORK_PER_LOCK_MAX};
    use crate::store::OnDisk;
    use crate::store::RecordBatch;
    use std::sync::Arc;

    const ALL: [(Seq, Seq); 1] = [(Seq(1), Seq(u64::MAX))];

    fn run(first: u64, last: u64) -> (Seq, Seq) {
        (Seq(first), Seq(last))
    }

    fn batch() -> (RecordBatch, Effects) {
        (RecordBatch::new(), Effects::new())
    }

    /// A billion messages as they come from a checkpoint.
    fn billion() -> QueueCore {
        let mut core = QueueCore::new(QueueId(1), true);
        for page in 0..1_000 {
            let (first, last) = (page * 1_000_000 + 1, (page + 1) * 1_000_000);
            core.restore_page(Page::dense(Seq(first), Seq(last), 1_000_000, page < 10));
        }
        core
    }

    #[test]
    fn a_million_paged_messages_take_less_than_100_kb() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(1_000_000, records, effects);
        let full = core.resident_bytes();
        assert_eq!(core.pageable(10, 20), Some(run(11, 999_980)));
        let mut freed = 0;
        loop {
            let part = core.page_out(&ALL, 10, 20, WORK_PER_LOCK_MAX);
            freed += part.bytes;
            if part.steps < WORK_PER_LOCK_MAX {
                break;
            }
        }
        assert_eq!(core.resident_bytes(), full - freed);
        assert_eq!(freed, full / 1_000_000 * (1_000_000 - 30));
        assert_eq!((core.ready_len(), core.ready_bytes()), (1_000_000, 1_000_000));
        let ready = &core.ready;
        let middle = ready.middle.as_ref().unwrap();
        assert_eq!((ready.fifo.len(), middle.tail.len()), (10, 20));
        assert_eq!(middle.pages.len(), 1_000_000 / PAGE_LEN + 1);
        let entries = ready.fifo.capacity() + middle.tail.capacity();
        let pages: usize = middle.pages.iter().map(Page::memory).sum();
        let free = (middle.pages.capacity() - middle.pages.len()) * size_of::<Page>();
        let memory = pages + free + entries * size_of::<Entry>();
        assert!(memory < 100_000, "{memory}");
    }

    #[test]
    fn a_billion_paged_messages_are_named_and_purged_without_a_look_at_each() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = billion();
        assert_eq!((core.ready_len(), core.resident_bytes()), (1_000_000_000, 0));
        let alive = core.alive();
        assert_eq!(alive.live, [run(1, 1_000_000_000)]);
        assert_eq!(alive.redelivered, [run(1, 10_000_000)]);
        assert_eq!(alive.next_seq, Seq(1_000_000_001));
        drop(core.purge(records, effects));
        assert_eq!((core.ready_len(), core.ready_bytes()), (0, 0));
        assert_eq!(core.alive().live, []);
    }

    #[test]
    fn a_load_asks_for_a_part_of_a_long_page_and_what_was_read_ahead_stays_short() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = billion();
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        core.consume(spec(&outlet, 1), records, effects);
        let mut loads = 0;
        while let Some(load) = effects.loads.pop() {
            let (first, last) = load.runs[0];
            assert_eq!((load.runs.len(), last.0 - first.0 + 1), (1, LOAD_LEN as u64));
            let read = (first.0..=last.0).map(|seq| OnDisk::new(Seq(seq), publish().message));
            core.loaded(read.collect(), &[], records, effects);
            loads += 1;
            assert!(core.ready.fifo.len() <= LOAD_LEN + core.paging.read_ahead_len);
        }
        // The consumer's credit of 8192, and one load that waits for more.
        assert_eq!((loads, core.unacked_len(), core.ready.fifo.len()), (3, 8_192, LOAD_LEN));
    }

    #[test]
    fn what_is_not_stored_stays_in_memory_and_blocks_nothing() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(1_000, records, effects);
        // The first that can go is 5; of those behind it every tenth stays.
        let stored: Vec<_> = (0..100).map(|ten| run(ten * 10 + 5, ten * 10 + 13)).collect();
        let freed = core.page_out(&stored, 2, 0, 5_000);
        assert_eq!(freed.steps, 996);
        let ready = &core.ready;
        let counts = (ready.fifo.len(), ready.returned.len(), ready.absent_seqs().len());
        assert_eq!(counts, (4, 99, 897));
        assert_eq!(core.pageable(2, 0), Some(run(3, 4)));
        assert_eq!(core.page_out(&stored, 2, 0, 5_000).steps, 0);
        assert_eq!(core.alive().live, [run(1, 1_000)]);
        let seqs: Vec<_> = core.ready_seqs().iter().map(|seq| seq.0).collect();
        assert!(seqs.into_iter().eq(1..=1_000));
    }

    #[test]
    fn pages_are_filled_up_before_new_ones_begin() {
        let (mut records, mut effects) = batch();
        let mut core = with(3_000, &mut records, &mut effects);
        while core.page_out(&ALL, 0, 0, 7).steps == 7 {}
        assert_eq!(core.ready.middle.as_ref().unwrap().pages.len(), 3);
    }

    #[test]
    fn an_invisible_message_stops_a_page_and_is_shown_in_its_place() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(5, records, effects);
        let target = core.reserve(publish(), effects).unwrap();
        core.publish(&mut vec![publish(); 5], records, effects);
        assert_eq!(core.page_out(&ALL, 0, 0, 100).steps, 5);
        assert_eq!((core.page_out(&ALL, 0, 0, 100).steps, core.pageable(0, 0)), (0, None));
        core.show(&[target.seq], records, effects);
        assert_eq!(core.pageable(0, 0), Some(run(6, 11)));
        assert_eq!(core.page_out(&ALL, 0, 0, 100).steps, 6);
        assert_eq!(core.ready_len(), 11);
    }

    #[test]
    fn requeued_messages_without_content_are_loaded_together() {
        let (mut records, mut effects) = batch();
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(100, records, effects);
        let out: Vec<_> = (0..50).map(|_| get(&mut core, records, effects)).collect();
        let mut sweep = Sweep::default();
        while !sweep.is_over() {
            assert!(core.evict_bodies(&ALL, &mut sweep, 8).steps <= 8);
        }
        core.settle(&out, Settlement::Requeue, records, effects);
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        core.consume(spec(&outlet, 1), records, effects);
        assert_eq!(effects.loads.pop().unwrap().runs, [run(1, 50)]);
        // The first half cannot be read: it is passed over, and never ends by itself.
        let lost: Vec<_> = (1..=25).map(Seq).collect();
        let read = (26..=50).map(|seq| OnDisk::new(Seq(seq), publish().message));
        core.loaded(read.collect(), &lost, records, effects);
        assert_eq!((core.ready_len(), core.unacked_len(), core.damaged_len()), (0, 75, 25));
        assert_eq!(core.alive().live, [run(1, 100)]);
        assert_eq!(core.alive().redelivered, [run(1, 50)]);
        drop(core.purge(records, effects));
        assert_eq!((core.damaged_len(), core.alive().live), (0, vec![run(26, 100)]));
    }
}
