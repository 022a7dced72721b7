//! The newest keys, each until it is too old. Pure: the time is passed in.
//!
//! No timer: a key that is too old counts as absent and goes when others come, a few for each, so
//! a call costs constant time, taken over many. What is held is bounded by the keys that may be
//! remembered, and by what the budget of all caches gives.

use super::budget::KeyBudget;
use super::key::{Key, KeyEntry};
use crate::config::Durability;
use crate::id::Lsn;
use crate::limits::{DEDUPLICATION_CACHE_LEN, DEDUPLICATION_SHARE_LEN};
use crate::time::UnixMillis;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Keys for which nobody is asked.
const OWN_LEN: usize = DEDUPLICATION_CACHE_LEN as usize;

/// Numbers of replaced keys that may lie in `order` beside as many as there are keys.
const REPLACED_MAX: usize = 64;

/// Keys that are too old and go as a new one comes: more than one, so that they become fewer, and
/// few enough that nobody waits long for a million that have become too old together.
const TOO_OLD_PER_KEY: usize = 32;

/// The keys of one queue or exchange.
#[derive(Debug)]
pub struct Cache {
    len_max: usize,
    shares: usize,
    /// Whose they are; none before the first.
    lender: Option<Arc<KeyBudget>>,
    next_number: u64,
    by_key: HashMap<Key, Known>,
    /// By number. A key that came again has a later number, and the earlier one says nothing.
    order: VecDeque<(u64, Key)>,
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
        let (by_key, order) = (HashMap::new(), VecDeque::new());
        Self { len_max: len_max.max(1), shares: 0, lender: None, next_number: 1, by_key, order }
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
        for _ in 0..TOO_OLD_PER_KEY {
            let Some((number, key)) = self.order.front() else { break };
            let current = self.by_key.get(key).filter(|known| known.number == *number);
            if current.is_some_and(|known| now < known.due) {
                break;
            }
            self.drop_oldest();
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
        let place = |number: u64| self.order.partition_point(|(before, _)| *before < number);
        let (from, end) = (place(numbers.start), place(numbers.end));
        let part_end = end.min(from.saturating_add(max)).max(from);
        found.extend(self.order.range(from..part_end).filter_map(|(number, key)| {
            let known = self.by_key.get(key).filter(|known| known.number == *number)?;
            known.stored.then_some(KeyEntry { number: *number, key: *key, due: known.due })
        }));
        (part_end < end).then(|| self.order[part_end].0)
    }

    /// No key has a lower number.
    pub(super) fn oldest_number(&self) -> u64 {
        self.order.front().map_or(self.next_number, |(number, _)| *number)
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
        self.by_key.is_empty()
    }

    /// Gives back room that is needed no more: at least half of what there is, so that this costs
    /// nothing, taken over many calls. What was decided by `outlasts` must be done.
    pub fn trim(&mut self) {
        let needed = self.len().saturating_sub(OWN_LEN).div_ceil(DEDUPLICATION_SHARE_LEN);
        let (Some(lender), true) = (&self.lender, self.shares > 2 * needed) else { return };
        lender.give((self.shares - needed) as u64);
        self.shares = needed;
        self.by_key.shrink_to_fit();
        self.order.shrink_to_fit();
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
        self.by_key.insert(key, known);
        self.order.push_back((number, key));
        while self.by_key.len() > self.room() && !self.widen(budget) {
            self.drop_oldest();
        }
        if self.order.len() > 2 * self.by_key.len() + REPLACED_MAX {
            let by_key = &self.by_key;
            self.order.retain(|(number, key)| {
                by_key.get(key).is_some_and(|known| known.number == *number)
            });
        }
    }

    fn drop_oldest(&mut self) {
        let Some((number, key)) = self.order.pop_front() else { return };
        if self.by_key.get(&key).is_some_and(|known| known.number == number) {
            self.by_key.remove(&key);
        }
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
mod tests {
    use super::*;
    use crate::limits::DEDUPLICATION_BYTES_MAX;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn key(n: u8) -> Key {
        Key([n; 16])
    }

    fn stored(cache: &Cache) -> Vec<KeyEntry> {
        let mut found = Vec::new();
        assert_eq!(cache.stored_part(0..u64::MAX, usize::MAX, &mut found), None);
        found
    }

    /// Publishes a key; says whether it was new.
    fn publish(cache: &mut Cache, n: u8, due: u64, now: u64, stored: bool) -> bool {
        let (now, due) = (UnixMillis(now), UnixMillis(due));
        let is_new = cache.find(&key(n), now).is_none();
        if is_new {
            cache.remember(key(n), due, now, stored, &Arc::default());
        }
        is_new
    }

    #[test]
    fn a_duplicate_names_the_record_of_the_first() {
        let mut cache = Cache::new(2);
        cache.remember(key(1), UnixMillis::NEVER, UnixMillis(0), true, &Arc::default());
        assert_eq!(cache.find(&key(1), UnixMillis(9)), Some(Original::default()));
        let original = Original { lsn: Lsn(7), durability: Durability::Fsync };
        cache.appended(&key(1), original);
        assert_eq!(cache.find(&key(1), UnixMillis(9)), Some(original));
        assert_eq!(cache.find(&key(2), UnixMillis(9)), None);
    }

    #[test]
    fn keys_that_come_again_and_again_take_no_more_room() {
        let mut cache = Cache::new(10);
        publish(&mut cache, 0, u64::MAX, 0, false);
        for now in 0..100_000 {
            assert!(publish(&mut cache, 1 + (now % 3) as u8, now + 1, now, false));
            assert!(cache.order.len() <= 2 * 10 + REPLACED_MAX + 1);
        }
        assert!(!publish(&mut cache, 0, u64::MAX, 100_000, false));
    }

    #[test]
    fn a_key_outlasts_as_many_others_as_there_is_room_for() {
        let mut cache = Cache::new(4);
        (1..=2).for_each(|n| assert!(publish(&mut cache, n, u64::MAX, 0, true)));
        assert!(cache.outlasts(&key(1), 2) && !cache.outlasts(&key(1), 3));
        (3..=4).for_each(|n| assert!(publish(&mut cache, n, u64::MAX, 0, true)));
        assert!(!publish(&mut cache, 1, u64::MAX, 0, true));
        assert!(publish(&mut cache, 5, u64::MAX, 0, true));
        assert!(publish(&mut cache, 1, u64::MAX, 0, true));
        assert!(!cache.outlasts(&key(2), 0));
    }

    #[test]
    fn keys_that_are_too_old_at_once_go_a_few_at_a_time() {
        let (mut cache, budget) = (Cache::new(20_000), Arc::default());
        let number = |n: u64| Key((u128::from(n)).to_be_bytes());
        for n in 0..20_000 {
            cache.remember(number(n), UnixMillis(10), UnixMillis(0), true, &budget);
        }
        let mut held = cache.len();
        for n in 20_000..21_000 {
            cache.remember(number(n), UnixMillis::NEVER, UnixMillis(10), true, &budget);
            assert!(cache.len() + TOO_OLD_PER_KEY > held, "{held} then {}", cache.len());
            held = cache.len();
        }
        // Long before as many have come again as there is room for, the old ones are gone.
        assert_eq!(cache.len(), 1_000);
    }

    fn fill(cache: &mut Cache, numbers: Range<u32>, due: u64, budget: &Arc<KeyBudget>) {
        for n in numbers {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&n.to_be_bytes());
            cache.remember(Key(octets), UnixMillis(due), UnixMillis(u64::from(n)), false, budget);
        }
    }

    #[test]
    fn a_cache_without_room_forgets_its_oldest_keys_and_gives_back_what_it_has() {
        let budget = Arc::new(KeyBudget::default());
        let share = DEDUPLICATION_SHARE_LEN as u32;
        budget.set_bytes_max(DEDUPLICATION_BYTES_MAX);
        let mut large = Cache::new(usize::MAX);
        fill(&mut large, 0..20 * share, u64::MAX, &budget);
        let taken = budget.bytes();
        assert_eq!(large.len(), 20 * share as usize);
        budget.set_bytes_max(taken);
        fill(&mut large, 20 * share..21 * share, u64::MAX, &budget);
        assert_eq!((large.len(), budget.bytes()), (large.room(), taken));
        let mut late = Cache::new(usize::MAX);
        fill(&mut late, 0..share, u64::MAX, &budget);
        assert_eq!(late.len(), OWN_LEN, "its first keys are its own");
        drop(large);
        assert_eq!(budget.bytes(), 0);
        fill(&mut late, share..2 * share, u64::MAX, &budget);
        assert!(budget.bytes() > 0 && late.len() > OWN_LEN);
    }

    #[test]
    fn room_that_old_keys_took_is_given_back() {
        let budget = Arc::default();
        let share = DEDUPLICATION_SHARE_LEN as u32;
        let mut cache = Cache::new(usize::MAX);
        fill(&mut cache, 0..3 * share, 3 * u64::from(share), &budget);
        let taken = budget.bytes();
        cache.trim();
        assert_eq!((budget.bytes(), cache.len()), (taken, 3 * share as usize));
        fill(&mut cache, 3 * share..3 * share + 100, u64::MAX, &budget);
        cache.trim();
        assert_eq!((budget.bytes(), cache.len()), (0, 100));
        assert!(cache.by_key.capacity() < 256 && cache.order.capacity() < 256);
    }

    #[derive(Clone, Copy, Debug)]
    struct Step {
        key: u8,
        /// None: without end.
        ttl: Option<u64>,
        passes: u64,
        stored: bool,
        /// Keeps only what is stored, as a restart does.
        restarts: bool,
    }

    fn step() -> impl Strategy<Value = Step> {
        let ttl = prop::option::of(0..20_u64);
        let restarts = prop::bool::weighted(0.05);
        let all = (0..12_u8, ttl, 0..4_u64, any::<bool>(), restarts);
        all.prop_map(|(key, ttl, passes, stored, restarts)| Step {
            key,
            ttl,
            passes,
            stored,
            restarts,
        })
    }

    proptest! {
        #[test]
        fn a_cache_knows_what_a_list_of_the_newest_keys_knows(
            len_max in 1..9_usize,
            steps in vec(step(), 1..200),
        ) {
            let mut cache = Cache::new(len_max);
            // Key, due and whether it is stored, the newest last.
            let mut model: Vec<(u8, u64, bool)> = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step.passes;
                let due = step.ttl.map_or(u64::MAX, |ttl| now + ttl);
                let known = model.iter().any(|known| known.0 == step.key && now < known.1);
                let is_new = publish(&mut cache, step.key, due, now, step.stored);
                prop_assert_eq!(is_new, !known);
                if is_new {
                    model.retain(|known| known.0 != step.key);
                    model.push((step.key, due, step.stored));
                    model.drain(..model.len().saturating_sub(len_max));
                }
                if step.restarts {
                    let (stored, next) = (stored(&cache).into_iter(), cache.next_number());
                    let stored: Vec<_> = stored.collect();
                    prop_assert!(stored.windows(2).all(|pair| pair[0].number < pair[1].number));
                    cache = Cache::new(len_max);
                    cache.restore(stored, next, &Arc::default());
                    model.retain(|known| known.2);
                }
                prop_assert!(cache.len() <= len_max);
                let live = stored(&cache).into_iter().filter(|entry| now < entry.due.0);
                let live: Vec<_> = live.map(|entry| (entry.key, entry.due.0)).collect();
                let expected = model.iter().filter(|known| known.2 && now < known.1);
                let expected: Vec<_> = expected.map(|known| (key(known.0), known.1)).collect();
                prop_assert_eq!(live, expected);
            }
        }
    }
}
