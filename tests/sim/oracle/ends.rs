//! How deliveries, transactions, channels and connections end.

use super::{Channel, Due, Holding, Oracle, Phase, Place, State};
use crate::ops::{How, Mode};

impl Oracle {
    pub(super) fn settle(&mut self, place: Place, tag: u64, multiple: bool, how: How) {
        let channel = self.channel(place);
        let mut deliveries = Vec::new();
        let known = channel.tags.contains_key(&tag);
        assert!(known, "a client settled {tag}, which it does not hold");
        if multiple {
            let later = channel.tags.split_off(&(tag + 1));
            deliveries.extend(std::mem::replace(&mut channel.tags, later));
        } else {
            deliveries.extend(channel.tags.remove(&tag).map(|holding| (tag, holding)));
        }
        let requeue = matches!(how, How::Nack { requeue: true } | How::Reject { requeue: true });
        if channel.mode == Mode::Transaction {
            return channel.kept_settlements.push((deliveries, !requeue));
        }
        self.settled(place, &deliveries, !requeue);
    }

    /// Deliveries end for good, or go back.
    pub(super) fn settled(&mut self, place: Place, deliveries: &[(u64, Holding)], for_good: bool) {
        for (_, holding) in deliveries {
            self.stats.settled += 1;
            if let Some(consumer) = holding.consumer
                && let Some(consumer) = self.channel(place).consumers.get_mut(&consumer)
            {
                consumer.held -= 1;
            }
            let copy = self.copy(*holding);
            if copy.state != State::Held {
                continue;
            }
            let back = u64::from(!for_good);
            copy.state = if for_good { State::Gone } else { State::Live };
            copy.must_be_redelivered = true;
            copy.may_be_redelivered = true;
            self.stats.requeues += back;
        }
    }

    /// What this channel was handed and has not read goes back with the rest.
    pub(super) fn unread_is_returned(&mut self, place: Place) {
        let channel = &self.channels[&place];
        let consumed = channel.consumers.values().map(|c| (c.queue, c.no_ack));
        let gotten = channel.expected.iter().filter_map(|expected| match expected.what {
            Due::Got { queue, no_ack, .. } => Some((queue, no_ack)),
            _ => None,
        });
        for (queue, no_ack) in consumed.chain(gotten).collect::<Vec<_>>() {
            let ended = no_ack && channel_ended(&self.channels[&place]);
            self.queues[queue].was_handed_over(ended);
        }
    }

    pub(super) fn commit(&mut self, place: Place) {
        self.stats.commits += 1;
        let channel = self.channel(place);
        let publishes = std::mem::take(&mut channel.kept_publishes);
        let settlements = std::mem::take(&mut channel.kept_settlements);
        let (mut durable, mut sync) = (0, false);
        let mut touched = Vec::new();
        for (id, targets) in &publishes {
            let message = self.messages[*id as usize].clone();
            durable += self.enqueue(*id, &message, targets);
            sync |= message.persistent && targets.iter().any(|queue| self.wants_sync(*queue));
            let alive = targets.iter().any(|queue| self.queues[*queue].alive);
            if !alive && message.mandatory {
                self.channel(place).returns_due.push_back(*id);
            }
            touched.extend(targets);
        }
        let mut requeues = false;
        for (deliveries, for_good) in &settlements {
            for (_, holding) in deliveries {
                let message = self.queues[holding.queue].copies[holding.copy].message;
                let alive = self.queues[holding.queue].alive && self.is_durable(holding.queue);
                let persistent = self.messages[message as usize].persistent;
                durable += usize::from(alive && persistent && *for_good);
                sync |= persistent && *for_good && self.wants_sync(holding.queue);
                requeues |= !for_good;
                touched.push(holding.queue);
            }
            self.settled(place, deliveries, *for_good);
        }
        self.one_record = self.is_single && durable > 0 && !requeues && self.are_exact(&touched);
        let channel = self.channel(place);
        let returns_left = channel.returns_seen + channel.returns_due.len();
        self.expect(place, Due::Committed { returns_left }, sync);
    }

    pub(crate) fn end_connection(&mut self, connection: usize) {
        let places: Vec<_> = self.channels.keys().copied().filter(|p| p.0 == connection).collect();
        for place in places {
            if self.channels[&place].phase == Phase::Open {
                self.end_channel(place, Phase::Closed);
            }
            self.channel(place).phase = Phase::Closed;
        }
    }

    /// The client is gone: it will read nothing more.
    pub(crate) fn cut(&mut self, connection: usize) {
        self.end_connection(connection);
        for (_, channel) in self.channels.extract_if(.., |place, _| place.0 == connection) {
            for expected in channel.expected {
                if let Due::Got { queue, no_ack: true, .. } = expected.what {
                    let queue = &mut self.queues[queue];
                    queue.was_handed_over(true);
                    queue.loose_gets -= 1;
                }
            }
        }
    }

    /// What the channel has in the broker is given back.
    pub(super) fn end_channel(&mut self, place: Place, phase: Phase) {
        let channel = self.channel(place);
        channel.phase = phase;
        channel.kept_publishes.clear();
        let kept = std::mem::take(&mut channel.kept_settlements).into_iter();
        let mut held: Vec<_> = std::mem::take(&mut channel.tags).into_iter().collect();
        held.extend(kept.flat_map(|(deliveries, _)| deliveries));
        let consumers: Vec<_> = channel.consumers.keys().copied().collect();
        self.unread_is_returned(place);
        self.settled(place, &held, false);
        for tag in consumers {
            self.end_consumer(place, tag);
        }
    }
}

fn channel_ended(channel: &Channel) -> bool {
    channel.phase != Phase::Open
}
