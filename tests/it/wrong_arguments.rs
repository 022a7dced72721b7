//! Arguments of queues, exchanges and consumers that cannot be: each closes its channel with
//! RabbitMQ's code and text, or ours in its manner, changes nothing, and hurts nobody else.

use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::exception::MethodId;
use leveret::table::{ArrayBuilder, Table, TableBuilder, Value};
use leveret::wire::method::*;

/// A channel that nobody closes.
const OTHER: u16 = 2;

type Arguments<'a> = &'a [(&'a str, Value<'a>)];

fn table(fields: Arguments<'_>) -> Table {
    let put = |table: TableBuilder, (key, value): &(&str, _)| table.put(key.as_bytes(), *value);
    fields.iter().fold(TableBuilder::new(), put).finish()
}

fn text(value: &str) -> Value<'_> {
    Value::LongStr(value.as_bytes())
}

fn declare_queue(arguments: Arguments<'_>) -> Vec<u8> {
    raw::queue_declare_with(1, "q", raw::DURABLE, table(arguments).as_ref().bytes())
}

fn declare_exchange(kind: &str, arguments: Arguments<'_>) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr("x").shortstr(kind).octet(2);
    raw::method(1, EXCHANGE_DECLARE, fields.longstr(table(arguments).as_ref().bytes()))
}

fn consume(arguments: Arguments<'_>) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr("q").shortstr("").octet(0);
    raw::method(1, BASIC_CONSUME, fields.longstr(table(arguments).as_ref().bytes()))
}

/// A broker and a client of two channels. On the other one is a queue of its own, and a consumer.
fn begin() -> (Still, Client) {
    let still = Still::open();
    let mut client = still.client();
    let declare = raw::queue_declare(OTHER, "other", 0);
    let frames = [raw::channel_open(OTHER), declare, raw::consume(OTHER, "other", true)];
    client.say(&frames.concat());
    client.wake();
    assert_eq!(client.methods(), [CHANNEL_OPEN_OK, QUEUE_DECLARE_OK, BASIC_CONSUME_OK]);
    (still, client)
}

/// What channel 1 is closed with by `method`: 406 and this text. It can be opened again, and the
/// other one works on.
#[track_caller]
fn refused(client: &mut Client, method: &[u8], id: MethodId) -> String {
    client.say(method);
    let frames = client.hear();
    let methods: Vec<_> = frames.iter().filter_map(raw::Frame::method).collect();
    assert_eq!((methods, frames[0].channel), (vec![CHANNEL_CLOSE], 1));
    let mut fields = frames[0].fields();
    let (code, text) = (fields.short(), fields.shortstr());
    assert_eq!((code, fields.short(), fields.short()), (406, id.class, id.method), "{text}");
    let close_ok = raw::method(1, CHANNEL_CLOSE_OK, Fields::default());
    assert_eq!(client.call(&[close_ok, raw::channel_open(1)].concat()), [CHANNEL_OPEN_OK]);
    client.say(&raw::publish(OTHER, "other", raw::TRANSIENT, b"x"));
    client.wake();
    assert_eq!(client.methods(), [BASIC_DELIVER]);
    text.strip_prefix("PRECONDITION_FAILED - ").expect("its code's name").to_owned()
}

/// The method is carried out.
#[track_caller]
fn accepted(still: &Still, client: &mut Client, method: &[u8], reply: MethodId) {
    client.say(method);
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [reply]);
}

fn is_there(still: &Still, queue: &str) -> bool {
    still.broker.vhost("/").unwrap().queue(queue).is_some()
}

#[test]
fn wrong_arguments_of_queues_are_refused_and_make_none() {
    let (min, max) = ("x-retry-delay-min", "x-retry-delay-max");
    let (group, fair) = ("x-group-key", "x-fair-key");
    let (long, ttl) = ("k".repeat(256), 315_360_000_001);
    let list = ArrayBuilder::default();
    let no_integer = |kind: &str| format!("\"expected integer, got {kind}\"");
    let no_text = |kind: &str| format!("{{unacceptable_type,{kind}}}");
    let zero = || "{value_zero,0}".to_owned();
    let negative = || "{value_negative,-1}".to_owned();
    let said = str::to_owned;
    let (still, mut client) = begin();
    for (key, value, why) in [
        (min, text("5"), no_integer("longstr")),
        (min, Value::F64(5.0), no_integer("double")),
        (min, Value::I32(0), zero()),
        (min, Value::I32(-1), negative()),
        (min, Value::I64(ttl), format!("{{value_too_large,{ttl}}}")),
        (max, Value::I32(5), said("retry_delay_max_but_no_min_defined")),
        (max, Value::I32(0), zero()),
        (max, Value::I32(-1), negative()),
        (max, Value::Bool(true), no_integer("bool")),
        ("x-expiry", text("soon"), said("invalid_expiry")),
        ("x-expiry", text(""), said("invalid_expiry")),
        ("x-expiry", Value::Bool(true), no_text("bool")),
        (group, Value::I32(5), no_text("signedint")),
        (group, text(""), said("invalid_header_name")),
        (group, text(&long), said("invalid_header_name")),
        (group, Value::LongStr(b"\xff"), said("invalid_header_name")),
        (fair, Value::Array(list.as_ref()), no_text("array")),
        (fair, text(""), said("invalid_header_name")),
        ("x-message-deduplication", text("true"), no_text("longstr")),
        ("x-message-deduplication", Value::I32(1), no_text("signedint")),
        ("x-cache-size", Value::I32(0), zero()),
        ("x-cache-size", Value::I32(-1), negative()),
        ("x-cache-size", Value::I64(1_048_577), said("{max_value_exceeded,1048577}")),
        ("x-cache-size", text("9"), no_integer("longstr")),
        ("x-cache-ttl", Value::I32(0), zero()),
        ("x-cache-ttl", Value::I32(-1), negative()),
        ("x-cache-ttl", Value::I64(ttl), format!("{{value_too_large,{ttl}}}")),
        ("x-cache-ttl", Value::Timestamp(5), no_integer("timestamp")),
        ("x-cache-persistence", text("tape"), said("invalid_cache_persistence")),
        ("x-cache-persistence", Value::Bool(true), no_text("bool")),
        ("x-deduplication-header", Value::I32(1), no_text("signedint")),
        ("x-deduplication-header", text(""), said("invalid_header_name")),
        ("x-consumer-timeout", Value::I32(-1), negative()),
        ("x-consumer-timeout", text("5"), no_integer("longstr")),
        ("x-delivery-limit", text("5"), no_integer("longstr")),
        ("x-dead-letter-strategy", text("maybe"), said("invalid_dlx_strategy")),
        ("x-durability", text("maybe"), said("\"unsupported durability 'maybe'\"")),
        ("x-queue-type", text("magic"), said("\"unsupported queue type 'magic'\"")),
        ("x-queue-type", text("stream"), said("\"streams are not there in this version\"")),
        ("x-queue-type", Value::I32(5), no_text("signedint")),
    ] {
        let found = refused(&mut client, &declare_queue(&[(key, value)]), QUEUE_DECLARE);
        let expected = format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}");
        assert_eq!(found, expected, "{value:?}");
        assert!(!is_there(&still, "q"));
    }
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    let (min, max) = (("x-retry-delay-min", Value::I32(9)), ("x-retry-delay-max", Value::I32(8)));
    let (group, fair) = (("x-group-key", text("g")), ("x-fair-key", text("f")));
    let priority = ("x-max-priority", Value::I32(3));
    let (still, mut client) = begin();
    for (arguments, key, why) in [
        ([min, max], max.0, "{value_too_small,8}"),
        ([max, min], max.0, "{value_too_small,8}"),
        ([group, fair], fair.0, "fair_key_but_group_key_defined"),
        ([priority, group], group.0, "group_key_but_max_priority_defined"),
        ([priority, fair], fair.0, "fair_key_but_max_priority_defined"),
        ([min, group], group.0, "group_key_but_retry_delay_min_defined"),
        ([min, fair], fair.0, "fair_key_but_retry_delay_min_defined"),
    ] {
        let found = refused(&mut client, &declare_queue(&arguments), QUEUE_DECLARE);
        assert_eq!(found, format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}"));
        assert!(!is_there(&still, "q"));
    }
}

/// Arguments, each with a value, its text in an answer, and another value with its text.
const TWO_VALUES: [(&str, Value<'_>, &str, Value<'_>, &str); 12] = [
    ("x-retry-delay-min", Value::I32(5), "5", Value::I32(6), "6"),
    ("x-expiry", Value::LongStr(b"head"), "head", Value::LongStr(b"exact"), "exact"),
    ("x-group-key", Value::LongStr(b"a"), "a", Value::LongStr(b"b"), "b"),
    ("x-fair-key", Value::LongStr(b"a"), "a", Value::LongStr(b"b"), "b"),
    ("x-message-deduplication", Value::Bool(true), "true", Value::Bool(false), "false"),
    ("x-cache-size", Value::I32(5), "5", Value::I32(6), "6"),
    ("x-cache-ttl", Value::I32(5), "5", Value::I32(6), "6"),
    ("x-cache-persistence", Value::LongStr(b"disk"), "disk", Value::LongStr(b"memory"), "memory"),
    ("x-deduplication-header", Value::LongStr(b"a"), "a", Value::LongStr(b"b"), "b"),
    ("x-consumer-timeout", Value::I32(5000), "5000", Value::I32(6000), "6000"),
    ("x-delivery-limit", Value::I32(5), "5", Value::I32(6), "6"),
    ("x-durability", Value::LongStr(b"os"), "os", Value::LongStr(b"fsync"), "fsync"),
];

fn kind(value: Value<'_>) -> &'static str {
    match value {
        Value::I32(_) => "signedint",
        Value::Bool(_) => "bool",
        _ => "longstr",
    }
}

#[test]
fn a_redeclare_must_repeat_each_of_our_arguments() {
    for (key, value, said, other, other_said) in TWO_VALUES {
        let (still, mut client) = begin();
        let same = declare_queue(&[(key, value)]);
        let prefix = format!("inequivalent arg '{key}' for queue 'q' in vhost '/': received");
        let one = format!("the value '{said}' of type '{}'", kind(value));
        accepted(&still, &mut client, &same, QUEUE_DECLARE_OK);
        let found = refused(&mut client, &declare_queue(&[(key, other)]), QUEUE_DECLARE);
        assert_eq!(found, format!("{prefix} '{other_said}' but current is '{said}'"));
        let found = refused(&mut client, &declare_queue(&[]), QUEUE_DECLARE);
        assert_eq!(found, format!("{prefix} none but current is {one}"));
        accepted(&still, &mut client, &same, QUEUE_DECLARE_OK);

        let (still, mut client) = begin();
        accepted(&still, &mut client, &declare_queue(&[]), QUEUE_DECLARE_OK);
        let found = refused(&mut client, &same, QUEUE_DECLARE);
        assert_eq!(found, format!("{prefix} {one} but current is none"));
    }
}

#[test]
fn a_redeclare_must_repeat_what_an_exchange_remembers() {
    for (key, value, said, other, other_said) in &TWO_VALUES[4..9] {
        let (still, mut client) = begin();
        let same = declare_exchange("direct", &[(key, *value)]);
        accepted(&still, &mut client, &same, EXCHANGE_DECLARE_OK);
        let another = declare_exchange("direct", &[(key, *other)]);
        let found = refused(&mut client, &another, EXCHANGE_DECLARE);
        let expected = format!(
            "inequivalent arg '{key}' for exchange 'x' in vhost '/': received '{other_said}' but \
             current is '{said}'"
        );
        assert_eq!(found, expected);
        accepted(&still, &mut client, &same, EXCHANGE_DECLARE_OK);
    }
}

#[test]
fn wrong_arguments_of_exchanges_are_refused_and_make_none() {
    let missing = "Invalid argument, 'x-delayed-type' must be an existing exchange type".to_owned();
    let itself =
        "Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'".to_owned();
    let about =
        |key: &str, why| format!("invalid arg '{key}' for exchange 'x' in vhost '/': {why}");
    let (still, mut client) = begin();
    let delayed = |value| ("x-delayed-message", [("x-delayed-type", value)].to_vec());
    let direct = |key, value| ("direct", [(key, value)].to_vec());
    for ((exchange_type, arguments), why) in [
        (("x-delayed-message", Vec::new()), missing.clone()),
        (delayed(text("")), missing.clone()),
        (delayed(text("magic")), missing.clone()),
        (delayed(Value::I32(5)), missing.clone()),
        (delayed(Value::LongStr(b"\xff")), missing),
        (delayed(text("x-delayed-message")), itself),
        (
            direct("x-message-deduplication", text("true")),
            about("x-message-deduplication", "{unacceptable_type,longstr}"),
        ),
        (direct("x-cache-size", Value::I32(-1)), about("x-cache-size", "{value_negative,-1}")),
        (
            direct("x-cache-persistence", text("tape")),
            about("x-cache-persistence", "invalid_cache_persistence"),
        ),
    ] {
        let declare = declare_exchange(exchange_type, &arguments);
        assert_eq!(refused(&mut client, &declare, EXCHANGE_DECLARE), why, "{arguments:?}");
        assert!(still.broker.vhost("/").unwrap().exchange("x").is_none());
    }
}

#[test]
fn wrong_arguments_of_consumers_are_refused_and_make_none() {
    let (still, mut client) = begin();
    accepted(&still, &mut client, &declare_queue(&[]), QUEUE_DECLARE_OK);
    for (key, value, why) in [
        ("x-priority", text("5"), ": \"expected integer, got longstr\""),
        ("x-priority", Value::F64(5.0), ": \"expected integer, got double\""),
        ("x-priority", Value::Bool(true), ": \"expected integer, got bool\""),
        ("x-priority", Value::Void, ": \"expected integer, got void\""),
        ("x-consumer-timeout", text("5"), ": \"expected integer, got longstr\""),
        ("x-consumer-timeout", Value::I64(i64::MIN), ": {value_negative,-9223372036854775808}"),
        ("x-stream-offset", text("first"), " of queue type rabbit_classic_queue"),
    ] {
        let found = refused(&mut client, &consume(&[(key, value)]), BASIC_CONSUME);
        assert_eq!(found, format!("invalid arg '{key}' for queue 'q' in vhost '/'{why}"));
        let queue = still.broker.vhost("/").unwrap().queue("q").unwrap();
        assert_eq!(queue.depth().1, 0, "consumers");
    }
    for (key, value) in [
        ("x-priority", Value::I64(i64::MIN)),
        ("x-priority", Value::I8(-1)),
        ("x-consumer-timeout", Value::I64(i64::MAX)),
    ] {
        accepted(&still, &mut client, &consume(&[(key, value)]), BASIC_CONSUME_OK);
    }
}

#[test]
fn a_timeout_of_zero_is_over_with_the_first_delivery() {
    let (still, mut client) = begin();
    let hasty = declare_queue(&[("x-consumer-timeout", Value::I32(0))]);
    accepted(&still, &mut client, &hasty, QUEUE_DECLARE_OK);
    accepted(&still, &mut client, &consume(&[]), BASIC_CONSUME_OK);
    client.say(&raw::publish(1, "q", raw::TRANSIENT, b"x"));
    client.wake();
    assert_eq!(client.methods(), [BASIC_DELIVER]);
    client.pass(1);
    assert_eq!(client.methods(), [CHANNEL_CLOSE]);
    // What waited for the channel that has ended goes first.
    client.wake();
    client.say(&raw::publish(OTHER, "other", raw::TRANSIENT, b"x"));
    client.wake();
    assert_eq!(client.methods(), [BASIC_DELIVER]);
}
