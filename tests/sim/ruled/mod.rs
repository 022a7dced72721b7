//! Queues with rules: messages expire, are dropped, refused, dead-lettered, counted and overtaken
//! there, and queues end. Clients of their own use them, in the world of all others.
//!
//! What comes of that is judged, not predicted: see `ledger`. The other queues stay exact.

mod acts;
mod chain;
mod copy;
mod ends;
mod ledger;
mod sight;
mod stats;
mod stored;
mod turns;
mod workload;

pub(crate) use ledger::Ledger;
pub(crate) use stats::RuledStats;
pub(crate) use turns::Glance;
pub(crate) use workload::Workload;

use super::ops::QUEUES;
use super::rng::Rng;

/// They are numbered behind the others; the last one keeps what it gets.
pub(crate) const NAMES: [&str; 7] = ["w0", "w1", "w2", "w3", "w4", "w5", "z"];
/// Expires, and dead-letters to the last.
pub(crate) const TIMED: usize = 0;
/// Has a length limit.
pub(crate) const SHORT: usize = 1;
/// Has priorities and a delivery limit.
pub(crate) const RANKED: usize = 2;
/// Has a single active consumer, and dead-letters to `TIMED`.
pub(crate) const SINGLE: usize = 3;
/// Ends by itself, can be deleted, and drops what expires.
pub(crate) const BRIEF: usize = 4;
/// Is transient.
pub(crate) const LOOSE: usize = 5;
pub(crate) const LAST: usize = 6;

/// A fanout exchange and the queues that are bound to it.
pub(crate) const FAN: &str = "wfan";
pub(crate) const FANNED: [usize; 2] = [TIMED, SINGLE];

/// To which queues policies apply.
pub(crate) const PATTERN: &str = "^w[0-3]$";
pub(crate) const UNDER_POLICIES: usize = 4;
pub(crate) const OVERFLOWS: [&str; 3] = ["drop-head", "reject-publish", "reject-publish-dlx"];
pub(crate) const RANK_MAX: u8 = 2;

/// The arguments of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) durable: bool,
    pub(crate) ttl_ms: Option<u32>,
    pub(crate) length: Option<u32>,
    pub(crate) overflow: Option<usize>,
    pub(crate) dead_to: Option<usize>,
    pub(crate) ranked: bool,
    pub(crate) limit: Option<u32>,
    pub(crate) single: bool,
    pub(crate) expires_ms: Option<u32>,
}

/// What a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) ttl_ms: Option<u32>,
    pub(crate) length: u32,
}

/// The policies that there are; of two the second counts.
pub(crate) type Policies = [Option<Policy>; 2];

#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) rules: [Rules; NAMES.len()],
    /// Consumers and gets without acknowledgement.
    pub(crate) no_ack: bool,
    /// Purges, and deletion of the queue that may be deleted.
    pub(crate) deletes: bool,
    /// How often a policy changes, in a hundred thousand steps.
    pub(crate) policies: usize,
    /// The longest time that passes at once.
    pub(crate) pause_ms_max: u64,
}

impl Setup {
    pub(crate) fn new(rng: &Rng) -> Self {
        let maybe = |percent: usize, value: u32| rng.percent(percent).then_some(value);
        let ms = || rng.below(60) as u32;
        let to = |queue| Rules { durable: true, dead_to: Some(queue), ..Rules::default() };
        let last = to(LAST);
        let rules = [
            Rules { ttl_ms: maybe(70, ms()), ..last },
            Rules {
                length: Some(rng.below(4) as u32),
                overflow: Some(rng.below(OVERFLOWS.len())),
                ..last
            },
            Rules { ranked: true, limit: Some(rng.below(3) as u32), ..last },
            Rules { single: true, ttl_ms: maybe(50, ms()), ..to(TIMED) },
            Rules {
                dead_to: None,
                ttl_ms: maybe(50, ms()),
                expires_ms: maybe(80, 1 + rng.below(150) as u32),
                ..last
            },
            Rules { durable: false, ttl_ms: maybe(70, ms()), ..last },
            Rules { durable: true, ..Rules::default() },
        ];
        Self {
            rules,
            no_ack: rng.percent(30),
            deletes: rng.percent(40),
            policies: *rng.pick(&[0, 300, 1000]),
            pause_ms_max: *rng.pick(&[5, 30, 100]),
        }
    }
}

/// Its number among all queues as clients know them.
pub(crate) fn number(queue: usize) -> usize {
    QUEUES.len() + queue
}

/// Which of these it is.
pub(crate) fn index(number: usize) -> usize {
    number - QUEUES.len()
}

/// The name of any queue.
pub(crate) fn name_of(number: usize) -> &'static str {
    QUEUES.get(number).map_or_else(|| NAMES[index(number)], |queue| queue.0)
}

/// What is published to one of these queues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub(crate) id: u32,
    /// A queue, or the fanout exchange.
    pub(crate) to: Option<usize>,
    pub(crate) persistent: bool,
    pub(crate) expiration_ms: Option<u32>,
    pub(crate) priority: u8,
    pub(crate) body_len: usize,
}

impl Publication {
    /// Exchange and routing key.
    pub(crate) fn address(&self) -> (&'static str, &'static str) {
        self.to.map_or((FAN, ""), |queue| ("", NAMES[queue]))
    }

    pub(crate) fn targets(&self) -> Vec<usize> {
        self.to.map_or_else(|| FANNED.to_vec(), |queue| vec![queue])
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        (0..self.body_len).map(|at| (self.id as usize * 29 + at * 5) as u8).collect()
    }

    /// The content header's payload.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut header = vec![0, 60, 0, 0];
        header.extend((self.body_len as u64).to_be_bytes());
        let expires = u16::from(self.expiration_ms.is_some());
        header.extend((1_u16 << 12 | 1 << 11 | expires << 8 | 1 << 7).to_be_bytes());
        header.extend([if self.persistent { 2 } else { 1 }, self.priority]);
        if let Some(ms) = self.expiration_ms {
            super::wire::short(&mut header, &ms.to_string());
        }
        super::wire::short(&mut header, &self.id.to_string());
        header
    }
}
