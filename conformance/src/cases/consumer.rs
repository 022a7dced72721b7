//! Section 4.4: consumer arguments, server-sent basic.cancel, single active consumers.

use super::cases;
use super::consume::single_active_queue;
use crate::client::{Channel, Login, ack, cancel, consume, delete, qos};
use crate::codec::{Method, Table, Value};
use crate::outcome::{Outcome, same};
use crate::trial::Trial;

cases! {
    "4.4": priority_of_another_type, priorities_of_every_integer_type, higher_priority_is_served,
        lower_priority_is_served_while_the_higher_is_full, negative_priority_is_below_none,
        stream_arguments_are_refused, cancel_on_ha_failover_is_accepted,
        unknown_arguments_are_accepted, queue_deletion_cancels, tag_is_free_after_server_cancel,
        no_server_cancel_without_the_capability, single_active_consumer_is_the_first,
        single_active_consumer_is_replaced, single_active_consumer_keeps_unacknowledged,
        single_active_consumer_of_a_lost_channel_leaves_order,
        single_active_consumer_of_a_lost_connection_leaves_order;
}

fn consume_with(queue: &str, tag: &str, key: &str, value: impl Into<Value>) -> Method {
    consume(queue, tag).with("arguments", Table::from([(key, value.into())]))
}

fn priority_of_another_type(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-priority' for {}: \"expected integer, got longstr\"",
        trial.at("queue", &queue)
    );
    channel.refuses(&consume_with(&queue, "t", "x-priority", "high"), 406, &text)
}

fn priorities_of_every_integer_type(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for value in [
        Value::I8(-1),
        Value::U8(1),
        Value::I16(-2),
        Value::U16(2),
        Value::I32(-3),
        Value::U32(3),
        Value::I64(-4),
    ] {
        channel.call(&consume_with(&queue, "", "x-priority", value))?;
    }
    Ok(())
}

fn higher_priority_is_served(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume_with(&queue, "low", "x-priority", 1))?;
    channel.call(&consume_with(&queue, "high", "x-priority", 2))?;
    channel.call(&consume(&queue, "none"))?;
    for number in 0..5 {
        channel.publish("", &queue, &number.to_string());
    }
    for _ in 0..5 {
        expect_consumer(&channel, "high")?;
    }
    Ok(())
}

fn expect_consumer(channel: &Channel, tag: &str) -> Outcome {
    let delivery = channel.delivery()?;
    same("consumer tag", delivery.method.text("consumer_tag").as_str(), tag)
}

fn lower_priority_is_served_while_the_higher_is_full(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&consume_with(&queue, "low", "x-priority", 1))?;
    channel.call(&consume_with(&queue, "high", "x-priority", 2))?;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body);
    }
    expect_consumer(&channel, "high")?;
    expect_consumer(&channel, "low")?;
    channel.quiet(&queue)?;
    channel.send(&ack(1));
    expect_consumer(&channel, "high")
}

fn negative_priority_is_below_none(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume_with(&queue, "below", "x-priority", -1))?;
    channel.call(&consume(&queue, "none"))?;
    channel.publish("", &queue, "one");
    channel.publish("", &queue, "two");
    expect_consumer(&channel, "none")?;
    expect_consumer(&channel, "none")
}

fn stream_arguments_are_refused(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for {} of queue type \
         rabbit_classic_queue",
        trial.at("queue", &queue)
    );
    channel.refuses(&consume_with(&queue, "t", "x-stream-offset", "first"), 406, &text)
}

fn cancel_on_ha_failover_is_accepted(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume_with(&queue, "t", "x-cancel-on-ha-failover", true)).map(drop)
}

fn unknown_arguments_are_accepted(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume_with(&queue, "t", "x-nobody-knows", Value::Void)).map(drop)
}

fn queue_deletion_cancels(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    other.call(&consume(&queue, "one"))?;
    channel.call(&delete(&queue))?;
    let method = other.expect("basic.cancel")?;
    same("consumer tag", method.text("consumer_tag").as_str(), "one")?;
    same("nowait", method.bit("nowait"), true)
}

fn tag_is_free_after_server_cancel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    channel.call(&consume(&one, "t"))?;
    channel.call(&delete(&one))?;
    channel.expect("basic.cancel")?;
    channel.call(&consume(&two, "t")).map(drop)
}

fn no_server_cancel_without_the_capability(trial: &Trial<'_>) -> Outcome {
    let login = Login { capabilities: Vec::new(), ..trial.login() };
    let (channel, other) = (trial.channel()?, login.open()?.channel(1)?);
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    other.call(&consume(&one, "t"))?;
    channel.call(&delete(&one))?;
    other.quiet(&two)
}

fn single_active_consumer_is_the_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = single_active_queue(trial, &channel)?;
    channel.call(&consume(&queue, "one"))?;
    channel.call(&consume(&queue, "two"))?;
    for body in ["a", "b", "c"] {
        channel.publish("", &queue, body);
        expect_consumer(&channel, "one")?;
    }
    same("consumers", channel.counts(&queue)?.1, 2)
}

fn single_active_consumer_is_replaced(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = single_active_queue(trial, &channel)?;
    channel.call(&consume(&queue, "one"))?;
    other.call(&consume(&queue, "two"))?;
    other.call(&consume_with(&queue, "three", "x-priority", 5))?;
    channel.call(&cancel("one"))?;
    channel.publish("", &queue, "x");
    expect_consumer(&other, "three")?;
    other.call(&cancel("three"))?;
    channel.publish("", &queue, "y");
    expect_consumer(&other, "two")
}

fn single_active_consumer_keeps_unacknowledged(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = single_active_queue(trial, &channel)?;
    channel.call(&consume(&queue, "one"))?;
    other.call(&consume(&queue, "two"))?;
    channel.publish("", &queue, "kept");
    expect_consumer(&channel, "one")?;
    channel.call(&cancel("one"))?;
    other.quiet(&queue)?;
    channel.close()?;
    let delivery = other.delivery()?;
    same("body", delivery.text().as_str(), "kept")?;
    same("redelivered", delivery.redelivered(), true)
}

/// An active consumer with two unacknowledged messages of five, and one that waits, on another
/// connection, with room for three.
fn active_and_waiting(trial: &Trial<'_>) -> Outcome<(Channel, Channel)> {
    let (active, waiting) = (trial.channel()?, trial.channel()?);
    let queue = single_active_queue(trial, &active)?;
    for body in ["a", "b", "c", "d", "e"] {
        active.publish("", &queue, body);
    }
    active.call(&qos(2))?;
    active.call(&consume(&queue, "one"))?;
    active.expect_deliveries(&["a", "b"])?;
    waiting.call(&qos(3))?;
    waiting.call(&consume(&queue, "two"))?;
    Ok((active, waiting))
}

fn single_active_consumer_of_a_lost_channel_leaves_order(trial: &Trial<'_>) -> Outcome {
    let (active, waiting) = active_and_waiting(trial)?;
    let text = "PRECONDITION_FAILED - unknown delivery tag 99";
    active.refuses(&ack(99), 406, text)?;
    waiting.expect_deliveries(&["a", "b", "c"])
}

fn single_active_consumer_of_a_lost_connection_leaves_order(trial: &Trial<'_>) -> Outcome {
    let (active, waiting) = active_and_waiting(trial)?;
    active.connection.close()?;
    waiting.expect_deliveries(&["a", "b", "c"])
}
