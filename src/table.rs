//! Field tables as they lie on the wire: order and duplicates kept, keys any bytes.
//!
//! `Table` holds bytes that `check` has walked once, iteratively and within bounds; all reading
//! after that is by position. Nothing is decoded ahead of need, and a client's bytes are passed on
//! untouched. The type letters are RabbitMQ's: `s` is a short int, and there is no short string.

use crate::exception::ArgumentText;
use crate::limits::{TABLE_DEPTH_MAX, TABLE_FIELDS_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why bytes are not a field table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// A length or value runs past the end of what holds it.
    Truncated,
    /// A type letter that RabbitMQ does not know.
    UnknownType(u8),
    /// A float that is NaN or infinite; RabbitMQ cannot decode one.
    NotFinite,
    TooDeep,
    TooManyFields,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a field runs past the end of its table"),
            Self::UnknownType(letter) => write!(f, "unknown field type {letter:#04x}"),
            Self::NotFinite => f.write_str("a float is not finite"),
            Self::TooDeep => write!(f, "nested deeper than {TABLE_DEPTH_MAX}"),
            Self::TooManyFields => write!(f, "more than {TABLE_FIELDS_MAX} fields"),
        }
    }
}

/// A checked field table, without its outer length.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct TableRef<'a>(&'a [u8]);

/// An owned, checked field table.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table(Box<[u8]>);

/// The items of an array value, checked with the table around it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ArrayRef<'a>(&'a [u8]);

/// One field's value. Integers keep their width, since texts name it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    Decimal { scale: u8, digits: u32 },
    LongStr(&'a [u8]),
    Bytes(&'a [u8]),
    Array(ArrayRef<'a>),
    Table(TableRef<'a>),
    Timestamp(u64),
    Void,
}

impl<'a> TableRef<'a> {
    pub const EMPTY: TableRef<'static> = TableRef(&[]);

    /// Checks `bytes`, a table without its outer length.
    ///
    /// # Errors
    /// What is wrong with them; nothing is allocated by a number found in them.
    pub fn check(bytes: &'a [u8]) -> Result<Self, TableError> {
        check(bytes)?;
        Ok(Self(bytes))
    }

    /// The wire bytes without the outer length.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let key = take_short(&mut rest)?;
            Some((key, take_value(&mut rest)?))
        })
    }

    /// The first field of that name.
    #[must_use]
    pub fn get(self, key: &[u8]) -> Option<Value<'a>> {
        self.iter().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The last field of that name (RabbitMQ 4: duplicate headers, the last one wins).
    #[must_use]
    pub fn get_last(self, key: &[u8]) -> Option<Value<'a>> {
        self.iter().filter(|(k, _)| *k == key).last().map(|(_, value)| value)
    }

    /// The same fields by key, those of one key in their order: how bindings are compared.
    #[must_use]
    pub fn sorted(self) -> Table {
        let mut fields: Vec<_> = self.iter().collect();
        fields.sort_by_key(|(name, _)| *name);
        let put = |table: TableBuilder, (name, value)| table.put(name, value);
        fields.into_iter().fold(TableBuilder::new(), put).finish()
    }

    #[must_use]
    pub fn to_table(self) -> Table {
        Table(self.0.into())
    }
}

impl Table {
    #[must_use]
    pub fn as_ref(&self) -> TableRef<'_> {
        TableRef(&self.0)
    }

    /// Takes bytes from disk, which may be damaged.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TableError> {
        TableRef::check(bytes).map(TableRef::to_table)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for TableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter().map(|(key, value)| (String::from_utf8_lossy(key), value));
        f.debug_map().entries(fields).finish()
    }
}

impl fmt::Debug for ArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> ArrayRef<'a> {
    pub fn iter(self) -> impl Iterator<Item = Value<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || if rest.is_empty() { None } else { take_value(&mut rest) })
    }

    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Value<'a> {
    /// Any integer type, widened.
    #[must_use]
    pub fn as_int(self) -> Option<i64> {
        Some(match self {
            Self::I8(n) => n.into(),
            Self::U8(n) => n.into(),
            Self::I16(n) => n.into(),
            Self::U16(n) => n.into(),
            Self::I32(n) => n.into(),
            Self::U32(n) => n.into(),
            Self::I64(n) => n,
            _ => return None,
        })
    }

    #[must_use]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::LongStr(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// RabbitMQ's name of the type, as its texts print it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
            Self::Timestamp(_) => "timestamp",
            Self::Void => "void",
        }
    }

    /// Value and type as an "inequivalent arg" text prints them.
    #[must_use]
    pub fn argument_text(self) -> ArgumentText {
        let value = match self {
            Self::Bool(b) => b.to_string(),
            Self::F32(n) => format!("{:?}", f64::from(n)),
            Self::F64(n) => format!("{n:?}"),
            Self::LongStr(b) | Self::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
            Self::Timestamp(n) => n.to_string(),
            Self::Decimal { scale, digits } => format!("{{{scale},{digits}}}"),
            Self::Void => "undefined".to_owned(),
            // What is nested is not spelled out.
            Self::Array(it) if it.bytes().is_empty() => "[]".to_owned(),
            Self::Table(it) if it.bytes().is_empty() => "[]".to_owned(),
            Self::Array(_) | Self::Table(_) => "[...]".to_owned(),
            _ => self.as_int().map_or_else(String::new, |n| n.to_string()),
        };
        ArgumentText { value, kind: self.kind() }
    }

    /// As `equivalent`, of arguments that may be missing.
    #[must_use]
    pub fn are_equivalent(one: Option<Self>, other: Option<Self>) -> bool {
        match (one, other) {
            (Some(one), Some(other)) => one.equivalent(other),
            (one, other) => one.is_none() && other.is_none(),
        }
    }

    /// Equal as RabbitMQ compares arguments: all integer widths are one class with timestamps, and
    /// so are the floats, and both kinds of strings.
    #[must_use]
    pub fn equivalent(self, other: Value<'_>) -> bool {
        let whole = |value: Value<'_>| match value {
            Value::Timestamp(seconds) => Some(i128::from(seconds)),
            other => other.as_int().map(i128::from),
        };
        match (whole(self), whole(other)) {
            (Some(a), Some(b)) => return a == b,
            (None, None) => {}
            _ => return false,
        }
        let strings = (self, other);
        if let (Value::LongStr(a) | Value::Bytes(a), Value::LongStr(b) | Value::Bytes(b)) = strings
        {
            return a == b;
        }
        let float = |value: Value<'_>| match value {
            Value::F32(n) => Some(f64::from(n)),
            Value::F64(n) => Some(n),
            _ => None,
        };
        match (float(self), float(other)) {
            (Some(a), Some(b)) => a.to_bits() == b.to_bits(),
            (None, None) => self == other,
            _ => false,
        }
    }
}

/// Builds a table to send or to store.
#[derive(Default)]
pub struct TableBuilder(Vec<u8>);

impl TableBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As `new`, with room for so many octets.
    #[must_use]
    pub fn with_capacity(len: usize) -> Self {
        Self(Vec::with_capacity(len))
    }

    /// Appends a field.
    ///
    /// # Panics
    /// If `key` is longer than 255 bytes: keys are ours or were a shortstr.
    #[must_use]
    pub fn put(mut self, key: &[u8], value: Value<'_>) -> Self {
        self.0.push(u8::try_from(key.len()).expect("a key is a shortstr"));
        self.0.extend_from_slice(key);
        put_value(&mut self.0, value);
        self
    }

    #[must_use]
    pub fn finish(self) -> Table {
        Table(self.0.into())
    }
}

/// Builds an array to send or to store.
#[derive(Default)]
pub struct ArrayBuilder(Vec<u8>);

impl ArrayBuilder {
    pub fn push(&mut self, item: Value<'_>) {
        put_value(&mut self.0, item);
    }

    #[must_use]
    pub fn as_ref(&self) -> ArrayRef<'_> {
        ArrayRef(&self.0)
    }
}

/// Appends type letter and value.
pub fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    let long = |out: &mut Vec<u8>, letter: u8, bytes: &[u8]| {
        out.push(letter);
        let len = u32::try_from(bytes.len()).expect("a value of the wire is below 4 GiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Bool(b) => out.extend_from_slice(&[b't', u8::from(b)]),
        Value::I8(n) => out.extend_from_slice(&[b'b', n.to_be_bytes()[0]]),
        Value::U8(n) => out.extend_from_slice(&[b'B', n]),
        Value::I16(n) => put_fixed(out, b's', &n.to_be_bytes()),
        Value::U16(n) => put_fixed(out, b'u', &n.to_be_bytes()),
        Value::I32(n) => put_fixed(out, b'I', &n.to_be_bytes()),
        Value::U32(n) => put_fixed(out, b'i', &n.to_be_bytes()),
        Value::I64(n) => put_fixed(out, b'l', &n.to_be_bytes()),
        Value::F32(n) => put_fixed(out, b'f', &n.to_be_bytes()),
        Value::F64(n) => put_fixed(out, b'd', &n.to_be_bytes()),
        Value::Decimal { scale, digits } => {
            out.extend_from_slice(&[b'D', scale]);
            out.extend_from_slice(&digits.to_be_bytes());
        }
        Value::LongStr(bytes) => long(out, b'S', bytes),
        Value::Bytes(bytes) => long(out, b'x', bytes),
        Value::Array(array) => long(out, b'A', array.0),
        Value::Table(table) => long(out, b'F', table.0),
        Value::Timestamp(n) => put_fixed(out, b'T', &n.to_be_bytes()),
        Value::Void => out.push(b'V'),
    }
}

fn put_fixed(out: &mut Vec<u8>, letter: u8, bytes: &[u8]) {
    out.push(letter);
    out.extend_from_slice(bytes);
}

/// Walks a table without recursion: a stack of where the open tables and arrays end.
fn check(bytes: &[u8]) -> Result<(), TableError> {
    let mut open = [(0, false); TABLE_DEPTH_MAX];
    let mut depth = 0;
    let (mut end, mut keyed) = (bytes.len(), true);
    let mut at = 0;
    let mut fields = 0;
    loop {
        while at == end {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            (end, keyed) = open[depth];
        }
        fields += 1;
        if fields > TABLE_FIELDS_MAX {
            return Err(TableError::TooManyFields);
        }
        let limit = bytes.get(..end).ok_or(TableError::Truncated)?;
        if keyed {
            let len = *limit.get(at).ok_or(TableError::Truncated)?;
            at += 1 + usize::from(len);
        }
        let letter = *limit.get(at).ok_or(TableError::Truncated)?;
        at += 1;
        match letter {
            b'A' | b'F' => {
                let len = read_len(limit, at)?;
                at += 4;
                let inner_end = at.checked_add(len).filter(|inner| *inner <= end);
                let inner_end = inner_end.ok_or(TableError::Truncated)?;
                let slot = open.get_mut(depth).ok_or(TableError::TooDeep)?;
                *slot = (end, keyed);
                depth += 1;
                (end, keyed) = (inner_end, letter == b'F');
            }
            _ => at += scalar_len(limit, at, letter)?,
        }
        if at > end {
            return Err(TableError::Truncated);
        }
    }
}

/// Octets of a value that is neither table nor array, after its letter.
fn scalar_len(limit: &[u8], at: usize, letter: u8) -> Result<usize, TableError> {
    let len = match letter {
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'D' => 5,
        b'V' => 0,
        b'S' | b'x' => 4 + read_len(limit, at)?,
        other => return Err(TableError::UnknownType(other)),
    };
    let value = limit.get(at..at + len).ok_or(TableError::Truncated)?;
    let finite = match letter {
        b'f' => f32::from_be_bytes(fixed(value)).is_finite(),
        b'd' => f64::from_be_bytes(fixed(value)).is_finite(),
        _ => true,
    };
    if finite { Ok(len) } else { Err(TableError::NotFinite) }
}

fn read_len(limit: &[u8], at: usize) -> Result<usize, TableError> {
    let bytes = limit.get(at..at + 4).ok_or(TableError::Truncated)?;
    Ok(u32::from_be_bytes(fixed(bytes)) as usize)
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller took N bytes")
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn take_fixed<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N).map(fixed)
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let [len] = take_fixed(rest)?;
    take(rest, len.into())
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_be_bytes(take_fixed(rest)?);
    take(rest, len as usize)
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Option<Value<'a>> {
    let [letter] = take_fixed(rest)?;
    Some(match letter {
        b't' => Value::Bool(take_fixed::<1>(rest)?[0] != 0),
        b'b' => Value::I8(i8::from_be_bytes(take_fixed(rest)?)),
        b'B' => Value::U8(take_fixed::<1>(rest)?[0]),
        b's' => Value::I16(i16::from_be_bytes(take_fixed(rest)?)),
        b'u' => Value::U16(u16::from_be_bytes(take_fixed(rest)?)),
        b'I' => Value::I32(i32::from_be_bytes(take_fixed(rest)?)),
        b'i' => Value::U32(u32::from_be_bytes(take_fixed(rest)?)),
        b'l' | b'L' => Value::I64(i64::from_be_bytes(take_fixed(rest)?)),
        b'f' => Value::F32(f32::from_be_bytes(take_fixed(rest)?)),
        b'd' => Value::F64(f64::from_be_bytes(take_fixed(rest)?)),
        b'D' => Value::Decimal {
            scale: take_fixed::<1>(rest)?[0],
            digits: u32::from_be_bytes(take_fixed(rest)?),
        },
        b'S' => Value::LongStr(take_long(rest)?),
        b'x' => Value::Bytes(take_long(rest)?),
        b'A' => Value::Array(ArrayRef(take_long(rest)?)),
        b'F' => Value::Table(TableRef(take_long(rest)?)),
        b'T' => Value::Timestamp(u64::from_be_bytes(take_fixed(rest)?)),
        b'V' => Value::Void,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_with_duplicates() {
        let inner = TableBuilder::new().put(b"x", Value::Void).finish();
        let table = TableBuilder::new()
            .put(b"a", Value::I32(-1))
            .put(b"a", Value::LongStr(b"two"))
            .put(b"\xff", Value::Table(inner.as_ref()))
            .finish();
        let table = TableRef::check(table.as_ref().bytes()).unwrap();
        let keys: Vec<_> = table.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"a"[..], b"a", b"\xff"]);
        assert_eq!(table.get(b"a"), Some(Value::I32(-1)));
        assert_eq!(table.get_last(b"a"), Some(Value::LongStr(b"two")));
    }

    #[test]
    fn a_bomb_of_nested_tables_is_refused_without_recursion() {
        let mut bomb = Vec::new();
        for _ in 0..100_000 {
            let len = bomb.len() as u32;
            let mut outer = vec![0, b'F'];
            outer.extend_from_slice(&len.to_be_bytes());
            if bomb.len() < 4096 {
                outer.extend_from_slice(&bomb);
            }
            bomb = outer;
        }
        assert!(TableRef::check(&bomb).is_err());
        let arrays = [&b"\0A\xff\xff\xff\xff"[..], &[b'A'; 64]].concat();
        assert_eq!(TableRef::check(&arrays), Err(TableError::Truncated));
    }

    #[test]
    fn what_rabbitmq_cannot_decode_is_refused() {
        assert_eq!(TableRef::check(b"\x01aU\0\0"), Err(TableError::UnknownType(b'U')));
        assert_eq!(TableRef::check(b"\x01af\x7f\xc0\0\0"), Err(TableError::NotFinite));
        assert_eq!(TableRef::check(b"\x05a"), Err(TableError::Truncated));
        assert_eq!(TableRef::check(b"\x01aS\0\0\0\x09x"), Err(TableError::Truncated));
        let voids = [&b"\x01aA\0\x02\0\0"[..], &[b'V'; 131_072]].concat();
        assert_eq!(TableRef::check(&voids), Err(TableError::TooManyFields));
    }

    #[test]
    fn integers_of_all_widths_are_equivalent_and_floats_are_not_integers() {
        assert!(Value::I32(5).equivalent(Value::U8(5)));
        assert!(!Value::I32(5).equivalent(Value::F64(5.0)));
        assert!(!Value::Bool(true).equivalent(Value::I32(1)));
        assert!(Value::F32(0.5).equivalent(Value::F64(0.5)));
    }

    #[test]
    fn an_argument_is_equivalent_by_what_it_says_and_not_by_how_it_is_written() {
        assert!(Value::Bytes(b"a").equivalent(Value::LongStr(b"a")));
        assert!(Value::Timestamp(5).equivalent(Value::I64(5)));
        assert!(!Value::Timestamp(u64::MAX).equivalent(Value::I64(-1)));
        assert!(!Value::LongStr(b"5").equivalent(Value::I32(5)));
        assert!(Value::are_equivalent(None, None));
        assert!(!Value::are_equivalent(None, Some(Value::Void)));
    }

    #[test]
    fn values_are_printed_as_rabbitmq_prints_them() {
        let table = TableBuilder::new().put(b"a", Value::I32(1)).finish();
        for (value, text) in [
            (Value::F64(1.0), "1.0"),
            (Value::F32(0.5), "0.5"),
            (Value::Void, "undefined"),
            (Value::Table(TableRef::EMPTY), "[]"),
            (Value::Table(table.as_ref()), "[...]"),
        ] {
            assert_eq!(value.argument_text().value, text);
        }
    }
}
