//! A broker on a disk in memory and its links, without sockets: each step at once, time as told.

use super::ledger::{Copy, Entry, Ledger, Stats, WHOLE};
use super::steps::*;
use leveret::Config;
use leveret::broker::link::{
    Client, Confirms, Consume, Inbox, Link, PublishBatch, Settled, Workspace, refused,
};
use leveret::broker::policy::{Level, SetPolicy};
use leveret::broker::{BindTo, Broker, DeclareExchange, DeclareQueue, Entropy};
use leveret::config::{Durability, Sizes};
use leveret::exchange::{ExchangeTypes, Published};
use leveret::id::ConsumerToken;
use leveret::message::Message;
use leveret::queue::{Delivery, Event, Got, Publish, Settlement};
use leveret::store::{self, Failpoint, MemoryDisk, Reach};
use leveret::table::{TableBuilder, TableRef, Value};
use leveret::time::{Ttl, UnixMillis};
use std::collections::VecDeque;
use std::sync::Arc;

/// Steps of the background until nothing moves any more.
const ROUNDS_MAX: usize = 1000;

/// A link, and what was delivered to it and not settled.
struct Seat {
    link: Link,
    inbox: Arc<Inbox>,
    held: Vec<(u64, Copy)>,
    /// Gets whose answer is late: the queue, and whether nothing is to be settled.
    late: Vec<(ConsumerToken, usize, bool)>,
    /// Its consumers by token.
    consuming: Vec<(ConsumerToken, usize)>,
}

pub(super) struct World {
    setup: Setup,
    disk: MemoryDisk,
    broker: Arc<Broker>,
    workspace: Workspace,
    ledger: Ledger,
    publisher: Seat,
    worker: Seat,
    tags: u32,
    /// Publish sequence number, number and destination of those that are not settled yet.
    unconfirmed: Vec<(u64, u32, usize)>,
    /// What commit-ok waits for.
    committing: Vec<(Reach, Vec<u32>)>,
}

fn open(disk: &MemoryDisk, setup: &Setup) -> Arc<Broker> {
    let sizes = Sizes {
        segment_bytes: setup.segment_bytes,
        slack_segments: 0,
        segment_records: 50,
        frame_bytes: setup.frame_bytes,
        page_len: 3,
        load_len: 4,
        resident_bytes: if setup.spills { 800 } else { 1 },
        spill_bytes: setup.spills.then_some(800),
        spill_file_bytes: 2000,
    };
    let config = Config { sizes, ..Config::on_loopback("unused") };
    let mut given = 0_u128;
    let entropy = Entropy::new(move || {
        given += 1;
        given.to_be_bytes()
    });
    Broker::open(config, disk, entropy, ExchangeTypes::core()).unwrap()
}

impl Seat {
    fn new(broker: &Arc<Broker>) -> Self {
        let inbox = Arc::new(Inbox::new());
        let (user, vhost) = (broker.access.user("guest"), broker.vhost("/"));
        let connection = broker.connect(&inbox);
        let client = Client::new(connection, user.unwrap(), vhost.unwrap(), Arc::clone(&inbox));
        let link = Link::new(Arc::clone(broker), Arc::new(client), 1);
        Self { link, inbox, held: Vec::new(), late: Vec::new(), consuming: Vec::new() }
    }

    fn close(mut self, broker: &Broker, workspace: &mut Workspace) {
        self.link.stop(workspace);
        let mut events = Vec::new();
        self.inbox.take_events(&mut events);
        self.link.finish(VecDeque::from(events), workspace);
        broker.disconnect(self.link.client.connection);
        broker.finish_turn(workspace);
    }
}

/// Only a delivery mode and a priority.
fn header(persistent: bool, priority: u8, body_len: usize) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend((body_len as u64).to_be_bytes());
    header.extend((1_u16 << 12 | 1 << 11).to_be_bytes());
    header.extend([if persistent { 2 } else { 1 }, priority]);
    header
}

/// Exchange and key of a dead letter.
fn address(to: To) -> (String, Option<String>) {
    match to {
        To::Queue(queue) => (format!("to{queue}"), None),
        To::Key(queue) => ("keys".to_owned(), Some(format!("k{queue}"))),
        To::Default(queue) => (String::new(), Some(NAMES[queue].to_owned())),
        To::Fan => (FAN.to_owned(), None),
        To::Missing => ("missing".to_owned(), None),
        To::OldKey => (String::new(), None),
    }
}

impl World {
    pub(super) fn new(setup: &Setup) -> Self {
        let disk = MemoryDisk::new();
        let broker = open(&disk, setup);
        let (publisher, worker) = (Seat::new(&broker), Seat::new(&broker));
        let mut world = Self {
            setup: setup.clone(),
            disk,
            broker,
            workspace: Workspace::default(),
            ledger: Ledger::default(),
            publisher,
            worker,
            tags: 0,
            unconfirmed: Vec::new(),
            committing: Vec::new(),
        };
        world.workspace.effects.now.unix = UnixMillis(1_000_000);
        world.declare_all();
        world.round();
        world
    }

    pub(super) fn end(mut self) -> Stats {
        self.step(&Step::Look);
        self.drain();
        self.ledger.stats
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(publications) => self.publish(publications),
            Step::Commit(publications, from, rejects) => {
                self.commit(publications, *from, rejects);
            }
            Step::Get(queue, no_ack) => self.get(*queue, *no_ack),
            Step::Consume(queue) => self.consume(*queue),
            Step::Cancel => {
                let tag = format!("c{}", self.tags);
                self.worker.link.cancel(&tag, &mut self.workspace);
            }
            Step::Settle(which, how) if !self.worker.held.is_empty() => {
                let at = which.index(self.worker.held.len());
                let held = self.worker.held.remove(at);
                self.settle(vec![held], *how);
            }
            Step::SettleAll(how) => {
                let held = std::mem::take(&mut self.worker.held);
                self.settle(held, *how);
            }
            Step::SetPolicy(name, policy) => self.set_policy(*name, policy),
            Step::ClearPolicy(name) => {
                let name = format!("p{name}");
                // It may not be there.
                let _ = self.broker.clear_policy(Level::User, "/", &name, &mut self.workspace);
            }
            Step::Renew(queue) => {
                self.delete(*queue);
                self.declare(*queue);
            }
            Step::Delete(queue) if !self.setup.keeps_all => self.delete(*queue),
            Step::Declare(queue) => self.declare(*queue),
            Step::Purge(queue) => {
                self.ledger.drop_any();
                // It may not be there.
                let _ = self.worker.link.purge_queue(NAMES[*queue], &mut self.workspace);
            }
            Step::Settle(..) | Step::Delete(_) => {}
            step => self.step_of_the_node(step),
        }
        self.broker.finish_turn(&mut self.workspace);
        self.wake();
        self.hear_confirms();
    }

    fn step_of_the_node(&mut self, step: &Step) {
        match step {
            Step::Tick(ms) => {
                let now = &mut self.workspace.effects.now.unix;
                *now = now.plus(*ms);
                self.broker.tick(&mut self.workspace);
            }
            Step::Load => self.load(),
            Step::Page => self.broker.relieve(&self.disk),
            Step::Round => self.round(),
            Step::Keep => self.broker.keep(&self.disk),
            Step::Checkpoint => drop(self.broker.checkpoint(&self.disk).unwrap()),
            Step::Look => {
                self.round();
                let copies = self.stored();
                self.ledger.check(&copies, u64::MAX, false, &NAMES);
            }
            Step::Crash(seed) => self.crash(*seed),
            Step::CutRound(point, passed, seed) => {
                self.disk.cut_power_at(Failpoint::ALL[point.index(5)], *passed);
                let cut = self.broker.journal().round(&self.disk).is_err();
                self.ledger.stats.torn_rounds += u64::from(cut);
                self.crash(*seed);
            }
            _ => self.stop(),
        }
    }

    fn declare_all(&mut self) {
        let leading = (0..NAMES.len()).map(|queue| (format!("to{queue}"), "fanout"));
        let others = [("keys".to_owned(), "direct"), (FAN.to_owned(), "fanout")];
        for (name, kind) in leading.chain(others) {
            let declare = DeclareExchange {
                name: &name,
                kind,
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: TableRef::EMPTY,
            };
            self.worker.link.declare_exchange(&declare, &mut self.workspace).unwrap();
        }
        (0..NAMES.len()).for_each(|queue| self.declare(queue));
    }

    fn declare(&mut self, queue: usize) {
        let Arguments { to, ttl, length, overflow, priorities } = &self.setup.queues[queue];
        let mut table = TableBuilder::new();
        let numbers = [
            ("x-message-ttl", *ttl),
            ("x-max-length", *length),
            ("x-max-priority", priorities.then_some(2)),
        ];
        for (key, value) in numbers {
            let value = value.map(|value| Value::I64(value.into()));
            table = value.into_iter().fold(table, |table, it| table.put(key.as_bytes(), it));
        }
        let (exchange, key) = to.map(address).unzip();
        let overflow = Some(OVERFLOWS[*overflow].to_owned());
        let texts = [
            ("x-dead-letter-exchange", exchange),
            ("x-dead-letter-routing-key", key.flatten()),
            ("x-overflow", overflow),
        ];
        for (key, text) in texts {
            table = text.iter().fold(table, |table, text| {
                table.put(key.as_bytes(), Value::LongStr(text.as_bytes()))
            });
        }
        let arguments = table.finish();
        let declare = DeclareQueue {
            name: NAMES[queue],
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: arguments.as_ref(),
        };
        self.worker.link.declare_queue(&declare, &mut self.workspace).unwrap();
        let fan = FANNED.contains(&queue).then(|| (FAN.to_owned(), String::new()));
        let own = [(format!("to{queue}"), String::new()), ("keys".to_owned(), format!("k{queue}"))];
        for (exchange, key) in own.into_iter().chain(fan) {
            let to = BindTo::Queue(NAMES[queue]);
            let (key, none) = (key.as_bytes(), TableRef::EMPTY);
            self.worker.link.bind(&exchange, to, key, none, &mut self.workspace).unwrap();
        }
    }

    fn delete(&mut self, queue: usize) {
        self.ledger.drop_any();
        let anyway = (false, false);
        self.worker.link.delete_queue(NAMES[queue], anyway, &mut self.workspace).unwrap();
    }

    fn set_policy(&mut self, name: u8, policy: &Policy) {
        let mut fields = Vec::new();
        fields.extend(policy.ttl.map(|ms| format!("\"message-ttl\":{ms}")));
        // A definition says something.
        fields.push(format!("\"max-length\":{}", policy.length.unwrap_or(9)));
        fields.extend(policy.overflow.map(|it| format!("\"overflow\":\"{}\"", OVERFLOWS[it])));
        if let Some((exchange, key)) = policy.to.map(address) {
            fields.push(format!("\"dead-letter-exchange\":\"{exchange}\""));
            fields.extend(key.map(|key| format!("\"dead-letter-routing-key\":\"{key}\"")));
        }
        let set = SetPolicy {
            vhost: "/",
            name: &format!("p{name}"),
            pattern: policy.pattern,
            definition: &format!("{{{}}}", fields.join(",")),
            apply_to: "queues",
            priority: name.into(),
        };
        self.broker.set_policy(Level::User, &set, &mut self.workspace).unwrap();
    }

    fn publish(&mut self, publications: &[Publication]) {
        let mut batch = PublishBatch::default();
        batch.begin_turn();
        self.publisher.link.confirms.get_or_insert_with(Confirms::default);
        for publication in publications {
            let (id, route, publish) = self.message(publication, true);
            let link = &mut self.publisher.link;
            let number = link.confirms.as_ref().unwrap().next_number();
            self.unconfirmed.push((number, id, publication.to));
            link.count_publish(route.durability(publish.persistent), &mut batch);
            let _ = batch.add(&route, publish, &self.broker, &mut self.workspace);
        }
        batch.flush(&self.broker, &mut self.workspace);
        self.workspace.unrouted.clear();
        let link = &mut self.publisher.link;
        for mark in self.workspace.effects.refused.drain(..) {
            let (_, number) = refused(mark).expect("its publisher wants to know");
            if link.confirms.as_mut().unwrap().refuse(number) {
                let at = self.unconfirmed.iter().position(|(other, ..)| *other == number).unwrap();
                let (_, id, to) = self.unconfirmed.remove(at);
                let entry = self.ledger.entry(id);
                entry.droppable = true;
                entry.refused_by = (to < NAMES.len()).then_some(to);
                self.ledger.stats.nacks += 1;
            }
        }
        link.published(batch.take_reach());
    }

    /// A message, where it goes, and its number in the ledger.
    fn message(
        &mut self,
        publication: &Publication,
        confirms: bool,
    ) -> (u32, Arc<leveret::broker::link::Route>, Publish) {
        let Publication { to, persistent, ttl, priority, len } = publication;
        let (exchange, key) = NAMES.get(*to).map_or((FAN, ""), |name| ("", name));
        let link = if confirms { &mut self.publisher.link } else { &mut self.worker.link };
        let admitted = link.admit(exchange.as_bytes()).unwrap();
        let keys = [key.as_bytes()];
        let published = Published::new(&keys, None);
        let route = link.route(&admitted, published, None, &mut self.workspace.routing).unwrap();
        let is_there = |queue: &usize| self.broker.vhost("/").unwrap().queue(NAMES[*queue]);
        let targets = if *to < NAMES.len() { vec![*to] } else { FANNED.to_vec() };
        let targets = targets.iter().filter_map(is_there).count() as u64;
        let id = self.ledger.publish(Entry {
            persistent: *persistent,
            worth: WHOLE * targets,
            droppable: !self.setup.keeps_all || *to == END && ttl.is_some(),
            ..Entry::default()
        });
        let body = [&id.to_be_bytes()[..], &vec![b'.'; *len]].concat();
        let header = header(*persistent, *priority, body.len());
        let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
        let message = Message::new(exchange, key, &header, &body, &mut Vec::new());
        let publish = Publish {
            message,
            persistent: *persistent,
            priority: *priority,
            ttl: ttl.map_or(Ttl::FOREVER, Ttl::of_ms),
            delay: None,
            mark: link.mark(false),
        };
        (id, route, publish)
    }

    /// Takes messages from a queue and settles and publishes in one transaction.
    fn commit(&mut self, publications: &[Publication], from: usize, rejects: &[bool]) {
        // A seat of its own, which goes with a refused commit.
        let others = std::mem::replace(&mut self.worker, Seat::new(&self.broker));
        self.worker.link.begin();
        for _ in rejects {
            self.get(from, false);
        }
        let mut settling = Vec::new();
        for ((tag, copy), reject) in self.worker.held.clone().into_iter().zip(rejects) {
            let how = if *reject { Settlement::Discard } else { Settlement::Ack };
            let mut settled = Settled::default();
            self.worker.link.take_unacked(tag, false, &mut settled).unwrap();
            self.worker.link.keep_settlement(&mut settled, how).unwrap();
            let ends = self.ends(&copy, how);
            settling.push((copy, how, ends));
        }
        let mut ids = Vec::new();
        for publication in publications {
            let (id, route, publish) = self.message(publication, false);
            ids.push(id);
            self.worker.link.keep_publish(route, publish).unwrap();
        }
        match self.worker.link.commit(&mut self.workspace) {
            Ok(committed) => {
                self.committing.push((committed.reach, ids));
                let lsn = self.broker.journal().appended_lsn().0;
                for (copy, how, ends) in settling {
                    self.note_settled(&copy, how, ends, lsn);
                }
            }
            Err(_) => {
                self.ledger.stats.refused_commits += 1;
                ids.into_iter().for_each(|id| self.ledger.entry(id).never = true);
            }
        }
        assert!(self.workspace.effects.refused.is_empty(), "a commit has no other answer");
        self.broker.finish_turn(&mut self.workspace);
        let seat = std::mem::replace(&mut self.worker, others);
        seat.close(&self.broker, &mut self.workspace);
    }

    fn get(&mut self, queue: usize, no_ack: bool) {
        let Some(found) = self.broker.vhost("/").unwrap().queue(NAMES[queue]) else { return };
        let (token, got) = self.worker.link.get(&found, no_ack, &mut self.workspace).unwrap();
        match got {
            Got::Message { delivery, .. } => {
                let now = self.workspace.effects.now.monotonic;
                let tag = self.worker.link.take_got(&found, &delivery, now);
                self.take(tag, &delivery, queue, no_ack);
            }
            Got::Empty => {}
            Got::Later => self.worker.late.push((token, queue, no_ack)),
        }
        for _ in 0..ROUNDS_MAX {
            self.broker.finish_turn(&mut self.workspace);
            self.wake();
            if self.worker.late.is_empty() {
                return;
            }
            self.load();
            self.broker.tick(&mut self.workspace);
        }
        panic!("a get is never answered");
    }

    fn consume(&mut self, queue: usize) {
        let Some(found) = self.broker.vhost("/").unwrap().queue(NAMES[queue]) else { return };
        self.tags += 1;
        let tag = format!("c{}", self.tags);
        let consume = Consume {
            tag: tag.as_str().into(),
            no_ack: false,
            exclusive: false,
            priority: 0,
            timeout_ms: None,
        };
        self.worker.link.set_prefetch(2, &mut self.workspace);
        self.worker.link.consume(&found, consume, &mut self.workspace).unwrap();
        let token = self.worker.link.consumer(&tag).unwrap();
        self.worker.consuming.push((token, queue));
    }

    /// A delivery has come.
    fn take(&mut self, tag: u64, delivery: &Delivery, queue: usize, no_ack: bool) {
        let copy = self.copy(&delivery.message, queue);
        if no_ack {
            let lsn = self.broker.journal().appended_lsn().0;
            self.ledger.settled(&copy, lsn);
        } else {
            self.worker.held.push((tag, copy));
        }
    }

    fn copy(&self, message: &Message, queue: usize) -> Copy {
        let halves = |name: &str| {
            let at = NAMES.iter().position(|other| *other == name).unwrap();
            self.setup.queues[at].to == Some(To::Fan)
        };
        Copy::new(message, queue, halves)
    }

    /// Whether a message that is settled so is gone then, and does not go on.
    fn ends(&self, copy: &Copy, how: Settlement) -> bool {
        let queue = self.broker.vhost("/").unwrap().queue(NAMES[copy.queue]);
        let goes_on = queue.is_some_and(|queue| queue.behaviour().dead_letter.is_some());
        how == Settlement::Ack || how == Settlement::Discard && !goes_on
    }

    fn settle(&mut self, held: Vec<(u64, Copy)>, how: Settlement) {
        for (tag, copy) in held {
            let ends = self.ends(&copy, how);
            let mut settled = Settled::default();
            self.worker.link.take_unacked(tag, false, &mut settled).unwrap();
            self.worker.link.settle(&mut settled, how, &mut self.workspace);
            let lsn = self.broker.journal().appended_lsn().0;
            self.note_settled(&copy, how, ends, lsn);
        }
    }

    fn note_settled(&mut self, copy: &Copy, how: Settlement, ends: bool, lsn: u64) {
        if how == Settlement::Discard {
            self.ledger.rejected(copy);
        }
        if ends {
            self.ledger.settled(copy, lsn);
        }
    }

    /// Takes what has come to the worker.
    fn wake(&mut self) {
        let mut events = Vec::new();
        self.worker.inbox.take(&mut events);
        for event in events {
            match event {
                Event::Delivery(delivery) => {
                    let token = delivery.token;
                    let Some(mut run) = self.worker.link.begin_run(token) else { continue };
                    let tag = self.worker.link.deliver(&mut run, &delivery);
                    self.worker.link.end_run(token, run, &mut self.workspace);
                    let of = |(other, queue): &(_, usize)| (*other == token).then_some(*queue);
                    let queue = self.worker.consuming.iter().find_map(of).unwrap();
                    self.take(tag, &delivery, queue, false);
                }
                Event::Ended { token, reason } => {
                    self.worker.link.consumer_ended(token, reason);
                }
                Event::Got { token, delivery, .. } => {
                    let now = self.workspace.effects.now.monotonic;
                    let tag = self.worker.link.got_later(token, delivery.as_deref(), now);
                    let at = self.worker.late.iter().position(|(other, ..)| *other == token);
                    let (_, queue, no_ack) = self.worker.late.remove(at.unwrap());
                    if let (Some(tag), Some(delivery)) = (tag, delivery) {
                        self.take(tag, &delivery, queue, no_ack);
                    }
                }
            }
        }
        self.broker.finish_turn(&mut self.workspace);
    }

    fn hear_confirms(&mut self) {
        let reached = self.broker.journal().reach();
        let (ledger, unconfirmed) = (&mut self.ledger, &mut self.unconfirmed);
        if let Some(confirms) = &mut self.publisher.link.confirms
            && let Some(ack) = confirms.report(reached)
        {
            let before = unconfirmed.len();
            unconfirmed.retain(|(number, id, _)| {
                let told = *number == ack.up_to || ack.multiple && *number < ack.up_to;
                ledger.entry(*id).safe |= told;
                !told
            });
            assert_eq!((before - unconfirmed.len()) as u64, ack.count, "{ack:?}");
        }
        self.committing.retain(|(reach, ids)| {
            let told = reached.meets(*reach);
            ids.iter().for_each(|id| ledger.entry(*id).safe |= told);
            !told
        });
    }

    fn load(&mut self) {
        while self.broker.load(&self.disk, &mut self.workspace) {
            self.ledger.stats.loads += 1;
        }
    }

    fn round(&mut self) {
        while self.broker.journal().round(&self.disk).unwrap() {}
        self.hear_confirms();
    }

    /// All copies on disk.
    fn stored(&self) -> Vec<Copy> {
        let twin = self.disk.crash(0);
        let options = store::Options::new(Durability::Fsync, 1);
        let (store, recovered) = store::open(&twin, &options).expect("what a crash leaves opens");
        let mut copies = Vec::new();
        for (id, queue) in recovered.definitions.queues() {
            let at = NAMES.iter().position(|name| *name == queue.name).unwrap();
            let Some(messages) = recovered.queues.get(&id) else { continue };
            let messages = store.read_all(&twin, id, messages).unwrap();
            copies.extend(messages.iter().map(|stored| self.copy(&stored.message, at)));
        }
        copies
    }

    fn crash(&mut self, seed: u64) {
        self.hear_confirms();
        self.ledger.stats.crashes += 1;
        let durable = self.broker.journal().durable_lsn().0;
        // All that is left is safe.
        self.disk = self.disk.crash(seed);
        self.start(durable);
    }

    fn stop(&mut self) {
        for at in 0..2 {
            let fresh = Seat::new(&self.broker);
            let seat = if at == 0 { &mut self.worker } else { &mut self.publisher };
            std::mem::replace(seat, fresh).close(&self.broker, &mut self.workspace);
        }
        self.broker.close(&self.disk).unwrap();
        let reached = self.broker.journal().durable_lsn().0;
        self.start(reached);
    }

    /// The next broker on what is on disk. What was appended by `lsn` is there.
    fn start(&mut self, lsn: u64) {
        let copies = self.stored();
        self.ledger.check(&copies, lsn, true, &NAMES);
        self.broker = open(&self.disk, &self.setup);
        let now = self.workspace.effects.now;
        self.workspace = Workspace::default();
        self.workspace.effects.now = now;
        self.publisher = Seat::new(&self.broker);
        self.worker = Seat::new(&self.broker);
        self.unconfirmed.clear();
        self.committing.clear();
        self.declare_all();
        self.round();
    }

    /// What clients find is what is on disk, but for transient messages.
    fn drain(&mut self) {
        for _ in 0..NAMES.len() {
            self.load();
            self.broker.tick(&mut self.workspace);
            self.wake();
        }
        for queue in 0..NAMES.len() {
            loop {
                let before = self.worker.held.len();
                self.get(queue, false);
                if self.worker.held.len() == before {
                    break;
                }
            }
        }
        let held = std::mem::take(&mut self.worker.held);
        let mut found: Vec<_> = held.into_iter().map(|(_, copy)| copy).collect();
        found.retain(|copy| self.ledger.entry(copy.id).persistent);
        self.ledger.check(&found, u64::MAX, false, &NAMES);
    }
}
