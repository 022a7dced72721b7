//! A disk in memory: for brokers that need none, and for tests of what a power loss leaves.
//!
//! It knows which bytes and which directory entries were synced. `crash` keeps those, and of the
//! rest what chance keeps: an old or a new directory, and of the writes and cuts of each file all,
//! none, the first ones, or any sectors in any order (`memory_file`). Chance comes from a seed.

use super::catalogue::{Catalogue, CatalogueError};
use super::disk::Disk;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::memory_catalogue::CatalogueDirectory;
use super::memory_file::{Chance, Change, FileBytes};
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;

type Directory = BTreeMap<String, u64>;

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    state: Mutex<State>,
    catalogue: Mutex<CatalogueDirectory>,
}

#[derive(Debug)]
struct State {
    contents: BTreeMap<u64, FileBytes>,
    /// The directory as last synced, then as it was after each change since; the last is now.
    directories: Vec<Directory>,
    next_file: u64,
    writes: u64,
    syncs: u64,
    syncs_before_failure: Option<u64>,
    room: Option<usize>,
    /// Files whose name contains this do not grow, and none is created.
    full_for: Option<&'static str>,
    /// Reads of files whose name contains this fail.
    unreadable: Option<&'static str>,
    reached: BTreeMap<Failpoint, u64>,
    /// Where the power goes, and how many times that place is passed before.
    cut: Option<(Failpoint, u64)>,
    dark: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            contents: BTreeMap::new(),
            directories: vec![Directory::new()],
            next_file: 0,
            writes: 0,
            syncs: 0,
            syncs_before_failure: None,
            room: None,
            full_for: None,
            unreadable: None,
            reached: BTreeMap::new(),
            cut: None,
            dark: false,
        }
    }
}

impl MemoryDisk {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same files and catalogue, all of it safe.
    #[cfg(test)]
    pub(super) fn copy(&self) -> Self {
        let copy = Self::new();
        for file in self.list().unwrap_or_default() {
            copy.overwrite(&file, self.contents(&file).unwrap_or_default());
        }
        *copy.catalogue.lock() = self.catalogue.lock().duplicate();
        copy
    }

    /// What a power loss at this moment leaves.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut chance = Chance(seed);
        let state = self.state.lock();
        let mut left = State::default();
        let survivor = chance.below(state.directories.len());
        if let Some(directory) = state.directories.get(survivor) {
            for (name, file) in directory {
                let contents = state.contents.get(file);
                let bytes = contents.map_or_else(Vec::new, |contents| contents.crash(&mut chance));
                left.put(name, bytes);
            }
        }
        left.sync_directory();
        let catalogue = self.catalogue.lock().crash(&mut chance);
        Self { state: Mutex::new(left), catalogue: Mutex::new(catalogue) }
    }

    /// Takes the catalogue back to the flush before the last one.
    pub fn roll_back_catalogue(&self) {
        self.catalogue.lock().roll_back();
    }

    /// The catalogue is gone; the next one opened is new.
    pub fn lose_catalogue(&self) {
        *self.catalogue.lock() = CatalogueDirectory::default();
    }

    /// Damages the catalogue: bits of values flip, or entries are missing, or every call errs.
    pub fn rot_catalogue(&self, seed: u64) {
        self.catalogue.lock().rot(seed);
    }

    /// From now on the catalogue gives no answer, and each call says so at once.
    pub fn stall_catalogue(&self) {
        self.catalogue.lock().stall();
    }

    /// Lets `syncs` more syncs of files pass and fails the next one with EIO.
    pub fn fail_sync_after(&self, syncs: u64) {
        self.state.lock().syncs_before_failure = Some(syncs);
    }

    /// Files may grow by so many more bytes; a write that needs more fails with ENOSPC half done.
    pub fn limit_room(&self, bytes: usize) {
        self.state.lock().room = Some(bytes);
    }

    /// Files whose name contains `part` can neither be created nor grow from now on (ENOSPC).
    pub fn fill_up_for(&self, part: Option<&'static str>) {
        self.state.lock().full_for = part;
    }

    /// Files whose name contains `part` cannot be read from now on (EIO).
    pub fn fail_reads_of(&self, part: Option<&'static str>) {
        self.state.lock().unreadable = part;
    }

    /// The power goes at `point`, after `passed` more visits of it: every operation fails from
    /// then on, and `crash` tells what that moment leaves.
    pub fn cut_power_at(&self, point: Failpoint, passed: u64) {
        self.state.lock().cut = Some((point, passed));
    }

    /// The power went.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.state.lock().dark
    }

    /// How often each place was reached.
    #[must_use]
    pub fn reached(&self) -> BTreeMap<Failpoint, u64> {
        self.state.lock().reached.clone()
    }

    /// Syncs of files so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state.lock().writes
    }

    /// All bytes of a file, if it is there.
    #[must_use]
    pub fn contents(&self, file: &str) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        state.find(file).map(|contents| contents.bytes().to_vec())
    }

    /// Replaces a file's bytes, synced, as rot would or a restored backup.
    pub fn overwrite(&self, file: &str, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        state.put(file, bytes);
        state.sync_directory();
    }

    fn with_file<T>(
        &self,
        operation: &'static str,
        file: &str,
        act: impl FnOnce(&mut FileBytes) -> T,
    ) -> Result<T, StoreError> {
        let mut state = self.powered(operation, file)?;
        let contents = state.find(file).map(act);
        contents.ok_or_else(|| self.error(operation, file, io::ErrorKind::NotFound))
    }

    /// The state, as long as there is power.
    fn powered(
        &self,
        operation: &'static str,
        file: &str,
    ) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock();
        if state.dark {
            let gone = io::Error::other("no power");
            return Err(StoreError::io(operation, self.path(file), gone));
        }
        Ok(state)
    }

    fn error(&self, operation: &'static str, file: &str, kind: io::ErrorKind) -> StoreError {
        StoreError::io(operation, self.path(file), kind.into())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, file: &str) -> Result<(), StoreError> {
        let mut state = self.powered("create", file)?;
        if state.is_full_for(file) {
            return Err(self.error("create", file, io::ErrorKind::StorageFull));
        }
        if let Some(contents) = state.find(file) {
            contents.change(Change::Cut(0));
            return Ok(());
        }
        let id = state.new_file(FileBytes::default());
        state.change_directory(|directory| directory.insert(file.to_owned(), id));
        Ok(())
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        let mut state = self.powered("write to", file)?;
        state.writes += 1;
        let mut room = if state.is_full_for(file) { Some(0) } else { state.room };
        let full = || self.error("write to", file, io::ErrorKind::StorageFull);
        let offset = usize::try_from(offset).map_err(|_| full())?;
        let Some(contents) = state.find(file) else {
            return Err(self.error("write to", file, io::ErrorKind::NotFound));
        };
        let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        let growth = (offset + bytes.len()).saturating_sub(contents.bytes().len());
        let lacking = growth.saturating_sub(room.unwrap_or(usize::MAX));
        bytes.truncate(bytes.len().saturating_sub(lacking));
        room = room.map(|room| room.saturating_sub(growth));
        contents.change(Change::Write { offset, bytes });
        if !state.is_full_for(file) {
            state.room = room;
        }
        if lacking > 0 { Err(full()) } else { Ok(()) }
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        {
            let mut state = self.powered("sync", file)?;
            state.syncs += 1;
            match state.syncs_before_failure {
                Some(0) => {
                    state.syncs_before_failure = None;
                    let eio = io::Error::other("Input/output error");
                    return Err(StoreError::io("sync", self.path(file), eio));
                }
                Some(more) => state.syncs_before_failure = Some(more - 1),
                None => {}
            }
        }
        self.with_file("sync", file, FileBytes::sync)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        if self.state.lock().unreadable.is_some_and(|part| file.contains(part)) {
            let eio = io::Error::other("Input/output error");
            return Err(StoreError::io("read", self.path(file), eio));
        }
        self.with_file("read", file, |contents| {
            let offset = usize::try_from(offset).unwrap_or(usize::MAX);
            let rest = contents.bytes().get(offset..).unwrap_or_default();
            let len = rest.len().min(out.len());
            let (from, to) = (rest.iter().take(len), out.iter_mut());
            to.zip(from).for_each(|(to, from)| *to = *from);
            len
        })
    }

    fn len(&self, file: &str) -> Result<u64, StoreError> {
        self.with_file("open", file, |contents| contents.bytes().len() as u64)
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        self.with_file("cut", file, |contents| contents.change(Change::Cut(len)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let mut state = self.powered("rename", from)?;
        if state.find(from).is_none() {
            return Err(self.error("rename", from, io::ErrorKind::NotFound));
        }
        state.change_directory(|directory| {
            let file = directory.remove(from)?;
            directory.insert(to.to_owned(), file)
        });
        Ok(())
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        let mut state = self.powered("remove", file)?;
        let removed = state.change_directory(|directory| directory.remove(file));
        drop(state);
        removed.map(drop).ok_or_else(|| self.error("remove", file, io::ErrorKind::NotFound))
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        let state = self.powered("list", "")?;
        Ok(state.directory().keys().cloned().collect())
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        self.powered("sync", "")?.sync_directory();
        Ok(())
    }

    fn room(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.state.lock().room.map(|room| room as u64))
    }

    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let mut state = self.powered("use", "")?;
        *state.reached.entry(point).or_default() += 1;
        match &mut state.cut {
            Some((cut, 0)) if *cut == point => {
                state.dark = true;
                self.catalogue.lock().cut_power();
                drop(state);
                self.powered("use", "").map(drop)
            }
            Some((cut, passed)) if *cut == point => {
                *passed -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(file)
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        let opened = self.catalogue.lock().open()?;
        Ok(Box::new(opened))
    }

    fn catalogue_copy(&self) -> Result<Option<Box<dyn Catalogue>>, CatalogueError> {
        let copy = self.catalogue.lock().copy()?;
        Ok(copy.map(|copy| Box::new(copy) as Box<dyn Catalogue>))
    }

    fn broken_catalogues(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        drop(self.powered("discard", "catalogue")?);
        self.lose_catalogue();
        Ok(())
    }
}

impl State {
    fn directory(&self) -> &Directory {
        let now = self.directories.last();
        now.expect("there is always a directory as it is now")
    }

    fn is_full_for(&self, file: &str) -> bool {
        self.full_for.is_some_and(|part| file.contains(part))
    }

    fn find(&mut self, file: &str) -> Option<&mut FileBytes> {
        let id = *self.directory().get(file)?;
        self.contents.get_mut(&id)
    }

    fn new_file(&mut self, contents: FileBytes) -> u64 {
        self.next_file += 1;
        self.contents.insert(self.next_file, contents);
        self.next_file
    }

    /// Puts a synced file of these bytes in the directory.
    fn put(&mut self, name: &str, bytes: Vec<u8>) {
        let id = self.new_file(FileBytes::safe(bytes));
        self.change_directory(|directory| directory.insert(name.to_owned(), id));
    }

    fn change_directory<T>(&mut self, change: impl FnOnce(&mut Directory) -> T) -> T {
        let mut changed = self.directory().clone();
        let outcome = change(&mut changed);
        self.directories.push(changed);
        outcome
    }

    fn sync_directory(&mut self) {
        let now = self.directory().clone();
        self.contents.retain(|id, _| now.values().any(|live| live == id));
        self.directories = vec![now];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_chance_keeps_the_rest() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        disk.sync_dir().unwrap();
        disk.append("a", &[IoSlice::new(b"safe")]).unwrap();
        disk.sync("a").unwrap();
        disk.append("a", &[IoSlice::new(b"loose")]).unwrap();
        let mut left: Vec<_> =
            (0..200).map(|seed| disk.crash(seed).contents("a").unwrap()).collect();
        assert!(left.iter().all(|bytes| bytes.starts_with(b"safe")));
        let again = disk.write_at("a", 0, &[IoSlice::new(b"SAFE")]);
        again.unwrap();
        let over = (0..200).map(|seed| disk.crash(seed).contents("a").unwrap());
        assert!(
            over.into_iter().any(|bytes| bytes == b"SAFE"),
            "a write is kept, one before is not"
        );
        left.sort();
        left.dedup();
        assert!(left.contains(&b"safe".to_vec()));
        assert!(left.contains(&b"safeloose".to_vec()));
        assert!(left.contains(&b"safe\0\0\0\0\0".to_vec()));
    }

    #[test]
    fn a_name_is_safe_after_the_directory_was_synced() {
        let disk = MemoryDisk::new();
        disk.create("a").unwrap();
        let listed = |disk: &MemoryDisk| {
            let crashes = (0..50).map(|seed| disk.crash(seed));
            crashes.filter(|left| left.contents("a").is_some()).count()
        };
        assert!((1..50).contains(&listed(&disk)));
        disk.sync_dir().unwrap();
        assert_eq!(listed(&disk), 50);
    }

    #[test]
    fn a_cut_that_was_not_synced_may_be_undone() {
        let disk = MemoryDisk::new();
        disk.overwrite("a", b"abcdef".to_vec());
        disk.truncate("a", 2).unwrap();
        let undone = |disk: &MemoryDisk| {
            let crashes = (0..50).map(|seed| disk.crash(seed));
            crashes.filter(|left| left.len("a").unwrap() == 6).count()
        };
        assert!((1..50).contains(&undone(&disk)));
        disk.sync("a").unwrap();
        assert_eq!(undone(&disk), 0);
    }
}
