//! The exchange types that RabbitMQ has as plugins, a file each: `x-consistent-hash`, `x-random`,
//! `x-local-random`, `x-modulus-hash` and `x-recent-history`. They know the broker by
//! `leveret-plugin-api` only. Texts are RabbitMQ's.

mod bag;
mod consistent_hash;
mod hash;
mod local_random;
mod modulus_hash;
mod random;
mod recent_history;
mod rendezvous;
mod term;
#[cfg(test)]
mod trial;

pub use consistent_hash::ConsistentHash;
pub use local_random::LocalRandom;
pub use modulus_hash::ModulusHash;
pub use random::Random;
pub use recent_history::RecentHistory;

use leveret_plugin_api::ExchangeType;
use std::sync::Arc;

/// All types of this crate.
#[must_use]
pub fn all() -> Vec<Arc<dyn ExchangeType>> {
    vec![
        Arc::new(ConsistentHash),
        Arc::new(LocalRandom),
        Arc::new(ModulusHash),
        Arc::new(Random),
        Arc::new(RecentHistory),
    ]
}
