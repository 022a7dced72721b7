//! Consumers, their credit, and gets.

use super::{Gone, Queue, Turn};
use crate::id::ConsumerToken;
use crate::queue::consumers::{ConsumerKey, ConsumerSpec};
use crate::queue::core::QueueCore;
use crate::queue::gets::Got;
use crate::queue::outlet::Outlet;
use std::sync::Arc;

impl Queue {
    /// Adds a consumer. `Ok(None)` if an exclusive consumer is in the way.
    ///
    /// # Errors
    /// `Gone`.
    pub fn consume(
        &self,
        spec: ConsumerSpec,
        turn: &mut Turn<'_>,
    ) -> Result<Option<ConsumerKey>, Gone> {
        let consume = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.consume(spec, turn.records, turn.effects)
        };
        self.run(turn, consume).map(|(_, key)| key)
    }

    /// Gives a consumer its send credit back.
    ///
    /// # Errors
    /// `Gone`.
    pub fn grant(
        &self,
        key: ConsumerKey,
        messages: u32,
        bytes: u64,
        turn: &mut Turn<'_>,
    ) -> Result<(), Gone> {
        let grant = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.grant(key, messages, bytes, turn.records, turn.effects);
        };
        self.run(turn, grant).map(drop)
    }

    /// Ends a consumer; its link gets `Event::Ended` behind its deliveries.
    ///
    /// # Errors
    /// `Gone`: it was ended with its queue.
    pub fn cancel(&self, key: ConsumerKey, turn: &mut Turn<'_>) -> Result<(), Gone> {
        self.run(turn, |core, turn| core.cancel(key, turn.records, turn.effects)).map(drop)
    }

    /// Takes the oldest ready message.
    ///
    /// # Errors
    /// `Gone`.
    pub fn get(
        &self,
        outlet: &Arc<dyn Outlet>,
        token: ConsumerToken,
        no_ack: bool,
        turn: &mut Turn<'_>,
    ) -> Result<Got, Gone> {
        let get = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.get(outlet, token, no_ack, turn.records, turn.effects)
        };
        self.run(turn, get).map(|(_, got)| got)
    }

    /// Nobody waits for this get any more; if it was answered, the answer is in the inbox.
    pub fn withdraw_get(&self, token: ConsumerToken) {
        self.look(|core| core.withdraw_get(token));
    }
}
