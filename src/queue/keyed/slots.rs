//! Things with small numbers of their own, which later things get again: those at the end are given
//! back with the memory of their places.

use super::super::free_slots::FreeSlots;

/// Places for which memory is kept in any case.
const KEPT_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Slots<T> {
    /// The last is never free. Boxed, so that a place more moves little.
    places: Vec<Option<Box<T>>>,
    free: FreeSlots,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: FreeSlots::default(), len: 0 }
    }
}

impl<T> Slots<T> {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Keeps a thing; gives it the lowest number that is free.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        self.len += 1;
        let thing = Some(Box::new(thing));
        let at = match self.free.take_lowest() {
            Some(at) => {
                self.places[at] = thing;
                at
            }
            None => {
                self.places.push(thing);
                self.places.len() - 1
            }
        };
        u32::try_from(at).expect("there are fewer than 2^32, each of many octets")
    }

    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.places.get(at as usize)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.places.get_mut(at as usize)?.as_deref_mut()
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let thing = self.places.get_mut(at as usize)?.take()?;
        self.len -= 1;
        self.free.insert(at as usize);
        let left = self.free.trim(self.places.len());
        self.places.truncate(left);
        let capacity = self.places.capacity();
        if capacity > KEPT_MAX && left * 8 < capacity {
            self.places.shrink_to(KEPT_MAX.max(left * 2));
            self.free.shrink();
        }
        Some(*thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_the_end_is_given_back() {
        let mut slots = Slots::default();
        for n in 0..1_000_u32 {
            assert_eq!(slots.insert(n), n);
        }
        assert_eq!((slots.remove(3), slots.remove(3)), (Some(3), None));
        assert_eq!(slots.get(3), None);
        assert_eq!(slots.insert(7), 3);
        assert_eq!(slots.get_mut(3), Some(&mut 7));
        for n in (1..1_000).rev() {
            assert!(slots.remove(n).is_some());
        }
        assert_eq!((slots.len(), slots.places.len(), slots.get(0)), (1, 1, Some(&0)));
        assert!(slots.places.capacity() <= 2 * KEPT_MAX, "{}", slots.places.capacity());
        assert_eq!(slots.insert(9), 1);
    }
}
