//! The keys that a policy may set: whose they are, which queues know them, and which values they
//! take. Names and texts are RabbitMQ's.

use super::definition::Definition;
use crate::limits::{EXPIRY_MS_MAX, NAME_BYTES_MAX};
use crate::name::Name;
use crate::queue::{DeadLetterStrategy, Overflow};
use serde_json::Value;

/// Puts a value into the definition; `None` if it cannot be one.
type Take = fn(&Value, &mut Definition) -> Option<()>;

/// Which policies may set a key for classic queues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Classic {
    Any,
    /// Those that are for classic queues alone.
    Alone,
    Never,
}

pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) is_operators: bool,
    pub(super) classic: Classic,
    pub(super) quorum: bool,
    pub(super) take: Take,
    /// What a text says of a wrong value.
    pub(super) wrong: &'static str,
}

impl Key {
    /// One that users set, on queues of every type.
    const fn new(name: &'static str, wrong: &'static str, take: Take) -> Self {
        Self { name, is_operators: false, classic: Classic::Any, quorum: true, take, wrong }
    }

    /// Operators set it too.
    const fn operators(self) -> Self {
        Self { is_operators: true, ..self }
    }

    const fn classic_only(self) -> Self {
        Self { quorum: false, ..self }
    }

    const fn quorum_only(self) -> Self {
        Self { classic: Classic::Never, ..self }
    }

    /// One of RabbitMQ's quorum queues, and of all of ours.
    const fn quorum_at_first(self) -> Self {
        Self { classic: Classic::Alone, ..self }
    }

    const fn streams_only(self) -> Self {
        Self { classic: Classic::Never, quorum: false, ..self }
    }
}

pub(super) fn key(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Some have no effect here: they speak of replicas, of queue files, or of streams.
const KEYS: [Key; 32] = [
    Key::new("alternate-exchange", "is not a valid alternate exchange name", |it, to| {
        to.alternate = Some(name(it)?);
        Some(())
    }),
    Key::new("dead-letter-exchange", "is not a valid dead letter exchange name", |it, to| {
        to.values.dead_letter_exchange = Some(name(it)?);
        Some(())
    }),
    Key::new("dead-letter-routing-key", "is not a valid dead letter routing key", |it, to| {
        to.values.dead_letter_routing_key = Some(name(it)?);
        Some(())
    }),
    Key::new("dead-letter-strategy", "is not a valid dead letter strategy", |it, to| {
        to.values.dead_letter_strategy = Some(DeadLetterStrategy::from_name(it.as_str()?)?);
        Some(())
    })
    .quorum_at_first(),
    Key::new("message-ttl", "is not a valid message TTL", |it, to| {
        to.values.message_ttl_ms = Some(period(it)?);
        Some(())
    })
    .operators(),
    Key::new("expires", "is not a valid queue expiry", |it, to| {
        to.values.expires_ms = Some(period(it).filter(|ms| *ms > 0)?);
        Some(())
    })
    .operators(),
    Key::new("max-length", "is not a valid maximum length", |it, to| {
        to.values.max_length = Some(it.as_u64()?);
        Some(())
    })
    .operators(),
    Key::new("max-length-bytes", "is not a valid maximum length in bytes", |it, to| {
        to.values.max_length_bytes = Some(it.as_u64()?);
        Some(())
    })
    .operators(),
    Key::new("max-in-memory-length", "is not a valid maximum memory in bytes", count)
        .operators()
        .quorum_only(),
    Key::new("max-in-memory-bytes", "is not a valid maximum memory in bytes", count)
        .operators()
        .quorum_only(),
    Key::new("overflow", "is not a valid overflow value", |it, to| {
        to.values.overflow = Some(Overflow::from_name(it.as_str()?)?);
        Some(())
    })
    .operators(),
    Key::new("delivery-limit", "is not a valid delivery limit", |it, to| {
        to.values.delivery_limit = Some(it.as_i64()?);
        Some(())
    })
    .operators()
    .quorum_at_first(),
    Key::new("consumer-timeout", "is not a valid consumer timeout", |it, to| {
        to.values.consumer_timeout_ms = Some(period(it)?);
        Some(())
    }),
    // Our own, and an operator's as RabbitMQ's `delayed-retry-min` and `-max` are.
    Key::new("retry-delay-min", "is not a valid minimum retry delay", |it, to| {
        to.values.retry_delay_ms_min = Some(period(it).filter(|ms| *ms > 0)?);
        Some(())
    })
    .operators(),
    Key::new("retry-delay-max", "is not a valid maximum retry delay", |it, to| {
        to.values.retry_delay_ms_max = Some(period(it).filter(|ms| *ms > 0)?);
        Some(())
    })
    .operators(),
    Key::new("expiry", "is not a valid expiry value", |it, to| {
        word(it, &["head", "exact"])?;
        to.values.exact_expiry = Some(it == "exact");
        Some(())
    }),
    Key::new("consumer-disconnected-timeout", "is not a valid consumer timeout", count)
        .quorum_only(),
    Key::new("queue-mode", "is not a valid queue-mode value", |it, _| {
        word(it, &["default", "lazy"])
    })
    .classic_only(),
    Key::new("queue-version", "is not a valid queue-version value", |it, _| {
        matches!(it.as_u64(), Some(1 | 2)).then_some(())
    })
    .operators(),
    Key::new("queue-leader-locator", "is not a valid queue leader locator value", |it, _| {
        word(it, &["client-local", "balanced", "random", "least-leaders", "min-masters"])
    }),
    Key::new("queue-master-locator", "invalid queue-master-locator value", |it, _| {
        word(it, &["min-masters", "client-local", "random"])
    })
    .classic_only(),
    Key::new("target-group-size", "is not a valid target group size", count)
        .operators()
        .quorum_only(),
    Key::new("ha-mode", "is not a valid ha-mode value", |it, _| {
        word(it, &["all", "exactly", "nodes"])
    })
    .classic_only(),
    Key::new("ha-params", "is not a valid ha-params value", |it, _| {
        (it.is_u64() || it.is_array()).then_some(())
    })
    .classic_only(),
    Key::new("ha-sync-mode", "is not a valid ha-sync-mode value", |it, _| {
        word(it, &["manual", "automatic"])
    })
    .classic_only(),
    Key::new("ha-sync-batch-size", "is not a valid ha-sync-batch-size value", count).classic_only(),
    Key::new("ha-promote-on-shutdown", "is not a valid ha-promote-on-shutdown value", |it, _| {
        word(it, &["always", "when-synced"])
    })
    .classic_only(),
    Key::new("ha-promote-on-failure", "is not a valid ha-promote-on-failure value", |it, _| {
        word(it, &["always", "when-synced"])
    })
    .classic_only(),
    Key::new("max-age", "is not a valid max age", |it, _| it.is_string().then_some(()))
        .streams_only(),
    Key::new("stream-max-segment-size-bytes", "is not a valid segment size", count).streams_only(),
    Key::new("stream-filter-size-bytes", "is not a valid filter size", count).streams_only(),
    Key::new("initial-cluster-size", "is not a valid cluster size", count).streams_only(),
];

fn count(value: &Value, _: &mut Definition) -> Option<()> {
    value.as_u64().map(drop)
}

/// A time in milliseconds. RabbitMQ takes any; beyond the longest expiry they are all the same.
fn period(value: &Value) -> Option<u64> {
    value.as_u64().map(|ms| ms.min(EXPIRY_MS_MAX.unsigned_abs()))
}

fn word(value: &Value, words: &[&str]) -> Option<()> {
    words.contains(&value.as_str()?).then_some(())
}

/// Names and routing keys are shortstrs on the wire.
fn name(value: &Value) -> Option<Name> {
    value.as_str().filter(|name| name.len() <= NAME_BYTES_MAX).map(Name::new)
}
