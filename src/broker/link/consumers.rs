//! A link's consumers: starting and ending them, and taking their deliveries.

use super::overdue::own_timeout;
use super::unacked::Unacked;
use super::{Link, Workspace};
use crate::exception::Exception;
use crate::id::ConsumerToken;
use crate::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES, UNACKED_MAX};
use crate::name::Name;
use crate::queue::{ConsumerKey, ConsumerSpec, Delivery, EndReason, Got, Outlet, Queue, QueueType};
use crate::store::Reach;
use crate::time::Millis;
use hashbrown::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Consumers {
    by_token: HashMap<ConsumerToken, Consumer>,
    /// Tags in use; a cancelled consumer's is free before its end has come back.
    by_tag: HashMap<Name, ConsumerToken>,
    /// Gets that wait for a page, by the place of their queue.
    waiting_gets: HashMap<ConsumerToken, WaitingGet>,
    /// The one consumer of direct replies that a channel may have.
    reply: Option<ConsumerToken>,
    /// Prefetch of consumers to come (basic.qos, global=false).
    prefetch: u32,
}

struct Consumer {
    tag: Name,
    no_ack: bool,
    timeout_ms: u32,
    /// `None` for the consumer of direct replies.
    source: Option<Source>,
    /// Drained since the last grant.
    drained_messages: u32,
    drained_bytes: u64,
}

#[derive(Clone, Copy)]
struct Source {
    /// Place in the link's queue table.
    queue: u32,
    key: ConsumerKey,
}

/// Deliveries of one consumer taken in a row.
pub struct Run {
    tag: Name,
    /// Place of the queue that its deliveries are unacked in; `None` if nothing is to be settled.
    unacked_from: Option<u32>,
    timeout_ms: u32,
    first_tag: u64,
    messages: u32,
    bytes: u64,
    /// Deliveries handed over before the channel-wide prefetch was set.
    uncounted: u32,
}

/// The oldest first: what one leaves may go to another, so that the order shows.
fn in_order<T>(of: &HashMap<ConsumerToken, T>) -> Vec<ConsumerToken> {
    let mut tokens: Vec<_> = of.keys().copied().collect();
    tokens.sort_unstable();
    tokens
}

impl Consumers {
    /// Tags of the consumers of a queue, sorted.
    pub(super) fn of_queue(&self, queue: u32) -> Vec<Name> {
        let is_of = |consumer: &&Consumer| consumer.source.is_some_and(|it| it.queue == queue);
        let mut tags: Vec<_> =
            self.by_token.values().filter(is_of).map(|consumer| consumer.tag.clone()).collect();
        tags.sort_unstable();
        tags
    }
}

impl Run {
    /// The consumer's tag.
    #[must_use]
    pub fn tag(&self) -> &[u8] {
        self.tag.as_bytes()
    }
}

/// A basic.consume.
pub struct Consume {
    pub tag: Name,
    pub no_ack: bool,
    pub exclusive: bool,
    pub priority: i64,
    /// How long a delivery may stay unacknowledged, if the consumer says so.
    pub timeout_ms: Option<u64>,
}

/// A get whose message is being loaded.
pub(super) struct WaitingGet {
    /// Place of its queue.
    queue: u32,
    tag: u64,
}

impl Link {
    /// The consumer of that tag.
    #[must_use]
    pub fn consumer(&self, tag: &str) -> Option<ConsumerToken> {
        self.consumers.by_tag.get(tag).copied()
    }

    /// Whether the tag is in use on this channel.
    #[must_use]
    pub fn has_consumer(&self, tag: &str) -> bool {
        self.consumers.by_tag.contains_key(tag)
    }

    #[must_use]
    pub fn consumers_len(&self) -> usize {
        self.consumers.by_tag.len()
    }

    /// Starts a consumer; its deliveries come to the inbox. The caller has checked tag and owner.
    ///
    /// # Errors
    /// 403 if an exclusive consumer is in the way, 404 if the queue has just gone, 540 for a quorum
    /// queue on a channel with a channel-wide prefetch.
    pub fn consume(
        &mut self,
        queue: &Arc<Queue>,
        consume: Consume,
        workspace: &mut Workspace,
    ) -> Result<(), Exception> {
        let is_quorum = queue.kind == QueueType::Quorum;
        if is_quorum && self.limiter.is_active() {
            let text = format!("{} does not support global qos", queue.resource());
            return Err(Exception::not_implemented(text));
        }
        let token = self.client.token(self.channel);
        let spec = ConsumerSpec {
            outlet: Arc::clone(&self.client.inbox) as Arc<dyn Outlet>,
            token,
            no_ack: consume.no_ack,
            // RabbitMQ: quorum queues know no exclusive consumers.
            exclusive: consume.exclusive && !is_quorum,
            priority: consume.priority,
            prefetch: self.consumers.prefetch,
            limiter: Arc::clone(&self.limiter),
        };
        let key = queue
            .consume(spec, &mut workspace.turn(&self.broker))
            .map_err(|_| Exception::not_found(queue.resource()))?
            .ok_or_else(|| Exception::exclusive_use(queue.resource()))?;
        let source = Some(Source { queue: self.queues.refer(queue), key });
        let timeout_ms = own_timeout(consume.timeout_ms);
        self.add_consumer(token, (consume.tag, consume.no_ack, timeout_ms), source);
        Ok(())
    }

    /// Starts the channel's consumer of direct replies.
    pub(super) fn consume_replies(&mut self, token: ConsumerToken, tag: Name) {
        self.consumers.reply = Some(token);
        self.add_consumer(token, (tag, true, 0), None);
    }

    pub(super) fn reply_token(&self) -> Option<ConsumerToken> {
        self.consumers.reply
    }

    fn add_consumer(
        &mut self,
        token: ConsumerToken,
        (tag, no_ack, timeout_ms): (Name, bool, u32),
        source: Option<Source>,
    ) {
        self.consumers.by_tag.insert(tag.clone(), token);
        let (drained_messages, drained_bytes) = (0, 0);
        let consumer =
            Consumer { tag, no_ack, timeout_ms, source, drained_messages, drained_bytes };
        self.consumers.by_token.insert(token, consumer);
    }

    /// Cancels a consumer. Its last deliveries and its end are in the inbox when this returns.
    /// cancel-ok waits for that: the end of a durable queue may have come with it.
    pub fn cancel(&mut self, tag: &str, workspace: &mut Workspace) -> Reach {
        let Some(token) = self.consumers.by_tag.remove(tag) else {
            return Reach::default();
        };
        self.stop_consumer(token, workspace);
        let unused = std::mem::take(&mut workspace.effects.unused);
        self.client.vhost.end_unused(&unused, &self.broker, workspace)
    }

    fn stop_consumer(&mut self, token: ConsumerToken, workspace: &mut Workspace) {
        if self.consumers.reply == Some(token) {
            self.consumers.reply = None;
            self.consumers.by_token.remove(&token);
            self.broker.replies.remove(self.client.connection, token);
            return;
        }
        let Some(source) = self.consumers.by_token.get(&token).and_then(|c| c.source) else {
            return;
        };
        if let Some(queue) = self.queues.get(source.queue) {
            // A queue that is gone has put the end into the inbox already.
            let _ = queue.cancel(source.key, &mut workspace.turn(&self.broker));
        }
    }

    /// A consumer's end came out of the inbox; says its tag if the client still counts on it.
    pub fn consumer_ended(&mut self, token: ConsumerToken, reason: EndReason) -> Option<Name> {
        let consumer = self.consumers.by_token.remove(&token)?;
        if let Some(source) = consumer.source {
            self.queues.release(source.queue, 1);
        }
        if reason == EndReason::Cancelled
            || self.consumers.by_tag.get(&*consumer.tag) != Some(&token)
        {
            return None;
        }
        self.consumers.by_tag.remove(&*consumer.tag);
        Some(consumer.tag)
    }

    /// From here on the consumers get nothing, but they keep their places: who takes over from one
    /// gets what it leaves behind before anything newer, see `leave_queues`.
    pub(super) fn silence_consumers(&mut self, workspace: &mut Workspace) {
        self.consumers.by_tag.clear();
        self.limiter.close();
        for token in in_order(&self.consumers.by_token) {
            match self.consumers.by_token[&token] {
                Consumer { source: Some(source), no_ack: false, .. } => {
                    let Some(queue) = self.queues.get(source.queue) else { continue };
                    // What a lock hold before this one took for it is in the inbox now.
                    let _ = queue.grant(source.key, 0, 0, &mut workspace.turn(&self.broker));
                }
                // It leaves nothing behind.
                _ => self.stop_consumer(token, workspace),
            }
        }
        for token in in_order(&self.consumers.waiting_gets) {
            let place = self.consumers.waiting_gets[&token].queue;
            if let Some(queue) = self.queues.get(place) {
                queue.withdraw_get(token);
            }
        }
    }

    /// What the consumers have not settled is back in its place: others may take theirs.
    pub(super) fn leave_queues(&mut self, workspace: &mut Workspace) {
        for token in in_order(&self.consumers.by_token) {
            if !self.consumers.by_token[&token].no_ack {
                self.stop_consumer(token, workspace);
            }
        }
    }

    /// Begins to take deliveries of one consumer. `None` if it is not known any more.
    pub fn begin_run(&self, token: ConsumerToken) -> Option<Run> {
        let consumer = self.consumers.by_token.get(&token)?;
        let unacked_from = consumer.source.filter(|_| !consumer.no_ack).map(|source| source.queue);
        let tag = consumer.tag.clone();
        let (timeout_ms, first_tag) = (consumer.timeout_ms, self.next_tag);
        Some(Run { tag, unacked_from, timeout_ms, first_tag, messages: 0, bytes: 0, uncounted: 0 })
    }

    /// Takes one delivery; says its tag.
    pub fn deliver(&mut self, run: &mut Run, delivery: &Delivery) -> u64 {
        let tag = self.take_tag();
        run.messages += 1;
        run.bytes += delivery.message.body_len() as u64;
        if let Some(queue) = run.unacked_from {
            let limited = delivery.limited || self.limiter.is_active();
            run.uncounted += u32::from(limited && !delivery.limited);
            let (seq, slot, timeout_ms) = (delivery.seq, delivery.slot, run.timeout_ms);
            self.unacked.push(Unacked { tag, seq, slot, queue, limited, timeout_ms });
        }
        tag
    }

    /// Ends a run: the consumer's credit comes back as it was drained.
    pub fn end_run(&mut self, token: ConsumerToken, run: Run, workspace: &mut Workspace) {
        if run.uncounted > 0 {
            self.limiter.add(run.uncounted);
        }
        self.counters.delivered.add(run.messages.into());
        if let Some(queue) = run.unacked_from {
            self.queues.add(queue, run.messages as usize);
            let now = workspace.effects.now.monotonic;
            self.note_unacked(run.first_tag, queue, run.timeout_ms, now);
        }
        if let Some(consumer) = self.consumers.by_token.get_mut(&token) {
            consumer.drained_messages += run.messages;
            consumer.drained_bytes += run.bytes;
        }
        self.grant(token, workspace);
    }

    /// Gives a consumer's credit back once half of it is drained. While the channel holds as many
    /// unacked deliveries as it may, it gives nothing, and its consumers run dry.
    fn grant(&mut self, token: ConsumerToken, workspace: &mut Workspace) {
        let Some(consumer) = self.consumers.by_token.get_mut(&token) else {
            return;
        };
        let due = consumer.drained_messages >= CONSUMER_CREDIT_MESSAGES / 2
            || consumer.drained_bytes >= u64::from(CONSUMER_CREDIT_BYTES) / 2;
        if !due {
            return;
        }
        if self.unacked.len() >= UNACKED_MAX {
            self.withheld = true;
            return;
        }
        let messages = std::mem::take(&mut consumer.drained_messages);
        let bytes = std::mem::take(&mut consumer.drained_bytes);
        match consumer.source {
            Some(source) => {
                if let Some(queue) = self.queues.get(source.queue) {
                    let turn = &mut workspace.turn(&self.broker);
                    // A queue that is gone needs no credit.
                    let _ = queue.grant(source.key, messages, bytes, turn);
                }
            }
            None => {
                self.broker.replies.grant(self.client.connection, token, messages, bytes);
            }
        }
    }

    /// Gives back what `grant` withheld, if settling has made room again.
    pub fn grant_withheld(&mut self, workspace: &mut Workspace) {
        if !self.withheld || self.unacked.len() >= UNACKED_MAX {
            return;
        }
        self.withheld = false;
        for token in in_order(&self.consumers.by_token) {
            self.grant(token, workspace);
        }
    }

    /// Lets those consumers go on for which the channel-wide limit has room: one after the other,
    /// since the next may go on only if this one leaves room.
    pub(super) fn resume_starved(&mut self, workspace: &mut Workspace) {
        while let Some(token) = self.limiter.next_starved() {
            let Some(source) = self.consumers.by_token.get(&token).and_then(|c| c.source) else {
                continue;
            };
            if let Some(queue) = self.queues.get(source.queue) {
                // A queue that is gone has nothing to deliver.
                let _ = queue.grant(source.key, 0, 0, &mut workspace.turn(&self.broker));
            }
        }
    }

    /// basic.qos with global=false: the prefetch of consumers that start later.
    pub fn set_prefetch(&mut self, prefetch: u16, workspace: &mut Workspace) {
        self.consumers.prefetch = prefetch.into();
        // RabbitMQ: it also removes the channel-wide limit.
        self.set_channel_limit(0, workspace);
    }

    /// basic.qos with global=true: one limit for all consumers of the channel, at once.
    pub fn set_channel_limit(&mut self, limit: u16, workspace: &mut Workspace) {
        if limit == 0 && !self.limiter.is_active() {
            return;
        }
        let limited = limit != 0;
        let mut changed = 0;
        for unacked in self.unacked.iter_mut() {
            changed += u32::from(unacked.limited != limited);
            unacked.limited = limited;
        }
        self.limiter.set(limit.into(), changed);
        self.resume_starved(workspace);
    }

    /// basic.get. The asker's token comes back in `Event::Got` if it has to wait. A channel that
    /// holds as many unacked deliveries as it may finds every queue empty.
    ///
    /// # Errors
    /// 404 if the queue has just gone.
    pub fn get(
        &mut self,
        queue: &Arc<Queue>,
        no_ack: bool,
        workspace: &mut Workspace,
    ) -> Result<(ConsumerToken, Got), Exception> {
        if queue.kind == QueueType::Quorum && queue.behaviour().single_active_consumer {
            return Err(Exception::single_active_consumer(queue.resource()));
        }
        let token = self.client.token(self.channel);
        if !no_ack && self.unacked.len() >= UNACKED_MAX {
            queue.touch(&mut workspace.effects);
            return Ok((token, Got::Empty));
        }
        let outlet = Arc::clone(&self.client.inbox) as Arc<dyn Outlet>;
        let got = queue
            .get(&outlet, token, no_ack, &mut workspace.turn(&self.broker))
            .map_err(|_| Exception::not_found(queue.resource()))?;
        if matches!(got, Got::Later) {
            // Deliveries may go out behind the held answer, and tags count up on the wire. If the
            // queue is empty by then, the tag is nobody's.
            let waiting = WaitingGet { queue: self.queues.refer(queue), tag: self.take_tag() };
            self.consumers.waiting_gets.insert(token, waiting);
        }
        Ok((token, got))
    }

    /// The answer to a get that had to wait is here. Gives a message its tag.
    pub fn got_later(
        &mut self,
        token: ConsumerToken,
        delivery: Option<&Delivery>,
        now: Millis,
    ) -> Option<u64> {
        let WaitingGet { queue: place, tag } = self.consumers.waiting_gets.remove(&token)?;
        let queue = self.queues.get(place).cloned();
        self.queues.release(place, 1);
        self.keep_got(&queue?, delivery?, tag, now);
        Some(tag)
    }

    /// Place of the queue that a token's deliveries come from.
    pub(super) fn queue_of(&self, token: ConsumerToken) -> Option<u32> {
        let consumer = self.consumers.by_token.get(&token);
        let source = consumer.and_then(|consumer| consumer.source).map(|source| source.queue);
        source.or_else(|| self.consumers.waiting_gets.get(&token).map(|waiting| waiting.queue))
    }

    /// Gives a gotten message its tag.
    pub fn take_got(&mut self, queue: &Arc<Queue>, delivery: &Delivery, now: Millis) -> u64 {
        let tag = self.take_tag();
        self.keep_got(queue, delivery, tag, now);
        tag
    }

    fn keep_got(&mut self, queue: &Arc<Queue>, delivery: &Delivery, tag: u64, now: Millis) {
        self.counters.gotten.add(1);
        if delivery.slot != Delivery::NO_SLOT {
            let limited = self.limiter.is_active();
            if limited {
                self.limiter.add(1);
            }
            let queue = self.queues.refer(queue);
            let (seq, slot) = (delivery.seq, delivery.slot);
            let unacked = Unacked { tag, seq, slot, queue, limited, timeout_ms: 0 };
            self.unacked.push(unacked);
            self.note_unacked(tag, queue, 0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::declare::tests::{DURABLE, connect, open};
    use super::*;
    use crate::broker::DeclareQueue;
    use crate::id::Seq;
    use crate::message::Message;
    use crate::queue::Publish;
    use crate::store::MemoryDisk;

    #[test]
    fn gets_of_a_channel_that_holds_all_it_may_find_nothing_until_it_settles_some() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let declare = DeclareQueue { name: "q", ..DURABLE };
        link.declare_queue(&declare, &mut workspace).unwrap();
        let queue = link.find_queue("q").unwrap();
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let message = Message::new(b"", b"q", &header, b"", &mut Vec::new());
        let (persistent, priority, ttl) = (false, 0, crate::time::Ttl::FOREVER);
        let publish = Publish { message, persistent, priority, ttl, delay: None, mark: 0 };
        queue.publish(&mut vec![publish; 3], &mut workspace.turn(&broker)).unwrap();
        let held = Unacked {
            tag: 0,
            seq: Seq(0),
            slot: 0,
            queue: link.queues.refer(&queue),
            limited: false,
            timeout_ms: 0,
        };
        for _ in 0..UNACKED_MAX {
            let tag = link.take_tag();
            link.unacked.push(Unacked { tag, ..held });
        }
        let mut got = |link: &mut Link, no_ack| {
            let (_, got) = link.get(&queue, no_ack, &mut workspace).unwrap();
            matches!(got, Got::Message { .. })
        };
        assert!(!got(&mut link, false));
        assert!(got(&mut link, true), "what needs no settlement is not held");
        assert!(link.unacked.take(1).is_some());
        assert!(got(&mut link, false));
    }
}
