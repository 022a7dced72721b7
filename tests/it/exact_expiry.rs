//! Queues whose messages expire wherever they stand, as clients see them: behind messages that
//! live, in pages on disk, after a restart, and when a policy says so.

use crate::client::*;
use crate::support::{TestBroker, wait_for};
use lapin::options::*;
use lapin::{BasicProperties, Channel};
use leveret::broker::link::Workspace;
use leveret::broker::policy::{Level, SetPolicy};
use leveret::config::Sizes;
use leveret::{Config, Server};
use std::path::Path;
use std::time::{Duration, Instant};

/// Long enough to be published whole before the first of it expires.
const TTL_MS: u64 = 1_500;

async fn declare_with(channel: &Channel, queue: &str, arguments: &[(&str, &str)]) {
    let arguments = table(arguments.iter().map(|(key, value)| (*key, word(value))));
    channel.queue_declare(queue.into(), durable(), arguments).await.unwrap();
}

async fn confirming(broker: &TestBroker) -> (lapin::Connection, Channel) {
    let (connection, channel) = channel(broker).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

fn lives(ms: u64) -> BasicProperties {
    persistent().with_expiration(ms.to_string().into())
}

async fn store(channel: &Channel, body: &str, properties: BasicProperties) {
    let confirm = publish_to(channel, "", "q", body, properties).await;
    assert!(confirm.await.unwrap().is_ack());
}

#[tokio::test]
async fn a_message_behind_one_that_lives_expires_in_its_time() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare(&channel, "dead", durable()).await;
    let mourned = [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "dead")];
    declare_with(&channel, "q", &[("x-expiry", "exact"), mourned[0], mourned[1]]).await;
    let begin = Instant::now();
    store(&channel, "stays", persistent()).await;
    store(&channel, "later", lives(200)).await;
    store(&channel, "sooner", lives(100)).await;
    let mut dead = Deliveries::no_ack(&channel, "dead").await;
    for (body, ms) in [("sooner", 100), ("later", 200)] {
        let letter = dead.next().await;
        assert!(begin.elapsed() >= Duration::from_millis(ms), "{body} is early");
        assert_eq!(text(letter.data), body);
        let headers = letter.properties.headers().clone().unwrap();
        assert_eq!(headers.inner().get("x-first-death-reason"), Some(&word("expired")));
    }
    wait_for("the queue to have one message", || broker.ready("q") == 1).await;
    assert_eq!(bodies(&channel, "q").await, ["stays"]);
}

#[tokio::test]
async fn a_policy_makes_a_queue_exact() {
    let broker = TestBroker::start();
    let (_connection, channel) = confirming(&broker).await;
    declare_with(&channel, "q", &[]).await;
    store(&channel, "stays", persistent()).await;
    for _ in 0..10 {
        store(&channel, "goes", lives(1)).await;
    }
    assert_eq!(broker.ready("q"), 11);
    let policy = |definition| SetPolicy {
        vhost: "/",
        name: "exact",
        pattern: "^q$",
        definition,
        apply_to: "queues",
        priority: 0,
    };
    let mut workspace = Workspace::default();
    let mut set =
        |definition| broker.broker.set_policy(Level::User, &policy(definition), &mut workspace);
    let refused = set(r#"{"expiry":"soon"}"#).unwrap_err();
    assert!(refused.to_string().contains("<<\"soon\">> is not a valid expiry value"), "{refused}");
    set(r#"{"expiry":"exact"}"#).unwrap();
    wait_for("the others to expire", || broker.ready("q") == 1).await;
    assert_eq!(bodies(&channel, "q").await, ["stays"]);
}

fn small(directory: &Path) -> TestBroker {
    let sizes = Sizes { resident_bytes: 200_000, load_len: 100, page_len: 50, ..Sizes::default() };
    let config = Config { sizes, ..Config::on_loopback(directory) };
    TestBroker::run(move || Server::start(config)).unwrap()
}

/// How long each of the messages lives: in no order, and every fourth for ever.
fn times(count: u64) -> impl Iterator<Item = Option<u64>> {
    (0..count).map(|n| (!n.is_multiple_of(4)).then_some(TTL_MS + n * 37 % 500))
}

/// Publishes that many messages; gives the bodies of those that do not expire.
async fn fill(channel: &Channel, count: u64) -> Vec<String> {
    let (mut confirms, mut living) = (Vec::new(), Vec::new());
    for (n, ms) in times(count).enumerate() {
        let body = format!("{n:0500}");
        let properties = ms.map_or_else(persistent, lives);
        confirms.push(publish_to(channel, "", "q", &body, properties).await);
        if ms.is_none() {
            living.push(body);
        }
    }
    for confirm in confirms {
        assert!(confirm.await.unwrap().is_ack());
    }
    living
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_leaves_the_pages_of_a_long_queue_and_the_rest_keeps_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let broker = small(directory.path());
    let (_connection, channel) = confirming(&broker).await;
    declare_with(&channel, "q", &[("x-expiry", "exact")]).await;
    let living = fill(&channel, 3_000).await;
    let left = living.len() as u64;
    wait_for("three in four to expire", || broker.ready("q") == left).await;
    assert_eq!(bodies(&channel, "q").await, living);
    broker.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_expire_after_a_restart_wherever_they_stand() {
    let directory = tempfile::tempdir().unwrap();
    let broker = small(directory.path());
    let (connection, channel) = confirming(&broker).await;
    declare_with(&channel, "q", &[("x-expiry", "exact")]).await;
    let living = fill(&channel, 1_000).await;
    let left = living.len() as u64;
    drop(connection);
    broker.stopped().await.unwrap();
    let broker = small(directory.path());
    wait_for("three in four to expire", || broker.ready("q") == left).await;
    // What has expired has ended on the disk too.
    broker.stopped().await.unwrap();
    let broker = small(directory.path());
    assert_eq!(broker.ready("q"), left);
    let (_connection, channel) = self::channel(&broker).await;
    assert_eq!(bodies(&channel, "q").await, living);
}
