//! Messages that failed and wait for their next attempt, where a queue delays it
//! (`x-retry-delay-min` and `x-retry-delay-max`): how long they wait, and their way back.
//!
//! Who waits is neither ready nor out. Its time lies in its RETURNED record, so a restart ends no
//! wait. A queue in which nobody waits has none of this. What is counted stands in `returns`.

use super::core::QueueCore;
use super::page_out::Freed;
use super::ready::Entry;
use super::runs::runs;
use crate::id::{QueueId, Seq};
use crate::limits::{MESSAGE_OVERHEAD_BYTES, RETRYING_MAX};
use crate::store::CameBack;
use crate::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
struct Retrying {
    entry: Entry,
    until: UnixMillis,
}

/// The messages of a queue that wait.
#[derive(Debug, Default)]
pub(super) struct Retries {
    waiting: BTreeMap<u64, Retrying>,
    by_time: BTreeSet<(UnixMillis, u64)>,
    /// Of bodies, in memory or not.
    bytes: u64,
    /// Those with content in memory, and the bytes of their bodies.
    resident: usize,
    resident_body_bytes: u64,
}

impl Retries {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What the messages take in memory.
    fn resident_bytes(&self) -> u64 {
        self.resident_body_bytes + self.resident as u64 * MESSAGE_OVERHEAD_BYTES
    }

    fn insert(&mut self, entry: Entry, until: UnixMillis) {
        self.bytes += u64::from(entry.body_len);
        if entry.message.is_some() {
            self.resident += 1;
            self.resident_body_bytes += u64::from(entry.body_len);
        }
        self.by_time.insert((until, entry.seq));
        self.waiting.insert(entry.seq, Retrying { entry, until });
    }

    fn remove(&mut self, seq: u64) -> Option<Entry> {
        let Retrying { entry, until } = self.waiting.remove(&seq)?;
        self.by_time.remove(&(until, seq));
        self.bytes -= u64::from(entry.body_len);
        if entry.message.is_some() {
            self.resident -= 1;
            self.resident_body_bytes -= u64::from(entry.body_len);
        }
        Some(entry)
    }

    /// Takes out the one that is due first, if it is due by `now`.
    fn pop_due(&mut self, now: UnixMillis) -> Option<Entry> {
        let (_, seq) = self.by_time.first().copied().filter(|(until, _)| *until <= now)?;
        self.remove(seq)
    }

    /// By seq, from this one on.
    pub(super) fn entries_from(&self, seq: u64) -> impl Iterator<Item = &Entry> {
        self.waiting.range(seq..).map(|(_, waiting)| &waiting.entry)
    }

    /// Some message has no content in memory.
    pub(super) fn has_absent(&self) -> bool {
        self.resident < self.waiting.len()
    }

    /// What waits as runs of seqs. `None` if there may be more than `max`.
    pub(super) fn runs(&self, max: usize) -> Option<Vec<(Seq, Seq)>> {
        (self.len() <= max).then(|| runs(self.waiting.keys().copied()))
    }

    /// Drops contents that `stored` holds, from seq `from` on; says where to go on.
    pub(super) fn evict(
        &mut self,
        stored: &[(Seq, Seq)],
        from: u64,
        max: usize,
        freed: &mut Freed,
    ) -> Option<u64> {
        let waiting = self.waiting.range_mut(from..);
        let entries = waiting.map(|(seq, waiting)| (seq, &mut waiting.entry));
        freed.sweep(entries, stored, max, |body_len| {
            self.resident -= 1;
            self.resident_body_bytes -= body_len;
        })
    }
}

/// Until when a message waits that has come back `times` times, once within `delay_ms`: the first
/// time at least, and at most. Each time it is twice as long, with a fifth more or less, so that
/// what failed together is not tried together.
pub(super) fn wait_until(
    (queue, seq): (QueueId, u64),
    times: u32,
    (min, max): (u64, u64),
    now: UnixMillis,
) -> UnixMillis {
    let doublings = times.saturating_sub(1).min(u64::BITS - 1);
    let mean = min.saturating_mul(1 << doublings).min(max);
    let low = (mean - mean / 5).max(min);
    let high = mean.saturating_add(mean / 5).min(max);
    // The state of a queue is decided by its verbs alone, so chance is made of what it knows.
    let chance = mixed(mixed(mixed(queue.0) ^ seq) ^ u64::from(times));
    now.plus(low + chance % (high - low + 1))
}

/// The finalizer of splitmix64: neighbours end up far from each other.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl QueueCore {
    /// Messages that wait for their next attempt.
    #[must_use]
    pub fn retrying_len(&self) -> usize {
        self.retries.as_ref().map_or(0, |retries| retries.len())
    }

    /// Body bytes of them.
    #[must_use]
    pub fn retrying_bytes(&self) -> u64 {
        self.retries.as_ref().map_or(0, |retries| retries.bytes)
    }

    pub(super) fn retrying_resident_bytes(&self) -> u64 {
        self.retries.as_ref().map_or(0, |retries| retries.resident_bytes())
    }

    /// Which messages wait, and until when, by seq.
    pub fn retrying(&self) -> impl Iterator<Item = (Seq, UnixMillis)> {
        self.retrying_from(0)
    }

    /// Those from this seq on.
    pub(super) fn retrying_from(&self, seq: u64) -> impl Iterator<Item = (Seq, UnixMillis)> {
        let waiting = self.retries.iter().flat_map(move |retries| retries.waiting.range(seq..));
        waiting.map(|(seq, waiting)| (Seq(*seq), waiting.until))
    }

    /// So many wait that nothing is handed over which might come to wait too.
    #[inline]
    pub(super) fn is_full_of_retries(&self) -> bool {
        self.retries.as_ref().is_some_and(|retries| retries.len() >= RETRYING_MAX)
    }

    /// A message that failed waits until then.
    pub(super) fn put_off(&mut self, mut entry: Entry, until: UnixMillis) {
        entry.redelivered = true;
        self.retries.get_or_insert_default().insert(entry, until);
    }

    /// When the first of those that wait becomes ready.
    pub(super) fn next_retry(&self) -> UnixMillis {
        let first = self.retries.as_ref().and_then(|retries| retries.by_time.first());
        match first {
            // A policy has taken the delay away.
            Some(_) if self.behaviour.retry_delay_ms.is_none() => CameBack::AT_ONCE,
            Some((until, _)) => *until,
            None => UnixMillis::NEVER,
        }
    }

    /// Brings those whose time has come to their old places, as many as `budget` allows.
    #[cold]
    pub(super) fn end_waits(&mut self, budget: &mut usize, now: UnixMillis) {
        let now = if self.next_retry() == CameBack::AT_ONCE { UnixMillis::NEVER } else { now };
        while *budget > 0
            && let Some(retries) = &mut self.retries
            && let Some(entry) = retries.pop_due(now)
        {
            *budget -= 1;
            self.take_back(entry);
        }
        self.retries.take_if(|retries| retries.len() == 0);
    }

    /// Takes out the oldest that waits, if its place is before this one.
    pub(super) fn pop_retrying_before(&mut self, seq: u64) -> Option<Entry> {
        let retries = self.retries.as_mut()?;
        let first = retries.waiting.first_key_value().map(|(first, _)| *first);
        let entry = retries.remove(first.filter(|first| *first < seq)?);
        self.retries.take_if(|retries| retries.len() == 0);
        entry
    }

    /// A recovered message waits until then, be that past or not. Its content lies on disk; `due`
    /// says before when it does not expire.
    pub fn restore_retrying(
        &mut self,
        (seq, body_len): (Seq, u32),
        redelivered: bool,
        due: UnixMillis,
        until: UnixMillis,
    ) {
        self.next_seq = self.next_seq.max(seq.age() + 1);
        let (message, persistent, reserved) = (None, true, false);
        let entry = Entry { seq: seq.0, message, body_len, due, persistent, redelivered, reserved };
        self.retries.get_or_insert_default().insert(entry, until);
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
