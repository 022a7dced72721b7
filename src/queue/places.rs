//! Numbered places that are used again: the number stays valid as long as what is in its place.
//!
//! A free place names the next free one, so that nothing beside the places is kept for it.

#[derive(Debug)]
pub(super) struct Places<T> {
    slots: Vec<Slot<T>>,
    /// The place that is used next; `NONE` if all are taken.
    free: u32,
    taken: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Taken(T),
    /// The free place after this one, or `NONE`.
    Free(u32),
}

const NONE: u32 = u32::MAX;

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE, taken: 0 }
    }
}

impl<T> Places<T> {
    /// Places that are taken.
    pub(super) fn len(&self) -> usize {
        self.taken as usize
    }

    /// Takes the place that was freed last, or a new one; says its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.taken += 1;
        let at = self.free;
        match self.slots.get_mut(at as usize) {
            Some(slot) => {
                if let Slot::Free(next) = std::mem::replace(slot, Slot::Taken(value)) {
                    self.free = next;
                }
                at
            }
            None => {
                self.slots.push(Slot::Taken(value));
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 consumers and links")
            }
        }
    }

    /// Frees a place. `None` if it is free or was never there.
    pub(super) fn remove(&mut self, at: u32) -> Option<T> {
        let slot = self.slots.get_mut(at as usize).filter(|slot| matches!(slot, Slot::Taken(_)))?;
        let taken = std::mem::replace(slot, Slot::Free(self.free));
        self.free = at;
        self.taken -= 1;
        match taken {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        match self.slots.get(at as usize)? {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.slots.get_mut(at as usize)? {
            Slot::Taken(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// What is there, by the numbers of the places.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.slots).filter_map(|(at, slot)| match slot {
            Slot::Taken(value) => Some((at, value)),
            Slot::Free(_) => None,
        })
    }

    /// What the places take, free ones too.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.slots.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u8),
        Remove(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => any::<u8>().prop_map(Step::Insert),
            2 => (0..12_u32).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn what_is_taken_is_that_of_a_map_and_no_place_is_made_while_one_is_free(
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let (mut places, mut model, mut most) = (Places::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Insert(value) => {
                        let at = places.insert(value);
                        prop_assert_eq!(model.insert(at, value), None);
                        most = most.max(model.len());
                    }
                    Step::Remove(at) => prop_assert_eq!(places.remove(at), model.remove(&at)),
                }
                prop_assert_eq!(places.len(), model.len());
                prop_assert_eq!(places.slots.len(), most);
                let all: Vec<_> = places.iter().map(|(at, value)| (at, *value)).collect();
                prop_assert_eq!(all, model.clone().into_iter().collect::<Vec<_>>());
                for at in 0..12 {
                    prop_assert_eq!(places.get(at), model.get(&at));
                    prop_assert_eq!(places.get_mut(at).map(|it| *it), model.get(&at).copied());
                }
            }
        }
    }
}
