//! The way from an exchange to queues: through its bindings, through the exchanges bound to it, and
//! to an alternate exchange where nothing matched.
//!
//! A worklist visits each exchange at most once a message, so cycles end and the cost is bounded by
//! the exchanges and bindings there are, however many keys a message carries.

use super::Kind;
use super::matcher::{MatchScratch, Subject};
use super::targets::Found;
use super::topology::{Exchange, Topology};
use crate::id::QueueId;
use crate::name::Name;
use crate::table::TableRef;
use hashbrown::HashSet;

/// What routing says besides the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Whether the exchange and keys alone decided. Headers did too if a headers exchange was
    /// consulted, whether or not anything matched there.
    pub cacheable: bool,
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
}

impl Topology {
    /// Replaces `out` by the queues that a message published to `exchange` reaches: each once, in
    /// the order of their ids. `keys` are its routing key and those of the CC and BCC headers; with
    /// more than the first, the route is not the address's and may not be cached under it.
    ///
    /// The default exchange has no bindings, so nothing is found through it here.
    pub fn route(
        &self,
        exchange: &Exchange,
        keys: &[&[u8]],
        headers: Option<TableRef<'_>>,
        scratch: &mut RouteScratch,
        out: &mut Vec<QueueId>,
    ) -> Routed {
        out.clear();
        scratch.matching.start();
        let distinct = distinct(keys);
        let subject = Subject {
            keys: distinct.as_deref().unwrap_or(keys),
            headers: headers.unwrap_or(TableRef::EMPTY),
        };
        let mut cacheable = true;
        let mut next = Some(exchange);
        while let Some(exchange) = next {
            cacheable &= exchange.shared().kind != Kind::Headers;
            consult(exchange, subject, scratch, out);
            if !scratch.found.is_empty() {
                scratch.enlist(exchange.name());
            }
            next = self.next_pending(scratch);
        }
        scratch.seen.clear();
        if out.len() > 1 {
            out.sort_unstable();
            out.dedup();
        }
        Routed { cacheable }
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
    subject: Subject<'_>,
    scratch: &mut RouteScratch,
    out: &mut Vec<QueueId>,
) {
    let queues_before = out.len();
    let mut found = Found { queues: out, exchanges: &mut scratch.found };
    let matching = &mut scratch.matching;
    exchange.matcher.matches(subject, matching, &mut found);
    // RabbitMQ: an exchange that was seen before is a destination too, though it is not visited.
    if out.len() == queues_before && scratch.found.is_empty() {
        scratch.found.extend(exchange.alternate().cloned());
    }
}

impl RouteScratch {
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
