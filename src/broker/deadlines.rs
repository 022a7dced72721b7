//! When queues want to be looked at, and looking at them.
//!
//! Each queue has one time in the list, its earliest; the ticker sleeps until the first of all.

use super::Broker;
use super::link::Workspace;
use crate::id::QueueId;
use crate::limits::{DEAD_LETTERS_RETRY_MS, TICKS_PER_TURN};
use crate::queue::QueueCore;
use crate::store::Bell;
use crate::time::UnixMillis;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Deadlines {
    list: Mutex<List>,
    bell: Bell,
}

#[derive(Default)]
struct List {
    by_time: BTreeSet<(UnixMillis, QueueId)>,
    by_queue: HashMap<QueueId, UnixMillis>,
    /// The ticker sleeps until then.
    awaited: Option<UnixMillis>,
}

impl Deadlines {
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    fn add(&self, deadlines: &mut Vec<(QueueId, UnixMillis)>) {
        if deadlines.is_empty() {
            return;
        }
        let mut list = self.list.lock();
        for (queue, at) in deadlines.drain(..) {
            let before = list.by_queue.get(&queue).copied();
            // Turns may end in another order than they were at the queue: the earliest counts, and
            // a look too many does no harm.
            if before.is_some_and(|before| before <= at) {
                continue;
            }
            list.forget(queue);
            list.by_queue.insert(queue, at);
            list.by_time.insert((at, queue));
        }
        let first = list.by_time.first().map(|(at, _)| *at);
        if first < list.awaited || list.awaited.is_none() {
            list.awaited = first;
            drop(list);
            self.bell.ring();
        }
    }

    /// The queue has ended.
    pub(super) fn forget(&self, queue: QueueId) {
        self.list.lock().forget(queue);
    }

    /// Takes the queues that want to be looked at by `now`, the earliest first.
    fn take_due(&self, now: UnixMillis, max: usize) -> Vec<QueueId> {
        let mut list = self.list.lock();
        let mut due = Vec::new();
        while due.len() < max
            && let Some(first) = list.by_time.first().copied().filter(|(at, _)| *at <= now)
        {
            list.by_time.remove(&first);
            list.by_queue.remove(&first.1);
            due.push(first.1);
        }
        due
    }

    fn next(&self) -> Option<UnixMillis> {
        let mut list = self.list.lock();
        list.awaited = list.by_time.first().map(|(at, _)| *at);
        list.awaited
    }
}

impl List {
    fn forget(&mut self, queue: QueueId) {
        if let Some(at) = self.by_queue.remove(&queue) {
            self.by_time.remove(&(at, queue));
        }
    }
}

impl Broker {
    /// Has every restored queue looked at that may have something due.
    pub(super) fn look_at_restored(&self) {
        let vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        let queues = vhosts.iter().flat_map(|vhost| vhost.queues());
        let waiting = queues.filter(|queue| queue.has_deadlines());
        self.deadlines.add(&mut waiting.map(|queue| (queue.id, UnixMillis(0))).collect());
    }

    /// Carries out what a turn's verbs have come to. Call without any lock, at the end of the turn.
    pub fn finish_turn(&self, workspace: &mut Workspace) {
        self.deadlines.add(&mut workspace.effects.deadlines);
        self.take_dead(workspace);
        self.end_idle(workspace);
        self.want_loads(&mut workspace.effects);
        self.deadlines.add(&mut workspace.effects.deadlines);
        workspace.effects.wake_all();
    }

    /// Does what is due at the workspace's time. Says when to be called next, which may be at once.
    pub fn tick(&self, workspace: &mut Workspace) -> Option<UnixMillis> {
        let now = workspace.effects.now.unix;
        for id in self.deadlines.take_due(now, TICKS_PER_TURN) {
            if let Some(queue) = self.queue_by_id(id) {
                // What is due in a queue that is gone has gone with it.
                let _ = queue.tick(&mut workspace.turn(self));
                self.finish_turn(workspace);
            }
        }
        let all_moved = self.move_dead(workspace);
        self.finish_turn(workspace);
        let next = self.deadlines.next();
        if all_moved {
            return next;
        }
        // Those that must wait for the disk are looked at again a little later.
        Some(now.plus(if self.may_move() { 0 } else { DEAD_LETTERS_RETRY_MS }))
    }

    /// Rings when the ticker has to look earlier than it was told.
    #[must_use]
    pub fn deadlines_bell(&self) -> &Bell {
        self.deadlines.bell()
    }

    /// Ends the queues that nobody has used for long enough (`x-expires`).
    fn end_idle(&self, workspace: &mut Workspace) {
        let now = workspace.effects.now;
        for id in std::mem::take(&mut workspace.effects.idle) {
            let Some(queue) = self.queue_by_id(id) else { continue };
            let Some(vhost) = self.vhost(&queue.vhost) else { continue };
            let idle = |core: &QueueCore| if core.is_idle(now) { Ok(()) } else { Err(()) };
            if queue.close_if(&mut workspace.effects, idle).is_ok() {
                vhost.forget_queue(&queue, self, workspace);
            }
        }
    }
}
