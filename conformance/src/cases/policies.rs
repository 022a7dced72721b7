//! Section 8.1: policies and operator policies. They are set as an operator does it, so these cases
//! need `--ctl`.

use super::cases;
use crate::client::{Channel, bind, declare, get, publish, select_confirms};
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, eventually, holds, same};
use crate::trial::Trial;

cases! {
    "8.1": length_limit_is_applied_live, cleared_policy_has_no_effect,
        time_to_live_is_for_new_messages, dead_letter_exchange_is_applied_live,
        argument_beats_a_dead_letter_exchange, smallest_limit_counts,
        operator_policy_limits_a_policy, operator_policy_needs_no_policy,
        only_the_highest_priority_applies, next_policy_takes_over, pattern_is_found_anywhere,
        policy_for_exchanges_leaves_queues, later_queues_get_it, queue_expires_by_policy,
        overflow_is_set_by_policy, alternate_exchange_is_set_by_policy,
        delivery_limit_is_set_by_policy, unknown_keys_are_refused, bad_values_are_refused,
        keys_that_operators_may_not_set_are_refused, broken_patterns_are_refused,
        refused_policy_changes_nothing, policy_of_no_dead_letter_exchange_allows_no_key;
}

fn new_queue<const N: usize>(
    trial: &Trial<'_>,
    channel: &Channel,
    arguments: [(&str, Value); N],
) -> Outcome<String> {
    let queue = trial.queue();
    channel.call(&declare(&queue).with("arguments", Table::from(arguments)))?;
    Ok(queue)
}

/// Matches this name and no other.
fn only(name: &str) -> String {
    format!("^{}$", name.replace('.', "\\."))
}

fn fill(channel: &Channel, queue: &str, bodies: &[&str]) -> Outcome {
    bodies.iter().for_each(|body| channel.publish("", queue, body));
    channel.expect_ready(queue, bodies.len() as u64)
}

/// Publishes until the queue keeps no more than `limit`: a policy reaches a queue in the broker's
/// own time.
fn expect_limit(channel: &Channel, queue: &str, limit: u64) -> Outcome {
    eventually(&format!("{queue} is limited to {limit}"), || {
        (0..=limit).for_each(|_| channel.publish("", queue, "x"));
        Ok(channel.counts(queue)?.0 == limit)
    })
}

fn length_limit_is_applied_live(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    fill(&channel, &queue, &["a", "b", "c"])?;
    trial.set_policy("", &only(&queue), r#"{"max-length":2}"#, &[])?;
    eventually("the oldest is dropped", || Ok(channel.counts(&queue)?.0 == 2))?;
    channel.publish("", &queue, "d");
    channel.expect_bodies(&queue, &["c", "d"])
}

fn cleared_policy_has_no_effect(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let policy = trial.set_policy("", &only(&queue), r#"{"max-length":1}"#, &[])?;
    expect_limit(&channel, &queue, 1)?;
    trial.clear_policy(&policy)?;
    eventually("the queue grows", || {
        channel.publish("", &queue, "x");
        Ok(channel.counts(&queue)?.0 > 1)
    })
}

fn time_to_live_is_for_new_messages(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    fill(&channel, &queue, &["old"])?;
    trial.set_policy("", &only(&queue), r#"{"message-ttl":1}"#, &[])?;
    let probe = new_queue(trial, &channel, [])?;
    trial.set_policy("", &only(&probe), r#"{"message-ttl":1}"#, &[])?;
    // The second policy has reached its queue, and so has the first.
    eventually("a new message expires", || {
        channel.publish("", &probe, "x");
        Ok(channel.counts(&probe)?.0 == 0)
    })?;
    channel.publish("", &queue, "new");
    channel.expect_bodies(&probe, &[])?;
    same("body", channel.take(&queue)?.text().as_str(), "old")?;
    eventually("the new one expires", || Ok(channel.counts(&queue)?.0 == 0))
}

fn dead_letter_exchange_is_applied_live(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (queue, dead) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    fill(&channel, &queue, &["a", "b"])?;
    let definition = format!(
        r#"{{"dead-letter-exchange":"","dead-letter-routing-key":"{dead}","max-length":1}}"#
    );
    trial.set_policy("", &only(&queue), &definition, &[])?;
    eventually("a dead letter arrives", || Ok(channel.counts(&dead)?.0 == 1))?;
    channel.take(&dead)?.expect("", &dead, "a")?;
    channel.expect_bodies(&queue, &["b"])
}

fn argument_beats_a_dead_letter_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (by_argument, by_policy) = (trial.new_queue(&channel)?, trial.new_queue(&channel)?);
    let arguments = [
        ("x-dead-letter-exchange", "".into()),
        ("x-dead-letter-routing-key", by_argument.as_str().into()),
    ];
    let queue = new_queue(trial, &channel, arguments)?;
    let definition = format!(
        r#"{{"dead-letter-exchange":"amq.direct","dead-letter-routing-key":"{by_policy}",
             "max-length":1}}"#
    );
    channel.call(&bind(&by_policy, "amq.direct", &by_policy))?;
    trial.set_policy("", &only(&queue), &definition, &[])?;
    eventually("a dead letter arrives", || {
        channel.publish("", &queue, "x");
        Ok(channel.counts(&by_argument)?.0 > 0)
    })?;
    channel.expect_bodies(&by_policy, &[])
}

fn smallest_limit_counts(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = new_queue(trial, &channel, [("x-max-length", 5.into())])?;
    let policy = trial.set_policy("", &only(&queue), r#"{"max-length":2}"#, &[])?;
    expect_limit(&channel, &queue, 2)?;
    trial.clear_policy(&policy)?;
    trial.set_policy("", &only(&queue), r#"{"max-length":9}"#, &[])?;
    expect_limit(&channel, &queue, 5)
}

fn operator_policy_limits_a_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = new_queue(trial, &channel, [("x-max-length", 5.into())])?;
    trial.set_policy("", &only(&queue), r#"{"max-length":9}"#, &[])?;
    trial.set_policy("operator_", &only(&queue), r#"{"max-length":3}"#, &[])?;
    expect_limit(&channel, &queue, 3)
}

fn operator_policy_needs_no_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    trial.set_policy("operator_", &only(&queue), r#"{"max-length":1}"#, &[])?;
    expect_limit(&channel, &queue, 1)
}

fn only_the_highest_priority_applies(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    trial.set_policy("", &only(&queue), r#"{"max-length":1}"#, &["--priority", "1"])?;
    trial.set_policy("", &only(&queue), r#"{"max-length-bytes":3}"#, &["--priority", "2"])?;
    eventually("its bytes are limited", || {
        (0..4).for_each(|_| channel.publish("", &queue, "x"));
        Ok(channel.counts(&queue)?.0 == 3)
    })
}

fn next_policy_takes_over(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    trial.set_policy("", &only(&queue), r#"{"max-length":1}"#, &["--priority", "1"])?;
    let above = trial.set_policy("", &only(&queue), r#"{"max-length":3}"#, &["--priority", "2"])?;
    expect_limit(&channel, &queue, 3)?;
    trial.clear_policy(&above)?;
    expect_limit(&channel, &queue, 1)
}

fn pattern_is_found_anywhere(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let inner = &queue[1..queue.len() - 1];
    trial.set_policy("", &inner.replace('.', "\\."), r#"{"max-length":1}"#, &[])?;
    expect_limit(&channel, &queue, 1)
}

fn policy_for_exchanges_leaves_queues(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let options = ["--apply-to", "exchanges", "--priority", "9"];
    trial.set_policy("", &only(&queue), r#"{"alternate-exchange":"amq.fanout"}"#, &options)?;
    let options = ["--apply-to", "queues"];
    trial.set_policy("", &only(&queue), r#"{"max-length":1}"#, &options)?;
    expect_limit(&channel, &queue, 1)
}

fn later_queues_get_it(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    trial.set_policy("", &only(&queue), r#"{"max-length":1}"#, &[])?;
    channel.call(&declare(&queue))?;
    channel.publish("", &queue, "a");
    channel.publish("", &queue, "b");
    channel.expect_bodies(&queue, &["b"])
}

fn queue_expires_by_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    trial.set_policy("", &only(&queue), r#"{"expires":200}"#, &[])?;
    // To look is to use it: the pauses have to be longer than its life.
    std::thread::sleep(std::time::Duration::from_secs(2));
    channel.expect_absent(&queue, trial.vhost())
}

fn overflow_is_set_by_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let definition = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    trial.set_policy("", &only(&queue), definition, &[])?;
    channel.call(&select_confirms())?;
    let mut refused = false;
    eventually("a publish is refused", || {
        channel.publish("", &queue, "x");
        refused = channel.next_method()?.name() == "basic.nack";
        Ok(refused)
    })
}

fn alternate_exchange_is_set_by_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (name, behind) =
        (trial.new_exchange(&channel, "direct")?, trial.new_exchange(&channel, "fanout")?);
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &behind, ""))?;
    let definition = format!(r#"{{"alternate-exchange":"{behind}"}}"#);
    trial.set_policy("", &only(&name), &definition, &["--apply-to", "exchanges"])?;
    eventually("what is not routed goes on", || {
        channel.publish(&name, "nowhere", "x");
        Ok(channel.counts(&queue)?.0 > 0)
    })
}

fn delivery_limit_is_set_by_policy(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let arguments = Table::from([("x-queue-type", "quorum".into())]);
    trial.set_policy("", &only(&queue), r#"{"delivery-limit":0}"#, &[])?;
    channel.call(&declare(&queue).flags(&["durable"]).with("arguments", arguments))?;
    channel.publish_with(&publish("", &queue), &Properties::new(), b"x");
    eventually("a message is ready", || Ok(channel.counts(&queue)?.0 > 0))?;
    let tag = channel.check_out(&queue)?.tag();
    channel.send(&crate::client::reject(tag).flags(&["requeue"]));
    eventually("the message is gone", || Ok(channel.counts(&queue)?.0 == 0))?;
    holds(channel.get(&get(&queue))?.is_none(), "the message came back")
}

fn unknown_keys_are_refused(trial: &Trial<'_>) -> Outcome {
    let text = r#"[{<<"zzz">>,2}] are not recognised policy settings"#;
    trial.policy_is_refused("", "^a$", r#"{"zzz":2}"#, text)?;
    let text = r#"[{<<"max-priority">>,2}] are not recognised policy settings"#;
    trial.policy_is_refused("", "^a$", r#"{"max-length":1,"max-priority":2}"#, text)
}

fn bad_values_are_refused(trial: &Trial<'_>) -> Outcome {
    for (definition, text) in [
        (r#"{"max-length":-2}"#, "-2 is not a valid maximum length"),
        (r#"{"max-length":"2"}"#, r#"<<"2">> is not a valid maximum length"#),
        (r#"{"max-length-bytes":-1}"#, "-1 is not a valid maximum length in bytes"),
        (r#"{"message-ttl":-1}"#, "-1 is not a valid message TTL"),
        (r#"{"expires":0}"#, "0 is not a valid queue expiry"),
        (r#"{"dead-letter-exchange":5}"#, "5 is not a valid dead letter exchange name"),
        (r#"{"dead-letter-routing-key":5}"#, "5 is not a valid dead letter routing key"),
        (r#"{"alternate-exchange":5}"#, "5 is not a valid alternate exchange name"),
        (r#"{"overflow":"zz"}"#, r#"<<"zz">> is not a valid overflow"#),
        (r#"{"queue-version":"zz"}"#, r#"<<"zz">> is not a valid queue-version value"#),
    ] {
        trial.policy_is_refused("", "^a$", definition, text)?;
    }
    trial.policy_is_refused("", "^a$", "{}", "no policy provided")
}

fn keys_that_operators_may_not_set_are_refused(trial: &Trial<'_>) -> Outcome {
    let text = r#"[{<<"dead-letter-exchange">>,<<"x">>}] are not recognised policy settings"#;
    trial.policy_is_refused("operator_", "^a$", r#"{"dead-letter-exchange":"x"}"#, text)
}

fn broken_patterns_are_refused(trial: &Trial<'_>) -> Outcome {
    trial.policy_is_refused("", "(", r#"{"max-length":1}"#, "pattern")
}

fn refused_policy_changes_nothing(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let definition = r#"{"max-length":1,"message-ttl":-1}"#;
    trial.policy_is_refused("", &only(&queue), definition, "-1 is not a valid message TTL")?;
    fill(&channel, &queue, &["a", "b", "c"])?;
    channel.expect_bodies(&queue, &["a", "b", "c"])
}

fn policy_of_no_dead_letter_exchange_allows_no_key(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let definition = r#"{"dead-letter-exchange":"amq.fanout"}"#;
    trial.set_policy("", &only(&queue), definition, &[])?;
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for {}: \
         routing_key_but_no_dlx_defined",
        trial.at("queue", &queue)
    );
    let arguments = Table::from([("x-dead-letter-routing-key", "key".into())]);
    trial.channel()?.refuses(&declare(&queue).with("arguments", arguments), 406, &text)
}
