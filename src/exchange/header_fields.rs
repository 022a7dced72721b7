//! A message's headers as a headers exchange compares them: sorted, one field a name, and each
//! value as bytes that are equal for equal values.

use crate::table::{TableRef, Value, put_value};

/// One message's headers, in buffers that are reused from message to message.
#[derive(Debug, Default)]
pub(super) struct HeaderFields {
    /// Names and comparable values, end to end.
    bytes: Vec<u8>,
    /// Sorted by name; no two have the same.
    fields: Vec<Field>,
}

/// Where a field lies in `bytes`.
#[derive(Debug)]
struct Field {
    name_at: usize,
    value_at: usize,
    end: usize,
}

impl HeaderFields {
    /// Forgets the last message and takes in `headers`.
    pub(super) fn read(&mut self, headers: TableRef<'_>) {
        let Self { bytes, fields } = self;
        bytes.clear();
        fields.clear();
        for (name, value) in headers.iter() {
            let name_at = bytes.len();
            bytes.extend_from_slice(name);
            let value_at = bytes.len();
            put_comparable(bytes, value);
            fields.push(Field { name_at, value_at, end: bytes.len() });
        }
        // RabbitMQ: of several headers of one name the last one counts. It is sorted first here,
        // and `dedup` keeps the first.
        let name = |field: &Field| &bytes[field.name_at..field.value_at];
        fields.sort_unstable_by(|a, b| (name(a), b.name_at).cmp(&(name(b), a.name_at)));
        fields.dedup_by(|a, b| name(a) == name(b));
    }

    /// Names and comparable values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|f| (self.name(f), self.value(f)))
    }

    /// The comparable value of that name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let found = self.fields.binary_search_by(|f| self.name(f).cmp(name));
        found.ok().map(|index| self.value(&self.fields[index]))
    }

    fn name(&self, field: &Field) -> &[u8] {
        &self.bytes[field.name_at..field.value_at]
    }

    fn value(&self, field: &Field) -> &[u8] {
        &self.bytes[field.value_at..field.end]
    }
}

/// Appends bytes that say what a value is to a headers exchange, which ignores the width of an
/// integer or a float, and whether a string is called text or binary. What is nested is compared
/// as it lies on the wire.
pub(super) fn put_comparable(out: &mut Vec<u8>, value: Value<'_>) {
    if let Some(n) = value.as_int() {
        return put_value(out, Value::I64(n));
    }
    match value {
        // No length: a string ends where its value ends.
        Value::LongStr(text) | Value::Bytes(text) => {
            out.push(b'S');
            out.extend_from_slice(text);
        }
        Value::F32(n) => put_value(out, Value::F64(n.into())),
        other => put_value(out, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Table, TableBuilder};

    fn equal(a: Value<'_>, b: Value<'_>) -> bool {
        let comparable = |value| {
            let mut out = Vec::new();
            put_comparable(&mut out, value);
            out
        };
        comparable(a) == comparable(b)
    }

    fn table(fields: &[(&[u8], Value<'_>)]) -> Table {
        let put = |table: TableBuilder, &(name, value): &(&[u8], Value<'_>)| table.put(name, value);
        fields.iter().fold(TableBuilder::new(), put).finish()
    }

    #[test]
    fn values_are_compared_by_class_and_not_by_wire_type() {
        use Value::{Bool, Bytes, F32, F64, I8, I32, I64, LongStr, Timestamp, U8, Void};
        let one_class = [
            (I32(1), I64(1)),
            (U8(255), I32(255)),
            (I8(-1), I64(-1)),
            (LongStr(b"z"), Bytes(b"z")),
            (F32(0.5), F64(0.5)),
            (Timestamp(5), Timestamp(5)),
            (Void, Void),
        ];
        for (a, b) in one_class {
            assert!(equal(a, b), "{a:?} {b:?}");
        }
        let others = [
            (I32(1), F64(1.0)),
            (I32(1), Bool(true)),
            (I32(5), Timestamp(5)),
            (Timestamp(5), Timestamp(6)),
            (Bool(true), LongStr(b"true")),
            (Bool(true), Bool(false)),
            (I32(1), LongStr(b"1")),
            (LongStr(b""), Void),
            (LongStr(b"a"), LongStr(b"A")),
        ];
        for (a, b) in others {
            assert!(!equal(a, b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn nested_values_are_compared_in_order_with_their_types() {
        let (int, long) = (Value::I32(1), Value::I64(1));
        let ab = table(&[(b"a", int), (b"b", Value::Void)]);
        let ba = table(&[(b"b", Value::Void), (b"a", int)]);
        let wider = table(&[(b"a", long), (b"b", Value::Void)]);
        let nested = Value::Table(ab.as_ref());
        assert!(equal(nested, Value::Table(ab.as_ref())));
        assert!(!equal(nested, Value::Table(ba.as_ref())));
        assert!(!equal(nested, Value::Table(wider.as_ref())));
    }

    #[test]
    fn of_several_headers_of_one_name_the_last_one_counts() {
        let mut fields = HeaderFields::default();
        fields.read(table(&[(b"old", Value::Void)]).as_ref());
        let headers = table(&[
            (b"b", Value::LongStr(b"1")),
            (b"a", Value::LongStr(b"2")),
            (b"b", Value::LongStr(b"3")),
            (b"", Value::LongStr(b"4")),
            (b"b", Value::LongStr(b"5")),
        ]);
        fields.read(headers.as_ref());
        let read: Vec<_> = fields.iter().collect();
        assert_eq!(read, [(&b""[..], &b"S4"[..]), (b"a", b"S2"), (b"b", b"S5")]);
        assert_eq!(fields.get(b"b"), Some(&b"S5"[..]));
        assert_eq!(fields.get(b"old"), None);
    }
}
