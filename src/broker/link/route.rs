//! From a publication's address to queues: the channel's cache, and the way round it.

use super::Link;
use super::publish::strongest;
use super::reply::ReplyTarget;
use super::shared_routes::SharedRoutes;
use crate::config::Durability;
use crate::exception::{Exception, Permission, Resource};
use crate::exchange::{ExchangeShared, Kind, Live, RouteCache, RouteScratch, Validity};
use crate::limits::{ROUTE_CACHE_BUDGET, ROUTE_CACHE_SHARE};
use crate::queue::{Queue, QueueType};
use crate::table::TableRef;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Where publications of one address go. Holds no queue alive.
pub struct Route {
    pub(super) targets: Box<[Weak<Queue>]>,
    /// Each target's mark of its end.
    pub(super) gone: Box<[Arc<AtomicBool>]>,
    /// Targets that keep persistent messages on disk.
    pub(super) durable_targets: usize,
    /// Some target keeps every message on disk.
    pub(super) has_quorum: bool,
    /// The strongest that one of these asks for.
    pub(super) durability: Durability,
    /// Requesters named by a direct-reply key; such a route is never cached.
    pub(super) replies: Vec<Arc<ReplyTarget>>,
    pub(super) exchange: Arc<ExchangeShared>,
    pub(super) access_version: u64,
}

impl Route {
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

    /// What the confirm of a publish waits for.
    #[must_use]
    pub fn durability(&self, persistent: bool) -> Durability {
        if persistent { self.durability } else { Durability::Os }
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
    exchange: Arc<ExchangeShared>,
    access_version: u64,
}

impl Live for Arc<Route> {
    /// Names resolve to the same queue as long as it has not ended.
    fn is_live(&self) -> bool {
        !self.gone.is_empty() && !self.gone.iter().any(|gone| gone.load(Ordering::Acquire))
    }

    fn weight(&self) -> usize {
        self.targets.len().max(1)
    }
}

impl Link {
    /// The cached route of this address, if it holds without further checks.
    pub fn cached_route(&mut self, address: &[u8]) -> Option<Arc<Route>> {
        let version = self.broker.access.version();
        self.routes.get(address).filter(|route| route.access_version == version).cloned()
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
        let checked = if name.is_empty() { "amq.default" } else { &name };
        let resource = Resource::Exchange { vhost: &vhost.name, name: checked };
        self.check(Permission::Write, resource)?;
        let resource = Resource::Exchange { vhost: &vhost.name, name: &name };
        let shared = vhost.exchange(&name).ok_or_else(|| Exception::not_found(resource))?;
        if shared.internal {
            return Err(Exception::internal_exchange(resource));
        }
        Ok(Admitted { exchange: shared, access_version })
    }

    /// Routes by hand. `keys` begins with the routing key; CC and BCC follow. `address` is given
    /// if the result depends on it alone, and so may be cached.
    ///
    /// # Errors
    /// 403 if a topic permission refuses a key.
    pub fn route(
        &mut self,
        admitted: &Admitted,
        keys: &[&[u8]],
        headers: Option<TableRef<'_>>,
        address: Option<&[u8]>,
        scratch: &mut RouteScratch,
    ) -> Result<Arc<Route>, Exception> {
        let Admitted { exchange, access_version } = admitted;
        let vhost = Arc::clone(self.vhost());
        if exchange.kind == Kind::Topic {
            self.check_topics(exchange, keys)?;
        }
        // Captured before routing, so that a change meanwhile makes the entry stale.
        let version = exchange.version();
        let mut found = vhost.resolve(exchange, keys, headers, scratch);
        let replies =
            if exchange.name.is_empty() { self.broker.replies.find_all(keys) } else { Vec::new() };
        found.cacheable &= replies.is_empty();
        let durable = || found.queues.iter().filter(|queue| queue.settings.durable);
        let route = Route {
            durable_targets: durable().count(),
            durability: strongest(durable()),
            has_quorum: durable().any(|queue| queue.kind == QueueType::Quorum),
            targets: found.queues.iter().map(Arc::downgrade).collect(),
            gone: found.queues.iter().map(|queue| queue.gone()).collect(),
            replies,
            exchange: Arc::clone(exchange),
            access_version: *access_version,
        };
        // A route to nowhere costs no more to find again than to remember.
        let worth_keeping = found.cacheable && !route.targets.is_empty();
        let Some(address) = address.filter(|_| worth_keeping) else {
            return Ok(Arc::new(route));
        };
        self.make_room_for_route();
        let route = self.shared_routes.share(route, self.routes.len());
        let validity = if exchange.name.is_empty() {
            Validity::ByRoute
        } else {
            Validity::ByExchange { shared: Arc::clone(exchange), version }
        };
        Ok(Arc::clone(self.routes.insert(address, validity, route)))
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
