//! Field tables and messages as plugins see them.

use super::matcher::Subject;
use crate::table::{TableRef, Value};
use leveret_plugin_api as api;

/// A table as plugins see it.
pub fn api_table(table: TableRef<'_>) -> impl api::Fields {
    Fields(table)
}

struct Fields<'a>(TableRef<'a>);

impl api::Fields for Fields<'_> {
    fn get(&self, name: &[u8]) -> Option<api::Value<'_>> {
        self.0.get(name).map(api_value)
    }

    fn for_each(&self, show: &mut dyn FnMut(&[u8], api::Value<'_>)) {
        self.0.iter().for_each(|(name, value)| show(name, api_value(value)));
    }
}

/// What a router may see of a message besides its keys.
pub(super) struct MessageContent<'k, 'p>(pub(super) Subject<'k, 'p>);

impl api::Content for MessageContent<'_, '_> {
    fn header(&self, name: &[u8]) -> Option<api::Value<'_>> {
        self.0.headers.get(name).map(api_value)
    }

    fn property(&self, property: api::Property) -> Option<api::Value<'_>> {
        (self.0.properties)(property)
    }
}

fn api_value(value: Value<'_>) -> api::Value<'_> {
    if let Some(n) = value.as_int() {
        return api::Value::Int(n);
    }
    match value {
        Value::Bool(value) => api::Value::Bool(value),
        Value::F32(value) => api::Value::Float(value.into()),
        Value::F64(value) => api::Value::Float(value),
        Value::Decimal { scale, digits } => api::Value::Decimal { scale, digits },
        Value::LongStr(bytes) => api::Value::Text(bytes),
        Value::Bytes(bytes) => api::Value::Bytes(bytes),
        Value::Array(array) => api::Value::Array(array.bytes()),
        Value::Table(table) => api::Value::Table(table.bytes()),
        Value::Timestamp(seconds) => api::Value::Timestamp(seconds),
        // Integers went before.
        _ => api::Value::Void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableBuilder;
    use leveret_plugin_api::Fields as _;

    #[test]
    fn plugins_see_values_without_their_width_and_in_their_order() {
        let nested = TableBuilder::new().put(b"n", Value::Void).finish();
        let table = TableBuilder::new()
            .put(b"narrow", Value::U8(5))
            .put(b"wide", Value::I64(-5))
            .put(b"float", Value::F32(0.5))
            .put(b"text", Value::LongStr(b"t"))
            .put(b"table", Value::Table(nested.as_ref()))
            .put(b"narrow", Value::Void)
            .finish();
        let fields = api_table(table.as_ref());
        assert_eq!(fields.get(b"narrow"), Some(api::Value::Int(5)));
        assert_eq!(fields.get(b"none"), None);
        let mut seen = Vec::new();
        fields.for_each(&mut |name, value| seen.push((name.to_vec(), format!("{value:?}"))));
        let expected = [
            ("narrow", api::Value::Int(5)),
            ("wide", api::Value::Int(-5)),
            ("float", api::Value::Float(0.5)),
            ("text", api::Value::Text(b"t")),
            ("table", api::Value::Table(nested.as_ref().bytes())),
            ("narrow", api::Value::Void),
        ];
        let expected = expected.map(|(name, value)| (name.into(), format!("{value:?}")));
        assert_eq!(seen, expected);
    }
}
