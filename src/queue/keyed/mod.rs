//! Queues that look at a header of their messages: `x-group-key` delivers the messages of one value
//! in order, to one consumer at a time; `x-fair-key` lets the values take turns.
//!
//! ```text
//!    returned, by seq   <=  frontier  <   fifo, pages, tail (and what stayed beside the pages)
//!    known to lanes                       as in any queue: keys unknown, may leave memory
//! ```
//! New and restored messages join as in any queue. While somebody takes messages, they become known
//! in the order of their seqs, so that no known message has an older one of its key among the
//! others. A queue with groups knows a window of its first messages, and more while a consumer
//! finds nothing that it may take; one with turns must know them all. Known messages are entries in
//! the sorted map, whose contents may leave memory one by one: about 150 bytes each beside a body.

mod dispatch;
mod key;
mod lanes;
mod learn;
mod line;
mod seq_map;
mod slots;

use self::lanes::{Lanes, Sharing};
use super::consumers::ConsumerKey;
use super::core::QueueCore;
use super::load::Answer;
use super::ready::Entry;
use super::settings::Behaviour;
use super::settle::Settlement;
use crate::name::Name;
use crate::time::UnixMillis;
use std::collections::BTreeSet;

/// Settled deliveries for which memory is kept.
const KEPT_MAX: usize = 1024;

/// What a queue with keys has beside its messages.
#[derive(Debug)]
pub(super) struct Keyed {
    header: Name,
    sharing: Sharing,
    lanes: Lanes,
    /// Every message from here back is known to the lanes, if it has not ended; none behind is.
    frontier: u64,
    /// Known messages that wait and expire.
    dues: BTreeSet<(UnixMillis, u64)>,
    /// Consumers that wait for what they hold to be loaded.
    stalled: BTreeSet<ConsumerKey>,
    /// What a settlement has ended so far, in one lock hold.
    settled: Vec<Settled>,
    /// The key of the message that is looked at, used again.
    key: Vec<u8>,
}

/// What a purge leaves to be freed without the lock.
#[derive(Debug)]
pub(super) struct Forgotten {
    _lanes: Lanes,
    _dues: BTreeSet<(UnixMillis, u64)>,
}

/// A delivery that was settled.
#[derive(Debug)]
struct Settled {
    seq: u64,
    owner: Option<ConsumerKey>,
}

impl Keyed {
    /// `None` if a queue that does this looks at no key. Order by priority goes before, and by
    /// group before turns: no declare lets both through.
    pub(super) fn of(behaviour: &Behaviour) -> Option<Box<Self>> {
        let group = behaviour.group_key.as_ref().map(|header| (header, Sharing::Locking));
        let fair = behaviour.fair_key.as_ref().map(|header| (header, Sharing::Turns));
        let (header, sharing) = group.or(fair).filter(|_| behaviour.max_priority.is_none())?;
        Some(Box::new(Self {
            header: header.clone(),
            sharing,
            lanes: Lanes::new(sharing),
            frontier: 0,
            dues: BTreeSet::new(),
            stalled: BTreeSet::new(),
            settled: Vec::new(),
            key: Vec::new(),
        }))
    }

    /// A message in the sorted map, behind all others that were, is known from now on.
    fn learn(&mut self, entry: &Entry) {
        let Some(message) = &entry.message else { return };
        let has_key = key::write_key(message, &self.header, &mut self.key);
        if !has_key && self.sharing == Sharing::Turns {
            key::write_empty(&mut self.key);
        }
        let keyless = !has_key && self.sharing == Sharing::Locking;
        self.lanes.insert(entry.seq, (!keyless).then_some(self.key.as_slice()));
        self.frontier = entry.seq;
        self.note_due(entry);
    }

    fn note_due(&mut self, entry: &Entry) {
        if entry.due != UnixMillis::NEVER {
            self.dues.insert((entry.due, entry.seq));
        }
    }

    fn forget_due(&mut self, entry: &Entry) {
        if entry.due != UnixMillis::NEVER {
            self.dues.remove(&(entry.due, entry.seq));
        }
    }

    /// A message left the queue without having been taken.
    pub(super) fn forget(&mut self, entry: &Entry) {
        self.lanes.forget(entry.seq);
        self.forget_due(entry);
    }

    /// What is known, up to here, has no place in a page.
    pub(super) fn frontier(&self) -> u64 {
        self.frontier
    }

    /// A known message that has expired.
    fn due_by(&self, now: UnixMillis) -> Option<u64> {
        self.dues.first().filter(|(due, _)| *due <= now).map(|(_, seq)| *seq)
    }

    /// When the first of the known messages expires.
    pub(super) fn first_due(&self) -> UnixMillis {
        self.dues.first().map_or(UnixMillis::NEVER, |(due, _)| *due)
    }

    /// Something was loaded.
    fn retry_stalled(&mut self) {
        for consumer in std::mem::take(&mut self.stalled) {
            self.lanes.wake(consumer);
        }
    }

    /// A consumer got credit.
    pub(super) fn wake(&mut self, consumer: ConsumerKey) {
        self.lanes.wake(consumer);
    }
}

impl QueueCore {
    /// This delivery is settled. Its lane hears of it when all of this settlement are.
    #[inline]
    pub(super) fn note_settled(&mut self, seq: u64, owner: Option<ConsumerKey>) {
        if let Some(keyed) = &mut self.keyed {
            keyed.settled.push(Settled { seq, owner });
        }
    }

    /// The deliveries that were noted: their messages wait again if that is what `how` means for
    /// them, or have ended.
    pub(super) fn end_settled(&mut self, how: Settlement) {
        let Some(keyed) = &mut self.keyed else { return };
        self.ready.put_aside_through(keyed.frontier);
        let mut woken = None;
        for Settled { seq, owner } in keyed.settled.drain(..) {
            let back = if how.gives_back() { self.ready.returned.get(&seq) } else { None };
            if let Some(entry) = back.filter(|entry| entry.due != UnixMillis::NEVER) {
                keyed.dues.insert((entry.due, seq));
            }
            keyed.lanes.settle(seq, back.is_some());
            if owner != woken {
                woken.into_iter().for_each(|owner| keyed.lanes.wake(owner));
                woken = owner;
            }
        }
        woken.into_iter().for_each(|owner| keyed.lanes.wake(owner));
        if keyed.settled.capacity() > KEPT_MAX {
            keyed.settled = Vec::new();
        }
    }

    /// What was ready is gone.
    pub(super) fn forget_keys(&mut self) -> Option<Forgotten> {
        let keyed = self.keyed.as_mut()?;
        let out = self.checkout.entries().map(|entry| entry.seq);
        let lanes = keyed.lanes.keep(out);
        Some(Forgotten { _lanes: lanes, _dues: std::mem::take(&mut keyed.dues) })
    }

    /// Forgets what cannot be read. Call while that still has its place.
    pub(super) fn forget_lost(&mut self, answers: &[Answer]) {
        let Some(keyed) = &mut self.keyed else { return };
        let lost = answers.iter().filter(|answer| answer.message.is_none());
        let entries = lost.filter_map(|answer| self.ready.returned.get(&answer.seq));
        entries.filter(|entry| entry.message.is_none()).for_each(|entry| keyed.forget(entry));
        keyed.retry_stalled();
    }
}

#[cfg(test)]
mod tests;
