//! Settling: delivery tags become runs per queue, one lock hold each.

use super::unacked::Unacked;
use super::{Link, Workspace};
use crate::exception::Exception;
use crate::id::Seq;
use crate::queue::{Delivery, Event, Settlement};
use std::collections::VecDeque;

/// Deliveries taken from the unacked list, to be settled together.
#[derive(Default)]
pub struct Settled {
    pub(super) deliveries: Vec<Unacked>,
}

impl Settled {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }
}

impl Link {
    /// Looks tags up and takes them out: one, or all up to `tag` with `multiple` (0 means all).
    ///
    /// # Errors
    /// 406 `unknown delivery tag`.
    pub fn take_unacked(
        &mut self,
        tag: u64,
        multiple: bool,
        out: &mut Settled,
    ) -> Result<(), Exception> {
        let unknown = || Exception::unknown_delivery_tag(tag);
        match (multiple, tag) {
            (true, 0) => self.unacked.take_all(&mut out.deliveries),
            (true, _) => {
                if !self.unacked.take_up_to(tag, &mut out.deliveries) {
                    return Err(unknown());
                }
            }
            (false, _) => out.deliveries.push(self.unacked.take(tag).ok_or_else(unknown)?),
        }
        Ok(())
    }

    /// Settles what `take_unacked` collected, and lets go on whoever waited for it.
    pub fn settle(&mut self, settled: &mut Settled, how: Settlement, workspace: &mut Workspace) {
        if how == Settlement::Ack {
            self.counters.acked.add(settled.deliveries.len() as u64);
        }
        let limited = settled.deliveries.iter().filter(|unacked| unacked.limited).count();
        self.per_queue(&mut settled.deliveries, |link, queue, run| {
            if let Some(queue) = link.queues.get(queue) {
                // What was delivered from a queue that is gone is settled with it.
                let _ = queue.settle(run, how, &mut workspace.turn(&link.broker));
            }
        });
        settled.deliveries.clear();
        self.settled(limited, workspace);
    }

    /// Lets those go on that waited for settlements, of which `limited` counted in the channel-wide
    /// prefetch.
    pub(super) fn settled(&mut self, limited: usize, workspace: &mut Workspace) {
        if limited > 0 {
            self.limiter.give(u32::try_from(limited).unwrap_or(u32::MAX));
            self.resume_starved(workspace);
        }
        self.grant_withheld(workspace);
    }

    /// basic.recover: everything unacked goes back to its place.
    pub fn recover(&mut self, workspace: &mut Workspace) {
        let mut all = Settled::default();
        self.unacked.take_all(&mut all.deliveries);
        self.settle(&mut all, Settlement::Requeue, workspace);
    }

    /// Calls `each` with every queue's deliveries in order, and drops the references they held.
    pub(super) fn per_queue(
        &mut self,
        deliveries: &mut [Unacked],
        mut each: impl FnMut(&mut Self, u32, &[(u32, Seq)]),
    ) {
        if deliveries.windows(2).any(|pair| pair[0].queue != pair[1].queue) {
            deliveries.sort_by_key(|unacked| unacked.queue);
        }
        let mut run: Vec<(u32, Seq)> = Vec::with_capacity(deliveries.len());
        for group in deliveries.chunk_by(|a, b| a.queue == b.queue) {
            run.clear();
            run.extend(group.iter().map(|unacked| (unacked.slot, unacked.seq)));
            let queue = group[0].queue;
            each(self, queue, &run);
            self.queues.release(queue, group.len());
        }
    }

    /// The end of a link: what it has unacked, and what never reached it, goes back.
    pub(super) fn requeue_all(&mut self, undelivered: VecDeque<Event>, workspace: &mut Workspace) {
        let mut all = Settled::default();
        self.unacked.take_all(&mut all.deliveries);
        for event in undelivered {
            let (delivery, token) = match event {
                Event::Delivery(delivery) => {
                    let token = delivery.token;
                    (delivery, token)
                }
                Event::Got { token, delivery: Some(delivery), .. } => (*delivery, token),
                Event::Ended { .. } | Event::Got { .. } => continue,
            };
            let Some(queue) = self.queue_of(token) else { continue };
            let (seq, slot, limited) = (delivery.seq, delivery.slot, delivery.limited);
            if slot != Delivery::NO_SLOT {
                self.queues.add(queue, 1);
                all.deliveries.push(Unacked { tag: 0, seq, slot, queue, limited, timeout_ms: 0 });
            }
        }
        // In queue order, so that each queue sees few runs.
        all.deliveries.sort_by_key(|unacked| (unacked.queue, unacked.seq));
        self.settle(&mut all, Settlement::Requeue, workspace);
    }
}
