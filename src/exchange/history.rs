//! Messages that an exchange remembers for what is bound later, in memory only.
//!
//! Bounded three times: by what its type asks for, by a number of messages and bytes of its own,
//! and by the bytes of all histories of a broker. The oldest goes first; what does not fit in an
//! empty history is not remembered.

use crate::limits::{
    HISTORIES_BYTES_MAX, HISTORY_BYTES_MAX, HISTORY_LEN_MAX, MESSAGE_OVERHEAD_BYTES,
};
use crate::message::Message;
use crate::time::Ttl;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What all histories of a broker hold, in bytes.
#[derive(Debug, Default)]
pub(super) struct HistoryBudget(AtomicU64);

/// The last messages of one exchange. Its lock is a leaf.
#[derive(Debug)]
pub struct History {
    len_max: usize,
    budget: Arc<HistoryBudget>,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    messages: VecDeque<Remembered>,
    bytes: u64,
}

/// A message as it was published.
#[derive(Clone, Debug)]
pub struct Remembered {
    pub message: Message,
    /// Its delivery mode asks for the disk.
    pub persistent: bool,
    pub priority: u8,
    /// How long its copies may wait, each from when it comes.
    pub ttl: Ttl,
}

impl HistoryBudget {
    fn take(&self, bytes: u64) -> bool {
        let taken = |used: u64| Some(used + bytes).filter(|used| *used <= HISTORIES_BYTES_MAX);
        self.0.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Relaxed);
    }
}

impl History {
    pub(super) fn new(len_max: usize, budget: &Arc<HistoryBudget>) -> Self {
        let len_max = len_max.min(HISTORY_LEN_MAX);
        Self { len_max, budget: Arc::clone(budget), ring: Mutex::default() }
    }

    /// Remembers a message, in place of the oldest if there is no room.
    pub fn push(&self, remembered: Remembered) {
        let bytes = remembered.weight();
        if bytes > HISTORY_BYTES_MAX {
            return;
        }
        let mut ring = self.ring.lock();
        while ring.messages.len() >= self.len_max || ring.bytes + bytes > HISTORY_BYTES_MAX {
            ring.drop_oldest(&self.budget);
        }
        while !self.budget.take(bytes) {
            if !ring.drop_oldest(&self.budget) {
                return;
            }
        }
        ring.bytes += bytes;
        ring.messages.push_back(remembered);
    }

    /// What is remembered, the oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Remembered> {
        self.ring.lock().messages.iter().cloned().collect()
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.budget.give(self.ring.get_mut().bytes);
    }
}

impl Ring {
    fn drop_oldest(&mut self, budget: &HistoryBudget) -> bool {
        let Some(oldest) = self.messages.pop_front() else {
            return false;
        };
        let bytes = oldest.weight();
        self.bytes -= bytes;
        budget.give(bytes);
        true
    }
}

impl Remembered {
    /// Bytes that it keeps alive, roughly.
    fn weight(&self) -> u64 {
        self.message.len() as u64 + MESSAGE_OVERHEAD_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remembered(body: &[u8]) -> Remembered {
        let mut header = [0; 14];
        header[1] = 60;
        header[4..12].copy_from_slice(&(body.len() as u64).to_be_bytes());
        let message = Message::new(b"x", b"k", &header, body, &mut Vec::new());
        Remembered { message, persistent: false, priority: 0, ttl: Ttl::FOREVER }
    }

    fn bodies(history: &History) -> Vec<usize> {
        history.messages().iter().map(|remembered| remembered.message.body_len()).collect()
    }

    #[test]
    fn the_last_messages_are_remembered_in_their_order() {
        let history = History::new(3, &Arc::default());
        for len in 0..10 {
            history.push(remembered(&vec![0; len]));
        }
        assert_eq!(bodies(&history), [7, 8, 9]);
        assert_eq!(History::new(usize::MAX, &Arc::default()).len_max, HISTORY_LEN_MAX);
    }

    #[test]
    fn one_history_is_bounded_in_bytes() {
        let history = History::new(1000, &Arc::default());
        let third = HISTORY_BYTES_MAX as usize / 3;
        for len in [1, third, third, third] {
            history.push(remembered(&vec![0; len]));
        }
        assert_eq!(bodies(&history), [third, third]);
        history.push(remembered(&vec![0; HISTORY_BYTES_MAX as usize]));
        assert_eq!(bodies(&history), [third, third]);
        assert!(history.ring.lock().bytes <= HISTORY_BYTES_MAX);
    }

    #[test]
    fn all_histories_share_a_budget_and_give_it_back() {
        let budget = Arc::default();
        let large = remembered(&vec![0; HISTORY_BYTES_MAX as usize / 2]);
        let count = HISTORIES_BYTES_MAX / large.weight();
        let mut full: Vec<_> = (0..count).map(|_| History::new(1, &budget)).collect();
        full.iter().for_each(|history| history.push(large.clone()));
        let late = History::new(1, &budget);
        late.push(large.clone());
        assert!(full.iter().all(|history| bodies(history).len() == 1) && bodies(&late).is_empty());
        full.pop();
        late.push(large.clone());
        assert_eq!(bodies(&late).len(), 1);
        // With no room left it replaces its own.
        late.push(large);
        assert_eq!(bodies(&late).len(), 1);
        drop((full, late));
        assert_eq!(budget.0.load(Relaxed), 0);
    }
}
