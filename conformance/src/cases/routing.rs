//! Section 4.2: from an exchange to queues, and back to the publisher.

use super::cases;
use crate::client::{Channel, bind, bind_exchange, declare, exchange, publish, select_confirms};
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, holds, same};
use crate::trial::Trial;

cases! {
    "4.2": default_exchange_names_a_queue, cc_and_bcc_are_keys, bcc_is_removed, cc_stays,
        cc_on_the_default_exchange, one_copy_per_queue, one_copy_over_several_paths,
        cycles_of_exchanges_end, chain_of_exchanges, internal_exchange_as_destination,
        alternate_exchange_when_unrouted, alternate_exchange_only_without_matches,
        alternate_of_the_alternate, missing_alternate_exchange,
        alternate_exchange_cannot_be_the_default, alternate_exchange_keeps_names,
        exchange_bindings_keep_names, copies_keep_the_original_key, mandatory_is_returned,
        mandatory_through_an_alternate_exchange,
        return_carries_everything, unroutable_is_dropped, return_precedes_the_confirm,
        no_message_id_is_made;
}

fn default_exchange_names_a_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    channel.publish("", &one, "for one");
    channel.take(&one)?.expect("", &one, "for one")?;
    channel.expect_ready(&two, 0)
}

fn keys(keys: &[&str]) -> Value {
    Value::Array(keys.iter().map(|key| (*key).into()).collect())
}

/// A direct exchange with a queue for each of these keys.
fn bound(trial: &Trial<'_>, channel: &Channel, keys: &[&str]) -> Outcome<(String, Vec<String>)> {
    let name = trial.new_exchange(channel, "direct")?;
    let mut queues = Vec::new();
    for key in keys {
        let queue = trial.new_queue(channel)?;
        channel.call(&bind(&queue, &name, key))?;
        queues.push(queue);
    }
    Ok((name, queues))
}

fn cc_and_bcc_are_keys(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (name, queues) = bound(trial, &channel, &["a", "b", "c", "d", "e"])?;
    let properties = Properties::new().headers([("CC", keys(&["b", "c"])), ("BCC", keys(&["d"]))]);
    channel.publish_with(&publish(&name, "a"), &properties, b"copies");
    for queue in &queues[..4] {
        channel.expect_bodies(queue, &["copies"])?;
    }
    channel.expect_bodies(&queues[4], &[])
}

fn bcc_is_removed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (name, queues) = bound(trial, &channel, &["a", "b"])?;
    let properties = Properties::new().headers([
        ("before", 1.into()),
        ("BCC", keys(&["b"])),
        ("after", 2.into()),
    ]);
    channel.publish_with(&publish(&name, "a"), &properties, b"copies");
    for queue in &queues {
        let content = channel.take(queue)?;
        holds(content.headers()?.get("BCC").is_none(), "the BCC header is still there")?;
        same("another header", content.headers()?.get("before"), Some(&1.into()))?;
        same("another header", content.headers()?.get("after"), Some(&2.into()))?;
    }
    Ok(())
}

fn cc_stays(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (name, queues) = bound(trial, &channel, &["a", "b"])?;
    let properties = Properties::new().headers([("CC", keys(&["b"]))]);
    channel.publish_with(&publish(&name, "a"), &properties, b"copies");
    for queue in &queues {
        same("CC", channel.take(queue)?.headers()?.get("CC"), Some(&keys(&["b"])))?;
    }
    Ok(())
}

fn cc_on_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    let properties = Properties::new().headers([("CC", keys(&[&two]))]);
    channel.publish_with(&publish("", &one), &properties, b"copies");
    channel.take(&two)?.expect("", &one, "copies")?;
    channel.take(&one)?.expect("", &one, "copies")
}

fn copies_keep_the_original_key(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (name, queues) = bound(trial, &channel, &["a", "b", "c"])?;
    let properties = Properties::new().headers([("CC", keys(&["b"])), ("BCC", keys(&["c"]))]);
    channel.publish_with(&publish(&name, "a"), &properties, b"copies");
    for queue in &queues {
        channel.take(queue)?.expect(&name, "a", "copies")?;
    }
    Ok(())
}

fn one_copy_per_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "topic")?;
    for key in ["a.*", "#", "a.b", "*.b"] {
        channel.call(&bind(&queue, &name, key))?;
    }
    let properties = Properties::new().headers([("CC", keys(&["a.c", "a.b"]))]);
    channel.publish_with(&publish(&name, "a.b"), &properties, b"once");
    channel.expect_bodies(&queue, &["once"])
}

fn one_copy_over_several_paths(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let start = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&queue, &start, ""))?;
    for _ in 0..2 {
        let middle = trial.new_exchange(&channel, "fanout")?;
        channel.call(&bind_exchange(&middle, &start, ""))?;
        channel.call(&bind(&queue, &middle, ""))?;
    }
    channel.publish(&start, "", "once");
    channel.expect_bodies(&queue, &["once"])
}

fn cycles_of_exchanges_end(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let mut names = Vec::new();
    for _ in 0..3 {
        names.push(trial.new_exchange(&channel, "fanout")?);
    }
    for (index, name) in names.iter().enumerate() {
        channel.call(&bind_exchange(&names[(index + 1) % 3], name, ""))?;
    }
    channel.call(&bind(&queue, &names[2], ""))?;
    channel.publish(&names[0], "", "once");
    channel.expect_bodies(&queue, &["once"])
}

fn chain_of_exchanges(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let start = trial.new_exchange(&channel, "topic")?;
    let middle = trial.new_exchange(&channel, "direct")?;
    let end = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind_exchange(&middle, &start, "a.#"))?;
    channel.call(&bind_exchange(&end, &middle, "a.b"))?;
    channel.call(&bind(&queue, &end, "ignored"))?;
    channel.publish(&start, "a.b", "through");
    channel.publish(&start, "a.c", "stopped in the middle");
    channel.publish(&start, "b", "stopped at the start");
    channel.expect_bodies(&queue, &["through"])
}

fn internal_exchange_as_destination(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let start = trial.new_exchange(&channel, "fanout")?;
    let inner = trial.exchange();
    channel.call(&exchange(&inner, "fanout").flags(&["internal"]))?;
    channel.call(&bind_exchange(&inner, &start, ""))?;
    channel.call(&bind(&queue, &inner, ""))?;
    channel.publish(&start, "", "inside");
    channel.expect_bodies(&queue, &["inside"])
}

fn with_alternate(
    trial: &Trial<'_>,
    channel: &Channel,
    kind: &str,
    alternate: &str,
) -> Outcome<String> {
    let name = trial.exchange();
    let arguments = Table::from([("alternate-exchange", alternate.into())]);
    channel.call(&exchange(&name, kind).with("arguments", arguments))?;
    Ok(name)
}

/// A fanout exchange with a queue.
fn last_resort(trial: &Trial<'_>, channel: &Channel) -> Outcome<(String, String)> {
    let queue = trial.new_queue(channel)?;
    let name = trial.new_exchange(channel, "fanout")?;
    channel.call(&bind(&queue, &name, ""))?;
    Ok((name, queue))
}

fn alternate_exchange_when_unrouted(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (alternate, queue) = last_resort(trial, &channel)?;
    let name = with_alternate(trial, &channel, "direct", &alternate)?;
    channel.publish(&name, "nobody", "caught");
    channel.expect_bodies(&queue, &["caught"])
}

fn alternate_exchange_only_without_matches(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (alternate, queue) = last_resort(trial, &channel)?;
    let name = with_alternate(trial, &channel, "direct", &alternate)?;
    let other = trial.new_queue(&channel)?;
    channel.call(&bind(&other, &name, "key"))?;
    channel.publish(&name, "key", "routed");
    channel.expect_bodies(&other, &["routed"])?;
    channel.expect_bodies(&queue, &[])
}

fn alternate_of_the_alternate(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (last, queue) = last_resort(trial, &channel)?;
    let second = with_alternate(trial, &channel, "direct", &last)?;
    let first = with_alternate(trial, &channel, "direct", &second)?;
    channel.publish(&first, "nobody", "caught");
    channel.expect_bodies(&queue, &["caught"])
}

fn expect_return(channel: &Channel, name: &str, key: &str, body: &str) -> Outcome {
    let content = channel.expect_content("basic.return")?;
    same("reply code", content.method.number("reply_code"), 312)?;
    same("reply text", content.method.text("reply_text").as_str(), "NO_ROUTE")?;
    content.expect(name, key, body)
}

fn publish_mandatory(channel: &Channel, name: &str, key: &str, body: &str) {
    let method = publish(name, key).flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), body.as_bytes());
}

fn missing_alternate_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = with_alternate(trial, &channel, "direct", &trial.exchange())?;
    publish_mandatory(&channel, &name, "nobody", "x");
    expect_return(&channel, &name, "nobody", "x")
}

fn alternate_exchange_cannot_be_the_default(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = with_alternate(trial, &channel, "direct", "")?;
    publish_mandatory(&channel, &name, &queue, "x");
    expect_return(&channel, &name, &queue, "x")
}

fn alternate_exchange_keeps_names(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (alternate, queue) = last_resort(trial, &channel)?;
    let name = with_alternate(trial, &channel, "direct", &alternate)?;
    channel.publish(&name, "nobody", "caught");
    channel.take(&queue)?.expect(&name, "nobody", "caught")
}

fn exchange_bindings_keep_names(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (end, queue) = last_resort(trial, &channel)?;
    let start = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind_exchange(&end, &start, "key"))?;
    channel.publish(&start, "key", "through");
    channel.take(&queue)?.expect(&start, "key", "through")
}

fn mandatory_is_returned(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let missing = trial.queue();
    publish_mandatory(&channel, "", &missing, "default exchange");
    expect_return(&channel, "", &missing, "default exchange")?;
    publish_mandatory(&channel, "amq.direct", &missing, "direct exchange");
    expect_return(&channel, "amq.direct", &missing, "direct exchange")?;
    let queue = trial.new_queue(&channel)?;
    publish_mandatory(&channel, "", &queue, "routed");
    channel.quiet(&queue)
}

fn mandatory_through_an_alternate_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (alternate, queue) = last_resort(trial, &channel)?;
    let name = with_alternate(trial, &channel, "direct", &alternate)?;
    publish_mandatory(&channel, &name, "nobody", "caught");
    channel.quiet(&queue)?;
    channel.expect_bodies(&queue, &["caught"])
}

fn return_carries_everything(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let body = vec![b'x'; 200_000];
    let properties = Properties::new()
        .with("content_type", "text/plain")
        .headers([("k", Value::I64(5))])
        .with("message_id", "m");
    let method = publish("amq.direct", &trial.queue()).flags(&["mandatory"]);
    channel.publish_with(&method, &properties, &body);
    let content = channel.expect_content("basic.return")?;
    same("properties", content.encoded, properties.encode())?;
    holds(content.body == body, "the body is another")?;
    same("body frames", content.frames, [131_064, 68_936])
}

fn unroutable_is_dropped(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let missing = trial.queue();
    channel.publish("", &missing, "lost");
    channel.fence()?;
    channel.call(&declare(&missing))?;
    channel.expect_ready(&missing, 0)
}

fn return_precedes_the_confirm(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&select_confirms())?;
    let missing = trial.queue();
    publish_mandatory(&channel, "", &missing, "x");
    expect_return(&channel, "", &missing, "x")?;
    same("confirm", channel.expect("basic.ack")?.number("delivery_tag"), 1)
}

fn no_message_id_is_made(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "x");
    same("properties", channel.take(&queue)?.encoded.as_slice(), [0, 0].as_slice())
}
