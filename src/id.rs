//! Numbers that name things. Those that reach the disk are stable across restarts.

use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[derive(Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A queue, never reused: a queue deleted and declared again has a new one.
    QueueId(u64)
);

impl QueueId {
    /// Far above what is ever counted to, and below the bit that a record keeps for itself.
    const TIMED: u64 = 1 << 62;

    /// The id of a queue whose seqs are in the order of times, see `Seq::timed`.
    #[must_use]
    pub fn timed(number: u64) -> Self {
        Self(number | Self::TIMED)
    }

    #[must_use]
    pub fn is_timed(self) -> bool {
        self.0 & Self::TIMED != 0
    }

    /// What ids are counted by, timed or not.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & !Self::TIMED
    }
}

id!(
    /// What a queue or an exchange remembers of its publishes: the queue's own number, or one of
    /// the same series.
    CacheId(u64)
);
id!(
    /// A client connection of this broker run.
    ConnectionId(u64)
);
id!(
    /// A message's place in its queue, given under the queue's lock, never reused: its rank in the
    /// high octet, zero but in a queue with priorities, and its age, which is dense, below. In a
    /// queue whose id is timed it has neither: it says when the message is due.
    Seq(u64)
);

impl Seq {
    const AGE_BITS: u32 = 56;

    /// The place of the message with this age among those of a rank. Lower ranks go first.
    #[must_use]
    pub fn ranked(rank: u8, age: u64) -> Self {
        Self(u64::from(rank) << Self::AGE_BITS | age)
    }

    /// The lower, the sooner it goes.
    #[must_use]
    pub fn rank(self) -> u8 {
        (self.0 >> Self::AGE_BITS) as u8
    }

    /// Which of its queue's messages it is, whatever its rank.
    #[must_use]
    pub fn age(self) -> u64 {
        self.0 & ((1 << Self::AGE_BITS) - 1)
    }

    /// Bits below the time of a timed seq.
    pub const TIME_AT: u32 = 20;

    /// Milliseconds behind the last time, for messages whose own has no number left: more than
    /// there will ever be messages for.
    const SPARE_MS: u64 = 1 << 20;

    /// The first seq of a time, in a timed queue: Unix milliseconds, as far as the bits reach (to
    /// the year 2527), above a number for the messages of one millisecond.
    #[must_use]
    pub fn timed(time: UnixMillis) -> Self {
        Self(time.0.min((u64::MAX >> Self::TIME_AT) - Self::SPARE_MS) << Self::TIME_AT)
    }

    /// The time of a timed seq.
    #[must_use]
    pub fn time(self) -> UnixMillis {
        UnixMillis(self.0 >> Self::TIME_AT)
    }

    /// The number of a timed seq among those of its time.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0 & ((1 << Self::TIME_AT) - 1)
    }

    /// The first and the last timed seq of the same time.
    #[must_use]
    pub fn of_its_time(self) -> (Self, Self) {
        let numbers = (1 << Self::TIME_AT) - 1;
        (Self(self.0 & !numbers), Self(self.0 | numbers))
    }
}

id!(
    /// A record's number in the journal, dense from 1. Zero means "nothing to wait for".
    Lsn(u64)
);
id!(
    /// A segment of the journal, counted from 1; its file may have been another segment's before.
    SegmentNo(u64)
);
id!(
    /// A consumer within its connection, never reused while the connection lives, so that an event
    /// meant for a closed channel cannot reach the channel that took over its number.
    ConsumerToken(u64)
);
