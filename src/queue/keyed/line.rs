//! The messages of one lane that wait, in the order of their seqs. Most come at the end and leave
//! from the front; what happens in the middle stays cheap however long the line is.

use std::collections::{BTreeSet, VecDeque};

/// Marks a seq that has left from the middle. No seq of a queue with keys is that high: only ranks
/// of priorities would be.
const GONE: u64 = 1 << 63;
/// So many that are gone are not worth a look.
const GONE_KEPT: usize = 32;

/// Seqs for which memory is kept in any case.
const KEPT_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Line {
    /// Ascending. The first has never gone.
    fresh: VecDeque<u64>,
    /// Of these.
    gone: usize,
    /// Those that came back to a place within.
    back: BTreeSet<u64>,
}

impl Line {
    pub(super) fn first(&self) -> Option<u64> {
        match (self.fresh.front().copied(), self.back.first().copied()) {
            (Some(fresh), Some(back)) => Some(fresh.min(back)),
            (fresh, back) => fresh.or(back),
        }
    }

    /// Adds a seq that is not there.
    pub(super) fn add(&mut self, seq: u64) {
        debug_assert!(seq & GONE == 0, "keys and priorities do not go together");
        match (self.fresh.front(), self.fresh.back()) {
            (_, Some(last)) if seq > last & !GONE => self.fresh.push_back(seq),
            (Some(first), _) if seq < *first => self.fresh.push_front(seq),
            (None, _) => self.fresh.push_back(seq),
            _ => drop(self.back.insert(seq)),
        }
    }

    /// Takes a seq out that is there.
    pub(super) fn remove(&mut self, seq: u64) {
        if self.fresh.front() == Some(&seq) {
            self.fresh.pop_front();
            while self.fresh.pop_front_if(|first| *first & GONE != 0).is_some() {
                self.gone -= 1;
            }
            return shrink(&mut self.fresh);
        }
        if self.back.remove(&seq) {
            return;
        }
        if let Ok(at) = self.fresh.binary_search_by_key(&seq, |fresh| fresh & !GONE) {
            self.fresh[at] |= GONE;
            self.gone += 1;
        }
        if self.gone > GONE_KEPT && self.gone * 2 > self.fresh.len() {
            self.fresh.retain(|fresh| fresh & GONE == 0);
            self.gone = 0;
            shrink(&mut self.fresh);
        }
    }

    /// The first of them, at most `max`, in order.
    pub(super) fn firsts(&self, max: usize) -> impl Iterator<Item = u64> {
        let mut fresh = self.fresh.iter().copied().filter(|seq| seq & GONE == 0).peekable();
        let mut back = self.back.iter().copied().peekable();
        let next = move || match (fresh.peek(), back.peek()) {
            (Some(a), Some(b)) if b < a => back.next(),
            (Some(_), _) => fresh.next(),
            _ => back.next(),
        };
        std::iter::from_fn(next).take(max)
    }
}

/// Gives memory back that is far too much. What is moved is less than what was taken since the last
/// time, so it costs next to nothing.
fn shrink(fresh: &mut VecDeque<u64>) {
    let capacity = fresh.capacity();
    if capacity > KEPT_MAX && fresh.len() * 8 < capacity {
        fresh.shrink_to(KEPT_MAX.max(fresh.len() * 2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_history_is_that_of_a_sorted_set(
            steps in prop::collection::vec((0..8_u8, 0..200_u64), 0..400),
        ) {
            let (mut line, mut set, mut next) = (Line::default(), BTreeSet::new(), 100);
            for (step, seq) in steps {
                let first = set.first().copied();
                match step {
                    0..=2 => {
                        next += 1;
                        line.add(next);
                        set.insert(next);
                    }
                    3 if set.insert(seq) => line.add(seq),
                    4..=5 if set.remove(&seq) => line.remove(seq),
                    6..=7 => first.into_iter().for_each(|seq| {
                        line.remove(seq);
                        set.remove(&seq);
                    }),
                    _ => {}
                }
                next = next.max(set.last().copied().unwrap_or(0));
                prop_assert_eq!(line.first(), set.first().copied());
            }
            prop_assert!(line.firsts(usize::MAX).eq(set.iter().copied()));
            prop_assert!(line.firsts(3).eq(set.iter().copied().take(3)));
        }
    }

    #[test]
    fn a_line_that_empties_from_the_middle_keeps_no_memory() {
        let mut line = Line::default();
        (0..100_000).for_each(|seq| line.add(seq));
        (1..100_000).for_each(|seq| line.remove(seq));
        assert_eq!(line.first(), Some(0));
        assert!(line.fresh.capacity() <= 256, "{}", line.fresh.capacity());
    }
}
