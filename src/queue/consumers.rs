//! A queue's consumers: their credit, and whose turn it is.
//!
//! Only consumers that can take a message stand in a ring (`rings.rs`). One that turns out to be
//! blocked leaves it and joins it again when something is given back to it. Nothing here walks over
//! the consumers but the end of them all.

use super::effects::Effects;
use super::limiter::ChannelLimiter;
use super::outgoing::Outgoing;
use super::outlet::{Event, Outlet};
use super::places::Places;
use super::rings::Rings;
use super::single_active::SingleActive;
use crate::id::ConsumerToken;
use crate::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use std::sync::Arc;

/// A consumer's place in its queue; never valid for another consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    pub(super) index: u32,
    /// Which of the queue's consumers it is: places are used again, and unacked deliveries name
    /// consumers that have ended.
    pub(super) generation: u32,
}

/// What a link says of a new consumer.
pub struct ConsumerSpec {
    pub outlet: Arc<dyn Outlet>,
    pub token: ConsumerToken,
    pub no_ack: bool,
    pub exclusive: bool,
    /// Higher first (`x-priority`).
    pub priority: i64,
    /// Unacked deliveries allowed; zero is no limit. Ignored with `no_ack`.
    pub prefetch: u32,
    pub limiter: Arc<ChannelLimiter>,
}

pub(super) struct Consumer {
    pub(super) spec: ConsumerSpec,
    pub(super) unacked: u32,
    /// Deliveries and bytes that its link can still hold. Bytes may go below zero by one message.
    credit_messages: i64,
    credit_bytes: i64,
    in_ring: bool,
    generation: u32,
    /// Where its events go.
    outlet: u32,
}

impl Consumer {
    fn can_take(&self) -> bool {
        self.credit_messages > 0
            && self.credit_bytes > 0
            && (self.spec.no_ack || self.spec.prefetch == 0 || self.unacked < self.spec.prefetch)
    }

    /// Takes what one delivery costs.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.credit_messages -= 1;
        self.credit_bytes -= i64::try_from(bytes).unwrap_or(i64::MAX);
        if !self.spec.no_ack {
            self.unacked += 1;
        }
    }
}

#[derive(Default)]
pub(super) struct Consumers {
    places: Places<Consumer>,
    /// Consumers so far, for their keys.
    generations: u32,
    rings: Rings,
    /// Its only consumer wants the queue for itself.
    exclusive: bool,
    /// Only there if one of them at a time gets messages.
    single_active: Option<Box<SingleActive>>,
    outgoing: Outgoing,
}

impl Consumers {
    /// Those of a queue that delivers to one of them at a time.
    pub(super) fn single_active() -> Self {
        Self { single_active: Some(Box::default()), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn are_single_active(&self) -> bool {
        self.single_active.is_some()
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.exclusive
    }

    pub(super) fn insert(&mut self, spec: ConsumerSpec) -> ConsumerKey {
        let outlet = self.outgoing.refer(&spec.outlet);
        let (exclusive, priority) = (spec.exclusive, spec.priority);
        self.generations = self.generations.wrapping_add(1);
        let consumer = Consumer {
            spec,
            unacked: 0,
            credit_messages: CONSUMER_CREDIT_MESSAGES.into(),
            credit_bytes: CONSUMER_CREDIT_BYTES.into(),
            in_ring: false,
            generation: self.generations,
            outlet,
        };
        let index = self.places.insert(consumer);
        let key = ConsumerKey { index, generation: self.generations };
        self.exclusive |= exclusive;
        if let Some(single) = &mut self.single_active {
            single.insert(key, priority);
        }
        self.join_ring(key);
        key
    }

    /// Takes a consumer out; `last` goes to its link behind its deliveries.
    pub(super) fn remove(&mut self, key: ConsumerKey, last: impl FnOnce(ConsumerToken) -> Event) {
        if self.get_mut(key).is_none() {
            return;
        }
        let Some(consumer) = self.places.remove(key.index) else { return };
        part(&consumer, &mut self.outgoing, last);
        if self.len() == 0 {
            self.clear();
        } else if consumer.in_ring {
            let places = &self.places;
            self.rings.forget(|key| lives(places, key));
        }
        let single = self.single_active.as_mut();
        if let Some(next) = single.and_then(|s| s.remove(key, consumer.spec.priority)) {
            self.join_ring(next);
        }
    }

    /// Takes all consumers out at once.
    pub(super) fn remove_all(&mut self, last: impl Fn(ConsumerToken) -> Event) {
        for (_, consumer) in self.places.iter() {
            part(consumer, &mut self.outgoing, &last);
        }
        self.clear();
    }

    /// Nobody is left, and nothing remains of those who were: keys go by the generation.
    fn clear(&mut self) {
        self.places = Places::default();
        self.rings = Rings::default();
        self.exclusive = false;
        if let Some(single) = &mut self.single_active {
            **single = SingleActive::default();
        }
    }

    pub(super) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        let consumer = self.places.get_mut(key.index)?;
        if consumer.generation == key.generation { Some(consumer) } else { None }
    }

    /// The consumer whose turn it is. Those found blocked leave their ring.
    pub(super) fn next(&mut self) -> Option<ConsumerKey> {
        loop {
            let key = self.rings.front()?;
            match self.get_mut(key) {
                Some(consumer) if consumer.can_take() => return Some(key),
                Some(consumer) => {
                    consumer.in_ring = false;
                    self.rings.pop();
                }
                None => self.rings.pop_stale(),
            }
        }
    }

    /// Whether this consumer could take a message if it had the turn.
    pub(super) fn can_take(&mut self, key: ConsumerKey) -> bool {
        self.get_mut(key).is_some_and(|consumer| consumer.can_take())
    }

    /// The consumer that `next` named cannot take anything for a reason of its own.
    pub(super) fn park(&mut self, key: ConsumerKey) {
        debug_assert_eq!(self.rings.front(), Some(key), "nothing comes between next and park");
        self.rings.pop();
        if let Some(consumer) = self.get_mut(key) {
            consumer.in_ring = false;
        }
    }

    /// The consumer that `next` named got a message: the next of its priority has the turn.
    pub(super) fn rotate(&mut self, key: ConsumerKey) {
        debug_assert_eq!(self.rings.front(), Some(key), "nothing comes between next and rotate");
        self.rings.rotate();
    }

    /// Adds an event to push at the end of this lock hold.
    pub(super) fn tell(&mut self, key: ConsumerKey, event: Event) {
        if let Some(outlet) = self.get_mut(key).map(|consumer| consumer.outlet) {
            self.outgoing.push(outlet, event);
        }
    }

    /// Pushes the events of this lock hold to their links, one push for each.
    pub(super) fn push_all(&mut self, effects: &mut Effects) {
        self.outgoing.push_all(effects);
    }

    /// Gives send credit back.
    pub(super) fn grant(&mut self, key: ConsumerKey, messages: u32, bytes: u64) {
        let Some(consumer) = self.get_mut(key) else {
            return;
        };
        consumer.credit_messages += i64::from(messages);
        consumer.credit_bytes += i64::try_from(bytes).unwrap_or(i64::MAX);
        self.join_ring(key);
    }

    /// One of its deliveries was settled.
    pub(super) fn settled(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.get_mut(key) else {
            return;
        };
        consumer.unacked = consumer.unacked.saturating_sub(1);
        if !consumer.in_ring {
            self.join_ring(key);
        }
    }

    /// Puts a consumer that can take messages at the end of its ring, if it is not in it.
    pub(super) fn join_ring(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.get_mut(key) else {
            return;
        };
        if consumer.in_ring || !consumer.can_take() {
            return;
        }
        if self.single_active.as_ref().is_some_and(|single| !single.is_active(key)) {
            return;
        }
        let Some(consumer) = self.get_mut(key) else {
            return;
        };
        consumer.in_ring = true;
        let priority = consumer.spec.priority;
        self.rings.push(priority, key);
    }
}

/// Says goodbye to a consumer's link, and to the limiter that may have it among the starved.
fn part(consumer: &Consumer, outgoing: &mut Outgoing, last: impl FnOnce(ConsumerToken) -> Event) {
    let spec = &consumer.spec;
    outgoing.push(consumer.outlet, last(spec.token));
    outgoing.release(consumer.outlet);
    if !spec.no_ack {
        spec.limiter.forget(spec.token);
    }
}

fn lives(places: &Places<Consumer>, key: ConsumerKey) -> bool {
    places.get(key.index).is_some_and(|consumer| consumer.generation == key.generation)
}

#[cfg(test)]
mod tests {
    use super::super::outlet::EndReason;
    use super::super::samples::{Sink, spec};
    use super::*;

    fn ended(token: ConsumerToken) -> Event {
        Event::Ended { token, reason: EndReason::Cancelled }
    }

    /// Gives `count` turns; says whose they were.
    fn turns(consumers: &mut Consumers, count: usize) -> Vec<u64> {
        let mut tokens = Vec::new();
        for _ in 0..count {
            let Some(key) = consumers.next() else { break };
            tokens.push(consumers.get_mut(key).unwrap().spec.token.0);
            consumers.rotate(key);
        }
        tokens
    }

    #[test]
    fn turns_go_round_fairly_while_others_end_and_join() {
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        let mut consumers = Consumers::default();
        let keys: Vec<_> = (0..6).map(|token| consumers.insert(spec(&outlet, token))).collect();
        assert_eq!(turns(&mut consumers, 2), [0, 1]);
        for gone in [3, 4, 0] {
            consumers.remove(keys[gone], ended);
        }
        consumers.insert(spec(&outlet, 6));
        assert_eq!(turns(&mut consumers, 8), [2, 5, 1, 6, 2, 5, 1, 6]);
        assert_eq!(consumers.len(), 4);
    }

    #[test]
    fn a_place_that_is_used_again_is_not_the_one_of_before() {
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        let mut consumers = Consumers::default();
        let first = consumers.insert(spec(&outlet, 1));
        consumers.remove(first, ended);
        assert_eq!(consumers.places.capacity(), 0);
        let second = consumers.insert(spec(&outlet, 2));
        assert_eq!((first.index, consumers.len()), (second.index, 1));
        consumers.remove(first, ended);
        assert!(consumers.get_mut(first).is_none() && consumers.get_mut(second).is_some());
    }

    #[test]
    fn all_end_at_once_each_is_told_and_nothing_is_left() {
        let sink = Arc::new(Sink::default());
        let outlet: Arc<dyn Outlet> = sink.clone();
        let mut consumers = Consumers::default();
        for token in 0..20_000 {
            let priority = (token % 3) as i64;
            consumers.insert(ConsumerSpec { priority, ..spec(&outlet, token) });
        }
        consumers.remove_all(ended);
        let mut effects = Effects::new();
        consumers.push_all(&mut effects);
        assert_eq!(sink.tokens(), Vec::from_iter(0..20_000));
        assert_eq!((consumers.len(), consumers.next()), (0, None));
        effects.wake_all();
        drop((effects, outlet));
        assert_eq!(Arc::strong_count(&sink), 1);
    }

    #[test]
    fn ends_one_by_one_in_any_order_leave_the_others_their_turns() {
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        let mut consumers = Consumers::default();
        let keys: Vec<_> =
            (0..20_000).map(|token| consumers.insert(spec(&outlet, token))).collect();
        for (_, key) in keys.iter().enumerate().rev().filter(|(at, _)| at % 5_000 != 1) {
            consumers.remove(*key, ended);
        }
        assert_eq!(turns(&mut consumers, 5), [1, 5_001, 10_001, 15_001, 1]);
    }
}
