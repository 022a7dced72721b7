//! Whose turn it is: the consumers that can take a message, in one ring for each priority.
//!
//! A consumer that ends leaves its key behind, since finding it would cost a walk. Keys that belong
//! to nobody go when their turn comes, or all at once when they are more than half.

use super::consumers::ConsumerKey;
use std::collections::{BTreeMap, VecDeque};

/// Stale keys for which nothing is swept: small rings may end consumers without a walk each time.
const STALE_KEPT_MAX: u32 = 32;

#[derive(Default)]
pub(super) struct Rings {
    /// The highest priority with members.
    top: VecDeque<ConsumerKey>,
    top_priority: i64,
    /// Apart, since most queues have consumers of one priority only.
    lower: Option<Box<Lower>>,
    /// Of all rings.
    keys: u32,
    stale: u32,
}

#[derive(Default)]
struct Lower {
    /// By priority. None is empty, so however many were ever used, no turn walks past them.
    rings: BTreeMap<i64, VecDeque<ConsumerKey>>,
    /// Memory of the last ring that became empty, for the next: two priorities that take turns with
    /// every message allocate nothing.
    spare: VecDeque<ConsumerKey>,
}

impl Rings {
    /// Puts a consumer at the end of its priority's ring.
    pub(super) fn push(&mut self, priority: i64, key: ConsumerKey) {
        self.keys += 1;
        if priority != self.top_priority && !self.make_top(priority) {
            self.lower.get_or_insert_default().rings.entry(priority).or_default().push_back(key);
        } else {
            self.top.push_back(key);
        }
    }

    /// Makes another priority the top: a higher one always, a lower one if no ring has members.
    fn make_top(&mut self, priority: i64) -> bool {
        let nothing_lower = self.lower.as_ref().is_none_or(|lower| lower.rings.is_empty());
        let nothing = self.top.is_empty() && nothing_lower;
        if priority < self.top_priority && !nothing {
            return false;
        }
        if !self.top.is_empty() {
            let lower = self.lower.get_or_insert_default();
            let ring = std::mem::take(&mut lower.spare);
            let last = std::mem::replace(&mut self.top, ring);
            lower.rings.insert(self.top_priority, last);
        }
        self.top_priority = priority;
        true
    }

    /// Whose turn it is.
    #[inline]
    pub(super) fn front(&mut self) -> Option<ConsumerKey> {
        if self.top.is_empty() && !self.raise() {
            return None;
        }
        self.top.front().copied()
    }

    /// Makes the highest of the lower rings the top. Every message passes by `front`, few by here.
    #[cold]
    fn raise(&mut self) -> bool {
        let Some(lower) = &mut self.lower else { return false };
        let Some((priority, ring)) = lower.rings.pop_last() else { return false };
        lower.spare = std::mem::replace(&mut self.top, ring);
        self.top_priority = priority;
        true
    }

    /// Takes the consumer out that `front` named.
    pub(super) fn pop(&mut self) {
        self.top.pop_front();
        self.keys -= 1;
    }

    /// As `pop`, for a consumer that has ended.
    pub(super) fn pop_stale(&mut self) {
        self.pop();
        self.stale -= 1;
    }

    /// The next of the same priority has the turn.
    pub(super) fn rotate(&mut self) {
        if self.top.len() > 1 {
            self.top.rotate_left(1);
        }
    }

    /// A member has ended; its key is stale. `lives` knows the others.
    pub(super) fn forget(&mut self, lives: impl Fn(ConsumerKey) -> bool) {
        self.stale += 1;
        if self.stale <= STALE_KEPT_MAX || self.stale <= self.keys / 2 {
            return;
        }
        let mut keys = 0;
        let mut sweep = |ring: &mut VecDeque<ConsumerKey>| {
            ring.retain(|key| lives(*key));
            ring.shrink_to(ring.len() * 2);
            keys += ring.len();
            !ring.is_empty()
        };
        sweep(&mut self.top);
        if let Some(lower) = &mut self.lower {
            lower.rings.retain(|_, ring| sweep(ring));
        }
        self.keys = u32::try_from(keys).expect("fewer than 2^32 consumers");
        self.stale = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn key(n: u32) -> ConsumerKey {
        ConsumerKey { index: n, generation: n }
    }

    fn lower(rings: &mut Rings) -> &mut Lower {
        rings.lower.as_mut().unwrap()
    }

    fn fronts(rings: &mut Rings) -> Vec<u32> {
        let mut order = Vec::new();
        while let Some(key) = rings.front() {
            order.push(key.index);
            rings.pop();
        }
        order
    }

    #[test]
    fn higher_priorities_come_first_and_equal_ones_in_order() {
        let mut rings = Rings::default();
        for (n, priority) in [0, 5, -3, 5, 0, 9, -3].into_iter().enumerate() {
            rings.push(priority, key(n as u32));
        }
        assert_eq!(fronts(&mut rings), [5, 1, 3, 0, 4, 2, 6]);
        rings.push(-7, key(7));
        rings.push(-9, key(8));
        rings.push(-7, key(9));
        rings.rotate();
        assert_eq!(fronts(&mut rings), [9, 7, 8]);
        // One that is empty has been the top; a lower one takes its place and a higher one both.
        rings.push(2, key(1));
        rings.pop();
        for priority in [1, 2, 3, 1] {
            rings.push(priority, key(priority as u32));
        }
        assert_eq!(fronts(&mut rings), [3, 2, 1, 1]);
        assert_eq!(rings.keys, 0);
    }

    #[test]
    fn an_empty_ring_is_not_there_to_be_walked() {
        let mut rings = Rings::default();
        for n in 0..1_000 {
            rings.push(n.into(), key(n));
        }
        assert_eq!(lower(&mut rings).rings.len(), 999);
        assert_eq!(fronts(&mut rings).len(), 1_000);
        assert!(lower(&mut rings).rings.is_empty());
    }

    #[test]
    fn two_priorities_that_take_turns_use_the_same_memory() {
        let mut rings = Rings::default();
        rings.push(0, key(0));
        rings.push(1, key(1));
        rings.pop();
        rings.front();
        for _ in 0..4 {
            let spare = lower(&mut rings).spare.capacity();
            assert!(spare > 0);
            rings.push(1, key(1));
            let taken = (rings.top.capacity(), lower(&mut rings).spare.capacity());
            assert_eq!(taken, (spare, 0));
            rings.pop();
            assert_eq!(rings.front(), Some(key(0)));
        }
    }

    #[test]
    fn ends_cost_a_few_looks_each_and_leave_few_stale_keys() {
        let mut rings = Rings::default();
        for n in 0..1_000 {
            rings.push(i64::from(n % 2), key(n));
        }
        let looks = Cell::new(0);
        for ended in 0..1_000_u32 {
            rings.forget(|key| {
                looks.set(looks.get() + 1);
                key.index > ended
            });
            let live = 999 - ended;
            assert!(rings.keys <= 2 * live + STALE_KEPT_MAX, "{} for {live}", rings.keys);
        }
        assert!(looks.get() <= 2_000, "{}", looks.get());
        assert!(rings.top.capacity() <= 64, "{}", rings.top.capacity());
    }
}
