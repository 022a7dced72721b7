//! What clients read: every frame was due, in its channel's order, and says the truth.

use super::{Channel, Due, Holding, Oracle, Phase, Place, State};
use crate::client::{Content, Seen};
use crate::ops::{EXCHANGES, Message, QUEUES};
use crate::wire::Fields;

const RECOVER_OK: u32 = 60 << 16 | 111;
const CHANNEL_CLOSE_OK: u32 = 20 << 16 | 41;

impl Channel {
    /// Deliveries that are read now were given back meanwhile.
    fn is_stale(&self) -> bool {
        let recovering =
            |due: &super::Expected| matches!(due.what, Due::Method(method) if method == RECOVER_OK);
        self.phase != Phase::Open || self.expected.iter().any(recovering)
    }

    fn take_tag(&mut self, tag: u64) {
        // A get that waited for the disk has its tag, also if it finds nothing then.
        let skipped = tag.checked_sub(self.last_tag + 1).expect("delivery tags count up");
        assert!(skipped <= self.empty_gets, "delivery tags count up by one");
        self.empty_gets -= skipped;
        self.last_tag = tag;
    }
}

impl Oracle {
    pub(crate) fn saw(&mut self, place: Place, seen: &Seen<'_>) {
        let close_ok = matches!(seen, Seen::Method { method: CHANNEL_CLOSE_OK, .. });
        let over = self.channel(place).is_over && !close_ok;
        assert!(!over, "{place:?} was closed, and then said {seen:?}");
        match seen {
            Seen::Method { method, fields } => self.saw_reply(place, *method, Fields(fields)),
            Seen::Deliver { consumer, tag, redelivered, content } => {
                self.saw_delivery(place, *consumer, *tag, *redelivered, content);
            }
            Seen::GetOk { tag, redelivered, left, content } => {
                let due = self.next_due(place);
                let Due::Got { queue, no_ack, exactly, left: before } = due else {
                    panic!("get-ok where {due:?} is due")
                };
                self.stats.gets += 1;
                if no_ack {
                    self.queues[queue].loose_gets -= 1;
                }
                let copy = self.identify(queue, content);
                if let Some(exactly) = exactly {
                    assert_eq!(exactly, Some(copy), "a get takes the oldest");
                }
                if let Some(before) = before {
                    assert_eq!(*left as usize + 1, before, "get-ok says what is left");
                }
                self.channel(place).take_tag(*tag);
                let holding = Holding { queue, copy, consumer: None };
                self.handed_over(place, *tag, holding, *redelivered, no_ack);
            }
            Seen::Return { content } => {
                self.stats.returns += 1;
                let channel = self.channel(place);
                channel.returns_seen += 1;
                let due = channel.returns_due.pop_front();
                let id = self.check_content(content);
                assert_eq!(due, Some(id), "a return that is not due");
            }
            Seen::Nack { .. } => panic!("no queue of these refuses anything"),
            Seen::Ack { up_to, multiple } => self.saw_confirm(place, *up_to, *multiple),
            Seen::Cancel { consumer } => {
                let channel = self.channel(place);
                channel.cancels_due.remove(consumer);
                let consumer = channel.consumers.get_mut(consumer).expect("a consumer of ours");
                assert!(!consumer.is_active, "a consumer was cancelled for nothing");
                consumer.is_over = true;
            }
        }
    }

    fn next_due(&mut self, place: Place) -> Due {
        let expected = self.channel(place).expected.pop_front();
        let expected = expected.unwrap_or_else(|| panic!("{place:?}: a reply to nothing"));
        if let Some(turn) = expected.turn {
            let at = (self.turn_lsns[turn], self.synced);
            assert!(self.is_synced(turn), "{:?} before the disk had it: {at:?}", expected.what);
        }
        expected.what
    }

    fn saw_reply(&mut self, place: Place, method: u32, mut fields: Fields<'_>) {
        let due = self.next_due(place);
        match due {
            Due::Method(due) => {
                assert_eq!(method, due, "replies come in the order of their requests");
                let over = self.channel(place);
                over.is_over |= method == CHANNEL_CLOSE_OK;
                if method == 60 << 16 | 31 {
                    let tag = fields.tag();
                    if let Some(consumer) = over.consumers.get_mut(&tag) {
                        consumer.is_over = true;
                    }
                }
            }
            Due::Count { method: due, min, max } => {
                assert_eq!(method, due, "replies come in the order of their requests");
                let count = fields.u32() as usize;
                assert!((min..=max).contains(&count), "{count} messages, of {min} to {max}");
            }
            Due::Declared { queue, min, max, consumers } => {
                assert_eq!(method, 50 << 16 | 11, "replies come in the order of their requests");
                assert_eq!(fields.short(), QUEUES[queue].0);
                let count = fields.u32() as usize;
                assert!((min..=max).contains(&count), "{count} messages, of {min} to {max}");
                assert_eq!(fields.u32() as usize, consumers, "consumers of a declared queue");
            }
            Due::Got { queue, no_ack, exactly, left } => {
                assert_eq!(method, 60 << 16 | 72, "replies come in the order of their requests");
                assert!(left.is_none_or(|left| left == 0), "get-empty with {left:?} ready");
                assert!(exactly.flatten().is_none(), "get-empty, but something was there");
                self.queues[queue].loose_gets -= usize::from(no_ack);
                self.channel(place).empty_gets += 1;
            }
            Due::Committed { returns_left } => {
                assert_eq!(method, 90 << 16 | 21, "replies come in the order of their requests");
                let seen = self.channel(place).returns_seen;
                assert!(seen >= returns_left, "commit-ok before its returns");
            }
            Due::ChannelClose(code) => {
                let got = (method, fields.u16());
                assert_eq!(got, (20 << 16 | 40, code), "an exception: {:?}", fields.short());
                self.channel(place).is_over = true;
            }
        }
    }

    fn saw_delivery(
        &mut self,
        place: Place,
        tag: u32,
        delivery_tag: u64,
        redelivered: bool,
        content: &Content<'_>,
    ) {
        self.stats.deliveries += 1;
        let channel = self.channel(place);
        channel.take_tag(delivery_tag);
        let consumer = channel.consumers.get(&tag).expect("a consumer of ours");
        assert!(!consumer.is_over, "a delivery after its consumer's end");
        let (queue, no_ack) = (consumer.queue, consumer.no_ack);
        let copy = self.identify(queue, content);
        if !redelivered {
            let newest = self.channel(place).newest.insert(queue, copy);
            assert!(newest.is_none_or(|newest| newest < copy), "{newest:?} came before {copy}");
        }
        let holding = Holding { queue, copy, consumer: Some(tag) };
        self.handed_over(place, delivery_tag, holding, redelivered, no_ack);
    }

    /// A client has a message in its hands.
    fn handed_over(
        &mut self,
        place: Place,
        tag: u64,
        holding: Holding,
        redelivered: bool,
        no_ack: bool,
    ) {
        self.stats.redeliveries += u64::from(redelivered);
        let stale = self.channel(place).is_stale();
        let copy = self.copy(holding);
        let (state, message) = (copy.state, copy.message);
        let about = format!("message {message} at {holding:?}, {state:?}, on {place:?}");
        assert!(!redelivered || copy.may_be_redelivered, "redelivered for the first time: {about}");
        if stale && !no_ack {
            copy.must_be_redelivered |= state != State::Gone;
            return;
        }
        assert!(
            redelivered || !copy.must_be_redelivered || stale,
            "delivered again, and not redelivered: {about}"
        );
        copy.state = match state {
            State::Live | State::Maybe if no_ack => State::Gone,
            State::Live | State::Maybe => State::Held,
            State::Ended => State::Gone,
            State::Held | State::Gone => panic!("delivered once too often: {about}"),
        };
        copy.must_be_redelivered = true;
        copy.may_be_redelivered = true;
        if no_ack {
            return;
        }
        let channel = self.channel(place);
        channel.tags.insert(tag, holding);
        let Some(consumer) = holding.consumer else { return };
        let consumer = channel.consumers.get_mut(&consumer).expect("it has just been found");
        consumer.held += 1;
        let (held, prefetch) = (consumer.held, consumer.prefetch);
        assert!(prefetch == 0 || held <= prefetch, "{held} unacked of {prefetch}: {about}");
    }

    fn saw_confirm(&mut self, place: Place, up_to: u64, multiple: bool) {
        let channel = self.channel(place);
        let published = channel.publishes.len() as u64;
        assert!((1..=published).contains(&up_to), "confirm of {up_to}, of {published} publishes");
        let first = if multiple { 1 } else { up_to };
        let new: Vec<_> = (first..=up_to).filter(|seq| channel.confirmed.insert(*seq)).collect();
        assert!(!new.is_empty(), "confirmed twice: {up_to}");
        for seq in new {
            let (id, turn) = self.channels[&place].publishes[seq as usize - 1];
            let unreturned = self.channels[&place].returns_due.contains(&id);
            assert!(!unreturned, "message {id} was confirmed before it was returned");
            if let Some(turn) = turn {
                let at = (self.turn_lsns[turn], self.synced);
                assert!(self.is_synced(turn), "message {id} confirmed before its sync: {at:?}");
            }
            self.stats.confirms += 1;
            self.confirmed_messages.insert(id);
        }
    }

    /// Which of a queue's copies this is.
    fn identify(&self, queue: usize, content: &Content<'_>) -> usize {
        let id = self.check_content(content);
        let place = self.queues[queue].places.get(&id);
        *place.unwrap_or_else(|| panic!("message {id} was never routed to queue {queue}"))
    }

    /// What arrives is what was published.
    fn check_content(&self, content: &Content<'_>) -> u32 {
        let id = Message::id_of(content.header);
        let message = &self.messages[id as usize];
        assert_eq!(content.header, message.header(id), "properties of message {id}");
        assert!(*content.body == message.body(id), "another body than message {id}'s");
        let address = (content.exchange, content.key);
        assert_eq!(address, (EXCHANGES[message.exchange].0, message.key), "of message {id}");
        id
    }
}
