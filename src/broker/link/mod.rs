//! One client's stake in the broker, whatever its protocol: what it publishes and waits to have
//! confirmed, what it consumes and has not settled, and the inbox by which the broker tells it.
//!
//! A `Client` is a connection's identity; a `Link` is one channel of it, owned by its session alone
//! and never locked. Whatever a link does to a queue it does under that queue's lock, in
//! `queue/shared.rs`. A link that ends gives everything back: see `Link::stop` and `Link::finish`.

mod confirms;
mod consumers;
mod decisions;
mod end;
mod fan;
mod inbox;
mod overdue;
mod publish;
mod replay;
mod reply;
mod route;
mod settle;
mod shared_routes;
mod transaction;
mod unacked;
mod unique;

pub use confirms::{Ack, Confirms};
pub use consumers::{Consume, Run};
pub use inbox::{Inbox, Notices};
pub use overdue::Overdue;
pub(super) use publish::strongest;
pub use publish::{Added, PublishBatch, Unrouted, refused};
pub use replay::Replayed;
pub use reply::{PSEUDO_QUEUE, ReplyTargets};
pub use route::{Admitted, Route, RouteBudget};
pub use settle::Settled;
pub use transaction::Committed;

use super::access::User;
use super::{Broker, Vhost};
use crate::counters::ChannelCounters;
use crate::exception::{Exception, Permission, Resource};
use crate::exchange::{RouteCache, RouteScratch};
use crate::id::{ConnectionId, ConsumerToken, QueueId};
use crate::queue::{ChannelLimiter, Effects, Queue, Turn};
use crate::store::RecordBatch;
use consumers::Consumers;
use hashbrown::HashMap;
use overdue::DeliveryTimes;
use shared_routes::SharedRoutes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use transaction::Transaction;
use unacked::UnackedList;

/// Who is at the other end of a connection.
pub struct Client {
    pub connection: ConnectionId,
    pub user: User,
    pub vhost: Arc<Vhost>,
    pub inbox: Arc<Inbox>,
    /// Consumers and gets so far, for their tokens.
    tokens: AtomicU64,
}

impl Client {
    #[must_use]
    pub fn new(connection: ConnectionId, user: User, vhost: Arc<Vhost>, inbox: Arc<Inbox>) -> Self {
        Self { connection, user, vhost, inbox, tokens: AtomicU64::new(0) }
    }

    fn token(&self, channel: u16) -> ConsumerToken {
        let count = self.tokens.fetch_add(1, Ordering::Relaxed);
        ConsumerToken(count << 16 | u64::from(channel))
    }
}

/// Buffers of one turn, lent to whichever connection has it: an idle one owns none.
#[derive(Default)]
pub struct Workspace {
    pub records: RecordBatch,
    pub effects: Effects,
    pub routing: RouteScratch,
    /// Where messages are put together.
    pub scratch: Vec<u8>,
    /// Messages that found their queues gone; the session returns those that are mandatory.
    pub unrouted: Vec<Unrouted>,
    /// Queues of deleted exchanges that are still to be ended, without any lock.
    pub(super) ending: Vec<Arc<Queue>>,
}

impl Workspace {
    pub fn turn<'a>(&'a mut self, broker: &'a Broker) -> Turn<'a> {
        Turn {
            log: broker.log(),
            records: &mut self.records,
            effects: &mut self.effects,
            dead: broker.dead_list(),
        }
    }
}

/// One channel's stake.
pub struct Link {
    pub broker: Arc<Broker>,
    pub client: Arc<Client>,
    pub counters: Arc<ChannelCounters>,
    pub confirms: Option<Confirms>,
    channel: u16,
    /// Publishes of this turn.
    published: u64,
    /// Tags start at 1 and count deliveries and gets alike.
    next_tag: u64,
    consumers: Consumers,
    /// Queues that consumers and unacked deliveries refer to by place.
    queues: QueueTable,
    unacked: UnackedList,
    times: DeliveryTimes,
    limiter: Arc<ChannelLimiter>,
    /// Some consumer's credit was kept back for want of room among the unacked.
    withheld: bool,
    routes: RouteCache<Arc<Route>>,
    /// That of the last publish.
    used_route: Option<Arc<Route>>,
    shared_routes: SharedRoutes,
    /// Shares of the broker's budget that the cache has taken.
    route_shares: usize,
    transaction: Option<Transaction>,
    permissions: super::access_cache::AccessCache,
}

impl Link {
    #[must_use]
    pub fn new(broker: Arc<Broker>, client: Arc<Client>, channel: u16) -> Self {
        Self {
            broker,
            client,
            counters: Arc::new(ChannelCounters::default()),
            confirms: None,
            channel,
            published: 0,
            next_tag: 1,
            consumers: Consumers::default(),
            queues: QueueTable::default(),
            unacked: UnackedList::default(),
            times: DeliveryTimes::default(),
            limiter: Arc::new(ChannelLimiter::default()),
            withheld: false,
            routes: RouteCache::default(),
            used_route: None,
            shared_routes: SharedRoutes::default(),
            route_shares: 0,
            transaction: None,
            permissions: super::access_cache::AccessCache::default(),
        }
    }

    #[must_use]
    pub fn vhost(&self) -> &Arc<Vhost> {
        &self.client.vhost
    }

    /// Whether the user may do that to the resource. RabbitMQ: the default exchange is checked
    /// under another name.
    ///
    /// # Errors
    /// 403.
    pub fn check(
        &mut self,
        permission: Permission,
        resource: Resource<'_>,
    ) -> Result<(), Exception> {
        let resource = match resource {
            Resource::Exchange { vhost, name: "" } => {
                Resource::Exchange { vhost, name: "amq.default" }
            }
            named => named,
        };
        let user = &self.client.user;
        if self.permissions.check(&self.broker.access, user, permission, resource) {
            return Ok(());
        }
        Err(Exception::access_refused(permission, resource, &user.name))
    }

    fn take_tag(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }
}

/// The channel number in a token, by which a session finds the link an event is for.
#[must_use]
pub fn channel_of(token: ConsumerToken) -> u16 {
    (token.0 & 0xffff) as u16
}

/// Queues by a small number, kept while something refers to them.
#[derive(Default)]
struct QueueTable {
    places: Vec<Option<(Arc<Queue>, usize)>>,
    /// Places that nothing refers to.
    free: Vec<u32>,
    by_id: HashMap<QueueId, u32>,
}

impl QueueTable {
    /// The place of `queue`, with one more reference.
    fn refer(&mut self, queue: &Arc<Queue>) -> u32 {
        if let Some(&place) = self.by_id.get(&queue.id) {
            self.add(place, 1);
            return place;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 queues")
        });
        self.places[place as usize] = Some((Arc::clone(queue), 1));
        self.by_id.insert(queue.id, place);
        place
    }

    fn add(&mut self, place: u32, references: usize) {
        if let Some(Some((_, count))) = self.places.get_mut(place as usize) {
            *count += references;
        }
    }

    fn release(&mut self, place: u32, references: usize) {
        let Some(slot) = self.places.get_mut(place as usize) else {
            return;
        };
        let Some((queue, count)) = slot else { return };
        *count -= references;
        if *count == 0 {
            self.by_id.remove(&queue.id);
            *slot = None;
            self.free.push(place);
        }
    }

    fn get(&self, place: u32) -> Option<&Arc<Queue>> {
        self.places.get(place as usize)?.as_ref().map(|(queue, _)| queue)
    }
}
