//! Sections 2.9 to 2.11: basic.qos, basic.consume and basic.cancel.

use super::{cases, locked};
use crate::client::{Channel, cancel, consume, declare, delete, qos};
use crate::codec::{Method, Table};
use crate::outcome::{Outcome, same};
use crate::trial::{Differs, Trial};

cases! {
    "2.9": prefetch_size_is_not_implemented, qos_is_answered;
    "2.10": server_named_consumer_tags, tag_in_use, tag_is_per_channel, tag_is_free_after_cancel,
        consume_a_missing_queue, consume_a_foreign_exclusive_queue,
        exclusive_consumer_refuses_others, exclusive_is_refused_while_others_consume,
        exclusive_ends_with_its_consumer, exclusive_on_a_single_active_consumer_queue,
        no_local_is_ignored, consume_ok_precedes_deliveries, no_ack_delivers_for_good,
        quorum_ignores_exclusive;
    "2.11": cancel_an_unknown_tag, cancel_ok_carries_the_tag, cancel_keeps_unacknowledged,
        cancel_ends_deliveries, cancel_ok_follows_all_deliveries, cancel_ok_from_the_client;
}

fn prefetch_size_is_not_implemented(trial: &Trial<'_>) -> Outcome {
    let text = "NOT_IMPLEMENTED - prefetch_size!=0 (10)";
    trial.channel()?.kills(&qos(0).with("prefetch_size", 10_u32), 540, text)
}

fn qos_is_answered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&qos(0))?;
    channel.call(&qos(65_535))?;
    channel.call(&qos(1).flags(&["global"])).map(drop)
}

fn server_named_consumer_tags(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let tag = channel.call(&consume(&queue, ""))?.text("consumer_tag");
    super::generated_name(&tag, "amq.ctag-")?;
    let cancelled = channel.call(&cancel(&tag))?.text("consumer_tag");
    same("consumer tag", cancelled, tag)
}

fn tag_in_use(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.kills(&consume(&queue, "t"), 530, "NOT_ALLOWED - attempt to reuse consumer tag 't'")
}

fn tag_is_per_channel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.sibling()?.call(&consume(&queue, "t")).map(drop)
}

fn tag_is_free_after_cancel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for _ in 0..3 {
        channel.call(&consume(&queue, "t"))?;
        channel.call(&cancel("t"))?;
    }
    Ok(())
}

fn consume_a_missing_queue(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let text = format!("NOT_FOUND - no {}", trial.at("queue", &queue));
    trial.channel()?.refuses(&consume(&queue, "t"), 404, &text)
}

fn consume_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    trial.channel()?.refuses(&consume(&queue, "t"), 405, &locked(trial, &queue))
}

fn in_exclusive_use(trial: &Trial<'_>, queue: &str) -> String {
    format!("ACCESS_REFUSED - {} in exclusive use", trial.at("queue", queue))
}

fn exclusive_consumer_refuses_others(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "one").flags(&["exclusive"]))?;
    let text = in_exclusive_use(trial, &queue);
    other.refuses(&consume(&queue, "two"), 403, &text)?;
    other.refuses(&consume(&queue, "two").flags(&["exclusive"]), 403, &text)
}

fn exclusive_is_refused_while_others_consume(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "one"))?;
    let method = consume(&queue, "two").flags(&["exclusive"]);
    other.refuses(&method, 403, &in_exclusive_use(trial, &queue))
}

fn exclusive_ends_with_its_consumer(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = (trial.channel()?, trial.channel()?);
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "one").flags(&["exclusive"]))?;
    channel.call(&cancel("one"))?;
    other.call(&consume(&queue, "two")).map(drop)
}

pub(super) fn single_active_queue(trial: &Trial<'_>, channel: &Channel) -> Outcome<String> {
    let queue = trial.queue();
    let arguments = Table::from([("x-single-active-consumer", true.into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    Ok(queue)
}

fn exclusive_on_a_single_active_consumer_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = single_active_queue(trial, &channel)?;
    let method = consume(&queue, "one").flags(&["exclusive"]);
    channel.refuses(&method, 403, &in_exclusive_use(trial, &queue))
}

fn no_local_is_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t").flags(&["no_local"]))?;
    channel.publish("", &queue, "my own");
    channel.expect_deliveries(&["my own"])
}

fn consume_ok_precedes_deliveries(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "one");
    channel.publish("", &queue, "two");
    channel.call(&consume(&queue, "t"))?;
    channel.expect_deliveries(&["one", "two"])
}

fn no_ack_delivers_for_good(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    channel.publish("", &queue, "one");
    channel.expect_deliveries(&["one"])?;
    channel.close()?;
    channel.reopen()?;
    channel.expect_ready(&queue, 0)
}

fn quorum_ignores_exclusive(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([("x-queue-type", "quorum".into())]);
    channel.call(&declare(&queue).flags(&["durable"]).with("arguments", arguments))?;
    channel.call(&consume(&queue, "one").flags(&["exclusive"]))?;
    channel.call(&consume(&queue, "two").flags(&["exclusive"])).map(drop)
}

fn cancel_an_unknown_tag(trial: &Trial<'_>) -> Outcome {
    let ok = trial.channel()?.call(&cancel("never used"))?;
    same("consumer tag", ok.text("consumer_tag").as_str(), "never used")
}

fn cancel_ok_carries_the_tag(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    same("consumer tag", channel.call(&cancel("t"))?.text("consumer_tag").as_str(), "t")
}

fn cancel_keeps_unacknowledged(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    channel.call(&consume(&queue, "t"))?;
    let tag = channel.delivery()?.tag();
    channel.call(&cancel("t"))?;
    channel.expect_ready(&queue, 0)?;
    channel.send(&crate::client::nack(tag).flags(&["requeue"]));
    channel.expect_ready(&queue, 1)
}

fn cancel_ends_deliveries(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.call(&cancel("t"))?;
    channel.publish("", &queue, "late");
    channel.quiet(&queue)?;
    channel.expect_ready(&queue, 1)
}

fn cancel_ok_follows_all_deliveries(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for number in 0..50 {
        channel.publish("", &queue, &number.to_string());
    }
    channel.call(&consume(&queue, "t"))?;
    channel.send(&cancel("t"));
    let mut delivered = 0;
    while let Some(content) = channel.delivery_or("basic.cancel-ok")? {
        same("body", content.text(), delivered.to_string())?;
        delivered += 1;
    }
    channel.expect_ready(&queue, 50 - delivered)
}

fn cancel_ok_from_the_client(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.call(&delete(&queue))?;
    channel.expect("basic.cancel")?;
    let answer = Method::new("basic.cancel-ok").with("consumer_tag", "t");
    let absorbed =
        Differs { rabbitmq: false, leveret: true, line: "basic.cancel-ok from the client" };
    if !trial.expect(absorbed) {
        return channel.kills(&answer, 503, "COMMAND_INVALID - unimplemented method");
    }
    channel.send(&answer);
    channel.fence()
}
