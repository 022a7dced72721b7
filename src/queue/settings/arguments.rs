//! The arguments of queue.declare that mean something: which types of queue know them and which
//! values they take. Order and texts are RabbitMQ's; what is ours alone stands behind.
//!
//! A name that is not listed here is kept and means nothing.

use super::behaviour::{DeadLetterStrategy, Overflow, QueueType};
use super::{DURABILITY, QUEUE_TYPE, QueueSettings};
use crate::config::Durability;
use crate::deduplication;
use crate::exception::{Exception, Resource};
use crate::limits::{DEDUPLICATION_CACHE_MAX, EXPIRY_MS_MAX, NAME_BYTES_MAX};
use crate::table::{TableRef, Value};

/// Why a value is refused, as RabbitMQ prints it.
type Checked = Result<(), String>;

struct Argument {
    name: &'static str,
    classic: bool,
    quorum: bool,
    /// Is given all arguments too.
    check: fn(Value<'_>, TableRef<'_>) -> Checked,
}

const fn both(name: &'static str, check: fn(Value<'_>, TableRef<'_>) -> Checked) -> Argument {
    Argument { name, classic: true, quorum: true, check }
}

const fn classic(name: &'static str, check: fn(Value<'_>, TableRef<'_>) -> Checked) -> Argument {
    Argument { name, classic: true, quorum: false, check }
}

const fn quorum(name: &'static str, check: fn(Value<'_>, TableRef<'_>) -> Checked) -> Argument {
    Argument { name, classic: false, quorum: true, check }
}

/// One that only streams know.
const fn stream(name: &'static str, check: fn(Value<'_>, TableRef<'_>) -> Checked) -> Argument {
    Argument { name, classic: false, quorum: false, check }
}

const ARGUMENTS: [Argument; 36] = [
    both(QUEUE_TYPE, |value, _| known_queue_type(value)),
    both("x-expires", |value, _| period(value, 1)),
    both("x-message-ttl", |value, _| period(value, 0)),
    both("x-dead-letter-exchange", |value, _| short_name(value)),
    both("x-dead-letter-routing-key", dead_letter_routing_key),
    both("x-dead-letter-strategy", |value, _| {
        one_of(value, "invalid_dlx_strategy", |it| DeadLetterStrategy::from_name(it).is_some())
    }),
    both("x-max-length", |value, _| at_least(value, 0)),
    both("x-max-length-bytes", |value, _| at_least(value, 0)),
    quorum("x-max-in-memory-length", |value, _| at_least(value, 0)),
    quorum("x-max-in-memory-bytes", |value, _| at_least(value, 0)),
    classic("x-max-priority", |value, _| at_most(value, 0, 255)),
    both("x-overflow", |value, _| {
        one_of(value, "invalid_overflow", |it| Overflow::from_name(it).is_some())
    }),
    // RabbitMQ 4: there are no lazy queues any more.
    classic("x-queue-mode", |_, _| Ok(())),
    classic("x-queue-version", |value, _| queue_version(value)),
    both("x-single-active-consumer", |value, _| boolean(value)),
    both("x-consumer-timeout", |value, _| at_least(value, 0)),
    quorum("x-consumer-disconnected-timeout", |value, _| at_least(value, 0)),
    quorum("x-quorum-initial-group-size", |value, _| at_least(value, 1)),
    stream("x-max-age", |value, _| one_of(value, "invalid_max_age", is_age)),
    stream("x-stream-max-segment-size-bytes", |value, _| at_least(value, 0)),
    stream("x-stream-filter-size-bytes", |value, _| at_least(value, 16)),
    stream("x-initial-cluster-size", |value, _| at_least(value, 1)),
    both("x-queue-leader-locator", |value, _| {
        one_of(value, "invalid_queue_locator_arg", |it| LOCATORS.contains(&it))
    }),
    classic("x-queue-master-locator", |_, _| Ok(())),
    both("x-delivery-limit", |value, _| integer(value).map(drop)),
    both(DURABILITY, |value, _| durability(value)),
    both("x-expiry", |value, _| {
        one_of(value, "invalid_expiry", |it| matches!(it, "head" | "exact"))
    }),
    both("x-retry-delay-min", |value, _| period(value, 1)),
    both("x-retry-delay-max", retry_delay_max),
    both("x-group-key", |value, arguments| {
        header_name(value)?;
        let by_priority = ("x-max-priority", "group_key_but_max_priority_defined");
        let delayed = ("x-retry-delay-min", "group_key_but_retry_delay_min_defined");
        none_of(arguments, &[by_priority, delayed])
    }),
    both("x-fair-key", |value, arguments| {
        header_name(value)?;
        let by_priority = ("x-max-priority", "fair_key_but_max_priority_defined");
        let delayed = ("x-retry-delay-min", "fair_key_but_retry_delay_min_defined");
        let by_group = ("x-group-key", "fair_key_but_group_key_defined");
        none_of(arguments, &[by_priority, delayed, by_group])
    }),
    both(deduplication::ENABLED, |value, _| boolean(value)),
    both(deduplication::CACHE_SIZE, |value, _| at_most(value, 1, DEDUPLICATION_CACHE_MAX)),
    both(deduplication::CACHE_TTL, |value, _| period(value, 1)),
    both(deduplication::CACHE_PERSISTENCE, |value, _| {
        one_of(value, "invalid_cache_persistence", |it| matches!(it, "disk" | "memory"))
    }),
    both(deduplication::HEADER, |value, _| header_name(value)),
];

const LOCATORS: [&str; 5] = ["client-local", "balanced", "random", "least-leaders", "min-masters"];

/// The names that a queue of this type knows, in the order in which RabbitMQ compares them.
pub(super) fn known(kind: QueueType) -> impl Iterator<Item = &'static str> {
    let arguments = ARGUMENTS.iter().filter(move |argument| argument.is_known_to(kind));
    arguments.map(|argument| argument.name)
}

/// `None` for a type that there is not.
pub(super) fn queue_type(arguments: TableRef<'_>) -> Option<QueueType> {
    match arguments.get(QUEUE_TYPE.as_bytes()) {
        None => Some(QueueType::Classic),
        Some(value) => QueueType::from_name(value.as_str()?),
    }
}

impl Argument {
    fn check(&self, arguments: TableRef<'_>, resource: Resource<'_>) -> Result<(), Exception> {
        let Some(value) = arguments.get(self.name.as_bytes()) else { return Ok(()) };
        (self.check)(value, arguments)
            .map_err(|reason| Exception::invalid_argument(self.name, resource, &reason))
    }

    fn is_known_to(&self, kind: QueueType) -> bool {
        match kind {
            QueueType::Classic => self.classic,
            QueueType::Quorum => self.quorum,
        }
    }
}

impl QueueSettings {
    /// Checks the arguments of a queue that is new: every value, then whether the type knows them,
    /// then whether the type can be what the flags say.
    ///
    /// # Errors
    /// 406 for the first that is wrong.
    pub fn check_arguments(&self, queue: Resource<'_>) -> Result<(), Exception> {
        let arguments = self.arguments.as_ref();
        ARGUMENTS.iter().try_for_each(|argument| argument.check(arguments, queue))?;
        let kind = self.queue_type();
        let of_another_type = |key: &[u8]| {
            ARGUMENTS.iter().find(|it| it.name.as_bytes() == key && !it.is_known_to(kind))
        };
        match arguments.iter().find_map(|(key, _)| of_another_type(key)) {
            Some(argument) => {
                Err(Exception::argument_of_another_type(argument.name, queue, kind.module()))
            }
            None => self.check_flags(queue),
        }
    }

    /// RabbitMQ: a quorum queue is there for everybody, and for good.
    fn check_flags(&self, queue: Resource<'_>) -> Result<(), Exception> {
        if self.queue_type() == QueueType::Classic {
            return Ok(());
        }
        let refused = [
            ("auto-delete", self.auto_delete),
            ("exclusive-owner", self.exclusive_owner.is_some()),
            ("non-durable", !self.durable),
        ];
        let property = refused.into_iter().find(|(_, refused)| *refused);
        property.map_or(Ok(()), |(name, _)| Err(Exception::invalid_property(name, queue)))
    }
}

/// Checks those arguments of an exchange that it has in common with queues, whatever its type.
///
/// # Errors
/// 406 for the first that is wrong.
pub fn check_deduplication(
    arguments: TableRef<'_>,
    exchange: Resource<'_>,
) -> Result<(), Exception> {
    let mut about = ARGUMENTS.iter().filter(|it| deduplication::ARGUMENTS.contains(&it.name));
    about.try_for_each(|argument| argument.check(arguments, exchange))
}

fn unacceptable(value: Value<'_>) -> String {
    format!("{{unacceptable_type,{}}}", value.kind())
}

fn integer(value: Value<'_>) -> Result<i64, String> {
    let wrong = || format!("\"expected integer, got {}\"", value.kind());
    value.as_int().ok_or_else(wrong)
}

fn at_least(value: Value<'_>, min: i64) -> Checked {
    match integer(value)? {
        n if n < 0 => Err(format!("{{value_negative,{n}}}")),
        n if n >= min => Ok(()),
        0 => Err("{value_zero,0}".to_owned()),
        n => Err(format!("{{value_too_small,{n}}}")),
    }
}

fn at_most(value: Value<'_>, min: i64, max: i64) -> Checked {
    at_least(value, min)?;
    match integer(value)? {
        n if n > max => Err(format!("{{max_value_exceeded,{n}}}")),
        _ => Ok(()),
    }
}

/// A time in milliseconds.
fn period(value: Value<'_>, min: i64) -> Checked {
    at_least(value, min)?;
    match integer(value)? {
        n if n > EXPIRY_MS_MAX => Err(format!("{{value_too_large,{n}}}")),
        _ => Ok(()),
    }
}

fn boolean(value: Value<'_>) -> Checked {
    if matches!(value, Value::Bool(_)) { Ok(()) } else { Err(unacceptable(value)) }
}

/// Bytes that are not UTF-8 name nothing there is, but are a string all the same.
fn longstr(value: Value<'_>) -> Result<&[u8], String> {
    match value {
        Value::LongStr(bytes) => Ok(bytes),
        other => Err(unacceptable(other)),
    }
}

fn one_of(value: Value<'_>, refused: &str, is_one: impl Fn(&str) -> bool) -> Checked {
    longstr(value)?;
    if value.as_str().is_some_and(is_one) { Ok(()) } else { Err(refused.to_owned()) }
}

fn known_queue_type(value: Value<'_>) -> Checked {
    let name = String::from_utf8_lossy(longstr(value)?);
    match QueueType::from_name(&name) {
        Some(_) => Ok(()),
        None if name == "stream" => Err("\"streams are not there in this version\"".to_owned()),
        None => Err(format!("\"unsupported queue type '{name}'\"")),
    }
}

fn queue_version(value: Value<'_>) -> Checked {
    at_least(value, 0)?;
    match integer(value)? {
        1 | 2 => Ok(()),
        n => Err(format!("\"unsupported queue version '{n}'\"")),
    }
}

/// A name that a message can carry on the wire: a longer one would be nobody's.
fn short_name(value: Value<'_>) -> Checked {
    let name = longstr(value)?;
    match String::from_utf8_lossy(name).len() {
        0..=NAME_BYTES_MAX => Ok(()),
        _ => Err(format!("{{value_too_long,{}}}", name.len())),
    }
}

fn dead_letter_routing_key(value: Value<'_>, arguments: TableRef<'_>) -> Checked {
    short_name(value)?;
    match arguments.get(b"x-dead-letter-exchange") {
        Some(_) => Ok(()),
        None => Err("routing_key_but_no_dlx_defined".to_owned()),
    }
}

fn durability(value: Value<'_>) -> Checked {
    let word = String::from_utf8_lossy(longstr(value)?);
    let known = word.parse::<Durability>();
    known.map(drop).map_err(|_| format!("\"unsupported durability '{word}'\""))
}

fn retry_delay_max(value: Value<'_>, arguments: TableRef<'_>) -> Checked {
    period(value, 1)?;
    let min = arguments.get(b"x-retry-delay-min").and_then(Value::as_int);
    match (min, integer(value)?) {
        (None, _) => Err("retry_delay_max_but_no_min_defined".to_owned()),
        (Some(min), n) if n < min => Err(format!("{{value_too_small,{n}}}")),
        _ => Ok(()),
    }
}

/// The keys of a message's headers are shortstrs.
fn header_name(value: Value<'_>) -> Checked {
    let name = longstr(value)?;
    let is_short = (1..=NAME_BYTES_MAX).contains(&name.len());
    if is_short && std::str::from_utf8(name).is_ok() {
        Ok(())
    } else {
        Err("invalid_header_name".to_owned())
    }
}

/// What asks for another order of delivery is refused: a queue has one.
fn none_of(arguments: TableRef<'_>, others: &[(&str, &str)]) -> Checked {
    let other = others.iter().find(|(name, _)| arguments.get(name.as_bytes()).is_some());
    other.map_or(Ok(()), |(_, reason)| Err((*reason).to_owned()))
}

/// `7D`: a number above zero and one of RabbitMQ's units.
fn is_age(text: &str) -> bool {
    let Some((digits, unit)) = text.split_at_checked(text.len().saturating_sub(1)) else {
        return false;
    };
    let number = digits.bytes().all(|digit| digit.is_ascii_digit());
    number && digits.parse().is_ok_and(|n: u64| n > 0) && "YMDhms".contains(unit)
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
