//! Short forms of lapin's calls.

use client_patterns::{Done, SOON, name, url};
use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use lapin::{ErrorKind, ExchangeKind};
use tokio::time::{Duration, sleep, timeout};
use tokio_stream::StreamExt;

pub async fn connect(address: &str) -> Done<Connection> {
    Ok(timeout(
        SOON,
        Connection::connect(address, ConnectionProperties::default()),
    )
    .await??)
}

/// A channel on a connection of its own; the connection ends with the pair.
pub async fn channel() -> Done<(Connection, Channel)> {
    let connection = connect(url()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

pub async fn finish(connection: Connection) -> Done {
    connection.close(200, "done".into()).await?;
    Ok(())
}

pub async fn exclusive_queue(channel: &Channel, queue: &str) -> Done<String> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(queue.name().to_string())
}

pub async fn server_queue(channel: &Channel) -> Done<String> {
    let queue = exclusive_queue(channel, "").await?;
    assert!(queue.starts_with("amq.gen"), "name {queue}");
    Ok(queue)
}

pub async fn count(channel: &Channel, queue: &str) -> Done<u32> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let queue = channel
        .queue_declare(queue.into(), passive, FieldTable::default())
        .await?;
    Ok(queue.message_count())
}

pub async fn exchange(channel: &Channel, suffix: &str, kind: ExchangeKind) -> Done<String> {
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..Default::default()
    };
    channel
        .exchange_declare(name(suffix).into(), kind, options, FieldTable::default())
        .await?;
    Ok(name(suffix))
}

pub async fn bind(ch: &Channel, queue: &str, exchange: &str, key: &str, table: FieldTable) -> Done {
    let options = QueueBindOptions::default();
    Ok(ch
        .queue_bind(queue.into(), exchange.into(), key.into(), options, table)
        .await?)
}

pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Done<lapin::PublisherConfirm> {
    let options = BasicPublishOptions::default();
    Ok(channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await?)
}

pub async fn send(channel: &Channel, exchange: &str, key: &str, body: &str) -> Done {
    publish(
        channel,
        exchange,
        key,
        body.as_bytes(),
        BasicProperties::default(),
    )
    .await?;
    Ok(())
}

pub async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Done<Consumer> {
    let options = BasicConsumeOptions {
        no_ack,
        ..Default::default()
    };
    Ok(channel
        .basic_consume(queue.into(), "".into(), options, FieldTable::default())
        .await?)
}

pub async fn take(consumer: &mut Consumer) -> Done<Delivery> {
    Ok(timeout(SOON, consumer.next())
        .await?
        .ok_or("the consumer was cancelled")??)
}

pub async fn nothing(consumer: &mut Consumer) {
    let more = timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(more.is_err(), "a further delivery: {more:?}");
}

pub async fn get(channel: &Channel, queue: &str) -> Done<(Delivery, u32)> {
    for _ in 0..200 {
        let options = BasicGetOptions { no_ack: true };
        if let Some(message) = channel.basic_get(queue.into(), options).await? {
            return Ok((message.delivery, message.message_count));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(format!("{queue} stays empty").into())
}

pub fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

pub async fn not_found(ch: &Channel, queue: &str) -> Done {
    let error = count(ch, queue)
        .await
        .expect_err("no 404")
        .downcast::<lapin::Error>()?;
    let ErrorKind::ProtocolError(error) = error.kind() else {
        return Err(format!("got {error:?}").into());
    };
    assert_eq!(error.get_id(), 404);
    let text = error.get_message().as_str();
    assert!(
        text.contains("NOT_FOUND") && text.contains(queue),
        "text {text}"
    );
    Ok(())
}

pub fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert((*key).into(), value.clone());
    }
    table
}

pub fn string(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
