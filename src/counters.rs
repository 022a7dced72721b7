//! Counter blocks: relaxed atomics that the data path stores once a batch and that views read
//! without any lock. A count never goes back while its owner lives.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set, such as a depth.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one queue counts.
#[derive(Debug, Default)]
pub struct QueueCounters {
    pub published: Counter,
    pub delivered: Counter,
    pub redelivered: Counter,
    pub gotten: Counter,
    pub acked: Counter,
    pub ready: Gauge,
    pub ready_bytes: Gauge,
    /// Messages that wait for their next attempt: neither ready nor unacked.
    pub retrying: Gauge,
    pub retrying_bytes: Gauge,
    /// Dead letters that have not moved, while some of them wait for somebody who takes them
    /// (`at-least-once`); of a delayed exchange, messages whose way has failed. Neither ready nor
    /// unacked.
    pub held_back: Gauge,
    pub unacked: Gauge,
    pub unacked_bytes: Gauge,
    pub consumers: Gauge,
    /// What its messages take in memory.
    pub resident_bytes: Gauge,
}

/// What one exchange counts.
#[derive(Debug, Default)]
pub struct ExchangeCounters {
    pub published_in: Counter,
    pub published_out: Counter,
    pub unroutable: Counter,
}

/// What one channel counts.
#[derive(Debug, Default)]
pub struct ChannelCounters {
    pub published: Counter,
    pub confirmed: Counter,
    pub returned: Counter,
    pub delivered: Counter,
    pub acked: Counter,
    pub gotten: Counter,
}

/// What one connection counts.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub channels: Gauge,
}
