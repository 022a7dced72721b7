//! The catalogue's twin in memory, for tests of what a broker makes of a bad one.
//!
//! It knows what was flushed. `crash` leaves that, and of the slices written since the first so
//! many, as sled may flush by itself. It can be rolled back, rot and stall, as sled can.

use super::catalogue::{Catalogue, CatalogueError, Change};
use super::memory_file::Chance;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

const PATH: &str = "catalogue";

type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

/// What the catalogue's directory would hold. Clones are the same directory.
#[derive(Clone, Debug, Default)]
pub(super) struct CatalogueDirectory {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    now: Kept,
    /// As of the flush before the last one.
    flushed_before: Kept,
    /// The slices that the last flush made safe.
    flushed: Vec<Vec<Change>>,
    /// Those written since.
    loose: Vec<Vec<Change>>,
    fault: Option<Fault>,
    /// The power went: nothing can be asked or closed.
    dark: bool,
    open: bool,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Rotten,
    Stalled,
}

impl Fault {
    fn reason(self) -> &'static str {
        match self {
            Self::Rotten => "it is damaged",
            Self::Stalled => "no answer within 30s",
        }
    }
}

impl CatalogueDirectory {
    pub(super) fn open(&self) -> Result<MemoryCatalogue, CatalogueError> {
        let mut contents = self.contents.lock();
        let refused = |reason| CatalogueError::new("open", PATH, reason);
        if contents.dark {
            return Err(refused("no power"));
        }
        if let Some(fault) = contents.fault {
            return Err(refused(fault.reason()));
        }
        if mem::replace(&mut contents.open, true) {
            return Err(refused("it is open already"));
        }
        Ok(MemoryCatalogue { directory: self.clone(), given_up: None })
    }

    #[cfg(test)]
    pub(super) fn duplicate(&self) -> Self {
        let contents = self.contents.lock();
        Self::holding(contents.now.clone(), contents.fault)
    }

    /// A copy that is open, unless there is nothing to copy.
    pub(super) fn copy(&self) -> Result<Option<MemoryCatalogue>, CatalogueError> {
        let contents = self.contents.lock();
        if contents.now.is_empty() && contents.fault.is_none() {
            return Ok(None);
        }
        let copy = Self::holding(contents.now.clone(), contents.fault);
        drop(contents);
        copy.open().map(Some)
    }

    /// What a power loss at this moment leaves.
    pub(super) fn crash(&self, chance: &mut Chance) -> Self {
        let contents = self.contents.lock();
        let kept = chance.below(contents.loose.len() + 1);
        let mut left = contents.flushed_before.clone();
        for slice in contents.flushed.iter().chain(contents.loose.iter().take(kept)) {
            apply(&mut left, slice);
        }
        Self::holding(left, contents.fault)
    }

    pub(super) fn roll_back(&self) {
        let mut contents = self.contents.lock();
        contents.flushed.clear();
        contents.loose.clear();
        contents.now = contents.flushed_before.clone();
    }

    pub(super) fn rot(&self, seed: u64) {
        let mut chance = Chance(seed);
        let mut contents = self.contents.lock();
        let one_in = 1 + chance.below(8);
        match chance.below(3) {
            0 => contents.fault = Some(Fault::Rotten),
            1 => contents.now.retain(|_, _| chance.below(one_in) > 0),
            _ => {
                for value in contents.now.values_mut() {
                    let at = chance.below(value.len().max(1));
                    if chance.below(one_in) == 0
                        && let Some(byte) = value.get_mut(at)
                    {
                        *byte ^= 1 << chance.below(8);
                    }
                }
            }
        }
        contents.flushed_before = contents.now.clone();
        contents.flushed.clear();
        contents.loose.clear();
    }

    pub(super) fn stall(&self) {
        self.contents.lock().fault = Some(Fault::Stalled);
    }

    pub(super) fn cut_power(&self) {
        self.contents.lock().dark = true;
    }

    fn holding(kept: Kept, fault: Option<Fault>) -> Self {
        let contents =
            Contents { now: kept.clone(), flushed_before: kept, fault, ..Contents::default() };
        Self { contents: Arc::new(Mutex::new(contents)) }
    }
}

fn apply(kept: &mut Kept, slice: &[Change]) {
    for (key, value) in slice {
        match value {
            Some(value) => kept.insert(key.clone(), value.clone()),
            None => kept.remove(key),
        };
    }
}

/// One opening of the directory. Dropping it closes it, which flushes.
#[derive(Debug)]
pub(super) struct MemoryCatalogue {
    directory: CatalogueDirectory,
    given_up: Option<CatalogueError>,
}

impl MemoryCatalogue {
    fn contents(
        &mut self,
        operation: &'static str,
    ) -> Result<MutexGuard<'_, Contents>, CatalogueError> {
        if let Some(why) = &self.given_up {
            return Err(why.clone());
        }
        let contents = self.directory.contents.lock();
        if contents.dark {
            return Err(CatalogueError::new(operation, PATH, "no power"));
        }
        if let Some(fault) = contents.fault {
            let why = CatalogueError::new(operation, PATH, fault.reason());
            self.given_up = Some(why.clone());
            return Err(why);
        }
        Ok(contents)
    }
}

impl Catalogue for MemoryCatalogue {
    fn scan(
        &mut self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CatalogueError> {
        let contents = self.contents("scan")?;
        let found = contents.now.range(prefix.to_vec()..);
        for (key, value) in found.take_while(|(key, _)| key.starts_with(prefix)) {
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        Ok(self.contents("read")?.now.get(key).cloned())
    }

    fn write(&mut self, changes: &mut Vec<Change>) -> Result<(), CatalogueError> {
        let slice = mem::take(changes);
        let mut contents = self.contents("write to")?;
        apply(&mut contents.now, &slice);
        contents.loose.push(slice);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CatalogueError> {
        self.contents("flush")?.flush();
        Ok(())
    }
}

impl Contents {
    fn flush(&mut self) {
        let loose = mem::take(&mut self.loose);
        for slice in mem::replace(&mut self.flushed, loose) {
            apply(&mut self.flushed_before, &slice);
        }
    }
}

impl Drop for MemoryCatalogue {
    fn drop(&mut self) {
        let mut contents = self.directory.contents.lock();
        contents.open = false;
        if contents.dark {
            return;
        }
        if self.given_up.is_none() && contents.fault.is_none() {
            // It belongs to the flush before it: who rolls back loses both.
            let loose = mem::take(&mut contents.loose);
            contents.flushed.extend(loose);
        }
    }
}
