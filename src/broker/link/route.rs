//! From a publication's address to queues: the channel's cache, and the way round it.

use super::Link;
use super::publish::strongest;
use super::reply::ReplyTarget;
use super::shared_routes::SharedRoutes;
use crate::broker::again::remembered;
use crate::broker::vhost::Resolved;
use crate::config::Durability;
use crate::exception::{Exception, Permission, Resource};
use crate::exchange::{
    ExchangeShared, History, Kind, Live, Published, RouteCache, RouteScratch, Validity,
};
use crate::limits::{ROUTE_CACHE_BUDGET, ROUTE_CACHE_SHARE};
use crate::queue::{Effects, Origin, Publish, Queue, QueueType};
use crate::time::Delay;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Where publications of one address go. Holds no queue alive.
pub struct Route {
    pub(super) targets: Box<[Weak<Queue>]>,
    /// Each target's, which knows of its end.
    pub(super) origins: Box<[Arc<Origin>]>,
    /// Targets that keep persistent messages on disk.
    pub(super) durable_targets: usize,
    /// Some target keeps every message on disk.
    pub(super) has_quorum: bool,
    /// What publishing along it counts in the fairness of turns.
    pub(super) operations: usize,
    /// The strongest that one of these asks for.
    pub(super) durability: Durability,
    /// The exchange or some target remembers keys.
    pub(super) deduplicates: bool,
    /// How long a message waits where it waits first. Such a route is never cached.
    pub delay: Option<Delay>,
    /// Neither is such a one.
    pub(super) asides: Vec<Aside>,
    pub(super) exchange: Arc<ExchangeShared>,
    pub(super) access_version: u64,
}

/// Who gets a message besides queues.
pub(super) enum Aside {
    /// A requester named by a direct-reply key.
    Reply(Arc<ReplyTarget>),
    /// An exchange that remembers it.
    History(Arc<History>),
}

impl Route {
    /// Gives an accepted message to whoever is no queue.
    #[inline]
    pub(super) fn hand_aside(&self, publish: &Publish, effects: &mut Effects) {
        for aside in &self.asides {
            match aside {
                Aside::Reply(reply) => reply.push(&publish.message, effects),
                Aside::History(history) => history.push(remembered(publish)),
            }
        }
    }

    /// Whether a requester gets the message.
    pub(super) fn has_replies(&self) -> bool {
        self.asides.iter().any(|aside| matches!(aside, Aside::Reply(_)))
    }

    /// The exchange that was published to.
    #[must_use]
    pub fn exchange(&self) -> &ExchangeShared {
        &self.exchange
    }

    /// Whether a message is to be stored where it can be. RabbitMQ: a quorum queue does not ask for
    /// the delivery mode.
    #[must_use]
    pub fn is_persistent(&self, asked: bool) -> bool {
        asked || self.has_quorum
    }

    /// What the confirm of a publish waits for. That of a duplicate waits for its original, which
    /// may have gone to other queues.
    #[must_use]
    pub fn durability(&self, persistent: bool) -> Durability {
        match persistent {
            true if self.deduplicates => Durability::Fsync,
            true => self.durability,
            false => Durability::Os,
        }
    }
}

/// What all route caches of a broker may hold together.
#[derive(Debug, Default)]
pub struct RouteBudget(AtomicUsize);

impl RouteBudget {
    fn take(&self, entries: usize) -> bool {
        let taken = |used: usize| Some(used + entries).filter(|used| *used <= ROUTE_CACHE_BUDGET);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give(&self, entries: usize) {
        self.0.fetch_sub(entries, Ordering::Relaxed);
    }
}

/// An exchange that the user may publish to.
pub struct Admitted {
    pub(super) exchange: Arc<ExchangeShared>,
    pub(super) access_version: u64,
}

impl Live for Arc<Route> {
    /// Names resolve to the same queue as long as it has not ended.
    fn is_live(&self) -> bool {
        !self.origins.is_empty() && !self.origins.iter().any(|origin| origin.is_gone())
    }

    fn weight(&self) -> usize {
        self.targets.len().max(1)
    }
}

impl Link {
    /// The cached route of this address, if it holds without further checks. If it is given back
    /// with `used_route`, the next publish that goes there counts no references.
    pub fn cached_route(&mut self, address: &[u8]) -> Option<Arc<Route>> {
        let version = self.broker.access.version();
        let route = self.routes.get(address).filter(|route| route.access_version == version)?;
        let same = self.used_route.take().filter(|used| Arc::ptr_eq(used, route));
        Some(same.unwrap_or_else(|| Arc::clone(route)))
    }

    /// A publish has gone this way.
    pub fn used_route(&mut self, route: Arc<Route>) {
        self.used_route = Some(route);
    }

    /// Whether the user may publish to that exchange, and it exists and is no internal one.
    ///
    /// # Errors
    /// 403 before 404 before 403 "internal", as RabbitMQ checks.
    pub fn admit(&mut self, exchange: &[u8]) -> Result<Admitted, Exception> {
        // Captured before the check, so that a change meanwhile makes a cached route stale.
        let access_version = self.broker.access.version();
        let name = String::from_utf8_lossy(exchange);
        let vhost = Arc::clone(self.vhost());
        let resource = Resource::Exchange { vhost: &vhost.name, name: &name };
        self.check(Permission::Write, resource)?;
        let shared = vhost.exchange(&name).ok_or_else(|| Exception::not_found(resource))?;
        if shared.internal {
            return Err(Exception::internal_exchange(resource));
        }
        Ok(Admitted { exchange: shared, access_version })
    }

    /// Routes by hand. `address` is given if the result depends on it alone, and so may be cached.
    ///
    /// # Errors
    /// 403 if a topic permission refuses a key; 406 if an exchange on the way has no type.
    pub fn route(
        &mut self,
        admitted: &Admitted,
        published: Published<'_>,
        address: Option<&[u8]>,
        scratch: &mut RouteScratch,
    ) -> Result<Arc<Route>, Exception> {
        let exchange = &admitted.exchange;
        if matches!(exchange.kind, Kind::Topic) {
            self.check_topics(exchange, published.keys)?;
        }
        // Captured before routing, so that a change meanwhile makes the entry stale.
        let version = exchange.version();
        let (mut route, cacheable) = self.find_route(admitted, published, scratch)?;
        // A route to nowhere costs no more to find again than to remember.
        let worth_keeping = cacheable && !route.targets.is_empty();
        let Some(address) = address.filter(|_| worth_keeping) else {
            return Ok(Arc::new(route));
        };
        // It was looked for once.
        route.operations = route.targets.len();
        self.make_room_for_route();
        let route = self.shared_routes.share(route, self.routes.len());
        let validity = if exchange.name.is_empty() {
            Validity::ByRoute
        } else {
            Validity::ByExchange { shared: Arc::clone(exchange), version }
        };
        Ok(Arc::clone(self.routes.insert(address, validity, route)))
    }

    /// Where a message goes, and whether its address alone decided.
    pub(super) fn find_route(
        &self,
        admitted: &Admitted,
        published: Published<'_>,
        scratch: &mut RouteScratch,
    ) -> Result<(Route, bool), Exception> {
        let Admitted { exchange, access_version } = admitted;
        scratch.seed(|| self.broker.entropy.number());
        let Resolved { queues, routed } = self.vhost().resolve(exchange, published, scratch)?;
        let mut asides = Vec::new();
        if exchange.name.is_empty() {
            let replies = self.broker.replies.find_all(published.keys);
            asides.extend(replies.into_iter().map(Aside::Reply));
        }
        asides.extend(routed.histories.into_iter().map(Aside::History));
        let durable = || queues.iter().filter(|queue| queue.settings.durable);
        let cacheable = routed.cacheable && asides.is_empty();
        let route = Route {
            durable_targets: durable().count(),
            durability: strongest(durable()),
            has_quorum: durable().any(|queue| queue.kind == QueueType::Quorum),
            operations: queues.len() + routed.operations,
            deduplicates: exchange.deduplicator.is_some()
                || queues.iter().any(|queue| queue.deduplicator.is_some()),
            targets: queues.iter().map(Arc::downgrade).collect(),
            origins: queues.iter().map(|queue| queue.origin()).collect(),
            delay: routed.delay,
            asides,
            exchange: Arc::clone(exchange),
            access_version: *access_version,
        };
        Ok((route, cacheable))
    }

    /// Takes a share of the broker's budget when the cache has used up its own; without one it
    /// begins anew.
    fn make_room_for_route(&mut self) {
        if self.routes.len() < ROUTE_CACHE_SHARE + self.route_shares * ROUTE_CACHE_SHARE {
            return;
        }
        if self.broker.route_budget.take(ROUTE_CACHE_SHARE) {
            self.route_shares += 1;
        } else {
            self.routes.clear();
        }
    }

    /// Forgets all routes, and gives back what they took of the budget.
    pub(super) fn forget_routes(&mut self) {
        self.routes = RouteCache::default();
        self.used_route = None;
        self.shared_routes = SharedRoutes::default();
        let shares = std::mem::take(&mut self.route_shares);
        self.broker.route_budget.give(shares * ROUTE_CACHE_SHARE);
    }

    fn check_topics(&self, exchange: &ExchangeShared, keys: &[&[u8]]) -> Result<(), Exception> {
        let (user, vhost) = (&self.client.user, &self.client.vhost.name);
        for key in keys {
            let permission = Permission::Write;
            if !self.broker.access.check_topic(user, vhost, &exchange.name, permission, key) {
                let topic = String::from_utf8_lossy(key);
                let (exchange, user) = (&exchange.name, &user.name);
                return Err(Exception::topic_access_refused(
                    permission, &topic, exchange, vhost, user,
                ));
            }
        }
        Ok(())
    }
}
