//! The keys of a cache as the journal and the catalogue have them.

use crate::deduplication::KeyEntry;
use crate::limits::DEDUPLICATION_CACHE_MAX;
use std::collections::VecDeque;

const LEN_MAX: usize = DEDUPLICATION_CACHE_MAX as usize;

/// The newest keys of one cache, by ascending number: as many as any cache may hold. How many its
/// own settings allow, and which are too old, its owner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredKeys {
    /// No key has this number or a later one.
    pub next_number: u64,
    pub entries: VecDeque<KeyEntry>,
}

impl StoredKeys {
    /// Adds what a record says, unless a checkpoint knew it: it may know of later ones too, in
    /// whose place this one would come back.
    pub(super) fn replay(&mut self, entry: KeyEntry) {
        if entry.number >= self.next_number {
            self.next_number = entry.number.saturating_add(1);
            self.push(entry);
        }
    }

    pub(super) fn push(&mut self, entry: KeyEntry) {
        self.entries.push_back(entry);
        if self.entries.len() > LEN_MAX {
            self.entries.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deduplication::Key;
    use crate::time::UnixMillis;

    fn entry(number: u64) -> KeyEntry {
        KeyEntry { number, key: Key([number as u8; 16]), due: UnixMillis::NEVER }
    }

    #[test]
    fn what_a_checkpoint_knew_is_not_taken_again() {
        let mut keys = StoredKeys { next_number: 8, entries: [entry(3), entry(6)].into() };
        (1..=9).map(entry).for_each(|entry| keys.replay(entry));
        let numbers: Vec<_> = keys.entries.iter().map(|entry| entry.number).collect();
        assert_eq!((numbers, keys.next_number), (vec![3, 6, 8, 9], 10));
    }

    #[test]
    fn no_journal_makes_it_longer_than_any_cache() {
        let mut keys = StoredKeys::default();
        (1..=LEN_MAX as u64 + 3).map(entry).for_each(|entry| keys.replay(entry));
        assert_eq!((keys.entries.len(), keys.entries[0].number), (LEN_MAX, 4));
    }
}
