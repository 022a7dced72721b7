//! lapin, with less to say for what every test needs.

use crate::support::{TestBroker, soon};
use lapin::message::{BasicGetMessage, Delivery, DeliveryResult};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ConsumerDelegate,
    ErrorKind,
};
use std::collections::VecDeque;
use std::pin::Pin;
use tokio::sync::mpsc;

pub(crate) async fn connect(broker: &TestBroker) -> Connection {
    connect_to(&broker.url).await
}

pub(crate) async fn connect_to(url: &str) -> Connection {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    soon("the connection", connecting).await.unwrap()
}

/// A connection with one channel.
pub(crate) async fn channel(broker: &TestBroker) -> (Connection, Channel) {
    let connection = connect(broker).await;
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

pub(crate) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions::durable()
}

pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

/// Arguments or headers.
pub(crate) fn table<'a>(fields: impl IntoIterator<Item = (&'a str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in fields {
        table.insert(key.into(), value);
    }
    table
}

/// A text as an argument or header.
pub(crate) fn word(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

pub(crate) fn requeue() -> BasicNackOptions {
    BasicNackOptions { multiple: false, requeue: true }
}

pub(crate) async fn declare(channel: &Channel, queue: &str, options: QueueDeclareOptions) -> u32 {
    let declaring = channel.queue_declare(queue.into(), options, FieldTable::default());
    let declared = soon("queue.declare-ok", declaring).await.unwrap();
    declared.message_count()
}

/// A transient queue that lives as long as the broker.
pub(crate) async fn transient(channel: &Channel, queue: &str) {
    declare(channel, queue, QueueDeclareOptions::default()).await;
}

pub(crate) async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) {
    let options = QueueBindOptions::default();
    let table = FieldTable::default();
    let binding = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, table);
    soon("queue.bind-ok", binding).await.unwrap();
}

/// Publishes to the default exchange, without waiting for anything.
pub(crate) async fn publish(channel: &Channel, queue: &str, body: impl AsRef<[u8]>) {
    publish_to(channel, "", queue, body, BasicProperties::default()).await;
}

pub(crate) async fn publish_to(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: impl AsRef<[u8]>,
    properties: BasicProperties,
) -> lapin::PublisherConfirm {
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(exchange.into(), key.into(), options, body.as_ref(), properties)
        .await
        .unwrap()
}

pub(crate) async fn get(channel: &Channel, queue: &str) -> Option<BasicGetMessage> {
    let getting = channel.basic_get(queue.into(), BasicGetOptions::default());
    soon("get-ok or get-empty", getting).await.unwrap()
}

/// Takes and acknowledges what is ready: body and redelivered flag of each.
pub(crate) async fn drain(channel: &Channel, queue: &str) -> Vec<(Vec<u8>, bool)> {
    let mut taken = Vec::new();
    while let Some(message) = get(channel, queue).await {
        message.ack(BasicAckOptions::default()).await.unwrap();
        taken.push((message.delivery.data, message.delivery.redelivered));
    }
    taken
}

pub(crate) async fn bodies(channel: &Channel, queue: &str) -> Vec<String> {
    let drained = drain(channel, queue).await;
    drained.into_iter().map(|(body, _)| text(body)).collect()
}

pub(crate) fn text(body: impl Into<Vec<u8>>) -> String {
    String::from_utf8(body.into()).unwrap()
}

/// Code and text of what the server closed a channel or connection with.
#[track_caller]
pub(crate) fn reply<T>(refused: lapin::Result<T>) -> (u16, String) {
    let Err(error) = refused else {
        panic!("the server did not refuse");
    };
    match error.kind() {
        ErrorKind::ProtocolError(error) => (error.get_id(), error.get_message().to_string()),
        other => panic!("not the server's refusal: {other:?}"),
    }
}

/// A consumer and what it was sent.
pub(crate) struct Deliveries {
    pub(crate) consumer: Consumer,
    early: VecDeque<DeliveryResult>,
    received: mpsc::UnboundedReceiver<DeliveryResult>,
}

struct Forward(mpsc::UnboundedSender<DeliveryResult>);

impl ConsumerDelegate for Forward {
    fn on_new_delivery(
        &self,
        delivery: DeliveryResult,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // A test that has seen enough does not listen any more.
        let _ = self.0.send(delivery);
        Box::pin(std::future::ready(()))
    }
}

impl Deliveries {
    pub(crate) async fn start(channel: &Channel, queue: &str) -> Self {
        Self::start_with(channel, queue, BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap()
    }

    pub(crate) async fn no_ack(channel: &Channel, queue: &str) -> Self {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        Self::start_with(channel, queue, options, FieldTable::default()).await.unwrap()
    }

    pub(crate) async fn start_with(
        channel: &Channel,
        queue: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> lapin::Result<Self> {
        let consuming = channel.basic_consume(queue.into(), "".into(), options, arguments);
        let consumer = soon("consume-ok", consuming).await?;
        let (sender, mut received) = mpsc::unbounded_channel();
        consumer.set_delegate(Forward(sender.clone()));
        // lapin may be just about to keep one delivery for those who poll. Behind a reply it is
        // done with that, and setting the delegate again gives it out.
        let flushing = channel.access_request("/".into(), AccessRequestOptions::default());
        soon("access.request-ok", flushing).await?;
        consumer.set_delegate(Forward(sender));
        let mut early: Vec<_> = std::iter::from_fn(|| received.try_recv().ok()).collect();
        early.sort_by_key(|delivery| match delivery {
            Ok(Some(delivery)) => delivery.delivery_tag,
            _ => u64::MAX,
        });
        Ok(Self { consumer, early: early.into(), received })
    }

    /// The next delivery, or `None` once the server has cancelled the consumer.
    pub(crate) async fn next_or_end(&mut self) -> Option<Delivery> {
        let next = match self.early.pop_front() {
            Some(next) => Some(next),
            None => soon("a delivery", self.received.recv()).await,
        };
        next.expect("the consumer is there").unwrap()
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let next = self.next_or_end().await;
        next.expect("the consumer is not cancelled")
    }

    pub(crate) async fn next_text(&mut self) -> String {
        text(self.next().await.data)
    }

    /// The bodies of the next `count`.
    pub(crate) async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            texts.push(self.next_text().await);
        }
        texts
    }
}
