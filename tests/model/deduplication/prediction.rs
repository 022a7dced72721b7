//! Who gets which message: lists of keys and messages, and what each record of the journal adds.

use super::Publication;
use super::world::{CACHE_OF_QUEUE, CACHE_OF_WAY, CACHES, QUEUES, TARGETS, TRANSIENT};

/// A key in a cache, and the record of its message, if there is one.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: u8,
    due: u64,
    lsn: u64,
}

/// What queues and caches hold.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Messages by queue, the oldest first.
    pub(super) queues: [Vec<u32>; QUEUES.len()],
    caches: [Vec<Known>; CACHES.len()],
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Published {
        id: u32,
        queues: Vec<usize>,
        keys: Vec<(usize, u8, u64)>,
    },
    Purged(usize),
    /// The cache of an exchange is gone.
    Forgotten(usize),
}

/// What is to become of a message.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The exchange leaves it out.
    pub(super) dropped: bool,
    /// Queues leave it out.
    pub(super) skipped: bool,
    pub(super) refused: bool,
    pub(super) queues: Vec<usize>,
    pub(super) keys: Vec<(usize, u8, u64)>,
    /// The records of its originals.
    pub(super) waits: u64,
}

impl State {
    fn find(&self, cache: usize, key: u8, now: u64) -> Option<u64> {
        let live = |known: &&Known| known.key == key && now < known.due;
        self.caches[cache].iter().find(live).map(|known| known.lsn)
    }

    /// `earlier` are those of the same transaction.
    pub(super) fn predict(
        &self,
        publication: &Publication,
        now: u64,
        earlier: &[Outcome],
    ) -> Outcome {
        let Publication { way, key, ttl } = *publication;
        let mut outcome = Outcome::default();
        let seen = |cache: usize, key| {
            let claimed =
                |outcome: &Outcome| outcome.keys.iter().any(|it| (it.0, it.1) == (cache, key));
            let claimed = earlier.iter().any(claimed).then_some(0);
            self.find(cache, key, now).or(claimed)
        };
        let due = |cache: usize| ttl.or(CACHES[cache].1).map_or(u64::MAX, |ttl| now + ttl);
        if let (Some(cache), Some(key)) = (CACHE_OF_WAY[way], key) {
            if let Some(lsn) = seen(cache, key) {
                return Outcome { dropped: true, waits: lsn, ..outcome };
            }
            outcome.keys.push((cache, key, due(cache)));
        }
        for queue in TARGETS[way] {
            let before = earlier.iter().filter(|outcome| outcome.queues.contains(queue));
            let len = self.queues[*queue].len() + before.count();
            let known = CACHE_OF_QUEUE[*queue].zip(key);
            if let Some((cache, key)) = known
                && let Some(lsn) = seen(cache, key)
            {
                outcome.waits = outcome.waits.max(lsn);
                outcome.skipped = true;
            } else if QUEUES[*queue].1.is_some_and(|max| len >= max) {
                outcome.refused = true;
            } else {
                outcome.queues.push(*queue);
                outcome.keys.extend(known.map(|(cache, key)| (cache, key, due(cache))));
            }
        }
        if outcome.refused || outcome.queues.is_empty() {
            outcome.keys.retain(|(cache, ..)| Some(*cache) != CACHE_OF_WAY[way]);
        }
        outcome
    }

    pub(super) fn apply(&mut self, change: &Change, lsn: u64) {
        match change {
            Change::Published { id, queues, keys } => {
                queues.iter().for_each(|queue| self.queues[*queue].push(*id));
                for &(cache, key, due) in keys {
                    let list = &mut self.caches[cache];
                    list.retain(|known| known.key != key);
                    list.push(Known { key, due, lsn });
                    list.drain(..list.len().saturating_sub(CACHES[cache].0));
                }
            }
            Change::Purged(queue) => self.queues[*queue].clear(),
            Change::Forgotten(cache) => self.caches[*cache].clear(),
        }
    }

    /// Nobody waits for records of an earlier run.
    pub(super) fn restart(&mut self) {
        self.caches.iter_mut().flatten().for_each(|known| known.lsn = 0);
        self.caches[TRANSIENT].clear();
    }
}
