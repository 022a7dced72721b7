//! What of a message an exchange may look at.

use crate::value::Value;

/// A message on its way through an exchange.
pub struct Message<'a> {
    /// The routing key, then those of the CC and BCC headers in their order. Never empty; a sender
    /// may repeat a key, and chooses how many there are.
    pub keys: &'a [&'a [u8]],
    pub content: &'a dyn Content,
    /// Random bits of this message, for whoever throws dice.
    pub random: u64,
}

impl Message<'_> {
    /// The key in `basic.publish`.
    #[must_use]
    pub fn routing_key(&self) -> &[u8] {
        self.keys.first().copied().unwrap_or_default()
    }
}

/// A message's properties and headers.
pub trait Content {
    /// The first header of that name. Finding it reads the headers from their start.
    fn header(&self, name: &[u8]) -> Option<Value<'_>>;

    fn property(&self, property: Property) -> Option<Value<'_>>;
}

/// The properties of AMQP 0-9-1 besides the headers.
///
/// `DeliveryMode` and `Priority` are [`Value::Int`], `Timestamp` is [`Value::Timestamp`], the
/// others are [`Value::Text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Property {
    ContentType,
    ContentEncoding,
    DeliveryMode,
    Priority,
    CorrelationId,
    ReplyTo,
    Expiration,
    MessageId,
    Timestamp,
    Type,
    UserId,
    AppId,
    ClusterId,
}
