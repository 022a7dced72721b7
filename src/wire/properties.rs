//! The properties of a content: a checked view of a content header's payload.
//!
//! ```text
//! +------------------------------+-------+--------------------------------------------+
//! | class, weight, size: 12 u8   | flags | one value for each flag that is set, the   |
//! |                              | u16   | highest flag's first                       |
//! +------------------------------+-------+--------------------------------------------+
//! ```
//! A client's octets are passed on as they came; only what a rule needs is looked at.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::table::{TableBuilder, TableError, TableRef};
use leveret_plugin_api as api;

/// Octets of a content header's payload before the flags.
const FLAGS_AT: usize = 12;
const VALUES_AT: usize = FLAGS_AT + 2;
/// RabbitMQ: the two lowest flags are ignored; there are no continuation words.
const FLAGS_USED: u16 = !3;

/// Properties in the order of their flags (AMQP 0-9-1, 1.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
enum Property {
    ContentType = 1 << 15,
    ContentEncoding = 1 << 14,
    Headers = 1 << 13,
    DeliveryMode = 1 << 12,
    Priority = 1 << 11,
    CorrelationId = 1 << 10,
    ReplyTo = 1 << 9,
    Expiration = 1 << 8,
    MessageId = 1 << 7,
    Timestamp = 1 << 6,
    Kind = 1 << 5,
    UserId = 1 << 4,
    AppId = 1 << 3,
    ClusterId = 1 << 2,
}

/// By the leading zeros of its flag.
const ALL: [Property; 14] = [
    Property::ContentType,
    Property::ContentEncoding,
    Property::Headers,
    Property::DeliveryMode,
    Property::Priority,
    Property::CorrelationId,
    Property::ReplyTo,
    Property::Expiration,
    Property::MessageId,
    Property::Timestamp,
    Property::Kind,
    Property::UserId,
    Property::AppId,
    Property::ClusterId,
];

/// Why the properties of a content do not decode. RabbitMQ does not tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertiesError {
    /// A flag promises a value that is not there.
    Truncated,
    /// Octets are left behind the last value.
    Trailing,
    Headers(TableError),
}

/// Checked properties. Strings are any bytes: RabbitMQ does not check them.
#[derive(Clone, Copy, Debug)]
pub struct Properties<'a> {
    /// A whole content header's payload.
    payload: &'a [u8],
    flags: u16,
    headers: Option<TableRef<'a>>,
}

impl<'a> Properties<'a> {
    /// Checks the payload of a content header frame.
    ///
    /// # Errors
    /// Values that do not fill it exactly, or headers that are not a table.
    #[inline]
    pub fn check(payload: &'a [u8]) -> Result<Self, PropertiesError> {
        let after_size = payload.get(FLAGS_AT..).unwrap_or_default();
        let Some((&flags, values)) = after_size.split_first_chunk() else {
            return Err(PropertiesError::Truncated);
        };
        let flags = u16::from_be_bytes(flags) & FLAGS_USED;
        // Most publishers set none or this one.
        let fixed_len = if flags == 0 {
            Some(0)
        } else if flags == Property::DeliveryMode as u16 {
            Some(1)
        } else {
            None
        };
        if fixed_len == Some(values.len()) {
            return Ok(Self { payload, flags, headers: None });
        }
        Self::check_values(payload, flags, values)
    }

    fn check_values(
        payload: &'a [u8],
        flags: u16,
        mut values: &'a [u8],
    ) -> Result<Self, PropertiesError> {
        let mut headers = None;
        let mut left = flags;
        while let Some(property) = Property::take_first(&mut left) {
            let value = property.take(&mut values).ok_or(PropertiesError::Truncated)?;
            if property == Property::Headers {
                headers = Some(TableRef::check(value).map_err(PropertiesError::Headers)?);
            }
        }
        if values.is_empty() {
            Ok(Self { payload, flags, headers })
        } else {
            Err(PropertiesError::Trailing)
        }
    }

    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.value(Property::ContentType)
    }

    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.value(Property::ContentEncoding)
    }

    #[must_use]
    #[inline]
    pub fn headers(&self) -> Option<TableRef<'a>> {
        self.headers
    }

    #[must_use]
    #[inline]
    pub fn delivery_mode(&self) -> Option<u8> {
        self.octet(Property::DeliveryMode)
    }

    /// RabbitMQ 4: any mode but 2 is transient.
    #[must_use]
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.delivery_mode() == Some(2)
    }

    #[must_use]
    #[inline]
    pub fn priority(&self) -> Option<u8> {
        self.octet(Property::Priority)
    }

    #[must_use]
    pub fn correlation_id(&self) -> Option<&'a [u8]> {
        self.value(Property::CorrelationId)
    }

    #[must_use]
    #[inline]
    pub fn reply_to(&self) -> Option<&'a [u8]> {
        self.value(Property::ReplyTo)
    }

    #[must_use]
    #[inline]
    pub fn expiration(&self) -> Option<&'a [u8]> {
        self.value(Property::Expiration)
    }

    #[must_use]
    pub fn message_id(&self) -> Option<&'a [u8]> {
        self.value(Property::MessageId)
    }

    /// Unix time in seconds.
    #[must_use]
    pub fn timestamp(&self) -> Option<u64> {
        let octets = self.value(Property::Timestamp)?;
        octets.try_into().ok().map(u64::from_be_bytes)
    }

    #[must_use]
    pub fn kind(&self) -> Option<&'a [u8]> {
        self.value(Property::Kind)
    }

    #[must_use]
    #[inline]
    pub fn user_id(&self) -> Option<&'a [u8]> {
        self.value(Property::UserId)
    }

    #[must_use]
    pub fn app_id(&self) -> Option<&'a [u8]> {
        self.value(Property::AppId)
    }

    #[must_use]
    pub fn cluster_id(&self) -> Option<&'a [u8]> {
        self.value(Property::ClusterId)
    }

    /// A property as plugins see it.
    #[must_use]
    pub fn get(&self, property: api::Property) -> Option<api::Value<'a>> {
        use api::Property as P;
        let octet = |octet: Option<u8>| octet.map(|octet| api::Value::Int(octet.into()));
        let text = match property {
            P::DeliveryMode => return octet(self.delivery_mode()),
            P::Priority => return octet(self.priority()),
            P::Timestamp => return self.timestamp().map(api::Value::Timestamp),
            P::ContentType => self.content_type(),
            P::ContentEncoding => self.content_encoding(),
            P::CorrelationId => self.correlation_id(),
            P::ReplyTo => self.reply_to(),
            P::Expiration => self.expiration(),
            P::MessageId => self.message_id(),
            P::Type => self.kind(),
            P::UserId => self.user_id(),
            P::AppId => self.app_id(),
            P::ClusterId => self.cluster_id(),
        };
        text.map(api::Value::Text)
    }

    /// The payload without any header named `key`, or `None` if there is none. The table stays,
    /// though it may be empty.
    #[must_use]
    pub fn without_header(&self, key: &[u8]) -> Option<Vec<u8>> {
        let headers = self.headers?;
        headers.get(key)?;
        let kept = headers.iter().filter(|(name, _)| *name != key);
        let kept = kept.fold(TableBuilder::new(), |table, (name, value)| table.put(name, value));
        Some(self.with_headers(kept.finish().as_ref()))
    }

    /// The payload without an expiration.
    #[must_use]
    pub fn without_expiration(&self) -> Vec<u8> {
        let (before, mut after) = self.split_before(Property::Expiration);
        if self.expiration().is_some() {
            Property::Expiration.take(&mut after);
        }
        let head = self.payload.get(..FLAGS_AT).unwrap_or_default();
        let flags = self.flags & !(Property::Expiration as u16);
        [head, &flags.to_be_bytes(), before, after].concat()
    }

    /// The payload with these headers instead of its own.
    #[must_use]
    pub fn with_headers(&self, headers: TableRef<'_>) -> Vec<u8> {
        let len = u32::try_from(headers.bytes().len()).expect("a table is below 4 GiB");
        self.with(Property::Headers, &len.to_be_bytes(), headers.bytes())
    }

    /// The payload with this reply-to instead of its own.
    ///
    /// # Panics
    /// If it is longer than 255 bytes: it is ours.
    #[must_use]
    pub fn with_reply_to(&self, reply_to: &[u8]) -> Vec<u8> {
        let len = u8::try_from(reply_to.len()).expect("a shortstr has at most 255 bytes");
        self.with(Property::ReplyTo, &[len], reply_to)
    }

    /// The payload with this value of `property`, in octets behind their length.
    fn with(&self, property: Property, len: &[u8], value: &[u8]) -> Vec<u8> {
        let (before, mut after) = self.split_before(property);
        if self.flags & property as u16 != 0 {
            property.take(&mut after);
        }
        let head = self.payload.get(..FLAGS_AT).unwrap_or_default();
        let flags = self.flags | property as u16;
        [head, &flags.to_be_bytes(), before, len, value, after].concat()
    }

    #[inline]
    fn octet(&self, property: Property) -> Option<u8> {
        self.value(property)?.first().copied()
    }

    #[inline]
    fn value(&self, property: Property) -> Option<&'a [u8]> {
        if self.flags & property as u16 == 0 {
            return None;
        }
        let (_, mut from) = self.split_before(property);
        property.take(&mut from)
    }

    /// The values before that of `property`, and the rest.
    #[inline]
    fn split_before(&self, property: Property) -> (&'a [u8], &'a [u8]) {
        let values = self.payload.get(VALUES_AT..).unwrap_or_default();
        // The flags above that of `property`.
        let mut earlier = self.flags & !((property as u16) | (property as u16 - 1));
        let mut rest = values;
        while let Some(property) = Property::take_first(&mut earlier) {
            property.take(&mut rest);
        }
        values.split_at_checked(values.len() - rest.len()).unwrap_or_default()
    }
}

impl Property {
    /// Takes the first property whose flag is set.
    #[inline]
    fn take_first(flags: &mut u16) -> Option<Self> {
        let property = *ALL.get(flags.leading_zeros() as usize)?;
        *flags &= !(property as u16);
        Some(property)
    }

    /// Takes this property's value from the front, without its length.
    fn take<'a>(self, values: &mut &'a [u8]) -> Option<&'a [u8]> {
        let len = match self {
            Self::DeliveryMode | Self::Priority => 1,
            Self::Timestamp => 8,
            Self::Headers => {
                let (len, rest) = values.split_first_chunk()?;
                *values = rest;
                u32::from_be_bytes(*len) as usize
            }
            _ => {
                let (&len, rest) = values.split_first()?;
                *values = rest;
                len.into()
            }
        };
        let (value, rest) = values.split_at_checked(len)?;
        *values = rest;
        Some(value)
    }
}

#[cfg(test)]
#[path = "properties_tests.rs"]
mod tests;
