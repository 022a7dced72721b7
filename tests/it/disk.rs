//! A disk in memory that tells the test before each sync, on the thread that asks for it: to look
//! at what a crash would leave just then, or to let the sync wait.

use leveret::store::{Disk, Layer, MemoryDisk, StoreError};
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

impl Layer for HookedDisk {
    fn below(&self) -> &dyn Disk {
        &self.memory
    }

    fn sync(&self, file: &str) -> Result<(), StoreError> {
        (self.before_sync)(&self.memory);
        self.memory.sync(file)
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
