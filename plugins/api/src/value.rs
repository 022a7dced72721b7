//! Arguments and headers: named values of AMQP's field tables.

/// A field table, such as the arguments of an exchange or a binding.
pub trait Fields {
    /// The first field of that name.
    fn get(&self, name: &[u8]) -> Option<Value<'_>>;

    /// Shows every field in its order; names may repeat.
    fn for_each(&self, show: &mut dyn FnMut(&[u8], Value<'_>));
}

/// One field's value. Integers and floats have lost their width, since no rule should depend on
/// which one a client library happens to choose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal {
        scale: u8,
        digits: u32,
    },
    /// A longstr: text by custom, any bytes by right.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// Unix time in seconds.
    Timestamp(u64),
    /// The items as they lie on the wire, without the length before them.
    Array(&'a [u8]),
    /// The fields as they lie on the wire, without the length before them.
    Table(&'a [u8]),
    Void,
}
