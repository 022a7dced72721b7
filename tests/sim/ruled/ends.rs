//! How channels, connections, consumers and queues end.

use super::chain::Span;
use super::ledger::Ledger;
use super::{BRIEF, RANKED, SINGLE};
use crate::ops::How;
use crate::oracle::Place;

impl Ledger {
    pub(super) fn end_consumer(&mut self, place: Place, tag: u32) {
        let Some(consumer) = self.channel(place).consumers.get(&tag) else { return };
        let queue = consumer.queue;
        let known = &mut self.queues[queue];
        let before = known.consumers.len();
        known.consumers.retain(|consumer| *consumer != (place, tag));
        if known.consumers.is_empty() && before > 0 {
            known.used_ms = Some(self.now.monotonic.0);
        }
        self.note_active(queue);
    }

    /// The first of them gets the messages, where only one does.
    pub(super) fn note_active(&mut self, queue: usize) {
        if queue == SINGLE
            && let Some((place, tag)) = self.queues[queue].consumers.first().copied()
            && let Some(consumer) = self.channel(place).consumers.get_mut(&tag)
        {
            consumer.was_active = true;
        }
    }

    /// What a channel was handed and has not read goes back; what needs no settling is lost.
    pub(super) fn unread_is_returned(&mut self, place: Place) {
        let channel = &self.channels[&place];
        let consumed = channel.consumers.values().map(|it| (it.queue, it.no_ack));
        let gotten = channel.gets.iter().map(|it| (it.queue, it.no_ack));
        let is_open = channel.is_open;
        for (queue, no_ack) in consumed.chain(gotten).collect::<Vec<_>>() {
            if no_ack && !is_open {
                self.excuse(queue);
            }
            if queue == RANKED {
                let counted = self.chains.iter_mut().filter(|chain| chain.root == RANKED);
                counted.for_each(|chain| chain.returns.add_perhaps());
            }
        }
    }

    /// What the channel has in the broker is given back.
    pub(super) fn end_channel(&mut self, place: Place) {
        let channel = self.channel(place);
        channel.is_open = false;
        channel.kept_publishes.clear();
        let tags = std::mem::take(&mut channel.tags).into_values();
        let kept = std::mem::take(&mut channel.kept_settlements);
        let held: Vec<_> = tags.chain(kept.into_iter().map(|(_, holding, _)| holding)).collect();
        let consumers: Vec<_> = channel.consumers.keys().copied().collect();
        held.into_iter().for_each(|it| self.settled(it, How::Nack { requeue: true }));
        self.unread_is_returned(place);
        consumers.into_iter().for_each(|tag| self.end_consumer(place, tag));
    }

    pub(crate) fn end_connection(&mut self, connection: usize) {
        let places: Vec<_> = self.channels.keys().copied().filter(|p| p.0 == connection).collect();
        for place in places {
            if self.channels[&place].is_open {
                self.end_channel(place);
            }
        }
    }

    /// The client is gone: it will read nothing more.
    pub(crate) fn cut(&mut self, connection: usize) {
        self.end_connection(connection);
        let gone: Vec<_> = self.channels.keys().copied().filter(|p| p.0 == connection).collect();
        for place in gone {
            self.unread_is_returned(place);
            self.channels.remove(&place);
        }
        // What a power loss ends in this way has no record.
        self.turns.push(Span { before: u64::MAX, end: u64::MAX });
    }

    /// The queue that may end has ended, with all that was in it.
    pub(super) fn end_brief(&mut self) {
        let turn = self.turn();
        let queue = &mut self.queues[BRIEF];
        (queue.is_there, queue.changed) = (false, turn);
        queue.consumers.clear();
        let there = self.chains.iter_mut().filter(|chain| chain.root == BRIEF);
        there.for_each(|chain| {
            chain.ended_with_queue |= !chain.is_ended();
            chain.end(turn);
        });
    }
}
