use super::super::samples::{string, with};
use super::*;

fn behaviour(arguments: &[(&str, Value<'_>)], policy: &PolicyValues) -> Behaviour {
    Behaviour::new(&with(arguments), policy)
}

fn of(arguments: &[(&str, Value<'_>)]) -> Behaviour {
    behaviour(arguments, &PolicyValues::default())
}

const QUORUM: (&str, Value<'_>) = ("x-queue-type", Value::LongStr(b"quorum"));

#[test]
fn a_queue_without_arguments_is_limited_by_nothing() {
    assert_eq!(of(&[]), Behaviour::default());
}

#[test]
fn every_argument_has_its_effect() {
    let all = of(&[
        ("x-expires", Value::I32(1)),
        ("x-message-ttl", Value::I64(2)),
        ("x-expiry", string("exact")),
        ("x-max-length", Value::U8(3)),
        ("x-max-length-bytes", Value::I16(4)),
        ("x-overflow", string("reject-publish-dlx")),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("k")),
        ("x-max-priority", Value::I32(0)),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-delivery-limit", Value::I32(5)),
        ("x-consumer-timeout", Value::I32(6)),
        ("x-retry-delay-min", Value::I32(7)),
        ("x-retry-delay-max", Value::I32(8)),
        ("x-group-key", string("group")),
        ("x-fair-key", string("tenant")),
        ("x-message-deduplication", Value::Bool(true)),
        ("x-cache-size", Value::I32(9)),
        ("x-cache-ttl", Value::I32(10)),
        ("x-deduplication-header", string("id")),
    ]);
    let expected = Behaviour {
        kind: QueueType::Classic,
        expires_ms: Some(1),
        message_ttl_ms: Some(2),
        exact_expiry: true,
        max_length: Some(3),
        max_length_bytes: Some(4),
        overflow: Overflow::RejectPublishDlx,
        dead_letter: Some(DeadLetter {
            exchange: Name::new(""),
            routing_key: Some(Name::new("k")),
            strategy: DeadLetterStrategy::AtMostOnce,
        }),
        max_priority: Some(1),
        single_active_consumer: true,
        delivery_limit: Some(5),
        consumer_timeout_ms: Some(6),
        retry_delay_ms: Some((7, 8)),
        group_key: Some(Name::new("group")),
        fair_key: Some(Name::new("tenant")),
        deduplication: Some(Deduplication {
            header: Name::new("id"),
            cache_len: 9,
            ttl_ms: Some(10),
            persistent: true,
        }),
    };
    assert_eq!(all, expected);
    assert_eq!(of(&[("x-retry-delay-min", Value::I32(7))]).retry_delay_ms, Some((7, 7)));
    assert_eq!(of(&[("x-cache-size", Value::I32(9))]).deduplication, None);
}

#[test]
fn stored_arguments_that_no_declare_lets_through_say_nothing() {
    let bad = of(&[
        ("x-queue-type", string("stream")),
        ("x-max-length", Value::I32(-1)),
        ("x-max-priority", Value::I32(1000)),
        ("x-overflow", string("zz")),
        ("x-single-active-consumer", Value::I32(1)),
        ("x-message-ttl", string("5")),
        ("x-dead-letter-exchange", string(&"x".repeat(256))),
    ]);
    assert_eq!(bad, Behaviour::default());
    let longest = of(&[("x-consumer-timeout", Value::I64(i64::MAX))]).consumer_timeout_ms;
    assert_eq!(longest, Some(EXPIRY_MS_MAX.unsigned_abs()));
}

#[test]
fn an_argument_and_then_a_policy_says_how_messages_expire() {
    let of = |arguments: &[_], exact_expiry| {
        behaviour(arguments, &PolicyValues { exact_expiry, ..PolicyValues::default() }).exact_expiry
    };
    assert_eq!([None, Some(false), Some(true)].map(|it| of(&[], it)), [false, false, true]);
    assert!(!of(&[("x-expiry", string("head"))], Some(true)));
    assert!(of(&[("x-expiry", string("exact"))], Some(false)));
}

#[test]
fn a_negative_delivery_limit_is_none() {
    let of = |argument: i32, policy: Option<i64>| {
        let policy = PolicyValues { delivery_limit: policy, ..PolicyValues::default() };
        behaviour(&[("x-delivery-limit", Value::I32(argument))], &policy).delivery_limit
    };
    assert_eq!([of(-1, None), of(0, None)], [None, Some(0)]);
    assert_eq!([of(-1, Some(7)), of(9, Some(-1)), of(9, Some(7))], [Some(7), Some(9), Some(7)]);
}

#[test]
fn a_quorum_queue_that_says_nothing_has_a_delivery_limit() {
    let kind = ("x-queue-type", Value::LongStr(b"quorum"));
    let of = |arguments: &[_]| behaviour(arguments, &PolicyValues::default()).delivery_limit;
    let unlimited = ("x-delivery-limit", Value::I32(-1));
    assert_eq!([of(&[kind]), of(&[kind, unlimited]), of(&[])], [Some(20), None, None]);
}

#[test]
fn dead_letters_may_be_half_of_an_argument_and_half_of_a_policy() {
    let policy = PolicyValues {
        dead_letter_exchange: Some(Name::new("policy")),
        dead_letter_routing_key: Some(Name::new("key")),
        ..PolicyValues::default()
    };
    let letter = |arguments: &[(&str, Value<'_>)], policy: &PolicyValues| {
        let letter = behaviour(arguments, policy).dead_letter;
        letter.map(|it| (it.exchange.to_string(), it.routing_key.map(|key| key.to_string())))
    };
    let key = Some("key".to_owned());
    assert_eq!(letter(&[], &policy), Some(("policy".to_owned(), key.clone())));
    let own = ("x-dead-letter-exchange", string("own"));
    assert_eq!(letter(&[own], &policy), Some(("own".to_owned(), key)));
    let only_key = PolicyValues { dead_letter_exchange: None, ..policy };
    assert_eq!(letter(&[], &only_key), None);
}

#[test]
fn any_queue_can_wait_for_its_dead_letters() {
    let letter = ("x-dead-letter-exchange", string("dlx"));
    let sure = ("x-dead-letter-strategy", string("at-least-once"));
    let refuse = ("x-overflow", string("reject-publish"));
    let strategy = |arguments: &[(&str, Value<'_>)]| of(arguments).dead_letter.unwrap().strategy;
    let (most, least) = (DeadLetterStrategy::AtMostOnce, DeadLetterStrategy::AtLeastOnce);
    assert_eq!(strategy(&[QUORUM, letter, sure, refuse]), least);
    assert_eq!(strategy(&[QUORUM, letter, sure]), least);
    assert_eq!(strategy(&[letter, sure]), least);
    assert_eq!(strategy(&[letter]), most);
    let dlx = ("x-overflow", string("reject-publish-dlx"));
    assert_eq!(of(&[QUORUM, dlx]).overflow, Overflow::DropHead);
}
