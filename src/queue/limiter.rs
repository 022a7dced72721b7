//! A channel-wide prefetch (`basic.qos` with global=true): one count over all of a channel's
//! consumers, whatever their queue. A leaf in the lock order. It also says that a channel ends.
//!
//! A consumer that is refused leaves its queue's ring, so somebody must put it back: after `give`
//! and `set` the link asks for `next_starved` until there is none, and resumes each before it asks
//! again. So as long as there is room every starved consumer is looked at, also if those before it
//! find their queues empty; and once the room is used up the others stay starved, at no cost.

use crate::id::ConsumerToken;
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of ended consumers that `starved` may hold beyond one for each that waits.
const FORGOTTEN_MAX: usize = 32;

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
    /// The channel ends: there is no room, whatever the limit.
    closed: bool,
    /// Deliveries that count: those on their way that are `limited`, and those that the link holds
    /// as limited. Whatever the limit becomes, each is in here until it is given back.
    taken: u32,
    /// Consumers that were refused, oldest first.
    starved: VecDeque<ConsumerToken>,
    /// Those of `starved` that have not ended.
    waiting: HashSet<ConsumerToken>,
}

impl State {
    fn has_room(&self) -> bool {
        !self.closed && (self.limit == 0 || self.taken < self.limit)
    }
}

impl ChannelLimiter {
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// Takes one for a delivery to `token`. `None`: no limit is set. `Some(false)`: the limit is
    /// reached, and `next_starved` will name `token` when this has changed.
    pub(super) fn take(&self, token: ConsumerToken) -> Option<bool> {
        if !self.is_active() {
            return None;
        }
        let mut state = self.state.lock();
        if state.limit == 0 && !state.closed {
            return None;
        }
        if state.has_room() {
            state.taken += 1;
            return Some(true);
        }
        if state.waiting.insert(token) {
            state.starved.push_back(token);
        }
        Some(false)
    }

    /// A consumer has ended, and need not be resumed.
    pub(super) fn forget(&self, token: ConsumerToken) {
        // Whoever is starved was refused by a limit, and one that is removed resumes them all.
        if !self.is_active() {
            return;
        }
        let mut state = self.state.lock();
        let State { starved, waiting, .. } = &mut *state;
        if waiting.remove(&token) && starved.len() > 2 * waiting.len() + FORGOTTEN_MAX {
            starved.retain(|token| waiting.contains(token));
        }
    }

    /// Counts deliveries that were handed over before the limit was set.
    pub fn add(&self, n: u32) {
        self.state.lock().taken += n;
    }

    /// Gives back what `n` settled deliveries took.
    pub fn give(&self, n: u32) {
        let mut state = self.state.lock();
        debug_assert!(n <= state.taken, "{n} given back of {}", state.taken);
        state.taken = state.taken.saturating_sub(n);
    }

    /// Sets the limit; 0 removes it. `changed` of the deliveries that the link holds begin to count
    /// with it, or cease to if it is removed. Those on their way go on to count.
    pub fn set(&self, limit: u32, changed: u32) {
        let mut state = self.state.lock();
        debug_assert!(limit != 0 || changed <= state.taken, "{changed} of {}", state.taken);
        state.limit = limit;
        state.taken = match limit {
            0 => state.taken.saturating_sub(changed),
            _ => state.taken + changed,
        };
        self.active.store(limit != 0, Ordering::Relaxed);
    }

    /// The channel ends: whoever has to settle what it takes gets nothing more, for good.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.active.store(true, Ordering::Relaxed);
    }

    /// The starved consumers, oldest first; a look for tests and views.
    #[must_use]
    pub fn starved(&self) -> Vec<ConsumerToken> {
        let state = self.state.lock();
        state.starved.iter().filter(|token| state.waiting.contains(*token)).copied().collect()
    }

    /// The consumer that was starved first, if there is room now; it is starved no more.
    #[must_use]
    pub fn next_starved(&self) -> Option<ConsumerToken> {
        let mut state = self.state.lock();
        while state.has_room() {
            let token = state.starved.pop_front()?;
            if state.waiting.remove(&token) {
                return Some(token);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(limiter: &ChannelLimiter, tokens: impl IntoIterator<Item = u64>) {
        for token in tokens {
            assert_eq!(limiter.take(ConsumerToken(token)), Some(false));
        }
    }

    fn resume(limiter: &ChannelLimiter) -> Option<u64> {
        limiter.next_starved().map(|token| token.0)
    }

    fn full(limit: u32) -> ChannelLimiter {
        let limiter = ChannelLimiter::default();
        limiter.set(limit, limit);
        limiter
    }

    #[test]
    fn only_as_many_are_resumed_as_there_is_room_for() {
        let limiter = full(5);
        refuse(&limiter, [1, 2, 3, 1, 2]);
        assert_eq!(resume(&limiter), None);
        limiter.give(1);
        assert_eq!(resume(&limiter), Some(1));
        assert_eq!(limiter.take(ConsumerToken(1)), Some(true));
        assert_eq!(resume(&limiter), None);
        refuse(&limiter, [1]);
        limiter.give(2);
        for token in [2, 3] {
            assert_eq!(resume(&limiter), Some(token));
            assert_eq!(limiter.take(ConsumerToken(token)), Some(true));
        }
        assert_eq!(resume(&limiter), None);
    }

    #[test]
    fn one_that_takes_nothing_lets_the_next_go_on() {
        let limiter = full(1);
        refuse(&limiter, [1, 2, 3]);
        limiter.give(1);
        assert_eq!([(); 4].map(|()| resume(&limiter)), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn ended_consumers_are_not_kept() {
        let limiter = full(1);
        refuse(&limiter, [0]);
        for token in 1..10_000 {
            refuse(&limiter, [token]);
            limiter.forget(ConsumerToken(token));
        }
        let starved = limiter.state.lock().starved.len();
        assert!(starved <= 2 + FORGOTTEN_MAX, "{starved}");
        limiter.give(1);
        assert_eq!([(); 2].map(|()| resume(&limiter)), [Some(0), None]);
    }

    #[test]
    fn a_closed_one_has_room_for_nothing() {
        for limit in [0, 3] {
            let limiter = ChannelLimiter::default();
            limiter.set(limit, 0);
            limiter.close();
            refuse(&limiter, [1]);
            assert_eq!(resume(&limiter), None);
        }
    }

    #[test]
    fn deliveries_on_their_way_count_under_every_limit() {
        let limiter = ChannelLimiter::default();
        limiter.set(3, 0);
        // Two are delivered and one of them reaches the client, so one is on its way.
        assert_eq!([1, 1].map(|token| limiter.take(ConsumerToken(token))), [Some(true); 2]);
        limiter.set(2, 0);
        refuse(&limiter, [1]);
        // Without a limit the one that the client has ceases to count, and the other does not.
        limiter.set(0, 1);
        assert_eq!(resume(&limiter), Some(1));
        assert_eq!(limiter.take(ConsumerToken(1)), None);
        limiter.set(2, 1);
        refuse(&limiter, [1]);
        limiter.give(2);
        assert_eq!(limiter.state.lock().taken, 0);
    }
}
