//! Publishes to where an exchange or a queue remembers keys: one lock hold of the caches for a
//! group of them. What counts as a duplicate is in `decisions`.

use super::Workspace;
use super::decisions::{Caches, Decision, in_order};
use super::publish::{strongest, unrouted};
use super::route::Route;
use crate::broker::Broker;
use crate::deduplication::Original;
use crate::exchange::ExchangeShared;
use crate::id::Seq;
use crate::queue::{Publish, Queue};
use crate::store::{Reach, Target};
use hashbrown::HashSet;
use std::sync::{Arc, Weak};

/// Messages by way of one exchange to the same queues, of which some remember keys.
pub(super) struct UniqueGroup {
    exchange: Arc<ExchangeShared>,
    queues: Vec<Arc<Queue>>,
    messages: Vec<Publish>,
}

/// What became of some of a group's messages.
struct Step {
    decisions: Vec<Decision>,
    /// By message: where it has a place.
    taken: Vec<Vec<(usize, Target)>>,
    /// By message: a queue had no room for it.
    refused: Vec<bool>,
}

impl UniqueGroup {
    pub(super) fn new(route: &Route, publish: Publish) -> Self {
        let queues = route.targets.iter().filter_map(Weak::upgrade).collect();
        Self { exchange: Arc::clone(&route.exchange), queues, messages: vec![publish] }
    }

    /// Takes a message that goes the same way; gives back another.
    pub(super) fn push(&mut self, route: &Route, publish: Publish) -> Option<Publish> {
        let same = Arc::ptr_eq(&self.exchange, &route.exchange)
            && self.queues.len() == route.targets.len()
            && self.queues.iter().zip(&route.targets).all(|(a, b)| Arc::as_ptr(a) == b.as_ptr());
        if !same {
            return Some(publish);
        }
        self.messages.push(publish);
        None
    }

    /// Gives the messages to their queues. `unrouted` of the workspace gets those that found none,
    /// unless somebody else takes them. Says what all of it waits for, duplicates included, and
    /// whether the exchange left out the last one.
    pub(super) fn publish(
        self,
        is_taken_aside: bool,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> (Reach, bool) {
        let _gate = broker.gate.read();
        let ordered = in_order(std::iter::once(&*self.exchange), self.queues.iter());
        let mut caches = Caches::lock(&ordered, workspace.effects.now.unix, &broker.key_budget);
        let (mut reach, mut from, mut dropped) = (Reach::default(), 0, false);
        while from < self.messages.len() {
            let step = self.decide(from, &mut caches);
            let to = from + step.decisions.len();
            let messages = &self.messages[from..to];
            let step = self.reserve(step, messages, workspace);
            reach = reach.max(self.record(&step, messages, &mut caches, broker, workspace));
            self.show(&step, broker, workspace);
            self.count(&step, messages, &caches, is_taken_aside, workspace);
            dropped = step.decisions.last().is_some_and(Decision::is_dropped);
            from = to;
        }
        (reach, dropped)
    }

    /// Decides on the messages up to the first that depends on what becomes of those before it.
    fn decide(&self, from: usize, caches: &mut Caches<'_>) -> Step {
        let mut decisions = Vec::new();
        for publish in &self.messages[from..] {
            let decision = caches.decide(&self.exchange, &self.queues, publish);
            if decision.depends_on_claimed && !decisions.is_empty() {
                break;
            }
            caches.claim(&decision);
            decisions.push(decision);
        }
        let len = decisions.len();
        Step { decisions, taken: vec![Vec::new(); len], refused: vec![false; len] }
    }

    /// Takes their places. A queue that is gone has none.
    fn reserve(&self, mut step: Step, messages: &[Publish], workspace: &mut Workspace) -> Step {
        let mut targets = Vec::new();
        for (place, queue) in self.queues.iter().enumerate() {
            let wants = |nth: &usize| step.decisions[*nth].wants(queue.id);
            let wanted: Vec<_> = (0..messages.len()).filter(wants).collect();
            let batch = wanted.iter().map(|nth| messages[*nth].clone());
            targets.clear();
            if queue.reserve(batch, &mut targets, &mut workspace.effects).is_err() {
                continue;
            }
            for (nth, target) in wanted.into_iter().zip(&targets) {
                match target {
                    Some(target) => step.taken[nth].push((place, *target)),
                    None => step.refused[nth] = true,
                }
            }
        }
        step
    }

    /// Appends one record for each message and its keys, and remembers these.
    fn record(
        &self,
        step: &Step,
        messages: &[Publish],
        caches: &mut Caches<'_>,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Reach {
        let mut reach = Reach::default();
        let (mut used, mut row, mut ids) = (HashSet::new(), Vec::new(), Vec::new());
        for (nth, publish) in messages.iter().enumerate() {
            let decision = &step.decisions[nth];
            reach = reach.max(decision.reach);
            row.clear();
            ids.clear();
            for (place, target) in &step.taken[nth] {
                ids.push(target.queue);
                if publish.persistent && self.queues[*place].settings.durable {
                    row.push(*target);
                    used.insert(*place);
                }
            }
            workspace.records.begin_transaction();
            workspace.records.enqueue(&publish.message, &row);
            let how = (step.refused[nth], !row.is_empty());
            caches.remember(decision, &ids, how, &mut workspace.records);
            workspace.records.end_transaction();
        }
        let mut original = Original::default();
        if !workspace.records.is_empty() {
            let durability = strongest(used.iter().map(|place| &self.queues[*place]));
            let lsn = broker.log().append_as(&mut workspace.records, durability);
            original = Original { lsn, durability };
        }
        caches.appended(original);
        reach.max(Reach::of(original.lsn, original.durability))
    }

    fn show(&self, step: &Step, broker: &Broker, workspace: &mut Workspace) {
        let mut seqs: Vec<Vec<Seq>> = vec![Vec::new(); self.queues.len()];
        for (place, target) in step.taken.iter().flatten() {
            seqs[*place].push(target.seq);
        }
        for (queue, seqs) in self.queues.iter().zip(seqs).filter(|(_, seqs)| !seqs.is_empty()) {
            // A queue that went meanwhile took its messages along.
            let _ = queue.show(&seqs, &mut workspace.turn(broker));
        }
    }

    fn count(
        &self,
        step: &Step,
        messages: &[Publish],
        caches: &Caches<'_>,
        is_taken_aside: bool,
        workspace: &mut Workspace,
    ) {
        let counters = &self.exchange.counters;
        counters.published_in.add(messages.len() as u64);
        counters.published_out.add(step.taken.iter().map(Vec::len).sum::<usize>() as u64);
        for (nth, publish) in messages.iter().enumerate() {
            let decision = &step.decisions[nth];
            caches.count(&self.exchange, decision);
            let found_none = step.taken[nth].is_empty() && !step.refused[nth];
            if found_none && !decision.is_duplicate() && !is_taken_aside {
                counters.unroutable.add(1);
                workspace.unrouted.push(unrouted(publish.clone()));
            }
        }
    }
}
