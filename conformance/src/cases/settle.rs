//! Section 4.6: basic.ack, basic.nack, basic.reject, basic.recover.

use super::cases;
use crate::client::{Channel, ack, ack_up_to, bind, consume, declare, nack, recover, reject};
use crate::codec::{Method, Table};
use crate::outcome::{Outcome, same};
use crate::trial::Trial;

cases! {
    "4.6": unknown_tag, unknown_tag_by_nack_and_reject, double_ack, tag_without_ack,
        tag_of_another_channel, multiple_settles_all_up_to, multiple_needs_the_tag_itself,
        zero_with_multiple_settles_all, zero_with_multiple_and_none, zero_without_multiple,
        ack_after_the_queue_was_deleted, nack_multiple, nack_without_requeue_drops,
        reject_without_requeue_dead_letters, requeue_keeps_the_position,
        requeue_of_several_keeps_the_order, requeue_to_the_same_consumer,
        recover_requeues_everything, recover_without_requeue, recover_async_has_no_reply,
        recover_async_without_requeue, settling_has_no_reply;
}

/// A queue with these messages, all checked out with tags from 1.
fn checked_out(trial: &Trial<'_>, bodies: &[&str]) -> Outcome<(Channel, String)> {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    bodies.iter().for_each(|body| channel.publish("", &queue, body));
    for body in bodies {
        same("body", channel.check_out(&queue)?.text().as_str(), *body)?;
    }
    Ok((channel, queue))
}

fn unknown(tag: u64) -> String {
    format!("PRECONDITION_FAILED - unknown delivery tag {tag}")
}

fn unknown_tag(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&ack(99), 406, &unknown(99))
}

fn unknown_tag_by_nack_and_reject(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.refuses(&nack(7), 406, &unknown(7))?;
    channel.refuses(&reject(8), 406, &unknown(8))
}

fn double_ack(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = checked_out(trial, &["x"])?;
    channel.send(&ack(1));
    channel.refuses(&ack(1), 406, &unknown(1))
}

fn tag_without_ack(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t").flags(&["no_ack"]))?;
    channel.publish("", &queue, "x");
    let tag = channel.delivery()?.tag();
    channel.refuses(&ack(tag), 406, &unknown(tag))
}

fn tag_of_another_channel(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = checked_out(trial, &["x"])?;
    channel.sibling()?.refuses(&ack(1), 406, &unknown(1))
}

/// What comes back when the channel ends: everything that is still unacknowledged.
fn expect_unsettled(channel: &Channel, queue: &str, bodies: &[&str]) -> Outcome {
    channel.call(&recover())?;
    channel.expect_bodies(queue, bodies)
}

fn multiple_settles_all_up_to(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c", "d"])?;
    channel.send(&ack_up_to(3));
    expect_unsettled(&channel, &queue, &["d"])
}

fn multiple_needs_the_tag_itself(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.send(&ack(2));
    channel.refuses(&ack_up_to(2), 406, &unknown(2))?;
    crate::outcome::eventually("two are ready", || Ok(channel.counts(&queue)?.0 == 2))?;
    channel.expect_bodies(&queue, &["a", "c"])
}

fn zero_with_multiple_settles_all(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.send(&ack_up_to(0));
    expect_unsettled(&channel, &queue, &[])
}

fn zero_with_multiple_and_none(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.send(&ack_up_to(0));
    channel.send(&nack(0).flags(&["multiple", "requeue"]));
    channel.fence()
}

fn zero_without_multiple(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = checked_out(trial, &["a"])?;
    channel.refuses(&ack(0), 406, &unknown(0))
}

fn ack_after_the_queue_was_deleted(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.delete_queue(&queue)?;
    channel.send(&ack(1));
    channel.send(&nack(2).flags(&["requeue"]));
    channel.send(&reject(3));
    channel.fence()
}

fn nack_multiple(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.send(&nack(2).flags(&["multiple", "requeue"]));
    channel.expect_bodies(&queue, &["a", "b"])
}

fn nack_without_requeue_drops(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.send(&nack(2).flags(&["multiple"]));
    expect_unsettled(&channel, &queue, &["c"])
}

fn reject_without_requeue_dead_letters(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, dead) = (trial.queue(), trial.new_queue(&channel)?);
    let dlx = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&dead, &dlx, ""))?;
    let arguments = Table::from([("x-dead-letter-exchange", dlx.as_str().into())]);
    channel.call(&declare(&queue).with("arguments", arguments))?;
    channel.publish("", &queue, "a");
    channel.publish("", &queue, "b");
    let first = channel.check_out(&queue)?.tag();
    channel.send(&reject(first));
    let second = channel.check_out(&queue)?.tag();
    channel.send(&nack(second));
    channel.quiet(&queue)?;
    crate::outcome::eventually("two dead letters", || Ok(channel.counts(&dead)?.0 == 2))?;
    channel.expect_bodies(&dead, &["a", "b"])
}

fn requeue_keeps_the_position(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.publish("", &queue, "d");
    for tag in [2, 3, 1] {
        channel.send(&reject(tag).flags(&["requeue"]));
    }
    channel.expect_bodies(&queue, &["a", "b", "c", "d"])
}

fn requeue_of_several_keeps_the_order(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b", "c"])?;
    channel.publish("", &queue, "d");
    channel.send(&nack(0).flags(&["multiple", "requeue"]));
    channel.expect_bodies(&queue, &["a", "b", "c", "d"])
}

fn requeue_to_the_same_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "x");
    for tag in 1..=3 {
        let delivery = channel.delivery()?;
        same("tag", delivery.tag(), tag)?;
        same("redelivered", delivery.redelivered(), tag > 1)?;
        channel.send(&nack(tag).flags(&["requeue"]));
    }
    Ok(())
}

fn recover_requeues_everything(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a"])?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "b");
    channel.expect_deliveries(&["b"])?;
    channel.send(&recover());
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.extend(channel.delivery_or("basic.recover-ok")?);
    }
    same("deliveries", deliveries.len(), 2)?;
    for (delivery, (tag, body)) in deliveries.iter().zip([(3, "a"), (4, "b")]) {
        same("tag", delivery.tag(), tag)?;
        same("body", delivery.text().as_str(), body)?;
        same("redelivered", delivery.redelivered(), true)?;
    }
    Ok(())
}

fn recover_without_requeue(trial: &Trial<'_>) -> Outcome {
    let text = "NOT_IMPLEMENTED - requeue=false";
    trial.channel()?.kills(&Method::new("basic.recover"), 540, text)
}

fn recover_async_has_no_reply(trial: &Trial<'_>) -> Outcome {
    let (channel, queue) = checked_out(trial, &["a", "b"])?;
    channel.send(&Method::new("basic.recover-async").flags(&["requeue"]));
    channel.expect_bodies(&queue, &["a", "b"])
}

fn recover_async_without_requeue(trial: &Trial<'_>) -> Outcome {
    let text = "NOT_IMPLEMENTED - requeue=false";
    trial.channel()?.kills(&Method::new("basic.recover-async"), 540, text)
}

fn settling_has_no_reply(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = checked_out(trial, &["a", "b", "c"])?;
    channel.send(&ack(1));
    channel.send(&reject(2));
    channel.send(&nack(3));
    channel.fence()
}
