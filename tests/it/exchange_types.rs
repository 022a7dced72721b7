//! Exchange types beyond the core: what they do with messages, what they refuse, and what becomes
//! of them when the broker starts again.

use crate::client::*;
use crate::raw::{self, Raw};
use crate::support::{TestBroker, soon};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret::exchange::ExchangeTypes;
use leveret::store::MemoryDisk;
use leveret::wire::method::CHANNEL_CLOSE;
use leveret::{Config, Server};
use std::sync::Arc;

const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

async fn try_exchange(
    channel: &Channel,
    name: &str,
    kind: &str,
    arguments: FieldTable,
) -> lapin::Result<()> {
    let kind = ExchangeKind::Custom(kind.to_owned());
    soon("exchange.declare-ok", channel.exchange_declare(name.into(), kind, DURABLE, arguments))
        .await
}

async fn exchange(channel: &Channel, name: &str, kind: &str) {
    try_exchange(channel, name, kind, FieldTable::default()).await.unwrap();
}

async fn bind_exchange(channel: &Channel, destination: &str, source: &str, key: &str) {
    let options = ExchangeBindOptions::default();
    let arguments = FieldTable::default();
    let binding =
        channel.exchange_bind(destination.into(), source.into(), key.into(), options, arguments);
    soon("exchange.bind-ok", binding).await.unwrap();
}

async fn publish_body(channel: &Channel, exchange: &str, body: &str, headers: FieldTable) {
    let properties = BasicProperties::default().with_headers(headers);
    publish_to(channel, exchange, "k", body, properties).await;
}

/// How many messages each queue has got.
async fn counts(channel: &Channel, queues: &[&str]) -> Vec<usize> {
    let mut counts = Vec::new();
    for queue in queues {
        counts.push(bodies(channel, queue).await.len());
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_one_queue_and_stays_there_when_another_queue_goes() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "x-consistent-hash").await;
    let queues = ["a", "b", "c"];
    for queue in queues {
        transient(&channel, queue).await;
        bind(&channel, queue, "x", "10").await;
    }
    let keys: Vec<_> = (0..90).map(|n| format!("key {n}")).collect();
    let mut before = Vec::new();
    for round in 0..2 {
        for key in &keys {
            publish_to(&channel, "x", key, key, BasicProperties::default()).await;
        }
        let mut seen = Vec::new();
        for queue in &queues[round..] {
            let got = bodies(&channel, queue).await;
            assert!(got.len() > 10, "{queue} got {}", got.len());
            seen.push(got);
        }
        assert_eq!(seen.iter().map(Vec::len).sum::<usize>(), 90);
        if round == 0 {
            before = seen;
            let gone =
                channel.queue_unbind("a".into(), "x".into(), "10".into(), FieldTable::default());
            gone.await.unwrap();
        } else {
            for (before, after) in before[1..].iter().zip(seen) {
                assert!(before.iter().all(|key| after.contains(key)));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_properties_can_be_hashed() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    for (name, argument, value) in
        [("h", "hash-header", "part"), ("p", "hash-property", "message_id")]
    {
        let arguments = table([(argument, word(value))]);
        try_exchange(&channel, name, "x-consistent-hash", arguments).await.unwrap();
        let queues = [format!("{name}1"), format!("{name}2")];
        for queue in &queues {
            transient(&channel, queue).await;
            bind(&channel, queue, name, "1").await;
        }
        for n in 0..40 {
            let part = format!("part {n}");
            let properties = BasicProperties::default()
                .with_headers(table([("part", word(&part))]))
                .with_message_id(part.as_str().into());
            publish_to(&channel, name, "same", &part, properties).await;
        }
        for _ in 0..5 {
            publish_to(&channel, name, "same", "missing", BasicProperties::default()).await;
        }
        let first = bodies(&channel, &queues[0]).await;
        let second = bodies(&channel, &queues[1]).await;
        assert_eq!(first.len() + second.len(), 45);
        let missing = |got: &[String]| got.iter().filter(|body| *body == "missing").count();
        assert!([0, 5].contains(&missing(&first)) && missing(&first) + missing(&second) == 5);
        assert!(first.len() > 8 && second.len() > 8, "{} {}", first.len(), second.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chance_spreads_messages_of_one_key() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    for (name, kind) in [("r", "x-random"), ("l", "x-local-random")] {
        exchange(&channel, name, kind).await;
        let queues = [format!("{name}1"), format!("{name}2")];
        for queue in &queues {
            transient(&channel, queue).await;
            bind(&channel, queue, name, "").await;
        }
        for _ in 0..100 {
            publish_to(&channel, name, "same", "x", BasicProperties::default()).await;
        }
        let counts = counts(&channel, &[&queues[0], &queues[1]]).await;
        assert_eq!(counts.iter().sum::<usize>(), 100);
        assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_modulus_is_taken_over_all_bindings_and_through_exchanges() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "x-modulus-hash").await;
    let queues = ["a", "b", "c"];
    for queue in queues {
        transient(&channel, queue).await;
    }
    bind(&channel, "a", "x", "any").await;
    bind(&channel, "b", "x", "").await;
    bind(&channel, "c", "amq.fanout", "").await;
    bind_exchange(&channel, "amq.fanout", "x", "").await;
    for n in 0..90 {
        let key = format!("key {n}");
        publish_to(&channel, "x", &key, "x", BasicProperties::default()).await;
    }
    let counts = counts(&channel, &queues).await;
    assert_eq!(counts.iter().sum::<usize>(), 90);
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_late_gets_the_last_messages_first() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let arguments = table([("x-recent-history-length", AMQPValue::LongInt(3))]);
    try_exchange(&channel, "x", "x-recent-history", arguments).await.unwrap();
    for queue in ["early", "late", "through"] {
        transient(&channel, queue).await;
    }
    bind(&channel, "early", "x", "").await;
    let no_store = || table([("x-recent-history-no-store", AMQPValue::Boolean(true))]);
    for body in ["1", "2", "3", "4"] {
        publish_body(&channel, "x", body, FieldTable::default()).await;
    }
    publish_body(&channel, "x", "not kept", no_store()).await;
    bind(&channel, "late", "x", "").await;
    publish_body(&channel, "x", "5", FieldTable::default()).await;
    assert_eq!(bodies(&channel, "late").await, ["2", "3", "4", "5"]);
    assert_eq!(bodies(&channel, "early").await, ["1", "2", "3", "4", "not kept", "5"]);
    // Again is nothing, under another key it is a binding.
    bind(&channel, "late", "x", "").await;
    assert!(bodies(&channel, "late").await.is_empty());
    bind(&channel, "late", "x", "another").await;
    assert_eq!(bodies(&channel, "late").await, ["3", "4", "5"]);
    // An exchange that is bound routes by the keys as they were published.
    bind(&channel, "through", "amq.direct", "k").await;
    bind_exchange(&channel, "amq.direct", "x", "").await;
    let through = get(&channel, "through").await.unwrap();
    assert_eq!((through.exchange.as_str(), through.routing_key.as_str()), ("x", "k"));
    assert_eq!(bodies(&channel, "through").await, ["4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_remembered_with_all_their_keys() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "x-recent-history").await;
    for queue in ["cc", "bcc"] {
        transient(&channel, queue).await;
        bind(&channel, queue, "amq.direct", queue).await;
    }
    let keys = |name| AMQPValue::FieldArray(FieldArray::from(vec![word(name)]));
    publish_body(&channel, "x", "copied", table([("CC", keys("cc")), ("BCC", keys("bcc"))])).await;
    bind_exchange(&channel, "amq.direct", "x", "").await;
    for queue in ["cc", "bcc"] {
        assert_eq!(bodies(&channel, queue).await, ["copied"], "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_accepted_is_remembered() {
    let broker = TestBroker::start();
    let (connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "x-recent-history").await;
    let refused = connection.create_channel().await.unwrap();
    let properties = BasicProperties::default().with_user_id("somebody".into());
    publish_to(&refused, "x", "", "refused", properties).await;
    let transaction = connection.create_channel().await.unwrap();
    transaction.tx_select().await.unwrap();
    publish_body(&transaction, "x", "rolled back", FieldTable::default()).await;
    transaction.tx_rollback().await.unwrap();
    publish_body(&transaction, "x", "committed", FieldTable::default()).await;
    transient(&channel, "before").await;
    bind(&channel, "before", "x", "").await;
    transaction.tx_commit().await.unwrap();
    transient(&channel, "after").await;
    bind(&channel, "after", "x", "").await;
    assert!(bodies(&channel, "before").await.is_empty());
    assert_eq!(bodies(&channel, "after").await, ["committed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_into_a_durable_queue_survives() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (_connection, first) = channel(&broker).await;
    exchange(&first, "x", "x-recent-history").await;
    for body in ["1", "2"] {
        publish_to(&first, "x", "k", body, persistent()).await;
    }
    declare(&first, "q", durable()).await;
    bind(&first, "q", "x", "").await;
    // As by a crash: whatever bind-ok did not wait for may be lost.
    drop(broker);
    let broker = TestBroker::on(disk);
    let (_connection, second) = channel(&broker).await;
    assert_eq!(bodies(&second, "q").await, ["1", "2"]);
    // The history itself is in memory only.
    transient(&second, "late").await;
    bind(&second, "late", "x", "").await;
    assert!(bodies(&second, "late").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_has_its_queue_after_a_restart_too() {
    let disk = Arc::new(MemoryDisk::new());
    let mut seen = Vec::new();
    for start in 0..2 {
        let broker = TestBroker::on(disk.clone());
        let (_connection, channel) = channel(&broker).await;
        let names = [("c", "x-consistent-hash"), ("m", "x-modulus-hash")];
        let queues: Vec<_> =
            names.iter().flat_map(|(x, _)| (0..5).map(move |n| (*x, format!("{x}{n}")))).collect();
        if start == 0 {
            for (name, kind) in names {
                exchange(&channel, name, kind).await;
            }
            for (source, queue) in queues.iter().rev() {
                declare(&channel, queue, durable()).await;
                bind(&channel, queue, source, "3").await;
            }
        }
        for n in 0..60 {
            for name in ["c", "m"] {
                let key = format!("key {n}");
                publish_to(&channel, name, &key, &key, BasicProperties::default()).await;
            }
        }
        let mut got = Vec::new();
        for (_, queue) in &queues {
            got.push(bodies(&channel, queue).await);
        }
        assert_eq!(got.iter().map(Vec::len).sum::<usize>(), 120);
        seen.push(got);
        drop(channel);
        broker.stopped().await.unwrap();
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_without_its_plugin_is_kept_and_refuses_to_route() {
    let disk = Arc::new(MemoryDisk::new());
    let without = |disk: Arc<MemoryDisk>| {
        let config = Config::on_loopback("unused");
        TestBroker::run(move || Server::start_with(config, disk, ExchangeTypes::core())).unwrap()
    };
    let broker = TestBroker::on(disk.clone());
    let (_connection, first) = channel(&broker).await;
    exchange(&first, "x", "x-random").await;
    declare(&first, "q", durable()).await;
    bind(&first, "q", "x", "").await;
    broker.stopped().await.unwrap();

    let broker = without(disk.clone());
    let (connection, second) = channel(&broker).await;
    let refused = try_exchange(&second, "x", "x-random", FieldTable::default()).await;
    let unknown = "PRECONDITION_FAILED - unknown exchange type 'x-random'";
    assert_eq!(reply(refused), (406, unknown.to_owned()));
    let third = connection.create_channel().await.unwrap();
    declare(&third, "other", durable()).await;
    bind(&third, "other", "x", "").await;
    let mut raw = Raw::channel(&broker);
    raw.send(&raw::publish_method(1, "x", "k", 0));
    raw.send(&raw::content_header(1, 0, &[0, 0]));
    let not_found = "PRECONDITION_FAILED - Cannot route message through exchange 'x' in vhost \
                     '/': exchange type x-random not found";
    assert_eq!(raw.expect_close(CHANNEL_CLOSE), (406, not_found.to_owned()));
    broker.stopped().await.unwrap();

    let broker = TestBroker::on(disk);
    let (_connection, fourth) = channel(&broker).await;
    for _ in 0..60 {
        publish_to(&fourth, "x", "k", "found", BasicProperties::default()).await;
    }
    let counts = counts(&fourth, &["q", "other"]).await;
    assert!(counts[0] + counts[1] == 60 && counts.iter().all(|count| *count > 5), "{counts:?}");
}
