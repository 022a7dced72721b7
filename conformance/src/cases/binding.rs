//! Sections 2.4 and 2.5: bindings of queues and of exchanges.

use super::cases;
use crate::client::{
    Channel, bind, bind_exchange, declare, delete, delete_exchange, exchange, unbind,
    unbind_exchange,
};
use crate::codec::{Method, Table};
use crate::outcome::{Outcome, holds};
use crate::trial::Trial;

cases! {
    "2.4": bind_and_unbind_exchanges, bind_exchange_to_the_default_exchange,
        bind_exchange_from_the_default_exchange, bind_missing_exchanges,
        bind_exchange_to_itself, unbind_of_missing_exchanges;
    "2.5": bind_to_the_default_exchange, unbind_from_the_default_exchange,
        bind_missing_exchange_and_queue, bind_missing_queue, bind_missing_exchange,
        rebinding_changes_nothing, arguments_are_part_of_the_identity,
        argument_order_is_not_part_of_the_identity, unbind_of_a_missing_binding,
        unbind_of_a_missing_queue, unbind_of_a_missing_exchange,
        bind_a_foreign_exclusive_queue, bind_arguments_are_checked_before_the_owner,
        unbind_a_foreign_exclusive_queue_without_binding,
        auto_delete_exchange_goes_with_its_last_binding,
        auto_delete_exchange_goes_with_its_last_queue,
        auto_delete_exchange_stays_while_never_bound,
        auto_delete_exchange_ignores_bindings_to_it, durable_and_transient_sides_can_be_bound;
}

const DEFAULT_REFUSED: &str = "ACCESS_REFUSED - operation not permitted on the default exchange";

fn no_exchange(trial: &Trial<'_>, name: &str) -> String {
    format!("NOT_FOUND - no {}", trial.at("exchange", name))
}

fn no_queue(trial: &Trial<'_>, name: &str) -> String {
    format!("NOT_FOUND - no {}", trial.at("queue", name))
}

fn expect_exchange_absent(trial: &Trial<'_>, channel: &Channel, name: &str) -> Outcome {
    let passive = exchange(name, "").flags(&["passive"]);
    channel.refuses(&passive, 404, &no_exchange(trial, name))
}

fn expect_exchange(channel: &Channel, name: &str) -> Outcome {
    channel.call(&exchange(name, "").flags(&["passive"])).map(drop)
}

fn bind_and_unbind_exchanges(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let source = trial.new_exchange(&channel, "direct")?;
    let destination = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&queue, &destination, ""))?;
    channel.call(&bind_exchange(&destination, &source, "key"))?;
    channel.publish(&source, "key", "bound");
    channel.publish(&source, "other", "another key");
    channel.call(&unbind_exchange(&destination, &source, "key"))?;
    channel.publish(&source, "key", "unbound");
    channel.expect_bodies(&queue, &["bound"])
}

fn bind_exchange_to_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let method = bind_exchange("", "amq.direct", "key");
    trial.channel()?.refuses(&method, 403, DEFAULT_REFUSED)
}

fn bind_exchange_from_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let method = bind_exchange("amq.direct", "", "key");
    trial.channel()?.refuses(&method, 403, DEFAULT_REFUSED)
}

fn bind_missing_exchanges(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (destination, source) = (trial.exchange(), trial.exchange());
    let method = bind_exchange(&destination, &source, "key");
    channel.refuses(&method, 404, &no_exchange(trial, &source))?;
    channel.call(&exchange(&source, "direct"))?;
    channel.refuses(&method, 404, &no_exchange(trial, &destination))
}

fn bind_exchange_to_itself(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind_exchange(&name, &name, ""))?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.publish(&name, "", "once");
    channel.expect_bodies(&queue, &["once"])
}

fn unbind_of_missing_exchanges(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&unbind_exchange(&trial.exchange(), &trial.exchange(), "key")).map(drop)
}

fn bind_to_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.refuses(&bind(&queue, "", "key"), 403, DEFAULT_REFUSED)
}

fn unbind_from_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.refuses(&unbind(&queue, "", &queue), 403, DEFAULT_REFUSED)
}

fn bind_missing_exchange_and_queue(trial: &Trial<'_>) -> Outcome {
    let (queue, name) = (trial.queue(), trial.exchange());
    trial.channel()?.refuses(&bind(&queue, &name, ""), 404, &no_exchange(trial, &name))
}

fn bind_missing_queue(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let method = bind(&queue, "amq.direct", "");
    trial.channel()?.refuses(&method, 404, &no_queue(trial, &queue))
}

fn bind_missing_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, name) = (trial.new_queue(&channel)?, trial.exchange());
    channel.refuses(&bind(&queue, &name, ""), 404, &no_exchange(trial, &name))
}

fn rebinding_changes_nothing(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind(&queue, &name, "key"))?;
    channel.call(&bind(&queue, &name, "key"))?;
    channel.publish(&name, "key", "once");
    channel.expect_bodies(&queue, &["once"])?;
    channel.call(&unbind(&queue, &name, "key"))?;
    channel.publish(&name, "key", "unbound");
    channel.expect_ready(&queue, 0)
}

fn with_arguments<const N: usize>(method: Method, numbers: [(&str, i32); N]) -> Method {
    method.with("arguments", Table::from(numbers.map(|(key, number)| (key, number.into()))))
}

fn arguments_are_part_of_the_identity(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&with_arguments(bind(&queue, &name, "key"), [("a", 1)]))?;
    channel.call(&unbind(&queue, &name, "key"))?;
    channel.call(&with_arguments(unbind(&queue, &name, "key"), [("a", 2)]))?;
    channel.publish(&name, "key", "still bound");
    channel.expect_bodies(&queue, &["still bound"])?;
    channel.call(&with_arguments(unbind(&queue, &name, "key"), [("a", 1)]))?;
    channel.publish(&name, "key", "unbound");
    channel.expect_ready(&queue, 0)
}

fn argument_order_is_not_part_of_the_identity(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&with_arguments(bind(&queue, &name, "key"), [("a", 1), ("b", 2)]))?;
    channel.call(&with_arguments(unbind(&queue, &name, "key"), [("b", 2), ("a", 1)]))?;
    channel.publish(&name, "key", "unbound");
    channel.expect_ready(&queue, 0)
}

fn unbind_of_a_missing_binding(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&unbind(&queue, "amq.direct", "never bound")).map(drop)
}

fn unbind_of_a_missing_queue(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.call(&unbind(&trial.queue(), "amq.direct", "key")).map(drop)
}

fn unbind_of_a_missing_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&unbind(&queue, &trial.exchange(), "key")).map(drop)
}

/// An exclusive queue of one connection, and a channel of another.
fn foreign_exclusive(trial: &Trial<'_>) -> Outcome<(Channel, Channel, String)> {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    Ok((owner, trial.channel()?, queue))
}

fn bind_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let (_owner, channel, queue) = foreign_exclusive(trial)?;
    let method = bind(&queue, "amq.fanout", "");
    channel.refuses(&method, 405, &super::locked(trial, &queue))
}

fn bind_arguments_are_checked_before_the_owner(trial: &Trial<'_>) -> Outcome {
    let (_owner, channel, queue) = foreign_exclusive(trial)?;
    let arguments = Table::from([("x-match", 5.into())]);
    let method = bind(&queue, "amq.headers", "").with("arguments", arguments);
    let text = "PRECONDITION_FAILED - Invalid x-match field type signedint (value 5); expected \
                longstr";
    channel.refuses(&method, 406, text)
}

fn unbind_a_foreign_exclusive_queue_without_binding(trial: &Trial<'_>) -> Outcome {
    let (_owner, channel, queue) = foreign_exclusive(trial)?;
    channel.call(&unbind(&queue, "amq.direct", "never bound")).map(drop)
}

fn auto_delete_exchange(trial: &Trial<'_>, channel: &Channel) -> Outcome<String> {
    let name = trial.exchange();
    channel.call(&exchange(&name, "direct").flags(&["auto_delete"]))?;
    Ok(name)
}

fn auto_delete_exchange_goes_with_its_last_binding(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = auto_delete_exchange(trial, &channel)?;
    channel.call(&bind(&queue, &name, "one"))?;
    channel.call(&bind(&queue, &name, "two"))?;
    channel.call(&unbind(&queue, &name, "one"))?;
    expect_exchange(&channel, &name)?;
    channel.call(&unbind(&queue, &name, "two"))?;
    expect_exchange_absent(trial, &channel, &name)
}

fn auto_delete_exchange_goes_with_its_last_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = auto_delete_exchange(trial, &channel)?;
    channel.call(&bind(&queue, &name, "key"))?;
    channel.call(&delete(&queue))?;
    expect_exchange_absent(trial, &channel, &name)
}

fn auto_delete_exchange_stays_while_never_bound(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = auto_delete_exchange(trial, &channel)?;
    channel.call(&unbind(&queue, &name, "never bound"))?;
    expect_exchange(&channel, &name)
}

fn auto_delete_exchange_ignores_bindings_to_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = auto_delete_exchange(trial, &channel)?;
    let source = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind_exchange(&name, &source, "key"))?;
    channel.call(&unbind_exchange(&name, &source, "key"))?;
    channel.call(&bind_exchange(&name, &source, "key"))?;
    channel.call(&delete_exchange(&source))?;
    expect_exchange(&channel, &name)
}

fn durable_and_transient_sides_can_be_bound(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for queue_durable in [false, true] {
        for exchange_durable in [false, true] {
            let (queue, name) = (trial.queue(), trial.exchange());
            channel.call(&declare(&queue).with("durable", queue_durable))?;
            channel.call(&exchange(&name, "fanout").with("durable", exchange_durable))?;
            channel.call(&bind(&queue, &name, ""))?;
            channel.publish(&name, "", "x");
            let content = channel.take(&queue)?;
            holds(content.text() == "x", "another body")?;
        }
    }
    Ok(())
}
