//! How often messages came back, where the queue has to know it: for its delivery limit, for how
//! long it delays the next attempt, and for the header that tells consumers (`x-delivery-count`). A
//! message that never came back costs nothing here; of the others there are never more than were
//! unacked at once or wait for their next attempt.
//!
//! Each return leaves a record with the count so far, which is too low after a crash by what was
//! out, and with the time until which the message waits. Who waits, and how long, is `retry`'s.
//!
//! Nothing comes back to a timed queue. In its place stand the seqs that its messages gave up (see
//! `delay`), which a checkpoint and a start have to know as well: they have come back no times.

use super::checkout::Checkout;
use super::core::QueueCore;
use super::deadletter::Reason;
use super::effects::Effects;
use super::outlet::Returned;
use super::ready::Entry;
use super::retry::wait_until;
use super::settings::{Behaviour, QueueType};
use crate::id::{QueueId, Seq};
use crate::limits::GIVEN_UP_FORGOTTEN_AT_ONCE;
use crate::store::{CameBack, RecordBatch};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What the settings say about returns, read once.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// A message may come back this often.
    limit: u64,
    /// Deliveries say so even if there was none.
    tells_zero: bool,
    /// How long what failed waits: the first time, and at most.
    delay_ms: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    times: u32,
    persistent: bool,
}

/// One word, since most queues count nothing.
#[derive(Debug, Default)]
pub(super) struct Returns(Option<Box<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    /// Only there if returns are counted.
    rule: Option<Rule>,
    by_seq: BTreeMap<u64, Count>,
}

impl Returns {
    /// From now on as these settings say. What was counted stays: it is never too much.
    pub(super) fn obey(&mut self, behaviour: &Behaviour) {
        // RabbitMQ: quorum queues count in any case, and 3.10 tells the first consumer too.
        let tells_zero = behaviour.kind == QueueType::Quorum;
        // What waits would be overtaken by its own key.
        let keyless = behaviour.group_key.is_none() && behaviour.fair_key.is_none();
        let delay_ms = behaviour.retry_delay_ms.filter(|_| keyless);
        let counts = tells_zero || behaviour.delivery_limit.is_some() || delay_ms.is_some();
        let limit = behaviour.delivery_limit.unwrap_or(u64::MAX);
        if counts {
            let rule = Rule { limit, tells_zero, delay_ms };
            self.0.get_or_insert_default().rule = Some(rule);
        } else if let Some(counted) = &mut self.0 {
            counted.rule = None;
        }
    }

    fn rule(&self) -> Option<Rule> {
        self.0.as_ref()?.rule
    }

    pub(super) fn are_counted(&self) -> bool {
        self.rule().is_some()
    }

    /// What a delivery says of its message.
    #[inline]
    pub(super) fn told(&self, seq: u64) -> Returned {
        let Some(Counted { rule: Some(rule), by_seq }) = self.0.as_deref() else {
            return Returned::UNTOLD;
        };
        match by_seq.get(&seq) {
            Some(count) => Returned::times(count.times),
            None if rule.tells_zero => Returned::times(0),
            None => Returned::UNTOLD,
        }
    }

    /// The message has ended.
    #[inline]
    pub(super) fn forget(&mut self, seq: u64) {
        if let Some(counted) = &mut self.0 {
            counted.by_seq.remove(&seq);
        }
    }

    /// Of all messages only these are left.
    pub(super) fn keep(&mut self, checkout: &Checkout) {
        if let Some(counted) = self.0.as_mut().filter(|counted| !counted.by_seq.is_empty()) {
            let mut before = std::mem::take(&mut counted.by_seq);
            let kept = checkout.entries().filter_map(|entry| before.remove_entry(&entry.seq));
            counted.by_seq = kept.collect();
        }
    }

    /// Of those of these messages that the journal knows, in order.
    fn persistent(&self, range: &RangeInclusive<u64>) -> impl Iterator<Item = (Seq, u32)> {
        let all = self.0.iter().flat_map(|counted| counted.by_seq.range(range.clone()));
        let known = all.filter(|(_, count)| count.persistent);
        known.map(|(seq, count)| (Seq(*seq), count.times))
    }

    /// Messages that are counted.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |counted| counted.by_seq.len())
    }

    /// Those that are counted, from this one on.
    pub(super) fn seqs_from(&self, seq: u64) -> impl Iterator<Item = u64> {
        let counted = self.0.iter().flat_map(move |counted| counted.by_seq.range(seq..));
        counted.map(|(seq, _)| *seq)
    }

    /// What a recovered message was counted to.
    pub(super) fn restore(&mut self, seq: Seq, times: u32) {
        let count = Count { times, persistent: true };
        self.0.get_or_insert_default().by_seq.insert(seq.0, count);
    }

    /// A timed queue's message leaves its place before its time. Of each time the highest such seq
    /// is known; so are those to the journal of which it has a record, or of a lower one.
    pub(super) fn give_up(&mut self, seq: u64, persistent: bool) {
        let by_seq = &mut self.0.get_or_insert_default().by_seq;
        let (first, last) = Seq(seq).of_its_time();
        let mut highest = (seq, persistent);
        let known = by_seq.range(first.0..=last.0).next_back();
        if let Some((known, Count { persistent: had_record, .. })) = known.map(|it| (*it.0, *it.1))
        {
            by_seq.remove(&known);
            highest = (known.max(seq), had_record || persistent);
        }
        by_seq.insert(highest.0, Count { times: 0, persistent: highest.1 });
    }

    /// The last seq from `first` to `last` that a timed queue's message gave up.
    pub(super) fn given_up_within(&self, first: u64, last: u64) -> Option<u64> {
        let (seq, _) = self.0.as_ref()?.by_seq.range(first..=last).next_back()?;
        Some(*seq)
    }

    /// Of a timed queue only what is behind this seq is needed. Forgets some of the rest: a start
    /// finds as many as were released since the last checkpoint.
    pub(super) fn forget_through(&mut self, seq: u64) {
        let Some(Counted { by_seq, .. }) = self.0.as_deref_mut() else { return };
        for _ in 0..GIVEN_UP_FORGOTTEN_AT_ONCE {
            match by_seq.first_entry() {
                Some(first) if *first.key() <= seq => first.remove(),
                _ => break,
            };
        }
        self.0.take_if(|counted| counted.by_seq.is_empty() && counted.rule.is_none());
    }

    fn add(&mut self, entry: &Entry) -> u32 {
        let persistent = entry.persistent;
        let by_seq = &mut self.0.get_or_insert_default().by_seq;
        let count = by_seq.entry(entry.seq).or_insert(Count { times: 0, persistent });
        count.times = count.times.saturating_add(1);
        count.times
    }

    fn set(&mut self, seq: u64, times: u32) {
        let Some(Counted { by_seq, .. }) = self.0.as_deref_mut() else { return };
        if times == 0 {
            by_seq.remove(&seq);
        } else if let Some(count) = by_seq.get_mut(&seq) {
            count.times = times;
        }
    }

    /// Whether a message that came back so often has failed for good.
    fn are_too_many(&self, times: u32) -> bool {
        self.rule().is_some_and(|rule| u64::from(times) > rule.limit)
    }
}

/// Neighbours that came back alike, so that they make one record.
#[derive(Default)]
pub(super) struct ReturnedRun(Option<(u64, u64, CameBack)>);

impl ReturnedRun {
    fn extend(&mut self, seq: u64, how: CameBack, queue: QueueId, records: &mut RecordBatch) {
        match &mut self.0 {
            Some((_, last, same)) if *last + 1 == seq && *same == how => *last = seq,
            run => {
                let before = Self(run.replace((seq, seq, how)));
                before.finish(queue, records);
            }
        }
    }

    pub(super) fn finish(self, queue: QueueId, records: &mut RecordBatch) {
        if let Some((first, last, how)) = self.0 {
            records.returned(queue, (Seq(first), Seq(last)), how);
        }
    }
}

impl QueueCore {
    /// A message comes back to a queue that counts. It dies if that was once too often; else it
    /// `waits` for its next attempt if it failed and the queue delays that.
    pub(super) fn take_back_counted(
        &mut self,
        entry: Entry,
        waits: bool,
        run: &mut ReturnedRun,
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        let times = self.returns.add(&entry);
        if self.returns.are_too_many(times) {
            // Until it has moved, it is known as its records say.
            self.returns.set(entry.seq, times - 1);
            self.bury(entry, Reason::DeliveryLimit, records, effects);
            return;
        }
        let now = effects.now.unix;
        let until = match self.returns.rule().and_then(|rule| rule.delay_ms).filter(|_| waits) {
            // What expires meanwhile does so in its place among the ready ones.
            Some(ms) => wait_until((self.id, entry.seq), times, ms, now).min(entry.due),
            None => CameBack::AT_ONCE,
        };
        let until = if until <= now { CameBack::AT_ONCE } else { until };
        if entry.persistent {
            run.extend(entry.seq, CameBack { times, until }, self.id, records);
        }
        if until == CameBack::AT_ONCE {
            self.take_back(entry);
        } else {
            self.put_off(entry, until);
        }
    }

    /// How those of these messages came back that the journal knows, in order, and until when they
    /// wait now.
    pub(super) fn came_back(
        &self,
        range: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = (Seq, CameBack)> {
        let mut waiting = self.retrying_from(*range.start()).peekable();
        self.returns.persistent(range).map(move |(seq, times)| {
            while waiting.next_if(|(other, _)| *other < seq).is_some() {}
            let until = waiting.next_if(|(other, _)| *other == seq);
            (seq, CameBack { times, until: until.map_or(CameBack::AT_ONCE, |(_, until)| until) })
        })
    }

    /// How often recovered messages came back. Those that wait are `restore_retrying`'s.
    pub fn restore_returns(&mut self, returns: impl IntoIterator<Item = (Seq, CameBack)>) {
        returns.into_iter().for_each(|(seq, it)| self.returns.restore(seq, it.times));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settlement;
    use super::super::samples::{FOREVER, World, publish};
    use super::super::settings::{DeadLetter, DeadLetterStrategy};
    use super::*;
    use crate::name::Name;
    use crate::store::OnDisk;

    /// With so many messages.
    fn world_of(behaviour: Behaviour, messages: usize) -> World {
        let mut world = World::new(behaviour);
        world.publish(&vec![FOREVER; messages]);
        world
    }

    impl World {
        /// The seqs that are counted.
        fn counted(&self) -> Vec<u64> {
            let counted = self.core.returns.0.iter();
            counted.flat_map(|counted| counted.by_seq.keys().copied()).collect()
        }

        fn told(&self, seq: u64) -> Option<u16> {
            self.core.returns.told(seq).told()
        }
    }

    fn limit(delivery_limit: u64) -> Behaviour {
        Behaviour { delivery_limit: Some(delivery_limit), ..Behaviour::default() }
    }

    #[test]
    fn a_message_is_delivered_once_more_often_than_it_may_come_back() {
        for allowed in 0..3 {
            let exchange = Name::new("dlx");
            let strategy = DeadLetterStrategy::default();
            let dead_letter = Some(DeadLetter { exchange, routing_key: None, strategy });
            for dead_letter in [None, dead_letter] {
                let behaviour = Behaviour { dead_letter: dead_letter.clone(), ..limit(allowed) };
                let mut world = world_of(behaviour, 1);
                for _ in 0..=allowed {
                    assert_eq!(world.core.ready_len(), 1);
                    let out = world.take(1);
                    world.settle(&out, Settlement::Requeue);
                }
                assert_eq!((world.core.ready_len(), world.core.unacked_len()), (0, 0));
                let dead: Vec<_> = world.effects.dead.iter().map(|dead| dead.reason).collect();
                assert_eq!(dead, vec![Reason::DeliveryLimit; usize::from(dead_letter.is_some())]);
                let places: Vec<_> =
                    world.effects.dead.iter().filter_map(|dead| dead.place).collect();
                world.core.buried(&places, true, &mut world.records, &mut world.effects);
                assert!(world.counted().is_empty());
            }
        }
    }

    #[test]
    fn a_message_that_has_died_and_not_moved_keeps_its_count_and_has_been_out() {
        let exchange = Name::new("dlx");
        let strategy = DeadLetterStrategy::default();
        let dead_letter = Some(DeadLetter { exchange, routing_key: None, strategy });
        let mut world = world_of(Behaviour { dead_letter, ..limit(2) }, 2);
        for _ in 0..3 {
            let out = world.take(1);
            world.settle(&out, Settlement::Requeue);
        }
        let out = world.take(1);
        world.settle(&out, Settlement::Discard);
        // At a checkpoint its old queue has both, and so has what a crash leaves.
        let alive = world.core.alive();
        let counts: Vec<_> = alive.returns.iter().map(|(seq, how)| (*seq, how.times)).collect();
        assert_eq!(counts, [(Seq(1), 2)]);
        assert_eq!(alive.redelivered, [(Seq(1), Seq(2))]);
        world.records.clear();
        world.core.record_dying(&mut world.records);
        assert_eq!(world.records.records(), 1);
    }

    #[test]
    fn what_has_ended_is_not_counted_any_more() {
        let mut world = world_of(limit(9), 4);
        let out = world.take(4);
        world.settle(&out, Settlement::Requeue);
        let out = world.take(3);
        assert_eq!(world.counted().len(), 4);
        world.settle(&out[..1], Settlement::Ack);
        world.settle(&out[1..2], Settlement::Discard);
        assert_eq!(world.counted().len(), 2);
        // Of a purge only what is out is left.
        world.core.purge(&mut world.records, &mut world.effects);
        assert_eq!(world.counted(), [3]);
        assert_eq!((world.told(3), world.told(4)), (Some(1), None));
    }

    #[test]
    fn counts_outlast_that_their_messages_leave_memory() {
        let mut world = world_of(limit(9), 10);
        let out = world.take(6);
        world.settle(&out, Settlement::Requeue);
        let all = [(Seq(0), Seq(u64::MAX))];
        world.core.page_out(&all, 0, 0, 100);
        world.core.evict_bodies(&all, &mut super::super::Sweep::default(), 100);
        assert_eq!(world.core.absent_seqs().len(), 10);
        let counted: Vec<_> = (1..=6).map(|seq| (Seq(seq), CameBack::at_once(1))).collect();
        assert_eq!(world.core.alive().returns, counted);
        let due = crate::time::UnixMillis::NEVER;
        let on_disk = (1..=10).map(|seq| OnDisk { seq: Seq(seq), due, message: publish().message });
        world.core.loaded(on_disk.collect(), &[], &mut world.records, &mut world.effects);
        let out = world.take(1);
        assert_eq!((out[0].1, world.told(1), world.told(7)), (Seq(1), Some(1), None));
    }

    #[test]
    fn neighbours_that_came_back_equally_often_make_one_record() {
        let mut world = world_of(limit(9), 6);
        let out = world.take(6);
        world.records.clear();
        world.settle(&out, Settlement::Requeue);
        assert_eq!(world.records.records(), 1);
        let out = world.take(6);
        world.settle(&out[2..4], Settlement::Requeue);
        assert_eq!(world.records.records(), 2);
        world.settle(&[out[0], out[1], out[4]], Settlement::Requeue);
        assert_eq!(world.records.records(), 4);
        let out = world.take(5);
        world.records.clear();
        world.settle(&out, Settlement::Requeue);
        assert_eq!(world.records.records(), 1);
    }

    #[test]
    fn a_count_beyond_what_a_header_says_stays_one() {
        assert_eq!(Returned::times(7).told(), Some(7));
        for times in [65_534, 65_535, u32::MAX] {
            assert_eq!(Returned::times(times).told(), Some(65_534));
        }
        assert_eq!(Returned::UNTOLD.told(), None);
    }
}
