//! The way from an exchange to queues: through its bindings, through the exchanges bound to it, and
//! to an alternate exchange where nothing matched.
//!
//! A worklist visits each exchange at most once a message, so cycles end and the cost is bounded by
//! the exchanges and bindings there are, however many keys a message carries.

use super::history::History;
use super::matcher::{MatchScratch, Matched, Subject};
use super::targets::Found;
use super::topology::{Exchange, Topology};
use crate::exception::{Exception, Resource};
use crate::id::QueueId;
use crate::name::Name;
use crate::table::TableRef;
use crate::time::{Delay, UnixMillis};
use hashbrown::HashSet;
use leveret_plugin_api::{Property, Value};
use std::sync::Arc;

/// A message as far as its route can depend on it.
#[derive(Clone, Copy)]
pub struct Published<'a> {
    /// Its routing key and those of the CC and BCC headers.
    pub keys: &'a [&'a [u8]],
    pub headers: Option<TableRef<'a>>,
    /// Looked at by plugged types only.
    pub properties: &'a dyn Fn(Property) -> Option<Value<'a>>,
    /// What a time in its headers is compared with.
    pub now: UnixMillis,
}

impl<'a> Published<'a> {
    /// A message without properties but headers.
    #[must_use]
    pub fn new(keys: &'a [&'a [u8]], headers: Option<TableRef<'a>>) -> Self {
        Self { keys, headers, properties: &|_| None, now: UnixMillis(0) }
    }
}

/// What routing says besides the queues.
#[derive(Debug, Default)]
pub struct Routed {
    /// Whether the exchange and keys alone decided. Headers did too if a headers exchange was
    /// consulted, whether or not anything matched there.
    pub cacheable: bool,
    /// As `cacheable`, but for messages only that have waited: no delayed exchange holds them up.
    pub cacheable_once_waited: bool,
    /// Where the message is to be remembered, once it is accepted.
    pub histories: Vec<Arc<History>>,
    /// How long it waits where it waits, if it does.
    pub delay: Option<Delay>,
    /// What finding the way counts, in queue operations.
    pub operations: usize,
}

/// Buffers of `route`, reused from message to message.
#[derive(Debug, Default)]
pub struct RouteScratch {
    matching: MatchScratch,
    /// Exchanges that the one just consulted leads to.
    found: Vec<Name>,
    /// Exchanges to consult. Their order does not show: targets are sorted in the end.
    pending: Vec<Name>,
    /// Exchanges that are or were pending.
    seen: HashSet<Name>,
    is_seeded: bool,
}

impl Topology {
    /// Replaces `out` by the queues that a message published to `exchange` reaches: each once, in
    /// the order of their ids. With more keys than the first, the route is not the address's and
    /// may not be cached under it.
    ///
    /// The default exchange has no bindings, so nothing is found through it here.
    ///
    /// # Errors
    /// It meets an exchange whose type is not there, or has failed.
    pub fn route(
        &self,
        exchange: &Exchange,
        published: Published<'_>,
        scratch: &mut RouteScratch,
        out: &mut Vec<QueueId>,
    ) -> Result<Routed, Exception> {
        out.clear();
        scratch.start();
        let distinct = distinct(published.keys);
        let subject = Subject {
            keys: distinct.as_deref().unwrap_or(published.keys),
            all_keys: published.keys,
            headers: published.headers.unwrap_or(TableRef::EMPTY),
            properties: published.properties,
            now: published.now,
        };
        let mut routed =
            Routed { cacheable: true, cacheable_once_waited: true, ..Routed::default() };
        let mut next = Some(exchange);
        while let Some(exchange) = next {
            routed.cacheable &= exchange.matcher.depends_on_keys_only();
            routed.cacheable_once_waited &= exchange.matcher.sends_on_by_keys_only();
            routed.operations += exchange.matcher.operations();
            match consult(exchange, subject, scratch, out)? {
                Matched::Routed => {}
                Matched::Remembered => {
                    routed.histories.extend(exchange.matcher.history().cloned());
                }
                Matched::Delayed(delay) => routed.delay = Some(delay),
                Matched::Missing => return Err(self.type_not_found(exchange)),
            }
            if !scratch.found.is_empty() {
                scratch.enlist(exchange.name());
            }
            next = self.next_pending(scratch);
        }
        if out.len() > 1 {
            out.sort_unstable();
            out.dedup();
        }
        Ok(routed)
    }

    fn type_not_found(&self, exchange: &Exchange) -> Exception {
        let resource = Resource::Exchange { vhost: &self.vhost, name: exchange.name() };
        Exception::exchange_type_not_found(resource, exchange.settings().kind.routes().name())
    }

    /// An alternate exchange that does not exist is passed over.
    fn next_pending(&self, scratch: &mut RouteScratch) -> Option<&Exchange> {
        while let Some(name) = scratch.pending.pop() {
            if let Some(exchange) = self.exchange(&name) {
                return Some(exchange);
            }
        }
        None
    }
}

/// Adds what one exchange leads to, to `out` and `scratch.found`.
fn consult(
    exchange: &Exchange,
    subject: Subject<'_, '_>,
    scratch: &mut RouteScratch,
    out: &mut Vec<QueueId>,
) -> Result<Matched, Exception> {
    let queues_before = out.len();
    let mut found = Found { queues: out, exchanges: &mut scratch.found };
    let matching = &mut scratch.matching;
    let matched = exchange.matcher.matches(subject, matching, &mut found)?;
    // RabbitMQ: an exchange that was seen before is a destination too, though it is not visited.
    if out.len() == queues_before && scratch.found.is_empty() {
        scratch.found.extend(exchange.alternate().cloned());
    }
    Ok(matched)
}

impl RouteScratch {
    /// Gives random numbers a beginning, unless they have one.
    pub fn seed(&mut self, seed: impl FnOnce() -> u64) {
        if !self.is_seeded {
            self.matching.seed(seed());
            self.is_seeded = true;
        }
    }

    /// Forgets the message before, which may have ended in an error.
    fn start(&mut self) {
        self.matching.start();
        self.found.clear();
        self.pending.clear();
        self.seen.clear();
    }

    /// Moves what was found from `exchange` to the pending ones, unless it was there before.
    fn enlist(&mut self, exchange: &Name) {
        self.seen.insert(exchange.clone());
        for name in self.found.drain(..) {
            if self.seen.insert(name.clone()) {
                self.pending.push(name);
            }
        }
    }
}

/// Sorted and without repetition, if there are several: a sender may name one key thousands of
/// times.
fn distinct<'a>(keys: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    if keys.len() < 2 {
        return None;
    }
    let mut distinct = keys.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    Some(distinct)
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
