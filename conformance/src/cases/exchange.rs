//! Sections 2.2 and 2.3: exchange.declare and exchange.delete.

use super::cases;
use crate::client::{bind, bind_exchange, delete_exchange, exchange};
use crate::codec::{Method, Table, Value};
use crate::outcome::Outcome;
use crate::trial::{Differs, Trial};

cases! {
    "2.2": declare_four_types, unknown_type, declare_the_default_exchange, declare_reserved_prefix,
        redeclare_a_predeclared_exchange, alternate_exchange_of_another_type,
        alternate_exchange_need_not_exist, redeclare_equal, inequivalent_type,
        inequivalent_durable, inequivalent_auto_delete, inequivalent_internal,
        inequivalence_is_checked_in_order, other_arguments_are_ignored_on_redeclare,
        inequivalent_alternate_exchange, alternate_exchange_against_none,
        redeclared_alternate_exchange_of_another_type,
        passive_finds_an_exchange, passive_ignores_everything_but_the_name,
        passive_with_an_unknown_type, passive_on_the_default_exchange, passive_on_a_missing_one,
        type_is_checked_before_the_name, predeclared_exchanges_and_their_types;
    "2.3": delete_an_exchange, delete_the_default_exchange, delete_a_predeclared_exchange,
        delete_a_missing_reserved_name, delete_a_missing_exchange, delete_one_in_use,
        delete_one_that_is_only_a_destination, delete_removes_bindings_both_ways,
        delete_cascades_to_auto_delete_sources;
}

fn declare_four_types(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for kind in ["direct", "fanout", "topic", "headers"] {
        let declare = exchange(&trial.exchange(), kind);
        channel.call(&declare.flags(&["durable", "auto_delete", "internal"]))?;
    }
    Ok(())
}

fn unknown_type_of(trial: &Trial<'_>, name: &str) -> Outcome {
    let channel = trial.channel()?;
    let method = exchange(name, "zz");
    let survives = Differs { rabbitmq: false, leveret: true, line: "Unknown exchange type" };
    if trial.expect(survives) {
        let text = "PRECONDITION_FAILED - unknown exchange type 'zz'";
        return channel.refuses(&method, 406, text);
    }
    channel.kills(&method, 503, "COMMAND_INVALID - unknown exchange type 'zz'")
}

fn unknown_type(trial: &Trial<'_>) -> Outcome {
    unknown_type_of(trial, &trial.exchange())
}

fn type_is_checked_before_the_name(trial: &Trial<'_>) -> Outcome {
    unknown_type_of(trial, "")
}

const DEFAULT_REFUSED: &str = "ACCESS_REFUSED - operation not permitted on the default exchange";

fn declare_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&exchange("", "direct"), 403, DEFAULT_REFUSED)
}

fn declare_reserved_prefix(trial: &Trial<'_>) -> Outcome {
    let name = trial.exchange_named("amq.");
    let text = format!("ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'");
    trial.channel()?.refuses(&exchange(&name, "direct"), 403, &text)
}

fn redeclare_a_predeclared_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.call(&exchange("amq.direct", "direct").flags(&["durable"]))?;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'durable' for {}: received 'false' but current \
         is 'true'",
        trial.at("exchange", "amq.direct")
    );
    channel.refuses(&exchange("amq.direct", "direct"), 406, &text)
}

fn alternate(name: &str, kind: &str, value: impl Into<Value>) -> Method {
    exchange(name, kind).with("arguments", Table::from([("alternate-exchange", value.into())]))
}

fn alternate_exchange_of_another_type(trial: &Trial<'_>) -> Outcome {
    let name = trial.exchange();
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in {}",
        trial.at("exchange", &name)
    );
    trial.channel()?.refuses(&alternate(&name, "direct", 5), 406, &text)
}

fn alternate_exchange_need_not_exist(trial: &Trial<'_>) -> Outcome {
    let (name, missing) = (trial.exchange(), trial.exchange());
    trial.channel()?.call(&alternate(&name, "direct", missing.as_str())).map(drop)
}

fn redeclare_equal(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = alternate(&trial.exchange(), "topic", "amq.fanout").flags(&[
        "durable",
        "auto_delete",
        "internal",
    ]);
    channel.call(&method)?;
    channel.call(&method).map(drop)
}

/// Declares a plain direct exchange; the second declaration is refused.
fn inequivalent(
    trial: &Trial<'_>,
    second: impl Fn(&str) -> Method,
    argument: &str,
    difference: &str,
) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for {}: {difference}",
        trial.at("exchange", &name)
    );
    channel.refuses(&second(&name), 406, &text)
}

const TRUE_IS_FALSE: &str = "received 'true' but current is 'false'";

fn inequivalent_type(trial: &Trial<'_>) -> Outcome {
    let difference = "received 'fanout' but current is 'direct'";
    inequivalent(trial, |name| exchange(name, "fanout"), "type", difference)
}

fn inequivalent_durable(trial: &Trial<'_>) -> Outcome {
    let second = |name: &str| exchange(name, "direct").flags(&["durable"]);
    inequivalent(trial, second, "durable", TRUE_IS_FALSE)
}

fn inequivalent_auto_delete(trial: &Trial<'_>) -> Outcome {
    let second = |name: &str| exchange(name, "direct").flags(&["auto_delete"]);
    inequivalent(trial, second, "auto_delete", TRUE_IS_FALSE)
}

fn inequivalent_internal(trial: &Trial<'_>) -> Outcome {
    let second = |name: &str| exchange(name, "direct").flags(&["internal"]);
    inequivalent(trial, second, "internal", TRUE_IS_FALSE)
}

fn inequivalence_is_checked_in_order(trial: &Trial<'_>) -> Outcome {
    let flags = ["internal", "auto_delete", "durable"];
    for (count, argument) in ["type", "durable", "auto_delete", "internal"].iter().enumerate() {
        let (kind, difference) = if count == 0 {
            ("fanout", "received 'fanout' but current is 'direct'")
        } else {
            ("direct", TRUE_IS_FALSE)
        };
        let second = |name: &str| alternate(name, kind, "ae").flags(&flags[..(4 - count).min(3)]);
        inequivalent(trial, second, argument, difference)?;
    }
    Ok(())
}

fn other_arguments_are_ignored_on_redeclare(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    let arguments = Table::from([("anything", 5.into()), ("x-else", "text".into())]);
    channel.call(&exchange(&name, "direct").with("arguments", arguments)).map(drop)
}

fn inequivalent_alternate_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.exchange();
    channel.call(&alternate(&name, "direct", "one"))?;
    let at = trial.at("exchange", &name);
    let start = format!("PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for {at}: ");
    let text = format!("{start}received 'two' but current is 'one'");
    channel.refuses(&alternate(&name, "direct", "two"), 406, &text)?;
    let text = format!("{start}received none but current is the value 'one' of type 'longstr'");
    channel.refuses(&exchange(&name, "direct"), 406, &text)
}

fn alternate_exchange_against_none(trial: &Trial<'_>) -> Outcome {
    let difference = "received the value 'ae' of type 'longstr' but current is none";
    let second = |name: &str| alternate(name, "direct", "ae");
    inequivalent(trial, second, "alternate-exchange", difference)
}

fn redeclared_alternate_exchange_of_another_type(trial: &Trial<'_>) -> Outcome {
    let difference = "received the value '5' of type 'signedint' but current is none";
    inequivalent(trial, |name| alternate(name, "direct", 5), "alternate-exchange", difference)?;
    let channel = trial.channel()?;
    let name = trial.exchange();
    channel.call(&alternate(&name, "direct", "ae"))?;
    channel.call(&alternate(&name, "direct", Value::Bytes(b"ae".to_vec())))?;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for {}: received '5' but \
         current is 'ae'",
        trial.at("exchange", &name)
    );
    channel.refuses(&alternate(&name, "direct", 5), 406, &text)
}

fn passive_finds_an_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&exchange(&name, "direct").flags(&["passive"])).map(drop)
}

fn passive_ignores_everything_but_the_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    let method = alternate(&name, "fanout", 5);
    let flags = ["passive", "durable", "auto_delete", "internal"];
    channel.call(&method.flags(&flags)).map(drop)
}

fn passive_with_an_unknown_type(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&exchange(&name, "zz").flags(&["passive"])).map(drop)
}

fn passive_on_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    let method = exchange("", "direct").flags(&["passive"]);
    trial.channel()?.refuses(&method, 403, DEFAULT_REFUSED)
}

fn not_found(trial: &Trial<'_>, name: &str) -> String {
    format!("NOT_FOUND - no {}", trial.at("exchange", name))
}

fn expect_absent(trial: &Trial<'_>, channel: &crate::client::Channel, name: &str) -> Outcome {
    let passive = exchange(name, "").flags(&["passive"]);
    channel.refuses(&passive, 404, &not_found(trial, name))
}

fn passive_on_a_missing_one(trial: &Trial<'_>) -> Outcome {
    expect_absent(trial, &trial.channel()?, &trial.exchange())
}

fn predeclared_exchanges_and_their_types(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for (name, kind) in [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.match", "headers"),
        ("amq.headers", "headers"),
    ] {
        channel.call(&exchange(name, kind).flags(&["durable"]))?;
    }
    let trace = exchange("amq.rabbitmq.trace", "topic").flags(&["durable", "internal"]);
    channel.call(&trace).map(drop)
}

fn delete_an_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&delete_exchange(&name).flags(&["if_unused"]))?;
    expect_absent(trial, &channel, &name)
}

fn delete_the_default_exchange(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.refuses(&delete_exchange(""), 403, DEFAULT_REFUSED)
}

fn refuse_deletion(trial: &Trial<'_>, name: &str) -> Outcome {
    let text =
        format!("ACCESS_REFUSED - deletion of system {} not allowed", trial.at("exchange", name));
    trial.channel()?.refuses(&delete_exchange(name), 403, &text)
}

fn delete_a_predeclared_exchange(trial: &Trial<'_>) -> Outcome {
    refuse_deletion(trial, "amq.direct")
}

fn delete_a_missing_reserved_name(trial: &Trial<'_>) -> Outcome {
    refuse_deletion(trial, &trial.exchange_named("amq."))
}

fn delete_a_missing_exchange(trial: &Trial<'_>) -> Outcome {
    trial.channel()?.call(&delete_exchange(&trial.exchange())).map(drop)
}

fn delete_one_in_use(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind(&queue, &name, "key"))?;
    let text = format!("PRECONDITION_FAILED - {} in use", trial.at("exchange", &name));
    channel.refuses(&delete_exchange(&name).flags(&["if_unused"]), 406, &text)?;
    channel.call(&delete_exchange(&name))?;
    expect_absent(trial, &channel, &name)
}

fn delete_one_that_is_only_a_destination(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = trial.new_exchange(&channel, "direct")?;
    let source = trial.new_exchange(&channel, "direct")?;
    channel.call(&bind_exchange(&name, &source, "key"))?;
    channel.call(&delete_exchange(&name).flags(&["if_unused"]))?;
    channel.call(&delete_exchange(&source).flags(&["if_unused"])).map(drop)
}

fn delete_removes_bindings_both_ways(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let source = trial.new_exchange(&channel, "fanout")?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind_exchange(&name, &source, ""))?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.publish(&source, "", "before");
    channel.call(&delete_exchange(&name))?;
    channel.call(&exchange(&name, "fanout"))?;
    channel.publish(&source, "", "through the source");
    channel.publish(&name, "", "through itself");
    channel.expect_bodies(&queue, &["before"])
}

fn delete_cascades_to_auto_delete_sources(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let source = trial.exchange();
    channel.call(&exchange(&source, "fanout").flags(&["auto_delete"]))?;
    let name = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind_exchange(&name, &source, ""))?;
    channel.call(&delete_exchange(&name))?;
    expect_absent(trial, &channel, &source)
}
