//! Section 8.2: permissions, as far as one user with few of them can show.

use super::cases;
use crate::client::{
    Channel, bind, bind_exchange, consume, declare, delete, delete_exchange, exchange, get,
    publish, purge,
};
use crate::codec::{Method, Properties, Table};
use crate::outcome::{Outcome, same};
use crate::trial::{Differs, Trial};

cases! {
    "8.2": declaring_needs_configure, passive_declaring_needs_nothing, deleting_needs_configure,
        purging_needs_read, consuming_needs_read, getting_needs_read, publishing_needs_write,
        publishing_is_refused_before_existence, default_exchange_is_called_amq_default,
        binding_needs_write_and_read, binding_exchanges_needs_write_and_read,
        dead_letter_exchange_needs_read_and_write, alternate_exchange_needs_read_and_write,
        server_named_queues_are_checked_by_name, own_things_are_allowed,
        missing_queue_is_refused_before_existence, user_id_of_another_user;
}

/// The restricted user's channel, and one of the other user.
fn channels(trial: &Trial<'_>) -> Outcome<(Channel, Channel)> {
    Ok((trial.restricted_channel()?, trial.channel()?))
}

/// What the restricted user is told; since 3.12 the text begins with the permission.
fn refusal(trial: &Trial<'_>, permission: &str, resource: &str) -> String {
    let prefix = trial.expect(Differs {
        rabbitmq: String::new(),
        leveret: format!("{permission} "),
        line: "Text of refused permissions",
    });
    let user = trial.restricted_user();
    format!("ACCESS_REFUSED - {prefix}access to {resource} refused for user '{user}'")
}

fn queue_refusal(trial: &Trial<'_>, permission: &str, queue: &str) -> String {
    refusal(trial, permission, &trial.at("queue", queue))
}

fn exchange_refusal(trial: &Trial<'_>, permission: &str, name: &str) -> String {
    refusal(trial, permission, &trial.at("exchange", name))
}

fn declaring_needs_configure(trial: &Trial<'_>) -> Outcome {
    let (channel, _) = channels(trial)?;
    for front in ["", "read-", "write-"] {
        let (queue, name) = (trial.queue_named(front), trial.exchange_named(front));
        let text = queue_refusal(trial, "configure", &queue);
        channel.refuses(&declare(&queue), 403, &text)?;
        let text = exchange_refusal(trial, "configure", &name);
        channel.refuses(&exchange(&name, "direct"), 403, &text)?;
    }
    Ok(())
}

fn passive_declaring_needs_nothing(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = channels(trial)?;
    let queue = trial.new_queue(&other)?;
    let name = trial.new_exchange(&other, "direct")?;
    channel.call(&declare(&queue).flags(&["passive"]))?;
    channel.call(&exchange(&name, "direct").flags(&["passive"])).map(drop)
}

fn deleting_needs_configure(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = channels(trial)?;
    let queue = trial.new_queue(&other)?;
    let name = trial.new_exchange(&other, "direct")?;
    channel.refuses(&delete(&queue), 403, &queue_refusal(trial, "configure", &queue))?;
    let text = exchange_refusal(trial, "configure", &name);
    channel.refuses(&delete_exchange(&name), 403, &text)
}

/// Reading a queue that may only be written is refused.
fn needs_read(trial: &Trial<'_>, method: impl Fn(&str) -> Method) -> Outcome {
    let (channel, other) = channels(trial)?;
    let queue = trial.queue_named("write-");
    other.call(&declare(&queue))?;
    channel.refuses(&method(&queue), 403, &queue_refusal(trial, "read", &queue))
}

fn purging_needs_read(trial: &Trial<'_>) -> Outcome {
    needs_read(trial, purge)
}

fn consuming_needs_read(trial: &Trial<'_>) -> Outcome {
    needs_read(trial, |queue| consume(queue, "t"))
}

fn getting_needs_read(trial: &Trial<'_>) -> Outcome {
    needs_read(trial, get)
}

fn missing_queue_is_refused_before_existence(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let queue = trial.queue();
    channel.refuses(&get(&queue), 403, &queue_refusal(trial, "read", &queue))
}

fn publishing_needs_write(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = channels(trial)?;
    let name = trial.exchange_named("read-");
    other.call(&exchange(&name, "direct"))?;
    channel.publish(&name, "key", "x");
    let text = exchange_refusal(trial, "write", &name);
    channel.expect_close(403, &text, "basic.publish")?;
    let name = trial.exchange_named("write-");
    other.call(&exchange(&name, "direct"))?;
    channel.publish(&name, "key", "x");
    channel.fence()
}

fn publishing_is_refused_before_existence(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let name = trial.exchange();
    let properties = Properties::new().with("expiration", "x");
    channel.publish_with(&publish(&name, "key"), &properties, b"x");
    channel.expect_close(403, &exchange_refusal(trial, "write", &name), "basic.publish")
}

fn default_exchange_is_called_amq_default(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    channel.publish("", "own-queue", "x");
    let text = exchange_refusal(trial, "write", "amq.default");
    channel.expect_close(403, &text, "basic.publish")?;
    let channel = trial.restricted_channel()?;
    channel.refuses(&bind_exchange("", "amq.direct", "key"), 403, &text)?;
    let arguments = Table::from([("alternate-exchange", "".into())]);
    let method = exchange(&trial.exchange_named("own-"), "direct").with("arguments", arguments);
    channel.refuses(&method, 403, &text)
}

fn binding_needs_write_and_read(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = channels(trial)?;
    let (readable, writable) = (trial.queue_named("read-"), trial.queue_named("write-"));
    let source = trial.exchange_named("write-");
    for queue in [&readable, &writable] {
        other.call(&declare(queue))?;
    }
    other.call(&exchange(&source, "direct"))?;
    let text = queue_refusal(trial, "write", &readable);
    channel.refuses(&bind(&readable, &source, "k"), 403, &text)?;
    let text = exchange_refusal(trial, "read", &source);
    channel.refuses(&bind(&writable, &source, "k"), 403, &text)
}

fn binding_exchanges_needs_write_and_read(trial: &Trial<'_>) -> Outcome {
    let (channel, other) = channels(trial)?;
    let (readable, writable) = (trial.exchange_named("read-"), trial.exchange_named("write-"));
    for name in [&readable, &writable] {
        other.call(&exchange(name, "direct"))?;
    }
    let text = exchange_refusal(trial, "write", &readable);
    channel.refuses(&bind_exchange(&readable, &writable, "k"), 403, &text)?;
    let text = exchange_refusal(trial, "read", &writable);
    channel.refuses(&bind_exchange(&writable, &writable, "k"), 403, &text)?;
    channel.call(&bind_exchange(&writable, &readable, "k")).map(drop)
}

fn dead_letter_exchange_needs_read_and_write(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let dlx = trial.exchange_named("read-");
    let arguments = Table::from([("x-dead-letter-exchange", dlx.as_str().into())]);
    let method = declare(&trial.queue_named("own-")).with("arguments", arguments);
    channel.refuses(&method, 403, &exchange_refusal(trial, "write", &dlx))
}

fn alternate_exchange_needs_read_and_write(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let alternate = trial.exchange_named("read-");
    let arguments = Table::from([("alternate-exchange", alternate.as_str().into())]);
    let method = exchange(&trial.exchange_named("own-"), "direct").with("arguments", arguments);
    channel.refuses(&method, 403, &exchange_refusal(trial, "write", &alternate))
}

fn server_named_queues_are_checked_by_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    channel.send(&declare(""));
    let close = channel.expect("channel.close")?;
    let text = close.text("reply_text");
    let name = text.split('\'').nth(1).unwrap_or_default();
    super::generated_name(name, "amq.gen-")?;
    same("reply text", text.as_str(), queue_refusal(trial, "configure", name).as_str())
}

fn own_things_are_allowed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let (queue, name) = (trial.queue_named("own-"), trial.exchange_named("own-"));
    channel.call(&declare(&queue))?;
    channel.call(&exchange(&name, "fanout"))?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.publish(&name, "", "x");
    channel.expect_bodies(&queue, &["x"])?;
    channel.call(&purge(&queue))?;
    channel.call(&delete(&queue))?;
    channel.call(&delete_exchange(&name)).map(drop)
}

fn user_id_of_another_user(trial: &Trial<'_>) -> Outcome {
    let channel = trial.restricted_channel()?;
    let text = format!(
        "PRECONDITION_FAILED - user_id property set to 'guest' but authenticated user was '{}'",
        trial.restricted_user()
    );
    let name = trial.exchange_named("own-");
    channel.call(&exchange(&name, "fanout"))?;
    let properties = Properties::new().with("user_id", "guest");
    channel.publish_with(&publish(&name, ""), &properties, b"");
    channel.expect_close(406, &text, "basic.publish")
}
