//! Section 6.6: failed deliveries of quorum queues.

use super::cases;
use crate::client::{
    Channel, Content, ack, bind, consume, declare, delete, nack, qos, reject, select_confirms,
};
use crate::codec::{Table, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::Trial;

cases! {
    "6.6": delivery_count_is_told, delivery_limit_ends_a_message, nack_counts_as_reject_does,
        beyond_its_delivery_limit_a_message_is_dead_lettered, oldest_of_a_quorum_queue_is_dropped,
        quorum_queue_expires_messages, quorum_queue_rejects_publishes,
        arguments_of_classic_queues_are_refused, global_prefetch_is_refused,
        conditional_deletion_is_refused, single_active_consumer_of_a_quorum_queue;
}

fn quorum<const N: usize>(
    trial: &Trial<'_>,
    channel: &Channel,
    arguments: [(&str, Value); N],
) -> Outcome<String> {
    let queue = trial.queue();
    let mut table = Table::from(arguments);
    table.0.push(("x-queue-type".to_owned(), "quorum".into()));
    channel.call(&declare(&queue).flags(&["durable"]).with("arguments", table))?;
    Ok(queue)
}

fn arrival(channel: &Channel, queue: &str) -> Outcome<Content> {
    eventually("a message is ready", || Ok(channel.counts(queue)?.0 > 0))?;
    channel.check_out(queue)
}

/// Takes a message, which must have come back this often, and gives it back.
fn fails(channel: &Channel, queue: &str, times: i64) -> Outcome {
    let content = arrival(channel, queue)?;
    let count = content.headers()?.get("x-delivery-count").cloned();
    same("x-delivery-count", count, Some(Value::I64(times)))?;
    channel.send(&reject(content.tag()).flags(&["requeue"]));
    Ok(())
}

fn is_gone(channel: &Channel, queue: &str) -> Outcome {
    eventually("the message is gone", || Ok(channel.counts(queue)?.0 == 0))
}

fn delivery_count_is_told(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [])?;
    channel.publish("", &queue, "x");
    (0..4).try_for_each(|times| fails(&channel, &queue, times))
}

fn delivery_limit_ends_a_message(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [("x-delivery-limit", 2.into())])?;
    channel.publish("", &queue, "x");
    (0..3).try_for_each(|times| fails(&channel, &queue, times))?;
    is_gone(&channel, &queue)
}

fn nack_counts_as_reject_does(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [("x-delivery-limit", 1.into())])?;
    channel.publish("", &queue, "x");
    let tag = arrival(&channel, &queue)?.tag();
    channel.send(&nack(tag).flags(&["requeue"]));
    fails(&channel, &queue, 1)?;
    is_gone(&channel, &queue)
}

fn beyond_its_delivery_limit_a_message_is_dead_lettered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dead = trial.new_queue(&channel)?;
    let dlx = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&dead, &dlx, ""))?;
    let arguments =
        [("x-delivery-limit", 0.into()), ("x-dead-letter-exchange", dlx.as_str().into())];
    let queue = quorum(trial, &channel, arguments)?;
    channel.publish("", &queue, "x");
    fails(&channel, &queue, 0)?;
    let content = arrival(&channel, &dead)?;
    let reason = content.headers()?.get("x-first-death-reason").cloned();
    same("reason", reason, Some("delivery_limit".into()))
}

fn oldest_of_a_quorum_queue_is_dropped(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [("x-max-length", 2.into())])?;
    channel.call(&select_confirms())?;
    for body in ["a", "b", "c"] {
        channel.publish("", &queue, body);
        channel.expect("basic.ack")?;
    }
    eventually("the oldest is dropped", || Ok(channel.counts(&queue)?.0 == 2))?;
    channel.expect_bodies(&queue, &["b", "c"])
}

fn quorum_queue_expires_messages(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [("x-message-ttl", 100.into())])?;
    channel.publish("", &queue, "x");
    is_gone(&channel, &queue)
}

fn quorum_queue_rejects_publishes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let arguments = [("x-max-length", 1.into()), ("x-overflow", "reject-publish".into())];
    let queue = quorum(trial, &channel, arguments)?;
    channel.call(&select_confirms())?;
    // It may take a few more than its limit.
    eventually("a publish is refused", || {
        channel.publish("", &queue, "x");
        Ok(channel.next_method()?.name() == "basic.nack")
    })
}

fn arguments_of_classic_queues_are_refused(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for (key, value) in [("x-max-priority", Value::I32(5)), ("x-queue-mode", "lazy".into())] {
        let queue = trial.queue();
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{key}' for {} of queue type rabbit_quorum_queue",
            trial.at("queue", &queue)
        );
        let table = Table::from([("x-queue-type", "quorum".into()), (key, value)]);
        let method = declare(&queue).flags(&["durable"]).with("arguments", table);
        channel.refuses(&method, 406, &text)?;
    }
    Ok(())
}

fn global_prefetch_is_refused(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = quorum(trial, &channel, [])?;
    channel.call(&qos(1).flags(&["global"]))?;
    let text =
        format!("NOT_IMPLEMENTED - {} does not support global qos", trial.at("queue", &queue));
    channel.kills(&consume(&queue, "t"), 540, &text)
}

fn conditional_deletion_is_refused(trial: &Trial<'_>) -> Outcome {
    for flag in ["if_empty", "if_unused"] {
        let channel = trial.channel()?;
        let queue = quorum(trial, &channel, [])?;
        let text = format!(
            "NOT_IMPLEMENTED - cannot delete {}. queue.delete operations with {} flag set are not \
             supported by quorum queues",
            trial.at("queue", &queue),
            flag.replace('_', "-")
        );
        channel.kills(&delete(&queue).flags(&[flag]), 540, &text)?;
    }
    Ok(())
}

fn single_active_consumer_of_a_quorum_queue(trial: &Trial<'_>) -> Outcome {
    let (channel, second) = (trial.channel()?, trial.channel()?);
    let queue = quorum(trial, &channel, [("x-single-active-consumer", true.into())])?;
    channel.call(&consume(&queue, "first"))?;
    second.call(&consume(&queue, "second"))?;
    channel.publish("", &queue, "a");
    let delivery = channel.delivery()?;
    channel.send(&ack(delivery.tag()));
    channel.call(&crate::client::cancel("first"))?;
    channel.publish("", &queue, "b");
    same("body", second.delivery()?.text().as_str(), "b")
}
