//! Section 5.1: publisher confirms.

use super::cases;
use crate::client::{Channel, bind, consume, declare, publish, select_confirms, tx};
use crate::codec::{Method, Properties, Table, Value};
use crate::outcome::{Outcome, fail, holds, same};
use crate::trial::Trial;

cases! {
    "5.1": select_is_idempotent, select_with_nowait, select_in_a_transaction, numbers_start_at_one,
        numbers_are_per_channel, numbers_count_from_the_select, second_select_keeps_counting,
        unroutable_is_acked, routed_is_acked, persistent_is_acked, acked_once_for_all_queues,
        every_publish_is_confirmed, delivered_to_a_consumer_is_acked, dropped_head_is_acked,
        expired_on_arrival_is_acked, overflow_is_nacked, nack_has_the_requeue_bit,
        overflow_in_one_of_two_queues, overflow_with_dead_letters_is_nacked,
        deleted_queue_counts_as_confirmed, mandatory_return_comes_first,
        confirms_stop_with_the_channel;
}

fn confirming(trial: &Trial<'_>) -> Outcome<Channel> {
    let channel = trial.channel()?;
    channel.call(&select_confirms())?;
    Ok(channel)
}

/// The next method confirms this one publish.
fn expect_ack(channel: &Channel, number: u64) -> Outcome {
    let ack = channel.expect("basic.ack")?;
    same("confirm", (ack.number("delivery_tag"), ack.bit("multiple")), (number, false))
}

fn select_is_idempotent(trial: &Trial<'_>) -> Outcome {
    confirming(trial)?.call(&select_confirms()).map(drop)
}

fn select_with_nowait(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.send(&select_confirms().flags(&["nowait"]));
    channel.publish("", "nowhere", "x");
    expect_ack(&channel, 1)
}

fn select_in_a_transaction(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&tx("select"))?;
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    channel.refuses(&select_confirms(), 406, text)
}

fn numbers_start_at_one(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let queue = trial.new_queue(&channel)?;
    for number in 1..=5 {
        channel.publish("", &queue, "x");
        expect_ack(&channel, number)?;
    }
    Ok(())
}

fn numbers_are_per_channel(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let other = channel.sibling()?;
    other.call(&select_confirms())?;
    for number in 1..=2 {
        for channel in [&channel, &other] {
            channel.publish("", "nowhere", "x");
            expect_ack(channel, number)?;
        }
    }
    Ok(())
}

fn numbers_count_from_the_select(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.publish("", "nowhere", "before");
    channel.call(&select_confirms())?;
    channel.publish("", "nowhere", "after");
    expect_ack(&channel, 1)
}

fn second_select_keeps_counting(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    channel.publish("", "nowhere", "x");
    expect_ack(&channel, 1)?;
    channel.call(&select_confirms())?;
    channel.publish("", "nowhere", "x");
    expect_ack(&channel, 2)
}

fn unroutable_is_acked(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    channel.publish("amq.direct", &trial.queue(), "lost");
    expect_ack(&channel, 1)
}

fn routed_is_acked(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    expect_ack(&channel, 1)?;
    channel.expect_ready(&queue, 1)
}

fn persistent_is_acked(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["durable"]))?;
    channel.publish_with(&publish("", &queue), &Properties::new().persistent(), b"x");
    expect_ack(&channel, 1)
}

fn acked_once_for_all_queues(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let name = trial.new_exchange(&channel, "fanout")?;
    for durable in [false, true, false] {
        let queue = trial.queue();
        channel.call(&declare(&queue).with("durable", durable))?;
        channel.call(&bind(&queue, &name, ""))?;
    }
    channel.publish_with(&publish(&name, ""), &Properties::new().persistent(), b"x");
    expect_ack(&channel, 1)?;
    channel.fence()
}

/// Each publish is covered by one confirm, alone or by a later one with multiple set.
fn every_publish_is_confirmed(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let (durable, transient) = (trial.queue(), trial.new_queue(&channel)?);
    channel.call(&declare(&durable).flags(&["durable"]))?;
    let total = 300;
    for number in 0..total {
        let queue = if number % 3 == 0 { &durable } else { &transient };
        channel.publish_with(&publish("", queue), &Properties::new().persistent(), b"x");
    }
    let mut open: std::collections::BTreeSet<u64> = (1..=total).collect();
    while !open.is_empty() {
        let ack = channel.expect("basic.ack")?;
        let number = ack.number("delivery_tag");
        holds(open.contains(&number), format!("{number} is confirmed twice"))?;
        if ack.bit("multiple") {
            open = open.split_off(&(number + 1));
        } else {
            open.remove(&number);
        }
    }
    channel.fence()
}

fn delivered_to_a_consumer_is_acked(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["durable"]))?;
    let consumer = channel.sibling()?;
    consumer.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    channel.publish_with(&publish("", &queue), &Properties::new().persistent(), b"x");
    expect_ack(&channel, 1)?;
    consumer.expect_deliveries(&["x"])
}

/// A queue with these arguments, and a channel in confirm mode.
fn with_arguments<const N: usize>(
    trial: &Trial<'_>,
    arguments: [(&str, Value); N],
) -> Outcome<(Channel, String)> {
    let channel = confirming(trial)?;
    let queue = trial.queue();
    channel.call(&declare(&queue).with("arguments", Table::from(arguments)))?;
    Ok((channel, queue))
}

fn dropped_head_is_acked(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = with_arguments(trial, [("x-max-length", 0.into())])?;
    channel.publish("", &queue, "x");
    expect_ack(&channel, 1)?;
    channel.expect_ready(&queue, 0)
}

fn expired_on_arrival_is_acked(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = with_arguments(trial, [("x-message-ttl", 0.into())])?;
    channel.publish("", &queue, "x");
    expect_ack(&channel, 1)?;
    channel.expect_ready(&queue, 0)
}

fn expect_nack(channel: &Channel, number: u64) -> Outcome<Method> {
    let nack = channel.expect("basic.nack")?;
    same("nack", nack.number("delivery_tag"), number)?;
    Ok(nack)
}

const REJECT: &str = "reject-publish";

fn overflow_is_nacked(trial: &Trial<'_>) -> Outcome {
    let arguments = [("x-max-length", 1.into()), ("x-overflow", REJECT.into())];
    let (channel, queue) = with_arguments(trial, arguments)?;
    channel.publish("", &queue, "kept");
    expect_ack(&channel, 1)?;
    channel.publish("", &queue, "refused");
    expect_nack(&channel, 2)?;
    channel.expect_bodies(&queue, &["kept"])?;
    channel.publish("", &queue, "next");
    expect_ack(&channel, 3)
}

fn nack_has_the_requeue_bit(trial: &Trial<'_>) -> Outcome {
    let arguments = [("x-max-length", 0.into()), ("x-overflow", REJECT.into())];
    let (channel, queue) = with_arguments(trial, arguments)?;
    channel.publish("", &queue, "refused");
    same("requeue", expect_nack(&channel, 1)?.bit("requeue"), true)
}

fn overflow_in_one_of_two_queues(trial: &Trial<'_>) -> Outcome {
    let arguments = [("x-max-length", 0.into()), ("x-overflow", REJECT.into())];
    let (channel, full) = with_arguments(trial, arguments)?;
    let other = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&full, &name, ""))?;
    channel.call(&bind(&other, &name, ""))?;
    channel.publish(&name, "", "x");
    expect_nack(&channel, 1)?;
    channel.expect_bodies(&other, &["x"])
}

fn overflow_with_dead_letters_is_nacked(trial: &Trial<'_>) -> Outcome {
    let setup = trial.channel()?;
    let dead = trial.new_queue(&setup)?;
    let dlx = trial.new_exchange(&setup, "fanout")?;
    setup.call(&bind(&dead, &dlx, ""))?;
    let arguments = [
        ("x-max-length", 1.into()),
        ("x-overflow", "reject-publish-dlx".into()),
        ("x-dead-letter-exchange", dlx.as_str().into()),
    ];
    let (channel, queue) = with_arguments(trial, arguments)?;
    channel.publish("", &queue, "kept");
    expect_ack(&channel, 1)?;
    channel.publish("", &queue, "refused");
    expect_nack(&channel, 2)?;
    crate::outcome::eventually("a dead letter", || Ok(setup.counts(&dead)?.0 == 1))?;
    setup.expect_bodies(&dead, &["refused"])?;
    channel.expect_bodies(&queue, &["kept"])
}

fn deleted_queue_counts_as_confirmed(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["durable"]))?;
    channel.publish_with(&publish("", &queue), &Properties::new().persistent(), b"x");
    channel.send(&crate::client::delete(&queue));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let method = channel.next_method()?;
        seen.push(method.name());
    }
    seen.sort_unstable();
    same("replies", seen, ["basic.ack", "queue.delete-ok"])
}

fn mandatory_return_comes_first(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    for number in 1..=20 {
        let method = publish("", &trial.queue()).flags(&["mandatory"]);
        channel.publish_with(&method, &Properties::new(), number.to_string().as_bytes());
    }
    let (mut returned, mut confirmed) = (0, 0);
    while confirmed < 20 {
        let method = channel.next_method()?;
        match method.name() {
            "basic.return" => {
                returned += 1;
                same("body", channel.content_of(method)?.text(), returned.to_string())?;
            }
            "basic.ack" => {
                confirmed = method.number("delivery_tag");
                holds(confirmed <= returned, format!("{confirmed} confirmed before its return"))?;
            }
            _ => return fail(format!("expected basic.return or basic.ack, got {method}")),
        }
    }
    Ok(())
}

fn confirms_stop_with_the_channel(trial: &Trial<'_>) -> Outcome {
    let channel = confirming(trial)?;
    channel.close()?;
    channel.reopen()?;
    channel.publish("", "nowhere", "x");
    channel.fence()
}
