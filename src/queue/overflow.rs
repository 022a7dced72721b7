//! A queue that may not get longer: what is refused, and what has to go. Only ready messages count,
//! and of their bytes only the bodies (RabbitMQ); here also those that wait for their next attempt.

use super::core::{Publish, QueueCore};
use super::deadletter::{Dead, Reason};
use super::effects::Effects;
use super::ready::Head;
use super::settings::{Behaviour, Overflow};
use crate::store::RecordBatch;
use std::sync::Arc;

/// What the settings say about length, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    len_max: u64,
    bytes_max: u64,
    overflow: Overflow,
}

impl Limits {
    /// `None` if a queue that does this may have any length.
    pub(super) fn of(behaviour: &Behaviour) -> Option<Self> {
        let Behaviour { max_length, max_length_bytes, overflow, .. } = behaviour;
        let any = max_length.is_some() || max_length_bytes.is_some();
        any.then(|| Self {
            len_max: max_length.unwrap_or(u64::MAX),
            bytes_max: max_length_bytes.unwrap_or(u64::MAX),
            overflow: *overflow,
        })
    }
}

impl QueueCore {
    /// Whether there is no room for this message. If so, its publisher is told, and where the queue
    /// is to dead-letter what it refuses, it does.
    pub(super) fn refuse(&self, publish: &Publish, effects: &mut Effects) -> bool {
        let limits = self.limits.as_deref().copied();
        let Some(limits) = limits.filter(|limits| limits.overflow != Overflow::DropHead) else {
            return false;
        };
        let len = (self.message_count() + self.ready.reserved_len()) as u64;
        let bytes = self.ready.bytes() + self.retrying_bytes() + self.ready.reserved_bytes();
        let body_len = publish.message.body_len() as u64;
        if len < limits.len_max && bytes.saturating_add(body_len) <= limits.bytes_max {
            return false;
        }
        effects.refused.push(publish.mark);
        if limits.overflow == Overflow::RejectPublishDlx && self.behaviour.dead_letter.is_some() {
            effects.dead.push(Dead {
                queue: self.id,
                origin: None,
                place: None,
                recorded: false,
                message: publish.message.clone(),
                reason: Reason::MaxLength,
                behaviour: Arc::clone(&self.behaviour),
                sent_on: Vec::new(),
            });
        }
        true
    }

    /// Drops the oldest messages until the rest is as short as it must be, or asks to be looked at
    /// again at once if these are more than `budget`.
    pub(super) fn trim(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        let limits = self.limits.as_deref().copied();
        let Some(limits) = limits.filter(|limits| limits.overflow == Overflow::DropHead) else {
            return;
        };
        if self.on_hold {
            return;
        }
        while self.message_count() as u64 > limits.len_max
            || self.ready.bytes() + self.retrying_bytes() > limits.bytes_max
        {
            if self.mourns_enough() {
                return;
            }
            if *budget == 0 {
                return self.ask_again(effects);
            }
            *budget -= 1;
            if let Some(entry) = self.pop_retrying_before(self.ready.first_seq()) {
                self.bury(entry, Reason::MaxLength, records, effects);
                continue;
            }
            match self.ready.head() {
                Head::Nothing => return,
                Head::Evicted(seq) => return self.ask_to_load(seq, effects),
                Head::Resident => {
                    let Some(entry) = self.ready.pop() else { return };
                    if let Some(keyed) = &mut self.keyed {
                        keyed.forget(&entry);
                    }
                    self.bury(entry, Reason::MaxLength, records, effects);
                }
            }
        }
    }
}
