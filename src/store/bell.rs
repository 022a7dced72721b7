//! Calls the keeper, the thread that does what can wait: preparing segments and the like.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Ringing it twice before it is heard is as ringing it once.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    lock: Mutex<()>,
    heard: Condvar,
}

impl Bell {
    /// There is something to do. Costs a load if that is known.
    pub fn ring(&self) {
        if !self.rung.load(Relaxed) && !self.rung.swap(true, Relaxed) {
            // Taken, so that the bell is not rung between the keeper's look and its sleep.
            drop(self.lock.lock());
            self.heard.notify_one();
        }
    }

    /// Sleeps until it is rung.
    pub fn wait(&self) {
        let mut lock = self.lock.lock();
        while !self.rung.swap(false, Relaxed) {
            self.heard.wait(&mut lock);
        }
    }
}
