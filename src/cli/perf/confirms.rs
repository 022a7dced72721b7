//! Which publishes of one connection wait for their confirm, and since when. Counts sequence
//! numbers from 1 as AMQP does; reads no socket and no clock.
use super::error::{PerfError, Result};
use super::histogram::Histogram;
use std::collections::VecDeque;

#[derive(Debug)]
pub(crate) struct Confirms {
    /// Whether a publish is settled, at its sequence number modulo the length, a power of two.
    settled: Vec<bool>,
    /// The oldest publish that is not settled, or the next to come.
    oldest: u64,
    /// The newest publish.
    newest: u64,
    /// Publishes whose confirm is timed: sequence number and when it was due, oldest first.
    timed: VecDeque<(u64, u64)>,
}

impl Confirms {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            settled: vec![false; window.next_power_of_two()],
            oldest: 1,
            newest: 0,
            timed: VecDeque::new(),
        }
    }

    /// Notes a publish that is about to be sent. The caller keeps to its window.
    pub(crate) fn publish(&mut self) {
        self.newest += 1;
        let index = self.index(self.newest);
        self.settled[index] = false;
    }

    /// As [`Confirms::publish`], and times the confirm from `due_at`.
    pub(crate) fn publish_timed(&mut self, due_at: u64) {
        self.publish();
        self.timed.push_back((self.newest, due_at));
    }

    /// Publishes from the oldest unsettled one on: what counts against the window.
    pub(crate) fn waiting(&self) -> u64 {
        self.newest + 1 - self.oldest
    }

    /// Publishes settled without a gap before them.
    pub(crate) fn settled(&self) -> u64 {
        self.oldest - 1
    }

    /// A basic.ack or basic.nack came. Returns how many publishes it settled.
    pub(crate) fn settle(&mut self, tag: u64, multiple: bool) -> Result<u64> {
        let tag = if multiple && tag == 0 { self.newest } else { tag };
        if tag < self.oldest && multiple {
            return Ok(0);
        }
        if tag < self.oldest || tag > self.newest {
            return Err(PerfError::new(format!(
                "the broker confirmed publish {tag}, but only {} to {} wait for it",
                self.oldest, self.newest
            )));
        }
        let mut settled = 0;
        let first = if multiple { self.oldest } else { tag };
        for sequence in first..=tag {
            let index = self.index(sequence);
            settled += u64::from(!std::mem::replace(&mut self.settled[index], true));
        }
        while self.oldest <= self.newest && self.settled[self.index(self.oldest)] {
            self.oldest += 1;
        }
        Ok(settled)
    }

    /// Records how long the timed publishes waited that are settled by now.
    pub(crate) fn record(&mut self, now_ns: u64, mut latency: Option<&mut Histogram>) {
        while let Some(&(sequence, due_at)) = self.timed.front()
            && sequence < self.oldest
        {
            self.timed.pop_front();
            if let Some(latency) = latency.as_deref_mut() {
                latency.record(now_ns.saturating_sub(due_at));
            }
        }
    }

    fn index(&self, sequence: u64) -> usize {
        sequence as usize & (self.settled.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: u64) -> Confirms {
        let mut confirms = Confirms::new(5);
        (0..count).for_each(|_| confirms.publish());
        confirms
    }

    #[test]
    fn an_ack_out_of_order_waits_for_the_gap_to_close() {
        let mut confirms = sent(3);
        assert_eq!(confirms.settle(2, false), Ok(1));
        assert_eq!((confirms.waiting(), confirms.settled()), (3, 0));
        assert_eq!(confirms.settle(1, false), Ok(1));
        assert_eq!((confirms.waiting(), confirms.settled()), (1, 2));
    }

    #[test]
    fn a_multiple_ack_settles_what_is_left_below_it() {
        let mut confirms = sent(5);
        assert_eq!(confirms.settle(2, false), Ok(1));
        assert_eq!(confirms.settle(4, true), Ok(3));
        assert_eq!(confirms.waiting(), 1);
        assert_eq!(confirms.settle(0, true), Ok(1));
        assert_eq!((confirms.waiting(), confirms.settled()), (0, 5));
    }

    #[test]
    fn the_ring_is_used_again_and_again() {
        let mut confirms = sent(0);
        for sequence in 1..100 {
            confirms.publish();
            assert_eq!(confirms.settle(sequence, sequence % 3 == 0), Ok(1));
            assert_eq!(confirms.waiting(), 0);
        }
    }

    #[test]
    fn a_confirm_for_what_was_never_published_is_an_error() {
        assert!(sent(2).settle(3, false).is_err());
        assert!(sent(2).settle(3, true).is_err());
        let mut confirms = sent(2);
        confirms.settle(2, true).unwrap();
        assert!(confirms.settle(1, false).is_err());
    }

    #[test]
    fn only_timed_and_settled_publishes_are_recorded() {
        let mut confirms = Confirms::new(4);
        confirms.publish_timed(100);
        confirms.publish();
        confirms.publish_timed(150);
        confirms.settle(2, true).unwrap();
        let mut latency = Histogram::new();
        confirms.record(130, Some(&mut latency));
        assert_eq!((latency.count(), latency.max()), (1, 30));
    }
}
