//! Dead letters on their way from one queue to others.
//!
//! A turn's dead letters join one list for the whole broker, and whoever finds nobody at work works
//! on it: so those of a queue go on in the order of their deaths, no queue is locked by another
//! one's verb, and a chain of queues is a longer list, not a deeper stack. What a turn leaves is
//! the ticker's.
//!
//! A move is one record: the message in its new queues, and its end in the old one. It is appended
//! between the reservation of the new places and their showing, as a publish for several queues is.

mod letter;
mod release;

use super::Broker;
use super::alarm::Alarm;
use super::link::{Workspace, strongest};
use super::vhost::Resolved;
use crate::config::Durability;
use crate::exchange::{ExchangeShared, Published};
use crate::id::{QueueId, Seq};
use crate::limits::{
    DEAD_LETTERS_PER_RECORD_BATCH, DEAD_LETTERS_PER_TURN, DEAD_LETTERS_WAITING_MAX,
    JOURNAL_PENDING_BYTES_MAX, WORK_PER_LOCK_MAX,
};
use crate::message::Message;
use crate::queue::{Dead, DeadList, Origin, Publish, Queue, QueueType, Reason};
use crate::store::Target;
use crate::time::Delay;
use crate::wire::Properties;
use hashbrown::HashMap;
use letter::{Corpse, Letter};
use parking_lot::Mutex;
use std::sync::Arc;

/// Dead letters that wait.
#[derive(Default)]
pub(super) struct DeadLetters {
    list: DeadList,
    /// Held by whoever moves them.
    turn: Mutex<()>,
}

/// Queues' places in a batch of moves.
struct Places<T> {
    by_queue: HashMap<QueueId, usize>,
    all: Vec<(Arc<Queue>, Vec<T>)>,
}

impl<T> Places<T> {
    fn new() -> Self {
        Self { by_queue: HashMap::new(), all: Vec::new() }
    }

    fn push(&mut self, queue: &Arc<Queue>, place: T) {
        let at = *self.by_queue.entry(queue.id).or_insert(self.all.len());
        match self.all.get_mut(at) {
            Some((_, places)) => places.push(place),
            None => self.all.push((Arc::clone(queue), vec![place])),
        }
    }
}

impl Broker {
    /// Where queues put their dead letters.
    pub(super) fn dead_list(&self) -> &DeadList {
        &self.dead_letters.list
    }

    /// Whether there is room on the disk for moves, and it keeps up.
    pub(super) fn may_move(&self) -> bool {
        !self.alarms.is_set(Alarm::Disk)
            && self.journal().pending_bytes() <= JOURNAL_PENDING_BYTES_MAX
    }

    /// Takes over a turn's dead letters, and moves some of those that wait. False if others have
    /// to.
    pub(super) fn take_dead(&self, workspace: &mut Workspace) -> bool {
        let list = &self.dead_letters.list;
        if !workspace.effects.dead.is_empty() {
            list.append(&mut workspace.effects.dead);
        }
        if list.is_empty() {
            return true;
        }
        // Far more than one at work can move: whoever makes them has to help.
        let mut done = false;
        while list.len() > DEAD_LETTERS_WAITING_MAX && self.may_move() {
            let _turn = self.dead_letters.turn.lock();
            done = self.move_some(workspace);
        }
        if !done && let Some(_turn) = self.dead_letters.turn.try_lock() {
            done = self.move_some(workspace);
        }
        done
    }

    /// Moves dead letters for a while; true if none is left.
    pub(super) fn move_dead(&self, workspace: &mut Workspace) -> bool {
        let _turn = self.dead_letters.turn.lock();
        self.move_some(workspace)
    }

    fn move_some(&self, workspace: &mut Workspace) -> bool {
        let mut places = 0;
        while places < DEAD_LETTERS_PER_TURN && self.may_move() {
            let mut batch = self.dead_letters.list.take(DEAD_LETTERS_PER_RECORD_BATCH);
            if batch.is_empty() {
                return true;
            }
            let (moved, taken) = self.move_batch(&batch, workspace);
            self.dead_letters.list.put_back(batch.split_off(moved));
            places += moved + taken;
        }
        self.dead_letters.list.is_empty()
    }

    /// Moves these: (a) reserve their places, (b) append a record for each, (c) show them and end
    /// them in their old queues. Stops early if they have very many places; says how many letters
    /// moved, and to how many places.
    fn move_batch(&self, batch: &[Dead], workspace: &mut Workspace) -> (usize, usize) {
        let _gate = self.gate.read();
        let (mut shown, mut ended) = (Places::new(), Places::new());
        let mut durability = Durability::Os;
        let refused = workspace.effects.refused.len();
        let (mut moved, mut places) = (0, 0);
        let mut source: Option<Arc<Queue>> = None;
        for dead in batch {
            if places >= WORK_PER_LOCK_MAX {
                break;
            }
            moved += 1;
            let Some(origin) = &dead.origin else { continue };
            if source.as_ref().is_none_or(|queue| queue.id != dead.queue) {
                source = self.queue_by_id(dead.queue);
            }
            let row = self.reserve(dead, origin, &mut shown, workspace);
            workspace.records.begin_transaction();
            if let Some((message, row, reserved)) = &row {
                places += reserved;
                workspace.records.enqueue(message, row);
            }
            // A queue that is gone has ended all of its messages.
            if let (Some(queue), Some((slot, seq))) = (&source, dead.place) {
                if dead.recorded {
                    workspace.records.ack(queue.id, [(seq, seq)]);
                    durability = durability.max(origin.durability);
                }
                ended.push(queue, (slot, seq));
            }
            workspace.records.end_transaction();
        }
        // Nobody waits for the answer.
        workspace.effects.refused.truncate(refused);
        durability = durability.max(strongest(shown.all.iter().map(|(queue, _)| queue)));
        if !workspace.records.is_empty() {
            self.log().append_as(&mut workspace.records, durability);
        }
        for (queue, seqs) in shown.all {
            let _ = queue.show(&seqs, &mut workspace.turn(self));
        }
        for (queue, places) in ended.all {
            let _ = queue.buried(&places, false, &mut workspace.turn(self));
        }
        (moved, places)
    }

    /// Reserves a dead letter's places; gives it as it is there, and those that the journal must
    /// know, and how many they are in all. `None` if it goes nowhere.
    fn reserve(
        &self,
        dead: &Dead,
        origin: &Origin,
        shown: &mut Places<Seq>,
        workspace: &mut Workspace,
    ) -> Option<(Message, Vec<Target>, usize)> {
        if dead.reason == Reason::Released {
            return self.reserve_released(dead, origin, shown, workspace);
        }
        let to = dead.behaviour.dead_letter.as_ref()?;
        let vhost = self.vhost(&origin.vhost)?;
        let exchange = vhost.exchange(&to.exchange)?;
        let (message, reason, died) = (&dead.message, dead.reason, workspace.effects.now.unix);
        let corpse = Corpse { message, queue: &origin.name, reason, died };
        let letter = corpse.letter(to, &mut workspace.scratch)?;
        let (queues, delay) = self.targets(&letter, &exchange, dead, &vhost, workspace);
        let properties = Properties::check(letter.message.header()).ok()?;
        let publish = Publish {
            message: letter.message.clone(),
            persistent: properties.is_persistent(),
            priority: properties.priority().unwrap_or(0),
            ttl_ms: Publish::FOREVER,
            delay,
            mark: 0,
        };
        let (row, reserved) = reserve_places(&publish, queues, shown, workspace);
        Some((letter.message, row, reserved))
    }

    fn targets(
        &self,
        letter: &Letter,
        exchange: &ExchangeShared,
        dead: &Dead,
        vhost: &super::Vhost,
        workspace: &mut Workspace,
    ) -> (Vec<Arc<Queue>>, Option<Delay>) {
        let keys: Vec<&[u8]> = letter.keys.iter().map(Vec::as_slice).collect();
        let Ok(properties) = Properties::check(letter.message.header()) else {
            return (Vec::new(), None);
        };
        let published = Published {
            keys: &keys,
            headers: properties.headers(),
            properties: &|property| properties.get(property),
            now: workspace.effects.now.unix,
        };
        workspace.routing.seed(|| self.entropy.number());
        // An exchange without its plugin routes nothing.
        let found = vhost.resolve(exchange, published, &mut workspace.routing);
        let Resolved { mut queues, routed } = found.unwrap_or_default();
        // RabbitMQ: what somebody rejects may go round, since he decides so each time.
        if dead.reason != Reason::Rejected {
            // A delay queue is no queue to the letter, whatever its exchange's name.
            queues.retain(|queue| queue.id.is_timed() || !letter.has_cycled(&queue.name));
        }
        (queues, routed.delay)
    }
}

/// Reserves the message's places in these queues; gives those that the journal must know, and how
/// many they are in all.
fn reserve_places(
    publish: &Publish,
    queues: Vec<Arc<Queue>>,
    shown: &mut Places<Seq>,
    workspace: &mut Workspace,
) -> (Vec<Target>, usize) {
    let is_quorum = |queue: &Arc<Queue>| queue.kind == QueueType::Quorum;
    let persistent = publish.persistent || queues.iter().any(is_quorum);
    let (mut row, mut reserved) = (Vec::new(), 0);
    for queue in queues {
        let one = std::iter::once(Publish { persistent, ..publish.clone() });
        let mut target = Vec::new();
        let taken = queue.reserve(one, &mut target, &mut workspace.effects);
        let Some(Some(target)) = taken.ok().and_then(|()| target.pop()) else { continue };
        if persistent && queue.settings.durable {
            row.push(target);
        }
        shown.push(&queue, target.seq);
        reserved += 1;
    }
    (row, reserved)
}
