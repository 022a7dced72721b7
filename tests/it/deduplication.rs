//! Queues and exchanges that leave out duplicates, by way of a client library.

use crate::client::*;
use crate::support::{TestBroker, soon};
use lapin::options::*;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use leveret::store::MemoryDisk;
use std::sync::Arc;

/// The exchange type of RabbitMQ's plugin.
const TYPE: &str = "x-message-deduplication";
const ON: (&str, AMQPValue) = ("x-message-deduplication", AMQPValue::Boolean(true));

async fn declare_queue(channel: &Channel, name: &str, arguments: &[(&str, AMQPValue)]) {
    let declared = channel.queue_declare(name.into(), durable(), table(arguments.to_vec()));
    soon("queue.declare-ok", declared).await.unwrap();
}

async fn try_exchange(
    channel: &Channel,
    kind: &str,
    arguments: &[(&str, AMQPValue)],
) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let kind = ExchangeKind::Custom(kind.to_owned());
    let declared = channel.exchange_declare("x".into(), kind, options, table(arguments.to_vec()));
    soon("exchange.declare-ok", declared).await
}

async fn confirmed(channel: &Channel, exchange: &str, key: &str, id: AMQPValue) -> Confirmation {
    let properties = persistent().with_headers(table([("x-deduplication-header", id)]));
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let publish = channel.basic_publish(exchange.into(), key.into(), options, b"m", properties);
    soon("a confirm", publish.await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_is_confirmed_and_left_out_also_after_a_restart() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(Arc::clone(&disk) as _);
    let (connection, of_first) = channel(&broker).await;
    of_first.confirm_select(Default::default()).await.unwrap();
    declare_queue(&of_first, "q", &[ON]).await;
    declare_queue(&of_first, "plain", &[]).await;
    try_exchange(&of_first, "fanout", &[ON]).await.unwrap();
    bind(&of_first, "plain", "x", "").await;
    for id in [word("1"), word("1"), word("2"), AMQPValue::LongInt(1), AMQPValue::ShortInt(1)] {
        for (exchange, key) in [("", "q"), ("x", "")] {
            let confirmation = confirmed(&of_first, exchange, key, id.clone()).await;
            assert_eq!(confirmation, Confirmation::Ack(None));
        }
    }
    assert_eq!((broker.ready("q"), broker.ready("plain")), (3, 3));
    let duplicates = |broker: &TestBroker| {
        let exchange = broker.broker.vhost("/").unwrap().exchange("x").unwrap();
        let of_exchange = exchange.deduplicator.as_ref().unwrap();
        let queue = broker.queue("q");
        let of_queue = queue.deduplicator.as_ref().unwrap();
        assert_eq!((of_exchange.keys.get(), of_queue.keys.get()), (3, 3));
        (of_exchange.duplicates.get(), of_queue.duplicates.get())
    };
    assert_eq!(duplicates(&broker), (2, 2));
    drop((of_first, connection));
    broker.stopped().await.unwrap();

    let broker = TestBroker::on(disk);
    let (_connection, channel) = channel(&broker).await;
    channel.confirm_select(Default::default()).await.unwrap();
    for id in [word("1"), word("2"), AMQPValue::LongLongInt(1)] {
        for (exchange, key) in [("", "q"), ("x", "")] {
            confirmed(&channel, exchange, key, id.clone()).await;
        }
    }
    assert_eq!((broker.ready("q"), broker.ready("plain")), (3, 3));
    assert_eq!(duplicates(&broker), (3, 3));
    broker.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_took_leaves_no_key() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    channel.confirm_select(Default::default()).await.unwrap();
    try_exchange(&channel, "fanout", &[ON]).await.unwrap();
    for _ in 0..2 {
        let confirmation = confirmed(&channel, "x", "", word("1")).await;
        assert!(matches!(confirmation, Confirmation::Ack(Some(_))), "returned each time");
    }
    let full = [("x-max-length", AMQPValue::LongInt(1)), ("x-overflow", word("reject-publish"))];
    declare_queue(&channel, "q", &full).await;
    bind(&channel, "q", "x", "").await;
    confirmed(&channel, "x", "", word("0")).await;
    assert!(matches!(confirmed(&channel, "x", "", word("1")).await, Confirmation::Nack(_)));
    assert_eq!(bodies(&channel, "q").await.len(), 1);
    for _ in 0..2 {
        assert_eq!(confirmed(&channel, "x", "", word("1")).await, Confirmation::Ack(None));
    }
    assert_eq!(broker.ready("q"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_publishes_of_a_key_one_arrives() {
    const PUBLISHERS: usize = 4;
    const KEYS: i32 = 200;
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let size = ("x-cache-size", AMQPValue::LongInt(KEYS));
    declare_queue(&channel, "q", &[ON, size.clone()]).await;
    declare_queue(&channel, "plain", &[]).await;
    try_exchange(&channel, "fanout", &[ON, size]).await.unwrap();
    bind(&channel, "plain", "x", "").await;
    let publishers = (0..PUBLISHERS).map(|_| {
        let url = broker.url.clone();
        tokio::spawn(async move {
            let connection = connect_to(&url).await;
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(Default::default()).await.unwrap();
            let mut confirms = Vec::new();
            for id in 0..KEYS {
                let headers = table([("x-deduplication-header", AMQPValue::LongInt(id))]);
                for (exchange, key) in [("", "q"), ("x", "")] {
                    let properties = persistent().with_headers(headers.clone());
                    confirms.push(publish_to(&channel, exchange, key, "m", properties).await);
                }
            }
            for confirm in confirms {
                assert!(soon("a confirm", confirm).await.unwrap().is_ack());
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_eq!((broker.ready("q"), broker.ready("plain")), (KEYS as u64, KEYS as u64));
    broker.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_and_other_arguments_of_an_exchange_are_refused() {
    let broker = TestBroker::start();
    let (connection, _channel) = channel(&broker).await;
    let fresh = || async { connection.create_channel().await.unwrap() };
    let long = AMQPValue::LongInt;
    for (key, value, reason) in [
        ("x-message-deduplication", long(1), "{unacceptable_type,signedint}"),
        ("x-cache-size", long(0), "{value_zero,0}"),
        ("x-cache-size", long(2_000_000), "{max_value_exceeded,2000000}"),
        ("x-cache-ttl", long(-1), "{value_negative,-1}"),
        ("x-deduplication-header", word(""), "invalid_header_name"),
    ] {
        let refused = try_exchange(&fresh().await, "direct", &[ON, (key, value)]).await;
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{key}' for exchange 'x' in vhost '/': {reason}"
        );
        assert_eq!(reply(refused), (406, text));
    }
    let declared = [ON, ("x-cache-size", long(5))];
    try_exchange(&fresh().await, "direct", &declared).await.unwrap();
    try_exchange(&fresh().await, "direct", &declared).await.unwrap();
    let refused = try_exchange(&fresh().await, "direct", &[ON]).await;
    let text = "PRECONDITION_FAILED - inequivalent arg 'x-cache-size' for exchange 'x' in vhost \
                '/': received none but current is the value '5' of type 'signedint'";
    assert_eq!(reply(refused), (406, text.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_what_an_exchange_remembers_are_no_duplicates() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    channel.confirm_select(Default::default()).await.unwrap();
    declare_queue(&channel, "unique", &[ON]).await;
    let dying = [("x-dead-letter-exchange", word("")), ("x-message-ttl", AMQPValue::LongInt(0))];
    let to = ("x-dead-letter-routing-key", word("unique"));
    declare_queue(&channel, "dying", &[dying[0].clone(), dying[1].clone(), to]).await;
    for key in ["unique", "dying", "dying", "unique"] {
        confirmed(&channel, "", key, word("1")).await;
    }
    crate::support::wait_for("dead letters", || broker.ready("unique") == 3).await;

    try_exchange(&channel, "x-recent-history", &[ON]).await.unwrap();
    bind(&channel, "dying", "x", "").await;
    for id in ["1", "2", "1"] {
        confirmed(&channel, "x", "", word(id)).await;
    }
    declare_queue(&channel, "late", &[ON]).await;
    bind(&channel, "late", "x", "").await;
    assert_eq!(broker.ready("late"), 2);
    let plain = publish_to(&channel, "x", "", "m", BasicProperties::default()).await;
    soon("a confirm", plain).await.unwrap();
    assert_eq!(broker.ready("late"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_what_waits_for_its_time_does_not_wait_too() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    channel.confirm_select(Default::default()).await.unwrap();
    let arguments = [ON, ("x-delayed-type", word("fanout"))];
    try_exchange(&channel, "x-delayed-message", &arguments).await.unwrap();
    declare_queue(&channel, "q", &[]).await;
    bind(&channel, "q", "x", "").await;
    for (id, delay) in [("1", 3_600_000), ("1", 0), ("2", 0), ("2", 3_600_000), ("3", 3_600_000)] {
        let delay = AMQPValue::LongInt(delay);
        let headers = table([("x-deduplication-header", word(id)), ("x-delay", delay)]);
        let publish = publish_to(&channel, "x", "", "m", persistent().with_headers(headers)).await;
        assert!(soon("a confirm", publish).await.unwrap().is_ack());
    }
    let waiting = broker.broker.vhost("/").unwrap().delay_queue("x").unwrap();
    assert_eq!(waiting.counters.ready.get() + broker.ready("q"), 3);
    crate::support::wait_for("what does not wait", || broker.ready("q") == 1).await;
}

/// After six publishes and a restart, five more: how many arrived of each.
async fn arrivals_with_the_plugins_type(arguments: &[(&str, AMQPValue)]) -> [u64; 2] {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(Arc::clone(&disk) as _);
    let (_connection, first) = channel(&broker).await;
    try_exchange(&first, TYPE, arguments).await.unwrap();
    declare_queue(&first, "q", &[]).await;
    bind(&first, "q", "x", "any key").await;
    first.confirm_select(Default::default()).await.unwrap();
    for id in ["1", "2", "2", "3", "3", "2"] {
        assert_eq!(confirmed(&first, "x", "key", word(id)).await, Confirmation::Ack(None));
    }
    let before = broker.ready("q");
    broker.stopped().await.unwrap();
    let broker = TestBroker::on(disk);
    let (_connection, second) = channel(&broker).await;
    second.confirm_select(Default::default()).await.unwrap();
    for id in ["2", "3", "2", "3", "2"] {
        confirmed(&second, "x", "key", word(id)).await;
    }
    [before, broker.ready("q") - before]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugins_exchange_type_is_a_fanout_that_leaves_out_duplicates() {
    let size = ("x-cache-size", word("2"));
    let persistence = |it| [size.clone(), ("x-cache-persistence", word(it))];
    // Memory is what the plugin means if nothing is said.
    assert_eq!(arrivals_with_the_plugins_type(std::slice::from_ref(&size)).await, [3, 2]);
    assert_eq!(arrivals_with_the_plugins_type(&persistence("memory")).await, [3, 2]);
    assert_eq!(arrivals_with_the_plugins_type(&persistence("disk")).await, [3, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugins_exchange_type_is_refused_with_its_texts() {
    let broker = TestBroker::start();
    let (connection, _channel) = channel(&broker).await;
    let fresh = || async { connection.create_channel().await.unwrap() };
    let size = ("x-cache-size", AMQPValue::LongInt(5));
    for (arguments, why) in [
        (vec![], "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
        (
            vec![size.clone(), ("x-cache-ttl", AMQPValue::LongInt(0))],
            "Invalid argument, 'x-cache-ttl' must be an integer greater than 0",
        ),
        (
            vec![size.clone(), ("x-cache-persistence", word("tape"))],
            "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'",
        ),
    ] {
        let refused = try_exchange(&fresh().await, TYPE, &arguments).await;
        assert_eq!(reply(refused), (406, format!("PRECONDITION_FAILED - {why}")));
    }
    let delayed = [("x-delayed-type", word(TYPE)), size.clone()];
    let refused = try_exchange(&fresh().await, "x-delayed-message", &delayed).await;
    let why = "PRECONDITION_FAILED - Invalid argument, 'x-message-deduplication' can't be used for \
               'x-delayed-type': name 'fanout' and set the argument 'x-message-deduplication' to \
               true";
    assert_eq!(reply(refused), (406, why.to_owned()));
    try_exchange(&fresh().await, TYPE, std::slice::from_ref(&size)).await.unwrap();
    try_exchange(&fresh().await, TYPE, std::slice::from_ref(&size)).await.unwrap();
    let refused = try_exchange(&fresh().await, "fanout", &[size]).await;
    let why = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'x' in vhost '/': \
               received 'fanout' but current is 'x-message-deduplication'";
    assert_eq!(reply(refused), (406, why.to_owned()));
}
