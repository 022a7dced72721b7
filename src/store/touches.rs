//! Which queues records may name, in eight bytes: what damage in a frame can have hit.
//!
//! A frame's header has the mask of its own records, and of all frames near before it: so a frame
//! that can be read says it for one that cannot. A mask may name too much, never too little: queues
//! share bits, and a frame has the mask of all records that came to the journal together.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use crate::id::{CacheId, QueueId};

/// Bits that ids share.
const SHARED: u64 = 62;
const TIMED: u64 = 1 << 62;
const DEFINITIONS: u64 = 1 << 63;

/// Bytes of a segment's file that count as near: a frame states what was touched from the beginning
/// of the block before its own on.
const BLOCK_LEN: u64 = 2 * 1024 * 1024;

/// A mask of queues and caches. Queues that wait for times, and definitions, have bits of their
/// own: what hits these cannot be held queue by queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Touches(u64);

impl Touches {
    pub(super) const NONE: Self = Self(0);
    /// Nobody knows.
    pub(super) const ALL: Self = Self(u64::MAX);
    /// A change of definitions may have to do with any queue.
    pub(super) const DEFINITIONS: Self = Self(DEFINITIONS);

    #[inline]
    pub(super) fn queue(id: QueueId) -> Self {
        if id.is_timed() { Self(TIMED) } else { Self(1 << (id.0 % SHARED)) }
    }

    /// Caches are numbered as queues are; a queue's own cache has its number.
    pub(super) fn cache(id: CacheId) -> Self {
        Self(1 << (id.0 % SHARED))
    }

    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(super) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// All that it may name can be held.
    pub(super) fn can_be_held(self) -> bool {
        self.0 & (TIMED | DEFINITIONS) == 0
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// What the frames near the end of a segment touched.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nearby {
    block: u64,
    here: Touches,
    /// In the block before.
    before: Touches,
}

impl Nearby {
    /// Of a segment that ends here.
    pub(super) fn ending(end: u64, touched: Touches) -> Self {
        Self { block: end / BLOCK_LEN, here: touched, before: Touches::NONE }
    }

    /// What was touched from `reach_of(offset)` on, by what began before `offset`.
    #[inline]
    pub(super) fn until(&mut self, offset: u64) -> Touches {
        let block = offset / BLOCK_LEN;
        if block != self.block {
            let is_next = block == self.block + 1;
            self.before = if is_next { self.here } else { Touches::NONE };
            (self.block, self.here) = (block, Touches::NONE);
        }
        let mut touched = self.here;
        touched.add(self.before);
        touched
    }

    /// A frame begins at `offset`, behind all others.
    #[inline]
    pub(super) fn add(&mut self, offset: u64, touches: Touches) {
        self.until(offset);
        self.here.add(touches);
    }
}

/// From where on `Nearby::until(offset)` knows of every frame.
pub(super) fn reach_of(offset: u64) -> u64 {
    (offset / BLOCK_LEN).saturating_sub(1) * BLOCK_LEN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_held_has_bits_of_its_own() {
        let mut all = Touches::NONE;
        (0..1000).for_each(|id| all.add(Touches::queue(QueueId(id))));
        assert!(all.can_be_held());
        for other in [Touches::queue(QueueId::timed(3)), Touches::DEFINITIONS] {
            assert!(!other.meets(all) && !other.can_be_held());
        }
        assert!(Touches::ALL.meets(all) && !Touches::ALL.can_be_held());
        assert!(Touches::cache(CacheId(70)).meets(Touches::queue(QueueId(70))));
        assert!(!Touches::queue(QueueId(1)).meets(Touches::queue(QueueId(2))));
    }

    proptest! {
        #[test]
        fn near_is_what_began_within_reach(
            steps in vec((1_u64..BLOCK_LEN, 0_u64..SHARED), 1..60),
        ) {
            let (mut nearby, mut offset) = (Nearby::default(), 0);
            let mut frames: Vec<(u64, Touches)> = Vec::new();
            for (len, queue) in steps {
                let mut naive = Touches::NONE;
                let within = frames.iter().filter(|(at, _)| *at >= reach_of(offset));
                within.for_each(|(_, touches)| naive.add(*touches));
                prop_assert_eq!(nearby.until(offset), naive);
                let touches = Touches::queue(QueueId(queue));
                nearby.add(offset, touches);
                frames.push((offset, touches));
                offset += len;
            }
        }
    }
}
