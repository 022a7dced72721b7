//! The keys of a cache, by ranges of their numbers: what was written once is not written again.

use super::{get, put};
use crate::deduplication::{Key, KeyEntry};
use crate::id::CacheId;
use crate::store::catalogue::{Catalogue, CatalogueError, Change};
use crate::store::stored_keys::StoredKeys;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers of keys that one entry is for.
const KEYS_OF_RANGE: u64 = 1024;

/// The keys of a cache whose numbers lie in one range.
#[derive(Serialize, Deserialize)]
struct KeyRange {
    next_number: u64,
    /// Number, due and key.
    keys: Vec<(u64, u64, [u8; 16])>,
}

/// The entries of a cache's keys, in place of those that are there. Each has the keys of a range of
/// numbers, so that only what is new is written.
pub(in crate::store) fn keys(
    id: CacheId,
    keys: &StoredKeys,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    let prefix = cache_key(id);
    let range = |number: u64| number / KEYS_OF_RANGE;
    let mut wanted = BTreeMap::new();
    let mut put_range = |range: u64, next_number, entries: &[&KeyEntry]| {
        let keys = entries.iter().map(|it| (it.number, it.due.0, it.key.0)).collect();
        let key = [&prefix[..], &range.to_be_bytes()].concat();
        wanted.extend([put(key, &KeyRange { next_number, keys })]);
    };
    let entries: Vec<_> = keys.entries.iter().collect();
    for part in entries.chunk_by(|a, b| range(a.number) == range(b.number)) {
        put_range(range(part[0].number), 0, part);
    }
    // Says no more than how far the numbers went, and is the last.
    put_range(u64::MAX, keys.next_number, &[]);
    catalogue.scan(&prefix, &mut |key, value| {
        match wanted.get(key) {
            Some(wanted_value) if wanted_value.as_deref() == Some(value) => {
                wanted.remove(key);
            }
            Some(_) => {}
            None => out.push((key.to_vec(), None)),
        }
        true
    })?;
    out.extend(wanted);
    Ok(())
}

pub(super) fn delete(
    id: CacheId,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    catalogue.scan(&cache_key(id), &mut |key, _| {
        out.push((key.to_vec(), None));
        true
    })
}

pub(super) fn read(value: &[u8]) -> Option<StoredKeys> {
    let KeyRange { next_number, keys } = get(value)?;
    let entry = |(number, due, key)| KeyEntry { number, key: Key(key), due: UnixMillis(due) };
    Some(StoredKeys { next_number, entries: keys.into_iter().map(entry).collect() })
}

fn cache_key(id: CacheId) -> Vec<u8> {
    [b"d", &id.0.to_be_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::definition::Definition;
    use crate::store::entries::{Entry, definition, read as read_entry};
    use crate::store::{Disk, MemoryDisk};
    use crate::table::Table;

    fn stored(numbers: impl IntoIterator<Item = u64>, next_number: u64) -> StoredKeys {
        let entry = |number: u64| {
            let key = Key([(number % 251) as u8; 16]);
            KeyEntry { number, key, due: UnixMillis(number) }
        };
        StoredKeys { next_number, entries: numbers.into_iter().map(entry).collect() }
    }

    /// What a cache comes back as.
    fn found(id: CacheId, catalogue: &mut dyn Catalogue) -> StoredKeys {
        let mut all = StoredKeys::default();
        let scanned = catalogue.scan(&cache_key(id), &mut |key, value| {
            let Some(Entry::Keys(read_id, part)) = read_entry(key, value) else {
                panic!("it holds keys")
            };
            assert_eq!(read_id, id);
            all.next_number = all.next_number.max(part.next_number);
            all.entries.extend(part.entries);
            true
        });
        scanned.unwrap();
        all
    }

    #[test]
    fn ranges_that_did_not_change_are_not_written_again_and_old_ones_go() {
        let disk = MemoryDisk::new();
        let mut catalogue = disk.catalogue().unwrap();
        let (id, other) = (CacheId(7), CacheId(8));
        let mut write = |keys_of: CacheId, stored: &StoredKeys| {
            let mut out = Vec::new();
            keys(keys_of, stored, &mut *catalogue, &mut out).unwrap();
            let changes = out.len();
            catalogue.write(&mut out).unwrap();
            assert_eq!(found(keys_of, &mut *catalogue), *stored);
            changes
        };
        assert_eq!(write(other, &stored([5], 6)), 2);
        assert_eq!(write(id, &stored(1..3000, 3000)), 4);
        assert_eq!(write(id, &stored(1..3000, 3000)), 0);
        // The last range, and how far the numbers went.
        assert_eq!(write(id, &stored(1..3050, 3060)), 2);
        // The first range has gone and the second one is less.
        assert_eq!(write(id, &stored(1500..3050, 3060)), 2);
        assert_eq!(write(id, &stored([], 9000)), 3);
        assert_eq!(write(other, &stored([5], 6)), 0);
    }

    #[test]
    fn the_keys_of_an_exchange_go_with_it_and_with_its_vhost() {
        let disk = MemoryDisk::new();
        let mut catalogue = disk.catalogue().unwrap();
        let text = str::to_owned;
        let declared = |name: &str, cache| Definition::ExchangeDeclared {
            vhost: text("v"),
            name: text(name),
            kind: text("fanout"),
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
            cache,
        };
        let mut out = Vec::new();
        for (name, id) in [("e", 1), ("e2", 2)] {
            let id = CacheId(id);
            definition(&declared(name, Some(id)), &mut *catalogue, &mut out).unwrap();
            keys(id, &stored([3], 4), &mut *catalogue, &mut out).unwrap();
        }
        catalogue.write(&mut out).unwrap();
        let deleted = Definition::ExchangeDeleted { vhost: text("v"), name: text("e") };
        for (definition_of, left) in [
            (deleted, [StoredKeys::default(), stored([3], 4)]),
            (Definition::VhostDeleted { name: text("v") }, Default::default()),
        ] {
            definition(&definition_of, &mut *catalogue, &mut out).unwrap();
            catalogue.write(&mut out).unwrap();
            assert_eq!([1, 2].map(|id| found(CacheId(id), &mut *catalogue)), left);
        }
    }
}
