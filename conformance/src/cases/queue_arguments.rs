//! Sections 2.6 and 6.1: the arguments of queue.declare and how they are refused.

use super::cases;
use crate::client::declare;
use crate::codec::{Table, Value};
use crate::outcome::Outcome;
use crate::trial::Trial;

cases! {
    "2.6": dead_letter_exchange_of_another_type, dead_letter_exchange_need_not_exist,
        argument_of_another_queue_type, unknown_arguments_are_accepted, quorum_without_a_name,
        quorum_auto_delete, quorum_exclusive, quorum_not_durable,
        quorum_refusals_are_in_order;
    "6.1": queue_type, expires, message_ttl, dead_letter_routing_key, length_limits, max_priority,
        overflow, queue_mode, queue_version, single_active_consumer, wrong_types_of_integers,
        every_integer_type_is_accepted, queue_master_locator, arguments_of_quorum_queues;
}

type Arguments<'a> = &'a [(&'a str, Value)];

fn table(arguments: Arguments<'_>) -> Table {
    Table(arguments.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

/// The declaration is refused with `invalid arg KEY for queue ...: REASON`.
fn invalid(trial: &Trial<'_>, arguments: Arguments<'_>, key: &str, reason: &str) -> Outcome {
    let queue = trial.queue();
    let at = trial.at("queue", &queue);
    let text = format!("PRECONDITION_FAILED - invalid arg '{key}' for {at}: {reason}");
    let method = declare(&queue).with("arguments", table(arguments));
    trial.channel()?.refuses(&method, 406, &super::cut(&text))
}

fn refuses(trial: &Trial<'_>, key: &str, value: impl Into<Value>, reason: &str) -> Outcome {
    invalid(trial, &[(key, value.into())], key, reason)
}

fn accepts(trial: &Trial<'_>, key: &str, value: impl Into<Value>) -> Outcome {
    let method = declare(&trial.queue()).with("arguments", table(&[(key, value.into())]));
    trial.channel()?.call(&method).map(drop)
}

fn dead_letter_exchange_of_another_type(trial: &Trial<'_>) -> Outcome {
    let queue = trial.queue();
    let method =
        declare(&queue).with("arguments", Table::from([("x-dead-letter-exchange", 5.into())]));
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in {}",
        trial.at("queue", &queue)
    );
    trial.channel()?.refuses(&method, 406, &text)
}

fn dead_letter_exchange_need_not_exist(trial: &Trial<'_>) -> Outcome {
    accepts(trial, "x-dead-letter-exchange", trial.exchange().as_str())
}

fn argument_of_another_queue_type(trial: &Trial<'_>) -> Outcome {
    let line = "Delivery limit of classic queues";
    let differs = crate::trial::Differs { rabbitmq: true, leveret: false, line };
    let is_limit_refused = trial.expect(differs);
    for key in ["x-delivery-limit", "x-max-age", "x-quorum-initial-group-size"] {
        if key == "x-delivery-limit" && !is_limit_refused {
            accepts(trial, key, 5)?;
            continue;
        }
        let queue = trial.queue();
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{key}' for {} of queue type rabbit_classic_queue",
            trial.at("queue", &queue)
        );
        let value = if key == "x-max-age" { "1h".into() } else { Value::I32(5) };
        let method = declare(&queue).with("arguments", table(&[(key, value)]));
        trial.channel()?.refuses(&method, 406, &text)?;
    }
    Ok(())
}

fn unknown_arguments_are_accepted(trial: &Trial<'_>) -> Outcome {
    accepts(trial, "x-nobody-knows", Value::Table(Table::from([("a", Value::Void)])))?;
    accepts(trial, "anything", Value::Array(vec![1.into()]))
}

const QUORUM: (&str, &str) = ("x-queue-type", "quorum");

fn quorum_without_a_name(trial: &Trial<'_>) -> Outcome {
    let method =
        declare("").flags(&["durable"]).with("arguments", table(&[(QUORUM.0, QUORUM.1.into())]));
    let text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type \
                rabbit_quorum_queue";
    trial.channel()?.refuses(&method, 406, text)
}

fn quorum_refuses(trial: &Trial<'_>, flags: &[&str], property: &str) -> Outcome {
    let queue = trial.queue();
    let at = trial.at("queue", &queue);
    let method =
        declare(&queue).flags(flags).with("arguments", table(&[(QUORUM.0, QUORUM.1.into())]));
    let text = format!("PRECONDITION_FAILED - invalid property '{property}' for {at}");
    trial.channel()?.refuses(&method, 406, &text)
}

fn quorum_auto_delete(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, &["durable", "auto_delete"], "auto-delete")
}

fn quorum_exclusive(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, &["durable", "exclusive"], "exclusive-owner")
}

fn quorum_not_durable(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, &[], "non-durable")
}

fn quorum_refusals_are_in_order(trial: &Trial<'_>) -> Outcome {
    quorum_refuses(trial, &["auto_delete", "exclusive"], "auto-delete")?;
    quorum_refuses(trial, &["exclusive"], "exclusive-owner")
}

fn queue_type(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-queue-type", "zz", "\"unsupported queue type 'zz'\"")?;
    refuses(trial, "x-queue-type", 5, "{unacceptable_type,signedint}")
}

fn expires(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-expires", 0, "{value_zero,0}")?;
    refuses(trial, "x-expires", -1, "{value_negative,-1}")?;
    let large = Value::I64(99_999_999_999_999);
    refuses(trial, "x-expires", large, "{value_too_large,99999999999999}")?;
    accepts(trial, "x-expires", 60_000)
}

fn message_ttl(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-message-ttl", -1, "{value_negative,-1}")?;
    let large = Value::I64(99_999_999_999_999);
    refuses(trial, "x-message-ttl", large, "{value_too_large,99999999999999}")?;
    accepts(trial, "x-message-ttl", 0)?;
    accepts(trial, "x-message-ttl", Value::I64(315_360_000_000))
}

fn dead_letter_routing_key(trial: &Trial<'_>) -> Outcome {
    let key = "x-dead-letter-routing-key";
    refuses(trial, key, "key", "routing_key_but_no_dlx_defined")?;
    let arguments = [("x-dead-letter-exchange", "amq.direct".into()), (key, Value::I32(5))];
    invalid(trial, &arguments, key, "{unacceptable_type,signedint}")
}

fn length_limits(trial: &Trial<'_>) -> Outcome {
    for key in ["x-max-length", "x-max-length-bytes"] {
        refuses(trial, key, -1, "{value_negative,-1}")?;
        accepts(trial, key, 0)?;
    }
    Ok(())
}

fn max_priority(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-max-priority", 256, "{max_value_exceeded,256}")?;
    refuses(trial, "x-max-priority", -1, "{value_negative,-1}")?;
    accepts(trial, "x-max-priority", 0)?;
    accepts(trial, "x-max-priority", 255)
}

fn overflow(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-overflow", "zz", "invalid_overflow")?;
    for strategy in ["drop-head", "reject-publish", "reject-publish-dlx"] {
        accepts(trial, "x-overflow", strategy)?;
    }
    Ok(())
}

fn queue_mode(trial: &Trial<'_>) -> Outcome {
    accepts(trial, "x-queue-mode", "lazy")?;
    accepts(trial, "x-queue-mode", "default")?;
    let differs = crate::trial::Differs { rabbitmq: true, leveret: false, line: "x-queue-mode" };
    if trial.expect(differs) {
        return refuses(trial, "x-queue-mode", "zz", "\"unsupported queue mode 'zz'\"");
    }
    Ok(())
}

fn queue_version(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-queue-version", 3, "\"unsupported queue version '3'\"")?;
    accepts(trial, "x-queue-version", 1)?;
    accepts(trial, "x-queue-version", 2)
}

fn single_active_consumer(trial: &Trial<'_>) -> Outcome {
    refuses(trial, "x-single-active-consumer", 1, "{unacceptable_type,signedint}")?;
    accepts(trial, "x-single-active-consumer", true)
}

const INTEGERS: [&str; 5] =
    ["x-expires", "x-message-ttl", "x-max-length", "x-max-length-bytes", "x-max-priority"];

fn wrong_types_of_integers(trial: &Trial<'_>) -> Outcome {
    for key in INTEGERS {
        refuses(trial, key, "9", "\"expected integer, got longstr\"")?;
        refuses(trial, key, true, "\"expected integer, got bool\"")?;
        refuses(trial, key, Value::F64(9.0), "\"expected integer, got double\"")?;
    }
    Ok(())
}

fn every_integer_type_is_accepted(trial: &Trial<'_>) -> Outcome {
    for value in [
        Value::I8(9),
        Value::U8(9),
        Value::I16(9),
        Value::U16(9),
        Value::I32(9),
        Value::U32(9),
        Value::I64(9),
        Value::I64Upper(9),
    ] {
        accepts(trial, "x-max-length", value)?;
    }
    Ok(())
}

fn queue_master_locator(trial: &Trial<'_>) -> Outcome {
    accepts(trial, "x-queue-master-locator", "min-masters")
}

fn arguments_of_quorum_queues(trial: &Trial<'_>) -> Outcome {
    for (key, value, reason) in [
        ("x-dead-letter-strategy", "zz".into(), "invalid_dlx_strategy"),
        ("x-dead-letter-strategy", Value::I32(5), "{unacceptable_type,signedint}"),
        ("x-queue-leader-locator", "zz".into(), "invalid_queue_locator_arg"),
        ("x-quorum-initial-group-size", Value::I32(0), "{value_zero,0}"),
        ("x-max-in-memory-length", Value::I32(-1), "{value_negative,-1}"),
        ("x-max-in-memory-bytes", "9".into(), "\"expected integer, got longstr\""),
    ] {
        let queue = trial.queue();
        let at = trial.at("queue", &queue);
        let text = format!("PRECONDITION_FAILED - invalid arg '{key}' for {at}: {reason}");
        let arguments = table(&[(QUORUM.0, QUORUM.1.into()), (key, value)]);
        let method = declare(&queue).flags(&["durable"]).with("arguments", arguments);
        trial.channel()?.refuses(&method, 406, &super::cut(&text))?;
    }
    Ok(())
}
