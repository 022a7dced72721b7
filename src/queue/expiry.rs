//! Messages that expire, and when a queue wants to be looked at next.
//!
//! A message's time is fixed when it comes. It expires at the head of the queue, or on its way to a
//! consumer (RabbitMQ): one that is due behind one that is not still counts, and waits. So a queue
//! needs one deadline, that of its head, and no timer for any message.

use super::core::{Publish, QueueCore};
use super::deadletter::Reason;
use super::effects::Effects;
use super::ready::{Head, Ready};
use crate::store::RecordBatch;
use crate::time::UnixMillis;

/// What a queue knows about deadlines, its own and those of its messages.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// No ready message expires before.
    pub(super) first: UnixMillis,
    /// When the queue asked to be looked at.
    armed: UnixMillis,
    /// Since when nobody uses it; zero if that is not known, as after a start.
    idle_since: UnixMillis,
}

impl Default for Deadlines {
    fn default() -> Self {
        let never = UnixMillis::NEVER;
        Self { first: never, armed: never, idle_since: UnixMillis(0) }
    }
}

impl QueueCore {
    /// Does what is due.
    pub fn tick(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        self.deadlines.armed = UnixMillis::NEVER;
        if self.deadlines.idle_since == UnixMillis(0) {
            self.deadlines.idle_since = effects.now.unix;
        }
        if self.is_idle(effects.now.unix) {
            effects.idle.push(self.id);
        }
        self.dispatch(records, effects);
    }

    /// Somebody uses the queue, which puts off its end (`x-expires`).
    pub fn touch(&mut self, effects: &mut Effects) {
        self.deadlines.idle_since = effects.now.unix;
        self.arm(effects);
    }

    /// Nobody has used the queue for as long as it may be unused (`x-expires`).
    #[must_use]
    pub fn is_idle(&self, now: UnixMillis) -> bool {
        self.deadlines.idle_since > UnixMillis(0) && self.idle_from() <= now
    }

    /// Whether a message may expire, or the queue itself.
    pub(super) fn has_deadlines(&self) -> bool {
        self.deadlines.first != UnixMillis::NEVER || self.behaviour.expires_ms.is_some()
    }

    fn idle_from(&self) -> UnixMillis {
        match self.behaviour.expires_ms {
            Some(_) if self.deadlines.idle_since == UnixMillis(0) => UnixMillis(0),
            Some(ms) if self.consumers.len() == 0 => self.deadlines.idle_since.plus(ms),
            _ => UnixMillis::NEVER,
        }
    }

    /// When a message expires that comes now.
    pub(super) fn due(&self, publish: &Publish, now: UnixMillis) -> UnixMillis {
        now.plus(self.behaviour.message_ttl_ms.map_or(publish.ttl_ms, |ms| ms.min(publish.ttl_ms)))
    }

    /// Takes the messages away that have expired at the head. False if there are more than `budget`
    /// of them: the queue asks to be looked at again at once.
    pub(super) fn expire(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let now = effects.now.unix;
        if self.deadlines.first > now {
            return true;
        }
        while self.ready.head_due() <= now {
            if *budget == 0 {
                self.ask_again(effects);
                return false;
            }
            *budget -= 1;
            match self.ready.head() {
                Head::Nothing => break,
                Head::Evicted(seq) => {
                    self.ask_to_load(seq, effects);
                    return true;
                }
                Head::Resident => {
                    let Some(entry) = self.ready.pop() else { break };
                    self.bury(entry, Reason::Expired, records, effects);
                }
            }
        }
        if self.ready.is_clear() {
            self.deadlines.first = UnixMillis::NEVER;
        }
        true
    }

    /// Asks to be looked at when something becomes due, unless that is known.
    #[inline]
    pub(super) fn arm(&mut self, effects: &mut Effects) {
        if !self.has_deadlines() {
            return;
        }
        let due = self.next_due().max(effects.now.unix);
        if due < self.deadlines.armed {
            self.deadlines.armed = due;
            effects.deadlines.push((self.id, due));
        }
    }

    /// There is more to do than one lock hold may.
    pub(super) fn ask_again(&mut self, effects: &mut Effects) {
        self.deadlines.armed = effects.now.unix;
        effects.deadlines.push((self.id, effects.now.unix));
    }

    fn next_due(&self) -> UnixMillis {
        let head = match self.ready.head() {
            // Whoever brings it back will look.
            Head::Evicted(_) if self.loading => UnixMillis::NEVER,
            _ => self.ready.head_due(),
        };
        head.min(self.idle_from())
    }
}

impl Ready {
    /// When the head expires; of a page, when its first message may.
    fn head_due(&self) -> UnixMillis {
        let never = UnixMillis::NEVER;
        let returned = self.returned.first_key_value().map(|(_, entry)| entry);
        let (first_seq, due) = match (self.fifo.front(), returned) {
            (Some(first), Some(back)) if back.seq < first.seq => {
                return if back.reserved { never } else { back.due };
            }
            (Some(first), _) => return if first.reserved { never } else { first.due },
            (None, Some(back)) => (back.seq, if back.reserved { never } else { back.due }),
            (None, None) => (u64::MAX, never),
        };
        match self.middle.as_ref().and_then(|middle| middle.pages.front()) {
            Some(page) if page.first().0 < first_seq => page.due(),
            _ => due,
        }
    }
}
