//! A method with the values of its fields, built and read by field name.

use super::frame::{Frame, METHOD};
use super::reader::{Malformed, Reader};
use super::spec::{Kind, MethodSpec, by_ids, by_name};
use super::table::Table;
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Argument {
    Bit(bool),
    Number(u64),
    Text(Vec<u8>),
    Table(Table),
}

macro_rules! argument_from {
    ($($from:ty => |$value:ident| $to:expr),+ $(,)?) => {
        $(impl From<$from> for Argument {
            fn from($value: $from) -> Self {
                $to
            }
        })+
    };
}

argument_from! {
    bool => |bit| Self::Bit(bit),
    u16 => |number| Self::Number(u64::from(number)),
    u32 => |number| Self::Number(u64::from(number)),
    u64 => |number| Self::Number(number),
    &str => |text| Self::Text(text.as_bytes().to_vec()),
    &String => |text| Self::Text(text.as_bytes().to_vec()),
    String => |text| Self::Text(text.into_bytes()),
    &[u8] => |bytes| Self::Text(bytes.to_vec()),
    Vec<u8> => |bytes| Self::Text(bytes),
    Table => |table| Self::Table(table),
}

impl Argument {
    fn default_of(kind: Kind) -> Self {
        match kind {
            Kind::Bit => Self::Bit(false),
            Kind::Octet | Kind::Short | Kind::Long | Kind::LongLong => Self::Number(0),
            Kind::ShortString | Kind::LongString => Self::Text(Vec::new()),
            Kind::Table => Self::Table(Table::default()),
        }
    }

    pub(super) fn fits(&self, kind: Kind) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(&Self::default_of(kind))
    }

    /// Writes anything but a bit, which shares its octet with its neighbours.
    pub(super) fn encode_into(&self, kind: Kind, out: &mut Vec<u8>) {
        match self {
            Self::Bit(_) => unreachable!("bits are packed by the method"),
            Self::Number(number) => {
                let width = match kind {
                    Kind::Octet => 1,
                    Kind::Short => 2,
                    Kind::Long => 4,
                    _ => 8,
                };
                out.extend(&number.to_be_bytes()[8 - width..]);
            }
            Self::Text(bytes) if kind == Kind::ShortString => {
                out.push(u8::try_from(bytes.len()).expect("a short string has at most 255 bytes"));
                out.extend(bytes);
            }
            Self::Text(bytes) => {
                out.extend((bytes.len() as u32).to_be_bytes());
                out.extend(bytes);
            }
            Self::Table(table) => out.extend(table.encode()),
        }
    }

    pub(super) fn decode(kind: Kind, reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match kind {
            Kind::Bit | Kind::Octet => Self::Number(u64::from(reader.u8()?)),
            Kind::Short => Self::Number(u64::from(reader.u16()?)),
            Kind::Long => Self::Number(u64::from(reader.u32()?)),
            Kind::LongLong => Self::Number(reader.u64()?),
            Kind::ShortString => Self::Text(reader.short_string()?.to_vec()),
            Kind::LongString => Self::Text(reader.long_string()?.to_vec()),
            Kind::Table => Self::Table(Table::decode(reader)?),
        })
    }
}

#[derive(Clone)]
pub(crate) struct Method {
    spec: &'static MethodSpec,
    /// One per field of the specification, in its order and of its kind.
    arguments: Vec<Argument>,
}

impl Method {
    /// A method with every field zero, empty or false.
    pub(crate) fn new(name: &str) -> Self {
        let spec = by_name(name);
        let arguments = spec.fields.iter().map(|(_, kind)| Argument::default_of(*kind)).collect();
        Self { spec, arguments }
    }

    pub(crate) fn with(mut self, field: &str, argument: impl Into<Argument>) -> Self {
        let index = self.index(field);
        let argument = argument.into();
        assert!(argument.fits(self.spec.fields[index].1), "{}.{field}: wrong type", self.name());
        self.arguments[index] = argument;
        self
    }

    /// Sets bit fields.
    pub(crate) fn flags(self, fields: &[&str]) -> Self {
        fields.iter().fold(self, |method, field| method.with(field, true))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.spec.name
    }

    pub(crate) fn text(&self, field: &str) -> String {
        match self.get(field) {
            Argument::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{}.{field} is not a text: {other:?}", self.name()),
        }
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        match self.get(field) {
            Argument::Number(number) => *number,
            other => panic!("{}.{field} is not a number: {other:?}", self.name()),
        }
    }

    pub(crate) fn bit(&self, field: &str) -> bool {
        match self.get(field) {
            Argument::Bit(bit) => *bit,
            other => panic!("{}.{field} is not a bit: {other:?}", self.name()),
        }
    }

    pub(crate) fn table(&self, field: &str) -> &Table {
        match self.get(field) {
            Argument::Table(table) => table,
            other => panic!("{}.{field} is not a table: {other:?}", self.name()),
        }
    }

    fn get(&self, field: &str) -> &Argument {
        &self.arguments[self.index(field)]
    }

    fn index(&self, field: &str) -> usize {
        let fields = self.spec.fields;
        fields
            .iter()
            .position(|(name, _)| *name == field)
            .unwrap_or_else(|| panic!("{} has no field {field}", self.name()))
    }

    /// Class id, method id and fields: what a method frame carries.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut out = self.spec.class.to_be_bytes().to_vec();
        out.extend(self.spec.id.to_be_bytes());
        let mut bits_used = 0;
        for ((_, kind), argument) in self.spec.fields.iter().zip(&self.arguments) {
            let Argument::Bit(bit) = argument else {
                bits_used = 0;
                argument.encode_into(*kind, &mut out);
                continue;
            };
            if bits_used % 8 == 0 {
                out.push(0);
            }
            if let Some(octet) = out.last_mut() {
                *octet |= u8::from(*bit) << (bits_used % 8);
            }
            bits_used += 1;
        }
        out
    }

    pub(crate) fn frame(&self, channel: u16) -> Frame {
        Frame::new(METHOD, channel, self.payload())
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let (class, id) = (reader.u16()?, reader.u16()?);
        let spec =
            by_ids(class, id).ok_or_else(|| Malformed(format!("unknown method {class},{id}")))?;
        let mut arguments = Vec::new();
        let (mut bits, mut bits_used) = (0, 0);
        for (_, kind) in spec.fields {
            if *kind != Kind::Bit {
                bits_used = 0;
                arguments.push(Argument::decode(*kind, &mut reader)?);
                continue;
            }
            if bits_used % 8 == 0 {
                bits = reader.u8()?;
            }
            arguments.push(Argument::Bit(bits >> (bits_used % 8) & 1 == 1));
            bits_used += 1;
        }
        if !reader.is_empty() {
            return Err(Malformed(format!("{} bytes after {}", reader.remaining(), spec.name)));
        }
        Ok(Self { spec, arguments })
    }
}

/// The name and the fields as `key=value`.
impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        for ((field, _), argument) in self.spec.fields.iter().zip(&self.arguments) {
            match argument {
                Argument::Bit(bit) => write!(f, " {field}={bit}")?,
                Argument::Number(number) => write!(f, " {field}={number}")?,
                Argument::Text(text) => write!(f, " {field}={:?}", String::from_utf8_lossy(text))?,
                Argument::Table(table) => write!(f, " {field}={table}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::METHODS;

    #[test]
    fn bits_share_an_octet_from_the_lowest() {
        let declare = Method::new("queue.declare").with("queue", "q").flags(&["durable", "nowait"]);
        assert_eq!(declare.payload(), b"\0\x32\0\x0a\0\0\x01q\x12\0\0\0\0");
    }

    #[test]
    fn every_method_survives_a_round_trip() {
        for spec in METHODS {
            let mut method = Method::new(spec.name);
            for (index, (field, kind)) in spec.fields.iter().enumerate() {
                method = match Argument::default_of(*kind) {
                    Argument::Bit(_) => method.with(field, index % 2 == 0),
                    Argument::Number(_) => method.with(field, index as u64 + 1),
                    Argument::Text(_) => method.with(field, *field),
                    Argument::Table(_) => method.with(field, Table::from([("k", true.into())])),
                };
            }
            let decoded = Method::decode(&method.payload()).unwrap();
            assert_eq!(decoded.to_string(), method.to_string());
            assert_eq!(decoded.payload(), method.payload());
        }
    }

    #[test]
    fn trailing_and_missing_bytes_are_malformed() {
        let payload = Method::new("basic.ack").payload();
        assert!(Method::decode(&payload[..payload.len() - 1]).is_err());
        assert!(Method::decode(&[payload, vec![0]].concat()).is_err());
        assert!(Method::decode(&[0, 10, 0, 99]).is_err());
    }
}
