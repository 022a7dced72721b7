//! What waits for the journal: held replies and publisher confirms of all channels.

use super::channel::State;
use super::{Scratch, Session};
use crate::broker::link::{Workspace, refused};
use crate::config::Durability;
use crate::id::Lsn;
use crate::limits::JOURNAL_PENDING_BYTES_MAX;
use crate::store::{Reach, Waiter};
use crate::wire::encode::{put_ack, put_nack, put_return};
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
        self.refuse(workspace);
        let reach = batch.take_reach();
        if batch.publishing.is_empty() {
            return;
        }
        let reached = self.broker.journal().reach();
        for number in batch.publishing.drain(..) {
            let Some(channel) = self.channels.get_mut(&number) else {
                continue;
            };
            channel.link.published(reach);
            if channel.link.confirms.is_some() && !self.confirm(number, reached) {
                self.wait_on(number);
            }
        }
    }

    /// Tells publishers which of their messages a queue has refused.
    fn refuse(&mut self, workspace: &mut Workspace) {
        for (number, publish) in workspace.effects.refused.drain(..).filter_map(refused) {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            let Some(confirms) = &mut channel.link.confirms else { continue };
            if confirms.refuse(publish) {
                put_nack(channel.held.out(&mut self.output), number, publish, false);
            }
        }
    }

    /// The journal may have come further: sends what waited for it.
    pub(super) fn report_reached(&mut self) {
        let reached = self.broker.journal().reach();
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut over = Vec::new();
        waiting.retain(|number| {
            if let Some(channel) = self.channels.get_mut(number) {
                channel.held.release(reached, &mut self.output);
            }
            let done = self.confirm(*number, reached);
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
    fn confirm(&mut self, number: u16, reached: Reach) -> bool {
        let Some(channel) = self.channels.get_mut(&number) else {
            return true;
        };
        let Some(confirms) = &mut channel.link.confirms else {
            return channel.held.is_empty();
        };
        if let Some(ack) = confirms.report(reached) {
            channel.link.counters.confirmed.add(ack.count);
            put_ack(channel.held.out(&mut self.output), number, ack.up_to, ack.multiple);
        }
        confirms.next_reach().is_none() && channel.held.is_empty()
    }

    /// Asks the journal to tell us when it gets to what we wait for first: once at a time for what
    /// is to be synced, and once for what is to be written.
    pub(super) fn wait_for_journal(&mut self) {
        let (written, durable) = (self.registered.written, self.registered.durable);
        if durable != Lsn(0) && (written != Lsn(0) || self.waiting.is_empty()) {
            return;
        }
        let journal = self.broker.journal();
        let full =
            (journal.pending_bytes() > JOURNAL_PENDING_BYTES_MAX).then(|| journal.appended_reach());
        let held = self.waiting.iter().filter_map(|number| self.channels.get(number));
        let held = held.flat_map(|channel| {
            let confirms = channel.link.confirms.as_ref().and_then(|c| c.next_reach());
            [channel.held.next_reach(), confirms].into_iter().flatten()
        });
        let reached = journal.reach();
        let (mut next_written, mut next_durable) = (None, None);
        for demand in held.chain(full) {
            let (lsn, durability) = demand.next_step(reached);
            let next = match durability {
                Durability::Os => &mut next_written,
                Durability::Fsync => &mut next_durable,
            };
            *next = Some(next.map_or(lsn, |next: Lsn| next.min(lsn)));
        }
        if let Some(lsn) = next_durable.filter(|_| durable == Lsn(0)) {
            self.registered.durable = lsn;
            journal.wait(lsn, Durability::Fsync, Arc::clone(&self.inbox) as Arc<dyn Waiter>);
        }
        if let Some(lsn) = next_written.filter(|_| written == Lsn(0)) {
            self.registered.written = lsn;
            journal.wait(lsn, Durability::Os, Arc::clone(&self.inbox) as Arc<dyn Waiter>);
        }
    }

    /// The journal has told us that it came to one of the places that we had asked for.
    pub(super) fn forget_reached(&mut self) {
        let reached = self.broker.journal().reach();
        if self.registered.written <= reached.written {
            self.registered.written = Lsn(0);
        }
        if self.registered.durable <= reached.durable {
            self.registered.durable = Lsn(0);
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
        (self.registered != Reach::default()
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
