//! Section 1.10: channel and connection exceptions, and orderly closing.

use super::cases;
use super::handshake::SILENT_CLOSE;
use crate::client::{bind, consume, declare, exchange, get, publish};
use crate::codec::{Method, Properties};
use crate::outcome::{Outcome, eventually, holds, same};
use crate::trial::Trial;
use std::time::Duration;

cases! {
    "1.10": reply_text_is_cut_at_255, reply_text_of_255_is_whole,
        channel_survives_for_other_channels, closing_channel_ignores_methods,
        closing_channel_ignores_publishes, closing_channel_answers_close,
        closing_channel_refuses_open, channel_number_is_reusable,
        channel_exception_requeues_deliveries_first, channel_exception_requeues_what_was_got,
        channel_exception_ends_consumers,
        connection_exception_discards_frames, connection_exception_answers_close,
        connection_exception_deletes_exclusive_queues_first, close_ok_ends_the_connection,
        connection_stays_until_the_client_leaves, frames_after_close_ok_are_ignored;
}

/// The text of a 404 for a queue name of this length.
fn not_found(trial: &Trial<'_>, name: &str) -> String {
    format!("NOT_FOUND - no {}", trial.at("queue", name))
}

fn reply_text_is_cut_at_255(trial: &Trial<'_>) -> Outcome {
    let name = "n".repeat(255);
    let text = not_found(trial, &name);
    let cut = format!("{}...", &text[..252]);
    trial.channel()?.refuses(&declare(&name).flags(&["passive"]), 404, &cut)
}

fn reply_text_of_255_is_whole(trial: &Trial<'_>) -> Outcome {
    let name = "n".repeat(255 - not_found(trial, "").len());
    let text = not_found(trial, &name);
    same("length", text.len(), 255)?;
    trial.channel()?.refuses(&declare(&name).flags(&["passive"]), 404, &text)
}

/// Raises a channel exception and leaves channel.close unanswered.
fn raise(trial: &Trial<'_>, channel: &crate::client::Channel) -> Outcome {
    channel.send(&declare(&trial.queue()).flags(&["passive"]));
    channel.expect("channel.close").map(drop)
}

fn channel_survives_for_other_channels(trial: &Trial<'_>) -> Outcome {
    let one = trial.channel()?;
    let two = one.sibling()?;
    raise(trial, &one)?;
    two.fence()
}

fn closing_channel_ignores_methods(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    raise(trial, &channel)?;
    channel.send(&declare(&queue));
    channel.send(&Method::new("channel.flow"));
    channel.send(&Method::new("channel.close-ok"));
    channel.reopen()?;
    channel.expect_absent(&queue, trial.vhost())
}

fn closing_channel_ignores_publishes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    raise(trial, &channel)?;
    channel.publish("", &queue, "ignored");
    channel.send(&Method::new("channel.close-ok"));
    channel.reopen()?;
    channel.expect_ready(&queue, 0)
}

fn closing_channel_answers_close(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    raise(trial, &channel)?;
    channel.close()?;
    channel.send(&Method::new("channel.close-ok"));
    channel.reopen()
}

fn channel_number_is_reusable(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for _ in 0..3 {
        raise(trial, &channel)?;
        channel.send(&Method::new("channel.close-ok"));
        channel.reopen()?;
    }
    channel.fence()
}

fn closing_channel_refuses_open(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    raise(trial, &channel)?;
    channel.kills(&Method::new("channel.open"), 504, "CHANNEL_ERROR - second 'channel.open' seen")
}

fn channel_exception_requeues_deliveries_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "back");
    channel.call(&consume(&queue, ""))?;
    channel.delivery()?;
    raise(trial, &channel)?;
    // Released before channel.close was written, so another channel finds it at once.
    let content = channel.sibling()?.take(&queue)?;
    holds(content.redelivered(), "the message is not marked as redelivered")
}

fn channel_exception_requeues_what_was_got(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "back");
    channel.check_out(&queue)?;
    raise(trial, &channel)?;
    channel.send(&Method::new("channel.close-ok"));
    channel.reopen()?;
    // RabbitMQ 3.10 requeues these only when the channel's process has ended.
    eventually("the message is ready", || Ok(channel.counts(&queue)?.0 == 1))?;
    let content = channel.take(&queue)?;
    holds(content.redelivered(), "the message is not marked as redelivered")
}

fn channel_exception_ends_consumers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&consume(&queue, "tag"))?;
    raise(trial, &channel)?;
    let consumers = channel.sibling()?.counts(&queue)?.1;
    same("consumers", consumers, 0)
}

/// Raises a connection exception and leaves connection.close unanswered.
fn raise_for_all(channel: &crate::client::Channel) -> Outcome {
    channel.send(&Method::new("channel.flow"));
    channel.connection.expect("connection.close").map(drop)
}

fn connection_exception_discards_frames(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let two = channel.sibling()?;
    raise_for_all(&channel)?;
    two.send(&declare(&queue));
    channel.connection.send(&Method::new("connection.close-ok"));
    channel.connection.expect_gone(SILENT_CLOSE)?;
    trial.channel()?.expect_absent(&queue, trial.vhost())
}

fn connection_exception_answers_close(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    raise_for_all(&channel)?;
    channel.connection.close()?;
    channel.connection.send(&Method::new("connection.close-ok"));
    channel.connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn connection_exception_deletes_exclusive_queues_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["exclusive"]))?;
    let observer = trial.channel()?;
    raise_for_all(&channel)?;
    observer.expect_absent(&queue, trial.vhost())
}

fn close_ok_ends_the_connection(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    raise_for_all(&channel)?;
    channel.connection.send(&Method::new("connection.close-ok"));
    let after = channel.connection.expect_gone(SILENT_CLOSE)?;
    holds(after < Duration::from_secs(2), format!("the connection ended only after {after:?}"))
}

fn connection_stays_until_the_client_leaves(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    connection.close()?;
    connection.expect_silence(Duration::from_millis(700))
}

fn frames_after_close_ok_are_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, other) = (trial.queue(), trial.exchange());
    channel.connection.close()?;
    channel.send(&declare(&queue));
    channel.send(&exchange(&other, "fanout"));
    channel.send(&bind(&queue, &other, ""));
    channel.send(&get(&queue));
    channel.publish_with(&publish("", &queue), &Properties::new(), b"late");
    channel.connection.expect_silence(Duration::from_millis(300))?;
    trial.channel()?.expect_absent(&queue, trial.vhost())
}
