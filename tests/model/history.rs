//! What an exchange remembers, against a list from which the oldest are cut off.

use leveret::exchange::{
    Destination, ExchangeTypes, Kind, Published, Remembered, RouteScratch, Settings, Topology,
};
use leveret::message::Message;
use leveret::name::Name;
use leveret::table::{TableBuilder, TableRef, Value};
use leveret::time::Ttl;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Publish {
        /// Through the fanout exchange that may lead there.
        through: bool,
        no_store: bool,
        /// What was routed may still be refused.
        accepted: bool,
    },
    BindInner,
    UnbindInner,
    DeclareAnew,
}

fn op() -> impl Strategy<Value = Op> {
    let publish = (any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        8 => publish.prop_map(|(through, no_store, refused)| Op::Publish {
            through,
            no_store,
            accepted: !refused,
        }),
        1 => Just(Op::BindInner),
        1 => Just(Op::UnbindInner),
        1 => Just(Op::DeclareAnew),
    ]
}

fn message(number: u32) -> Message {
    let mut header = [0; 14];
    header[1] = 60;
    header[11] = 4;
    Message::new(b"x", b"", &header, &number.to_be_bytes(), &mut Vec::new())
}

struct World {
    topology: Topology,
    len: usize,
    model: Vec<u32>,
    is_bound: bool,
    published: u32,
}

impl World {
    fn new(len: usize) -> Self {
        let mut topology = Topology::with_predeclared(Name::new("/"));
        topology.declare(Name::new("outer"), Settings::durable(Kind::Fanout));
        let mut world = Self { topology, len, model: Vec::new(), is_bound: false, published: 0 };
        world.declare();
        world
    }

    fn declare(&mut self) {
        let kind = ExchangeTypes::built_in().kind("x-recent-history").expect("it comes along");
        let value = Value::I32(i32::try_from(self.len).expect("it is short"));
        let arguments = TableBuilder::new().put(b"x-recent-history-length", value).finish();
        let settings = Settings { arguments, ..Settings::durable(kind) };
        self.topology.declare(Name::new("history"), settings);
        self.model.clear();
        self.is_bound = false;
    }

    fn apply(&mut self, op: &Op) {
        let inner = Destination::Exchange(Name::new("history"));
        match op {
            Op::Publish { through, no_store, accepted } => {
                self.publish(if *through { "outer" } else { "history" }, *no_store, *accepted);
            }
            Op::BindInner => {
                self.topology
                    .bind("outer", inner, b"", TableRef::EMPTY)
                    .expect("any binding will do");
                self.is_bound = true;
            }
            Op::UnbindInner => {
                self.topology.unbind("outer", &inner, b"", TableRef::EMPTY);
                self.is_bound = false;
            }
            Op::DeclareAnew => {
                self.topology.delete("history", false).expect("nobody asks whether it is used");
                self.declare();
            }
        }
    }

    fn publish(&mut self, exchange: &str, no_store: bool, accepted: bool) {
        self.published += 1;
        let headers = TableBuilder::new().put(b"x-recent-history-no-store", Value::Bool(no_store));
        let headers = headers.finish();
        let published = Published::new(&[b""], Some(headers.as_ref()));
        let start = self.topology.exchange(exchange).expect("it is there");
        let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
        let routed = self
            .topology
            .route(start, published, &mut scratch, &mut out)
            .expect("its type is there");
        let reaches = exchange == "history" || self.is_bound;
        assert_eq!(routed.histories.len(), usize::from(reaches && !no_store));
        assert!(!routed.cacheable || !reaches);
        if !accepted {
            return;
        }
        for history in routed.histories {
            let message = message(self.published);
            history.push(Remembered { message, persistent: false, priority: 0, ttl: Ttl::FOREVER });
        }
        if reaches && !no_store {
            self.model.push(self.published);
            let surplus = self.model.len().saturating_sub(self.len);
            self.model.drain(..surplus);
        }
    }

    fn remembered(&self) -> Vec<u32> {
        let remembered = self.topology.exchange("history").expect("it is there").remembered();
        let number = |remembered: &Remembered| {
            let body = remembered.message.body_to_vec();
            u32::from_be_bytes(body.try_into().expect("it has four octets"))
        };
        remembered.iter().map(number).collect()
    }
}

proptest! {
    #[test]
    fn the_last_accepted_messages_that_reach_it_are_remembered(
        len in 1..6_usize,
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new(len);
        for op in &ops {
            world.apply(op);
            prop_assert_eq!(&world.remembered(), &world.model);
        }
    }
}
