//! Field tables as we send them, and the entries of one that a command line asks for with
//! `NAME=VALUE`. Writes bytes; knows no method and no socket.
use super::error::PerfError;
use super::wire;
use std::str::FromStr;

/// Bytes of a table's or a cycle's name.
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// A field table under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(Vec<u8>);

impl Table {
    pub(crate) fn string(mut self, name: &str, value: &str) -> Self {
        wire::short(&mut self.0, name);
        self.0.push(b'S');
        wire::long(&mut self.0, value.as_bytes());
        self
    }

    pub(crate) fn int(mut self, name: &str, value: i64) -> Self {
        wire::short(&mut self.0, name);
        self.0.push(b'l');
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn flag(mut self, name: &str, value: bool) -> Self {
        wire::short(&mut self.0, name);
        self.0.extend_from_slice(&[b't', u8::from(value)]);
        self
    }

    pub(crate) fn table(mut self, name: &str, value: &Self) -> Self {
        wire::short(&mut self.0, name);
        self.0.push(b'F');
        wire::long(&mut self.0, &value.0);
        self
    }

    pub(crate) fn argument(self, argument: &Argument) -> Self {
        match &argument.value {
            Value::Int(number) => self.int(&argument.name, *number),
            Value::Flag(flag) => self.flag(&argument.name, *flag),
            Value::Text(text) => self.string(&argument.name, text),
        }
    }

    /// The entries without the length that stands before them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One entry of a table. Its value is a number or a truth value if it reads like one, else text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) name: String,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Int(i64),
    Flag(bool),
    Text(String),
}

impl FromStr for Argument {
    type Err = PerfError;

    fn from_str(text: &str) -> Result<Self, PerfError> {
        let (name, value) = name_and_rest(text, "NAME=VALUE")?;
        let value = match value {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => value.parse().map_or_else(|_| Value::Text(value.to_owned()), Value::Int),
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// Cuts `text` at its first equals sign, behind a name that fits on the wire.
pub(crate) fn name_and_rest<'a>(
    text: &'a str,
    form: &str,
) -> Result<(&'a str, &'a str), PerfError> {
    match text.split_once('=') {
        Some((name, rest)) if (1..=NAME_BYTES_MAX).contains(&name.len()) => Ok((name, rest)),
        _ => Err(PerfError::new(format!("write it as {form}, with a name of 1 to 255 bytes"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_read_like() {
        for (text, value) in [
            ("a=5", Value::Int(5)),
            ("a=-5", Value::Int(-5)),
            ("a=true", Value::Flag(true)),
            ("a=false", Value::Flag(false)),
            ("a=reject-publish", Value::Text("reject-publish".to_owned())),
            ("a=b=c", Value::Text("b=c".to_owned())),
            ("a=", Value::Text(String::new())),
            ("a=99999999999999999999", Value::Text("99999999999999999999".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(Argument { name: "a".to_owned(), value }), "{text}");
        }
    }

    #[test]
    fn a_name_has_one_to_255_bytes() {
        let name = "n".repeat(NAME_BYTES_MAX);
        assert!(format!("{name}=1").parse::<Argument>().is_ok());
        for bad in ["", "a", "=1", &format!("{name}n=1")] {
            let error = bad.parse::<Argument>().unwrap_err().to_string();
            assert_eq!(error, "write it as NAME=VALUE, with a name of 1 to 255 bytes", "{bad}");
        }
    }

    #[test]
    fn entries_have_the_bytes_of_the_specification() {
        let arguments: Vec<Argument> =
            ["n=258", "f=true", "s=ab"].iter().map(|text| text.parse().unwrap()).collect();
        let table = arguments.iter().fold(Table::default(), Table::argument);
        assert_eq!(table.bytes(), b"\x01nl\0\0\0\0\0\0\x01\x02\x01ft\x01\x01sS\0\0\0\x02ab");
    }
}
