//! The keys of CC and BCC headers where a message is routed again: as a dead letter, and when a
//! delay is over. They are kept over a restart, and those of BCC are never shown.

use crate::client::*;
use crate::support::{TestBroker, wait_for};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret::store::MemoryDisk;
use std::sync::Arc;

/// The keys under which a message is published, in their order.
const KEYS: [&str; 3] = ["to", "copied", "hidden"];

fn words(texts: &[&str]) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(texts.iter().map(|it| word(it)).collect::<Vec<_>>()))
}

fn carbons() -> FieldTable {
    table([("CC", words(&["copied"])), ("BCC", words(&["hidden"]))])
}

async fn exchange(channel: &Channel, name: &str, kind: &str, arguments: FieldTable) {
    let kind = ExchangeKind::Custom(kind.to_owned());
    let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel.exchange_declare(name.into(), kind, options, arguments).await.unwrap();
}

/// A queue for each key behind that exchange, named so.
async fn mailboxes(channel: &Channel, exchange: &str) {
    for key in KEYS {
        declare(channel, key, durable()).await;
        bind(channel, key, exchange, key).await;
    }
}

/// What lies in each mailbox: its body, and the routing keys of its last death.
async fn arrivals(broker: &TestBroker, channel: &Channel) -> Vec<(String, Option<AMQPValue>)> {
    let mut arrivals = Vec::new();
    for key in KEYS {
        wait_for("a message", || broker.ready(key) == 1).await;
        let message = get(channel, key).await.unwrap();
        message.ack(BasicAckOptions::default()).await.unwrap();
        assert_eq!(message.routing_key.as_str(), "to");
        let headers = message.properties.headers().clone().unwrap();
        assert!(!headers.inner().contains_key("BCC"), "{headers:?}");
        let deaths = headers.inner().get("x-death").and_then(AMQPValue::as_array);
        let death = deaths.map(|deaths| deaths.as_slice()[0].as_field_table().unwrap());
        let died_with = death.and_then(|death| death.inner().get("routing-keys").cloned());
        arrivals.push((text(message.delivery.data), died_with));
    }
    arrivals
}

#[tokio::test]
async fn a_dead_letter_goes_to_all_of_its_keys_however_often_it_dies_and_after_a_restart() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "dlx", "direct", FieldTable::default()).await;
    exchange(&channel, "soon", "fanout", FieldTable::default()).await;
    mailboxes(&channel, "dlx").await;
    let dying = [("first", "soon"), ("second", "dlx")];
    for (queue, exchange) in dying {
        let arguments = table([("x-dead-letter-exchange", word(exchange))]);
        channel.queue_declare(queue.into(), durable(), arguments).await.unwrap();
    }
    bind(&channel, "first", "amq.direct", "to").await;
    bind(&channel, "second", "soon", "").await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let large = "x".repeat(100_000);
    for body in ["small", &large] {
        let properties = persistent().with_headers(carbons());
        let confirm = publish_to(&channel, "amq.direct", "to", body, properties).await;
        assert!(confirm.await.unwrap().is_ack());
    }
    drop(broker);
    let broker = TestBroker::on(disk);
    let (_connection, channel) = self::channel(&broker).await;
    for body in ["small", &large] {
        for (queue, _) in dying {
            wait_for("a message", || broker.ready(queue) > 0).await;
            let message = get(&channel, queue).await.unwrap();
            message.reject(BasicRejectOptions { requeue: false }).await.unwrap();
        }
        let expected = (body.to_owned(), Some(words(&["to", "copied"])));
        assert_eq!(arrivals(&broker, &channel).await, vec![expected; KEYS.len()]);
    }
}

#[tokio::test]
async fn a_delayed_message_goes_to_all_of_its_keys_when_its_time_has_come() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "x-delayed-message", table([("x-delayed-type", word("direct"))])).await;
    mailboxes(&channel, "x").await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut headers = carbons();
    headers.insert("x-delay".into(), AMQPValue::LongInt(200));
    let properties = persistent().with_headers(headers);
    assert!(publish_to(&channel, "x", "to", "late", properties).await.await.unwrap().is_ack());
    broker.stopped().await.unwrap();
    let broker = TestBroker::on(disk);
    let (_connection, channel) = self::channel(&broker).await;
    assert_eq!(arrivals(&broker, &channel).await, vec![("late".to_owned(), None); KEYS.len()]);
}

#[tokio::test]
async fn a_bcc_header_without_keys_is_not_shown_either() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    transient(&channel, "q").await;
    let properties = BasicProperties::default().with_headers(table([("BCC", words(&[]))]));
    publish_to(&channel, "", "q", "x", properties).await;
    let headers = get(&channel, "q").await.unwrap().delivery.properties.headers().clone();
    assert_eq!(headers, Some(FieldTable::default()));
}
