//! The tutorial patterns with amqprs.

mod client;
mod exchanges;

use amqprs::BasicProperties;
use amqprs::channel::*;
use client::*;
use client_patterns::{Done, big_body, name, patterns, run};
use exchanges::*;
use tokio::time::{Duration, sleep};

async fn hello() -> Done {
    let client = client().await?;
    let queue = client.exclusive_queue(&name("hello")).await?;
    assert_eq!(queue, name("hello"));
    let properties = BasicProperties::default()
        .with_content_type("text/plain")
        .finish();
    client
        .publish("", &queue, b"Hello World!", &properties)
        .await?;
    let got = client.consume(&queue, true).await?.take().await?;
    assert_eq!((got.exchange.as_str(), &got.key), ("", &queue));
    assert_eq!(got.text(), "Hello World!");
    assert_eq!(
        got.properties.content_type().map(String::as_str),
        Some("text/plain")
    );
    client.finish().await
}

async fn work_queue() -> Done {
    let client = client().await?;
    let queue = name("work");
    client
        .declare(&QueueDeclareArguments::durable_client_named(&queue))
        .await?;
    let worked = workers(&client, &queue).await;
    let left = client.count(&queue).await;
    client.delete(&queue).await?;
    worked?;
    assert_eq!(left?, 0, "left over");
    client.finish().await
}

async fn workers(publisher: &Client, queue: &str) -> Done {
    let (dying, living) = (client().await?, client().await?);
    dying.prefetch(1).await?;
    living.prefetch(1).await?;
    let mut firsts = dying.consume(queue, false).await?;
    let mut seconds = living.consume(queue, false).await?;
    let tasks: Vec<String> = (0..6).map(|n| format!("task {n}")).collect();
    let properties = BasicProperties::default().with_persistence(true).finish();
    for task in &tasks {
        publisher
            .publish("", queue, task.as_bytes(), &properties)
            .await?;
    }
    let held = firsts.take().await?;
    assert!(!held.redelivered, "redelivered too early");
    let mut done = Vec::new();
    for _ in 0..5 {
        let message = seconds.take().await?;
        assert!(!message.redelivered, "redelivered too early");
        living.ack(&message).await?;
        done.push(message.text());
    }
    firsts.nothing().await; // prefetch 1
    dying.finish().await?;
    let last = seconds.take().await?;
    assert_eq!((last.redelivered, last.text()), (true, held.text()));
    assert_eq!(last.properties.delivery_mode(), Some(2));
    living.ack(&last).await?;
    done.push(last.text());
    done.sort();
    assert_eq!(done, tasks);
    living.finish().await
}

/// The server answers on its own connection; the caller checks what it got.
async fn squares(reply_queue: Option<&str>) -> Done {
    let (server, caller) = (client().await?, client().await?);
    let requests = server.exclusive_queue(&name("rpc")).await?;
    let mut incoming = server.consume(&requests, false).await?;
    let answering = tokio::spawn(async move {
        for _ in 0..2 {
            let request = incoming.take().await?;
            let (n, asked) = (request.text().parse::<u32>()?, &request.properties);
            let id = asked.correlation_id().ok_or("no correlation id")?;
            let to = asked.reply_to().ok_or("no reply-to")?;
            let properties = BasicProperties::default().with_correlation_id(id).finish();
            server
                .publish("", to, (n * n).to_string().as_bytes(), &properties)
                .await?;
            server.ack(&request).await?;
        }
        server.finish().await
    });
    let replies = match reply_queue {
        Some(queue) => queue.to_owned(),
        None => caller.server_queue().await?,
    };
    let mut answers = caller.consume(&replies, true).await?;
    for n in ["7", "12"] {
        let properties = BasicProperties::default()
            .with_reply_to(&replies)
            .with_correlation_id(&format!("id{n}"))
            .finish();
        caller
            .publish("", &requests, n.as_bytes(), &properties)
            .await?;
    }
    for (id, square) in [("id7", "49"), ("id12", "144")] {
        let answer = answers.take().await?;
        assert_eq!(
            answer.properties.correlation_id().map(String::as_str),
            Some(id)
        );
        assert_eq!(answer.text(), square);
    }
    answering.await??;
    caller.finish().await
}

async fn confirms() -> Done {
    let mut client = client().await?;
    let queue = client.server_queue().await?;
    client
        .ch
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    for n in 1..=10_u32 {
        client.send("", &queue, "one").await?;
        assert_eq!(client.event().await?, Event::Ack(n.into(), false));
        assert_eq!(client.count(&queue).await?, n);
    }
    client.finish().await
}

async fn confirms_batch() -> Done {
    let mut client = client().await?;
    let queue = client.server_queue().await?;
    client
        .ch
        .confirm_select(ConfirmSelectArguments::default())
        .await?;
    for _ in 0..200 {
        client.send("", &queue, "one").await?;
    }
    let mut acked = vec![false; 201];
    acked[0] = true; // no message has this tag
    while acked.contains(&false) {
        match client.event().await? {
            Event::Ack(tag, true) => acked[..=usize::try_from(tag)?].fill(true),
            Event::Ack(tag, false) => acked[usize::try_from(tag)?] = true,
            other => return Err(format!("got {other:?}").into()),
        }
    }
    assert_eq!(client.count(&queue).await?, 200);
    client.finish().await
}

async fn mandatory_return() -> Done {
    let mut client = client().await?;
    let options = BasicPublishArguments::new("", &name("nowhere"))
        .mandatory(true)
        .finish();
    client
        .ch
        .basic_publish(BasicProperties::default(), b"lost".to_vec(), options)
        .await?;
    let text = "NO_ROUTE".to_owned();
    let wanted = Event::Returned(312, text, name("nowhere"), b"lost".to_vec());
    assert_eq!(client.event().await?, wanted);
    client.finish().await
}

async fn basic_get() -> Done {
    let client = client().await?;
    let queue = client.server_queue().await?;
    let empty = client.ch.basic_get(BasicGetArguments::new(&queue)).await?;
    assert!(empty.is_none(), "a message from an empty queue");
    client.send("", &queue, "one").await?;
    client.send("", &queue, "two").await?;
    let (first, left) = client.get(&queue).await?;
    assert_eq!(
        (left, first.redelivered, first.text()),
        (1, false, "one".to_owned())
    );
    assert_eq!(client.get(&queue).await?.0.text(), "two");
    client.finish().await
}

async fn tx() -> Done {
    let client = client().await?;
    let queue = client.server_queue().await?;
    client.ch.tx_select().await?;
    client.send("", &queue, "rolled back").await?;
    client.ch.tx_rollback().await?;
    client.send("", &queue, "committed").await?;
    assert_eq!(client.count(&queue).await?, 0, "before commit");
    client.ch.tx_commit().await?;
    let (message, left) = client.get(&queue).await?;
    assert_eq!((left, message.text()), (0, "committed".to_owned()));
    client.finish().await
}

async fn nack_requeue() -> Done {
    let client = client().await?;
    let queue = client.server_queue().await?;
    client.send("", &queue, "back").await?;
    client.send("", &queue, "drop").await?;
    let mut messages = client.consume(&queue, false).await?;
    let (back, drop) = (messages.take().await?, messages.take().await?);
    client
        .ch
        .basic_nack(BasicNackArguments::new(back.tag, false, true))
        .await?;
    client
        .ch
        .basic_reject(BasicRejectArguments::new(drop.tag, false))
        .await?;
    let again = messages.take().await?;
    assert_eq!((again.redelivered, again.text()), (true, "back".to_owned()));
    client.ack(&again).await?;
    messages.nothing().await;
    client.finish().await
}

async fn cancel_notify() -> Done {
    let (mut watching, deleting) = (client().await?, client().await?);
    let queue = name("cancel");
    watching
        .declare(&QueueDeclareArguments::transient_autodelete(&queue))
        .await?;
    let options = BasicConsumeArguments::new(&queue, "the-tag");
    let (_tag, _messages) = watching.ch.basic_consume_rx(options).await?;
    deleting.delete(&queue).await?;
    assert_eq!(
        watching.event().await?,
        Event::Cancelled("the-tag".to_owned())
    );
    watching.server_queue().await?;
    deleting.finish().await?;
    watching.finish().await
}

async fn missing_queue() -> Done {
    let mut client = client().await?;
    client.not_found(&name("missing")).await?;
    sleep(Duration::from_millis(50)).await; // amqprs marks the channel after the callback
    assert!(!client.ch.is_open() && client.connection.is_open());
    let again = open(client.connection).await?;
    let queue = again.server_queue().await?;
    again.send("", &queue, "after").await?;
    assert_eq!(again.get(&queue).await?.0.text(), "after");
    again.finish().await
}

async fn large_message() -> Done {
    let client = client().await?;
    let (queue, body) = (client.server_queue().await?, big_body());
    client
        .publish("", &queue, &body, &BasicProperties::default())
        .await?;
    assert!(
        client.get(&queue).await?.0.body == body,
        "1 MiB body differs"
    );
    client.finish().await
}

async fn heartbeat() -> Done {
    let client = open(connect(2).await?).await?; // with 1 amqprs sends without a pause
    assert_eq!(client.connection.heartbeat(), 2);
    let queue = client.server_queue().await?;
    sleep(Duration::from_secs(7)).await; // a silent client is dropped within three intervals
    client.send("", &queue, "alive").await?;
    assert_eq!(client.get(&queue).await?.0.text(), "alive");
    client.finish().await
}

async fn close() -> Done {
    let client = client().await?;
    let queue = client.server_queue().await?;
    let Client { connection, ch, .. } = client;
    ch.close().await?;
    assert!(connection.is_open());
    connection.close().await?;
    let mut other = self::client().await?;
    other.not_found(&queue).await?; // the exclusive queue went with its connection
    Ok(other.connection.close().await?)
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
    run("amqprs", patterns).await
}
