//! What the tests of this module publish and consume with.

use super::consumers::ConsumerSpec;
use super::core::{Publish, QueueCore};
use super::effects::Effects;
use super::gets::Got;
use super::outlet::{Event, Outlet};
use crate::id::{ConsumerToken, QueueId, Seq};
use crate::message::Message;
use crate::store::RecordBatch;
use crate::time::Ttl;
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

    /// Slots and seqs of the deliveries since the last call.
    pub(super) fn deliveries(&self) -> Vec<(u32, Seq)> {
        let place = |event| match event {
            Event::Delivery(delivery) => Some((delivery.slot, delivery.seq)),
            _ => None,
        };
        self.0.lock().drain(..).filter_map(place).collect()
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
    Publish { message, persistent: true, priority: 0, ttl: Ttl::FOREVER, delay: None, mark: 0 }
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

/// A durable queue that was given `count` messages.
pub(super) fn with(count: usize, records: &mut RecordBatch, effects: &mut Effects) -> QueueCore {
    let mut core = QueueCore::new(QueueId(1), true);
    core.publish(&mut vec![publish(); count], records, effects);
    core
}

/// Takes a message that is in memory, to be settled; says its slot and seq.
pub(super) fn get(
    core: &mut QueueCore,
    records: &mut RecordBatch,
    effects: &mut Effects,
) -> (u32, Seq) {
    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
    match core.get(&outlet, ConsumerToken(1), false, records, effects) {
        Got::Message { delivery, .. } => (delivery.slot, delivery.seq),
        got => panic!("{got:?}"),
    }
}
