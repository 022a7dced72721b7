//! `tx`: publishes and settlements kept back until commit, then done as one.
//!
//! A commit reserves a place for each message in each of its queues, appends one record that holds
//! all of it, and only then shows the messages and ends the deliveries. After a crash all of it is
//! there or none. (RabbitMQ promises neither.)

use super::decisions::{Caches, Decision, Decisions, in_order};
use super::route::Route;
use super::settle::Settled;
use super::unacked::Unacked;
use super::{Link, Workspace};
use crate::broker::Broker;
use crate::config::Durability;
use crate::deduplication::{Deduplicator, Original};
use crate::exception::Exception;
use crate::id::{QueueId, Seq};
use crate::limits::{TX_BYTES_MAX, TX_OPERATIONS_MAX};
use crate::message::Message;
use crate::queue::{Publish, Queue, Settlement};
use crate::store::{Reach, RecordBatch, Target};
use hashbrown::{HashMap, HashSet};
use std::sync::{Arc, Weak};

#[derive(Default)]
pub(super) struct Transaction {
    publishes: Vec<(Arc<Route>, Publish)>,
    settlements: Vec<(Vec<Unacked>, Settlement)>,
    operations: usize,
    bytes: usize,
}

/// What a commit did.
pub struct Committed {
    /// What commit-ok waits for.
    pub reach: Reach,
    /// Mandatory messages that no queue took, in publish order.
    pub returned: Vec<Message>,
}

/// A queue's part in a commit.
struct Part {
    queue: Arc<Queue>,
    /// Which publishes go there.
    publishes: Vec<usize>,
    targets: Vec<Option<Target>>,
}

impl Link {
    /// tx.select; repeating it changes nothing.
    pub fn begin(&mut self) {
        self.transaction.get_or_insert_default();
    }

    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.transaction.is_some()
    }

    /// Keeps a publish for the commit. Its queues are those of now.
    ///
    /// # Errors
    /// 406 if the transaction grows beyond `TX_OPERATIONS_MAX` or `TX_BYTES_MAX`.
    pub fn keep_publish(&mut self, route: Arc<Route>, publish: Publish) -> Result<(), Exception> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        transaction.bytes += publish.message.len();
        transaction.operations += route.targets.len().max(1);
        transaction.check()?;
        transaction.publishes.push((route, publish));
        Ok(())
    }

    /// Keeps settlements for the commit.
    ///
    /// # Errors
    /// As `keep_publish`.
    pub fn keep_settlement(
        &mut self,
        settled: &mut Settled,
        how: Settlement,
    ) -> Result<(), Exception> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        transaction.operations += settled.deliveries.len().max(1);
        match transaction.settlements.last_mut() {
            Some((deliveries, last)) if *last == how => deliveries.append(&mut settled.deliveries),
            _ => transaction.settlements.push((std::mem::take(&mut settled.deliveries), how)),
        }
        transaction.check()
    }

    /// tx.rollback: publishes are forgotten, settled deliveries are unacked again.
    pub fn rollback(&mut self) {
        let Some(transaction) = self.transaction.replace(Transaction::default()) else {
            return;
        };
        let settled = transaction.settlements.into_iter().flat_map(|(deliveries, _)| deliveries);
        self.unacked.put_back(settled.collect());
    }

    /// tx.commit. A new transaction begins.
    ///
    /// # Errors
    /// 406 if a queue has no room for one of the messages; nothing has happened then.
    pub fn commit(&mut self, workspace: &mut Workspace) -> Result<Committed, Exception> {
        let transaction = self.transaction.replace(Transaction::default()).unwrap_or_default();
        let broker = Arc::clone(&self.broker);
        let _gate = broker.gate.read();
        let publishes = &transaction.publishes;
        let ordered = caches_of(publishes);
        let mut caches = Caches::lock(&ordered, workspace.effects.now.unix, &broker.key_budget);
        let decisions = Decisions::new(publishes, &mut caches);
        let mut parts = parts(publishes, &decisions);
        if !reserve(&mut parts, publishes, &broker, workspace) {
            let settled = transaction.settlements.into_iter().flat_map(|(settled, _)| settled);
            self.unacked.put_back(settled.collect());
            return Err(Exception::precondition("partial tx completion"));
        }

        workspace.records.begin_transaction();
        let mut durability =
            record_publishes(&parts, publishes, (&decisions, &mut caches), &mut workspace.records);
        let mut unrecorded = HashSet::new();
        for (nth, (deliveries, how)) in transaction.settlements.iter().enumerate() {
            if !how.gives_back() {
                let ends = self.record_ends((nth, deliveries), *how, &mut unrecorded, workspace);
                durability = durability.max(ends);
            }
        }
        workspace.records.end_transaction();
        let lsn = self.broker.log().append_as(&mut workspace.records, durability);
        caches.appended(Original { lsn, durability });
        let reach = Reach::of(lsn, durability).max(decisions.reach());
        let taken = show(parts, publishes.len(), &broker, workspace);
        for (nth, (deliveries, how)) in transaction.settlements.into_iter().enumerate() {
            self.settle_committed((nth, deliveries), how, &unrecorded, workspace);
        }
        self.counters.published.add(publishes.len() as u64);
        let mut returned = Vec::new();
        for (nth, (route, publish)) in transaction.publishes.into_iter().enumerate() {
            let decision = decisions.get(nth);
            route.exchange.counters.published_in.add(1);
            decision.inspect(|decision| caches.count(&route.exchange, decision));
            if decision.is_some_and(Decision::is_dropped) {
                continue;
            }
            route.exchange.counters.published_out.add(taken_of(&route, decision));
            route.hand_aside(&publish, &mut workspace.effects);
            let is_duplicate = decision.is_some_and(Decision::is_duplicate);
            if !taken[nth] && !is_duplicate && !route.has_replies() && publish.mark & 1 == 1 {
                returned.push(publish.message);
            }
        }
        Ok(Committed { reach, returned })
    }

    /// Writes the end of those deliveries that the journal knows, and says how safe it must be. A
    /// queue of which nothing is written here, as of one that dead-letters them, joins
    /// `unrecorded`, with which of the settlements that was.
    fn record_ends(
        &mut self,
        (nth, deliveries): (usize, &[Unacked]),
        how: Settlement,
        unrecorded: &mut HashSet<(QueueId, usize)>,
        workspace: &mut Workspace,
    ) -> Durability {
        let mut durability = Durability::Os;
        let mut by_queue: Vec<Unacked> = deliveries.to_vec();
        by_queue.sort_by_key(|unacked| (unacked.queue, unacked.seq));
        for group in by_queue.chunk_by(|a, b| a.queue == b.queue) {
            let Some(queue) = self.queues.get(group[0].queue) else {
                continue;
            };
            let pairs: Vec<_> = group.iter().map(|u| (u.slot, u.seq)).collect();
            let recorded = queue.recorded(&pairs, how);
            let runs = recorded.chunk_by(|a, b| a.0 + 1 == b.0);
            let runs = runs.map(|run| (run[0], run[run.len() - 1]));
            if recorded.is_empty() {
                unrecorded.insert((queue.id, nth));
            } else {
                workspace.records.ack(queue.id, runs);
                durability = durability.max(queue.durability());
            }
        }
        durability
    }

    fn settle_committed(
        &mut self,
        (nth, deliveries): (usize, Vec<Unacked>),
        how: Settlement,
        unrecorded: &HashSet<(QueueId, usize)>,
        workspace: &mut Workspace,
    ) {
        let limited = deliveries.iter().filter(|unacked| unacked.limited).count();
        if how == Settlement::Ack {
            self.counters.acked.add(deliveries.len() as u64);
        }
        let mut deliveries = deliveries;
        self.per_queue(&mut deliveries, |link, queue, run| {
            if let Some(queue) = link.queues.get(queue) {
                let turn = &mut workspace.turn(&link.broker);
                // What was delivered from a queue that is gone is settled with it.
                let _ = if unrecorded.contains(&(queue.id, nth)) {
                    queue.settle(run, how, turn).map(drop)
                } else {
                    queue.settle_recorded(run, how, turn)
                };
            }
        });
        self.settled(limited, workspace);
    }
}

impl Transaction {
    /// A rollback would bring deliveries back.
    pub(super) fn has_settlements(&self) -> bool {
        !self.settlements.is_empty()
    }

    fn check(&self) -> Result<(), Exception> {
        if self.operations <= TX_OPERATIONS_MAX && self.bytes <= TX_BYTES_MAX {
            return Ok(());
        }
        Err(Exception::precondition(format!(
            "transaction is larger than {TX_OPERATIONS_MAX} operations or {TX_BYTES_MAX} bytes"
        )))
    }
}

/// All caches that the publishes meet.
fn caches_of(publishes: &[(Arc<Route>, Publish)]) -> Vec<Arc<Deduplicator>> {
    let unique = publishes.iter().map(|(route, _)| route).filter(|route| route.deduplicates);
    let targets = unique.clone().flat_map(|route| &route.targets);
    let queues: Vec<_> = targets.filter_map(Weak::upgrade).collect();
    in_order(unique.map(|route| &*route.exchange), queues.iter())
}

/// Writes the messages that must last with their keys, and says how safe they must be.
fn record_publishes(
    parts: &[Part],
    publishes: &[(Arc<Route>, Publish)],
    (decisions, caches): (&Decisions, &mut Caches<'_>),
    records: &mut RecordBatch,
) -> Durability {
    let mut durability = Durability::Os;
    let mut rows: Vec<Vec<Target>> = vec![Vec::new(); publishes.len()];
    let mut takers: HashMap<usize, Vec<QueueId>> = HashMap::new();
    for part in parts {
        for (nth, target) in part.publishes.iter().zip(&part.targets) {
            if !decisions.is_empty() {
                takers.entry(*nth).or_default().push(part.queue.id);
            }
            if part.queue.settings.durable {
                rows[*nth].extend(target);
                if publishes[*nth].1.persistent {
                    durability = durability.max(part.queue.durability());
                }
            }
        }
    }
    for (nth, (row, (_, publish))) in rows.iter().zip(publishes).enumerate() {
        let recorded = publish.persistent && !row.is_empty();
        if recorded {
            records.enqueue(&publish.message, row);
        }
        if let Some(taken) = takers.get_mut(&nth) {
            taken.sort_unstable();
            decisions.remember(nth, taken, recorded, caches, records);
        }
    }
    durability
}

/// Shows the reserved messages; says of each publish whether a queue took it.
fn show(
    parts: Vec<Part>,
    publishes: usize,
    broker: &Broker,
    workspace: &mut Workspace,
) -> Vec<bool> {
    let mut taken = vec![false; publishes];
    for part in parts {
        for nth in &part.publishes {
            taken[*nth] = true;
        }
        let seqs: Vec<Seq> = part.targets.iter().flatten().map(|target| target.seq).collect();
        // A queue that went meanwhile took its messages along.
        let _ = part.queue.show(&seqs, &mut workspace.turn(broker));
    }
    taken
}

/// How many queues a publish went to.
fn taken_of(route: &Route, decision: Option<&Decision>) -> u64 {
    (route.targets.len() - decision.map_or(0, Decision::skipped_len)) as u64
}

fn parts(publishes: &[(Arc<Route>, Publish)], decisions: &Decisions) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<QueueId, usize> = HashMap::new();
    for (nth, (route, _)) in publishes.iter().enumerate() {
        let targets = route.targets.iter().filter_map(Weak::upgrade);
        for queue in targets.filter(|queue| decisions.want(nth, queue.id)) {
            let place = *places.entry(queue.id).or_insert(parts.len());
            if place == parts.len() {
                parts.push(Part { queue, publishes: Vec::new(), targets: Vec::new() });
            }
            parts[place].publishes.push(nth);
        }
    }
    parts
}

/// Reserves every place; queues that have gone drop out. False if a queue has refused a message:
/// then no place is reserved.
fn reserve(
    parts: &mut Vec<Part>,
    publishes: &[(Arc<Route>, Publish)],
    broker: &Broker,
    workspace: &mut Workspace,
) -> bool {
    let effects = &mut workspace.effects;
    let (refused, dead) = (effects.refused.len(), effects.dead.len());
    parts.retain_mut(|part| {
        let messages = part.publishes.iter().map(|nth| publishes[*nth].1.clone());
        part.queue.reserve(messages, &mut part.targets, effects).is_ok()
    });
    if effects.refused.len() == refused {
        return true;
    }
    effects.refused.truncate(refused);
    effects.dead.truncate(dead);
    for part in parts {
        let seqs: Vec<Seq> = part.targets.iter().flatten().map(|target| target.seq).collect();
        let _ = part.queue.withdraw(&seqs, &mut workspace.turn(broker));
    }
    false
}
