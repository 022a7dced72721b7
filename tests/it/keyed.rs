//! Queues that look at a header of their messages (`x-group-key`, `x-fair-key`), through sessions
//! without sockets and through restarts.

use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::table::{TableBuilder, Value};
use leveret::wire::method::*;

fn declare(queue: &str, arguments: &[(&str, Value<'_>)]) -> Vec<u8> {
    let put =
        |table: TableBuilder, (key, value): &(&str, Value<'_>)| table.put(key.as_bytes(), *value);
    let table = arguments.iter().fold(TableBuilder::new(), put).finish();
    raw::queue_declare_with(1, queue, raw::DURABLE, table.as_ref().bytes())
}

/// A persistent message with this value of `key`, if any; the body says the same.
fn publish(key: Option<&str>, number: usize) -> Vec<u8> {
    let body = format!("{}{number}", key.unwrap_or("-"));
    let header =
        |key: &str| TableBuilder::new().put(b"key", Value::LongStr(key.as_bytes())).finish();
    let properties = match key {
        None => vec![0x10, 0, 2],
        Some(key) => {
            let table = header(key);
            let len = u32::try_from(table.as_ref().bytes().len()).unwrap();
            [&[0x30, 0][..], &len.to_be_bytes(), table.as_ref().bytes(), &[2]].concat()
        }
    };
    raw::publish(1, "q", &properties, body.as_bytes())
}

fn say_all(client: &mut Client, messages: &[(&str, usize)]) {
    for (key, number) in messages {
        client.say(&publish((!key.is_empty()).then_some(key), *number));
    }
}

fn qos(prefetch: u16) -> Vec<u8> {
    raw::method(1, BASIC_QOS, Fields::default().long(0).short(prefetch).octet(0))
}

/// A client that consumes, with this prefetch.
fn consumer(still: &Still, prefetch: u16) -> Client {
    let mut client = still.client();
    client.say(&qos(prefetch));
    client.say(&raw::consume(1, "q", false));
    client
}

/// What was delivered since it was asked last: tags and bodies.
fn delivered(still: &Still, client: &mut Client) -> Vec<(u64, String)> {
    still.load();
    client.wake();
    let frames = client.hear();
    let mut found = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        if frame.method() == Some(BASIC_DELIVER) {
            let mut fields = frame.fields();
            fields.shortstr();
            let body = String::from_utf8(frames[at + 2].payload.clone()).unwrap();
            found.push((fields.longlong(), body));
        }
    }
    found
}

fn bodies(delivered: &[(u64, String)]) -> Vec<&str> {
    delivered.iter().map(|(_, body)| body.as_str()).collect()
}

fn open(argument: &str) -> (Still, Client) {
    let still = Still::open();
    let mut client = still.client();
    client.say(&declare("q", &[(argument, Value::LongStr(b"key"))]));
    still.sync();
    client.wake();
    client.hear();
    (still, client)
}

#[test]
fn a_group_is_one_consumers_until_it_is_settled() {
    let (still, mut publisher) = open("x-group-key");
    let (mut one, mut two) = (consumer(&still, 2), consumer(&still, 2));
    say_all(&mut publisher, &[("a", 1), ("a", 2), ("b", 1), ("", 1), ("a", 3), ("b", 2)]);
    let first = delivered(&still, &mut one);
    let second = delivered(&still, &mut two);
    assert_eq!(bodies(&first), ["a1", "a2"]);
    assert_eq!(bodies(&second), ["b1", "-1"]);
    // A third consumer gets nothing of what the others hold, nor does a get.
    let mut three = consumer(&still, 10);
    assert!(delivered(&still, &mut three).is_empty());
    assert_eq!(publisher.call(&raw::get(1, "q", false)), [BASIC_GET_EMPTY]);
    // As soon as nothing of the key is out, it is anybody's.
    one.say(&raw::ack(1, first[0].0, false));
    assert!(delivered(&still, &mut three).is_empty());
    assert_eq!(bodies(&delivered(&still, &mut one)), ["a3"]);
    drop(two);
    assert_eq!(bodies(&delivered(&still, &mut three)), ["b1", "-1", "b2"]);
    drop(one);
    assert_eq!(bodies(&delivered(&still, &mut three)), ["a2", "a3"]);
}

#[test]
fn groups_keep_their_order_when_the_broker_starts_again() {
    let (still, mut publisher) = open("x-group-key");
    let messages: Vec<_> = (0..300).map(|n| (["a", "b", "c"][n % 3], n)).collect();
    say_all(&mut publisher, &messages);
    still.sync();
    drop(publisher);
    let still = still.restart();
    let mut publisher = still.client();
    let (mut one, mut two) = (consumer(&still, 5), consumer(&still, 5));
    say_all(&mut publisher, &[("a", 300), ("d", 301)]);
    let mut order = Vec::new();
    loop {
        let round = [delivered(&still, &mut one), delivered(&still, &mut two)];
        if round.iter().all(Vec::is_empty) {
            break;
        }
        let keys = |part: &[(u64, String)]| {
            part.iter().map(|(_, body)| body.as_bytes()[0]).collect::<Vec<_>>()
        };
        let (mine, yours) = (keys(&round[0]), keys(&round[1]));
        assert!(!mine.iter().any(|key| yours.contains(key)), "one key is at two consumers");
        for (client, part) in [&mut one, &mut two].into_iter().zip(&round) {
            order.extend(part.iter().map(|(_, body)| body.clone()));
            if let Some((tag, _)) = part.last() {
                client.say(&raw::ack(1, *tag, true));
            }
        }
    }
    assert_eq!(order.len(), 302);
    for key in ["a", "b", "c", "d"] {
        let numbers: Vec<usize> =
            order.iter().filter_map(|body| body.strip_prefix(key)?.parse().ok()).collect();
        assert!(numbers.is_sorted() && !numbers.is_empty(), "{key}: {numbers:?}");
    }
}

#[test]
fn tenants_take_turns_and_go_on_so_after_a_restart() {
    let (still, mut publisher) = open("x-fair-key");
    for number in 0..200 {
        publisher.say(&publish(Some("big"), number));
    }
    say_all(&mut publisher, &[("s", 1), ("", 1), ("s", 2), ("t", 1)]);
    still.sync();
    let mut taker = consumer(&still, 6);
    let first = delivered(&still, &mut taker);
    assert_eq!(bodies(&first), ["big0", "s1", "-1", "t1", "big1", "s2"]);
    drop((taker, publisher));
    let still = still.restart();
    let mut again = consumer(&still, 6);
    let first = delivered(&still, &mut again);
    assert_eq!(bodies(&first), ["big0", "s1", "-1", "t1", "big1", "s2"]);
}

#[test]
fn a_second_order_of_delivery_is_refused() {
    let (group, fair) =
        (("x-group-key", Value::LongStr(b"key")), ("x-fair-key", Value::LongStr(b"key")));
    let priority = ("x-max-priority", Value::I32(5));
    let cases = [
        ([group, priority], "x-group-key", "group_key_but_max_priority_defined"),
        ([fair, priority], "x-fair-key", "fair_key_but_max_priority_defined"),
        ([group, fair], "x-fair-key", "fair_key_but_group_key_defined"),
    ];
    for (arguments, argument, reason) in cases {
        let still = Still::open();
        let mut client = still.client();
        client.say(&declare("q", &arguments));
        let frames = client.hear();
        let mut fields = frames[0].fields();
        assert_eq!((frames[0].method(), fields.short()), (Some(CHANNEL_CLOSE), 406));
        let text = fields.shortstr();
        assert!(text.contains(argument) && text.contains(reason), "{text}");
    }
}
