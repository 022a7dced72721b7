//! Section 2.6, declaring: names, equivalence, passive declarations.

use super::{cases, locked};
use crate::client::{Channel, declare};
use crate::codec::{Method, Table, Value};
use crate::outcome::{Outcome, holds, same};
use crate::trial::Trial;

cases! {
    "2.6": declare_a_queue, server_named_queues, server_named_queue_cannot_be_redeclared,
        declare_reserved_prefix, declare_reserved_prefix_even_for_its_owner,
        redeclare_equal, redeclare_shared_as_exclusive, redeclare_exclusive_as_shared,
        redeclare_foreign_exclusive, redeclare_exclusive_with_another_durability,
        inequivalent_durable, inequivalent_auto_delete, inequivalent_argument,
        inequivalent_argument_against_none, inequivalent_none_against_an_argument,
        inequivalent_argument_of_another_type, arguments_of_one_value_are_equal,
        inequivalence_is_checked_in_order, integer_widths_are_equal, unknown_arguments_are_ignored,
        classic_type_equals_none, counts_are_ready_messages_and_consumers, passive_on_a_missing_one,
        passive_ignores_flags_and_arguments, passive_on_a_foreign_exclusive_queue,
        passive_on_a_server_named_queue, many_types_are_named_in_the_text,
        quorum_redeclared_without_type;
}

fn declare_a_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    let ok = channel.call(&declare(&queue))?;
    same("name", ok.text("queue"), queue)?;
    same("messages", ok.number("message_count"), 0)?;
    same("consumers", ok.number("consumer_count"), 0)
}

/// A queue named by the broker.
fn server_named(trial: &Trial<'_>, channel: &Channel) -> Outcome<String> {
    let queue = channel.call(&declare("").flags(&["exclusive"]))?.text("queue");
    trial.forget_later(&queue);
    Ok(queue)
}

fn server_named_queues(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (server_named(trial, &channel)?, server_named(trial, &channel)?);
    holds(one != two, "two queues have the same name")?;
    super::generated_name(&one, "amq.gen-")
}

fn reserved(name: &str) -> String {
    format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'")
}

fn server_named_queue_cannot_be_redeclared(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = server_named(trial, &channel)?;
    channel.refuses(&declare(&queue), 403, &reserved(&queue))
}

fn declare_reserved_prefix(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue_named("amq.");
    trial.channel()?.refuses(&declare(&queue), 403, &reserved(&queue))
}

fn declare_reserved_prefix_even_for_its_owner(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = server_named(trial, &channel)?;
    let same_again = declare(&queue).flags(&["exclusive"]);
    channel.refuses(&same_again, 403, &reserved(&queue))
}

fn passive_on_a_server_named_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = server_named(trial, &channel)?;
    channel.quiet(&queue)
}

fn argument(method: Method, key: &str, value: impl Into<Value>) -> Method {
    method.with("arguments", Table::from([(key, value.into())]))
}

fn redeclare_equal(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = argument(declare(&trial.queue()), "x-max-length", 7);
    let method = method.flags(&["durable", "auto_delete"]);
    channel.call(&method)?;
    channel.call(&method).map(drop)
}

fn redeclare_shared_as_exclusive(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.refuses(&declare(&queue).flags(&["exclusive"]), 405, &locked(trial, &queue))
}

fn redeclare_exclusive_as_shared(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["exclusive"]))?;
    channel.refuses(&declare(&queue), 405, &locked(trial, &queue))
}

fn redeclare_foreign_exclusive(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    let method = declare(&queue).flags(&["exclusive"]);
    owner.call(&method)?;
    let channel = trial.channel()?;
    channel.refuses(&method, 405, &locked(trial, &queue))?;
    channel.refuses(&declare(&queue), 405, &locked(trial, &queue))
}

fn redeclare_exclusive_with_another_durability(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&declare(&queue).flags(&["exclusive"]))?;
    channel.call(&declare(&queue).flags(&["exclusive", "durable"]))?;
    let other = trial.queue();
    channel.call(&declare(&other).flags(&["exclusive", "durable"]))?;
    channel.call(&declare(&other).flags(&["exclusive"])).map(drop)
}

/// The second declaration of a queue is refused.
fn inequivalent(
    trial: &Trial<'_>,
    first: impl Fn(&str) -> Method,
    second: impl Fn(&str) -> Method,
    text: &str,
) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&first(&queue))?;
    let (key, difference) = text.split_once(": ").unwrap_or((text, ""));
    let at = trial.at("queue", &queue);
    let text = format!("PRECONDITION_FAILED - inequivalent arg '{key}' for {at}: {difference}");
    channel.refuses(&second(&queue), 406, &text)
}

fn inequivalent_durable(trial: &Trial<'_>) -> Outcome {
    let durable = |queue: &str| declare(queue).flags(&["durable"]);
    inequivalent(trial, declare, durable, "durable: received 'true' but current is 'false'")?;
    inequivalent(trial, durable, declare, "durable: received 'false' but current is 'true'")
}

fn inequivalent_auto_delete(trial: &Trial<'_>) -> Outcome {
    let auto_delete = |queue: &str| declare(queue).flags(&["auto_delete"]);
    let text = "auto_delete: received 'true' but current is 'false'";
    inequivalent(trial, declare, auto_delete, text)
}

fn ttl(milliseconds: impl Into<Value> + Copy) -> impl Fn(&str) -> Method {
    move |queue| argument(declare(queue), "x-message-ttl", milliseconds)
}

fn inequivalent_argument(trial: &Trial<'_>) -> Outcome {
    let text = "x-message-ttl: received '2000' but current is '1000'";
    inequivalent(trial, ttl(1000), ttl(2000), text)
}

fn inequivalent_argument_against_none(trial: &Trial<'_>) -> Outcome {
    let text = "x-message-ttl: received the value '1000' of type 'signedint' but current is none";
    inequivalent(trial, declare, ttl(1000), text)
}

fn inequivalent_none_against_an_argument(trial: &Trial<'_>) -> Outcome {
    let text = "x-message-ttl: received none but current is the value '1000' of type 'signedint'";
    inequivalent(trial, ttl(1000), declare, text)
}

fn inequivalent_argument_of_another_type(trial: &Trial<'_>) -> Outcome {
    for (value, text) in [
        (Value::F64(1.0), "x-message-ttl: received '1.0' but current is '1000'"),
        (Value::Void, "x-message-ttl: received none but current is '1000'"),
        (Value::Table(Table::default()), "x-message-ttl: received '[]' but current is '1000'"),
        ("1000".into(), "x-message-ttl: received '1000' but current is '1000'"),
    ] {
        let second = |queue: &str| argument(declare(queue), "x-message-ttl", value.clone());
        inequivalent(trial, ttl(1000), second, text)?;
    }
    Ok(())
}

fn arguments_of_one_value_are_equal(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for (key, first, second) in [
        ("x-message-ttl", Value::I32(1000), Value::Timestamp(1000)),
        ("x-dead-letter-exchange", "ae".into(), Value::Bytes(b"ae".to_vec())),
    ] {
        let queue = trial.queue();
        channel.call(&argument(declare(&queue), key, first))?;
        channel.call(&argument(declare(&queue), key, second))?;
    }
    Ok(())
}

/// Exclusivity, durable, auto_delete, arguments.
fn inequivalence_is_checked_in_order(trial: &Trial<'_>) -> Outcome {
    let all = |queue: &str| ttl(1)(queue).flags(&["durable", "auto_delete"]);
    let text = "durable: received 'true' but current is 'false'";
    inequivalent(trial, declare, all, text)?;
    let later = |queue: &str| ttl(1)(queue).flags(&["auto_delete"]);
    let text = "auto_delete: received 'true' but current is 'false'";
    inequivalent(trial, declare, later, text)?;
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.refuses(&all(&queue).flags(&["exclusive"]), 405, &locked(trial, &queue))
}

fn integer_widths_are_equal(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    for value in [
        Value::I32(100),
        Value::I64(100),
        Value::I64Upper(100),
        Value::I8(100),
        Value::U8(100),
        Value::I16(100),
        Value::U16(100),
        Value::U32(100),
    ] {
        channel.call(&argument(declare(&queue), "x-message-ttl", value))?;
    }
    Ok(())
}

/// How the text names the type of an argument.
fn many_types_are_named_in_the_text(trial: &Trial<'_>) -> Outcome {
    for (value, name) in [
        (Value::I64(5), "long"),
        (Value::I16(5), "short"),
        (Value::I8(5), "byte"),
        (Value::U32(5), "unsignedint"),
        (Value::U16(5), "unsignedshort"),
        (Value::U8(5), "unsignedbyte"),
    ] {
        let text =
            format!("x-max-length: received the value '5' of type '{name}' but current is none");
        let second = |queue: &str| argument(declare(queue), "x-max-length", value.clone());
        inequivalent(trial, declare, second, &text)?;
    }
    let text = "x-overflow: received none but current is the value 'drop-head' of type 'longstr'";
    let first = |queue: &str| argument(declare(queue), "x-overflow", "drop-head");
    inequivalent(trial, first, declare, text)
}

fn unknown_arguments_are_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.queue();
    channel.call(&argument(declare(&queue), "x-nobody-knows", 1))?;
    channel.call(&argument(declare(&queue), "x-nobody-knows", "two"))?;
    channel.call(&declare(&queue)).map(drop)
}

fn classic_type_equals_none(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let (one, two) = (trial.queue(), trial.queue());
    channel.call(&declare(&one))?;
    channel.call(&argument(declare(&one), "x-queue-type", "classic"))?;
    channel.call(&argument(declare(&two), "x-queue-type", "classic"))?;
    channel.call(&declare(&two)).map(drop)
}

fn counts_are_ready_messages_and_consumers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body);
    }
    channel.check_out(&queue)?;
    same("counts", channel.counts(&queue)?, (2, 0))?;
    channel.call(&crate::client::qos(1))?;
    channel.call(&crate::client::consume(&queue, "tag"))?;
    channel.delivery()?;
    same("counts", channel.counts(&queue)?, (1, 1))
}

fn passive_on_a_missing_one(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.expect_absent(&trial.queue(), trial.vhost())
}

fn passive_ignores_flags_and_arguments(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let passive = |method: Method| method.flags(&["passive"]);
    channel.call(&passive(declare(&queue).flags(&["durable", "auto_delete", "exclusive"])))?;
    channel.call(&passive(argument(declare(&queue), "x-message-ttl", "not a number")))?;
    let exclusive = trial.queue();
    channel.call(&declare(&exclusive).flags(&["exclusive"]))?;
    channel.call(&passive(declare(&exclusive))).map(drop)
}

fn passive_on_a_foreign_exclusive_queue(trial: &Trial<'_>) -> Outcome {
    let owner = trial.channel()?;
    let queue = trial.queue();
    owner.call(&declare(&queue).flags(&["exclusive"]))?;
    let passive = declare(&queue).flags(&["passive"]);
    trial.channel()?.refuses(&passive, 405, &locked(trial, &queue))
}

fn quorum_redeclared_without_type(trial: &Trial<'_>) -> Outcome {
    let quorum =
        |queue: &str| argument(declare(queue), "x-queue-type", "quorum").flags(&["durable"]);
    let plain = |queue: &str| declare(queue).flags(&["durable"]);
    let text = trial.expect(crate::trial::Differs {
        rabbitmq: "x-queue-type: received none but current is the value 'quorum' of type 'longstr'",
        leveret: "x-queue-type: received 'classic' but current is 'quorum'",
        line: "Quorum queue declared again without its type",
    });
    inequivalent(trial, quorum, plain, text)
}
