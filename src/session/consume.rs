//! basic.qos, consume, cancel, get and recover; and deliveries on their way out.

use super::channel::State;
use super::reply::Until;
use super::{Scratch, Session};
use crate::broker::link::{Consume, PSEUDO_QUEUE, channel_of};
use crate::exception::Exception;
use crate::id::ConsumerToken;
use crate::limits::OUTPUT_HIGH_BYTES;
use crate::name::Name;
use crate::queue::{Delivery, EndReason, Event, Got, Queue};
use crate::store::Reach;
use crate::table::TableRef;
use crate::time::Millis;
use crate::wire::encode::{Content, put_delivery, put_get_ok};
use crate::wire::with_delivery_count;
use crate::wire::{ClientMethod, ServerMethod, client};
use std::borrow::Cow;
use std::collections::VecDeque;

impl Session {
    pub(super) fn take_consumer_method(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        match *method {
            ClientMethod::BasicQos(qos) => self.qos(number, qos, scratch),
            ClientMethod::BasicConsume(ref consume) => self.consume(number, consume, scratch),
            ClientMethod::BasicCancel { consumer_tag, nowait } => {
                self.cancel(number, consumer_tag, nowait, scratch);
                Ok(())
            }
            ClientMethod::BasicGet { queue, no_ack } => self.get(number, queue, no_ack, scratch),
            ClientMethod::BasicRecover { requeue } => {
                self.recover(number, requeue, scratch)?;
                self.reply(number, &ServerMethod::BasicRecoverOk);
                Ok(())
            }
            ClientMethod::BasicRecoverAsync { requeue } => self.recover(number, requeue, scratch),
            // The answer to our own cancel.
            _ => Ok(()),
        }
    }

    fn qos(
        &mut self,
        number: u16,
        qos: client::Qos,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let size = qos.prefetch_size;
        if size != 0 {
            return Err(Exception::not_implemented(format!("prefetch_size!=0 ({size})")));
        }
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let workspace = &mut scratch.workspace;
        if qos.global {
            channel.link.set_channel_limit(qos.prefetch_count, workspace);
        } else {
            channel.link.set_prefetch(qos.prefetch_count, workspace);
        }
        self.reply(number, &ServerMethod::BasicQosOk);
        Ok(())
    }

    fn consume(
        &mut self,
        number: u16,
        consume: &client::Consume<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let queue_name = self.queue_name(number, consume.queue)?;
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let tag = match consume.consumer_tag {
            "" => self.broker.generate_name("amq.ctag"),
            tag if channel.link.has_consumer(tag) => {
                let text = format!("attempt to reuse consumer tag '{tag}'");
                return Err(Exception::not_allowed(text));
            }
            tag => Name::new(tag),
        };
        if &*queue_name == PSEUDO_QUEUE {
            channel.link.consume_direct_replies(tag.clone(), consume.no_ack)?;
        } else {
            let queue = channel.link.find_queue_to_read(&queue_name)?;
            check_stream_arguments(consume.arguments, &queue)?;
            let priority = consumer_priority(consume.arguments, queue.resource())?;
            let timeout_ms = consumer_timeout(consume.arguments, queue.resource())?;
            let spec = Consume {
                tag: tag.clone(),
                no_ack: consume.no_ack,
                exclusive: consume.exclusive,
                priority,
                timeout_ms,
            };
            channel.link.consume(&queue, spec, &mut scratch.workspace)?;
        }
        let reply = ServerMethod::BasicConsumeOk { consumer_tag: &tag };
        self.reply_when(number, Reach::default(), consume.nowait, &reply);
        Ok(())
    }

    /// cancel-ok follows the consumer's last delivery: what the channel has up to it goes out
    /// first, in order, whatever the output holds. That is no more than the channel's credit.
    fn cancel(&mut self, number: u16, tag: &str, nowait: bool, scratch: &mut Scratch) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let mut reach = Reach::default();
        if let Some(token) = channel.link.consumer(tag) {
            reach = channel.link.cancel(tag, &mut scratch.workspace);
            self.inbox.take_events(&mut scratch.events);
            self.distribute(&mut scratch.events);
            self.deliver_last(number, token, scratch);
        }
        let reply = ServerMethod::BasicCancelOk { consumer_tag: tag };
        self.reply_when(number, reach, nowait, &reply);
    }

    fn deliver_last(&mut self, number: u16, token: ConsumerToken, scratch: &mut Scratch) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let mut last = std::mem::take(&mut channel.pending);
        let end = last.iter().rposition(|event| event.token() == token);
        channel.pending = last.split_off(end.map_or(0, |end| end + 1));
        scratch.batch.count_operations(last.len());
        self.deliver_events(&mut last, usize::MAX, scratch);
    }

    fn get(
        &mut self,
        number: u16,
        queue: &str,
        no_ack: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let queue = self.queue_name(number, queue)?;
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let queue = channel.link.find_queue_to_read(&queue)?;
        let (token, got) = channel.link.get(&queue, no_ack, &mut scratch.workspace)?;
        match got {
            Got::Empty => channel.send(&ServerMethod::BasicGetEmpty, &mut self.output),
            Got::Message { delivery, ready_left } => {
                let now = scratch.workspace.effects.now.monotonic;
                let tag = channel.link.take_got(&queue, &delivery, now);
                let out = channel.held.out(&mut self.output);
                let header = header_of(&delivery);
                let content = Content { message: &delivery.message, header: &header };
                let left = u32::try_from(ready_left).unwrap_or(u32::MAX);
                let redelivered = delivery.redelivered;
                put_get_ok(out, number, tag, redelivered, content, left, self.frame_max);
                self.await_acks(number);
            }
            Got::Later => {
                channel.held.hold(Until::Got(token));
                self.awaits_get = Some(number);
                self.wait_on(number);
                self.inbox.take_and_listen(&mut scratch.events);
                self.take_answers(&mut scratch.events, scratch.workspace.effects.now.monotonic);
                self.distribute(&mut scratch.events);
            }
        }
        Ok(())
    }

    /// Takes the answers to gets out of `events`: the connection is paused until they are here, so
    /// they must not wait for room behind what cannot leave before them.
    pub(super) fn take_answers(&mut self, events: &mut Vec<Event>, now: Millis) {
        let is_answer = |event: &mut Event| matches!(event, Event::Got { .. });
        for answer in events.extract_if(.., is_answer).collect::<Vec<_>>() {
            if let Event::Got { token, delivery, ready_left } = answer {
                self.got(token, delivery.as_deref(), ready_left, now);
            }
        }
    }

    /// The answer to a get that had to wait for its message.
    fn got(
        &mut self,
        token: ConsumerToken,
        delivery: Option<&Delivery>,
        ready_left: u64,
        now: Millis,
    ) {
        let number = channel_of(token);
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        self.awaits_get = None;
        let tag = channel.link.got_later(token, delivery, now);
        let mut answer = crate::wire::Output::new();
        match (delivery, tag) {
            (Some(delivery), Some(tag)) => {
                let header = header_of(delivery);
                let content = Content { message: &delivery.message, header: &header };
                let left = u32::try_from(ready_left).unwrap_or(u32::MAX);
                let redelivered = delivery.redelivered;
                put_get_ok(&mut answer, number, tag, redelivered, content, left, self.frame_max);
            }
            _ => ServerMethod::BasicGetEmpty.encode(number, &mut answer),
        }
        channel.held.answer(token, answer);
        let reached = self.broker.journal().reach();
        channel.held.release(reached, &mut self.output);
        self.await_acks(number);
    }

    fn recover(
        &mut self,
        number: u16,
        requeue: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        if !requeue {
            return Err(Exception::not_implemented("requeue=false"));
        }
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.link.recover(&mut scratch.workspace);
        }
        Ok(())
    }

    /// Sends what the channels and the inbox have, as far as the output has room; the rest is kept
    /// with its channel, in order.
    pub(super) fn deliver(&mut self, scratch: &mut Scratch) {
        let mut room = OUTPUT_HIGH_BYTES.saturating_sub(self.backlog());
        while room > 0
            && let Some(number) = self.backlogged.pop_front()
        {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            let mut pending = std::mem::take(&mut channel.pending);
            room = self.deliver_events(&mut pending, room, scratch);
            if !pending.is_empty()
                && let Some(channel) = self.channels.get_mut(&number)
            {
                channel.pending = pending;
                self.backlogged.push_front(number);
            }
        }
        // The buffer changes hands as it is, there and back.
        let mut events = VecDeque::from(std::mem::take(&mut scratch.events));
        self.deliver_events(&mut events, room, scratch);
        scratch.events = events.into();
        self.distribute(&mut scratch.events);
    }

    /// Gives events that cannot leave yet to their channels.
    pub(super) fn distribute(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            let number = channel_of(event.token());
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            if channel.pending.is_empty() {
                self.backlogged.push_back(number);
            }
            channel.pending.push_back(event);
        }
    }

    /// Sends events until `room` is used; says how much of it is left.
    fn deliver_events(
        &mut self,
        events: &mut VecDeque<Event>,
        mut room: usize,
        scratch: &mut Scratch,
    ) -> usize {
        while room > 0 {
            match events.pop_front() {
                None => break,
                Some(Event::Delivery(first)) => {
                    let written = self.deliver_run(first, events, room, scratch);
                    room = room.saturating_sub(written);
                }
                Some(Event::Ended { token, reason }) => self.consumer_ended(token, reason),
                Some(Event::Got { token, delivery, ready_left }) => {
                    let now = scratch.workspace.effects.now.monotonic;
                    self.got(token, delivery.as_deref(), ready_left, now);
                }
            }
        }
        room
    }

    /// Sends `first` and what follows it for the same consumer, until `room` is used; says how many
    /// bytes it wrote.
    fn deliver_run(
        &mut self,
        first: Delivery,
        events: &mut VecDeque<Event>,
        room: usize,
        scratch: &mut Scratch,
    ) -> usize {
        let token = first.token;
        let number = channel_of(token);
        let Some(channel) = self.channels.get_mut(&number) else { return 0 };
        let Some(mut run) = channel.link.begin_run(token) else { return 0 };
        let out = channel.held.out(&mut self.output);
        let before = out.len();
        let mut next = Some(first);
        while let Some(delivery) = next {
            let tag = channel.link.deliver(&mut run, &delivery);
            let header = header_of(&delivery);
            let content = Content { message: &delivery.message, header: &header };
            let redelivered = delivery.redelivered;
            put_delivery(out, number, run.tag(), tag, redelivered, content, self.frame_max);
            let more = out.len() - before < room
                && matches!(events.front(), Some(Event::Delivery(d)) if d.token == token);
            next = match more.then(|| events.pop_front()).flatten() {
                Some(Event::Delivery(delivery)) => Some(delivery),
                _ => None,
            };
        }
        let written = out.len() - before;
        channel.link.end_run(token, run, &mut scratch.workspace);
        self.await_acks(number);
        written
    }

    fn consumer_ended(&mut self, token: ConsumerToken, reason: EndReason) {
        let number = channel_of(token);
        let Some(channel) = self.channels.get_mut(&number) else { return };
        let Some(tag) = channel.link.consumer_ended(token, reason) else {
            return;
        };
        if self.capabilities.consumer_cancel_notify && channel.state == State::Open {
            let cancel = ServerMethod::BasicCancel { consumer_tag: &tag, nowait: true };
            channel.send(&cancel, &mut self.output);
        }
    }
}

/// The content header of a delivery: the message's own, but where its queue has something to add.
#[inline]
fn header_of(delivery: &Delivery) -> Cow<'_, [u8]> {
    match delivery.returned.told() {
        None => Cow::Borrowed(delivery.message.header()),
        Some(times) => Cow::Owned(with_delivery_count(delivery.message.header(), times)),
    }
}

/// RabbitMQ: any integer type, default 0, higher first.
fn consumer_priority(
    arguments: TableRef<'_>,
    queue: crate::exception::Resource<'_>,
) -> Result<i64, Exception> {
    const PRIORITY: &str = "x-priority";
    let Some(value) = arguments.get(PRIORITY.as_bytes()) else {
        return Ok(0);
    };
    value.as_int().ok_or_else(|| {
        let reason = format!("\"expected integer, got {}\"", value.kind());
        Exception::invalid_argument(PRIORITY, queue, &reason)
    })
}

/// How long a delivery of this consumer may stay unacknowledged, if it says so itself.
fn consumer_timeout(
    arguments: TableRef<'_>,
    queue: crate::exception::Resource<'_>,
) -> Result<Option<u64>, Exception> {
    const TIMEOUT: &str = "x-consumer-timeout";
    let Some(value) = arguments.get(TIMEOUT.as_bytes()) else {
        return Ok(None);
    };
    let reason = match value.as_int() {
        None => format!("\"expected integer, got {}\"", value.kind()),
        Some(ms) => match u64::try_from(ms) {
            Ok(ms) => return Ok(Some(ms)),
            Err(_) => format!("{{value_negative,{ms}}}"),
        },
    };
    Err(Exception::invalid_argument(TIMEOUT, queue, &reason))
}

/// RabbitMQ: arguments for streams are refused on other queues.
fn check_stream_arguments(arguments: TableRef<'_>, queue: &Queue) -> Result<(), Exception> {
    const STREAM: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];
    match STREAM.iter().find(|name| arguments.get(name.as_bytes()).is_some()) {
        None => Ok(()),
        Some(name) => {
            Err(Exception::argument_of_another_type(name, queue.resource(), queue.kind.module()))
        }
    }
}
