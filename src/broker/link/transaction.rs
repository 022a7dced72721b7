//! `tx`: publishes and settlements kept back until commit, then done as one.
//!
//! A commit reserves a place for each message in each of its queues, appends one record that holds
//! all of it, and only then shows the messages and ends the deliveries. After a crash all of it is
//! there or none. (RabbitMQ promises neither.)

use super::route::Route;
use super::settle::Settled;
use super::unacked::Unacked;
use super::{Link, Workspace};
use crate::broker::Broker;
use crate::config::Durability;
use crate::exception::Exception;
use crate::id::{QueueId, Seq};
use crate::limits::{TX_BYTES_MAX, TX_OPERATIONS_MAX};
use crate::message::Message;
use crate::queue::{Publish, Queue, Settlement};
use crate::store::{Reach, Target};
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
        let mut parts = parts(&transaction.publishes);
        if !reserve(&mut parts, &transaction.publishes, &broker, workspace) {
            let settled = transaction.settlements.into_iter().flat_map(|(settled, _)| settled);
            self.unacked.put_back(settled.collect());
            return Err(Exception::precondition("partial tx completion"));
        }

        workspace.records.begin_transaction();
        let mut durability = self.record_publishes(&parts, &transaction.publishes, workspace);
        let mut unrecorded = HashSet::new();
        for (nth, (deliveries, how)) in transaction.settlements.iter().enumerate() {
            if !how.gives_back() {
                let ends = self.record_ends((nth, deliveries), *how, &mut unrecorded, workspace);
                durability = durability.max(ends);
            }
        }
        workspace.records.end_transaction();
        let lsn = self.broker.log().append_as(&mut workspace.records, durability);
        let reach = Reach::of(lsn, durability);

        let mut taken = vec![false; transaction.publishes.len()];
        for part in parts {
            for nth in &part.publishes {
                taken[*nth] = true;
            }
            let seqs: Vec<Seq> = part.targets.iter().flatten().map(|target| target.seq).collect();
            // A queue that went meanwhile took its messages along.
            let _ = part.queue.show(&seqs, &mut workspace.turn(&self.broker));
        }
        for (nth, (deliveries, how)) in transaction.settlements.into_iter().enumerate() {
            self.settle_committed((nth, deliveries), how, &unrecorded, workspace);
        }
        self.counters.published.add(transaction.publishes.len() as u64);
        let mut returned = Vec::new();
        for ((route, publish), taken) in transaction.publishes.into_iter().zip(taken) {
            route.exchange.counters.published_in.add(1);
            route.exchange.counters.published_out.add(route.targets.len() as u64);
            route.hand_aside(&publish, &mut workspace.effects);
            if !taken && !route.has_replies() && publish.mark & 1 == 1 {
                returned.push(publish.message);
            }
        }
        Ok(Committed { reach, returned })
    }

    /// Writes the messages that must last, and says how safe they must be.
    fn record_publishes(
        &self,
        parts: &[Part],
        publishes: &[(Arc<Route>, Publish)],
        workspace: &mut Workspace,
    ) -> Durability {
        let mut durability = Durability::Os;
        let mut rows: Vec<Vec<Target>> = vec![Vec::new(); publishes.len()];
        for part in parts.iter().filter(|part| part.queue.settings.durable) {
            for (nth, target) in part.publishes.iter().zip(&part.targets) {
                rows[*nth].extend(target);
                if publishes[*nth].1.persistent {
                    durability = durability.max(part.queue.durability());
                }
            }
        }
        for (row, (_, publish)) in rows.iter().zip(publishes) {
            if publish.persistent && !row.is_empty() {
                workspace.records.enqueue(&publish.message, row);
            }
        }
        durability
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
    fn check(&self) -> Result<(), Exception> {
        if self.operations <= TX_OPERATIONS_MAX && self.bytes <= TX_BYTES_MAX {
            return Ok(());
        }
        Err(Exception::precondition(format!(
            "transaction is larger than {TX_OPERATIONS_MAX} operations or {TX_BYTES_MAX} bytes"
        )))
    }
}

fn parts(publishes: &[(Arc<Route>, Publish)]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<QueueId, usize> = HashMap::new();
    for (nth, (route, _)) in publishes.iter().enumerate() {
        for queue in route.targets.iter().filter_map(Weak::upgrade) {
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
