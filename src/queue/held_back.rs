//! Dead letters that no queue takes, of a queue that wants them to arrive (`at-least-once`): they
//! stay where they died and are tried again, some at a time, until somebody takes them.

use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::Effects;
use crate::id::Seq;
use crate::limits::{DYING_MAX, HELD_BACK_PER_TRY, HELD_BACK_RETRY_MS, HELD_BACK_RETRY_SOON_MS};
use crate::time::UnixMillis;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct HeldBack {
    /// Slot and reason by seq.
    letters: BTreeMap<u64, (u32, Reason)>,
    /// Those from here on are tried next.
    from: u64,
    retry_at: UnixMillis,
}

impl QueueCore {
    /// No queue takes these dead letters now. What is none any more is passed over. True if there
    /// were none of them before.
    pub fn hold_back(&mut self, letters: &[(u32, Seq, Reason)], effects: &mut Effects) -> bool {
        let retry_at = effects.now.unix.plus(HELD_BACK_RETRY_MS);
        let checkout = &self.checkout;
        let dying = letters.iter().filter(|(slot, seq, _)| checkout.is_dying(*slot, seq.0));
        let is_first = self.held_back.is_none();
        let held = self.held_back.get_or_insert_with(|| {
            Box::new(HeldBack { letters: BTreeMap::new(), from: 0, retry_at })
        });
        held.letters.extend(dying.map(|&(slot, seq, reason)| (seq.0, (slot, reason))));
        self.arm(effects);
        is_first
    }

    /// When some of them are tried again.
    pub(super) fn held_back_due(&self) -> UnixMillis {
        self.held_back.as_ref().map_or(UnixMillis::NEVER, |held| held.retry_at)
    }

    /// More may not die, and most of what did waits for somebody who takes it.
    pub(super) fn is_stuck(&self) -> bool {
        let held = self.held_back.as_ref().map_or(0, |held| held.letters.len());
        self.mourns_enough() && held > DYING_MAX / 2
    }

    /// Somebody takes dead letters again.
    pub(super) fn retry_soon(&mut self, effects: &mut Effects) {
        if let Some(held) = &mut self.held_back {
            held.retry_at = held.retry_at.min(effects.now.unix.plus(HELD_BACK_RETRY_SOON_MS));
            self.arm(effects);
        }
    }

    /// Sends some of them on their way again if it is time. Those whose content is on disk are
    /// read first.
    pub(super) fn retry_held_back(&mut self, effects: &mut Effects) {
        let now = effects.now.unix;
        let Some(mut held) = self.held_back.take_if(|held| held.retry_at <= now) else { return };
        let next = held.letters.range(held.from..).take(HELD_BACK_PER_TRY);
        let tried: Vec<_> = next.map(|(seq, letter)| (*seq, *letter)).collect();
        held.from = if tried.len() < HELD_BACK_PER_TRY { 0 } else { tried[tried.len() - 1].0 + 1 };
        held.retry_at = now.plus(HELD_BACK_RETRY_MS);
        for (seq, (slot, reason)) in tried {
            held.letters.remove(&seq);
            self.send_again(slot, seq, reason, effects);
        }
        self.held_back = Some(held).filter(|held| !held.letters.is_empty());
    }
}
