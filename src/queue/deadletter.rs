//! Messages that end without having been acknowledged: with a dead-letter exchange they go there,
//! without one they are dropped.
//!
//! A dead letter stays checked out, with nobody, until one record says that it has moved. So after
//! a crash it is in its old place or in the new one. Where it goes, and as what, is the broker's.

use super::checkout::CheckedOut;
use super::core::QueueCore;
use super::effects::Effects;
use super::ready::Entry;
use super::runs::{Run, runs};
use super::settings::Behaviour;
use crate::config::Durability;
use crate::id::{QueueId, Seq};
use crate::limits::DYING_MAX;
use crate::message::Message;
use crate::name::Name;
use crate::store::RecordBatch;
use crate::time::UnixMillis;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// Why a message is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
    /// It is not dead: its wait is over, see `delay`.
    Released,
    /// It is not dead either: it goes on waiting, until another time.
    Rescheduled(UnixMillis),
}

impl Reason {
    /// As it stands in a dead letter's headers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
            Self::Released => "released",
            Self::Rescheduled(_) => "rescheduled",
        }
    }
}

/// What outlives a queue: who it is, for its dead letters, and whether it has ended, for routes.
#[derive(Debug)]
pub struct Origin {
    pub vhost: Name,
    pub name: Name,
    pub durability: Durability,
    /// Set under the queue's lock, read without it.
    pub(super) gone: AtomicBool,
}

impl Origin {
    /// The queue has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }
}

/// Dead letters of all queues, in the order of their deaths.
#[derive(Debug, Default)]
pub struct DeadList {
    list: Mutex<VecDeque<Dead>>,
    /// How many there are, for whoever only asks.
    len: AtomicUsize,
}

impl DeadList {
    /// Adds `dead`, emptying it.
    pub fn append(&self, dead: &mut Vec<Dead>) {
        let mut list = self.list.lock();
        list.extend(dead.drain(..));
        self.len.store(list.len(), Relaxed);
    }

    /// Takes the first ones.
    pub fn take(&self, max: usize) -> Vec<Dead> {
        let mut list = self.list.lock();
        let count = list.len().min(max);
        let taken = list.drain(..count).collect();
        self.len.store(list.len(), Relaxed);
        taken
    }

    /// Puts back what was taken and is not done.
    pub fn put_back(&self, dead: Vec<Dead>) {
        let mut list = self.list.lock();
        dead.into_iter().rev().for_each(|dead| list.push_front(dead));
        self.len.store(list.len(), Relaxed);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message to dead-letter. Answered with `QueueCore::buried`, unless it has no place.
#[derive(Clone, Debug)]
pub struct Dead {
    pub queue: QueueId,
    /// Its queue's names and durability, which may be gone by the time it moves.
    pub origin: Option<Arc<Origin>>,
    /// Slot and seq; `None` if the queue has refused it.
    pub place: Option<(u32, Seq)>,
    /// The journal knows it in its queue.
    pub recorded: bool,
    pub message: Message,
    pub reason: Reason,
    /// What the queue did then: it says where to.
    pub behaviour: Arc<Behaviour>,
    /// Letters that full queues on its way have made of it, and that have not moved yet, the next
    /// one last: it keeps its place until they have.
    pub sent_on: Vec<Self>,
}

impl QueueCore {
    /// So many dead letters have not moved that no more may die for want of time or room.
    pub(super) fn mourns_enough(&self) -> bool {
        self.dying >= DYING_MAX
    }

    /// Ends a message for that reason.
    pub(super) fn bury(
        &mut self,
        mut entry: Entry,
        reason: Reason,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        if self.behaviour.dead_letter.is_none() {
            self.returns.forget(entry.seq);
            self.record_end(&entry, records);
            effects.ended.extend(entry.message);
            return;
        }
        // If it never moves, a start finds it here, and it has been out.
        entry.redelivered |= matches!(reason, Reason::Rejected | Reason::DeliveryLimit);
        self.send_away(entry, reason, effects);
    }

    /// Keeps a message checked out until it has moved.
    pub(super) fn send_away(&mut self, entry: Entry, reason: Reason, effects: &mut Effects) {
        let seq = entry.seq;
        let slot = self.checkout.keep(CheckedOut { entry, owner: None, dying: true });
        self.dying += 1;
        self.send_again(slot, seq, reason, effects);
    }

    /// As `send_away`, for one that has not moved yet.
    pub(super) fn send_again(
        &mut self,
        slot: u32,
        seq: u64,
        reason: Reason,
        effects: &mut Effects,
    ) {
        let Some(out) = self.checkout.get(slot, seq) else { return };
        let (recorded, message) = (out.entry.persistent, out.entry.message.clone());
        match message {
            Some(message) => {
                let place = (slot, Seq(seq));
                effects.dead.push(self.dead(place, recorded, message, reason));
            }
            None => {
                self.absent_dead.get_or_insert_default().insert(seq, (slot, reason));
            }
        }
    }

    /// Of those that died while their content was on disk, what has been read.
    pub(super) fn found_dead(
        &mut self,
        seq: u64,
        message: Option<&Message>,
        effects: &mut Effects,
    ) -> bool {
        let absent = self.absent_dead.as_mut();
        let Some((slot, reason)) = absent.and_then(|absent| absent.remove(&seq)) else {
            return false;
        };
        self.absent_dead.take_if(|absent| absent.is_empty());
        match message {
            Some(message) => {
                let out = self.checkout.get(slot, seq);
                let recorded = out.is_some_and(|out| out.entry.persistent);
                let message = message.clone();
                effects.dead.push(self.dead((slot, Seq(seq)), recorded, message, reason));
            }
            None => {
                if let Some(out) = self.checkout.take_dying(slot, seq) {
                    self.dying -= 1;
                    self.end_holding_back();
                    self.ready.damage(seq, out.entry.redelivered);
                }
            }
        }
        true
    }

    fn dead(&self, place: (u32, Seq), recorded: bool, message: Message, reason: Reason) -> Dead {
        let behaviour = Arc::clone(&self.behaviour);
        Dead {
            queue: self.id,
            origin: None,
            place: Some(place),
            recorded,
            message,
            reason,
            behaviour,
            sent_on: Vec::new(),
        }
    }

    /// The broker stops: those that were out and have not moved come back redelivered.
    pub fn record_dying(&self, records: &mut RecordBatch) {
        let returned = self.checkout.dying().filter(|entry| entry.persistent && entry.redelivered);
        let mut seqs: Vec<u64> = returned.map(|entry| entry.seq).collect();
        seqs.sort_unstable();
        records.requeue(self.id, runs(seqs));
    }

    /// These dead letters have moved, or nobody wanted them. `record` says whether their end is
    /// still to be written.
    pub fn buried(
        &mut self,
        places: &[(u32, Seq)],
        record: bool,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        let held_up = self.mourns_enough();
        let mut run = Run::default();
        for &(slot, seq) in places {
            let Some(out) = self.checkout.take_dying(slot, seq.0) else { continue };
            self.dying -= 1;
            // What a timed queue knows of a seq outlasts the message.
            if !self.id.is_timed() {
                self.returns.forget(seq.0);
            }
            if record && out.entry.persistent {
                run.extend(seq.0, |run| records.ack(self.id, [run]));
            }
            effects.ended.extend(out.entry.message);
        }
        run.finish(|run| records.ack(self.id, [run]));
        self.retry_soon(effects);
        // Others may wait for room on the way.
        if held_up || self.id.is_timed() {
            self.dispatch(records, effects);
        }
    }
}
