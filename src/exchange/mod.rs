//! Routing: which queues a message reaches. Pure: names, keys and tables in, queue ids out.
//!
//! ```text
//! publish -> route_cache -- hit ------------------------------> what the last route resolved to
//!                |
//!               miss -> router: exchange -> matcher -> { queues, exchanges } -> exchange -> ...
//!                          (a worklist over topology; an alternate exchange where nothing matched)
//! ```
//! `topology` owns the exchanges and bindings of one vhost; `matcher` is the exchange's type, one
//! file each (`direct`, `fanout`, `topic` over `trie`, `headers` over `header_fields`), or
//! `plugged`: a router of a type that `registry` has from a plugin, which sees messages through
//! `fields` and may have a `history`; or `delayed`, another type with a queue before it. Queues are
//! ids here; whether one exists, and who may bind it, is the caller's business. So is the default
//! exchange: its keys are queue names, which this module does not know.

mod binding;
mod delayed;
mod direct;
mod fanout;
mod fields;
mod header_fields;
mod headers;
mod history;
mod matcher;
mod plugged;
mod registry;
mod removal;
mod route_cache;
mod router;
mod shared;
mod targets;
mod topic;
mod topology;
mod trie;

pub use binding::{Binding, Destination};
pub use delayed::{DELAYED, DelayedKind, waited};
pub use fields::api_table;
pub use headers::check_headers_binding;
pub use history::{History, Remembered};
pub use registry::{ExchangeTypes, NameTaken, PluggedType};
pub use removal::{Removed, RemovedExchange};
pub use route_cache::{Live, RouteCache, Validity};
pub use router::{Published, RouteScratch, Routed};
pub use shared::ExchangeShared;
pub use topology::{Declared, Exchange, Topology};

use crate::deduplication::{self, Deduplication};
use crate::exception::{Exception, Resource};
use crate::id::{CacheId, QueueId};
use crate::name::Name;
use crate::table::{Table, TableRef, Value};

const ALTERNATE_EXCHANGE: &str = "alternate-exchange";

/// An exchange's type. Two are equal if their names are.
#[derive(Clone, Debug)]
pub enum Kind {
    Direct,
    Fanout,
    Topic,
    Headers,
    /// A fanout that leaves out duplicates, as the type of RabbitMQ's plugin is.
    Deduplicating,
    /// One that a plugin brought.
    Plugged(PluggedType),
    /// It holds messages back first.
    Delayed(Box<DelayedKind>),
    /// The type of a stored exchange whose plugin is not there any more.
    Missing(Name),
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Kind {}

impl Kind {
    /// A type of the core.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            deduplication::ENABLED => Self::Deduplicating,
            _ => return None,
        })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::Deduplicating => deduplication::ENABLED,
            Self::Plugged(plugged) => &plugged.name,
            Self::Delayed(_) => DELAYED,
            Self::Missing(name) => name,
        }
    }

    /// The type that chooses among the bindings.
    #[must_use]
    pub fn routes(&self) -> &Self {
        match self {
            Self::Delayed(delayed) => &delayed.routes,
            other => other,
        }
    }

    /// Where messages wait before that, if they do.
    #[must_use]
    pub fn delay_queue(&self) -> Option<QueueId> {
        match self {
            Self::Delayed(delayed) => Some(delayed.queue),
            _ => None,
        }
    }
}

/// What an exchange was declared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub kind: Kind,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    /// As the client sent them; `alternate` and a plugged type are read from them.
    pub arguments: Table,
    /// What `alternate_exchange` found in `arguments`.
    pub alternate: Option<Name>,
    /// Which cache is its own, if its arguments ask for one.
    pub cache: Option<CacheId>,
}

impl Settings {
    /// A durable exchange without arguments, as the predeclared ones are.
    #[must_use]
    pub fn durable(kind: Kind) -> Self {
        Self {
            kind,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
            alternate: None,
            cache: None,
        }
    }

    /// What it is to remember of its publishes.
    #[must_use]
    pub fn deduplication(&self) -> Option<Deduplication> {
        match self.kind {
            Kind::Deduplicating => Some(Deduplication::of_type(self.arguments.as_ref())),
            _ => Deduplication::of(self.arguments.as_ref()),
        }
    }

    /// Whether a declaration with `received` finds what it asks for.
    ///
    /// # Errors
    /// The first difference, as a channel exception.
    pub fn check_equivalent(
        &self,
        received: &Self,
        resource: Resource<'_>,
    ) -> Result<(), Exception> {
        if received.kind != self.kind {
            let (received, current) = (received.kind.name(), self.kind.name());
            return Err(Exception::inequivalent("type", resource, received, current));
        }
        let flags = [
            ("durable", received.durable, self.durable),
            ("auto_delete", received.auto_delete, self.auto_delete),
            ("internal", received.internal, self.internal),
        ];
        for (flag, received, current) in flags {
            if received != current {
                let (received, current) = (received.to_string(), current.to_string());
                return Err(Exception::inequivalent(flag, resource, &received, &current));
            }
        }
        // RabbitMQ: every other argument of its own is ignored when an exchange is declared again.
        // This one may be of a type that no new exchange can have.
        let [received, current] =
            [received, self].map(|side| side.arguments.as_ref().get(ALTERNATE_EXCHANGE.as_bytes()));
        if Value::are_equivalent(received, current) {
            return Ok(());
        }
        let (received, current) =
            (received.map(Value::argument_text), current.map(Value::argument_text));
        let (received, current) = (received.as_ref(), current.as_ref());
        Err(Exception::inequivalent_argument(ALTERNATE_EXCHANGE, resource, received, current))
    }
}

/// The `alternate-exchange` argument. The exchange it names need not exist.
///
/// # Errors
/// The argument is no longstr.
pub fn alternate_exchange(
    arguments: TableRef<'_>,
    resource: Resource<'_>,
) -> Result<Option<Name>, Exception> {
    match arguments.get(ALTERNATE_EXCHANGE.as_bytes()) {
        None => Ok(None),
        // Bytes that are not UTF-8 name no exchange either way.
        Some(Value::LongStr(name)) => Ok(Some(Name::new(&String::from_utf8_lossy(name)))),
        Some(other) => Err(Exception::invalid_type(other.kind(), ALTERNATE_EXCHANGE, resource)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableBuilder;

    const EXCHANGE: Resource<'_> = Resource::Exchange { vhost: "/", name: "e2" };

    #[test]
    fn an_alternate_exchange_is_a_longstr() {
        let arguments = |value| TableBuilder::new().put(b"alternate-exchange", value).finish();
        let valid = arguments(Value::LongStr(b"ae"));
        assert_eq!(alternate_exchange(valid.as_ref(), EXCHANGE).unwrap(), Some(Name::new("ae")));
        assert_eq!(alternate_exchange(TableRef::EMPTY, EXCHANGE).unwrap(), None);
        let wrong = arguments(Value::I32(5));
        assert_eq!(
            alternate_exchange(wrong.as_ref(), EXCHANGE).unwrap_err().text(),
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in \
             exchange 'e2' in vhost '/'"
        );
    }

    #[test]
    fn the_first_difference_of_a_redeclaration_is_named() {
        let current = Settings::durable(Kind::Direct);
        let text = |received: &Settings| {
            let error = current.check_equivalent(received, EXCHANGE).unwrap_err();
            error.explanation().to_owned()
        };
        let alternate = |value| TableBuilder::new().put(b"alternate-exchange", value).finish();
        let mut received = Settings {
            kind: Kind::Topic,
            durable: false,
            auto_delete: true,
            internal: true,
            arguments: Table::default(),
            alternate: None,
            cache: None,
        };
        received.arguments = alternate(Value::LongStr(b"ae"));
        let prefix = "for exchange 'e2' in vhost '/': received";
        assert_eq!(
            text(&received),
            format!("inequivalent arg 'type' {prefix} 'topic' but current is 'direct'")
        );
        received.kind = Kind::Direct;
        assert_eq!(
            text(&received),
            format!("inequivalent arg 'durable' {prefix} 'false' but current is 'true'")
        );
        received.durable = true;
        assert_eq!(
            text(&received),
            format!("inequivalent arg 'auto_delete' {prefix} 'true' but current is 'false'")
        );
        received.auto_delete = false;
        assert_eq!(
            text(&received),
            format!("inequivalent arg 'internal' {prefix} 'true' but current is 'false'")
        );
        received.internal = false;
        assert_eq!(
            text(&received),
            format!(
                "inequivalent arg 'alternate-exchange' {prefix} the value 'ae' of type 'longstr' \
                 but current is none"
            )
        );
        received.arguments = alternate(Value::I32(5));
        assert_eq!(
            text(&received),
            format!(
                "inequivalent arg 'alternate-exchange' {prefix} the value '5' of type 'signedint' \
                 but current is none"
            )
        );
        received.arguments = TableBuilder::new().put(b"x-other", Value::Void).finish();
        assert_eq!(current.check_equivalent(&received, EXCHANGE), Ok(()));
    }

    #[test]
    fn a_type_comes_back_from_its_name() {
        for kind in [Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers, Kind::Deduplicating] {
            assert_eq!(Kind::from_name(kind.name()), Some(kind.clone()));
        }
        assert_eq!(Kind::from_name("Direct"), None);
    }
}
