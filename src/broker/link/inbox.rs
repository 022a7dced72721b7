//! What the rest of the broker tells one connection: deliveries and notices, pushed by whoever has
//! them and taken out whole by the connection. A leaf in the lock order: a push or a swap.
//!
//! It is not bounded by itself: every consumer's credit is, and a notice is a flag.

use crate::counters::Counter;
use crate::exception::Exception;
use crate::id::Lsn;
use crate::queue::{Event, Outlet};
use crate::store::Waiter;
use parking_lot::Mutex;
use std::task::Waker;

/// Events for which a buffer is kept in any case.
const BUFFER_KEPT_MAX: usize = 256;

/// One connection's inbox.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
    waker: Mutex<Option<Waker>>,
    /// Times that the owner was woken: one per batch that touched it.
    pub wakes: Counter,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    notices: Notices,
    /// The owner has been told, or is about to be, since it last looked.
    told: bool,
}

/// Things that are said once, however often they happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// The journal has come further.
    pub journal: bool,
    /// The journal has failed: nothing that waits for it will ever come.
    pub failed: bool,
    /// No alarm is in force any more.
    pub unblocked: bool,
    /// The connection shall end.
    pub close: Option<Exception>,
}

impl Inbox {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers who is to be woken from now on.
    pub fn register(&self, waker: &Waker) {
        let mut current = self.waker.lock();
        if !current.as_ref().is_some_and(|current| current.will_wake(waker)) {
            *current = Some(waker.clone());
        }
    }

    /// Takes all events and notices; `events` must be empty, its memory is used again.
    pub fn take(&self, events: &mut Vec<Event>) -> Notices {
        debug_assert!(events.is_empty(), "the last batch was worked off");
        let mut state = self.state.lock();
        state.told = false;
        std::mem::swap(&mut state.events, events);
        shrink(&mut state.events, events.len());
        std::mem::take(&mut state.notices)
    }

    /// Takes events only: a channel ends, or its last deliveries must go out.
    pub fn take_events(&self, events: &mut Vec<Event>) {
        events.append(&mut self.state.lock().events);
    }

    /// Takes events only; the next one wakes the owner, whatever it was told before.
    pub fn take_and_listen(&self, events: &mut Vec<Event>) {
        let mut state = self.state.lock();
        state.told = false;
        events.append(&mut state.events);
    }

    /// Takes notices only: deliveries wait while the peer does not read.
    pub fn take_notices(&self) -> Notices {
        std::mem::take(&mut self.state.lock().notices)
    }

    /// Asks the connection to end with `exception`.
    pub fn close(&self, exception: Exception) {
        self.notice(|notices| notices.close = Some(exception));
    }

    /// A blocked connection may go on.
    pub fn unblock(&self) {
        self.notice(|notices| notices.unblocked = true);
    }

    fn notice(&self, set: impl FnOnce(&mut Notices)) {
        set(&mut self.state.lock().notices);
        self.wake();
    }
}

impl Outlet for Inbox {
    fn push(&self, events: &mut Vec<Event>) -> bool {
        let mut state = self.state.lock();
        if state.events.is_empty() {
            std::mem::swap(&mut state.events, events);
            shrink(events, state.events.len());
        } else {
            state.events.append(events);
        }
        !std::mem::replace(&mut state.told, true)
    }

    fn wake(&self) {
        self.wakes.add(1);
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }
}

impl Waiter for Inbox {
    fn reached(&self, _: Lsn) {
        self.notice(|notices| notices.journal = true);
    }

    fn failed(&self) {
        self.notice(|notices| notices.failed = true);
    }
}

/// Buffers go round between queues, inboxes and turns. One that is far too large for what goes
/// through it is given up, so that no idle connection owns a busy one's.
fn shrink(buffer: &mut Vec<Event>, used: usize) {
    if buffer.capacity() > BUFFER_KEPT_MAX && used * 8 < buffer.capacity() {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConsumerToken;
    use crate::queue::EndReason;

    #[test]
    fn the_owner_is_told_once_until_it_looks() {
        let inbox = Inbox::new();
        let event = || vec![Event::Ended { token: ConsumerToken(1), reason: EndReason::Cancelled }];
        assert!(inbox.push(&mut event()));
        assert!(!inbox.push(&mut event()));
        let mut events = Vec::new();
        inbox.take(&mut events);
        assert_eq!(events.len(), 2);
        assert!(inbox.push(&mut event()));
    }
}
