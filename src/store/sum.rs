//! A sum over all entries of the catalogue, so that one that lost some of them is told from one
//! that is whole. It is kept up change by change and stands in `Meta`.

use super::catalogue::{Catalogue, CatalogueError, Change};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    entries: u64,
    /// Of a checksum of each; the order of entries means nothing.
    checksums: u64,
}

impl Sum {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.checksums = self.checksums.wrapping_add(checksum(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.checksums = self.checksums.wrapping_sub(checksum(key, value));
    }

    /// Makes the changes in the catalogue and here.
    pub(super) fn write(
        &mut self,
        catalogue: &mut dyn Catalogue,
        changes: &mut Vec<Change>,
    ) -> Result<(), CatalogueError> {
        let mut latest: HashMap<&[u8], Option<&[u8]>> = HashMap::with_capacity(changes.len());
        for (key, value) in &*changes {
            let value = value.as_deref();
            match latest.insert(key, value) {
                Some(Some(before)) => self.remove(key, before),
                Some(None) => {}
                None => {
                    if let Some(before) = catalogue.get(key)? {
                        self.remove(key, &before);
                    }
                }
            }
            if let Some(value) = value {
                self.add(key, value);
            }
        }
        drop(latest);
        catalogue.write(changes)
    }
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let key = crc32c::crc32c(key);
    let both = u64::from(key) << 32 | u64::from(crc32c::crc32c_append(key, value));
    // Sums of plain checksums would hide swapped values.
    both.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
