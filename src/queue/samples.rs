//! What the tests of this module publish and consume with.

use super::consumers::ConsumerSpec;
use super::core::{Publish, QueueCore};
use super::deadletter::Reason;
use super::effects::Effects;
use super::gets::Got;
use super::outlet::{Event, Outlet};
use super::settings::Behaviour;
use super::settle::Settlement;
use crate::id::{ConsumerToken, QueueId, Seq};
use crate::message::Message;
use crate::store::RecordBatch;
use crate::time::{Millis, Now, Ttl, UnixMillis};
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

/// A time to live, in milliseconds.
pub(super) const FOREVER: u64 = u64::MAX;

/// A durable queue in virtual time, which begins at 1000.
pub(super) struct World {
    pub(super) core: QueueCore,
    pub(super) records: RecordBatch,
    pub(super) effects: Effects,
}

impl World {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let core = QueueCore::new(QueueId(1), true).with_behaviour(behaviour);
        let mut world = Self { core, records: RecordBatch::new(), effects: Effects::new() };
        world.at(1000);
        world
    }

    pub(super) fn at(&mut self, ms: u64) {
        self.effects.now = Now { unix: UnixMillis(ms), monotonic: Millis(ms) };
    }

    /// One message for each of these times to live.
    pub(super) fn publish(&mut self, ttls: &[u64]) {
        let publish = |ttl: &u64| Publish { ttl: Ttl::of_ms(*ttl), ..publish() };
        let mut batch = ttls.iter().map(publish).collect();
        self.core.publish(&mut batch, &mut self.records, &mut self.effects);
    }

    /// Whether the queue has been unused up to that time.
    pub(super) fn is_idle(&self, ms: u64) -> bool {
        self.core.is_idle(Now { unix: UnixMillis(ms), monotonic: Millis(ms) })
    }

    /// How many are ready after a look at that time.
    pub(super) fn tick(&mut self, ms: u64) -> usize {
        self.at(ms);
        self.core.tick(&mut self.records, &mut self.effects);
        self.core.ready_len()
    }

    /// Messages to be settled: their slots and seqs.
    pub(super) fn take(&mut self, count: usize) -> Vec<(u32, Seq)> {
        let take = |_| get(&mut self.core, &mut self.records, &mut self.effects);
        (0..count).map(take).collect()
    }

    pub(super) fn settle(&mut self, all: &[(u32, Seq)], how: Settlement) {
        self.core.settle(all, how, &mut self.records, &mut self.effects);
    }

    pub(super) fn get_no_ack(&mut self) -> Got {
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        let (records, effects) = (&mut self.records, &mut self.effects);
        self.core.get(&outlet, ConsumerToken(1), true, records, effects)
    }

    /// The seq of a message that is in memory, taken for good.
    pub(super) fn got(&mut self) -> Option<u64> {
        match self.get_no_ack() {
            Got::Message { delivery, .. } => Some(delivery.seq.0),
            Got::Empty => None,
            Got::Later => panic!("nothing is on disk"),
        }
    }

    /// When it was asked to be looked at, since the last call.
    pub(super) fn asked(&mut self) -> Vec<u64> {
        self.effects.deadlines.drain(..).map(|(_, at)| at.0).collect()
    }

    /// Seqs and reasons of those that died since the last call.
    pub(super) fn dead(&mut self) -> Vec<(u64, Reason)> {
        let dead = self.effects.dead.drain(..);
        dead.map(|dead| (dead.place.map_or(0, |(_, seq)| seq.0), dead.reason)).collect()
    }
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
