//! A vhost: its topology and its queues by name, under one lock that the data path takes only to
//! route what no channel's cache knows.

use super::Broker;
use super::link::Workspace;
use crate::exchange::{ExchangeShared, RouteScratch, Topology};
use crate::id::{ConnectionId, Lsn, QueueId};
use crate::name::Name;
use crate::queue::Queue;
use crate::store::Definition;
use crate::table::TableRef;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;

pub struct Vhost {
    pub name: Name,
    pub(super) state: RwLock<State>,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) topology: Topology,
    pub(super) queues: HashMap<Name, Arc<Queue>>,
    pub(super) by_id: HashMap<QueueId, Arc<Queue>>,
    pub(super) exclusive: HashMap<ConnectionId, Vec<QueueId>>,
    /// Record of the newest definition, at first the vhost's own: whoever finds a durable thing
    /// already there waits for it, since the thing's own record stands no later.
    pub(super) defined: Lsn,
}

/// Where a publish goes.
pub(super) struct Resolved {
    pub(super) queues: Vec<Arc<Queue>>,
    /// It depends on exchange and routing key alone.
    pub(super) cacheable: bool,
}

impl Vhost {
    /// One with nothing in it but the exchanges that are everywhere. `created` is its own record.
    #[must_use]
    pub(super) fn new(name: Name, created: Lsn) -> Self {
        let state = State {
            topology: Topology::with_predeclared(name.clone()),
            queues: HashMap::new(),
            by_id: HashMap::new(),
            exclusive: HashMap::new(),
            defined: created,
        };
        Self { name, state: RwLock::new(state) }
    }

    /// Record to wait for before anything in the vhost, or itself, counts as durable.
    pub(super) fn defined(&self) -> Lsn {
        self.state.read().defined
    }

    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.state.read().queues.get(name).filter(|queue| !queue.is_gone()).cloned()
    }

    /// All queues, by name.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        let mut queues: Vec<_> = self.state.read().queues.values().cloned().collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        queues
    }

    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<Arc<ExchangeShared>> {
        self.state.read().topology.exchange(name).map(|exchange| Arc::clone(exchange.shared()))
    }

    pub(super) fn resolve(
        &self,
        exchange: &ExchangeShared,
        keys: &[&[u8]],
        headers: Option<TableRef<'_>>,
        scratch: &mut RouteScratch,
    ) -> Resolved {
        let state = self.state.read();
        if exchange.name.is_empty() {
            return state.resolve_names(keys);
        }
        let Some(exchange) = state.topology.exchange(&exchange.name) else {
            return Resolved { queues: Vec::new(), cacheable: false };
        };
        let mut ids = Vec::new();
        let routed = state.topology.route(exchange, keys, headers, scratch, &mut ids);
        let queues = ids.iter().filter_map(|id| state.by_id.get(id).cloned()).collect();
        Resolved { queues, cacheable: routed.cacheable }
    }

    /// Ends those of `queues` that are auto-delete and have no consumer. The answer that brought
    /// it about waits for the LSN.
    pub fn end_unused(
        &self,
        queues: &[QueueId],
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Lsn {
        let mut last = Lsn(0);
        for id in queues {
            let queue = self.state.read().by_id.get(id).cloned();
            let Some(queue) = queue.filter(|queue| queue.settings.auto_delete) else {
                continue;
            };
            let unused = |core: &crate::queue::QueueCore| {
                if core.consumers_len() == 0 { Ok(()) } else { Err(()) }
            };
            if queue.close_if(&mut workspace.effects, unused).is_ok() {
                last = last.max(self.forget_queue(&queue, broker, workspace));
            }
        }
        last
    }

    /// The end of a connection is the end of its exclusive queues.
    pub fn end_exclusive(
        &self,
        connection: ConnectionId,
        broker: &Broker,
        workspace: &mut Workspace,
    ) {
        let ids = self.state.write().exclusive.remove(&connection).unwrap_or_default();
        for id in ids {
            let queue = self.state.read().by_id.get(&id).cloned();
            let Some(queue) = queue else { continue };
            if queue.close_if(&mut workspace.effects, |_| Ok::<(), ()>(())).is_ok() {
                self.forget_queue(&queue, broker, workspace);
            }
        }
    }

    /// Takes a queue that is gone out of the topology. Its record is the answer's to wait for.
    pub(super) fn forget_queue(
        &self,
        queue: &Queue,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Lsn {
        let mut state = self.state.write();
        state.forget_queue(queue, &self.name, broker, workspace)
    }
}

impl State {
    /// The default exchange: every key names a queue.
    fn resolve_names(&self, keys: &[&[u8]]) -> Resolved {
        let mut queues: Vec<Arc<Queue>> = Vec::new();
        for key in keys {
            let Ok(name) = std::str::from_utf8(key) else {
                continue;
            };
            let Some(queue) = self.queues.get(name).filter(|queue| !queue.is_gone()) else {
                continue;
            };
            if !queues.iter().any(|known| known.id == queue.id) {
                queues.push(Arc::clone(queue));
            }
        }
        // A missing queue may come any moment, and no version would tell.
        let cacheable = !queues.is_empty();
        Resolved { queues, cacheable }
    }

    pub(super) fn forget_queue(
        &mut self,
        queue: &Queue,
        vhost: &Name,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Lsn {
        if self.by_id.remove(&queue.id).is_none() {
            return self.defined;
        }
        if self.queues.get(&*queue.name).is_some_and(|named| named.id == queue.id) {
            self.queues.remove(&*queue.name);
        }
        if let Some(owner) = queue.settings.exclusive_owner
            && let Some(owned) = self.exclusive.get_mut(&owner)
        {
            owned.retain(|id| *id != queue.id);
        }
        let removed = self.topology.remove_queue(queue.id);
        let mut definitions = Vec::new();
        if queue.settings.durable {
            definitions.push(Definition::QueueDeleted { id: queue.id });
        }
        definitions.extend(removed.exchanges.iter().filter(|e| e.durable).map(|exchange| {
            Definition::ExchangeDeleted {
                vhost: vhost.to_string(),
                name: exchange.name.to_string(),
            }
        }));
        self.define(&definitions, broker, workspace)
    }

    /// Appends definitions to the journal, in the order in which the topology saw them.
    pub(super) fn define(
        &mut self,
        definitions: &[Definition],
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Lsn {
        if definitions.is_empty() {
            return Lsn(0);
        }
        for definition in definitions {
            workspace.records.definition(definition);
        }
        self.defined = broker.log().append(&mut workspace.records);
        self.defined
    }
}
