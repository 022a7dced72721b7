//! What the caches of a broker may hold together. Each has its first keys for nothing, as a queue
//! has its name; beyond them it takes shares, and gives them back when it needs them no more.

use crate::limits::{DEDUPLICATION_BYTES_MAX, DEDUPLICATION_KEY_BYTES, DEDUPLICATION_SHARE_LEN};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const SHARE_BYTES: u64 = DEDUPLICATION_KEY_BYTES * DEDUPLICATION_SHARE_LEN as u64;

/// See the module.
#[derive(Debug)]
pub struct KeyBudget {
    taken: AtomicU64,
    max: AtomicU64,
    /// A share was refused since half of them were free.
    refused: AtomicBool,
    /// And somebody has been told.
    told: AtomicBool,
}

impl Default for KeyBudget {
    fn default() -> Self {
        Self {
            taken: AtomicU64::new(0),
            max: AtomicU64::new(DEDUPLICATION_BYTES_MAX / SHARE_BYTES),
            refused: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }
}

impl KeyBudget {
    /// Sets what all shares may be, in bytes, but never more than `DEDUPLICATION_BYTES_MAX`. Shares
    /// that are taken stay.
    pub fn set_bytes_max(&self, bytes: u64) {
        self.max.store(bytes.min(DEDUPLICATION_BYTES_MAX) / SHARE_BYTES, Relaxed);
    }

    /// What is taken, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.taken.load(Relaxed) * SHARE_BYTES
    }

    /// Whether it is news that a share was refused.
    pub fn take_news(&self) -> bool {
        self.refused.load(Relaxed) && !self.told.swap(true, Relaxed)
    }

    pub(super) fn take(&self) -> bool {
        let max = self.max.load(Relaxed);
        let more = |taken: u64| Some(taken + 1).filter(|taken| *taken <= max);
        let taken = self.taken.fetch_update(Relaxed, Relaxed, more).is_ok();
        if !taken {
            self.refused.store(true, Relaxed);
        }
        taken
    }

    pub(super) fn give(&self, shares: u64) {
        let left = self.taken.fetch_sub(shares, Relaxed) - shares;
        if left < self.max.load(Relaxed) / 2 {
            self.refused.store(false, Relaxed);
            self.told.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_counted_and_given_back() {
        let budget = KeyBudget::default();
        budget.set_bytes_max(5 * SHARE_BYTES - 1);
        let taken = [0; 5].map(|_| budget.take());
        assert_eq!(taken, [true, true, true, true, false]);
        assert_eq!(budget.bytes(), 4 * SHARE_BYTES);
        assert!(budget.take_news() && !budget.take_news());
        budget.give(1);
        assert!(budget.take() && !budget.take() && !budget.take_news(), "said a moment ago");
        budget.give(4);
        assert!(!budget.take_news());
        budget.set_bytes_max(0);
        assert!(!budget.take() && budget.take_news());
    }

    #[test]
    fn no_setting_goes_beyond_the_bound() {
        let budget = KeyBudget::default();
        budget.set_bytes_max(u64::MAX);
        while budget.take() {}
        assert!(budget.bytes() <= DEDUPLICATION_BYTES_MAX);
        assert!(budget.bytes() > DEDUPLICATION_BYTES_MAX - SHARE_BYTES);
    }
}
