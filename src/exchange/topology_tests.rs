use super::super::targets::tests::queue;
use super::*;
use crate::id::QueueId;
use crate::table::{TableBuilder, Value};

/// A vhost whose exchanges and bindings tests name in one line each.
pub(in crate::exchange) struct Vhost(pub(in crate::exchange) Topology);

impl Vhost {
    pub(in crate::exchange) fn new() -> Self {
        Self(Topology::with_predeclared(Name::new("/")))
    }

    pub(in crate::exchange) fn declare(&mut self, name: &str, kind: Kind) {
        self.declare_with(name, Settings::durable(kind));
    }

    pub(in crate::exchange) fn declare_with(&mut self, name: &str, settings: Settings) {
        let declared = self.0.declare(Name::new(name), settings);
        assert!(matches!(declared, Declared::Created(_)), "{name} is new");
    }

    pub(in crate::exchange) fn bind_queue(&mut self, source: &str, id: u64, key: &str) -> bool {
        let key = key.as_bytes();
        let bound = self.0.bind(source, queue(id), key, TableRef::EMPTY);
        bound.unwrap()
    }

    pub(in crate::exchange) fn bind_exchange(&mut self, source: &str, to: &str, key: &str) {
        let to = Destination::Exchange(Name::new(to));
        let bound = self.0.bind(source, to, key.as_bytes(), TableRef::EMPTY);
        assert!(bound.unwrap(), "the binding is new");
    }

    fn versions(&self, names: &[&str]) -> Vec<u64> {
        let version = |name: &&str| self.0.exchange(name).unwrap().shared().version();
        names.iter().map(version).collect()
    }

    /// Which of `names` get a new version by `change`.
    fn bumped<'n>(&mut self, names: &[&'n str], change: impl FnOnce(&mut Self)) -> Vec<&'n str> {
        let before = self.versions(names);
        change(self);
        let after = self.versions(names);
        let changed = (0..names.len()).filter(|i| before[*i] != after[*i]);
        changed.map(|i| names[i]).collect()
    }
}

fn with_alternate(alternate: &str) -> Settings {
    Settings { alternate: Some(Name::new(alternate)), ..Settings::durable(Kind::Direct) }
}

#[test]
fn a_vhost_begins_with_the_exchanges_of_rabbitmq() {
    let vhost = Vhost::new();
    let all = vhost.0.exchanges();
    let all = all.iter().map(|e| {
        assert!(e.settings().durable && !e.settings().auto_delete);
        (&**e.name(), e.settings().kind.name(), e.shared().internal)
    });
    assert_eq!(
        all.collect::<Vec<_>>(),
        [
            ("", "direct", false),
            ("amq.direct", "direct", false),
            ("amq.fanout", "fanout", false),
            ("amq.headers", "headers", false),
            ("amq.match", "headers", false),
            ("amq.rabbitmq.trace", "topic", true),
            ("amq.topic", "topic", false),
        ]
    );
}

#[test]
fn a_second_declaration_finds_the_first() {
    let mut vhost = Vhost::new();
    vhost.declare("e", Kind::Topic);
    let again = vhost.0.declare(Name::new("e"), Settings::durable(Kind::Fanout));
    let Declared::Exists(found) = again else {
        panic!("it exists");
    };
    assert_eq!(found.settings().kind, Kind::Topic);
}

#[test]
fn binding_again_is_no_change() {
    let mut vhost = Vhost::new();
    assert!(vhost.bind_queue("amq.topic", 1, "a"));
    let again = vhost.bumped(&["amq.topic"], |vhost| {
        assert!(!vhost.bind_queue("amq.topic", 1, "a"));
    });
    assert!(again.is_empty());
    assert!(vhost.bind_queue("amq.topic", 1, "b"));
    assert_eq!(vhost.0.exchange("amq.topic").unwrap().binding_count(), 2);
}

#[test]
fn a_binding_is_listed_under_both_ends() {
    let mut vhost = Vhost::new();
    vhost.bind_queue("amq.topic", 1, "b");
    vhost.bind_queue("amq.topic", 1, "a");
    vhost.bind_queue("amq.direct", 1, "c");
    vhost.bind_exchange("amq.topic", "amq.direct", "d");
    let keys = |binding: &Binding| String::from_utf8_lossy(&binding.key).into_owned();
    let of_source: Vec<_> = vhost.0.bindings_of_source("amq.topic").map(keys).collect();
    assert_eq!(of_source, ["a", "b", "d"]);
    let to_queue = queue(1);
    let of_queue = vhost.0.bindings_of_destination(&to_queue);
    let of_queue: Vec<_> = of_queue.map(|(s, b)| (s.to_string(), keys(b))).collect();
    let (direct, topic) = ("amq.direct".to_owned(), "amq.topic".to_owned());
    assert_eq!(of_queue, [(direct, "c".into()), (topic.clone(), "a".into()), (topic, "b".into())]);
    assert!(vhost.0.is_source_in_use("amq.direct"));
    assert!(!vhost.0.is_source_in_use("amq.fanout") && !vhost.0.is_source_in_use("none"));
}

#[test]
fn refused_arguments_bind_nothing() {
    let mut vhost = Vhost::new();
    let wrong = TableBuilder::new().put(b"x-match", Value::I32(5)).finish();
    let refused = vhost.0.bind("amq.match", queue(1), b"", wrong.as_ref());
    assert!(refused.unwrap_err().text().contains("x-match"));
    assert!(!vhost.0.is_source_in_use("amq.match"));
    assert_eq!(vhost.0.bindings_of_destination(&queue(1)).count(), 0);
    assert!(vhost.0.bind("amq.topic", queue(1), b"", wrong.as_ref()).unwrap());
}

#[test]
fn a_change_gives_everything_upstream_a_new_version() {
    let mut vhost = Vhost::new();
    let names = ["a", "b", "c", "aside", "below", "amq.direct"];
    for name in &names[..5] {
        vhost.declare(name, Kind::Fanout);
    }
    vhost.bind_exchange("a", "b", "");
    vhost.bind_exchange("b", "c", "");
    vhost.bind_exchange("c", "a", "");
    vhost.bind_exchange("c", "below", "");
    vhost.declare_with("user", with_alternate("c"));
    let names = [&names[..], &["user"]].concat();
    let bind = |vhost: &mut Vhost| assert!(vhost.bind_queue("c", 1, ""));
    assert_eq!(vhost.bumped(&names, bind), ["a", "b", "c", "user"]);
    let bind = |vhost: &mut Vhost| assert!(vhost.bind_queue("below", 1, ""));
    assert_eq!(vhost.bumped(&names, bind), ["a", "b", "c", "below", "user"]);
    let bind = |vhost: &mut Vhost| assert!(vhost.bind_queue("aside", 1, ""));
    assert_eq!(vhost.bumped(&names, bind), ["aside"]);
    let remove = |vhost: &mut Vhost| drop(vhost.0.remove_queue(QueueId(1)));
    assert_eq!(vhost.bumped(&names, remove), ["a", "b", "c", "aside", "below", "user"]);
    let delete = |vhost: &mut Vhost| drop(vhost.0.delete("c", false));
    let names = ["a", "b", "aside", "below", "user"];
    assert_eq!(vhost.bumped(&names, delete), ["a", "b", "user"]);
}

#[test]
fn an_alternate_that_appears_is_a_change_for_those_who_name_it() {
    let mut vhost = Vhost::new();
    vhost.declare_with("user", with_alternate("missing"));
    vhost.declare_with("second", with_alternate("user"));
    let names = ["user", "second", "amq.direct"];
    let declare = |vhost: &mut Vhost| vhost.declare("missing", Kind::Fanout);
    assert_eq!(vhost.bumped(&names, declare), ["user", "second"]);
    let declare = |vhost: &mut Vhost| vhost.declare("other", Kind::Fanout);
    assert!(vhost.bumped(&names, declare).is_empty());
}

#[test]
fn an_argument_beats_a_policy() {
    let mut vhost = Vhost::new();
    vhost.declare_with("argument", with_alternate("a"));
    vhost.declare("policy", Kind::Direct);
    let names = ["argument", "policy"];
    let apply = |alternate: Option<&'static str>| {
        move |vhost: &mut Vhost| {
            for name in names {
                vhost.0.set_policy_alternate(name, alternate.map(Name::new));
            }
        }
    };
    assert_eq!(vhost.bumped(&names, apply(Some("p"))), ["policy"]);
    let alternates = names.map(|name| vhost.0.exchange(name).unwrap().alternate().cloned());
    assert_eq!(alternates, [Some(Name::new("a")), Some(Name::new("p"))]);
    assert!(vhost.bumped(&names, apply(Some("p"))).is_empty());
    let declare = |vhost: &mut Vhost| vhost.declare("p", Kind::Direct);
    assert_eq!(vhost.bumped(&names, declare), ["policy"]);
    assert_eq!(vhost.bumped(&names, apply(None)), ["policy"]);
    assert_eq!(vhost.0.exchange("policy").unwrap().alternate(), None);
}

#[test]
fn a_deleted_exchange_is_gone_for_those_who_hold_it() {
    let mut vhost = Vhost::new();
    vhost.declare("e", Kind::Direct);
    let held = vhost.0.exchange("e").unwrap().shared().clone();
    vhost.0.delete("e", false).unwrap();
    assert!(held.is_gone() && vhost.0.exchange("e").is_none());
    vhost.declare("e", Kind::Direct);
    assert!(held.is_gone() && !vhost.0.exchange("e").unwrap().shared().is_gone());
}
