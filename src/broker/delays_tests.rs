//! Delayed exchanges in virtual time: what waits where, when it goes on, and what a restart or a
//! power loss makes of it.

use super::alarm::Alarm;
use super::declare::tests::{DURABLE, connect};
use super::link::{Added, Link, PublishBatch, Workspace};
use super::{BindTo, Broker, DeclareExchange, DeclareQueue, Entropy};
use crate::config::{Config, Durability, Sizes};
use crate::exchange::{ExchangeTypes, Published};
use crate::id::{ConsumerToken, Seq};
use crate::limits::DEAD_LETTERS_RETRY_MS;
use crate::message::Message;
use crate::queue::{Event, Got, Outlet, Publish, Queue};
use crate::store::{Disk as _, MemoryDisk, Reach, Target};
use crate::table::{ArrayBuilder, Table, TableBuilder, TableRef, Value};
use crate::time::{Ttl, UnixMillis};
use crate::wire::Properties;
use leveret_plugin_api as plugin_api;
use leveret_plugin_api::{Binding, Choice, ExchangeType, Fields, Router};
use parking_lot::Mutex;
use std::sync::Arc;

const PERSISTENT: [u8; 15] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x10, 0, 2];

struct World {
    disk: MemoryDisk,
    broker: Arc<Broker>,
    link: Link,
    workspace: Workspace,
}

fn delay(ms: i32) -> Table {
    TableBuilder::new().put(b"x-delay", Value::I32(ms)).finish()
}

fn until(at: i64) -> Table {
    TableBuilder::new().put(b"x-deliver-at", Value::I64(at)).finish()
}

/// Keeps events.
#[derive(Default)]
struct Sink(Mutex<Vec<Event>>);

impl Outlet for Sink {
    fn push(&self, events: &mut Vec<Event>) -> bool {
        self.0.lock().append(events);
        true
    }

    fn wake(&self) {}
}

/// Small segments, pages and loads; `resident_bytes` is what the queues may hold.
fn open(disk: &MemoryDisk, resident_bytes: u64) -> Arc<Broker> {
    let sizes = Sizes {
        segment_bytes: 16 * 1024,
        page_len: 16,
        load_len: 32,
        resident_bytes,
        spill_bytes: Some(resident_bytes),
        spill_file_bytes: 16 * 1024,
        ..Sizes::default()
    };
    let config = Config { sizes, ..Config::default() };
    let types = ExchangeTypes::built_in().with(Arc::new(Fragile)).unwrap();
    Broker::open(config, disk, Entropy::new(|| [7; 16]), types).unwrap()
}

/// An exchange type that fails.
struct Fragile;

impl ExchangeType for Fragile {
    fn name(&self) -> &str {
        "x-fragile"
    }

    fn description(&self) -> &str {
        "Fails"
    }

    fn router(&self, _: &dyn Fields) -> Box<dyn Router> {
        Box::new(Self)
    }
}

impl Router for Fragile {
    fn bound(&mut self, _: &Binding<'_>) {}

    fn unbound(&mut self, _: &Binding<'_>) {}

    fn route(&self, _: &plugin_api::Message<'_>, _: &mut Choice<'_>) {
        panic!("it is fragile");
    }
}

impl World {
    fn on(disk: MemoryDisk, resident_bytes: u64) -> Self {
        let broker = open(&disk, resident_bytes);
        let link = connect(&broker);
        let mut world = Self { disk, broker, link, workspace: Workspace::default() };
        world.at(1_000);
        world
    }

    /// An exchange `x` of that type behind a delay, and a queue `q` bound to it.
    fn new(kind: &str) -> Self {
        let mut world = Self::on(MemoryDisk::new(), u64::MAX);
        world.declare("x", kind, true);
        world.queue("q");
        world.bind("x", "q", b"k");
        world
    }

    fn restarted(self) -> Self {
        let now = self.workspace.effects.now.unix;
        let mut world = Self::on(self.disk, u64::MAX);
        world.at(now.0);
        world
    }

    /// After a stop in which nothing was lost, with next to no memory for what waits.
    fn started_again(self) -> Self {
        self.sync();
        Self::on(self.disk, 2_000)
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.workspace.effects.now.unix = UnixMillis(now);
        self
    }

    fn declare(&mut self, name: &str, kind: &str, durable: bool) {
        let arguments = TableBuilder::new().put(b"x-delayed-type", Value::LongStr(kind.as_bytes()));
        let arguments = arguments.finish();
        let declare = DeclareExchange {
            name,
            kind: "x-delayed-message",
            durable,
            auto_delete: false,
            internal: false,
            arguments: arguments.as_ref(),
        };
        self.link.declare_exchange(&declare, &mut self.workspace).unwrap();
    }

    fn queue(&mut self, name: &str) {
        let declare = DeclareQueue { name, ..DURABLE };
        self.link.declare_queue(&declare, &mut self.workspace).unwrap();
    }

    fn bind(&mut self, exchange: &str, queue: &str, key: &[u8]) {
        let to = BindTo::Queue(queue);
        self.link.bind(exchange, to, key, TableRef::EMPTY, &mut self.workspace).unwrap();
    }

    /// Publishes a message with the key `k` and a body of one octet; says what its confirm waits
    /// for.
    fn publish(&mut self, exchange: &str, headers: &Table, persistent: bool, body: u8) -> Reach {
        self.publish_to((exchange, b"k"), headers, persistent, body)
    }

    fn publish_to(
        &mut self,
        (exchange, key): (&str, &[u8]),
        headers: &Table,
        persistent: bool,
        body: u8,
    ) -> Reach {
        let mut header = PERSISTENT;
        header[14] = 1 + u8::from(persistent);
        let header = Properties::check(&header).unwrap().with_headers(headers.as_ref());
        let properties = Properties::check(&header).unwrap();
        let message = Message::new(exchange.as_bytes(), key, &header, &[body], &mut Vec::new());
        let admitted = self.link.admit(exchange.as_bytes()).unwrap();
        let keys = [key];
        let published = Published {
            now: self.workspace.effects.now.unix,
            ..Published::new(&keys, properties.headers())
        };
        let route = self.link.route(&admitted, published, None, &mut self.workspace.routing);
        let route = route.unwrap();
        let publish = Publish {
            message,
            persistent,
            priority: 0,
            ttl: Ttl::FOREVER,
            delay: route.delay,
            mark: 1,
        };
        let mut batch = PublishBatch::default();
        let added = batch.add(&route, publish, &self.broker, &mut self.workspace);
        assert!(matches!(added, Added::Routed), "it waits, so it is not returned");
        batch.flush(&self.broker, &mut self.workspace);
        self.broker.finish_turn(&mut self.workspace);
        batch.take_reach()
    }

    /// Ticks as often as need be, with the threads that write and read.
    fn tick(&mut self) {
        for _ in 0..10_000 {
            let next = self.broker.tick(&mut self.workspace);
            let loaded = self.broker.load(&self.disk, &mut self.workspace);
            if !loaded && next.is_none_or(|at| at > self.workspace.effects.now.unix) {
                return;
            }
        }
        panic!("what is due does not go on");
    }

    fn sync(&self) {
        self.broker.journal().round(&self.disk).unwrap();
    }

    fn ready(&self, queue: &str) -> u64 {
        self.broker.vhost("/").unwrap().queue(queue).unwrap().depth().0
    }

    fn waiting(&self, exchange: &str) -> u64 {
        let queue = self.broker.vhost("/").unwrap().delay_queue(exchange);
        queue.map_or(0, |queue| queue.depth().0)
    }

    /// The bodies in a queue, with what their headers say.
    fn take(&mut self, queue: &str) -> Vec<(u8, Option<i64>)> {
        let queue = self.broker.vhost("/").unwrap().queue(queue).unwrap();
        let mut taken = Vec::new();
        while let Some(message) = self.take_one(&queue) {
            let properties = Properties::check(message.header()).unwrap();
            let headers = properties.headers().unwrap_or(TableRef::EMPTY);
            let said = headers.iter().find_map(|(_, value)| value.as_int());
            taken.push((message.body_to_vec()[0], said));
        }
        taken
    }

    /// Takes a queue's first message, and waits for it if it is on disk.
    fn take_one(&mut self, queue: &Queue) -> Option<Message> {
        let sink = Arc::<Sink>::default();
        let outlet: Arc<dyn Outlet> = sink.clone();
        let got =
            queue.get(&outlet, ConsumerToken(1), true, &mut self.workspace.turn(&self.broker));
        self.broker.finish_turn(&mut self.workspace);
        match got.unwrap() {
            Got::Message { delivery, .. } => return Some(delivery.message),
            Got::Empty => return None,
            Got::Later => {}
        }
        while self.broker.load(&self.disk, &mut self.workspace) {}
        let event = sink.0.lock().pop();
        let Some(Event::Got { delivery, .. }) = event else { panic!("{event:?}") };
        delivery.map(|delivery| delivery.message)
    }

    fn ask(&mut self, request: &str) -> String {
        self.broker.control(request, &mut self.workspace).line
    }
}

#[test]
fn an_exchange_remembers_what_was_released() {
    let mut world = World::new("x-recent-history");
    world.publish("x", &delay(100), true, 1);
    world.queue("early");
    world.bind("x", "early", b"");
    world.broker.finish_turn(&mut world.workspace);
    assert_eq!(world.ready("early"), 0, "it is still to come");
    world.at(1_200).tick();
    assert_eq!((world.ready("q"), world.ready("early")), (1, 1));
    world.queue("late");
    world.bind("x", "late", b"");
    assert_eq!(world.ready("late"), 1);
}

#[test]
fn a_message_waits_as_long_as_it_says_and_goes_on_with_its_header_negated() {
    let mut world = World::new("direct");
    world.publish("x", &delay(500), true, 1);
    world.publish("x", &until(1_200), true, 2);
    world.publish("x", &delay(0), true, 3);
    world.publish("x", &until(1_000), true, 4);
    assert_eq!((world.waiting("x"), world.ready("q")), (2, 2));
    assert_eq!(world.take("q"), [(3, Some(0)), (4, Some(1_000))]);
    world.at(1_199).tick();
    assert_eq!(world.take("q"), []);
    world.at(1_200).tick();
    assert_eq!(world.take("q"), [(2, Some(-1_200))]);
    world.at(1_499).tick();
    assert_eq!(world.take("q"), []);
    world.at(1_500).tick();
    assert_eq!(world.take("q"), [(1, Some(-500))]);
    assert_eq!(world.waiting("x"), 0);
}

#[test]
fn what_no_queue_takes_in_the_end_is_dropped_and_counted() {
    let mut world = World::new("direct");
    world.publish("x", &delay(10), true, 1);
    let to = BindTo::Queue("q");
    world.link.unbind("x", to, b"k", TableRef::EMPTY, &mut world.workspace).unwrap();
    world.at(2_000).tick();
    assert_eq!((world.waiting("x"), world.ready("q")), (0, 0));
    let exchange = world.broker.vhost("/").unwrap().exchange("x").unwrap();
    assert_eq!(exchange.counters.unroutable.get(), 1);
}

#[test]
fn what_meets_an_exchange_type_that_fails_waits_until_it_can_be_routed() {
    let mut world = World::new("direct");
    let fragile = DeclareExchange {
        name: "y",
        kind: "x-fragile",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: TableRef::EMPTY,
    };
    world.link.declare_exchange(&fragile, &mut world.workspace).unwrap();
    let (to, none) = (BindTo::Exchange("y"), TableRef::EMPTY);
    world.link.bind("x", to, b"k", none, &mut world.workspace).unwrap();
    world.publish("x", &delay(10), true, 1);
    world.publish("x", &delay(20), true, 2);
    world.at(2_000).tick();
    assert_eq!(world.ready("q"), 0);
    world.at(3_000).tick();
    assert_eq!(world.ready("q"), 0, "tried in vain");
    world.sync();
    let mut world = world.restarted();
    world.tick();
    assert_eq!(world.ready("q"), 0);
    world.link.unbind("x", to, b"k", none, &mut world.workspace).unwrap();
    world.at(4_000).tick();
    assert_eq!(world.take("q"), [(1, Some(-10)), (2, Some(-20))]);
}

#[test]
fn a_late_start_lets_all_go_at_once_in_the_order_of_their_times() {
    let mut world = World::new("fanout");
    world.declare("gone", "fanout", false);
    world.publish("gone", &delay(100), true, 0);
    for (body, ms) in [(1, 900), (2, 100), (3, 500), (4, 100)] {
        world.publish("x", &delay(ms), true, body);
    }
    world.publish("x", &delay(300), false, 5);
    world.sync();
    let mut world = world.restarted();
    assert_eq!((world.waiting("x"), world.waiting("gone")), (4, 0));
    assert!(world.broker.vhost("/").unwrap().exchange("gone").is_none());
    world.at(1_099).tick();
    assert_eq!(world.ready("q"), 0);
    world.at(10_000).tick();
    let order: Vec<_> = world.take("q").iter().map(|(body, _)| *body).collect();
    assert_eq!(order, [2, 4, 3, 1]);
    // The queue's id and numbers go on where they were.
    world.publish("x", &delay(5), true, 6);
    world.sync();
    assert_eq!(world.restarted().waiting("x"), 1);
}

#[test]
fn a_power_loss_leaves_what_was_confirmed_in_one_place() {
    for seed in 0..40 {
        let mut world = World::new("topic");
        let reach = world.publish("x", &delay(100), true, 1);
        assert!(reach.durable.0 > 0);
        world.sync();
        assert!(world.broker.journal().reach().meets(reach));
        world.at(1_100).tick();
        assert_eq!((world.waiting("x"), world.ready("q")), (0, 1));
        // That it has moved is not synced.
        let crashed = World::on(world.disk.crash(seed), u64::MAX);
        let places = crashed.waiting("x") + crashed.ready("q");
        assert_eq!(places, 1, "seed {seed}");
        world.sync();
        let crashed = World::on(world.disk.crash(seed), u64::MAX);
        assert_eq!((crashed.waiting("x"), crashed.ready("q")), (0, 1), "seed {seed}");
    }
}

#[test]
fn an_exchange_takes_along_what_waits_in_it() {
    let mut world = World::new("direct");
    world.publish("x", &delay(100), true, 1);
    assert_eq!(world.broker.vhost("/").unwrap().all_queues().len(), 2);
    world.link.delete_exchange("x", false, &mut world.workspace).unwrap();
    world.broker.finish_turn(&mut world.workspace);
    assert_eq!(world.broker.vhost("/").unwrap().all_queues().len(), 1);
    world.declare("x", "direct", true);
    world.bind("x", "q", b"k");
    world.sync();
    let mut world = world.restarted();
    assert_eq!(world.waiting("x"), 0);
    world.at(5_000).tick();
    assert_eq!(world.ready("q"), 0);
    assert_eq!(world.broker.vhost("/").unwrap().all_queues().len(), 2);
}

#[test]
fn what_is_due_waits_for_room_on_the_disk_and_ends_with_its_exchange() {
    let mut world = World::new("direct");
    for deleted in [false, true] {
        let now = world.workspace.effects.now.unix.0 + 100;
        world.publish("x", &delay(100), true, 1);
        world.broker.alarms.set(Alarm::Disk, true);
        let later = UnixMillis(now + DEAD_LETTERS_RETRY_MS);
        world.at(now);
        assert_eq!(world.broker.tick(&mut world.workspace), Some(later), "nobody moves it now");
        assert_eq!((world.waiting("x"), world.ready("q")), (0, 0));
        if deleted {
            world.link.delete_exchange("x", false, &mut world.workspace).unwrap();
            world.declare("x", "direct", true);
            world.bind("x", "q", b"k");
        }
        world.broker.alarms.set(Alarm::Disk, false);
        world.at(later.0).tick();
        assert_eq!(world.take("q").len(), usize::from(!deleted));
    }
}

#[test]
fn nobody_can_name_the_queue_in_which_messages_wait() {
    let mut world = World::new("direct");
    let vhost = world.broker.vhost("/").unwrap();
    let names: Vec<_> = vhost.queues().iter().map(|queue| queue.name.to_string()).collect();
    assert_eq!(names, ["q"]);
    assert!(vhost.queue("x").is_none());
    let to = BindTo::Queue("x");
    let bound = world.link.bind("x", to, b"", TableRef::EMPTY, &mut world.workspace);
    assert_eq!(bound.map(drop).unwrap_err().text(), "NOT_FOUND - no queue 'x' in vhost '/'");
    // A queue of that name is another one, also after a start.
    world.queue("x");
    world.publish("x", &delay(100), true, 1);
    world.sync();
    let world = world.restarted();
    assert_eq!((world.waiting("x"), world.ready("x")), (1, 0));
}

#[test]
fn what_is_due_together_goes_each_by_its_own_keys() {
    let mut world = World::new("direct");
    for (queue, key) in [("r", b"l"), ("s", b"m")] {
        world.queue(queue);
        world.bind("x", queue, key);
    }
    let mut copies = ArrayBuilder::default();
    copies.push(Value::LongStr(b"m"));
    let copied = TableBuilder::new().put(b"x-delay", Value::I32(50));
    let copied = copied.put(b"CC", Value::Array(copies.as_ref())).finish();
    let plain = delay(50);
    let letters: [(&[u8], &Table); 8] = [
        (b"k", &plain),
        (b"k", &plain),
        (b"l", &plain),
        (b"k", &copied),
        (b"k", &copied),
        (b"k", &plain),
        (b"nobody", &plain),
        (b"l", &plain),
    ];
    for ((key, headers), body) in letters.into_iter().zip(0..) {
        world.publish_to(("x", key), headers, body % 2 == 0, body);
    }
    world.at(1_050).tick();
    let mut bodies = |queue| world.take(queue).into_iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(bodies("q"), [0, 1, 3, 4, 5]);
    assert_eq!((bodies("r"), bodies("s")), (vec![2, 7], vec![3, 4]));
}

#[test]
fn what_is_due_together_goes_each_by_its_own_headers() {
    let mut world = World::on(MemoryDisk::new(), u64::MAX);
    world.declare("x", "headers", true);
    for (queue, kind) in [("q", 0), ("r", 1)] {
        world.queue(queue);
        let wanted = TableBuilder::new().put(b"kind", Value::I32(kind)).finish();
        let (to, arguments) = (BindTo::Queue(queue), wanted.as_ref());
        world.link.bind("x", to, b"", arguments, &mut world.workspace).unwrap();
    }
    for body in 0..6 {
        let headers = TableBuilder::new().put(b"x-delay", Value::I32(50));
        let headers = headers.put(b"kind", Value::I32(i32::from(body) / 2 % 2)).finish();
        world.publish("x", &headers, true, body);
    }
    world.at(1_050).tick();
    let mut bodies = |queue| world.take(queue).into_iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!((bodies("q"), bodies("r")), (vec![0, 1, 4, 5], vec![2, 3]));
}

#[test]
fn an_exchange_that_is_bound_delays_too_and_only_once() {
    let mut world = World::new("fanout");
    world.declare("behind", "fanout", true);
    world.queue("last");
    world.bind("behind", "last", b"");
    let none = TableRef::EMPTY;
    for (from, to) in [("amq.fanout", "x"), ("x", "behind")] {
        let to = BindTo::Exchange(to);
        world.link.bind(from, to, b"", none, &mut world.workspace).unwrap();
    }
    world.publish("amq.fanout", &delay(100), true, 1);
    assert_eq!((world.waiting("x"), world.waiting("behind")), (1, 0));
    world.at(1_100).tick();
    assert_eq!(
        (world.take("q"), world.take("last")),
        (vec![(1, Some(-100))], vec![(1, Some(-100))])
    );
}

#[test]
fn what_waits_is_listed_and_cancelled_and_stays_so() {
    let mut world = World::new("direct");
    for (body, at) in [(1, 3_000), (2, 2_000), (3, 4_000)] {
        world.publish("x", &until(at), body != 3, body);
    }
    let list = r#"{"verb":"list_delayed","vhost":"/","exchange":"x","limit":10}"#;
    let answer: serde_json::Value = serde_json::from_str(&world.ask(list)).unwrap();
    let rows = answer["ok"].as_array().unwrap().clone();
    let said: Vec<_> = rows.iter().map(|row| (&row["deliver_at"], &row["persistent"])).collect();
    assert_eq!(
        format!("{said:?}"),
        "[(Number(2000), Bool(true)), (Number(3000), Bool(true)), \
                                     (Number(4000), Bool(false))]"
    );
    let second = &rows[1]["id"];
    let after = format!(
        r#"{{"verb":"list_delayed","vhost":"/","exchange":"x","limit":1,"after":{}}}"#,
        rows[0]["id"]
    );
    let page: serde_json::Value = serde_json::from_str(&world.ask(&after)).unwrap();
    assert_eq!(page["ok"][0]["id"], *second);
    let as_number = after.replace(&rows[0]["id"].to_string(), rows[0]["id"].as_str().unwrap());
    assert_eq!(world.ask(&as_number), world.ask(&after));
    assert_eq!(page["ok"].as_array().unwrap().len(), 1);
    let cancel = format!(r#"{{"verb":"cancel_delayed","vhost":"/","exchange":"x","id":{second}}}"#);
    assert_eq!(world.ask(&cancel), r#"{"ok":null}"#);
    let again = world.ask(&cancel);
    assert!(again.contains("waits in exchange 'x' any more"), "{again}");
    for (exchange, why) in [
        ("amq.direct", "exchange 'amq.direct' in vhost '/' is not of type x-delayed-message"),
        ("none", "there is no exchange 'none' in vhost '/'"),
    ] {
        let request = list.replace(r#""x""#, &format!("{exchange:?}"));
        let answer = world.ask(&request);
        assert!(answer.contains(why), "{answer}");
    }
    world.sync();
    let mut world = world.restarted();
    world.at(9_000).tick();
    assert_eq!(world.take("q"), [(2, Some(-2_000))]);
}

/// Each second message of many, most of which lie in pages, waits until another time.
#[test]
fn what_waits_can_be_rescheduled_wherever_it_lies_and_a_power_loss_leaves_it_in_one_place() {
    for seed in 0..20 {
        let mut world = World::on(MemoryDisk::new(), 2_000);
        world.declare("x", "fanout", true);
        world.queue("q");
        world.bind("x", "q", b"");
        for nth in 0..100 {
            world.publish("x", &until(5_000 + nth), nth % 3 > 0, nth as u8);
        }
        world.sync();
        world.broker.keep(&world.disk);
        world.broker.relieve(&world.disk);
        let list = r#"{"verb":"list_delayed","vhost":"/","exchange":"x","limit":100}"#;
        let answer: serde_json::Value = serde_json::from_str(&world.ask(list)).unwrap();
        for (row, nth) in answer["ok"].as_array().unwrap().iter().zip(0..) {
            if nth % 2 == 0 {
                let request = serde_json::json!({
                    "verb": "reschedule_delayed",
                    "vhost": "/",
                    "exchange": "x",
                    "id": row["id"],
                    "deliver_at": 4_000 - nth,
                });
                let request = request.to_string();
                assert_eq!(world.ask(&request), r#"{"ok":null}"#);
                assert!(world.ask(&request).contains("waits in exchange 'x' any more"));
            }
        }
        world.at(3_000).tick();
        assert_eq!((world.waiting("x"), world.ready("q")), (100, 0));
        let crashed = World::on(world.disk.crash(seed), u64::MAX);
        let persistent = 66;
        assert_eq!(crashed.waiting("x"), persistent, "each in one place, seed {seed}");
        world.sync();
        let expected = |persistent_only: bool| -> Vec<u8> {
            let early = (0..100_u8).rev().filter(|nth| nth % 2 == 0);
            let late = (0..100_u8).filter(|nth| nth % 2 == 1);
            early.chain(late).filter(|nth| !persistent_only || nth % 3 > 0).collect()
        };
        let bodies = |world: &mut World| -> Vec<u8> {
            world.at(9_000).tick();
            world.take("q").iter().map(|(body, _)| *body).collect()
        };
        let mut crashed = World::on(world.disk.crash(seed), u64::MAX);
        assert_eq!(bodies(&mut crashed), expected(true), "seed {seed}");
        assert_eq!(bodies(&mut world), expected(false));
    }
}

/// The record of a message that is gone stays on disk for a while, and under its seq it would pass
/// for another's.
#[test]
fn what_was_cancelled_before_a_start_leaves_its_seq_to_nobody() {
    for persistent in [true, false] {
        let mut world = World::new("fanout");
        // They have seqs, and leave nothing that a start could count.
        for _ in 0..5 {
            world.publish("x", &until(8_000), false, 0);
        }
        world.publish("x", &until(9_000), true, 1);
        world.publish("x", &until(9_000), true, 2);
        let queue = world.broker.vhost("/").unwrap().delay_queue("x").unwrap();
        let last = queue.waiting(Seq(0), 7)[6].seq;
        let cancelled = queue.cancel_waiting(last, &mut world.workspace.turn(&world.broker));
        assert!(cancelled.unwrap().1);
        world.sync();
        let mut world = World::on(world.disk, 2_000);
        let bodies: Vec<_> = (3..203).collect();
        for body in &bodies {
            world.publish("x", &until(9_000), persistent, *body);
        }
        world.broker.relieve(&world.disk);
        world.at(9_000).tick();
        let order: Vec<_> = world.take("q").iter().map(|(body, _)| *body).collect();
        assert_eq!(order, [vec![1], bodies].concat(), "persistent: {persistent}");
    }
}

/// So many that the numbers of one millisecond begin again.
#[test]
fn however_many_came_before_no_start_gives_a_seq_again_that_was_given_up() {
    let ways =
        [0, 2].into_iter().flat_map(|checkpoints| [(checkpoints, false), (checkpoints, true)]);
    let ways =
        ways.flat_map(|(checkpoints, moves)| [true, false].map(|it| (checkpoints, moves, it)));
    for (checkpoints, reschedules, persistent) in ways {
        let mut world = World::new("fanout");
        let queue = world.broker.vhost("/").unwrap().delay_queue("x").unwrap();
        // A start counts all that came before this one.
        let (due, number) = (UnixMillis(8_000), (1 << 19) - 2);
        let target = Target { queue: queue.id, seq: Seq(Seq::timed(due).0 | number), due };
        let message = Message::new(b"x", b"k", &PERSISTENT, &[0], &mut Vec::new());
        world.workspace.records.enqueue(&message, &[target]);
        world.broker.log().append_as(&mut world.workspace.records, Durability::Fsync);
        let mut world = world.started_again();
        for body in [1, 2] {
            world.publish("x", &until(9_000), true, body);
        }
        let queue = world.broker.vhost("/").unwrap().delay_queue("x").unwrap();
        let last = queue.waiting(Seq(0), 3)[2].seq;
        assert_eq!(last.number(), number + 2);
        let turn = &mut world.workspace.turn(&world.broker);
        assert!(if reschedules {
            queue.reschedule_waiting(last, UnixMillis(8_500), turn).unwrap()
        } else {
            queue.cancel_waiting(last, turn).unwrap().1
        });
        world.tick();
        for _ in 0..checkpoints {
            world = world.started_again();
            world.broker.checkpoint(&world.disk).unwrap();
        }
        let mut world = world.started_again();
        let bodies: Vec<_> = (3..203).collect();
        for body in &bodies {
            world.publish("x", &until(9_000), persistent, *body);
        }
        world.broker.relieve(&world.disk);
        world.at(9_000).tick();
        let order: Vec<_> = world.take("q").iter().map(|(body, _)| *body).collect();
        let earlier = if reschedules { vec![0, 2, 1] } else { vec![0, 1] };
        assert_eq!(order, [earlier, bodies].concat(), "{checkpoints} {reschedules} {persistent}");
    }
}

/// Far more than memory may hold, persistent and not, over many segments and checkpoints.
#[test]
fn what_memory_does_not_hold_comes_back_in_order() {
    let mut world = World::on(MemoryDisk::new(), 4_000);
    world.declare("x", "fanout", true);
    world.queue("q");
    world.bind("x", "q", b"");
    let mut expected = Vec::new();
    for nth in 0..1_500_u32 {
        let ms = 1 + (nth.wrapping_mul(2_654_435_761) >> 16) % 700;
        let body = (nth % 251) as u8;
        world.publish("x", &delay(ms as i32), nth % 3 > 0, body);
        expected.push((ms, nth, body));
        if nth % 20 == 0 {
            world.sync();
            world.broker.keep(&world.disk);
            world.broker.relieve(&world.disk);
            assert!(world.broker.residence.total() < 40_000);
        }
        if nth % 100 == 50 {
            world.broker.look_at_space();
        }
    }
    world.sync();
    world.broker.relieve(&world.disk);
    expected.sort_unstable();
    let mut order = Vec::new();
    for now in (1_000..1_720).step_by(40) {
        world.at(now).tick();
        world.sync();
        world.broker.keep(&world.disk);
        world.broker.relieve(&world.disk);
        let due = expected.iter().filter(|(ms, ..)| 1_000 + u64::from(*ms) <= now).count();
        order.extend(world.take("q").iter().map(|(body, _)| *body));
        assert_eq!(order.len(), due, "{now}");
    }
    let wrong = order.iter().zip(&expected).position(|(body, (.., expected))| body != expected);
    assert_eq!(wrong.map(|at| &expected[at..]), None, "{:?}", &order[wrong.unwrap_or(0)..]);
}

/// Segments that hold none of what waits are used again, however long the rest waits.
#[test]
fn what_waits_long_keeps_no_segment_but_its_own() {
    let mut world = World::new("fanout");
    world.publish("x", &delay(1_000_000), true, 9);
    for round in 0..400_u64 {
        for _ in 0..10 {
            world.publish("x", &delay(5), true, 1);
        }
        world.sync();
        world.at(1_010 + round * 10).tick();
        world.take("q");
        world.sync();
        world.broker.look_at_space();
        world.broker.keep(&world.disk);
    }
    let segments = world.disk.list().unwrap();
    let segments =
        segments.iter().filter(|name| name.starts_with("segment-") && !name.ends_with(".idx"));
    let count = segments.count();
    assert!(count < 12, "{count} segments");
    world.sync();
    let mut world = world.restarted();
    assert_eq!((world.waiting("x"), world.ready("q")), (1, 0));
    world.at(2_000_000).tick();
    assert_eq!(world.take("q"), [(9, Some(-1_000_000))]);
}
