use super::*;
use crate::broker::declare::tests::{DURABLE, EXCLUSIVE, connect, open};
use crate::broker::link::{Link, Workspace};
use crate::broker::{Broker, DeclareExchange, DeclareQueue};
use crate::queue::{Behaviour, DeadLetterStrategy};
use crate::store::MemoryDisk;
use crate::table::{Table, TableBuilder, TableRef, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const POLICY: SetPolicy<'_> = SetPolicy {
    vhost: "/",
    name: "p",
    pattern: "^q",
    definition: r#"{"max-length":5}"#,
    apply_to: "all",
    priority: 0,
};

fn set(broker: &Broker, level: Level, policy: &SetPolicy<'_>) {
    broker.set_policy(level, policy, &mut Workspace::default()).unwrap();
}

fn refused(level: Level, policy: &SetPolicy<'_>) -> String {
    let broker = open(&MemoryDisk::new());
    let refused = broker.set_policy(level, policy, &mut Workspace::default()).unwrap_err();
    assert_eq!(broker.policies(level, "/").unwrap(), []);
    refused.to_string()
}

fn declare(link: &mut Link, name: &str, arguments: &Table) {
    let declare = DeclareQueue { name, arguments: arguments.as_ref(), ..DURABLE };
    link.declare_queue(&declare, &mut Workspace::default()).unwrap();
}

fn behaviour(broker: &Broker, queue: &str) -> Arc<Behaviour> {
    broker.vhost("/").unwrap().queue(queue).unwrap().behaviour()
}

fn quorum() -> Table {
    TableBuilder::new().put(b"x-queue-type", Value::LongStr(b"quorum")).finish()
}

#[test]
fn a_wrong_policy_is_refused_with_rabbitmqs_text() {
    for (definition, text) in [
        (r#"{"zzz":2}"#, r#"[{<<"zzz">>,2}] are not recognised policy settings"#),
        (
            r#"{"zzz":2,"max-length":1,"aaa":"x"}"#,
            r#"[{<<"aaa">>,<<"x">>},{<<"zzz">>,2}] are not recognised policy settings"#,
        ),
        (r#"{"zzz":1,"max-length":-2}"#, "-2 is not a valid maximum length"),
        (r#"{"message-ttl":-1,"max-length":-2}"#, "-2 is not a valid maximum length"),
        (r#"{"max-length":2.5}"#, "2.5 is not a valid maximum length"),
        (r#"{"max-length":{"a":1}}"#, r#"#{<<"a">> => 1} is not a valid maximum length"#),
        (r#"{"max-length-bytes":"2"}"#, r#"<<"2">> is not a valid maximum length in bytes"#),
        (r#"{"message-ttl":null}"#, "null is not a valid message TTL"),
        (r#"{"expires":0}"#, "0 is not a valid queue expiry"),
        (r#"{"overflow":"x"}"#, r#"<<"x">> is not a valid overflow value"#),
        (r#"{"dead-letter-exchange":1}"#, "1 is not a valid dead letter exchange name"),
        (r#"{"dead-letter-routing-key":1}"#, "1 is not a valid dead letter routing key"),
        (r#"{"dead-letter-strategy":1}"#, "1 is not a valid dead letter strategy"),
        (r#"{"alternate-exchange":1}"#, "1 is not a valid alternate exchange name"),
        (r#"{"delivery-limit":"x"}"#, r#"<<"x">> is not a valid delivery limit"#),
        (r#"{"retry-delay-min":0}"#, "0 is not a valid minimum retry delay"),
        (r#"{"retry-delay-max":"x"}"#, r#"<<"x">> is not a valid maximum retry delay"#),
        (
            r#"{"retry-delay-max":5,"retry-delay-min":6}"#,
            "5 is not a valid maximum retry delay: the minimum is 6",
        ),
        (r#"{"expiry":"soon"}"#, r#"<<"soon">> is not a valid expiry value"#),
        (r#"{"consumer-timeout":-1}"#, "-1 is not a valid consumer timeout"),
        (r#"{"queue-mode":"x"}"#, r#"<<"x">> is not a valid queue-mode value"#),
        (r#"{"queue-version":3}"#, "3 is not a valid queue-version value"),
        (r#"{"queue-master-locator":"x"}"#, r#"<<"x">> invalid queue-master-locator value"#),
        (r#"{"ha-mode":"x"}"#, r#"<<"x">> is not a valid ha-mode value"#),
        (r#"{"max-priority":5}"#, r#"[{<<"max-priority">>,5}] are not recognised policy settings"#),
        ("{}", "no policy provided"),
        ("[]", "[] is not a JSON object of policy settings"),
    ] {
        assert_eq!(refused(Level::User, &SetPolicy { definition, ..POLICY }), text);
    }
    let operator = SetPolicy { definition: r#"{"dead-letter-exchange":"x"}"#, ..POLICY };
    assert_eq!(
        refused(Level::Operator, &operator),
        r#"[{<<"dead-letter-exchange">>,<<"x">>}] are not recognised policy settings"#
    );
    let json = refused(Level::User, &SetPolicy { definition: "nojson", ..POLICY });
    assert!(json.starts_with("JSON decoding error. Reason: "), "{json}");
}

#[test]
fn each_wrong_part_of_a_policy_has_its_line() {
    let all = SetPolicy { definition: "{}", apply_to: "zz", pattern: "(", ..POLICY };
    assert_eq!(
        refused(Level::User, &all),
        "no policy provided\n\
         apply-to 'zz' unrecognised; should be one of: 'queues', 'classic_queues', \
         'quorum_queues', 'streams', 'exchanges', or 'all'\n\
         pattern should be regular expression but is invalid: unclosed group"
    );
    let vhost = refused(Level::User, &SetPolicy { vhost: "nope", ..all });
    assert_eq!(vhost, "Virtual host 'nope' does not exist");
    let long = "n".repeat(256);
    let text = refused(Level::User, &SetPolicy { name: &long, ..POLICY });
    assert_eq!(text, "the name has 256 bytes, at most 255 fit");
    let huge = "x".repeat(1 << 16);
    let text = refused(Level::User, &SetPolicy { pattern: &huge, ..POLICY });
    assert_eq!(text, "pattern and definition have 65552 bytes, at most 65536 fit");
    let deep = format!(r#"{{"max-length":{}"#, "[".repeat(1000));
    let text = refused(Level::User, &SetPolicy { definition: &deep, ..POLICY });
    assert!(text.contains("recursion limit"), "{text}");
}

#[test]
fn a_policy_changes_the_queues_that_are_there_and_those_to_come() {
    let broker = open(&MemoryDisk::new());
    let mut link = connect(&broker);
    let limited = TableBuilder::new().put(b"x-max-length", Value::I32(3)).finish();
    declare(&mut link, "q", &Table::default());
    declare(&mut link, "q.limited", &limited);
    declare(&mut link, "other", &Table::default());
    let limits = || ["q", "q.limited", "other"].map(|name| behaviour(&broker, name).max_length);
    set(&broker, Level::User, &POLICY);
    assert_eq!(limits(), [Some(5), Some(3), None]);
    declare(&mut link, "q.late", &Table::default());
    assert_eq!(behaviour(&broker, "q.late").max_length, Some(5));
    let operator = SetPolicy { definition: r#"{"max-length":2}"#, pattern: "", ..POLICY };
    set(&broker, Level::Operator, &operator);
    assert_eq!(limits(), [Some(2), Some(2), Some(2)]);
    let mut workspace = Workspace::default();
    broker.clear_policy(Level::Operator, "/", "p", &mut workspace).unwrap();
    broker.clear_policy(Level::User, "/", "p", &mut workspace).unwrap();
    assert_eq!(limits(), [None, Some(3), None]);
    let again = broker.clear_policy(Level::User, "/", "p", &mut workspace);
    assert_eq!(again, Err(Refused::NotFound));
}

#[test]
fn the_highest_priority_applies_and_the_name_decides_a_tie() {
    let broker = open(&MemoryDisk::new());
    declare(&mut connect(&broker), "q", &Table::default());
    let limit = || behaviour(&broker, "q").max_length;
    let policy = |name, limit: &str, priority| {
        let definition = format!(r#"{{"max-length":{limit}}}"#);
        set(&broker, Level::User, &SetPolicy { name, definition: &definition, priority, ..POLICY });
    };
    policy("m", "1", 0);
    policy("z", "2", 0);
    assert_eq!(limit(), Some(1));
    policy("a", "3", 0);
    assert_eq!(limit(), Some(3));
    policy("z", "4", 1);
    assert_eq!(limit(), Some(4));
    policy("z", "4", -1);
    assert_eq!(limit(), Some(3));
}

#[test]
fn a_policy_with_a_key_of_another_type_is_not_for_the_queue_at_all() {
    let broker = open(&MemoryDisk::new());
    let mut link = connect(&broker);
    declare(&mut link, "q.classic", &Table::default());
    declare(&mut link, "q.quorum", &quorum());
    let limits = || ["q.classic", "q.quorum"].map(|name| behaviour(&broker, name).max_length);
    let policy = |name, definition, apply_to, priority| {
        let policy = SetPolicy { name, definition, apply_to, priority, ..POLICY };
        set(&broker, Level::User, &policy);
    };
    policy("all", r#"{"max-length":1}"#, "all", 0);
    policy("lazy", r#"{"max-length":2,"queue-mode":"lazy"}"#, "queues", 1);
    assert_eq!(limits(), [Some(2), Some(1)]);
    policy("memory", r#"{"max-length":3,"max-in-memory-length":1}"#, "all", 2);
    assert_eq!(limits(), [Some(2), Some(3)]);
    policy("delivery", r#"{"max-length":4,"delivery-limit":7}"#, "queues", 3);
    assert_eq!(limits(), [Some(2), Some(4)]);
    policy("delivery", r#"{"max-length":4,"delivery-limit":7}"#, "classic_queues", 3);
    assert_eq!(limits(), [Some(4), Some(3)]);
    assert_eq!(behaviour(&broker, "q.classic").delivery_limit, Some(7));
    let surely = r#"{"dead-letter-exchange":"x","dead-letter-strategy":"at-least-once"}"#;
    let strategy = || behaviour(&broker, "q.classic").dead_letter.as_ref().map(|it| it.strategy);
    policy("surely", surely, "queues", 4);
    assert_eq!(strategy(), None);
    policy("surely", surely, "classic_queues", 4);
    assert_eq!(strategy(), Some(DeadLetterStrategy::AtLeastOnce));
    policy("surely", r#"{"dead-letter-exchange":"x"}"#, "queues", -1);
    assert_eq!(strategy(), None);
    policy("quorum", r#"{"max-length":5}"#, "quorum_queues", 4);
    policy("streams", r#"{"max-length":6}"#, "streams", 5);
    policy("exchanges", r#"{"max-length":7}"#, "exchanges", 6);
    assert_eq!(limits(), [Some(4), Some(5)]);
}

fn declare_exchange(link: &mut Link, name: &str, arguments: TableRef<'_>) {
    let (durable, auto_delete, internal) = (true, false, false);
    let kind = "direct";
    let declare = DeclareExchange { name, kind, durable, auto_delete, internal, arguments };
    link.declare_exchange(&declare, &mut Workspace::default()).unwrap();
}

fn alternate(broker: &Broker, exchange: &str) -> Option<String> {
    let vhost = broker.vhost("/").unwrap();
    let state = vhost.state.read();
    state.topology.exchange(exchange).unwrap().alternate().map(ToString::to_string)
}

#[test]
fn an_alternate_exchange_comes_and_goes_with_its_policy() {
    let broker = open(&MemoryDisk::new());
    let mut link = connect(&broker);
    let own = TableBuilder::new().put(b"alternate-exchange", Value::LongStr(b"own")).finish();
    declare_exchange(&mut link, "e", TableRef::EMPTY);
    declare_exchange(&mut link, "e.own", own.as_ref());
    let vhost = broker.vhost("/").unwrap();
    let version = || vhost.exchange("e").unwrap().version();
    let before = version();
    let definition = r#"{"alternate-exchange":"ae"}"#;
    set(&broker, Level::User, &SetPolicy { pattern: "", definition, ..POLICY });
    assert_ne!(version(), before, "cached routes are stale");
    let found = || ["e", "e.own", "amq.direct", ""].map(|name| alternate(&broker, name));
    let [ae, own] = ["ae", "own"].map(|name| Some(name.to_owned()));
    assert_eq!(found(), [ae.clone(), own.clone(), ae.clone(), None]);
    declare_exchange(&mut link, "e.late", TableRef::EMPTY);
    assert_eq!(alternate(&broker, "e.late"), ae);
    broker.clear_policy(Level::User, "/", "p", &mut Workspace::default()).unwrap();
    assert_eq!(found(), [None, own, None, None]);
}

#[test]
fn policies_come_back_with_the_broker_and_with_a_catalogue_made_anew() {
    let disk = MemoryDisk::new();
    let broker = open(&disk);
    let mut link = connect(&broker);
    declare(&mut link, "q", &Table::default());
    declare_exchange(&mut link, "q.e", TableRef::EMPTY);
    let definition = r#"{"alternate-exchange":"ae","max-length":5}"#;
    set(&broker, Level::User, &SetPolicy { definition, priority: -7, ..POLICY });
    set(&broker, Level::Operator, &SetPolicy { apply_to: "queues", ..POLICY });
    set(&broker, Level::User, &SetPolicy { name: "gone", ..POLICY });
    broker.clear_policy(Level::User, "/", "gone", &mut Workspace::default()).unwrap();
    let listed = |broker: &Broker| {
        [Level::User, Level::Operator].map(|level| broker.policies(level, "/").unwrap())
    };
    let before = listed(&broker);
    assert_eq!(before.each_ref().map(Vec::len), [1, 1]);
    let mut definitions = Vec::new();
    crate::store::Source::definitions(&*broker, &mut |definition| definitions.push(definition));
    let is_parameter = |it: &&_| matches!(it, crate::store::Definition::ParameterSet { .. });
    assert_eq!(definitions.iter().filter(is_parameter).count(), 2);
    broker.journal().round(&disk).unwrap();
    drop((link, broker));

    let broker = open(&disk);
    assert_eq!(listed(&broker), before);
    assert_eq!(behaviour(&broker, "q").max_length, Some(5));
    assert_eq!(alternate(&broker, "q.e").as_deref(), Some("ae"));
    assert_eq!(alternate(&broker, "amq.direct"), None);
}

#[test]
fn no_queue_declared_meanwhile_keeps_an_older_policy() {
    let broker = open(&MemoryDisk::new());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (broker, is_over) = (&broker, &is_over);
            threads.spawn(move || {
                let mut link = connect(broker);
                let mut nth = 0;
                while !is_over.load(Relaxed) && nth < 2000 {
                    let name = format!("q.{thread}.{nth}");
                    let declare = DeclareQueue { name: &name, ..EXCLUSIVE };
                    link.declare_queue(&declare, &mut Workspace::default()).unwrap();
                    nth += 1;
                }
            });
        }
        for name in ["a", "b"] {
            let broker = &broker;
            threads.spawn(move || {
                for limit in 1..=50 {
                    let definition = format!(r#"{{"max-length":{limit}}}"#);
                    let policy = SetPolicy { name, definition: &definition, ..POLICY };
                    set(broker, Level::User, &policy);
                }
            });
        }
        let last = SetPolicy { name: "c", priority: 1, ..POLICY };
        set(&broker, Level::User, &last);
        is_over.store(true, Relaxed);
    });
    for queue in broker.vhost("/").unwrap().queues() {
        assert_eq!(queue.behaviour().max_length, Some(5), "{}", queue.name);
    }
}
