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
use super::again::{Again, remembered};
use super::alarm::Alarm;
use super::link::{Workspace, strongest};
use super::vhost::Resolved;
use crate::config::Durability;
use crate::exception::Resource;
use crate::exchange::{History, Remembered};
use crate::id::{QueueId, Seq};
use crate::limits::{
    DEAD_LETTERS_PER_RECORD_BATCH, DEAD_LETTERS_PER_TURN, DEAD_LETTERS_WAITING_MAX,
    JOURNAL_PENDING_BYTES_MAX, WORK_PER_LOCK_MAX,
};
use crate::message::Message;
use crate::queue::{
    Dead, DeadLetterStrategy, DeadList, Obstacle, Origin, Overflow, Publish, Queue, QueueType,
    Reason,
};
use crate::store::Target;
use crate::time::Ttl;
use hashbrown::HashMap;
use letter::Corpse;
use parking_lot::Mutex;
use release::Way;
use std::sync::Arc;

/// Dead letters that wait.
#[derive(Default)]
pub(super) struct DeadLetters {
    list: DeadList,
    /// Held by whoever moves them.
    turn: Mutex<()>,
}

/// What becomes of a dead letter.
enum Fate {
    /// As it is there, the places that the journal must know, and how many there are in all.
    Moves { message: Message, row: Vec<Target>, places: usize },
    /// Nobody wants it.
    Ends,
    /// It cannot move now, but has to.
    Waits(Obstacle),
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

/// What a batch of moves shows once its records are appended.
struct Shown {
    places: Places<Seq>,
    /// What exchanges remember of it.
    remembered: Vec<(Arc<History>, Remembered)>,
}

impl Shown {
    fn new() -> Self {
        Self { places: Places::new(), remembered: Vec::new() }
    }

    /// The exchanges on a letter's way remember it, also if no queue takes it.
    fn remember(&mut self, histories: Vec<Arc<History>>, publish: &Publish, fate: &Fate) {
        // What waits is routed again.
        if !matches!(fate, Fate::Waits(_)) {
            let each = histories.into_iter().map(|history| (history, remembered(publish)));
            self.remembered.extend(each);
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
        let (mut shown, mut ended) = (Shown::new(), Places::new());
        let (mut held, mut too_large) = (Places::new(), Places::new());
        let mut durability = Durability::Os;
        let refused = workspace.effects.refused.len();
        let (mut moved, mut places) = (0, 0);
        let (mut source, mut way) = (None::<Arc<Queue>>, None);
        for dead in batch {
            if places + shown.remembered.len() >= WORK_PER_LOCK_MAX {
                break;
            }
            moved += 1;
            let Some(origin) = &dead.origin else { continue };
            if source.as_ref().is_none_or(|queue| queue.id != dead.queue) {
                source = self.queue_by_id(dead.queue);
            }
            let fate = self.reserve(dead, origin, &mut way, &mut shown, workspace);
            if let (Fate::Waits(obstacle), Some(queue), Some((slot, seq))) =
                (&fate, &source, dead.place)
            {
                let held = match obstacle {
                    Obstacle::NoTaker => &mut held,
                    Obstacle::TooLarge => &mut too_large,
                };
                held.push(queue, (slot, seq, dead.reason));
                continue;
            }
            workspace.records.begin_transaction();
            if let Fate::Moves { message, row, places: reserved } = &fate {
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
        let queues = shown.places.all.iter().map(|(queue, _)| queue);
        durability = durability.max(strongest(queues));
        if !workspace.records.is_empty() {
            self.log().append_as(&mut workspace.records, durability);
        }
        places += shown.remembered.len();
        self.show(shown, workspace);
        for (queue, places) in ended.all {
            let _ = queue.buried(&places, false, &mut workspace.turn(self));
        }
        self.hold_back(held, Obstacle::NoTaker, workspace);
        self.hold_back(too_large, Obstacle::TooLarge, workspace);
        (moved, places)
    }

    fn show(&self, shown: Shown, workspace: &mut Workspace) {
        for (queue, seqs) in shown.places.all {
            let _ = queue.show(&seqs, &mut workspace.turn(self));
        }
        for (history, remembered) in shown.remembered {
            history.push(remembered);
        }
    }

    /// Leaves these where they died, and says so if it is news.
    fn hold_back(
        &self,
        letters: Places<(u32, Seq, Reason)>,
        obstacle: Obstacle,
        workspace: &mut Workspace,
    ) {
        for (queue, letters) in letters.all {
            if queue.hold_back(&letters, obstacle, &mut workspace.turn(self)) == Ok(true) {
                log_held_back(&queue, obstacle);
            }
        }
    }

    /// Reserves a dead letter's places.
    fn reserve(
        &self,
        dead: &Dead,
        origin: &Origin,
        way: &mut Option<Way>,
        shown: &mut Shown,
        workspace: &mut Workspace,
    ) -> Fate {
        match dead.reason {
            Reason::Released => {
                return self.reserve_released(dead, origin, way, shown, workspace);
            }
            Reason::Rescheduled(until) => {
                return self.reserve_rescheduled(dead, origin, until, &mut shown.places, workspace);
            }
            _ => {}
        }
        let Some(to) = dead.behaviour.dead_letter.as_ref() else { return Fate::Ends };
        let Some(vhost) = self.vhost(&origin.vhost) else { return Fate::Ends };
        let must_arrive = to.strategy == DeadLetterStrategy::AtLeastOnce;
        let nobody = if must_arrive { Fate::Waits(Obstacle::NoTaker) } else { Fate::Ends };
        let Some(exchange) = vhost.exchange(&to.exchange) else { return nobody };
        let (message, reason, died) = (&dead.message, dead.reason, workspace.effects.now.unix);
        let corpse = Corpse { message, queue: &origin.name, reason, died };
        let Some(letter) = corpse.letter(to, &mut workspace.scratch) else {
            // What a queue has refused has no place in which to wait.
            if must_arrive && dead.place.is_some() {
                return Fate::Waits(Obstacle::TooLarge);
            }
            log_overgrown(origin, reason);
            return Fate::Ends;
        };
        let Some(again) = Again::of(&letter.message) else { return Fate::Ends };
        // An exchange without its plugin routes nothing.
        let found = self.targets(&again, &exchange, &vhost, workspace).unwrap_or_default();
        let Resolved { mut queues, routed } = found;
        // RabbitMQ: what somebody rejects may go round, since he decides so each time.
        if dead.reason != Reason::Rejected {
            // A delay queue is no queue to the letter, whatever its exchange's name.
            queues.retain(|queue| queue.id.is_timed() || !letter.has_cycled(&queue.name));
        }
        let publish = again.publish(Ttl::FOREVER, routed.delay);
        let fate = match queues[..] {
            [] => nobody,
            _ => {
                let places = &mut shown.places;
                reserve_places(&publish, &queues, must_arrive, places, self, workspace)
            }
        };
        shown.remember(routed.histories, &publish, &fate);
        fate
    }
}

/// Reserves the message's places in these queues. If it must arrive, all of them or none.
fn reserve_places(
    publish: &Publish,
    queues: &[Arc<Queue>],
    must_arrive: bool,
    shown: &mut Places<Seq>,
    broker: &Broker,
    workspace: &mut Workspace,
) -> Fate {
    let is_quorum = |queue: &Arc<Queue>| queue.kind == QueueType::Quorum;
    let persistent = publish.persistent || queues.iter().any(is_quorum);
    let (mut refused, mut gone) = (false, false);
    let mut taken = Vec::with_capacity(queues.len());
    let mut target = Vec::with_capacity(1);
    let sent_on = workspace.effects.dead.len();
    for queue in queues {
        let one = std::iter::once(Publish { persistent, ..publish.clone() });
        let found = queue.reserve(one, &mut target, &mut workspace.effects).is_ok();
        match target.pop().flatten() {
            Some(target) => taken.push((queue, target)),
            None if found => refused |= !sends_on(queue),
            None => gone = true,
        }
    }
    if must_arrive && (refused || gone && taken.is_empty()) {
        // Each try would send one on.
        workspace.effects.dead.truncate(sent_on);
        for (queue, target) in taken {
            let _ = queue.withdraw(&[target.seq], &mut workspace.turn(broker));
        }
        return Fate::Waits(Obstacle::NoTaker);
    }
    let places = taken.len();
    let mut row = Vec::new();
    for (queue, target) in taken {
        if persistent && queue.settings.durable {
            row.push(target);
        }
        shown.push(queue, target.seq);
    }
    Fate::Moves { message: publish.message.clone(), row, places }
}

/// What it refuses has gone to its own dead-letter exchange.
fn sends_on(queue: &Queue) -> bool {
    let behaviour = queue.behaviour();
    behaviour.overflow == Overflow::RejectPublishDlx && behaviour.dead_letter.is_some()
}

#[cold]
fn log_held_back(queue: &Queue, obstacle: Obstacle) {
    if queue.id.is_timed() {
        let exchange = Resource::Exchange { vhost: &queue.vhost, name: &queue.name };
        tracing::warn!(
            "delayed messages of {exchange} wait, since an exchange type on their way is not there \
             or has failed: mend its plugin, or unbind that exchange; they are tried again every \
             second"
        );
        return;
    }
    let resource = Resource::Queue { vhost: &queue.vhost, name: &queue.name };
    if obstacle == Obstacle::TooLarge {
        tracing::warn!(
            "dead letters of {resource} wait, since with their deaths their headers would be \
             larger than allowed: give it another dead-letter strategy, or delete it with them; \
             they are tried again every second"
        );
        return;
    }
    tracing::warn!(
        "dead letters of {resource} wait, since no queue takes them: bind one to their dead-letter \
         exchange, or make room in it; they are tried again every second"
    );
}

#[cold]
fn log_overgrown(origin: &Origin, reason: Reason) {
    let resource = Resource::Queue { vhost: &origin.vhost, name: &origin.name };
    tracing::warn!(
        "a message of {resource} is dropped and does not go to the dead-letter exchange ({}): with \
         its deaths its headers would be larger than allowed",
        reason.name()
    );
}

#[cfg(test)]
mod tests;
