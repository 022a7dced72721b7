//! Dead letters that no queue takes, of a queue that wants them to arrive (`at-least-once`): they
//! stay where they died and are tried again, some at a time, until somebody takes them. So do
//! those that have grown too large, and delayed messages that meet an exchange type that fails.

use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::Effects;
use crate::id::Seq;
use crate::limits::{DYING_MAX, HELD_BACK_PER_TRY, HELD_BACK_RETRY_MS, HELD_BACK_RETRY_SOON_MS};
use crate::time::UnixMillis;
use std::collections::BTreeMap;

/// Why dead letters are held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// There is no queue that takes them, or no way to one.
    NoTaker,
    /// With their deaths their headers are larger than allowed.
    TooLarge,
}

#[derive(Debug)]
pub(super) struct HeldBack {
    /// Slot and reason by seq; none while all of them are being tried.
    letters: BTreeMap<u64, (u32, Reason)>,
    /// Those from here on are tried next.
    from: u64,
    retry_at: UnixMillis,
    /// What has been told of since anything is held back.
    told: Vec<Obstacle>,
}

impl QueueCore {
    /// These dead letters do not move now. What is none any more is passed over. True if none was
    /// held back for that before.
    pub fn hold_back(
        &mut self,
        letters: &[(u32, Seq, Reason)],
        obstacle: Obstacle,
        effects: &mut Effects,
    ) -> bool {
        let retry_at = effects.now.unix.plus(HELD_BACK_RETRY_MS);
        let checkout = &self.checkout;
        let dying = letters.iter().filter(|(slot, seq, _)| checkout.is_dying(*slot, seq.0));
        let held = self.held_back.get_or_insert_with(|| {
            Box::new(HeldBack { letters: BTreeMap::new(), from: 0, retry_at, told: Vec::new() })
        });
        let is_news = !held.told.contains(&obstacle);
        if is_news {
            held.told.push(obstacle);
        }
        held.letters.extend(dying.map(|&(slot, seq, reason)| (seq.0, (slot, reason))));
        self.end_holding_back();
        self.arm(effects);
        is_news
    }

    /// Whether dead letters wait here that are to arrive elsewhere, or are on their way once more.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.held_back.is_some()
    }

    /// Dead letters that have not moved, while some of them are held back.
    #[must_use]
    pub fn held_back_len(&self) -> usize {
        if self.holds_back() { self.dying } else { 0 }
    }

    /// When some of them are tried again.
    pub(super) fn held_back_due(&self) -> UnixMillis {
        let held = self.held_back.as_ref().filter(|held| !held.letters.is_empty());
        held.map_or(UnixMillis::NEVER, |held| held.retry_at)
    }

    /// More may not die, and most of what did waits for somebody who takes it.
    pub(super) fn is_stuck(&self) -> bool {
        let held = self.held_back.as_ref().map_or(0, |held| held.letters.len());
        self.mourns_enough() && held > DYING_MAX / 2
    }

    /// Somebody takes dead letters again.
    pub(super) fn retry_soon(&mut self, effects: &mut Effects) {
        self.end_holding_back();
        if let Some(held) = &mut self.held_back {
            held.retry_at = held.retry_at.min(effects.now.unix.plus(HELD_BACK_RETRY_SOON_MS));
            self.arm(effects);
        }
    }

    /// Nothing is held back any more if nothing is dying.
    pub(super) fn end_holding_back(&mut self) {
        self.held_back.take_if(|_| self.dying == 0);
    }

    /// Sends some of them on their way again if it is time. Those whose content is on disk are
    /// read first.
    pub(super) fn retry_held_back(&mut self, effects: &mut Effects) {
        let now = effects.now.unix;
        let is_time = |held: &mut Box<HeldBack>| held.retry_at <= now && !held.letters.is_empty();
        let Some(mut held) = self.held_back.take_if(is_time) else { return };
        if held.letters.range(held.from..).next().is_none() {
            held.from = 0;
        }
        let next = held.letters.range(held.from..).take(HELD_BACK_PER_TRY);
        let tried: Vec<_> = next.map(|(seq, letter)| (*seq, *letter)).collect();
        held.from = if tried.len() < HELD_BACK_PER_TRY { 0 } else { tried[tried.len() - 1].0 + 1 };
        held.retry_at = now.plus(HELD_BACK_RETRY_MS);
        for (seq, (slot, reason)) in tried {
            held.letters.remove(&seq);
            self.send_again(slot, seq, reason, effects);
        }
        // Those that come back from here are no news.
        self.held_back = Some(held);
    }
}

#[cfg(test)]
mod tests {
    use super::super::core::Publish;
    use super::super::samples::publish;
    use super::super::settings::{Behaviour, DeadLetter, DeadLetterStrategy};
    use super::*;
    use crate::id::QueueId;
    use crate::name::Name;
    use crate::store::RecordBatch;
    use crate::time::Ttl;

    struct World {
        core: QueueCore,
        records: RecordBatch,
        effects: Effects,
    }

    impl World {
        fn new() -> Self {
            let (exchange, strategy) = (Name::new("dlx"), DeadLetterStrategy::AtLeastOnce);
            let dead_letter = Some(DeadLetter { exchange, routing_key: None, strategy });
            let behaviour = Behaviour { dead_letter, ..Behaviour::default() };
            let core = QueueCore::new(QueueId(1), true).with_behaviour(behaviour);
            Self { core, records: RecordBatch::new(), effects: Effects::new() }
        }

        /// Messages that expire at once.
        fn publish(&mut self, count: usize) {
            let mut batch = vec![Publish { ttl: Ttl::of_ms(0), ..publish() }; count];
            self.core.publish(&mut batch, &mut self.records, &mut self.effects);
        }

        /// What is on its way since the last call.
        fn tried(&mut self) -> Vec<(u32, Seq, Reason)> {
            let dead = self.effects.dead.drain(..);
            dead.filter_map(|it| it.place.map(|(slot, seq)| (slot, seq, it.reason))).collect()
        }

        fn tick(&mut self) {
            self.effects.now.unix = self.effects.now.unix.plus(HELD_BACK_RETRY_MS);
            self.core.tick(&mut self.records, &mut self.effects);
        }

        /// Nobody takes what is on its way.
        fn hold_back(&mut self) -> bool {
            let letters = self.tried();
            self.core.hold_back(&letters, Obstacle::NoTaker, &mut self.effects)
        }
    }

    #[test]
    fn letters_that_are_tried_in_vain_again_and_again_are_told_of_once() {
        let mut world = World::new();
        world.publish(3);
        assert!(world.hold_back());
        for _ in 0..3 {
            world.tick();
            assert!(!world.hold_back());
        }
        world.tick();
        let places: Vec<_> = world.tried().iter().map(|(slot, seq, _)| (*slot, *seq)).collect();
        assert_eq!(places.len(), 3);
        assert!(world.core.holds_back());
        world.core.buried(&places, true, &mut world.records, &mut world.effects);
        assert!(!world.core.holds_back());
        // Once all have arrived, it is news again.
        world.publish(1);
        assert!(world.hold_back());
    }

    #[test]
    fn each_obstacle_is_told_of_once() {
        let mut world = World::new();
        world.publish(2);
        let letters = world.tried();
        let mut told = Vec::new();
        for _ in 0..2 {
            for (letter, obstacle) in letters.iter().zip([Obstacle::NoTaker, Obstacle::TooLarge]) {
                told.push(world.core.hold_back(&[*letter], obstacle, &mut world.effects));
            }
            world.tick();
            assert_eq!(world.tried(), letters);
        }
        assert_eq!(told, [true, true, false, false]);
    }

    #[test]
    fn as_many_as_one_try_takes_are_tried_every_time() {
        let mut world = World::new();
        world.publish(HELD_BACK_PER_TRY);
        assert!(world.hold_back());
        for _ in 0..3 {
            world.tick();
            assert_eq!(world.effects.dead.len(), HELD_BACK_PER_TRY);
            world.hold_back();
        }
    }

    #[test]
    fn a_letter_that_cannot_be_read_is_held_back_no_more() {
        let mut world = World::new();
        world.publish(1);
        assert!(world.hold_back());
        let stored = [(Seq(0), Seq(u64::MAX))];
        assert_eq!(world.core.evict_bodies(&stored, &mut Default::default(), 9).steps, 1);
        world.tick();
        assert_eq!((world.effects.dead.len(), world.effects.loads.len()), (0, 1));
        world.core.loaded(Vec::new(), &[Seq(1)], &mut world.records, &mut world.effects);
        assert_eq!((world.core.holds_back(), world.core.damaged_len()), (false, 1));
    }
}
