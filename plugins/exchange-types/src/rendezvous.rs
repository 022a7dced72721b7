//! Weighted rendezvous hashing: every destination draws a number from the hash of the key and its
//! own identity, and the highest wins.
//!
//! A destination that goes takes only its own keys along, one that comes takes only its share, and
//! nothing depends on the order in which they came. A key costs a few instructions for each
//! destination, and a logarithm for each weight that is in use.

use crate::hash::{Hasher, mix};
use leveret_plugin_api::DestinationId;
use std::collections::BTreeMap;

/// Destinations by weight; no list is empty.
#[derive(Default)]
pub(crate) struct Rendezvous {
    by_weight: BTreeMap<u16, Vec<Seat>>,
}

/// A destination and what it draws with. Sorted by the latter, then the former.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    salt: u64,
    destination: DestinationId,
}

impl Seat {
    fn new(destination: DestinationId, identity: &[u8]) -> Self {
        Self { salt: Hasher::new().part(identity).finish(), destination }
    }

    fn draw(self, hash: u64) -> u64 {
        mix(hash ^ self.salt)
    }
}

impl Rendezvous {
    pub(crate) fn add(&mut self, destination: DestinationId, identity: &[u8], weight: u16) {
        let seat = Seat::new(destination, identity);
        let seats = self.by_weight.entry(weight).or_default();
        if let Err(at) = seats.binary_search(&seat) {
            seats.insert(at, seat);
        }
    }

    pub(crate) fn remove(&mut self, destination: DestinationId, identity: &[u8], weight: u16) {
        let Some(seats) = self.by_weight.get_mut(&weight) else {
            return;
        };
        if let Ok(at) = seats.binary_search(&Seat::new(destination, identity)) {
            seats.remove(at);
        }
        if seats.is_empty() {
            self.by_weight.remove(&weight);
        }
    }

    /// The winner for a key with this hash. Among equal weights the highest number wins, so that
    /// only those winners are compared by their weights.
    pub(crate) fn winner(&self, hash: u64) -> Option<DestinationId> {
        let best_of = |seats: &Vec<Seat>| {
            seats.iter().map(|seat| (seat.draw(hash), seat.destination)).max_by_key(|best| best.0)
        };
        if self.by_weight.len() == 1 {
            let (_, seats) = self.by_weight.first_key_value()?;
            return best_of(seats).map(|(_, destination)| destination);
        }
        let bests = self.by_weight.iter().filter_map(|(weight, seats)| {
            let (drawn, destination) = best_of(seats)?;
            Some((score(drawn, *weight), destination))
        });
        bests.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, destination)| destination)
    }
}

/// Highest for `weight` of the sum of weights of all keys: the logarithm of an evenly spread number
/// below 1 falls behind exponentially, at a rate that the weight divides.
fn score(drawn: u64, weight: u16) -> f64 {
    // Above 0 and below 1: the upper 53 bits, in the middle of their step.
    let even = ((drawn >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    even.ln() / f64::from(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn identity(id: u32) -> [u8; 4] {
        id.to_be_bytes()
    }

    fn of(weights: &[(u32, u16)]) -> Rendezvous {
        let mut rendezvous = Rendezvous::default();
        for (id, weight) in weights {
            rendezvous.add(DestinationId(*id), &identity(*id), *weight);
        }
        rendezvous
    }

    fn hash(key: u64) -> u64 {
        Hasher::new().part(&key.to_le_bytes()).finish()
    }

    fn weights() -> impl Strategy<Value = Vec<(u32, u16)>> {
        let weight = prop_oneof![3 => Just(1_u16), 3 => 1..5_u16, 1 => 1..10_001_u16];
        prop::collection::vec(weight, 1..20).prop_map(|all| (0_u32..).zip(all).collect())
    }

    #[test]
    fn nobody_wins_where_nobody_sits() {
        let mut rendezvous = of(&[(1, 5)]);
        rendezvous.remove(DestinationId(1), &identity(1), 5);
        assert_eq!(rendezvous.winner(7), None);
    }

    proptest! {
        #[test]
        fn who_goes_takes_only_its_own_keys_along(
            weights in weights(), gone in any::<prop::sample::Index>(), salt in any::<u64>(),
        ) {
            let gone = weights[gone.index(weights.len())];
            let all = of(&weights);
            let mut rest = of(&weights);
            rest.remove(DestinationId(gone.0), &identity(gone.0), gone.1);
            for key in 0..500 {
                let hash = hash(salt.wrapping_add(key));
                let before = all.winner(hash);
                if before != Some(DestinationId(gone.0)) {
                    prop_assert_eq!(rest.winner(hash), before);
                }
            }
            // Coming back is going in reverse.
            rest.add(DestinationId(gone.0), &identity(gone.0), gone.1);
            for key in 0..500 {
                prop_assert_eq!(rest.winner(hash(key)), all.winner(hash(key)));
            }
        }

        #[test]
        fn each_weight_gets_its_share(
            weights in prop::collection::vec(1..6_u16, 1..9), salt in any::<u64>(),
        ) {
            const KEYS: u64 = 6000;
            let seats: Vec<_> = (0_u32..).zip(weights).collect();
            let rendezvous = of(&seats);
            let mut counts: HashMap<DestinationId, u32> = HashMap::new();
            for key in 0..KEYS {
                let winner = rendezvous.winner(hash(salt.wrapping_add(key)));
                *counts.entry(winner.unwrap()).or_insert(0) += 1;
            }
            let sum: u16 = seats.iter().map(|(_, weight)| weight).sum();
            for (id, weight) in seats {
                let share = KEYS as f64 * f64::from(weight) / f64::from(sum);
                let count = counts.get(&DestinationId(id)).copied().unwrap_or(0);
                let off = (f64::from(count) - share).abs();
                prop_assert!(off < 6.0 * share.sqrt(), "{} of {} got {}", weight, sum, count);
            }
        }
    }
}
