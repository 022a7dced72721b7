//! `x-local-random`: as `x-random`, over classic queues of this node.

use crate::random::ByChance;
use leveret_plugin_api::{DestinationKind, ExchangeType, Fields, NewBinding, Router};

pub struct LocalRandom;

impl ExchangeType for LocalRandom {
    fn name(&self) -> &str {
        "x-local-random"
    }

    fn description(&self) -> &str {
        "Picks one random local binding (queue) to route via (to)."
    }

    fn check_binding(&self, binding: &NewBinding<'_>) -> Result<(), String> {
        if !binding.key.is_empty() {
            let key = String::from_utf8_lossy(binding.key);
            return Err(format!("Non empty binding '{key}' key not permitted"));
        }
        match binding.to {
            DestinationKind::Queue { queue_type: "classic" } => Ok(()),
            // RabbitMQ prints the name of the module.
            DestinationKind::Queue { queue_type } => Err(format!(
                "Queue type rabbit_{queue_type}_queue not valid for this exchange type"
            )),
            DestinationKind::Exchange => Err("Destination not found".to_owned()),
        }
    }

    fn router(&self, _arguments: &dyn Fields) -> Box<dyn Router> {
        Box::new(ByChance::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::refused_binding;

    const CLASSIC: DestinationKind<'_> = DestinationKind::Queue { queue_type: "classic" };
    const QUORUM: DestinationKind<'_> = DestinationKind::Queue { queue_type: "quorum" };

    #[test]
    fn only_classic_queues_are_bound_and_only_without_a_key() {
        assert_eq!(refused_binding(&LocalRandom, CLASSIC, b""), None);
        let refused = |to, key| refused_binding(&LocalRandom, to, key).unwrap_or_default();
        assert_eq!(refused(CLASSIC, b"k"), "Non empty binding 'k' key not permitted");
        assert_eq!(
            refused(QUORUM, b""),
            "Queue type rabbit_quorum_queue not valid for this exchange type"
        );
        assert_eq!(refused(DestinationKind::Exchange, b""), "Destination not found");
    }
}
