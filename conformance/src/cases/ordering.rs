//! Section 10.3: promises about order that hold across methods, channels and connections.

use super::cases;
use crate::client::{Channel, ack, cancel, consume, declare, delete, publish, select_confirms, tx};
use crate::codec::Properties;
use crate::outcome::{Outcome, holds, same};
use crate::trial::{Differs, Trial};

cases! {
    "10.3": consume_ok_is_first, cancel_ok_is_last, return_is_before_ack,
        returns_are_before_commit_ok, delete_ok_is_before_the_cancels,
        exclusive_queues_go_before_close_ok, auto_delete_queues_go_before_cancel_ok,
        auto_delete_queues_go_before_channel_close_ok, declare_counts_the_publish_before_it,
        get_sees_the_publish_before_it, declare_sees_the_ack_before_it;
}

/// Many times the same, since a race seldom shows itself.
const ROUNDS: usize = 40;

fn consume_ok_is_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for _ in 0..ROUNDS {
        channel.publish("", &queue, "x");
        channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
        channel.delivery()?;
        channel.call(&cancel("t"))?;
    }
    Ok(())
}

fn cancel_ok_is_last(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for _ in 0..ROUNDS {
        channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
        channel.publish("", &queue, "x");
        channel.send(&cancel("t"));
        while channel.delivery_or("basic.cancel-ok")?.is_some() {}
        channel.fence()?;
        channel.get(&crate::client::get(&queue).flags(&["no_ack"]))?;
    }
    Ok(())
}

fn publish_mandatory(channel: &Channel, key: &str) {
    let method = publish("", key).flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), b"x");
}

fn return_is_before_ack(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&select_confirms())?;
    let missing = trial.queue();
    for number in 1..=ROUNDS as u64 {
        publish_mandatory(&channel, &missing);
        channel.expect_content("basic.return")?;
        same("confirm", channel.expect("basic.ack")?.number("delivery_tag"), number)?;
    }
    Ok(())
}

fn returns_are_before_commit_ok(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&tx("select"))?;
    let missing = trial.queue();
    for _ in 0..ROUNDS {
        publish_mandatory(&channel, &missing);
        channel.send(&tx("commit"));
        channel.expect_content("basic.return")?;
        channel.expect("tx.commit-ok")?;
    }
    Ok(())
}

fn delete_ok_is_before_the_cancels(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for _ in 0..ROUNDS {
        let queue = trial.new_queue(&channel)?;
        channel.call(&consume(&queue, "one"))?;
        channel.call(&consume(&queue, "two"))?;
        channel.call(&delete(&queue))?;
        let mut cancelled = Vec::new();
        for _ in 0..2 {
            cancelled.push(channel.expect("basic.cancel")?.text("consumer_tag"));
        }
        cancelled.sort_unstable();
        same("cancelled", cancelled, ["one", "two"])?;
    }
    Ok(())
}

fn exclusive_queues_go_before_close_ok(trial: &Trial<'_>) -> Outcome {
    let observer = trial.channel()?;
    for _ in 0..5 {
        let channel = trial.channel()?;
        let queue = trial.queue();
        channel.call(&declare(&queue).flags(&["exclusive"]))?;
        channel.connection.close()?;
        observer.expect_absent(&queue, trial.vhost())?;
    }
    Ok(())
}

fn auto_delete_queues_go_before_cancel_ok(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    for _ in 0..10 {
        let queue = trial.queue();
        channel.call(&declare(&queue).flags(&["auto_delete"]))?;
        channel.call(&consume(&queue, "t"))?;
        channel.call(&cancel("t"))?;
        observer.expect_absent(&queue, trial.vhost())?;
    }
    Ok(())
}

fn auto_delete_queues_go_before_channel_close_ok(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    for _ in 0..10 {
        let queue = trial.queue();
        channel.call(&declare(&queue).flags(&["auto_delete"]))?;
        channel.call(&consume(&queue, "t"))?;
        channel.close()?;
        observer.expect_absent(&queue, trial.vhost())?;
        channel.reopen()?;
    }
    Ok(())
}

/// Sends this before a passive declaration, in one write, and returns the count.
fn count_after(channel: &Channel, queue: &str, frames: &[u8]) -> Outcome<u64> {
    let passive = declare(queue).flags(&["passive"]).frame(channel.number);
    channel.connection.send_bytes(&[frames, &passive.encode()].concat());
    Ok(channel.expect("queue.declare-ok")?.number("message_count"))
}

/// RabbitMQ 3.10 answers queue.declare ahead of messages that wait for the same queue.
fn declare_counts_the_publish_before_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let exact =
        trial.expect(Differs { rabbitmq: false, leveret: true, line: "Counts of queue.declare" });
    for number in 1..=ROUNDS as u64 {
        channel.publish("", &queue, "x");
        let count = count_after(&channel, &queue, &[])?;
        let right = if exact { count == number } else { count <= number };
        holds(right, format!("{count} messages are counted after {number} publishes"))?;
    }
    channel.expect_ready(&queue, ROUNDS as u64)
}

fn get_sees_the_publish_before_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for number in 0..ROUNDS {
        channel.publish("", &queue, &number.to_string());
        same("body", channel.take(&queue)?.text(), number.to_string())?;
    }
    Ok(())
}

/// The ack frees the consumer, which gets the only message before the count is taken.
fn declare_sees_the_ack_before_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&crate::client::qos(1))?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "first");
    channel.delivery()?;
    for tag in 1..=ROUNDS as u64 {
        channel.publish("", &queue, "next");
        channel.send(&ack(tag));
        same("tag", channel.delivery()?.tag(), tag + 1)?;
        channel.expect_ready(&queue, 0)?;
    }
    Ok(())
}
