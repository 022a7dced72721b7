//! Numbers that name things. Those that reach the disk are stable across restarts.

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
id!(
    /// A client connection of this broker run.
    ConnectionId(u64)
);
id!(
    /// A message's place in its queue, given under the queue's lock, never reused: its rank in the
    /// high octet, zero but in a queue with priorities, and its age, which is dense, below.
    Seq(u64)
);

impl Seq {
    const AGE_BITS: u32 = 56;

    /// The place of the message with this age among those of a rank. Lower ranks go first.
    #[must_use]
    pub fn ranked(rank: u8, age: u64) -> Self {
        Self(u64::from(rank) << Self::AGE_BITS | age)
    }

    /// Which of its queue's messages it is, whatever its rank.
    #[must_use]
    pub fn age(self) -> u64 {
        self.0 & ((1 << Self::AGE_BITS) - 1)
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
