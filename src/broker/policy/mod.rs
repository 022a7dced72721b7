//! Policies: what an operator says about all queues and exchanges whose names match a pattern.
//!
//! ```text
//! set, clear -> definition (keys) -> parameter, recorded -> `Policies` of the vhost
//!                                                               |
//!      every queue and exchange of the vhost, in bounded steps <-+-> what is declared from now on
//! ```
//! One policy and one operator's apply to an object: the first that matches, by priority. How their
//! values and the arguments become one is `queue`'s (`settings`).

mod change;
mod definition;
mod keys;
mod pattern;
mod stored;
mod term;
#[cfg(test)]
mod tests;
mod unapplied;

pub use change::{PolicyView, Refused, SetPolicy};

use crate::name::Name;
use crate::queue::{Behaviour, PolicyValues, QueueSettings, QueueType};
use definition::Definition;
use pattern::Pattern;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use unapplied::Unapplied;

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    User,
    /// Limits what users' policies and arguments may ask for.
    Operator,
}

/// Of what a policy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApplyTo {
    All,
    Queues,
    ClassicQueues,
    QuorumQueues,
    Streams,
    Exchanges,
}

/// One policy, checked and ready to match.
#[derive(Debug)]
pub(super) struct Policy {
    name: Name,
    pattern: Pattern,
    apply_to: ApplyTo,
    priority: i64,
    definition: Definition,
}

/// The policies of a vhost, those of a level in the order in which they are asked: by priority, the
/// highest first. RabbitMQ leaves ties to chance; here the name decides, the lowest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    user: Vec<Arc<Policy>>,
    operator: Vec<Arc<Policy>>,
    /// By component and name; none has the name of a policy that applies.
    unapplied: BTreeMap<(String, String), Unapplied>,
}

impl Level {
    /// As a runtime parameter's component.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            Self::User => "policy",
            Self::Operator => "operator_policy",
        }
    }

    fn verb_to_clear(self) -> &'static str {
        match self {
            Self::User => "clear_policy",
            Self::Operator => "clear_operator_policy",
        }
    }

    fn from_component(component: &str) -> Option<Self> {
        [Self::User, Self::Operator].into_iter().find(|level| level.component() == component)
    }
}

impl ApplyTo {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "all" => Self::All,
            "queues" => Self::Queues,
            "classic_queues" => Self::ClassicQueues,
            "quorum_queues" => Self::QuorumQueues,
            "streams" => Self::Streams,
            "exchanges" => Self::Exchanges,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
            Self::Exchanges => "exchanges",
        }
    }

    fn is_for(self, kind: QueueType) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::ClassicQueues => kind == QueueType::Classic,
            Self::QuorumQueues => kind == QueueType::Quorum,
            Self::Streams | Self::Exchanges => false,
        }
    }

    fn is_for_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }
}

impl Policy {
    /// RabbitMQ: one key that the queue's type does not know, and the policy is not for it at all.
    fn is_for_queue(&self, name: &str, kind: QueueType) -> bool {
        self.apply_to.is_for(kind)
            && self.definition.is_known_to(kind, self.apply_to == ApplyTo::ClassicQueues)
            && self.pattern.matches(name)
    }

    fn is_for_exchange(&self, name: &str) -> bool {
        self.apply_to.is_for_exchanges() && self.pattern.matches(name)
    }
}

impl Policies {
    /// Adds a policy in place of the one of that name.
    fn insert(&mut self, level: Level, policy: Policy) {
        self.remove(level, &policy.name);
        let list = self.list_mut(level);
        let key = |policy: &Policy| (Reverse(policy.priority), policy.name.clone());
        let place = list.partition_point(|other| key(other) < key(&policy));
        list.insert(place, Arc::new(policy));
    }

    /// Removes the policy of that name, be it one that does not apply. False if there is none.
    fn remove(&mut self, level: Level, name: &str) -> bool {
        let list = self.list_mut(level);
        let before = list.len();
        list.retain(|policy| *policy.name != *name);
        list.len() < before || self.drop_unapplied(level, name)
    }

    fn list(&self, level: Level) -> &[Arc<Policy>] {
        match level {
            Level::User => &self.user,
            Level::Operator => &self.operator,
        }
    }

    fn list_mut(&mut self, level: Level) -> &mut Vec<Arc<Policy>> {
        match level {
            Level::User => &mut self.user,
            Level::Operator => &mut self.operator,
        }
    }

    fn policy_of_queue(&self, level: Level, name: &str, kind: QueueType) -> Option<&Arc<Policy>> {
        self.list(level).iter().find(|policy| policy.is_for_queue(name, kind))
    }

    /// What a queue of that name does.
    pub(super) fn behaviour(&self, name: &str, settings: &QueueSettings) -> Behaviour {
        Behaviour::new(settings, &self.values_of_queue(name, settings.queue_type()))
    }

    /// What both levels say about a queue.
    fn values_of_queue(&self, name: &str, kind: QueueType) -> PolicyValues {
        let values = |level| {
            let policy = self.policy_of_queue(level, name, kind);
            policy.map(|policy| &policy.definition.values)
        };
        match (values(Level::User), values(Level::Operator)) {
            (Some(user), Some(operator)) => user.under(operator),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => PolicyValues::default(),
        }
    }

    /// Where the exchange's messages go that match no binding. RabbitMQ: the default exchange has
    /// no alternate.
    pub(super) fn alternate_of_exchange(&self, name: &str) -> Option<Name> {
        if name.is_empty() {
            return None;
        }
        let policy = self.user.iter().find(|policy| policy.is_for_exchange(name));
        policy.and_then(|policy| policy.definition.alternate.clone())
    }
}
