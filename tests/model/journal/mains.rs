//! A disk whose power goes after a number of changes.

use leveret::store::{Disk, Layer, MemoryDisk, StoreError};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Mutex;

/// A disk that loses its power after a number of changes.
pub(super) struct Mains {
    pub(super) disk: MemoryDisk,
    fuse: Mutex<Fuse>,
}

#[derive(Default)]
struct Fuse {
    /// Changes left and the seed of what the power loss leaves.
    burns: Option<(usize, u64)>,
    left: Option<MemoryDisk>,
}

impl Mains {
    pub(super) fn new(disk: MemoryDisk) -> Self {
        let fuse = Mutex::default();
        Self { disk, fuse }
    }

    pub(super) fn light(&self, changes: usize, seed: u64) {
        self.fuse.lock().unwrap().burns = Some((changes, seed));
    }

    /// What is there after the power loss, which is now if it was not before.
    pub(super) fn unplug(&self, seed: u64) -> MemoryDisk {
        let left = self.fuse.lock().unwrap().left.take();
        left.unwrap_or_else(|| self.disk.crash(seed))
    }

    fn change<T>(&self, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut fuse = self.fuse.lock().unwrap();
        if fuse.left.is_some() {
            let gone = io::Error::other("no power");
            return Err(StoreError::io("use", PathBuf::from("disk"), gone));
        }
        let outcome = act();
        match fuse.burns {
            Some((0, seed)) => fuse.left = Some(self.disk.crash(seed)),
            Some((more, seed)) => fuse.burns = Some((more - 1, seed)),
            None => {}
        }
        outcome
    }
}

impl Layer for Mains {
    fn below(&self) -> &dyn Disk {
        &self.disk
    }

    fn create(&self, file: &str) -> Result<(), StoreError> {
        self.change(|| self.disk.create(file))
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.change(|| self.disk.write_at(file, offset, pieces))
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        self.change(|| self.disk.sync(file))
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        self.change(|| self.disk.truncate(file, len))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.change(|| self.disk.rename(from, to))
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        self.change(|| self.disk.remove(file))
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        self.change(|| self.disk.sync_dir())
    }
}
