//! Sections 2.7 and 2.8: queue.delete and queue.purge.

use super::{cases, locked};
use crate::client::{Login, ack, bind, consume, declare, delete, exchange, purge};
use crate::codec::Table;
use crate::outcome::{Outcome, same};
use crate::trial::Trial;

cases! {
    "2.7": delete_counts_ready_messages, delete_a_missing_queue, delete_if_empty,
        delete_if_unused, if_empty_is_checked_first, delete_ok_precedes_the_cancel,
        delete_cancels_consumers_elsewhere, delete_without_the_cancel_capability,
        delete_a_foreign_exclusive_queue, delete_drops_without_dead_lettering,
        quorum_refuses_if_unused, quorum_refuses_if_empty;
    "2.8": purge_counts_ready_messages, purge_a_missing_queue, purge_spares_unacknowledged,
        purge_a_foreign_exclusive_queue, purge_does_not_dead_letter;
}

fn delete_counts_ready_messages(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body);
    }
    channel.check_out(&queue)?;
    same("messages", channel.call(&delete(&queue))?.number("message_count"), 2)
}

fn delete_a_missing_queue(trial: &Trial<'_>) -> Outcome {
    let ok = trial.channel()?.call(&delete(&trial.queue()))?;
    same("messages", ok.number("message_count"), 0)
}

fn not_empty(trial: &Trial<'_>, queue: &str) -> String {
    format!("PRECONDITION_FAILED - {} not empty", trial.at("queue", queue))
}

fn delete_if_empty(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    let method = delete(&queue).flags(&["if_empty"]);
    channel.refuses(&method, 406, &not_empty(trial, &queue))?;
    // Unacknowledged messages do not count.
    channel.check_out(&queue)?;
    same("messages", channel.call(&method)?.number("message_count"), 0)
}

fn delete_if_unused(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "tag"))?;
    let text = format!("PRECONDITION_FAILED - {} in use", trial.at("queue", &queue));
    let method = delete(&queue).flags(&["if_unused"]);
    channel.refuses(&method, 406, &text)?;
    channel.call(&method).map(drop)
}

fn if_empty_is_checked_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&crate::client::qos(1))?;
    channel.call(&consume(&queue, "tag"))?;
    channel.publish("", &queue, "with the consumer");
    channel.publish("", &queue, "ready");
    channel.delivery()?;
    let method = delete(&queue).flags(&["if_empty", "if_unused"]);
    channel.refuses(&method, 406, &not_empty(trial, &queue))
}

fn expect_cancel(channel: &crate::client::Channel, tag: &str) -> Outcome {
    let cancel = channel.expect("basic.cancel")?;
    same("consumer tag", cancel.text("consumer_tag").as_str(), tag)?;
    same("nowait", cancel.bit("nowait"), true)
}

fn delete_ok_precedes_the_cancel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.call(&delete(&queue))?;
    expect_cancel(&channel, "tag")
}

fn delete_cancels_consumers_elsewhere(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    other.call(&consume(&queue, "one"))?;
    channel.call(&delete(&queue))?;
    expect_cancel(&other, "one")?;
    // The tag is free again.
    let queue = trial.new_queue(&other)?;
    other.call(&consume(&queue, "one")).map(drop)
}

fn delete_without_the_cancel_capability(trial: &Trial<'_>) -> Outcome {
    let login = Login { capabilities: Vec::new(), ..trial.login() };
    let channel = login.open()?.channel(1)?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.call(&delete(&queue))?;
    channel.expect_absent(&queue, trial.vhost())?;
    channel.fence()
}

fn delete_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    trial.channel()?.refuses(&delete(&queue), 405, &locked(trial, &queue))
}

/// A queue with one message that would be dead-lettered, and where it would go.
fn with_dead_letters(
    trial: &Trial<'_>,
    channel: &crate::client::Channel,
) -> Outcome<(String, String)> {
    let (queue, dead) = (trial.queue(), trial.new_queue(channel)?);
    let dlx = trial.exchange();
    channel.call(&exchange(&dlx, "fanout"))?;
    channel.call(&bind(&dead, &dlx, ""))?;
    let arguments = Table::from([("x-dead-letter-exchange", dlx.as_str().into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.publish("", &queue, "x");
    Ok((queue, dead))
}

fn delete_drops_without_dead_lettering(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, dead) = with_dead_letters(trial, &channel)?;
    same("messages", channel.call(&delete(&queue))?.number("message_count"), 1)?;
    channel.expect_ready(&dead, 0)
}

fn quorum_refuses(trial: &Trial<'_>, flag: &str, name: &str) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([("x-queue-type", "quorum".into())]);
    channel.call(&declare(&queue).flags(&["durable"]).with("arguments", arguments))?;
    let text = format!(
        "NOT_IMPLEMENTED - cannot delete {}. queue.delete operations with {name} flag set are \
         not supported by quorum queues",
        trial.at("queue", &queue)
    );
    channel.kills(&delete(&queue).flags(&[flag]), 540, &super::cut(&text))
}

fn quorum_refuses_if_unused(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, "if_unused", "if-unused")
}

fn quorum_refuses_if_empty(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, "if_empty", "if-empty")
}

fn purge_counts_ready_messages(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "one");
    channel.publish("", &queue, "two");
    same("messages", channel.call(&purge(&queue))?.number("message_count"), 2)?;
    same("messages", channel.call(&purge(&queue))?.number("message_count"), 0)?;
    channel.expect_bodies(&queue, &[])
}

fn purge_a_missing_queue(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &queue));
    trial.channel()?.refuses(&purge(&queue), 404, &text)
}

fn purge_spares_unacknowledged(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "checked out");
    channel.publish("", &queue, "ready");
    let tag = channel.check_out(&queue)?.tag();
    same("messages", channel.call(&purge(&queue))?.number("message_count"), 1)?;
    channel.send(&crate::client::nack(tag).flags(&["requeue"]));
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&ack(tag));
    channel.expect_ready(&queue, 0)
}

fn purge_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    trial.channel()?.refuses(&purge(&queue), 405, &locked(trial, &queue))
}

fn purge_does_not_dead_letter(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, dead) = with_dead_letters(trial, &channel)?;
    same("messages", channel.call(&purge(&queue))?.number("message_count"), 1)?;
    channel.expect_ready(&dead, 0)
}
