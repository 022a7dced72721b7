//! What a client says in a SASL response: user and password, taken out of its bytes.
//!
//! As strict as RabbitMQ: what these functions do not take is a malformed response, which is
//! another thing than a wrong password.

use crate::table::{TableRef, Value};

/// PLAIN: exactly `NUL user NUL password` (RFC 4616 without an authorisation identity).
#[must_use]
pub fn parse_plain(response: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(response).ok()?;
    let (user, password) = text.strip_prefix('\0')?.split_once('\0')?;
    (!password.contains('\0')).then_some((user, password))
}

/// AMQPLAIN: a field table with LOGIN and PASSWORD. The response itself is its length.
#[must_use]
pub fn parse_amqplain(response: TableRef<'_>) -> Option<(&str, &str)> {
    Some((text(response, b"LOGIN")?, text(response, b"PASSWORD")?))
}

fn text<'a>(table: TableRef<'a>, key: &[u8]) -> Option<&'a str> {
    match table.get(key)? {
        Value::LongStr(bytes) | Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableBuilder;

    #[test]
    fn plain_is_two_strings_each_behind_a_nul() {
        assert_eq!(parse_plain(b"\0guest\0secret"), Some(("guest", "secret")));
        assert_eq!(parse_plain(b"\0guest\0"), Some(("guest", "")));
        assert_eq!(parse_plain(b"\0\0"), Some(("", "")));
    }

    #[test]
    fn plain_with_an_authorisation_identity_or_a_third_nul_is_malformed() {
        for bad in [
            &b"other\0guest\0secret"[..],
            b"\0guest\0secret\0",
            b"\0guest",
            b"guest\0secret",
            b"",
            b"\0\xff\0secret",
        ] {
            assert_eq!(parse_plain(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn amqplain_needs_both_fields_as_strings() {
        let table = TableBuilder::new()
            .put(b"LOGIN", Value::LongStr(b"guest"))
            .put(b"PASSWORD", Value::Bytes(b"secret"));
        let table = table.finish();
        assert_eq!(parse_amqplain(table.as_ref()), Some(("guest", "secret")));
        let table = TableBuilder::new()
            .put(b"LOGIN", Value::LongStr(b"guest"))
            .put(b"PASSWORD", Value::I32(7));
        assert_eq!(parse_amqplain(table.finish().as_ref()), None);
        assert_eq!(parse_amqplain(TableRef::EMPTY), None);
    }
}
