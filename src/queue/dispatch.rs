//! The only place that joins a ready message with a ready consumer.

use super::checkout::CheckedOut;
use super::consumers::ConsumerKey;
use super::core::QueueCore;
use super::effects::Effects;
use super::outlet::{Delivery, Event};
use super::ready::{Entry, Head};
use crate::id::{ConsumerToken, Seq};
use crate::store::RecordBatch;

impl QueueCore {
    /// Hands over what can be handed over. Stops at a message that is not in memory, and asks for
    /// it.
    pub(super) fn dispatch(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        if self.has_get_waiters() {
            self.serve_gets(records, effects);
        }
        loop {
            match self.ready.head() {
                Head::Nothing => return,
                Head::Evicted(seq) => {
                    if self.consumers.next().is_some() {
                        self.ask_to_load(seq, effects);
                    }
                    return;
                }
                Head::Resident => {}
            }
            let Some((key, limited)) = self.next_consumer() else {
                return;
            };
            let Some(entry) = self.ready.pop() else {
                return;
            };
            self.hand_over(key, entry, limited, records);
        }
    }

    /// A consumer that can take one message now, and whether the channel's limit paid for it.
    pub(super) fn next_consumer(&mut self) -> Option<(ConsumerKey, bool)> {
        loop {
            let key = self.consumers.next()?;
            let consumer = self.consumers.get_mut(key)?;
            let spec = &consumer.spec;
            let taken = if spec.no_ack { None } else { spec.limiter.take(spec.token) };
            match taken {
                Some(false) => self.consumers.park(key),
                taken => return Some((key, taken == Some(true))),
            }
        }
    }

    /// Gives one message to the consumer that `next_consumer` named.
    pub(super) fn hand_over(
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
        self.delivered.redelivered += u64::from(entry.redelivered);
        if no_ack {
            self.record_end(&entry, records);
        }
        let owner = if no_ack { None } else { Some(Some(key)) };
        if let Some(delivery) = self.check_out(entry, token, owner, limited) {
            self.consumers.tell(key, Event::Delivery(delivery));
        }
        self.consumers.rotate(key);
    }

    /// Makes a delivery of a resident message. `owner` is `None` if nothing is to be settled.
    #[allow(clippy::option_option, reason = "settled or not, and if so by a consumer or a get")]
    pub(super) fn check_out(
        &mut self,
        entry: Entry,
        token: ConsumerToken,
        owner: Option<Option<ConsumerKey>>,
        limited: bool,
    ) -> Option<Delivery> {
        let (seq, redelivered) = (Seq(entry.seq), entry.redelivered);
        let (message, slot) = match owner {
            None => (entry.message?, Delivery::NO_SLOT),
            Some(owner) => {
                let message = entry.message.clone()?;
                (message, self.checkout.insert(CheckedOut { entry, owner }))
            }
        };
        Some(Delivery { token, seq, message, slot, redelivered, limited })
    }
}
