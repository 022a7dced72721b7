//! The tutorial patterns with lapin.

mod client;
mod exchanges;

use client::*;
use client_patterns::{Done, SOON, big_body, name, patterns, run, url};
use exchanges::*;
use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Duration, sleep, timeout};
use tokio_stream::StreamExt;

async fn hello() -> Done {
    let (connection, ch) = channel().await?;
    let queue = exclusive_queue(&ch, &name("hello")).await?;
    assert_eq!(queue, name("hello"));
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    publish(&ch, "", &queue, b"Hello World!", properties.clone()).await?;
    let got = take(&mut consume(&ch, &queue, true).await?).await?;
    assert_eq!(
        (got.exchange.as_str(), got.routing_key.as_str()),
        ("", &*queue)
    );
    assert_eq!(
        (text(&got), &got.properties),
        ("Hello World!".to_owned(), &properties)
    );
    finish(connection).await
}

async fn work_queue() -> Done {
    let (connection, ch) = channel().await?;
    let (queue, none) = (name("work"), FieldTable::default());
    ch.queue_declare(queue.clone().into(), QueueDeclareOptions::durable(), none)
        .await?;
    let worked = workers(&ch, &queue).await;
    let left = count(&ch, &queue).await;
    ch.queue_delete(queue.into(), QueueDeleteOptions::default())
        .await?;
    worked?;
    assert_eq!(left?, 0, "left over");
    finish(connection).await
}

async fn workers(ch: &Channel, queue: &str) -> Done {
    let ((dying, first), (living, second)) = (channel().await?, channel().await?);
    first.basic_qos(1, BasicQosOptions::default()).await?;
    second.basic_qos(1, BasicQosOptions::default()).await?;
    let mut firsts = consume(&first, queue, false).await?;
    let mut seconds = consume(&second, queue, false).await?;
    let tasks: Vec<String> = (0..6).map(|n| format!("task {n}")).collect();
    for task in &tasks {
        let properties = BasicProperties::default().with_delivery_mode(2);
        publish(ch, "", queue, task.as_bytes(), properties).await?;
    }
    let held = take(&mut firsts).await?;
    assert!(!held.redelivered, "redelivered too early");
    let mut done = Vec::new();
    for n in 0..6 {
        if n == 5 {
            nothing(&mut firsts).await; // prefetch 1
            dying.close(200, "dies".into()).await?;
        }
        let message = take(&mut seconds).await?;
        assert_eq!(
            message.redelivered,
            n == 5,
            "redelivered flag of message {n}"
        );
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        message.ack(BasicAckOptions::default()).await?;
        done.push(text(&message));
    }
    assert_eq!(done.last(), Some(&text(&held)));
    done.sort();
    assert_eq!(done, tasks);
    finish(living).await
}

/// The server answers on its own connection; the caller checks what it got.
async fn squares(reply_queue: Option<&str>) -> Done {
    let ((serving, server), (connection, ch)) = (channel().await?, channel().await?);
    let requests = exclusive_queue(&server, &name("rpc")).await?;
    let mut incoming = consume(&server, &requests, false).await?;
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let request = take(&mut incoming).await?;
            let (n, asked) = (text(&request).parse::<u32>()?, &request.properties);
            let id = asked.correlation_id().clone().ok_or("no correlation id")?;
            let to = asked.reply_to().clone().ok_or("no reply-to")?;
            let properties = BasicProperties::default().with_correlation_id(id);
            publish(
                &server,
                "",
                to.as_str(),
                (n * n).to_string().as_bytes(),
                properties,
            )
            .await?;
            request.ack(BasicAckOptions::default()).await?;
        }
        Done::Ok((server, incoming)) // dropped, they would close the channel under finish()
    });
    let replies = match reply_queue {
        Some(queue) => queue.to_owned(),
        None => server_queue(&ch).await?,
    };
    let mut answers = consume(&ch, &replies, true).await?;
    for n in ["7", "12"] {
        let properties = BasicProperties::default()
            .with_reply_to(replies.clone().into())
            .with_correlation_id(format!("id{n}").into());
        publish(&ch, "", &requests, n.as_bytes(), properties).await?;
    }
    for (id, square) in [("id7", "49"), ("id12", "144")] {
        let answer = take(&mut answers).await?;
        assert_eq!(answer.properties.correlation_id(), &Some(id.into()));
        assert_eq!(text(&answer), square);
    }
    let _held = answering.await??;
    finish(serving).await?;
    finish(connection).await
}

async fn confirms() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    ch.confirm_select(ConfirmSelectOptions::default()).await?;
    for n in 1..=10 {
        let confirm = publish(&ch, "", &queue, b"one", BasicProperties::default()).await?;
        assert_eq!(timeout(SOON, confirm).await??, Confirmation::Ack(None));
        assert_eq!(count(&ch, &queue).await?, n);
    }
    finish(connection).await
}

async fn confirms_batch() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    ch.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut batch = Vec::new();
    for _ in 0..200 {
        batch.push(publish(&ch, "", &queue, b"one", BasicProperties::default()).await?);
    }
    assert_eq!(timeout(SOON, ch.wait_for_confirms()).await??, []);
    for confirm in batch {
        assert_eq!(timeout(SOON, confirm).await??, Confirmation::Ack(None));
    }
    assert_eq!(count(&ch, &queue).await?, 200);
    finish(connection).await
}

async fn mandatory_return() -> Done {
    let (connection, ch) = channel().await?;
    ch.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let (key, properties) = (name("nowhere"), BasicProperties::default());
    let confirm = ch.basic_publish("".into(), key.clone().into(), options, b"lost", properties);
    let Confirmation::Ack(Some(back)) = timeout(SOON, confirm.await?).await?? else {
        return Err("the message did not come back".into());
    };
    assert_eq!(
        (back.reply_code, back.reply_text.as_str()),
        (312, "NO_ROUTE")
    );
    assert_eq!(
        (back.routing_key.as_str(), text(&back)),
        (&*key, "lost".to_owned())
    );
    finish(connection).await
}

async fn basic_get() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    assert_eq!(
        ch.basic_get(queue.clone().into(), BasicGetOptions::default())
            .await?,
        None
    );
    send(&ch, "", &queue, "one").await?;
    send(&ch, "", &queue, "two").await?;
    let (first, left) = get(&ch, &queue).await?;
    assert_eq!(
        (left, first.redelivered, text(&first)),
        (1, false, "one".to_owned())
    );
    assert_eq!(text(&get(&ch, &queue).await?.0), "two");
    finish(connection).await
}

async fn tx() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    ch.tx_select().await?;
    send(&ch, "", &queue, "rolled back").await?;
    ch.tx_rollback().await?;
    send(&ch, "", &queue, "committed").await?;
    assert_eq!(count(&ch, &queue).await?, 0, "before commit");
    ch.tx_commit().await?;
    let (message, left) = get(&ch, &queue).await?;
    assert_eq!((left, text(&message)), (0, "committed".to_owned()));
    finish(connection).await
}

async fn nack_requeue() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    send(&ch, "", &queue, "back").await?;
    send(&ch, "", &queue, "drop").await?;
    let mut consumer = consume(&ch, &queue, false).await?;
    let (back, drop) = (take(&mut consumer).await?, take(&mut consumer).await?);
    back.nack(BasicNackOptions {
        requeue: true,
        multiple: false,
    })
    .await?;
    drop.reject(BasicRejectOptions { requeue: false }).await?;
    let again = take(&mut consumer).await?;
    assert_eq!((again.redelivered, text(&again)), (true, "back".to_owned()));
    again.ack(BasicAckOptions::default()).await?;
    nothing(&mut consumer).await;
    finish(connection).await
}

async fn cancel_notify() -> Done {
    let ((connection, ch), (other, deleting)) = (channel().await?, channel().await?);
    let options = QueueDeclareOptions {
        auto_delete: true,
        ..Default::default()
    };
    ch.queue_declare(name("cancel").into(), options, FieldTable::default())
        .await?;
    let mut consumer = consume(&ch, &name("cancel"), true).await?;
    deleting
        .queue_delete(name("cancel").into(), QueueDeleteOptions::default())
        .await?;
    let end = timeout(SOON, consumer.next()).await?; // a cancelled consumer's stream ends
    assert!(end.is_none(), "got {end:?}");
    server_queue(&ch).await?;
    finish(other).await?;
    finish(connection).await
}

async fn missing_queue() -> Done {
    let (connection, ch) = channel().await?;
    not_found(&ch, &name("missing")).await?;
    assert!(!ch.status().connected() && connection.status().connected());
    let again = connection.create_channel().await?;
    let queue = server_queue(&again).await?;
    send(&again, "", &queue, "after").await?;
    assert_eq!(text(&get(&again, &queue).await?.0), "after");
    finish(connection).await
}

async fn large_message() -> Done {
    let (connection, ch) = channel().await?;
    let (queue, body) = (server_queue(&ch).await?, big_body());
    publish(&ch, "", &queue, &body, BasicProperties::default()).await?;
    assert!(get(&ch, &queue).await?.0.data == body, "1 MiB body differs");
    finish(connection).await
}

async fn heartbeat() -> Done {
    let mark = if url().contains('?') { '&' } else { '?' };
    let connection = connect(&format!("{}{mark}heartbeat=1", url())).await?;
    assert_eq!(connection.configuration().heartbeat(), 1);
    let ch = connection.create_channel().await?;
    let queue = server_queue(&ch).await?;
    sleep(Duration::from_secs(5)).await;
    send(&ch, "", &queue, "alive").await?;
    assert_eq!(text(&get(&ch, &queue).await?.0), "alive");
    finish(connection).await
}

async fn close() -> Done {
    let (connection, ch) = channel().await?;
    let queue = server_queue(&ch).await?;
    ch.close(200, "done".into()).await?;
    assert!(!ch.status().connected() && connection.status().connected());
    connection.close(200, "done".into()).await?;
    while connection.status().closing() {
        sleep(Duration::from_millis(5)).await; // lapin notes the end a moment later
    }
    assert!(connection.status().closed() && !connection.status().errored());
    let (other, ch) = channel().await?;
    not_found(&ch, &queue).await?; // the exclusive queue went with its connection
    finish(other).await
}

#[tokio::main]
async fn main() {
    let patterns = patterns![
        "hello" => hello(),
        "work-queue" => work_queue(),
        "pubsub" => pubsub(),
        "routing" => routing(),
        "topics" => topics(),
        "headers-exchange" => headers_exchange(),
        "rpc" => squares(None),
        "direct-reply-to" => squares(Some("amq.rabbitmq.reply-to")),
        "confirms" => confirms(),
        "confirms-batch" => confirms_batch(),
        "mandatory-return" => mandatory_return(),
        "get" => basic_get(),
        "tx" => tx(),
        "nack-requeue" => nack_requeue(),
        "cancel-notify" => cancel_notify(),
        "missing-queue-404" => missing_queue(),
        "large-message" => large_message(),
        "headers-table" => headers_table(),
        "heartbeat" => heartbeat(),
        "close" => close(),
    ];
    run("lapin", patterns).await
}
