//! `x-random`: each message goes to one destination, by chance over the bindings.

use crate::bag::Bag;
use crate::hash::below;
use leveret_plugin_api::{Binding, Choice, ExchangeType, Fields, Message, Router};

pub struct Random;

impl ExchangeType for Random {
    fn name(&self) -> &str {
        "x-random"
    }

    fn description(&self) -> &str {
        "Randomly picks a binding (queue) to route via (to)."
    }

    fn router(&self, _arguments: &dyn Fields) -> Box<dyn Router> {
        Box::new(ByChance::default())
    }
}

/// Picks any binding, whatever its key.
#[derive(Default)]
pub(crate) struct ByChance(Bag);

impl Router for ByChance {
    fn bound(&mut self, binding: &Binding<'_>) {
        self.0.add(binding.destination);
    }

    fn unbound(&mut self, binding: &Binding<'_>) {
        self.0.remove(binding.destination);
    }

    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
        let chosen = match self.0.len() {
            0 => None,
            len => self.0.get(below(message.random, len)),
        };
        chosen.into_iter().for_each(|destination| choice.add(destination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{Trial, spread};
    use proptest::prelude::*;

    #[test]
    fn nothing_bound_is_nothing_chosen() {
        assert_eq!(Trial::of(&Random, &[]).route_by_chance(7), None);
    }

    proptest! {
        #[test]
        fn each_binding_has_its_share(bound in 1..8_u32, seed in any::<u64>()) {
            let mut trial = Trial::of(&Random, &[]);
            for destination in 0..bound {
                trial.bind(destination, "");
            }
            // A second binding is a second share.
            trial.bind(0, "again");
            let chosen = (0..4000).map(|nth| trial.route_by_chance(seed.wrapping_add(nth)));
            let counts = spread(chosen);
            prop_assert_eq!(counts.len(), bound as usize);
            let share = 4000.0 / f64::from(bound + 1);
            for (destination, count) in counts {
                let share = if destination == 0 { 2.0 * share } else { share };
                let off = (f64::from(count) - share).abs();
                prop_assert!(off < 6.0 * share.sqrt(), "{} got {}", destination, count);
            }
        }
    }
}
