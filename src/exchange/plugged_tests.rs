use super::super::topology::tests::Vhost;
use super::super::{ExchangeTypes, Kind, Published, RouteScratch, Settings};
use crate::id::QueueId;
use crate::limits::DESTINATIONS_PER_OPERATION;
use crate::name::Name;
use leveret_plugin_api::{Binding, Choice, DestinationId, ExchangeType, Fields, Message, Router};
use std::sync::{Arc, Mutex};

/// What a router is told, in words.
type Told = Arc<Mutex<Vec<String>>>;

/// Routes to the destination that the routing key numbers, and panics where it is told to.
struct Numbers(Told);

struct NumbersRouter(Told);

impl ExchangeType for Numbers {
    fn name(&self) -> &str {
        "x-numbers"
    }

    fn description(&self) -> &str {
        "Routes to a number"
    }

    fn check_arguments(&self, arguments: &dyn Fields) -> Result<(), String> {
        assert!(arguments.get(b"panic").is_none(), "it was told to");
        Ok(())
    }

    fn router(&self, _arguments: &dyn Fields) -> Box<dyn Router> {
        Box::new(NumbersRouter(Arc::clone(&self.0)))
    }
}

impl NumbersRouter {
    fn note(&self, what: &str, binding: &Binding<'_>) {
        let key = String::from_utf8_lossy(binding.key);
        let identity = String::from_utf8_lossy(binding.identity).replace('\0', "");
        let note = format!("{what} {} {identity:?} {key}", binding.destination.0);
        self.0.lock().unwrap().push(note);
    }
}

impl Router for NumbersRouter {
    fn bound(&mut self, binding: &Binding<'_>) {
        assert!(binding.key != b"panic", "it was told to");
        self.note("bound", binding);
    }

    fn unbound(&mut self, binding: &Binding<'_>) {
        self.note("unbound", binding);
    }

    fn route(&self, message: &Message<'_>, choice: &mut Choice<'_>) {
        let text = String::from_utf8_lossy(message.routing_key());
        choice.add(DestinationId(text.parse().expect("it was told to")));
    }
}

/// A vhost with the exchange `x` of that type, and what its router is told.
fn vhost() -> (Vhost, Told) {
    let told = Told::default();
    let types = ExchangeTypes::built_in().with(Arc::new(Numbers(Arc::clone(&told)))).unwrap();
    let mut vhost = Vhost::new();
    vhost.declare("x", types.kind("x-numbers").unwrap());
    vhost.declare("consistent", types.kind("x-consistent-hash").unwrap());
    vhost.declare("random", types.kind("x-random").unwrap());
    vhost.declare("gone", ExchangeTypes::core().stored_kind("x-gone"));
    (vhost, told)
}

/// The queues that a message reaches and whether that may be remembered, or why not.
fn route(vhost: &Vhost, exchange: &str, key: &str) -> Result<(Vec<u64>, bool), String> {
    let exchange = vhost.0.exchange(exchange).unwrap();
    let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
    let keys = [key.as_bytes()];
    let routed = vhost.0.route(exchange, Published::new(&keys, None), &mut scratch, &mut out);
    let routed = routed.map_err(|refused| refused.explanation().to_owned())?;
    Ok((out.into_iter().map(|queue| queue.0).collect(), routed.cacheable))
}

#[test]
fn a_router_is_told_numbers_that_are_used_again_and_identities_that_are_not() {
    let (mut vhost, told) = vhost();
    vhost.bind_queue("x", 65, "a");
    vhost.bind_queue("x", 66, "b");
    vhost.bind_queue("x", 65, "c");
    vhost.0.remove_queue(QueueId(65));
    vhost.bind_exchange("x", "amq.fanout", "d");
    let expected = [
        "bound 0 \"qA\" a",
        "bound 1 \"qB\" b",
        "bound 0 \"qA\" c",
        "unbound 0 \"qA\" a",
        "unbound 0 \"qA\" c",
        "bound 0 \"eamq.fanout\" d",
    ];
    assert_eq!(*told.lock().unwrap(), expected);
    vhost.bind_queue("amq.fanout", 67, "");
    assert_eq!(route(&vhost, "x", "0"), Ok((vec![67], false)));
    assert_eq!(route(&vhost, "x", "1"), Ok((vec![66], false)));
}

#[test]
fn a_number_that_nothing_has_leads_nowhere() {
    let (mut vhost, _) = vhost();
    vhost.bind_queue("x", 1, "");
    assert_eq!(route(&vhost, "x", "1"), Ok((vec![], false)));
    assert_eq!(route(&vhost, "x", "4294967295"), Ok((vec![], false)));
}

#[test]
fn a_router_that_panics_ends_its_exchange_and_nothing_else() {
    let failed = Err("exchange type x-numbers failed, see the broker's log".to_owned());
    let (mut vhost, told) = vhost();
    vhost.bind_queue("x", 1, "");
    assert_eq!(route(&vhost, "x", "0"), Ok((vec![1], false)));
    assert_eq!(route(&vhost, "x", "no number"), failed);
    assert_eq!(route(&vhost, "x", "0"), failed);
    // Bindings come and go without it.
    vhost.bind_queue("x", 2, "");
    vhost.0.remove_queue(QueueId(1));
    assert_eq!(told.lock().unwrap().len(), 1);
    vhost.bind_queue("amq.fanout", 3, "");
    assert_eq!(route(&vhost, "amq.fanout", ""), Ok((vec![3], true)));
}

#[test]
fn a_binding_that_its_router_panics_at_is_kept() {
    let failed = Err("exchange type x-numbers failed, see the broker's log".to_owned());
    let (mut vhost, _) = vhost();
    vhost.bind_queue("x", 1, "panic");
    assert_eq!(route(&vhost, "x", "0"), failed);
    assert_eq!(vhost.0.remove_queue(QueueId(1)).bindings.len(), 1);
}

#[test]
fn a_check_that_panics_is_refused() {
    let types = ExchangeTypes::core().with(Arc::new(Numbers(Told::default()))).unwrap();
    let Some(Kind::Plugged(kind)) = types.kind("x-numbers") else {
        panic!("it was just brought");
    };
    let value = crate::table::Value::Void;
    let arguments = crate::table::TableBuilder::new().put(b"panic", value).finish();
    let refused = kind.check_arguments(&super::api_table(arguments.as_ref())).unwrap_err();
    assert_eq!(
        refused.text(),
        "PRECONDITION_FAILED - exchange type x-numbers failed, see the broker's log"
    );
    assert!(kind.check_arguments(&super::api_table(Default::default())).is_ok());
}

#[test]
fn what_meets_an_exchange_without_its_type_is_not_routed() {
    let not_found = Err(
        "Cannot route message through exchange 'gone' in vhost '/': exchange type x-gone not found"
            .to_owned(),
    );
    let (mut vhost, _) = vhost();
    vhost.bind_queue("gone", 1, "");
    assert_eq!(route(&vhost, "gone", ""), not_found);
    vhost.bind_exchange("amq.fanout", "gone", "");
    vhost.bind_queue("amq.fanout", 2, "");
    assert_eq!(route(&vhost, "amq.fanout", ""), not_found);
    let with_alternate =
        Settings { alternate: Some(Name::new("gone")), ..Settings::durable(Kind::Direct) };
    vhost.declare_with("hopeful", with_alternate);
    vhost.bind_queue("hopeful", 2, "k");
    assert_eq!(route(&vhost, "hopeful", "k"), Ok((vec![2], true)));
    assert_eq!(route(&vhost, "hopeful", "other"), not_found);
}

#[test]
fn a_choice_is_cacheable_if_its_router_says_so() {
    let (mut vhost, _) = vhost();
    for exchange in ["consistent", "random"] {
        vhost.bind_queue(exchange, 1, "1");
    }
    assert_eq!(route(&vhost, "consistent", "k"), Ok((vec![1], true)));
    assert_eq!(route(&vhost, "random", "k"), Ok((vec![1], false)));
    vhost.bind_exchange("consistent", "random", "10000");
    vhost.0.remove_queue(QueueId(1));
    assert_eq!(route(&vhost, "consistent", "k"), Ok((vec![], false)));
}

#[test]
fn looking_through_many_destinations_counts_for_fairness() {
    let (mut vhost, _) = vhost();
    for queue in 0..3 * DESTINATIONS_PER_OPERATION as u64 {
        vhost.bind_queue("random", queue, "");
        vhost.bind_queue("amq.direct", queue, "");
    }
    vhost.bind_exchange("amq.fanout", "random", "");
    for (exchange, operations) in [("random", 3), ("amq.fanout", 3), ("amq.direct", 0)] {
        let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
        let exchange = vhost.0.exchange(exchange).unwrap();
        let published = Published::new(&[b"k"], None);
        let routed = vhost.0.route(exchange, published, &mut scratch, &mut out).unwrap();
        assert_eq!(routed.operations, operations);
    }
}

#[test]
fn random_numbers_differ_from_message_to_message_and_with_their_seed() {
    let (mut vhost, _) = vhost();
    for queue in 0..64 {
        vhost.bind_queue("random", queue, "");
    }
    let exchange = vhost.0.exchange("random").unwrap();
    let run = |seed: u64| {
        let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
        scratch.seed(|| seed);
        // Only the first seed counts.
        scratch.seed(|| 0);
        let mut next = || {
            let published = Published::new(&[b"k"], None);
            vhost.0.route(exchange, published, &mut scratch, &mut out).unwrap();
            out[0].0
        };
        (0..32).map(|_| next()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert_eq!(one, run(1));
    assert_ne!(one, run(2));
    assert!(one.iter().collect::<std::collections::BTreeSet<_>>().len() > 8);
}
