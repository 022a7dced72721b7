use super::super::samples::{QUEUE, string, with};
use super::*;
use crate::id::ConnectionId;

/// The value is refused with this reason.
fn refused(key: &str, value: Value<'_>, reason: &str) {
    refused_among(&[(key, value)], key, reason);
}

fn refused_among(arguments: &[(&str, Value<'_>)], key: &str, reason: &str) {
    let error = with(arguments).check_arguments(QUEUE).unwrap_err();
    assert_eq!(
        error.text(),
        format!("PRECONDITION_FAILED - invalid arg '{key}' for queue 'q' in vhost '/': {reason}")
    );
}

fn accepted(arguments: &[(&str, Value<'_>)]) {
    assert_eq!(with(arguments).check_arguments(QUEUE), Ok(()), "{arguments:?}");
}

const NUMBERS: [(&str, i64); 12] = [
    ("x-expires", 1),
    ("x-message-ttl", 0),
    ("x-max-length", 0),
    ("x-max-length-bytes", 0),
    ("x-max-in-memory-length", 0),
    ("x-max-in-memory-bytes", 0),
    ("x-max-priority", 0),
    ("x-consumer-timeout", 0),
    ("x-quorum-initial-group-size", 1),
    ("x-stream-max-segment-size-bytes", 0),
    ("x-retry-delay-min", 1),
    ("x-cache-size", 1),
];

#[test]
fn numbers_are_integers_and_large_enough() {
    for (key, min) in NUMBERS {
        refused(key, string("9"), "\"expected integer, got longstr\"");
        refused(key, Value::F64(9.0), "\"expected integer, got double\"");
        refused(key, Value::I8(-1), "{value_negative,-1}");
        if min == 1 {
            refused(key, Value::I64(0), "{value_zero,0}");
        }
    }
    for value in [Value::I8(9), Value::U8(9), Value::U16(9), Value::U32(9), Value::I64(9)] {
        accepted(&[("x-max-length", value)]);
    }
    for key in ["x-expires", "x-message-ttl", "x-cache-ttl"] {
        accepted(&[(key, Value::I64(EXPIRY_MS_MAX))]);
        refused(key, Value::I64(EXPIRY_MS_MAX + 1), "{value_too_large,315360000001}");
    }
    accepted(&[("x-max-priority", Value::U8(255))]);
    refused("x-max-priority", Value::I16(256), "{max_value_exceeded,256}");
    refused("x-cache-size", Value::I64(1 << 40), "{max_value_exceeded,1099511627776}");
    refused("x-queue-version", Value::I16(3), "\"unsupported queue version '3'\"");
    accepted(&[("x-delivery-limit", Value::I16(-1))]);
    refused("x-delivery-limit", Value::Void, "\"expected integer, got void\"");
}

#[test]
fn words_are_those_there_are() {
    for (key, reason) in [
        ("x-queue-type", "\"unsupported queue type 'zz'\""),
        ("x-dead-letter-strategy", "invalid_dlx_strategy"),
        ("x-overflow", "invalid_overflow"),
        ("x-max-age", "invalid_max_age"),
        ("x-queue-leader-locator", "invalid_queue_locator_arg"),
        ("x-durability", "\"unsupported durability 'zz'\""),
        ("x-expiry", "invalid_expiry"),
    ] {
        refused(key, string("zz"), reason);
        refused(key, Value::I32(5), "{unacceptable_type,signedint}");
    }
    for (key, words) in [
        ("x-overflow", &["drop-head", "reject-publish", "reject-publish-dlx"][..]),
        ("x-queue-type", &["classic", "", "undefined"]),
        ("x-queue-mode", &["lazy", "whatever"]),
        ("x-queue-leader-locator", &["balanced"]),
        ("x-durability", &["os", "fsync"]),
        ("x-expiry", &["head", "exact"]),
    ] {
        words.iter().for_each(|word| accepted(&[(key, string(word))]));
    }
    let reason = "\"streams are not there in this version\"";
    refused("x-queue-type", string("stream"), reason);
    refused("x-overflow", Value::LongStr(b"\xff"), "invalid_overflow");
}

#[test]
fn flags_are_booleans() {
    for key in ["x-single-active-consumer", "x-message-deduplication"] {
        refused(key, Value::I32(1), "{unacceptable_type,signedint}");
        accepted(&[(key, Value::Bool(false))]);
    }
}

#[test]
fn header_names_are_what_a_header_can_be_called() {
    let long = "k".repeat(256);
    for bad in ["", &long] {
        refused("x-group-key", string(bad), "invalid_header_name");
    }
    refused("x-fair-key", Value::LongStr(b"\xff"), "invalid_header_name");
    refused("x-deduplication-header", Value::I32(1), "{unacceptable_type,signedint}");
    refused("x-deduplication-header", string(""), "invalid_header_name");
    accepted(&[("x-group-key", string(&long[1..]))]);
    accepted(&[("x-fair-key", string("tenant")), ("x-single-active-consumer", Value::Bool(true))]);
}

#[test]
fn a_queue_has_one_order_of_delivery() {
    let (group, fair) = (("x-group-key", string("g")), ("x-fair-key", string("f")));
    let priority = ("x-max-priority", Value::I32(3));
    refused_among(&[group, priority], group.0, "group_key_but_max_priority_defined");
    refused_among(&[fair, priority], fair.0, "fair_key_but_max_priority_defined");
    refused_among(&[fair, group], fair.0, "fair_key_but_group_key_defined");
    let delay = ("x-retry-delay-min", Value::I32(3));
    refused_among(&[group, delay], group.0, "group_key_but_retry_delay_min_defined");
    refused_among(&[fair, delay], fair.0, "fair_key_but_retry_delay_min_defined");
}

#[test]
fn some_arguments_need_another() {
    let key = "x-dead-letter-routing-key";
    refused(key, string("k"), "routing_key_but_no_dlx_defined");
    refused(key, Value::I32(5), "{unacceptable_type,signedint}");
    let exchange = ("x-dead-letter-exchange", string(""));
    accepted(&[(key, string("k")), exchange]);
    let long = "k".repeat(256);
    refused_among(&[(key, string(&long)), exchange], key, "{value_too_long,256}");
    refused(exchange.0, string(&long), "{value_too_long,256}");
    accepted(&[(key, string(&long[1..])), exchange]);
    let (min, max) = ("x-retry-delay-min", "x-retry-delay-max");
    refused(max, Value::I32(5), "retry_delay_max_but_no_min_defined");
    let reason = "{value_too_small,5}";
    refused_among(&[(max, Value::I32(5)), (min, Value::I32(6))], max, reason);
    accepted(&[(max, Value::I32(6)), (min, Value::I32(6))]);
}

#[test]
fn the_first_wrong_argument_in_the_tables_order_is_named() {
    let arguments =
        [("x-overflow", string("zz")), ("x-max-length", Value::I32(-1)), ("x-mine", Value::Void)];
    refused_among(&arguments, "x-max-length", "{value_negative,-1}");
    // Values are looked at before types.
    let arguments = [("x-max-age", string("1h")), ("x-overflow", string("zz"))];
    refused_among(&arguments, "x-overflow", "invalid_overflow");
}

#[test]
fn an_argument_of_another_type_is_refused_and_an_unknown_one_kept() {
    let quorum = ("x-queue-type", string("quorum"));
    let of = |arguments: &[(&str, Value<'_>)]| {
        let error = with(arguments).check_arguments(QUEUE).unwrap_err();
        error.explanation().to_owned()
    };
    let text =
        |key, kind| format!("invalid arg '{key}' for queue 'q' in vhost '/' of queue type {kind}");
    assert_eq!(of(&[("x-max-age", string("1h"))]), text("x-max-age", "rabbit_classic_queue"));
    let group = ("x-quorum-initial-group-size", Value::I32(3));
    assert_eq!(of(&[group]), text(group.0, "rabbit_classic_queue"));
    accepted(&[quorum, group]);
    let priority = ("x-max-priority", Value::I32(3));
    assert_eq!(of(&[quorum, priority]), text(priority.0, "rabbit_quorum_queue"));
    // The client's order counts here.
    let both = [priority, ("x-queue-mode", string("lazy")), quorum];
    assert_eq!(of(&both), text("x-max-priority", "rabbit_quorum_queue"));
    accepted(&[("x-nobody-knows", Value::Void), ("anything", string("x"))]);
}

#[test]
fn a_quorum_queue_is_durable_and_for_everybody() {
    let quorum = || with(&[("x-queue-type", string("quorum"))]);
    assert_eq!(quorum().check_arguments(QUEUE), Ok(()));
    let refused = |settings: QueueSettings, property: &str| {
        let error = settings.check_arguments(QUEUE).unwrap_err();
        let text = format!("invalid property '{property}' for queue 'q' in vhost '/'");
        assert_eq!(error.explanation(), text);
    };
    let transient = QueueSettings { durable: false, ..quorum() };
    let exclusive = QueueSettings { exclusive_owner: Some(ConnectionId(1)), ..transient.clone() };
    let all = QueueSettings { auto_delete: true, ..exclusive.clone() };
    refused(all, "auto-delete");
    refused(exclusive, "exclusive-owner");
    refused(transient, "non-durable");
}

#[test]
fn every_name_is_listed_once() {
    let mut names: Vec<_> = ARGUMENTS.iter().map(|argument| argument.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ARGUMENTS.len());
}

#[test]
fn an_age_has_a_number_and_a_unit() {
    for age in ["1Y", "20M", "3D", "4h", "5m", "6s"] {
        assert!(is_age(age), "{age}");
    }
    for bad in ["", "h", "0h", "-1h", "1", "1x", "h1", "1.5h", "9é", "99999999999999999999h"] {
        assert!(!is_age(bad), "{bad}");
    }
}
