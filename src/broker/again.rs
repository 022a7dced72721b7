//! A message that the broker has and routes once more: a dead letter, a delayed message whose time
//! has come, one that an exchange remembers.

use super::link::Workspace;
use super::vhost::Resolved;
use super::{Broker, Vhost};
use crate::exchange::{ExchangeShared, Published, Remembered};
use crate::message::Message;
use crate::queue::Publish;
use crate::table::{TableRef, Value};
use crate::time::{Delay, Ttl, UnixMillis};
use crate::wire::Properties;

/// See the module.
pub(super) struct Again<'a> {
    pub(super) message: &'a Message,
    pub(super) properties: Properties<'a>,
    /// As when it was published: its routing key, then those of its CC and BCC headers.
    keys: Vec<&'a [u8]>,
}

impl<'a> Again<'a> {
    /// `None` if its properties do not decode, which was checked when it was published.
    pub(super) fn of(message: &'a Message) -> Option<Self> {
        let properties = Properties::check(message.header()).ok()?;
        let mut keys = vec![message.routing_key()];
        keys.extend(copies(properties.headers().unwrap_or(TableRef::EMPTY)));
        keys.extend(message.blind_keys());
        Some(Self { message, properties, keys })
    }

    /// Its routing key, if it has no other keys.
    pub(super) fn only_key(&self) -> Option<&[u8]> {
        match self.keys[..] {
            [key] => Some(key),
            _ => None,
        }
    }

    /// Lets `find` look where it goes.
    pub(super) fn route<T>(&self, now: UnixMillis, find: impl FnOnce(Published<'_>) -> T) -> T {
        find(Published {
            keys: &self.keys,
            headers: self.properties.headers(),
            properties: &|property| self.properties.get(property),
            now,
        })
    }

    /// The message for a queue; no channel waits for it to come back.
    pub(super) fn publish(&self, ttl: Ttl, delay: Option<Delay>) -> Publish {
        Publish {
            message: self.message.clone(),
            persistent: self.properties.is_persistent(),
            priority: self.properties.priority().unwrap_or(0),
            ttl,
            delay,
            mark: 0,
        }
    }
}

impl Broker {
    /// Where it goes from `exchange`, and how long it waits there. `None` if a type on its way is
    /// gone or fails.
    pub(super) fn targets(
        &self,
        again: &Again<'_>,
        exchange: &ExchangeShared,
        vhost: &Vhost,
        workspace: &mut Workspace,
    ) -> Option<Resolved> {
        workspace.routing.seed(|| self.entropy.number());
        let (now, scratch) = (workspace.effects.now.unix, &mut workspace.routing);
        again.route(now, |published| vhost.resolve(exchange, published, scratch)).ok()
    }
}

/// A message as an exchange remembers it.
pub(super) fn remembered(publish: &Publish) -> Remembered {
    Remembered {
        message: publish.message.clone(),
        persistent: publish.persistent,
        priority: publish.priority,
        ttl: publish.ttl,
    }
}

/// The keys in the CC header; what is no text is none.
pub(super) fn copies(headers: TableRef<'_>) -> impl Iterator<Item = &[u8]> {
    let array = headers.get(b"CC").and_then(|value| match value {
        Value::Array(items) => Some(items),
        _ => None,
    });
    let key = |item| if let Value::LongStr(key) = item { Some(key) } else { None };
    array.into_iter().flat_map(|items| items.iter()).filter_map(key)
}
