//! What a queue does: its arguments and the policies that apply, as one value.

use super::policy_values::PolicyValues;
use super::{QueueSettings, arguments};
use crate::deduplication::Deduplication;
use crate::limits::{EXPIRY_MS_MAX, NAME_BYTES_MAX, QUORUM_DELIVERY_LIMIT};
use crate::name::Name;
use crate::table::{TableRef, Value};
use std::sync::{Arc, LazyLock};

/// The types of queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    #[default]
    Classic,
    Quorum,
}

impl QueueType {
    /// RabbitMQ: an empty name and "undefined" are the default type.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "classic" | "" | "undefined" => Some(Self::Classic),
            "quorum" => Some(Self::Quorum),
            _ => None,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// As RabbitMQ's texts call it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// What happens when a queue would get longer than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest messages go.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
}

/// How sure it is that a dead letter arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    #[default]
    AtMostOnce,
    AtLeastOnce,
}

impl DeadLetterStrategy {
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "at-most-once" => Some(Self::AtMostOnce),
            "at-least-once" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

/// Where messages go that end unacknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Need not exist; empty is the default exchange.
    pub exchange: Name,
    /// In place of the message's own.
    pub routing_key: Option<Name>,
    pub strategy: DeadLetterStrategy,
}

/// What a queue does. Where nothing is said, nothing is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub kind: QueueType,
    /// Unused for this long, the queue ends.
    pub expires_ms: Option<u64>,
    /// What a new message's deadline is counted from, beside its own expiration.
    pub message_ttl_ms: Option<u64>,
    /// Messages expire wherever they are in the queue, not only at its head.
    pub exact_expiry: bool,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: Overflow,
    pub dead_letter: Option<DeadLetter>,
    /// The highest priority; there is one level more.
    pub max_priority: Option<u8>,
    pub single_active_consumer: bool,
    /// Failed deliveries beyond this end a message.
    pub delivery_limit: Option<u64>,
    pub consumer_timeout_ms: Option<u64>,
    /// How long a message that failed waits: the first time, and at most, which is no less.
    pub retry_delay_ms: Option<(u64, u64)>,
    /// The header by which messages are delivered in order, one at a time.
    pub group_key: Option<Name>,
    /// The header by which consumers' time is shared evenly.
    pub fair_key: Option<Name>,
    pub deduplication: Option<Deduplication>,
}

/// What most queues do, which they share.
static USUAL: LazyLock<Arc<Behaviour>> = LazyLock::new(Arc::default);

impl Behaviour {
    /// Shared with the other queues that do nothing special.
    #[must_use]
    pub fn shared(self) -> Arc<Self> {
        if self == **USUAL { Arc::clone(&USUAL) } else { Arc::new(self) }
    }

    /// What a queue does of which nothing is said.
    #[must_use]
    pub fn usual() -> Arc<Self> {
        Arc::clone(&USUAL)
    }

    /// What a queue with these settings does under that policy, an operator's merged in.
    ///
    /// RabbitMQ: of two limits the smaller counts, of two words the argument. A stored argument
    /// that no declare lets through says nothing.
    #[must_use]
    pub fn new(settings: &QueueSettings, policy: &PolicyValues) -> Self {
        let arguments = Arguments(settings.arguments.as_ref());
        let kind = arguments::queue_type(arguments.0).unwrap_or_default();
        let overflow = overflow(kind, arguments, policy);
        Self {
            kind,
            expires_ms: least(arguments.period("x-expires"), policy.expires_ms),
            message_ttl_ms: least(arguments.period("x-message-ttl"), policy.message_ttl_ms),
            exact_expiry: arguments
                .text("x-expiry")
                .map_or_else(|| policy.exact_expiry == Some(true), |word| word == "exact"),
            max_length: least(arguments.count("x-max-length"), policy.max_length),
            max_length_bytes: least(arguments.count("x-max-length-bytes"), policy.max_length_bytes),
            overflow,
            dead_letter: dead_letter(arguments, policy),
            max_priority: arguments
                .count("x-max-priority")
                // RabbitMQ: zero counts as one.
                .and_then(|n| u8::try_from(n.max(1)).ok()),
            single_active_consumer: arguments.is_set("x-single-active-consumer"),
            delivery_limit: delivery_limit(kind, arguments, policy),
            consumer_timeout_ms: least(
                arguments.period("x-consumer-timeout"),
                policy.consumer_timeout_ms,
            ),
            retry_delay_ms: retry_delay_ms(arguments, policy),
            group_key: arguments.text("x-group-key").map(Name::new),
            fair_key: arguments.text("x-fair-key").map(Name::new),
            deduplication: Deduplication::of(arguments.0),
        }
    }
}

fn least(argument: Option<u64>, policy: Option<u64>) -> Option<u64> {
    [argument, policy].into_iter().flatten().min()
}

/// RabbitMQ 4: a negative limit is none, and quorum queues have one if nothing is said.
fn delivery_limit(kind: QueueType, arguments: Arguments<'_>, policy: &PolicyValues) -> Option<u64> {
    let argument = arguments.integer("x-delivery-limit");
    match PolicyValues::delivery_limit_of(argument, policy.delivery_limit) {
        Some(limit) => u64::try_from(limit).ok(),
        None => (kind == QueueType::Quorum).then_some(QUORUM_DELIVERY_LIMIT),
    }
}

/// Whoever gives the least alone wants every wait to be that long.
fn retry_delay_ms(arguments: Arguments<'_>, policy: &PolicyValues) -> Option<(u64, u64)> {
    let min = least(arguments.period("x-retry-delay-min"), policy.retry_delay_ms_min)?;
    let max = least(arguments.period("x-retry-delay-max"), policy.retry_delay_ms_max);
    Some((min, max.map_or(min, |max| max.max(min))))
}

fn overflow(kind: QueueType, arguments: Arguments<'_>, policy: &PolicyValues) -> Overflow {
    let argument = arguments.text("x-overflow").and_then(Overflow::from_name);
    match argument.or(policy.overflow).unwrap_or_default() {
        // RabbitMQ: quorum queues do not dead-letter what they refuse.
        Overflow::RejectPublishDlx if kind == QueueType::Quorum => Overflow::DropHead,
        overflow => overflow,
    }
}

fn dead_letter(arguments: Arguments<'_>, policy: &PolicyValues) -> Option<DeadLetter> {
    let name = |key, policy: &Option<Name>| arguments.name(key).or_else(|| policy.clone());
    let exchange = name("x-dead-letter-exchange", &policy.dead_letter_exchange)?;
    let strategy = arguments.text("x-dead-letter-strategy");
    let strategy = strategy.and_then(DeadLetterStrategy::from_name);
    let strategy = strategy.or(policy.dead_letter_strategy);
    Some(DeadLetter {
        exchange,
        routing_key: name("x-dead-letter-routing-key", &policy.dead_letter_routing_key),
        strategy: strategy.unwrap_or_default(),
    })
}

/// Reads arguments by name.
#[derive(Clone, Copy)]
struct Arguments<'a>(TableRef<'a>);

impl<'a> Arguments<'a> {
    fn get(self, key: &str) -> Option<Value<'a>> {
        self.0.get(key.as_bytes())
    }

    fn integer(self, key: &str) -> Option<i64> {
        self.get(key)?.as_int()
    }

    fn count(self, key: &str) -> Option<u64> {
        u64::try_from(self.integer(key)?).ok()
    }

    /// A time in milliseconds; what is longer than the longest expiry never comes either way.
    fn period(self, key: &str) -> Option<u64> {
        self.count(key).map(|ms| ms.min(EXPIRY_MS_MAX.unsigned_abs()))
    }

    fn text(self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// Bytes that are not UTF-8 name no exchange either way.
    fn name(self, key: &str) -> Option<Name> {
        let Value::LongStr(bytes) = self.get(key)? else { return None };
        let name = String::from_utf8_lossy(bytes);
        (name.len() <= NAME_BYTES_MAX).then(|| Name::new(&name))
    }

    fn is_set(self, key: &str) -> bool {
        self.get(key) == Some(Value::Bool(true))
    }
}

#[cfg(test)]
#[path = "behaviour_tests.rs"]
mod tests;
