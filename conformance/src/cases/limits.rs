//! Sections 6.2, 6.3 and 6.5: expiry, length limits and priorities of classic queues.

use super::cases;
use crate::client::{Channel, consume, declare, publish, qos, reject};
use crate::codec::{Method, Properties, Table, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::Trial;
use std::time::Duration;

cases! {
    "6.2": message_expires, queue_ttl_expires, smaller_ttl_wins, ttl_of_zero_without_a_consumer,
        ttl_of_zero_with_a_consumer, expiration_is_delivered, expired_waits_behind_a_live_one,
        requeued_keep_their_deadline, taking_the_head_lets_the_next_expire, queue_expires,
        use_of_a_queue_postpones_its_expiry, consumer_postpones_the_expiry;
    "6.3": oldest_is_dropped, limit_of_zero_drops_all, unacknowledged_do_not_count,
        bytes_are_limited, limit_of_zero_with_a_consumer, reject_publish_keeps_the_oldest;
    "6.5": priorities_are_strict, priority_zero_is_a_level;
}

fn with_arguments<const N: usize>(
    trial: &Trial<'_>,
    channel: &Channel,
    arguments: [(&str, Value); N],
) -> Outcome<String> {
    let queue = trial.queue();
    channel.call(&declare(&queue).with("arguments", Table::from(arguments)))?;
    Ok(queue)
}

fn publish_expiring(channel: &Channel, queue: &str, milliseconds: &str, body: &str) {
    let properties = Properties::new().with("expiration", milliseconds);
    channel.publish_with(&publish("", queue), &properties, body.as_bytes());
}

fn expect_expiry(channel: &Channel, queue: &str) -> Outcome {
    eventually("the message expires", || Ok(channel.counts(queue)?.0 == 0))?;
    channel.expect_bodies(queue, &[])
}

fn message_expires(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_expiring(&channel, &queue, "200", "x");
    expect_expiry(&channel, &queue)
}

fn queue_ttl_expires(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-message-ttl", 200.into())])?;
    channel.publish("", &queue, "x");
    expect_expiry(&channel, &queue)
}

fn smaller_ttl_wins(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-message-ttl", 100.into())])?;
    publish_expiring(&channel, &queue, "60000", "x");
    expect_expiry(&channel, &queue)?;
    let queue = with_arguments(trial, &channel, [("x-message-ttl", 60_000.into())])?;
    publish_expiring(&channel, &queue, "100", "x");
    expect_expiry(&channel, &queue)
}

fn ttl_of_zero_without_a_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_expiring(&channel, &queue, "0", "x");
    channel.expect_ready(&queue, 0)
}

fn ttl_of_zero_with_a_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-message-ttl", 0.into())])?;
    channel.call(&consume(&queue, "t"))?;
    publish_expiring(&channel, &queue, "0", "x");
    let delivery = channel.delivery()?;
    same("expiration", delivery.properties.text("expiration").as_deref(), Some("0"))
}

fn expiration_is_delivered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_expiring(&channel, &queue, "0060000", "x");
    let content = channel.take(&queue)?;
    same("expiration", content.properties.text("expiration").as_deref(), Some("0060000"))
}

fn expired_waits_behind_a_live_one(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "live");
    publish_expiring(&channel, &queue, "1", "expired");
    channel.expect_ready(&queue, 2)?;
    std::thread::sleep(Duration::from_millis(200));
    channel.expect_ready(&queue, 2)?;
    channel.expect_bodies(&queue, &["live"])
}

fn requeued_keep_their_deadline(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_expiring(&channel, &queue, "1500", "x");
    let tag = channel.check_out(&queue)?.tag();
    std::thread::sleep(Duration::from_millis(1600));
    channel.send(&reject(tag).flags(&["requeue"]));
    channel.expect_bodies(&queue, &[])
}

fn taking_the_head_lets_the_next_expire(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "live");
    for _ in 0..3 {
        publish_expiring(&channel, &queue, "1", "expired");
    }
    channel.publish("", &queue, "last");
    channel.expect_ready(&queue, 5)?;
    std::thread::sleep(Duration::from_millis(200));
    channel.check_out(&queue)?;
    channel.expect_bodies(&queue, &["last"])
}

const SHORT: i32 = 1000;

fn expiring_queue(trial: &Trial<'_>, channel: &Channel) -> Outcome<String> {
    with_arguments(trial, channel, [("x-expires", SHORT.into())])
}

/// The queue is gone after a while in which nobody asks for it.
fn expect_gone(trial: &Trial<'_>, channel: &Channel, queue: &str) -> Outcome {
    std::thread::sleep(Duration::from_millis(SHORT as u64 * 3));
    channel.expect_absent(queue, trial.vhost())
}

fn queue_expires(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = expiring_queue(trial, &channel)?;
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(SHORT as u64 / 2));
        // Publishing is no use of the queue.
        channel.publish("", &queue, "x");
    }
    channel.expect_absent(&queue, trial.vhost())
}

fn use_of_a_queue_postpones_its_expiry(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = expiring_queue(trial, &channel)?;
    for number in 0..6 {
        std::thread::sleep(Duration::from_millis(SHORT as u64 / 3));
        if number % 2 == 0 {
            channel.quiet(&queue)?;
        } else {
            channel.expect_bodies(&queue, &[])?;
        }
    }
    expect_gone(trial, &channel, &queue)
}

fn consumer_postpones_the_expiry(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = expiring_queue(trial, &channel)?;
    channel.call(&consume(&queue, "t"))?;
    std::thread::sleep(Duration::from_millis(SHORT as u64 * 2));
    channel.call(&crate::client::cancel("t"))?;
    expect_gone(trial, &channel, &queue)
}

fn oldest_is_dropped(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-length", 2.into())])?;
    for body in ["a", "b", "c", "d"] {
        channel.publish("", &queue, body);
    }
    channel.expect_bodies(&queue, &["c", "d"])
}

fn limit_of_zero_drops_all(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-length", 0.into())])?;
    channel.publish("", &queue, "x");
    channel.expect_bodies(&queue, &[])
}

fn limit_of_zero_with_a_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-length", 0.into())])?;
    channel.call(&qos(1))?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "delivered");
    channel.expect_deliveries(&["delivered"])
}

fn unacknowledged_do_not_count(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-length", 2.into())])?;
    for body in ["a", "b"] {
        channel.publish("", &queue, body);
        channel.check_out(&queue)?;
    }
    channel.publish("", &queue, "c");
    channel.publish("", &queue, "d");
    channel.expect_bodies(&queue, &["c", "d"])
}

fn bytes_are_limited(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-length-bytes", 10.into())])?;
    let long_id = Properties::new().with("message_id", "properties do not count");
    for body in ["1234", "5678", "90", "ab"] {
        channel.publish_with(&publish("", &queue), &long_id, body.as_bytes());
    }
    channel.expect_bodies(&queue, &["5678", "90", "ab"])
}

fn reject_publish_keeps_the_oldest(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let arguments = [("x-max-length", 2.into()), ("x-overflow", "reject-publish".into())];
    let queue = with_arguments(trial, &channel, arguments)?;
    for body in ["a", "b", "c", "d"] {
        channel.publish("", &queue, body);
    }
    channel.expect_bodies(&queue, &["a", "b"])
}

fn publish_prioritised(channel: &Channel, method: &Method, priority: Option<u64>, body: &str) {
    let properties = priority
        .map_or_else(Properties::new, |priority| Properties::new().with("priority", priority));
    channel.publish_with(method, &properties, body.as_bytes());
}

fn priorities_are_strict(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-priority", 3.into())])?;
    let method = publish("", &queue);
    for (priority, body) in [
        (None, "none"),
        (Some(1), "one, first"),
        (Some(0), "zero"),
        (Some(9), "nine is three"),
        (Some(3), "three"),
        (Some(1), "one, second"),
        (Some(2), "two"),
    ] {
        publish_prioritised(&channel, &method, priority, body);
    }
    let order = ["nine is three", "three", "two", "one, first", "one, second", "none", "zero"];
    channel.expect_ready(&queue, order.len() as u64)?;
    channel.expect_bodies(&queue, &order)
}

fn priority_zero_is_a_level(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = with_arguments(trial, &channel, [("x-max-priority", 1.into())])?;
    let method = publish("", &queue);
    publish_prioritised(&channel, &method, Some(0), "zero");
    publish_prioritised(&channel, &method, Some(1), "one");
    channel.expect_bodies(&queue, &["one", "zero"])
}
