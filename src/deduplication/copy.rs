//! What a checkpoint must know of a cache, copied a part at a time: publishers get the lock in
//! between.
//!
//! The copy ends before the first number that was not given when it began, and says so: the records
//! of that number and all later ones come behind it in the journal, and a start replays each of
//! them, and none before it. Of the lower numbers it has those that are there at its end. For a key
//! that is there at the end was there when its part came. Of those that went meanwhile, what came
//! again has a later number, which counts in a start too; all others went as the oldest, so what is
//! older than the oldest at the end leaves the copy. What displaced them is in the journal by then,
//! if it is stored at all, and a checkpoint counts only once all of that is safe.

use super::Deduplicator;
use super::key::KeyEntry;
use crate::limits::DEDUPLICATION_COPY_LEN;
use std::collections::VecDeque;

impl Deduplicator {
    /// A number, and the stored keys that were given lower ones, in order.
    #[must_use]
    pub fn stored_keys(&self) -> (u64, VecDeque<KeyEntry>) {
        self.copy(DEDUPLICATION_COPY_LEN, || {})
    }

    /// As `stored_keys`. In `between`, nobody holds the lock.
    fn copy(&self, part_len: usize, mut between: impl FnMut()) -> (u64, VecDeque<KeyEntry>) {
        let (end, len) = {
            let cache = self.lock();
            (cache.next_number(), cache.len())
        };
        // Room is made with nobody waiting.
        let (mut entries, mut part) = (VecDeque::with_capacity(len), Vec::with_capacity(part_len));
        let mut from = Some(0);
        while let Some(start) = from {
            between();
            from = self.lock().stored_part(start..end, part_len, &mut part);
            entries.extend(part.drain(..));
        }
        between();
        let oldest = self.lock().oldest_number();
        while entries.pop_front_if(|entry| entry.number < oldest).is_some() {}
        (end, entries)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cache, Deduplication, Key, KeyBudget};
    use super::*;
    use crate::id::CacheId;
    use crate::name::Name;
    use crate::time::UnixMillis;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn deduplicator(cache_len: u64) -> Deduplicator {
        let (header, ttl_ms, persistent) = (Name::new("id"), None, true);
        let settings = Deduplication { header, cache_len, ttl_ms, persistent };
        Deduplicator::new(CacheId(1), &settings, true)
    }

    fn key(n: u8) -> Key {
        Key([n; 16])
    }

    proptest! {
        /// Keys come before the copy and between its parts, and go for want of room or of time.
        #[test]
        fn with_the_records_behind_it_a_copy_in_parts_brings_back_the_cache(
            before in vec((0..20_u8, 1..60_u64), 0..40),
            meanwhile in vec(vec((0..20_u8, 1..60_u64), 0..5), 0..12),
            cache_len in 1..16_u64,
            part_len in 1..5_usize,
            more in vec((0..20_u8, 1..60_u64), 0..20),
        ) {
            let deduplicator = deduplicator(cache_len);
            let (mut now, mut records) = (0, Vec::new());
            let budget = Arc::<KeyBudget>::default();
            let mut publish = |(n, ttl): (u8, u64)| {
                now += 1;
                let mut cache = deduplicator.lock();
                if cache.find(&key(n), UnixMillis(now)).is_none() {
                    let due = UnixMillis(now + ttl);
                    records.push(cache.remember(key(n), due, UnixMillis(now), true, &budget));
                }
            };
            before.into_iter().for_each(&mut publish);
            let mut meanwhile = meanwhile.into_iter();
            let between = || meanwhile.next().into_iter().flatten().for_each(&mut publish);
            let (next_number, entries) = deduplicator.copy(part_len, between);
            more.into_iter().for_each(&mut publish);
            let numbers: Vec<_> = entries.iter().map(|entry| entry.number).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(numbers.last().is_none_or(|last| *last < next_number));
            let replayed = records.into_iter().filter(|entry| entry.number >= next_number);
            let mut restored = Cache::new(cache_len as usize);
            restored.restore(entries.into_iter().chain(replayed), next_number, &budget);
            let cache = deduplicator.lock();
            prop_assert_eq!(restored.next_number(), cache.next_number());
            for n in 0..20 {
                let found = |cache: &Cache| cache.find(&key(n), UnixMillis(now)).is_some();
                prop_assert_eq!(found(&restored), found(&cache), "key {}", n);
            }
        }
    }

    #[test]
    fn nobody_waits_for_more_than_a_part() {
        let (deduplicator, budget) = (deduplicator(100), Arc::<KeyBudget>::default());
        for n in 0..100 {
            let mut cache = deduplicator.lock();
            cache.remember(key(n), UnixMillis::NEVER, UnixMillis(0), true, &budget);
        }
        let mut turns = 0;
        let (next_number, entries) = deduplicator.copy(8, || turns += 1);
        assert_eq!((next_number, entries.len(), turns), (101, 100, 14));
        let mut part = Vec::new();
        let from = deduplicator.lock().stored_part(40..101, 8, &mut part);
        assert_eq!((from, part.len(), part[0].number), (Some(48), 8, 40));
    }
}
