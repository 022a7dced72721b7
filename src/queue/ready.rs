//! The ready side of a queue: messages by their seq, oldest first.
//!
//! New messages join at the tail of a deque; requeued ones return to their old place by way of a
//! sorted map beside it, so that settling 100 k in random order stays O(n log n).

use crate::message::Message;
use std::collections::{BTreeMap, VecDeque};

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
