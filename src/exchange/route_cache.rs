//! What one channel's recent publishes were routed to, by their address on the wire.
//!
//! The hottest code of a publish: an address like the one before costs a comparison, any other hit
//! one hash and one probe, and neither allocates. A route is not told that it is outdated; each hit
//! compares the exchange's version with the one under which the route was found.
//!
//! A route must keep nothing alive that can be deleted: it holds ids or weak references. Outdated,
//! it stays until its address is routed again or the cache is cleared, and with it the few bytes of
//! an `ExchangeShared`.

use super::shared::ExchangeShared;
use crate::limits::ROUTE_CACHE_MAX;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use std::sync::Arc;

/// Bytes of addresses: with real keys the entries run out first, with keys of 255 bytes these do.
const ADDRESS_BYTES_MAX: usize = 64 * ROUTE_CACHE_MAX;
/// Sum of the weights: 100 k keys that each lead to 10 queues fit; as many that each lead to 10 k
/// queues would hold gigabytes.
const WEIGHT_MAX: usize = 16 * ROUTE_CACHE_MAX;
/// No bucket of the table.
const NOWHERE: usize = usize::MAX;

/// What a cached route resolves to.
pub trait Live {
    /// Whether the route still holds; asked only if it was inserted with `Validity::ByRoute`.
    fn is_live(&self) -> bool;

    /// Its share of the cache's memory, in queues.
    fn weight(&self) -> usize {
        1
    }
}

/// Who knows whether a route still holds.
#[derive(Clone, Debug)]
pub enum Validity {
    /// The exchange, by a version read before the route was looked for, so that a change in between
    /// is noticed.
    ByExchange { shared: Arc<ExchangeShared>, version: u64 },
    /// The route itself, as on the default exchange, where it is one queue found by name.
    ByRoute,
}

/// A bounded memo of routes.
pub struct RouteCache<R> {
    entries: HashTable<Entry<R>>,
    /// The entries' addresses, end to end.
    addresses: Vec<u8>,
    weight: usize,
    /// Bucket of the last hit. Entries move only in `insert`, which sets it.
    last: usize,
    hasher: DefaultHashBuilder,
}

struct Entry<R> {
    address_at: u32,
    address_end: u32,
    cached: Cached<R>,
}

struct Cached<R> {
    weight: usize,
    validity: Validity,
    route: R,
}

impl<R> Default for RouteCache<R> {
    fn default() -> Self {
        Self {
            entries: HashTable::new(),
            addresses: Vec::new(),
            weight: 0,
            last: NOWHERE,
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<R: Live> RouteCache<R> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The route of `address`, if it is known and holds. An address is the exchange and the routing
    /// key as two shortstrs, as they lie one after the other in basic.publish; a publish with CC or
    /// BCC headers has more keys than that and must not ask.
    #[inline]
    pub fn get(&mut self, address: &[u8]) -> Option<&R> {
        let is_last = |entry: &Entry<R>| entry.address(&self.addresses) == address;
        if !self.entries.get_bucket(self.last).is_some_and(is_last) {
            self.last = self.find(self.hasher.hash_one(address), address)?;
        }
        let entry = self.entries.get_bucket(self.last)?;
        entry.cached.holds().then_some(&entry.cached.route)
    }

    /// Remembers the route of `address`, in place of an outdated one. A full cache forgets all
    /// first: that is rare, costs less than keeping an order for every hit, and a publisher that
    /// still uses its addresses has them back at a route each.
    pub fn insert(&mut self, address: &[u8], validity: Validity, route: R) -> &R {
        let weight = route.weight();
        if self.weight + weight > WEIGHT_MAX {
            self.clear();
        }
        self.weight += weight;
        let cached = Cached { weight, validity, route };
        let hash = self.hasher.hash_one(address);
        self.last = match self.find(hash, address) {
            Some(at) => self.replace(at, cached),
            None => self.add(hash, address, cached),
        };
        let entry = self.entries.get_bucket(self.last);
        &entry.expect("an entry was put there").cached.route
    }

    /// Routes remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.addresses.clear();
        self.weight = 0;
        self.last = NOWHERE;
    }

    fn find(&self, hash: u64, address: &[u8]) -> Option<usize> {
        let is_it = |entry: &Entry<R>| entry.address(&self.addresses) == address;
        self.entries.find_bucket_index(hash, is_it)
    }

    fn replace(&mut self, at: usize, cached: Cached<R>) -> usize {
        let entry = self.entries.get_bucket_mut(at);
        let outdated = &mut entry.expect("the entry was found there").cached;
        self.weight -= outdated.weight;
        *outdated = cached;
        at
    }

    fn add(&mut self, hash: u64, address: &[u8], cached: Cached<R>) -> usize {
        let is_full = self.entries.len() == ROUTE_CACHE_MAX
            || self.addresses.len() + address.len() > ADDRESS_BYTES_MAX;
        if is_full {
            self.clear();
            self.weight = cached.weight;
        }
        let address_at = self.addresses.len() as u32;
        self.addresses.extend_from_slice(address);
        let address_end = self.addresses.len() as u32;
        let entry = Entry { address_at, address_end, cached };
        let (addresses, hasher) = (&self.addresses, &self.hasher);
        let hash_of = |entry: &Entry<R>| hasher.hash_one(entry.address(addresses));
        let added = self.entries.insert_unique(hash, entry, hash_of);
        added.bucket_index()
    }
}

impl<R> Entry<R> {
    fn address<'a>(&self, addresses: &'a [u8]) -> &'a [u8] {
        &addresses[self.address_at as usize..self.address_end as usize]
    }
}

impl<R: Live> Cached<R> {
    fn holds(&self) -> bool {
        match &self.validity {
            Validity::ByExchange { shared, version } => shared.is_at(*version),
            Validity::ByRoute => self.route.is_live(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Declared, Kind, Settings, Topology};
    use crate::name::Name;
    use std::cell::Cell;
    use std::rc::Rc;

    struct Route {
        name: usize,
        live: Rc<Cell<bool>>,
        weight: usize,
    }

    impl Live for Route {
        fn is_live(&self) -> bool {
            self.live.get()
        }

        fn weight(&self) -> usize {
            self.weight
        }
    }

    fn route(name: usize) -> Route {
        Route { name, live: Rc::new(Cell::new(true)), weight: 1 }
    }

    fn get(cache: &mut RouteCache<Route>, address: &[u8]) -> Option<usize> {
        cache.get(address).map(|route| route.name)
    }

    fn exchange(topology: &mut Topology) -> Arc<ExchangeShared> {
        match topology.declare(Name::new("e"), Settings::durable(Kind::Direct)) {
            Declared::Created(shared) => shared,
            Declared::Exists(_) => panic!("it is declared once"),
        }
    }

    #[test]
    fn addresses_are_not_confused() {
        let mut cache = RouteCache::new();
        let address = |n: usize| format!("\x01e\x04{n:04}").into_bytes();
        assert_eq!(get(&mut cache, b""), None);
        for n in 0..1000 {
            cache.insert(&address(n), Validity::ByRoute, route(n));
            assert_eq!(get(&mut cache, &address(n)), Some(n));
        }
        for n in (0..1000).rev() {
            assert_eq!(get(&mut cache, &address(n)), Some(n));
            assert_eq!(get(&mut cache, &address(n)), Some(n));
        }
        assert_eq!(get(&mut cache, b"\x01e\x03000"), None);
        assert_eq!(get(&mut cache, b""), None);
    }

    #[test]
    fn a_route_holds_until_its_exchange_changes_or_goes() {
        let mut topology = Topology::with_predeclared(Name::new("/"));
        let shared = exchange(&mut topology);
        let mut cache = RouteCache::new();
        for name in 0..2 {
            let version = shared.version();
            let validity = Validity::ByExchange { shared: shared.clone(), version };
            cache.insert(b"a", validity, route(name));
            assert_eq!(get(&mut cache, b"a"), Some(name));
            shared.bump();
            assert_eq!(get(&mut cache, b"a"), None);
        }
        topology.delete("e", false).unwrap();
        let version = shared.version();
        cache.insert(b"a", Validity::ByExchange { shared, version }, route(2));
        assert_eq!(get(&mut cache, b"a"), None);
    }

    #[test]
    fn a_route_of_the_default_exchange_answers_for_itself() {
        let mut cache = RouteCache::new();
        let queue = route(7);
        let live = queue.live.clone();
        assert_eq!(cache.insert(b"a", Validity::ByRoute, queue).name, 7);
        assert_eq!(get(&mut cache, b"a"), Some(7));
        live.set(false);
        assert_eq!(get(&mut cache, b"a"), None);
    }

    #[test]
    fn a_full_cache_forgets_everything_and_goes_on() {
        let mut cache = RouteCache::new();
        let address = |n: usize| n.to_be_bytes();
        for n in 0..=ROUTE_CACHE_MAX {
            cache.insert(&address(n), Validity::ByRoute, route(n));
            assert!(cache.entries.len() <= ROUTE_CACHE_MAX);
        }
        assert_eq!(cache.entries.len(), 1);
        assert_eq!(get(&mut cache, &address(0)), None);
        assert_eq!(get(&mut cache, &address(ROUTE_CACHE_MAX)), Some(ROUTE_CACHE_MAX));
    }

    #[test]
    fn wide_routes_and_long_addresses_fill_it_sooner() {
        let mut cache = RouteCache::new();
        for n in 0..100_usize {
            let mut wide = route(n);
            wide.weight = WEIGHT_MAX / 4;
            cache.insert(&n.to_be_bytes(), Validity::ByRoute, wide);
            assert!(cache.weight <= WEIGHT_MAX && get(&mut cache, &n.to_be_bytes()) == Some(n));
        }
        for n in 0..100 {
            cache.insert(b"same", Validity::ByRoute, route(n));
        }
        assert!(cache.weight < WEIGHT_MAX, "a replaced route weighs nothing");
        let long = vec![0; 512];
        for n in 0..ADDRESS_BYTES_MAX / 512 + 2 {
            let address = [&long, &n.to_be_bytes()[..]].concat();
            cache.insert(&address, Validity::ByRoute, route(n));
            assert!(cache.addresses.len() <= ADDRESS_BYTES_MAX);
        }
    }
}
