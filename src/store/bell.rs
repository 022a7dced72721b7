//! Calls the keeper, the thread that does what can wait: preparing segments and the like.
//!
//! No ring is lost: all swaps of `rung` have one order. A ring that comes before the keeper's swap
//! is seen by it, and with it all that its ringer wrote before; one that comes after finds false
//! and is heard by the next. A plain load before the swap would be no part of that order: it may
//! still see the ring before, and skip one that the keeper never learns of.

use parking_lot::{Condvar, Mutex};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

/// Ringing it twice before it is heard is as ringing it once.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    lock: Mutex<()>,
    heard: Condvar,
}

impl Bell {
    /// There is something to do. Costs a swap if that is known.
    pub fn ring(&self) {
        // The keeper reads the last of a chain of swaps, and sees what each of them released.
        if !self.rung.swap(true, Release) {
            // Taken, so that the bell is not rung between the keeper's look and its sleep.
            drop(self.lock.lock());
            self.heard.notify_one();
        }
    }

    /// As `wait`, but for no longer than that.
    pub fn wait_for(&self, max: Duration) {
        let mut lock = self.lock.lock();
        if !self.rung.swap(false, Acquire) {
            self.heard.wait_for(&mut lock, max);
            self.rung.swap(false, Acquire);
        }
    }

    /// Whether it was rung since it was heard last; this hears it.
    #[cfg(test)]
    pub(crate) fn was_rung(&self) -> bool {
        self.rung.swap(false, Acquire)
    }

    /// Sleeps until it is rung. What was written before the ring is seen after this.
    pub fn wait(&self) {
        let mut lock = self.lock.lock();
        while !self.rung.swap(false, Acquire) {
            self.heard.wait(&mut lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::thread;

    /// Two ring at once, again and again: a ring that is lost leaves its ringer waiting for good.
    #[test]
    fn what_was_there_before_a_ring_is_seen_after_it() {
        const ROUNDS: u64 = 50_000;
        let bell = Bell::default();
        let (work, seen) = ([const { AtomicU64::new(0) }; 2], [const { AtomicU64::new(0) }; 2]);
        thread::scope(|scope| {
            for (work, seen) in work.iter().zip(&seen) {
                let bell = &bell;
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        work.store(round, Relaxed);
                        bell.ring();
                        while seen.load(Relaxed) < round {
                            thread::yield_now();
                        }
                    }
                });
            }
            while seen.iter().any(|seen| seen.load(Relaxed) < ROUNDS) {
                bell.wait();
                for (work, seen) in work.iter().zip(&seen) {
                    seen.store(work.load(Relaxed), Relaxed);
                }
            }
        });
    }
}
