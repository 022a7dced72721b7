//! Where deliveries go: the consumer's link, as the queue sees it.

use crate::id::{ConsumerToken, Seq};
use crate::message::Message;

/// One hand-over of a message to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub token: ConsumerToken,
    pub seq: Seq,
    pub message: Message,
    /// Where the queue keeps it checked out; `Delivery::NO_SLOT` if nothing is to be settled.
    pub slot: u32,
    pub redelivered: bool,
    pub returned: Returned,
    /// It took one from the channel-wide prefetch.
    pub limited: bool,
}

impl Delivery {
    pub const NO_SLOT: u32 = u32::MAX;
}

/// What a delivery says of how often its message came back. Two octets, since every delivery has
/// it: 65,534 times and more are said to be as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned(u16);

impl Returned {
    /// Nothing.
    pub const UNTOLD: Self = Self(u16::MAX);

    #[must_use]
    pub fn times(times: u32) -> Self {
        Self(u16::try_from(times).map_or(u16::MAX - 1, |times| times.min(u16::MAX - 1)))
    }

    /// `None` if nothing is said.
    #[must_use]
    #[inline]
    pub fn told(self) -> Option<u16> {
        (self != Self::UNTOLD).then_some(self.0)
    }
}

/// Why a consumer's deliveries ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client cancelled it.
    Cancelled,
    /// Its queue was deleted.
    QueueGone,
}

/// What a queue tells a link, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Delivery(Delivery),
    /// No delivery of this consumer follows.
    Ended {
        token: ConsumerToken,
        reason: EndReason,
    },
    /// A `get` that had to wait for a page is answered; `None` if the queue is empty by now.
    Got {
        token: ConsumerToken,
        /// Apart, since it is rare and every event would be as long.
        delivery: Option<Box<Delivery>>,
        ready_left: u64,
    },
}

impl Event {
    /// Whom it is for.
    #[must_use]
    pub fn token(&self) -> ConsumerToken {
        match self {
            Self::Delivery(delivery) => delivery.token,
            Self::Ended { token, .. } | Self::Got { token, .. } => *token,
        }
    }
}

/// A link's inbox. Called with the queue locked, so it must be a push and nothing more.
pub trait Outlet: Send + Sync {
    /// Takes all of `events`, leaving it empty. True if its owner has not been told since it last
    /// looked, and so must be woken once the batch is over.
    fn push(&self, events: &mut Vec<Event>) -> bool;
    /// Wakes the owner. Called without any lock.
    fn wake(&self);
}
