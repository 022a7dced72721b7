//! A number for each of many seqs, most of which lie close together: so they are kept in blocks,
//! 4 to 5 octets each, and never more than some 300 for one that is left of its neighbours.

use hashbrown::HashMap;

/// Seqs of one block.
const BLOCK_LEN: u64 = 64;
/// Blocks for which memory is kept in any case.
const KEPT_MAX: usize = 64;
/// No number.
const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct SeqMap {
    /// By seq / `BLOCK_LEN`; those without any number are not there.
    blocks: HashMap<u64, Box<Block>>,
}

#[derive(Debug)]
struct Block {
    len: usize,
    numbers: [u32; BLOCK_LEN as usize],
}

impl SeqMap {
    pub(super) fn get(&self, seq: u64) -> Option<u32> {
        let number = self.blocks.get(&(seq / BLOCK_LEN))?.numbers[place(seq)];
        (number != NONE).then_some(number)
    }

    /// Gives the seq a number, whether or not it has one.
    pub(super) fn set(&mut self, seq: u64, number: u32) {
        debug_assert!(number != NONE, "this says that there is no number");
        let empty = || Box::new(Block { len: 0, numbers: [NONE; BLOCK_LEN as usize] });
        let block = self.blocks.entry(seq / BLOCK_LEN).or_insert_with(empty);
        let before = std::mem::replace(&mut block.numbers[place(seq)], number);
        block.len += usize::from(before == NONE);
    }

    pub(super) fn remove(&mut self, seq: u64) {
        let at = seq / BLOCK_LEN;
        let Some(block) = self.blocks.get_mut(&at) else { return };
        let before = std::mem::replace(&mut block.numbers[place(seq)], NONE);
        block.len -= usize::from(before != NONE);
        if block.len == 0 {
            self.blocks.remove(&at);
            let (len, capacity) = (self.blocks.len(), self.blocks.capacity());
            if capacity > KEPT_MAX && len * 8 < capacity {
                self.blocks.shrink_to(KEPT_MAX.max(len * 2));
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
}

fn place(seq: u64) -> usize {
    (seq % BLOCK_LEN) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn any_history_is_that_of_a_map(
            steps in prop::collection::vec((0..200_u64, prop::option::of(0..9_u32)), 0..300),
        ) {
            let (mut map, mut expected) = (SeqMap::default(), BTreeMap::new());
            for (seq, number) in steps {
                match number {
                    Some(number) => {
                        map.set(seq, number);
                        expected.insert(seq, number);
                    }
                    None => {
                        map.remove(seq);
                        expected.remove(&seq);
                    }
                }
                prop_assert_eq!(map.get(seq), expected.get(&seq).copied());
            }
            for seq in 0..200 {
                prop_assert_eq!(map.get(seq), expected.get(&seq).copied());
            }
            prop_assert_eq!(map.is_empty(), expected.is_empty());
        }
    }

    #[test]
    fn what_is_forgotten_leaves_no_memory() {
        let mut map = SeqMap::default();
        (0..100_000).for_each(|seq| map.set(seq, 1));
        (0..100_000).for_each(|seq| map.remove(seq));
        assert!(map.is_empty());
        assert!(map.blocks.capacity() <= 2 * KEPT_MAX, "{}", map.blocks.capacity());
    }
}
