//! What must hold of every delivery, and between any two verbs.

use super::world::{CHANNEL_LIMIT, State, Taker, Waiting, World};
use leveret::queue::Settlement;
use std::collections::{BTreeMap, BTreeSet};

impl World {
    fn groups(&self) -> bool {
        self.behaviour.group_key.is_some()
    }

    /// Who has messages of this key, if they lock it.
    fn holders(&self, key: Option<u8>) -> BTreeSet<Option<u64>> {
        let locks = self.groups() && key.is_some();
        let of_key = self.messages.values().filter(|message| locks && message.key == key);
        let out = of_key.filter_map(|message| match message.state {
            State::Out { owner, .. } => Some(owner),
            _ => None,
        });
        out.collect()
    }

    /// The first message of each key that waits.
    fn firsts(&self) -> BTreeMap<Option<u8>, u64> {
        let mut firsts = BTreeMap::new();
        for (seq, message) in &self.messages {
            if message.state == State::Ready && message.due > self.now {
                firsts.entry(message.key).or_insert(*seq);
            }
        }
        firsts
    }

    /// A message may go to this consumer, or to a get.
    pub(super) fn check_delivery(&mut self, seq: u64, owner: Option<u64>) {
        let message = &self.messages[&seq];
        let key = message.key;
        assert_eq!(message.state, State::Ready, "{seq} is not ready");
        assert!(message.due > self.now, "{seq} has expired");
        assert_eq!(self.firsts()[&key], seq, "a key's messages go in order");
        let holders = self.holders(key);
        match owner {
            None => assert!(holders.is_empty(), "{seq} is of a key that is held"),
            Some(_) => {
                assert!(holders.iter().all(|holder| *holder == owner), "{seq} is of another's key");
            }
        }
        if self.behaviour.single_active_consumer && owner.is_some() {
            assert_eq!(self.takers.first().map(|taker| taker.token), owner, "one is active");
        }
        if !self.groups() {
            self.check_turn(key);
        }
    }

    /// Between two turns of a key all others that waited meanwhile have had one.
    fn check_turn(&mut self, key: Option<u8>) {
        if let Some(last) = self.served.get(&key).filter(|_| self.was_whole) {
            let passed_over = self.firsts().into_keys().find(|other| self.since[other] < *last);
            assert_eq!(passed_over, None, "it waits since before the last turn of {key:?}");
        }
        self.turn += 1;
        self.since.insert(key, self.turn);
        self.served.insert(key, self.turn);
    }

    fn has_credit(&self, taker: &Taker) -> bool {
        let unacked = self.out().iter().filter(|(_, owner)| *owner == Some(taker.token)).count();
        let limited = |it: &&Waiting| matches!(it.state, State::Out { limited: true, .. });
        let taken = self.messages.values().filter(limited).count();
        let active = !self.behaviour.single_active_consumer
            || self.takers.first().is_some_and(|first| first.token == taker.token);
        let prefetch = taker.prefetch as usize;
        let has_room = taker.no_ack
            || (prefetch == 0 || unacked < prefetch)
                && !(taker.limited && taken >= CHANNEL_LIMIT as usize);
        active && has_room
    }

    /// Nothing is held back by something that is on its way.
    fn is_still(&self) -> bool {
        let reserved = |it: &Waiting| it.state == State::Reserved;
        self.load.is_none() && !self.messages.values().any(reserved)
    }

    pub(super) fn check_nothing_for_get(&self) {
        let free = self.firsts().into_iter().find(|(key, _)| self.holders(*key).is_empty());
        assert_eq!(free, None, "a get finds what nobody holds");
    }

    /// No key is idle while a consumer could take from it.
    pub(super) fn check(&self) {
        if !self.is_still() {
            return;
        }
        assert!(self.gets.is_empty(), "a get waits for nothing");
        for taker in self.takers.iter().filter(|taker| self.has_credit(taker)) {
            let mine = BTreeSet::from([Some(taker.token)]);
            for (key, seq) in self.firsts() {
                let holders = self.holders(key);
                let idle = holders.is_empty() || holders == mine;
                assert!(!idle, "{seq} of {key:?} is idle, {} could take it", taker.token);
            }
        }
        if let Some(max) = self.behaviour.max_length {
            assert!(self.core.ready_len() as u64 <= max, "the queue is too long");
        }
    }

    /// Everything comes to an end: it is shown, loaded, taken and settled.
    pub(super) fn finish(&mut self) {
        self.record(true);
        while self.load.is_some() {
            self.answer(usize::MAX, 0);
        }
        while !self.takers.is_empty() {
            self.cancel(0);
        }
        let out: Vec<_> = self.out().into_iter().map(|(seq, _)| seq).collect();
        self.settle(&out, Settlement::Requeue);
        self.consume(1, false, false);
        self.consume(2, false, false);
        self.bury(usize::MAX);
        loop {
            while self.load.is_some() {
                self.answer(usize::MAX, 0);
            }
            let out: Vec<_> = self.out().into_iter().map(|(seq, _)| seq).collect();
            if out.is_empty() {
                break;
            }
            self.settle(&out, Settlement::Ack);
        }
        self.bury(usize::MAX);
        assert_eq!((self.messages.len(), self.core.ready_len()), (0, 0));
    }
}
