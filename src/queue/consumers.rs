//! A queue's consumers: their credit, and whose turn it is.
//!
//! Only consumers that can take a message stand in a ring, one ring per priority. A consumer that
//! turns out to be blocked leaves its ring and joins it again when something is given back to it.

use super::effects::Effects;
use super::limiter::ChannelLimiter;
use super::outgoing::Outgoing;
use super::outlet::{Event, Outlet};
use crate::id::ConsumerToken;
use crate::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use std::collections::VecDeque;
use std::sync::Arc;

/// A consumer's place in its queue; never valid for another consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerKey {
    index: u32,
    generation: u32,
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
struct Ring {
    priority: i64,
    members: VecDeque<ConsumerKey>,
}

#[derive(Default)]
pub(super) struct Consumers {
    places: Vec<(u32, Option<Consumer>)>,
    free: Vec<u32>,
    /// Highest priority first.
    rings: Vec<Ring>,
    outgoing: Outgoing,
}

impl Consumers {
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.places.iter().any(|(_, c)| c.as_ref().is_some_and(|c| c.spec.exclusive))
    }

    pub(super) fn insert(&mut self, spec: ConsumerSpec) -> ConsumerKey {
        let outlet = self.outgoing.refer(&spec.outlet);
        let consumer = Consumer {
            spec,
            unacked: 0,
            credit_messages: CONSUMER_CREDIT_MESSAGES.into(),
            credit_bytes: CONSUMER_CREDIT_BYTES.into(),
            in_ring: false,
            outlet,
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 consumers")
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(consumer);
        let key = ConsumerKey { index, generation: place.0 };
        self.join_ring(key);
        key
    }

    /// Takes a consumer out; `last` goes to its link behind its deliveries.
    pub(super) fn remove(&mut self, key: ConsumerKey, last: impl FnOnce(ConsumerToken) -> Event) {
        let Some(place) = self.places.get_mut(key.index as usize) else { return };
        if place.0 != key.generation {
            return;
        }
        let Some(consumer) = place.1.take() else { return };
        self.outgoing.push(consumer.outlet, last(consumer.spec.token));
        self.outgoing.release(consumer.outlet);
        place.0 = place.0.wrapping_add(1);
        self.free.push(key.index);
        for ring in &mut self.rings {
            ring.members.retain(|member| *member != key);
        }
        self.rings.retain(|ring| !ring.members.is_empty());
    }

    pub(super) fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.0 == key.generation { place.1.as_mut() } else { None }
    }

    pub(super) fn keys(&self) -> Vec<ConsumerKey> {
        let places = self.places.iter().zip(0..);
        let live = places.filter(|((_, consumer), _)| consumer.is_some());
        live.map(|((generation, _), index)| ConsumerKey { index, generation: *generation })
            .collect()
    }

    /// The consumer whose turn it is. Those found blocked leave their ring.
    pub(super) fn next(&mut self) -> Option<ConsumerKey> {
        for at in 0..self.rings.len() {
            while let Some(&key) = self.rings[at].members.front() {
                match self.get_mut(key) {
                    Some(consumer) if consumer.can_take() => return Some(key),
                    Some(consumer) => consumer.in_ring = false,
                    None => {}
                }
                self.rings[at].members.pop_front();
            }
        }
        None
    }

    /// The consumer that `next` named cannot take anything for a reason of its own.
    pub(super) fn park(&mut self, key: ConsumerKey) {
        for ring in &mut self.rings {
            if ring.members.front() == Some(&key) {
                ring.members.pop_front();
            }
        }
        if let Some(consumer) = self.get_mut(key) {
            consumer.in_ring = false;
        }
    }

    /// The consumer that `next` named got a message: the next of its priority has the turn.
    pub(super) fn rotate(&mut self, key: ConsumerKey) {
        for ring in &mut self.rings {
            if ring.members.front() == Some(&key) {
                if ring.members.len() > 1 {
                    ring.members.rotate_left(1);
                }
                return;
            }
        }
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
        consumer.in_ring = true;
        let priority = consumer.spec.priority;
        let at = self.rings.partition_point(|ring| ring.priority > priority);
        if self.rings.get(at).is_none_or(|ring| ring.priority != priority) {
            self.rings.insert(at, Ring { priority, members: VecDeque::new() });
        }
        self.rings[at].members.push_back(key);
    }
}
