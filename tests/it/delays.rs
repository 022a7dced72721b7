//! Delayed exchanges over sockets: what clients send, see and are told, and what a restart keeps.

use crate::client::*;
use crate::program::{Program, run};
use crate::raw::{self, Fields, Raw};
use crate::support::{PATIENCE, TestBroker, soon};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};
use leveret::wire::method::*;
use std::time::{Duration, Instant, SystemTime};

const DURABLE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

async fn declare_with(channel: &Channel, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let kind = ExchangeKind::Custom("x-delayed-message".to_owned());
    let declaring = channel.exchange_declare(name.into(), kind, DURABLE, arguments);
    soon("exchange.declare-ok", declaring).await
}

async fn exchange(channel: &Channel, name: &str, kind: &str) {
    declare_with(channel, name, table([("x-delayed-type", word(kind))])).await.unwrap();
}

fn delayed(value: AMQPValue) -> BasicProperties {
    persistent().with_headers(table([("x-delay", value)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_message_is_confirmed_waits_and_says_that_it_has_waited() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "topic").await;
    declare(&channel, "q", durable()).await;
    bind(&channel, "q", "x", "a.#").await;
    let mut deliveries = Deliveries::no_ack(&channel, "q").await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let begin = Instant::now();
    for (body, value) in [
        ("last", AMQPValue::LongInt(450)),
        ("middle", word("300")),
        ("first", AMQPValue::Double(150.9)),
        ("at once", AMQPValue::LongInt(-5)),
    ] {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm = channel
            .basic_publish("x".into(), "a.b".into(), options, body.as_bytes(), delayed(value))
            .await
            .unwrap();
        // It is stored, and not returned: it may be routed when its time has come.
        assert_eq!(confirm.await.unwrap(), Confirmation::Ack(None), "{body}");
    }
    let delays = [("at once", -5), ("first", 150), ("middle", 300), ("last", 450)];
    // Which comes when is the business of tests in which no time passes by itself.
    for _ in delays {
        let delivery = deliveries.next().await;
        let body = text(delivery.data);
        let (_, ms) = delays.into_iter().find(|(name, _)| *name == body).unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(ms.max(0) as u64), "{body} is early");
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("x", "a.b"));
        let headers = delivery.properties.headers().clone().unwrap();
        let said = headers.inner().get("x-delay").unwrap();
        assert_eq!(*said, AMQPValue::LongInt(-i32::abs(ms)));
        assert!(!delivery.redelivered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_arguments_are_refused_as_the_plugin_refuses_them() {
    let broker = TestBroker::start();
    let (connection, _) = channel(&broker).await;
    let missing = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing \
                   exchange type";
    let nested = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for \
                  'x-delayed-type'";
    for (arguments, why) in [
        (FieldTable::default(), missing),
        (table([("x-delayed-type", word("nonsense"))]), missing),
        (table([("x-delayed-type", AMQPValue::LongInt(5))]), missing),
        (table([("x-delayed-type", word("x-delayed-message"))]), nested),
    ] {
        let channel = connection.create_channel().await.unwrap();
        let refused = declare_with(&channel, "x", arguments).await;
        assert_eq!(reply(refused), (406, why.to_owned()));
    }
    let channel = connection.create_channel().await.unwrap();
    let arguments = table([
        ("x-delayed-type", word("x-recent-history")),
        ("x-recent-history-length", AMQPValue::LongInt(0)),
    ]);
    let why = "PRECONDITION_FAILED - Invalid argument 0, 'x-recent-history-length' must be a \
               positive integer";
    assert_eq!(reply(declare_with(&channel, "x", arguments).await), (406, why.to_owned()));
    // What is there is only compared, as with every exchange.
    let channel = connection.create_channel().await.unwrap();
    exchange(&channel, "x", "direct").await;
    exchange(&channel, "x", "fanout").await;
    declare_with(&channel, "x", FieldTable::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_survives_a_stop_and_is_late_once() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (_connection, first) = channel(&broker).await;
    exchange(&first, "x", "direct").await;
    declare(&first, "q", durable()).await;
    bind(&first, "q", "x", "k").await;
    first.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let at = i64::try_from(unix.as_millis()).unwrap() + 400;
    let scheduled =
        persistent().with_headers(table([("x-deliver-at", AMQPValue::LongLongInt(at))]));
    for (body, properties) in [
        ("second", scheduled),
        ("first", delayed(AMQPValue::LongInt(200))),
        ("an hour later", delayed(AMQPValue::LongInt(3_600_000))),
    ] {
        let confirm = publish_to(&first, "x", "k", body, properties).await;
        assert!(confirm.await.unwrap().is_ack());
    }
    broker.stopped().await.unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (_connection, channel) = channel(&broker).await;
    let mut deliveries = Deliveries::no_ack(&channel, "q").await;
    let mut texts = deliveries.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["first", "second"]);
    let waiting = broker.broker.vhost("/").unwrap().delay_queue("x").unwrap();
    assert_eq!(waiting.depth().0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_and_a_dead_letter_can_be_delayed() {
    let broker = TestBroker::start();
    let (connection, channel) = channel(&broker).await;
    exchange(&channel, "x", "fanout").await;
    transient(&channel, "q").await;
    bind(&channel, "q", "x", "").await;
    let dead_letters = table([("x-dead-letter-exchange", word("x"))]);
    let work = channel.queue_declare("work".into(), QueueDeclareOptions::default(), dead_letters);
    soon("queue.declare-ok", work).await.unwrap();
    publish_to(&channel, "", "work", "rejected", delayed(AMQPValue::LongInt(100))).await;
    let got = get(&channel, "work").await.unwrap();
    let begin = Instant::now();
    got.delivery.nack(BasicNackOptions::default()).await.unwrap();
    let transaction = connection.create_channel().await.unwrap();
    transaction.tx_select().await.unwrap();
    publish_to(&transaction, "x", "", "committed", delayed(AMQPValue::LongInt(300))).await;
    transaction.tx_commit().await.unwrap();
    let mut deliveries = Deliveries::no_ack(&channel, "q").await;
    assert_eq!(deliveries.next_text().await, "rejected");
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!(deliveries.next_text().await, "committed");
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

/// Headers with a time, and a body that says it too.
fn scheduled(at: u64) -> Vec<u8> {
    let header = Fields::default().shortstr("x-deliver-at").octet(b'l').longlong(at).0;
    let properties = Fields::default().short(0x3000).longstr(&header).octet(2).0;
    let mut bytes = raw::publish_method(1, "x", "", 0);
    bytes.extend(raw::content_header(1, 8, &properties));
    bytes.extend(raw::frame(3, 1, &at.to_be_bytes()));
    bytes
}

fn unix_ms() -> u64 {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    unix.as_millis().try_into().unwrap()
}

/// A durable exchange `x` with a delay before a fanout to the queue `q`.
fn declare_raw(raw: &mut Raw) {
    let delayed_type = Fields::default().shortstr("x-delayed-type").octet(b'S').longstr(b"fanout");
    let declare = Fields::default().short(0).shortstr("x").shortstr("x-delayed-message").octet(2);
    let declare = raw::method(1, EXCHANGE_DECLARE, declare.longstr(&delayed_type.0));
    raw.call(&declare, EXCHANGE_DECLARE_OK);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    let bind = Fields::default().short(0).shortstr("q").shortstr("x").shortstr("");
    raw.call(&raw::method(1, QUEUE_BIND, bind.octet(0).longstr(&[])), QUEUE_BIND_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
}

#[test]
fn an_operator_lists_what_waits_cancels_and_reschedules_it() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let mut raw = Raw::channel_to(program.address);
    declare_raw(&mut raw);
    for at in [9_000_000_000_002, 9_000_000_000_001] {
        raw.call(&scheduled(at), BASIC_ACK);
    }
    let data_dir = directory.path().to_str().unwrap();
    let ctl = |arguments: &[&str]| {
        let output = run(&[&["ctl", "--data-dir", data_dir, "-q"], arguments].concat());
        let complaints = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), complaints)
    };
    let listed = || ctl(&["list_delayed", "x", "--no-table-headers"]).1;
    let rows = listed();
    let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split('\t').collect()).collect();
    let said: Vec<_> = rows.iter().map(|row| (row[1], row[2])).collect();
    assert_eq!(said, [("9000000000001", "true"), ("9000000000002", "true")]);
    assert_eq!(ctl(&["cancel_delayed", "x", rows[0][0]]), (0, String::new(), String::new()));
    let (code, _, complaints) = ctl(&["cancel_delayed", "x", rows[0][0]]);
    let why = format!("Error:\nno message {} waits in exchange 'x' any more\n", rows[0][0]);
    assert_eq!((code, complaints), (69, why));
    let left = listed();
    let left: Vec<_> = left.lines().map(|row| row.split('\t').next().unwrap()).collect();
    let reschedule = ["reschedule_delayed", "x", left[0], "9000000000007"];
    assert_eq!((left.len(), ctl(&reschedule)), (1, (0, String::new(), String::new())));
    let (code, _, complaints) = ctl(&reschedule);
    assert_eq!(code, 69, "{complaints}");
    let rows = listed();
    assert_eq!(
        rows.lines().map(|row| row.split('\t').nth(1)).collect::<Vec<_>>(),
        [Some("9000000000007")]
    );
    let (code, _, complaints) = ctl(&["reschedule_delayed", "x", left[0], "1800000000"]);
    assert!(code == 64 && complaints.contains("before 1974: give milliseconds"), "{complaints}");
    let (_, json, _) = ctl(&["list_delayed", "x", "--formatter", "json"]);
    let first = format!("[\n{{\"id\":\"{}\",", rows.split('\t').next().unwrap());
    assert!(json.starts_with(&first), "an id is text, or readers with doubles round it: {json}");
    let (code, _, complaints) = ctl(&["list_delayed", "amq.direct"]);
    let why = "Error:\nexchange 'amq.direct' in vhost '/' is not of type x-delayed-message\n";
    assert_eq!((code, complaints.as_str()), (69, why));
    let (code, _, complaints) = ctl(&["list_delayed", "-p", "none", "x"]);
    assert_eq!((code, complaints.as_str()), (65, "Virtual host 'none' does not exist\n"));
    let (code, _, complaints) = ctl(&["list_delayed", "--limit", "100001", "x"]);
    assert!(code == 64 && complaints.contains("100001 is not in 1..=100000"), "{complaints}");
}

/// Many messages wait for times near each other, in random order: each comes once, none early, and
/// in order. `LEVERET_LONG=1` takes a million of them, and says how late they were and what they
/// took.
#[test]
fn a_backlog_of_delayed_messages_comes_in_order_and_never_early() {
    let is_long = std::env::var_os("LEVERET_LONG").is_some();
    let (count, first_ms, spread_ms): (u64, u64, u64) =
        if is_long { (1_000_000, 60_000, 60_000) } else { (3_000, 1_500, 500) };
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let mut raw = Raw::channel_to(program.address);
    declare_raw(&mut raw);
    let first = unix_ms() + first_ms;
    let (mut confirmed, begin) = (0, Instant::now());
    for nth in 0..count {
        raw.send(&scheduled(first + nth.wrapping_mul(0x9e37_79b9_7f4a_7c15) % spread_ms));
        while nth + 1 - confirmed > 1_000 {
            confirmed = raw.expect(BASIC_ACK).fields().longlong();
        }
    }
    while confirmed < count {
        confirmed = raw.expect(BASIC_ACK).fields().longlong();
    }
    let stored = begin.elapsed();
    // What is published too late to wait comes at once.
    let all_wait = unix_ms() < first;
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let memory = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().to_owned();
    raw.stream.set_read_timeout(Some(Duration::from_millis(first_ms) + PATIENCE)).unwrap();
    raw.call(&raw::consume(1, "q", true), BASIC_CONSUME_OK);
    let (mut late, mut before) = (Vec::new(), 0);
    for _ in 0..count {
        let at = u64::from_be_bytes(raw.delivery().body.try_into().unwrap());
        let now = unix_ms();
        assert!(at <= now && (before <= at || !all_wait), "{at} comes at {now} behind {before}");
        before = at;
        late.push(now - at);
    }
    late.sort_unstable();
    let part = |of: u64| late[(count * of / 1_000).min(count - 1) as usize];
    println!(
        "stored in {stored:?}; {memory}; late p50 {} p99 {} max {} ms",
        part(500),
        part(990),
        part(1_000)
    );
}
