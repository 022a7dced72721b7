//! Large messages, many channels, several brokers and several vhosts.

use crate::client::*;
use crate::raw::{self, Raw};
use crate::support::{TestBroker, pattern, soon};
use leveret::config::UserConfig;
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::sync::Arc;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_pass_unchanged_both_ways() {
    let broker = TestBroker::start();
    let (_publisher, publisher) = channel(&broker).await;
    let (_consumer, consumer) = channel(&broker).await;
    declare(&publisher, "q", durable()).await;
    publisher.confirm_select(Default::default()).await.unwrap();
    let mut deliveries = Deliveries::start(&consumer, "q").await;
    for (seed, len) in [0, 1, 131_064, 131_065, MIB, 20 * MIB, MIB + 1].into_iter().enumerate() {
        let body = pattern(seed as u64, len);
        let confirm = publish_to(&publisher, "", "q", &body, persistent()).await;
        let delivery = deliveries.next().await;
        assert!(delivery.data == body, "a body of {len} bytes came back changed");
        delivery.ack(Default::default()).await.unwrap();
        assert!(soon("a confirm", confirm).await.unwrap().is_ack());
    }
}

#[test]
fn a_body_may_come_in_pieces_of_any_size() {
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let body = pattern(7, 300_000);
    for piece in [1_000, 16_383, 16_384, 16_385, 100_000, 131_064] {
        let mut bytes = raw::publish_method(1, "", "q", 0);
        bytes.extend(raw::content_header(1, body.len() as u64, raw::TRANSIENT));
        for piece in body.chunks(piece) {
            bytes.extend(raw::frame(3, 1, piece));
        }
        // In writes that end anywhere.
        for write in bytes.chunks(9_973) {
            raw.send(write);
        }
        let gotten = raw.call(&raw::get(1, "q", true), BASIC_GET_OK);
        assert!(raw.content_of(&gotten).body == body, "in pieces of {piece}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_channels_work_side_by_side() {
    let broker = TestBroker::start();
    let connection = connect(&broker).await;
    let mut channels = Vec::new();
    for n in 0..200 {
        let channel = connection.create_channel().await.unwrap();
        let queue = format!("q{n}");
        transient(&channel, &queue).await;
        let deliveries = Deliveries::no_ack(&channel, &queue).await;
        channels.push((channel, queue, deliveries));
    }
    for round in 0..5 {
        for (n, (channel, ..)) in channels.iter().enumerate() {
            // Each publishes to its neighbour.
            let neighbour = format!("q{}", (n + 1) % 200);
            publish(channel, &neighbour, format!("{round} from {n}")).await;
        }
    }
    for (n, (_, _, deliveries)) in channels.iter_mut().enumerate() {
        let from = (n + 199) % 200;
        let expected: Vec<_> = (0..5).map(|round| format!("{round} from {from}")).collect();
        assert_eq!(deliveries.texts(5).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_brokers_live_in_one_process() {
    let brokers: Vec<_> = (0..4).map(|_| TestBroker::start()).collect();
    for (n, broker) in brokers.iter().enumerate() {
        let (_connection, channel) = channel(broker).await;
        declare(&channel, "q", durable()).await;
        publish(&channel, "q", format!("of broker {n}")).await;
        assert_eq!(declare(&channel, "q", durable()).await, 1);
    }
    let mut brokers = brokers.into_iter();
    let stopped = brokers.next().unwrap();
    stopped.stopped().await.unwrap();
    for (n, broker) in brokers.enumerate() {
        let (_connection, channel) = channel(&broker).await;
        assert_eq!(bodies(&channel, "q").await, [format!("of broker {}", n + 1)]);
    }
}

/// A broker with a second vhost, and a user who may enter both.
fn with_two_vhosts() -> TestBroker {
    let mut config = Config::on_loopback("unused");
    config.vhosts.push("second".into());
    config.users.push(UserConfig::new("ann", "secret"));
    let disk = Arc::new(MemoryDisk::new());
    TestBroker::run(move || Server::start_on(config, disk)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vhosts_do_not_see_each_other() {
    let broker = with_two_vhosts();
    let url = |vhost| format!("amqp://ann:secret@{}/{vhost}", broker.address);
    let first = connect_to(&url("%2f")).await.create_channel().await.unwrap();
    let second = connect_to(&url("second")).await.create_channel().await.unwrap();
    for channel in [&first, &second] {
        transient(channel, "q").await;
        bind(channel, "q", "amq.direct", "k").await;
    }
    publish(&first, "q", "by name").await;
    publish_to(&first, "amq.direct", "k", "by key", Default::default()).await;
    assert!(get(&second, "q").await.is_none());
    publish(&second, "q", "of the second").await;
    assert_eq!(bodies(&first, "q").await, ["by name", "by key"]);
    first.queue_delete("q".into(), Default::default()).await.unwrap();
    assert_eq!(bodies(&second, "q").await, ["of the second"]);
}

#[test]
fn a_vhost_is_closed_to_those_without_permissions() {
    let broker = with_two_vhosts();
    let mut raw = Raw::dial(broker.address);
    raw.send(raw::HEADER);
    raw.expect(CONNECTION_START);
    raw.send(&raw::start_ok(b"\0guest\0guest"));
    raw.expect(CONNECTION_TUNE);
    raw.send(&[raw::tune_ok(), raw::open("second")].concat());
    let expected = "NOT_ALLOWED - access to vhost 'second' refused for user 'guest'";
    assert_eq!(raw.expect_close(CONNECTION_CLOSE), (530, expected.to_owned()));
}

#[test]
fn a_vhost_that_is_not_there_is_refused_by_name() {
    let broker = TestBroker::start();
    let mut raw = Raw::dial(broker.address);
    raw.send(raw::HEADER);
    raw.expect(CONNECTION_START);
    raw.send(&raw::start_ok(b"\0guest\0guest"));
    raw.expect(CONNECTION_TUNE);
    raw.send(&[raw::tune_ok(), raw::open("nowhere")].concat());
    let expected = "NOT_ALLOWED - vhost nowhere not found";
    assert_eq!(raw.expect_close(CONNECTION_CLOSE), (530, expected.to_owned()));
}
