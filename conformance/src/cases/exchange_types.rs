//! Section 7: the exchange types that RabbitMQ has as plugins. A broker without one of them skips
//! its cases.

use super::cases;
use crate::client::{Channel, bind, bind_exchange, exchange, publish, unbind};
use crate::codec::{Method, Properties, Table, Value};
use crate::outcome::{Outcome, Stop, holds, same};
use crate::trial::{Differs, Trial};

cases! {
    "7": consistent_hash_weights_are_integers, consistent_hash_weights_are_bounded,
        consistent_hash_arguments, consistent_hash_argument_of_another_type,
        consistent_hash_sends_a_key_to_one_queue, consistent_hash_follows_the_weights,
        consistent_hash_of_a_header, consistent_hash_of_properties,
        consistent_hash_second_binding_adds_no_weight, consistent_hash_first_binding_goes,
        consistent_hash_other_keys_stay, consistent_hash_without_bindings,
        random_picks_a_queue, random_of_one_and_of_none, local_random_picks_a_queue,
        local_random_refuses, modulus_hash_sends_a_key_to_one_queue,
        modulus_hash_counts_every_binding, history_is_replayed, history_is_of_twenty_messages,
        history_length, history_length_is_a_positive_integer, history_skips_what_says_so,
        history_is_for_new_bindings, history_keeps_what_was_not_routed, history_for_an_exchange,
        history_for_an_exchange_without_queues;
}

/// An exchange of a type that the broker may not have.
fn plugged(
    trial: &Trial<'_>,
    channel: &Channel,
    kind: &str,
    arguments: impl Into<Table>,
) -> Outcome<String> {
    let missing = format!("unknown exchange type '{kind}'");
    let name = trial.exchange();
    match channel.call(&declare(&name, kind, arguments)) {
        Ok(_) => Ok(name),
        Err(Stop::Failed(text)) if text.contains(&missing) => Err(Stop::Skipped(missing)),
        Err(stop) => Err(stop),
    }
}

fn declare(name: &str, kind: &str, arguments: impl Into<Table>) -> Method {
    exchange(name, kind).with("arguments", arguments.into())
}

fn queues(trial: &Trial<'_>, channel: &Channel, count: usize) -> Outcome<Vec<String>> {
    (0..count).map(|_| trial.new_queue(channel)).collect()
}

/// What each queue holds; it is taken.
fn taken(channel: &Channel, queues: &[String]) -> Outcome<Vec<Vec<String>>> {
    let mut all = Vec::new();
    for queue in queues {
        let mut bodies = Vec::new();
        while let Some(content) = channel.get(&crate::client::get(queue).flags(&["no_ack"]))? {
            bodies.push(String::from_utf8_lossy(&content.body).into_owned());
        }
        all.push(bodies);
    }
    Ok(all)
}

/// Publishes `0`, `1`, ..., each under itself as the routing key.
fn publish_numbers(channel: &Channel, name: &str, count: u32) {
    for number in 0..count {
        channel.publish(name, &number.to_string(), &number.to_string());
    }
}

/// All of `count` messages have come, and each queue got more than a tenth of its even share.
fn spread(got: &[Vec<String>], count: usize) -> Outcome {
    let counts: Vec<_> = got.iter().map(Vec::len).collect();
    same("messages", counts.iter().sum::<usize>(), count)?;
    let least = count / got.len() / 10;
    holds(counts.iter().all(|got| *got > least), format!("spread as {counts:?}"))
}

const HASH: &str = "x-consistent-hash";

fn consistent_hash_weights_are_integers(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queue = trial.new_queue(&channel)?;
    let no_integer = |key: &str| format!("The binding key must be an integer: {key}");
    let not_positive = || "The binding key must be greater than 0".to_owned();
    let refused = [
        ("abc", no_integer("<<\"abc\">>")),
        ("", no_integer("<<>>")),
        (" 1", no_integer("<<\" 1\">>")),
        ("1.5", no_integer("<<\"1.5\">>")),
        ("a\"\\\n", no_integer("<<\"a\\\"\\\\\\n\">>")),
        ("\u{1}", no_integer("<<1>>")),
        ("\u{20ac}", no_integer("<<226,130,172>>")),
        ("\u{e9}", no_integer("<<\"\u{e9}\">>")),
        ("0", not_positive()),
        ("-5", not_positive()),
    ];
    for (key, text) in refused {
        let text = format!("PRECONDITION_FAILED - {text}");
        channel.refuses(&bind(&queue, &name, key), 406, &text)?;
    }
    for key in ["1", "+2", "007"] {
        channel.call(&bind(&queue, &name, key))?;
    }
    Ok(())
}

fn consistent_hash_weights_are_bounded(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &name, "10000"))?;
    let bounded = Differs { rabbitmq: false, leveret: true, line: "Weights above 10000" };
    if trial.expect(bounded) {
        let text = "PRECONDITION_FAILED - The binding key must not exceed 10000";
        return channel.refuses(&bind(&queue, &name, "10001"), 406, text);
    }
    channel.call(&bind(&queue, &name, "10001")).map(drop)
}

fn consistent_hash_arguments(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    plugged(trial, &channel, HASH, [("hash-header", "any".into())])?;
    for property in ["correlation_id", "message_id", "timestamp"] {
        plugged(trial, &channel, HASH, [("hash-property", property.into())])?;
    }
    let method = declare(&trial.exchange(), HASH, [("hash-property", "zz".into())]);
    channel.refuses(&method, 406, "PRECONDITION_FAILED - Unsupported property: zz")?;
    let both = [("hash-header", "h".into()), ("hash-property", "zz".into())];
    let text = "PRECONDITION_FAILED - hash-header and hash-property are mutually exclusive";
    channel.refuses(&declare(&trial.exchange(), HASH, both), 406, text)
}

fn consistent_hash_argument_of_another_type(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    plugged(trial, &channel, HASH, [])?;
    let method = declare(&trial.exchange(), HASH, [("hash-header", 5.into())]);
    let survives = Differs { rabbitmq: false, leveret: true, line: "hash-header of another type" };
    if trial.expect(survives) {
        let text = "PRECONDITION_FAILED - hash-header must be a longstr";
        return channel.refuses(&method, 406, text);
    }
    channel.send(&method);
    channel.connection.expect_close(541, "INTERNAL_ERROR", "")
}

fn consistent_hash_sends_a_key_to_one_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queues = queues(trial, &channel, 3)?;
    for queue in &queues {
        channel.call(&bind(queue, &name, "20"))?;
    }
    publish_numbers(&channel, &name, 300);
    let first = taken(&channel, &queues)?;
    spread(&first, 300)?;
    publish_numbers(&channel, &name, 300);
    let second = taken(&channel, &queues)?;
    holds(second == first, "a key went to another queue")?;
    // A copy's key does not count.
    let cc = Value::Array(vec!["7".into(), "8".into()]);
    let properties = Properties::new().headers([("CC", cc)]);
    channel.publish_with(&publish(&name, "5"), &properties, b"5");
    let place = |all: &[Vec<String>]| all.iter().position(|got| got.contains(&"5".to_owned()));
    let copied = taken(&channel, &queues)?;
    same("messages", copied.iter().map(Vec::len).sum::<usize>(), 1)?;
    same("the queue", place(&copied), place(&first))
}

fn consistent_hash_follows_the_weights(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queues = queues(trial, &channel, 2)?;
    for (queue, weight) in queues.iter().zip(["10", "90"]) {
        channel.call(&bind(queue, &name, weight))?;
    }
    publish_numbers(&channel, &name, 500);
    let counts: Vec<_> = taken(&channel, &queues)?.iter().map(Vec::len).collect();
    same("messages", counts.iter().sum::<usize>(), 500)?;
    holds((10..120).contains(&counts[0]), format!("a tenth of 500 is {}", counts[0]))
}

fn consistent_hash_of_a_header(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [("hash-header", "part".into())])?;
    let queues = queues(trial, &channel, 2)?;
    for queue in &queues {
        channel.call(&bind(queue, &name, "10"))?;
    }
    for _ in 0..2 {
        for number in 0..60 {
            let part = format!("part {number}");
            let properties = Properties::new().headers([("part", part.as_str().into())]);
            channel.publish_with(&publish(&name, "same"), &properties, part.as_bytes());
        }
    }
    let got = taken(&channel, &queues)?;
    spread(&got, 120)?;
    let twice = |got: &[String]| {
        got.iter().all(|part| got.iter().filter(|other| *other == part).count() == 2)
    };
    holds(got.iter().all(|got| twice(got)), "a header's value went to two queues")?;
    // Missing is one value, whatever the routing key.
    publish_numbers(&channel, &name, 20);
    let properties = Properties::new().headers([("other", 1.into())]);
    channel.publish_with(&publish(&name, "k"), &properties, b"x");
    let counts: Vec<_> = taken(&channel, &queues)?.iter().map(Vec::len).collect();
    holds(counts.contains(&21), format!("without the header: {counts:?}"))
}

fn consistent_hash_of_properties(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for property in ["correlation_id", "message_id", "timestamp"] {
        let name = plugged(trial, &channel, HASH, [("hash-property", property.into())])?;
        let queues = queues(trial, &channel, 2)?;
        for queue in &queues {
            channel.call(&bind(queue, &name, "10"))?;
        }
        for number in 0..60_u64 {
            let properties = match property {
                "timestamp" => Properties::new().with(property, 1_600_000_000 + number),
                _ => Properties::new().with(property, number.to_string().as_str()),
            };
            channel.publish_with(&publish(&name, "same"), &properties, b"x");
        }
        spread(&taken(&channel, &queues)?, 60)?;
        publish_numbers(&channel, &name, 20);
        let counts: Vec<_> = taken(&channel, &queues)?.iter().map(Vec::len).collect();
        holds(counts.contains(&20), format!("without {property}: {counts:?}"))?;
    }
    Ok(())
}

fn consistent_hash_second_binding_adds_no_weight(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queues = queues(trial, &channel, 2)?;
    for queue in &queues {
        channel.call(&bind(queue, &name, "10"))?;
    }
    publish_numbers(&channel, &name, 100);
    let before = taken(&channel, &queues)?;
    channel.call(&bind(&queues[0], &name, "500"))?;
    publish_numbers(&channel, &name, 100);
    same("with a second binding", taken(&channel, &queues)?, before)
}

fn consistent_hash_first_binding_goes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queue = trial.new_queue(&channel)?;
    for weight in ["10", "20"] {
        channel.call(&bind(&queue, &name, weight))?;
    }
    channel.call(&unbind(&queue, &name, "10"))?;
    publish_numbers(&channel, &name, 10);
    let line = "Queue with two weights, after an unbind";
    let left = trial.expect(Differs { rabbitmq: 0, leveret: 10, line });
    channel.expect_ready(&queue, left)
}

fn consistent_hash_other_keys_stay(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let queues = queues(trial, &channel, 4)?;
    for queue in &queues {
        channel.call(&bind(queue, &name, "10"))?;
    }
    publish_numbers(&channel, &name, 400);
    let before = taken(&channel, &queues)?;
    channel.call(&unbind(&queues[0], &name, "10"))?;
    publish_numbers(&channel, &name, 400);
    let after = taken(&channel, &queues)?;
    same("the queue that went", after[0].len(), 0)?;
    spread(&after[1..], 400)?;
    let kept = before.iter().zip(&after).skip(1);
    let stayed =
        kept.map(|(before, after)| before.iter().filter(|key| after.contains(key)).count());
    let (stayed, all) = (stayed.sum::<usize>(), before[1..].iter().map(Vec::len).sum::<usize>());
    let line = "Keys of other queues after an unbind";
    let all_stay = trial.expect(Differs { rabbitmq: false, leveret: true, line });
    same("whether all others stayed", stayed == all, all_stay)
}

fn consistent_hash_without_bindings(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HASH, [])?;
    let method = publish(&name, "k").flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), b"x");
    channel.expect_content("basic.return").map(drop)
}

fn random_picks_a_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, "x-random", [])?;
    let queues = queues(trial, &channel, 3)?;
    for (queue, key) in queues.iter().zip(["", "a", "b"]) {
        channel.call(&bind(queue, &name, key))?;
    }
    for _ in 0..150 {
        channel.publish(&name, "same", "x");
    }
    spread(&taken(&channel, &queues)?, 150)
}

fn random_of_one_and_of_none(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, "x-random", [])?;
    let method = publish(&name, "k").flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), b"x");
    channel.expect_content("basic.return")?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &name, "any"))?;
    channel.publish(&name, "other", "found");
    channel.expect_bodies(&queue, &["found"])
}

/// An x-local-random exchange, or proof that there is no such type.
fn local_random(trial: &Trial<'_>, channel: &Channel) -> Outcome<Option<String>> {
    let line = "Exchange type x-local-random";
    if trial.expect(Differs { rabbitmq: false, leveret: true, line }) {
        return plugged(trial, channel, "x-local-random", []).map(Some);
    }
    let text = "COMMAND_INVALID - unknown exchange type 'x-local-random'";
    channel.kills(&exchange(&trial.exchange(), "x-local-random"), 503, text)?;
    Ok(None)
}

fn local_random_picks_a_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let Some(name) = local_random(trial, &channel)? else {
        return Ok(());
    };
    let queues = queues(trial, &channel, 2)?;
    for queue in &queues {
        channel.call(&bind(queue, &name, ""))?;
    }
    for _ in 0..100 {
        channel.publish(&name, "same", "x");
    }
    spread(&taken(&channel, &queues)?, 100)
}

fn local_random_refuses(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let Some(name) = local_random(trial, &channel)? else {
        return Ok(());
    };
    let queue = trial.new_queue(&channel)?;
    let text = "PRECONDITION_FAILED - Non empty binding 'k' key not permitted";
    channel.refuses(&bind(&queue, &name, "k"), 406, text)?;
    let other = trial.new_exchange(&channel, "fanout")?;
    let text = "PRECONDITION_FAILED - Destination not found";
    channel.refuses(&bind_exchange(&other, &name, ""), 406, text)
}

const MODULUS: &str = "x-modulus-hash";

fn modulus_hash_sends_a_key_to_one_queue(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, MODULUS, [])?;
    let queues = queues(trial, &channel, 3)?;
    for (queue, key) in queues.iter().zip(["", "a", "b"]) {
        channel.call(&bind(queue, &name, key))?;
    }
    publish_numbers(&channel, &name, 300);
    let first = taken(&channel, &queues)?;
    spread(&first, 300)?;
    publish_numbers(&channel, &name, 300);
    same("the second round", taken(&channel, &queues)?, first)
}

fn modulus_hash_counts_every_binding(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, MODULUS, [])?;
    let queues = queues(trial, &channel, 2)?;
    for number in 0..9 {
        channel.call(&bind(&queues[0], &name, &number.to_string()))?;
    }
    channel.call(&bind(&queues[1], &name, ""))?;
    publish_numbers(&channel, &name, 500);
    let counts: Vec<_> = taken(&channel, &queues)?.iter().map(Vec::len).collect();
    same("messages", counts.iter().sum::<usize>(), 500)?;
    holds((10..120).contains(&counts[1]), format!("one binding of ten got {} of 500", counts[1]))
}

const HISTORY: &str = "x-recent-history";
const LENGTH: &str = "x-recent-history-length";

fn history_is_replayed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let queues = queues(trial, &channel, 2)?;
    channel.call(&bind(&queues[0], &name, "a"))?;
    let properties = Properties::new().headers([("h", 1.into())]).with("message_id", "m");
    channel.publish_with(&publish(&name, "k"), &properties, b"one");
    channel.publish(&name, "", "two");
    channel.expect_bodies(&queues[0], &["one", "two"])?;
    channel.call(&bind(&queues[1], &name, "b"))?;
    channel.publish(&name, "", "three");
    let replayed = channel.take(&queues[1])?;
    same("the header", replayed.headers()?.get("h"), Some(&1.into()))?;
    replayed.expect(&name, "k", "one")?;
    channel.expect_bodies(&queues[1], &["two", "three"])?;
    channel.expect_bodies(&queues[0], &["three"])
}

fn history_is_of_twenty_messages(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    publish_numbers(&channel, &name, 50);
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &name, ""))?;
    let expected: Vec<_> = (30..50).map(|number: u32| number.to_string()).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    channel.expect_bodies(&queue, &expected)
}

fn history_length(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    for length in [Value::I8(2), Value::I16(2), Value::I32(2), Value::I64(2)] {
        let name = plugged(trial, &channel, HISTORY, [(LENGTH, length)])?;
        publish_numbers(&channel, &name, 5);
        let queue = trial.new_queue(&channel)?;
        channel.call(&bind(&queue, &name, ""))?;
        channel.expect_bodies(&queue, &["3", "4"])?;
    }
    Ok(())
}

fn history_length_is_a_positive_integer(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    plugged(trial, &channel, HISTORY, [])?;
    let refused = [
        (0.into(), "0"),
        ((-3).into(), "-3"),
        ("abc".into(), "<<\"abc\">>"),
        ("".into(), "<<>>"),
        (true.into(), "true"),
        (Value::F64(1.5), "1.5"),
        (Value::Timestamp(5), "5"),
        (Value::Void, "undefined"),
        (Value::Table(Table::default()), "[]"),
    ];
    for (value, printed) in refused {
        let text = format!(
            "PRECONDITION_FAILED - Invalid argument {printed}, '{LENGTH}' must be a positive \
             integer"
        );
        let method = declare(&trial.exchange(), HISTORY, [(LENGTH, value)]);
        channel.refuses(&method, 406, &text)?;
    }
    Ok(())
}

fn history_skips_what_says_so(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let stored: [(Value, &[u8]); 4] = [
        (true.into(), b"true"),
        (false.into(), b"false"),
        ("true".into(), b"text"),
        (1.into(), b"one"),
    ];
    for (value, body) in stored {
        let properties = Properties::new().headers([("x-recent-history-no-store", value)]);
        channel.publish_with(&publish(&name, ""), &properties, body);
    }
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.expect_bodies(&queue, &["false", "text", "one"])
}

fn history_is_for_new_bindings(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let queue = trial.new_queue(&channel)?;
    channel.publish(&name, "", "one");
    for _ in 0..2 {
        channel.call(&bind(&queue, &name, "a"))?;
    }
    channel.expect_bodies(&queue, &["one"])?;
    channel.call(&bind(&queue, &name, "b"))?;
    channel.expect_bodies(&queue, &["one"])?;
    // Two bindings are one way.
    channel.publish(&name, "", "two");
    channel.expect_bodies(&queue, &["two"])
}

fn history_keeps_what_was_not_routed(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let method = publish(&name, "k").flags(&["mandatory"]);
    channel.publish_with(&method, &Properties::new(), b"returned");
    channel.expect_content("basic.return")?;
    let queue = trial.new_queue(&channel)?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.expect_bodies(&queue, &["returned"])
}

fn history_for_an_exchange(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let (queue, inner) = (trial.new_queue(&channel)?, trial.new_exchange(&channel, "topic")?);
    channel.call(&bind(&queue, &inner, "k.#"))?;
    for body in ["one", "two"] {
        channel.publish(&name, "k.x", body);
    }
    channel.call(&bind_exchange(&inner, &name, ""))?;
    let line = "Order of a history that goes to an exchange";
    let (rabbitmq, leveret) = (["two", "one"], ["one", "two"]);
    let bodies = trial.expect(Differs { rabbitmq, leveret, line });
    channel.expect_bodies(&queue, &bodies)
}

fn history_for_an_exchange_without_queues(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let name = plugged(trial, &channel, HISTORY, [])?;
    let inner = trial.new_exchange(&channel, "fanout")?;
    channel.publish(&name, "", "one");
    let method = bind_exchange(&inner, &name, "");
    let line = "History for an exchange without queues";
    if trial.expect(Differs { rabbitmq: false, leveret: true, line }) {
        return channel.call(&method).map(drop);
    }
    channel.send(&method);
    channel.connection.expect_close(541, "INTERNAL_ERROR", "")
}
