//! queue.bind, queue.unbind, exchange.bind and exchange.unbind: one path for both destinations.

use crate::broker::checkpoint::bound_to;
use crate::broker::link::{Link, Replayed, Workspace};
use crate::broker::vhost::State;
use crate::exception::{Exception, Permission, Resource};
use crate::exchange::{Binding, Destination, Exchange, Kind, api_table, check_headers_binding};
use crate::name::Name;
use crate::store::{Definition, Reach};
use crate::table::TableRef;
use leveret_plugin_api::{DestinationKind, NewBinding};
use parking_lot::RwLockWriteGuard;
use std::sync::Arc;

/// The destination of a binding, by name.
#[derive(Clone, Copy, Debug)]
pub enum BindTo<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl<'a> BindTo<'a> {
    fn resource(self, vhost: &'a str) -> Resource<'a> {
        match self {
            Self::Queue(name) => Resource::Queue { vhost, name },
            Self::Exchange(name) => Resource::Exchange { vhost, name },
        }
    }
}

/// One end of a binding that is there.
struct End {
    destination: Destination,
    durable: bool,
}

impl Link {
    /// Binds; binding again changes nothing. What the source remembers goes to the destination.
    ///
    /// # Errors
    /// 403, then 404 for source before destination, 405, 406 for arguments.
    pub fn bind(
        &mut self,
        source: &str,
        to: BindTo<'_>,
        key: &[u8],
        arguments: TableRef<'_>,
        workspace: &mut Workspace,
    ) -> Result<Replayed, Exception> {
        self.check_binding(source, to, key)?;
        let vhost = Arc::clone(self.vhost());
        let mut state = vhost.state.write();
        let durable_source = source_durable(&state, &vhost.name, source)?;
        let end =
            state.find_end(to).ok_or_else(|| Exception::not_found(to.resource(&vhost.name)))?;
        state.check_with_kind(source, to, key, arguments)?;
        self.check_bound_owner(&state, to)?;
        let is_durable = durable_source && end.durable;
        let binding = Binding::new(end.destination, key, arguments);
        let (destination, arguments) = (binding.destination.clone(), binding.arguments.as_ref());
        let new = state.topology.bind(source, destination.clone(), key, arguments)?;
        if !new {
            let reach = if is_durable { state.defined } else { Reach::default() };
            return Ok(Replayed { reach, copies: 0 });
        }
        let mut recorded = Reach::default();
        if is_durable {
            let definition = Definition::Bound {
                vhost: vhost.name.to_string(),
                source: source.to_owned(),
                destination: bound_to(&binding.destination),
                key: key.to_vec(),
                arguments: binding.arguments,
            };
            recorded = state.define(&[definition], &self.broker, workspace);
        }
        let replayed = self.replay(state, source, &destination, workspace);
        Ok(Replayed { reach: recorded.max(replayed.reach), ..replayed })
    }

    /// Gives what `source` remembers to what was just bound to it.
    fn replay(
        &mut self,
        state: RwLockWriteGuard<'_, State>,
        source: &str,
        destination: &Destination,
        workspace: &mut Workspace,
    ) -> Replayed {
        let remembered = state.topology.exchange(source).map(Exchange::remembered);
        let remembered = remembered.unwrap_or_default();
        if remembered.is_empty() {
            return Replayed::default();
        }
        match destination {
            Destination::Queue(id) => match state.by_id.get(id) {
                Some(queue) => Replayed::to_queue(queue, &remembered, &self.broker, workspace),
                None => Replayed::default(),
            },
            Destination::Exchange(name) => {
                // Routing looks into the vhost itself.
                drop(state);
                self.replay_through(name, &remembered, workspace)
            }
        }
    }

    /// Unbinds; a binding, queue or exchange that is not there is no error, whoever owns the rest.
    ///
    /// # Errors
    /// 403; 405 for what is bound to another connection's exclusive queue.
    pub fn unbind(
        &mut self,
        source: &str,
        to: BindTo<'_>,
        key: &[u8],
        arguments: TableRef<'_>,
        workspace: &mut Workspace,
    ) -> Result<Reach, Exception> {
        self.check_binding(source, to, key)?;
        let vhost = Arc::clone(self.vhost());
        let mut state = vhost.state.write();
        let Some(end) = state.find_end(to) else {
            return Ok(state.defined);
        };
        let Ok(durable_source) = source_durable(&state, &vhost.name, source) else {
            return Ok(state.defined);
        };
        let binding = Binding::new(end.destination, key, arguments);
        if !state.topology.is_bound(source, &binding) {
            return Ok(state.defined);
        }
        self.check_bound_owner(&state, to)?;
        let (destination, arguments) = (&binding.destination, binding.arguments.as_ref());
        let removed = state.topology.unbind(source, destination, key, arguments);
        let mut definitions = Vec::new();
        if durable_source && end.durable {
            definitions.push(Definition::Unbound {
                vhost: vhost.name.to_string(),
                source: source.to_owned(),
                destination: bound_to(&binding.destination),
                key: key.to_vec(),
                arguments: binding.arguments,
            });
        }
        definitions.extend(state.exchanges_deleted(&removed, &vhost.name, workspace));
        Ok(state.define(&definitions, &self.broker, workspace))
    }

    /// The checks before existence: WRITE on the destination, no default exchange on either side,
    /// READ on the source, READ on the topic.
    fn check_binding(&mut self, source: &str, to: BindTo<'_>, key: &[u8]) -> Result<(), Exception> {
        let vhost = Arc::clone(self.vhost());
        self.check(Permission::Write, to.resource(&vhost.name))?;
        if source.is_empty() || matches!(to, BindTo::Exchange("")) {
            return Err(Exception::default_exchange());
        }
        self.check(Permission::Read, Resource::Exchange { vhost: &vhost.name, name: source })?;
        if vhost.exchange(source).is_some_and(|exchange| matches!(exchange.kind, Kind::Topic)) {
            let (user, permission) = (&self.client.user, Permission::Read);
            if !self.broker.access.check_topic(user, &vhost.name, source, permission, key) {
                let topic = String::from_utf8_lossy(key);
                let (name, user) = (&vhost.name, &user.name);
                return Err(Exception::topic_access_refused(
                    permission, &topic, source, name, user,
                ));
            }
        }
        Ok(())
    }

    fn check_bound_owner(&self, state: &State, to: BindTo<'_>) -> Result<(), Exception> {
        let BindTo::Queue(name) = to else {
            return Ok(());
        };
        match state.queues.get(name) {
            Some(queue) => queue.settings.check_owner(self.client.connection, queue.resource()),
            None => Ok(()),
        }
    }
}

impl State {
    /// Whether the type of `source` accepts the binding.
    fn check_with_kind(
        &self,
        source: &str,
        to: BindTo<'_>,
        key: &[u8],
        arguments: TableRef<'_>,
    ) -> Result<(), Exception> {
        let exchange = self.topology.exchange(source);
        let kind = exchange.map(|exchange| exchange.settings().kind.routes());
        let kind = match kind {
            Some(Kind::Plugged(kind)) => kind,
            Some(Kind::Headers) => return check_headers_binding(arguments),
            _ => return Ok(()),
        };
        let to = match to {
            BindTo::Queue(name) => {
                let kind = self.queues.get(name).map(|queue| queue.kind).unwrap_or_default();
                DestinationKind::Queue { queue_type: kind.name() }
            }
            BindTo::Exchange(_) => DestinationKind::Exchange,
        };
        kind.check_binding(&NewBinding { to, key, arguments: &api_table(arguments) })
    }

    fn find_end(&self, to: BindTo<'_>) -> Option<End> {
        match to {
            BindTo::Queue(name) => {
                let queue = self.queues.get(name).filter(|queue| !queue.is_gone())?;
                let durable = queue.settings.durable;
                Some(End { destination: Destination::Queue(queue.id), durable })
            }
            BindTo::Exchange(name) => {
                let durable = self.topology.exchange(name)?.settings().durable;
                Some(End { destination: Destination::Exchange(Name::new(name)), durable })
            }
        }
    }
}

fn source_durable(state: &State, vhost: &str, source: &str) -> Result<bool, Exception> {
    let exchange = state.topology.exchange(source);
    let resource = Resource::Exchange { vhost, name: source };
    exchange.map(|e| e.settings().durable).ok_or_else(|| Exception::not_found(resource))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{DURABLE, EXCLUSIVE, connect, open};
    use super::super::{DeclareExchange, DeclareQueue};
    use super::*;
    use crate::store::MemoryDisk;
    use crate::table::{Table, TableBuilder, Value};

    const QUEUE: BindTo<'_> = BindTo::Queue("q");

    fn two(first: &[u8], second: &[u8]) -> Table {
        TableBuilder::new().put(first, Value::I32(1)).put(second, Value::I32(1)).finish()
    }

    #[test]
    fn binding_and_unbinding_are_recorded_as_the_topology_compares_them() {
        let disk = MemoryDisk::new();
        let broker = open(&disk);
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let declare = DeclareQueue { name: "q", ..DURABLE };
        link.declare_queue(&declare, &mut workspace).unwrap();
        let (sorted, unsorted) = (two(b"a", b"b"), two(b"b", b"a"));
        let source = "amq.match";
        let recorded = |workspace: &mut Workspace| {
            assert!(workspace.records.is_empty());
            broker.journal().round(&disk).unwrap();
            let journal = disk.contents("segment-0000000001").unwrap();
            let found = |table: &Table| {
                let bytes = table.as_ref().bytes();
                journal.windows(bytes.len()).filter(|window| *window == bytes).count()
            };
            (found(&sorted), found(&unsorted))
        };
        link.bind(source, QUEUE, b"", unsorted.as_ref(), &mut workspace).unwrap();
        assert_eq!(recorded(&mut workspace), (1, 0));
        link.bind(source, QUEUE, b"", sorted.as_ref(), &mut workspace).unwrap();
        assert_eq!(recorded(&mut workspace), (1, 0));
        link.unbind(source, QUEUE, b"", unsorted.as_ref(), &mut workspace).unwrap();
        assert_eq!(recorded(&mut workspace), (2, 0));
    }

    #[test]
    fn what_is_bound_to_anothers_exclusive_queue_stays_bound() {
        let broker = open(&MemoryDisk::new());
        let (mut owner, mut other) = (connect(&broker), connect(&broker));
        let mut workspace = Workspace::default();
        let declare = DeclareQueue { name: "q", ..EXCLUSIVE };
        owner.declare_queue(&declare, &mut workspace).unwrap();
        let (source, none) = ("amq.direct", TableRef::EMPTY);
        owner.bind(source, QUEUE, b"key", none, &mut workspace).unwrap();
        // RabbitMQ: only who would take something away is refused.
        other.unbind(source, QUEUE, b"another key", none, &mut workspace).unwrap();
        other.unbind("amq.fanout", QUEUE, b"key", none, &mut workspace).unwrap();
        let refused = other.unbind(source, QUEUE, b"key", none, &mut workspace).unwrap_err();
        assert_eq!(refused.code.code(), 405);
        let bindings = || {
            let state = broker.vhost("/").unwrap();
            let state = state.state.read();
            state.topology.exchange(source).unwrap().binding_count()
        };
        assert_eq!(bindings(), 1);
        owner.unbind(source, QUEUE, b"key", none, &mut workspace).unwrap();
        assert_eq!(bindings(), 0);
        other.unbind(source, QUEUE, b"key", none, &mut workspace).unwrap();
    }

    #[test]
    fn arguments_are_looked_at_before_the_owner() {
        let broker = open(&MemoryDisk::new());
        let (mut owner, mut other) = (connect(&broker), connect(&broker));
        let mut workspace = Workspace::default();
        let declare = DeclareQueue { name: "q", ..EXCLUSIVE };
        owner.declare_queue(&declare, &mut workspace).unwrap();
        let wrong = TableBuilder::new().put(b"x-match", Value::LongStr(b"zz")).finish();
        for (arguments, code) in [(wrong.as_ref(), 406), (TableRef::EMPTY, 405)] {
            let refused = other.bind("amq.match", QUEUE, b"", arguments, &mut workspace);
            assert_eq!(refused.unwrap_err().code.code(), code);
        }
    }

    #[test]
    fn an_exchange_type_is_told_the_type_of_the_queue() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let (name, kind) = ("x", "x-local-random");
        let (durable, auto_delete, internal) = (true, false, false);
        let arguments = TableRef::EMPTY;
        let exchange = DeclareExchange { name, kind, durable, auto_delete, internal, arguments };
        link.declare_exchange(&exchange, &mut workspace).unwrap();
        let quorum = TableBuilder::new().put(b"x-queue-type", Value::LongStr(b"quorum")).finish();
        let declare = DeclareQueue { name: "q", arguments: quorum.as_ref(), ..DURABLE };
        link.declare_queue(&declare, &mut workspace).unwrap();
        let refused = link.bind("x", QUEUE, b"", TableRef::EMPTY, &mut workspace).unwrap_err();
        assert_eq!(
            refused.text(),
            "PRECONDITION_FAILED - Queue type rabbit_quorum_queue not valid for this exchange type"
        );
    }
}
