//! What each operation does, at the moment when the broker takes it.

use super::{Channel, Consumer, Due, Expected, Oracle, Phase, Place, Queue, State};
use crate::ops::{Binding, Consume, Message, Mode, Op, QUEUES};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const NOT_FOUND: u16 = 404;
const ACCESS_REFUSED: u16 = 403;

impl Channel {
    fn new() -> Self {
        Self {
            phase: Phase::Open,
            mode: Mode::Plain,
            prefetch: 0,
            limit: 0,
            consumers: BTreeMap::new(),
            tags: BTreeMap::new(),
            last_tag: 0,
            empty_gets: 0,
            expected: VecDeque::new(),
            publishes: Vec::new(),
            confirmed: BTreeSet::new(),
            returns_due: VecDeque::new(),
            returns_seen: 0,
            cancels_due: BTreeSet::new(),
            kept_publishes: Vec::new(),
            kept_settlements: Vec::new(),
            newest: BTreeMap::new(),
            is_over: false,
        }
    }
}

impl Oracle {
    pub(crate) fn apply(&mut self, place: Place, op: &Op) {
        match op {
            Op::Other => return,
            Op::CloseConnection => return self.end_connection(place.0),
            Op::OpenChannel => {
                let before = self.channels.insert(place, Channel::new());
                assert!(before.is_none_or(|channel| channel.expected.is_empty()));
                return self.expect(place, Due::Method(20 << 16 | 11), false);
            }
            Op::CloseChannelOk => return self.channel(place).phase = Phase::Closed,
            _ => {}
        }
        match (self.channel(place).phase, op) {
            (Phase::Open, _) => {}
            // It crosses the broker's own close, and is answered.
            (Phase::Refused, Op::CloseChannel) => {
                return self.expect(place, Due::Method(20 << 16 | 41), false);
            }
            _ => return,
        }
        match *op {
            Op::CloseChannel => {
                self.expect(place, Due::Method(20 << 16 | 41), false);
                self.end_channel(place, Phase::Closed);
            }
            Op::DeclareExchange(exchange) => {
                let new = self.exchanges.insert(exchange);
                self.expect(place, Due::Method(40 << 16 | 11), new);
            }
            Op::DeleteExchange(exchange) => {
                let was_there = self.exchanges.remove(&exchange);
                self.bindings.retain(|binding| binding.exchange != exchange);
                self.expect(place, Due::Method(40 << 16 | 21), was_there);
            }
            Op::DeclareQueue(name) => self.declare_queue(place, name),
            Op::DeleteQueue(name) => self.delete_queue(place, name),
            Op::Purge(name) => self.purge(place, name),
            Op::Bind(binding) => self.bind(place, binding),
            Op::Unbind(binding) => {
                let was_there = self.bindings.remove(&binding);
                let durable = was_there && QUEUES[binding.queue].1;
                self.expect(place, Due::Method(50 << 16 | 51), durable);
            }
            Op::Publish(message) => self.publish(place, message),
            Op::Qos { count, global } => {
                let channel = self.channel(place);
                if global {
                    channel.limit = count.into();
                } else {
                    (channel.prefetch, channel.limit) = (count.into(), 0);
                }
                self.expect(place, Due::Method(60 << 16 | 11), false);
            }
            Op::Consume(consume) => self.consume(place, consume),
            Op::Cancel(tag) => {
                self.end_consumer(place, tag);
                self.channel(place).cancels_due.remove(&tag);
                self.expect(place, Due::Method(60 << 16 | 31), false);
            }
            Op::Get { queue, no_ack } => self.get(place, queue, no_ack),
            Op::Settle { tag, multiple, how } => self.settle(place, tag, multiple, how),
            Op::Recover => {
                let tags = std::mem::take(&mut self.channel(place).tags);
                let all: Vec<_> = tags.into_iter().collect();
                self.settled(place, &all, false);
                self.unread_is_returned(place);
                self.expect(place, Due::Method(60 << 16 | 111), false);
            }
            Op::Select(mode) => {
                self.channel(place).mode = mode;
                let method = if mode == Mode::Confirm { 85 << 16 | 11 } else { 90 << 16 | 11 };
                self.expect(place, Due::Method(method), false);
            }
            Op::Commit => self.commit(place),
            Op::Rollback => {
                let channel = self.channel(place);
                channel.kept_publishes.clear();
                for (deliveries, _) in std::mem::take(&mut channel.kept_settlements) {
                    channel.tags.extend(deliveries);
                }
                self.expect(place, Due::Method(90 << 16 | 31), false);
            }
            Op::Other | Op::CloseConnection | Op::OpenChannel | Op::CloseChannelOk => {}
            Op::DeclareRuled(..)
            | Op::DeclareFan(_)
            | Op::BindFan(_)
            | Op::DeclareLate(_)
            | Op::BindLate(..)
            | Op::PublishRuled(_) => {
                panic!("{op:?} is for another ledger")
            }
        }
    }

    pub(super) fn expect(&mut self, place: Place, what: Due, durable: bool) {
        let turn = durable.then(|| self.turn());
        self.channel(place).expected.push_back(Expected { what, turn });
    }

    fn refuse(&mut self, place: Place, code: u16) {
        self.stats.refusals += 1;
        self.expect(place, Due::ChannelClose(code), false);
        self.end_channel(place, Phase::Refused);
    }

    fn declare_queue(&mut self, place: Place, name: usize) {
        let known = self.named[name];
        let was_there = self.queues.iter().any(|queue| queue.name == name);
        self.stats.redeclares += u64::from(known.is_none() && was_there);
        let queue = known.unwrap_or_else(|| {
            self.queues.push(Queue::new(name));
            self.queues.len() - 1
        });
        self.named[name] = Some(queue);
        let (min, max) = self.ready(queue);
        let consumers = self.queues[queue].consumers.len();
        let durable = known.is_none() && QUEUES[name].1;
        self.expect(place, Due::Declared { queue: name, min, max, consumers }, durable);
    }

    /// Bounds of what is ready.
    fn ready(&self, queue: usize) -> (usize, usize) {
        let known = &self.queues[queue];
        let live = known.count(State::Live);
        let min = if self.is_exact(queue) { live } else { 0 };
        (min, live + known.count(State::Maybe))
    }

    fn delete_queue(&mut self, place: Place, name: usize) {
        let Some(queue) = self.named[name].take() else {
            return self.expect(place, Due::Count { method: 50 << 16 | 41, min: 0, max: 0 }, false);
        };
        self.stats.deletes += 1;
        let (min, max) = self.ready(queue);
        self.bindings.retain(|binding| binding.queue != name);
        let ended = &mut self.queues[queue];
        ended.alive = false;
        for copy in ended.copies.iter_mut().filter(|copy| copy.state != State::Gone) {
            copy.state = State::Ended;
        }
        for (place, tag) in std::mem::take(&mut ended.consumers) {
            let channel = self.channel(place);
            channel.cancels_due.insert(tag);
            if let Some(consumer) = channel.consumers.get_mut(&tag) {
                consumer.is_active = false;
            }
        }
        self.expect(place, Due::Count { method: 50 << 16 | 41, min, max }, QUEUES[name].1);
    }

    fn purge(&mut self, place: Place, name: usize) {
        let Some(queue) = self.named[name] else { return self.refuse(place, NOT_FOUND) };
        let (min, max) = self.ready(queue);
        let left = if self.is_exact(queue) { State::Gone } else { State::Maybe };
        self.stats.purges += 1;
        self.stats.exact_purges += u64::from(left == State::Gone);
        let purged = &mut self.queues[queue].copies;
        let ready = |state| matches!(state, State::Live | State::Maybe);
        let mut persistent = false;
        for copy in purged.iter_mut().filter(|copy| ready(copy.state)) {
            copy.state = left;
            persistent |= self.messages[copy.message as usize].persistent;
        }
        let sync = self.wants_sync(queue) && persistent && left == State::Gone;
        self.expect(place, Due::Count { method: 50 << 16 | 31, min, max }, sync);
    }

    fn bind(&mut self, place: Place, binding: Binding) {
        if !self.exchanges.contains(&binding.exchange) || self.named[binding.queue].is_none() {
            return self.refuse(place, NOT_FOUND);
        }
        let durable = self.bindings.insert(binding) && QUEUES[binding.queue].1;
        self.expect(place, Due::Method(50 << 16 | 21), durable);
    }

    fn publish(&mut self, place: Place, id: u32) {
        let message = self.messages[id as usize].clone();
        if message.exchange != 0 && !self.exchanges.contains(&message.exchange) {
            return self.refuse(place, NOT_FOUND);
        }
        self.stats.publishes += 1;
        let targets = self.route(&message);
        if self.channel(place).mode == Mode::Transaction {
            return self.channel(place).kept_publishes.push((id, targets));
        }
        self.stats.fan_outs += u64::from(targets.len() > 1);
        let durable = self.enqueue(id, &message, &targets);
        let sync = message.persistent && targets.iter().any(|queue| self.wants_sync(*queue));
        let turn = sync.then(|| self.turn());
        self.one_record = self.is_single && durable > 1 && self.are_exact(&targets);
        let channel = self.channel(place);
        if targets.is_empty() && message.mandatory {
            channel.returns_due.push_back(id);
        }
        if channel.mode == Mode::Confirm {
            channel.publishes.push((id, turn));
        }
    }

    pub(super) fn are_exact(&self, queues: &[usize]) -> bool {
        queues.iter().all(|queue| !self.queues[*queue].is_loose)
    }

    /// Gives each queue its copy; says how many of them the disk has to have.
    pub(super) fn enqueue(&mut self, id: u32, message: &Message, targets: &[usize]) -> usize {
        for queue in targets.iter().filter(|queue| self.queues[**queue].alive).collect::<Vec<_>>() {
            self.queues[*queue].push(id);
        }
        let durable = |queue: &&usize| self.queues[**queue].alive && self.is_durable(**queue);
        if message.persistent { targets.iter().filter(durable).count() } else { 0 }
    }

    fn consume(&mut self, place: Place, consume: Consume) {
        let Some(queue) = self.named[consume.queue] else { return self.refuse(place, NOT_FOUND) };
        let others = self.queues[queue].consumers.clone();
        let is_exclusive =
            |(place, tag): &(Place, u32)| self.channels[place].consumers[tag].exclusive;
        if others.iter().any(is_exclusive) || consume.exclusive && !others.is_empty() {
            return self.refuse(place, ACCESS_REFUSED);
        }
        self.queues[queue].consumers.push((place, consume.tag));
        self.queues[queue].is_loose |= consume.no_ack;
        let channel = self.channel(place);
        let consumer = Consumer {
            queue,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            prefetch: channel.prefetch,
            held: 0,
            is_active: true,
            is_over: false,
        };
        channel.consumers.insert(consume.tag, consumer);
        self.expect(place, Due::Method(60 << 16 | 21), false);
    }

    pub(super) fn end_consumer(&mut self, place: Place, tag: u32) {
        let Some(consumer) = self.channel(place).consumers.get_mut(&tag) else { return };
        consumer.is_active = false;
        let queue = consumer.queue;
        self.queues[queue].consumers.retain(|consumer| *consumer != (place, tag));
    }

    fn get(&mut self, place: Place, name: usize, no_ack: bool) {
        let Some(queue) = self.named[name] else { return self.refuse(place, NOT_FOUND) };
        let known = &self.queues[queue];
        let first = known.copies.iter().position(|copy| copy.state == State::Live);
        let exactly = self.is_exact(queue).then_some(first);
        self.stats.exact_gets += u64::from(exactly.is_some());
        // With nothing else in the turn, a get sees the gauge as it was.
        let left = self.gauges(queue).map(|(ready, _)| ready);
        self.queues[queue].loose_gets += usize::from(no_ack);
        self.expect(place, Due::Got { queue, no_ack, exactly, left }, false);
        self.gets.push((place, queue));
    }
}
