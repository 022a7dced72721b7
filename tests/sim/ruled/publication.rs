//! What is published to queues with rules, as it goes over the wire.

use super::{FAN, FANNED, GROUP, LATE, LATE_TO, NAMES};
use crate::wire::{long, short};
use leveret::time::UnixMillis;

/// By which exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The default one, to this queue.
    Queue(usize),
    Fan,
    /// The delayed one, with this of its routing keys.
    Late(usize),
}

/// How long the delayed exchange is to hold it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    ForMs(u32),
    /// Unix milliseconds.
    Until(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub(crate) id: u32,
    pub(crate) way: Way,
    pub(crate) persistent: bool,
    pub(crate) expiration_ms: Option<u32>,
    pub(crate) priority: u8,
    pub(crate) body_len: usize,
    pub(crate) hold: Option<Hold>,
    /// What makes it the same as another.
    pub(crate) key: Option<u8>,
    pub(crate) group: Option<u8>,
}

impl Publication {
    /// A persistent message for this queue.
    pub(crate) fn plain(id: u32, queue: usize) -> Self {
        Self {
            id,
            way: Way::Queue(queue),
            persistent: true,
            expiration_ms: None,
            priority: 0,
            body_len: 3,
            hold: None,
            key: None,
            group: None,
        }
    }

    /// Exchange and routing key.
    pub(crate) fn address(&self) -> (&'static str, &'static str) {
        match self.way {
            Way::Queue(queue) => ("", NAMES[queue]),
            Way::Fan => (FAN, ""),
            Way::Late(key) => (LATE, LATE_TO[key].0),
        }
    }

    /// Where it may come to be, if all is bound.
    pub(crate) fn targets(&self) -> Vec<usize> {
        match self.way {
            Way::Queue(queue) => vec![queue],
            Way::Fan => FANNED.to_vec(),
            Way::Late(key) => LATE_TO[key].1.to_vec(),
        }
    }

    /// Until when the delayed exchange holds it back if it comes at that time.
    pub(crate) fn held_until(&self, now: UnixMillis) -> Option<u64> {
        match self.hold.filter(|_| matches!(self.way, Way::Late(_)))? {
            Hold::ForMs(ms) => (ms > 0).then_some(now.0 + u64::from(ms)),
            Hold::Until(at) => Some(at).filter(|at| *at > now.0),
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        (0..self.body_len).map(|at| (self.id as usize * 29 + at * 5) as u8).collect()
    }

    /// Its headers, all of them numbers.
    pub(crate) fn headers(&self) -> Vec<(&'static str, i64)> {
        let (delay, at) = match self.hold {
            None => (None, None),
            Some(Hold::ForMs(ms)) => (Some(i64::from(ms)), None),
            Some(Hold::Until(at)) => (None, i64::try_from(at).ok()),
        };
        let all = [
            ("x-delay", delay),
            ("x-deliver-at", at),
            ("x-deduplication-header", self.key.map(i64::from)),
            (GROUP, self.group.map(i64::from)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The content header's payload.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut table = Vec::new();
        for (name, value) in self.headers() {
            short(&mut table, name);
            table.push(b'l');
            table.extend(value.to_be_bytes());
        }
        let mut header = vec![0, 60, 0, 0];
        header.extend((self.body_len as u64).to_be_bytes());
        let (says, expires) =
            (u16::from(!table.is_empty()), u16::from(self.expiration_ms.is_some()));
        header.extend((says << 13 | 1 << 12 | 1 << 11 | expires << 8 | 1 << 7).to_be_bytes());
        if !table.is_empty() {
            long(&mut header, &table);
        }
        header.extend([if self.persistent { 2 } else { 1 }, self.priority]);
        if let Some(ms) = self.expiration_ms {
            short(&mut header, &ms.to_string());
        }
        short(&mut header, &self.id.to_string());
        header
    }
}
