//! Section 3: field tables, content properties and packed bits.

use super::cases;
use crate::client::{Content, bind, get, publish};
use crate::codec::{METHOD, Method, Properties, Table, Value};
use crate::outcome::{Outcome, same};
use crate::trial::Trial;

cases! {
    "3.1": every_type_is_kept, bytes_of_headers_are_kept, keys_may_be_any_bytes,
        duplicate_keys_are_kept, nested_tables_are_kept, letter_of_unsigned_64_is_unknown,
        unknown_letter_inside_an_array, not_a_number_is_undecodable, infinity_is_undecodable,
        length_beyond_the_table, returned_headers_are_kept, bool_other_than_one;
    "3.2": every_property_is_kept, no_properties, empty_values_are_values,
        delivery_mode_and_priority_are_octets;
    "3.3": bits_of_queue_declare, bits_of_consume, high_bits_are_ignored;
}

/// Publishes with these encoded properties and takes the message back.
fn there_and_back(trial: &Trial<'_>, properties: &[u8]) -> Outcome<Content> {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_encoded(&publish("", &queue), properties, b"body");
    channel.take(&queue)
}

fn kept(trial: &Trial<'_>, properties: &[u8]) -> Outcome {
    same("properties", there_and_back(trial, properties)?.encoded.as_slice(), properties)
}

fn undecodable(trial: &Trial<'_>, table: &[u8]) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_encoded(&publish("", &queue), &headers(table), b"");
    channel.connection.expect_close(541, "INTERNAL_ERROR", "")
}

/// Properties with nothing but headers, given as the bytes inside the table.
fn headers(table: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x20, 0];
    bytes.extend((table.len() as u32).to_be_bytes());
    bytes.extend(table);
    bytes
}

fn one_of_each() -> Table {
    Table::from([
        ("void", Value::Void),
        ("bool", true.into()),
        ("byte", Value::I8(-128)),
        ("unsignedbyte", Value::U8(255)),
        ("short", Value::I16(-32768)),
        ("unsignedshort", Value::U16(65535)),
        ("int", Value::I32(i32::MIN)),
        ("unsignedint", Value::U32(u32::MAX)),
        ("long", Value::I64(i64::MIN)),
        ("upper", Value::I64Upper(i64::MAX)),
        ("float", Value::F32(-0.5)),
        ("double", Value::F64(1e300)),
        ("decimal", Value::Decimal(3, u32::MAX)),
        ("text", "caf\u{e9}".into()),
        ("binary", Value::Bytes(vec![0, 0xFF, 0xCE])),
        ("array", Value::Array(vec![1.into(), "two".into(), Value::Array(Vec::new())])),
        ("timestamp", Value::Timestamp(1_700_000_000)),
        ("table", Value::Table(Table::default())),
    ])
}

fn every_type_is_kept(trial: &Trial<'_>) -> Outcome {
    let properties = Properties::new().headers(one_of_each());
    let content = there_and_back(trial, &properties.encode())?;
    same("headers", content.headers()?, &one_of_each())
}

/// Unsorted keys and the letter `L` come back as they went.
fn bytes_of_headers_are_kept(trial: &Trial<'_>) -> Outcome {
    kept(trial, &Properties::new().headers(one_of_each()).encode())
}

fn keys_may_be_any_bytes(trial: &Trial<'_>) -> Outcome {
    kept(trial, &headers(b"\x03\xff\xc3\x28t\x01\x00V"))
}

fn duplicate_keys_are_kept(trial: &Trial<'_>) -> Outcome {
    kept(trial, &headers(b"\x01kt\x01\x01kb\x05\x01at\x00"))
}

fn nested_tables_are_kept(trial: &Trial<'_>) -> Outcome {
    let mut value = Value::Void;
    for _ in 0..8 {
        let table = Table::from([("z", value), ("a", Value::I64Upper(1))]);
        value = Value::Array(vec![Value::Table(table)]);
    }
    kept(trial, &Properties::new().headers([("deep", value)]).encode())
}

fn letter_of_unsigned_64_is_unknown(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x01kU\x00\x00")
}

fn unknown_letter_inside_an_array(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x01kA\x00\x00\x00\x02Z\x00")
}

fn not_a_number_is_undecodable(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x01kd\x7f\xf8\x00\x00\x00\x00\x00\x00")
}

fn infinity_is_undecodable(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x01kf\x7f\x80\x00\x00")
}

fn length_beyond_the_table(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x01kS\x00\x00\x00\x09text")
}

fn returned_headers_are_kept(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let properties = Properties::new().headers(one_of_each()).encode();
    let method = publish("amq.direct", &trial.queue()).flags(&["mandatory"]);
    channel.publish_encoded(&method, &properties, b"back");
    same("properties", channel.expect_content("basic.return")?.encoded, properties)
}

fn bool_other_than_one(trial: &Trial<'_>) -> Outcome {
    kept(trial, &headers(b"\x01kt\x07"))
}

fn every_property_is_kept(trial: &Trial<'_>) -> Outcome {
    let properties = Properties::new()
        .with("content_type", "text/plain")
        .with("content_encoding", "gzip")
        .headers([("k", "v".into())])
        .with("delivery_mode", 2_u64)
        .with("priority", 9_u64)
        .with("correlation_id", "correlation")
        .with("reply_to", "reply")
        .with("expiration", "60000")
        .with("message_id", "message")
        .with("timestamp", 1_700_000_000_u64)
        .with("type", "kind")
        .with("user_id", trial.user())
        .with("app_id", "app")
        .with("cluster_id", "cluster");
    let content = there_and_back(trial, &properties.encode())?;
    same("properties", content.encoded, properties.encode())?;
    same("timestamp", content.properties.number("timestamp"), Some(1_700_000_000))
}

fn no_properties(trial: &Trial<'_>) -> Outcome {
    kept(trial, &[0, 0])
}

fn empty_values_are_values(trial: &Trial<'_>) -> Outcome {
    let properties =
        Properties::new().with("content_type", "").headers(Table::default()).with("app_id", "");
    kept(trial, &properties.encode())
}

fn delivery_mode_and_priority_are_octets(trial: &Trial<'_>) -> Outcome {
    let properties = Properties::new().with("delivery_mode", 1_u64).with("priority", 255_u64);
    kept(trial, &properties.encode())
}

/// Sends queue.declare with this octet of bits.
fn declare_with_bits(queue: &str, bits: u8) -> Vec<u8> {
    let mut payload = Method::new("queue.declare").with("queue", queue).payload();
    let bits_at = payload.len() - 5;
    payload[bits_at] = bits;
    payload
}

fn bits_of_queue_declare(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for (bits, flag) in [(2_u8, "durable"), (8, "auto_delete")] {
        let queue = trial.queue();
        channel.send_frame(METHOD, &declare_with_bits(&queue, bits));
        channel.expect("queue.declare-ok")?;
        channel.call(&crate::client::declare(&queue).flags(&[flag]))?;
    }
    let queue = trial.queue();
    channel.send_frame(METHOD, &declare_with_bits(&queue, 4));
    channel.expect("queue.declare-ok")?;
    let passive = crate::client::declare(&queue).flags(&["passive"]);
    trial.channel()?.refuses(&passive, 405, &super::locked(trial, &queue))?;
    let queue = trial.queue();
    channel.send_frame(METHOD, &declare_with_bits(&queue, 16));
    channel.fence()?;
    channel.send_frame(METHOD, &declare_with_bits(&queue, 1));
    channel.expect("queue.declare-ok").map(drop)
}

fn bits_of_consume(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let mut payload = crate::client::consume(&queue, "t").payload();
    let bits_at = payload.len() - 5;
    payload[bits_at] = 0b0010;
    channel.send_frame(METHOD, &payload);
    channel.expect("basic.consume-ok")?;
    channel.publish("", &queue, "without ack");
    channel.delivery()?;
    let text = "PRECONDITION_FAILED - unknown delivery tag 1";
    channel.refuses(&crate::client::ack(1), 406, text)
}

fn high_bits_are_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.send_frame(METHOD, &declare_with_bits(&queue, 0b1110_0000));
    channel.expect("queue.declare-ok")?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&queue, &name, ""))?;
    let mut payload = publish(&name, "").payload();
    if let Some(bits) = payload.last_mut() {
        *bits = 0b1111_1100;
    }
    channel.send_frame(METHOD, &payload);
    channel.send_frame(crate::codec::HEADER, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    channel.get(&get(&queue)).map(drop)
}
