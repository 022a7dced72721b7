//! Messages that come back too often, and those that never come back: in virtual time, on sessions
//! without sockets.

use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::Config;
use leveret::broker::link::Workspace;
use leveret::broker::policy::{Level, SetPolicy};
use leveret::table::{TableBuilder, Value};
use leveret::wire::Properties;
use leveret::wire::method::*;

fn declare(queue: &str, arguments: &[(&str, Value<'_>)]) -> Vec<u8> {
    let table = arguments
        .iter()
        .fold(TableBuilder::new(), |table, (key, value)| table.put(key.as_bytes(), *value));
    raw::queue_declare_with(1, queue, raw::DURABLE, table.finish().as_ref().bytes())
}

fn consume(queue: &str, arguments: &[(&str, Value<'_>)]) -> Vec<u8> {
    let table = arguments
        .iter()
        .fold(TableBuilder::new(), |table, (key, value)| table.put(key.as_bytes(), *value));
    let fields = Fields::default().short(0).shortstr(queue).shortstr("");
    let fields = fields.octet(0).longstr(table.finish().as_ref().bytes());
    raw::method(1, BASIC_CONSUME, fields)
}

pub(crate) fn give_back(client: &mut Client, tag: u64) {
    client.say(&raw::method(1, BASIC_REJECT, Fields::default().longlong(tag).octet(1)));
}

/// Takes a message out of `q`: its tag and what its delivery says of earlier ones.
pub(crate) fn take(still: &Still, client: &mut Client) -> Option<(u64, Option<i64>)> {
    client.say(&raw::get(1, "q", false));
    still.load();
    client.wake();
    let frames = client.hear();
    if frames[0].method() == Some(BASIC_GET_EMPTY) {
        return None;
    }
    assert_eq!(frames[0].method(), Some(BASIC_GET_OK));
    let headers = Properties::check(&frames[1].payload).unwrap().headers();
    let count = headers.and_then(|headers| headers.get(b"x-delivery-count"));
    Some((frames[0].fields().longlong(), count.and_then(Value::as_int)))
}

/// Takes a message and gives it back; the count that it had.
fn fail(still: &Still, client: &mut Client) -> Option<i64> {
    let (tag, count) = take(still, client).unwrap();
    give_back(client, tag);
    count
}

pub(crate) fn with_one_message(arguments: &[(&str, Value<'_>)]) -> (Still, Client) {
    one_message_in(Still::open(), arguments)
}

fn one_message_in(still: Still, arguments: &[(&str, Value<'_>)]) -> (Still, Client) {
    let mut client = still.client();
    client.say(&declare("q", arguments));
    still.sync();
    client.say(&raw::publish(1, "q", raw::PERSISTENT, b"x"));
    still.sync();
    client.wake();
    client.hear();
    (still, client)
}

#[test]
fn a_failed_delivery_counts_whatever_the_broker_remembers_it_by() {
    let (still, mut client) = with_one_message(&[("x-delivery-limit", Value::I32(3))]);
    assert_eq!(fail(&still, &mut client), None);
    still.sync();
    // By the journal alone.
    drop(client);
    let still = still.restart();
    let mut client = still.client();
    assert_eq!(fail(&still, &mut client), Some(1));
    still.sync();
    // By a checkpoint that knows more than the records before it, and by those records.
    assert!(still.broker.checkpoint(&still.disk).unwrap());
    drop(client);
    let still = still.restart();
    let mut client = still.client();
    assert_eq!(fail(&still, &mut client), Some(2));
    // A channel's end is a failed delivery too, and this one is the last.
    assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(3)));
    drop(client);
    let mut client = still.client();
    assert_eq!(take(&still, &mut client), None);
}

#[test]
fn a_quorum_queue_counts_from_the_start_and_others_not_at_all() {
    let quorum = [("x-queue-type", Value::LongStr(b"quorum"))];
    let (still, mut client) = with_one_message(&quorum);
    for count in 0..=20 {
        assert_eq!(fail(&still, &mut client), Some(count));
    }
    assert_eq!(take(&still, &mut client), None);
    let (still, mut client) = with_one_message(&[]);
    (0..30).for_each(|_| assert_eq!(fail(&still, &mut client), None));
}

/// What is said when the channel has ended, if it has.
fn end(client: &mut Client) -> Option<String> {
    let frames = client.hear();
    let close = frames.iter().find(|frame| frame.method() == Some(CHANNEL_CLOSE))?;
    let mut fields = close.fields();
    let (code, text) = (fields.short(), fields.shortstr());
    assert_eq!((code, fields.short(), fields.short()), (406, 0, 0));
    Some(text)
}

fn timed_out(ms: u64) -> Option<String> {
    Some(format!(
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
         used: {ms} ms. This timeout value can be configured, see consumers doc guide to learn more"
    ))
}

#[test]
fn a_delivery_that_is_never_acknowledged_ends_its_channel_and_goes_back() {
    let (still, mut client) = with_one_message(&[]);
    client.say(&raw::consume(1, "q", false));
    client.wake();
    client.hear();
    for minute in 1..30 {
        client.pass(60_000);
        assert_eq!(end(&mut client), None, "after {minute} minutes");
    }
    client.pass(59_999);
    assert_eq!(end(&mut client), None);
    client.pass(1);
    assert_eq!(end(&mut client), timed_out(1_800_000));
    let mut other = still.client();
    assert!(take(&still, &mut other).is_some());
}

#[test]
fn what_is_acknowledged_in_time_or_not_to_be_acknowledged_ends_nothing() {
    let (still, mut client) = with_one_message(&[("x-consumer-timeout", Value::I32(5000))]);
    let (tag, _) = take(&still, &mut client).unwrap();
    client.pass(4999);
    client.say(&raw::ack(1, tag, false));
    client.say(&raw::publish(1, "q", raw::PERSISTENT, b"x"));
    client.say(&raw::get(1, "q", true));
    client.pass(1);
    (0..100).for_each(|_| client.pass(60_000));
    assert_eq!(end(&mut client), None);
    assert_eq!(client.session.next_deadline(), None);
}

#[test]
fn a_gotten_message_has_the_time_that_its_queue_gives() {
    let (still, mut client) = with_one_message(&[("x-consumer-timeout", Value::I32(5000))]);
    take(&still, &mut client).unwrap();
    client.pass(4999);
    assert_eq!(end(&mut client), None);
    client.pass(1);
    assert_eq!(end(&mut client), timed_out(5000));
}

#[test]
fn a_consumer_says_for_itself_how_long_it_may_take() {
    let (_still, mut client) = with_one_message(&[("x-consumer-timeout", Value::I32(5000))]);
    client.say(&consume("q", &[("x-consumer-timeout", Value::I32(9000))]));
    client.wake();
    client.hear();
    client.pass(8999);
    assert_eq!(end(&mut client), None);
    client.pass(1);
    assert_eq!(end(&mut client), timed_out(9000));
}

#[test]
fn of_two_queues_the_hastier_one_counts_though_it_delivered_later() {
    let (still, mut client) = with_one_message(&[]);
    take(&still, &mut client).unwrap();
    client.say(&declare("hasty", &[("x-consumer-timeout", Value::I32(5000))]));
    still.sync();
    client.wake();
    client.pass(10_000);
    client.say(&raw::publish(1, "hasty", raw::PERSISTENT, b"x"));
    client.say(&raw::get(1, "hasty", false));
    client.hear();
    client.pass(4999);
    assert_eq!(end(&mut client), None);
    client.pass(1);
    assert_eq!(end(&mut client), timed_out(5000));
}

fn hasten(still: &Still) {
    let policy = SetPolicy {
        vhost: "/",
        name: "hasty",
        pattern: "^q$",
        definition: r#"{"consumer-timeout":5000}"#,
        apply_to: "classic_queues",
        priority: 0,
    };
    still.broker.set_policy(Level::User, &policy, &mut Workspace::default()).unwrap();
}

#[test]
fn a_policy_shortens_what_is_delivered_already_within_a_minute() {
    let no_timeout = Config { consumer_timeout_ms: None, ..Config::on_loopback("unused") };
    for config in [Config::on_loopback("unused"), no_timeout] {
        let (still, mut client) = one_message_in(Still::open_with(config), &[]);
        take(&still, &mut client).unwrap();
        client.pass(120_000);
        hasten(&still);
        client.pass(59_999);
        assert_eq!(end(&mut client), None);
        client.pass(1);
        assert_eq!(end(&mut client), timed_out(5000));
    }
}

#[test]
fn what_a_rollback_brings_back_was_delivered_when_it_was() {
    let (still, mut client) = with_one_message(&[("x-consumer-timeout", Value::I32(90_000))]);
    client.say(&raw::method(1, TX_SELECT, Fields::default()));
    client.hear();
    let (tag, _) = take(&still, &mut client).unwrap();
    client.say(&raw::ack(1, tag, false));
    client.pass(60_000);
    client.say(&raw::method(1, TX_ROLLBACK, Fields::default()));
    client.hear();
    client.pass(59_999);
    assert_eq!(end(&mut client), None);
    client.pass(1);
    assert_eq!(end(&mut client), timed_out(90_000));
}

#[test]
fn a_timeout_that_is_no_time_is_refused() {
    for (value, reason) in [
        (Value::LongStr(b"5"), "\"expected integer, got longstr\""),
        (Value::I32(-1), "{value_negative,-1}"),
    ] {
        let (_still, mut client) = with_one_message(&[]);
        client.say(&consume("q", &[("x-consumer-timeout", value)]));
        let frames = client.hear();
        let mut fields = frames[0].fields();
        assert_eq!(fields.short(), 406);
        let text = format!("invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': {reason}");
        assert_eq!(fields.shortstr(), format!("PRECONDITION_FAILED - {text}"));
    }
}
