//! The exchange type of RabbitMQ's deduplication plugin, for those who move over: its arguments,
//! with its checks and texts.

use super::{CACHE_PERSISTENCE, CACHE_SIZE, CACHE_TTL, HEADER};
use crate::exception::Exception;
use crate::limits::{DEDUPLICATION_CACHE_MAX, EXPIRY_MS_MAX, NAME_BYTES_MAX};
use crate::table::{TableRef, Value};

/// Checks the arguments of a new exchange of that type. What is too large for us is refused, not
/// cut: whoever asks for it relies on it.
///
/// # Errors
/// 406 for the first that is wrong.
pub fn check_exchange(arguments: TableRef<'_>) -> Result<(), Exception> {
    let refused = |text: String| Err(Exception::precondition(text));
    let get = |key: &str| arguments.get(key.as_bytes());
    let size = get(CACHE_SIZE).and_then(number).filter(|size| *size > 0);
    match size {
        None => {
            let text = "Missing or invalid argument, 'x-cache-size' must be an integer greater \
                        than 0";
            return refused(text.to_owned());
        }
        Some(size) if size > DEDUPLICATION_CACHE_MAX => {
            return refused(format!(
                "Invalid argument, 'x-cache-size' must be an integer up to \
                 {DEDUPLICATION_CACHE_MAX}, not {size}"
            ));
        }
        Some(_) => {}
    }
    match get(CACHE_TTL).map(number) {
        Some(Some(ttl)) if ttl > EXPIRY_MS_MAX => refused(format!(
            "Invalid argument, 'x-cache-ttl' must be an integer up to {EXPIRY_MS_MAX}, not {ttl}"
        )),
        Some(ttl) if ttl.is_none_or(|ttl| ttl <= 0) => {
            refused("Invalid argument, 'x-cache-ttl' must be an integer greater than 0".to_owned())
        }
        _ => check_words(get(CACHE_PERSISTENCE), get(HEADER)),
    }
}

fn check_words(persistence: Option<Value<'_>>, header: Option<Value<'_>>) -> Result<(), Exception> {
    if !matches!(persistence, None | Some(Value::LongStr(b"disk" | b"memory"))) {
        let text = "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'";
        return Err(Exception::precondition(text));
    }
    // Ours: the plugin has one header for all.
    match header.map(|header| header.as_str().map(str::len)) {
        None | Some(Some(1..=NAME_BYTES_MAX)) => Ok(()),
        Some(_) => {
            let text = "Invalid argument, 'x-deduplication-header' must be the name of a header";
            Err(Exception::precondition(text))
        }
    }
}

/// An integer, be it in digits.
pub(super) fn number(value: Value<'_>) -> Option<i64> {
    match value {
        Value::LongStr(digits) => std::str::from_utf8(digits).ok()?.parse().ok(),
        other => other.as_int(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Deduplication;
    use super::*;
    use crate::name::Name;
    use crate::table::{Table, TableBuilder};

    fn with(fields: &[(&str, Value<'_>)]) -> Table {
        let put =
            |table: TableBuilder, (name, value): &(&str, _)| table.put(name.as_bytes(), *value);
        fields.iter().fold(TableBuilder::new(), put).finish()
    }

    fn text(fields: &[(&str, Value<'_>)]) -> Option<String> {
        check_exchange(with(fields).as_ref()).err().map(|refused| refused.explanation().to_owned())
    }

    #[test]
    fn a_cache_has_a_size() {
        let missing =
            "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
        assert_eq!(text(&[]).as_deref(), Some(missing));
        for wrong in [
            Value::I32(0),
            Value::I64(-1),
            Value::LongStr(b"many"),
            Value::LongStr(b""),
            Value::F64(5.0),
            Value::Bool(true),
            Value::Void,
        ] {
            assert_eq!(text(&[(CACHE_SIZE, wrong)]).as_deref(), Some(missing), "{wrong:?}");
        }
        let large = text(&[(CACHE_SIZE, Value::I64(1_048_577))]).unwrap();
        let expected =
            "Invalid argument, 'x-cache-size' must be an integer up to 1048576, not 1048577";
        assert_eq!(large, expected);
        for right in [Value::U8(1), Value::I64(1_048_576), Value::LongStr(b"1000")] {
            assert_eq!(text(&[(CACHE_SIZE, right)]), None, "{right:?}");
        }
    }

    #[test]
    fn the_other_arguments_may_be_left_out_and_not_be_wrong() {
        let size = (CACHE_SIZE, Value::I32(5));
        let ttl = |value| text(&[size, (CACHE_TTL, value)]);
        let wrong = "Invalid argument, 'x-cache-ttl' must be an integer greater than 0";
        for value in [Value::I32(0), Value::I32(-5), Value::LongStr(b"soon"), Value::Bool(true)] {
            assert_eq!(ttl(value).as_deref(), Some(wrong), "{value:?}");
        }
        let expected = "Invalid argument, 'x-cache-ttl' must be an integer up to 315360000000, \
                        not 315360000001";
        assert_eq!(ttl(Value::I64(315_360_000_001)).as_deref(), Some(expected));
        assert_eq!([ttl(Value::I32(1)), ttl(Value::LongStr(b"1000"))], [None, None]);
        let persistence = |value| text(&[size, (CACHE_PERSISTENCE, value)]);
        let wrong = "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'";
        for value in [Value::LongStr(b"disc"), Value::Bool(true), Value::Bytes(b"disk")] {
            assert_eq!(persistence(value).as_deref(), Some(wrong), "{value:?}");
        }
        let header = |value| text(&[size, (HEADER, value)]);
        let wrong = "Invalid argument, 'x-deduplication-header' must be the name of a header";
        for value in [Value::I32(5), Value::LongStr(b""), Value::LongStr(&[b'x'; 256])] {
            assert_eq!(header(value).as_deref(), Some(wrong), "{value:?}");
        }
        assert_eq!(header(Value::LongStr(b"id")), None);
        assert_eq!(
            ["disk", "memory"].map(|it| persistence(Value::LongStr(it.as_bytes()))),
            [None, None]
        );
    }

    #[test]
    fn numbers_may_be_digits_and_keys_are_in_memory() {
        let text = [(CACHE_SIZE, Value::LongStr(b"7")), (CACHE_TTL, Value::LongStr(b"50"))];
        let header = Name::new("x-deduplication-header");
        let expected = Deduplication { header, cache_len: 7, ttl_ms: Some(50), persistent: false };
        assert_eq!(Deduplication::of_type(with(&text).as_ref()), expected);
        let disk = with(&[(CACHE_PERSISTENCE, Value::LongStr(b"disk"))]);
        assert!(Deduplication::of_type(disk.as_ref()).persistent);
    }
}
