//! The definitions folded into what is there now: vhosts with their exchanges, bindings and
//! parameters, queues.
//!
//! Everything iterates in one fixed order, so that two starts from the same journal are the same.
//! A binding may name an exchange that is not listed: predeclared ones (`amq.*`) are not stored.

use super::definition::{BoundTo, Definition};
use super::gap::Gap;
use crate::id::{CacheId, QueueId};
use crate::table::Table;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Every durable thing but the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    vhosts: BTreeMap<String, StoredVhost>,
    queues: BTreeMap<QueueId, StoredQueue>,
    /// Why nothing leaves a queue; none has an empty set.
    holds: BTreeMap<QueueId, BTreeSet<Gap>>,
}

/// A vhost's exchanges, bindings and parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredVhost {
    exchanges: BTreeMap<String, StoredExchange>,
    /// Values by component and name.
    parameters: BTreeMap<(String, String), String>,
    /// By destination, so that what ends with one need not be looked for.
    bindings: BTreeSet<Arc<StoredBinding>>,
    /// The same by source; none has an empty set.
    by_source: BTreeMap<String, BTreeSet<Arc<StoredBinding>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredExchange {
    pub kind: String,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Table,
    pub cache: Option<CacheId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredQueue {
    pub vhost: String,
    pub name: String,
    pub auto_delete: bool,
    pub arguments: Table,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBinding {
    pub source: String,
    pub destination: BoundTo,
    pub key: Vec<u8>,
    /// Sorted by name; fields of one name keep their order.
    pub arguments: Table,
}

impl Definitions {
    /// The vhosts by name.
    pub fn vhosts(&self) -> impl Iterator<Item = (&str, &StoredVhost)> {
        let vhosts = self.vhosts.iter();
        vhosts.map(|(name, vhost)| (name.as_str(), vhost))
    }

    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&StoredVhost> {
        self.vhosts.get(name)
    }

    /// The queues of all vhosts, oldest first.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &StoredQueue)> {
        self.queues.iter().map(|(id, queue)| (*id, queue))
    }

    /// Whether a queue or an exchange has this cache.
    pub(super) fn has_cache(&self, id: CacheId) -> bool {
        let mut exchanges = self.vhosts.values().flat_map(|vhost| vhost.exchanges.values());
        self.queues.contains_key(&QueueId(id.0)) || exchanges.any(|it| it.cache == Some(id))
    }

    #[must_use]
    pub fn queue(&self, id: QueueId) -> Option<&StoredQueue> {
        self.queues.get(&id)
    }

    /// The gaps for which a queue is held, in order.
    pub fn holds(&self, id: QueueId) -> impl Iterator<Item = &Gap> {
        self.holds.get(&id).into_iter().flatten()
    }

    /// The queues that are held, with their gaps, oldest first.
    pub fn held(&self) -> impl Iterator<Item = (QueueId, &StoredQueue, &Gap)> {
        let held = self.holds.iter().filter_map(|(id, gaps)| Some((id, self.queue(*id)?, gaps)));
        held.flat_map(|(id, queue, gaps)| gaps.iter().map(move |gap| (*id, queue, gap)))
    }

    /// The exchanges that remember keys, each with its vhost.
    pub(super) fn exchange_caches(&self) -> impl Iterator<Item = (CacheId, &str, &str)> {
        self.vhosts.iter().flat_map(|(vhost, stored)| {
            let caches = stored.exchanges.iter().filter_map(|(name, it)| Some((it.cache?, name)));
            caches.map(move |(cache, name)| (cache, vhost.as_str(), name.as_str()))
        })
    }

    /// Makes the change and what follows from it. False if it names what is not there, and nothing
    /// was done.
    pub fn apply(&mut self, definition: &Definition) -> bool {
        match definition {
            Definition::VhostCreated { name } => {
                self.vhosts.entry(name.clone()).or_default();
                true
            }
            Definition::VhostDeleted { name } => {
                self.queues.retain(|_, queue| queue.vhost != *name);
                self.holds.retain(|id, _| self.queues.contains_key(id));
                self.vhosts.remove(name).is_some()
            }
            Definition::ExchangeDeclared { vhost, name, .. } => {
                self.declare_exchange(vhost, name, definition)
            }
            Definition::ExchangeDeleted { vhost, name } => {
                self.vhosts.get_mut(vhost).is_some_and(|vhost| vhost.delete_exchange(name))
            }
            Definition::QueueDeclared { id, vhost, .. } => {
                self.declare_queue(*id, vhost, definition)
            }
            Definition::QueueDeleted { id } => self.delete_queue(*id),
            Definition::Bound { vhost, .. } => self.bind(vhost, definition),
            Definition::Unbound { vhost, .. } => {
                let binding = StoredBinding::of(definition);
                let vhost = self.vhosts.get_mut(vhost);
                let both = vhost.zip(binding);
                both.is_some_and(|(vhost, binding)| vhost.unbind(&binding))
            }
            Definition::ParameterSet { vhost, component, name, value } => {
                let key = (component.clone(), name.clone());
                let vhost = self.vhosts.get_mut(vhost);
                vhost.map(|vhost| vhost.parameters.insert(key, value.clone())).is_some()
            }
            Definition::ParameterCleared { vhost, component, name } => {
                let key = (component.clone(), name.clone());
                let vhost = self.vhosts.get_mut(vhost);
                vhost.is_some_and(|vhost| vhost.parameters.remove(&key).is_some())
            }
            Definition::QueueHeld { id, gap } => {
                self.queues.contains_key(id) && self.holds.entry(*id).or_default().insert(*gap)
            }
            Definition::QueueReleased { id, gap } => self.release(*id, gap),
        }
    }

    fn declare_exchange(&mut self, vhost: &str, name: &str, declared: &Definition) -> bool {
        let vhost = self.vhosts.get_mut(vhost);
        let both = vhost.zip(StoredExchange::of(declared));
        both.map(|(vhost, exchange)| vhost.exchanges.insert(name.to_owned(), exchange)).is_some()
    }

    fn declare_queue(&mut self, id: QueueId, vhost: &str, declared: &Definition) -> bool {
        let vhost = self.vhosts.get(vhost);
        let both = vhost.zip(StoredQueue::of(declared));
        both.map(|(_, queue)| self.queues.insert(id, queue)).is_some()
    }

    fn delete_queue(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.queues.remove(&id) else {
            return false;
        };
        self.holds.remove(&id);
        if let Some(vhost) = self.vhosts.get_mut(&queue.vhost) {
            vhost.unbind_destination(BoundTo::Queue(id));
        }
        true
    }

    fn release(&mut self, id: QueueId, gap: &Gap) -> bool {
        let Some(gaps) = self.holds.get_mut(&id) else { return false };
        let was_there = gaps.remove(gap);
        if gaps.is_empty() {
            self.holds.remove(&id);
        }
        was_there
    }

    fn bind(&mut self, vhost: &str, bound: &Definition) -> bool {
        let both = self.vhosts.get_mut(vhost).zip(StoredBinding::of(bound));
        let Some((vhost, binding)) = both else {
            return false;
        };
        if let BoundTo::Queue(id) = binding.destination
            && !self.queues.contains_key(&id)
        {
            return false;
        }
        vhost.bind(binding);
        true
    }
}

impl StoredVhost {
    /// The exchanges by name.
    pub fn exchanges(&self) -> impl Iterator<Item = (&str, &StoredExchange)> {
        let exchanges = self.exchanges.iter();
        exchanges.map(|(name, exchange)| (name.as_str(), exchange))
    }

    /// Component, name and value of each parameter.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let parameters = self.parameters.iter();
        parameters.map(|((component, name), value)| (&**component, &**name, &**value))
    }

    /// The bindings by destination, source and key.
    pub fn bindings(&self) -> impl Iterator<Item = &StoredBinding> {
        self.bindings.iter().map(Arc::as_ref)
    }

    fn bind(&mut self, binding: StoredBinding) {
        let binding = Arc::new(binding);
        if self.bindings.insert(Arc::clone(&binding)) {
            self.by_source.entry(binding.source.clone()).or_default().insert(binding);
        }
    }

    fn unbind(&mut self, binding: &StoredBinding) -> bool {
        if !self.bindings.remove(binding) {
            return false;
        }
        let outgoing = self.by_source.get_mut(&binding.source);
        let outgoing = outgoing.expect("a binding is listed under its source");
        outgoing.remove(binding);
        if outgoing.is_empty() {
            self.by_source.remove(&binding.source);
        }
        true
    }

    fn delete_exchange(&mut self, name: &str) -> bool {
        self.unbind_destination(BoundTo::Exchange(name.to_owned()));
        for binding in self.by_source.remove(name).unwrap_or_default() {
            self.bindings.remove(&binding);
        }
        self.exchanges.remove(name).is_some()
    }

    fn unbind_destination(&mut self, destination: BoundTo) {
        let first = StoredBinding {
            destination,
            source: String::new(),
            key: Vec::new(),
            arguments: Table::default(),
        };
        let gone: Vec<_> = self
            .bindings
            .range::<StoredBinding, _>(&first..)
            .take_while(|binding| binding.destination == first.destination)
            .cloned()
            .collect();
        for binding in &gone {
            self.unbind(binding);
        }
    }
}

impl StoredExchange {
    /// The definition that leads to it.
    pub(super) fn declared(self, vhost: String, name: String) -> Definition {
        let Self { kind, auto_delete, internal, arguments, cache } = self;
        Definition::ExchangeDeclared { vhost, name, kind, auto_delete, internal, arguments, cache }
    }

    pub(super) fn of(declared: &Definition) -> Option<Self> {
        match declared.clone() {
            Definition::ExchangeDeclared {
                kind, auto_delete, internal, arguments, cache, ..
            } => Some(Self { kind, auto_delete, internal, arguments, cache }),
            _ => None,
        }
    }
}

impl StoredQueue {
    /// The definition that leads to it.
    pub(super) fn declared(self, id: QueueId) -> Definition {
        let Self { vhost, name, auto_delete, arguments } = self;
        Definition::QueueDeclared { id, vhost, name, auto_delete, arguments }
    }

    pub(super) fn of(declared: &Definition) -> Option<Self> {
        match declared.clone() {
            Definition::QueueDeclared { vhost, name, auto_delete, arguments, .. } => {
                Some(Self { vhost, name, auto_delete, arguments })
            }
            _ => None,
        }
    }
}

impl StoredBinding {
    /// The definition that leads to it.
    pub(super) fn bound(self, vhost: String) -> Definition {
        let Self { source, destination, key, arguments } = self;
        Definition::Bound { vhost, source, destination, key, arguments }
    }

    pub(super) fn of(bound: &Definition) -> Option<Self> {
        match bound {
            Definition::Bound { source, destination, key, arguments, .. }
            | Definition::Unbound { source, destination, key, arguments, .. } => Some(Self {
                source: source.clone(),
                destination: destination.clone(),
                key: key.clone(),
                // As an exchange compares them: unbinding need not repeat the client's order.
                arguments: arguments.as_ref().sorted(),
            }),
            _ => None,
        }
    }

    /// Destination first, so that all that leads to one queue lies together.
    fn order(&self) -> (&BoundTo, &str, &[u8], &[u8]) {
        let arguments = self.arguments.as_ref().bytes();
        (&self.destination, &self.source, &self.key, arguments)
    }
}

impl Ord for StoredBinding {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for StoredBinding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{queue, vhost};
    use super::*;
    use crate::id::{Lsn, SegmentNo};
    use crate::table::{TableBuilder, Value};

    fn exchange(vhost: &str, name: &str) -> Definition {
        Definition::ExchangeDeclared {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            kind: "topic".to_owned(),
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
            cache: None,
        }
    }

    fn bound(vhost: &str, source: &str, destination: BoundTo, key: &[u8]) -> Definition {
        Definition::Bound {
            vhost: vhost.to_owned(),
            source: source.to_owned(),
            destination,
            key: key.to_vec(),
            arguments: Table::default(),
        }
    }

    fn to_queue(id: u64) -> BoundTo {
        BoundTo::Queue(QueueId(id))
    }

    /// Two vhosts with the same names in each; queues 1 and 2 in `a`, 3 in `b`.
    fn filled() -> Definitions {
        let mut definitions = Definitions::default();
        let e2e = BoundTo::Exchange("e".to_owned());
        for definition in [
            vhost("b"),
            vhost("a"),
            exchange("a", "e"),
            exchange("b", "e"),
            queue(2, "a"),
            queue(1, "a"),
            queue(3, "b"),
            bound("a", "e", to_queue(2), b"k2"),
            bound("a", "amq.topic", to_queue(2), b"k1"),
            bound("a", "e", to_queue(1), b"k"),
            bound("a", "amq.fanout", e2e, b""),
            bound("b", "e", to_queue(3), b"k"),
        ] {
            assert!(definitions.apply(&definition), "{definition:?}");
        }
        definitions
    }

    fn sources(definitions: &Definitions, vhost: &str) -> Vec<String> {
        let bindings = definitions.vhost(vhost).unwrap().bindings();
        bindings.map(|binding| binding.source.clone()).collect()
    }

    #[test]
    fn order_does_not_depend_on_history() {
        let definitions = filled();
        let vhosts: Vec<_> = definitions.vhosts().map(|(name, _)| name).collect();
        assert_eq!(vhosts, ["a", "b"]);
        let queues: Vec<_> = definitions.queues().map(|(id, _)| id.0).collect();
        assert_eq!(queues, [1, 2, 3]);
        assert_eq!(sources(&definitions, "a"), ["e", "amq.topic", "e", "amq.fanout"]);
    }

    #[test]
    fn a_deleted_queue_takes_its_bindings() {
        let mut definitions = filled();
        let gone = Definition::QueueDeleted { id: QueueId(2) };
        assert!(definitions.apply(&gone));
        assert!(!definitions.apply(&gone));
        assert_eq!(sources(&definitions, "a"), ["e", "amq.fanout"]);
        assert!(!definitions.apply(&bound("a", "e", to_queue(2), b"late")));
    }

    #[test]
    fn a_deleted_exchange_takes_the_bindings_on_both_sides() {
        let mut definitions = filled();
        let gone = Definition::ExchangeDeleted { vhost: "a".to_owned(), name: "e".to_owned() };
        assert!(definitions.apply(&gone));
        assert_eq!(sources(&definitions, "a"), ["amq.topic"]);
        assert_eq!(sources(&definitions, "b"), ["e"]);
        assert_eq!(definitions.vhost("a").unwrap().exchanges().count(), 0);
    }

    #[test]
    fn every_binding_is_listed_under_both_ends() {
        let exchange_deleted = |name: &str| {
            let (vhost, name) = ("a".to_owned(), name.to_owned());
            Definition::ExchangeDeleted { vhost, name }
        };
        let to_itself = bound("a", "e", BoundTo::Exchange("e".to_owned()), b"");
        let mut definitions = filled();
        for definition in [
            to_itself.clone(),
            to_itself,
            bound("a", "e", to_queue(1), b"another"),
            Definition::QueueDeleted { id: QueueId(2) },
            exchange_deleted("e"),
            exchange("a", "e"),
            bound("a", "e", to_queue(1), b"k"),
            bound("a", "f", to_queue(1), b"k"),
            exchange_deleted("e"),
            Definition::QueueDeleted { id: QueueId(1) },
        ] {
            assert!(definitions.apply(&definition), "{definition:?}");
            let vhost = &definitions.vhosts["a"];
            let listed: BTreeSet<_> = vhost.by_source.values().flatten().cloned().collect();
            assert_eq!(listed, vhost.bindings, "{definition:?}");
            for (source, outgoing) in &vhost.by_source {
                assert!(outgoing.iter().all(|binding| binding.source == *source));
                assert!(!outgoing.is_empty(), "{definition:?} leaves an empty set");
            }
        }
        assert_eq!(sources(&definitions, "a").len(), 0);
        assert!(definitions.vhosts["a"].by_source.is_empty());
    }

    #[test]
    fn a_deleted_vhost_takes_everything_in_it() {
        let mut definitions = filled();
        let name = "a".to_owned();
        assert!(definitions.apply(&Definition::VhostDeleted { name }));
        assert!(definitions.vhost("a").is_none());
        let queues: Vec<_> = definitions.queues().map(|(id, _)| id.0).collect();
        assert_eq!(queues, [3]);
        assert!(!definitions.apply(&queue(9, "a")));
    }

    #[test]
    fn a_hold_ends_with_each_of_its_gaps_or_with_its_queue() {
        let gap = |offset| {
            let (segment, first, last) = (SegmentNo(3), Lsn(5), Lsn(7));
            Gap { segment, offset, damaged_at: offset, end: offset + 100, first, last }
        };
        let held = |id, offset| Definition::QueueHeld { id: QueueId(id), gap: gap(offset) };
        let released = |id, offset| Definition::QueueReleased { id: QueueId(id), gap: gap(offset) };
        let mut definitions = filled();
        let before = definitions.clone();
        assert!(!definitions.apply(&held(9, 1000)), "there is no such queue");
        assert!(definitions.apply(&held(1, 3000)) && definitions.apply(&held(1, 1000)));
        assert!(!definitions.apply(&held(1, 1000)) && definitions.apply(&held(3, 1000)));
        let rows = |it: &Definitions| it.held().map(|it| (it.0.0, it.2.offset)).collect::<Vec<_>>();
        assert_eq!(rows(&definitions), [(1, 1000), (1, 3000), (3, 1000)]);
        assert!(!definitions.apply(&released(1, 2000)) && definitions.apply(&released(1, 1000)));
        assert_eq!(rows(&definitions), [(1, 3000), (3, 1000)]);
        let name = "b".to_owned();
        assert!(definitions.apply(&Definition::VhostDeleted { name }));
        assert!(definitions.apply(&released(1, 3000)) && !definitions.apply(&released(1, 3000)));
        assert_eq!((definitions.held().count(), before.holds), (0, definitions.holds.clone()));
        assert!(definitions.apply(&held(2, 1000)));
        assert!(definitions.apply(&Definition::QueueDeleted { id: QueueId(2) }));
        assert_eq!(definitions.holds(QueueId(2)).count(), 0);
    }

    #[test]
    fn unbinding_needs_the_same_key() {
        let mut definitions = filled();
        let unbound = |key: &[u8]| Definition::Unbound {
            vhost: "a".to_owned(),
            source: "e".to_owned(),
            destination: to_queue(1),
            key: key.to_vec(),
            arguments: Table::default(),
        };
        assert!(!definitions.apply(&unbound(b"other")));
        assert!(definitions.apply(&unbound(b"k")));
        assert_eq!(sources(&definitions, "a").len(), 3);
    }

    #[test]
    fn unbinding_does_not_need_the_same_order_of_arguments() {
        let table = |names: [&[u8]; 3]| {
            let put = |table: TableBuilder, name| table.put(name, Value::I32(1));
            names.into_iter().fold(TableBuilder::new(), put).finish()
        };
        let both = |arguments: Table| {
            let (vhost, source) = ("a".to_owned(), "amq.match".to_owned());
            let (destination, key) = (to_queue(1), Vec::new());
            let bound = Definition::Bound {
                vhost: vhost.clone(),
                source: source.clone(),
                destination: destination.clone(),
                key: key.clone(),
                arguments: arguments.clone(),
            };
            (bound, Definition::Unbound { vhost, source, destination, key, arguments })
        };
        // As brokers before this one recorded them: in the order in which a client sent them.
        let mut definitions = filled();
        let before = definitions.clone();
        let (one, other) = (both(table([b"b", b"c", b"a"])), both(table([b"c", b"a", b"b"])));
        assert!(definitions.apply(&one.0) && definitions.apply(&other.0));
        assert_eq!(sources(&definitions, "a").len(), 5);
        assert!(!definitions.apply(&both(table([b"a", b"b", b"d"])).1));
        assert!(definitions.apply(&other.1));
        assert!(!definitions.apply(&one.1));
        assert_eq!(definitions, before);
    }
}
