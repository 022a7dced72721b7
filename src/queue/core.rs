//! The queue's state and its verbs. Every verb takes what it needs, changes only this queue, and
//! says the rest as `Effects`: the same verbs in the same order give the same state.

use super::checkout::Checkout;
use super::consumers::{ConsumerKey, ConsumerSpec, Consumers};
use super::deadletter::Reason;
use super::effects::Effects;
use super::expiry::Deadlines;
use super::gets::GetWaiter;
use super::held_back::HeldBack;
use super::keyed::Keyed;
use super::load::Paging;
use super::outlet::{EndReason, Event};
use super::overflow::Limits;
use super::page::Page;
use super::ready::{Entry, Ready};
use super::retry::Retries;
use super::returns::Returns;
use super::settings::Behaviour;
use crate::id::{QueueId, Seq};
use crate::message::Message;
use crate::store::{OnDisk, RecordBatch, Target};
use crate::time::{Delay, Ttl, UnixMillis};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One message for this queue.
#[derive(Clone, Debug)]
pub struct Publish {
    pub message: Message,
    /// Its delivery mode asks for the disk; a transient queue ignores it.
    pub persistent: bool,
    pub priority: u8,
    pub ttl: Ttl,
    /// How long it stays in a queue where messages wait for their time.
    pub delay: Option<Delay>,
    /// The publisher's own mark; the queue does not look at it.
    pub mark: u64,
}

/// What was handed over in one lock hold, for the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    pub messages: u32,
    /// Of these.
    pub redelivered: u32,
    /// What gets took, also those that had to wait.
    pub gotten: u32,
}

/// One queue's messages and consumers.
pub struct QueueCore {
    pub(super) id: QueueId,
    /// Persistent messages have records.
    pub(super) durable: bool,
    pub(super) behaviour: Arc<Behaviour>,
    /// In a timed queue, one more than the messages so far, or a little more than that.
    pub(super) next_seq: u64,
    /// In a timed queue, the highest seq that has left it when its time had come.
    pub(super) released: u64,
    pub(super) ready: Ready,
    pub(super) checkout: Checkout,
    /// Dead letters that are checked out with nobody.
    pub(super) dying: usize,
    /// Those whose content has to be read first: slot, and why they died. Only there if there are
    /// some.
    #[allow(clippy::box_collection, reason = "one word, since most queues never have any")]
    pub(super) absent_dead: Option<Box<BTreeMap<u64, (u32, Reason)>>>,
    /// Only there if there are some.
    pub(super) held_back: Option<Box<HeldBack>>,
    pub(super) returns: Returns,
    /// Only there while some message waits.
    pub(super) retries: Option<Box<Retries>>,
    pub(super) deadlines: Deadlines,
    /// Nothing leaves it, see `hold`.
    pub(super) on_hold: bool,
    /// Only there if it may not have any length.
    pub(super) limits: Option<Box<Limits>>,
    /// Only there if the queue looks at its messages' keys.
    pub(super) keyed: Option<Box<Keyed>>,
    pub(super) consumers: Consumers,
    /// Only there if some wait.
    #[allow(clippy::box_collection, reason = "one word, since most queues never have any")]
    pub(super) get_waiters: Option<Box<VecDeque<GetWaiter>>>,
    pub(super) paging: Arc<Paging>,
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
            behaviour: Behaviour::usual(),
            next_seq: 1,
            released: 0,
            ready: Ready::new(id.is_timed()),
            checkout: Checkout::default(),
            dying: 0,
            absent_dead: None,
            held_back: None,
            returns: Returns::default(),
            retries: None,
            deadlines: Deadlines::default(),
            on_hold: false,
            limits: None,
            keyed: None,
            consumers: Consumers::default(),
            get_waiters: None,
            paging: Paging::usual(),
            loading: false,
            delivered: Delivered::default(),
        }
    }

    /// The same queue with pages of another length. Call before it is used.
    #[must_use]
    pub fn with_paging(self, paging: impl Into<Arc<Paging>>) -> Self {
        Self { paging: paging.into(), ..self }
    }

    /// The same queue doing that. Call before it is used.
    #[must_use]
    pub fn with_behaviour(self, behaviour: Behaviour) -> Self {
        let consumers = if behaviour.single_active_consumer {
            Consumers::single_active()
        } else {
            Consumers::default()
        };
        let limits = Limits::of(&behaviour).map(Box::new);
        let keyed = Keyed::of(&behaviour);
        let (mut returns, mut ready) = (self.returns, self.ready);
        returns.obey(&behaviour);
        if behaviour.exact_expiry {
            ready.begin_dues();
        }
        Self { consumers, limits, keyed, returns, ready, behaviour: behaviour.shared(), ..self }
    }

    #[must_use]
    pub fn behaviour(&self) -> &Arc<Behaviour> {
        &self.behaviour
    }

    /// A policy has changed what the queue does. False if it does that already.
    pub fn set_behaviour(
        &mut self,
        behaviour: Behaviour,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let is_new = *self.behaviour != behaviour;
        if is_new {
            if self.behaviour.expires_ms != behaviour.expires_ms {
                self.touch(effects);
            }
            self.limits = Limits::of(&behaviour).map(Box::new);
            self.returns.obey(&behaviour);
            if self.behaviour.exact_expiry != behaviour.exact_expiry {
                self.switch_expiry(behaviour.exact_expiry, effects);
            }
            self.behaviour = behaviour.shared();
            self.retry_soon(effects);
            self.dispatch(records, effects);
        }
        is_new
    }

    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Puts a recovered message in its place; seqs must increase.
    pub fn restore(&mut self, OnDisk { seq, due, message }: OnDisk, redelivered: bool) {
        self.next_seq = self.next_seq.max(seq.age() + 1);
        self.deadlines.first = self.deadlines.first.min(due);
        self.ready.restore(Entry {
            seq: seq.0,
            body_len: body_len(&message),
            message: Some(message),
            due,
            persistent: true,
            redelivered,
            reserved: false,
        });
    }

    /// As `restore`, for the messages of a page.
    pub fn restore_page(&mut self, page: Page) {
        if self.id.is_timed() {
            let first_due = page.first().time();
            return self.ready.restore_page(page.with_due(first_due));
        }
        self.next_seq = self.next_seq.max(page.last().age() + 1);
        self.ready.restore_page(page);
    }

    /// None of the restored messages expires before.
    pub fn restore_due(&mut self, due: UnixMillis) {
        self.deadlines.first = self.deadlines.first.min(due);
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

    /// What clients are told and length limits look at: messages that are ready, or will be without
    /// anybody's doing.
    #[must_use]
    pub fn message_count(&self) -> usize {
        self.ready.len() + self.retrying_len()
    }

    #[must_use]
    pub fn unacked_len(&self) -> usize {
        self.checkout.len() - self.dying
    }

    /// What is out with consumers takes in memory: bodies, and a fixed sum for each.
    #[must_use]
    pub fn unacked_bytes(&self) -> u64 {
        self.checkout.resident_bytes()
    }

    /// What its messages take in memory: bodies, and a fixed sum for each of them.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let at_rest = self.ready.resident_bytes() + self.retrying_resident_bytes();
        at_rest + self.checkout.resident_bytes()
    }

    /// The part of that which the order of times takes, in an exact queue.
    #[must_use]
    pub fn dues_bytes(&self) -> u64 {
        self.ready.dues_bytes()
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
        self.publish_each(batch.drain(..), records, effects);
    }

    /// As `publish`, for messages of which other queues get copies too.
    pub fn publish_copies(
        &mut self,
        batch: &[Publish],
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        self.publish_each(batch.iter().cloned(), records, effects);
    }

    fn publish_each(
        &mut self,
        batch: impl Iterator<Item = Publish>,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        if self.keyed.is_some() {
            for publish in batch {
                let entry = self.accept(publish, records, effects);
                entry.into_iter().for_each(|entry| self.push(entry));
            }
            return self.dispatch(records, effects);
        }
        let hands_over = self.hands_over();
        for publish in batch {
            let Some(entry) = self.accept(publish, records, effects) else { continue };
            let is_next = hands_over && self.ready.is_clear();
            match is_next.then(|| self.next_consumer()).flatten() {
                Some((key, limited)) => self.hand_over(key, entry, limited, records),
                None => self.push(entry),
            }
        }
        self.dispatch(records, effects);
    }

    /// Makes an entry of a message and records it if it must last. `None` if it is refused.
    #[inline]
    fn accept(
        &mut self,
        publish: Publish,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Option<Entry> {
        if self.limits.is_some() && self.refuse(&publish, effects) {
            return None;
        }
        let entry = self.next_entry(publish, effects.now.unix);
        if entry.persistent
            && let Some(message) = &entry.message
        {
            let target = Target { queue: self.id, seq: Seq(entry.seq), due: entry.due };
            records.enqueue(message, &[target]);
        }
        Some(entry)
    }

    /// Takes a place for a message whose record names several queues. Nobody sees it until `show`.
    /// `None` if the queue refuses it.
    pub fn reserve(&mut self, publish: Publish, effects: &mut Effects) -> Option<Target> {
        if self.limits.is_some() && self.refuse(&publish, effects) {
            return None;
        }
        let entry = Entry { reserved: true, ..self.next_entry(publish, effects.now.unix) };
        let target = Target { queue: self.id, seq: Seq(entry.seq), due: entry.due };
        self.push(entry);
        Some(target)
    }

    /// Gives reserved places back.
    pub fn withdraw(&mut self, seqs: &[Seq], records: &mut RecordBatch, effects: &mut Effects) {
        seqs.iter().rev().for_each(|seq| self.ready.withdraw(seq.0));
        self.dispatch(records, effects);
    }

    fn push(&mut self, entry: Entry) {
        self.deadlines.first = self.deadlines.first.min(entry.due);
        if self.ready.mapped {
            self.push_mapped(entry);
        } else {
            self.ready.push(entry);
        }
    }

    /// The record of these reserved messages is in the journal.
    pub fn show(&mut self, seqs: &[Seq], records: &mut RecordBatch, effects: &mut Effects) {
        for seq in seqs {
            self.ready.show(seq.0);
        }
        if self.ready.dues.is_some() {
            self.ready.list_shown(seqs);
        }
        self.dispatch(records, effects);
    }

    fn next_entry(&mut self, publish: Publish, now: UnixMillis) -> Entry {
        let due = self.due(&publish, now);
        let seq = if self.id.is_timed() {
            self.next_timed_seq(due)
        } else {
            let max = self.behaviour.max_priority;
            let rank = max.map_or(0, |max| max.saturating_sub(publish.priority));
            Seq::ranked(rank, self.next_seq)
        };
        self.next_seq += 1;
        Entry {
            seq: seq.0,
            body_len: body_len(&publish.message),
            due,
            message: Some(publish.message),
            persistent: publish.persistent && self.durable,
            redelivered: false,
            reserved: false,
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
        let refused = spec.exclusive && (!alone || self.consumers.are_single_active());
        if refused || self.consumers.has_exclusive() {
            return None;
        }
        let key = self.consumers.insert(spec);
        self.dispatch(records, effects);
        Some(key)
    }

    /// Ends a consumer; what it has checked out stays so. Its link is told behind its deliveries.
    pub fn cancel(&mut self, key: ConsumerKey, records: &mut RecordBatch, effects: &mut Effects) {
        let reason = EndReason::Cancelled;
        self.consumers.remove(key, |token| Event::Ended { token, reason });
        if self.consumers.len() == 0 {
            effects.unused.push(self.id);
            self.touch(effects);
        } else if self.consumers.are_single_active() {
            self.dispatch(records, effects);
        }
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
        if let Some(keyed) = &mut self.keyed {
            keyed.wake(key);
        }
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

    pub(super) fn record_end(&self, entry: &Entry, records: &mut RecordBatch) {
        if entry.persistent {
            records.ack(self.id, [(Seq(entry.seq), Seq(entry.seq))]);
        }
    }

    /// Pushes what this lock hold has for the links.
    pub fn push_events(&mut self, effects: &mut Effects) {
        self.consumers.push_all(effects);
    }
}

pub(super) fn body_len(message: &Message) -> u32 {
    u32::try_from(message.body_len()).expect("a body is at most 512 MiB")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sink, get, spec, with};
    use super::super::{Outlet, Settlement};
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
        let consume =
            |core: &mut QueueCore, exclusive, records: &mut RecordBatch, effects: &mut Effects| {
                let spec = ConsumerSpec { exclusive, ..spec(&outlet, 1) };
                core.consume(spec, records, effects)
            };
        let first = consume(&mut core, true, records, effects).unwrap();
        assert_eq!(consume(&mut core, false, records, effects), None);
        core.cancel(first, records, effects);
        let second = consume(&mut core, false, records, effects).unwrap();
        assert_ne!(first, second);
        assert_eq!(consume(&mut core, true, records, effects), None);
        // A key of the past ends nobody.
        core.cancel(first, records, effects);
        assert!(consume(&mut core, false, records, effects).is_some());
        assert_eq!(core.consumers_len(), 2);
    }
}
