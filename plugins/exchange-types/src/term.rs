//! Values as Erlang prints terms, since RabbitMQ's texts hold them so.

use leveret_plugin_api::Value;

/// Text from which a text is made is cut here: a reply text has 255 bytes anyway.
const PRINTED_MAX: usize = 255;

/// `<<"abc">>`, or `<<1,2,3>>` if a byte is no printable character of Latin-1. Erlang prints such
/// characters as their bytes, which a client reads as the UTF-8 that they were.
pub(crate) fn binary(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(PRINTED_MAX)];
    let is_printable = |byte: &u8| matches!(byte, 9..=13 | 27 | 32..=126 | 160..=255);
    if !bytes.is_empty() && bytes.iter().all(is_printable) {
        let text: String = String::from_utf8_lossy(bytes).chars().map(escaped).collect();
        return format!("<<\"{text}\">>");
    }
    let numbers: Vec<_> = bytes.iter().map(ToString::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

fn escaped(c: char) -> String {
    match c {
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\u{b}' => "\\v".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\r' => "\\r".to_owned(),
        '\u{1b}' => "\\e".to_owned(),
        '"' | '\\' => format!("\\{c}"),
        _ => c.to_string(),
    }
}

/// A field's value. What is nested is not spelled out.
pub(crate) fn value(value: Value<'_>) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Decimal { scale, digits } => format!("{{{scale},{digits}}}"),
        Value::Text(bytes) | Value::Bytes(bytes) => binary(bytes),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Array([]) | Value::Table([]) => "[]".to_owned(),
        Value::Array(_) | Value::Table(_) => "[...]".to_owned(),
        Value::Void => "undefined".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_erlang_prints_them() {
        let printed = [
            (Value::Text(b"abc"), "<<\"abc\">>"),
            (Value::Text(b""), "<<>>"),
            (Value::Text("\u{e9}".as_bytes()), "<<\"\u{e9}\">>"),
            (Value::Text("\u{20ac}".as_bytes()), "<<226,130,172>>"),
            (Value::Text(b"a\"b\\\n"), "<<\"a\\\"b\\\\\\n\">>"),
            (Value::Bytes(b"a\0"), "<<97,0>>"),
            (Value::Int(-5), "-5"),
            (Value::Float(1.0), "1.0"),
            (Value::Bool(true), "true"),
            (Value::Void, "undefined"),
            (Value::Table(b""), "[]"),
        ];
        for (term, expected) in printed {
            assert_eq!(value(term), expected);
        }
        assert!(binary(&[b'a'; 10_000]).len() < 300);
    }
}
