//! Copies of a queue in parts, with verbs in between.

use super::super::checkout::STEPS;
use super::super::gets::Got;
use super::super::outlet::Outlet;
use super::super::samples::{FOREVER, Sink, World};
use super::super::settings::{Behaviour, DeadLetter, DeadLetterStrategy};
use super::super::settle::Settlement;
use super::*;
use crate::id::ConsumerToken;
use crate::name::Name;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

const ALL: [(Seq, Seq); 1] = [(Seq(0), Seq(u64::MAX))];

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Take(usize),
    Ack(usize),
    Requeue(usize),
    Retry(usize),
    Reject(usize),
    /// A dead letter has moved.
    Move(usize),
    PageOut(usize),
    /// Time passes, so that waits end.
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..6_usize).prop_map(Step::Publish),
        (1..6_usize).prop_map(Step::Take),
        (0..9_usize).prop_map(Step::Ack),
        (0..9_usize).prop_map(Step::Requeue),
        (0..9_usize).prop_map(Step::Retry),
        (0..9_usize).prop_map(Step::Reject),
        (0..9_usize).prop_map(Step::Move),
        (1..6_usize).prop_map(Step::PageOut),
        Just(Step::Pass),
    ]
}

impl World {
    /// Seqs that end by it are added to `ended`.
    fn apply(&mut self, step: &Step, out: &mut Vec<(u32, Seq)>, ended: &mut BTreeSet<u64>) {
        let pick =
            |out: &mut Vec<_>, nth: usize| (!out.is_empty()).then(|| out.remove(nth % out.len()));
        match *step {
            Step::Publish(count) => self.publish(&vec![FOREVER; count]),
            Step::Take(count) => {
                for _ in 0..count {
                    let outlet: Arc<dyn Outlet> = Arc::new(Sink::default());
                    let (records, effects) = (&mut self.records, &mut self.effects);
                    let got = self.core.get(&outlet, ConsumerToken(1), false, records, effects);
                    // What is on disk stays there.
                    let Got::Message { delivery, .. } = got else { break };
                    out.push((delivery.slot, delivery.seq));
                }
            }
            Step::Ack(nth) => {
                let picked = pick(out, nth);
                self.settle(picked.as_slice(), Settlement::Ack);
                ended.extend(picked.map(|(_, seq)| seq.0));
            }
            Step::Requeue(nth) => {
                let picked = pick(out, nth);
                self.settle(picked.as_slice(), Settlement::Requeue);
            }
            Step::Retry(nth) => {
                let picked = pick(out, nth);
                self.settle(picked.as_slice(), Settlement::Retry);
            }
            Step::Reject(nth) => {
                let picked = pick(out, nth);
                self.settle(picked.as_slice(), Settlement::Discard);
                let ends = self.core.behaviour().dead_letter.is_none();
                ended.extend(picked.filter(|_| ends).map(|(_, seq)| seq.0));
            }
            Step::Move(nth) => {
                let dead = &mut self.effects.dead;
                let moved = (!dead.is_empty()).then(|| dead.remove(nth % dead.len()));
                let places: Vec<_> = moved.and_then(|dead| dead.place).into_iter().collect();
                self.core.buried(&places, true, &mut self.records, &mut self.effects);
                ended.extend(places.iter().map(|(_, seq)| seq.0));
            }
            Step::PageOut(count) => drop(self.core.page_out(&ALL, 1, 1, count)),
            Step::Pass => drop(self.tick(self.effects.now.unix.0 + 5)),
        }
    }
}

fn seqs(runs: &[(Seq, Seq)]) -> BTreeSet<u64> {
    runs.iter().flat_map(|(first, last)| first.0..=last.0).collect()
}

impl QueueCore {
    /// Parts of the seqs lie in their ranges, which leave nothing out, and with the slots they come
    /// to the whole.
    pub(super) fn check_parts(&self, whole: &Alive, len_max: usize) {
        let mut expected = Place::FIRST;
        let parts = Alive::in_parts(usize::MAX, |place, is_rest| {
            assert_eq!((place, is_rest), (expected, false));
            let part = self.look(place, len_max, false);
            if let (Place::Seq(from), Some(Place::Seq(next))) = (place, part.next) {
                let range = from..=next - 1;
                let runs = part.alive.live.iter().chain(&part.alive.redelivered);
                let seqs = runs.flat_map(|run| [run.0, run.1]);
                let seqs = seqs.chain(part.alive.returns.iter().map(|(seq, _)| *seq));
                seqs.for_each(|seq| assert!(range.contains(&seq.0), "{seq:?} not in {range:?}"));
            }
            expected = part.next.unwrap_or(Place::FIRST);
            Ok::<_, ()>(part)
        });
        assert_eq!(parts.as_ref(), Ok(whole));
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(exact_expiry, dies, waits)| {
        let (exchange, strategy) = (Name::new("dlx"), DeadLetterStrategy::default());
        let dead_letter = DeadLetter { exchange, routing_key: None, strategy };
        Behaviour {
            exact_expiry,
            dead_letter: dies.then_some(dead_letter),
            delivery_limit: dies.then_some(1),
            retry_delay_ms: waits.then_some((5, 5)),
            ..Behaviour::default()
        }
    })
}

/// What of the copy's marks and counts a start would miss. Messages that have not ended by the last
/// moment are to have those that they had at the first.
fn missed(copy: &Alive, first: &Alive, last: &BTreeSet<u64>) -> Vec<Seq> {
    let marked = seqs(&copy.redelivered);
    let marks =
        seqs(&first.redelivered).into_iter().map(Seq).filter(|seq| !marked.contains(&seq.0));
    let counts: HashMap<_, _> = copy.returns.iter().map(|(seq, it)| (*seq, it.times)).collect();
    let is_less = |(seq, it): &&(Seq, CameBack)| counts.get(seq).is_none_or(|n| *n < it.times);
    let returns = first.returns.iter().filter(is_less).map(|(seq, _)| *seq);
    marks.chain(returns).filter(|seq| last.contains(&seq.0)).collect()
}

proptest! {
    #[test]
    fn no_message_is_missed_on_its_way_and_none_comes_back(
        behaviour in behaviour(),
        before in vec(step(), 0..30),
        meanwhile in vec(vec(step(), 0..4), 1..40),
        len_max in 1..5_usize,
        parts_max in 0..30_usize,
    ) {
        let mut world = World::new(behaviour);
        let (mut out, mut ended) = (Vec::new(), BTreeSet::new());
        before.iter().for_each(|step| world.apply(step, &mut out, &mut ended));
        let (first, ended_before) = (world.core.alive(), ended.clone());
        let (mut meanwhile, mut parts) = (meanwhile.iter().flatten(), 0);
        let copy = Alive::in_parts(parts_max, |from, is_rest| {
            let steps = meanwhile.by_ref().take(3);
            steps.for_each(|step| world.apply(step, &mut out, &mut ended));
            parts += usize::from(matches!(from, Place::Seq(_)));
            Ok::<_, ()>(world.core.alive_part(from, len_max, is_rest))
        });
        let copy = copy.unwrap();
        let (live, last) = (seqs(&copy.live), seqs(&world.core.alive().live));
        prop_assert!(parts <= parts_max + 1);
        prop_assert!(live.is_superset(&seqs(&first.live).intersection(&last).copied().collect()));
        prop_assert!(live.is_disjoint(&ended_before));
        prop_assert!(live.iter().all(|seq| *seq < copy.next_seq.0));
        prop_assert!(copy.live.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0));
        prop_assert!(seqs(&copy.redelivered).is_subset(&live));
        prop_assert!(copy.returns.iter().all(|(seq, _)| live.contains(&seq.0)));
        prop_assert_eq!(missed(&copy, &first, &last), []);
    }
}

/// Copies the queue; says how many slots were walked over in each lock hold.
fn steps_of_holds(world: &mut World, len_max: usize) -> (Alive, Vec<usize>) {
    let (parts_max, mut steps) = (world.core.alive_parts_max(len_max), Vec::new());
    let copy = Alive::in_parts(parts_max, |from, is_rest| {
        STEPS.set(0);
        let part = world.core.alive_part(from, len_max, is_rest);
        steps.push(STEPS.get());
        Ok::<_, ()>(part)
    });
    (copy.unwrap(), steps)
}

#[test]
fn nobody_waits_for_more_slots_than_a_part_has_whatever_is_out_or_was() {
    let mut world = World::new(Behaviour::default());
    world.publish(&vec![FOREVER; 2_000]);
    let out = world.take(1_000);
    let (copy, steps) = steps_of_holds(&mut world, 64);
    assert_eq!(copy.live, [(Seq(1), Seq(2_000))]);
    // One part more for each 64 of those that are ready.
    assert_eq!(
        (steps.iter().sum::<usize>(), steps.len()),
        (1_000, 1_000 / 64 + 1_000_usize.div_ceil(64))
    );
    assert!(steps.iter().all(|steps| *steps <= 64), "{steps:?}");
    // Free slots are walked over too.
    world.settle(&out[..999], Settlement::Ack);
    let (copy, steps) = steps_of_holds(&mut world, 64);
    assert_eq!(copy.live, [(Seq(1_000), Seq(2_000))]);
    assert_eq!(steps.iter().sum::<usize>(), 1_000);
    assert!(steps.iter().all(|steps| *steps <= 64), "{steps:?}");
}

#[test]
fn what_leaves_its_slot_before_the_copy_comes_there_is_in_it_and_notes_end_with_it() {
    for how in [Settlement::Ack, Settlement::Requeue] {
        let mut world = World::new(Behaviour::default());
        world.publish(&[FOREVER; 100]);
        let out = world.take(100);
        let mut parts = 0;
        let copy = Alive::in_parts(usize::MAX, |from, is_rest| {
            if parts == 1 {
                world.settle(&out, how);
            }
            parts += 1;
            Ok::<_, ()>(world.core.alive_part(from, 10, is_rest))
        });
        // What has ended meanwhile may be in it: its record is replayed.
        assert_eq!(copy.unwrap().live, [(Seq(1), Seq(100))], "{how:?}");
        assert_eq!(parts, 2, "no slot is left");
        assert_eq!(world.core.checkout.end_notes().live, []);
        let out = world.take(world.core.ready_len());
        world.settle(&out, Settlement::Ack);
        assert_eq!(world.core.checkout.end_notes().live, []);
    }
}

#[test]
fn nobody_waits_for_more_than_a_part() {
    let mut world = World::new(Behaviour { exact_expiry: true, ..Behaviour::default() });
    world.publish(&[60_000; 1_000]);
    let part = world.core.alive_part(Place::FIRST, 64, false);
    assert_eq!(part.alive.live, [(Seq(1), Seq(64))]);
    assert_eq!(part.next, Some(Place::Seq(65)));
    drop(world.core.page_out(&ALL, 0, 0, 900));
    // A page in which nothing is missing is one step, and 901 is the first that is in memory.
    let part = world.core.alive_part(Place::Seq(65), 64, false);
    assert_eq!(part.next, Some(Place::Seq(901 + 64)));
    assert!(world.core.alive_parts_max(64) > 1_000 / 64);
}
