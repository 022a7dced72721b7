//! What is done to single messages that wait for their time, in the hidden queue of a delayed
//! exchange.

use super::{Gone, Queue, Turn};
use crate::id::{Lsn, Seq};
use crate::queue::core::QueueCore;
use crate::queue::delay::Waiting;
use crate::time::UnixMillis;

impl Queue {
    /// As `QueueCore::waiting`.
    #[must_use]
    pub fn waiting(&self, from: Seq, max: usize) -> Vec<Waiting> {
        self.look(|core| core.waiting(from, max))
    }

    /// As `QueueCore::cancel_waiting`; says what to wait for before saying so.
    ///
    /// # Errors
    /// `Gone`.
    pub fn cancel_waiting(&self, seq: Seq, turn: &mut Turn<'_>) -> Result<(Lsn, bool), Gone> {
        self.run(turn, |core, turn| core.cancel_waiting(seq, turn.records, turn.effects))
    }

    /// As `QueueCore::reschedule_waiting`.
    ///
    /// # Errors
    /// `Gone`.
    pub fn reschedule_waiting(
        &self,
        seq: Seq,
        until: UnixMillis,
        turn: &mut Turn<'_>,
    ) -> Result<bool, Gone> {
        let reschedule = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            core.reschedule_waiting(seq, until, turn.records, turn.effects)
        };
        self.run(turn, reschedule).map(|(_, found)| found)
    }
}
