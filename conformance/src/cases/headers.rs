//! Section 7: the exchange type headers.

use super::cases;
use crate::client::bind;
use crate::codec::{Properties, Table, Value};
use crate::outcome::{Outcome, fail};
use crate::trial::{Differs, Trial};

cases! {
    "7": headers_match_all, headers_match_all_by_default, headers_match_any,
        headers_skip_arguments_with_x, headers_match_all_with_x, headers_match_any_with_x,
        headers_void_needs_the_key_only, headers_widths_of_integers_are_equal,
        headers_text_equals_binary, headers_bools_are_their_own, headers_tables_and_arrays,
        headers_float_and_integer, headers_floats, headers_timestamps,
        headers_timestamp_and_integer, headers_all_of_nothing, headers_any_of_nothing,
        headers_unknown_match, headers_match_of_another_type, headers_ignore_the_key,
        headers_bindings_are_independent;
}

type Entries<'a> = &'a [(&'a str, Value)];

fn table(entries: Entries<'_>) -> Table {
    Table(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
}

/// Whether a binding with these arguments matches each of these sets of headers.
fn matches(trial: &Trial<'_>, arguments: Entries<'_>, expected: &[(Entries<'_>, bool)]) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "headers")?;
    channel.call(&bind(&queue, &name, "").with("arguments", table(arguments)))?;
    for (headers, is_match) in expected {
        let properties = Properties::new().headers(table(headers));
        channel.publish_with(&crate::client::publish(&name, ""), &properties, b"x");
        let found = channel.has_message(&queue)?;
        if found != *is_match {
            let (arguments, headers) = (table(arguments), table(headers));
            return fail(format!("{arguments} matches {headers}: {found}"));
        }
    }
    Ok(())
}

/// One argument against one header of the same name.
fn equal(trial: &Trial<'_>, argument: Value, header: Value, is_match: bool) -> Outcome {
    matches(trial, &[("k", argument)], &[(&[("k", header)], is_match)])
}

fn headers_match_all(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("x-match", "all".into()), ("a", 1.into()), ("b", "two".into())],
        &[
            (&[("a", 1.into()), ("b", "two".into())], true),
            (&[("c", 3.into()), ("b", "two".into()), ("a", 1.into())], true),
            (&[("a", 1.into())], false),
            (&[("a", 1.into()), ("b", "three".into())], false),
            (&[], false),
        ],
    )
}

fn headers_match_all_by_default(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("a", 1.into()), ("b", 2.into())],
        &[(&[("a", 1.into()), ("b", 2.into())], true), (&[("a", 1.into())], false)],
    )
}

fn headers_match_any(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("x-match", "any".into()), ("a", 1.into()), ("b", "two".into())],
        &[
            (&[("a", 1.into())], true),
            (&[("b", "two".into()), ("a", 9.into())], true),
            (&[("a", 9.into()), ("c", 3.into())], false),
            (&[], false),
        ],
    )
}

fn headers_skip_arguments_with_x(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("x-match", "all".into()), ("x-other", 1.into()), ("a", 1.into())],
        &[(&[("a", 1.into())], true)],
    )?;
    matches(
        trial,
        &[("x-match", "any".into()), ("x-other", 1.into()), ("a", 1.into())],
        &[(&[("x-other", 1.into())], false), (&[("a", 1.into())], true)],
    )
}

fn headers_match_all_with_x(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("x-match", "all-with-x".into()), ("x-other", 1.into()), ("a", 1.into())],
        &[
            (&[("a", 1.into())], false),
            (&[("a", 1.into()), ("x-other", 1.into())], true),
            (&[("a", 1.into()), ("x-other", 2.into())], false),
        ],
    )
}

fn headers_match_any_with_x(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("x-match", "any-with-x".into()), ("x-other", 1.into()), ("a", 1.into())],
        &[
            (&[("x-other", 1.into())], true),
            (&[("a", 1.into())], true),
            (&[("x-other", 2.into())], false),
            (&[("x-match", "any-with-x".into())], false),
        ],
    )
}

fn headers_void_needs_the_key_only(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("k", Value::Void)],
        &[
            (&[("k", 1.into())], true),
            (&[("k", "text".into())], true),
            (&[("k", Value::Void)], true),
            (&[("other", 1.into())], false),
        ],
    )
}

fn headers_widths_of_integers_are_equal(trial: &Trial<'_>) -> Outcome {
    matches(
        trial,
        &[("k", 1.into())],
        &[
            (&[("k", Value::I8(1))], true),
            (&[("k", Value::U8(1))], true),
            (&[("k", Value::I16(1))], true),
            (&[("k", Value::U16(1))], true),
            (&[("k", Value::U32(1))], true),
            (&[("k", Value::I64(1))], true),
            (&[("k", Value::I64(2))], false),
            (&[("k", "1".into())], false),
        ],
    )
}

fn headers_text_equals_binary(trial: &Trial<'_>) -> Outcome {
    equal(trial, "z".into(), Value::Bytes(b"z".to_vec()), true)?;
    equal(trial, Value::Bytes(b"z".to_vec()), "z".into(), true)?;
    equal(trial, "z".into(), "Z".into(), false)
}

fn headers_bools_are_their_own(trial: &Trial<'_>) -> Outcome {
    equal(trial, true.into(), true.into(), true)?;
    equal(trial, true.into(), false.into(), false)?;
    equal(trial, true.into(), 1.into(), false)?;
    equal(trial, 1.into(), true.into(), false)?;
    equal(trial, true.into(), "true".into(), false)
}

fn headers_tables_and_arrays(trial: &Trial<'_>) -> Outcome {
    let array = |items: &[i32]| Value::Array(items.iter().map(|item| (*item).into()).collect());
    equal(trial, array(&[1, 2]), array(&[1, 2]), true)?;
    equal(trial, array(&[1, 2]), array(&[2, 1]), false)?;
    let narrow = Value::Array(vec![Value::I8(1), 2.into()]);
    equal(trial, array(&[1, 2]), narrow, false)?;
    let nested = |entries: Entries<'_>| Value::Table(table(entries));
    let argument = nested(&[("a", 1.into()), ("b", 2.into())]);
    equal(trial, argument.clone(), argument.clone(), true)?;
    equal(trial, argument, nested(&[("b", 2.into()), ("a", 1.into())]), false)
}

fn headers_float_and_integer(trial: &Trial<'_>) -> Outcome {
    let differs = Differs { rabbitmq: true, leveret: false, line: "Headers: float and integer" };
    let is_match = trial.expect(differs);
    equal(trial, 1.into(), Value::F64(1.0), is_match)?;
    equal(trial, Value::F64(1.0), 1.into(), is_match)?;
    equal(trial, Value::F32(2.0), Value::I64(2), is_match)
}

fn headers_floats(trial: &Trial<'_>) -> Outcome {
    equal(trial, Value::F64(1.5), Value::F64(1.5), true)?;
    equal(trial, Value::F64(1.5), Value::F32(1.5), true)?;
    equal(trial, Value::F64(1.5), Value::F64(1.25), false)
}

fn headers_timestamps(trial: &Trial<'_>) -> Outcome {
    equal(trial, Value::Timestamp(1000), Value::Timestamp(1000), true)?;
    equal(trial, Value::Timestamp(1000), Value::Timestamp(1001), false)
}

fn headers_timestamp_and_integer(trial: &Trial<'_>) -> Outcome {
    let differs =
        Differs { rabbitmq: true, leveret: false, line: "Headers: timestamp and integer" };
    equal(trial, Value::Timestamp(1000), Value::I64(1000), trial.expect(differs))
}

fn headers_all_of_nothing(trial: &Trial<'_>) -> Outcome {
    for arguments in [&[("x-match", "all".into())][..], &[], &[("x-ignored", 1.into())]] {
        matches(trial, arguments, &[(&[], true), (&[("a", 1.into())], true)])?;
    }
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "headers")?;
    channel.call(&bind(&queue, &name, ""))?;
    channel.publish(&name, "", "no headers at all");
    channel.expect_bodies(&queue, &["no headers at all"])
}

fn headers_any_of_nothing(trial: &Trial<'_>) -> Outcome {
    matches(trial, &[("x-match", "any".into())], &[(&[], false), (&[("a", 1.into())], false)])
}

fn refused(trial: &Trial<'_>, value: Value, text: &str) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let method = bind(&queue, "amq.headers", "").with("arguments", table(&[("x-match", value)]));
    channel.refuses(&method, 406, &format!("PRECONDITION_FAILED - {text}"))
}

fn headers_unknown_match(trial: &Trial<'_>) -> Outcome {
    let text =
        "Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x";
    refused(trial, "zz".into(), text)
}

fn headers_match_of_another_type(trial: &Trial<'_>) -> Outcome {
    let text = "Invalid x-match field type signedint (value 5); expected longstr";
    refused(trial, 5.into(), text)
}

fn headers_ignore_the_key(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "headers")?;
    let arguments = table(&[("a", 1.into())]);
    channel.call(&bind(&queue, &name, "one key").with("arguments", arguments.clone()))?;
    let properties = Properties::new().headers(arguments);
    channel.publish_with(&crate::client::publish(&name, "another"), &properties, b"x");
    channel.expect_bodies(&queue, &["x"])
}

fn headers_bindings_are_independent(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let name = trial.new_exchange(&channel, "headers")?;
    for value in [1, 2] {
        let arguments = table(&[("a", value.into())]);
        channel.call(&bind(&queue, &name, "").with("arguments", arguments))?;
    }
    for value in [1, 2, 3] {
        let properties = Properties::new().headers(table(&[("a", value.into())]));
        let body = value.to_string();
        channel.publish_with(&crate::client::publish(&name, ""), &properties, body.as_bytes());
    }
    channel.expect_bodies(&queue, &["1", "2"])
}
