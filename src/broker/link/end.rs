//! The end of a link: everything goes back, and in an order in which nothing is overtaken.
//!
//! Its consumers keep their places, silent, until what they have not settled is in its queue again.
//! So whoever takes over from an exclusive or a single active one begins with that.

use super::{Link, Workspace};
use crate::queue::Event;
use std::collections::VecDeque;

impl Link {
    /// Begins to end the stake: consumers get nothing more, an open transaction is dropped, nothing
    /// is confirmed. What the queues had for it is in the inbox then.
    pub fn stop(&mut self, workspace: &mut Workspace) {
        self.rollback();
        self.confirms = None;
        self.silence_consumers(workspace);
    }

    /// Ends the stake: everything unacked returns to its queue, delivered or still `undelivered`,
    /// and then the consumers go.
    pub fn finish(&mut self, undelivered: VecDeque<Event>, workspace: &mut Workspace) {
        self.requeue_all(undelivered, workspace);
        self.leave_queues(workspace);
        self.forget_routes();
        let unused = std::mem::take(&mut workspace.effects.unused);
        self.client.vhost.end_unused(&unused, &self.broker, workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Consume;
    use super::*;
    use crate::broker::DeclareQueue;
    use crate::broker::declare::tests::{DURABLE, connect, open};
    use crate::message::Message;
    use crate::name::Name;
    use crate::queue::{Publish, Queue};
    use crate::store::MemoryDisk;
    use crate::table::{TableBuilder, TableRef, Value};
    use crate::time::Ttl;
    use std::sync::Arc;

    fn publish(queue: &Queue, count: usize, link: &Link, workspace: &mut Workspace) {
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let message = Message::new(b"", b"q", &header, b"", &mut Vec::new());
        let (ttl, delay) = (Ttl::FOREVER, None);
        let publish = Publish { message, persistent: false, priority: 0, ttl, delay, mark: 0 };
        queue.publish(&mut vec![publish; count], &mut workspace.turn(&link.broker)).unwrap();
    }

    fn consume(link: &mut Link, exclusive: bool, workspace: &mut Workspace) -> bool {
        let queue = link.find_queue("q").unwrap();
        link.set_prefetch(3, workspace);
        let (tag, timeout_ms) = (Name::new("tag"), None);
        let consume = Consume { tag, no_ack: false, exclusive, priority: 0, timeout_ms };
        link.consume(&queue, consume, workspace).is_ok()
    }

    fn received(link: &Link) -> VecDeque<Event> {
        let mut events = Vec::new();
        link.client.inbox.take_events(&mut events);
        events.into()
    }

    fn seqs(link: &Link) -> Vec<(u64, bool)> {
        let events = received(link).into_iter();
        let deliveries = events.filter_map(|event| match event {
            Event::Delivery(delivery) => Some((delivery.seq.0, delivery.redelivered)),
            _ => None,
        });
        deliveries.collect()
    }

    /// A queue of six messages, of which `link`'s consumer has two and a third is on its way.
    fn begin(
        link: &mut Link,
        arguments: TableRef<'_>,
        exclusive: bool,
        workspace: &mut Workspace,
    ) -> (Arc<Queue>, VecDeque<Event>) {
        let declare = DeclareQueue { name: "q", arguments, ..DURABLE };
        link.declare_queue(&declare, workspace).unwrap();
        let queue = link.find_queue("q").unwrap();
        publish(&queue, 6, link, workspace);
        assert!(consume(link, exclusive, workspace));
        let mut events = received(link);
        let token = events[0].token();
        let mut run = link.begin_run(token).unwrap();
        for event in events.drain(..2) {
            let Event::Delivery(delivery) = event else { panic!("{event:?}") };
            link.deliver(&mut run, &delivery);
        }
        link.end_run(token, run, workspace);
        assert_eq!(events.len(), 1);
        (queue, events)
    }

    #[test]
    fn the_next_active_consumer_begins_with_what_was_left_behind() {
        let broker = open(&MemoryDisk::new());
        let (mut first, mut next) = (connect(&broker), connect(&broker));
        let mut workspace = Workspace::default();
        let single = TableBuilder::new().put(b"x-single-active-consumer", Value::Bool(true));
        let single = single.finish();
        let (queue, undelivered) = begin(&mut first, single.as_ref(), false, &mut workspace);
        assert!(consume(&mut next, false, &mut workspace));
        first.stop(&mut workspace);
        publish(&queue, 1, &next, &mut workspace);
        assert_eq!((seqs(&first), seqs(&next)), (vec![], vec![]));
        first.finish(undelivered, &mut workspace);
        assert_eq!(seqs(&next), [(1, true), (2, true), (3, true)]);
    }

    #[test]
    fn an_exclusive_consumer_keeps_others_out_until_what_it_had_is_back() {
        let broker = open(&MemoryDisk::new());
        let (mut first, mut next) = (connect(&broker), connect(&broker));
        let mut workspace = Workspace::default();
        let (_, undelivered) = begin(&mut first, TableRef::EMPTY, true, &mut workspace);
        first.stop(&mut workspace);
        assert!(!consume(&mut next, true, &mut workspace));
        first.finish(undelivered, &mut workspace);
        assert!(consume(&mut next, true, &mut workspace));
        assert_eq!(seqs(&next), [(1, true), (2, true), (3, true)]);
    }
}
