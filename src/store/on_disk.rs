//! A message as it goes to the disk and comes back.

use crate::id::Seq;
use crate::message::Message;
use crate::time::UnixMillis;

/// A queue's message with what the disk keeps of its place.
#[derive(Clone, Debug)]
pub struct OnDisk {
    pub seq: Seq,
    /// When it expires.
    pub due: UnixMillis,
    pub message: Message,
}

impl OnDisk {
    /// One that never expires.
    #[must_use]
    pub fn new(seq: Seq, message: Message) -> Self {
        Self { seq, due: UnixMillis::NEVER, message }
    }
}
