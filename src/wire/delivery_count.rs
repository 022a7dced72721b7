//! The header in which a queue says how often a message came back before this delivery. Only such
//! deliveries are encoded anew, and of them only the content header: all others leave as they lie.

use crate::table::{TableBuilder, TableRef, Value};
use crate::wire::Properties;

const DELIVERY_COUNT: &[u8] = b"x-delivery-count";

/// A content header's payload with `x-delivery-count` in it, in place of what a client had put
/// there (RabbitMQ).
#[must_use]
pub fn with_delivery_count(header: &[u8], times: u16) -> Vec<u8> {
    let Ok(properties) = Properties::check(header) else {
        // What was published has been checked.
        return header.to_vec();
    };
    let headers = properties.headers().unwrap_or(TableRef::EMPTY);
    let kept = headers.iter().filter(|(key, _)| *key != DELIVERY_COUNT);
    let table = kept.fold(TableBuilder::new(), |table, (key, value)| table.put(key, value));
    let table = table.put(DELIVERY_COUNT, Value::I64(times.into())).finish();
    properties.with_headers(table.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(header: &[u8]) -> Option<i64> {
        let headers = Properties::check(header).unwrap().headers()?;
        let all: Vec<_> = headers.iter().filter(|(key, _)| *key == DELIVERY_COUNT).collect();
        assert!(all.len() <= 1);
        all.first().and_then(|(_, value)| value.as_int())
    }

    #[test]
    fn the_count_joins_the_other_headers_and_properties() {
        let bare = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 2];
        let once = with_delivery_count(&bare, 0);
        assert_eq!((count(&bare), count(&once)), (None, Some(0)));
        let table = TableBuilder::new().put(b"a", Value::Bool(true));
        let table = table.put(DELIVERY_COUNT, Value::LongStr(b"mine")).finish();
        let own = Properties::check(&bare).unwrap().with_headers(table.as_ref());
        let twice = with_delivery_count(&own, 2);
        let properties = Properties::check(&twice).unwrap();
        assert_eq!((count(&twice), properties.headers().unwrap().iter().count()), (Some(2), 2));
        assert_eq!(properties.headers().unwrap().get(b"a"), Some(Value::Bool(true)));
        assert_eq!(with_delivery_count(&twice, 2), twice);
        // Class, weight and size stay, and so does the delivery mode.
        assert_eq!((&twice[..12], twice.last()), (&bare[..12], Some(&2)));
    }
}
