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
        let queues = vhosts.iter().flat_map(|vhost| vhost.all_queues());
        let waiting = queues.filter(|queue| queue.has_deadlines());
        self.deadlines.add(&mut waiting.map(|queue| (queue.id, UnixMillis(0))).collect());
    }

    /// Carries out what a turn's verbs have come to. Call without any lock, at the end of the turn.
    pub fn finish_turn(&self, workspace: &mut Workspace) {
        if !self.end_turn(workspace) {
            self.deadlines.bell().ring();
        }
    }

    /// As `finish_turn`. False if there is more to do, which is the ticker's.
    fn end_turn(&self, workspace: &mut Workspace) -> bool {
        self.end_delay_queues(workspace);
        self.deadlines.add(&mut workspace.effects.deadlines);
        let done = self.take_dead(workspace);
        self.end_idle(workspace);
        self.want_loads(&mut workspace.effects);
        self.deadlines.add(&mut workspace.effects.deadlines);
        workspace.effects.wake_all();
        done
    }

    /// Does what is due at the workspace's time. Says when to be called next, which may be at once.
    pub fn tick(&self, workspace: &mut Workspace) -> Option<UnixMillis> {
        let now = workspace.effects.now.unix;
        for id in self.deadlines.take_due(now, TICKS_PER_TURN) {
            if let Some(queue) = self.queue_by_id(id).filter(|queue| self.can_release(queue)) {
                // What is due in a queue that is gone has gone with it.
                let _ = queue.tick(&mut workspace.turn(self));
                self.end_turn(workspace);
            }
        }
        let all_moved = self.move_dead(workspace) & self.end_turn(workspace);
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

#[cfg(test)]
mod tests {
    use super::super::alarm::Alarm;
    use super::super::declare::DeclareQueue;
    use super::super::declare::tests::{DURABLE, connect, open};
    use super::*;
    use crate::message::Message;
    use crate::queue::Publish;
    use crate::store::MemoryDisk;
    use crate::table::{TableBuilder, Value};
    use crate::time::Ttl;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn deadline(queue: u64, at: u64) -> (QueueId, UnixMillis) {
        (QueueId(queue), UnixMillis(at))
    }

    #[test]
    fn a_slower_turn_puts_no_deadline_off() {
        let deadlines = Deadlines::default();
        // Two lock holds of one queue, whose turns end in the other order.
        deadlines.add(&mut vec![deadline(1, 50)]);
        deadlines.add(&mut vec![deadline(1, 100)]);
        assert_eq!(deadlines.next(), Some(UnixMillis(50)));
        assert_eq!(deadlines.take_due(UnixMillis(50), 9), [QueueId(1)]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn dead_letters_that_the_disk_has_no_room_for_are_looked_at_later_and_not_without_pause() {
        let broker = open(&MemoryDisk::new());
        let (mut link, mut workspace) = (connect(&broker), Workspace::default());
        let arguments = TableBuilder::new()
            .put(b"x-message-ttl", Value::I32(0))
            .put(b"x-dead-letter-exchange", Value::LongStr(b""))
            .put(b"x-dead-letter-routing-key", Value::LongStr(b"dead"))
            .finish();
        let dying = DeclareQueue { name: "q", arguments: arguments.as_ref(), ..DURABLE };
        link.declare_queue(&dying, &mut workspace).unwrap();
        link.declare_queue(&DeclareQueue { name: "dead", ..DURABLE }, &mut workspace).unwrap();
        let queue = |name| broker.vhost("/").unwrap().queue(name).unwrap();
        broker.alarms.set(Alarm::Disk, true);
        let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let message = Message::new(b"", b"q", &header, b"", &mut Vec::new());
        let (persistent, priority, ttl) = (false, 0, Ttl::FOREVER);
        let publish = Publish { message, persistent, priority, ttl, delay: None, mark: 0 };
        queue("q").publish(&mut vec![publish], &mut workspace.turn(&broker)).unwrap();
        broker.finish_turn(&mut workspace);
        assert!(broker.deadlines_bell().was_rung(), "the ticker learns of it");
        let later = UnixMillis(DEAD_LETTERS_RETRY_MS);
        assert_eq!(broker.tick(&mut workspace), Some(later));
        assert!(!broker.deadlines_bell().was_rung(), "it would never sleep");
        assert_eq!(queue("dead").depth().0, 0);
        broker.alarms.set(Alarm::Disk, false);
        assert_eq!((broker.tick(&mut workspace), queue("dead").depth().0), (None, 1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(Vec<(u64, u64)>),
        Take(u64, usize),
        Next,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => vec((0..6_u64, 0..20_u64), 0..4).prop_map(Step::Add),
            2 => (0..20_u64, 1..4_usize).prop_map(|(now, max)| Step::Take(now, max)),
            2 => Just(Step::Next),
        ]
    }

    proptest! {
        /// The ticker sleeps until what `next` said, unless the bell rings: so whenever there is
        /// something earlier, it has rung.
        #[test]
        fn each_queue_has_its_earliest_time_and_the_ticker_never_sleeps_past_one(
            steps in vec(step(), 1..60),
        ) {
            let (deadlines, mut model) = (Deadlines::default(), BTreeMap::new());
            // Asleep until then, or not asleep any more.
            let mut asleep = Some(None);
            for step in steps {
                match step {
                    Step::Add(added) => {
                        for (queue, at) in &added {
                            let earliest = model.entry(*queue).or_insert(*at);
                            *earliest = (*earliest).min(*at);
                        }
                        let mut added = added.into_iter().map(|(q, at)| deadline(q, at)).collect();
                        deadlines.add(&mut added);
                        prop_assert!(added.is_empty());
                        if deadlines.bell().was_rung() {
                            asleep = None;
                        }
                        let first = model.values().min().copied();
                        if let (Some(until), Some(first)) = (asleep, first) {
                            prop_assert!(until.is_some_and(|until| until <= first));
                        }
                    }
                    Step::Take(now, max) => {
                        let mut due: Vec<_> = model.iter().map(|(q, at)| (*at, *q)).collect();
                        due.retain(|(at, _)| *at <= now);
                        due.sort_unstable();
                        due.truncate(max);
                        model.retain(|queue, at| !due.contains(&(*at, *queue)));
                        let due: Vec<_> = due.iter().map(|(_, queue)| QueueId(*queue)).collect();
                        prop_assert_eq!(deadlines.take_due(UnixMillis(now), max), due);
                        // It looks at the list again before it sleeps.
                        asleep = None;
                    }
                    Step::Next => {
                        let first = model.values().min().copied();
                        prop_assert_eq!(deadlines.next(), first.map(UnixMillis));
                        asleep = Some(first);
                    }
                }
            }
        }
    }
}
