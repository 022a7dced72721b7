//! The model's messages that came back: how often, and which of them wait for their next attempt.

use super::model::{Entry, Model, State};
use super::world::World;
use leveret::queue::{Reason, Settlement};

/// Of a message that ended in the lock hold in which it came back.
pub(super) const UNKNOWN: u64 = u64::MAX;

impl Model {
    /// Returns are counted.
    pub(super) fn counts(&self) -> bool {
        self.behaviour.delivery_limit.is_some() || self.behaviour.retry_delay_ms.is_some()
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Waiting { .. }))
    }

    /// A delivery ended without having ended its message. How long it waits is chance.
    pub(super) fn came_back(&mut self, seq: u64, evicted: bool, how: Settlement) {
        let (counts, limit) = (self.counts(), self.behaviour.delivery_limit);
        let may_wait = how == Settlement::Retry && self.behaviour.retry_delay_ms.is_some();
        let now = self.now;
        let entry = self.find(seq);
        if limit.is_some_and(|limit| u64::from(entry.times) >= limit) {
            return self.die(seq, evicted, Reason::DeliveryLimit);
        }
        if counts {
            entry.times += 1;
            entry.until = 0;
        }
        entry.redelivered = true;
        let waits = may_wait && entry.due > now;
        entry.state = if waits { State::Waiting { evicted } } else { State::Ready { evicted } };
    }

    /// Whose time has come is ready; all are if nothing is delayed any more.
    pub(super) fn end_waits(&mut self) {
        let any = self.behaviour.retry_delay_ms.is_none();
        for entry in &mut self.entries {
            if let State::Waiting { evicted } = entry.state
                && (any || entry.until <= self.now)
            {
                entry.state = State::Ready { evicted };
            }
        }
    }

    /// When the first of those that wait is ready.
    pub(super) fn next_retry(&self) -> u64 {
        let any = self.behaviour.retry_delay_ms.is_none();
        let first = self.waits().map(|entry| if any { 0 } else { entry.until }).min();
        first.unwrap_or(u64::MAX)
    }
}

impl World {
    /// Takes over how long those wait that have just failed: a wait is as long as it may be.
    pub(super) fn learn_waits(&mut self) {
        let Model { entries, now, behaviour, .. } = &mut self.model;
        let waiting: Vec<_> = self.core.retrying().collect();
        let unknown =
            |entry: &&mut Entry| matches!(entry.state, State::Waiting { .. }) && entry.until == 0;
        for entry in entries.iter_mut().filter(unknown) {
            // What is not there any more was too much.
            let Some((_, until)) = waiting.iter().find(|(seq, _)| seq.0 == entry.seq) else {
                entry.until = UNKNOWN;
                continue;
            };
            let (min, max) = behaviour.retry_delay_ms.expect("nothing else delays it");
            let mean = (1..entry.times).fold(min, |mean, _| (2 * mean).min(max));
            let (low, high) = (mean * 4 / 5, mean * 6 / 5 + 1);
            let range = *now + low.max(min)..=*now + high.min(max);
            let early = until.0 == entry.due && until.0 < *range.start();
            assert!(early || range.contains(&until.0), "{entry:?} waits until {}", until.0);
            entry.until = until.0;
        }
    }

    pub(super) fn check_waits(&self) {
        let waiting: Vec<_> = self.core.retrying().map(|(seq, until)| (seq.0, until.0)).collect();
        let expected: Vec<_> = self.model.waits().map(|it| (it.seq, it.until)).collect();
        assert_eq!(waiting, expected);
        assert_eq!(self.core.retrying_len(), expected.len());
        assert_eq!(self.core.message_count(), self.core.ready_len() + expected.len());
        let bytes = self.model.waits().map(|entry| entry.body_len).sum::<u64>();
        assert_eq!(self.core.retrying_bytes(), bytes);
    }
}
