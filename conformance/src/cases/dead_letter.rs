//! Section 6.4: dead-lettering from classic queues.

use super::cases;
use crate::client::{Channel, Content, bind, consume, declare, nack, publish, reject};
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, eventually, holds, same};
use crate::trial::Trial;

cases! {
    "6.4": rejected_is_dead_lettered, expired_is_dead_lettered, overflow_is_dead_lettered,
        missing_exchange_drops, default_exchange_is_a_target, dead_letter_routing_key_replaces_all,
        original_keys_and_copies_are_used, expiration_is_moved_to_the_headers,
        properties_are_kept, first_death_headers, death_is_described, second_death_is_counted,
        two_queues_are_two_deaths, redelivered_is_reset, expiry_cycle_is_dropped,
        rejection_cycle_is_allowed, internal_exchange_is_a_target;
}

fn text(value: &str) -> Value {
    value.into()
}

/// A queue with these arguments and this dead-letter exchange.
fn dying<const N: usize>(
    trial: &Trial<'_>,
    channel: &Channel,
    dlx: &str,
    arguments: [(&str, Value); N],
) -> Outcome<String> {
    let queue = trial.queue();
    let mut table = Table::from(arguments);
    table.0.push(("x-dead-letter-exchange".to_owned(), text(dlx)));
    channel.call(&declare(&queue).with("arguments", table))?;
    Ok(queue)
}

/// A fanout exchange with a queue behind it.
pub(super) fn morgue(trial: &Trial<'_>, channel: &Channel) -> Outcome<(String, String)> {
    let dead = trial.new_queue(channel)?;
    let dlx = trial.new_exchange(channel, "fanout")?;
    channel.call(&bind(&dead, &dlx, ""))?;
    Ok((dlx, dead))
}

pub(super) fn arrival(channel: &Channel, queue: &str) -> Outcome<Content> {
    eventually("a dead letter arrives", || Ok(channel.counts(queue)?.0 > 0))?;
    channel.take(queue)
}

/// Publishes a message and rejects it.
fn kill(channel: &Channel, queue: &str, properties: &Properties) -> Outcome {
    channel.publish_with(&publish("", queue), properties, b"x");
    let tag = channel.check_out(queue)?.tag();
    channel.send(&reject(tag));
    Ok(())
}

fn reason(content: &Content) -> Outcome<String> {
    match content.headers()?.get("x-first-death-reason") {
        Some(Value::Text(reason)) => Ok(String::from_utf8_lossy(reason).into_owned()),
        other => crate::outcome::fail(format!("x-first-death-reason is {other:?}")),
    }
}

fn rejected_is_dead_lettered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    kill(&channel, &queue, &Properties::new())?;
    let content = arrival(&channel, &dead)?;
    content.expect(&dlx, &queue, "x")?;
    same("reason", reason(&content)?.as_str(), "rejected")
}

fn expired_is_dead_lettered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [("x-message-ttl", 0.into())])?;
    channel.publish("", &queue, "x");
    let content = arrival(&channel, &dead)?;
    content.expect(&dlx, &queue, "x")?;
    same("reason", reason(&content)?.as_str(), "expired")
}

fn overflow_is_dead_lettered(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [("x-max-length", 1.into())])?;
    channel.publish("", &queue, "oldest");
    channel.publish("", &queue, "newest");
    let content = arrival(&channel, &dead)?;
    content.expect(&dlx, &queue, "oldest")?;
    same("reason", reason(&content)?.as_str(), "maxlen")?;
    channel.expect_bodies(&queue, &["newest"])
}

fn missing_exchange_drops(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = dying(trial, &channel, &trial.exchange(), [])?;
    kill(&channel, &queue, &Properties::new())?;
    channel.expect_ready(&queue, 0)
}

fn default_exchange_is_a_target(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dead = trial.new_queue(&channel)?;
    let key = [("x-dead-letter-routing-key", text(&dead))];
    let queue = dying(trial, &channel, "", key)?;
    kill(&channel, &queue, &Properties::new())?;
    arrival(&channel, &dead)?.expect("", &dead, "x")
}

fn internal_exchange_is_a_target(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dead, dlx) = (trial.new_queue(&channel)?, trial.exchange());
    channel.call(&crate::client::exchange(&dlx, "fanout").flags(&["internal"]))?;
    channel.call(&bind(&dead, &dlx, ""))?;
    let queue = dying(trial, &channel, &dlx, [])?;
    kill(&channel, &queue, &Properties::new())?;
    arrival(&channel, &dead)?.expect(&dlx, &queue, "x")
}

fn dead_letter_routing_key_replaces_all(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (replaced, copied) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    let dlx = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind(&replaced, &dlx, "replaced"))?;
    channel.call(&bind(&copied, &dlx, "copied"))?;
    let key = [("x-dead-letter-routing-key", text("replaced"))];
    let queue = dying(trial, &channel, &dlx, key)?;
    let copies = Value::Array(vec![text("copied")]);
    kill(&channel, &queue, &Properties::new().headers([("CC", copies)]))?;
    arrival(&channel, &replaced)?.expect(&dlx, "replaced", "x")?;
    channel.expect_ready(&copied, 0)
}

fn original_keys_and_copies_are_used(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dlx = trial.new_exchange(&channel, "direct")?;
    let queue = dying(trial, &channel, &dlx, [])?;
    let mut dead = Vec::new();
    for key in [queue.as_str(), "copied", "hidden"] {
        dead.push(trial.new_queue(&channel)?);
        channel.call(&bind(&dead[dead.len() - 1], &dlx, key))?;
    }
    let keys = |key| Value::Array(vec![text(key)]);
    let headers = [("CC", keys("copied")), ("BCC", keys("hidden"))];
    kill(&channel, &queue, &Properties::new().headers(headers))?;
    for dead in &dead {
        arrival(&channel, dead)?.expect(&dlx, &queue, "x")?;
    }
    Ok(())
}

/// The entries of x-death, newest first.
pub(super) fn deaths(content: &Content) -> Outcome<Vec<Table>> {
    let Some(Value::Array(items)) = content.headers()?.get("x-death") else {
        return crate::outcome::fail("x-death is no array");
    };
    let tables = items.iter().filter_map(|item| match item {
        Value::Table(table) => Some(table.clone()),
        _ => None,
    });
    Ok(tables.collect())
}

fn expiration_is_moved_to_the_headers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    kill(&channel, &queue, &Properties::new().with("expiration", "60000"))?;
    let content = arrival(&channel, &dead)?;
    same("expiration", content.properties.text("expiration"), None)?;
    let death = deaths(&content)?;
    let original = death.first().and_then(|death| death.get("original-expiration"));
    same("original-expiration", original, Some(&text("60000")))
}

fn properties_are_kept(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    let properties = Properties::new()
        .persistent()
        .with("priority", 3_u64)
        .with("timestamp", 1_700_000_000_u64)
        .with("message_id", "m")
        .headers([("mine", 1.into())]);
    kill(&channel, &queue, &properties)?;
    let content = arrival(&channel, &dead)?;
    for number in ["delivery_mode", "priority", "timestamp"] {
        same(number, content.properties.number(number), properties.number(number))?;
    }
    same("message_id", content.properties.text("message_id").as_deref(), Some("m"))?;
    same("header", content.headers()?.get("mine"), Some(&1.into()))
}

fn first_death_headers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    kill(&channel, &queue, &Properties::new())?;
    let content = arrival(&channel, &dead)?;
    let headers = content.headers()?;
    same("reason", headers.get("x-first-death-reason"), Some(&text("rejected")))?;
    same("queue", headers.get("x-first-death-queue"), Some(&text(&queue)))?;
    same("exchange", headers.get("x-first-death-exchange"), Some(&text("")))
}

fn death_is_described(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind(&queue, &name, "key"))?;
    let copies = Value::Array(vec![text("copied")]);
    let properties = Properties::new().headers([("CC", copies)]);
    channel.publish_with(&publish(&name, "key"), &properties, b"x");
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&nack(tag));
    let deaths = deaths(&arrival(&channel, &dead)?)?;
    same("deaths", deaths.len(), 1)?;
    let death = &deaths[0];
    same("count", death.get("count"), Some(&Value::I64(1)))?;
    same("reason", death.get("reason"), Some(&text("rejected")))?;
    same("queue", death.get("queue"), Some(&text(&queue)))?;
    same("exchange", death.get("exchange"), Some(&text(&name)))?;
    let keys = Value::Array(vec![text("key"), text("copied")]);
    same("routing-keys", death.get("routing-keys"), Some(&keys))?;
    holds(matches!(death.get("time"), Some(Value::Timestamp(_))), "time is no timestamp")
}

fn second_death_is_counted(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dlx = trial.new_exchange(&channel, "fanout")?;
    let queue = dying(trial, &channel, &dlx, [])?;
    channel.call(&bind(&queue, &dlx, ""))?;
    kill(&channel, &queue, &Properties::new())?;
    eventually("it is back", || Ok(channel.counts(&queue)?.0 == 1))?;
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&reject(tag));
    let deaths = deaths(&arrival(&channel, &queue)?)?;
    same("deaths", deaths.len(), 1)?;
    same("count", deaths[0].get("count"), Some(&Value::I64(2)))
}

fn two_queues_are_two_deaths(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let second = dying(trial, &channel, &dlx, [])?;
    let key = [("x-dead-letter-routing-key", text(&second))];
    let first = dying(trial, &channel, "", key)?;
    kill(&channel, &first, &Properties::new())?;
    eventually("it is in the second queue", || Ok(channel.counts(&second)?.0 == 1))?;
    let tag = channel.check_out(&second)?.tag();
    channel.send(&reject(tag));
    let content = arrival(&channel, &dead)?;
    let deaths = deaths(&content)?;
    let queues: Vec<_> = deaths.iter().map(|death| death.get("queue")).collect();
    same("queues", queues, [Some(&text(&second)), Some(&text(&first))])?;
    let first_queue = content.headers()?.get("x-first-death-queue");
    same("first queue", first_queue, Some(&text(&first)))
}

fn redelivered_is_reset(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (dlx, dead) = morgue(trial, &channel)?;
    let queue = dying(trial, &channel, &dlx, [])?;
    channel.publish("", &queue, "x");
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&reject(tag).flags(&["requeue"]));
    let again = channel.check_out(&queue)?;
    same("redelivered", again.redelivered(), true)?;
    channel.send(&reject(again.tag()));
    same("redelivered", arrival(&channel, &dead)?.redelivered(), false)
}

fn expiry_cycle_is_dropped(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dlx = trial.new_exchange(&channel, "fanout")?;
    let queue = dying(trial, &channel, &dlx, [("x-message-ttl", 0.into())])?;
    let other = trial.new_queue(&channel)?;
    for target in [&queue, &other] {
        channel.call(&bind(target, &dlx, ""))?;
    }
    channel.publish("", &queue, "x");
    let deaths = deaths(&arrival(&channel, &other)?)?;
    same("count", deaths[0].get("count"), Some(&Value::I64(1)))?;
    channel.expect_ready(&queue, 0)?;
    channel.expect_ready(&other, 0)
}

fn rejection_cycle_is_allowed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let dlx = trial.new_exchange(&channel, "fanout")?;
    let queue = dying(trial, &channel, &dlx, [])?;
    channel.call(&bind(&queue, &dlx, ""))?;
    channel.call(&consume(&queue, "t"))?;
    channel.publish("", &queue, "x");
    for tag in 1..=4 {
        let delivery = channel.delivery()?;
        same("redelivered", delivery.redelivered(), false)?;
        same("tag", delivery.tag(), tag)?;
        channel.send(&reject(tag));
    }
    Ok(())
}
