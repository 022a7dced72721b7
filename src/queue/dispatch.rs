//! The only place that joins a ready message with a ready consumer.

use super::checkout::CheckedOut;
use super::consumers::ConsumerKey;
use super::core::QueueCore;
use super::effects::Effects;
use super::outlet::{Delivery, Event};
use super::ready::{Entry, Head};
use crate::id::{ConsumerToken, Seq};
use crate::limits::WORK_PER_LOCK_MAX;
use crate::store::RecordBatch;

impl QueueCore {
    /// Hands over what can be handed over. Stops at a message that is not in memory; asks for those
    /// that will be wanted.
    pub(super) fn dispatch(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        if self.keyed.is_some() {
            return self.dispatch_keyed(records, effects);
        }
        let mut budget = WORK_PER_LOCK_MAX;
        if self.retries.is_some() {
            self.end_waits(&mut budget, effects.now.unix);
        }
        let before = self.delivered.messages;
        let mut fresh = self.expire(&mut budget, records, effects);
        if fresh && self.has_get_waiters() {
            self.serve_gets(&mut budget, records, effects);
            fresh = self.expire(&mut budget, records, effects);
        }
        fresh &= self.hands_over();
        while fresh && let Head::Resident = self.ready.head() {
            let Some((key, limited)) = self.next_consumer() else {
                break;
            };
            let Some(entry) = self.ready.pop() else {
                break;
            };
            self.hand_over(key, entry, limited, records);
            fresh = self.expire(&mut budget, records, effects);
        }
        if self.limits.is_some() {
            self.trim(&mut budget, records, effects);
        }
        if self.absent_dead.is_some() {
            self.load_dead(effects);
        }
        if self.ready.has_absent() {
            self.read_ahead(self.delivered.messages > before, effects);
        }
        self.arm(effects);
    }

    /// Whether consumers are given anything: what they reject has to go somewhere, and what they
    /// give back has to wait somewhere.
    #[inline]
    pub(super) fn hands_over(&self) -> bool {
        !self.mourns_enough() && !self.is_full_of_retries()
    }

    /// A consumer that can take one message now, and whether the channel's limit paid for it.
    pub(super) fn next_consumer(&mut self) -> Option<(ConsumerKey, bool)> {
        loop {
            let key = self.consumers.next()?;
            match self.pay(key) {
                None => self.consumers.park(key),
                Some(limited) => return Some((key, limited)),
            }
        }
    }

    /// Takes what a delivery costs this consumer's channel; says whether it costs anything. `None`
    /// if the channel has reached its limit.
    #[inline]
    pub(super) fn pay(&mut self, key: ConsumerKey) -> Option<bool> {
        let spec = &self.consumers.get_mut(key)?.spec;
        let taken = if spec.no_ack { None } else { spec.limiter.take(spec.token) };
        if taken == Some(false) { None } else { Some(taken.is_some()) }
    }

    /// Gives one message to the consumer that `next_consumer` named.
    pub(super) fn hand_over(
        &mut self,
        key: ConsumerKey,
        entry: Entry,
        limited: bool,
        records: &mut RecordBatch,
    ) {
        self.give(key, entry, limited, records);
        self.consumers.rotate(key);
    }

    /// Gives one message to a consumer that can take it and has paid for it.
    #[inline]
    pub(super) fn give(
        &mut self,
        key: ConsumerKey,
        entry: Entry,
        limited: bool,
        records: &mut RecordBatch,
    ) {
        let Some(consumer) = self.consumers.get_mut(key) else {
            return;
        };
        let (token, no_ack) = (consumer.spec.token, consumer.spec.no_ack);
        consumer.charge(entry.body_len as usize);
        self.delivered.messages += 1;
        self.delivered.redelivered += u32::from(entry.redelivered);
        if no_ack {
            self.record_end(&entry, records);
        }
        let owner = if no_ack { None } else { Some(Some(key)) };
        if let Some(delivery) = self.check_out(entry, token, owner, limited) {
            self.consumers.tell(key, Event::Delivery(delivery));
        }
    }

    /// Makes a delivery of a resident message. `owner` is `None` if nothing is to be settled.
    #[inline]
    #[allow(clippy::option_option, reason = "settled or not, and if so by a consumer or a get")]
    pub(super) fn check_out(
        &mut self,
        entry: Entry,
        token: ConsumerToken,
        owner: Option<Option<ConsumerKey>>,
        limited: bool,
    ) -> Option<Delivery> {
        let (seq, redelivered) = (Seq(entry.seq), entry.redelivered);
        let returned = self.returns.told(entry.seq);
        let (message, slot) = match owner {
            None => {
                self.returns.forget(entry.seq);
                (entry.message?, Delivery::NO_SLOT)
            }
            Some(owner) => {
                let message = entry.message.clone()?;
                (message, self.checkout.insert(CheckedOut { entry, owner, dying: false }))
            }
        };
        Some(Delivery { token, seq, message, slot, redelivered, returned, limited })
    }
}

#[cfg(test)]
mod tests {
    use super::super::effects::Effects;
    use super::super::limiter::ChannelLimiter;
    use super::super::samples::{Sink, publish, spec};
    use super::super::{ConsumerSpec, Outlet, Settlement};
    use super::*;
    use crate::id::QueueId;
    use std::sync::Arc;

    /// One channel with a consumer on each of its queues, as its link has them.
    struct Channel {
        limiter: Arc<ChannelLimiter>,
        sink: Arc<Sink>,
        queues: Vec<(QueueCore, ConsumerKey)>,
        /// What is out: number of its queue, slot and seq.
        out: Vec<(usize, u32, Seq)>,
        records: RecordBatch,
        effects: Effects,
        resumed: usize,
    }

    impl Channel {
        fn new(queues: usize, limit: u32) -> Self {
            let limiter: Arc<ChannelLimiter> = Arc::default();
            limiter.set(limit, 0);
            let sink = Arc::new(Sink::default());
            let outlet: Arc<dyn Outlet> = sink.clone();
            let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
            let queue = |n: u64| {
                let mut core = QueueCore::new(QueueId(n), true);
                let spec = ConsumerSpec { limiter: Arc::clone(&limiter), ..spec(&outlet, n) };
                let key = core.consume(spec, &mut records, &mut effects);
                (core, key.unwrap())
            };
            let queues = (0..queues as u64).map(queue).collect();
            let out = Vec::new();
            Self { limiter, sink, queues, out, records, effects, resumed: 0 }
        }

        fn publish(&mut self, queue: usize, count: usize) {
            let mut batch = vec![publish(); count];
            self.queues[queue].0.publish(&mut batch, &mut self.records, &mut self.effects);
            self.receive(queue);
        }

        fn receive(&mut self, queue: usize) {
            self.queues[queue].0.push_events(&mut self.effects);
            for event in self.sink.0.lock().drain(..) {
                let Event::Delivery(delivery) = event else { continue };
                assert!(delivery.limited);
                self.out.push((queue, delivery.slot, delivery.seq));
            }
        }

        /// Acks the oldest delivery and does what a link does then.
        fn ack(&mut self) {
            let (queue, slot, seq) = self.out.remove(0);
            let core = &mut self.queues[queue].0;
            core.settle(&[(slot, seq)], Settlement::Ack, &mut self.records, &mut self.effects);
            self.receive(queue);
            self.limiter.give(1);
            while let Some(token) = self.limiter.next_starved() {
                self.resumed += 1;
                let queue = usize::try_from(token.0).unwrap();
                let (core, key) = &mut self.queues[queue];
                core.grant(*key, 0, 0, &mut self.records, &mut self.effects);
                self.receive(queue);
            }
        }
    }

    #[test]
    fn one_ack_resumes_one_of_many_starved_consumers() {
        let mut channel = Channel::new(100, 2);
        for queue in 0..100 {
            channel.publish(queue, 3);
        }
        for acked in 1..=300 {
            channel.ack();
            assert!(channel.out.len() <= 2);
            assert!(channel.resumed <= acked + 100, "{} for {acked} acks", channel.resumed);
        }
        assert!(channel.out.is_empty());
        assert!(channel.queues.iter().all(|(core, _)| core.ready_len() == 0));
    }

    #[test]
    fn a_starved_consumer_whose_queue_is_empty_does_not_hold_up_the_next() {
        let mut channel = Channel::new(4, 1);
        for queue in 0..4 {
            channel.publish(queue, 1);
        }
        for queue in [1, 2] {
            channel.queues[queue].0.purge(&mut channel.records, &mut channel.effects);
        }
        channel.ack();
        assert_eq!(channel.out.iter().map(|out| out.0).collect::<Vec<_>>(), [3]);
        channel.ack();
        channel.publish(1, 1);
        assert_eq!(channel.out.iter().map(|out| out.0).collect::<Vec<_>>(), [1]);
    }
}
