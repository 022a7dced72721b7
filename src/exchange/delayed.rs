//! `x-delayed-message`: an exchange of another type that holds messages back for as long as their
//! headers say. What waits is in a queue of the exchange's own, which nobody else can name.
//!
//! A message that waits is routed when its time has come; its headers are negated then, so that no
//! exchange delays it again.

use super::Kind;
use super::matcher::Matcher;
use super::registry::ExchangeTypes;
use crate::deduplication;
use crate::exception::Exception;
use crate::id::QueueId;
use crate::table::{TableBuilder, TableRef, Value};
use crate::time::{Delay, UnixMillis};

/// The name of the type.
pub const DELAYED: &str = "x-delayed-message";

const DELAYED_TYPE: &[u8] = b"x-delayed-type";
/// Milliseconds to wait.
const FOR: &[u8] = b"x-delay";
/// Unix milliseconds to wait for; ours, and it beats the other.
const UNTIL: &[u8] = b"x-deliver-at";
/// The type of a delayed exchange.
#[derive(Clone, Debug)]
pub struct DelayedKind {
    /// How it routes in the end.
    pub routes: Kind,
    /// Where messages wait.
    pub queue: QueueId,
}

/// A delayed exchange at work.
#[derive(Debug)]
pub(super) struct Delayed {
    pub(super) routes: Matcher,
    pub(super) queue: QueueId,
}

impl ExchangeTypes {
    /// How an exchange of that type with these arguments routes in the end.
    ///
    /// # Errors
    /// The arguments name no type, or the type refuses them.
    pub fn delayed(&self, arguments: TableRef<'_>) -> Result<Kind, Exception> {
        let named = match arguments.get(DELAYED_TYPE) {
            Some(Value::LongStr(name)) => std::str::from_utf8(name).ok(),
            _ => None,
        };
        if named == Some(DELAYED) {
            let text = "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'";
            return Err(Exception::precondition(text));
        }
        if named == Some(deduplication::ENABLED) {
            let text = "Invalid argument, 'x-message-deduplication' can't be used for \
                        'x-delayed-type': name 'fanout' and set the argument \
                        'x-message-deduplication' to true";
            return Err(Exception::precondition(text));
        }
        let text = "Invalid argument, 'x-delayed-type' must be an existing exchange type";
        named.and_then(|name| self.kind(name)).ok_or_else(|| Exception::precondition(text))
    }

    /// As `delayed`, of a stored exchange: its plugin may be gone since.
    #[must_use]
    pub fn stored_delayed(&self, arguments: TableRef<'_>) -> Kind {
        match arguments.get(DELAYED_TYPE) {
            Some(Value::LongStr(name)) => self.stored_kind(&String::from_utf8_lossy(name)),
            _ => self.stored_kind(""),
        }
    }
}

/// How long a message with these headers waits in a delayed exchange, if at all. RabbitMQ routes at
/// once what is to wait for longer than 2^32 - 1 ms, some 50 days; here it waits for as long.
pub(super) fn delay(headers: TableRef<'_>, now: UnixMillis) -> Option<Delay> {
    if let Some(at) = headers.get(UNTIL).and_then(|at| number(UNTIL, at)) {
        let at = UnixMillis(u64::try_from(at).unwrap_or(0));
        return (at > now).then_some(Delay::until(at));
    }
    let ms = headers.get(FOR).and_then(|ms| number(FOR, ms))?;
    let ms = u64::try_from(ms).ok().filter(|ms| *ms > 0)?;
    Some(Delay::for_ms(ms))
}

/// The headers of a message that has waited; `None` if nothing in them says so.
#[must_use]
pub fn waited(headers: TableRef<'_>) -> Option<crate::table::Table> {
    let negated = |key: &[u8], value| number(key, value).filter(|number| *number > 0).map(negative);
    headers.iter().find_map(|(key, value)| negated(key, value))?;
    let table = TableBuilder::with_capacity(headers.bytes().len());
    let table = headers
        .iter()
        .fold(table, |table, (key, value)| table.put(key, negated(key, value).unwrap_or(value)));
    Some(table.finish())
}

/// What one of the two headers says, in milliseconds. A time may be one of AMQP's, too.
fn number(key: &[u8], value: Value<'_>) -> Option<i64> {
    match (key, value) {
        (UNTIL, Value::Timestamp(seconds)) => {
            Some(i64::try_from(seconds).map_or(i64::MAX, |seconds| seconds.saturating_mul(1_000)))
        }
        (FOR | UNTIL, value) => whole(value),
        _ => None,
    }
}

/// RabbitMQ writes a 32-bit integer, whatever came.
fn negative(number: i64) -> Value<'static> {
    match i32::try_from(-number) {
        Ok(small) => Value::I32(small),
        Err(_) => Value::I64(-number),
    }
}

/// RabbitMQ: integers of all types, and strings and floats that are made ones.
fn whole(value: Value<'_>) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "RabbitMQ truncates; `as` saturates")]
    match value {
        Value::LongStr(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::F32(number) => Some(f64::from(number) as i64),
        Value::F64(number) => Some(number as i64),
        Value::Decimal { scale, digits } => {
            let divisor = 10_i64.checked_pow(u32::from(scale));
            Some(divisor.map_or(0, |divisor| i64::from(digits) / divisor))
        }
        other => other.as_int(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000);

    fn delayed_by(value: Value<'_>) -> Option<Delay> {
        delay(TableBuilder::new().put(FOR, value).finish().as_ref(), NOW)
    }

    #[test]
    fn numbers_of_all_kinds_delay_and_what_is_none_does_not() {
        let second = Some(Delay::for_ms(1_000));
        for value in [
            Value::I16(1_000),
            Value::U16(1_000),
            Value::I32(1_000),
            Value::U32(1_000),
            Value::I64(1_000),
            Value::F32(1_000.7),
            Value::F64(1_000.2),
            Value::Decimal { scale: 1, digits: 10_009 },
            Value::LongStr(b"1000"),
            Value::LongStr(b"+1000"),
        ] {
            assert_eq!(delayed_by(value), second, "{value:?}");
        }
        for value in [
            Value::I32(0),
            Value::I32(-5),
            Value::F64(0.9),
            Value::Decimal { scale: 255, digits: 1 },
            Value::LongStr(b"1.5"),
            Value::LongStr(b"soon"),
            Value::LongStr(b"99999999999999999999"),
            Value::F64(f64::NAN),
            Value::LongStr(b"\xff"),
            Value::Bool(true),
            Value::Void,
            Value::Timestamp(5),
        ] {
            assert_eq!(delayed_by(value), None, "{value:?}");
        }
        for ms in [4_294_967_295, 4_294_967_296, 315_360_000_000] {
            assert_eq!(delayed_by(Value::I64(ms)), Some(Delay::for_ms(ms as u64)));
        }
        assert_eq!(delayed_by(Value::F64(1e300)), Some(Delay::for_ms(u64::MAX)));
        assert_eq!(delay(TableRef::EMPTY, NOW), None);
    }

    #[test]
    fn a_time_to_come_beats_a_delay_and_one_that_is_over_delays_nothing() {
        let both = |at| {
            let table = TableBuilder::new().put(FOR, Value::I32(5)).put(UNTIL, Value::I64(at));
            delay(table.finish().as_ref(), NOW)
        };
        assert_eq!(both(1_001), Some(Delay::until(UnixMillis(1_001))));
        assert_eq!(both(i64::MAX), Some(Delay::until(UnixMillis(i64::MAX as u64))));
        assert_eq!((both(1_000), both(-7)), (None, None));
        let timestamp = TableBuilder::new().put(UNTIL, Value::Timestamp(2)).finish();
        let expected = Some(Delay::until(UnixMillis(2_000)));
        assert_eq!(delay(timestamp.as_ref(), NOW), expected);
    }

    #[test]
    fn what_has_waited_says_so_and_waits_nowhere_else() {
        let table = TableBuilder::new()
            .put(b"a", Value::Void)
            .put(FOR, Value::LongStr(b"7"))
            .put(UNTIL, Value::I64(5_000_000_000))
            .finish();
        let after = waited(table.as_ref()).unwrap();
        let expected = TableBuilder::new()
            .put(b"a", Value::Void)
            .put(FOR, Value::I32(-7))
            .put(UNTIL, Value::I64(-5_000_000_000))
            .finish();
        assert_eq!(after, expected);
        assert_eq!(delay(after.as_ref(), NOW), None);
        assert_eq!(waited(after.as_ref()), None);
        let plain = TableBuilder::new().put(b"a", Value::I32(3)).finish();
        assert_eq!(waited(plain.as_ref()), None);
    }

    #[test]
    fn the_type_behind_it_must_be_one_and_not_itself() {
        let types = ExchangeTypes::built_in();
        let named = |value| {
            let arguments = TableBuilder::new().put(DELAYED_TYPE, value).finish();
            types.delayed(arguments.as_ref()).map_err(|error| error.text())
        };
        for name in ["direct", "topic", "x-consistent-hash"] {
            assert_eq!(named(Value::LongStr(name.as_bytes())).unwrap().name(), name);
        }
        let missing = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an \
                       existing exchange type";
        for value in [Value::LongStr(b"nonsense"), Value::I32(5), Value::LongStr(b"\xff")] {
            assert_eq!(named(value).unwrap_err(), missing);
        }
        assert_eq!(types.delayed(TableRef::EMPTY).unwrap_err().text(), missing);
        let nested = named(Value::LongStr(b"x-delayed-message")).unwrap_err();
        assert_eq!(
            nested,
            "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for \
             'x-delayed-type'"
        );
    }
}
