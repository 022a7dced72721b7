//! A delayed message whose time has come: it goes on as it was published, by way of the bindings of
//! the exchange that has held it back, and its headers say that it has waited.

use super::letter::copies;
use super::{Fate, Places, reserve_places};
use crate::broker::link::Workspace;
use crate::broker::vhost::Resolved;
use crate::broker::{Broker, Vhost};
use crate::exchange::{ExchangeShared, Published, waited};
use crate::id::Seq;
use crate::message::Message;
use crate::queue::{Dead, Origin, Publish};
use crate::table::TableRef;
use crate::time::{Delay, UnixMillis};
use crate::wire::Properties;
use std::sync::Arc;

impl Broker {
    /// As `reserve`. What no queue takes ends here, counted by its exchange.
    pub(super) fn reserve_released(
        &self,
        dead: &Dead,
        origin: &Origin,
        shown: &mut Places<Seq>,
        workspace: &mut Workspace,
    ) -> Fate {
        let Some(vhost) = self.vhost(&origin.vhost) else { return Fate::Ends };
        let Some(exchange) = held_in(&vhost, dead, origin) else { return Fate::Ends };
        let Some(message) = released(&dead.message, &mut workspace.scratch) else {
            return Fate::Ends;
        };
        let Ok(properties) = Properties::check(message.header()) else { return Fate::Ends };
        let mut keys = vec![message.routing_key()];
        let copies = copies(properties.headers().unwrap_or(TableRef::EMPTY));
        keys.extend(copies.iter().map(Vec::as_slice));
        let published = Published {
            keys: &keys,
            headers: properties.headers(),
            properties: &|property| properties.get(property),
            now: workspace.effects.now.unix,
        };
        workspace.routing.seed(|| self.entropy.number());
        let found = vhost.resolve(&exchange, published, &mut workspace.routing);
        let Resolved { queues, routed } = found.unwrap_or_default();
        if queues.is_empty() {
            exchange.counters.unroutable.add(1);
            return Fate::Ends;
        }
        let publish = Publish {
            message: message.clone(),
            persistent: properties.is_persistent(),
            priority: properties.priority().unwrap_or(0),
            ttl_ms: ttl_ms(&properties),
            delay: routed.delay,
            mark: 0,
        };
        reserve_places(&publish, queues, false, shown, self, workspace)
    }

    /// As `reserve`, for one that goes on waiting.
    pub(super) fn reserve_rescheduled(
        &self,
        dead: &Dead,
        origin: &Origin,
        until: UnixMillis,
        shown: &mut Places<Seq>,
        workspace: &mut Workspace,
    ) -> Fate {
        let exchange = self.vhost(&origin.vhost).and_then(|vhost| held_in(&vhost, dead, origin));
        let queue = exchange.and_then(|_| self.queue_by_id(dead.queue));
        let (Some(queue), Ok(properties)) = (queue, Properties::check(dead.message.header()))
        else {
            return Fate::Ends;
        };
        let publish = Publish {
            message: dead.message.clone(),
            persistent: properties.is_persistent(),
            priority: properties.priority().unwrap_or(0),
            ttl_ms: Publish::FOREVER,
            delay: Some(Delay::until(until)),
            mark: 0,
        };
        reserve_places(&publish, vec![queue], false, shown, self, workspace)
    }
}

/// The exchange in which it waits. What waits ends with it; another of its name is another one.
fn held_in(vhost: &Vhost, dead: &Dead, origin: &Origin) -> Option<Arc<ExchangeShared>> {
    let exchange = vhost.exchange(&origin.name);
    exchange.filter(|exchange| exchange.kind.delay_queue() == Some(dead.queue))
}

/// The message as it goes on.
fn released(message: &Message, scratch: &mut Vec<u8>) -> Option<Message> {
    // What was published has been checked.
    let properties = Properties::check(message.header()).ok()?;
    let headers = properties.headers().and_then(waited);
    Some(match headers {
        Some(headers) => message.with_header(&properties.with_headers(headers.as_ref()), scratch),
        None => message.clone(),
    })
}

/// How long it may wait in a queue: that begins now.
fn ttl_ms(properties: &Properties<'_>) -> u64 {
    let text = properties.expiration().and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(Publish::FOREVER)
}
