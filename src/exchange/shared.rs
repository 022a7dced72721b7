//! What publishers hold of an exchange without looking into the topology.

use super::{Kind, Settings};
use crate::counters::ExchangeCounters;
use crate::deduplication::Deduplicator;
use crate::name::Name;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The version of an exchange that was deleted; no route was ever found under it.
const GONE: u64 = u64::MAX;

/// The lasting part of one declared exchange. One declared again under its name is another.
#[derive(Debug)]
pub struct ExchangeShared {
    pub name: Name,
    pub kind: Kind,
    pub internal: bool,
    pub durable: bool,
    /// What it remembers of its publishes.
    pub deduplicator: Option<Arc<Deduplicator>>,
    version: AtomicU64,
    pub counters: OwnLine<ExchangeCounters>,
}

/// Keeps counters, which every publisher writes, off the cache line of the version, which every
/// publisher reads for every message.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct OwnLine<T>(T);

impl<T> Deref for OwnLine<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl ExchangeShared {
    pub(super) fn new(name: Name, settings: &Settings) -> Self {
        let Settings { ref kind, internal, durable, cache, .. } = *settings;
        let deduplicator = cache.zip(settings.deduplication());
        let deduplicator = deduplicator.map(|(id, it)| Deduplicator::new(id, &it, durable));
        Self {
            name,
            kind: kind.clone(),
            internal,
            durable,
            deduplicator: deduplicator.map(Arc::new),
            version: AtomicU64::new(0),
            counters: OwnLine::default(),
        }
    }

    /// Changes with everything that can change where a message to this exchange goes.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Acquire)
    }

    /// Whether the exchange was deleted.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.version() == GONE
    }

    /// Whether a route found under `version` still holds: one load.
    #[must_use]
    pub fn is_at(&self, version: u64) -> bool {
        self.version() == version && version != GONE
    }

    pub(super) fn bump(&self) {
        self.version.fetch_add(1, Release);
    }

    pub(super) fn mark_gone(&self) {
        self.version.store(GONE, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_version_of_a_deleted_exchange_is_current() {
        let shared = ExchangeShared::new(Name::new("e"), &Settings::durable(Kind::Direct));
        let first = shared.version();
        assert!(shared.is_at(first) && !shared.is_gone());
        shared.bump();
        assert!(!shared.is_at(first) && shared.is_at(shared.version()));
        shared.mark_gone();
        assert!(!shared.is_at(shared.version()) && shared.is_gone());
    }

    #[test]
    fn counters_do_not_share_a_line_with_the_version() {
        let at = std::mem::offset_of!(ExchangeShared, version);
        let counters = std::mem::offset_of!(ExchangeShared, counters);
        assert!(at / 128 != counters / 128);
    }
}
