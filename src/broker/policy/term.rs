//! Prints a JSON value as RabbitMQ's texts do: as an Erlang term.

use serde_json::Value;
use std::fmt;

/// Longest value in a text, in bytes: who wrote it knows it by its beginning.
const LEN_MAX: usize = 512;

pub(super) struct Term<'a>(pub(super) &'a Value);

/// Several fields as a property list.
pub(super) struct Fields<'a>(pub(super) &'a [(&'a str, &'a Value)]);

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        put(&mut text, self.0);
        f.write_str(&cut(text))
    }
}

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::from("[");
        for (nth, (key, value)) in self.0.iter().enumerate() {
            text.push_str(if nth == 0 { "{" } else { ",{" });
            put_binary(&mut text, key);
            text.push(',');
            put(&mut text, value);
            text.push('}');
        }
        text.push(']');
        f.write_str(&cut(text))
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LEN_MAX {
        let end = text.floor_char_boundary(LEN_MAX);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Nested no deeper than the JSON parser lets through.
fn put(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => put_binary(out, text),
        Value::Array(items) => {
            out.push('[');
            for (nth, item) in items.iter().enumerate() {
                out.push_str(if nth == 0 { "" } else { "," });
                put(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push_str("#{");
            for (nth, (key, value)) in fields.iter().enumerate() {
                out.push_str(if nth == 0 { "" } else { "," });
                put_binary(out, key);
                out.push_str(" => ");
                put(out, value);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

fn put_binary(out: &mut String, text: &str) {
    if text.is_empty() {
        return out.push_str("<<>>");
    }
    out.push_str("<<\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push_str(if text.is_ascii() { "\">>" } else { "\"/utf8>>" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_terms_and_not_without_end() {
        for (value, text) in [
            (json!(null), "null"),
            (json!(true), "true"),
            (json!(-2), "-2"),
            (json!(2.5), "2.5"),
            (json!(""), "<<>>"),
            (json!("a\"b\n"), "<<\"a\\\"b\\n\">>"),
            (json!("é"), "<<\"é\"/utf8>>"),
            (json!([1, "a", {"b": 1.5}]), "[1,<<\"a\">>,#{<<\"b\">> => 1.5}]"),
        ] {
            assert_eq!(Term(&value).to_string(), text);
        }
        let fields = [("aaa", &json!("x")), ("zzz", &json!(2))];
        assert_eq!(Fields(&fields).to_string(), "[{<<\"aaa\">>,<<\"x\">>},{<<\"zzz\">>,2}]");
        let long = Term(&json!("é".repeat(LEN_MAX))).to_string();
        assert!(long.len() < LEN_MAX + 4 && long.ends_with("é..."), "{long}");
    }
}
