//! The patterns with exchanges of all kinds, and the headers of a message.

use amqprs::{BasicProperties, DecimalValue, FieldTable, FieldValue};
use client_patterns::{Done, parts};

use crate::client::*;

pub async fn pubsub() -> Done {
    let client = client().await?;
    let logs = client.exchange("fanout").await?;
    let queues = [client.server_queue().await?, client.server_queue().await?];
    for queue in &queues {
        client.bind(queue, &logs, "", FieldTable::new()).await?;
    }
    client.send(&logs, "ignored", "news").await?;
    for queue in &queues {
        let (message, _) = client.get(queue).await?;
        assert_eq!(
            (&message.exchange, message.text()),
            (&logs, "news".to_owned())
        );
    }
    client.finish().await
}

/// Binds one queue for each list of keys, publishes all, checks the keys each queue got.
async fn routed(kind: &str, keys: &[&[&str]], sent: &[&str], wanted: &[&[&str]]) -> Done {
    let client = client().await?;
    let exchange = client.exchange(kind).await?;
    let mut queues = Vec::new();
    for keys in keys {
        let queue = client.server_queue().await?;
        for key in *keys {
            client
                .bind(&queue, &exchange, key, FieldTable::new())
                .await?;
        }
        queues.push(queue);
    }
    for key in sent {
        client.send(&exchange, key, &format!("for {key}")).await?;
    }
    for (queue, wanted) in queues.iter().zip(wanted) {
        client.send("", queue, "end").await?; // the end mark of each queue
        let (mut messages, mut got) = (client.consume(queue, true).await?, Vec::new());
        loop {
            let message = messages.take().await?;
            if message.body == b"end" {
                break;
            }
            assert_eq!(message.text(), format!("for {}", message.key));
            got.push(message.key);
        }
        assert_eq!(got, *wanted);
    }
    client.finish().await
}

pub async fn routing() -> Done {
    let keys: &[&[&str]] = &[&["error"], &["info", "warning"]];
    routed("direct", keys, &["info", "error", "warning", "debug"], keys).await
}

pub async fn topics() -> Done {
    let keys: &[&[&str]] = &[&["*.orange.*"], &["*.*.rabbit", "lazy.#"], &["#"]];
    let sent = [
        "quick.orange.rabbit",
        "lazy.brown.fox",
        "lazy",
        "orange",
        "a.orange.b.c",
    ];
    routed("topic", keys, &sent, &[&sent[..1], &sent[..3], &sent]).await
}

fn table(entries: &[(&str, FieldValue)]) -> Done<FieldTable> {
    let mut table = FieldTable::new();
    for (key, value) in entries {
        table.insert((*key).try_into()?, value.clone());
    }
    Ok(table)
}

pub async fn headers_exchange() -> Done {
    let client = client().await?;
    let exchange = client.exchange("headers").await?;
    let (both, either) = (client.server_queue().await?, client.server_queue().await?);
    let pages = ("pages", FieldValue::I(3));
    for (queue, mode) in [(&both, "all"), (&either, "any")] {
        let entries = [
            ("x-match", mode.into()),
            ("format", "pdf".into()),
            pages.clone(),
        ];
        client.bind(queue, &exchange, "", table(&entries)?).await?;
    }
    let (pdf, zip) = (("format", "pdf".into()), ("format", "zip".into()));
    for (body, headers) in [
        ("1", vec![pdf.clone(), pages]),
        ("2", vec![pdf]),
        ("3", vec![zip]),
    ] {
        let properties = BasicProperties::default()
            .with_headers(table(&headers)?)
            .finish();
        client
            .publish(&exchange, "", body.as_bytes(), &properties)
            .await?;
    }
    for body in ["1", "2"] {
        assert_eq!(client.get(&either).await?.0.text(), body);
    }
    assert_eq!(client.get(&both).await?.0.text(), "1");
    assert_eq!(
        (client.count(&both).await?, client.count(&either).await?),
        (0, 0)
    );
    client.finish().await
}

pub async fn headers_table() -> Done {
    let client = client().await?;
    let array = vec![FieldValue::I(1), "two".into(), FieldValue::V];
    let headers = table(&[
        ("bool", FieldValue::t(true)),
        ("int8", FieldValue::b(-7)),
        ("uint8", FieldValue::B(255)),
        ("int16", FieldValue::s(-300)),
        ("uint16", FieldValue::u(65535)),
        ("int32", FieldValue::I(-70000)),
        ("uint32", FieldValue::i(4_294_967_295)),
        ("int64", FieldValue::l(1 << 40)),
        ("float", FieldValue::f(1.5)),
        ("double", FieldValue::d(0.1)),
        ("decimal", FieldValue::D(DecimalValue::new(2, 314))),
        ("text", "héllo".into()),
        ("bytes", FieldValue::x(vec![0, 255].try_into()?)),
        ("when", FieldValue::T(1_714_979_289)),
        ("none", FieldValue::V),
        (
            "table",
            FieldValue::F(table(&[("deep", FieldValue::I(1)), ("x", "y".into())])?),
        ),
        ("array", FieldValue::A(array.try_into()?)),
    ])?;
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_content_type("a/b")
        .with_content_encoding("utf-8")
        .with_delivery_mode(1)
        .with_priority(3)
        .with_correlation_id("c")
        .with_reply_to("r")
        .with_expiration("60000")
        .with_message_id("m")
        .with_timestamp(1_234_567_890)
        .with_message_type("t")
        .with_user_id(&parts().0)
        .with_app_id("app")
        .with_cluster_id("cl")
        .finish();
    let queue = client.server_queue().await?;
    client.publish("", &queue, b"x", &properties).await?;
    let (got, _) = client.get(&queue).await?;
    assert_eq!(got.properties.headers(), properties.headers());
    assert_eq!(plain(&got.properties), plain(&properties));
    client.finish().await
}

/// The properties without the headers.
fn plain(properties: &BasicProperties) -> String {
    let p = properties;
    let (mode, priority, timestamp) = (p.delivery_mode(), p.priority(), p.timestamp());
    let words = [
        p.content_type(),
        p.content_encoding(),
        p.correlation_id(),
        p.reply_to(),
        p.expiration(),
        p.message_id(),
        p.message_type(),
        p.user_id(),
        p.app_id(),
        p.cluster_id(),
    ];
    format!("{mode:?} {priority:?} {timestamp:?} {words:?}")
}
