//! Field tables with the letters that RabbitMQ reads and writes.

use super::reader::{Malformed, Reader};
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    /// Letter `l`, the one brokers write.
    I64(i64),
    /// Letter `L`: the same type under its other name.
    I64Upper(i64),
    F32(f32),
    F64(f64),
    Decimal(u8, u32),
    Text(Vec<u8>),
    Bytes(Vec<u8>),
    Array(Vec<Self>),
    Table(Table),
    Timestamp(u64),
    Void,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Table(pub(crate) Vec<(String, Value)>);

impl<const N: usize> From<[(&str, Value); N]> for Table {
    fn from(entries: [(&str, Value); N]) -> Self {
        Self(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<bool> for Value {
    fn from(bit: bool) -> Self {
        Self::Bool(bit)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Self::I32(number)
    }
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The table with its length in front.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (key, value) in &self.0 {
            body.push(u8::try_from(key.len()).expect("a key of a table has at most 255 bytes"));
            body.extend(key.as_bytes());
            value.encode_into(&mut body);
        }
        with_length(&body)
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut body = Reader::new(reader.long_string()?);
        let mut entries = Vec::new();
        while !body.is_empty() {
            let key = String::from_utf8_lossy(body.short_string()?).into_owned();
            entries.push((key, Value::decode(&mut body)?));
        }
        Ok(Self(entries))
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

impl Value {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.letter());
        match self {
            Self::Bool(bit) => out.push(u8::from(*bit)),
            Self::I8(number) => out.extend(number.to_be_bytes()),
            Self::U8(number) => out.push(*number),
            Self::I16(number) => out.extend(number.to_be_bytes()),
            Self::U16(number) => out.extend(number.to_be_bytes()),
            Self::I32(number) => out.extend(number.to_be_bytes()),
            Self::U32(number) => out.extend(number.to_be_bytes()),
            Self::I64(number) | Self::I64Upper(number) => out.extend(number.to_be_bytes()),
            Self::F32(number) => out.extend(number.to_be_bytes()),
            Self::F64(number) => out.extend(number.to_be_bytes()),
            Self::Decimal(scale, number) => {
                out.push(*scale);
                out.extend(number.to_be_bytes());
            }
            Self::Text(bytes) | Self::Bytes(bytes) => out.extend(with_length(bytes)),
            Self::Array(items) => {
                let mut body = Vec::new();
                items.iter().for_each(|item| item.encode_into(&mut body));
                out.extend(with_length(&body));
            }
            Self::Table(table) => out.extend(table.encode()),
            Self::Timestamp(seconds) => out.extend(seconds.to_be_bytes()),
            Self::Void => {}
        }
    }

    fn letter(&self) -> u8 {
        match self {
            Self::Bool(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::I64Upper(_) => b'L',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal(..) => b'D',
            Self::Text(_) => b'S',
            Self::Bytes(_) => b'x',
            Self::Array(_) => b'A',
            Self::Table(_) => b'F',
            Self::Timestamp(_) => b'T',
            Self::Void => b'V',
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.u8()? {
            b't' => Self::Bool(reader.u8()? != 0),
            b'b' => Self::I8(reader.u8()? as i8),
            b'B' => Self::U8(reader.u8()?),
            b's' => Self::I16(reader.u16()? as i16),
            b'u' => Self::U16(reader.u16()?),
            b'I' => Self::I32(reader.u32()? as i32),
            b'i' => Self::U32(reader.u32()?),
            b'l' => Self::I64(reader.u64()? as i64),
            b'L' => Self::I64Upper(reader.u64()? as i64),
            b'f' => Self::F32(f32::from_bits(reader.u32()?)),
            b'd' => Self::F64(f64::from_bits(reader.u64()?)),
            b'D' => Self::Decimal(reader.u8()?, reader.u32()?),
            b'S' => Self::Text(reader.long_string()?.to_vec()),
            b'x' => Self::Bytes(reader.long_string()?.to_vec()),
            b'A' => {
                let mut body = Reader::new(reader.long_string()?);
                let mut items = Vec::new();
                while !body.is_empty() {
                    items.push(Self::decode(&mut body)?);
                }
                Self::Array(items)
            }
            b'F' => Self::Table(Table::decode(reader)?),
            b'T' => Self::Timestamp(reader.u64()?),
            b'V' => Self::Void,
            letter => return Err(Malformed(format!("table type {:?}", char::from(letter)))),
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{key}:{value}")?;
        }
        f.write_str("}")
    }
}

/// The letter of the type, then the value: `I5`, `S"text"`, `t1`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", char::from(self.letter()))?;
        match self {
            Self::Bool(bit) => write!(f, "{}", u8::from(*bit)),
            Self::I8(number) => write!(f, "{number}"),
            Self::U8(number) => write!(f, "{number}"),
            Self::I16(number) => write!(f, "{number}"),
            Self::U16(number) => write!(f, "{number}"),
            Self::I32(number) => write!(f, "{number}"),
            Self::U32(number) => write!(f, "{number}"),
            Self::I64(number) | Self::I64Upper(number) => write!(f, "{number}"),
            Self::F32(number) => write!(f, "{number}"),
            Self::F64(number) => write!(f, "{number}"),
            Self::Decimal(scale, number) => write!(f, "{number}e-{scale}"),
            Self::Text(bytes) | Self::Bytes(bytes) => {
                write!(f, "{:?}", String::from_utf8_lossy(bytes))
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Table(table) => write!(f, "{table}"),
            Self::Timestamp(seconds) => write!(f, "{seconds}"),
            Self::Void => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Table {
        Table::from([
            ("t", true.into()),
            ("b", Value::I8(-1)),
            ("B", Value::U8(255)),
            ("s", Value::I16(-2)),
            ("u", Value::U16(65535)),
            ("I", (-3).into()),
            ("i", Value::U32(u32::MAX)),
            ("l", Value::I64(-4)),
            ("L", Value::I64Upper(-5)),
            ("f", Value::F32(1.5)),
            ("d", Value::F64(-2.25)),
            ("D", Value::Decimal(2, 314)),
            ("S", "text".into()),
            ("x", Value::Bytes(vec![0, 255])),
            ("A", Value::Array(vec![1.into(), "two".into()])),
            ("F", Value::Table(Table::from([("inner", Value::Void)]))),
            ("T", Value::Timestamp(1_700_000_000)),
            ("V", Value::Void),
        ])
    }

    #[test]
    fn every_type_survives_a_round_trip() {
        let bytes = one_of_each().encode();
        let mut reader = Reader::new(&bytes);
        assert_eq!(Table::decode(&mut reader), Ok(one_of_each()));
        assert!(reader.is_empty());
    }

    #[test]
    fn a_cut_table_and_an_unknown_letter_are_malformed() {
        let bytes = one_of_each().encode();
        assert!(Table::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
        assert!(Table::decode(&mut Reader::new(b"\0\0\0\x03\x01kU")).is_err());
    }

    #[test]
    fn a_table_is_printed_with_its_types() {
        let table = Table::from([("a", 1.into()), ("b", Value::Array(vec!["x".into()]))]);
        assert_eq!(table.to_string(), r#"{a:I1,b:A[S"x"]}"#);
    }
}
