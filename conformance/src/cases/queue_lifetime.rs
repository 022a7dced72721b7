//! Section 2.6, living: exclusive and auto-delete queues, from birth to deletion.

use super::{cases, locked};
use crate::client::{Channel, bind, cancel, consume, declare, delete, exchange, get, purge};
use crate::codec::{Method, Table};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::Trial;

cases! {
    "2.6": exclusive_queue_is_locked_for_others, exclusive_queue_accepts_publishes_from_others,
        exclusive_queue_is_deleted_before_close_ok, durable_exclusive_queue_is_deleted_as_well,
        exclusive_queue_is_deleted_on_a_lost_connection, auto_delete_on_cancel,
        auto_delete_on_channel_close, auto_delete_on_connection_close,
        auto_delete_waits_for_the_last_consumer, auto_delete_needs_a_consumer,
        auto_delete_ignores_get, auto_delete_drops_without_dead_lettering;
}

fn exclusive(trial: &Trial<'_>, flags: &[&str]) -> Outcome<(Channel, String)> {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]).flags(flags))?;
    Ok((owner, queue))
}

fn exclusive_queue_is_locked_for_others(trial: &Trial<'_>) -> Outcome {
    let (_owner, queue) = exclusive(trial, &[])?;
    let channel = trial.channel()?;
    for method in [
        declare(&queue),
        declare(&queue).flags(&["passive"]),
        consume(&queue, ""),
        get(&queue),
        purge(&queue),
        delete(&queue),
        bind(&queue, "amq.fanout", ""),
    ] {
        channel.refuses(&method, 405, &locked(trial, &queue))?;
    }
    Ok(())
}

fn exclusive_queue_accepts_publishes_from_others(trial: &Trial<'_>) -> Outcome {
    let (owner, queue) = exclusive(trial, &[])?;
    let channel = trial.channel()?;
    channel.publish("", &queue, "from elsewhere");
    channel.fence()?;
    eventually("the message is ready", || Ok(owner.counts(&queue)?.0 == 1))?;
    owner.expect_bodies(&queue, &["from elsewhere"])
}

fn gone_with_its_connection(trial: &Trial<'_>, flags: &[&str]) -> Outcome {
    let (owner, queue) = exclusive(trial, flags)?;
    let observer = trial.channel()?;
    owner.connection.close()?;
    observer.expect_absent(&queue, trial.vhost())
}

fn exclusive_queue_is_deleted_before_close_ok(trial: &Trial<'_>) -> Outcome {
    gone_with_its_connection(trial, &[])
}

fn durable_exclusive_queue_is_deleted_as_well(trial: &Trial<'_>) -> Outcome {
    gone_with_its_connection(trial, &["durable"])
}

fn exclusive_queue_is_deleted_on_a_lost_connection(trial: &Trial<'_>) -> Outcome {
    let (owner, queue) = exclusive(trial, &[])?;
    let observer = trial.channel()?;
    drop(owner);
    eventually("the queue is gone", || gone(&observer, &queue))
}

/// Whether a passive declaration fails; the channel stays usable.
fn gone(channel: &Channel, queue: &str) -> Outcome<bool> {
    if channel.counts(queue).is_ok() {
        return Ok(false);
    }
    channel.send(&Method::new("channel.close-ok"));
    channel.reopen()?;
    Ok(true)
}

fn auto_delete(trial: &Trial<'_>, channel: &Channel) -> Outcome<String> {
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["auto_delete"]))?;
    Ok(queue)
}

fn auto_delete_on_cancel(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    let queue = auto_delete(trial, &channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.call(&cancel("tag"))?;
    observer.expect_absent(&queue, trial.vhost())
}

fn auto_delete_on_channel_close(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    let queue = auto_delete(trial, &channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.close()?;
    observer.expect_absent(&queue, trial.vhost())
}

fn auto_delete_on_connection_close(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    let queue = auto_delete(trial, &channel)?;
    channel.call(&consume(&queue, "tag"))?;
    channel.connection.close()?;
    observer.expect_absent(&queue, trial.vhost())
}

fn auto_delete_waits_for_the_last_consumer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = auto_delete(trial, &channel)?;
    channel.call(&consume(&queue, "one"))?;
    channel.call(&consume(&queue, "two"))?;
    channel.call(&cancel("one"))?;
    channel.quiet(&queue)?;
    channel.call(&cancel("two"))?;
    channel.expect_absent(&queue, trial.vhost())
}

fn auto_delete_needs_a_consumer(trial: &Trial<'_>) -> Outcome {
    let (channel, observer) = (trial.channel()?, trial.channel()?);
    let queue = auto_delete(trial, &channel)?;
    channel.connection.close()?;
    observer.quiet(&queue)
}

fn auto_delete_ignores_get(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = auto_delete(trial, &channel)?;
    channel.publish("", &queue, "x");
    channel.expect_bodies(&queue, &["x"])?;
    channel.quiet(&queue)
}

fn auto_delete_drops_without_dead_lettering(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, dead) = (trial.queue(), trial.new_queue(&channel)?);
    let dlx = trial.exchange();
    channel.call(&exchange(&dlx, "fanout"))?;
    channel.call(&bind(&dead, &dlx, ""))?;
    let arguments = Table::from([("x-dead-letter-exchange", dlx.as_str().into())]);
    channel.call(&declare(&queue).flags(&["auto_delete"]).with("arguments", arguments))?;
    channel.call(&consume(&queue, "tag"))?;
    channel.publish("", &queue, "x");
    channel.delivery()?;
    channel.call(&cancel("tag"))?;
    channel.expect_absent(&queue, trial.vhost())?;
    same("dead letters", channel.counts(&dead)?.0, 0)
}
