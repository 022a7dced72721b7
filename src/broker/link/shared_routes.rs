//! The routes of a channel's cache, each once however many keys lead to the same queues: a publish
//! with one of many keys then meets a route that is in the processor's cache already.

use super::route::Route;
use crate::queue::Queue;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

/// Routes that may be kept in vain.
const UNUSED_MAX: usize = 64;

#[derive(Default)]
pub(super) struct SharedRoutes {
    routes: HashTable<Arc<Route>>,
    hasher: DefaultHashBuilder,
}

impl SharedRoutes {
    /// The route as it is already known, or this one from now on. `cached` is how many the cache
    /// holds: when there are far more here, those go that nobody uses.
    pub(super) fn share(&mut self, route: Route, cached: usize) -> Arc<Route> {
        let hash = hash_of(&self.hasher, &route);
        if let Some(known) = self.routes.find(hash, |known| leads_to_the_same(known, &route)) {
            return Arc::clone(known);
        }
        if self.routes.len() > 2 * cached + UNUSED_MAX {
            self.routes.retain(|route| Arc::strong_count(route) > 1);
        }
        let route = Arc::new(route);
        let hasher = &self.hasher;
        self.routes.insert_unique(hash, Arc::clone(&route), |route| hash_of(hasher, route));
        route
    }
}

/// A queue's address is its own as long as a route points to it, even after its end.
fn places(route: &Route) -> impl Iterator<Item = *const Queue> {
    route.targets.iter().map(Weak::as_ptr)
}

fn hash_of(hasher: &DefaultHashBuilder, route: &Route) -> u64 {
    let mut hash = hasher.build_hasher();
    places(route).for_each(|place| place.hash(&mut hash));
    hash.finish()
}

fn leads_to_the_same(a: &Route, b: &Route) -> bool {
    a.access_version == b.access_version
        && Arc::ptr_eq(&a.exchange, &b.exchange)
        && a.asides.is_empty()
        && b.asides.is_empty()
        && places(a).eq(places(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Durability;
    use crate::exchange::{Declared, ExchangeShared, Kind, Settings, Topology};
    use crate::id::QueueId;
    use crate::name::Name;
    use crate::queue::{QueueCore, QueueSettings};

    fn exchange() -> Arc<ExchangeShared> {
        let mut topology = Topology::with_predeclared(Name::new("/"));
        match topology.declare(Name::new("e"), Settings::durable(Kind::Topic)) {
            Declared::Created(shared) => shared,
            Declared::Exists(_) => panic!("it is declared once"),
        }
    }

    fn queue(id: u64) -> Arc<Queue> {
        let core = QueueCore::new(QueueId(id), true);
        let settings = QueueSettings::default();
        Arc::new(Queue::new("/".into(), "q".into(), settings, core, &Arc::default()))
    }

    fn route(queues: &[&Arc<Queue>], exchange: &Arc<ExchangeShared>) -> Route {
        Route {
            targets: queues.iter().map(|queue| Arc::downgrade(queue)).collect(),
            origins: queues.iter().map(|queue| queue.origin()).collect(),
            durable_targets: 0,
            has_quorum: false,
            durability: Durability::Os,
            operations: queues.len(),
            delay: None,
            deduplicates: false,
            asides: Vec::new(),
            exchange: Arc::clone(exchange),
            access_version: 1,
        }
    }

    #[test]
    fn only_routes_that_do_the_same_are_one() {
        let (a, b, exchanges) = (queue(1), queue(2), [exchange(), exchange()]);
        let mut routes = SharedRoutes::default();
        let first = routes.share(route(&[&a, &b], &exchanges[0]), 1);
        let mut is_first = |route| Arc::ptr_eq(&first, &routes.share(route, 1));
        assert!(is_first(route(&[&a, &b], &exchanges[0])));
        assert!(!is_first(route(&[&a], &exchanges[0])));
        assert!(!is_first(route(&[&b, &a], &exchanges[0])));
        assert!(!is_first(route(&[&a, &b], &exchanges[1])));
        assert!(!is_first(Route { access_version: 2, ..route(&[&a, &b], &exchanges[0]) }));
    }

    #[test]
    fn routes_that_nobody_uses_go_in_time() {
        let (exchange, mut routes) = (exchange(), SharedRoutes::default());
        let used = queue(0);
        let kept = routes.share(route(&[&used], &exchange), 1);
        for id in 1..1000 {
            routes.share(route(&[&queue(id)], &exchange), 1);
            assert!(routes.routes.len() <= UNUSED_MAX + 3);
        }
        assert!(Arc::ptr_eq(&kept, &routes.share(route(&[&used], &exchange), 1)));
    }
}
