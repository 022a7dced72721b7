//! Messages that expire, and when a queue wants to be looked at next.
//!
//! A message's time is fixed when it comes. It expires at the head of the queue, or on its way to a
//! consumer (RabbitMQ): one that is due behind one that is not still counts, and waits, unless the
//! queue is exact, see `exact`. So a queue needs one deadline and no timer for any message.

use super::core::{Publish, QueueCore};
use super::deadletter::Reason;
use super::effects::Effects;
use super::ready::{Head, Ready};
use crate::store::RecordBatch;
use crate::time::{Millis, Now, UnixMillis};

/// What a queue knows about deadlines, its own and those of its messages.
#[derive(Debug)]
pub(super) struct Deadlines {
    /// No ready message expires before.
    pub(super) first: UnixMillis,
    /// When the queue asked to be looked at.
    armed: UnixMillis,
    /// Since when nobody uses it, or `UNKNOWN`. The system's clock may be set, and no queue must
    /// end of that.
    idle_since: Millis,
}

/// After a start nobody knows since when a queue is unused.
const UNKNOWN: Millis = Millis(u64::MAX);

impl Default for Deadlines {
    fn default() -> Self {
        let never = UnixMillis::NEVER;
        Self { first: never, armed: never, idle_since: UNKNOWN }
    }
}

impl QueueCore {
    /// Does what is due.
    pub fn tick(&mut self, records: &mut RecordBatch, effects: &mut Effects) {
        self.deadlines.armed = UnixMillis::NEVER;
        if self.deadlines.idle_since == UNKNOWN {
            self.deadlines.idle_since = effects.now.monotonic;
        }
        if self.is_idle(effects.now) {
            effects.idle.push(self.id);
        }
        self.retry_held_back(effects);
        if self.ready.dues.is_some() {
            self.expire_anywhere(records, effects);
        }
        self.dispatch(records, effects);
    }

    /// Somebody uses the queue, which puts off its end (`x-expires`).
    pub fn touch(&mut self, effects: &mut Effects) {
        self.deadlines.idle_since = effects.now.monotonic;
        self.arm(effects);
    }

    /// Nobody has used the queue for as long as it may be unused (`x-expires`).
    #[must_use]
    pub fn is_idle(&self, now: Now) -> bool {
        let is_known = self.deadlines.idle_since != UNKNOWN && !self.on_hold;
        is_known && self.idle_left(now) == Some(0)
    }

    /// Whether a message may expire or end its wait, or the queue itself may expire.
    pub(super) fn has_deadlines(&self) -> bool {
        self.deadlines.first != UnixMillis::NEVER
            || self.behaviour.expires_ms.is_some()
            || self.held_back.is_some()
            || self.retries.is_some()
    }

    /// Milliseconds for which the queue may stay unused; zero if a look has to find out.
    fn idle_left(&self, now: Now) -> Option<u64> {
        let ms = self.behaviour.expires_ms?;
        let since = self.deadlines.idle_since;
        if since == UNKNOWN {
            return Some(0);
        }
        (self.consumers.len() == 0).then(|| ms.saturating_sub(now.monotonic.since(since)))
    }

    /// When a message expires that comes now, or when its wait ends.
    pub(super) fn due(&self, publish: &Publish, now: UnixMillis) -> UnixMillis {
        if self.id.is_timed() {
            return publish.delay.map_or(now, |delay| delay.end(now));
        }
        let ttl_ms = publish.ttl.ms();
        now.plus(self.behaviour.message_ttl_ms.map_or(ttl_ms, |ms| ms.min(ttl_ms)))
    }

    /// Takes the messages away that have expired at the head. False if there are more than `budget`
    /// of them: the queue asks to be looked at again at once. False too if too many dead letters
    /// have not moved yet: then their move goes on here.
    #[inline]
    pub(super) fn expire(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        // A timed queue reads what lies on disk before it is due.
        let nothing_due = self.deadlines.first > effects.now.unix && !self.id.is_timed();
        nothing_due || self.expire_head(budget, records, effects)
    }

    /// As `expire`. Every message passes by there, few by here.
    #[cold]
    fn expire_head(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> bool {
        let now = effects.now.unix;
        if self.id.is_timed() {
            return self.release(budget, effects);
        }
        if self.on_hold {
            return true;
        }
        while self.ready.head_due() <= now {
            if self.mourns_enough() {
                return false;
            }
            if *budget == 0 {
                self.ask_again(effects);
                return false;
            }
            *budget -= 1;
            match self.ready.head() {
                Head::Nothing => break,
                Head::Evicted(seq) => {
                    // An exact queue knows which messages of a page are due, and asks for these.
                    if self.ready.dues.is_none() {
                        self.ask_to_load(seq, effects);
                    }
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

    /// What a get finds behind all that has expired before it. It looks past invisible messages.
    /// `None` if more than `budget` of them have expired.
    pub(super) fn find_for_get(
        &mut self,
        budget: &mut usize,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) -> Option<Head> {
        if self.keyed.is_some() {
            return self.find_known_for_get(budget, records, effects);
        }
        loop {
            if !self.expire(budget, records, effects) {
                return None;
            }
            if self.is_full_of_retries() {
                return Some(Head::Nothing);
            }
            let found = self.ready.first_visible();
            let (first, now) = (self.deadlines.first, effects.now.unix);
            let may_be_due = first <= now && matches!(found, Head::Resident);
            if !may_be_due || self.ready.visible_due() > now {
                return Some(found);
            }
            if *budget == 0 {
                self.ask_again(effects);
                return None;
            }
            *budget -= 1;
            if let Some(entry) = self.ready.pop_visible() {
                self.bury(entry, Reason::Expired, records, effects);
            }
        }
    }

    /// Asks to be looked at when something becomes due, unless that is known.
    #[inline]
    pub(super) fn arm(&mut self, effects: &mut Effects) {
        if !self.has_deadlines() {
            return;
        }
        let due = self.next_due(effects.now).max(effects.now.unix);
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

    fn next_due(&self, now: Now) -> UnixMillis {
        if self.id.is_timed() {
            return self.next_release().min(self.held_back_due());
        }
        if self.on_hold {
            return self.held_back_due().min(self.next_retry());
        }
        let first = match self.ready.head() {
            _ if self.ready.dues.is_some() => self.next_due_anywhere(now.unix),
            // Whoever brings it back will look.
            Head::Evicted(_) if self.loading => UnixMillis::NEVER,
            _ if self.mourns_enough() => UnixMillis::NEVER,
            _ => self.ready.head_due(),
        };
        let known = self.keyed.as_ref().filter(|_| !self.mourns_enough());
        let known = known.map_or(UnixMillis::NEVER, |keyed| keyed.first_due());
        let first = first.min(known).min(self.held_back_due()).min(self.next_retry());
        first.min(self.idle_left(now).map_or(UnixMillis::NEVER, |ms| now.unix.plus(ms)))
    }
}

impl Ready {
    /// When the head expires; of a page, when its first message may.
    pub(super) fn head_due(&self) -> UnixMillis {
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
