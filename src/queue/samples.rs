//! What the tests of this module publish and consume with.

use super::consumers::ConsumerSpec;
use super::core::Publish;
use super::outlet::{Event, Outlet};
use crate::id::ConsumerToken;
use crate::message::Message;
use parking_lot::Mutex;
use std::sync::Arc;

/// An outlet that keeps its events.
#[derive(Default)]
pub(super) struct Sink(pub(super) Mutex<Vec<Event>>);

impl Sink {
    /// For whom the events were, since the last call.
    pub(super) fn tokens(&self) -> Vec<u64> {
        self.0.lock().drain(..).map(|event| event.token().0).collect()
    }
}

impl Outlet for Sink {
    fn push(&self, events: &mut Vec<Event>) -> bool {
        self.0.lock().append(events);
        true
    }

    fn wake(&self) {}
}

/// A persistent message.
pub(super) fn publish() -> Publish {
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 2];
    let message = Message::new(b"", b"key", &header, b"x", &mut Vec::new());
    Publish { message, persistent: true, mark: 0 }
}

/// A consumer that acks, without a prefetch.
pub(super) fn spec(outlet: &Arc<dyn Outlet>, token: u64) -> ConsumerSpec {
    ConsumerSpec {
        outlet: Arc::clone(outlet),
        token: ConsumerToken(token),
        no_ack: false,
        exclusive: false,
        priority: 0,
        prefetch: 0,
        limiter: Arc::default(),
    }
}
