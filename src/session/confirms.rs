//! What waits for the journal: held replies and publisher confirms of all channels.

use super::channel::State;
use super::{Scratch, Session};
use crate::id::Lsn;
use crate::limits::JOURNAL_PENDING_BYTES_MAX;
use crate::store::Waiter;
use crate::wire::encode::{put_ack, put_return};
use std::sync::Arc;

impl Session {
    /// Gives this turn's publishes to their queues, returns those that found none, and notes what
    /// their confirms wait for.
    pub(super) fn flush_publishes(&mut self, scratch: &mut Scratch) {
        let Scratch { workspace, batch, .. } = scratch;
        batch.flush(&self.broker, workspace);
        for unrouted in workspace.unrouted.drain(..).filter(|unrouted| unrouted.mandatory) {
            let Some(channel) = self.channels.get_mut(&unrouted.channel) else {
                continue;
            };
            channel.link.counters.returned.add(1);
            let out = channel.held.out(&mut self.output);
            put_no_route(out, unrouted.channel, &unrouted.message, self.frame_max);
        }
        let lsn = batch.take_lsn();
        if batch.publishing.is_empty() {
            return;
        }
        let durable = self.broker.journal().durable_lsn();
        for number in batch.publishing.drain(..) {
            let Some(channel) = self.channels.get_mut(&number) else {
                continue;
            };
            channel.link.published(lsn);
            if channel.link.confirms.is_some() && !self.confirm(number, durable) {
                self.wait_on(number);
            }
        }
    }

    /// The journal has come to `durable`: sends what waited for it.
    pub(super) fn report_durable(&mut self) {
        let durable = self.broker.journal().durable_lsn();
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut over = Vec::new();
        waiting.retain(|number| {
            if let Some(channel) = self.channels.get_mut(number) {
                channel.held.release(durable, &mut self.output);
            }
            let done = self.confirm(*number, durable);
            if let Some(channel) = self.channels.get_mut(number).filter(|_| done) {
                channel.waiting = false;
                if channel.state == State::Ended {
                    over.push(*number);
                }
            }
            !done
        });
        self.waiting = waiting;
        for number in over {
            self.forget_channel(number);
        }
    }

    /// Confirms what can be confirmed; true if nothing of the channel waits any more.
    fn confirm(&mut self, number: u16, durable: Lsn) -> bool {
        let Some(channel) = self.channels.get_mut(&number) else {
            return true;
        };
        let Some(confirms) = &mut channel.link.confirms else {
            return channel.held.is_empty();
        };
        let before = confirms.reported();
        if let Some(ack) = confirms.report(durable) {
            channel.link.counters.confirmed.add(ack.up_to - before);
            put_ack(channel.held.out(&mut self.output), number, ack.up_to, ack.multiple);
        }
        confirms.next_lsn().is_none() && channel.held.is_empty()
    }

    /// Asks the journal to tell us when it gets to what we wait for first, once at a time.
    pub(super) fn wait_for_journal(&mut self) {
        if self.registered != Lsn(0) {
            return;
        }
        let next = self.waiting.iter().filter_map(|number| {
            let channel = self.channels.get(number)?;
            let confirms = channel.link.confirms.as_ref().and_then(|c| c.next_lsn());
            [channel.held.next_lsn(), confirms].into_iter().flatten().min()
        });
        let journal = self.broker.journal();
        let full =
            (journal.pending_bytes() > JOURNAL_PENDING_BYTES_MAX).then(|| journal.appended_lsn());
        if let Some(lsn) = next.chain(full).min() {
            self.registered = lsn;
            journal.wait(lsn, Arc::clone(&self.inbox) as Arc<dyn Waiter>);
        }
    }

    /// Whether some channel has so much waiting that the connection is not read.
    pub(super) fn is_held(&self) -> bool {
        let full = |number: &u16| {
            self.channels.get(number).is_some_and(|channel| {
                channel.held.is_full()
                    || channel.link.confirms.as_ref().is_some_and(|c| c.is_full())
            })
        };
        (self.registered != Lsn(0)
            && self.broker.journal().pending_bytes() > JOURNAL_PENDING_BYTES_MAX)
            || self.waiting.iter().any(full)
    }
}

/// basic.return, NO_ROUTE.
pub(super) fn put_no_route(
    out: &mut crate::wire::Output,
    channel: u16,
    message: &crate::message::Message,
    frame_max: u32,
) {
    let code = crate::exception::ReplyCode::NoRoute;
    put_return(out, channel, code.code(), code.name(), message, frame_max);
}
