//! Destinations, each as often as it is bound, for whoever picks one by number. Adding, removing
//! and picking cost the same however many there are.

use leveret_plugin_api::DestinationId;
use std::collections::HashMap;

#[derive(Default)]
pub(crate) struct Bag {
    /// With each entry its place in the list of its destination.
    entries: Vec<(DestinationId, usize)>,
    /// Where the entries of each destination are; none has an empty list.
    places: HashMap<DestinationId, Vec<usize>>,
}

impl Bag {
    pub(crate) fn add(&mut self, destination: DestinationId) {
        let places = self.places.entry(destination).or_default();
        self.entries.push((destination, places.len()));
        places.push(self.entries.len() - 1);
    }

    /// Removes one entry of `destination`, if there is any.
    pub(crate) fn remove(&mut self, destination: DestinationId) {
        let Some(places) = self.places.get_mut(&destination) else {
            return;
        };
        let Some(at) = places.pop() else { return };
        if places.is_empty() {
            self.places.remove(&destination);
        }
        self.entries.swap_remove(at);
        // The last entry may have taken its place.
        if let Some((moved, nth)) = self.entries.get(at)
            && let Some(places) = self.places.get_mut(moved)
        {
            places[*nth] = at;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<DestinationId> {
        self.entries.get(at).map(|(destination, _)| *destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_holds_what_a_list_would_hold(
            ops in prop::collection::vec((any::<bool>(), 0..6_u32), 0..200),
        ) {
            let (mut bag, mut list) = (Bag::default(), Vec::new());
            for (adds, id) in ops {
                let destination = DestinationId(id);
                if adds {
                    bag.add(destination);
                    list.push(destination);
                } else {
                    bag.remove(destination);
                    if let Some(at) = list.iter().position(|d| *d == destination) {
                        list.remove(at);
                    }
                }
                let mut held: Vec<_> = (0..bag.len()).filter_map(|at| bag.get(at)).collect();
                held.sort_unstable();
                list.sort_unstable();
                prop_assert_eq!(&held, &list);
            }
        }
    }
}
