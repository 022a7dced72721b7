//! The lives of queues and consumers: exclusive, auto-delete, purged, deleted, direct replies.

use crate::client::*;
use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_for};
use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::FieldTable;
use leveret::wire::method::*;

const EXCLUSIVE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: false,
    exclusive: true,
    auto_delete: false,
    nowait: false,
};

const AUTO_DELETE: QueueDeclareOptions =
    QueueDeclareOptions { auto_delete: true, exclusive: false, ..EXCLUSIVE };

fn exists(broker: &TestBroker, queue: &str) -> bool {
    broker.broker.vhost("/").unwrap().queue(queue).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_is_its_connections_own_and_goes_with_it() {
    let broker = TestBroker::start();
    let (owner, channel) = channel(&broker).await;
    declare(&channel, "mine", EXCLUSIVE).await;
    let (_other, other) = crate::client::channel(&broker).await;
    publish(&other, "mine", "from another connection").await;
    let refused = reply(other.basic_get("mine".into(), Default::default()).await);
    assert_eq!(refused.0, 405);
    let start = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine'";
    assert!(refused.1.starts_with(start), "{refused:?}");
    assert_eq!(bodies(&channel, "mine").await, ["from another connection"]);
    // Gone before close-ok.
    owner.close(200, "".into()).await.unwrap();
    assert!(!exists(&broker, "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_goes_with_a_connection_that_breaks() {
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "mine", 4), QUEUE_DECLARE_OK);
    assert!(exists(&broker, "mine"));
    drop(raw);
    wait_for("the exclusive queue to go", || !exists(&broker, "mine")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let broker = TestBroker::start();
    let (connection, channel) = channel(&broker).await;
    declare(&channel, "q", AUTO_DELETE).await;
    publish(&channel, "q", "x").await;
    let gotten = get(&channel, "q").await.unwrap();
    gotten.ack(Default::default()).await.unwrap();
    assert!(exists(&broker, "q"), "a get is no consumer");
    let first = Deliveries::start(&channel, "q").await;
    let second = Deliveries::start(&channel, "q").await;
    for (consumer, left) in [(first.consumer, true), (second.consumer, false)] {
        channel.basic_cancel(consumer.tag(), Default::default()).await.unwrap();
        // Before cancel-ok.
        assert_eq!(exists(&broker, "q"), left);
    }
    declare(&channel, "q", AUTO_DELETE).await;
    let _consumer = Deliveries::start(&channel, "q").await;
    let _another = connection.create_channel().await.unwrap();
    channel.close(200, "".into()).await.unwrap();
    assert!(!exists(&broker, "q"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_a_name_gets_one() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let declaring = channel.queue_declare("".into(), EXCLUSIVE, FieldTable::default());
        names.push(declaring.await.unwrap().name().to_string());
    }
    assert_ne!(names[0], names[1]);
    for name in &names {
        assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
        assert!(exists(&broker, name));
    }
    publish(&channel, &names[1], "x").await;
    // An empty name is that of the last declared.
    assert_eq!(bodies(&channel, "").await, ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_drops_what_is_ready_and_nothing_else() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    for n in 0..10 {
        publish(&channel, "q", n.to_string()).await;
    }
    let kept = get(&channel, "q").await.unwrap();
    let purged = channel.queue_purge("q".into(), Default::default()).await;
    assert_eq!(purged.unwrap(), 9);
    assert!(get(&channel, "q").await.is_none());
    kept.nack(requeue()).await.unwrap();
    assert_eq!(bodies(&channel, "q").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_queue_cancels_its_consumers() {
    let broker = TestBroker::start();
    let (_connection, deleter) = channel(&broker).await;
    let (_other, other) = channel(&broker).await;
    transient(&deleter, "q").await;
    let mut consumer = Deliveries::start(&other, "q").await;
    publish(&deleter, "q", "a").await;
    let delivery = consumer.next().await;
    publish(&deleter, "q", "b").await;
    consumer.next().await;
    let deleted = deleter.queue_delete("q".into(), Default::default()).await;
    assert_eq!(deleted.unwrap(), 0);
    assert!(consumer.next_or_end().await.is_none());
    // Settling what came from it is nobody's mistake.
    delivery.ack(Default::default()).await.unwrap();
    transient(&other, "q").await;
    assert_eq!(broker.ready("q"), 0);
}

#[test]
fn the_deleter_hears_delete_ok_before_its_own_consumers_end() {
    let broker = TestBroker::start();
    let mut raw = Raw::dial(broker.address);
    raw.send(raw::HEADER);
    raw.expect(CONNECTION_START);
    let capability = [&[22][..], b"consumer_cancel_notify", b"t\x01"].concat();
    let capabilities = Fields::default().shortstr("capabilities").octet(b'F');
    let start_ok = Fields::default()
        .longstr(&capabilities.longstr(&capability).0)
        .shortstr("PLAIN")
        .longstr(b"\0guest\0guest")
        .shortstr("en_US");
    raw.send(&raw::method(0, CONNECTION_START_OK, start_ok));
    raw.expect(CONNECTION_TUNE);
    raw.send(&[raw::tune_ok(), raw::open("/"), raw::channel_open(1)].concat());
    raw.expect(CONNECTION_OPEN_OK);
    raw.expect(CHANNEL_OPEN_OK);
    raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    raw.call(&raw::consume(1, "q", false), BASIC_CONSUME_OK);
    let delete = Fields::default().short(0).shortstr("q").octet(0);
    raw.call(&raw::method(1, QUEUE_DELETE, delete), QUEUE_DELETE_OK);
    raw.expect(BASIC_CANCEL);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_delete_says_why_not() {
    let broker = TestBroker::start();
    let (connection, first) = channel(&broker).await;
    transient(&first, "q").await;
    publish(&first, "q", "x").await;
    let if_empty = QueueDeleteOptions { if_empty: true, ..Default::default() };
    let refused = reply(first.queue_delete("q".into(), if_empty).await);
    let expected = "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty";
    assert_eq!(refused, (406, expected.to_owned()));
    let second = connection.create_channel().await.unwrap();
    let _consumer = Deliveries::start(&second, "q").await;
    let if_unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    let refused = reply(second.queue_delete("q".into(), if_unused).await);
    let expected = "PRECONDITION_FAILED - queue 'q' in vhost '/' in use";
    assert_eq!(refused, (406, expected.to_owned()));
    let third = connection.create_channel().await.unwrap();
    let deleted = third.queue_delete("q".into(), Default::default()).await;
    assert_eq!(deleted.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_consumer_is_alone() {
    let broker = TestBroker::start();
    let (connection, first) = channel(&broker).await;
    transient(&first, "q").await;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let alone = Deliveries::start_with(&first, "q", options, FieldTable::default());
    let alone = alone.await.unwrap();
    let second = connection.create_channel().await.unwrap();
    let refused = second
        .basic_consume("q".into(), "".into(), Default::default(), FieldTable::default())
        .await;
    let expected = "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use";
    assert_eq!(reply(refused), (403, expected.to_owned()));
    first.basic_cancel(alone.consumer.tag(), Default::default()).await.unwrap();
    let third = connection.create_channel().await.unwrap();
    let mut next = Deliveries::start(&third, "q").await;
    publish(&first, "q", "x").await;
    assert_eq!(next.next_text().await, "x");
}

#[test]
fn cancel_ok_follows_the_last_delivery() {
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let consume = Fields::default().short(0).shortstr("q").shortstr("tag");
    let consume = raw::method(1, BASIC_CONSUME, consume.octet(0).longstr(&[]));
    let cancel = Fields::default().shortstr("tag").octet(0);
    let cancel = raw::method(1, BASIC_CANCEL, cancel);
    let body = [b'x'; 100];
    let publishes = raw::publish(1, "q", raw::TRANSIENT, &body).repeat(500);
    // consume, publish and cancel in one write: whatever is delivered lies between the replies.
    raw.call(&[consume, publishes, cancel].concat(), BASIC_CONSUME_OK);
    let mut delivered = 0;
    loop {
        let frame = raw.frame();
        match frame.method() {
            Some(BASIC_DELIVER) => delivered += u32::from(raw.content_of(&frame).body == body),
            method => break assert_eq!(method, Some(BASIC_CANCEL_OK)),
        }
    }
    let ready = raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let mut fields = ready.fields();
    fields.shortstr();
    assert_eq!(fields.long() + delivered, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_reply_reaches_the_asker_alone() {
    const REPLIES: &str = "amq.rabbitmq.reply-to";
    let broker = TestBroker::start();
    let (_asking, asker) = channel(&broker).await;
    let (_answering, answerer) = channel(&broker).await;
    transient(&answerer, "requests").await;
    let mut requests = Deliveries::no_ack(&answerer, "requests").await;
    let mut replies = Deliveries::no_ack(&asker, REPLIES).await;
    let mut addresses = Vec::new();
    for n in 0..10 {
        let properties = BasicProperties::default()
            .with_reply_to(REPLIES.into())
            .with_correlation_id(n.to_string().into());
        publish_to(&asker, "", "requests", n.to_string(), properties).await;
        let request = requests.next().await;
        let address = request.properties.reply_to().clone().unwrap();
        assert!(address.as_str().starts_with(&format!("{REPLIES}.")), "{address}");
        let body = format!("re {}", text(request.data.clone()));
        publish(&answerer, address.as_str(), body).await;
        assert_eq!(replies.next_text().await, format!("re {n}"));
        addresses.push(address);
    }
    asker.basic_cancel(replies.consumer.tag(), Default::default()).await.unwrap();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    answerer.confirm_select(Default::default()).await.unwrap();
    let properties = BasicProperties::default();
    let late = answerer
        .basic_publish("".into(), addresses[9].clone(), options, b"late", properties)
        .await
        .unwrap();
    assert!(late.await.unwrap().take_message().is_some(), "nobody waits for it");
}

#[test]
fn direct_replies_need_a_consumer_without_acks() {
    const REPLIES: &str = "amq.rabbitmq.reply-to";
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    raw.send(&raw::consume(1, REPLIES, false));
    let expected = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    let closed = raw.expect_close(CHANNEL_CLOSE);
    assert_eq!(closed, (406, expected.to_owned()));
    raw.call(&raw::channel_open(2), CHANNEL_OPEN_OK);
    let reply_to = Fields::default().short(1 << 9).shortstr(REPLIES).0;
    raw.send(&raw::publish(2, "q", &reply_to, b"x"));
    let expected = "PRECONDITION_FAILED - fast reply consumer does not exist";
    let closed = raw.expect_close(CHANNEL_CLOSE);
    assert_eq!(closed, (406, expected.to_owned()));
}
