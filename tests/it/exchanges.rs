//! Exchanges of every kind, and what they do with what they cannot route.

use crate::client::*;
use crate::support::{TestBroker, soon};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind) {
    exchange_with(channel, name, kind, FieldTable::default()).await;
}

async fn exchange_with(channel: &Channel, name: &str, kind: ExchangeKind, arguments: FieldTable) {
    let options = ExchangeDeclareOptions::default();
    let declaring = channel.exchange_declare(name.into(), kind, options, arguments);
    soon("exchange.declare-ok", declaring).await.unwrap();
}

/// Publishes each key as the body too.
async fn publish_keys(channel: &Channel, exchange: &str, keys: &[&str]) {
    for key in keys {
        publish_to(channel, exchange, key, key, BasicProperties::default()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_exchange_routes_by_the_whole_key() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", ExchangeKind::Direct).await;
    transient(&channel, "a").await;
    transient(&channel, "b").await;
    bind(&channel, "a", "x", "red").await;
    bind(&channel, "a", "x", "green").await;
    bind(&channel, "b", "x", "green").await;
    publish_keys(&channel, "x", &["red", "green", "blue", "re"]).await;
    assert_eq!(bodies(&channel, "a").await, ["red", "green"]);
    assert_eq!(bodies(&channel, "b").await, ["green"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fanout_exchange_routes_everywhere_once() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", ExchangeKind::Fanout).await;
    for queue in ["a", "b", "c"] {
        transient(&channel, queue).await;
        bind(&channel, queue, "x", "k").await;
    }
    bind(&channel, "a", "x", "another key").await;
    publish_keys(&channel, "x", &["k", "ignored"]).await;
    for queue in ["a", "b", "c"] {
        assert_eq!(bodies(&channel, queue).await, ["k", "ignored"], "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_exchange_routes_by_words() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", ExchangeKind::Topic).await;
    let patterns = ["stock.*.nyse", "stock.#", "#.nyse", "*", "stock"];
    for pattern in patterns {
        transient(&channel, pattern).await;
        bind(&channel, pattern, "x", pattern).await;
    }
    let keys = ["stock", "stock.ibm.nyse", "stock.ibm", "bond.nyse", "a.b.c"];
    publish_keys(&channel, "x", &keys).await;
    let expected: [&[&str]; 5] = [
        &["stock.ibm.nyse"],
        &["stock", "stock.ibm.nyse", "stock.ibm"],
        &["stock.ibm.nyse", "bond.nyse"],
        &["stock"],
        &["stock"],
    ];
    for (pattern, expected) in patterns.iter().zip(expected) {
        assert_eq!(bodies(&channel, pattern).await, expected, "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headers_exchange_routes_by_any_or_all() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", ExchangeKind::Headers).await;
    for (queue, how) in [("all", "all"), ("any", "any")] {
        transient(&channel, queue).await;
        let arguments = table([
            ("x-match", word(how)),
            ("format", word("pdf")),
            ("pages", AMQPValue::LongInt(3)),
        ]);
        let options = QueueBindOptions::default();
        channel.queue_bind(queue.into(), "x".into(), "".into(), options, arguments).await.unwrap();
    }
    let messages = [
        ("both", table([("format", word("pdf")), ("pages", AMQPValue::LongInt(3))])),
        ("one", table([("format", word("pdf")), ("pages", AMQPValue::LongInt(4))])),
        ("none", table([("format", word("txt"))])),
    ];
    for (body, headers) in messages {
        let properties = BasicProperties::default().with_headers(headers);
        publish_to(&channel, "x", "", body, properties).await;
    }
    assert_eq!(bodies(&channel, "all").await, ["both"]);
    assert_eq!(bodies(&channel, "any").await, ["both", "one"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_route_to_exchanges_and_cycles_end() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    for name in ["a", "b", "c"] {
        exchange(&channel, name, ExchangeKind::Fanout).await;
    }
    for (destination, source) in [("b", "a"), ("c", "b"), ("a", "c")] {
        let options = ExchangeBindOptions::default();
        let arguments = FieldTable::default();
        channel
            .exchange_bind(destination.into(), source.into(), "".into(), options, arguments)
            .await
            .unwrap();
    }
    transient(&channel, "q").await;
    for name in ["a", "c"] {
        bind(&channel, "q", name, "").await;
    }
    publish_keys(&channel, "a", &["once"]).await;
    assert_eq!(bodies(&channel, "q").await, ["once"]);
    let options = ExchangeUnbindOptions::default();
    let arguments = FieldTable::default();
    channel.exchange_unbind("c".into(), "b".into(), "".into(), options, arguments).await.unwrap();
    publish_keys(&channel, "b", &["nowhere"]).await;
    assert!(bodies(&channel, "q").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alternate_exchange_takes_what_its_exchange_cannot_route() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "spare", ExchangeKind::Fanout).await;
    let arguments = table([("alternate-exchange", word("spare"))]);
    exchange_with(&channel, "x", ExchangeKind::Direct, arguments).await;
    for queue in ["found", "lost"] {
        transient(&channel, queue).await;
    }
    bind(&channel, "found", "x", "k").await;
    bind(&channel, "lost", "spare", "").await;
    publish_keys(&channel, "x", &["k", "no such key"]).await;
    assert_eq!(bodies(&channel, "found").await, ["k"]);
    assert_eq!(bodies(&channel, "lost").await, ["no such key"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn carbon_copies_are_routed_and_blind_ones_are_not_shown() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    for queue in ["to", "cc", "bcc"] {
        transient(&channel, queue).await;
    }
    let keys = |name| AMQPValue::FieldArray(FieldArray::from(vec![word(name)]));
    let headers = table([("CC", keys("cc")), ("BCC", keys("bcc"))]);
    let properties = BasicProperties::default().with_headers(headers);
    publish_to(&channel, "", "to", "x", properties).await;
    for queue in ["to", "cc", "bcc"] {
        let message = get(&channel, queue).await.unwrap();
        assert_eq!(message.routing_key.as_str(), "to");
        let headers = message.properties.headers().clone().unwrap();
        let names: Vec<_> = headers.inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["CC"], "{queue}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unbinding_and_deleting_end_routing() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", ExchangeKind::Direct).await;
    transient(&channel, "q").await;
    bind(&channel, "q", "x", "a").await;
    bind(&channel, "q", "x", "b").await;
    publish_keys(&channel, "x", &["a", "b"]).await;
    channel.queue_unbind("q".into(), "x".into(), "a".into(), FieldTable::default()).await.unwrap();
    publish_keys(&channel, "x", &["a", "b"]).await;
    assert_eq!(bodies(&channel, "q").await, ["a", "b", "b"]);
    channel.exchange_delete("x".into(), Default::default()).await.unwrap();
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.exchange("x").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_exchange_goes_with_its_last_binding() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    let kind = ExchangeKind::Fanout;
    channel.exchange_declare("x".into(), kind, options, FieldTable::default()).await.unwrap();
    let vhost = broker.broker.vhost("/").unwrap();
    for queue in ["a", "b"] {
        transient(&channel, queue).await;
        bind(&channel, queue, "x", "").await;
    }
    channel.queue_delete("a".into(), Default::default()).await.unwrap();
    assert!(vhost.exchange("x").is_some());
    channel.queue_delete("b".into(), Default::default()).await.unwrap();
    assert!(vhost.exchange("x").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inequivalent_redeclare_is_refused() {
    let broker = TestBroker::start();
    let (connection, first) = channel(&broker).await;
    exchange(&first, "x", ExchangeKind::Direct).await;
    exchange(&first, "x", ExchangeKind::Direct).await;
    let options = ExchangeDeclareOptions::default();
    let kind = ExchangeKind::Fanout;
    let refused = first.exchange_declare("x".into(), kind, options, FieldTable::default()).await;
    let expected = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': \
                    received 'fanout' but current is 'direct'";
    assert_eq!(reply(refused), (406, expected.to_owned()));
    let second = connection.create_channel().await.unwrap();
    transient(&second, "q").await;
    let refused = second.queue_declare("q".into(), durable(), FieldTable::default()).await;
    let expected = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                    received 'true' but current is 'false'";
    assert_eq!(reply(refused), (406, expected.to_owned()));
}
