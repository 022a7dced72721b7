//! A queue with its journal, its links and its model, and every verb done to all of them.

use super::model::{Consumer, Limit, Model, State, Stored, Waiting};
use leveret::id::{ConsumerToken, QueueId, Seq};
use leveret::message::Message;
use leveret::queue::{
    Behaviour, ChannelLimiter, ConsumerKey, ConsumerSpec, Delivery, Effects, EndReason, Event, Got,
    Outlet, Paging, QueueCore,
};
use leveret::store::{self, Definition, Durability, MemoryDisk, RecordBatch, Store};
use leveret::table::Table;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

pub(super) const CHANNELS: usize = 4;
/// Two channels each.
pub(super) const LINKS: usize = 2;
pub(in super::super) const QUEUE: QueueId = QueueId(7);
/// When a history begins.
const START: u64 = 1_000;

/// So small that every run crosses every boundary.
pub(in super::super) const PAGING: Paging =
    Paging { page_len: 4, read_ahead_len: 3, load_len: 6, load_bytes: 1 << 20 };

/// A link's inbox.
#[derive(Default)]
pub(in super::super) struct Mailbox(Mutex<Vec<Event>>);

impl Mailbox {
    pub(in super::super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().expect("no test thread has panicked"))
    }
}

impl Outlet for Mailbox {
    fn push(&self, events: &mut Vec<Event>) -> bool {
        self.0.lock().expect("no test thread has panicked").append(events);
        true
    }

    fn wake(&self) {}
}

pub(super) struct World {
    pub(super) core: QueueCore,
    pub(super) model: Model,
    pub(super) durable: bool,
    pub(super) store: Store,
    pub(super) disk: MemoryDisk,
    pub(super) records: RecordBatch,
    pub(super) effects: Effects,
    pub(super) links: Vec<Arc<Mailbox>>,
    pub(super) limiters: Vec<Arc<ChannelLimiter>>,
    pub(super) keys: BTreeMap<u64, ConsumerKey>,
    tokens: u64,
    /// The seq that the next message gets.
    pub(super) next_seq: u64,
    /// Every content, as the disk has it.
    pub(super) contents: BTreeMap<u64, Message>,
    pub(super) names: u64,
    /// When the queue wants to be looked at, as the broker's list has it.
    pub(super) asked: Option<u64>,
    /// Since when nobody uses it; zero if that is not known.
    pub(super) idle_since: u64,
    /// Dead letters that the broker has not moved.
    pub(super) dead: Vec<(u32, Seq)>,
    /// What the queue asked for and was not answered.
    pub(super) load: Option<Vec<u64>>,
    /// Messages that waited over the last restart: the queue may have listed a bound of each, which
    /// it forgets once that has come.
    pub(super) bounds: usize,
    /// Seqs that were written to a spill file.
    pub(super) spilled: BTreeSet<u64>,
    /// Seqs that a record names or will name; those that are not in the model have ended.
    pub(super) persistent: BTreeSet<u64>,
    /// What the journal held after the record of each LSN.
    pub(super) history: BTreeMap<u64, Stored>,
}

/// A body of this length that shares its bytes, so that tests can fill a byte credit.
pub(super) fn message(name: u64, body_len: usize) -> Message {
    static ZEROS: [u8; 2 << 20] = [0; 2 << 20];
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body_len as u64).to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    let body = bytes::Bytes::from_static(&ZEROS).slice(..body_len);
    Message::from_pieces(b"", name.to_string().as_bytes(), &header, vec![body], &mut Vec::new())
}

pub(super) fn new_core(durable: bool, behaviour: &Behaviour) -> QueueCore {
    QueueCore::new(QUEUE, durable).with_paging(PAGING).with_behaviour(behaviour.clone())
}

impl World {
    pub(super) fn new(durable: bool) -> Self {
        Self::doing(durable, Behaviour::default())
    }

    pub(super) fn doing(durable: bool, behaviour: Behaviour) -> Self {
        let disk = MemoryDisk::new();
        let (store, _) = store::open(&disk, &store::Options::new(Durability::Fsync, 1))
            .expect("an empty disk opens");
        let mut records = RecordBatch::new();
        records.definition(&Definition::VhostCreated { name: "/".into() });
        records.definition(&Definition::QueueDeclared {
            id: QUEUE,
            vhost: "/".into(),
            name: "q".into(),
            auto_delete: false,
            arguments: Table::default(),
        });
        let declared = store.journal().append(&mut records);
        store.journal().round(&disk).expect("a healthy disk takes a round");
        let mut world = Self {
            core: new_core(durable, &behaviour),
            model: Model { now: START, behaviour, ..Model::default() },
            durable,
            store,
            disk,
            records,
            effects: Effects::new(),
            links: Vec::new(),
            limiters: Vec::new(),
            keys: BTreeMap::new(),
            tokens: 0,
            next_seq: 1,
            contents: BTreeMap::new(),
            names: 0,
            asked: None,
            idle_since: START,
            dead: Vec::new(),
            load: None,
            bounds: 0,
            spilled: BTreeSet::new(),
            persistent: BTreeSet::new(),
            history: BTreeMap::from([(declared.0, Stored::new())]),
        };
        world.connect();
        world.advance(0);
        world.core.touch(&mut world.effects);
        world.finish_aside();
        world
    }

    pub(super) fn connect(&mut self) {
        self.links = (0..LINKS).map(|_| Arc::default()).collect();
        self.limiters = (0..CHANNELS).map(|_| Arc::default()).collect();
        self.model.limits = vec![Limit::default(); CHANNELS];
        self.keys.clear();
        self.load = None;
    }

    fn outlet(&self, channel: usize) -> Arc<dyn Outlet> {
        Arc::clone(&self.links[channel % LINKS]) as Arc<dyn Outlet>
    }

    pub(super) fn consume(&mut self, mut consumer: Consumer) {
        self.tokens += 1;
        consumer.token = self.tokens;
        let spec = ConsumerSpec {
            outlet: self.outlet(consumer.channel),
            token: ConsumerToken(self.tokens),
            no_ack: consumer.no_ack,
            exclusive: consumer.exclusive,
            priority: consumer.priority,
            prefetch: consumer.prefetch,
            limiter: Arc::clone(&self.limiters[consumer.channel]),
        };
        let admitted = self.model.admits(consumer.exclusive);
        if admitted {
            self.model.active.get_or_insert(consumer.token);
            self.model.consumers.push(consumer);
        }
        let key = self.core.consume(spec, &mut self.records, &mut self.effects);
        assert_eq!(key.is_some(), admitted, "an exclusive consumer is alone");
        self.keys.extend(key.map(|key| (self.tokens, key)));
        self.drain(admitted);
        self.check();
    }

    pub(super) fn cancel(&mut self, nth: usize) {
        if self.model.consumers.is_empty() {
            return;
        }
        let consumer = self.model.consumers.remove(nth % self.model.consumers.len());
        let key = self.keys.remove(&consumer.token).expect("a consumer has a key");
        if self.model.active == Some(consumer.token) {
            self.model.elect();
        }
        self.core.cancel(key, &mut self.records, &mut self.effects);
        let unused = std::mem::take(&mut self.effects.unused);
        let is_unused = self.model.consumers.is_empty();
        assert_eq!(!unused.is_empty(), is_unused, "the last one is reported");
        if is_unused {
            self.touched();
        }
        let mut arrivals = self.collect();
        let end = arrivals.take_end(consumer.channel % LINKS);
        let reason = EndReason::Cancelled;
        assert!(
            matches!(end, Some(Event::Ended { token, reason: r })
                if token.0 == consumer.token && r == reason),
            "its end follows its deliveries, which were pushed before: {end:?}"
        );
        let looks = self.model.behaviour.single_active_consumer && !is_unused;
        self.drain_rest(arrivals, looks);
        self.check();
        // A key is never valid for another.
        self.core.grant(key, 1, 1, &mut self.records, &mut self.effects);
        self.finish();
    }

    pub(super) fn get(&mut self, channel: usize, no_ack: bool) {
        // One that comes before the tick makes it: others may get something then.
        while self.model.next_retry() <= self.model.now {
            assert!(self.tick(), "it asked for it");
        }
        self.tokens += 1;
        let token = self.tokens;
        let waiting = Waiting { token, channel, no_ack };
        self.touched();
        if self.model.waiting.is_empty() {
            self.model.look();
            self.model.look_for_get();
        }
        let first = self.model.visible().next().map(|first| first.state);
        let outlet = self.outlet(channel);
        let (records, effects) = (&mut self.records, &mut self.effects);
        match self.core.get(&outlet, ConsumerToken(token), no_ack, records, effects) {
            Got::Message { delivery, ready_left } => {
                self.model.gotten(&delivery, waiting, ready_left);
                self.count_got(&delivery, waiting);
            }
            Got::Empty => assert_eq!(first, None, "a get finds what is visible"),
            Got::Later => {
                let must_wait =
                    first == Some(State::Ready { evicted: true }) || !self.model.waiting.is_empty();
                assert!(must_wait, "a get waits for a load or behind one that does");
                self.model.waiting.push_back(waiting);
            }
        }
        self.finish_aside();
    }

    pub(super) fn count_got(&mut self, delivery: &Delivery, get: Waiting) {
        assert!(!delivery.limited, "a get is never limited");
        if !get.no_ack && self.limiters[get.channel].is_active() {
            self.limiters[get.channel].add(1);
            self.model.counted(delivery.seq.0, get.channel);
        }
    }

    /// Gives back what a consumer's link has drained.
    pub(super) fn grant(&mut self, nth: usize) {
        let len = self.model.consumers.len().max(1);
        let Some(consumer) = self.model.consumers.get_mut(nth % len) else { return };
        let (messages, bytes) = std::mem::take(&mut consumer.drained);
        consumer.credit_messages += i64::from(messages);
        consumer.credit_bytes += bytes as i64;
        let key = self.keys[&consumer.token];
        self.core.grant(key, messages, bytes, &mut self.records, &mut self.effects);
        self.finish();
    }

    pub(super) fn purge(&mut self) {
        drop(self.core.purge(&mut self.records, &mut self.effects));
        self.model.purged();
        self.finish_aside();
    }

    pub(super) fn evict(&mut self, nth: usize) {
        let visible: Vec<_> = self.model.visible().map(|entry| entry.seq).collect();
        let Some(seq) = visible.get(nth % visible.len().max(1)) else { return };
        let entry = self.model.find(*seq);
        let can_go = entry.persistent && entry.state == State::Ready { evicted: false };
        if can_go {
            entry.state = State::Ready { evicted: true };
        }
        let content = self.core.evict(Seq(*seq));
        assert_eq!(content.is_some(), can_go, "what the journal holds can leave the memory");
        self.finish_aside();
    }
}
