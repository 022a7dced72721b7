//! A queue as the rest of the broker holds it: `QueueCore` behind the one lock of this module, with
//! its name, its settings and its counters. Only this file knows that it is a lock: the modules
//! below it go through `run`, `relieve` and `look`.
//!
//! Every verb is one lock hold: the core decides, what must last is appended to the journal's
//! buffer, then the deliveries are pushed. So a record always precedes what follows from it. What
//! the core hands out to be freed is freed behind the lock.

mod consume;
mod delay;
mod paging;
mod settle;

use super::alive::Alive;
use super::core::{Publish, QueueCore};
use super::deadletter::{DeadList, Origin};
use super::effects::Effects;
use super::page_out::Freed;
use super::residence::{Residence, Share};
use super::settings::{Behaviour, QueueSettings, QueueType};
use crate::config::Durability;
use crate::counters::QueueCounters;
use crate::deduplication::Deduplicator;
use crate::exception::Resource;
use crate::id::{CacheId, Lsn, QueueId, Seq};
use crate::limits::{ALIVE_PART_PAGES, WORK_PER_LOCK_MAX};
use crate::name::Name;
use crate::store::{Log, RecordBatch, Target};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// The queue has ended; whoever asks for it by name may find a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

const NO_TIMEOUT: u64 = u64::MAX;

/// A queue.
pub struct Queue {
    pub id: QueueId,
    pub vhost: Name,
    pub name: Name,
    /// As `settings` says, once and for all.
    pub kind: QueueType,
    pub settings: QueueSettings,
    pub counters: QueueCounters,
    /// What it remembers of its publishes. Whoever publishes asks it; no verb here does.
    pub deduplicator: Option<Arc<Deduplicator>>,
    durability: Durability,
    /// For its dead letters and for routes; only there once one asked for it. Made under the lock.
    origin: OnceLock<Arc<Origin>>,
    /// Set under the lock, read without it.
    gone: AtomicBool,
    /// Something that is stored changed since a checkpoint looked. Set under the lock.
    changed: AtomicBool,
    core: Mutex<QueueCore>,
    /// As its behaviour says; `NO_TIMEOUT` if that says nothing. Written under the lock.
    consumer_timeout_ms: AtomicU64,
    /// Written under the lock.
    share: Share,
}

/// What a verb needs from its caller: where records go, a batch to build them in, and what is left
/// to do afterwards.
pub struct Turn<'a> {
    pub log: &'a dyn Log,
    pub records: &'a mut RecordBatch,
    pub effects: &'a mut Effects,
    /// Where dead letters go, in the order of their deaths.
    pub dead: &'a DeadList,
}

impl Queue {
    #[must_use]
    pub fn new(
        vhost: Name,
        name: Name,
        settings: QueueSettings,
        core: QueueCore,
        residence: &Arc<Residence>,
    ) -> Self {
        let deduplication = core.behaviour().deduplication.as_ref();
        let deduplicator = deduplication
            .map(|it| Arc::new(Deduplicator::new(CacheId(core.id().0), it, settings.durable)));
        let queue = Self {
            id: core.id(),
            vhost,
            name,
            kind: settings.queue_type(),
            settings,
            counters: QueueCounters::default(),
            deduplicator,
            durability: Durability::default(),
            origin: OnceLock::new(),
            gone: AtomicBool::new(false),
            changed: AtomicBool::new(false),
            consumer_timeout_ms: AtomicU64::new(timeout_of(core.behaviour())),
            core: Mutex::new(core),
            share: Share::new(residence),
        };
        queue.count(&mut queue.core.lock());
        queue
    }

    /// The same queue with records that are as safe as this. Call before it is used.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        Self { durability, ..self }
    }

    /// What its records wait for, if it has any: what a confirm means.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    #[must_use]
    pub fn resource(&self) -> Resource<'_> {
        Resource::Queue { vhost: &self.vhost, name: &self.name }
    }

    /// Says who the queue is, and whether it is gone, to whoever must not hold it.
    #[must_use]
    pub fn origin(&self) -> Arc<Origin> {
        let _held = self.core.lock();
        Arc::clone(self.origin_locked())
    }

    /// As `origin`, with the lock held: the end must not come while it is made.
    fn origin_locked(&self) -> &Arc<Origin> {
        self.origin.get_or_init(|| {
            let (vhost, name) = (self.vhost.clone(), self.name.clone());
            let gone = AtomicBool::new(self.is_gone());
            Arc::new(Origin { vhost, name, durability: self.durability, gone })
        })
    }

    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Enqueues `batch` in order, emptying it. The LSN covers all of it.
    ///
    /// # Errors
    /// `Gone`, with the batch untouched: its messages are unrouted.
    pub fn publish(&self, batch: &mut Vec<Publish>, turn: &mut Turn<'_>) -> Result<Lsn, Gone> {
        let published = batch.len() as u64;
        let (lsn, ()) = self.run(turn, |core, turn| {
            core.publish(batch, turn.records, turn.effects);
        })?;
        self.counters.published.add(published);
        Ok(lsn)
    }

    /// As `publish`, for messages of which other queues get copies too.
    ///
    /// # Errors
    /// `Gone`.
    pub fn publish_copies(&self, batch: &[Publish], turn: &mut Turn<'_>) -> Result<Lsn, Gone> {
        let (lsn, ()) = self.run(turn, |core, turn| {
            core.publish_copies(batch, turn.records, turn.effects);
        })?;
        self.counters.published.add(batch.len() as u64);
        Ok(lsn)
    }

    /// Reserves a place for each message of `batch`, to be shown once their record is appended;
    /// none for what it refuses.
    ///
    /// # Errors
    /// `Gone`.
    pub fn reserve(
        &self,
        batch: impl Iterator<Item = Publish>,
        targets: &mut Vec<Option<Target>>,
        effects: &mut Effects,
    ) -> Result<(), Gone> {
        let mut core = self.core.lock();
        if self.is_gone() {
            return Err(Gone);
        }
        targets.extend(batch.map(|publish| core.reserve(publish, effects)));
        self.name_dead(effects);
        self.mark_changed();
        Ok(())
    }

    /// Gives reserved places back.
    ///
    /// # Errors
    /// `Gone`: they went with the queue.
    pub fn withdraw(&self, seqs: &[Seq], turn: &mut Turn<'_>) -> Result<(), Gone> {
        // The last first, since what is behind a place moves up.
        for part in seqs.rchunks(WORK_PER_LOCK_MAX) {
            self.run(turn, |core, turn| core.withdraw(part, turn.records, turn.effects))?;
        }
        Ok(())
    }

    /// Shows reserved messages.
    ///
    /// # Errors
    /// `Gone`: they went with the queue.
    pub fn show(&self, seqs: &[Seq], turn: &mut Turn<'_>) -> Result<(), Gone> {
        self.run(turn, |core, turn| core.show(seqs, turn.records, turn.effects))?;
        self.counters.published.add(seqs.len() as u64);
        Ok(())
    }

    /// Does what is due.
    ///
    /// # Errors
    /// `Gone`.
    pub fn tick(&self, turn: &mut Turn<'_>) -> Result<(), Gone> {
        self.run(turn, |core, turn| core.tick(turn.records, turn.effects)).map(drop)
    }

    /// As `QueueCore::end_hold`. Nothing if the queue is gone.
    pub fn end_hold(&self, turn: &mut Turn<'_>) {
        let _ = self.run(turn, |core, turn| core.end_hold(turn.records, turn.effects));
    }

    /// Whether anything in it ever becomes due.
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.look(|core| core.has_deadlines())
    }

    /// As `QueueCore::touch`.
    pub fn touch(&self, effects: &mut Effects) {
        self.look(|core| core.touch(effects));
    }

    /// Drops the messages that are ready, wait for their next attempt or cannot be read; says how
    /// many, and what to wait for before saying so.
    ///
    /// # Errors
    /// `Gone`.
    pub fn purge(&self, turn: &mut Turn<'_>) -> Result<(u64, Lsn), Gone> {
        let (lsn, (purged, dropped)) = self.run(turn, |core, turn| {
            let purged = core.message_count() + core.damaged_len();
            (purged as u64, core.purge(turn.records, turn.effects))
        })?;
        drop(dropped);
        Ok((purged, lsn))
    }

    /// As `QueueCore::give_up_damaged`, and what to wait for before saying so.
    ///
    /// # Errors
    /// `Gone`.
    pub fn give_up_damaged(&self, turn: &mut Turn<'_>) -> Result<(u64, Lsn), Gone> {
        let (lsn, len) = self.run(turn, |core, turn| core.give_up_damaged(turn.records))?;
        Ok((len, lsn))
    }

    /// As `QueueCore::damaged_len`.
    #[must_use]
    pub fn damaged_len(&self) -> usize {
        self.look(|core| core.damaged_len())
    }

    /// What it does now.
    #[must_use]
    pub fn behaviour(&self) -> Arc<Behaviour> {
        self.look(|core| Arc::clone(core.behaviour()))
    }

    /// How long its deliveries may stay unacknowledged, if it says so. Reading it costs one load.
    #[must_use]
    pub fn consumer_timeout_ms(&self) -> Option<u64> {
        let ms = self.consumer_timeout_ms.load(Ordering::Relaxed);
        (ms != NO_TIMEOUT).then_some(ms)
    }

    /// As `QueueCore::set_behaviour`.
    ///
    /// # Errors
    /// `Gone`.
    pub fn set_behaviour(&self, behaviour: Behaviour, turn: &mut Turn<'_>) -> Result<bool, Gone> {
        let set = |core: &mut QueueCore, turn: &mut Turn<'_>| {
            self.consumer_timeout_ms.store(timeout_of(&behaviour), Ordering::Relaxed);
            core.set_behaviour(behaviour, turn.records, turn.effects)
        };
        self.run(turn, set).map(|(_, is_new)| is_new)
    }

    /// Whether what is stored of it changed since this was asked last.
    pub fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }

    /// The last checkpoint does not know how it stands.
    pub fn mark_changed(&self) {
        if !self.changed.load(Ordering::Relaxed) {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Which messages have not ended, parts of them at moments apart. Nobody else may ask for it
    /// at the same time.
    ///
    /// # Errors
    /// `Gone`.
    pub fn alive(&self) -> Result<Alive, Gone> {
        let (parts_max, len_max) = {
            let core = self.core.lock();
            let len_max = core.paging.page_len.saturating_mul(ALIVE_PART_PAGES);
            (core.alive_parts_max(len_max), len_max)
        };
        Alive::in_parts(parts_max, |from, is_rest| {
            let mut core = self.core.lock();
            if self.is_gone() { Err(Gone) } else { Ok(core.alive_part(from, len_max, is_rest)) }
        })
    }

    /// Ends the queue if `check` lets it; says how many messages it had that were not out. From
    /// then on every verb answers `Gone`, and the caller takes it out of the topology.
    ///
    /// # Errors
    /// What `check` says, or `None` if it has ended already.
    pub fn close_if<E>(
        &self,
        effects: &mut Effects,
        check: impl FnOnce(&QueueCore) -> Result<(), E>,
    ) -> Result<u64, Option<E>> {
        let (messages, remains) = {
            let mut core = self.core.lock();
            if self.is_gone() {
                return Err(None);
            }
            check(&core).map_err(Some)?;
            self.gone.store(true, Ordering::Release);
            if let Some(origin) = self.origin.get() {
                origin.gone.store(true, Ordering::Release);
            }
            let messages = (core.message_count() + core.damaged_len()) as u64;
            let remains = core.end(effects);
            self.count(&mut core);
            self.share.give_back();
            (messages, remains)
        };
        drop(remains);
        Ok(messages)
    }

    /// As `QueueCore::message_count`, and consumers, at one moment.
    #[must_use]
    pub fn depth(&self) -> (u64, u64) {
        self.look(|core| (core.message_count() as u64, core.consumers_len() as u64))
    }

    /// One lock hold that changes nothing which is counted or stored.
    fn look<R>(&self, verb: impl FnOnce(&mut QueueCore) -> R) -> R {
        verb(&mut self.core.lock())
    }

    /// One lock hold that takes contents out of memory, and frees them behind it.
    fn relieve(&self, verb: impl FnOnce(&mut QueueCore) -> Freed) -> Result<Freed, Gone> {
        let mut core = self.core.lock();
        if self.is_gone() {
            return Err(Gone);
        }
        let freed = verb(&mut core);
        self.count(&mut core);
        drop(core);
        Ok(freed)
    }

    fn run<R>(
        &self,
        turn: &mut Turn<'_>,
        verb: impl FnOnce(&mut QueueCore, &mut Turn<'_>) -> R,
    ) -> Result<(Lsn, R), Gone> {
        let mut core = self.core.lock();
        if self.is_gone() {
            return Err(Gone);
        }
        let answer = verb(&mut core, turn);
        if !turn.records.is_empty() {
            self.mark_changed();
        }
        let lsn = if turn.records.is_empty() {
            Lsn(0)
        } else {
            turn.log.append_as(turn.records, self.durability)
        };
        core.push_events(turn.effects);
        if !turn.effects.dead.is_empty() {
            self.name_dead(turn.effects);
            turn.dead.append(&mut turn.effects.dead);
        }
        self.count(&mut core);
        drop(core);
        turn.effects.drop_ended();
        Ok((lsn, answer))
    }

    /// Says of the dead letters that it has just made where they come from.
    #[cold]
    fn name_dead(&self, effects: &mut Effects) {
        if effects.dead.last().is_none_or(|dead| dead.origin.is_some()) {
            return;
        }
        let origin = self.origin_locked();
        let new = effects.dead.iter_mut().rev().take_while(|dead| dead.origin.is_none());
        new.for_each(|dead| dead.origin = Some(Arc::clone(origin)));
    }

    fn count(&self, core: &mut QueueCore) {
        let delivered = std::mem::take(&mut core.delivered);
        if delivered.messages > 0 {
            self.counters.delivered.add(delivered.messages.into());
            if delivered.redelivered > 0 {
                self.counters.redelivered.add(delivered.redelivered.into());
            }
        }
        if delivered.gotten > 0 {
            self.counters.gotten.add(delivered.gotten.into());
        }
        self.counters.ready.set(core.ready_len() as u64);
        self.counters.ready_bytes.set(core.ready_bytes());
        self.counters.retrying.set(core.retrying_len() as u64);
        self.counters.retrying_bytes.set(core.retrying_bytes());
        self.counters.held_back.set(core.held_back_len() as u64);
        self.counters.unacked.set(core.unacked_len() as u64);
        self.counters.unacked_bytes.set(core.unacked_bytes());
        self.counters.consumers.set(core.consumers_len() as u64);
        let resident = core.resident_bytes();
        self.counters.resident_bytes.set(resident);
        self.share.report(resident);
    }
}

fn timeout_of(behaviour: &Behaviour) -> u64 {
    behaviour.consumer_timeout_ms.unwrap_or(NO_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the allocator has a size for; what is longer takes the next, 896.
    const BLOCK_BYTES: usize = 768;

    #[test]
    fn an_origin_knows_of_the_end_whether_it_was_made_before_or_after() {
        for asked_before in [true, false] {
            let core = QueueCore::new(QueueId(1), true);
            let settings = QueueSettings::default();
            let queue = Queue::new("/".into(), "q".into(), settings, core, &Arc::default());
            let before = asked_before.then(|| queue.origin());
            assert!(before.iter().all(|origin| !origin.is_gone()));
            queue.close_if(&mut Effects::new(), |_| Ok::<(), ()>(())).unwrap();
            let origin = queue.origin();
            assert!(origin.is_gone());
            assert!(before.is_none_or(|before| Arc::ptr_eq(&before, &origin)));
        }
    }

    #[test]
    fn a_queue_is_one_block_of_768_bytes_with_both_of_its_counts() {
        let counts = 2 * size_of::<usize>();
        assert!(size_of::<Queue>() + counts <= BLOCK_BYTES, "{}", size_of::<Queue>());
    }
}
