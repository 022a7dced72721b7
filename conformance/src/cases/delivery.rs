//! Sections 4.3 and 4.5: basic.deliver, fairness between consumers, and prefetch.

use super::cases;
use crate::client::{Channel, ack, ack_up_to, consume, get, nack, qos, reject};
use crate::outcome::{Outcome, same};
use crate::trial::Trial;

cases! {
    "4.3": tags_are_per_channel_and_shared, tags_count_without_ack, redelivered_after_nack,
        redelivered_after_reject, redelivered_after_channel_close,
        redelivered_after_a_lost_connection, consumers_take_turns,
        no_ack_consumers_ignore_prefetch, order_is_publish_order;
    "4.5": prefetch_limits_unacknowledged, prefetch_is_for_later_consumers,
        prefetch_is_per_consumer, prefetch_of_zero_is_unlimited, prefetch_counts_deliveries_only,
        global_limit_is_shared, global_limit_applies_at_once, both_limits_apply,
        global_limit_is_lifted, per_consumer_qos_lifts_the_global_limit,
        quorum_refuses_a_global_limit;
}

fn publish_all(channel: &Channel, queue: &str, bodies: &[&str]) {
    bodies.iter().for_each(|body| channel.publish("", queue, body));
}

fn tags_are_per_channel_and_shared(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let other = channel.sibling()?;
    let queue = trial.new_queue(&channel)?;
    publish_all(&channel, &queue, &["a", "b", "c"]);
    same("tag", channel.check_out(&queue)?.tag(), 1)?;
    same("tag", other.check_out(&queue)?.tag(), 1)?;
    channel.call(&consume(&queue, "t"))?;
    same("tag", channel.delivery()?.tag(), 2)
}

fn tags_count_without_ack(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_all(&channel, &queue, &["a", "b", "c"]);
    same("tag", channel.take(&queue)?.tag(), 1)?;
    channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    same("tag", channel.delivery()?.tag(), 2)?;
    same("tag", channel.delivery()?.tag(), 3)
}

fn redelivered_after_nack(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_all(&channel, &queue, &["x"]);
    same("redelivered", channel.check_out(&queue)?.redelivered(), false)?;
    channel.send(&nack(1).flags(&["requeue"]));
    same("redelivered", channel.check_out(&queue)?.redelivered(), true)
}

fn redelivered_after_reject(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    publish_all(&channel, &queue, &["x"]);
    same("redelivered", channel.delivery()?.redelivered(), false)?;
    channel.send(&reject(1).flags(&["requeue"]));
    let again = channel.delivery()?;
    same("redelivered", again.redelivered(), true)?;
    same("tag", again.tag(), 2)
}

fn redelivered_after_channel_close(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let other = channel.sibling()?;
    let queue = trial.new_queue(&channel)?;
    other.call(&consume(&queue, "t"))?;
    publish_all(&channel, &queue, &["x"]);
    other.delivery()?;
    other.close()?;
    same("redelivered", channel.take(&queue)?.redelivered(), true)
}

fn redelivered_after_a_lost_connection(trial: &Trial<'_>) -> Outcome {
    let (channel, lost) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    publish_all(&channel, &queue, &["x"]);
    channel.fence()?;
    lost.check_out(&queue)?;
    drop(lost);
    channel.call(&consume(&queue, "t"))?;
    same("redelivered", channel.delivery()?.redelivered(), true)
}

/// Whoever begins: each third message is for the same consumer, and their order is kept.
fn consumers_take_turns(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for tag in ["one", "two", "three"] {
        channel.call(&consume(&queue, tag))?;
    }
    publish_all(&channel, &queue, &["a", "b", "c", "d", "e", "f"]);
    let mut tags = Vec::new();
    for body in ["a", "b", "c", "d", "e", "f"] {
        let delivery = channel.delivery()?;
        same("body", delivery.text().as_str(), body)?;
        tags.push(delivery.method.text("consumer_tag"));
    }
    same("second round", &tags[3..], &tags[..3])?;
    tags.truncate(3);
    tags.sort_unstable();
    same("first round", tags, ["one", "three", "two"])
}

fn no_ack_consumers_ignore_prefetch(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    publish_all(&channel, &queue, &["a", "b", "c"]);
    channel.expect_deliveries(&["a", "b", "c"])
}

fn order_is_publish_order(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    for number in 0..500 {
        channel.publish("", &queue, &number.to_string());
    }
    for number in 0..500 {
        let delivery = channel.delivery()?;
        same("body", delivery.text(), number.to_string())?;
        same("tag", delivery.tag(), number + 1)?;
    }
    Ok(())
}

fn prefetch_limits_unacknowledged(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(2))?;
    channel.call(&consume(&queue, "t"))?;
    publish_all(&channel, &queue, &["a", "b", "c", "d"]);
    channel.expect_deliveries(&["a", "b"])?;
    channel.quiet(&queue)?;
    channel.send(&ack(1));
    channel.expect_deliveries(&["c"])?;
    channel.quiet(&queue)?;
    channel.send(&ack_up_to(3));
    channel.expect_deliveries(&["d"])
}

fn prefetch_is_for_later_consumers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    channel.call(&qos(1))?;
    channel.call(&consume(&one, "one"))?;
    channel.call(&qos(3))?;
    publish_all(&channel, &one, &["a", "b"]);
    channel.expect_deliveries(&["a"])?;
    channel.quiet(&one)?;
    channel.call(&consume(&two, "two"))?;
    publish_all(&channel, &two, &["1", "2", "3", "4"]);
    channel.expect_deliveries(&["1", "2", "3"])?;
    channel.quiet(&two)
}

fn prefetch_is_per_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&consume(&queue, "one"))?;
    channel.call(&consume(&queue, "two"))?;
    publish_all(&channel, &queue, &["a", "b", "c"]);
    channel.expect_deliveries(&["a", "b"])?;
    channel.quiet(&queue)
}

fn prefetch_of_zero_is_unlimited(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&qos(0))?;
    channel.call(&consume(&queue, "t"))?;
    publish_all(&channel, &queue, &["a", "b", "c"]);
    channel.expect_deliveries(&["a", "b", "c"])
}

fn prefetch_counts_deliveries_only(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    publish_all(&channel, &queue, &["got"]);
    channel.get(&get(&queue))?;
    channel.call(&qos(1))?;
    channel.call(&consume(&queue, "t"))?;
    publish_all(&channel, &queue, &["delivered"]);
    channel.expect_deliveries(&["delivered"])
}

/// A channel with two consumers of two queues and this shared limit.
fn shared_limit(trial: &Trial<'_>, limit: u16) -> Outcome<(Channel, String, String)> {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    channel.call(&qos(limit).flags(&["global"]))?;
    channel.call(&consume(&one, "one"))?;
    channel.call(&consume(&two, "two"))?;
    Ok((channel, one, two))
}

fn global_limit_is_shared(trial: &Trial<'_>) -> Outcome {
    let (channel, one, two) = shared_limit(trial, 2)?;
    publish_all(&channel, &one, &["a", "b"]);
    channel.expect_deliveries(&["a", "b"])?;
    publish_all(&channel, &two, &["c"]);
    channel.quiet(&two)?;
    channel.send(&ack(1));
    channel.expect_deliveries(&["c"])
}

fn global_limit_applies_at_once(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.call(&qos(1).flags(&["global"]))?;
    publish_all(&channel, &queue, &["a", "b"]);
    channel.expect_deliveries(&["a"])?;
    channel.quiet(&queue)?;
    channel.send(&ack(1));
    channel.expect_deliveries(&["b"])
}

fn both_limits_apply(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    channel.call(&qos(2))?;
    channel.call(&qos(3).flags(&["global"]))?;
    channel.call(&consume(&one, "one"))?;
    channel.call(&consume(&two, "two"))?;
    publish_all(&channel, &one, &["a", "b", "c"]);
    channel.expect_deliveries(&["a", "b"])?;
    channel.quiet(&one)?;
    publish_all(&channel, &two, &["1", "2"]);
    channel.expect_deliveries(&["1"])?;
    channel.quiet(&two)
}

fn global_limit_is_lifted(trial: &Trial<'_>) -> Outcome {
    let (channel, one, _) = shared_limit(trial, 1)?;
    publish_all(&channel, &one, &["a", "b", "c"]);
    channel.expect_deliveries(&["a"])?;
    channel.quiet(&one)?;
    channel.send(&qos(0).flags(&["global"]));
    expect_all_of(&channel, "basic.qos-ok", &["b", "c"])
}

fn per_consumer_qos_lifts_the_global_limit(trial: &Trial<'_>) -> Outcome {
    let (channel, one, _) = shared_limit(trial, 1)?;
    publish_all(&channel, &one, &["a", "b", "c"]);
    channel.expect_deliveries(&["a"])?;
    channel.quiet(&one)?;
    channel.send(&qos(5));
    expect_all_of(&channel, "basic.qos-ok", &["b", "c"])
}

/// The reply and the deliveries come in any order relative to each other.
fn expect_all_of(channel: &Channel, reply: &str, bodies: &[&str]) -> Outcome {
    let mut delivered = Vec::new();
    for _ in 0..=bodies.len() {
        if let Some(content) = channel.delivery_or(reply)? {
            delivered.push(content.text());
        }
    }
    same("bodies", delivered.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), bodies)
}

fn quorum_refuses_a_global_limit(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = crate::codec::Table::from([("x-queue-type", "quorum".into())]);
    let method = crate::client::declare(&queue).flags(&["durable"]);
    channel.call(&method.with("arguments", arguments))?;
    channel.call(&qos(1).flags(&["global"]))?;
    let at = trial.at("queue", &queue);
    let text = format!("NOT_IMPLEMENTED - {at} does not support global qos");
    channel.kills(&consume(&queue, "t"), 540, &text)
}
