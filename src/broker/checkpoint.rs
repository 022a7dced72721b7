//! What a checkpoint asks of the broker: definitions, and where its queues stand.

use super::Broker;
use super::vhost::{State, Vhost};
use crate::deduplication::Deduplicator;
use crate::exchange::{Destination, Exchange};
use crate::id::{CacheId, QueueId};
use crate::queue::Queue;
use crate::store::{BoundTo, Definition, Gap, Source, Standing, StoredKeys};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the record of a message takes beside its body, about.
const RECORD_BYTES: u64 = 64;

impl Source for Broker {
    fn pass_gate(&self) {
        drop(self.gate.write());
    }

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            let state = vhost.state.read();
            each(Definition::VhostCreated { name: vhost.name.to_string() });
            state.definitions(&vhost, each);
        }
    }

    fn standings(&self, all: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            let queues: Vec<_> = vhost.state.read().by_id.values().cloned().collect();
            for queue in queues.iter().filter(|queue| queue.settings.durable) {
                let changed = queue.take_changed();
                if (changed || all)
                    && let Ok(alive) = queue.alive()
                {
                    let standing = Standing {
                        next_seq: alive.next_seq,
                        due: alive.due,
                        live: alive.live.into_iter().collect(),
                        redelivered: alive.redelivered.into_iter().collect(),
                        returns: alive.returns.into_iter().collect(),
                    };
                    each(queue.id, standing);
                }
            }
        }
    }

    fn caches(&self, all: bool, each: &mut dyn FnMut(CacheId, StoredKeys)) {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        for vhost in vhosts {
            let deduplicators = vhost.state.read().deduplicators();
            for deduplicator in deduplicators {
                let changed = deduplicator.take_changed();
                if changed || all {
                    let (next_number, entries) = deduplicator.stored_keys();
                    each(deduplicator.id, StoredKeys { next_number, entries });
                }
            }
        }
    }

    fn live_bytes(&self) -> u64 {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let live = vhosts.iter().map(|vhost| {
            let state = vhost.state.read();
            let durable = state.by_id.values().filter(|queue| queue.settings.durable);
            let bytes = durable.map(|queue| {
                let counters = &queue.counters;
                let records = (counters.ready.get() + counters.retrying.get()) * RECORD_BYTES;
                let at_rest = counters.ready_bytes.get() + counters.retrying_bytes.get();
                at_rest + counters.unacked_bytes.get() + records
            });
            bytes.sum::<u64>()
        });
        live.sum()
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(self.next_queue.load(Ordering::Relaxed))
    }

    fn is_held_for(&self, gap: &Gap) -> bool {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        vhosts.iter().any(|vhost| vhost.is_held_for(gap))
    }
}

impl State {
    fn definitions(&self, vhost: &Vhost, each: &mut dyn FnMut(Definition)) {
        let name = &vhost.name;
        self.policies.definitions(name, each);
        // Predeclared ones are in every vhost without being stored.
        let is_stored = |exchange: &&&Exchange| {
            let is_predeclared = exchange.name().is_empty() || exchange.name().starts_with("amq.");
            exchange.settings().durable && !is_predeclared
        };
        let exchanges = self.topology.exchanges();
        for exchange in exchanges.iter().filter(is_stored) {
            each(exchange_declared(name, exchange));
        }
        let durable = self.by_id.values().filter(|queue| queue.settings.durable);
        durable.for_each(|queue| each(queue_declared(queue)));
        for (id, gaps) in &self.held {
            gaps.iter().for_each(|gap| each(Definition::QueueHeld { id: *id, gap: *gap }));
        }
        for source in exchanges.iter().filter(|exchange| exchange.settings().durable) {
            for binding in self.topology.bindings_of_source(source.name()) {
                if self.is_durable(&binding.destination) {
                    each(Definition::Bound {
                        vhost: name.to_string(),
                        source: source.name().to_string(),
                        destination: bound_to(&binding.destination),
                        key: binding.key.to_vec(),
                        arguments: binding.arguments.clone(),
                    });
                }
            }
        }
    }

    /// Those of what is durable.
    pub(super) fn deduplicators(&self) -> Vec<Arc<Deduplicator>> {
        let queues = self.by_id.values().filter_map(|queue| queue.deduplicator.as_ref());
        let exchanges = self.topology.exchanges();
        let exchanges = exchanges.iter().filter_map(|it| it.shared().deduplicator.as_ref());
        queues.chain(exchanges).filter(|it| it.durable).cloned().collect()
    }

    fn is_durable(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(id) => {
                self.by_id.get(id).is_some_and(|queue| queue.settings.durable)
            }
            Destination::Exchange(name) => {
                self.topology.exchange(name).is_some_and(|exchange| exchange.settings().durable)
            }
        }
    }
}

fn exchange_declared(vhost: &str, exchange: &Exchange) -> Definition {
    let settings = exchange.settings();
    Definition::ExchangeDeclared {
        vhost: vhost.to_owned(),
        name: exchange.name().to_string(),
        kind: settings.kind.name().to_owned(),
        auto_delete: settings.auto_delete,
        internal: settings.internal,
        arguments: settings.arguments.clone(),
        cache: settings.cache,
    }
}

/// What declaring this queue is recorded as.
pub(super) fn queue_declared(queue: &Queue) -> Definition {
    Definition::QueueDeclared {
        id: queue.id,
        vhost: queue.vhost.to_string(),
        name: queue.name.to_string(),
        auto_delete: queue.settings.auto_delete,
        arguments: queue.settings.arguments.clone(),
    }
}

pub(super) fn bound_to(destination: &Destination) -> BoundTo {
    match destination {
        Destination::Queue(id) => BoundTo::Queue(*id),
        Destination::Exchange(name) => BoundTo::Exchange(name.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Entropy;
    use crate::config::Config;
    use crate::exchange::ExchangeTypes;
    use crate::store::MemoryDisk;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn the_gate_is_passed_when_nobody_is_between_record_and_queue() {
        let config = Config::on_loopback("unused");
        let broker = Broker::open(
            config,
            &MemoryDisk::new(),
            Entropy::new(|| [1; 16]),
            ExchangeTypes::core(),
        )
        .unwrap();
        let inside = broker.gate.read();
        thread::scope(|threads| {
            let passing = threads.spawn(|| broker.pass_gate());
            thread::sleep(Duration::from_millis(50));
            assert!(!passing.is_finished(), "a publisher is inside");
            drop(inside);
            passing.join().unwrap();
        });
    }
}
