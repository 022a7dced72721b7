//! Dead letters on their way from one queue to others.
//!
//! A turn's dead letters join one list for the whole broker, and whoever finds nobody at work works
//! on it: so those of a queue go on in the order of their deaths, no queue is locked by another
//! one's verb, and a chain of queues is a longer list, not a deeper stack. What a turn leaves is
//! the ticker's.
//!
//! A move is one record: the message in its new queues, and its end in the old one. It is appended
//! between the reservation of the new places and their showing, as a publish for several queues is.
//! What a full queue sends on moves with it: until all of that has places, it keeps the old one.

mod cycles;
mod letter;
mod places;
mod release;

use super::Broker;
use super::again::Again;
use super::alarm::Alarm;
use super::link::{Workspace, strongest};
use super::vhost::Resolved;
use crate::config::Durability;
use crate::exception::Resource;
use crate::id::Seq;
use crate::limits::{
    DEAD_LETTERS_PER_RECORD_BATCH, DEAD_LETTERS_PER_TURN, DEAD_LETTERS_WAITING_MAX,
    JOURNAL_PENDING_BYTES_MAX, WORK_PER_LOCK_MAX,
};
use crate::queue::{Dead, DeadLetterStrategy, DeadList, Obstacle, Origin, Queue, Reason};
use crate::time::Ttl;
use cycles::Cycles;
use letter::Corpse;
use parking_lot::Mutex;
use places::{Fate, Places, Shown, Step, reserve_places};
use release::Way;
use std::mem;
use std::sync::Arc;

/// Dead letters that wait.
#[derive(Default)]
pub(super) struct DeadLetters {
    list: DeadList,
    /// Held by whoever moves them.
    turn: Mutex<()>,
    cycles: Cycles,
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
            let (moved, taken) = self.move_batch(&mut batch, workspace);
            self.dead_letters.list.put_back(batch.split_off(moved));
            places += moved + taken;
        }
        self.dead_letters.list.is_empty()
    }

    /// Moves these: (a) reserve their places, (b) append a record for each, (c) show them and end
    /// them in their old queues. Stops early if they have very many places; says how many letters
    /// moved, and how many places and letters that were sent on that took.
    fn move_batch(&self, batch: &mut [Dead], workspace: &mut Workspace) -> (usize, usize) {
        let _gate = self.gate.read();
        let (mut shown, mut ended) = (Shown::new(), Places::new());
        let (mut held, mut too_large) = (Places::new(), Places::new());
        let mut durability = Durability::Os;
        let refused = workspace.effects.refused.len();
        let (mut moved, mut places) = (0, 0);
        let (mut source, mut way) = (None::<Arc<Queue>>, None);
        let mut step = Step::default();
        for dead in batch {
            if places + shown.remembered.len() >= WORK_PER_LOCK_MAX {
                break;
            }
            moved += 1;
            step.resume(mem::take(&mut dead.sent_on));
            let Some(origin) = &dead.origin else { continue };
            if source.as_ref().is_none_or(|queue| queue.id != dead.queue) {
                source = self.queue_by_id(dead.queue);
            }
            let place = source.as_ref().zip(dead.place);
            let obstacle = self.take_step(dead, origin, &mut way, &mut shown, &mut step, workspace);
            places += step.finish();
            if let (Some(obstacle), Some((queue, (slot, seq)))) = (obstacle, place) {
                let held = match obstacle {
                    Obstacle::NoTaker => &mut held,
                    Obstacle::TooLarge => &mut too_large,
                };
                held.push(queue, (slot, seq, dead.reason));
                continue;
            }
            workspace.records.begin_transaction();
            step.record(&mut workspace.records, &mut shown);
            let ends = step.sent_on.is_empty();
            // A queue that is gone has ended all of its messages.
            if let Some((queue, (slot, seq))) = place.filter(|_| ends) {
                if dead.recorded {
                    workspace.records.ack(queue.id, [(seq, seq)]);
                    durability = durability.max(origin.durability);
                }
                ended.push(queue, (slot, seq));
            }
            workspace.records.end_transaction();
            if !ends {
                // It goes on in the next turn, before all others.
                dead.sent_on = mem::take(&mut step.sent_on);
                moved -= 1;
                break;
            }
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

    /// Reserves a dead letter's places, and those of the letters that full queues on its way send
    /// on. If one of them has to wait, says why: then nothing is reserved. What has no place in
    /// which to wait goes on without that one. Of a very large web of full queues some letters are
    /// left in `step`: the others have moved then, so these go on without those that have to wait.
    fn take_step(
        &self,
        dead: &Dead,
        origin: &Origin,
        way: &mut Option<Way>,
        shown: &mut Shown,
        step: &mut Step,
        workspace: &mut Workspace,
    ) -> Option<Obstacle> {
        let remembered = shown.remembered.len();
        let mut sent_on = step.sent_on.pop();
        loop {
            let fate = match &sent_on {
                None => self.reserve(dead, origin, way, shown, workspace),
                Some(next) => match &next.origin {
                    Some(origin) => self.reserve(next, origin, way, shown, workspace),
                    None => Fate::Ends,
                },
            };
            match fate {
                Fate::Waits(obstacle) if dead.place.is_some() && !step.is_resumed => {
                    shown.remembered.truncate(remembered);
                    step.withdraw(self, workspace);
                    return Some(obstacle);
                }
                fate => step.add(fate, &mut workspace.effects.dead),
            }
            if step.is_long() {
                return None;
            }
            sent_on = Some(step.sent_on.pop()?);
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
                return self.reserve_rescheduled(dead, origin, until, workspace);
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
            queues.retain(|queue| {
                let goes_round = !queue.id.is_timed() && letter.has_cycled(&queue.name);
                // What must arrive waits, which is told in another way.
                if goes_round && !must_arrive {
                    self.dead_letters.cycles.log_once(&origin.vhost, &queue.name, &letter);
                }
                !goes_round
            });
        }
        let publish = again.publish(Ttl::FOREVER, routed.delay);
        let fate = match queues[..] {
            [] => nobody,
            _ => reserve_places(&publish, &queues, must_arrive, self, workspace),
        };
        shown.remember(routed.histories, &publish, &fate);
        fate
    }
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
