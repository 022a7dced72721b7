//! A queue with keys, its consumers and its model, and every verb done to all of them.

use super::super::queue::{Mailbox, PAGING, QUEUE};
use leveret::id::{ConsumerToken, Seq};
use leveret::message::Message;
use leveret::queue::{
    Behaviour, ChannelLimiter, ConsumerKey, ConsumerSpec, Delivery, Effects, Event, Got, Outlet,
    Page, Paged, Publish, QueueCore, Settlement, Sweep,
};
use leveret::store::{OnDisk, RecordBatch};
use leveret::table::{TableBuilder, Value};
use leveret::time::{Ttl, UnixMillis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Unacked deliveries of all consumers that are limited.
pub(super) const CHANNEL_LIMIT: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    pub(super) key: Option<u8>,
    pub(super) persistent: bool,
    pub(super) ttl_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Reserved,
    Ready,
    /// With this consumer, or with a get.
    Out {
        slot: u32,
        owner: Option<u64>,
        limited: bool,
    },
    Dying,
}

#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) key: Option<u8>,
    pub(super) persistent: bool,
    pub(super) due: u64,
    pub(super) state: State,
}

pub(super) struct Taker {
    pub(super) token: u64,
    key: ConsumerKey,
    pub(super) prefetch: u32,
    pub(super) no_ack: bool,
    pub(super) limited: bool,
}

pub(super) struct World {
    pub(super) core: QueueCore,
    pub(super) behaviour: Behaviour,
    records: RecordBatch,
    effects: Effects,
    mailbox: Arc<Mailbox>,
    limiter: Arc<ChannelLimiter>,
    pub(super) messages: BTreeMap<u64, Waiting>,
    contents: BTreeMap<u64, Message>,
    pub(super) takers: Vec<Taker>,
    pub(super) gets: VecDeque<(u64, bool)>,
    pub(super) load: Option<Vec<u64>>,
    dead: Vec<(u32, Seq)>,
    tokens: u64,
    next_seq: u64,
    pub(super) now: u64,
    /// Since which turn a key waits without having had one.
    pub(super) since: BTreeMap<Option<u8>, usize>,
    /// The last turn of a key.
    pub(super) served: BTreeMap<Option<u8>, usize>,
    pub(super) turn: usize,
    /// Before this verb all that waited was in memory and visible.
    pub(super) was_whole: bool,
}

fn message(key: Option<u8>) -> Message {
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    match key {
        None => header.extend_from_slice(&[0, 0]),
        Some(key) => {
            let table = TableBuilder::new().put(b"k", Value::U8(key)).finish();
            let table = table.as_ref().bytes();
            header.extend_from_slice(&(1_u16 << 13).to_be_bytes());
            let len = u32::try_from(table.len()).expect("a table of one field");
            header.extend_from_slice(&len.to_be_bytes());
            header.extend_from_slice(table);
        }
    }
    Message::new(b"", b"q", &header, b"x", &mut Vec::new())
}

fn new_core(behaviour: &Behaviour) -> QueueCore {
    QueueCore::new(QUEUE, true).with_paging(PAGING).with_behaviour(behaviour.clone())
}

impl World {
    pub(super) fn new(behaviour: Behaviour) -> Self {
        let limiter = Arc::<ChannelLimiter>::default();
        limiter.set(CHANNEL_LIMIT, 0);
        let mut world = Self {
            core: new_core(&behaviour),
            behaviour,
            records: RecordBatch::new(),
            effects: Effects::new(),
            mailbox: Arc::default(),
            limiter,
            messages: BTreeMap::new(),
            contents: BTreeMap::new(),
            takers: Vec::new(),
            gets: VecDeque::new(),
            load: None,
            dead: Vec::new(),
            tokens: 0,
            next_seq: 1,
            now: 1_000,
            since: BTreeMap::new(),
            served: BTreeMap::new(),
            turn: 0,
            was_whole: true,
        };
        world.effects.now.unix = UnixMillis(world.now);
        world
    }

    /// Checked-out messages with their consumers, in order.
    pub(super) fn out(&self) -> Vec<(u64, Option<u64>)> {
        let out = self.messages.iter().filter_map(|(seq, message)| match message.state {
            State::Out { owner, .. } => Some((*seq, owner)),
            _ => None,
        });
        out.collect()
    }

    fn in_state(&self, state: State) -> Vec<u64> {
        let found = self.messages.iter().filter(|(_, message)| message.state == state);
        found.map(|(seq, _)| *seq).collect()
    }

    fn admit(&mut self, post: Post, state: State) -> Publish {
        let seq = self.next_seq;
        self.next_seq += 1;
        let message = message(post.key);
        self.contents.insert(seq, message.clone());
        let due = post.ttl_ms.map_or(u64::MAX, |ms| self.now + ms);
        let Post { key, persistent, .. } = post;
        if state == State::Ready {
            self.enter(key);
        }
        self.messages.insert(seq, Waiting { key, persistent, due, state });
        let ttl = post.ttl_ms.map_or(Ttl::FOREVER, Ttl::of_ms);
        Publish { message, persistent, priority: 0, ttl, delay: None, mark: 0 }
    }

    /// A message of this key becomes ready: if it is the only one, the key has its turn behind all
    /// that wait.
    fn enter(&mut self, key: Option<u8>) {
        if !self.messages.values().any(|other| other.key == key && other.state == State::Ready) {
            self.since.insert(key, self.turn);
        }
    }

    pub(super) fn publish(&mut self, posts: &[Post]) {
        let mut batch = posts.iter().map(|post| self.admit(*post, State::Ready)).collect();
        self.core.publish(&mut batch, &mut self.records, &mut self.effects);
        self.settle_down();
    }

    pub(super) fn reserve(&mut self, post: Post) {
        let publish = self.admit(post, State::Reserved);
        let target = self.core.reserve(publish, &mut self.effects).expect("nothing is refused");
        assert_eq!(target.seq.0 + 1, self.next_seq);
        self.settle_down();
    }

    pub(super) fn record(&mut self, show: bool) {
        let reserved = self.in_state(State::Reserved);
        let seqs: Vec<_> = reserved.iter().copied().map(Seq).collect();
        let (records, effects) = (&mut self.records, &mut self.effects);
        if show {
            self.core.show(&seqs, records, effects);
        } else {
            self.core.withdraw(&seqs, records, effects);
        }
        for seq in reserved {
            if show {
                self.enter(self.messages[&seq].key);
                self.become_state(seq, State::Ready);
            } else {
                self.messages.remove(&seq);
            }
        }
        self.settle_down();
    }

    fn become_state(&mut self, seq: u64, state: State) {
        self.messages.get_mut(&seq).expect("it is there").state = state;
    }

    pub(super) fn consume(&mut self, prefetch: u32, no_ack: bool, limited: bool) {
        self.tokens += 1;
        let token = self.tokens;
        let limiter = if limited { Arc::clone(&self.limiter) } else { Arc::default() };
        let spec = ConsumerSpec {
            outlet: Arc::clone(&self.mailbox) as Arc<dyn Outlet>,
            token: ConsumerToken(token),
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch,
            limiter,
        };
        let key = self.core.consume(spec, &mut self.records, &mut self.effects);
        let key = key.expect("nobody is exclusive");
        self.takers.push(Taker { token, key, prefetch, no_ack, limited });
        self.settle_down();
    }

    pub(super) fn cancel(&mut self, nth: usize) {
        if self.takers.is_empty() {
            return;
        }
        let taker = self.takers.remove(nth % self.takers.len());
        self.core.cancel(taker.key, &mut self.records, &mut self.effects);
        self.settle_down();
    }

    pub(super) fn get(&mut self, no_ack: bool) {
        self.tokens += 1;
        let outlet = Arc::clone(&self.mailbox) as Arc<dyn Outlet>;
        let token = ConsumerToken(self.tokens);
        let (records, effects) = (&mut self.records, &mut self.effects);
        match self.core.get(&outlet, token, no_ack, records, effects) {
            Got::Message { delivery, ready_left } => {
                self.gotten(&delivery, no_ack);
                assert!(self.behaviour.max_length.is_some() || ready_left == self.ready_left());
            }
            Got::Empty => self.check_nothing_for_get(),
            Got::Later => self.gets.push_back((self.tokens, no_ack)),
        }
        self.settle_down();
    }

    fn ready_left(&self) -> u64 {
        self.core.ready_len() as u64
    }

    fn gotten(&mut self, delivery: &Delivery, no_ack: bool) {
        self.check_delivery(delivery.seq.0, None);
        self.handed_over(delivery, None, no_ack);
    }

    fn handed_over(&mut self, delivery: &Delivery, owner: Option<u64>, no_ack: bool) {
        let seq = delivery.seq.0;
        assert_eq!(delivery.message.header(), self.contents[&seq].header(), "another's content");
        if no_ack {
            self.messages.remove(&seq);
        } else {
            let (slot, limited) = (delivery.slot, delivery.limited);
            self.become_state(seq, State::Out { slot, owner, limited });
        }
    }

    pub(super) fn settle_some(&mut self, picks: &[usize], how: Settlement) {
        let out = self.out();
        let picked: BTreeSet<_> =
            picks.iter().filter_map(|pick| out.get(pick % out.len().max(1))).collect();
        let seqs: Vec<_> = picked.into_iter().map(|(seq, _)| *seq).rev().collect();
        self.settle(&seqs, how);
    }

    pub(super) fn settle(&mut self, seqs: &[u64], how: Settlement) {
        let (mut deliveries, mut limited) = (Vec::new(), 0);
        for seq in seqs {
            let State::Out { slot, limited: counts, .. } = self.messages[seq].state else {
                panic!("{seq} is not out");
            };
            deliveries.push((slot, Seq(*seq)));
            limited += u32::from(counts);
            match how {
                Settlement::Requeue | Settlement::Retry => {
                    self.enter(self.messages[seq].key);
                    self.become_state(*seq, State::Ready);
                }
                Settlement::Discard if self.behaviour.dead_letter.is_some() => {
                    self.become_state(*seq, State::Dying);
                }
                Settlement::Ack | Settlement::Discard => {
                    self.messages.remove(seq);
                }
            }
        }
        // Settling twice, or with another's slot, changes nothing.
        deliveries.extend(deliveries.clone());
        deliveries.extend(self.out().first().map(|(seq, _)| (u32::MAX, Seq(*seq))));
        self.core.settle(&deliveries, how, &mut self.records, &mut self.effects);
        self.limiter.give(limited);
        self.receive();
        while let Some(token) = self.limiter.next_starved() {
            let taker = self.takers.iter().find(|taker| taker.token == token.0);
            let key = taker.expect("who has ended is forgotten").key;
            self.core.grant(key, 0, 0, &mut self.records, &mut self.effects);
            self.receive();
        }
        self.settle_down();
    }

    pub(super) fn bury(&mut self, max: usize) {
        let count = self.dead.len().min(max);
        let places: Vec<_> = self.dead.drain(..count).collect();
        self.core.buried(&places, true, &mut self.records, &mut self.effects);
        self.messages.retain(|seq, _| !places.iter().any(|(_, moved)| moved.0 == *seq));
        self.settle_down();
    }

    pub(super) fn purge(&mut self) {
        drop(self.core.purge(&mut self.records, &mut self.effects));
        self.messages.retain(|_, message| message.state != State::Ready);
        self.settle_down();
    }

    fn stored(&self) -> Vec<(Seq, Seq)> {
        let stored = self.messages.iter().filter(|(_, it)| it.persistent);
        stored.map(|(seq, _)| (Seq(*seq), Seq(*seq))).collect()
    }

    pub(super) fn page_out(&mut self, keep_head: usize, keep_tail: usize, max: usize) {
        drop(self.core.page_out(&self.stored(), keep_head, keep_tail, max));
        self.settle_down();
    }

    pub(super) fn evict_bodies(&mut self, max: usize) {
        drop(self.core.evict_bodies(&self.stored(), &mut Sweep::default(), max));
        self.settle_down();
    }

    /// Answers a load with the first messages; some of them cannot be read.
    pub(super) fn answer(&mut self, looked_at: usize, lost: u64) {
        let Some(mut wanted) = self.load.take() else { return };
        wanted.truncate(looked_at);
        let absent = self.core.absent_seqs();
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for seq in wanted {
            let waits = self.messages.get(&seq);
            if lost >> (seq % 64) & 1 == 1 && absent.contains(&Seq(seq)) && waits.is_some() {
                damaged.push(Seq(seq));
            } else {
                let due = UnixMillis(waits.map_or(u64::MAX, |it| it.due));
                let message = self.contents[&seq].clone();
                found.push(OnDisk { seq: Seq(seq), due, message });
            }
        }
        self.core.loaded(found, &damaged, &mut self.records, &mut self.effects);
        // What has joined a page since it was asked for stays there, and is asked for again.
        let left: BTreeSet<_> = self.core.ready_seqs().into_iter().collect();
        damaged.iter().filter(|seq| !left.contains(seq)).for_each(|seq| {
            self.messages.remove(&seq.0);
        });
        self.settle_down();
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now += ms;
        self.effects.now.unix = UnixMillis(self.now);
        self.core.tick(&mut self.records, &mut self.effects);
        self.settle_down();
    }

    pub(super) fn set_behaviour(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour.clone();
        self.core.set_behaviour(behaviour, &mut self.records, &mut self.effects);
        self.settle_down();
    }

    /// The queue begins again with what a journal would hold.
    pub(super) fn restart(&mut self) {
        self.messages.retain(|_, it| it.persistent && it.state != State::Reserved);
        self.core = QueueCore::new(QUEUE, true).with_paging(PAGING);
        let messages: Vec<_> = self.messages.iter_mut().collect();
        let due = messages.iter().map(|(_, it)| it.due).min().map_or(UnixMillis::NEVER, UnixMillis);
        let paged = messages.into_iter().map(|(seq, it)| {
            let redelivered = it.state != State::Ready;
            it.state = State::Ready;
            let due = UnixMillis(it.due);
            Paged { seq: Seq(*seq), body_len: 1, persistent: true, redelivered, due }
        });
        let paged: Vec<_> = paged.collect();
        for part in paged.chunks(PAGING.page_len) {
            let page = Page::new(part.iter().copied()).expect("a chunk is not empty");
            self.core.restore_page(page.with_due(due));
        }
        self.core.restore_due(due);
        self.core.restore_next_seq(Seq(self.next_seq));
        let core = std::mem::replace(&mut self.core, QueueCore::new(QUEUE, true));
        self.core = core.with_behaviour(self.behaviour.clone());
        self.limiter = Arc::default();
        self.limiter.set(CHANNEL_LIMIT, 0);
        (self.load, self.turn) = (None, 0);
        self.takers.clear();
        self.gets.clear();
        self.dead.clear();
        self.since = self.messages.values().map(|it| (it.key, 0)).collect();
        self.served.clear();
        self.advance(0);
    }

    /// Takes what the last verb has brought, and looks whether it may be so.
    fn settle_down(&mut self) {
        self.receive();
        self.check();
        let reserved = self.messages.values().any(|it| it.state == State::Reserved);
        self.was_whole = self.core.absent_seqs().is_empty() && !reserved;
        if !self.was_whole {
            // What is not known yet has its turn once it is.
            self.since.values_mut().for_each(|turn| *turn = self.turn);
            self.served.clear();
        }
    }

    fn receive(&mut self) {
        self.core.push_events(&mut self.effects);
        for event in self.mailbox.take() {
            match event {
                Event::Delivery(delivery) => self.delivered(&delivery),
                Event::Ended { .. } => {}
                Event::Got { token, delivery, .. } => {
                    let (waiting, no_ack) = self.gets.pop_front().expect("a get waits for it");
                    assert_eq!(waiting, token.0, "gets are answered in order");
                    match delivery {
                        Some(delivery) => self.gotten(&delivery, no_ack),
                        None => self.check_nothing_for_get(),
                    }
                }
            }
        }
        for load in self.effects.loads.drain(..) {
            assert!(self.load.is_none() && !load.runs.is_empty(), "one load at a time");
            let seqs = load.runs.iter().flat_map(|(first, last)| first.0..=last.0);
            self.load = Some(seqs.collect());
        }
        for dead in self.effects.dead.drain(..) {
            let place = dead.place.expect("nothing is refused");
            self.dead.push(place);
        }
        self.follow_drops();
    }

    /// Takes over what has expired or had to go.
    fn follow_drops(&mut self) {
        let left: BTreeSet<_> = self.core.ready_seqs().into_iter().map(|seq| seq.0).collect();
        let oldest = left.first().copied().unwrap_or(u64::MAX);
        for seq in self.in_state(State::Ready) {
            if left.contains(&seq) {
                continue;
            }
            let expired = self.messages[&seq].due <= self.now;
            let trimmed = self.behaviour.max_length.is_some() && seq < oldest;
            assert!(expired || trimmed, "{seq} is gone");
            // A key whose known messages are gone waits anew.
            let key = self.messages[&seq].key;
            self.since.insert(key, self.turn);
            self.served.remove(&key);
            if self.behaviour.dead_letter.is_some() {
                self.become_state(seq, State::Dying);
            } else {
                self.messages.remove(&seq);
            }
        }
        assert_eq!(left.len(), self.in_state(State::Ready).len(), "nothing came from nowhere");
    }

    fn delivered(&mut self, delivery: &Delivery) {
        let token = delivery.token.0;
        let taker = self.takers.iter().find(|taker| taker.token == token);
        let no_ack = taker.expect("deliveries of who has ended went before").no_ack;
        self.check_delivery(delivery.seq.0, Some(token));
        self.handed_over(delivery, Some(token), no_ack);
    }
}
