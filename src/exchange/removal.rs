//! What ends with what: unbinding, deleting, and the exchanges that delete themselves after it.
//!
//! RabbitMQ: an auto-delete exchange goes when its last binding as a source goes, however that
//! came; one that was never bound stays. That may end the last binding of the next: a worklist.

use super::binding::{Binding, Bound, Destination};
use super::topology::Topology;
use crate::exception::{Exception, Resource};
use crate::id::QueueId;
use crate::name::Name;
use crate::table::TableRef;
use std::collections::VecDeque;
use std::sync::Arc;

/// Everything that one removal took away.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Sources and bindings, in the order of their end.
    pub bindings: Vec<(Name, Binding)>,
    /// Deleted exchanges, in the order of their end.
    pub exchanges: Vec<RemovedExchange>,
}

/// An exchange that ended.
#[derive(Debug, PartialEq, Eq)]
pub struct RemovedExchange {
    pub name: Name,
    pub durable: bool,
    /// Where its messages waited, see `Kind::delay_queue`.
    pub delay_queue: Option<QueueId>,
}

#[derive(Default)]
struct Removal {
    bindings: Vec<Arc<Bound>>,
    /// Exchanges to delete.
    doomed: VecDeque<Name>,
    deleted: Vec<RemovedExchange>,
    /// Exchanges that are gone or lost a binding.
    changed: Vec<Name>,
}

impl Topology {
    /// Removes one binding, and what ends with it. A binding that does not exist is removed.
    pub fn unbind(
        &mut self,
        source: &str,
        destination: &Destination,
        key: &[u8],
        arguments: TableRef<'_>,
    ) -> Removed {
        let Some(exchange) = self.exchanges.get(source) else {
            return Removed::default();
        };
        let probe = Bound {
            source: exchange.name().clone(),
            binding: Binding::new(destination.clone(), key, arguments),
        };
        let Some(bound) = exchange.bindings.get(&probe).cloned() else {
            return Removed::default();
        };
        let mut removal = Removal::default();
        self.unlist_incoming(&bound);
        self.drop_outgoing(bound, &mut removal);
        self.finish(removal)
    }

    /// Deletes an exchange, and what ends with it. A missing exchange is deleted.
    ///
    /// # Errors
    /// `if_unused`, and the exchange is the source of a binding.
    pub fn delete(&mut self, name: &str, if_unused: bool) -> Result<Removed, Exception> {
        let Some(exchange) = self.exchanges.get(name) else {
            return Ok(Removed::default());
        };
        if if_unused && !exchange.bindings.is_empty() {
            let vhost = &self.vhost;
            return Err(Exception::in_use(Resource::Exchange { vhost, name }));
        }
        let removal = Removal { doomed: [exchange.name().clone()].into(), ..Removal::default() };
        Ok(self.finish(removal))
    }

    /// Removes the bindings of a queue that is gone, and what ends with them.
    pub fn remove_queue(&mut self, queue: QueueId) -> Removed {
        let mut removal = Removal::default();
        self.drop_incoming(&Destination::Queue(queue), &mut removal);
        self.finish(removal)
    }

    fn finish(&mut self, mut removal: Removal) -> Removed {
        while let Some(name) = removal.doomed.pop_front() {
            self.remove_exchange(&name, &mut removal);
        }
        self.bump(&removal.changed);
        let owned = |bound: Arc<Bound>| {
            let bound = Arc::unwrap_or_clone(bound);
            (bound.source, bound.binding)
        };
        Removed {
            bindings: removal.bindings.into_iter().map(owned).collect(),
            exchanges: removal.deleted,
        }
    }

    fn remove_exchange(&mut self, name: &Name, removal: &mut Removal) {
        let exchange = self.exchanges.remove(name);
        let exchange = exchange.expect("an exchange loses its last binding once");
        exchange.shared.mark_gone();
        let durable = exchange.shared.durable;
        let delay_queue = exchange.shared.kind.delay_queue();
        removal.deleted.push(RemovedExchange { name: name.clone(), durable, delay_queue });
        self.unlist_alternate(exchange.alternate(), name);
        for bound in exchange.bindings {
            self.unlist_incoming(&bound);
            removal.bindings.push(bound);
        }
        removal.changed.push(name.clone());
        self.drop_incoming(&Destination::Exchange(name.clone()), removal);
    }

    /// Removes all bindings to `destination`.
    fn drop_incoming(&mut self, destination: &Destination, removal: &mut Removal) {
        for bound in self.by_destination.remove(destination).unwrap_or_default() {
            self.drop_outgoing(bound, removal);
        }
    }

    /// Takes a binding from its source, which may end with it.
    fn drop_outgoing(&mut self, bound: Arc<Bound>, removal: &mut Removal) {
        let source = self.exchanges.get_mut(&bound.source);
        let source = source.expect("a binding's source exists");
        source.bindings.remove(&bound);
        source.matcher.unbind(&bound.binding);
        let ends = source.settings().auto_delete && source.bindings.is_empty();
        if removal.changed.last() != Some(&bound.source) {
            removal.changed.push(bound.source.clone());
        }
        if ends {
            removal.doomed.push_back(bound.source.clone());
        }
        removal.bindings.push(bound);
    }

    /// Forgets that a binding leads to its destination.
    fn unlist_incoming(&mut self, bound: &Arc<Bound>) {
        let destination = &bound.binding.destination;
        let incoming = self.by_destination.get_mut(destination);
        let incoming = incoming.expect("a binding is listed under both ends");
        incoming.remove(bound);
        if incoming.is_empty() {
            self.by_destination.remove(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::topology::tests::Vhost;
    use super::super::{Kind, Settings};
    use super::*;

    fn auto_delete(kind: Kind) -> Settings {
        Settings { auto_delete: true, ..Settings::durable(kind) }
    }

    fn names(removed: &Removed) -> Vec<&str> {
        removed.exchanges.iter().map(|exchange| exchange.name.as_str()).collect()
    }

    /// `a -> b -> c -> queue 1`, where a, b and c delete themselves.
    fn chain() -> Vhost {
        let mut vhost = Vhost::new();
        for name in ["a", "b", "c"] {
            vhost.declare_with(name, auto_delete(Kind::Fanout));
        }
        vhost.bind_exchange("a", "b", "");
        vhost.bind_exchange("b", "c", "");
        vhost.bind_queue("c", 1, "k");
        vhost
    }

    #[test]
    fn the_last_binding_as_a_source_takes_its_exchange_along() {
        let mut vhost = chain();
        vhost.bind_queue("c", 2, "k");
        assert_eq!(names(&vhost.0.remove_queue(QueueId(2))), [""; 0]);
        let removed = vhost.0.remove_queue(QueueId(1));
        assert_eq!(names(&removed), ["c", "b", "a"]);
        let sources: Vec<_> = removed.bindings.iter().map(|(source, _)| &**source).collect();
        assert_eq!(sources, ["c", "b", "a"]);
        assert_eq!(vhost.0.exchanges().len(), 7);
    }

    #[test]
    fn unbinding_cascades_too_and_unbinding_nothing_does_not() {
        let mut vhost = chain();
        vhost.declare_with("unbound", auto_delete(Kind::Direct));
        let queue = Destination::Queue(QueueId(1));
        for (source, key) in [("unbound", &b"k"[..]), ("c", b"other"), ("none", b"k")] {
            let removed = vhost.0.unbind(source, &queue, key, TableRef::EMPTY);
            assert_eq!(removed, Removed::default());
        }
        let removed = vhost.0.unbind("c", &queue, b"k", TableRef::EMPTY);
        assert_eq!(names(&removed), ["c", "b", "a"]);
        let expected = Binding::new(queue, b"k", TableRef::EMPTY);
        assert_eq!(removed.bindings[0], (Name::new("c"), expected));
    }

    #[test]
    fn deleting_an_exchange_ends_its_bindings_in_both_directions() {
        let mut vhost = chain();
        vhost.declare("keeps", Kind::Fanout);
        vhost.bind_exchange("keeps", "b", "");
        let removed = vhost.0.delete("b", false).unwrap();
        assert_eq!(names(&removed), ["b", "a"]);
        assert_eq!(removed.bindings.len(), 3);
        assert!(vhost.0.exchange("c").is_some(), "c was only a destination");
        assert!(!vhost.0.is_source_in_use("keeps"));
        assert_eq!(vhost.0.bindings_of_source("c").count(), 1);
    }

    #[test]
    fn an_exchange_in_use_as_a_source_is_not_deleted_if_unused() {
        let mut vhost = chain();
        let error = vhost.0.delete("c", true).unwrap_err();
        assert_eq!(error.text(), "PRECONDITION_FAILED - exchange 'c' in vhost '/' in use");
        vhost.declare("d", Kind::Fanout);
        vhost.bind_exchange("amq.direct", "d", "");
        assert_eq!(names(&vhost.0.delete("d", true).unwrap()), ["d"]);
        assert_eq!(vhost.0.delete("d", true).unwrap(), Removed::default());
    }

    #[test]
    fn an_exchange_bound_to_itself_is_deleted_once() {
        let mut vhost = Vhost::new();
        vhost.declare_with("e", auto_delete(Kind::Fanout));
        vhost.bind_exchange("e", "e", "");
        let removed = vhost.0.delete("e", false).unwrap();
        assert_eq!((names(&removed), removed.bindings.len()), (vec!["e"], 1));
        vhost.declare_with("e", auto_delete(Kind::Fanout));
        vhost.bind_exchange("e", "e", "");
        vhost.bind_queue("e", 1, "");
        assert_eq!(names(&vhost.0.remove_queue(QueueId(1))), [""; 0]);
        let itself = Destination::Exchange(Name::new("e"));
        let removed = vhost.0.unbind("e", &itself, b"", TableRef::EMPTY);
        assert_eq!(names(&removed), ["e"]);
    }
}
