//! Publishes that go to the same several queues one after the other, where each queue has records
//! of its own: kept once for all of them, and copied under each queue's lock.

use super::Workspace;
use super::publish::unrouted;
use crate::broker::Broker;
use crate::queue::{Publish, Queue};
use crate::store::Reach;
use std::sync::{Arc, Weak};

pub(super) struct Fan {
    queues: Vec<Arc<Queue>>,
    messages: Vec<Publish>,
}

impl Fan {
    /// Gives the message back if none of these is there any more.
    pub(super) fn new(queues: &[Weak<Queue>], publish: Publish) -> Result<Self, Publish> {
        let queues: Vec<_> = queues.iter().filter_map(Weak::upgrade).collect();
        match queues.is_empty() {
            true => Err(publish),
            false => Ok(Self { queues, messages: vec![publish] }),
        }
    }

    /// Takes a message that goes to the same queues; gives back another.
    pub(super) fn push(&mut self, queues: &[Weak<Queue>], publish: Publish) -> Option<Publish> {
        if !are_same(&self.queues, queues) {
            return Some(publish);
        }
        self.messages.push(publish);
        None
    }

    /// Gives the messages to every queue. `unrouted` of the workspace gets them if all have gone.
    pub(super) fn publish(self, broker: &Broker, workspace: &mut Workspace) -> Reach {
        let (mut reach, mut all_gone) = (Reach::default(), true);
        for queue in &self.queues {
            let published = queue.publish_copies(&self.messages, &mut workspace.turn(broker));
            if let Ok(lsn) = published {
                reach = reach.max(Reach::of(lsn, queue.durability()));
                all_gone = false;
            }
        }
        if all_gone {
            workspace.unrouted.extend(self.messages.into_iter().map(unrouted));
        }
        reach
    }

    /// The messages of each queue by themselves. Not returned if one queue has gone: others took
    /// them.
    pub(super) fn split(self) -> impl Iterator<Item = (Arc<Queue>, Vec<Publish>)> {
        let Self { queues, messages } = self;
        let copies = move || messages.iter().map(unreturned).collect();
        queues.into_iter().map(move |queue| (queue, copies()))
    }
}

/// A copy that comes back to nobody.
pub(super) fn unreturned(publish: &Publish) -> Publish {
    Publish { mark: publish.mark & !1, ..publish.clone() }
}

/// Whether these are those queues, all of them and in that order.
pub(super) fn are_same(queues: &[Arc<Queue>], others: &[Weak<Queue>]) -> bool {
    let same = |(a, b): (&Arc<Queue>, &Weak<Queue>)| std::ptr::eq(Arc::as_ptr(a), b.as_ptr());
    queues.len() == others.len() && queues.iter().zip(others).all(same)
}

#[cfg(test)]
mod tests {
    use super::super::{Link, PublishBatch};
    use super::*;
    use crate::broker::declare::tests::{DURABLE, connect, open};
    use crate::broker::{BindTo, DeclareExchange, DeclareQueue};
    use crate::exchange::Published;
    use crate::message::Message;
    use crate::queue::Got;
    use crate::store::MemoryDisk;
    use crate::table::TableRef;
    use crate::time::Ttl;
    use proptest::prelude::*;

    const QUEUES: [&str; 3] = ["a", "b", "c"];
    /// Exchange and key, and the queues that they lead to.
    const WAYS: [(&str, &str, &[usize]); 5] = [
        ("all", "", &[0, 1, 2]),
        ("two", "", &[1, 2]),
        ("", "a", &[0]),
        ("", "c", &[2]),
        ("none", "", &[]),
    ];

    struct World {
        link: Link,
        workspace: Workspace,
        batch: PublishBatch,
        broker: Arc<Broker>,
    }

    impl World {
        fn new() -> Self {
            let broker = open(&MemoryDisk::new());
            let (mut link, mut workspace) = (connect(&broker), Workspace::default());
            for name in QUEUES {
                let declare = DeclareQueue { name, durable: false, ..DURABLE };
                link.declare_queue(&declare, &mut workspace).unwrap();
            }
            let arguments = TableRef::EMPTY;
            for (name, _, queues) in WAYS.iter().filter(|way| way.1.is_empty()) {
                let (kind, durable) = ("fanout", false);
                let (auto_delete, internal) = (false, false);
                let declare =
                    DeclareExchange { name, kind, durable, auto_delete, internal, arguments };
                link.declare_exchange(&declare, &mut workspace).unwrap();
                for queue in *queues {
                    let to = BindTo::Queue(QUEUES[*queue]);
                    link.bind(name, to, b"", arguments, &mut workspace).unwrap();
                }
            }
            Self { link, workspace, batch: PublishBatch::default(), broker }
        }

        /// False if the message came back at once.
        fn publish(&mut self, (exchange, key): (&str, &str), number: u8) -> bool {
            let Self { link, workspace, batch, broker } = self;
            let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
            let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
            let keys = [key];
            let message = Message::new(exchange, key, &header, &[number], &mut Vec::new());
            let admitted = link.admit(exchange).unwrap();
            let published = Published::new(&keys, None);
            let address = Some(message.address());
            let route = link.route(&admitted, published, address, &mut workspace.routing).unwrap();
            let (ttl, mark) = (Ttl::FOREVER, link.mark(true));
            let (persistent, priority, delay) = (false, 0, None);
            let publish = Publish { message, persistent, priority, ttl, delay, mark };
            matches!(batch.add(&route, publish, broker, workspace), super::super::Added::Routed)
        }

        /// Bodies of those that the flush gave back, if they are mandatory.
        fn flush(&mut self) -> Vec<u8> {
            self.batch.flush(&self.broker, &mut self.workspace);
            let unrouted = self.workspace.unrouted.drain(..).filter(|it| it.mandatory);
            unrouted.map(|it| it.message.small_body().unwrap()[0]).collect()
        }

        fn queue(&self, name: &str) -> Arc<Queue> {
            self.broker.vhost("/").unwrap().queue(name).unwrap()
        }

        fn drain(&mut self, name: &str) -> Vec<u8> {
            let queue = self.queue(name);
            let mut bodies = Vec::new();
            while let (_, Got::Message { delivery, .. }) =
                self.link.get(&queue, true, &mut self.workspace).unwrap()
            {
                bodies.push(delivery.message.small_body().unwrap()[0]);
            }
            bodies
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn each_queue_gets_what_leads_to_it_in_order_however_ways_and_turns_mix(
            steps in prop::collection::vec(0..=WAYS.len(), 0..40),
        ) {
            let mut world = World::new();
            let mut expected = [const { Vec::<u8>::new() }; QUEUES.len()];
            for (step, number) in steps.into_iter().zip(0..) {
                let Some((exchange, key, queues)) = WAYS.get(step) else {
                    prop_assert_eq!(world.flush(), b"");
                    continue;
                };
                prop_assert_eq!(world.publish((exchange, key), number), !queues.is_empty());
                queues.iter().for_each(|queue| expected[*queue].push(number));
            }
            prop_assert_eq!(world.flush(), b"");
            for (name, expected) in QUEUES.iter().zip(expected) {
                prop_assert_eq!(world.drain(name), expected);
            }
        }
    }

    #[test]
    fn a_message_comes_back_once_if_all_of_its_queues_go_before_it_reaches_them() {
        let mut world = World::new();
        let end = |world: &mut World, name| {
            let queue = world.queue(name);
            queue.close_if(&mut world.workspace.effects, |_| Ok::<(), ()>(())).unwrap();
        };
        assert!(world.publish(("two", ""), 1));
        end(&mut world, "b");
        assert_eq!(world.flush(), b"");
        assert_eq!(world.drain("c"), [1]);
        assert!(world.publish(("two", ""), 2));
        end(&mut world, "c");
        assert_eq!(world.flush(), [2]);
    }
}
