//! Queues that are held: damage on the disk may have taken records of them, and nobody has seen
//! that yet. They take messages and changes of definitions; nothing leaves them but with their end.

use super::Broker;
use super::link::Workspace;
use super::vhost::Vhost;
use crate::exception::Exception;
use crate::queue::Queue;
use crate::store::{Definition, Gap, Reach};
use std::sync::Arc;

impl Vhost {
    /// Whether the queue may be read from.
    ///
    /// # Errors
    /// 405, with the place of the first damage.
    pub(super) fn check_hold(&self, queue: &Queue, broker: &Broker) -> Result<(), Exception> {
        let first = self.state.read().held.get(&queue.id).and_then(|gaps| gaps.first().copied());
        first.map_or(Ok(()), |gap| {
            let place = (&*gap.file(), gap.damaged_at);
            let is_restorable = broker.store.is_restorable(&gap);
            Err(Exception::held(&queue.vhost, &queue.name, place, is_restorable))
        })
    }

    /// Whether any queue is held for this gap.
    pub(super) fn is_held_for(&self, gap: &Gap) -> bool {
        self.state.read().held.values().flatten().any(|held| held == gap)
    }

    /// The held queues by name, each with where damage may have hit it.
    pub(super) fn held(&self) -> Vec<(Arc<Queue>, Vec<Gap>)> {
        let state = self.state.read();
        let held = state.held.iter();
        let held = held.filter_map(|(id, gaps)| Some((state.by_id.get(id)?.clone(), gaps.clone())));
        let mut held: Vec<_> = held.collect();
        held.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        held
    }

    /// The queues of which messages cannot be read, by name, each with their number.
    pub(super) fn damaged(&self) -> Vec<(Arc<Queue>, usize)> {
        let queues: Vec<_> = self.state.read().queues.values().cloned().collect();
        let damaged = queues.into_iter().map(|queue| (queue.damaged_len(), queue));
        let damaged = damaged.filter(|(len, _)| *len > 0).map(|(len, queue)| (queue, len));
        let mut damaged: Vec<_> = damaged.collect();
        damaged.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        damaged
    }

    /// Lets a held queue go on with what is there, and says what to wait for before saying so.
    /// `None` if it is not held.
    pub(super) fn release(
        &self,
        queue: &Queue,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Option<Reach> {
        // Nobody takes from it before it has ended what is due.
        let mut state = self.state.write();
        let gaps = state.held.remove(&queue.id)?;
        let released = gaps.iter();
        let released = released.map(|gap| Definition::QueueReleased { id: queue.id, gap: *gap });
        let reach = state.define(&released.collect::<Vec<_>>(), broker, workspace);
        queue.end_hold(&mut workspace.turn(broker));
        Some(reach)
    }
}
