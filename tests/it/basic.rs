//! Publishing, delivering and settling, as a good client sees them.

use crate::client::*;
use crate::raw::{self, Raw};
use crate::support::{TestBroker, wait_for};
use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret::wire::method::*;

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_publish_order() {
    let broker = TestBroker::start();
    let (_publisher, publisher) = channel(&broker).await;
    let (_consumer, consumer) = channel(&broker).await;
    transient(&publisher, "q").await;
    let mut deliveries = Deliveries::no_ack(&consumer, "q").await;
    for n in 0..2_000 {
        publish(&publisher, "q", n.to_string()).await;
    }
    let expected: Vec<_> = (0..2_000).map(|n| n.to_string()).collect();
    assert_eq!(deliveries.texts(2_000).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_carries_all_that_was_published() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    let mut headers = FieldTable::default();
    headers.insert("zebra".into(), AMQPValue::LongInt(-5));
    headers.insert("ant".into(), AMQPValue::LongString("x".into()));
    let mut inner = FieldTable::default();
    inner.insert("deep".into(), AMQPValue::Boolean(true));
    headers.insert("nested".into(), AMQPValue::FieldTable(inner));
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("none".into())
        .with_headers(headers)
        .with_delivery_mode(1)
        .with_priority(7)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_expiration("600000".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("t".into())
        .with_user_id("guest".into())
        .with_app_id("a".into())
        .with_cluster_id("k".into());
    publish_to(&channel, "amq.direct", "nowhere", "lost", properties.clone()).await;
    publish_to(&channel, "", "q", "found", properties.clone()).await;
    let delivery = Deliveries::start(&channel, "q").await.next().await;
    assert_eq!(delivery.properties, properties);
    assert_eq!(delivery.exchange.as_str(), "");
    assert_eq!(delivery.routing_key.as_str(), "q");
    assert_eq!(text(delivery.data.clone()), "found");
    assert!(!delivery.redelivered);
    assert_eq!(delivery.delivery_tag, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeued_message_returns_to_its_old_place_and_says_so() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    for body in ["a", "b", "c", "d"] {
        publish(&channel, "q", body).await;
    }
    let mut taken = Vec::new();
    for _ in 0..3 {
        taken.push(get(&channel, "q").await.unwrap());
    }
    // In an order that is neither that of the queue nor its reverse.
    taken[1].nack(requeue()).await.unwrap();
    taken[2].reject(BasicRejectOptions { requeue: true }).await.unwrap();
    taken[0].nack(requeue()).await.unwrap();
    let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
    let expected = expected.map(|(body, again)| (body.as_bytes().to_vec(), again));
    assert_eq!(drain(&channel, "q").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_discarded_or_acked_is_gone() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    for body in ["acked", "rejected", "nacked", "kept"] {
        publish(&channel, "q", body).await;
    }
    let mut deliveries = Deliveries::start(&channel, "q").await;
    deliveries.next().await.ack(Default::default()).await.unwrap();
    let rejected = deliveries.next().await;
    rejected.reject(Default::default()).await.unwrap();
    deliveries.next().await.nack(Default::default()).await.unwrap();
    assert_eq!(deliveries.next_text().await, "kept");
    channel.close(200, "".into()).await.unwrap();
    let (_connection, second) = crate::client::channel(&broker).await;
    assert_eq!(drain(&second, "q").await, [(b"kept".to_vec(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn multiple_settles_everything_up_to_its_tag() {
    let broker = TestBroker::start();
    let (connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    let mut deliveries = Deliveries::start(&channel, "q").await;
    for n in 0..10 {
        publish(&channel, "q", n.to_string()).await;
    }
    deliveries.texts(10).await;
    let multiple = BasicAckOptions { multiple: true };
    channel.basic_ack(4, multiple).await.unwrap();
    let back = BasicNackOptions { multiple: true, requeue: true };
    channel.basic_nack(7, back).await.unwrap();
    assert_eq!(deliveries.texts(3).await, ["4", "5", "6"]);
    channel.basic_ack(0, multiple).await.unwrap();
    connection.close(200, "".into()).await.unwrap();
    wait_for("the queue to be empty", || {
        let counters = &broker.queue("q").counters;
        counters.ready.get() + counters.unacked.get() == 0
    })
    .await;
    assert_eq!(broker.queue("q").counters.acked.get(), 10);
}

#[test]
fn a_tag_can_be_settled_once() {
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    raw.send(&raw::publish(1, "q", raw::TRANSIENT, b"x"));
    let gotten = raw.call(&raw::get(1, "q", false), BASIC_GET_OK);
    let tag = raw.content_of(&gotten).tag;
    raw.send(&raw::ack(1, tag, false).repeat(2));
    let expected = "PRECONDITION_FAILED - unknown delivery tag 1";
    let closed = raw.expect_close(CHANNEL_CLOSE);
    assert_eq!(closed, (406, expected.to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetch_bounds_what_a_consumer_has_unacked() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    channel.basic_qos(3, Default::default()).await.unwrap();
    let mut deliveries = Deliveries::start(&channel, "q").await;
    for n in 0..10 {
        publish(&channel, "q", n.to_string()).await;
    }
    for n in 0..10 {
        // Behind the reply stands every delivery that the broker will make by itself.
        transient(&channel, "q").await;
        assert_eq!(broker.queue("q").counters.unacked.get(), 3.min(10 - n));
        let delivery = deliveries.next().await;
        assert_eq!(text(delivery.data.clone()), n.to_string());
        delivery.ack(Default::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_prefetch_is_shared_by_the_consumers_of_a_channel() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "a").await;
    transient(&channel, "b").await;
    let global = BasicQosOptions { global: true };
    channel.basic_qos(4, global).await.unwrap();
    let mut a = Deliveries::start(&channel, "a").await;
    let mut b = Deliveries::start(&channel, "b").await;
    for n in 0..4 {
        publish(&channel, "a", n.to_string()).await;
    }
    assert_eq!(a.texts(4).await, ["0", "1", "2", "3"]);
    publish(&channel, "b", "late").await;
    transient(&channel, "b").await;
    assert_eq!(broker.ready("b"), 1);
    channel.basic_ack(1, Default::default()).await.unwrap();
    assert_eq!(b.next_text().await, "late");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_connection_had_unacked_comes_back_in_order() {
    let broker = TestBroker::start();
    let (first, lost) = channel(&broker).await;
    transient(&lost, "q").await;
    for n in 0..100 {
        publish(&lost, "q", n.to_string()).await;
    }
    let mut deliveries = Deliveries::start(&lost, "q").await;
    deliveries.texts(50).await;
    first.close(200, "".into()).await.unwrap();
    let (_second, channel) = channel(&broker).await;
    let mut again = Deliveries::no_ack(&channel, "q").await;
    for n in 0..100 {
        let delivery = again.next().await;
        assert_eq!(text(delivery.data.clone()), n.to_string());
        // The others had been delivered too, but for those that had not left the broker.
        assert!(delivery.redelivered || n >= 50, "message {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_redelivers_what_is_unacked_with_new_tags() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    let mut deliveries = Deliveries::start(&channel, "q").await;
    publish(&channel, "q", "a").await;
    publish(&channel, "q", "b").await;
    deliveries.texts(2).await;
    let options = BasicRecoverOptions { requeue: true };
    channel.basic_recover(options).await.unwrap();
    let (a, b) = (deliveries.next().await, deliveries.next().await);
    let seen = [&a, &b].map(|d| (d.delivery_tag, d.redelivered, text(d.data.clone())));
    assert_eq!(seen, [(3, true, "a".into()), (4, true, "b".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn get_says_how_many_are_left() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    publish(&channel, "q", "a").await;
    publish(&channel, "q", "b").await;
    let a = get(&channel, "q").await.unwrap();
    assert_eq!((a.message_count, a.delivery_tag, a.redelivered), (1, 1, false));
    let b = get(&channel, "q").await.unwrap();
    assert_eq!((b.message_count, b.delivery_tag), (0, 2));
    assert!(get(&channel, "q").await.is_none());
    a.nack(requeue()).await.unwrap();
    let a = get(&channel, "q").await.unwrap();
    assert_eq!((a.delivery_tag, a.redelivered), (3, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declare_sees_the_publish_and_the_ack_before_it() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    for n in 1..=50 {
        publish(&channel, "q", "x").await;
        assert_eq!(declare(&channel, "q", Default::default()).await, n);
    }
    let message = get(&channel, "q").await.unwrap();
    message.nack(requeue()).await.unwrap();
    assert_eq!(declare(&channel, "q", Default::default()).await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_take_turns() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    let mut a = Deliveries::start(&channel, "q").await;
    let mut b = Deliveries::start(&channel, "q").await;
    for n in 0..10 {
        publish(&channel, "q", n.to_string()).await;
    }
    assert_eq!(a.texts(5).await, ["0", "2", "4", "6", "8"]);
    assert_eq!(b.texts(5).await, ["1", "3", "5", "7", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_higher_priority_is_served_until_it_is_full() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    channel.basic_qos(2, Default::default()).await.unwrap();
    let mut low = Deliveries::start(&channel, "q").await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongInt(5));
    let consuming = Deliveries::start_with(&channel, "q", Default::default(), arguments);
    let mut high = consuming.await.unwrap();
    for n in 0..4 {
        publish(&channel, "q", n.to_string()).await;
    }
    assert_eq!(high.texts(2).await, ["0", "1"]);
    assert_eq!(low.texts(2).await, ["2", "3"]);
}
