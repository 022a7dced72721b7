//! The queue's state and its verbs. Every verb takes what it needs, changes only this queue, and
//! says the rest as `Effects`: the same verbs in the same order give the same state.

use super::checkout::Checkout;
use super::consumers::{ConsumerKey, ConsumerSpec, Consumers};
use super::effects::Effects;
use super::load::Paging;
use super::outlet::{Delivery, EndReason, Event, Outlet};
use super::page::Page;
use super::ready::{Entry, Head, Ready};
use super::runs::Run;
use super::settings::Behaviour;
use crate::id::{ConsumerToken, QueueId, Seq};
use crate::message::Message;
use crate::store::{RecordBatch, Target};
use std::collections::VecDeque;
use std::sync::Arc;

/// One message for this queue.
#[derive(Clone, Debug)]
pub struct Publish {
    pub message: Message,
    /// Its delivery mode asks for the disk; a transient queue ignores it.
    pub persistent: bool,
    /// The publisher's own mark; the queue does not look at it.
    pub mark: u32,
}

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    Ack,
    /// Back to its old place, marked redelivered.
    Requeue,
    /// Rejected without requeue.
    Discard,
}

/// The answer to a `get`.
#[derive(Debug)]
pub enum Got {
    Message {
        delivery: Delivery,
        ready_left: u64,
    },
    Empty,
    /// The message is being loaded; the answer comes as `Event::Got`.
    Later,
}

/// What was handed over, for the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    pub messages: u64,
    /// Of these.
    pub redelivered: u64,
    /// What gets took, also those that had to wait.
    pub gotten: u64,
}

/// A `get` whose message is being loaded.
pub(super) struct GetWaiter {
    outlet: Arc<dyn Outlet>,
    token: ConsumerToken,
    no_ack: bool,
}

/// One queue's messages and consumers.
pub struct QueueCore {
    pub(super) id: QueueId,
    /// Persistent messages have records.
    pub(super) durable: bool,
    pub(super) behaviour: Arc<Behaviour>,
    pub(super) next_seq: u64,
    pub(super) ready: Ready,
    pub(super) checkout: Checkout,
    pub(super) consumers: Consumers,
    pub(super) get_waiters: VecDeque<GetWaiter>,
    pub(super) paging: Paging,
    /// `Effects::loads` asked for something and the answer is not there.
    pub(super) loading: bool,
    pub(super) delivered: Delivered,
}

impl QueueCore {
    #[must_use]
    pub fn new(id: QueueId, durable: bool) -> Self {
        Self {
            id,
            durable,
            behaviour: Arc::default(),
            next_seq: 1,
            ready: Ready::default(),
            checkout: Checkout::default(),
            consumers: Consumers::default(),
            get_waiters: VecDeque::new(),
            paging: Paging::default(),
            loading: false,
            delivered: Delivered::default(),
        }
    }

    /// The same queue with pages of another length. Call before it is used.
    #[must_use]
    pub fn with_paging(self, paging: Paging) -> Self {
        Self { paging, ..self }
    }

    /// The same queue doing that. Call before it is used.
    #[must_use]
    pub fn with_behaviour(self, behaviour: Behaviour) -> Self {
        Self { behaviour: Arc::new(behaviour), ..self }
    }

    #[must_use]
    pub fn behaviour(&self) -> &Arc<Behaviour> {
        &self.behaviour
    }

    /// A policy has changed what the queue does. False if it does that already.
    pub fn set_behaviour(&mut self, behaviour: Behaviour) -> bool {
        let is_new = *self.behaviour != behaviour;
        if is_new {
            self.behaviour = Arc::new(behaviour);
        }
        is_new
    }

    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Puts a recovered message in its place; seqs must increase.
    pub fn restore(&mut self, seq: Seq, message: Message, redelivered: bool) {
        self.next_seq = self.next_seq.max(seq.0 + 1);
        self.ready.restore(Entry {
            seq: seq.0,
            body_len: body_len(&message),
            message: Some(message),
            persistent: true,
            redelivered,
            reserved: false,
        });
    }

    /// As `restore`, for the messages of a page.
    pub fn restore_page(&mut self, page: Page) {
        self.next_seq = self.next_seq.max(page.last().0 + 1);
        self.ready.restore_page(page);
    }

    /// Seqs below `next` were given in an earlier run.
    pub fn restore_next_seq(&mut self, next: Seq) {
        self.next_seq = self.next_seq.max(next.0);
    }

    /// Visible messages.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    #[must_use]
    pub fn ready_bytes(&self) -> u64 {
        self.ready.bytes()
    }

    #[must_use]
    pub fn unacked_len(&self) -> usize {
        self.checkout.len()
    }

    /// What is out with consumers takes in memory: bodies, and a fixed sum for each.
    #[must_use]
    pub fn unacked_bytes(&self) -> u64 {
        self.checkout.resident_bytes()
    }

    /// What its messages take in memory: bodies, and a fixed sum for each of them.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.ready.resident_bytes() + self.checkout.resident_bytes()
    }

    /// Messages that cannot be read back.
    #[must_use]
    pub fn damaged_len(&self) -> usize {
        self.ready.damaged_len()
    }

    #[must_use]
    pub fn consumers_len(&self) -> usize {
        self.consumers.len()
    }

    /// Takes `batch` in order: each message is recorded if it must last, then handed over or kept.
    pub fn publish(
        &mut self,
        batch: &mut Vec<Publish>,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        for publish in batch.drain(..) {
            let entry = self.next_entry(publish, false);
            if entry.persistent
                && let Some(message) = &entry.message
            {
                let target = Target { queue: self.id, seq: Seq(entry.seq) };
                records.enqueue(message, &[target]);
            }
            match self.ready.is_clear().then(|| self.next_consumer()).flatten() {
                Some((key, limited)) => self.hand_over(key, entry, limited, records),
                None => self.ready.push(entry),
            }
        }
        self.dispatch(records, effects);
    }

    /// Takes a place for a message whose record names several queues. Nobody sees it until `show`.
    pub fn reserve(&mut self, publish: Publish) -> Target {
        let entry = self.next_entry(publish, true);
        let target = Target { queue: self.id, seq: Seq(entry.seq) };
        self.ready.push(entry);
        target
    }

    /// The record of these reserved messages is in the journal.
    pub fn show(&mut self, seqs: &[Seq], records: &mut RecordBatch, effects: &mut Effects) {
        for seq in seqs {
            self.ready.show(seq.0);
        }
        self.dispatch(records, effects);
    }

    fn next_entry(&mut self, publish: Publish, reserved: bool) -> Entry {
        let seq = self.next_seq;
        self.next_seq += 1;
        Entry {
            seq,
            body_len: body_len(&publish.message),
            message: Some(publish.message),
            persistent: publish.persistent && self.durable,
            redelivered: false,
            reserved,
        }
    }

    /// Adds a consumer and starts to deliver to it. `None` if an exclusive consumer is in the way.
    pub fn consume(
        &mut self,
        spec: ConsumerSpec,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Option<ConsumerKey> {
        let alone = self.consumers.len() == 0;
        if (spec.exclusive && !alone) || self.consumers.has_exclusive() {
            return None;
        }
        let key = self.consumers.insert(spec);
        self.dispatch(records, effects);
        Some(key)
    }

    /// Ends a consumer; what it has checked out stays so. Its link is told behind its deliveries.
    pub fn cancel(&mut self, key: ConsumerKey, effects: &mut Effects) {
        let reason = EndReason::Cancelled;
        self.consumers.remove(key, |token| Event::Ended { token, reason });
        if self.consumers.len() == 0 {
            effects.unused.push(self.id);
        }
    }

    /// Takes the oldest ready message. `token` names the asker in `Event::Got` if it must wait.
    pub fn get(
        &mut self,
        outlet: &Arc<dyn Outlet>,
        token: ConsumerToken,
        no_ack: bool,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Got {
        if self.get_waiters.is_empty() {
            match self.ready.first_visible() {
                Head::Nothing => return Got::Empty,
                Head::Resident => {
                    let delivery = self.take_for_get(token, no_ack, records);
                    let ready_left = self.ready.len() as u64;
                    return delivery
                        .map_or(Got::Empty, |delivery| Got::Message { delivery, ready_left });
                }
                Head::Evicted(seq) => self.ask_to_load(seq, effects),
            }
        }
        let outlet = Arc::clone(outlet);
        self.get_waiters.push_back(GetWaiter { outlet, token, no_ack });
        Got::Later
    }

    /// Forgets a get that waits for its message, if it still does.
    pub fn withdraw_get(&mut self, token: ConsumerToken) {
        self.get_waiters.retain(|waiter| waiter.token != token);
    }

    /// Ends deliveries. Each pair must be checked out; another is passed over.
    pub fn settle(
        &mut self,
        deliveries: &[(u32, Seq)],
        how: Settlement,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        self.settle_with(deliveries, how, true, records, effects);
        self.dispatch(records, effects);
    }

    /// As `settle`, for deliveries whose end stands in a transaction's record already.
    pub fn settle_recorded(
        &mut self,
        deliveries: &[(u32, Seq)],
        how: Settlement,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        self.settle_with(deliveries, how, how == Settlement::Requeue, records, effects);
        self.dispatch(records, effects);
    }

    fn settle_with(
        &mut self,
        deliveries: &[(u32, Seq)],
        how: Settlement,
        record: bool,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        let mut run = Run::default();
        for &(slot, seq) in deliveries {
            let Some(out) = self.checkout.take(slot, seq.0) else {
                continue;
            };
            if let Some(owner) = out.owner {
                self.consumers.settled(owner);
            }
            let mut entry = out.entry;
            match how {
                Settlement::Ack | Settlement::Discard => {
                    if record && entry.persistent {
                        run.extend(entry.seq, |run| records.ack(self.id, [run]));
                    }
                    effects.ended.extend(entry.message);
                }
                Settlement::Requeue => {
                    if entry.persistent && !entry.redelivered {
                        run.extend(entry.seq, |run| records.requeue(self.id, [run]));
                    }
                    entry.redelivered = true;
                    self.ready.put_back(entry);
                }
            }
        }
        run.finish(|run| match how {
            Settlement::Requeue => records.requeue(self.id, [run]),
            Settlement::Ack | Settlement::Discard => records.ack(self.id, [run]),
        });
    }

    /// Which of these deliveries the journal knows, so that their end belongs in a record.
    #[must_use]
    pub fn recorded(&self, deliveries: &[(u32, Seq)]) -> Vec<Seq> {
        let persistent = |slot: u32, seq: Seq| {
            self.checkout.get(slot, seq.0).is_some_and(|out| out.entry.persistent)
        };
        deliveries.iter().filter(|(slot, seq)| persistent(*slot, *seq)).map(|d| d.1).collect()
    }

    /// A consumer's link has drained this much and can hold as much again.
    pub fn grant(
        &mut self,
        key: ConsumerKey,
        messages: u32,
        bytes: u64,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        self.consumers.grant(key, messages, bytes);
        self.dispatch(records, effects);
    }

    /// Seqs of the visible messages, in order.
    #[must_use]
    pub fn ready_seqs(&self) -> Vec<Seq> {
        self.ready.seqs().into_iter().map(Seq).collect()
    }

    /// Seqs of those of them that are not in memory, in order.
    #[must_use]
    pub fn absent_seqs(&self) -> Vec<Seq> {
        self.ready.absent_seqs().into_iter().map(Seq).collect()
    }

    /// Answers the waiting gets that can be answered now.
    pub(super) fn serve_gets(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        while let Some(waiter) = self.get_waiters.pop_front() {
            match self.ready.first_visible() {
                Head::Evicted(seq) => {
                    self.get_waiters.push_front(waiter);
                    self.ask_to_load(seq, effects);
                    return;
                }
                Head::Nothing => tell_got(&waiter, None, 0, effects),
                Head::Resident => {
                    let delivery = self.take_for_get(waiter.token, waiter.no_ack, records);
                    tell_got(&waiter, delivery, self.ready.len() as u64, effects);
                }
            }
        }
    }

    pub(super) fn has_get_waiters(&self) -> bool {
        !self.get_waiters.is_empty()
    }

    pub(super) fn record_end(&self, entry: &Entry, records: &mut RecordBatch) {
        if entry.persistent {
            records.ack(self.id, [(Seq(entry.seq), Seq(entry.seq))]);
        }
    }

    fn take_for_get(
        &mut self,
        token: ConsumerToken,
        no_ack: bool,
        records: &mut RecordBatch,
    ) -> Option<Delivery> {
        let entry = self.ready.pop_visible()?;
        self.delivered.gotten += 1;
        if no_ack {
            self.record_end(&entry, records);
        }
        self.check_out(entry, token, if no_ack { None } else { Some(None) }, false)
    }

    /// Pushes what this lock hold has for the links.
    pub fn push_events(&mut self, effects: &mut Effects) {
        self.consumers.push_all(effects);
    }
}

pub(super) fn tell_got(
    waiter: &GetWaiter,
    delivery: Option<Delivery>,
    left: u64,
    effects: &mut Effects,
) {
    let mut event = vec![Event::Got { token: waiter.token, delivery, ready_left: left }];
    effects.push(&waiter.outlet, &mut event);
}

pub(super) fn body_len(message: &Message) -> u32 {
    u32::try_from(message.body_len()).expect("a body is at most 512 MiB")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sink, get, spec, with};
    use super::*;

    fn core(id: u64) -> QueueCore {
        QueueCore::new(QueueId(id), true)
    }

    #[test]
    fn what_ends_is_handed_out_to_be_freed_without_the_lock() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let mut core = with(3, records, effects);
        let out: Vec<_> = (0..3).map(|_| get(&mut core, records, effects)).collect();
        core.settle(&out[..1], Settlement::Ack, records, effects);
        core.settle(&out[1..2], Settlement::Requeue, records, effects);
        core.settle_recorded(&out[2..], Settlement::Discard, records, effects);
        assert_eq!(effects.ended.len(), 2);
        let kept = effects.ended.capacity();
        effects.drop_ended();
        assert_eq!((effects.ended.len(), effects.ended.capacity()), (0, kept));
    }

    #[test]
    fn an_exclusive_consumer_is_alone_until_it_ends() {
        let (mut records, mut effects) = (RecordBatch::new(), Effects::new());
        let (records, effects) = (&mut records, &mut effects);
        let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
        let mut core = core(1);
        let mut consume = |core: &mut QueueCore, exclusive, effects: &mut Effects| {
            let spec = ConsumerSpec { exclusive, ..spec(&outlet, 1) };
            core.consume(spec, records, effects)
        };
        let first = consume(&mut core, true, effects).unwrap();
        assert_eq!(consume(&mut core, false, effects), None);
        core.cancel(first, effects);
        let second = consume(&mut core, false, effects).unwrap();
        assert_ne!(first, second);
        assert_eq!(consume(&mut core, true, effects), None);
        // A key of the past ends nobody.
        core.cancel(first, effects);
        assert!(consume(&mut core, false, effects).is_some());
        assert_eq!(core.consumers_len(), 2);
    }
}
