//! In which order the keys of a cache came, so that no call moves more than a few thousand of a
//! million.
//!
//! Numbers in chunks. A key that came again has a later number, and the earlier one says nothing:
//! once half of a chunk is like that, it is cleared of them.

use super::key::Key;
use super::key_map::count_steps;
use std::collections::VecDeque;

/// Numbers of a chunk, at most.
const CHUNK_LEN: usize = 1_024;

#[derive(Debug, Default)]
struct Chunk {
    /// Never none.
    keys: VecDeque<(u64, Key)>,
    /// Of these, those that say nothing, or some more.
    stale: usize,
}

impl Chunk {
    fn last(&self) -> u64 {
        self.keys.back().map_or(0, |(number, _)| *number)
    }
}

#[derive(Debug, Default)]
pub(super) struct Order {
    chunks: VecDeque<Chunk>,
}

impl Order {
    /// Adds a key; numbers increase.
    pub(super) fn push(&mut self, number: u64, key: Key) {
        match self.chunks.back_mut().filter(|chunk| chunk.keys.len() < CHUNK_LEN) {
            Some(chunk) => chunk.keys.push_back((number, key)),
            None => {
                // A cache that has filled one chunk fills another.
                let len = if self.chunks.is_empty() { 1 } else { CHUNK_LEN };
                let mut keys = VecDeque::with_capacity(len);
                keys.push_back((number, key));
                self.chunks.push_back(Chunk { keys, stale: 0 });
            }
        }
    }

    pub(super) fn front(&self) -> Option<(u64, Key)> {
        self.chunks.front()?.keys.front().copied()
    }

    pub(super) fn pop_front(&mut self) -> Option<(u64, Key)> {
        count_steps(1);
        let first = self.chunks.front_mut()?;
        let popped = first.keys.pop_front();
        if first.keys.is_empty() {
            self.chunks.pop_front();
        }
        popped
    }

    /// What has this number or a later one, in order.
    pub(super) fn range_from(&self, number: u64) -> impl Iterator<Item = (u64, Key)> {
        let first = self.chunks.partition_point(|chunk| chunk.last() < number);
        let within = self.chunks.get(first);
        let skipped =
            within.map_or(0, |it| it.keys.partition_point(|(before, _)| *before < number));
        let chunks = self.chunks.range(first..);
        chunks.flat_map(|chunk| &chunk.keys).skip(skipped).copied()
    }

    /// This number says nothing from now on; `is_current` knows those that do.
    pub(super) fn forget(&mut self, number: u64, is_current: impl Fn(u64, &Key) -> bool) {
        let at = self.chunks.partition_point(|chunk| chunk.last() < number);
        let Some(chunk) = self.chunks.get_mut(at) else { return };
        chunk.stale += 1;
        if chunk.stale * 2 <= chunk.keys.len() {
            return;
        }
        count_steps(chunk.keys.len());
        chunk.keys.retain(|(number, key)| is_current(*number, key));
        chunk.keys.shrink_to_fit();
        chunk.stale = 0;
        self.join(at + 1);
        self.join(at);
    }

    /// Makes one chunk of this one, if there is one, and the one before, if both are short.
    fn join(&mut self, at: usize) {
        if at >= self.chunks.len() {
            return;
        }
        let len = |at: usize| self.chunks[at].keys.len();
        let (here, before) = (len(at), at.checked_sub(1).map(len));
        if here == 0 || before.is_some_and(|before| before + here <= CHUNK_LEN / 2) {
            let short = self.chunks.remove(at).unwrap_or_default();
            if let Some(before) = at.checked_sub(1).map(|before| &mut self.chunks[before]) {
                count_steps(short.keys.len());
                before.keys.extend(short.keys);
                before.stale += short.stale;
            }
        }
    }

    /// Gives back the room of those that are gone.
    pub(super) fn shrink(&mut self) {
        let ends = [self.chunks.len().checked_sub(1), (!self.chunks.is_empty()).then_some(0)];
        for at in ends.into_iter().flatten() {
            count_steps(self.chunks[at].keys.len());
            self.chunks[at].keys.shrink_to_fit();
        }
        self.chunks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::key_map::STEPS;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    fn key(number: u64) -> Key {
        Key(u128::from(number).to_be_bytes())
    }

    impl Order {
        pub(in super::super) fn len(&self) -> usize {
            self.chunks.iter().map(|chunk| chunk.keys.len()).sum()
        }

        pub(in super::super) fn capacity(&self) -> usize {
            self.chunks.iter().map(|chunk| chunk.keys.capacity()).sum()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 64, failure_persistence: None, ..<_>::default()
        })]

        /// Numbers come with gaps, the oldest go, and any others come to say nothing.
        #[test]
        fn any_history_is_that_of_a_list(
            steps in vec((0..4_u8, 0..400_usize, any::<usize>()), 1..20),
        ) {
            let (mut order, model, mut next) = (Order::default(), RefCell::new(BTreeMap::new()), 1);
            for (verb, count, at) in steps {
                for nth in 0..count {
                    let len = model.borrow().len();
                    match verb {
                        0 | 1 => {
                            order.push(next, key(next));
                            model.borrow_mut().insert(next, key(next));
                            next += 1 + nth as u64 % 3;
                        }
                        2 => {
                            // What says nothing goes with it.
                            let first = model.borrow_mut().pop_first();
                            let popped = std::iter::from_fn(|| order.pop_front());
                            let found = popped.take(usize::MAX).find(|it| Some(*it) == first);
                            prop_assert_eq!(found, first);
                        }
                        _ if len > 0 => {
                            let nth = at.wrapping_add(nth * 7) % len;
                            let number = *model.borrow().keys().nth(nth).unwrap();
                            model.borrow_mut().remove(&number);
                            STEPS.set(0);
                            order.forget(number, |number, _| model.borrow().contains_key(&number));
                            prop_assert!(STEPS.get() <= 2 * CHUNK_LEN);
                        }
                        _ => {}
                    }
                }
                let model = model.borrow();
                // The first chunk may have lost those that said something.
                prop_assert!(order.len() <= 2 * model.len() + CHUNK_LEN);
                prop_assert!(order.chunks.len() <= 8 * model.len() / CHUNK_LEN + 8);
                let from = at as u64 % next;
                let all = order.range_from(from);
                let current = all.filter(|(number, _)| model.contains_key(number));
                prop_assert!(current.eq(model.range(from..).map(|(number, key)| (*number, *key))));
            }
        }
    }
}
