//! Exchanges and bindings of one vhost, listed from both ends.
//!
//! What a client may do is checked before: names, permissions, whether both ends of a binding
//! exist. What ends with something else (auto-delete, bindings of what is gone) is in `removal`.
//!
//! Every change gives a new version to the exchanges that can notice it: the changed one, and each
//! from which messages can reach it, through bindings or as an alternate exchange.

use super::binding::{Binding, Bound, Destination};
use super::history::Remembered;
use super::matcher::Matcher;
use super::shared::ExchangeShared;
use super::{Kind, Settings};
use crate::exception::Exception;
use crate::name::Name;
use crate::table::TableRef;
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The exchanges and bindings of one vhost.
#[derive(Debug)]
pub struct Topology {
    pub(super) vhost: Name,
    pub(super) exchanges: HashMap<Name, Exchange>,
    /// The bindings that lead to each destination; none has an empty set.
    pub(super) by_destination: HashMap<Destination, BTreeSet<Arc<Bound>>>,
    /// Who has that exchange, which may not exist, as alternate; none has an empty set.
    by_alternate: HashMap<Name, BTreeSet<Name>>,
}

/// A declared exchange.
#[derive(Debug)]
pub struct Exchange {
    pub(super) shared: Arc<ExchangeShared>,
    settings: Settings,
    policy_alternate: Option<Name>,
    pub(super) bindings: BTreeSet<Arc<Bound>>,
    pub(super) matcher: Matcher,
}

/// What a declaration came to.
#[derive(Debug)]
pub enum Declared<'a> {
    Created(Arc<ExchangeShared>),
    /// `Settings::check_equivalent` says whether it is what was asked for.
    Exists(&'a Exchange),
}

impl Exchange {
    fn new(name: Name, settings: Settings) -> Self {
        Self {
            shared: Arc::new(ExchangeShared::new(name, &settings)),
            matcher: Matcher::new(&settings),
            settings,
            policy_alternate: None,
            bindings: BTreeSet::new(),
        }
    }

    #[must_use]
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    #[must_use]
    pub fn shared(&self) -> &Arc<ExchangeShared> {
        &self.shared
    }

    /// Where messages go that match no binding. RabbitMQ: the argument beats the policy.
    #[must_use]
    pub fn alternate(&self) -> Option<&Name> {
        let argument = self.settings.alternate.as_ref();
        argument.or(self.policy_alternate.as_ref())
    }

    /// What it remembers for a new binding, the oldest message first.
    #[must_use]
    pub fn remembered(&self) -> Vec<Remembered> {
        self.matcher.history().map(|history| history.messages()).unwrap_or_default()
    }

    /// The number of bindings of which it is the source.
    #[must_use]
    pub fn binding_count(&self) -> usize {
        self.bindings.len()
    }
}

impl Topology {
    /// The exchanges that every vhost begins with.
    #[must_use]
    pub fn with_predeclared(vhost: Name) -> Self {
        let mut topology = Self {
            vhost,
            exchanges: HashMap::new(),
            by_destination: HashMap::new(),
            by_alternate: HashMap::new(),
        };
        let predeclared = [
            ("", Kind::Direct, false),
            ("amq.direct", Kind::Direct, false),
            ("amq.fanout", Kind::Fanout, false),
            ("amq.topic", Kind::Topic, false),
            ("amq.match", Kind::Headers, false),
            ("amq.headers", Kind::Headers, false),
            ("amq.rabbitmq.trace", Kind::Topic, true),
        ];
        for (name, kind, internal) in predeclared {
            let mut settings = Settings::durable(kind);
            settings.internal = internal;
            topology.declare(Name::new(name), settings);
        }
        topology
    }

    pub fn declare(&mut self, name: Name, settings: Settings) -> Declared<'_> {
        if self.exchanges.contains_key(&name) {
            return Declared::Exists(&self.exchanges[&name]);
        }
        let exchange = Exchange::new(name.clone(), settings);
        let shared = exchange.shared.clone();
        self.list_alternate(exchange.alternate(), &name);
        self.exchanges.insert(name.clone(), exchange);
        // It may be the missing alternate of others.
        self.bump(&[name]);
        Declared::Created(shared)
    }

    /// Binds `source`, and says whether that binding is new. Both ends exist.
    ///
    /// # Errors
    /// The exchange's type refuses the arguments. A plugged type is asked before, see
    /// `PluggedType::check_binding`: what is stored is bound whatever it says today.
    ///
    /// # Panics
    /// If there is no such source: whoever binds has looked it up under the same lock.
    pub fn bind(
        &mut self,
        source: &str,
        destination: Destination,
        key: &[u8],
        arguments: TableRef<'_>,
    ) -> Result<bool, Exception> {
        let exchange = self.exchanges.get_mut(source);
        let exchange = exchange.expect("the caller has found the source");
        let source = exchange.name().clone();
        let bound = Arc::new(Bound {
            source: source.clone(),
            binding: Binding::new(destination, key, arguments),
        });
        if exchange.bindings.contains(&bound) {
            return Ok(false);
        }
        exchange.matcher.bind(&bound.binding)?;
        exchange.bindings.insert(bound.clone());
        self.by_destination.entry_ref(&bound.binding.destination).or_default().insert(bound);
        self.bump(&[source]);
        Ok(true)
    }

    /// Sets what a policy says is the alternate of `name`; none if no policy says so any more.
    pub fn set_policy_alternate(&mut self, name: &str, alternate: Option<Name>) {
        let Some(exchange) = self.exchanges.get_mut(name) else {
            return;
        };
        let name = exchange.name().clone();
        let before = exchange.alternate().cloned();
        exchange.policy_alternate = alternate;
        let after = exchange.alternate().cloned();
        if before != after {
            self.unlist_alternate(before.as_ref(), &name);
            self.list_alternate(after.as_ref(), &name);
            self.bump(&[name]);
        }
    }

    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name)
    }

    /// All exchanges, sorted by name.
    #[must_use]
    pub fn exchanges(&self) -> Vec<&Exchange> {
        let mut all: Vec<_> = self.exchanges.values().collect();
        all.sort_unstable_by_key(|exchange| exchange.name());
        all
    }

    /// Whether any binding leads from that exchange.
    #[must_use]
    pub fn is_source_in_use(&self, name: &str) -> bool {
        self.exchange(name).is_some_and(|e| !e.bindings.is_empty())
    }

    /// The bindings from that exchange, sorted.
    pub fn bindings_of_source(&self, name: &str) -> impl Iterator<Item = &Binding> {
        let bindings = self.exchange(name).map(|exchange| &exchange.bindings);
        bindings.into_iter().flatten().map(|bound| &bound.binding)
    }

    /// The bindings to that queue or exchange with their sources, sorted.
    pub fn bindings_of_destination(
        &self,
        destination: &Destination,
    ) -> impl Iterator<Item = (&Name, &Binding)> {
        let bindings = self.by_destination.get(destination).into_iter().flatten();
        bindings.map(|bound| (&bound.source, &bound.binding))
    }

    /// Gives a new version to the changed exchanges and to all upstream of them.
    ///
    /// Called after the change. An edge that the change removed is missed by the walk, so its
    /// source has to be among `changed`.
    pub(super) fn bump(&self, changed: &[Name]) {
        let mut reached: HashSet<Name> = changed.iter().cloned().collect();
        let mut pending: Vec<Name> = reached.iter().cloned().collect();
        while let Some(name) = pending.pop() {
            if let Some(exchange) = self.exchanges.get(&name) {
                exchange.shared.bump();
            }
            let users = self.by_alternate.get(&name).into_iter().flatten();
            let bindings = self.by_destination.get(&Destination::Exchange(name));
            let sources = bindings.into_iter().flatten().map(|bound| &bound.source);
            for source in sources.chain(users) {
                if reached.insert(source.clone()) {
                    pending.push(source.clone());
                }
            }
        }
    }

    fn list_alternate(&mut self, alternate: Option<&Name>, user: &Name) {
        if let Some(alternate) = alternate {
            let users = self.by_alternate.entry_ref(alternate).or_default();
            users.insert(user.clone());
        }
    }

    pub(super) fn unlist_alternate(&mut self, alternate: Option<&Name>, user: &Name) {
        let Some(alternate) = alternate else {
            return;
        };
        let users = self.by_alternate.get_mut(alternate);
        let users = users.expect("an alternate is listed while an exchange has it");
        users.remove(user);
        if users.is_empty() {
            self.by_alternate.remove(alternate);
        }
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
pub(super) mod tests;
