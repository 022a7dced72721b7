//! Section 6.3: what becomes of publishes that a full queue does not take.

use super::cases;
use super::dead_letter::{arrival, morgue};
use crate::client::{Channel, bind, consume, declare, publish, reject, select_confirms};
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::Trial;

cases! {
    "6.3": reject_publish_nacks, reject_publish_counts_before_a_consumer_takes,
        reject_publish_limits_bytes, room_is_made_by_taking,
        reject_publish_dlx_dead_letters_the_newest, one_full_queue_of_two_nacks,
        full_queue_drops_dead_letters, most_urgent_is_dropped_first,
        bytes_are_those_of_all_priorities, limit_counts_what_comes_back;
}

fn limited<const N: usize>(
    trial: &Trial<'_>,
    channel: &Channel,
    overflow: &str,
    arguments: [(&str, Value); N],
) -> Outcome<String> {
    let queue = trial.queue();
    let mut table = Table::from(arguments);
    table.0.push(("x-overflow".to_owned(), overflow.into()));
    channel.call(&declare(&queue).with("arguments", table))?;
    Ok(queue)
}

/// Publishes one after the other; says which of them were confirmed.
fn confirmed(channel: &Channel, key: &str, bodies: &[&str]) -> Outcome<Vec<bool>> {
    let mut all = Vec::new();
    for body in bodies {
        channel.publish("", key, body);
        let answer = channel.next_method()?;
        all.push(answer.name() == "basic.ack");
    }
    Ok(all)
}

fn reject_publish_nacks(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = limited(trial, &channel, "reject-publish", [("x-max-length", 2.into())])?;
    channel.call(&select_confirms())?;
    let answers = confirmed(&channel, &queue, &["a", "b", "c"])?;
    same("confirmed", answers, [true, true, false])?;
    channel.expect_bodies(&queue, &["a", "b"])
}

fn reject_publish_counts_before_a_consumer_takes(trial: &Trial<'_>) -> Outcome {
    let (channel, consumer) = (trial.channel()?, trial.channel()?);
    let queue = limited(trial, &channel, "reject-publish", [("x-max-length", 0.into())])?;
    consumer.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    channel.call(&select_confirms())?;
    same("confirmed", confirmed(&channel, &queue, &["x"])?, [false])?;
    consumer.quiet(&queue)
}

fn reject_publish_limits_bytes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let limit = [("x-max-length-bytes", 4.into())];
    let queue = limited(trial, &channel, "reject-publish", limit)?;
    channel.call(&select_confirms())?;
    let answers = confirmed(&channel, &queue, &["123", "45", "4", "", "x"])?;
    same("confirmed", answers, [true, false, true, true, false])?;
    channel.expect_bodies(&queue, &["123", "4", ""])
}

fn room_is_made_by_taking(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = limited(trial, &channel, "reject-publish", [("x-max-length", 1.into())])?;
    let publisher = trial.channel()?;
    publisher.call(&select_confirms())?;
    same("confirmed", confirmed(&publisher, &queue, &["a", "b"])?, [true, false])?;
    // What is unacknowledged does not count.
    channel.check_out(&queue)?;
    same("confirmed", confirmed(&publisher, &queue, &["c", "d"])?, [true, false])?;
    channel.expect_bodies(&queue, &["c"])
}

fn reject_publish_dlx_dead_letters_the_newest(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let arguments = [("x-max-length", 1.into()), ("x-dead-letter-exchange", dlx.as_str().into())];
    let queue = limited(trial, &channel, "reject-publish-dlx", arguments)?;
    let publisher = trial.channel()?;
    publisher.call(&select_confirms())?;
    let answers = confirmed(&publisher, &queue, &["old", "new"])?;
    same("confirmed", answers, [true, false])?;
    let content = arrival(&channel, &dead)?;
    content.expect(&dlx, &queue, "new")?;
    let reason = content.headers()?.get("x-first-death-reason").cloned();
    same("reason", reason, Some("maxlen".into()))?;
    channel.expect_bodies(&queue, &["old"])
}

fn one_full_queue_of_two_nacks(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let full = limited(trial, &channel, "reject-publish", [("x-max-length", 0.into())])?;
    let other = trial.new_queue(&channel)?;
    let fanout = trial.new_exchange(&channel, "fanout")?;
    for queue in [&full, &other] {
        channel.call(&bind(queue, &fanout, ""))?;
    }
    let publisher = trial.channel()?;
    publisher.call(&select_confirms())?;
    publisher.publish(&fanout, "", "x");
    same("answer", publisher.next_method()?.name(), "basic.nack")
}

fn full_queue_drops_dead_letters(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dead = limited(trial, &channel, "reject-publish", [("x-max-length", 1.into())])?;
    let queue = trial.queue();
    let arguments = Table::from([
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", dead.as_str().into()),
    ]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    for body in ["a", "b"] {
        channel.publish("", &queue, body);
        let tag = channel.check_out(&queue)?.tag();
        channel.send(&reject(tag));
        eventually("the first is there", || Ok(channel.counts(&dead)?.0 == 1))?;
    }
    channel.expect_ready(&queue, 0)?;
    channel.expect_bodies(&dead, &["a"])
}

fn publish_prioritised(channel: &Channel, queue: &str, priority: u64, body: &str) {
    let properties = Properties::new().with("priority", priority);
    channel.publish_with(&publish("", queue), &properties, body.as_bytes());
}

fn most_urgent_is_dropped_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let arguments = [("x-max-priority", 3.into()), ("x-max-length", 2.into())];
    let queue = limited(trial, &channel, "drop-head", arguments)?;
    for (priority, body) in [(0, "zero"), (3, "three"), (1, "one")] {
        publish_prioritised(&channel, &queue, priority, body);
    }
    channel.expect_bodies(&queue, &["one", "zero"])
}

fn bytes_are_those_of_all_priorities(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let arguments = [("x-max-priority", 3.into()), ("x-max-length-bytes", 4.into())];
    let queue = limited(trial, &channel, "reject-publish", arguments)?;
    for (priority, body) in [(3, "123"), (0, "45"), (1, "4")] {
        publish_prioritised(&channel, &queue, priority, body);
    }
    channel.expect_bodies(&queue, &["123", "4"])
}

fn limit_counts_what_comes_back(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = limited(trial, &channel, "drop-head", [("x-max-length", 1.into())])?;
    channel.publish("", &queue, "a");
    let tag = channel.check_out(&queue)?.tag();
    channel.publish("", &queue, "b");
    channel.expect_ready(&queue, 1)?;
    channel.send(&reject(tag).flags(&["requeue"]));
    channel.expect_bodies(&queue, &["b"])
}
