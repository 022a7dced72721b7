//! Routing against a naive model, with a route cache that watches every change.

mod model;

use leveret::exchange::{
    Binding, Declared, Destination, ExchangeTypes, Kind, Live, Published, Removed, RouteCache,
    RouteScratch, Settings, Topology, Validity,
};
use leveret::id::QueueId;
use leveret::name::Name;
use leveret::table::{Table, TableBuilder, Value};
use model::{Fields, Model, ModelBinding, ModelExchange, To, topic_matches, words};
use proptest::prelude::*;
use std::collections::BTreeSet;

const PATTERNS: [&str; 8] = ["", "a", "a.b", "*", "#", "a.#", "*.b", "#.b.#"];
const KEYS: [&str; 4] = ["", "a", "a.b", "b.a.b"];

/// Of the plugged types, the one that matches all bindings.
fn kinds() -> Vec<Kind> {
    let history = ExchangeTypes::built_in().kind("x-recent-history").expect("it comes along");
    vec![Kind::Direct, Kind::Fanout, Kind::Topic, Kind::Headers, history]
}

#[derive(Clone, Debug)]
enum Op {
    Declare(usize, ModelExchange),
    Delete(usize, bool),
    Bind(ModelBinding),
    /// One of those that exist, by its number.
    Unbind(usize),
    UnbindMissing(ModelBinding),
    RemoveQueue(u64),
    Policy(usize, Option<usize>),
}

/// `wide` chooses among wire types that routing must not tell apart.
fn table(fields: &Fields, x_match: Option<&str>, wide: bool) -> Table {
    let x_match = x_match.map(|text| ("x-match", Value::LongStr(text.as_bytes())));
    let fields = fields.iter().map(|&(name, value)| match value {
        0 => (name, Value::Void),
        _ if wide => (name, Value::I64(value.into())),
        _ => (name, Value::U8(value)),
    });
    let put =
        |table: TableBuilder, (name, value): (&str, Value<'_>)| table.put(name.as_bytes(), value);
    fields.chain(x_match).fold(TableBuilder::new(), put).finish()
}

fn name(exchange: usize) -> String {
    format!("e{exchange}")
}

fn destination(to: To) -> Destination {
    match to {
        To::Queue(id) => Destination::Queue(QueueId(id)),
        To::Exchange(exchange) => Destination::Exchange(Name::from(name(exchange))),
    }
}

/// The model, the topology, and what a channel has cached of it.
struct World {
    model: Model,
    topology: Topology,
    cache: RouteCache<Route>,
    scratch: RouteScratch,
}

struct Route(Vec<QueueId>);

impl Live for Route {
    fn is_live(&self) -> bool {
        true
    }
}

impl World {
    fn new() -> Self {
        Self {
            model: Model::default(),
            topology: Topology::with_predeclared(Name::new("/")),
            cache: RouteCache::new(),
            scratch: RouteScratch::default(),
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Declare(exchange, settings) => self.declare(*exchange, settings),
            Op::Delete(exchange, if_unused) => self.delete(*exchange, *if_unused),
            Op::Bind(binding) => self.bind(binding),
            Op::Unbind(_) if self.model.bindings.is_empty() => {}
            Op::Unbind(number) => {
                let number = number % self.model.bindings.len();
                self.unbind(&self.model.bindings[number].clone());
            }
            Op::UnbindMissing(binding) => self.unbind(binding),
            Op::RemoveQueue(id) => {
                let before = self.model_lists();
                self.model.remove(|b| b.to == To::Queue(*id));
                let removed = self.topology.remove_queue(QueueId(*id));
                self.check_removed(&removed, &before);
            }
            Op::Policy(exchange, alternate) => {
                if let Some(exchange) = self.model.exchanges.get_mut(exchange) {
                    exchange.policy = *alternate;
                }
                let alternate = alternate.map(|other| Name::from(name(other)));
                self.topology.set_policy_alternate(&name(*exchange), alternate);
            }
        }
    }

    fn declare(&mut self, exchange: usize, declared: &ModelExchange) {
        let settings = Settings {
            auto_delete: declared.auto_delete,
            alternate: declared.alternate.map(|other| Name::from(name(other))),
            ..Settings::durable(declared.kind.clone())
        };
        let existed = self.model.exchanges.contains_key(&exchange);
        let outcome = self.topology.declare(Name::from(name(exchange)), settings);
        assert_eq!(existed, matches!(outcome, Declared::Exists(_)));
        if !existed {
            self.model.exchanges.insert(exchange, declared.clone());
        }
    }

    fn delete(&mut self, exchange: usize, if_unused: bool) {
        let used = self.model.bindings.iter().any(|b| b.source == exchange);
        let before = self.model_lists();
        let outcome = self.topology.delete(&name(exchange), if_unused);
        assert_eq!(outcome.is_err(), if_unused && used);
        if let Ok(removed) = outcome {
            self.model.exchanges.remove(&exchange);
            let itself = To::Exchange(exchange);
            self.model.remove(|b| b.source == exchange || b.to == itself);
            self.check_removed(&removed, &before);
        }
    }

    fn bind(&mut self, binding: &ModelBinding) {
        let exists = |exchange| self.model.exchanges.contains_key(&exchange);
        let ends = match binding.to {
            To::Queue(_) => true,
            To::Exchange(exchange) => exists(exchange),
        };
        if !exists(binding.source) || !ends {
            return;
        }
        let arguments = table(&binding.arguments, binding.x_match, false);
        let is_new = self.topology.bind(
            &name(binding.source),
            destination(binding.to),
            binding.key.as_bytes(),
            arguments.as_ref(),
        );
        assert_eq!(is_new, Ok(!self.model.bindings.contains(binding)));
        if is_new == Ok(true) {
            self.model.bindings.push(binding.clone());
        }
    }

    fn unbind(&mut self, binding: &ModelBinding) {
        let before = self.model_lists();
        self.model.remove(|b| b == binding);
        let removed = self.topology.unbind(
            &name(binding.source),
            &destination(binding.to),
            binding.key.as_bytes(),
            table(&binding.arguments, binding.x_match, false).as_ref(),
        );
        self.check_removed(&removed, &before);
    }

    /// What the model has, as the topology says it.
    fn model_lists(&self) -> (BTreeSet<String>, Vec<(String, Binding)>) {
        let exchanges = self.model.exchanges.keys().map(|e| name(*e)).collect();
        let binding = |b: &ModelBinding| {
            let arguments = table(&b.arguments, b.x_match, false);
            let (to, key) = (destination(b.to), b.key.as_bytes());
            (name(b.source), Binding::new(to, key, arguments.as_ref()))
        };
        let mut bindings: Vec<_> = self.model.bindings.iter().map(binding).collect();
        bindings.sort();
        (exchanges, bindings)
    }

    fn check_removed(
        &self,
        removed: &Removed,
        before: &(BTreeSet<String>, Vec<(String, Binding)>),
    ) {
        let after = self.model_lists();
        let mut exchanges: Vec<_> =
            removed.exchanges.iter().map(|exchange| exchange.name.to_string()).collect();
        exchanges.sort();
        let expected: Vec<_> = before.0.difference(&after.0).cloned().collect();
        assert_eq!(exchanges, expected);
        let removed = removed.bindings.iter();
        let mut bindings: Vec<_> = removed.map(|(s, b)| (s.to_string(), b.clone())).collect();
        bindings.sort();
        let gone = |binding: &&(String, Binding)| !after.1.contains(binding);
        let expected: Vec<_> = before.1.iter().filter(gone).cloned().collect();
        assert_eq!(bindings, expected);
    }

    fn check_lists(&self) {
        let (exchanges, bindings) = self.model_lists();
        let all = self.topology.exchanges();
        let ours = all.iter().map(|e| e.name().to_string());
        let ours: BTreeSet<_> = ours.filter(|name| name.starts_with('e')).collect();
        assert_eq!(ours, exchanges);
        let mut from_sources = Vec::new();
        for exchange in &exchanges {
            let listed = self.topology.bindings_of_source(exchange);
            from_sources.extend(listed.map(|b| (exchange.clone(), b.clone())));
        }
        assert_eq!(from_sources, bindings);
        let destinations: BTreeSet<_> = bindings.iter().map(|(_, b)| &b.destination).collect();
        let mut to_destinations = Vec::new();
        for destination in destinations {
            let listed = self.topology.bindings_of_destination(destination);
            to_destinations.extend(listed.map(|(s, b)| (s.to_string(), b.clone())));
        }
        to_destinations.sort();
        assert_eq!(to_destinations, bindings);
    }

    fn check_routes(&mut self, headers: &Fields) {
        let wire = table(headers, None, true);
        for exchange in self.model.exchanges.keys().copied().collect::<Vec<_>>() {
            for keys in KEYS.chunks(1).chain([&KEYS[..]]) {
                let expected = self.model.route(exchange, keys, headers);
                let (queues, _) = self.route(exchange, keys, &wire);
                assert_eq!(queues, Vec::from_iter(expected), "{exchange} {keys:?}");
            }
            for key in KEYS {
                self.check_cached(exchange, key);
            }
        }
    }

    fn route(&mut self, exchange: usize, keys: &[&str], headers: &Table) -> (Vec<u64>, bool) {
        let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
        let mut out = Vec::new();
        let exchange = self.topology.exchange(&name(exchange)).expect("it is in the model");
        let (headers, scratch) = (Some(headers.as_ref()), &mut self.scratch);
        let published = Published::new(&keys, headers);
        let routed = self.topology.route(exchange, published, scratch, &mut out);
        let routed = routed.expect("every type is there");
        (out.iter().map(|queue| queue.0).collect(), routed.cacheable)
    }

    /// A cached route is what routing would find now, whatever the headers.
    fn check_cached(&mut self, exchange: usize, key: &str) {
        let (now, cacheable) = self.route(exchange, &[key], &Table::default());
        let name = name(exchange);
        let address = format!("{name}/{key}");
        let cached = self.cache.get(address.as_bytes());
        let cached = cached.map(|route| route.0.iter().map(|queue| queue.0).collect::<Vec<_>>());
        match cached {
            Some(cached) => {
                assert!(cacheable, "{address} depends on headers");
                assert_eq!(cached, now, "{address} is cached");
            }
            None if cacheable => {
                let shared =
                    self.topology.exchange(&name).expect("it is in the model").shared().clone();
                let version = shared.version();
                let validity = Validity::ByExchange { shared, version };
                let route = Route(now.into_iter().map(QueueId).collect());
                self.cache.insert(address.as_bytes(), validity, route);
                assert!(self.cache.get(address.as_bytes()).is_some());
            }
            None => {}
        }
    }
}

fn fields() -> impl Strategy<Value = Fields> {
    let field = (prop::sample::select(vec!["g", "h", "x-k"]), 0..3_u8);
    prop::collection::vec(field, 0..3)
}

fn binding() -> impl Strategy<Value = ModelBinding> {
    let to = prop_oneof![
        3 => (0..5_u64).prop_map(To::Queue),
        2 => (0..6_usize).prop_map(To::Exchange),
    ];
    let arguments = prop_oneof![3 => Just(Vec::new()), 2 => fields()];
    let forms = vec!["all", "any", "all-with-x", "any-with-x"];
    let x_match = prop::option::weighted(0.3, prop::sample::select(forms));
    let key = prop::sample::select(&PATTERNS[..]);
    (0..6_usize, to, key, arguments, x_match).prop_map(|(source, to, key, mut arguments, x)| {
        arguments.sort_by_key(|(name, _)| *name);
        ModelBinding { source, to, key, arguments, x_match: x }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop::sample::select(kinds());
    let alternate = || prop::option::weighted(0.4, 0..6_usize);
    let exchange = (kind, any::<bool>(), alternate()).prop_map(|(kind, auto_delete, alternate)| {
        ModelExchange { kind, auto_delete, alternate, policy: None }
    });
    prop_oneof![
        6 => (0..6_usize, exchange).prop_map(|(name, e)| Op::Declare(name, e)),
        1 => (0..6_usize, any::<bool>()).prop_map(|(name, if_unused)| Op::Delete(name, if_unused)),
        12 => binding().prop_map(Op::Bind),
        4 => (0..64_usize).prop_map(Op::Unbind),
        1 => binding().prop_map(Op::UnbindMissing),
        1 => (0..5_u64).prop_map(Op::RemoveQueue),
        1 => (0..6_usize, alternate()).prop_map(|(name, alternate)| Op::Policy(name, alternate)),
    ]
}

fn words_of(alphabet: &'static [&'static str]) -> impl Strategy<Value = String> {
    let words = prop::collection::vec(prop::sample::select(alphabet), 0..7);
    words.prop_map(|words| words.join("."))
}

proptest! {
    #[test]
    fn any_history_routes_as_the_model_and_never_from_a_stale_cache(
        ops in prop::collection::vec(op(), 1..60),
        headers in fields(),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check_lists();
            world.check_routes(&headers);
        }
    }

    #[test]
    fn any_pattern_matches_the_keys_that_it_matches_word_by_word(
        patterns in prop::collection::vec(words_of(&["a", "b", "", "*", "#", "#"]), 1..12),
        keys in prop::collection::vec(words_of(&["a", "b", ""]), 1..12),
        unbound in 0..12_usize,
    ) {
        let mut topology = Topology::with_predeclared(Name::new("/"));
        let to = |id: usize| Destination::Queue(QueueId(id as u64));
        let no_arguments = Table::default();
        for (id, pattern) in patterns.iter().enumerate() {
            let arguments = no_arguments.as_ref();
            topology.bind("amq.topic", to(id), pattern.as_bytes(), arguments).unwrap();
        }
        if let Some(pattern) = patterns.get(unbound) {
            let arguments = no_arguments.as_ref();
            topology.unbind("amq.topic", &to(unbound), pattern.as_bytes(), arguments);
        }
        let exchange = topology.exchange("amq.topic").unwrap();
        let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
        let mut route = |keys: &[&str]| {
            let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
            topology.route(exchange, Published::new(&keys, None), &mut scratch, &mut out).unwrap();
            out.iter().map(|queue| queue.0 as usize).collect::<Vec<_>>()
        };
        let expected = |key: &str| {
            let all = patterns.iter().enumerate().filter(|(id, _)| *id != unbound);
            let matching = all.filter(|(_, p)| topic_matches(&words(p), &words(key)));
            matching.map(|(id, _)| id).collect::<Vec<_>>()
        };
        let mut union = BTreeSet::new();
        for key in &keys {
            prop_assert_eq!(route(&[key]), expected(key), "{:?}", key);
            union.extend(expected(key));
        }
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        prop_assert_eq!(route(&keys), Vec::from_iter(union));
    }
}
