//! A broker on a disk in memory and its links, without sockets: each step at once, time as told.

use super::prediction::{Change, Outcome, State};
use super::{Publication, Step};
use leveret::Config;
use leveret::broker::link::{
    Client, Confirms, Inbox, Link, PublishBatch, Route, Workspace, refused,
};
use leveret::broker::{BindTo, Broker, DeclareExchange, DeclareQueue, Entropy};
use leveret::config::{Durability, Sizes};
use leveret::exchange::{ExchangeTypes, Published};
use leveret::message::Message;
use leveret::queue::Publish;
use leveret::store::{self, Failpoint, MemoryDisk, Reach};
use leveret::table::{Table, TableBuilder, TableRef, Value};
use leveret::time::{Ttl, UnixMillis};
use std::collections::VecDeque;
use std::sync::Arc;

/// To one queue that remembers; through one exchange that does; through one to such a queue and one
/// that refuses; transient messages; and to nowhere.
pub(super) const WAYS: usize = 5;
pub(super) const EXCHANGES: [&str; WAYS] = ["", "two", "mixed", "transient", "nowhere"];
pub(super) const TARGETS: [&[usize]; WAYS] = [&[0], &[1, 2], &[0, 3], &[4], &[]];
/// Names, and how many messages there may be.
pub(super) const QUEUES: [(&str, Option<usize>); 5] =
    [("unique", None), ("a", None), ("b", None), ("short", Some(4)), ("t", None)];
/// Size and ttl.
pub(super) const CACHES: [(usize, Option<u64>); 5] =
    [(3, None), (4, Some(50)), (5, None), (3, None), (3, None)];
pub(super) const CACHE_OF_QUEUE: [Option<usize>; QUEUES.len()] = [Some(0), None, None, None, None];
pub(super) const CACHE_OF_WAY: [Option<usize>; WAYS] = [None, Some(1), Some(2), Some(3), Some(4)];
/// The cache, and the way, of messages that no restart survives.
pub(super) const TRANSIENT: usize = 3;
/// The way whose exchange is renewed.
const RENEWED: usize = 1;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) duplicates: u64,
    pub(super) skipped: u64,
    /// Records that a crash took.
    pub(super) lost: u64,
    pub(super) nacks: u64,
    pub(super) refused_commits: u64,
    pub(super) cuts: u64,
    /// Confirms that waited for an original.
    pub(super) late: u64,
}

impl Stats {
    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.duplicates += other.duplicates;
        self.skipped += other.skipped;
        self.lost += other.lost;
        self.nacks += other.nacks;
        self.refused_commits += other.refused_commits;
        self.cuts += other.cuts;
        self.late += other.late;
        self
    }
}

pub(super) struct World {
    segment_bytes: u64,
    disk: MemoryDisk,
    broker: Arc<Broker>,
    workspace: Workspace,
    link: Link,
    state: State,
    /// What each record adds, by its number.
    changes: Vec<(u64, Change)>,
    ids: u32,
    /// Publish sequence number, and the record that it must wait for.
    unconfirmed: Vec<(u64, u64)>,
    /// What a commit-ok waits for, and the record that it must wait for.
    committing: Vec<(Reach, u64)>,
    stats: Stats,
}

fn open(disk: &MemoryDisk, segment_bytes: u64) -> Arc<Broker> {
    let sizes = Sizes {
        segment_bytes,
        slack_segments: 0,
        segment_records: 30,
        frame_bytes: 300,
        page_len: 3,
        ..Config::on_loopback("unused").sizes
    };
    let config = Config { sizes, ..Config::on_loopback("unused") };
    Broker::open(config, disk, Entropy::new(|| [3; 16]), ExchangeTypes::core()).unwrap()
}

fn connect(broker: &Arc<Broker>) -> Link {
    let inbox = Arc::new(Inbox::new());
    let (user, vhost) = (broker.access.user("guest"), broker.vhost("/"));
    let connection = broker.connect(&inbox);
    let client = Client::new(connection, user.unwrap(), vhost.unwrap(), inbox);
    Link::new(Arc::clone(broker), Arc::new(client), 1)
}

fn arguments(cache: Option<usize>, max: Option<usize>) -> Table {
    let mut table = TableBuilder::new();
    if let Some((size, ttl)) = cache.map(|cache| CACHES[cache]) {
        table = table.put(b"x-message-deduplication", Value::Bool(true));
        table = table.put(b"x-cache-size", Value::I32(size as i32));
        table = ttl
            .into_iter()
            .fold(table, |table, ttl| table.put(b"x-cache-ttl", Value::I64(ttl as i64)));
    }
    if let Some(max) = max {
        table = table.put(b"x-max-length", Value::I32(max as i32));
        table = table.put(b"x-overflow", Value::LongStr(b"reject-publish"));
    }
    table.finish()
}

/// Headers and a delivery mode.
fn header(publication: &Publication, body_len: usize) -> Vec<u8> {
    let mut table = TableBuilder::new();
    if let Some(key) = publication.key {
        table = table.put(b"x-deduplication-header", Value::U8(key));
    }
    if let Some(ttl) = publication.ttl {
        table = table.put(b"x-cache-ttl", Value::I64(ttl as i64));
    }
    let table = table.finish();
    let table = table.as_ref().bytes();
    let mut header = vec![0, 60, 0, 0];
    header.extend((body_len as u64).to_be_bytes());
    header.extend((1_u16 << 13 | 1 << 12).to_be_bytes());
    header.extend((table.len() as u32).to_be_bytes());
    header.extend(table);
    header.push(if publication.way == TRANSIENT { 1 } else { 2 });
    header
}

impl World {
    pub(super) fn new(segment_bytes: u64) -> Self {
        let disk = MemoryDisk::new();
        let broker = open(&disk, segment_bytes);
        let link = connect(&broker);
        let mut world = Self {
            segment_bytes,
            disk,
            broker,
            workspace: Workspace::default(),
            link,
            state: State::default(),
            changes: Vec::new(),
            ids: 0,
            unconfirmed: Vec::new(),
            committing: Vec::new(),
            stats: Stats::default(),
        };
        world.workspace.effects.now.unix = UnixMillis(1_000_000);
        world.declare_all();
        world.round();
        world
    }

    pub(super) fn end(mut self) -> Stats {
        self.look();
        self.stats
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(publications) => self.publish(publications),
            Step::Transaction(publications, commits) => self.transact(publications, *commits),
            Step::Pass(ms) => {
                let now = &mut self.workspace.effects.now.unix;
                *now = now.plus(*ms);
            }
            Step::Purge(queue) => {
                self.link.purge_queue(QUEUES[*queue].0, &mut self.workspace).unwrap();
                self.note(self.lsn(), Change::Purged(*queue));
            }
            Step::Renew => self.renew(),
            Step::Round => self.round(),
            Step::Checkpoint => drop(self.broker.checkpoint(&self.disk).unwrap()),
            Step::Keep => self.broker.keep(&self.disk),
            Step::Look => self.look(),
            Step::Stop => {
                self.broker.close(&self.disk).unwrap();
                self.start(0);
            }
            Step::Crash(seed, loses_catalogue) => {
                self.hear();
                self.disk = self.disk.crash(*seed);
                if *loses_catalogue {
                    self.disk.lose_catalogue();
                }
                self.start(1);
            }
            Step::Cut(point, passed, seed) => {
                let points = Failpoint::ALL;
                self.disk.cut_power_at(points[point.index(points.len())], *passed);
                let _ = self.broker.journal().round(&self.disk);
                let _ = self.broker.checkpoint(&self.disk);
                self.broker.keep(&self.disk);
                self.stats.cuts += u64::from(self.disk.is_dark());
                self.hear();
                self.disk = self.disk.crash(*seed);
                self.start(1);
            }
        }
        self.broker.finish_turn(&mut self.workspace);
        self.hear();
    }

    fn lsn(&self) -> u64 {
        self.broker.journal().appended_lsn().0
    }

    fn note(&mut self, lsn: u64, change: Change) {
        self.state.apply(&change, lsn);
        self.changes.push((lsn, change));
    }

    fn declare_all(&mut self) {
        let workspace = &mut self.workspace;
        for (queue, (name, max)) in QUEUES.iter().enumerate() {
            let arguments = arguments(CACHE_OF_QUEUE[queue], *max);
            let declare = DeclareQueue {
                name,
                durable: true,
                exclusive: false,
                auto_delete: false,
                arguments: arguments.as_ref(),
            };
            self.link.declare_queue(&declare, workspace).unwrap();
        }
        for way in 1..WAYS {
            let arguments = arguments(CACHE_OF_WAY[way], None);
            let declare = DeclareExchange {
                name: EXCHANGES[way],
                kind: "fanout",
                durable: true,
                auto_delete: false,
                internal: false,
                arguments: arguments.as_ref(),
            };
            self.link.declare_exchange(&declare, workspace).unwrap();
            for queue in TARGETS[way] {
                let to = BindTo::Queue(QUEUES[*queue].0);
                self.link.bind(EXCHANGES[way], to, b"", TableRef::EMPTY, workspace).unwrap();
            }
        }
    }

    fn renew(&mut self) {
        let first = self.lsn() + 1;
        self.link.delete_exchange(EXCHANGES[RENEWED], false, &mut self.workspace).unwrap();
        self.note(first, Change::Forgotten(CACHE_OF_WAY[RENEWED].unwrap()));
        self.declare_all();
    }

    fn message(&mut self, publication: &Publication) -> (Arc<Route>, Publish) {
        let way = publication.way;
        let key = if way == 0 { QUEUES[0].0 } else { "" };
        let (exchange, key) = (EXCHANGES[way].as_bytes(), key.as_bytes());
        let address = [&[exchange.len() as u8][..], exchange, &[key.len() as u8], key].concat();
        let route = self.link.cached_route(&address).unwrap_or_else(|| {
            let admitted = self.link.admit(exchange).unwrap();
            let keys = [key];
            let published = Published::new(&keys, None);
            let scratch = &mut self.workspace.routing;
            self.link.route(&admitted, published, Some(&address), scratch).unwrap()
        });
        self.ids += 1;
        let body = self.ids.to_be_bytes();
        let header = header(publication, body.len());
        let message = Message::new(exchange, key, &header, &body, &mut Vec::new());
        let publish = Publish {
            message,
            persistent: way != TRANSIENT,
            priority: 0,
            ttl: Ttl::FOREVER,
            delay: None,
            mark: self.link.mark(true),
        };
        (route, publish)
    }

    fn publish(&mut self, publications: &[Publication]) {
        let mut batch = PublishBatch::default();
        batch.begin_turn();
        self.link.confirms.get_or_insert_with(Confirms::default);
        let (mut lsn, now) = (self.lsn(), self.workspace.effects.now.unix.0);
        let (mut nacks, mut unrouted) = (Vec::new(), 0);
        for publication in publications {
            let number = self.link.confirms.as_ref().unwrap().next_number();
            let (route, publish) = self.message(publication);
            self.link.count_publish(route.durability(publish.persistent), &mut batch);
            let _ = batch.add(&route, publish, &self.broker, &mut self.workspace);
            let outcome = self.state.predict(publication, now, &[]);
            unrouted += usize::from(TARGETS[publication.way].is_empty());
            let recorded = publication.way != TRANSIENT && !outcome.queues.is_empty();
            lsn += u64::from(recorded);
            if outcome.refused {
                nacks.push(number);
            } else {
                let own = if recorded { lsn } else { 0 };
                self.unconfirmed.push((number, outcome.waits.max(own)));
            }
            self.accept(outcome, recorded.then_some(lsn));
        }
        batch.flush(&self.broker, &mut self.workspace);
        assert_eq!(self.lsn(), lsn, "a record for each message that is no duplicate");
        assert_eq!(self.workspace.unrouted.drain(..).count(), unrouted);
        let link = &mut self.link;
        for mark in self.workspace.effects.refused.drain(..) {
            let (_, number) = refused(mark).expect("its publisher wants to know");
            assert_eq!(number, nacks.remove(0));
            assert!(link.confirms.as_mut().unwrap().refuse(number));
            self.stats.nacks += 1;
        }
        assert!(nacks.is_empty());
        link.published(batch.take_reach());
    }

    /// The next message is the one that was made last, and the first of those of `outcome`.
    fn accept(&mut self, outcome: Outcome, lsn: Option<u64>) {
        self.accept_as(self.ids, outcome, lsn);
    }

    fn accept_as(&mut self, id: u32, outcome: Outcome, lsn: Option<u64>) {
        self.stats.duplicates += u64::from(outcome.dropped);
        self.stats.skipped += u64::from(outcome.skipped);
        let Outcome { queues, keys, .. } = outcome;
        let change = Change::Published { id, queues, keys };
        match lsn {
            Some(lsn) => self.note(lsn, change),
            None => self.state.apply(&change, 0),
        }
    }

    fn transact(&mut self, publications: &[Publication], commits: bool) {
        let confirming = std::mem::replace(&mut self.link, connect(&self.broker));
        self.link.begin();
        let (before, now) = (self.lsn(), self.workspace.effects.now.unix.0);
        let mut outcomes = Vec::new();
        let first = self.ids + 1;
        for publication in publications {
            let (route, publish) = self.message(publication);
            self.link.keep_publish(route, publish).unwrap();
            outcomes.push(self.state.predict(publication, now, &outcomes));
        }
        if commits {
            let committed = self.link.commit(&mut self.workspace);
            let fails = outcomes.iter().any(|outcome| outcome.refused);
            assert_eq!(committed.is_err(), fails);
            if let Ok(committed) = committed {
                let nowhere = publications.iter().filter(|it| TARGETS[it.way].is_empty());
                assert_eq!(committed.returned.len(), nowhere.count());
                let lsn = self.lsn();
                let mut waits = if lsn > before { lsn } else { 0 };
                for ((id, publication), outcome) in (first..).zip(publications).zip(outcomes) {
                    waits = waits.max(outcome.waits);
                    let recorded = publication.way != TRANSIENT && !outcome.queues.is_empty();
                    self.accept_as(id, outcome, recorded.then_some(lsn));
                }
                self.committing.push((committed.reach, waits));
            } else {
                self.stats.refused_commits += 1;
            }
        } else {
            self.link.rollback();
        }
        if self.lsn() == before + 1 || !commits {
            assert!(self.lsn() <= before + 1, "a transaction is one record");
        }
        let mut link = std::mem::replace(&mut self.link, confirming);
        link.stop(&mut self.workspace);
        link.finish(VecDeque::new(), &mut self.workspace);
        self.broker.disconnect(link.client.connection);
    }

    /// No confirm and no commit-ok comes before what it promises is safe.
    fn hear(&mut self) {
        let reached = self.broker.journal().reach();
        let durable = reached.durable.0;
        let is_early = self.unconfirmed.first().is_some_and(|(_, waits)| *waits > durable);
        self.stats.late += u64::from(is_early);
        if let Some(confirms) = &mut self.link.confirms
            && let Some(ack) = confirms.report(reached)
        {
            let before = self.unconfirmed.len();
            self.unconfirmed.retain(|(number, waits)| {
                let told = *number == ack.up_to || ack.multiple && *number < ack.up_to;
                assert!(!told || *waits <= durable, "publish {number} is confirmed too early");
                !told
            });
            assert_eq!((before - self.unconfirmed.len()) as u64, ack.count);
        }
        self.committing.retain(|(reach, waits)| {
            let told = reached.meets(*reach);
            assert!(!told || *waits <= durable, "a commit is answered too early");
            !told
        });
    }

    fn round(&mut self) {
        while self.broker.journal().round(&self.disk).unwrap() {}
        self.hear();
        assert!(self.unconfirmed.is_empty() && self.committing.is_empty(), "all are answered");
    }

    /// What is safe is what was predicted.
    fn look(&mut self) {
        self.round();
        let (last, queues) = self.stored();
        assert!(self.changes.iter().all(|(lsn, _)| *lsn <= last));
        let expected = self.replayed().queues;
        assert_eq!(queues, expected);
        let transient = &self.state.queues[TARGETS[TRANSIENT][0]];
        let queue = self.broker.vhost("/").unwrap().queue("t").unwrap();
        assert_eq!(queue.counters.ready.get(), transient.len() as u64);
    }

    fn replayed(&self) -> State {
        let mut state = State::default();
        self.changes.iter().for_each(|(lsn, change)| state.apply(change, *lsn));
        state
    }

    /// How far the journal came, and the messages on disk.
    fn stored(&self) -> (u64, [Vec<u32>; QUEUES.len()]) {
        let twin = self.disk.crash(0);
        let options = store::Options::new(Durability::Fsync, 1);
        let (store, recovered) = store::open(&twin, &options).expect("what a crash leaves opens");
        let mut queues: [Vec<u32>; QUEUES.len()] = Default::default();
        for (id, queue) in recovered.definitions.queues() {
            let at = QUEUES.iter().position(|(name, _)| *name == queue.name).unwrap();
            let Some(messages) = recovered.queues.get(&id) else { continue };
            let messages = store.read_all(&twin, id, messages).unwrap();
            queues[at] = messages.iter().map(|it| id_of(&it.message)).collect();
        }
        (recovered.last_lsn.0, queues)
    }

    /// The next broker on what is on disk. A `crash` may have taken what was not safe.
    fn start(&mut self, crash: u64) {
        let durable = self.broker.journal().durable_lsn().0;
        let (last, queues) = self.stored();
        assert!(last >= durable, "what was safe is there");
        let before = self.changes.len();
        self.changes.retain(|(lsn, _)| *lsn <= last);
        self.stats.lost += crash * (before - self.changes.len()) as u64;
        self.state = self.replayed();
        self.state.restart();
        assert_eq!(queues, self.state.queues);
        self.broker = open(&self.disk, self.segment_bytes);
        let now = self.workspace.effects.now;
        self.workspace = Workspace::default();
        self.workspace.effects.now = now;
        self.link = connect(&self.broker);
        self.unconfirmed.clear();
        self.committing.clear();
        self.declare_all();
        self.round();
    }
}

fn id_of(message: &Message) -> u32 {
    let body = message.body_to_vec();
    u32::from_be_bytes(*body.first_chunk().unwrap())
}
