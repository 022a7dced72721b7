//! Failed deliveries whose next attempt is delayed: in virtual time, on sessions without sockets.

use crate::failed_deliveries::{give_back, take, with_one_message};
use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::broker::link::Workspace;
use leveret::broker::policy::{Level, SetPolicy};
use leveret::queue::Queue;
use leveret::table::Value;
use leveret::wire::method::*;
use std::sync::Arc;

/// Half a second, with up to a fifth more; the second time a second, with a fifth more or less.
const DELAY: [(&str, Value<'_>); 2] =
    [("x-retry-delay-min", Value::I32(500)), ("x-retry-delay-max", Value::I32(10_000))];

fn queue(still: &Still) -> Arc<Queue> {
    still.broker.vhost("/").unwrap().queue("q").unwrap()
}

/// Lets time pass for the client and for the ticker.
fn pass(still: &Still, client: &mut Client, ms: u64) {
    client.pass(ms);
    let mut workspace = Workspace::default();
    workspace.effects.now = client.now;
    still.broker.tick(&mut workspace);
    still.load();
    client.wake();
}

/// Takes a message, which says how often it failed, and fails it.
fn fail(still: &Still, client: &mut Client, failed: Option<i64>) {
    let (tag, count) = take(still, client).unwrap();
    assert_eq!(count, failed);
    give_back(client, tag);
}

fn settle(method: leveret::exception::MethodId, tag: u64) -> Vec<u8> {
    // No multiple, and requeue.
    raw::method(1, method, Fields::default().longlong(tag).octet(0b10))
}

#[test]
fn what_a_client_fails_waits_longer_each_time_and_is_counted_among_the_messages() {
    let (still, mut client) = with_one_message(&DELAY);
    fail(&still, &mut client, None);
    let counters = &queue(&still).counters;
    assert_eq!((counters.ready.get(), counters.retrying.get(), counters.unacked.get()), (0, 1, 0));
    assert_eq!(queue(&still).depth(), (1, 0));
    pass(&still, &mut client, 499);
    assert_eq!(take(&still, &mut client), None);
    pass(&still, &mut client, 101);
    let (tag, count) = take(&still, &mut client).unwrap();
    assert_eq!(count, Some(1));
    client.say(&settle(BASIC_NACK, tag));
    pass(&still, &mut client, 799);
    assert_eq!(take(&still, &mut client), None);
    pass(&still, &mut client, 401);
    fail(&still, &mut client, Some(2));
    let purge = Fields::default().short(0).shortstr("q").octet(0);
    client.say(&raw::method(1, QUEUE_PURGE, purge));
    still.sync();
    client.wake();
    let frames = client.hear();
    assert_eq!((frames[0].method(), frames[0].fields().long()), (Some(QUEUE_PURGE_OK), 1));
    pass(&still, &mut client, 20_000);
    assert_eq!(take(&still, &mut client), None);
}

#[test]
fn a_consumer_gets_it_when_its_time_has_come() {
    let (still, mut client) = with_one_message(&DELAY);
    client.say(&raw::consume(1, "q", false));
    client.wake();
    let frames = client.hear();
    let deliver = frames.iter().find(|frame| frame.method() == Some(BASIC_DELIVER)).unwrap();
    let tag = {
        let mut fields = deliver.fields();
        fields.shortstr();
        fields.longlong()
    };
    client.say(&settle(BASIC_NACK, tag));
    pass(&still, &mut client, 499);
    assert_eq!(client.methods(), []);
    pass(&still, &mut client, 101);
    assert_eq!(client.methods(), [BASIC_DELIVER]);
}

#[test]
fn what_is_recovered_or_left_by_a_channel_is_ready_at_once() {
    let (still, mut client) = with_one_message(&DELAY);
    take(&still, &mut client).unwrap();
    client.say(&raw::method(1, BASIC_RECOVER, Fields::default().octet(1)));
    assert_eq!(client.methods(), [BASIC_RECOVER_OK]);
    assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(1)));
    drop(client);
    let mut client = still.client();
    assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(2)));
}

#[test]
fn in_a_transaction_it_waits_from_the_commit_on() {
    let (still, mut client) = with_one_message(&DELAY);
    client.say(&raw::method(1, TX_SELECT, Fields::default()));
    client.hear();
    let (tag, _) = take(&still, &mut client).unwrap();
    client.say(&settle(BASIC_NACK, tag));
    pass(&still, &mut client, 5000);
    client.say(&raw::method(1, TX_ROLLBACK, Fields::default()));
    assert_eq!(client.methods(), [TX_ROLLBACK_OK]);
    client.say(&settle(BASIC_NACK, tag));
    client.say(&raw::method(1, TX_COMMIT, Fields::default()));
    still.sync();
    client.wake();
    client.hear();
    pass(&still, &mut client, 499);
    assert_eq!(take(&still, &mut client), None);
    pass(&still, &mut client, 101);
    assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(1)));
}

#[test]
fn a_restart_ends_no_wait_and_forgets_no_failure_whatever_remembers_them() {
    for by_checkpoint in [false, true] {
        let (still, mut client) = with_one_message(&DELAY);
        client.say(&raw::publish(1, "q", raw::PERSISTENT, b"y"));
        fail(&still, &mut client, None);
        still.sync();
        if by_checkpoint {
            assert!(still.broker.checkpoint(&still.disk).unwrap());
        }
        drop(client);
        let still = still.restart();
        let mut client = still.client();
        assert_eq!((queue(&still).depth().0, queue(&still).counters.retrying.get()), (2, 1));
        pass(&still, &mut client, 499);
        let (tag, count) = take(&still, &mut client).unwrap();
        assert_eq!(count, None, "this one has not failed");
        client.say(&raw::ack(1, tag, false));
        assert_eq!(take(&still, &mut client), None);
        pass(&still, &mut client, 101);
        fail(&still, &mut client, Some(1));
        still.sync();
        drop(client);
        let still = still.restart();
        let mut client = still.client();
        // It failed after 600 ms: what has passed meanwhile counts.
        pass(&still, &mut client, 600 + 1200);
        assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(2)));
    }
}

#[test]
fn policies_delay_too_and_the_shorter_time_counts() {
    let (still, mut client) = with_one_message(&DELAY);
    let policy = |definition| SetPolicy {
        vhost: "/",
        name: "soon",
        pattern: "^q$",
        definition,
        apply_to: "all",
        priority: 0,
    };
    let set = |level, definition| {
        still.broker.set_policy(level, &policy(definition), &mut Workspace::default()).unwrap();
        queue(&still).behaviour().retry_delay_ms
    };
    assert_eq!(set(Level::User, r#"{"retry-delay-max":5}"#), Some((500, 500)));
    let both = r#"{"retry-delay-min":300,"retry-delay-max":20000}"#;
    assert_eq!(set(Level::User, both), Some((300, 10_000)));
    assert_eq!(set(Level::Operator, r#"{"retry-delay-max":300}"#), Some((300, 300)));
    fail(&still, &mut client, None);
    pass(&still, &mut client, 299);
    assert_eq!(take(&still, &mut client), None);
    pass(&still, &mut client, 1);
    assert_eq!(take(&still, &mut client).map(|(_, count)| count), Some(Some(1)));

    for (definition, which) in
        [(r#"{"retry-delay-min":0}"#, "minimum"), (r#"{"retry-delay-max":"5"}"#, "maximum")]
    {
        let refused =
            still.broker.set_policy(Level::User, &policy(definition), &mut Workspace::default());
        let text = refused.unwrap_err().to_string();
        assert!(text.ends_with(&format!("is not a valid {which} retry delay")), "{text}");
    }
}

#[test]
fn a_queue_in_which_a_message_waits_is_not_empty() {
    let (still, mut client) = with_one_message(&DELAY);
    fail(&still, &mut client, None);
    // If empty.
    let delete = Fields::default().short(0).shortstr("q").octet(0b10);
    client.say(&raw::method(1, QUEUE_DELETE, delete));
    let frames = client.hear();
    let mut fields = frames[0].fields();
    assert_eq!((frames[0].method(), fields.short()), (Some(CHANNEL_CLOSE), 406));
    assert_eq!(fields.shortstr(), "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty");
}
