//! What lives for a while and where it goes then, as clients see it: expiry, length limits, dead
//! letters, priorities and single active consumers, also over a restart.

use crate::client::*;
use crate::support::{TestBroker, wait_for};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation};
use leveret::store::MemoryDisk;
use leveret::time::UnixMillis;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

/// Dead letters go to that queue.
fn mourned_by(queue: &str) -> [(&'static str, AMQPValue); 2] {
    [("x-dead-letter-exchange", word("")), ("x-dead-letter-routing-key", word(queue))]
}

async fn declare_with(
    channel: &Channel,
    queue: &str,
    arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>,
) {
    channel.queue_declare(queue.into(), durable(), table(arguments)).await.unwrap();
}

/// A channel in confirm mode.
async fn confirming(broker: &TestBroker) -> (lapin::Connection, Channel) {
    let (connection, channel) = channel(broker).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn store(channel: &Channel, queue: &str, body: &str, properties: BasicProperties) {
    let confirm = publish_to(channel, "", queue, body, properties).await;
    assert!(confirm.await.unwrap().is_ack());
}

/// Ends the broker in good order and starts it again.
async fn restarted(broker: TestBroker, disk: &Arc<MemoryDisk>) -> TestBroker {
    broker.stopped().await.unwrap();
    TestBroker::on(disk.clone())
}

fn headers(properties: &BasicProperties) -> FieldTable {
    properties.headers().clone().expect("a dead letter has headers")
}

fn field(table: &FieldTable, key: &str) -> Option<AMQPValue> {
    table.inner().get(key).cloned()
}

/// The one entry of x-death.
fn death(table: &FieldTable) -> FieldTable {
    let Some(AMQPValue::FieldArray(deaths)) = field(table, "x-death") else { panic!("{table:?}") };
    let [AMQPValue::FieldTable(death)] = deaths.as_slice() else { panic!("{deaths:?}") };
    death.clone()
}

#[tokio::test]
async fn a_delay_queue_passes_all_on_in_order_and_none_too_early() {
    const DELAY_MS: u16 = 300;
    const MESSAGES: usize = 100;
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "work", durable()).await;
    let delay = [("x-message-ttl", number(DELAY_MS.into()))];
    declare_with(&channel, "delay", delay.into_iter().chain(mourned_by("work"))).await;
    let mut work = Deliveries::no_ack(&channel, "work").await;
    let mut published = Vec::new();
    for n in 0..MESSAGES {
        published.push(Instant::now());
        publish_to(&channel, "", "delay", n.to_string(), persistent()).await;
    }
    for (n, published) in published.into_iter().enumerate() {
        let delivery = work.next().await;
        // The broker counts whole milliseconds.
        let least = Duration::from_millis(u64::from(DELAY_MS) - 1);
        assert!(published.elapsed() >= least, "message {n} is early");
        assert_eq!(text(delivery.data), n.to_string());
    }
    wait_for("the delay queue to be empty", || broker.ready("delay") == 0).await;
    assert_eq!(broker.queue("delay").counters.unacked.get(), 0);
}

#[tokio::test]
async fn a_rejected_message_tells_why_it_is_where_it_is() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    declare_with(&channel, "q", mourned_by("dead")).await;
    let properties = persistent().with_expiration("60000".into());
    store(&channel, "q", "x", properties).await;
    let message = get(&channel, "q").await.unwrap();
    message.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    let mut dead = Deliveries::no_ack(&channel, "dead").await;
    let letter = dead.next().await;
    assert_eq!(
        (&*letter.data, letter.exchange.as_str(), letter.routing_key.as_str()),
        (&b"x"[..], "", "dead")
    );
    assert!(!letter.redelivered, "it is new where it is");
    assert_eq!(
        (letter.properties.expiration(), letter.properties.delivery_mode()),
        (&None, &Some(2))
    );
    let headers = headers(&letter.properties);
    for (key, said) in [
        ("x-first-death-reason", "rejected"),
        ("x-first-death-queue", "q"),
        ("x-first-death-exchange", ""),
        ("x-last-death-reason", "rejected"),
        ("x-last-death-queue", "q"),
        ("x-last-death-exchange", ""),
    ] {
        assert_eq!(field(&headers, key), Some(word(said)), "{key}");
    }
    let death = death(&headers);
    for (key, said) in [
        ("count", number(1)),
        ("reason", word("rejected")),
        ("queue", word("q")),
        ("exchange", word("")),
        ("routing-keys", AMQPValue::FieldArray(FieldArray::from(vec![word("q")]))),
        ("original-expiration", word("60000")),
    ] {
        assert_eq!(field(&death, key), Some(said), "{key}");
    }
    assert!(matches!(field(&death, "time"), Some(AMQPValue::Timestamp(at)) if at > 0));
}

/// Takes the queue's next message and rejects it; the headers that it had.
async fn kill(broker: &TestBroker, channel: &Channel, queue: &str) -> FieldTable {
    wait_for("a message", || broker.ready(queue) > 0).await;
    let message = get(channel, queue).await.unwrap();
    message.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    message.properties.headers().clone().unwrap_or_default()
}

/// The queues of all deaths, the latest first, and how often it died there.
fn deaths(table: &FieldTable) -> Vec<(AMQPValue, AMQPValue)> {
    let Some(AMQPValue::FieldArray(deaths)) = field(table, "x-death") else { panic!("{table:?}") };
    let deaths = deaths.as_slice().iter().map(|death| death.as_field_table().unwrap());
    deaths.map(|it| (field(it, "queue").unwrap(), field(it, "count").unwrap())).collect()
}

#[tokio::test]
async fn a_dead_letter_that_is_published_again_begins_anew() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    for queue in ["first", "second"] {
        declare_with(&channel, queue, mourned_by("dead")).await;
    }
    let mut dead = Deliveries::no_ack(&channel, "dead").await;
    store(&channel, "first", "x", persistent().with_headers(table([("mine", number(1))]))).await;
    kill(&broker, &channel, "first").await;
    let letter = dead.next().await;
    assert_eq!(deaths(&headers(&letter.properties)), [(word("first"), number(1))]);
    store(&channel, "second", "x", letter.properties.clone()).await;
    // Until it dies its publisher's headers are nobody else's affair.
    let passed_on = kill(&broker, &channel, "second").await;
    assert_eq!(Some(passed_on), *letter.properties.headers());
    let letter = dead.next().await;
    let headers = headers(&letter.properties);
    assert_eq!(deaths(&headers), [(word("second"), number(1))]);
    assert_eq!(field(&headers, "x-first-death-queue"), Some(word("second")));
    assert_eq!(field(&headers, "mine"), Some(number(1)));
}

#[tokio::test]
async fn deaths_that_a_publisher_wrote_close_no_circle() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "target", durable()).await;
    let at_once = [("x-message-ttl", number(0))];
    declare_with(&channel, "q", at_once.into_iter().chain(mourned_by("target"))).await;
    let death = table([("queue", word("target")), ("reason", word("expired"))]);
    let told = AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)]));
    store(&channel, "q", "x", persistent().with_headers(table([("x-death", told)]))).await;
    let letter = Deliveries::no_ack(&channel, "target").await.next().await;
    assert_eq!(deaths(&headers(&letter.properties)), [(word("q"), number(1))]);
}

#[tokio::test]
async fn after_a_restart_it_is_known_who_wrote_of_deaths() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    declare_with(&channel, "middle", mourned_by("dead")).await;
    declare_with(&channel, "q", mourned_by("middle")).await;
    let large = "x".repeat(100_000);
    for body in ["small", &large] {
        store(&channel, "q", body, persistent()).await;
        kill(&broker, &channel, "q").await;
        wait_for("the dead letter", || broker.ready("middle") % 2 == 1).await;
        let death = table([("queue", word("q")), ("reason", word("rejected"))]);
        let told = AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::FieldTable(death)]));
        let properties = persistent().with_headers(table([("x-death", told)]));
        store(&channel, "middle", body, properties).await;
    }
    drop(connection);
    let broker = restarted(broker, &disk).await;
    let (_connection, channel) = self::channel(&broker).await;
    let mut dead = Deliveries::no_ack(&channel, "dead").await;
    for body in ["small", &large] {
        for queues in [&["middle", "q"][..], &["middle"]] {
            kill(&broker, &channel, "middle").await;
            let letter = dead.next().await;
            let expected: Vec<_> = queues.iter().map(|it| (word(it), number(1))).collect();
            assert_eq!(deaths(&headers(&letter.properties)), expected);
            assert_eq!(text(letter.data), *body);
        }
    }
}

#[tokio::test]
async fn a_checkpoint_knows_what_has_moved() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    declare_with(&channel, "q", mourned_by("dead")).await;
    store(&channel, "q", "x", persistent()).await;
    broker.broker.checkpoint(&*disk).unwrap();
    let message = get(&channel, "q").await.unwrap();
    message.reject(BasicRejectOptions { requeue: false }).await.unwrap();
    wait_for("the dead letter", || broker.ready("dead") == 1).await;
    drop(connection);
    let broker = restarted(broker, &disk).await;
    assert_eq!((broker.ready("q"), broker.ready("dead")), (0, 1));
}

#[tokio::test]
async fn a_message_expires_after_a_restart_when_it_would_have_without() {
    const TTL_MS: u16 = 900;
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    declare_with(&channel, "q", mourned_by("dead")).await;
    let due = |broker: &TestBroker| broker.queue("q").alive().unwrap().due;
    let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    store(&channel, "q", "x", persistent().with_expiration(TTL_MS.to_string().into())).await;
    let before = due(&broker);
    drop(connection);
    let broker = restarted(broker, &disk).await;
    // On a slow machine it may have gone on already.
    let mut dues = vec![before, due(&broker)];
    dues.retain(|due| *due != UnixMillis::NEVER);
    dues.dedup();
    assert!(dues.len() <= 1, "{dues:?}");
    let (_connection, channel) = self::channel(&broker).await;
    let letter = Deliveries::no_ack(&channel, "dead").await.next().await;
    let Some(AMQPValue::Timestamp(died)) = field(&death(&headers(&letter.properties)), "time")
    else {
        panic!("it says when it died");
    };
    assert!(u128::from(died) >= (published.as_millis() + u128::from(TTL_MS)) / 1000);
    assert_eq!(broker.ready("q"), 0);
}

#[tokio::test]
async fn an_unused_queue_ends_after_a_restart_too() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (connection, channel) = confirming(&broker).await;
    declare_with(&channel, "q", [("x-expires", number(60_000))]).await;
    declare_with(&channel, "short", [("x-expires", number(300))]).await;
    drop(connection);
    let broker = restarted(broker, &disk).await;
    let queue = |name: &str| broker.broker.vhost("/").unwrap().queue(name);
    wait_for("the end of the queue", || queue("short").is_none()).await;
    assert!(queue("q").is_some());
    let broker = restarted(broker, &disk).await;
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.queue("short").is_none(), "and it stays away");
}

#[tokio::test]
async fn the_oldest_of_too_many_go_to_the_dead_letter_queue() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    let limit = [("x-max-length", number(2))];
    declare_with(&channel, "q", limit.into_iter().chain(mourned_by("dead"))).await;
    for n in 0..5 {
        store(&channel, "q", &n.to_string(), persistent()).await;
    }
    wait_for("the dead letters", || broker.ready("dead") == 3).await;
    assert_eq!(bodies(&channel, "q").await, ["3", "4"]);
    let first = get(&channel, "dead").await.unwrap();
    let reason = field(&death(&headers(&first.delivery.properties)), "reason");
    assert_eq!((text(first.delivery.data), reason), ("0".to_owned(), Some(word("maxlen"))));
    assert_eq!(bodies(&channel, "dead").await, ["1", "2"]);
}

#[tokio::test]
async fn a_full_queue_nacks_and_takes_again_what_has_room() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    let overflow = [("x-max-length", number(2)), ("x-overflow", word("reject-publish"))];
    declare_with(&channel, "q", overflow).await;
    let mut told = Vec::new();
    for n in 0..4 {
        let confirm = publish_to(&channel, "", "q", n.to_string(), persistent()).await;
        told.push(confirm.await.unwrap().is_ack());
    }
    assert_eq!(told, [true, true, false, false]);
    assert_eq!(bodies(&channel, "q").await, ["0", "1"]);
    let confirm = publish_to(&channel, "", "q", "room", persistent()).await;
    assert!(matches!(confirm.await.unwrap(), Confirmation::Ack(None)));
    assert_eq!(bodies(&channel, "q").await, ["room"]);
}

#[tokio::test]
async fn a_backlog_keeps_its_priorities_over_a_restart() {
    const MESSAGES: usize = 300;
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (connection, channel) = confirming(&broker).await;
    declare_with(&channel, "q", [("x-max-priority", number(3))]).await;
    let priority = |n: usize| u8::try_from(n * 7 % 5).unwrap();
    let mut confirms = Vec::new();
    for n in 0..MESSAGES {
        let properties = persistent().with_priority(priority(n));
        confirms.push(publish_to(&channel, "", "q", n.to_string(), properties).await);
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_ack());
    }
    drop(connection);
    let broker = restarted(broker, &disk).await;
    let (_connection, channel) = self::channel(&broker).await;
    let mut expected: Vec<_> = (0..MESSAGES).collect();
    // More than the queue's own highest count as that.
    expected.sort_by_key(|n| std::cmp::Reverse(priority(*n).min(3)));
    let mut deliveries = Deliveries::no_ack(&channel, "q").await;
    let expected: Vec<_> = expected.into_iter().map(|n| n.to_string()).collect();
    assert_eq!(deliveries.texts(MESSAGES).await, expected);
}

#[tokio::test]
async fn the_next_single_active_consumer_takes_over_what_the_last_one_left() {
    let broker = TestBroker::start();
    let (_connection, publisher) = confirming(&broker).await;
    declare_with(&publisher, "q", [("x-single-active-consumer", AMQPValue::Boolean(true))]).await;
    let (first_connection, first) = channel(&broker).await;
    let (_second_connection, second) = channel(&broker).await;
    let mut active = Deliveries::start(&first, "q").await;
    let mut waiting = Deliveries::start(&second, "q").await;
    for n in 0..10 {
        store(&publisher, "q", &n.to_string(), persistent()).await;
    }
    for n in 0..10 {
        let delivery = active.next().await;
        assert_eq!((text(delivery.data.clone()), delivery.redelivered), (n.to_string(), false));
        if n < 4 {
            delivery.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    first_connection.close(200, "".into()).await.unwrap();
    for n in 4..10 {
        let delivery = waiting.next().await;
        assert_eq!((text(delivery.data), delivery.redelivered), (n.to_string(), true));
    }
    assert_eq!(broker.ready("q"), 0);
}
