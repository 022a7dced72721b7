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

use super::Broker;
use super::link::{Workspace, strongest};
use crate::config::Durability;
use crate::exchange::{ExchangeShared, Published};
use crate::id::Seq;
use crate::limits::{
    DEAD_LETTERS_PER_RECORD_BATCH, DEAD_LETTERS_PER_TURN, DEAD_LETTERS_WAITING_MAX,
};
use crate::message::Message;
use crate::queue::{Dead, Publish, Queue, QueueType, Reason};
use crate::store::Target;
use crate::wire::Properties;
use letter::{Corpse, Letter};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Dead letters that wait.
#[derive(Default)]
pub(super) struct DeadLetters {
    waiting: Mutex<VecDeque<Dead>>,
    /// Held by whoever moves them.
    turn: Mutex<()>,
}

/// One queue's places in a batch of moves.
#[derive(Default)]
struct Places<T>(Vec<(Arc<Queue>, Vec<T>)>);

impl<T> Places<T> {
    fn push(&mut self, queue: &Arc<Queue>, place: T) {
        match self.0.iter_mut().rev().find(|(other, _)| other.id == queue.id) {
            Some((_, places)) => places.push(place),
            None => self.0.push((Arc::clone(queue), vec![place])),
        }
    }
}

impl Broker {
    /// Takes over a turn's dead letters, and moves some of those that wait.
    pub(super) fn take_dead(&self, workspace: &mut Workspace) {
        if workspace.effects.dead.is_empty() {
            return;
        }
        let waiting = {
            let mut waiting = self.dead_letters.waiting.lock();
            waiting.extend(workspace.effects.dead.drain(..));
            waiting.len()
        };
        // Far more than one at work can move: whoever makes them has to help.
        let turn = if waiting > DEAD_LETTERS_WAITING_MAX {
            Some(self.dead_letters.turn.lock())
        } else {
            self.dead_letters.turn.try_lock()
        };
        let done = turn.is_some_and(|_turn| self.move_some(DEAD_LETTERS_PER_TURN, workspace));
        if !done {
            self.deadlines.bell().ring();
        }
    }

    /// Moves dead letters for a while; true if none is left.
    pub(super) fn move_dead(&self, workspace: &mut Workspace) -> bool {
        let _turn = self.dead_letters.turn.lock();
        self.move_some(DEAD_LETTERS_PER_TURN, workspace)
    }

    fn move_some(&self, max: usize, workspace: &mut Workspace) -> bool {
        for _ in 0..max.div_ceil(DEAD_LETTERS_PER_RECORD_BATCH) {
            let batch: Vec<Dead> = {
                let mut waiting = self.dead_letters.waiting.lock();
                let count = waiting.len().min(DEAD_LETTERS_PER_RECORD_BATCH);
                waiting.drain(..count).collect()
            };
            if batch.is_empty() {
                return true;
            }
            self.move_batch(&batch, workspace);
            self.dead_letters.waiting.lock().extend(workspace.effects.dead.drain(..));
        }
        self.dead_letters.waiting.lock().is_empty()
    }

    /// Moves these: (a) reserve their places, (b) append a record for each, (c) show them and end
    /// them in their old queues.
    fn move_batch(&self, batch: &[Dead], workspace: &mut Workspace) {
        let _gate = self.gate.read();
        let (mut shown, mut ended) = (Places(Vec::new()), Places(Vec::new()));
        let mut durability = Durability::Os;
        let refused = workspace.effects.refused.len();
        let mut source: Option<Arc<Queue>> = None;
        for dead in batch {
            if source.as_ref().is_none_or(|queue| queue.id != dead.queue) {
                source = self.queue_by_id(dead.queue);
            }
            // A queue that is gone has taken its messages along.
            let Some(queue) = &source else { continue };
            let row = self.reserve(dead, queue, &mut shown, workspace);
            workspace.records.begin_transaction();
            if let Some((message, row)) = &row
                && !row.is_empty()
            {
                workspace.records.enqueue(message, row);
            }
            if let Some((slot, seq)) = dead.place {
                if dead.recorded {
                    workspace.records.ack(queue.id, [(seq, seq)]);
                    durability = durability.max(queue.durability());
                }
                ended.push(queue, (slot, seq));
            }
            workspace.records.end_transaction();
        }
        // Nobody waits for the answer.
        workspace.effects.refused.truncate(refused);
        durability = durability.max(strongest(shown.0.iter().map(|(queue, _)| queue)));
        if !workspace.records.is_empty() {
            self.log().append_as(&mut workspace.records, durability);
        }
        for (queue, seqs) in shown.0 {
            let _ = queue.show(&seqs, &mut workspace.turn(self));
        }
        for (queue, places) in ended.0 {
            let _ = queue.buried(&places, false, &mut workspace.turn(self));
        }
    }

    /// Reserves a dead letter's places; gives it as it is there, and those that the journal must
    /// know. `None` if it goes nowhere.
    fn reserve(
        &self,
        dead: &Dead,
        source: &Queue,
        shown: &mut Places<Seq>,
        workspace: &mut Workspace,
    ) -> Option<(Message, Vec<Target>)> {
        let to = dead.behaviour.dead_letter.as_ref()?;
        let vhost = self.vhost(&source.vhost)?;
        let exchange = vhost.exchange(&to.exchange)?;
        let (message, reason, died) = (&dead.message, dead.reason, workspace.effects.now.unix);
        let corpse = Corpse { message, queue: &source.name, reason, died };
        let letter = corpse.letter(to, &mut workspace.scratch)?;
        let queues = self.targets(&letter, &exchange, dead, &vhost, workspace);
        let properties = Properties::check(letter.message.header()).ok()?;
        let is_quorum = |queue: &Arc<Queue>| queue.kind == QueueType::Quorum;
        let persistent = properties.is_persistent() || queues.iter().any(is_quorum);
        let mut row = Vec::new();
        for queue in queues {
            let message = letter.message.clone();
            let priority = properties.priority().unwrap_or(0);
            let ttl_ms = Publish::FOREVER;
            let publish = Publish { message, persistent, priority, ttl_ms, mark: 0 };
            let mut target = Vec::new();
            let reserved =
                queue.reserve(std::iter::once(publish), &mut target, &mut workspace.effects);
            let Some(Some(target)) = reserved.ok().and_then(|()| target.pop()) else { continue };
            if persistent && queue.settings.durable {
                row.push(target);
            }
            shown.push(&queue, target.seq);
        }
        Some((letter.message, row))
    }

    fn targets(
        &self,
        letter: &Letter,
        exchange: &ExchangeShared,
        dead: &Dead,
        vhost: &super::Vhost,
        workspace: &mut Workspace,
    ) -> Vec<Arc<Queue>> {
        let keys: Vec<&[u8]> = letter.keys.iter().map(Vec::as_slice).collect();
        let Ok(properties) = Properties::check(letter.message.header()) else {
            return Vec::new();
        };
        let published = Published {
            keys: &keys,
            headers: properties.headers(),
            properties: &|property| properties.get(property),
        };
        workspace.routing.seed(|| self.entropy.number());
        // An exchange without its plugin routes nothing.
        let found = vhost.resolve(exchange, published, &mut workspace.routing);
        let mut found = found.map_or_else(|_| Vec::new(), |found| found.queues);
        // RabbitMQ: what somebody rejects may go round, since he decides so each time.
        if dead.reason != Reason::Rejected {
            found.retain(|queue| !letter.has_cycled(&queue.name));
        }
        found
    }
}
