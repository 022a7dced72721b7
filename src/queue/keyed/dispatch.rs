//! Handing over in a queue with keys: dispatch, gets and expiry choose a lane instead of the head.

use super::super::consumers::ConsumerKey;
use super::super::core::QueueCore;
use super::super::deadletter::Reason;
use super::super::effects::Effects;
use super::super::ready::{Entry, Head};
use super::lanes::Holder;
use crate::limits::WORK_PER_LOCK_MAX;
use crate::store::RecordBatch;
use crate::time::UnixMillis;

impl QueueCore {
    /// As `dispatch`, in a queue with keys. What a lane holds back does not stop the others.
    pub(in super::super) fn dispatch_keyed(
        &mut self,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        let mut budget = WORK_PER_LOCK_MAX;
        if self.retries.is_some() {
            // Stored when keys had no effect; they come back before any key is known.
            self.end_waits(&mut budget, UnixMillis::NEVER);
        }
        let mut fresh = self.expire_known(&mut budget, records, effects);
        if self.retries.is_some() {
            self.ask_again(effects);
            fresh = false;
        }
        while fresh {
            // All that is there has to be known before anything is chosen from it.
            if self.learn_for_takers(&mut budget) {
                fresh = self.expire_known(&mut budget, records, effects);
            }
            if fresh && self.has_get_waiters() {
                self.serve_gets(&mut budget, records, effects);
            }
            fresh &= self.hands_over();
            if fresh {
                self.hand_out(records, effects);
                fresh = self.learns_on(budget, effects);
            }
        }
        if self.limits.is_some() {
            self.trim(&mut budget, records, effects);
        }
        if self.absent_dead.is_some() {
            self.load_dead(effects);
        }
        self.arm(effects);
    }

    /// As `expire`; what is known expires wherever it is.
    fn expire_known(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        if self.on_hold {
            return true;
        }
        let now = effects.now.unix;
        while let Some(seq) = self.keyed.as_ref().and_then(|it| it.due_by(now)) {
            if self.mourns_enough() {
                return false;
            }
            if *budget == 0 {
                self.ask_again(effects);
                return false;
            }
            *budget -= 1;
            let Some(entry) = self.ready.take_aside(seq) else { break };
            self.keyed.iter_mut().for_each(|keyed| keyed.forget(&entry));
            self.bury(entry, Reason::Expired, records, effects);
        }
        self.expire(budget, records, effects)
    }

    /// As `find_for_get`; passes over what others hold. `None` too if the only messages that may be
    /// left stand behind one that becomes visible soon.
    pub(in super::super) fn find_known_for_get(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Option<Head> {
        loop {
            if !self.expire_known(budget, records, effects) {
                return None;
            }
            if !self.learn_for_get(budget) {
                break;
            }
        }
        let keyed = self.keyed.as_ref()?;
        match keyed.lanes.first_free() {
            Some(seq) if self.ready.is_resident(seq) => return Some(Head::Resident),
            Some(seq) => return Some(Head::Evicted(seq)),
            None if self.ready.len() == keyed.lanes.waiting_len() => return Some(Head::Nothing),
            None => {}
        }
        match self.ready.first_behind(keyed.frontier) {
            Head::Evicted(seq) => Some(Head::Evicted(seq)),
            Head::Nothing => None,
            Head::Resident => {
                self.ask_again(effects);
                None
            }
        }
    }

    /// Takes the message that `find_known_for_get` called resident.
    pub(in super::super) fn take_known_for_get(&mut self, no_ack: bool) -> Option<Entry> {
        let seq = self.keyed.as_ref()?.lanes.first_free()?;
        self.take_known(seq, (!no_ack).then_some(Holder::Get))
    }

    /// Takes a known message that waits, for `holder` if it is to be settled.
    fn take_known(&mut self, seq: u64, holder: Option<Holder>) -> Option<Entry> {
        let keyed = self.keyed.as_mut()?;
        keyed.lanes.take(seq, holder);
        let entry = self.ready.take_aside(seq)?;
        keyed.forget_due(&entry);
        Some(entry)
    }

    /// Hands over what can be handed over: free messages to whose turn it is, then held ones to
    /// those who hold them.
    fn hand_out(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        while let Some(keyed) = &self.keyed {
            match keyed.lanes.first_free() {
                Some(seq) if self.ready.is_resident(seq) => {
                    if let Some((key, limited)) = self.next_consumer() {
                        let seq = self.older_held(key, seq);
                        self.hand_over_known(seq, key, limited, records);
                        self.consumers.rotate(key);
                        continue;
                    }
                }
                Some(seq) if self.consumers.next().is_some() => self.ask_for_known(seq, effects),
                _ => {}
            }
            if !self.hand_out_held(records, effects) {
                return;
            }
        }
    }

    /// What the consumer holds goes first if it is older than what is free: so neither waits for
    /// ever behind the other.
    fn older_held(&self, key: ConsumerKey, free: u64) -> u64 {
        let held = self.keyed.as_ref().and_then(|keyed| keyed.lanes.first_held(key));
        held.filter(|held| *held < free && self.ready.is_resident(*held)).unwrap_or(free)
    }

    /// Hands one message over that only its consumer may take. False if there is none.
    fn hand_out_held(&mut self, records: &mut RecordBatch, effects: &mut Effects) -> bool {
        while let Some(keyed) = &mut self.keyed
            && let Some(key) = keyed.lanes.first_eager()
        {
            let Some(seq) = keyed.lanes.first_held(key).filter(|_| self.consumers.can_take(key))
            else {
                keyed.lanes.calm(key);
                continue;
            };
            if !self.ready.is_resident(seq) {
                keyed.lanes.calm(key);
                keyed.stalled.insert(key);
                self.ask_for_known(seq, effects);
                continue;
            }
            match self.pay(key) {
                Some(limited) => {
                    self.hand_over_known(seq, key, limited, records);
                    return true;
                }
                None => self.calm(key),
            }
        }
        false
    }

    fn calm(&mut self, key: ConsumerKey) {
        self.keyed.iter_mut().for_each(|keyed| keyed.lanes.calm(key));
    }

    fn hand_over_known(
        &mut self,
        seq: u64,
        key: ConsumerKey,
        limited: bool,
        records: &mut RecordBatch,
    ) {
        let no_ack = self.consumers.get_mut(key).is_some_and(|consumer| consumer.spec.no_ack);
        if let Some(entry) = self.take_known(seq, (!no_ack).then_some(Holder::Consumer(key))) {
            self.give(key, entry, limited, records);
        }
    }
}
