//! How deliveries end and where dead letters go from there, many at a time but never holding the
//! lock for long.

use super::{Gone, Queue, Turn};
use crate::id::{Lsn, Seq};
use crate::limits::WORK_PER_LOCK_MAX;
use crate::queue::core::QueueCore;
use crate::queue::deadletter::Reason;
use crate::queue::held_back::Obstacle;
use crate::queue::settle::Settlement;

impl Queue {
    /// Ends deliveries, many at a time but never holding the lock for long.
    ///
    /// # Errors
    /// `Gone`: they ended with the queue.
    pub fn settle(
        &self,
        deliveries: &[(u32, Seq)],
        how: Settlement,
        turn: &mut Turn<'_>,
    ) -> Result<Lsn, Gone> {
        let mut last = Lsn(0);
        for part in deliveries.chunks(WORK_PER_LOCK_MAX) {
            let (lsn, ()) = self.run(turn, |core, turn| {
                if how != Settlement::Ack {
                    // What dies of it leaves a record when it moves, and is redelivered until then.
                    self.mark_changed();
                }
                core.settle(part, how, turn.records, turn.effects);
            })?;
            last = last.max(lsn);
        }
        self.count_settled(deliveries, how);
        Ok(last)
    }

    /// As `QueueCore::recorded`.
    #[must_use]
    pub fn recorded(&self, deliveries: &[(u32, Seq)], how: Settlement) -> Vec<Seq> {
        self.look(|core| core.recorded(deliveries, how))
    }

    /// As `settle`, for deliveries whose end stands in a transaction's record.
    ///
    /// # Errors
    /// `Gone`.
    pub fn settle_recorded(
        &self,
        deliveries: &[(u32, Seq)],
        how: Settlement,
        turn: &mut Turn<'_>,
    ) -> Result<(), Gone> {
        for part in deliveries.chunks(WORK_PER_LOCK_MAX) {
            self.run(turn, |core, turn| {
                self.mark_changed();
                core.settle_recorded(part, how, turn.records, turn.effects);
            })?;
        }
        self.count_settled(deliveries, how);
        Ok(())
    }

    fn count_settled(&self, deliveries: &[(u32, Seq)], how: Settlement) {
        if how == Settlement::Ack {
            self.counters.acked.add(deliveries.len() as u64);
        }
    }

    /// As `QueueCore::record_dying`. Nothing if the queue is gone.
    pub fn record_dying(&self, turn: &mut Turn<'_>) {
        let _ = self.run(turn, |core, turn| core.record_dying(turn.records));
    }

    /// As `QueueCore::hold_back`.
    ///
    /// # Errors
    /// `Gone`: they ended with the queue.
    pub fn hold_back(
        &self,
        letters: &[(u32, Seq, Reason)],
        obstacle: Obstacle,
        turn: &mut Turn<'_>,
    ) -> Result<bool, Gone> {
        let hold = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.hold_back(letters, obstacle, turn.effects)
        };
        self.run(turn, hold).map(|(_, is_news)| is_news)
    }

    /// As `QueueCore::buried`.
    ///
    /// # Errors
    /// `Gone`: they ended with the queue.
    pub fn buried(
        &self,
        places: &[(u32, Seq)],
        record: bool,
        turn: &mut Turn<'_>,
    ) -> Result<Lsn, Gone> {
        let buried = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            self.mark_changed();
            core.buried(places, record, turn.records, turn.effects);
        };
        self.run(turn, buried).map(|(lsn, ())| lsn)
    }
}
