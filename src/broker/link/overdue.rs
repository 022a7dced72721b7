//! When a channel's deliveries went out, as far as it matters for those that are never answered.
//!
//! A mark stands for all deliveries from its tag up to the next mark's, and says when the last of
//! them went out: so a delivery counts as younger than it is by the length of a mark, never as
//! older. Marks are few: those of acknowledged deliveries go, and if many are left they get longer,
//! up to about a sixteenth part of the time since the oldest delivery.

use super::Link;
use super::transaction::Transaction;
use super::unacked::Unacked;
use crate::limits::CONSUMER_TIMEOUT_CHECK_MS;
use crate::name::Name;
use crate::queue::Queue;
use crate::time::Millis;
use std::collections::VecDeque;
use std::sync::Arc;

const MARKS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct DeliveryTimes {
    marks: VecDeque<Mark>,
    /// A mark is not longer than this.
    mark_ms: u64,
    /// When to look at all deliveries.
    due: Option<Millis>,
}

/// A delivery that should have been answered by now.
pub struct Overdue {
    /// Tags of the channel's consumers of that queue, sorted: it went to one of them, or to a get.
    pub consumers: Vec<Name>,
    pub queue: Option<Arc<Queue>>,
    pub delivery_tag: u64,
    /// Within which it should have been answered.
    pub timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    tag: u64,
    /// Its first delivery went out then, and its last.
    began: Millis,
    latest: Millis,
}

impl DeliveryTimes {
    /// Deliveries from `tag` on go out now. `oldest` is the first that waits for an answer.
    fn note(&mut self, tag: u64, oldest: u64, now: Millis) {
        if oldest >= tag {
            self.marks.clear();
        }
        while self.marks.get(1).is_some_and(|next| next.tag <= oldest) {
            self.marks.pop_front();
        }
        if self.marks.len() * 4 < MARKS_MAX {
            self.mark_ms = 0;
        }
        match self.marks.back_mut() {
            // A get whose answer is late has an earlier tag.
            Some(last) if now.since(last.began) <= self.mark_ms || tag <= last.tag => {
                last.latest = now;
            }
            _ => self.marks.push_back(Mark { tag, began: now, latest: now }),
        }
        if self.marks.len() > MARKS_MAX {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let span = self.marks.back().zip(self.marks.front());
        let span_ms = span.map_or(0, |(last, first)| last.latest.since(first.began));
        self.mark_ms = span_ms / (MARKS_MAX as u64 / 2);
        let mut merged: VecDeque<Mark> = VecDeque::with_capacity(MARKS_MAX);
        for mark in self.marks.drain(..) {
            match merged.back_mut() {
                Some(last) if mark.latest.since(last.began) <= self.mark_ms => {
                    last.latest = mark.latest;
                }
                _ => merged.push_back(mark),
            }
        }
        self.marks = merged;
    }

    fn look_at(&mut self, due: Millis) {
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }
}

impl Link {
    /// When `check_acks` wants to be called.
    #[must_use]
    #[inline]
    pub fn acks_due_at(&self) -> Option<Millis> {
        self.times.due
    }

    /// Deliveries of one queue from `tag` on have just gone out.
    pub(super) fn note_unacked(&mut self, tag: u64, queue: u32, own_ms: u32, now: Millis) {
        let oldest = self.unacked.first_tag().unwrap_or(tag);
        self.times.note(tag, oldest, now);
        // Also where nothing is said: a policy may.
        let timeout_ms = self.timeout_ms(self.queues.get(queue), own_ms).unwrap_or(u64::MAX);
        self.times.look_at(now.plus(timeout_ms.min(CONSUMER_TIMEOUT_CHECK_MS)));
    }

    /// Looks whether some delivery is overdue.
    ///
    /// # Errors
    /// The first that is.
    pub fn check_acks(&mut self, now: Millis) -> Result<(), Overdue> {
        self.times.due = None;
        let may_come_back = self.transaction.as_ref().is_some_and(Transaction::has_settlements);
        if self.unacked.len() == 0 && !may_come_back {
            self.times = DeliveryTimes::default();
            return Ok(());
        }
        // A policy may bring it forward meanwhile.
        let mut next = now.plus(CONSUMER_TIMEOUT_CHECK_MS);
        let marks = &self.times.marks;
        let mut at = 0;
        for unacked in self.unacked.iter() {
            while marks.get(at + 1).is_some_and(|mark| mark.tag <= unacked.tag) {
                at += 1;
            }
            let timeout_ms = self.timeout_ms(self.queues.get(unacked.queue), unacked.timeout_ms);
            let (Some(mark), Some(timeout_ms)) = (marks.get(at), timeout_ms) else { continue };
            let due = mark.latest.plus(timeout_ms);
            if due <= now {
                return Err(self.overdue(*unacked, timeout_ms));
            }
            next = next.min(due);
        }
        self.times.look_at(next);
        Ok(())
    }

    fn overdue(&self, unacked: Unacked, timeout_ms: u64) -> Overdue {
        Overdue {
            consumers: self.consumers.of_queue(unacked.queue),
            queue: self.queues.get(unacked.queue).cloned(),
            delivery_tag: unacked.tag,
            timeout_ms,
        }
    }

    /// What the consumer says itself counts, then what its queue says.
    fn timeout_ms(&self, queue: Option<&Arc<Queue>>, own_ms: u32) -> Option<u64> {
        if own_ms > 0 {
            return (own_ms < u32::MAX).then_some(own_ms.into());
        }
        let of_queue = queue.and_then(|queue| queue.consumer_timeout_ms());
        of_queue.or(self.broker.config.consumer_timeout_ms)
    }
}

/// A consumer's own timeout as its deliveries keep it: zero says nothing, the highest never.
pub(super) fn own_timeout(timeout_ms: Option<u64>) -> u32 {
    timeout_ms.map_or(0, |ms| u32::try_from(ms.max(1)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the marks say of a delivery.
    fn time(times: &DeliveryTimes, tag: u64) -> u64 {
        times.marks.iter().rfind(|mark| mark.tag <= tag).unwrap().latest.0
    }

    #[test]
    fn a_delivery_counts_as_a_little_younger_than_it_is_never_as_older() {
        let mut times = DeliveryTimes::default();
        for tag in 1..=100_000 {
            times.note(tag, 1, Millis(tag * 7));
            assert!(times.marks.len() <= MARKS_MAX);
        }
        for tag in 1..=100_000 {
            let late_ms = time(&times, tag) - tag * 7;
            assert!(late_ms <= 700_000 / 32, "{tag} by {late_ms}");
        }
    }

    #[test]
    fn while_deliveries_are_answered_their_times_are_exact_and_few() {
        let mut times = DeliveryTimes::default();
        for tag in 1..=10_000_u64 {
            times.note(tag, tag.saturating_sub(2).max(1), Millis(tag * 7));
            assert!(times.marks.len() <= 4, "{}", times.marks.len());
            assert_eq!(time(&times, tag), tag * 7);
        }
    }

    #[test]
    fn many_deliveries_at_once_are_one_mark() {
        let mut times = DeliveryTimes::default();
        (1..=1000).for_each(|tag| times.note(tag, 1, Millis(5)));
        assert_eq!((times.marks.len(), time(&times, 1000)), (1, 5));
        // A late answer to a get makes younger what went out meanwhile.
        times.note(3, 2, Millis(6));
        assert_eq!((time(&times, 2), time(&times, 1000)), (5, 6));
    }
}
