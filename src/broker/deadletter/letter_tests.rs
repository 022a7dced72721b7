//! What a dead letter says of its deaths, also when its publisher wrote some of it.

use super::*;
use crate::broker::again::Again;
use crate::name::Name;
use crate::queue::DeadLetterStrategy;
use proptest::collection::vec;
use proptest::prelude::*;

/// A message of exchange `x` with the key `k`, these headers and an expiration.
fn message(headers: TableRef<'_>) -> Message {
    let bare = [&[0, 60, 0, 0][..], &[0; 8], &(1_u16 << 8).to_be_bytes(), &[2], b"90"].concat();
    let header = Properties::check(&bare).unwrap().with_headers(headers);
    Message::new(b"x", b"k", &header, b"", &mut Vec::new())
}

fn to(routing_key: Option<&str>) -> DeadLetter {
    DeadLetter {
        exchange: Name::new("dlx"),
        routing_key: routing_key.map(Name::new),
        strategy: DeadLetterStrategy::default(),
    }
}

fn die(message: &Message, queue: &str, reason: Reason, to: &DeadLetter) -> Letter {
    let corpse = Corpse { message, queue, reason, died: UnixMillis(7_900) };
    corpse.letter(to, &mut Vec::new()).unwrap()
}

/// The keys by which it is routed.
fn keys(letter: &Letter) -> Vec<String> {
    let again = Again::of(&letter.message).unwrap();
    again.route(UnixMillis(0), |published| {
        published.keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    })
}

fn headers(letter: &Letter) -> Table {
    let properties = Properties::check(letter.message.header()).unwrap();
    properties.headers().unwrap().to_table()
}

fn texts(keys: &[&str]) -> ArrayBuilder {
    let mut array = ArrayBuilder::default();
    keys.iter().for_each(|key| array.push(Value::LongStr(key.as_bytes())));
    array
}

/// Queue, reason and count of each death, the latest first.
fn counts(letter: &Letter) -> Vec<(String, String, i64)> {
    let said = |death: &Table, key| String::from_utf8_lossy(text(death, key).unwrap()).into_owned();
    let count = |death: &Table| death.as_ref().get(b"count").and_then(Value::as_int).unwrap();
    let deaths = letter.deaths.iter();
    deaths.map(|it| (said(it, b"queue"), said(it, b"reason"), count(it))).collect()
}

#[test]
fn a_first_death_is_told_in_full() {
    let letter = die(&message(TableRef::EMPTY), "q", Reason::Expired, &to(None));
    let keys = texts(&["k"]);
    let death = TableBuilder::new()
        .put(b"count", Value::I64(1))
        .put(b"reason", Value::LongStr(b"expired"))
        .put(b"queue", Value::LongStr(b"q"))
        .put(b"time", Value::Timestamp(7))
        .put(b"exchange", Value::LongStr(b"x"))
        .put(b"routing-keys", Value::Array(keys.as_ref()))
        .put(b"original-expiration", Value::LongStr(b"90"))
        .finish();
    let mut deaths = ArrayBuilder::default();
    deaths.push(Value::Table(death.as_ref()));
    let told =
        [FIRST, LAST].into_iter().flat_map(|names| names.into_iter().zip(["expired", "q", "x"]));
    let expected = TableBuilder::new().put(DEATHS, Value::Array(deaths.as_ref()));
    let expected =
        told.fold(expected, |it, (key, said)| it.put(key, Value::LongStr(said.as_bytes())));
    assert_eq!(headers(&letter), expected.finish());
    assert_eq!((letter.message.exchange(), letter.message.routing_key()), (&b"dlx"[..], &b"k"[..]));
    let properties = Properties::check(letter.message.header()).unwrap();
    assert_eq!(properties.expiration(), None, "or it would expire again");
}

#[test]
fn a_repeated_death_counts_and_comes_to_the_front() {
    let (to, mut letter) = (to(None), message(TableRef::EMPTY));
    let path = [("a", Reason::Rejected), ("b", Reason::Expired), ("a", Reason::Rejected)];
    let mut seen = Vec::new();
    for (queue, reason) in path.into_iter().chain([("a", Reason::Expired)]) {
        let next = die(&letter, queue, reason, &to);
        seen = counts(&next);
        letter = next.message;
    }
    let entry = |queue: &str, reason: &str, count| (queue.to_owned(), reason.to_owned(), count);
    let expected = [entry("a", "expired", 1), entry("a", "rejected", 2), entry("b", "expired", 1)];
    assert_eq!(seen, expected);
    let all = Properties::check(letter.header()).unwrap().headers().unwrap().to_table();
    let said = |key| text(&all, key).unwrap().to_vec();
    assert_eq!(
        (said(FIRST[1]), said(LAST[1]), said(LAST[0])),
        (b"a".into(), b"a".into(), b"expired".into())
    );
    assert_eq!(all.as_ref().iter().filter(|(key, _)| *key == FIRST[0]).count(), 1);
}

#[test]
fn it_has_cycled_if_it_was_there_and_nobody_has_rejected_it_since() {
    let (to, start) = (to(None), message(TableRef::EMPTY));
    let expired = die(&start, "a", Reason::Expired, &to);
    assert!(expired.has_cycled("a") && !expired.has_cycled("b"));
    let rejected = die(&expired.message, "b", Reason::Rejected, &to);
    assert!(!rejected.has_cycled("a") && !rejected.has_cycled("b"));
    let further = die(&rejected.message, "c", Reason::MaxLength, &to);
    assert!(further.has_cycled("c") && !further.has_cycled("b") && !further.has_cycled("a"));
}

#[test]
fn copies_go_along_unless_the_queue_has_a_key_of_its_own() {
    let list = texts(&["k2", "k3"]);
    let table = TableBuilder::new().put(COPIES, Value::Array(list.as_ref())).finish();
    let message = message(table.as_ref()).with_blind_keys(&[b"k4"], &mut Vec::new());
    let letter = die(&message, "q", Reason::Rejected, &to(None));
    assert_eq!(keys(&letter), ["k", "k2", "k3", "k4"]);
    assert!(headers(&letter).as_ref().get(COPIES).is_some());
    let letter = die(&message, "q", Reason::Rejected, &to(Some("own")));
    assert_eq!(keys(&letter), ["own"]);
    assert!(headers(&letter).as_ref().get(COPIES).is_none());
    let keys = texts(&["k", "k2", "k3"]);
    let died_with = letter.deaths[0].as_ref().get(b"routing-keys");
    assert_eq!(died_with, Some(Value::Array(keys.as_ref())), "its keys when it died, but BCC's");
}

#[test]
fn a_publishers_first_death_is_replaced_and_not_doubled() {
    let table = FIRST.iter().fold(TableBuilder::new(), |it, key| it.put(key, Value::I32(5)));
    let letter = die(&message(table.finish().as_ref()), "q", Reason::MaxLength, &to(None));
    let headers = headers(&letter);
    for (key, said) in FIRST.into_iter().zip(["maxlen", "q", "x"]) {
        let all: Vec<_> = headers.as_ref().iter().filter(|(name, _)| *name == key).collect();
        assert_eq!(all, [(key, Value::LongStr(said.as_bytes()))]);
    }
}

#[test]
fn deaths_that_a_publisher_wrote_are_replaced_and_close_no_circle() {
    let first = die(&message(TableRef::EMPTY), "a", Reason::Expired, &to(None));
    let second = die(&first.message, "b", Reason::Expired, &to(None));
    let copied = message(headers(&second).as_ref());
    let no_array = TableBuilder::new().put(DEATHS, Value::LongStr(b"none")).finish();
    for published in [copied, message(no_array.as_ref())] {
        let letter = die(&published, "b", Reason::Expired, &to(None));
        assert_eq!(counts(&letter), [("b".to_owned(), "expired".to_owned(), 1)]);
        assert!(letter.has_cycled("b") && !letter.has_cycled("a"));
        let all = headers(&letter);
        for key in [DEATHS, FIRST[1], LAST[1]] {
            assert_eq!(all.as_ref().iter().filter(|(name, _)| *name == key).count(), 1);
        }
        assert_eq!(text(&all, FIRST[1]), Some(&b"b"[..]));
    }
}

/// A value that a client may write, with others in it.
#[derive(Clone, Debug)]
enum Written {
    Number(i64),
    Text(&'static str),
    Nothing,
    List(Vec<Self>),
    Fields(Vec<(&'static str, Self)>),
}

fn written() -> impl Strategy<Value = Written> {
    let keys = ["queue", "reason", "count", "time", "x-death", "CC", "x-first-death-queue"];
    let leaf = prop_oneof![
        prop_oneof![Just(i64::MAX), Just(i64::MIN), -3..3_i64].prop_map(Written::Number),
        prop::sample::select(vec!["q", "expired", "rejected", ""]).prop_map(Written::Text),
        Just(Written::Nothing),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let field = (prop::sample::select(keys.to_vec()), inner.clone());
        prop_oneof![
            vec(inner, 0..5).prop_map(Written::List),
            vec(field, 0..6).prop_map(Written::Fields),
        ]
    })
}

fn put(written: &Written, each: &mut dyn FnMut(Value<'_>)) {
    match written {
        Written::Number(number) => each(Value::I64(*number)),
        Written::Text(text) => each(Value::LongStr(text.as_bytes())),
        Written::Nothing => each(Value::Void),
        Written::List(items) => {
            let mut array = ArrayBuilder::default();
            items.iter().for_each(|item| put(item, &mut |value| array.push(value)));
            each(Value::Array(array.as_ref()));
        }
        Written::Fields(fields) => each(Value::Table(table_of(fields).as_ref())),
    }
}

fn table_of(fields: &[(&'static str, Written)]) -> Table {
    let mut table = TableBuilder::new();
    for (key, value) in fields {
        put(value, &mut |value| table = std::mem::take(&mut table).put(key.as_bytes(), value));
    }
    table.finish()
}

proptest! {
    #[test]
    fn whatever_a_publisher_wrote_its_letter_can_be_read_and_tells_of_this_death(
        deaths in written(),
        carbons in written(),
        first in written(),
        rounds in 1..5_usize,
    ) {
        let fields = [("x-death", deaths), ("CC", carbons), ("x-first-death-queue", first)];
        let mut message = message(table_of(&fields).as_ref());
        for round in 1..=rounds {
            let letter = die(&message, "q", Reason::Expired, &to(None));
            let expected = ("q".to_owned(), "expired".to_owned(), i64::try_from(round).unwrap());
            prop_assert_eq!(counts(&letter), [expected]);
            prop_assert!(letter.has_cycled("q"));
            let told = headers(&letter);
            let Some(Value::Array(told)) = told.as_ref().get(DEATHS) else {
                return Err(TestCaseError::fail("x-death is an array"));
            };
            prop_assert_eq!(told.iter().count(), letter.deaths.len());
            message = letter.message;
        }
    }
}
