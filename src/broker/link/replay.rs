//! What an exchange remembers, published to whatever was just bound to it.

use super::publish::PublishBatch;
use super::route::{Admitted, Route};
use super::{Link, Workspace};
use crate::broker::Broker;
use crate::broker::again::Again;
use crate::exchange::Remembered;
use crate::limits::OPERATIONS_PER_TURN;
use crate::queue::{Publish, Queue, QueueType};
use crate::store::Reach;

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replayed {
    /// What to wait for.
    pub reach: Reach,
    /// Messages that queues were given.
    pub copies: usize,
}

impl Replayed {
    /// To a queue, in one lock hold. The vhost is locked meanwhile, so that nothing newer overtakes
    /// what is remembered.
    pub(in crate::broker) fn to_queue(
        queue: &Queue,
        remembered: &[Remembered],
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Self {
        let is_quorum = queue.kind == QueueType::Quorum;
        let persistent = |it: &Remembered| it.persistent || is_quorum;
        let mut messages: Vec<_> =
            remembered.iter().map(|it| publish(it, persistent(it))).collect();
        let published = queue.publish(&mut messages, &mut workspace.turn(broker));
        match published {
            Ok(lsn) => Self { reach: Reach::of(lsn, queue.durability()), copies: remembered.len() },
            // It has ended meanwhile, and the binding with it.
            Err(_) => Self::default(),
        }
    }
}

impl Link {
    /// Through an exchange. Where there are many queues behind it, the oldest messages are left
    /// out. What cannot be routed there has nobody who could be told.
    pub(in crate::broker) fn replay_through(
        &mut self,
        exchange: &str,
        remembered: &[Remembered],
        workspace: &mut Workspace,
    ) -> Replayed {
        let Some(exchange) = self.vhost().exchange(exchange) else {
            return Replayed::default();
        };
        let admitted = Admitted { exchange, access_version: self.broker.access.version() };
        let (mut routed, mut copies) = (Vec::new(), 0);
        for remembered in remembered.iter().rev() {
            let route = self.route_remembered(&admitted, remembered, workspace);
            let Some(route) = route else { continue };
            let more = route.targets.len();
            if copies + more > OPERATIONS_PER_TURN && copies > 0 {
                break;
            }
            copies += more;
            let persistent = route.is_persistent(remembered.persistent);
            let publish = Publish { delay: route.delay, ..publish(remembered, persistent) };
            routed.push((route, publish));
        }
        let mut batch = PublishBatch::default();
        for (route, publish) in routed.into_iter().rev() {
            // Nobody waits for its return.
            let _ = batch.add(&route, publish, &self.broker, workspace);
        }
        batch.flush(&self.broker, workspace);
        Replayed { reach: batch.take_reach(), copies }
    }

    fn route_remembered(
        &self,
        admitted: &Admitted,
        remembered: &Remembered,
        workspace: &mut Workspace,
    ) -> Option<Route> {
        let again = Again::of(&remembered.message)?;
        let found = again.route(workspace.effects.now.unix, |published| {
            self.find_route(admitted, published, &mut workspace.routing)
        });
        // What was published before is no duplicate of itself.
        found.ok().map(|(route, _)| Route { deduplicates: false, ..route })
    }
}

/// No channel waits for it to come back.
fn publish(remembered: &Remembered, persistent: bool) -> Publish {
    Publish {
        message: remembered.message.clone(),
        persistent,
        priority: remembered.priority,
        ttl: remembered.ttl,
        delay: None,
        mark: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::declare::tests::{DURABLE, connect, open};
    use crate::broker::{BindTo, DeclareExchange, DeclareQueue};
    use crate::exchange::Published;
    use crate::limits::HISTORY_LEN_MAX;
    use crate::message::Message;
    use crate::store::MemoryDisk;
    use crate::table::{TableBuilder, TableRef, Value};
    use crate::time::Ttl;

    fn declare_exchange(link: &mut Link, name: &str, kind: &str, workspace: &mut Workspace) {
        let length = TableBuilder::new().put(b"x-recent-history-length", Value::I32(i32::MAX));
        let length = length.finish();
        let declare = DeclareExchange {
            name,
            kind,
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: length.as_ref(),
        };
        link.declare_exchange(&declare, workspace).unwrap();
    }

    fn publish_to(link: &mut Link, exchange: &str, count: usize, workspace: &mut Workspace) {
        let mut batch = PublishBatch::default();
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for _ in 0..count {
            let message = Message::new(exchange.as_bytes(), b"", &header, b"", &mut Vec::new());
            let admitted = link.admit(exchange.as_bytes()).unwrap();
            let published = Published::new(&[b""], None);
            let scratch = &mut workspace.routing;
            let route = link.route(&admitted, published, None, scratch).unwrap();
            let publish = Publish {
                message,
                persistent: false,
                priority: 0,
                ttl: Ttl::FOREVER,
                delay: None,
                mark: 0,
            };
            let _ = batch.add(&route, publish, &link.broker, workspace);
        }
        batch.flush(&link.broker, workspace);
    }

    #[test]
    fn a_replay_is_bounded_by_messages_and_by_copies() {
        const QUEUES: usize = 16;
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        declare_exchange(&mut link, "history", "x-recent-history", &mut workspace);
        declare_exchange(&mut link, "wide", "fanout", &mut workspace);
        publish_to(&mut link, "history", HISTORY_LEN_MAX + 10, &mut workspace);
        let none = TableRef::EMPTY;
        for n in 0..QUEUES {
            let name = format!("q{n}");
            let declare = DeclareQueue { name: &name, durable: false, ..DURABLE };
            link.declare_queue(&declare, &mut workspace).unwrap();
            link.bind("wide", BindTo::Queue(&name), b"", none, &mut workspace).unwrap();
        }
        let mut bind = |to, workspace: &mut Workspace| {
            link.bind("history", to, b"", none, workspace).unwrap().copies
        };
        assert_eq!(bind(BindTo::Queue("q0"), &mut workspace), HISTORY_LEN_MAX);
        assert_eq!(bind(BindTo::Queue("q0"), &mut workspace), 0);
        let each = OPERATIONS_PER_TURN / QUEUES;
        assert_eq!(bind(BindTo::Exchange("wide"), &mut workspace), each * QUEUES);
        let ready = |name| broker.vhost("/").unwrap().queue(name).unwrap().counters.ready.get();
        assert_eq!(ready("q0"), (HISTORY_LEN_MAX + each) as u64);
        assert_eq!(ready("q15"), each as u64);
    }

    #[test]
    fn a_quorum_queue_stores_what_is_replayed_to_it_whatever_its_delivery_mode() {
        let disk = MemoryDisk::new();
        let broker = open(&disk);
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        declare_exchange(&mut link, "history", "x-recent-history", &mut workspace);
        declare_exchange(&mut link, "further", "fanout", &mut workspace);
        publish_to(&mut link, "history", 3, &mut workspace);
        let quorum = TableBuilder::new().put(b"x-queue-type", Value::LongStr(b"quorum")).finish();
        let none = TableRef::EMPTY;
        for name in ["near", "far"] {
            let declare = DeclareQueue { name, arguments: quorum.as_ref(), ..DURABLE };
            link.declare_queue(&declare, &mut workspace).unwrap();
        }
        link.bind("further", BindTo::Queue("far"), b"", none, &mut workspace).unwrap();
        for to in [BindTo::Queue("near"), BindTo::Exchange("further")] {
            link.bind("history", to, b"", none, &mut workspace).unwrap();
        }
        broker.close(&disk).unwrap();
        let vhost = open(&disk).vhost("/").unwrap();
        let ready = |name| vhost.queue(name).unwrap().counters.ready.get();
        assert_eq!([ready("near"), ready("far")], [3, 3]);
    }
}
