//! How deliveries end: acknowledged, given back or rejected.

use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::Effects;
use super::ready::Entry;
use super::returns::ReturnedRun;
use super::runs::Run;
use crate::id::Seq;
use crate::store::RecordBatch;

/// How a delivery ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    Ack,
    /// Back to its old place, marked redelivered.
    Requeue,
    /// Given back as failed: as `Requeue`, but after the queue's retry delay if it has one.
    Retry,
    /// Rejected without requeue.
    Discard,
}

impl Settlement {
    /// Whether the message is not at its end.
    #[must_use]
    pub fn gives_back(self) -> bool {
        matches!(self, Self::Requeue | Self::Retry)
    }
}

impl QueueCore {
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
        self.settle_with(deliveries, how, how.gives_back(), records, effects);
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
        let (mut run, mut returned) = (Run::default(), ReturnedRun::default());
        for &(slot, seq) in deliveries {
            let Some(out) = self.checkout.take(slot, seq.0) else {
                continue;
            };
            if let Some(owner) = out.owner {
                self.consumers.settled(owner);
            }
            let entry = out.entry;
            self.note_settled(entry.seq, out.owner);
            match how {
                Settlement::Discard if self.behaviour.dead_letter.is_some() => {
                    self.bury(entry, Reason::Rejected, records, effects);
                }
                Settlement::Ack | Settlement::Discard => {
                    if record && entry.persistent {
                        run.extend(entry.seq, |run| records.ack(self.id, [run]));
                    }
                    self.returns.forget(entry.seq);
                    effects.ended.extend(entry.message);
                }
                Settlement::Requeue | Settlement::Retry if self.returns.are_counted() => {
                    let waits = how == Settlement::Retry;
                    self.take_back_counted(entry, waits, &mut returned, records, effects);
                }
                Settlement::Requeue | Settlement::Retry => {
                    if entry.persistent && !entry.redelivered {
                        run.extend(entry.seq, |run| records.requeue(self.id, [run]));
                    }
                    self.take_back(entry);
                }
            }
        }
        returned.finish(self.id, records);
        run.finish(|run| match how {
            Settlement::Requeue | Settlement::Retry => records.requeue(self.id, [run]),
            Settlement::Ack | Settlement::Discard => records.ack(self.id, [run]),
        });
        self.end_settled(how);
    }

    /// To its old place, redelivered from now on.
    pub(super) fn take_back(&mut self, mut entry: Entry) {
        entry.redelivered = true;
        self.deadlines.first = self.deadlines.first.min(entry.due);
        self.ready.put_back(entry);
    }

    /// Which of these deliveries the journal knows, so that their end belongs in a record. What
    /// goes on as a dead letter has not ended.
    #[must_use]
    pub fn recorded(&self, deliveries: &[(u32, Seq)], how: Settlement) -> Vec<Seq> {
        if how == Settlement::Discard && self.behaviour.dead_letter.is_some() {
            return Vec::new();
        }
        let persistent = |slot: u32, seq: Seq| {
            self.checkout.get(slot, seq.0).is_some_and(|out| out.entry.persistent && !out.dying)
        };
        deliveries.iter().filter(|(slot, seq)| persistent(*slot, *seq)).map(|d| d.1).collect()
    }
}
