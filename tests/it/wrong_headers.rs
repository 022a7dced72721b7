//! Headers of messages that mean something to exchanges and queues, with values that cannot be or
//! are as far away as they can be: whatever comes, it is taken, and nobody is hurt.

use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::broker::link::Workspace;
use leveret::queue::Queue;
use leveret::table::{ArrayBuilder, Table, TableBuilder, Value};
use leveret::wire::method::*;
use std::sync::Arc;

fn table(key: &str, value: Value<'_>) -> Table {
    TableBuilder::new().put(key.as_bytes(), value).finish()
}

/// A persistent message with that header.
fn publish(exchange: &str, key: &str, headers: &Table) -> Vec<u8> {
    let properties = Fields::default().short(0x3000).longstr(headers.as_ref().bytes()).octet(2);
    let header = raw::content_header(1, 0, &properties.0);
    [raw::publish_method(1, exchange, key, 0), header].concat()
}

/// A durable exchange `x` with a delay before a fanout to the durable queue `q`.
fn delaying() -> (Still, Client) {
    let still = Still::open();
    let mut client = still.client();
    let delayed_type = table("x-delayed-type", Value::LongStr(b"fanout"));
    let exchange = Fields::default().short(0).shortstr("x").shortstr("x-delayed-message").octet(2);
    let exchange = exchange.longstr(delayed_type.as_ref().bytes());
    let bind = Fields::default().short(0).shortstr("q").shortstr("x").shortstr("");
    let frames = [
        raw::method(1, EXCHANGE_DECLARE, exchange),
        raw::queue_declare(1, "q", raw::DURABLE),
        raw::method(1, QUEUE_BIND, bind.octet(0).longstr(&[])),
    ];
    client.say(&frames.concat());
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [EXCHANGE_DECLARE_OK, QUEUE_DECLARE_OK, QUEUE_BIND_OK]);
    (still, client)
}

fn ready(still: &Still) -> u64 {
    still.broker.vhost("/").unwrap().queue("q").unwrap().counters.ready.get()
}

fn waiting(still: &Still) -> Arc<Queue> {
    still.broker.vhost("/").unwrap().delay_queue("x").unwrap()
}

#[test]
fn a_delay_that_cannot_be_is_none() {
    let (still, mut client) = delaying();
    let list = ArrayBuilder::default();
    let nested = table("x-delay", Value::I32(5));
    let long = [b'9'; 300];
    let values = [
        Value::I32(-1),
        Value::I64(i64::MIN),
        Value::F32(-0.0),
        Value::F64(-1e300),
        Value::LongStr(b"soon"),
        Value::LongStr(b""),
        Value::LongStr(b"-5"),
        Value::LongStr(b" 5"),
        Value::LongStr(&long),
        Value::Bytes(b"5"),
        Value::Bool(true),
        Value::Void,
        Value::Array(list.as_ref()),
        Value::Table(nested.as_ref()),
    ];
    for (nth, value) in values.into_iter().enumerate() {
        client.say(&publish("x", "", &table("x-delay", value)));
        assert_eq!((ready(&still), client.methods()), (nth as u64 + 1, vec![]), "{value:?}");
    }
    assert_eq!(waiting(&still).depth().0, 0);
}

#[test]
fn a_delay_of_more_than_32_bits_delays() {
    let (still, mut client) = delaying();
    let values = [Value::I64(1 << 32), Value::I64(i64::MAX), Value::F64(1e300)];
    for (nth, value) in values.into_iter().enumerate() {
        client.say(&publish("x", "", &table("x-delay", value)));
        assert_eq!((waiting(&still).depth().0, client.methods()), (nth as u64 + 1, vec![]));
    }
    assert_eq!(ready(&still), 0);
}

#[test]
fn a_time_that_is_past_or_cannot_be_delays_nothing() {
    let (still, mut client) = delaying();
    client.pass(1_000_000);
    let list = ArrayBuilder::default();
    let values = [
        Value::I32(0),
        Value::I32(-1),
        Value::I64(i64::MIN),
        Value::I64(1_000_000),
        Value::Timestamp(0),
        Value::F64(0.5),
        Value::F64(-1e300),
        Value::LongStr(b"tomorrow"),
        Value::LongStr(b"99999999999999999999"),
        Value::LongStr(b"2100-01-01"),
        Value::Bool(true),
        Value::Void,
        Value::Array(list.as_ref()),
    ];
    for (nth, value) in values.into_iter().enumerate() {
        client.say(&publish("x", "", &table("x-deliver-at", value)));
        assert_eq!((ready(&still), client.methods()), (nth as u64 + 1, vec![]), "{value:?}");
    }
    assert_eq!(waiting(&still).depth().0, 0);
}

#[test]
fn the_farthest_times_wait_survive_and_hold_up_nothing() {
    let (mut still, mut client) = delaying();
    let farthest = [
        Value::I64(i64::MAX),
        Value::F64(f64::MAX),
        Value::F64(1e300),
        Value::Timestamp(u64::MAX),
        Value::LongStr(b"9223372036854775807"),
    ];
    for value in farthest {
        client.say(&publish("x", "", &table("x-deliver-at", value)));
    }
    client.say(&publish("x", "", &table("x-deliver-at", Value::I32(5_000))));
    let waits = |still: &Still| (waiting(still).depth().0, ready(still));
    assert_eq!((waits(&still), client.methods()), ((6, 0), vec![]));
    still.sync();
    assert!(still.broker.checkpoint(&still.disk).unwrap());
    drop(client);
    still = still.restart();
    assert_eq!(waits(&still), (6, 0));
    let mut client = still.client();
    client.pass(5_000);
    let mut workspace = Workspace::default();
    workspace.effects.now = client.now;
    still.broker.tick(&mut workspace);
    still.load();
    still.broker.tick(&mut workspace);
    assert_eq!(waits(&still), (5, 1), "the one that is due");
}

#[test]
fn a_key_of_any_type_is_one_and_nothing_is_none() {
    let still = Still::open();
    let mut client = still.client();
    let on = table("x-message-deduplication", Value::Bool(true));
    client.say(&raw::queue_declare_with(1, "q", raw::DURABLE, on.as_ref().bytes()));
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [QUEUE_DECLARE_OK]);
    let (mut list, long) = (ArrayBuilder::default(), vec![b'x'; 100_000]);
    list.push(Value::I32(1));
    let nested = table("id", Value::Void);
    let keys = [
        Value::Bool(true),
        Value::I64(i64::MIN),
        Value::F64(f64::MIN_POSITIVE),
        Value::Timestamp(u64::MAX),
        Value::LongStr(b""),
        Value::LongStr(b"\xff"),
        Value::LongStr(&long),
        Value::Bytes(b""),
        Value::Array(list.as_ref()),
        Value::Table(nested.as_ref()),
    ];
    for (nth, value) in keys.into_iter().enumerate() {
        let headers = table("x-deduplication-header", value);
        client.say(&publish("", "q", &headers).repeat(2));
        assert_eq!((ready(&still), client.methods()), (nth as u64 + 1, vec![]), "{value:?}");
    }
    let before = ready(&still);
    let void = table("x-deduplication-header", Value::Void);
    client.say(&publish("", "q", &void).repeat(2));
    client.say(&publish("", "q", &Table::default()).repeat(2));
    assert_eq!(ready(&still), before + 4);
}
