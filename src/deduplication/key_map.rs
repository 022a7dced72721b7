//! What is known of each key of a cache, so that no call moves more than a few thousand of a
//! million.
//!
//! Linear hashing: small tables, of which there is one more whenever they are full, with some of
//! the keys of one other, and one less whenever they are half empty. Neither an attacker nor chance
//! fills one of them: the hash is seeded.

use super::key::Key;
use hashbrown::{DefaultHashBuilder, HashTable};
#[cfg(test)]
use std::cell::Cell;
use std::hash::BuildHasher;
use std::mem;

/// Keys of a table, on average, at most.
const TABLE_LEN: usize = 1_024;

/// Keys for which a table keeps room in any case.
const KEPT_MAX: usize = 32;

#[cfg(test)]
thread_local! {
    /// Keys that were looked at or moved, beside those that were asked for.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what a test wants to know.
#[inline]
pub(super) fn count_steps(steps: usize) {
    #[cfg(test)]
    STEPS.set(STEPS.get() + steps);
    let _ = steps;
}

#[derive(Debug)]
pub(super) struct KeyMap<V> {
    /// Never empty.
    tables: Vec<HashTable<(Key, V)>>,
    len: usize,
    hasher: DefaultHashBuilder,
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self { tables: vec![HashTable::new()], len: 0, hasher: DefaultHashBuilder::default() }
    }
}

impl<V> KeyMap<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &Key) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let table = &self.tables[self.place(hash)];
        table.find(hash, |(other, _)| other == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        let hash = self.hasher.hash_one(key);
        let at = self.place(hash);
        let found = self.tables[at].find_mut(hash, |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// Says what was known of the key before.
    pub(super) fn insert(&mut self, key: Key, value: V) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let at = self.place(hash);
        if let Some((_, known)) = self.tables[at].find_mut(hash, |(other, _)| *other == key) {
            return Some(mem::replace(known, value));
        }
        self.put(hash, key, value);
        self.len += 1;
        if self.len > TABLE_LEN * self.tables.len() {
            self.split();
        }
        None
    }

    /// Takes the key out if what is known of it is `meant`.
    pub(super) fn remove_if(&mut self, key: &Key, meant: impl FnOnce(&V) -> bool) {
        let hash = self.hasher.hash_one(key);
        let at = self.place(hash);
        let table = &mut self.tables[at];
        let Ok(found) = table.find_entry(hash, |(other, _)| other == key) else { return };
        if !meant(&found.get().1) {
            return;
        }
        found.remove();
        self.len -= 1;
        if table.len().max(KEPT_MAX) * 4 < table.capacity() {
            count_steps(table.len());
            let hasher = &self.hasher;
            table.shrink_to(KEPT_MAX.max(table.len() * 2), |(key, _)| hasher.hash_one(key));
        }
        if self.len < TABLE_LEN / 2 * (self.tables.len() - 1) {
            self.merge();
        }
    }

    /// Which table has the keys with this hash. A table takes its own bits of it, and these are
    /// others.
    fn place(&self, hash: u64) -> usize {
        let len = self.tables.len();
        let wide = len.next_power_of_two();
        let at = (hash >> 24) as usize & (wide - 1);
        if at < len { at } else { at - wide / 2 }
    }

    fn put(&mut self, hash: u64, key: Key, value: V) {
        let at = self.place(hash);
        let (table, hasher) = (&mut self.tables[at], &self.hasher);
        let room = table.capacity();
        table.insert_unique(hash, (key, value), |(key, _)| hasher.hash_one(key));
        if table.capacity() > room + 1 {
            // All others have moved. The place of one that was removed is room for one more.
            count_steps(table.len());
        }
    }

    /// One table more, with those keys of another that now belong there.
    fn split(&mut self) {
        let to = self.tables.len();
        let from = to - (to + 1).next_power_of_two() / 2;
        let parted = mem::take(&mut self.tables[from]);
        let half = || HashTable::with_capacity(parted.len() / 2);
        self.tables[from] = half();
        self.tables.push(half());
        self.spread(parted);
    }

    /// One table less.
    fn merge(&mut self) {
        let Some(last) = self.tables.pop() else { return };
        self.spread(last);
        if self.tables.len() * 4 < self.tables.capacity() {
            self.tables.shrink_to(self.tables.len() * 2);
        }
    }

    fn spread(&mut self, table: HashTable<(Key, V)>) {
        count_steps(table.len());
        for (key, value) in table {
            self.put(self.hasher.hash_one(key), key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(n: u32) -> Key {
        Key(u128::from(n).to_be_bytes())
    }

    impl<V> KeyMap<V> {
        /// Keys for which there is room.
        pub(in super::super) fn capacity(&self) -> usize {
            self.tables.iter().map(HashTable::capacity).sum()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64, failure_persistence: None, ..<_>::default()
        })]

        /// Runs of keys come, come again and go.
        #[test]
        fn any_history_is_that_of_a_plain_map(
            steps in vec((0..3_u8, 0..3_000_u32, 0..3_000_u32, 0..2_u8), 1..8),
        ) {
            let (mut map, mut model) = (KeyMap::default(), HashMap::new());
            for (verb, from, len, value) in steps {
                for n in from..from + len {
                    if verb == 0 {
                        map.remove_if(&key(n), |known| *known == value);
                        let other = model.remove(&n).filter(|known| *known != value);
                        other.map(|other| model.insert(n, other));
                    } else {
                        prop_assert_eq!(map.insert(key(n), value), model.insert(n, value));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for n in 0..6_000 {
                prop_assert_eq!(map.get(&key(n)), model.get(&n));
                prop_assert_eq!(map.get_mut(&key(n)), model.get_mut(&n));
            }
        }
    }

    #[test]
    fn no_call_moves_more_than_a_few_tables_and_room_goes_with_the_keys() {
        let (mut map, mut most) = (KeyMap::default(), 0);
        let mut step = |map: &mut KeyMap<u64>, call: &dyn Fn(&mut KeyMap<u64>)| {
            STEPS.set(0);
            call(map);
            most = most.max(STEPS.get());
        };
        for n in 0..100_000 {
            step(&mut map, &|map| assert_eq!(map.insert(key(n), 0), None));
        }
        assert!(map.capacity() < 4 * map.len(), "{}", map.capacity());
        for n in 0..99_900 {
            step(&mut map, &|map| map.remove_if(&key(n), |_| true));
            assert!(
                map.capacity() < 8 * map.len().max(KEPT_MAX),
                "{} {}",
                map.capacity(),
                map.len()
            );
        }
        assert!(most > 0 && most < 6 * TABLE_LEN, "{most}");
        assert_eq!((map.len(), map.tables.len()), (100, 1));
        assert!((99_900..100_000).all(|n| map.get(&key(n)) == Some(&0)));
    }
}
