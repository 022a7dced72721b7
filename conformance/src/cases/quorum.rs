//! Section 6.6: failed deliveries of quorum queues.

use super::cases;
use crate::client::{Channel, Content, bind, declare, nack, reject};
use crate::codec::{Table, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::Trial;

cases! {
    "6.6": delivery_count_is_told, delivery_limit_ends_a_message, nack_counts_as_reject_does,
        beyond_its_delivery_limit_a_message_is_dead_lettered;
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
