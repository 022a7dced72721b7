//! `get`: one message for somebody who asks, at once or when it has been read from disk.

use super::core::QueueCore;
use super::effects::Effects;
use super::outlet::{Delivery, Event, Outlet};
use super::ready::Head;
use crate::id::ConsumerToken;
use crate::limits::WORK_PER_LOCK_MAX;
use crate::store::RecordBatch;
use std::sync::Arc;

/// The answer to a `get`.
#[derive(Debug)]
pub enum Got {
    Message {
        delivery: Delivery,
        ready_left: u64,
    },
    Empty,
    /// The message is being loaded; the answer comes as `Event::Got`.
    Later,
}

/// A `get` whose message is being loaded.
pub(super) struct GetWaiter {
    outlet: Arc<dyn Outlet>,
    token: ConsumerToken,
    no_ack: bool,
}

impl QueueCore {
    /// Takes the oldest ready message. `token` names the asker in `Event::Got` if it must wait.
    pub fn get(
        &mut self,
        outlet: &Arc<dyn Outlet>,
        token: ConsumerToken,
        no_ack: bool,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Got {
        self.touch(effects);
        if self.next_retry() <= effects.now.unix {
            self.dispatch(records, effects);
        }
        let mut budget = WORK_PER_LOCK_MAX;
        let found = if self.get_waiters.is_none() {
            self.find(&mut budget, records, effects)
        } else {
            None
        };
        match found {
            Some(Head::Nothing) => return Got::Empty,
            Some(Head::Resident) => {
                let delivery = self.take_for_get(token, no_ack, records);
                let ready_left = self.message_count() as u64;
                self.arm(effects);
                return delivery
                    .map_or(Got::Empty, |delivery| Got::Message { delivery, ready_left });
            }
            Some(Head::Evicted(seq)) => self.ask_to_load(seq, effects),
            None => {}
        }
        let outlet = Arc::clone(outlet);
        self.get_waiters.get_or_insert_default().push_back(GetWaiter { outlet, token, no_ack });
        Got::Later
    }

    /// Forgets a get that waits for its message, if it still does.
    pub fn withdraw_get(&mut self, token: ConsumerToken) {
        self.get_waiters.take_if(|waiters| {
            waiters.retain(|waiter| waiter.token != token);
            waiters.is_empty()
        });
    }

    /// Answers the waiting gets that can be answered now.
    pub(super) fn serve_gets(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        while self.get_waiters.is_some()
            && let Some(found) = self.find(budget, records, effects)
            && let Some(waiter) = self.next_waiter()
        {
            match found {
                Head::Evicted(seq) => {
                    self.get_waiters.get_or_insert_default().push_front(waiter);
                    self.ask_to_load(seq, effects);
                    return;
                }
                Head::Nothing => tell_got(&waiter, None, 0, effects),
                Head::Resident => {
                    let delivery = self.take_for_get(waiter.token, waiter.no_ack, records);
                    tell_got(&waiter, delivery, self.message_count() as u64, effects);
                }
            }
        }
    }

    /// What a get finds. `None` if that shows later; nothing if nobody can say when.
    fn find(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Option<Head> {
        let found = self.find_for_get(budget, records, effects);
        found.or_else(|| self.is_stuck().then_some(Head::Nothing))
    }

    pub(super) fn has_get_waiters(&self) -> bool {
        self.get_waiters.is_some()
    }

    /// Takes the get that has waited longest.
    fn next_waiter(&mut self) -> Option<GetWaiter> {
        let waiter = self.get_waiters.as_mut()?.pop_front();
        self.get_waiters.take_if(|waiters| waiters.is_empty());
        waiter
    }

    fn take_for_get(
        &mut self,
        token: ConsumerToken,
        no_ack: bool,
        records: &mut RecordBatch,
    ) -> Option<Delivery> {
        let entry = match &self.keyed {
            None => self.ready.pop_visible()?,
            Some(_) => self.take_known_for_get(no_ack)?,
        };
        self.delivered.gotten += 1;
        if no_ack {
            self.record_end(&entry, records);
        }
        self.check_out(entry, token, if no_ack { None } else { Some(None) }, false)
    }
}

pub(super) fn tell_got(
    waiter: &GetWaiter,
    delivery: Option<Delivery>,
    left: u64,
    effects: &mut Effects,
) {
    let delivery = delivery.map(Box::new);
    let mut event = vec![Event::Got { token: waiter.token, delivery, ready_left: left }];
    effects.push(&waiter.outlet, &mut event);
}
