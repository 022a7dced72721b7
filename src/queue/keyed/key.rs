//! The key of a message: the value of one of its headers, as octets that are equal if and only if
//! the values are. Nothing is kept here.

use crate::limits::LANE_KEY_BYTES_MAX;
use crate::message::Message;
use crate::table::{TableRef, Value, put_value};

/// Octets of a content header's payload before the flags.
const FLAGS_AT: usize = 12;
/// Properties in the order of their flags (AMQP 0-9-1, 1.8); both before the headers are shortstrs.
const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;

/// Writes the message's key over `key`. False if it has none: no such header, or one without a
/// value. RabbitMQ 4: of headers with one name the last counts.
pub(super) fn write_key(message: &Message, header: &str, key: &mut Vec<u8>) -> bool {
    key.clear();
    let value = headers(message.header()).and_then(|it| it.get_last(header.as_bytes()));
    match value {
        None | Some(Value::Void) => false,
        Some(value) => {
            put_key(key, value);
            true
        }
    }
}

/// As a message without the header counts where it needs a key: as an empty text.
pub(super) fn write_empty(key: &mut Vec<u8>) {
    key.clear();
    put_key(key, Value::LongStr(b""));
}

/// Integers of any width are one type, so are floats, and texts and octets. Values with the same
/// first octets are one key: that joins lanes, and never splits one.
fn put_key(key: &mut Vec<u8>, value: Value<'_>) {
    let value = match value {
        Value::LongStr(text) | Value::Bytes(text) => {
            Value::LongStr(&text[..text.len().min(LANE_KEY_BYTES_MAX)])
        }
        Value::F32(n) => Value::F64(n.into()),
        other => other.as_int().map_or(other, Value::I64),
    };
    put_value(key, value);
    key.truncate(LANE_KEY_BYTES_MAX);
}

/// The headers in a content header's payload, which was checked when it came; none if it is not
/// one.
fn headers(payload: &[u8]) -> Option<TableRef<'_>> {
    let (flags, mut rest) = payload.get(FLAGS_AT..)?.split_first_chunk()?;
    let flags = u16::from_be_bytes(*flags);
    if flags & HEADERS == 0 {
        return None;
    }
    for flag in [CONTENT_TYPE, CONTENT_ENCODING] {
        if flags & flag != 0 {
            let (len, text) = rest.split_first()?;
            rest = text.get(usize::from(*len)..)?;
        }
    }
    let (len, table) = rest.split_first_chunk()?;
    TableRef::check(table.get(..u32::from_be_bytes(*len) as usize)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableBuilder;

    fn message(flags: u16, before: &[u8], fields: &[(&str, Value<'_>)]) -> Message {
        let put = |table: TableBuilder, (name, value): &(&str, Value<'_>)| {
            table.put(name.as_bytes(), *value)
        };
        let table = fields.iter().fold(TableBuilder::new(), put).finish();
        let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend_from_slice(&(HEADERS | flags).to_be_bytes());
        header.extend_from_slice(before);
        let table = table.as_ref().bytes();
        header.extend_from_slice(&u32::try_from(table.len()).unwrap().to_be_bytes());
        header.extend_from_slice(table);
        Message::new(b"", b"q", &header, b"", &mut Vec::new())
    }

    fn key(value: Value<'_>) -> Option<Vec<u8>> {
        let message = message(0, b"", &[("other", Value::Bool(true)), ("k", value)]);
        let mut key = vec![7; 3];
        write_key(&message, "k", &mut key).then_some(key)
    }

    #[test]
    fn equal_values_have_one_key_and_others_another() {
        let text = |text: &'static str| key(Value::LongStr(text.as_bytes()));
        assert_eq!(text("a"), key(Value::Bytes(b"a")));
        assert_ne!(text("a"), text("b"));
        assert_ne!(text("a"), text(""));
        assert_eq!(key(Value::I8(5)), key(Value::U32(5)));
        assert_ne!(key(Value::I8(5)), text("5"));
        assert_eq!(key(Value::F32(0.5)), key(Value::F64(0.5)));
        assert_ne!(key(Value::Bool(true)), key(Value::Bool(false)));
        assert_eq!(key(Value::Void), None);
        let mut empty = Vec::new();
        write_empty(&mut empty);
        assert_eq!(text(""), Some(empty));
    }

    #[test]
    fn the_header_is_found_behind_other_properties_and_the_last_of_its_name_counts() {
        let fields = [("k", Value::I32(1)), ("k", Value::I32(2)), ("j", Value::I32(3))];
        let both = CONTENT_TYPE | CONTENT_ENCODING;
        let mut found = Vec::new();
        assert!(write_key(&message(both, b"\x02ab\x01c", &fields), "k", &mut found));
        assert_eq!(Some(&found), key(Value::I32(2)).as_ref());
        assert!(!write_key(&message(both, b"\x02ab\x01c", &fields), "l", &mut found));
        let plain = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 2];
        let plain = Message::new(b"", b"q", &plain, b"", &mut Vec::new());
        assert!(!write_key(&plain, "k", &mut found));
    }

    #[test]
    fn a_long_value_counts_by_its_first_octets() {
        let long = [b'x'; 100_000];
        let found = key(Value::LongStr(&long)).unwrap();
        assert_eq!(found.len(), LANE_KEY_BYTES_MAX);
        assert_eq!(key(Value::LongStr(&long[1..])), Some(found));
    }
}
