//! Queues with rules: messages expire, are dropped, refused, dead-lettered, counted and overtaken
//! there, wait for their time or their next attempt, are duplicates, go by keys, and queues end.
//! Clients of their own use them, in the world of all others.
//!
//! What comes of that is judged, not predicted: see `ledger`. The other queues stay exact.

mod acts;
mod chain;
mod copy;
mod ends;
mod held;
mod keys;
mod ledger;
mod publication;
mod retries;
mod sight;
mod stats;
mod stored;
mod turns;
mod unique;
mod workload;

pub(crate) use held::Order;
pub(crate) use ledger::Ledger;
pub(crate) use publication::{Hold, Publication, Way};
pub(crate) use stats::RuledStats;
pub(crate) use turns::Glance;
pub(crate) use workload::Workload;

use super::ops::QUEUES;
use super::rng::Rng;

/// They are numbered behind the others; the last one keeps what it gets.
pub(crate) const NAMES: [&str; 9] = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "z"];
/// Expires, and dead-letters to the last.
pub(crate) const TIMED: usize = 0;
/// Has a length limit.
pub(crate) const SHORT: usize = 1;
/// Has priorities and a delivery limit, and delays the next attempt.
pub(crate) const RANKED: usize = 2;
/// Has a single active consumer, and dead-letters to `TIMED`, or to `SHORT` and must arrive there.
pub(crate) const SINGLE: usize = 3;
/// Ends by itself, can be deleted, and drops what expires.
pub(crate) const BRIEF: usize = 4;
/// Is transient.
pub(crate) const LOOSE: usize = 5;
/// Remembers keys.
pub(crate) const UNIQUE: usize = 6;
/// Delivers by the value of a header.
pub(crate) const KEYED: usize = 7;
pub(crate) const LAST: usize = 8;

/// A fanout exchange and the queues that are bound to it.
pub(crate) const FAN: &str = "wfan";
pub(crate) const FANNED: [usize; 3] = [TIMED, SINGLE, UNIQUE];

/// A delayed exchange, and where it leads in the end, by routing key.
pub(crate) const LATE: &str = "wlate";
pub(crate) const LATE_TO: [(&str, &[usize]); 4] =
    [("ranked", &[RANKED]), ("unique", &[UNIQUE]), ("last", &[LAST]), ("two", &[TIMED, KEYED])];

/// All exchanges of theirs.
pub(crate) const EXCHANGES: [&str; 2] = [FAN, LATE];

/// The header that `KEYED` goes by.
pub(crate) const GROUP: &str = "group";

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
    /// Messages expire wherever they stand.
    pub(crate) exact: bool,
    /// Dead letters must arrive.
    pub(crate) must_arrive: bool,
    /// How long the next attempt is delayed, at least and at most.
    pub(crate) retry_ms: Option<(u32, u32)>,
    pub(crate) unique: Option<Unique>,
    pub(crate) keyed: Option<Keyed>,
}

/// What is remembered of keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unique {
    pub(crate) len: u32,
    pub(crate) ttl_ms: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keyed {
    Groups,
    Turns,
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
    /// What the exchanges remember of keys: the fanout one, and the delayed one.
    pub(crate) fan: Option<Unique>,
    pub(crate) late: Option<Unique>,
    /// What clients do most has to do with this queue.
    pub(crate) focus: usize,
    /// Consumers and gets without acknowledgement.
    pub(crate) no_ack: bool,
    /// Purges, and deletion of the queue that may be deleted.
    pub(crate) deletes: bool,
    /// How often a policy changes, in a hundred thousand steps.
    pub(crate) policies: usize,
    /// As often messages that wait are cancelled, or wait until another time.
    pub(crate) operator: usize,
    /// The longest time that passes at once.
    pub(crate) pause_ms_max: u64,
}

impl Setup {
    /// To which queues policies apply: a length limit would hide what becomes of failed messages.
    pub(crate) fn pattern(&self) -> &'static str {
        if self.rules[RANKED].retry_ms.is_some() { "^w[013]$" } else { "^w[0-3]$" }
    }

    pub(crate) fn is_under_policies(&self, queue: usize) -> bool {
        queue <= SINGLE && (queue != RANKED || self.rules[RANKED].retry_ms.is_none())
    }

    pub(crate) fn new(rng: &Rng) -> Self {
        Self {
            rules: rules(rng),
            fan: rng.percent(40).then(|| unique(rng)),
            late: rng.percent(30).then(|| unique(rng)),
            focus: *rng.pick(&[TIMED, SHORT, RANKED, RANKED, RANKED, SINGLE, UNIQUE, KEYED, LAST]),
            no_ack: rng.percent(30),
            deletes: rng.percent(40),
            policies: *rng.pick(&[0, 300, 1000]),
            operator: *rng.pick(&[0, 300, 1000]),
            pause_ms_max: *rng.pick(&[5, 30, 100]),
        }
    }
}

fn unique(rng: &Rng) -> Unique {
    let ttl_ms = rng.percent(40).then(|| 1 + rng.below(300) as u32);
    Unique { len: *rng.pick(&[2, 4, 100]), ttl_ms }
}

fn rules(rng: &Rng) -> [Rules; NAMES.len()] {
    let maybe = |percent: usize, value: u32| rng.percent(percent).then_some(value);
    let ms = || rng.below(60) as u32;
    let exact = || rng.percent(50);
    let to = |queue| Rules { durable: true, dead_to: Some(queue), ..Rules::default() };
    let last = to(LAST);
    let retry_ms = 1 + rng.below(*rng.pick(&[60, 3000, 3000])) as u32;
    let must_arrive = rng.percent(50);
    [
        Rules { ttl_ms: maybe(70, ms()), exact: exact(), ..last },
        Rules {
            length: Some(rng.below(4) as u32),
            overflow: Some(rng.below(OVERFLOWS.len())),
            exact: exact(),
            ..last
        },
        Rules {
            ranked: true,
            limit: Some(*rng.pick(&[0, 1, 2, 5, 5])),
            retry_ms: rng.percent(70).then(|| (retry_ms, retry_ms + rng.below(100) as u32)),
            exact: exact(),
            ..last
        },
        Rules {
            single: true,
            ttl_ms: maybe(50, ms()),
            must_arrive,
            ..to(if must_arrive { SHORT } else { TIMED })
        },
        Rules {
            dead_to: None,
            ttl_ms: maybe(50, ms()),
            expires_ms: maybe(80, 1 + rng.below(150) as u32),
            exact: exact(),
            ..last
        },
        Rules { durable: false, ttl_ms: maybe(70, ms()), exact: exact(), ..last },
        Rules { unique: Some(unique(rng)), ..last },
        Rules {
            keyed: Some(*rng.pick(&[Keyed::Groups, Keyed::Groups, Keyed::Turns])),
            ttl_ms: maybe(20, ms()),
            ..last
        },
        Rules { durable: true, ..Rules::default() },
    ]
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
