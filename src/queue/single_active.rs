//! The one consumer that gets the messages of a queue with `x-single-active-consumer`, and those
//! that wait to take over: the one with the highest priority first, then the oldest (RabbitMQ).

use super::consumers::ConsumerKey;
use std::cmp::Reverse;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct SingleActive {
    active: Option<ConsumerKey>,
    waiting: BTreeSet<(Reverse<i64>, u32, u32)>,
}

impl SingleActive {
    pub(super) fn is_active(&self, key: ConsumerKey) -> bool {
        self.active == Some(key)
    }

    pub(super) fn insert(&mut self, key: ConsumerKey, priority: i64) {
        match self.active {
            None => self.active = Some(key),
            Some(_) => {
                self.waiting.insert((Reverse(priority), key.generation, key.index));
            }
        }
    }

    /// A consumer has ended. Says who takes over, if it was the active one.
    pub(super) fn remove(&mut self, key: ConsumerKey, priority: i64) -> Option<ConsumerKey> {
        if !self.is_active(key) {
            self.waiting.remove(&(Reverse(priority), key.generation, key.index));
            return None;
        }
        let next = self.waiting.pop_first();
        self.active = next.map(|(_, generation, index)| ConsumerKey { index, generation });
        self.active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_one_stays_and_the_best_that_waits_comes_next() {
        let key = |index| ConsumerKey { index, generation: index + 10 };
        let mut consumers = SingleActive::default();
        for (index, priority) in [(0, 0), (1, 0), (2, 5), (3, 5), (4, 9)] {
            consumers.insert(key(index), priority);
        }
        assert!(consumers.is_active(key(0)));
        assert_eq!(consumers.remove(key(4), 9), None);
        assert_eq!(consumers.remove(key(0), 0), Some(key(2)));
        assert_eq!(consumers.remove(key(2), 5), Some(key(3)));
        assert_eq!(consumers.remove(key(3), 5), Some(key(1)));
        assert_eq!(consumers.remove(key(1), 0), None);
        consumers.insert(key(5), 0);
        assert!(consumers.is_active(key(5)));
    }
}
