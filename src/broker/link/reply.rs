//! Direct reply-to: a reply goes straight to the requester's inbox, and is kept nowhere.
//!
//! A requester consumes from the pseudo-queue and gets a name that nobody can guess; whoever
//! publishes to the default exchange under that name reaches it. Replies have a credit of their
//! own: those that a requester does not read in time are dropped, so that it cannot fill our
//! memory.

use super::Link;
use crate::exception::Exception;
use crate::id::{ConnectionId, ConsumerToken, Seq};
use crate::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use crate::message::Message;
use crate::name::Name;
use crate::queue::{Delivery, Effects, Event, Outlet, Returned};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// The pseudo-queue's name; names of requesters begin with it and a dot.
pub const PSEUDO_QUEUE: &str = "amq.rabbitmq.reply-to";

/// One requester.
pub struct ReplyTarget {
    outlet: Arc<dyn Outlet>,
    token: ConsumerToken,
    messages: AtomicI64,
    bytes: AtomicI64,
}

/// All requesters of a broker, by name.
#[derive(Default)]
pub struct ReplyTargets {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    by_name: HashMap<Box<[u8]>, Arc<ReplyTarget>>,
    names: HashMap<(ConnectionId, ConsumerToken), Name>,
}

impl ReplyTarget {
    /// Hands a reply over, if the requester can hold it.
    pub(super) fn push(&self, message: &Message, effects: &mut Effects) {
        let bytes = i64::try_from(message.body_len()).unwrap_or(i64::MAX);
        // Two repliers at once may overdraw by a reply each, which bounds it all the same.
        if self.messages.load(Relaxed) <= 0 || self.bytes.load(Relaxed) <= 0 {
            return;
        }
        self.messages.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
        let mut events = vec![Event::Delivery(Delivery {
            token: self.token,
            seq: Seq(0),
            message: message.clone(),
            slot: Delivery::NO_SLOT,
            redelivered: false,
            returned: Returned::UNTOLD,
            limited: false,
        })];
        effects.push(&self.outlet, &mut events);
    }
}

impl ReplyTargets {
    /// The requester of that name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Arc<ReplyTarget>> {
        if !name.starts_with(PSEUDO_QUEUE.as_bytes()) {
            return None;
        }
        self.state.read().by_name.get(name).cloned()
    }

    /// The requesters that `keys` name, each once.
    pub(super) fn find_all(&self, keys: &[&[u8]]) -> Vec<Arc<ReplyTarget>> {
        let mut found: Vec<_> = keys.iter().filter_map(|key| self.find(key)).collect();
        found.sort_by_key(|target| Arc::as_ptr(target).addr());
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        found
    }

    pub(super) fn remove(&self, connection: ConnectionId, token: ConsumerToken) {
        let mut state = self.state.write();
        if let Some(name) = state.names.remove(&(connection, token)) {
            state.by_name.remove(name.as_bytes());
        }
    }

    pub(super) fn grant(
        &self,
        connection: ConnectionId,
        token: ConsumerToken,
        messages: u32,
        bytes: u64,
    ) {
        let state = self.state.read();
        let name = state.names.get(&(connection, token));
        if let Some(target) = name.and_then(|name| state.by_name.get(name.as_bytes())) {
            target.messages.fetch_add(messages.into(), Relaxed);
            target.bytes.fetch_add(i64::try_from(bytes).unwrap_or(i64::MAX), Relaxed);
        }
    }

    fn name_of(&self, connection: ConnectionId, token: ConsumerToken) -> Option<Name> {
        self.state.read().names.get(&(connection, token)).cloned()
    }
}

impl Link {
    /// basic.consume on the pseudo-queue.
    ///
    /// # Errors
    /// 406 if it is not no-ack, or the channel has one already.
    pub fn consume_direct_replies(&mut self, tag: Name, no_ack: bool) -> Result<(), Exception> {
        if self.reply_token().is_some() {
            return Err(Exception::precondition("reply consumer already set"));
        }
        if !no_ack {
            return Err(Exception::precondition("reply consumer cannot acknowledge"));
        }
        let token = self.client.token(self.channel);
        let connection = self.client.connection;
        let place = [connection.0.to_be_bytes(), token.0.to_be_bytes()].concat();
        let (place, secret) =
            (URL_SAFE_NO_PAD.encode(place), URL_SAFE_NO_PAD.encode(self.broker.entropy.octets()));
        let name = Name::from(format!("{PSEUDO_QUEUE}.{place}.{secret}"));
        let target = Arc::new(ReplyTarget {
            outlet: Arc::clone(&self.client.inbox) as Arc<dyn Outlet>,
            token,
            messages: AtomicI64::new(CONSUMER_CREDIT_MESSAGES.into()),
            bytes: AtomicI64::new(CONSUMER_CREDIT_BYTES.into()),
        });
        let mut state = self.broker.replies.state.write();
        state.by_name.insert(name.as_bytes().into(), target);
        state.names.insert((connection, token), name);
        drop(state);
        self.consume_replies(token, tag);
        Ok(())
    }

    /// The name that replaces `amq.rabbitmq.reply-to` in a request's reply_to.
    ///
    /// # Errors
    /// 406 if this channel consumes no replies.
    pub fn reply_name(&self) -> Result<Name, Exception> {
        self.reply_token()
            .and_then(|token| self.broker.replies.name_of(self.client.connection, token))
            .ok_or_else(|| Exception::precondition("fast reply consumer does not exist"))
    }
}
