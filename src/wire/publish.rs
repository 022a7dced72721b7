//! basic.publish, which is decoded more often than all other methods together.
//!
//! ```text
//! +----+----+--------+----+----------+----+-----+--------------------------+
//! | 60 | 40 | ticket | xl | exchange | kl | key | bit 0 mandatory,         |
//! |    |    | u16    | u8 | xl       | u8 | kl  | bit 1 immediate          |
//! +----+----+--------+----+----------+----+-----+--------------------------+
//!                     `address`: kept as it lies in each message
//! ```

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::wire::error::WireError;
use crate::wire::method::BASIC_PUBLISH;

/// RabbitMQ: neither name is checked to be UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Exchange and routing key as two shortstrs, with their length octets.
    pub address: &'a [u8],
    pub exchange: &'a [u8],
    pub key: &'a [u8],
    pub mandatory: bool,
    pub immediate: bool,
}

/// Decodes the payload of a method frame that is known to be a basic.publish.
///
/// # Errors
/// Fields that do not fill the payload exactly.
#[inline]
pub fn parse_publish(payload: &[u8]) -> Result<Publish<'_>, WireError> {
    parse(payload)
        .ok_or_else(|| WireError::fields(BASIC_PUBLISH, payload.get(4..).unwrap_or_default()))
}

#[inline]
fn parse(payload: &[u8]) -> Option<Publish<'_>> {
    let (_ids_and_ticket, fields) = payload.split_first_chunk::<6>()?;
    let (&bits, address) = fields.split_last()?;
    let (&exchange_len, rest) = address.split_first()?;
    let (exchange, rest) = rest.split_at_checked(exchange_len.into())?;
    let (&key_len, key) = rest.split_first()?;
    (key.len() == usize::from(key_len)).then_some(Publish {
        address,
        exchange,
        key,
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_spans_both_names() {
        let publish = parse_publish(b"\0\x3c\0\x28\0\0\x02ex\x03\xffey\x03").unwrap();
        assert_eq!(publish.address, b"\x02ex\x03\xffey");
        assert_eq!((publish.exchange, publish.key), (&b"ex"[..], &b"\xffey"[..]));
        assert!(publish.mandatory && publish.immediate);
        let publish = parse_publish(b"\0\x3c\0\x28\0\0\0\0\0").unwrap();
        assert_eq!((publish.address, publish.mandatory), (&b"\0\0"[..], false));
    }

    #[test]
    fn fields_that_do_not_fill_the_payload_are_refused() {
        let whole = b"\0\x3c\0\x28\0\0\x02ex\x03key\0";
        for end in 0..whole.len() {
            assert!(parse_publish(whole.get(..end).unwrap()).is_err());
        }
        let error = parse_publish(b"\0\x3c\0\x28\0\0\0\0\0\x07").unwrap_err();
        assert_eq!(error.exception().text(), "FRAME_ERROR - cannot decode <<0,0,0,0,0,7>>");
        assert_eq!(error.exception().method, Some(BASIC_PUBLISH));
    }
}
