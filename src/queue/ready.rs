//! The ready side of a queue: messages by their seq, oldest first.
//!
//! New messages join at the tail of a deque; requeued ones return to their old place by way of a
//! sorted map beside it, so that settling 100 k in random order stays O(n log n). A queue that was
//! long gives its memory back as it drains.

use super::runs::{run_end, runs};
use crate::id::Seq;
use crate::message::Message;
use std::collections::{BTreeMap, VecDeque};

/// Messages for which memory is kept in any case.
const KEPT_MAX: usize = 256;

/// A message in its queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// `None` while it lies on disk only.
    pub(super) message: Option<Message>,
    pub(super) body_len: u32,
    /// The journal knows it, so its end must be told there.
    pub(super) persistent: bool,
    pub(super) redelivered: bool,
    /// Its record is not in the journal yet: invisible, but its place is taken.
    pub(super) reserved: bool,
}

/// Messages that left a queue at once; dropped without the lock, since freeing takes time.
#[derive(Debug, Default)]
pub struct Dropped {
    _fifo: VecDeque<Entry>,
    _returned: BTreeMap<u64, Entry>,
}

/// What stands at the head.
pub(super) enum Head {
    Nothing,
    Resident,
    /// Seq of a message to load first.
    Evicted(u64),
}

#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Seqs increase; gaps where messages were handed over directly.
    fifo: VecDeque<Entry>,
    /// Requeued messages by seq, none of which is in `fifo`.
    returned: BTreeMap<u64, Entry>,
    reserved: usize,
    bytes: u64,
}

impl Ready {
    /// Visible messages.
    pub(super) fn len(&self) -> usize {
        self.fifo.len() + self.returned.len() - self.reserved
    }

    /// Body bytes of visible messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Nothing stands before a new message, not even an invisible one.
    pub(super) fn is_clear(&self) -> bool {
        self.fifo.is_empty() && self.returned.is_empty()
    }

    /// Adds a message with the highest seq so far.
    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert!(self.fifo.back().is_none_or(|last| last.seq < entry.seq));
        if entry.reserved {
            self.reserved += 1;
        } else {
            self.bytes += u64::from(entry.body_len);
        }
        self.fifo.push_back(entry);
    }

    /// Makes a reserved message visible. False if it is not there.
    pub(super) fn show(&mut self, seq: u64) -> bool {
        let Some(entry) = self.find(seq) else {
            return false;
        };
        if !std::mem::take(&mut entry.reserved) {
            return false;
        }
        self.bytes += u64::from(entry.body_len);
        self.reserved -= 1;
        true
    }

    /// Puts a message back to its old place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.bytes += u64::from(entry.body_len);
        if self.fifo.front().is_none_or(|first| entry.seq < first.seq) && self.returned.is_empty() {
            self.fifo.push_front(entry);
        } else {
            self.returned.insert(entry.seq, entry);
        }
    }

    /// What dispatch would take next. It stops at an invisible message: its place is decided.
    pub(super) fn head(&self) -> Head {
        let first_returned = self.returned.first_key_value().map(|(_, entry)| entry);
        let entry = match (self.fifo.front(), first_returned) {
            (Some(a), Some(b)) => {
                if a.seq < b.seq {
                    a
                } else {
                    b
                }
            }
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return Head::Nothing,
        };
        match (&entry.message, entry.reserved) {
            (_, true) => Head::Nothing,
            (Some(_), _) => Head::Resident,
            (None, _) => Head::Evicted(entry.seq),
        }
    }

    /// Takes the message that `head` called resident.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let from_fifo = match (self.fifo.front(), self.returned.first_key_value()) {
            (Some(first), Some((seq, _))) => first.seq < *seq,
            (front, _) => front.is_some(),
        };
        let entry = if from_fifo { self.fifo.pop_front()? } else { self.returned.pop_first()?.1 };
        self.shrink();
        debug_assert!(!entry.reserved, "dispatch stops at an invisible message");
        self.bytes -= u64::from(entry.body_len);
        Some(entry)
    }

    /// As `head`, but looks past invisible messages: a `get` must find what was confirmed.
    pub(super) fn first_visible(&self) -> Head {
        let in_fifo = self.fifo.iter().find(|entry| !entry.reserved);
        let first_returned = self.returned.first_key_value().map(|(_, entry)| entry);
        let entry = match (in_fifo, first_returned) {
            (Some(a), Some(b)) => {
                if a.seq < b.seq {
                    a
                } else {
                    b
                }
            }
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return Head::Nothing,
        };
        match entry.message {
            Some(_) => Head::Resident,
            None => Head::Evicted(entry.seq),
        }
    }

    /// Takes the message that `first_visible` called resident.
    pub(super) fn pop_visible(&mut self) -> Option<Entry> {
        let at = self.fifo.iter().position(|entry| !entry.reserved);
        let first_returned = self.returned.first_key_value().map(|(seq, _)| *seq);
        let entry = match (at, first_returned) {
            (Some(at), Some(seq)) if self.fifo[at].seq < seq => self.fifo.remove(at)?,
            (_, Some(_)) => self.returned.pop_first()?.1,
            (Some(at), None) => self.fifo.remove(at)?,
            (None, None) => return None,
        };
        self.shrink();
        self.bytes -= u64::from(entry.body_len);
        Some(entry)
    }

    /// Takes out everything visible.
    pub(super) fn take_all(&mut self) -> Dropped {
        let mut fifo = std::mem::take(&mut self.fifo);
        if self.reserved > 0 {
            let (stay, go) = fifo.into_iter().partition(|entry| entry.reserved);
            self.fifo = stay;
            fifo = go;
        }
        self.bytes = 0;
        Dropped { _fifo: fifo, _returned: std::mem::take(&mut self.returned) }
    }

    /// Gives memory back that is far too much. What is moved is less than what was taken since the
    /// last time, so it costs next to nothing.
    fn shrink(&mut self) {
        let capacity = self.fifo.capacity();
        if capacity > KEPT_MAX && self.fifo.len() * 8 < capacity {
            self.fifo.shrink_to(KEPT_MAX.max(self.fifo.len() * 2));
        }
    }

    /// The visible messages as runs, in no order. `None` if there are more than `max` runs or
    /// requeued messages, since finding out more would cost more, or if some are invisible.
    pub(super) fn runs(&self, max: usize) -> Option<Vec<(Seq, Seq)>> {
        if self.reserved > 0 || self.returned.len() > max {
            return None;
        }
        let mut found = runs(self.returned.keys().copied());
        let seq = |at: usize| self.fifo[at].seq;
        let mut at = 0;
        while at < self.fifo.len() && found.len() <= max {
            let end = run_end(at, self.fifo.len(), seq);
            found.push((Seq(seq(at)), Seq(seq(end))));
            at = end + 1;
        }
        (found.len() <= max).then_some(found)
    }

    /// Invisible messages.
    pub(super) fn reserved_len(&self) -> usize {
        self.reserved
    }

    /// Seqs of invisible messages.
    pub(super) fn reserved_seqs(&self) -> impl Iterator<Item = u64> {
        let any = self.reserved > 0;
        let fifo = any.then_some(&self.fifo).into_iter().flatten();
        fifo.filter(|entry| entry.reserved).map(|entry| entry.seq)
    }

    /// Gives an evicted message its content back. False if it is no longer here.
    pub(super) fn loaded(&mut self, seq: u64, message: Message) -> bool {
        let Some(entry) = self.find(seq) else {
            return false;
        };
        entry.message = Some(message);
        true
    }

    /// Drops the content of a visible persistent message, which the journal holds too.
    pub(super) fn evict(&mut self, seq: u64) -> Option<Message> {
        let entry = self.find(seq)?;
        if entry.reserved || !entry.persistent {
            return None;
        }
        entry.message.take()
    }

    /// Seqs of the visible messages, in order.
    pub(super) fn seqs(&self) -> Vec<u64> {
        let visible = self.fifo.iter().filter(|entry| !entry.reserved).map(|entry| entry.seq);
        let mut seqs: Vec<u64> = visible.chain(self.returned.keys().copied()).collect();
        seqs.sort_unstable();
        seqs
    }

    fn find(&mut self, seq: u64) -> Option<&mut Entry> {
        match self.fifo.binary_search_by_key(&seq, |entry| entry.seq) {
            Ok(at) => self.fifo.get_mut(at),
            Err(_) => self.returned.get_mut(&seq),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            message: None,
            body_len: 1,
            persistent: true,
            redelivered: false,
            reserved: false,
        }
    }

    fn ready(seqs: impl IntoIterator<Item = u64>) -> Ready {
        let mut ready = Ready::default();
        seqs.into_iter().for_each(|seq| ready.push(entry(seq)));
        ready
    }

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back_as_it_drains() {
        let mut ready = ready(0..100_000);
        let (mut capacity, mut moved) = (ready.fifo.capacity(), 0);
        for seq in 0..100_000 {
            assert_eq!(ready.pop().map(|entry| entry.seq), Some(seq));
            let now = ready.fifo.capacity();
            if now != capacity {
                moved += ready.fifo.len();
            }
            capacity = now;
            assert!(capacity <= KEPT_MAX.max(ready.len() * 8), "{capacity} for {}", ready.len());
        }
        assert!(capacity <= KEPT_MAX, "{capacity}");
        assert!(moved < 30_000, "{moved}");
        assert_eq!((ready.len(), ready.bytes()), (0, 0));
    }

    #[test]
    fn a_purged_queue_keeps_memory_for_what_is_invisible_only() {
        let mut ready = ready(0..100_000);
        ready.push(Entry { reserved: true, ..entry(100_000) });
        drop(ready.take_all());
        assert!(ready.fifo.capacity() <= KEPT_MAX, "{}", ready.fifo.capacity());
        assert!(ready.show(100_000));
        drop(ready.take_all());
        assert_eq!((ready.len(), ready.fifo.capacity()), (0, 0));
    }

    #[test]
    fn gets_give_memory_back_too() {
        let mut ready = ready(0..100_000);
        while ready.pop_visible().is_some() {}
        assert!(ready.fifo.capacity() <= KEPT_MAX, "{}", ready.fifo.capacity());
    }

    #[test]
    fn what_is_visible_makes_runs() {
        let mut ready = ready((10..20).chain([25]).chain(30..1_000));
        ready.put_back(entry(22));
        ready.put_back(entry(4));
        let runs = ready.runs(5).map(|runs| runs.iter().map(|run| (run.0.0, run.1.0)).collect());
        assert_eq!(runs, Some(vec![(4, 4), (22, 22), (10, 19), (25, 25), (30, 999)]));
        assert_eq!(ready.runs(4), None);
        assert_eq!(ready.runs(1), None);
        ready.push(Entry { reserved: true, ..entry(1_000) });
        assert_eq!(ready.runs(5), None);
    }
}
