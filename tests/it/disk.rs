//! A disk in memory that tells the test before each sync, on the thread that asks for it: to look
//! at what a crash would leave just then, or to let the sync wait.

use leveret::store::{Catalogue, CatalogueError, Disk, MemoryDisk, StoreError};
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

type BeforeSync = dyn Fn(&MemoryDisk) + Send + Sync;

pub(crate) struct HookedDisk {
    pub(crate) memory: MemoryDisk,
    before_sync: Box<BeforeSync>,
}

impl HookedDisk {
    pub(crate) fn new(before_sync: impl Fn(&MemoryDisk) + Send + Sync + 'static) -> Self {
        Self { memory: MemoryDisk::new(), before_sync: Box::new(before_sync) }
    }
}

impl Disk for HookedDisk {
    fn sync(&self, file: &str) -> Result<(), StoreError> {
        (self.before_sync)(&self.memory);
        self.memory.sync(file)
    }

    fn create(&self, file: &str) -> Result<(), StoreError> {
        self.memory.create(file)
    }

    fn write_at(&self, file: &str, offset: u64, pieces: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.memory.write_at(file, offset, pieces)
    }

    fn read_at(&self, file: &str, offset: u64, out: &mut [u8]) -> Result<usize, StoreError> {
        self.memory.read_at(file, offset, out)
    }

    fn len(&self, file: &str) -> Result<u64, StoreError> {
        self.memory.len(file)
    }

    fn truncate(&self, file: &str, len: u64) -> Result<(), StoreError> {
        self.memory.truncate(file, len)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        self.memory.rename(from, to)
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        self.memory.remove(file)
    }

    fn list(&self) -> Result<Vec<String>, StoreError> {
        self.memory.list()
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        self.memory.sync_dir()
    }

    fn room(&self) -> Result<Option<u64>, StoreError> {
        self.memory.room()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.memory.path(file)
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        self.memory.catalogue()
    }

    fn catalogue_copy(&self) -> Result<Option<Box<dyn Catalogue>>, CatalogueError> {
        self.memory.catalogue_copy()
    }

    fn broken_catalogues(&self) -> Result<Vec<String>, StoreError> {
        self.memory.broken_catalogues()
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        self.memory.discard_catalogue()
    }
}

/// What syncs wait at while it is shut.
#[derive(Default)]
pub(crate) struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// A disk whose syncs wait at a gate, which is open at first.
    pub(crate) fn before_a_disk() -> (Arc<Self>, Arc<HookedDisk>) {
        let gate = Arc::new(Self::default());
        let before = Arc::clone(&gate);
        (gate, Arc::new(HookedDisk::new(move |_| before.pass())))
    }

    pub(crate) fn shut(&self) {
        *self.shut.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.shut.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
    }
}
