//! What one peer may make the broker hold or do: output, credit, routes, work of one turn. And that
//! what was kept back for want of room comes once there is some.

use crate::raw::{self, Fields, Frame, Raw};
use crate::session::{Client, Still};
use leveret::exception::MethodId;
use leveret::limits::*;
use leveret::queue::Queue;
use leveret::session::{Progress, Scratch};
use leveret::store::MemoryDisk;
use leveret::time::Now;
use leveret::wire::FrameKind;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::io::Write;
use std::sync::Arc;

const FANOUT: &str = "amq.fanout";

pub(crate) fn bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue).shortstr(exchange);
    raw::method(1, QUEUE_BIND, fields.shortstr(key).octet(0).longstr(&[]))
}

/// A transient queue that everything published to `exchange` under `key` goes to.
pub(crate) fn bound_queue(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    [raw::queue_declare(1, queue, 0), bind(queue, exchange, key)].concat()
}

pub(crate) fn publish_to(exchange: &str, key: &str, bits: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = raw::publish_method(1, exchange, key, bits);
    bytes.extend(raw::content_header(1, body.len() as u64, raw::TRANSIENT));
    if !body.is_empty() {
        bytes.extend(raw::frame(3, 1, body));
    }
    bytes
}

pub(crate) fn tx(id: MethodId) -> Vec<u8> {
    raw::method(1, id, Fields::default())
}

pub(crate) fn queue(still: &Still, name: &str) -> Arc<Queue> {
    still.broker.vhost("/").unwrap().queue(name).unwrap()
}

/// Messages that are ready in a queue, and messages that somebody has.
pub(crate) fn ready_and_out(still: &Still, name: &str) -> (u64, u64) {
    let counters = &queue(still, name).counters;
    (counters.ready.get(), counters.unacked.get())
}

/// The numbers that are the bodies among these frames.
pub(crate) fn numbers(frames: &[Frame]) -> Vec<u32> {
    let bodies = frames.iter().filter(|frame| frame.kind == FrameKind::Body);
    bodies.map(|body| u32::from_be_bytes(body.payload[..4].try_into().unwrap())).collect()
}

/// Numbers as basic.get finds them, until the queue is empty.
pub(crate) fn take_numbers(client: &mut Client, queue: &str) -> Vec<u32> {
    let mut taken = Vec::new();
    loop {
        client.say(&raw::get(1, queue, true));
        match &numbers(&client.hear())[..] {
            [] => return taken,
            got => taken.extend(got),
        }
    }
}

fn consume_as(channel: u16, queue: &str, tag: &str) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue).shortstr(tag).octet(0).longstr(&[]);
    raw::method(channel, BASIC_CONSUME, fields)
}

fn cancel(channel: u16, tag: &str) -> Vec<u8> {
    raw::method(channel, BASIC_CANCEL, Fields::default().shortstr(tag).octet(0))
}

/// Has more to deliver to `client` than its output holds: 200 messages from `q`.
fn flood(still: &Still, client: &mut Client) {
    let mut publisher = still.client();
    client.call(&raw::queue_declare(1, "q", 0));
    client.call(&raw::consume(1, "q", false));
    publisher.say(&raw::publish(1, "q", raw::TRANSIENT, &[b'x'; 10_000]).repeat(200));
    client.wake();
    assert!(client.session.output().len() >= OUTPUT_HIGH_BYTES);
    assert_eq!(ready_and_out(still, "q"), (0, 200));
}

/// It owns nothing, wants nothing, and asks for no more attention.
fn assert_dropped(still: &Still, client: &mut Client) {
    client.wake();
    let session = &mut client.session;
    assert!(session.is_closed());
    assert_eq!(session.next_deadline(), None, "woken for nothing");
    session.wrote(Now::default(), 0);
    assert!(session.output().is_empty(), "{} bytes of output", session.output().len());
    assert_eq!(session.next_deadline(), None, "woken for nothing");
    assert!(!session.wants_input() && !session.can_deliver());
    assert_eq!(ready_and_out(still, "q"), (200, 0));
}

#[test]
fn a_peer_that_takes_no_output_is_dropped_with_all_that_waits_for_it() {
    let still = Still::open();
    let mut client = still.client();
    flood(&still, &mut client);
    client.session.wrote(Now::default(), 0);
    client.pass(OUTPUT_STALLED_MS_MAX - 1);
    assert!(!client.session.is_closed(), "dropped too early");
    client.pass(1);
    assert_dropped(&still, &mut client);
}

#[test]
fn a_peer_without_heartbeats_is_dropped_with_all_that_waits_for_it() {
    const SECONDS: u16 = 2;
    let still = Still::open();
    let mut client = still.accept();
    let tune_ok = Fields::default().short(2047).long(raw::FRAME_MAX).short(SECONDS);
    let tune_ok = raw::method(0, CONNECTION_TUNE_OK, tune_ok);
    let login = [raw::HEADER, &raw::start_ok(b"\0guest\0guest"), &tune_ok].concat();
    client.call(&[login, raw::open("/"), raw::channel_open(1)].concat());
    flood(&still, &mut client);
    let mut passed = 0;
    while !client.session.is_closed() {
        assert!(passed < 4 * SECONDS, "alive after {passed} silent seconds");
        client.pass(1_000);
        passed += 1;
    }
    assert!(passed > SECONDS, "dead after {passed} silent seconds");
    assert_dropped(&still, &mut client);
}

#[test]
fn a_cancel_sends_no_more_than_its_channel_s_credit_before_its_answer() {
    const MESSAGES: usize = 300;
    const BODY: usize = 16_000;
    const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    const CANCELLED: &str = "d";
    let still = Still::open();
    let (mut publisher, mut consumer) = (still.client(), still.client());
    for tag in TAGS {
        consumer.call(&bound_queue(tag, FANOUT, ""));
    }
    let publish = publish_to(FANOUT, "", 0, &[b'x'; BODY]);
    (0..MESSAGES).for_each(|_| publisher.say(&publish));
    for tag in TAGS {
        consumer.say(&consume_as(1, tag, tag));
        consumer.wake();
    }
    let before = consumer.session.output().len();
    assert!(before >= OUTPUT_HIGH_BYTES);
    consumer.say(&cancel(1, CANCELLED));
    let more = consumer.session.output().len() - before;
    // What frames add to a body is less than a hundred bytes.
    let credit = TAGS.len() * (CONSUMER_CREDIT_BYTES as usize + BODY + 100 * MESSAGES);
    assert!((BODY..=credit).contains(&more), "one cancel puts {more} bytes into the output");

    let mut frames = Vec::new();
    while !consumer.session.output().is_empty() {
        frames.extend(consumer.hear());
        consumer.wake();
        while consumer.session.can_deliver() {
            consumer.wake();
        }
    }
    let is_of = |frame: &Frame, id, tag: &str| {
        frame.method() == Some(id) && frame.fields().shortstr() == tag
    };
    let cancelled = frames.iter().position(|frame| is_of(frame, BASIC_CANCEL_OK, CANCELLED));
    let late = &frames[cancelled.expect("a cancel-ok")..];
    assert!(!late.iter().any(|frame| is_of(frame, BASIC_DELIVER, CANCELLED)));
    for tag in TAGS {
        let got = frames.iter().filter(|frame| is_of(frame, BASIC_DELIVER, tag)).count();
        let (ready, out) = ready_and_out(&still, tag);
        assert_eq!((out, ready), (got as u64, (MESSAGES - got) as u64), "{tag}");
        assert!(got == MESSAGES || tag == CANCELLED, "{tag} got {got}");
    }
}

#[test]
fn a_connection_of_many_channels_gives_everything_back_in_order() {
    const CHANNELS: u16 = 100;
    const EACH: u32 = 40;
    let names: Vec<_> = (1..=CHANNELS).map(|channel| format!("q{channel}")).collect();
    let close = Fields::default().short(200).shortstr("").short(0).short(0);
    for end in [Some(raw::method(0, CONNECTION_CLOSE, close)), None] {
        let still = Still::open();
        let (mut publisher, mut consumer) = (still.client(), still.client());
        for (channel, name) in (1..).zip(&names) {
            let open = if channel == 1 { Vec::new() } else { raw::channel_open(channel) };
            let declare = raw::queue_declare(channel, name, 0);
            consumer.call(&[open, declare, consume_as(channel, name, "t")].concat());
        }
        // Some lie in the output, some with their channels, and the second half in the inbox.
        for half in [0..EACH / 2, EACH / 2..EACH] {
            for n in half {
                let body = [&n.to_be_bytes()[..], &[0; 2_000]].concat();
                let to_all = names.iter().map(|q| raw::publish(1, q, raw::TRANSIENT, &body));
                publisher.say(&to_all.collect::<Vec<_>>().concat());
            }
            consumer.wake();
        }
        match end {
            Some(close) => consumer.say(&close),
            None => consumer.session.drop_connection(Now::default(), &mut Scratch::default()),
        }
        for name in &names {
            assert_eq!(ready_and_out(&still, name), (EACH.into(), 0), "{name}");
            assert!(take_numbers(&mut publisher, name).into_iter().eq(0..EACH), "{name}");
        }
    }
}

#[test]
fn work_counts_against_the_turn_whatever_stands_between() {
    const QUEUES: usize = 500;
    const PUBLISHES: usize = 100;
    let still = Still::open();
    let mut client = still.client();
    for n in 0..QUEUES {
        client.call(&bound_queue(&format!("q{n}"), FANOUT, ""));
    }
    let flow = raw::method(1, CHANNEL_FLOW, Fields::default().octet(1));
    let publish = [publish_to(FANOUT, "", 0, b"x"), flow].concat();
    let all = publish.repeat(PUBLISHES);
    let (mut taken, mut turns) = (0, 0);
    while taken < all.len() {
        let mut scratch = Scratch::default();
        let turn = client.session.handle_input(Now::default(), &all[taken..], &mut scratch);
        let publishes = turn.consumed.div_ceil(publish.len());
        assert!(publishes <= OPERATIONS_PER_TURN / QUEUES + 1, "{publishes} in one turn");
        taken += turn.consumed;
        turns += 1;
        assert_eq!(turn.progress == Progress::More, taken < all.len(), "{turn:?}");
    }
    assert!(turns > 1);
    assert_eq!(ready_and_out(&still, "q0"), (PUBLISHES as u64, 0));
}

#[test]
fn what_comes_between_two_looks_is_found_by_the_second() {
    let still = Still::open();
    let (mut consumer, mut other) = (still.client(), still.client());
    consumer.call(&raw::channel_open(2));
    for (channel, name) in [(1, "cancelled"), (2, "deleted"), (1, "late")] {
        let declare = raw::queue_declare(channel, name, 0);
        consumer.call(&[declare, consume_as(channel, name, name)].concat());
    }
    consumer.wake();
    let before = consumer.wakes();
    let delete = Fields::default().short(0).shortstr("deleted").octet(0);
    other.call(&raw::method(1, QUEUE_DELETE, delete));
    assert_eq!(consumer.wakes(), before + 1);
    // In the same turn of the consumer's connection.
    consumer.say(&cancel(1, "cancelled"));
    assert_eq!(consumer.methods(), [BASIC_CANCEL_OK]);
    // It has been told already, so nobody tells it of this one.
    other.say(&raw::publish(1, "late", raw::TRANSIENT, b"x"));
    assert_eq!(consumer.wakes(), before + 1);
    // Now it looks, and as its connection does, again for as long as that would bring more.
    consumer.wake();
    let mut heard = consumer.methods();
    while consumer.session.can_deliver() {
        consumer.wake();
        heard.extend(consumer.methods());
    }
    assert_eq!(heard, [BASIC_DELIVER], "it sleeps, and a message lies in its inbox");
}

/// Entries that channels have taken of the broker's budget for routes.
fn budget_taken(still: &Still) -> usize {
    let shown = format!("{:?}", still.broker.route_budget);
    let number = shown.trim_start_matches("RouteBudget(").trim_end_matches(')');
    number.parse().unwrap_or_else(|_| panic!("no number in {shown}"))
}

/// Publishes under so many keys that begin alike; says how many messages `q` got.
fn publish_keys(publisher: &mut Client, prefix: &str, count: usize) -> usize {
    for first in (0..count).step_by(1_000) {
        let keys = first..count.min(first + 1_000);
        let publishes = keys.map(|n| publish_to("amq.topic", &format!("{prefix}.{n}"), 0, &[]));
        publisher.say(&publishes.collect::<Vec<_>>().concat());
    }
    let purge = Fields::default().short(0).shortstr("q").octet(0);
    publisher.say(&raw::method(1, QUEUE_PURGE, purge));
    publisher.hear()[0].fields().long() as usize
}

#[test]
fn routes_of_many_keys_stay_within_the_budget() {
    const SHARE: usize = ROUTE_CACHE_SHARE;
    let still = Still::open();
    let mut publisher = still.client();
    publisher.call(&bound_queue("q", "amq.topic", "known.#"));
    assert_eq!(publish_keys(&mut publisher, "unknown", 10 * SHARE), 0);
    assert_eq!(budget_taken(&still), 0, "taken for keys that lead nowhere");
    assert_eq!(publish_keys(&mut publisher, "known", SHARE), SHARE);
    assert_eq!(budget_taken(&still), 0, "each channel has a share of its own");

    let mut others: Vec<_> = (0..2).map(|_| still.client()).collect();
    for (nth, other) in (1..).zip(&mut others) {
        assert_eq!(publish_keys(other, "known", ROUTE_CACHE_MAX), ROUTE_CACHE_MAX);
        assert_eq!(budget_taken(&still), nth * (ROUTE_CACHE_MAX - SHARE));
    }
    // What is left is less than this one could use.
    assert!(ROUTE_CACHE_BUDGET - budget_taken(&still) < 9 * SHARE);
    assert_eq!(publish_keys(&mut publisher, "known", 10 * SHARE), 10 * SHARE);
    assert_eq!(budget_taken(&still), ROUTE_CACHE_BUDGET);

    let close = Fields::default().short(200).shortstr("").short(0).short(0);
    others[0].call(&raw::method(1, CHANNEL_CLOSE, close));
    assert_eq!(budget_taken(&still), ROUTE_CACHE_BUDGET - (ROUTE_CACHE_MAX - SHARE));
    drop((publisher, others));
    assert_eq!(budget_taken(&still), 0, "a connection that went gives its shares back");
}

/// Takes output until no more comes; says the last delivery's tag, if there was one.
fn last_tag(client: &mut Client) -> Option<usize> {
    let mut last = None;
    client.wake();
    while !client.session.output().is_empty() {
        let frames = client.hear();
        let of = |frame: &Frame| frame.method() == Some(BASIC_DELIVER);
        if let Some(delivery) = frames.iter().rev().find(|frame| of(frame)) {
            let mut fields = delivery.fields();
            fields.shortstr();
            last = Some(usize::try_from(fields.longlong()).unwrap());
        }
        client.wake();
    }
    last
}

#[test]
fn credit_that_the_unacked_list_withheld_comes_back() {
    const QUEUES: usize = 8;
    const CREDIT: usize = CONSUMER_CREDIT_MESSAGES as usize;
    let still = Still::open();
    let (mut publisher, mut consumer) = (still.client(), still.client());
    for n in 0..QUEUES {
        let name = format!("q{n}");
        let declare = bound_queue(&name, FANOUT, "");
        consumer.call(&[declare, raw::consume(1, &name, false)].concat());
    }
    let batch = publish_to(FANOUT, "", 0, &[]).repeat(1_000);
    let (mut published, mut taken, mut acked) = (0, 0, 0);
    for mode in ["plain", "tx"] {
        while published - acked < UNACKED_MAX + 2 * QUEUES * CREDIT {
            publisher.say(&batch);
            published += 1_000 * QUEUES;
            taken = last_tag(&mut consumer).unwrap_or(taken);
        }
        let unacked = taken - acked;
        let bound = UNACKED_MAX..=UNACKED_MAX + QUEUES * CREDIT;
        assert!(bound.contains(&unacked), "{mode}: {unacked} unacked");
        if mode == "tx" {
            assert_eq!(consumer.call(&tx(TX_SELECT)), [TX_SELECT_OK]);
        }
        acked += unacked / 2;
        consumer.say(&raw::ack(1, acked as u64, true));
        taken = last_tag(&mut consumer).unwrap_or(taken);
        assert_eq!(taken, published, "{mode}: the rest has come");
    }
}

#[test]
fn a_connection_that_comes_while_the_server_stops_is_hung_up_on() {
    // The listener looks at both in any order, so it takes a few to see it take the connection.
    for _ in 0..30 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut late = runtime.block_on(async {
            let config = Config::on_loopback("unused");
            let server = Server::start_on(config, Arc::new(MemoryDisk::new())).unwrap();
            let (mut wake, woken) = std::os::unix::net::UnixStream::pair().unwrap();
            woken.set_nonblocking(true).unwrap();
            let woken = tokio::net::UnixStream::from_std(woken).unwrap();
            // Lets the listener come to where it waits.
            tokio::task::yield_now().await;
            let mut late = Raw::dial(server.addresses()[0]);
            late.send(raw::HEADER);
            wake.write_all(b"x").unwrap();
            // Both are woken at once, and what blocks on the runtime runs first.
            woken.readable().await.unwrap();
            server.stop().await.unwrap();
            late
        });
        assert_eq!(late.rest(), [], "served by a server that stops");
    }
}
