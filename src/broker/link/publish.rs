//! Publishing: the messages of one read are grouped per queue, so that a queue is locked, its
//! journal records appended and its consumers woken once a group.
//!
//! Order within a queue is publish order: a group takes a queue's messages in order, and a message
//! that needs one record for several queues first flushes what stands before it.

use super::confirms::Confirms;
use super::fan::{Fan, are_same, unreturned};
use super::route::Route;
use super::unique::UniqueGroup;
use super::{Link, Workspace};
use crate::broker::Broker;
use crate::config::Durability;
use crate::exchange::ExchangeShared;
use crate::id::{Lsn, Seq};
use crate::message::Message;
use crate::queue::{Publish, Queue};
use crate::store::{Reach, Target};
use hashbrown::HashMap;
use std::sync::{Arc, Weak};

/// A mark's bits above the channel: the publish's number among those to be confirmed, or zero.
const NUMBER_AT: u32 = 17;
/// Groups looked through one by one before a map is used.
const LINEAR_GROUPS: usize = 8;

/// What happened to a publication.
#[derive(Debug)]
pub enum Added {
    Routed,
    /// No queue at all: to be returned if mandatory.
    Unroutable(Message),
}

/// A message whose queues had all gone by the time it reached them.
pub struct Unrouted {
    pub channel: u16,
    pub mandatory: bool,
    pub message: Message,
}

/// The publishes of one connection's turn that no queue has seen yet.
#[derive(Default)]
pub struct PublishBatch {
    groups: Vec<Group>,
    /// Place of a queue's group by the queue's address, once there are many.
    index: HashMap<usize, usize>,
    /// Messages for the same several queues. Never beside `groups`.
    fan: Option<Fan>,
    /// Messages that need one record over several queues, all for the same ones.
    shared: Option<SharedGroup>,
    /// Messages of which some may be duplicates, all of one way. Never beside any of these.
    unique: Option<UniqueGroup>,
    /// What the flushed part of this batch waits for.
    reach: Reach,
    /// Channels that published.
    pub publishing: Vec<u16>,
    counts: Option<(Arc<ExchangeShared>, u64, u64)>,
    operations: usize,
}

struct Group {
    queue: Arc<Queue>,
    messages: Vec<Publish>,
}

struct SharedGroup {
    queues: Vec<Arc<Queue>>,
    messages: Vec<Publish>,
}

impl Link {
    /// The mark by which an unrouted message, or news of a refused one, finds its way back.
    #[must_use]
    pub fn mark(&self, mandatory: bool) -> u64 {
        let number = self.confirms.as_ref().map_or(0, Confirms::next_number);
        number << NUMBER_AT | u64::from(self.channel) << 1 | u64::from(mandatory)
    }

    /// Counts a publish, and in confirm mode one to be confirmed: every one that raised no
    /// exception, routed or not.
    pub fn count_publish(&mut self, durability: Durability, batch: &mut PublishBatch) {
        self.published += 1;
        if let Some(confirms) = &mut self.confirms {
            confirms.publish(durability);
        }
        if batch.publishing.last() != Some(&self.channel) {
            batch.publishing.push(self.channel);
        }
    }

    /// The publishes counted so far are with their queues, and all of them safe at `reach`.
    pub fn published(&mut self, reach: Reach) {
        self.counters.published.add(std::mem::take(&mut self.published));
        if let Some(confirms) = &mut self.confirms {
            confirms.register(reach);
        }
    }
}

impl PublishBatch {
    /// A turn begins: its operations are counted anew.
    pub fn begin_turn(&mut self) {
        self.operations = 0;
    }

    /// Counts work that is no publish.
    pub fn count_operations(&mut self, operations: usize) {
        self.operations += operations;
    }

    /// Queue operations of this turn.
    #[must_use]
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Adds a message on its way to its queues.
    pub fn add(
        &mut self,
        route: &Route,
        publish: Publish,
        broker: &Broker,
        workspace: &mut Workspace,
    ) -> Added {
        self.operations += route.operations;
        if route.deduplicates {
            self.push_unique(route, publish, broker, workspace);
            return Added::Routed;
        }
        self.count(route);
        route.hand_aside(&publish, &mut workspace.effects);
        match &*route.targets {
            [] if !route.has_replies() => return Added::Unroutable(publish.message),
            [] => {}
            [queue] => {
                self.end_shared(broker, workspace);
                self.split_fan();
                if let Some(publish) = self.push(queue, publish) {
                    return Added::Unroutable(publish.message);
                }
            }
            queues if publish.persistent && route.durable_targets > 1 => {
                self.push_shared(queues, publish, broker, workspace);
            }
            queues => {
                self.end_shared(broker, workspace);
                if let Some(publish) = self.push_to_all(queues, publish) {
                    return Added::Unroutable(publish.message);
                }
            }
        }
        Added::Routed
    }

    /// Puts a message into its queue's group; gives it back if the queue is no more.
    fn push(&mut self, queue: &Weak<Queue>, publish: Publish) -> Option<Publish> {
        let address = Weak::as_ptr(queue);
        if let Some(group) = self.groups.last_mut()
            && std::ptr::eq(Arc::as_ptr(&group.queue), address)
        {
            group.messages.push(publish);
            return None;
        }
        if let Some(group) = self.find(address) {
            group.messages.push(publish);
            return None;
        }
        let Some(queue) = queue.upgrade() else {
            return Some(publish);
        };
        self.begin_group(queue, vec![publish]);
        None
    }

    fn begin_group(&mut self, queue: Arc<Queue>, messages: Vec<Publish>) {
        if self.groups.len() >= LINEAR_GROUPS {
            if self.index.is_empty() {
                let places = self.groups.iter().map(|group| Arc::as_ptr(&group.queue).addr());
                self.index.extend(places.zip(0..));
            }
            self.index.insert(Arc::as_ptr(&queue).addr(), self.groups.len());
        }
        self.groups.push(Group { queue, messages });
    }

    /// Puts a message where it comes to several queues; gives it back if none of them is there.
    fn push_to_all(&mut self, queues: &[Weak<Queue>], publish: Publish) -> Option<Publish> {
        let publish = match &mut self.fan {
            Some(fan) => fan.push(queues, publish)?,
            None if self.groups.is_empty() => match Fan::new(queues, publish) {
                Ok(fan) => {
                    self.fan = Some(fan);
                    return None;
                }
                Err(publish) => return Some(publish),
            },
            None => publish,
        };
        self.split_fan();
        // Returned only if no queue took it, which a group of one queue cannot know.
        let missed = |queue: &Weak<Queue>| self.push(queue, unreturned(&publish)).is_some();
        let all_missed = queues.iter().map(missed).fold(true, |all, missed| all & missed);
        all_missed.then_some(publish)
    }

    /// Something follows that goes to other queues: a turn that mixes them has one group a queue.
    #[inline]
    fn split_fan(&mut self) {
        // Taking what is not there would move it all the same, for each message.
        if self.fan.is_some() {
            self.split_fan_now();
        }
    }

    #[cold]
    fn split_fan_now(&mut self) {
        for (queue, messages) in self.fan.take().into_iter().flat_map(Fan::split) {
            self.begin_group(queue, messages);
        }
    }

    fn find(&mut self, address: *const Queue) -> Option<&mut Group> {
        if self.index.is_empty() {
            let same = |group: &&mut Group| std::ptr::eq(Arc::as_ptr(&group.queue), address);
            return self.groups.iter_mut().find(same);
        }
        let place = *self.index.get(&address.addr())?;
        self.groups.get_mut(place)
    }

    fn push_shared(
        &mut self,
        queues: &[Weak<Queue>],
        publish: Publish,
        broker: &Broker,
        workspace: &mut Workspace,
    ) {
        if let Some(group) = &mut self.shared
            && are_same(&group.queues, queues)
        {
            group.messages.push(publish);
            return;
        }
        self.flush(broker, workspace);
        let queues: Vec<_> = queues.iter().filter_map(Weak::upgrade).collect();
        self.shared = Some(SharedGroup { queues, messages: vec![publish] });
    }

    /// Whether it is a duplicate, or comes to nobody, is known when it is flushed.
    fn push_unique(
        &mut self,
        route: &Route,
        publish: Publish,
        broker: &Broker,
        workspace: &mut Workspace,
    ) {
        let publish = match &mut self.unique {
            Some(group) if route.asides.is_empty() => group.push(route, publish),
            _ => Some(publish),
        };
        let Some(publish) = publish else { return };
        self.flush(broker, workspace);
        if route.asides.is_empty() {
            self.unique = Some(UniqueGroup::new(route, publish));
            return;
        }
        let group = UniqueGroup::new(route, publish.clone());
        let (reach, dropped) = group.publish(route.has_replies(), broker, workspace);
        self.reach = self.reach.max(reach);
        if !dropped {
            route.hand_aside(&publish, &mut workspace.effects);
        }
    }

    fn end_shared(&mut self, broker: &Broker, workspace: &mut Workspace) {
        if self.shared.is_some() || self.unique.is_some() {
            self.flush(broker, workspace);
        }
    }

    /// Gives every message to its queues. `unrouted` of the workspace gets those whose queues have
    /// all gone.
    pub fn flush(&mut self, broker: &Broker, workspace: &mut Workspace) {
        self.index.clear();
        if let Some(fan) = self.fan.take() {
            self.reach = self.reach.max(fan.publish(broker, workspace));
        }
        for mut group in self.groups.drain(..) {
            let published = group.queue.publish(&mut group.messages, &mut workspace.turn(broker));
            match published {
                Ok(lsn) => {
                    self.reach = self.reach.max(Reach::of(lsn, group.queue.durability()));
                }
                Err(_) => workspace.unrouted.extend(group.messages.drain(..).map(unrouted)),
            }
        }
        if let Some(group) = self.shared.take() {
            self.reach = self.reach.max(publish_shared(group, broker, workspace));
        }
        if let Some(group) = self.unique.take() {
            self.reach = self.reach.max(group.publish(false, broker, workspace).0);
        }
        if let Some((exchange, published_in, published_out)) = self.counts.take() {
            exchange.counters.published_in.add(published_in);
            exchange.counters.published_out.add(published_out);
        }
    }

    /// What everything flushed since the last call waits for.
    pub fn take_reach(&mut self) -> Reach {
        std::mem::take(&mut self.reach)
    }

    fn count(&mut self, route: &Route) {
        let out = route.targets.len() as u64;
        match &mut self.counts {
            Some((exchange, published_in, published_out))
                if Arc::ptr_eq(exchange, &route.exchange) =>
            {
                *published_in += 1;
                *published_out += out;
            }
            counts => {
                let last = counts.replace((Arc::clone(&route.exchange), 1, out));
                if let Some((exchange, published_in, published_out)) = last {
                    exchange.counters.published_in.add(published_in);
                    exchange.counters.published_out.add(published_out);
                }
            }
        }
    }
}

/// One record for each message whatever the number of its queues: (a) reserve a place in every
/// queue, (b) append the records, (c) show them. A queue that has gone is in no record.
fn publish_shared(group: SharedGroup, broker: &Broker, workspace: &mut Workspace) -> Reach {
    let _gate = broker.gate.read();
    let mut places: Vec<(Arc<Queue>, Vec<Option<Target>>)> = Vec::with_capacity(group.queues.len());
    for queue in group.queues {
        let mut targets = Vec::with_capacity(group.messages.len());
        let messages = group.messages.iter().cloned();
        if queue.reserve(messages, &mut targets, &mut workspace.effects).is_ok() {
            places.push((queue, targets));
        }
    }
    if places.is_empty() {
        workspace.unrouted.extend(group.messages.into_iter().map(unrouted));
        return Reach::default();
    }
    let mut row = Vec::with_capacity(places.len());
    let durable = || places.iter().filter(|(queue, _)| queue.settings.durable);
    for (nth, publish) in group.messages.iter().enumerate() {
        row.clear();
        row.extend(durable().filter_map(|(_, targets)| targets[nth]));
        workspace.records.enqueue(&publish.message, &row);
    }
    let durability = strongest(durable().map(|(queue, _)| queue));
    let mut lsn = Lsn(0);
    if !workspace.records.is_empty() {
        lsn = broker.log().append_as(&mut workspace.records, durability);
    }
    for (queue, targets) in places {
        let seqs: Vec<Seq> = targets.iter().flatten().map(|target| target.seq).collect();
        // A queue that went meanwhile took its messages along.
        let _ = queue.show(&seqs, &mut workspace.turn(broker));
    }
    Reach::of(lsn, durability)
}

/// What one record for all of these, which are durable, must be.
pub(in crate::broker) fn strongest<'a>(
    durable: impl Iterator<Item = &'a Arc<Queue>>,
) -> Durability {
    durable.map(|queue| queue.durability()).max().unwrap_or(Durability::Os)
}

/// Which publish of which channel a mark names, if its channel wants to know.
#[must_use]
pub fn refused(mark: u64) -> Option<(u16, u64)> {
    let number = mark >> NUMBER_AT;
    (number > 0).then_some(((mark >> 1) as u16, number))
}

pub(super) fn unrouted(publish: Publish) -> Unrouted {
    let channel = (publish.mark >> 1) as u16;
    Unrouted { channel, mandatory: publish.mark & 1 == 1, message: publish.message }
}
