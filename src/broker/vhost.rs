//! A vhost: its topology and its queues by name, under one lock that the data path takes only to
//! route what no channel's cache knows.

use super::Broker;
use super::link::Workspace;
use super::policy::Policies;
use crate::deduplication::Deduplicator;
use crate::exception::Exception;
use crate::exchange::{ExchangeShared, Published, RouteScratch, Routed, Topology};
use crate::id::{ConnectionId, QueueId};
use crate::name::Name;
use crate::queue::Queue;
use crate::store::{Definition, Gap, Reach};
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeSet;
use std::sync::Arc;

pub struct Vhost {
    pub name: Name,
    /// Held while a policy is set or cleared and applied; taken before `state`.
    pub(super) changing_policies: Mutex<()>,
    pub(super) state: RwLock<State>,
}

/// What the lock guards.
pub(super) struct State {
    pub(super) topology: Topology,
    /// Replaced whole, so that whoever applies them need not hold the lock.
    pub(super) policies: Arc<Policies>,
    pub(super) queues: HashMap<Name, Arc<Queue>>,
    pub(super) by_id: HashMap<QueueId, Arc<Queue>>,
    /// The gaps for which queues are held; none has an empty list.
    pub(super) held: HashMap<QueueId, Vec<Gap>>,
    /// The exclusive queues of each connection; none has an empty set.
    pub(super) exclusive: HashMap<ConnectionId, BTreeSet<QueueId>>,
    /// The newest definition, at first the vhost's own: whoever finds a durable thing
    /// already there waits for it, since the thing's own record stands no later.
    pub(super) defined: Reach,
}

/// Where a publish goes.
#[derive(Default)]
pub(super) struct Resolved {
    pub(super) queues: Vec<Arc<Queue>>,
    pub(super) routed: Routed,
}

impl Vhost {
    /// One with nothing in it but the exchanges that are everywhere. `created` is its own record.
    #[must_use]
    pub(super) fn new(name: Name, created: Reach) -> Self {
        let state = State {
            topology: Topology::with_predeclared(name.clone()),
            policies: Arc::default(),
            queues: HashMap::new(),
            by_id: HashMap::new(),
            held: HashMap::new(),
            exclusive: HashMap::new(),
            defined: created,
        };
        Self { name, changing_policies: Mutex::default(), state: RwLock::new(state) }
    }

    /// What to wait for before anything in the vhost, or itself, counts as durable.
    pub(super) fn defined(&self) -> Reach {
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

    /// Where a message to `exchange` goes.
    ///
    /// # Errors
    /// As `Topology::route`.
    pub(super) fn resolve(
        &self,
        exchange: &ExchangeShared,
        published: Published<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<Resolved, Exception> {
        let state = self.state.read();
        if exchange.name.is_empty() {
            return Ok(state.resolve_names(published.keys));
        }
        let Some(exchange) = state.topology.exchange(&exchange.name) else {
            return Ok(Resolved::default());
        };
        let mut ids = Vec::new();
        let routed = state.topology.route(exchange, published, scratch, &mut ids)?;
        let queues = ids.iter().filter_map(|id| state.by_id.get(id).cloned()).collect();
        Ok(Resolved { queues, routed })
    }

    /// What its queues and exchanges remember, each with what it is and its name.
    pub(super) fn remembering(&self) -> Vec<(&'static str, Name, Arc<Deduplicator>)> {
        let state = self.state.read();
        let queues = state.by_id.values().filter_map(|queue| {
            let deduplicator = queue.deduplicator.clone()?;
            Some(("queue", queue.name.clone(), deduplicator))
        });
        let exchanges = state.topology.exchanges();
        let exchanges = exchanges.iter().filter_map(|exchange| {
            let deduplicator = exchange.shared().deduplicator.clone()?;
            Some(("exchange", exchange.name().clone(), deduplicator))
        });
        queues.chain(exchanges).collect()
    }

    /// Ends those of `queues` that are auto-delete and have no consumer. The answer that brought
    /// it about waits for that.
    pub fn end_unused(
        &self,
        queues: &[QueueId],
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Reach {
        let mut last = Reach::default();
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
    ) -> Reach {
        let mut state = self.state.write();
        state.forget_queue(queue, &self.name, broker, workspace)
    }
}

impl State {
    /// The default exchange: every key names a queue. Each queue comes once, in the order of ids.
    fn resolve_names(&self, keys: &[&[u8]]) -> Resolved {
        let named = keys.iter().filter_map(|key| {
            let queue = self.queues.get(std::str::from_utf8(key).ok()?)?;
            (!queue.is_gone()).then(|| Arc::clone(queue))
        });
        let mut queues: Vec<_> = named.collect();
        // A sender may name thousands of queues, or one queue thousands of times.
        if queues.len() > 1 {
            queues.sort_unstable_by_key(|queue| queue.id);
            queues.dedup_by_key(|queue| queue.id);
        }
        // A missing queue may come any moment, and no version would tell.
        let cacheable = !queues.is_empty();
        Resolved { queues, routed: Routed { cacheable, ..Routed::default() } }
    }

    pub(super) fn forget_queue(
        &mut self,
        queue: &Queue,
        vhost: &Name,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Reach {
        if self.by_id.remove(&queue.id).is_none() {
            return self.defined;
        }
        if self.queues.get(&*queue.name).is_some_and(|named| named.id == queue.id) {
            self.queues.remove(&*queue.name);
        }
        if let Some(owner) = queue.settings.exclusive_owner
            && let Entry::Occupied(mut owned) = self.exclusive.entry(owner)
        {
            owned.get_mut().remove(&queue.id);
            if owned.get().is_empty() {
                owned.remove();
            }
        }
        broker.deadlines.forget(queue.id);
        self.held.remove(&queue.id);
        let removed = self.topology.remove_queue(queue.id);
        let mut definitions = Vec::new();
        if queue.settings.durable {
            definitions.push(Definition::QueueDeleted { id: queue.id });
        }
        definitions.extend(self.exchanges_deleted(&removed, vhost, workspace));
        self.define(&definitions, broker, workspace)
    }

    /// Appends definitions to the journal, in the order in which the topology saw them.
    pub(super) fn define(
        &mut self,
        definitions: &[Definition],
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Reach {
        if definitions.is_empty() {
            return Reach::default();
        }
        // What comes or goes together is one record: after a crash all of it did or nothing.
        let together = definitions.len() > 1;
        if together {
            workspace.records.begin_transaction();
        }
        for definition in definitions {
            workspace.records.definition(definition);
        }
        if together {
            workspace.records.end_transaction();
        }
        self.defined = broker.append_definitions(&mut workspace.records);
        self.defined
    }
}

#[cfg(test)]
mod tests {
    use super::super::declare::tests::{DURABLE, EXCLUSIVE, connect, open};
    use super::*;
    use crate::broker::DeclareQueue;
    use crate::broker::link::Link;
    use crate::store::MemoryDisk;

    #[test]
    fn names_reach_each_of_their_queues_once_in_the_order_of_ids() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let names: Vec<_> = (0..100).map(|n| format!("q{n}")).collect();
        for name in &names {
            link.declare_queue(&DeclareQueue { name, ..DURABLE }, &mut workspace).unwrap();
        }
        let vhost = broker.vhost("/").unwrap();
        let resolve = |keys: &[&[u8]]| {
            let exchange = vhost.exchange("").unwrap();
            let published = Published::new(keys, None);
            let found = vhost.resolve(&exchange, published, &mut RouteScratch::default()).unwrap();
            let names = found.queues.iter().map(|queue| queue.name.to_string());
            (names.collect::<Vec<_>>(), found.routed.cacheable)
        };
        assert_eq!(resolve(&[b"q7"]), (vec!["q7".to_owned()], true));
        assert_eq!(resolve(&[b"none", b"\xff"]), (vec![], false));
        let keys: Vec<_> = names.iter().rev().chain(&names).map(String::as_bytes).collect();
        let keys = [&keys[..], &[b"none", b"\xff"]].concat();
        assert_eq!(resolve(&keys), (names.clone(), true));
    }

    #[test]
    fn a_connection_is_listed_while_it_owns_queues() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let vhost = broker.vhost("/").unwrap();
        let owner = link.client.connection;
        let owned = || vhost.state.read().exclusive.get(&owner).map(|owned| owned.len());
        let declare = |link: &mut Link, workspace: &mut Workspace| {
            for name in ["a", "b", "c"] {
                link.declare_queue(&DeclareQueue { name, ..EXCLUSIVE }, workspace).unwrap();
            }
        };
        declare(&mut link, &mut workspace);
        for (name, left) in [("b", Some(2)), ("none", Some(2)), ("a", Some(1)), ("c", None)] {
            link.delete_queue(name, (false, false), &mut workspace).unwrap();
            assert_eq!(owned(), left);
        }
        declare(&mut link, &mut workspace);
        vhost.end_exclusive(owner, &broker, &mut workspace);
        assert_eq!((owned(), vhost.queues().len()), (None, 0));
    }
}
