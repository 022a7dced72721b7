//! What the caller of a queue's verb must do once it has let go of the queue.

use super::deadletter::Dead;
use super::dues::Dues;
use super::outlet::{Event, Outlet};
use crate::id::{QueueId, Seq};
use crate::message::Message;
use crate::time::{Now, UnixMillis};
use std::sync::Arc;

/// Ready messages that must be brought back from disk, in order, from the first on, as many as
/// whoever reads them likes. Every load is answered once with `QueueCore::loaded`, and the queue
/// has no other until then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    pub queue: QueueId,
    /// Sorted; never empty.
    pub runs: Vec<(Seq, Seq)>,
}

/// Collected over a batch of verbs, carried out at its end.
#[derive(Default)]
pub struct Effects {
    /// When the verbs are called.
    pub now: Now,
    /// Links with new events, each once a batch.
    wake: Vec<Arc<dyn Outlet>>,
    /// Messages to read, each queue at most once.
    pub loads: Vec<Load>,
    /// When something becomes due in a queue, sooner than it had said before.
    pub deadlines: Vec<(QueueId, UnixMillis)>,
    /// Messages to dead-letter, in the order of their deaths.
    pub dead: Vec<Dead>,
    /// Marks of publishes that a queue has refused for want of room.
    pub refused: Vec<u64>,
    /// Queues that nobody has used for as long as they may be unused.
    pub idle: Vec<QueueId>,
    /// Queues whose last consumer went away; those that are auto-delete end.
    pub unused: Vec<QueueId>,
    /// Messages that ended in this lock hold: freeing them takes time, so it waits for its end. The
    /// buffer is used again, and bounded by what one lock hold settles.
    pub(super) ended: Vec<Message>,
    /// What a queue knew of its messages' times and needs no more: freed behind the lock too.
    pub(super) unneeded: Vec<Dues>,
}

impl Effects {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives events to a link from outside any queue.
    pub fn push(&mut self, outlet: &Arc<dyn Outlet>, events: &mut Vec<Event>) {
        if outlet.push(events) {
            self.wake.push(Arc::clone(outlet));
        }
    }

    /// Frees the messages that ended. Call without any lock.
    pub(super) fn drop_ended(&mut self) {
        self.ended.clear();
        self.unneeded.clear();
    }

    /// Wakes every link that got something, once; says how many. Call without any lock.
    pub fn wake_all(&mut self) -> usize {
        let woken = self.wake.len();
        for outlet in self.wake.drain(..) {
            outlet.wake();
        }
        woken
    }
}
