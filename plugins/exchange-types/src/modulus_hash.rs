//! `x-modulus-hash`: the hash of the routing keys, modulo the number of bindings, chooses one of
//! them. Fewer or more bindings move most keys; who minds takes `x-consistent-hash`.

use crate::hash::Hasher;
use leveret_plugin_api::{Binding, Choice, DestinationId, ExchangeType, Fields, Message, Router};

pub struct ModulusHash;

impl ExchangeType for ModulusHash {
    fn name(&self) -> &str {
        "x-modulus-hash"
    }

    fn description(&self) -> &str {
        "Modulus Hashing Exchange"
    }

    fn router(&self, _arguments: &dyn Fields) -> Box<dyn Router> {
        Box::new(Numbered::default())
    }
}

/// Destinations in the order of their identities, each as often as it is bound. So the numbers are
/// the same after a restart.
#[derive(Default)]
struct Numbered(Vec<(Box<[u8]>, DestinationId)>);

impl Numbered {
    fn find(&self, identity: &[u8]) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(identity))
    }
}

impl Router for Numbered {
    fn bound(&mut self, binding: &Binding<'_>) {
        let (Ok(at) | Err(at)) = self.find(binding.identity);
        self.0.insert(at, (binding.identity.into(), binding.destination));
    }

    fn unbound(&mut self, binding: &Binding<'_>) {
        if let Ok(at) = self.find(binding.identity) {
            self.0.remove(at);
        }
    }

    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
        let hasher = message.keys.iter().fold(Hasher::new(), |hasher, key| hasher.part(key));
        let number = hasher.finish().checked_rem(self.0.len() as u64);
        let chosen = number.and_then(|number| self.0.get(usize::try_from(number).ok()?));
        chosen.into_iter().for_each(|(_, destination)| choice.add(*destination));
    }

    fn depends_on_keys_only(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Trial, spread};
    use proptest::prelude::*;

    #[test]
    fn binding_keys_are_ignored_and_all_routing_keys_count() {
        let mut trial = Trial::of(&ModulusHash, &[]);
        assert_eq!(trial.route(&[b"k"]), None);
        for destination in 0..16 {
            trial.bind(destination, "any");
        }
        let one = trial.route(&[b"k"]);
        assert!(one.is_some() && one == trial.route(&[b"k"]));
        let others = (0..64_u8).map(|n| trial.route(&[b"k", &[n]]));
        assert!(spread(others).len() > 8);
    }

    proptest! {
        #[test]
        fn the_order_of_binding_does_not_count(
            order in Just((0..12_u32).collect::<Vec<_>>()).prop_shuffle(),
            gone in 0..12_u32,
            keys in prop::collection::vec(any::<[u8; 4]>(), 1..50),
        ) {
            let (mut one, mut other) = (Trial::of(&ModulusHash, &[]), Trial::of(&ModulusHash, &[]));
            for destination in 0..12 {
                if destination != gone {
                    one.bind(destination, "");
                }
            }
            for destination in order {
                other.bind(destination, "");
            }
            other.unbind(gone, "");
            for key in &keys {
                let chosen = one.route(&[key]);
                prop_assert!(chosen.is_some() && chosen == other.route(&[key]));
            }
        }

        #[test]
        fn keys_spread_evenly(bound in 1..12_u32, salt in any::<u32>()) {
            let mut trial = Trial::of(&ModulusHash, &[]);
            for destination in 0..bound {
                trial.bind(destination, "");
            }
            let keys = (0..4000_u32).map(|nth| [salt.to_le_bytes(), nth.to_le_bytes()].concat());
            let counts = spread(keys.map(|key| trial.route(&[&key])));
            let share = 4000.0 / f64::from(bound);
            prop_assert_eq!(counts.len(), bound as usize);
            for count in counts.values() {
                prop_assert!((f64::from(*count) - share).abs() < 6.0 * share.sqrt());
            }
        }
    }
}
