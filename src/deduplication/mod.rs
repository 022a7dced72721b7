//! What a queue or an exchange remembers of its publishes, so that none comes twice: settings,
//! keys, the cache, and the lock around it.
//!
//! Vocabulary: it knows neither routes nor queues nor records. Whoever publishes holds the lock
//! from the decision until the record is appended, so two publishers of one key never both see it
//! as new, and nobody meets a key whose message may still be refused.

mod budget;
mod cache;
mod copy;
mod key;
mod key_map;
mod order;
mod plugin;

pub use budget::KeyBudget;
pub use cache::{Cache, Original};
pub use key::{Key, KeyEntry};
pub use plugin::check_exchange;

use crate::counters::{Counter, Gauge};
use crate::id::CacheId;
use crate::limits::{
    DEDUPLICATION_CACHE_LEN, DEDUPLICATION_CACHE_MAX, DEDUPLICATION_KEY_BYTES, EXPIRY_MS_MAX,
};
use crate::name::Name;
use crate::table::{TableRef, Value};
use crate::time::UnixMillis;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Turns it on; the type of an exchange that has it too.
pub const ENABLED: &str = "x-message-deduplication";
/// How many keys are remembered.
pub const CACHE_SIZE: &str = "x-cache-size";
/// How long, in milliseconds; in a message's headers it is for that message.
pub const CACHE_TTL: &str = "x-cache-ttl";
/// Which header has the key, and the header that has it where nothing is said.
pub const HEADER: &str = "x-deduplication-header";

/// Whether keys are stored with their messages: `disk` or `memory`.
pub const CACHE_PERSISTENCE: &str = "x-cache-persistence";

/// All arguments that are about it.
pub const ARGUMENTS: [&str; 5] = [ENABLED, CACHE_SIZE, CACHE_TTL, CACHE_PERSISTENCE, HEADER];

/// Which publishes are remembered, how many and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deduplication {
    /// Of a message: its value is the key.
    pub header: Name,
    pub cache_len: u64,
    /// How long each is remembered; none: until others displace it.
    pub ttl_ms: Option<u64>,
    /// Keys of stored messages are stored too.
    pub persistent: bool,
}

impl Deduplication {
    /// What these arguments say; `None` if there is to be none. An argument that no declare lets
    /// through says nothing.
    #[must_use]
    pub fn of(arguments: TableRef<'_>) -> Option<Self> {
        let enabled = arguments.get(ENABLED.as_bytes()) == Some(Value::Bool(true));
        enabled.then(|| Self::with(arguments, "disk"))
    }

    /// As `of`, of the arguments of an exchange whose type asks for it, as the plugin's does: keys
    /// are in memory unless something else is said.
    #[must_use]
    pub fn of_type(arguments: TableRef<'_>) -> Self {
        Self::with(arguments, "memory")
    }

    fn with(arguments: TableRef<'_>, persistence: &str) -> Self {
        let number = |key: &str| arguments.get(key.as_bytes()).and_then(plugin::number);
        let cache_len = number(CACHE_SIZE).and_then(|len| u64::try_from(len).ok());
        let text = |key: &str| arguments.get(key.as_bytes()).and_then(Value::as_str);
        Self {
            header: Name::new(text(HEADER).unwrap_or(HEADER)),
            cache_len: cache_len
                .unwrap_or(DEDUPLICATION_CACHE_LEN)
                .clamp(1, DEDUPLICATION_CACHE_MAX.unsigned_abs()),
            ttl_ms: number(CACHE_TTL).and_then(period),
            persistent: text(CACHE_PERSISTENCE).unwrap_or(persistence) == "disk",
        }
    }
}

/// What is longer than the longest expiry never comes either way.
fn period(ms: i64) -> Option<u64> {
    u64::try_from(ms.min(EXPIRY_MS_MAX)).ok()
}

/// One queue's or exchange's cache, and how a message's key is found. Its lock stands before those
/// of queues; who needs several takes them in the order of their ids.
#[derive(Debug)]
pub struct Deduplicator {
    pub id: CacheId,
    /// Keys of stored messages are stored too.
    pub durable: bool,
    /// Messages that were left out.
    pub duplicates: Counter,
    /// Keys that are remembered.
    pub keys: Gauge,
    /// How many may be.
    pub cache_len: u64,
    header: Name,
    ttl_ms: Option<u64>,
    /// A stored key came since a checkpoint looked. Set under the lock.
    changed: AtomicBool,
    cache: Mutex<Cache>,
}

impl Deduplicator {
    #[must_use]
    pub fn new(id: CacheId, settings: &Deduplication, durable: bool) -> Self {
        let len_max = usize::try_from(settings.cache_len).unwrap_or(usize::MAX);
        Self {
            id,
            durable: durable && settings.persistent,
            cache_len: settings.cache_len,
            duplicates: Counter::default(),
            keys: Gauge::default(),
            header: settings.header.clone(),
            ttl_ms: settings.ttl_ms,
            changed: AtomicBool::new(false),
            cache: Mutex::new(Cache::new(len_max)),
        }
    }

    /// The key of a message with these headers, and until when it is remembered; `None` if it has
    /// none and is never a duplicate. A ttl that is no number of milliseconds says nothing.
    #[must_use]
    pub fn key(&self, headers: TableRef<'_>, now: UnixMillis) -> Option<(Key, UnixMillis)> {
        let key = Key::of(headers.get(self.header.as_bytes())?)?;
        let own = headers.get(CACHE_TTL.as_bytes()).and_then(Value::as_int).and_then(period);
        let due = own.or(self.ttl_ms).map_or(UnixMillis::NEVER, |ms| now.plus(ms));
        Some((key, due))
    }

    /// What its keys take in memory, roughly, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.keys.get() * DEDUPLICATION_KEY_BYTES
    }

    pub fn lock(&self) -> MutexGuard<'_, Cache> {
        let mut cache = self.cache.lock();
        cache.begin_hold();
        cache
    }

    /// Takes what an earlier run stored, with the number behind all that it gave. `changed` says
    /// that the last checkpoint does not know all of it.
    pub fn restore(
        &self,
        entries: impl IntoIterator<Item = KeyEntry>,
        next: u64,
        changed: bool,
        budget: &Arc<KeyBudget>,
    ) {
        let mut cache = self.cache.lock();
        cache.restore(entries, next, budget);
        self.keys.set(cache.len() as u64);
        self.changed.store(changed, Ordering::Release);
    }

    /// The last checkpoint does not know all of it. Call under the lock.
    pub fn mark_changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Whether what is stored of it changed since this was asked last.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableBuilder;

    #[test]
    fn settings_are_read_from_the_arguments() {
        let on = || TableBuilder::new().put(ENABLED.as_bytes(), Value::Bool(true));
        let default = Deduplication {
            header: Name::new("x-deduplication-header"),
            cache_len: 128,
            ttl_ms: None,
            persistent: true,
        };
        assert_eq!(Deduplication::of(on().finish().as_ref()), Some(default));
        let all = on()
            .put(b"x-cache-size", Value::I32(9))
            .put(b"x-cache-ttl", Value::I64(10))
            .put(b"x-deduplication-header", Value::LongStr(b"id"));
        let all = all.put(b"x-cache-persistence", Value::LongStr(b"memory"));
        let (header, ttl_ms) = (Name::new("id"), Some(10));
        let expected = Deduplication { header, cache_len: 9, ttl_ms, persistent: false };
        assert_eq!(Deduplication::of(all.finish().as_ref()), Some(expected));
        let off = TableBuilder::new().put(ENABLED.as_bytes(), Value::Bool(false));
        assert_eq!(Deduplication::of(off.finish().as_ref()), None);
        assert_eq!(Deduplication::of(TableRef::EMPTY), None);
    }

    #[test]
    fn a_message_says_its_key_and_how_long_it_counts() {
        let (header, ttl_ms) = (Name::new("id"), Some(1000));
        let settings = Deduplication { header, cache_len: 9, ttl_ms, persistent: true };
        let deduplicator = Deduplicator::new(CacheId(1), &settings, true);
        let now = UnixMillis(500);
        let due = |ttl: Option<Value<'_>>| {
            let id = TableBuilder::new().put(b"id", Value::I32(7));
            let headers = ttl.into_iter().fold(id, |t, ttl| t.put(CACHE_TTL.as_bytes(), ttl));
            deduplicator.key(headers.finish().as_ref(), now).unwrap().1.0
        };
        assert_eq!(due(None), 1500);
        assert_eq!(due(Some(Value::U8(7))), 507);
        for nothing in [Value::I32(-1), Value::LongStr(b"7"), Value::Void] {
            assert_eq!(due(Some(nothing)), 1500);
        }
        assert_eq!(deduplicator.key(TableRef::EMPTY, now), None);
        let null = TableBuilder::new().put(b"id", Value::Void).finish();
        assert_eq!(deduplicator.key(null.as_ref(), now), None);
    }
}
