//! Which slots of a checkout are free, so that the lowest is found in a few steps.
//!
//! A tree of bits: one for each slot, set if it is free, and above them one for each word that is
//! not zero. Words at the end that were never needed are not there, and count as zero.

/// The topmost level has one bit for 4096 slots, so that walking over it takes no time.
const LEVELS: usize = 3;
const BITS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct FreeSlots {
    levels: [Vec<u64>; LEVELS],
}

impl FreeSlots {
    /// Adds a slot.
    pub(super) fn insert(&mut self, slot: usize) {
        let mut at = slot;
        for level in &mut self.levels {
            let word = at / BITS;
            if word >= level.len() {
                level.resize(word + 1, 0);
            }
            let before = level[word];
            level[word] = before | 1 << (at % BITS);
            if before != 0 {
                return;
            }
            at = word;
        }
    }

    /// Takes the lowest out.
    pub(super) fn take_lowest(&mut self) -> Option<usize> {
        let [.., top] = &self.levels;
        let mut at = top.iter().position(|word| *word != 0)?;
        for level in self.levels.iter().rev() {
            at = at * BITS + level[at].trailing_zeros() as usize;
        }
        let slot = at;
        for level in &mut self.levels {
            let word = at / BITS;
            level[word] &= !(1 << (at % BITS));
            if level[word] != 0 {
                break;
            }
            at = word;
        }
        Some(slot)
    }

    /// Forgets the free slots at the end of `slots`; says how many slots are left.
    pub(super) fn trim(&mut self, slots: usize) -> usize {
        let mut left = slots;
        while let Some(last) = left.checked_sub(1)
            && let Some(word) = self.levels[0].get(last / BITS)
        {
            let bits = last % BITS + 1;
            let free = (word << (BITS - bits)).leading_ones() as usize;
            left -= free;
            if free < bits {
                break;
            }
        }
        self.truncate(left);
        left
    }

    /// Gives back memory that was needed for more slots.
    pub(super) fn shrink(&mut self) {
        for level in &mut self.levels {
            level.shrink_to_fit();
        }
    }

    fn truncate(&mut self, slots: usize) {
        let mut bits = slots;
        for level in &mut self.levels {
            let words = bits.div_ceil(BITS);
            level.truncate(words);
            let within = bits % BITS;
            bits = words;
            if level.len() < words {
                continue;
            }
            let Some(last) = level.last_mut() else { continue };
            if within > 0 {
                *last &= u64::MAX >> (BITS - within);
            }
            // The bit above must not claim a word that has become zero.
            bits -= usize::from(*last == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_top_is_short_and_the_lowest_is_found_from_there() {
        let mut free = FreeSlots::default();
        for slot in [999_999, 70, 4_096, 0, 63, 64] {
            free.insert(slot);
        }
        assert_eq!(free.levels[LEVELS - 1].len(), 4);
        let lowest = std::iter::from_fn(|| free.take_lowest());
        assert_eq!(lowest.collect::<Vec<_>>(), [0, 63, 64, 70, 4_096, 999_999]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Frees one of the occupied slots, and trims if it is the last.
        Free(usize),
        Occupy,
        /// Frees many from one on.
        FreeRun(usize, usize),
        Grow(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<usize>().prop_map(Step::Free),
            4 => Just(Step::Occupy),
            2 => (any::<usize>(), 0..9_000_usize).prop_map(|(at, n)| Step::FreeRun(at, n)),
            2 => prop_oneof![1..70_usize, 1..9_000_usize].prop_map(Step::Grow),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64, failure_persistence: None, ..<_>::default()
        })]

        #[test]
        fn any_history_is_that_of_a_sorted_set(steps in prop::collection::vec(step(), 1..60)) {
            let (mut free, mut model, mut len) = (FreeSlots::default(), BTreeSet::new(), 0);
            for step in steps {
                let freed = match step {
                    Step::Free(at) => at % len.max(1)..(at % len.max(1) + 1).min(len),
                    Step::FreeRun(at, n) => at % len.max(1)..(at % len.max(1) + n).min(len),
                    Step::Grow(n) => {
                        len += n;
                        0..0
                    }
                    Step::Occupy => {
                        prop_assert_eq!(free.take_lowest(), model.pop_first());
                        0..0
                    }
                };
                for slot in freed {
                    if model.insert(slot) {
                        free.insert(slot);
                    }
                }
                let left = free.trim(len);
                while len > 0 && model.remove(&(len - 1)) {
                    len -= 1;
                }
                prop_assert_eq!(left, len);
            }
            while let Some(slot) = model.pop_first() {
                prop_assert_eq!(free.take_lowest(), Some(slot));
            }
            prop_assert_eq!(free.take_lowest(), None);
        }
    }
}
