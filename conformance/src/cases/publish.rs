//! Section 4.1: what basic.publish checks, and in which order.

use super::cases;
use crate::client::{Channel, bind, exchange, publish, select_confirms};
use crate::codec::{Properties, Value};
use crate::outcome::{Outcome, eventually, same};
use crate::trial::{Differs, Trial};

cases! {
    "4.1": immediate_is_not_implemented, immediate_is_checked_first, message_above_the_limit,
        missing_exchange, internal_exchange, existence_is_checked_before_internal,
        exchange_is_checked_before_properties, reply_to_without_a_consumer, expiration_not_a_number,
        expiration_with_something_after, expiration_negative, expiration_too_large,
        expiration_empty, expiration_with_a_plus, expiration_at_the_limit,
        expiration_of_zero_is_valid, cc_of_another_type, bcc_of_another_type,
        cc_items_of_another_type_are_skipped, foreign_user_id, own_user_id, delivery_mode_of_three,
        refused_publish_is_not_routed, refused_publish_is_not_confirmed;
}

fn send(channel: &Channel, exchange: &str, properties: &Properties) {
    channel.publish_with(&publish(exchange, "key"), properties, b"body");
}

/// The publish with these properties is refused, whatever the exchange.
fn refused(trial: &Trial<'_>, properties: &Properties, text: &str) -> Outcome {
    let channel = trial.channel()?;
    send(&channel, "amq.fanout", properties);
    let text = format!("PRECONDITION_FAILED - {text}");
    channel.expect_close(406, &text, "basic.publish")
}

fn immediate_is_not_implemented(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = publish("", "key").flags(&["immediate"]);
    channel.publish_with(&method, &Properties::new(), b"");
    channel.connection.expect_close(540, "NOT_IMPLEMENTED - immediate=true", "basic.publish")
}

fn immediate_is_checked_first(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = publish(&trial.exchange(), "key").flags(&["immediate"]);
    channel.publish_with(&method, &Properties::new().with("expiration", "x"), b"");
    channel.connection.expect_close(540, "NOT_IMPLEMENTED - immediate=true", "basic.publish")
}

fn message_above_the_limit(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let size = 134_217_729;
    channel.publish_with(&publish("", "nowhere"), &Properties::new(), &vec![b'x'; size]);
    let text = "PRECONDITION_FAILED - message size 134217729 is larger than configured max size \
                134217728";
    channel.expect_close(406, text, "basic.publish")
}

fn missing_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange();
    channel.publish(&name, "key", "body");
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.expect_close(404, &text, "basic.publish")
}

fn internal_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange();
    channel.call(&exchange(&name, "direct").flags(&["internal"]))?;
    for name in [name.as_str(), "amq.rabbitmq.trace"] {
        channel.publish(name, "key", "body");
        let text =
            format!("ACCESS_REFUSED - cannot publish to internal {}", trial.at("exchange", name));
        channel.expect_close(403, &text, "basic.publish")?;
    }
    Ok(())
}

fn existence_is_checked_before_internal(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange_named("amq.rabbitmq.");
    channel.publish(&name, "key", "body");
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.expect_close(404, &text, "basic.publish")
}

fn exchange_is_checked_before_properties(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange();
    let properties = Properties::new()
        .with("expiration", "x")
        .with("user_id", "nobody")
        .headers([("CC", "not an array".into())]);
    send(&channel, &name, &properties);
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.expect_close(404, &text, "basic.publish")
}

fn reply_to_without_a_consumer(trial: &Trial<'_>) -> Outcome {
    let properties = Properties::new().with("reply_to", "amq.rabbitmq.reply-to");
    refused(trial, &properties, "fast reply consumer does not exist")
}

fn expires(trial: &Trial<'_>, expiration: &str, reason: &str) -> Outcome {
    let properties = Properties::new().with("expiration", expiration);
    refused(trial, &properties, &format!("invalid expiration '{expiration}': {reason}"))
}

fn expiration_not_a_number(trial: &Trial<'_>) -> Outcome {
    expires(trial, "abc", "no_integer")
}

fn expiration_with_something_after(trial: &Trial<'_>) -> Outcome {
    expires(trial, "10x", "{leftover_string,\"x\"}")?;
    expires(trial, "10 ", "{leftover_string,\" \"}")?;
    expires(trial, "1.5", "{leftover_string,\".5\"}")
}

fn expiration_negative(trial: &Trial<'_>) -> Outcome {
    expires(trial, "-1", "{value_negative,-1}")
}

fn expiration_too_large(trial: &Trial<'_>) -> Outcome {
    expires(trial, "99999999999999", "{value_too_large,99999999999999}")?;
    expires(trial, "315360000001", "{value_too_large,315360000001}")
}

fn expiration_empty(trial: &Trial<'_>) -> Outcome {
    expires(trial, "", "no_integer")
}

fn accepted(trial: &Trial<'_>, properties: &Properties) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_with(&publish("", &queue), properties, b"body");
    same("properties", channel.take(&queue)?.encoded, properties.encode())
}

fn expiration_with_a_plus(trial: &Trial<'_>) -> Outcome {
    accepted(trial, &Properties::new().with("expiration", "+60000"))
}

fn expiration_at_the_limit(trial: &Trial<'_>) -> Outcome {
    accepted(trial, &Properties::new().with("expiration", "315360000000"))
}

fn expiration_of_zero_is_valid(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    send(&channel, "amq.fanout", &Properties::new().with("expiration", "0"));
    channel.fence()
}

fn unacceptable(trial: &Trial<'_>, header: &str) -> Outcome {
    for (value, kind) in [(Value::from("key"), "longstr"), (Value::from(1), "signedint")] {
        let properties = Properties::new().headers([(header, value)]);
        let text = format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{kind}}}");
        refused(trial, &properties, &text)?;
    }
    Ok(())
}

fn cc_of_another_type(trial: &Trial<'_>) -> Outcome {
    unacceptable(trial, "CC")
}

fn bcc_of_another_type(trial: &Trial<'_>) -> Outcome {
    unacceptable(trial, "BCC")
}

fn cc_items_of_another_type_are_skipped(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind(&queue, &name, "copy"))?;
    let keys = Value::Array(vec![5.into(), "copy".into(), Value::Void]);
    send(&channel, &name, &Properties::new().headers([("CC", keys)]));
    channel.expect_bodies(&queue, &["body"])
}

fn foreign_user_id(trial: &Trial<'_>) -> Outcome {
    let text =
        format!("user_id property set to 'bob' but authenticated user was '{}'", trial.user());
    refused(trial, &Properties::new().with("user_id", "bob"), &text)
}

fn own_user_id(trial: &Trial<'_>) -> Outcome {
    accepted(trial, &Properties::new().with("user_id", trial.user()))
}

/// RabbitMQ 3.10 refuses it, Leveret takes it for transient.
fn delivery_mode_of_three(trial: &Trial<'_>) -> Outcome {
    let properties = Properties::new().with("delivery_mode", 3_u64);
    let accepts = Differs { rabbitmq: false, leveret: true, line: "Unknown delivery mode" };
    if trial.expect(accepts) {
        return accepted(trial, &properties);
    }
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_with(&publish("", &queue), &properties, b"body");
    let text = "PRECONDITION_FAILED - invalid message: {delivery_mode_unknown,3}";
    channel.expect_close(406, text, "basic.publish")
}

fn refused_publish_is_not_routed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish("", &queue, "before");
    let properties = Properties::new().with("user_id", "bob");
    channel.publish_with(&publish("", &queue), &properties, b"refused");
    channel.publish("", &queue, "after");
    let text =
        format!("user_id property set to 'bob' but authenticated user was '{}'", trial.user());
    let text = format!("PRECONDITION_FAILED - {text}");
    channel.expect_close(406, &text, "basic.publish")?;
    eventually("the first message is there", || Ok(channel.counts(&queue)?.0 >= 1))?;
    channel.expect_bodies(&queue, &["before"])
}

fn refused_publish_is_not_confirmed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&select_confirms())?;
    let name = trial.exchange();
    channel.publish(&name, "key", "body");
    let text = format!("NOT_FOUND - no {}", trial.at("exchange", &name));
    channel.expect_close(404, &text, "basic.publish")
}
