//! One channel's unacknowledged deliveries by delivery tag.
//!
//! Tags grow, but for a get whose answer is late, so a deque sorted by tag is enough: settling in
//! order pops its front, settling at random leaves holes that are swept when they are most of it.

use crate::id::Seq;
use crate::queue::Delivery;
use std::collections::VecDeque;

/// A delivery that the client has not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unacked {
    pub(super) tag: u64,
    pub(super) seq: Seq,
    pub(super) slot: u32,
    /// Which of the link's queues it came from.
    pub(super) queue: u32,
    /// It counts in the channel-wide prefetch.
    pub(super) limited: bool,
    /// Its consumer's own timeout, as `overdue` reads it.
    pub(super) timeout_ms: u32,
}

impl Unacked {
    fn is_outstanding(&self) -> bool {
        self.slot != Delivery::NO_SLOT
    }
}

#[derive(Debug, Default)]
pub(super) struct UnackedList {
    /// Sorted by tag. One that was settled out of order has `NO_SLOT`.
    entries: VecDeque<Unacked>,
    live: usize,
}

impl UnackedList {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Adds a delivery, nearly always with the highest tag so far.
    pub(super) fn push(&mut self, unacked: Unacked) {
        self.live += 1;
        if self.entries.back().is_none_or(|last| last.tag < unacked.tag) {
            self.entries.push_back(unacked);
        } else {
            let at = self.entries.partition_point(|before| before.tag < unacked.tag);
            self.entries.insert(at, unacked);
        }
    }

    /// Takes one out.
    pub(super) fn take(&mut self, tag: u64) -> Option<Unacked> {
        let at = match self.entries.front() {
            Some(first) if first.tag == tag => 0,
            _ => self.find(tag)?,
        };
        let entry = &mut self.entries[at];
        let taken = entry.is_outstanding().then_some(*entry)?;
        entry.slot = Delivery::NO_SLOT;
        self.live -= 1;
        self.sweep();
        Some(taken)
    }

    /// Takes all up to `tag` into `out`, if `tag` itself is outstanding.
    pub(super) fn take_up_to(&mut self, tag: u64, out: &mut Vec<Unacked>) -> bool {
        let Some(at) = self.find(tag).filter(|at| self.entries[*at].is_outstanding()) else {
            return false;
        };
        let before = out.len();
        out.extend(self.entries.drain(..=at).filter(Unacked::is_outstanding));
        self.live -= out.len() - before;
        self.sweep();
        true
    }

    /// Takes all into `out`.
    pub(super) fn take_all(&mut self, out: &mut Vec<Unacked>) {
        out.extend(self.entries.drain(..).filter(Unacked::is_outstanding));
        self.live = 0;
        self.sweep();
    }

    /// Puts settled deliveries back, as a rollback does.
    pub(super) fn put_back(&mut self, returned: Vec<Unacked>) {
        self.live += returned.len();
        let left = self.entries.drain(..).filter(Unacked::is_outstanding);
        let mut all: Vec<_> = left.chain(returned).collect();
        all.sort_unstable_by_key(|unacked| unacked.tag);
        self.entries = all.into();
    }

    /// The tag of the oldest.
    #[inline]
    pub(super) fn first_tag(&self) -> Option<u64> {
        self.entries.front().map(|first| first.tag)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unacked> {
        self.entries.iter().filter(|unacked| unacked.is_outstanding())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Unacked> {
        self.entries.iter_mut().filter(|unacked| unacked.is_outstanding())
    }

    fn find(&self, tag: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&tag, |unacked| unacked.tag).ok()
    }

    /// Keeps the front live, and holes fewer than half.
    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|first| !first.is_outstanding()) {
            self.entries.pop_front();
        }
        if self.entries.len() > 64 && self.entries.len() > 2 * self.live {
            self.entries.retain(Unacked::is_outstanding);
        }
        if self.entries.capacity() > 1024 && self.entries.len() * 8 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tags: impl IntoIterator<Item = u64>) -> UnackedList {
        let mut list = UnackedList::default();
        for tag in tags {
            list.push(Unacked {
                tag,
                seq: Seq(tag),
                slot: 0,
                queue: 0,
                limited: false,
                timeout_ms: 0,
            });
        }
        list
    }

    #[test]
    fn a_tag_can_be_taken_once() {
        let mut list = list([1, 2, 5]);
        assert_eq!(list.take(2).map(|unacked| unacked.tag), Some(2));
        assert_eq!(list.take(2), None);
        assert_eq!(list.take(3), None);
        assert_eq!(list.len(), 2);
    }

    #[test]
    fn multiple_needs_its_own_tag_outstanding() {
        let mut list = list(1..=5);
        list.take(3);
        let mut out = Vec::new();
        assert!(!list.take_up_to(3, &mut out));
        assert!(!list.take_up_to(9, &mut out));
        assert!(list.take_up_to(4, &mut out));
        assert_eq!(out.iter().map(|unacked| unacked.tag).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn a_late_answer_finds_its_place() {
        let mut list = list([1, 5, 9, 3, 7]);
        let mut out = Vec::new();
        assert!(list.take_up_to(5, &mut out));
        assert_eq!(out.iter().map(|unacked| unacked.tag).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!((list.len(), list.take(7).map(|unacked| unacked.tag)), (2, Some(7)));
    }

    #[test]
    fn holes_are_swept() {
        let mut list = list(1..=10_000);
        for tag in 2..=10_000 {
            list.take(tag);
        }
        assert!(list.entries.len() <= 64, "{}", list.entries.len());
        assert_eq!(list.take(1).map(|unacked| unacked.tag), Some(1));
    }

    #[test]
    fn a_rollback_restores_the_order() {
        let mut list = list(1..=4);
        let mut out = Vec::new();
        out.extend(list.take(3));
        out.extend(list.take(1));
        list.put_back(out);
        let mut all = Vec::new();
        list.take_all(&mut all);
        assert_eq!(all.iter().map(|unacked| unacked.tag).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
