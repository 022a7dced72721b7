//! Dead letters that somebody has to take, in virtual time.

use super::super::declare::tests::{DURABLE, connect, open};
use super::super::link::{Link, Workspace};
use super::super::{BindTo, Broker, DeclareExchange, DeclareQueue};
use crate::id::ConsumerToken;
use crate::limits::{
    HELD_BACK_PER_TRY, HELD_BACK_RETRY_MS, HELD_BACK_RETRY_SOON_MS, TABLE_FIELDS_MAX,
    WORK_PER_LOCK_MAX,
};
use crate::message::Message;
use crate::queue::{Event, Got, Outlet, Publish, Queue};
use crate::store::MemoryDisk;
use crate::table::{Table, TableBuilder, TableRef, Value};
use crate::time::{Ttl, UnixMillis};
use crate::wire::Properties;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

const PERSISTENT: [u8; 15] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 2];
const RETRY_MS: u64 = HELD_BACK_RETRY_MS;

struct World {
    disk: MemoryDisk,
    broker: Arc<Broker>,
    link: Link,
    workspace: Workspace,
}

/// What comes dies after `ms`, and has to arrive where `exchange` leads it: by default in the
/// queue `dead`.
fn dying(ms: i32, exchange: &[u8]) -> Table {
    TableBuilder::new()
        .put(b"x-message-ttl", Value::I32(ms))
        .put(b"x-dead-letter-exchange", Value::LongStr(exchange))
        .put(b"x-dead-letter-routing-key", Value::LongStr(b"dead"))
        .put(b"x-dead-letter-strategy", Value::LongStr(b"at-least-once"))
        .finish()
}

fn one_only() -> Table {
    let refuse = Value::LongStr(b"reject-publish");
    TableBuilder::new().put(b"x-max-length", Value::I32(1)).put(b"x-overflow", refuse).finish()
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

impl World {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let broker = open(&disk);
        let link = connect(&broker);
        let mut world = Self { disk, broker, link, workspace: Workspace::default() };
        world.workspace.effects.now.unix = UnixMillis(1_000_000);
        world
    }

    fn declare(&mut self, name: &str, arguments: &Table) {
        let queue = DeclareQueue { name, arguments: arguments.as_ref(), ..DURABLE };
        self.link.declare_queue(&queue, &mut self.workspace).unwrap();
        self.broker.finish_turn(&mut self.workspace);
    }

    fn bound(&mut self, name: &str, exchange: &str) {
        self.declare(name, &Table::default());
        let (to, none) = (BindTo::Queue(name), TableRef::EMPTY);
        self.link.bind(exchange, to, b"", none, &mut self.workspace).unwrap();
    }

    /// An exchange that remembers two messages.
    fn declare_history(&mut self, name: &str) {
        let length = TableBuilder::new().put(b"x-recent-history-length", Value::I32(2)).finish();
        let exchange = DeclareExchange {
            name,
            kind: "x-recent-history",
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: length.as_ref(),
        };
        self.link.declare_exchange(&exchange, &mut self.workspace).unwrap();
        self.broker.finish_turn(&mut self.workspace);
    }

    fn queue(&self, name: &str) -> Arc<Queue> {
        self.broker.vhost("/").unwrap().queue(name).unwrap()
    }

    fn depth(&self, name: &str) -> u64 {
        self.queue(name).depth().0
    }

    fn publish(&mut self, queue: &str, count: usize) {
        self.publish_with(&PERSISTENT, queue, count);
    }

    fn publish_with(&mut self, header: &[u8], queue: &str, count: usize) {
        let message = Message::new(b"", queue.as_bytes(), header, b"", &mut Vec::new());
        self.publish_all(queue, vec![message; count]);
    }

    fn publish_body(&mut self, header: &[u8], queue: &str, body: &[u8]) {
        let message = Message::new(b"", queue.as_bytes(), header, body, &mut Vec::new());
        self.publish_all(queue, vec![message]);
    }

    fn publish_all(&mut self, queue: &str, messages: Vec<Message>) {
        let (persistent, priority, ttl) = (true, 0, Ttl::FOREVER);
        let publish =
            |message| Publish { message, persistent, priority, ttl, delay: None, mark: 0 };
        let mut batch = messages.into_iter().map(publish).collect();
        self.queue(queue).publish(&mut batch, &mut self.workspace.turn(&self.broker)).unwrap();
        self.broker.finish_turn(&mut self.workspace);
    }

    /// Takes a message for good.
    fn get(&mut self, name: &str) -> bool {
        self.take(name).is_some()
    }

    fn take(&mut self, name: &str) -> Option<Message> {
        let (queue, sink) = (self.queue(name), Arc::<Sink>::default());
        let outlet: Arc<dyn Outlet> = sink.clone();
        let turn = &mut self.workspace.turn(&self.broker);
        let got = queue.get(&outlet, ConsumerToken(1), true, turn).unwrap();
        self.broker.finish_turn(&mut self.workspace);
        match got {
            Got::Message { delivery, .. } => return Some(delivery.message),
            Got::Empty => return None,
            Got::Later => {}
        }
        while self.broker.load(&self.disk, &mut self.workspace) {}
        let event = sink.0.lock().pop();
        let Some(Event::Got { delivery, .. }) = event else { panic!("{event:?}") };
        delivery.map(|delivery| delivery.message)
    }

    /// Lets time pass and the ticker look; says after how many milliseconds it wants to again.
    fn tick_after(&mut self, ms: u64) -> Option<u64> {
        let now = self.workspace.effects.now.unix.plus(ms);
        self.workspace.effects.now.unix = now;
        let mut next = self.broker.tick(&mut self.workspace);
        while self.broker.load(&self.disk, &mut self.workspace) {
            next = self.broker.tick(&mut self.workspace);
        }
        next.map(|next| next.0.saturating_sub(now.0))
    }
}

#[test]
fn a_letter_that_nobody_takes_waits_where_it_died_until_somebody_does() {
    let mut world = World::new();
    world.declare("q", &dying(0, b""));
    world.publish("q", 3);
    assert_eq!((world.depth("q"), world.tick_after(0)), (0, Some(RETRY_MS)));
    assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS), "tried in vain");
    assert_eq!(world.queue("q").counters.held_back.get(), 3);
    world.declare("dead", &Table::default());
    world.tick_after(RETRY_MS);
    assert_eq!((world.depth("dead"), world.tick_after(0)), (3, None));
    assert_eq!(world.queue("q").counters.held_back.get(), 0);
}

/// What is logged meanwhile.
fn logged(events: impl FnOnce()) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    let subscriber = tracing_subscriber::fmt().with_writer(Arc::new(writer)).finish();
    tracing::subscriber::with_default(subscriber, events);
    std::io::read_to_string(reader).unwrap()
}

#[test]
fn letters_that_have_grown_too_large_are_told_of_once() {
    let fields = (0..TABLE_FIELDS_MAX).fold(TableBuilder::new(), |it, _| it.put(b"", Value::Void));
    let header = Properties::check(&PERSISTENT).unwrap().with_headers(fields.finish().as_ref());
    let mut world = World::new();
    world.declare("dead", &Table::default());
    world.declare("q", &dying(0, b""));
    let text = logged(|| {
        world.publish_with(&header, "q", 2);
        for _ in 0..5 {
            assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS));
            assert_eq!(world.queue("q").counters.held_back.get(), 2);
        }
    });
    assert_eq!(text.matches("headers would be larger than allowed").count(), 1, "{text}");
    assert_eq!(world.depth("dead"), 0);
}

#[test]
fn a_way_on_which_letters_go_round_is_told_of_once() {
    let round = |to: &'static [u8]| {
        let table = TableBuilder::new().put(b"x-message-ttl", Value::I32(0));
        let table = table.put(b"x-dead-letter-exchange", Value::LongStr(b""));
        table.put(b"x-dead-letter-routing-key", Value::LongStr(to)).finish()
    };
    let mut world = World::new();
    world.declare("cy", &round(b"cy"));
    world.declare("there", &round(b"back"));
    world.declare("back", &round(b"there"));
    let text = logged(|| {
        for _ in 0..3 {
            world.publish("cy", 2);
            world.publish("there", 1);
            world.tick_after(0);
        }
    });
    let cycle = "Message dropped. Dead-letter queues cycle detected: ";
    assert_eq!(text.matches(cycle).count(), 2, "{text}");
    assert_eq!(text.matches("[<<\"cy\">>,<<\"cy\">>] in vhost '/'").count(), 1, "{text}");
    let there = "[<<\"there\">>,<<\"back\">>,<<\"there\">>] in vhost '/'";
    assert_eq!(text.matches(there).count(), 1, "{text}");
}

#[test]
fn an_exchange_remembers_letters_once_they_have_moved() {
    let mut world = World::new();
    world.declare_history("h");
    world.declare("q", &dying(0, b"h"));
    world.publish("q", 3);
    assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS));
    world.bound("first", "h");
    assert_eq!(world.depth("first"), 0, "they wait where they died");
    world.tick_after(RETRY_MS);
    assert_eq!(world.depth("first"), 3);
    world.bound("late", "h");
    assert_eq!(world.depth("late"), 2);
}

#[test]
fn an_exchange_remembers_letters_that_no_queue_takes() {
    let mut world = World::new();
    world.declare_history("h");
    let to = TableBuilder::new().put(b"x-message-ttl", Value::I32(0));
    let to = to.put(b"x-dead-letter-exchange", Value::LongStr(b"h")).finish();
    world.declare("q", &to);
    world.publish("q", 1);
    assert_eq!(world.tick_after(0), None);
    world.bound("late", "h");
    assert_eq!(world.depth("late"), 1);
}

#[test]
fn after_a_power_loss_it_is_where_it_died() {
    let mut world = World::new();
    world.declare("q", &dying(5_000, b""));
    world.publish("q", 2);
    world.tick_after(5_000);
    assert_eq!(world.depth("q"), 0, "they wait");
    world.broker.journal().round(&world.disk).unwrap();
    let disk = world.disk.crash(1);
    let broker = open(&disk);
    let link = connect(&broker);
    let mut world = World { disk, broker, link, workspace: Workspace::default() };
    world.workspace.effects.now.unix = UnixMillis(2_000_000);
    assert_eq!(world.depth("q"), 2);
    world.declare("dead", &Table::default());
    world.tick_after(0);
    assert_eq!((world.depth("q"), world.depth("dead")), (0, 2));
}

#[test]
fn all_of_its_queues_take_it_or_none() {
    let mut world = World::new();
    world.declare("q", &dying(0, b"amq.fanout"));
    for (name, arguments) in [("full", one_only()), ("open", Table::default())] {
        world.declare(name, &arguments);
        let (to, none) = (BindTo::Queue(name), TableRef::EMPTY);
        world.link.bind("amq.fanout", to, b"", none, &mut world.workspace).unwrap();
    }
    world.publish("full", 1);
    world.publish("q", 1);
    assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS));
    assert_eq!((world.depth("full"), world.depth("open")), (1, 0));
    assert!(world.get("full"));
    assert_eq!(world.tick_after(RETRY_MS), None);
    assert_eq!((world.depth("full"), world.depth("open")), (1, 1));
    assert_eq!(world.tick_after(0), None);
}

#[test]
fn once_somebody_takes_some_the_others_follow_soon() {
    let mut world = World::new();
    world.declare("q", &dying(0, b""));
    let count = 3 * HELD_BACK_PER_TRY;
    world.publish("q", count);
    while world.tick_after(0) == Some(0) {}
    world.declare("dead", &Table::default());
    let mut waited = RETRY_MS;
    world.tick_after(RETRY_MS);
    while let Some(ms) = world.tick_after(0) {
        waited += ms;
        assert!(waited < RETRY_MS + 10 * HELD_BACK_RETRY_SOON_MS, "{}", world.depth("dead"));
        world.tick_after(ms);
    }
    assert_eq!(world.depth("dead"), count as u64);
}

#[test]
fn those_of_a_queue_that_is_deleted_end_with_it() {
    let mut world = World::new();
    world.declare("q", &dying(0, b""));
    world.publish("q", 3);
    let delete = world.link.delete_queue("q", (false, false), &mut world.workspace);
    delete.unwrap();
    world.broker.finish_turn(&mut world.workspace);
    world.declare("dead", &Table::default());
    assert_eq!((world.tick_after(RETRY_MS), world.depth("dead")), (None, 0));
}

#[test]
fn a_queue_that_holds_letters_back_is_not_empty() {
    let mut world = World::new();
    world.declare("q", &dying(0, b""));
    world.publish("q", 1);
    world.tick_after(0);
    let delete = world.link.delete_queue("q", (false, true), &mut world.workspace);
    let refused = delete.map(drop).unwrap_err();
    assert_eq!(refused.text(), "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty");
    world.declare("dead", &Table::default());
    world.tick_after(RETRY_MS);
    world.link.delete_queue("q", (false, true), &mut world.workspace).unwrap();
    assert_eq!(world.depth("dead"), 1);
}

#[test]
fn one_that_would_only_go_round_waits() {
    let mut world = World::new();
    world.declare("dead", &dying(0, b""));
    world.publish("dead", 1);
    assert_eq!((world.tick_after(0), world.depth("dead")), (Some(RETRY_MS), 0));
    assert_eq!((world.tick_after(RETRY_MS), world.depth("dead")), (Some(RETRY_MS), 0));
    let if_empty = world.link.delete_queue("dead", (false, true), &mut world.workspace);
    assert!(if_empty.is_err(), "it is there");
}

#[test]
fn a_queue_that_refuses_a_letter_without_a_place_for_it_takes_none() {
    let mut world = World::new();
    let refuse = Value::LongStr(b"reject-publish-dlx");
    let full = TableBuilder::new().put(b"x-max-length", Value::I32(1)).put(b"x-overflow", refuse);
    world.declare("q", &dying(0, b""));
    world.declare("dead", &full.finish());
    world.publish("q", 2);
    assert_eq!((world.depth("dead"), world.tick_after(0)), (1, Some(RETRY_MS)));
    assert!(world.get("dead"));
    world.tick_after(RETRY_MS);
    assert_eq!(world.depth("dead"), 1);
}

#[test]
fn a_queue_that_sends_on_what_it_refuses_does_so_once_the_others_take_theirs() {
    let mut world = World::new();
    let send_on = Value::LongStr(b"reject-publish-dlx");
    let sends_on = TableBuilder::new()
        .put(b"x-max-length", Value::I32(1))
        .put(b"x-overflow", send_on)
        .put(b"x-dead-letter-exchange", Value::LongStr(b""))
        .put(b"x-dead-letter-routing-key", Value::LongStr(b"overflown"));
    world.declare("overflown", &Table::default());
    world.declare("q", &dying(0, b"amq.fanout"));
    for (name, arguments) in [("sends-on", sends_on.finish()), ("full", one_only())] {
        world.declare(name, &arguments);
        let (to, none) = (BindTo::Queue(name), TableRef::EMPTY);
        world.link.bind("amq.fanout", to, b"", none, &mut world.workspace).unwrap();
        world.publish(name, 1);
    }
    world.publish("q", 1);
    for _ in 0..3 {
        assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS));
    }
    assert_eq!(world.depth("overflown"), 0, "none of them has it");
    assert!(world.get("full"));
    world.tick_after(RETRY_MS);
    world.tick_after(0);
    assert_eq!((world.depth("full"), world.depth("overflown")), (1, 1));
}

/// Takes one message, and sends others on to the queue `overflown`.
fn sends_on(strategy: &[u8]) -> Table {
    TableBuilder::new()
        .put(b"x-max-length", Value::I32(1))
        .put(b"x-overflow", Value::LongStr(b"reject-publish-dlx"))
        .put(b"x-dead-letter-exchange", Value::LongStr(b""))
        .put(b"x-dead-letter-routing-key", Value::LongStr(b"overflown"))
        .put(b"x-dead-letter-strategy", Value::LongStr(strategy))
        .finish()
}

#[test]
fn what_a_full_queue_sends_on_moves_by_one_record() {
    for strategy in [&b"at-most-once"[..], b"at-least-once"] {
        let mut world = World::new();
        world.declare("q", &dying(5_000, b""));
        world.declare("dead", &sends_on(strategy));
        world.declare("overflown", &Table::default());
        world.publish("dead", 1);
        world.publish("q", 1);
        let before = world.broker.journal().appended_lsn().0;
        world.tick_after(5_000);
        assert_eq!((world.depth("q"), world.depth("overflown")), (0, 1));
        assert_eq!(world.broker.journal().appended_lsn().0, before + 1);
    }
}

#[test]
fn a_letter_stays_where_it_died_while_what_a_full_queue_sends_on_has_to_wait() {
    let mut world = World::new();
    let goes = dying(0, b"amq.fanout");
    let goes = goes.as_ref().iter().filter(|(key, _)| *key != b"x-dead-letter-strategy");
    let at_most_once = goes.fold(TableBuilder::new(), |table, (key, value)| table.put(key, value));
    world.declare("q", &at_most_once.finish());
    for (name, arguments) in [("other", Table::default()), ("full", sends_on(b"at-least-once"))] {
        world.declare(name, &arguments);
        let (to, none) = (BindTo::Queue(name), TableRef::EMPTY);
        world.link.bind("amq.fanout", to, b"", none, &mut world.workspace).unwrap();
    }
    world.publish("full", 1);
    world.publish("q", 2);
    for _ in 0..3 {
        assert_eq!(world.tick_after(RETRY_MS), Some(RETRY_MS));
        assert_eq!((world.depth("other"), world.queue("q").counters.held_back.get()), (0, 2));
    }
    world.declare("overflown", &Table::default());
    world.tick_after(RETRY_MS);
    world.tick_after(0);
    assert_eq!((world.depth("other"), world.depth("overflown"), world.depth("full")), (2, 2, 1));
}

#[test]
fn a_queue_that_is_ending_takes_no_letter_along() {
    let mut world = World::new();
    world.declare("q", &dying(5, b"amq.fanout"));
    world.bound("dead", "amq.fanout");
    world.publish("q", 1);
    let ending = world.queue("dead");
    ending.close_if(&mut world.workspace.effects, |_| Ok::<(), ()>(())).unwrap();
    assert_eq!(world.tick_after(5), Some(RETRY_MS), "it is still listed, and takes nothing");
    let vhost = world.broker.vhost("/").unwrap();
    vhost.forget_queue(&ending, &world.broker, &mut world.workspace);
    world.bound("dead", "amq.fanout");
    world.tick_after(RETRY_MS);
    assert_eq!(world.depth("dead"), 1);
}

/// How many full queues stand side by side in a web, and how many behind each of them.
const WEB: (usize, usize) = (80, 75);
const LETTERS: usize = 3;

/// Leads what dies in `q` to full queues, each of which sends it on to the same others, and those
/// to the exchange `end`, for the queue `overflown`: more steps than one record may have. Says how
/// many letters that makes of one.
fn web(world: &mut World, strategy: &[u8], end: &[u8]) -> usize {
    for exchange in ["near", "far"] {
        let exchange = DeclareExchange {
            name: exchange,
            kind: "fanout",
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: TableRef::EMPTY,
        };
        world.link.declare_exchange(&exchange, &mut world.workspace).unwrap();
    }
    world.declare("q", &dying(0, b"near"));
    world.declare("overflown", &Table::default());
    for (exchange, count, next) in [("near", WEB.0, &b"far"[..]), ("far", WEB.1, end)] {
        for nth in 0..count {
            let full = TableBuilder::new()
                .put(b"x-max-length", Value::I32(0))
                .put(b"x-overflow", Value::LongStr(b"reject-publish-dlx"))
                .put(b"x-dead-letter-exchange", Value::LongStr(next))
                .put(b"x-dead-letter-routing-key", Value::LongStr(b"overflown"))
                .put(b"x-dead-letter-strategy", Value::LongStr(strategy));
            let name = format!("{exchange} {nth}");
            world.declare(&name, &full.finish());
            let (to, none) = (BindTo::Queue(&name), TableRef::EMPTY);
            world.link.bind(exchange, to, b"", none, &mut world.workspace).unwrap();
        }
    }
    world.broker.finish_turn(&mut world.workspace);
    WEB.0 * WEB.1
}

#[test]
fn a_web_of_full_queues_takes_some_turns_and_loses_doubles_and_overtakes_nothing() {
    for strategy in [&b"at-most-once"[..], b"at-least-once"] {
        let mut world = World::new();
        let all = web(&mut world, strategy, b"");
        assert!(all > WORK_PER_LOCK_MAX);
        let mut header = PERSISTENT;
        header[11] = 1;
        for body in 0..LETTERS {
            world.publish_body(&header, "q", &[body as u8]);
        }
        let (mut before, mut ticks, mut next) = (0, 0, Some(0));
        while next.is_some() {
            let depth = world.depth("overflown");
            assert!(depth - before <= 2 * WORK_PER_LOCK_MAX as u64, "a tick is two turns: {depth}");
            // However many are still to come, few of them wait.
            assert!(world.broker.dead_list().len() < LETTERS + WEB.0 + WEB.1);
            assert_eq!(next, Some(0), "there is more to do");
            (before, ticks, next) = (depth, ticks + 1, world.tick_after(0));
        }
        assert!(ticks > 2);
        let mut seen = HashSet::new();
        for nth in 0..LETTERS * all {
            let letter = world.take("overflown").unwrap();
            assert_eq!(letter.body_to_vec(), [(nth / all) as u8], "letter {nth}");
            // Its deaths say which way it came.
            assert!(seen.insert((nth / all, letter.header().to_vec())), "letter {nth} came twice");
        }
        assert_eq!((world.depth("q"), world.depth("overflown")), (0, 0));
    }
}

#[test]
fn letters_of_a_web_that_end_make_a_turn_longer_too() {
    let mut world = World::new();
    let all = web(&mut world, b"at-most-once", b"nowhere");
    assert!(all > WORK_PER_LOCK_MAX);
    world.publish("q", 1);
    assert!(!world.broker.dead_list().is_empty(), "the ticker goes on");
    assert_eq!(world.tick_after(0), None);
    assert_eq!((world.depth("q"), world.depth("overflown")), (0, 0));
}

#[test]
fn a_power_loss_while_a_web_is_worked_on_loses_no_letter() {
    let mut world = World::new();
    let all = web(&mut world, b"at-most-once", b"");
    world.publish("q", 1);
    let before = world.depth("overflown") as usize;
    assert!(before > 0 && before < all, "{before}");
    world.broker.journal().round(&world.disk).unwrap();
    let now = world.workspace.effects.now;
    let disk = world.disk.crash(1);
    let broker = open(&disk);
    let link = connect(&broker);
    let mut world = World { disk, broker, link, workspace: Workspace::default() };
    world.workspace.effects.now = now;
    while world.tick_after(0).is_some() {}
    assert_eq!((world.depth("q"), world.depth("overflown") as usize), (0, before + all));
    let letters = (0..before + all).map(|_| world.take("overflown").unwrap());
    let ways: HashSet<_> = letters.map(|letter| letter.header().to_vec()).collect();
    assert_eq!(ways.len(), all, "each of them, some twice");
}
