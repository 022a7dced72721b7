//! Deduplication's decisions: which messages are duplicates for whom, and which keys stay.
//!
//! The caches of a batch are locked from the decision until its record is appended, so nobody sees
//! a key whose message may still be refused. A key is remembered once its message was accepted, and
//! stands in one record with it. What only moves (dead letters, released delays, the replay of a
//! history) is asked for no key and leaves none: a move must not lose a message.

use super::route::Route;
use crate::deduplication::{Cache, Deduplicator, Key, KeyBudget, Original};
use crate::exchange::ExchangeShared;
use crate::id::{CacheId, QueueId};
use crate::queue::{Publish, Queue};
use crate::store::{Reach, RecordBatch};
use crate::time::UnixMillis;
use crate::wire::Properties;
use hashbrown::{HashMap, HashSet};
use parking_lot::MutexGuard;
use std::sync::{Arc, Weak};

/// Several caches, locked in the order of their ids.
pub(super) struct Caches<'a> {
    locked: Vec<(&'a Deduplicator, MutexGuard<'a, Cache>)>,
    now: UnixMillis,
    budget: &'a Arc<KeyBudget>,
    /// Keys of messages that were decided on and have no record yet.
    claimed: HashSet<(CacheId, Key)>,
    /// Keys that were remembered and wait for their record.
    waiting: Vec<(CacheId, Key)>,
}

/// What the caches say of a message.
#[derive(Default)]
pub(super) struct Decision {
    /// The exchange has seen its key: it goes nowhere.
    dropped: bool,
    /// Queues that have seen its key, in the order of their ids, as routes have them.
    skipped: Vec<QueueId>,
    /// Keys to remember if it is accepted.
    keys: Vec<New>,
    /// It may change once those keys that are claimed are remembered.
    pub(super) depends_on_claimed: bool,
    /// What its originals wait for.
    pub(super) reach: Reach,
}

struct New {
    cache: CacheId,
    /// Whose cache that is; none: the exchange's.
    queue: Option<QueueId>,
    key: Key,
    due: UnixMillis,
}

impl Decision {
    /// Whether this queue is to get the message.
    pub(super) fn wants(&self, queue: QueueId) -> bool {
        !self.dropped && self.skipped.binary_search(&queue).is_err()
    }

    pub(super) fn skipped_len(&self) -> usize {
        self.skipped.len()
    }

    /// Whether the exchange left it out.
    pub(super) fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Whether somebody had it before, so that it did not come to nobody.
    pub(super) fn is_duplicate(&self) -> bool {
        self.dropped || !self.skipped.is_empty()
    }
}

/// The caches of these, each once and in the order in which they are locked.
pub(super) fn in_order<'a>(
    exchanges: impl Iterator<Item = &'a ExchangeShared>,
    queues: impl Iterator<Item = &'a Arc<Queue>>,
) -> Vec<Arc<Deduplicator>> {
    let of_exchanges = exchanges.filter_map(|exchange| exchange.deduplicator.clone());
    let of_queues = queues.filter_map(|queue| queue.deduplicator.clone());
    let mut all: Vec<_> = of_exchanges.chain(of_queues).collect();
    all.sort_unstable_by_key(|it| it.id);
    all.dedup_by_key(|it| it.id);
    all
}

impl<'a> Caches<'a> {
    /// Locks what `in_order` gave.
    pub(super) fn lock(
        ordered: &'a [Arc<Deduplicator>],
        now: UnixMillis,
        budget: &'a Arc<KeyBudget>,
    ) -> Self {
        let locked = ordered.iter().map(|it| (&**it, it.lock())).collect();
        Self { locked, now, budget, claimed: HashSet::new(), waiting: Vec::new() }
    }

    /// Decides on a message for these queues. A key that is claimed counts as seen.
    pub(super) fn decide(
        &self,
        exchange: &ExchangeShared,
        queues: &[Arc<Queue>],
        publish: &Publish,
    ) -> Decision {
        let mut decision = Decision::default();
        let properties = Properties::check(publish.message.header()).ok();
        let Some(headers) = properties.and_then(|it| it.headers()) else { return decision };
        let of_exchange = exchange.deduplicator.iter().map(|it| (None, it));
        let of_queues = queues.iter().filter_map(|queue| {
            let deduplicator = queue.deduplicator.as_ref()?;
            Some((Some(queue.id), deduplicator))
        });
        for (queue, deduplicator) in of_exchange.chain(of_queues) {
            let Some((key, due)) = deduplicator.key(headers, self.now) else { continue };
            let cache = deduplicator.id;
            let claimed = self.claimed.contains(&(cache, key));
            let known = self.cache(cache);
            let original = known.and_then(|known| known.find(&key, self.now));
            let outlasts = known.is_some_and(|known| known.outlasts(&key, self.claimed.len()));
            decision.depends_on_claimed |= claimed || original.is_some() && !outlasts;
            let original = original.or_else(|| claimed.then(Original::default));
            match (original, queue) {
                (None, queue) => decision.keys.push(New { cache, queue, key, due }),
                (Some(original), None) => {
                    let reach = Reach::of(original.lsn, original.durability);
                    return Decision { dropped: true, reach, keys: Vec::new(), ..decision };
                }
                (Some(original), Some(queue)) => {
                    let reach = Reach::of(original.lsn, original.durability);
                    decision.reach = decision.reach.max(reach);
                    decision.skipped.push(queue);
                }
            }
        }
        decision
    }

    /// From here on its keys count as seen.
    pub(super) fn claim(&mut self, decision: &Decision) {
        self.claimed.extend(decision.keys.iter().map(|new| (new.cache, new.key)));
    }

    /// These queues, in the order of their ids, have a place for the message: its keys are
    /// remembered. Those of queues in which it has none are not, nor the exchange's if one queue
    /// has `refused` it, for then it comes again. `recorded` says that its record is being written:
    /// the keys join it.
    pub(super) fn remember(
        &mut self,
        decision: &Decision,
        taken: &[QueueId],
        (refused, recorded): (bool, bool),
        records: &mut RecordBatch,
    ) {
        for new in &decision.keys {
            let accepted = match new.queue {
                Some(queue) => taken.binary_search(&queue).is_ok(),
                None => !taken.is_empty() && !refused,
            };
            let (now, budget) = (self.now, self.budget);
            let Some((deduplicator, cache)) = self.locked(new.cache).filter(|_| accepted) else {
                continue;
            };
            let stored = recorded && deduplicator.durable;
            let entry = cache.remember(new.key, new.due, now, stored, budget);
            deduplicator.keys.set(cache.len() as u64);
            if stored {
                deduplicator.mark_changed();
                records.key(new.cache, &entry);
            }
            if recorded {
                self.waiting.push((new.cache, new.key));
            }
        }
    }

    /// The record was appended: duplicates from here on wait for it.
    pub(super) fn appended(&mut self, original: Original) {
        self.claimed.clear();
        for (cache, key) in std::mem::take(&mut self.waiting) {
            if let Some((_, cache)) = self.locked(cache) {
                cache.appended(&key, original);
            }
        }
        self.locked.iter_mut().for_each(|(_, cache)| cache.trim());
        if self.budget.take_news() {
            log_budget_used_up(self.budget.bytes());
        }
    }

    /// Counts what was left out.
    pub(super) fn count(&self, exchange: &ExchangeShared, decision: &Decision) {
        if decision.dropped
            && let Some(deduplicator) = &exchange.deduplicator
        {
            deduplicator.duplicates.add(1);
        }
        for queue in &decision.skipped {
            if let Some(at) = self.place(CacheId(queue.0)) {
                self.locked[at].0.duplicates.add(1);
            }
        }
    }

    fn place(&self, id: CacheId) -> Option<usize> {
        self.locked.binary_search_by_key(&id, |(deduplicator, _)| deduplicator.id).ok()
    }

    fn cache(&self, id: CacheId) -> Option<&Cache> {
        self.place(id).map(|at| &*self.locked[at].1)
    }

    fn locked(&mut self, id: CacheId) -> Option<(&'a Deduplicator, &mut Cache)> {
        let at = self.place(id)?;
        let (deduplicator, cache) = &mut self.locked[at];
        Some((*deduplicator, cache))
    }
}

#[cold]
fn log_budget_used_up(bytes: u64) {
    tracing::warn!(
        "the keys by which duplicates are found take {bytes} bytes, as many as they may: from now \
         on caches forget keys before they have x-cache-size of them; leveret ctl \
         list_deduplication shows how many each has"
    );
}

/// A transaction's decisions, by the number of the publish: empty where nothing remembers keys.
#[derive(Default)]
pub(super) struct Decisions(HashMap<usize, Decision>);

impl Decisions {
    /// Of two messages with one key the first counts, since a commit takes all or none.
    pub(super) fn new(publishes: &[(Arc<Route>, Publish)], caches: &mut Caches<'_>) -> Self {
        let mut decisions = Self::default();
        let unique = publishes.iter().enumerate().filter(|(_, (route, _))| route.deduplicates);
        for (nth, (route, publish)) in unique {
            let queues = route.targets.iter().filter_map(Weak::upgrade);
            let queues: Vec<_> = queues.filter(|queue| !queue.is_gone()).collect();
            let decision = caches.decide(&route.exchange, &queues, publish);
            if !queues.is_empty() {
                caches.claim(&decision);
            }
            decisions.0.insert(nth, decision);
        }
        decisions
    }

    /// Whether this queue is to get that publish.
    pub(super) fn want(&self, nth: usize, queue: QueueId) -> bool {
        self.0.get(&nth).is_none_or(|decision| decision.wants(queue))
    }

    pub(super) fn get(&self, nth: usize) -> Option<&Decision> {
        self.0.get(&nth)
    }

    /// Remembers the keys of that publish, which has a place in these queues.
    pub(super) fn remember(
        &self,
        nth: usize,
        taken: &[QueueId],
        recorded: bool,
        caches: &mut Caches<'_>,
        records: &mut RecordBatch,
    ) {
        if let Some(decision) = self.0.get(&nth) {
            caches.remember(decision, taken, (false, recorded), records);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the originals of all duplicates wait for.
    pub(super) fn reach(&self) -> Reach {
        self.0.values().fold(Reach::default(), |reach, decision| reach.max(decision.reach))
    }
}
