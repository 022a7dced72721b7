//! A channel-wide prefetch (`basic.qos` with global=true): one count over all of a channel's
//! consumers, whatever their queue. A leaf in the lock order.

use crate::id::ConsumerToken;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by a link and the queues that its consumers stand in.
#[derive(Debug, Default)]
pub struct ChannelLimiter {
    /// Read without the lock, since nearly no channel has a limit.
    active: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Zero is no limit.
    limit: u32,
    taken: u32,
    /// Consumers that were refused since the last `give` that freed something.
    starved: Vec<ConsumerToken>,
}

impl ChannelLimiter {
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Takes one for a delivery to `token`. `None`: no limit is set. `Some(false)`: the limit is
    /// reached, and `token` will be named by the `give` that changes this.
    pub(super) fn take(&self, token: ConsumerToken) -> Option<bool> {
        if !self.is_active() {
            return None;
        }
        let mut state = self.state.lock();
        if state.limit == 0 {
            return None;
        }
        if state.taken < state.limit {
            state.taken += 1;
            return Some(true);
        }
        if !state.starved.contains(&token) {
            state.starved.push(token);
        }
        Some(false)
    }

    /// Counts deliveries that were handed over before the limit was set.
    pub fn add(&self, n: u32) {
        self.state.lock().taken += n;
    }

    /// Gives back what `n` settled deliveries took; the starved consumers may go on.
    #[must_use]
    pub fn give(&self, n: u32) -> Vec<ConsumerToken> {
        let mut state = self.state.lock();
        state.taken = state.taken.saturating_sub(n);
        if state.limit != 0 && state.taken >= state.limit {
            return Vec::new();
        }
        std::mem::take(&mut state.starved)
    }

    /// Sets the limit (0 removes it) with `taken` deliveries already out; the starved may go on.
    #[must_use]
    pub fn set(&self, limit: u32, taken: u32) -> Vec<ConsumerToken> {
        let mut state = self.state.lock();
        state.limit = limit;
        state.taken = taken;
        self.active.store(limit != 0, Ordering::Relaxed);
        std::mem::take(&mut state.starved)
    }
}
