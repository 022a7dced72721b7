//! A delayed message whose time has come: it goes on as it was published, by way of the bindings of
//! the exchange that has held it back, and its headers say that it has waited.

use super::places::{Fate, Shown, reserve_places};
use crate::broker::again::Again;
use crate::broker::link::Workspace;
use crate::broker::vhost::Resolved;
use crate::broker::{Broker, Vhost};
use crate::exchange::{ExchangeShared, Routed, waited};
use crate::id::QueueId;
use crate::message::Message;
use crate::queue::{Dead, Obstacle, Origin, Queue};
use crate::time::{Delay, Ttl, UnixMillis};
use crate::wire::Properties;
use std::sync::Arc;

/// Where a message went that was released. The next of its batch goes the same way without having
/// been routed, if keys alone decide: many come from one exchange at once, most with one key.
pub(super) struct Way {
    from: QueueId,
    vhost: Arc<Vhost>,
    exchange: Arc<ExchangeShared>,
    /// The last that was routed, if its key decided alone.
    first: Option<Message>,
    queues: Vec<Arc<Queue>>,
}

impl Way {
    /// Whether it leads to the message's queues.
    fn is_known(&self, again: &Again<'_>) -> bool {
        let first = self.first.as_ref().map(Message::routing_key);
        first.is_some() && first == again.only_key()
    }
}

impl Broker {
    /// As `reserve`. What no queue takes ends here, counted by its exchange; what cannot be routed
    /// waits. `way` is that of the batch.
    pub(super) fn reserve_released(
        &self,
        dead: &Dead,
        origin: &Origin,
        way: &mut Option<Way>,
        shown: &mut Shown,
        workspace: &mut Workspace,
    ) -> Fate {
        if way.as_ref().is_none_or(|way| way.from != dead.queue) {
            *way = self.way_out(dead, origin);
        }
        let Some(way) = way else { return Fate::Ends };
        let Some(message) = released(&dead.message, &mut workspace.scratch) else {
            return Fate::Ends;
        };
        let Some(again) = Again::of(&message) else { return Fate::Ends };
        let mut routed = Routed::default();
        if !way.is_known(&again) {
            // It was confirmed, so it waits for the day when its way has no type that fails.
            let Some(found) = self.find_way(&again, way, workspace) else {
                return Fate::Waits(Obstacle::NoTaker);
            };
            routed = found;
        }
        let publish = again.publish(ttl(&again.properties), routed.delay);
        let fate = if way.queues.is_empty() {
            way.exchange.counters.unroutable.add(1);
            Fate::Ends
        } else {
            reserve_places(&publish, &way.queues, false, self, workspace)
        };
        shown.remember(routed.histories, &publish, &fate);
        fate
    }

    /// Where the ways of this one begin; none if its exchange is no more.
    fn way_out(&self, dead: &Dead, origin: &Origin) -> Option<Way> {
        let vhost = self.vhost(&origin.vhost)?;
        let exchange = held_in(&vhost, dead, origin)?;
        Some(Way { from: dead.queue, vhost, exchange, first: None, queues: Vec::new() })
    }

    /// Has `way` lead to the message's queues; says what else routing has found. `None` if a type
    /// on the way is gone or fails.
    fn find_way(
        &self,
        again: &Again<'_>,
        way: &mut Way,
        workspace: &mut Workspace,
    ) -> Option<Routed> {
        way.first = None;
        let Resolved { queues, routed } =
            self.targets(again, &way.exchange, &way.vhost, workspace)?;
        let by_key = routed.cacheable_once_waited && again.only_key().is_some();
        way.first = (by_key && routed.delay.is_none()).then(|| again.message.clone());
        way.queues = queues;
        Some(routed)
    }

    /// As `reserve`, for one that goes on waiting.
    pub(super) fn reserve_rescheduled(
        &self,
        dead: &Dead,
        origin: &Origin,
        until: UnixMillis,
        workspace: &mut Workspace,
    ) -> Fate {
        let exchange = self.vhost(&origin.vhost).and_then(|vhost| held_in(&vhost, dead, origin));
        let queue = exchange.and_then(|_| self.queue_by_id(dead.queue));
        let (Some(queue), Some(again)) = (queue, Again::of(&dead.message)) else {
            return Fate::Ends;
        };
        let publish = again.publish(Ttl::FOREVER, Some(Delay::until(until)));
        reserve_places(&publish, &[queue], false, self, workspace)
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
fn ttl(properties: &Properties<'_>) -> Ttl {
    let text = properties.expiration().and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.parse().ok()).map_or(Ttl::FOREVER, Ttl::of_ms)
}
