//! What the records of a journal add up to, beginning with what a checkpoint says.
//!
//! Replaying is idempotent by (queue, seq): a checkpoint may know more than the records before it,
//! as long as every record behind that is replayed. What names a queue that is gone is passed over:
//! a publish, an ack and a delete may be under way at the same time, and each is one record.
//! Contents are not kept: the index says where they lie.

use super::assembly::{Assembly, Step};
use super::base::Base;
use super::definition::Definition;
use super::definitions::Definitions;
use super::entries::Standing;
use super::frame::Frame;
use super::gap::Found;
use super::record::{BadRecord, CameBack, RawRecord, Record, Runs, Target};
use super::stored_keys::StoredKeys;
use super::touches::Touches;
use crate::id::{CacheId, Lsn, QueueId, SegmentNo, Seq};
use hashbrown::{HashMap, HashSet};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Replay {
    pub(super) definitions: Definitions,
    pub(super) queues: HashMap<QueueId, Standing>,
    /// Those of caches that are gone go at the end.
    pub(super) caches: HashMap<CacheId, StoredKeys>,
    pub(super) next_queue_id: QueueId,
    pub(super) last_lsn: Lsn,
    /// The last record says so, or there is none.
    pub(super) clean: bool,
    /// The newest checkpoint.
    pub(super) generation: u64,
    /// The newest that a record names; zero if none does.
    pub(super) named: u64,
    /// Queues that are not as the checkpoint says.
    pub(super) changed: HashSet<QueueId>,
    /// The same of caches.
    pub(super) changed_caches: HashSet<CacheId>,
    /// Definitions behind the checkpoint.
    pub(super) defined: Vec<Definition>,
    /// Segments that checkpoints on the way gave up.
    pub(super) freed: Vec<SegmentNo>,
    /// What was passed over since it cannot be read, in order.
    pub(super) gaps: Vec<Found>,
    /// Holds that these have made.
    pub(super) holds_len: usize,
    targets: Vec<Target>,
    assembly: Assembly,
}

impl Replay {
    pub(super) fn after(base: Base) -> Self {
        let queues = base.standings.into_iter();
        let queues = queues.filter(|(id, _)| base.definitions.queue(*id).is_some()).collect();
        let mut replay = Self {
            queues,
            caches: base.caches,
            next_queue_id: base.meta.next_queue,
            last_lsn: base.meta.last_lsn,
            clean: base.meta.clean,
            generation: base.meta.generation,
            named: 0,
            changed: HashSet::new(),
            changed_caches: HashSet::new(),
            defined: Vec::new(),
            freed: Vec::new(),
            gaps: Vec::new(),
            holds_len: 0,
            targets: Vec::new(),
            assembly: Assembly::default(),
            definitions: base.definitions,
        };
        for (id, _) in replay.definitions.queues() {
            replay.queues.entry(id).or_default();
        }
        replay
    }

    /// Applies a frame's records. One that goes on in the next frame is applied as far as it is
    /// there: all of its frames must come.
    pub(super) fn frame(&mut self, frame: &Frame<'_>) -> Result<(), BadRecord> {
        let mut assembly = std::mem::take(&mut self.assembly);
        let applied = assembly.frame(frame, |step| {
            match step {
                Step::Record(record, _) => self.clean = self.record(&record)?,
                Step::Done => self.last_lsn.0 += 1,
            }
            Ok(())
        });
        self.assembly = assembly;
        applied
    }

    /// Passes over records that cannot be read: holds the queues that they may name.
    pub(super) fn gap(&mut self, found: Found) {
        let touched: Vec<_> = self.touched(found.touches).collect();
        self.holds_len += touched.len();
        for id in touched {
            self.define(&Definition::QueueHeld { id, gap: found.gap });
        }
        self.give_up(found);
    }

    /// The same, and holds nobody.
    pub(super) fn give_up(&mut self, found: Found) {
        let Found { gap, touches, .. } = found;
        let touched: Vec<_> = self.touched(touches).collect();
        for id in touched {
            // Seqs that were given in the gap are not given again: the file may be restored.
            self.change(id, |queue| queue.next_seq.0 = queue.next_seq.0.saturating_add(gap.len()));
        }
        for (id, keys) in &mut self.caches {
            if touches.meets(Touches::cache(*id)) {
                keys.next_number = keys.next_number.saturating_add(gap.len());
                self.changed_caches.insert(*id);
            }
        }
        self.clean &= gap.is_harmless();
        self.last_lsn = gap.last;
        self.assembly = Assembly::default();
        self.gaps.push(found);
    }

    /// The queues that such records may name.
    pub(super) fn touched(&self, touches: Touches) -> impl Iterator<Item = QueueId> {
        let queues = self.definitions.queues().map(|(id, _)| id);
        queues.filter(move |id| touches.meets(Touches::queue(*id)))
    }

    /// Nothing more comes. What a crash left counts as delivered.
    pub(super) fn finish(&mut self) {
        let definitions = &self.definitions;
        self.caches.retain(|id, _| definitions.has_cache(*id));
        // What lies in a gap may have said that a broker began, and delivered.
        if !self.clean || self.gaps.iter().any(|found| !found.gap.is_harmless()) {
            self.redeliver_all();
        }
    }

    /// True if this says that the broker stopped cleanly.
    fn record(&mut self, record: &RawRecord<'_>) -> Result<bool, BadRecord> {
        let mut targets = std::mem::take(&mut self.targets);
        if record.enqueue(&mut targets)?.is_some() {
            for target in &targets {
                self.change(target.queue, |queue| {
                    if target.queue.is_timed() {
                        // Its next seq counts messages, for their own seqs say when they are due.
                        // Those without a record count too, so no number is as high.
                        queue.next_seq.0 = queue.next_seq.0.max(target.seq.number()) + 1;
                    } else {
                        queue.saw(target.seq);
                    }
                    queue.live.insert(target.seq..=target.seq);
                    queue.due = queue.due.min(target.due);
                });
            }
            self.targets = targets;
            return Ok(false);
        }
        self.targets = targets;
        match record.decode()? {
            Record::Ack { queue, runs } => {
                let timed = queue.is_timed();
                self.change(queue, |queue| match timed {
                    true => queue.give_up(&runs),
                    false => queue.ack(&runs),
                });
            }
            Record::Requeue { queue, runs } => self.change(queue, |queue| queue.requeue(&runs)),
            Record::Returned { queue, came_back, runs } => {
                self.change(queue, |queue| queue.returned(&runs, came_back));
            }
            Record::Purge { queue, below, mut except } => {
                except.sort_unstable_by_key(|run| *run.start());
                self.change(queue, |queue| queue.purge(below, &except));
            }
            Record::Key { cache, entry } => {
                self.caches.entry(cache).or_default().replay(entry);
                self.changed_caches.insert(cache);
            }
            Record::Definition(definition) => self.define(&definition),
            // The broker before this one did not say what it had delivered.
            Record::Opened if !self.clean => self.redeliver_all(),
            Record::Checkpoint { generation, freed } => {
                self.generation = self.generation.max(generation);
                self.named = self.named.max(generation);
                self.freed.extend(freed);
            }
            Record::Clean => return Ok(true),
            Record::Opened | Record::Enqueue { .. } => {}
        }
        Ok(false)
    }

    fn define(&mut self, definition: &Definition) {
        self.defined.push(definition.clone());
        if !self.definitions.apply(definition) {
            return;
        }
        match definition {
            Definition::QueueDeclared { id, .. } => {
                self.queues.entry(*id).or_default();
                self.gave(id.number());
            }
            Definition::ExchangeDeclared { cache: Some(id), .. } => self.gave(id.0),
            Definition::QueueDeleted { id } => {
                self.queues.remove(id);
            }
            Definition::VhostDeleted { .. } => {
                let definitions = &self.definitions;
                self.queues.retain(|id, _| definitions.queue(*id).is_some());
            }
            _ => {}
        }
    }

    fn gave(&mut self, id: u64) {
        self.next_queue_id = self.next_queue_id.max(QueueId(id.saturating_add(1)));
    }

    fn change(&mut self, queue: QueueId, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.queues.get_mut(&queue) {
            change(standing);
            self.changed.insert(queue);
        }
    }

    fn redeliver_all(&mut self) {
        for (id, queue) in &mut self.queues {
            if !queue.live.is_empty() {
                queue.redelivered.clone_from(&queue.live);
                self.changed.insert(*id);
            }
        }
    }
}

impl Standing {
    fn ack(&mut self, runs: &Runs) {
        for run in runs {
            self.saw(*run.end());
            self.live.remove(run.clone());
            self.forget_returns(run.clone());
        }
    }

    /// As `ack`, in a timed queue: no start gives these seqs again. No record says whether their
    /// time had come when they ended, so the queue forgets those of which it had.
    fn give_up(&mut self, runs: &Runs) {
        for run in runs {
            if run.start() < run.end() {
                let ended = self.live.within(*run.start(), *run.end()).map(|(_, last)| last);
                ended.collect::<Vec<_>>().into_iter().for_each(|seq| self.note_given_up(seq));
            }
            self.note_given_up(*run.end());
            self.live.remove(run.clone());
        }
    }

    /// Of each time the highest is enough.
    fn note_given_up(&mut self, seq: Seq) {
        let (first, last) = seq.of_its_time();
        let known = self.returns.range(first..=last).next_back().map(|(known, _)| *known);
        if let Some(lower) = known.filter(|known| *known < seq) {
            self.returns.remove(&lower);
        }
        if known.is_none_or(|known| known < seq) {
            self.returns.insert(seq, CameBack::GIVEN_UP);
        }
    }

    fn requeue(&mut self, runs: &Runs) {
        for run in runs {
            self.saw(*run.end());
            self.redelivered.insert(run.clone());
        }
    }

    /// The count is the whole one, so a checkpoint that knows this return already, or a later one,
    /// does not count it again, and the wait of an earlier one does not begin again. What has ended
    /// by then has no count.
    fn returned(&mut self, runs: &Runs, came_back: CameBack) {
        self.requeue(runs);
        for run in runs {
            for (first, last) in self.live.within(*run.start(), *run.end()) {
                for seq in first.0..=last.0 {
                    let known = self.returns.entry(Seq(seq)).or_insert(came_back);
                    if known.times <= came_back.times {
                        *known = came_back;
                    }
                }
            }
        }
    }

    fn forget_returns(&mut self, run: RangeInclusive<Seq>) {
        while let Some((seq, _)) = self.returns.range(run.clone()).next() {
            let seq = *seq;
            self.returns.remove(&seq);
        }
    }

    fn purge(&mut self, below: Seq, except: &Runs) {
        // Behind all ranks it says nothing of ages.
        if below.age() == below.0 {
            self.next_seq = self.next_seq.max(below);
        }
        self.live.remove_below(below, except);
        self.returns.retain(|seq, _| self.live.contains(*seq));
    }

    fn saw(&mut self, seq: Seq) {
        self.next_seq = self.next_seq.max(Seq(seq.age() + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixMillis;

    #[test]
    fn a_return_that_a_checkpoint_knew_is_not_counted_again() {
        let runs = |first, last| vec![Seq(first)..=Seq(last)];
        let mut standing = Standing::default();
        standing.live.insert(Seq(2)..=Seq(9));
        standing.returns.insert(Seq(4), CameBack::at_once(5));
        for times in 1..=3 {
            standing.returned(&runs(1, 4), CameBack::at_once(times));
        }
        let counts = |standing: &Standing| {
            standing.returns.iter().map(|(seq, it)| (seq.0, it.times)).collect::<Vec<_>>()
        };
        assert_eq!(counts(&standing), [(2, 3), (3, 3), (4, 5)]);
        standing.ack(&runs(3, 3));
        assert_eq!(counts(&standing), [(2, 3), (4, 5)]);
        standing.purge(Seq(9), &runs(4, 4));
        assert_eq!(counts(&standing), [(4, 5)]);
        standing.returned(&runs(0, u64::MAX), CameBack::at_once(6));
        assert_eq!(counts(&standing), [(4, 6), (9, 6)]);
    }

    #[test]
    fn of_what_a_timed_queue_has_ended_the_last_of_each_time_is_given_up() {
        let seq = |ms, number| Seq(Seq::timed(UnixMillis(ms)).0 | number);
        let mut standing = Standing::default();
        let all = [(seq(7, 1), seq(7, 4)), (seq(8, 5), seq(8, 5)), (seq(9, 3), seq(9, 6))];
        all.into_iter().for_each(|(first, last)| standing.live.insert(first..=last));
        standing.give_up(&vec![seq(9, 4)..=seq(9, 4)]);
        standing.give_up(&vec![seq(9, 3)..=seq(9, 3)]);
        standing.give_up(&vec![seq(6, 0)..=seq(8, 7), seq(5, 9)..=seq(5, 9)]);
        let given_up = [seq(5, 9), seq(7, 4), seq(8, 7), seq(9, 4)];
        assert!(standing.returns.keys().eq(&given_up), "{:?}", standing.returns);
        assert!(standing.live.runs().eq([(seq(9, 5), seq(9, 6))]));
        assert_eq!(standing.next_seq, Seq(0), "it counts messages");
    }

    #[test]
    fn the_last_return_says_how_long_a_message_waits() {
        let runs = vec![Seq(1)..=Seq(1)];
        let back = |times, until| CameBack { times, until: UnixMillis(until) };
        let mut standing = Standing::default();
        standing.live.insert(Seq(1)..=Seq(1));
        let mut after = |came_back| {
            standing.returned(&runs, came_back);
            standing.returns[&Seq(1)]
        };
        assert_eq!(after(back(1, 500)), back(1, 500));
        assert_eq!(after(back(2, 900)), back(2, 900));
        assert_eq!(after(back(1, 500)), back(2, 900), "replayed, it changes nothing");
        assert_eq!(after(back(2, 900)), back(2, 900));
        assert_eq!(after(CameBack::at_once(3)), CameBack::at_once(3), "a shorter wait counts too");
    }
}
