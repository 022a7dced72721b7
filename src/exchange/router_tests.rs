use super::super::binding::Destination;
use super::super::topology::tests::Vhost;
use super::super::{Kind, Settings};
use super::*;
use crate::table::{TableBuilder, Value};

fn route(vhost: &Vhost, exchange: &str, keys: &[&str]) -> Vec<u64> {
    let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
    let exchange = vhost.0.exchange(exchange).unwrap();
    let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
    vhost.0.route(exchange, Published::new(&keys, None), &mut scratch, &mut out).unwrap();
    out.into_iter().map(|queue| queue.0).collect()
}

fn with_alternate(kind: Kind, alternate: &str) -> Settings {
    Settings { alternate: Some(Name::new(alternate)), ..Settings::durable(kind) }
}

#[test]
fn a_queue_gets_one_copy_however_many_ways_lead_to_it() {
    let mut vhost = Vhost::new();
    vhost.declare("t", Kind::Topic);
    vhost.declare("f", Kind::Fanout);
    vhost.bind_queue("t", 2, "#");
    vhost.bind_queue("t", 2, "a.*");
    vhost.bind_queue("t", 1, "*.b");
    vhost.bind_exchange("t", "f", "#.b");
    vhost.bind_queue("f", 1, "");
    vhost.bind_queue("f", 3, "");
    assert_eq!(route(&vhost, "t", &["a.b"]), [1, 2, 3]);
    assert_eq!(route(&vhost, "t", &["a.c", "c.b", "c.b"]), [1, 2, 3]);
    assert_eq!(route(&vhost, "t", &["a.c"]), [2]);
}

#[test]
fn every_key_of_a_message_is_routed() {
    let mut vhost = Vhost::new();
    vhost.bind_queue("amq.direct", 1, "a");
    vhost.bind_queue("amq.direct", 2, "b");
    assert_eq!(route(&vhost, "amq.direct", &["b", "x", "a", "b"]), [1, 2]);
    assert!(route(&vhost, "amq.direct", &["x"]).is_empty());
}

#[test]
fn cycles_end() {
    let mut vhost = Vhost::new();
    for name in ["a", "b", "c"] {
        vhost.declare(name, Kind::Fanout);
    }
    for (source, to) in [("a", "a"), ("a", "b"), ("b", "c"), ("c", "a")] {
        vhost.bind_exchange(source, to, "");
    }
    assert!(route(&vhost, "a", &["k"]).is_empty());
    vhost.bind_queue("c", 1, "");
    for name in ["a", "b", "c"] {
        assert_eq!(route(&vhost, name, &["k"]), [1]);
    }
}

#[test]
fn an_alternate_is_used_only_where_nothing_matched() {
    let mut vhost = Vhost::new();
    vhost.declare_with("first", with_alternate(Kind::Direct, "second"));
    vhost.declare_with("second", with_alternate(Kind::Direct, "third"));
    vhost.declare("third", Kind::Fanout);
    vhost.bind_queue("first", 1, "a");
    vhost.bind_queue("second", 2, "b");
    vhost.bind_queue("third", 3, "");
    assert_eq!(route(&vhost, "first", &["a"]), [1]);
    assert_eq!(route(&vhost, "first", &["b"]), [2]);
    assert_eq!(route(&vhost, "first", &["c"]), [3]);
    assert_eq!(route(&vhost, "first", &["a", "b"]), [1]);
}

#[test]
fn an_exchange_that_leads_nowhere_is_a_destination_all_the_same() {
    let mut vhost = Vhost::new();
    vhost.declare_with("e", with_alternate(Kind::Fanout, "amq.fanout"));
    vhost.bind_queue("amq.fanout", 1, "");
    assert_eq!(route(&vhost, "e", &["k"]), [1]);
    vhost.bind_exchange("e", "amq.direct", "");
    assert!(route(&vhost, "e", &["k"]).is_empty());
    // The alternate of the destination is its own matter.
    vhost.0.set_policy_alternate("amq.direct", Some(Name::new("e")));
    assert!(route(&vhost, "e", &["k"]).is_empty());
    vhost.0.set_policy_alternate("amq.direct", Some(Name::new("amq.fanout")));
    assert_eq!(route(&vhost, "e", &["k"]), [1]);
}

#[test]
fn an_alternate_that_is_missing_or_the_default_exchange_reaches_nothing() {
    let mut vhost = Vhost::new();
    vhost.declare_with("e", with_alternate(Kind::Direct, ""));
    vhost.declare_with("f", with_alternate(Kind::Direct, "missing"));
    vhost.declare_with("g", with_alternate(Kind::Direct, "g"));
    for name in ["e", "f", "g"] {
        assert!(route(&vhost, name, &["q"]).is_empty());
    }
}

#[test]
fn a_missing_alternate_does_not_end_the_other_ways() {
    let mut vhost = Vhost::new();
    vhost.declare("e", Kind::Fanout);
    for name in ["x", "y"] {
        vhost.declare(name, Kind::Fanout);
        vhost.bind_exchange("e", name, "");
    }
    for (lost, kept) in [("x", "y"), ("y", "x")] {
        vhost.0.set_policy_alternate(lost, Some(Name::new("missing")));
        vhost.bind_queue(kept, 1, "");
        assert_eq!(route(&vhost, "e", &["k"]), [1]);
        vhost.0.remove_queue(QueueId(1));
    }
}

#[test]
fn a_route_is_cacheable_unless_a_headers_exchange_was_consulted() {
    let mut vhost = Vhost::new();
    vhost.bind_queue("amq.fanout", 1, "");
    let headers = TableBuilder::new().put(b"a", Value::I32(1)).finish();
    let bound = Destination::Queue(QueueId(2));
    let (mut scratch, mut out) = (RouteScratch::default(), Vec::new());
    let mut route = |vhost: &Vhost, name, headers| {
        let exchange = vhost.0.exchange(name).unwrap();
        let routed = {
            let published = Published::new(&[b"k"], headers);
            vhost.0.route(exchange, published, &mut scratch, &mut out).unwrap()
        };
        (routed.cacheable, out.clone())
    };
    assert_eq!(route(&vhost, "amq.fanout", None), (true, vec![QueueId(1)]));
    assert_eq!(route(&vhost, "amq.match", None), (false, vec![]));
    vhost.bind_exchange("amq.fanout", "amq.match", "");
    vhost.bind_exchange("amq.match", "amq.headers", "");
    for name in ["amq.match", "amq.headers"] {
        let new = vhost.0.bind(name, bound.clone(), b"", headers.as_ref());
        assert!(new.unwrap());
    }
    assert_eq!(route(&vhost, "amq.fanout", None), (false, vec![QueueId(1)]));
    let both = vec![QueueId(1), QueueId(2)];
    assert_eq!(route(&vhost, "amq.fanout", Some(headers.as_ref())), (false, both));
    assert_eq!(
        route(&vhost, "amq.headers", None),
        (false, vec![]),
        "the headers of the message before are forgotten"
    );
}
