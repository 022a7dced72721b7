//! The newest keys, each until it is too old. Pure: the time is passed in.
//!
//! No timer: a key that is too old counts as absent and goes when others come, a few for each. So
//! a call costs constant time, taken over many, and none touches more than a few thousand keys of a
//! million. What is held is bounded by the keys that may be remembered, and by what the budget of
//! all caches gives.

use super::budget::KeyBudget;
use super::key::{Key, KeyEntry};
use super::key_map::KeyMap;
use super::order::Order;
use crate::config::Durability;
use crate::id::Lsn;
use crate::limits::{DEDUPLICATION_CACHE_LEN, DEDUPLICATION_SHARE_LEN, DEDUPLICATION_SWEEP_LEN};
use crate::time::UnixMillis;
use std::ops::Range;
use std::sync::Arc;

/// Keys for which nobody is asked.
const OWN_LEN: usize = DEDUPLICATION_CACHE_LEN as usize;

/// Keys that are too old and go as a new one comes: more than one, so that they become fewer.
const TOO_OLD_PER_KEY: usize = 2;

/// The same while less than `DEDUPLICATION_SWEEP_LEN` have gone in this lock hold.
const TOO_OLD_PER_FIRST_KEY: usize = 32;

/// The keys of one queue or exchange.
#[derive(Debug)]
pub struct Cache {
    len_max: usize,
    shares: usize,
    /// Whose they are; none before the first.
    lender: Option<Arc<KeyBudget>>,
    next_number: u64,
    by_key: KeyMap<Known>,
    /// A key that came again has a later number, and the earlier one says nothing.
    order: Order,
    /// How many that are too old may still go in this lock hold.
    sweep_left: usize,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    number: u64,
    due: UnixMillis,
    /// Its record is in the journal.
    stored: bool,
    original: Original,
}

/// The record of the message that had the key first: a duplicate's confirm promises what its own
/// does. The default is a message without one, or of an earlier run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Original {
    pub lsn: Lsn,
    pub durability: Durability,
}

impl Cache {
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self {
            len_max: len_max.max(1),
            shares: 0,
            lender: None,
            next_number: 1,
            by_key: KeyMap::default(),
            order: Order::default(),
            sweep_left: DEDUPLICATION_SWEEP_LEN,
        }
    }

    /// Somebody has got the lock.
    pub(super) fn begin_hold(&mut self) {
        self.sweep_left = DEDUPLICATION_SWEEP_LEN;
    }

    /// The message that had this key, if it is remembered.
    #[must_use]
    pub fn find(&self, key: &Key, now: UnixMillis) -> Option<Original> {
        let known = self.by_key.get(key).filter(|known| now < known.due)?;
        Some(known.original)
    }

    /// Whether a key is still remembered when so many others have come.
    #[must_use]
    pub fn outlasts(&self, key: &Key, others: usize) -> bool {
        let newer = self.by_key.get(key).map(|known| self.next_number - known.number);
        newer.is_some_and(|newer| newer.saturating_add(others as u64) <= self.room() as u64)
    }

    /// Remembers a key that `find` does not know, in place of the oldest if there is no room.
    /// `stored` says that its record comes next.
    pub fn remember(
        &mut self,
        key: Key,
        due: UnixMillis,
        now: UnixMillis,
        stored: bool,
        budget: &Arc<KeyBudget>,
    ) -> KeyEntry {
        let number = self.next_number;
        self.next_number += 1;
        for _ in 0..TOO_OLD_PER_KEY.max(self.sweep_left.min(TOO_OLD_PER_FIRST_KEY)) {
            let Some((number, key)) = self.order.front() else { break };
            let current = self.by_key.get(&key).filter(|known| known.number == number);
            if current.is_some_and(|known| now < known.due) {
                break;
            }
            self.drop_oldest();
            self.sweep_left = self.sweep_left.saturating_sub(1);
        }
        self.insert(KeyEntry { number, key, due }, stored, budget);
        KeyEntry { number, key, due }
    }

    /// The record of the message with this key was appended.
    pub fn appended(&mut self, key: &Key, original: Original) {
        if let Some(known) = self.by_key.get_mut(key) {
            known.original = original;
        }
    }

    /// Takes stored keys by ascending number, and the number behind all that were given.
    pub fn restore(
        &mut self,
        entries: impl IntoIterator<Item = KeyEntry>,
        next_number: u64,
        budget: &Arc<KeyBudget>,
    ) {
        for entry in entries {
            self.next_number = self.next_number.max(entry.number.saturating_add(1));
            self.insert(entry, true, budget);
        }
        self.next_number = self.next_number.max(next_number);
    }

    /// Adds the keys with these numbers whose records are in the journal to `found`, by number.
    /// Looks at no more than `max`, and says from which number to go on; `None` at the end.
    pub(super) fn stored_part(
        &self,
        numbers: Range<u64>,
        max: usize,
        found: &mut Vec<KeyEntry>,
    ) -> Option<u64> {
        let mut left = self.order.range_from(numbers.start);
        for _ in 0..max {
            let (number, key) = left.next().filter(|(number, _)| numbers.contains(number))?;
            let known = self.by_key.get(&key).filter(|it| it.number == number && it.stored);
            found.extend(known.map(|known| KeyEntry { number, key, due: known.due }));
        }
        left.next().map(|(number, _)| number).filter(|number| numbers.contains(number))
    }

    /// No key has a lower number.
    pub(super) fn oldest_number(&self) -> u64 {
        self.order.front().map_or(self.next_number, |(number, _)| number)
    }

    /// No key has this number or a later one.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Keys that are held, those included that are too old and have not gone yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back shares that are needed no more: at least half of what there is, so that nobody
    /// asks for them again soon. Their memory went with their keys. What was decided by `outlasts`
    /// must be done.
    pub fn trim(&mut self) {
        let needed = self.len().saturating_sub(OWN_LEN).div_ceil(DEDUPLICATION_SHARE_LEN);
        let (Some(lender), true) = (&self.lender, self.shares > 2 * needed) else { return };
        lender.give((self.shares - needed) as u64);
        self.shares = needed;
        self.order.shrink();
    }

    /// How many keys it may hold as things are.
    fn room(&self) -> usize {
        self.len_max.min(OWN_LEN + self.shares * DEDUPLICATION_SHARE_LEN)
    }

    /// Makes room for more keys. False if it has all that it may have, or all that there is.
    fn widen(&mut self, budget: &Arc<KeyBudget>) -> bool {
        let wider = self.room() < self.len_max && budget.take();
        if wider {
            self.shares += 1;
            self.lender.get_or_insert_with(|| Arc::clone(budget));
        }
        wider
    }

    fn insert(&mut self, entry: KeyEntry, stored: bool, budget: &Arc<KeyBudget>) {
        let KeyEntry { number, key, due } = entry;
        let known = Known { number, due, stored, original: Original::default() };
        self.order.push(number, key);
        if let Some(before) = self.by_key.insert(key, known) {
            let current = |key: &Key| self.by_key.get(key).map(|known| known.number);
            self.order.forget(before.number, |number, key| current(key) == Some(number));
        }
        while self.by_key.len() > self.room() && !self.widen(budget) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((number, key)) = self.order.pop_front() else { return };
        self.by_key.remove_if(&key, |known| known.number == number);
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        if let Some(lender) = &self.lender {
            lender.give(self.shares as u64);
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
