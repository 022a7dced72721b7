//! Dead letters that would go round for ever are dropped, and the log tells of each way round once.

use super::letter::Letter;
use crate::limits::{DEAD_LETTER_CYCLE_QUEUES_LOGGED, DEAD_LETTER_CYCLES_LOGGED_MAX};
use hashbrown::HashSet;
use parking_lot::Mutex;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Hashes of the ways round that were told of. When there are very many, no more are.
#[derive(Default)]
pub(super) struct Cycles(Mutex<HashSet<u64>>);

impl Cycles {
    /// RabbitMQ: names the queue that the letter came back to, then all in which it died.
    #[cold]
    pub(super) fn log_once(&self, vhost: &str, queue: &str, letter: &Letter) {
        let mut hasher = DefaultHasher::new();
        (vhost, queue).hash(&mut hasher);
        letter.queues().for_each(|queue| queue.hash(&mut hasher));
        let mut told = self.0.lock();
        if told.len() >= DEAD_LETTER_CYCLES_LOGGED_MAX || !told.insert(hasher.finish()) {
            return;
        }
        let queues = std::iter::once(queue.as_bytes()).chain(letter.queues());
        let names = queues.take(DEAD_LETTER_CYCLE_QUEUES_LOGGED);
        let names: Vec<_> =
            names.map(|name| format!("<<{:?}>>", String::from_utf8_lossy(name))).collect();
        tracing::warn!(
            detail = "This cycle will NOT be reported again.",
            "Message dropped. Dead-letter queues cycle detected: [{}] in vhost '{vhost}'",
            names.join(",")
        );
    }
}
