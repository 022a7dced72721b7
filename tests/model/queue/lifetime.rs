//! Time, what becomes due, dead letters and policies, done to the queue and the model as the broker
//! does it.

use super::model::{Model, State};
use super::world::{QUEUE, World};
use leveret::id::Seq;
use leveret::queue::Behaviour;
use leveret::time::{Millis, Now, UnixMillis};

/// A message waits for so long at most, unless it waits for ever.
pub(super) const TTL_MS_MAX: u64 = 100;

impl World {
    pub(super) fn advance(&mut self, ms: u64) {
        self.model.now += ms;
        let (unix, monotonic) = (UnixMillis(self.model.now), Millis(self.model.now));
        self.effects.now = Now { monotonic, unix };
    }

    /// Has the queue looked at if it asked for it and the time has come. False if not.
    pub(super) fn tick(&mut self) -> bool {
        if self.asked.is_none_or(|at| at > self.model.now) {
            return false;
        }
        self.asked = None;
        if self.idle_since == 0 {
            self.idle_since = self.model.now;
        }
        self.core.tick(&mut self.records, &mut self.effects);
        let stays = self.core.ready_seqs().iter().map(|seq| seq.0).collect();
        self.model.look_anywhere(&stays);
        let idle = std::mem::take(&mut self.effects.idle);
        assert_eq!(!idle.is_empty(), self.idle_from() <= self.model.now, "unused for so long");
        self.finish();
        if !idle.is_empty() {
            // Somebody else declares it just then.
            self.touched();
            self.core.touch(&mut self.effects);
            self.finish_aside();
        }
        true
    }

    /// Long after: whatever expires has expired, from the head on.
    pub(super) fn wait_for_all(&mut self) {
        self.record(true);
        self.answer_all();
        self.advance(2 * TTL_MS_MAX);
        for _ in 0..10 + 4 * self.model.entries.len() {
            self.answer_all();
            if !self.tick() {
                break;
            }
        }
        self.answer_all();
        assert!(self.asked.is_none_or(|at| at > self.model.now), "it asks again without end");
        let head = self.model.head();
        assert!(head.is_none_or(|head| head.due == u64::MAX), "{head:?} has expired");
        assert_eq!(self.model.waits().count(), 0, "every wait ends");
        let exact = self.model.behaviour.exact_expiry;
        let expired = self.model.visible().find(|entry| exact && entry.due != u64::MAX);
        assert!(expired.is_none(), "{expired:?} has expired");
    }

    pub(super) fn touched(&mut self) {
        self.idle_since = self.model.now;
    }

    fn idle_from(&self) -> u64 {
        match self.model.behaviour.expires_ms {
            Some(ms) if self.idle_since > 0 && self.model.consumers.is_empty() => {
                self.idle_since + ms
            }
            _ => u64::MAX,
        }
    }

    /// A policy has changed. What only arguments say stays.
    pub(super) fn set_behaviour(&mut self, behaviour: &Behaviour) {
        let blurred = self.model.entries.iter().any(|entry| entry.state == State::Damaged);
        let now = &self.model.behaviour;
        let behaviour = Behaviour {
            max_priority: now.max_priority,
            single_active_consumer: now.single_active_consumer,
            max_length_bytes: behaviour.max_length_bytes.filter(|_| !blurred),
            ..behaviour.clone()
        };
        let is_new = behaviour != *now;
        if behaviour.expires_ms != now.expires_ms {
            self.touched();
        }
        self.model.behaviour = behaviour.clone();
        let set = self.core.set_behaviour(behaviour, &mut self.records, &mut self.effects);
        assert_eq!(set, is_new);
        self.drain(is_new);
        self.check();
    }

    /// Dead letters have moved, in one record with their new places, or went nowhere.
    pub(super) fn bury(&mut self, count: usize, recorded: bool) {
        let count = count.min(self.dead.len());
        let places: Vec<_> = self.dead.drain(..count).collect();
        if recorded {
            let model = &mut self.model;
            let known: Vec<Seq> = places.iter().map(|(_, seq)| *seq).collect();
            let known = known.into_iter().filter(|seq| model.find(seq.0).persistent);
            self.records.begin_transaction();
            self.records.ack(QUEUE, known.map(|seq| (seq, seq)));
            self.records.end_transaction();
        }
        // Telling it twice changes nothing.
        let twice: Vec<_> = places.iter().chain(&places).copied().collect();
        self.core.buried(&twice, !recorded, &mut self.records, &mut self.effects);
        self.model.entries.retain(|entry| !places.iter().any(|(_, seq)| seq.0 == entry.seq));
        self.finish_aside();
    }

    /// A dead letter's content was asked for and read, or is lost.
    pub(super) fn read_dead(&mut self, seq: u64, is_lost: bool) {
        let Model { entries, deaths, .. } = &mut self.model;
        let Some(entry) = entries.iter_mut().find(|entry| entry.seq == seq) else { return };
        let State::Dying { told, reason, .. } = &mut entry.state else { return };
        if *told {
            return;
        }
        if is_lost {
            entry.state = State::Damaged;
        } else {
            *told = true;
            deaths.push((Some(seq), *reason));
        }
    }

    pub(super) fn note_deaths(&mut self) {
        let mut found = Vec::new();
        for dead in self.effects.dead.drain(..) {
            assert_eq!(dead.queue, QUEUE);
            found.push((dead.place.map(|(_, seq)| seq.0), dead.reason));
            if let Some((slot, seq)) = dead.place {
                let entry = self.model.find(seq.0);
                assert_eq!(dead.recorded, entry.persistent);
                assert_eq!(dead.message.routing_key(), entry.name.to_string().as_bytes());
                self.dead.push((slot, seq));
            }
        }
        let mut expected = std::mem::take(&mut self.model.deaths);
        if self.model.behaviour.exact_expiry {
            // In the order of times and not of places, which is no promise.
            found.sort_by_key(|(seq, _)| *seq);
            expected.sort_by_key(|(seq, _)| *seq);
        }
        assert_eq!(found, expected, "who died, why, in which order");
        assert!(self.effects.refused.is_empty(), "a verb that publishes nothing refuses nothing");
    }

    /// What the broker's list does: the last that a queue says counts.
    pub(super) fn note_deadlines(&mut self) {
        for (queue, at) in self.effects.deadlines.drain(..) {
            assert_eq!(queue, QUEUE);
            assert!(at.0 >= self.model.now, "nothing is asked for the past");
            self.asked = Some(at.0);
        }
    }

    /// What is due is known, unless a load's answer will say it.
    pub(super) fn check_deadlines(&self) {
        let loads = self.load.is_some();
        let known = self
            .model
            .head()
            .filter(|head| !loads || head.state == State::Ready { evicted: false });
        let exact = self.model.behaviour.exact_expiry;
        let listed = self
            .model
            .visible()
            .filter(|entry| exact && (!loads || entry.state == State::Ready { evicted: false }));
        let known = known.map_or(u64::MAX, |head| head.due);
        let due = listed.map(|entry| entry.due).min().unwrap_or(known).min(self.idle_from());
        let due = due.min(self.model.next_retry());
        let asked = self.asked.is_some_and(|at| at <= due.max(self.model.now));
        assert!(due == u64::MAX || asked, "due at {due}, asked for {:?}", self.asked);
    }
}
