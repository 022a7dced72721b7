//! Bindings: from a source exchange to a queue or another exchange, under a binding key.

use super::topology::Topology;
use crate::id::QueueId;
use crate::name::Name;
use crate::table::{Table, TableRef};
use std::cmp::Ordering;

/// Where a binding leads. Queues sort before exchanges.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    Queue(QueueId),
    Exchange(Name),
}

/// A binding of some source exchange. Two bindings are one if all three parts are equal
/// (RabbitMQ: source, destination, key, and the arguments sorted by name, wire types included).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub destination: Destination,
    pub key: Box<[u8]>,
    /// Sorted by name; fields of one name keep their order.
    pub arguments: Table,
}

impl Binding {
    #[must_use]
    pub fn new(destination: Destination, key: &[u8], arguments: TableRef<'_>) -> Self {
        Self { destination, key: key.into(), arguments: arguments.sorted() }
    }
}

impl PartialOrd for Binding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Binding {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (self.arguments.as_ref(), other.arguments.as_ref());
        self.destination
            .cmp(&other.destination)
            .then_with(|| self.key.cmp(&other.key))
            .then_with(|| ours.bytes().cmp(theirs.bytes()))
    }
}

/// A binding with its source, kept once and listed under both ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound {
    pub(super) source: Name,
    pub(super) binding: Binding,
}

impl Topology {
    /// Whether that binding leads from `source`.
    #[must_use]
    pub fn is_bound(&self, source: &str, binding: &Binding) -> bool {
        self.exchange(source).is_some_and(|exchange| {
            let bound = Bound { source: exchange.name().clone(), binding: binding.clone() };
            exchange.bindings.contains(&bound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{TableBuilder, Value};

    #[test]
    fn the_order_of_arguments_does_not_distinguish_bindings() {
        let queue = || Destination::Queue(QueueId(1));
        let one = TableBuilder::new().put(b"a", Value::I32(1)).put(b"b", Value::Void).finish();
        let other = TableBuilder::new().put(b"b", Value::Void).put(b"a", Value::I32(1)).finish();
        let binding = Binding::new(queue(), b"k", one.as_ref());
        assert_eq!(binding, Binding::new(queue(), b"k", other.as_ref()));
        assert_ne!(binding, Binding::new(queue(), b"", other.as_ref()));
        let wider = TableBuilder::new().put(b"a", Value::I64(1)).put(b"b", Value::Void).finish();
        assert_ne!(binding, Binding::new(queue(), b"k", wider.as_ref()));
    }

    #[test]
    fn a_binding_is_there_under_its_own_source() {
        let mut topology = Topology::with_predeclared(Name::new("/"));
        let binding = Binding::new(Destination::Queue(QueueId(1)), b"k", TableRef::EMPTY);
        let destination = binding.destination.clone();
        topology.bind("amq.topic", destination.clone(), b"k", TableRef::EMPTY).unwrap();
        assert!(topology.is_bound("amq.topic", &binding));
        assert!(!topology.is_bound("amq.direct", &binding) && !topology.is_bound("no", &binding));
        let another = Binding::new(destination, b"", TableRef::EMPTY);
        assert!(!topology.is_bound("amq.topic", &another));
    }
}
