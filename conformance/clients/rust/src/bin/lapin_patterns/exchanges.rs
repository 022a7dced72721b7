//! The patterns with exchanges of all kinds, and the headers of a message.

use client_patterns::{Done, parts};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{BasicProperties, ExchangeKind};

use crate::client::*;

pub async fn pubsub() -> Done {
    let (connection, ch) = channel().await?;
    let logs = exchange(&ch, "logs", ExchangeKind::Fanout).await?;
    let queues = [server_queue(&ch).await?, server_queue(&ch).await?];
    for queue in &queues {
        bind(&ch, queue, &logs, "", FieldTable::default()).await?;
    }
    send(&ch, &logs, "ignored", "news").await?;
    for queue in &queues {
        let (message, _) = get(&ch, queue).await?;
        assert_eq!(
            (message.exchange.as_str(), text(&message)),
            (&*logs, "news".to_owned())
        );
    }
    finish(connection).await
}

/// Binds one queue for each list of keys, publishes all, checks the keys each queue got.
async fn routed(kind: ExchangeKind, keys: &[&[&str]], sent: &[&str], wanted: &[&[&str]]) -> Done {
    let (connection, ch) = channel().await?;
    let exchange = exchange(&ch, &format!("{kind:?}").to_lowercase(), kind).await?;
    let mut queues = Vec::new();
    for keys in keys {
        let queue = server_queue(&ch).await?;
        for key in *keys {
            bind(&ch, &queue, &exchange, key, FieldTable::default()).await?;
        }
        queues.push(queue);
    }
    for key in sent {
        send(&ch, &exchange, key, &format!("for {key}")).await?;
    }
    for (queue, wanted) in queues.iter().zip(wanted) {
        send(&ch, "", queue, "end").await?; // the end mark of each queue
        let (mut consumer, mut got) = (consume(&ch, queue, true).await?, Vec::new());
        loop {
            let message = take(&mut consumer).await?;
            if message.data == b"end" {
                break;
            }
            assert_eq!(text(&message), format!("for {}", message.routing_key));
            got.push(message.routing_key.to_string());
        }
        assert_eq!(got, *wanted);
    }
    finish(connection).await
}

pub async fn routing() -> Done {
    let keys: &[&[&str]] = &[&["error"], &["info", "warning"]];
    routed(
        ExchangeKind::Direct,
        keys,
        &["info", "error", "warning", "debug"],
        keys,
    )
    .await
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
    routed(
        ExchangeKind::Topic,
        keys,
        &sent,
        &[&sent[..1], &sent[..3], &sent],
    )
    .await
}

pub async fn headers_exchange() -> Done {
    let (connection, ch) = channel().await?;
    let exchange = exchange(&ch, "headers", ExchangeKind::Headers).await?;
    let (both, either) = (server_queue(&ch).await?, server_queue(&ch).await?);
    let pages = ("pages", AMQPValue::LongInt(3));
    for (queue, mode) in [(&both, "all"), (&either, "any")] {
        let entries = [
            ("x-match", string(mode)),
            ("format", string("pdf")),
            pages.clone(),
        ];
        bind(&ch, queue, &exchange, "", table(&entries)).await?;
    }
    let (pdf, zip) = (("format", string("pdf")), ("format", string("zip")));
    for (body, headers) in [
        ("1", vec![pdf.clone(), pages]),
        ("2", vec![pdf]),
        ("3", vec![zip]),
    ] {
        let properties = BasicProperties::default().with_headers(table(&headers));
        publish(&ch, &exchange, "", body.as_bytes(), properties).await?;
    }
    assert_eq!(
        (
            get(&ch, &either).await?.0.data,
            get(&ch, &either).await?.0.data
        ),
        (b"1".into(), b"2".into())
    );
    assert_eq!(get(&ch, &both).await?.0.data, b"1");
    assert_eq!(
        (count(&ch, &both).await?, count(&ch, &either).await?),
        (0, 0)
    );
    finish(connection).await
}

pub async fn headers_table() -> Done {
    let (connection, ch) = channel().await?;
    let inner = table(&[("deep", AMQPValue::LongInt(1)), ("x", string("y"))]);
    let array = vec![AMQPValue::LongInt(1), string("two"), AMQPValue::Void];
    let headers = table(&[
        ("bool", AMQPValue::Boolean(true)),
        ("int8", AMQPValue::ShortShortInt(-7)),
        ("uint8", AMQPValue::ShortShortUInt(255)),
        ("int16", AMQPValue::ShortInt(-300)),
        ("uint16", AMQPValue::ShortUInt(65535)),
        ("int32", AMQPValue::LongInt(-70000)),
        ("uint32", AMQPValue::LongUInt(4_294_967_295)),
        ("int64", AMQPValue::LongLongInt(1 << 40)),
        ("float", AMQPValue::Float(1.5)),
        ("double", AMQPValue::Double(0.1)),
        (
            "decimal",
            AMQPValue::DecimalValue(DecimalValue {
                scale: 2,
                value: 314,
            }),
        ),
        ("text", string("héllo")),
        ("bytes", AMQPValue::ByteArray(vec![0, 255].into())),
        ("when", AMQPValue::Timestamp(1_714_979_289)),
        ("none", AMQPValue::Void),
        ("table", AMQPValue::FieldTable(inner)),
        ("array", AMQPValue::FieldArray(FieldArray::from(array))),
    ]);
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_content_type("a/b".into())
        .with_content_encoding("utf-8".into())
        .with_delivery_mode(1)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_expiration("60000".into())
        .with_message_id("m".into())
        .with_timestamp(1_234_567_890)
        .with_type("t".into())
        .with_user_id(parts().0.into())
        .with_app_id("app".into())
        .with_cluster_id("cl".into());
    let queue = server_queue(&ch).await?;
    publish(&ch, "", &queue, b"x", properties.clone()).await?;
    assert_eq!(get(&ch, &queue).await?.0.properties, properties);
    finish(connection).await
}
