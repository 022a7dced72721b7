//! Section 2.12: basic.get.

use super::{cases, locked};
use crate::client::{ack, consume, declare, get, qos};
use crate::codec::Table;
use crate::outcome::{Outcome, holds, same};
use crate::trial::Trial;

cases! {
    "2.12": get_from_an_empty_queue, get_counts_what_is_left, get_a_missing_queue,
        get_a_foreign_exclusive_queue, get_is_not_limited_by_prefetch,
        got_messages_can_be_acknowledged, get_with_no_ack_is_for_good,
        get_from_a_single_active_queue, get_beside_a_consumer;
}

fn get_from_an_empty_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.send(&get(&queue));
    let empty = channel.expect("basic.get-empty")?;
    same("cluster id", empty.text("cluster_id").as_str(), "")
}

fn get_counts_what_is_left(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body);
    }
    for (left, body) in [(2, "one"), (1, "two"), (0, "three")] {
        let content = channel.check_out(&queue)?;
        content.expect("", &queue, body)?;
        same("messages left", content.method.number("message_count"), left)?;
        same("redelivered", content.redelivered(), false)?;
        same("delivery tag", content.tag(), 3 - left)?;
    }
    Ok(())
}

fn get_a_missing_queue(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &queue));
    trial.channel()?.refuses(&get(&queue), 404, &text)
}

fn get_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    trial.channel()?.refuses(&get(&queue), 405, &locked(trial, &queue))
}

fn get_is_not_limited_by_prefetch(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&qos(1).flags(&["global"]))?;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body);
    }
    for body in ["one", "two", "three"] {
        same("body", channel.check_out(&queue)?.text().as_str(), body)?;
    }
    Ok(())
}

fn got_messages_can_be_acknowledged(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&ack(tag));
    channel.fence()?;
    channel.close()?;
    channel.reopen()?;
    channel.expect_ready(&queue, 0)
}

fn get_with_no_ack_is_for_good(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    let tag = channel.take(&queue)?.tag();
    let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    channel.refuses(&ack(tag), 406, &text)?;
    channel.expect_ready(&queue, 0)
}

fn get_from_a_single_active_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([("x-single-active-consumer", true.into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.publish("", &queue, "x");
    channel.expect_bodies(&queue, &["x"])
}

fn get_beside_a_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&qos(1))?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "delivered");
    channel.publish("", &queue, "got");
    channel.expect_deliveries(&["delivered"])?;
    let content = channel.check_out(&queue)?;
    same("body", content.text().as_str(), "got")?;
    holds(content.tag() == 2, "deliveries and gets do not share their tags")
}
