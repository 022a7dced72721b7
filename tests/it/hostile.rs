//! Bytes and behaviour that no good client has. Whatever it is, it ends what it came on, says why
//! if that can still be said, and disturbs nobody else.

use crate::raw::{self, Fields, HEADER, Raw};
use crate::strangers::Healthy;
use crate::support::{TestBroker, wait_until};
use leveret::exception::MethodId;
use leveret::wire::method::*;

/// Tables within tables, `depth` deep, around nothing.
fn nested_tables(depth: usize) -> Vec<u8> {
    let mut table = Vec::new();
    for _ in 0..depth {
        table = Fields::default().shortstr("a").octet(b'F').longstr(&table).0;
    }
    table
}

/// Arrays within arrays, in a table.
fn nested_arrays(depth: usize) -> Vec<u8> {
    let mut array = Vec::new();
    for _ in 0..depth {
        array = Fields::default().octet(b'A').longstr(&array).0;
    }
    Fields::default().shortstr("a").octet(b'A').longstr(&array).0
}

fn declare_with(arguments: &[u8]) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr("q").octet(0);
    raw::method(1, QUEUE_DECLARE, fields.longstr(arguments))
}

fn publish_with_headers(headers: &[u8]) -> Vec<u8> {
    let properties = Fields::default().short(1 << 13).longstr(headers);
    raw::publish(1, "q", &properties.0, b"x")
}

fn content(header: Vec<u8>, bodies: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [raw::publish_method(1, "", "q", 0), header].concat();
    bodies.iter().for_each(|body| bytes.extend(raw::frame(3, 1, body)));
    bytes
}

#[test]
fn each_breach_ends_the_connection_with_its_code() {
    let broker = TestBroker::start();
    let mut healthy = Healthy::on(broker.address);
    let text = Fields::default().octet(2).octet(0xff).octet(0xfe);
    let bad_utf8 = Fields([&[0, 0][..], &text.0, &[0, 0, 0, 0, 0]].concat());
    let unknown = |class, number| raw::method(1, MethodId::new(class, number), Fields::default());
    let header = |class: u16, weight: u16, size: u64| {
        let fields = Fields::default().short(class).short(weight).longlong(size);
        raw::frame(2, 1, &fields.short(0).0)
    };
    let three = || header(60, 0, 3);
    let breaches: [(&str, Vec<u8>, u16); 33] = [
        ("an oversized frame", b"\x01\x00\x01\x00\x02\x00\x01".to_vec(), 501),
        ("a frame of 4 GiB", b"\x03\x00\x01\xff\xff\xff\xff".to_vec(), 501),
        ("a wrong frame end", b"\x01\x00\x01\x00\x00\x00\x01xy".to_vec(), 501),
        ("a frame of no kind", raw::frame(9, 1, b"abc"), 501),
        ("a heartbeat with a payload", raw::frame(8, 0, b"x"), 501),
        ("a heartbeat on a channel", raw::frame(8, 1, b""), 505),
        ("a body on channel 0", raw::frame(3, 0, b"x"), 505),
        ("a body on a channel that is not open", raw::frame(3, 9, b"x"), 505),
        ("a body without a publish", raw::frame(3, 1, b"x"), 505),
        ("a header without a publish", three(), 505),
        ("an unknown class", unknown(77, 10), 503),
        ("an unknown method", unknown(60, 999), 503),
        ("a server's method", unknown(50, 11), 503),
        ("a method of one octet", raw::frame(1, 1, &[0]), 501),
        ("a method cut short", raw::method(1, QUEUE_DECLARE, Fields::default().short(0)), 501),
        ("a method too long", raw::method(1, TX_SELECT, Fields::default().octet(0)), 501),
        ("a name that is not UTF-8", raw::method(1, QUEUE_DECLARE, bad_utf8), 501),
        ("a method on a channel that is not open", raw::queue_declare(9, "q", 0), 504),
        ("a channel opened twice", raw::channel_open(1), 504),
        (
            "a connection method on a channel",
            raw::method(1, CONNECTION_CLOSE_OK, Fields::default()),
            503,
        ),
        ("a channel method on channel 0", raw::channel_open(0), 504),
        ("tables 10,000 deep", declare_with(&nested_tables(10_000)), 502),
        ("arrays 10,000 deep", declare_with(&nested_arrays(10_000)), 502),
        ("a table longer than its frame", declare_with(b"\x01aS\xff\xff\xff\xff"), 502),
        ("headers 10,000 deep", publish_with_headers(&nested_tables(10_000)), 541),
        ("headers of arrays 10,000 deep", publish_with_headers(&nested_arrays(10_000)), 541),
        ("flags without their fields", raw::publish(1, "q", &[0xff, 0xfc], b"x"), 541),
        ("fields behind the properties", raw::publish(1, "q", &[0, 0, 1, 2, 3], b"x"), 541),
        ("a body beyond its size", content(three(), &[b"four"]), 501),
        ("a size above any", content(header(60, 0, u64::MAX), &[]), 501),
        ("a header of another class", content(header(61, 0, 3), &[]), 505),
        (
            "a method within a content",
            [content(three(), &[b"a"]), raw::get(1, "q", true)].concat(),
            505,
        ),
        (
            "immediate",
            [raw::publish_method(1, "", "q", 2), three(), raw::frame(3, 1, b"abc")].concat(),
            540,
        ),
    ];
    for (what, breach, code) in breaches {
        let mut raw = Raw::channel(&broker);
        raw.send(&breach);
        let frame = raw.frame();
        assert_eq!(frame.method(), Some(CONNECTION_CLOSE), "{what}: {frame:?}");
        assert_eq!(frame.fields().short(), code, "{what}: {}", close_text(&frame));
        healthy.check(what);
        // Whatever follows is not heard, and its close-ok ends it, if it can be read at all.
        let _ = raw.try_send(&raw::queue_declare(1, "not made", 0));
        let _ = raw.try_send(&raw::method(0, CONNECTION_CLOSE_OK, Fields::default()));
        raw.end_of_input();
        assert_eq!(raw.rest(), [], "{what}");
    }
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.queue("not made").is_none());
}

fn close_text(frame: &raw::Frame) -> String {
    let mut fields = frame.fields();
    fields.short();
    fields.shortstr()
}

#[test]
fn each_mistake_on_a_channel_ends_that_channel_alone() {
    let broker = TestBroker::start();
    let to_missing = [
        raw::publish_method(1, "missing", "k", 0),
        raw::content_header(1, 1, raw::TRANSIENT),
        raw::frame(3, 1, b"x"),
    ];
    let too_large = content(raw::content_header(1, 200_000_000, raw::TRANSIENT), &[b"x"]);
    let mistakes = [
        (to_missing.concat(), "NOT_FOUND - no exchange 'missing' in vhost '/'"),
        (raw::get(1, "missing", true), "NOT_FOUND - no queue 'missing' in vhost '/'"),
        (raw::ack(1, 77, false), "PRECONDITION_FAILED - unknown delivery tag 77"),
        (
            too_large,
            "PRECONDITION_FAILED - message size 200000000 is larger than configured max size \
             134217728",
        ),
    ];
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::channel_open(2), CHANNEL_OPEN_OK);
    for (mistake, text) in mistakes {
        // What follows on the channel is ignored until close-ok, whatever it is.
        let more = [raw::queue_declare(1, "not made", 0), raw::get(1, "missing", true)].concat();
        raw.send(&[mistake, more].concat());
        assert_eq!(raw.expect_close(CHANNEL_CLOSE).1, text);
        raw.call(&raw::queue_declare(2, "other channel", 0), QUEUE_DECLARE_OK);
        raw.send(&raw::method(1, CHANNEL_CLOSE_OK, Fields::default()));
        raw.call(&raw::channel_open(1), CHANNEL_OPEN_OK);
    }
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.queue("not made").is_none());
}

#[test]
fn a_peer_that_vanishes_leaves_nothing_behind() {
    let broker = TestBroker::start();
    let mut healthy = Healthy::on(broker.address);
    let session = [
        HEADER.to_vec(),
        raw::start_ok(b"\0guest\0guest"),
        raw::tune_ok(),
        raw::open("/"),
        raw::channel_open(1),
        raw::queue_declare(1, "mine", 4),
        raw::consume(1, &healthy.queue, false),
        raw::publish(1, "mine", raw::TRANSIENT, &[b'x'; 50_000]),
    ];
    let session = session.concat();
    for cut in (0..session.len()).step_by(1 + session.len() / 150) {
        let mut raw = Raw::dial(broker.address);
        raw.send(&session[..cut]);
        drop(raw);
    }
    wait_until("the connections to end", || broker.broker.connections_len() == 1);
    let queues = broker.broker.vhost("/").unwrap().queues();
    assert_eq!(queues.len(), 1, "an exclusive queue outlived its connection");
    assert_eq!(queues[0].counters.consumers.get(), 1);
    healthy.check("peers that vanished");
}
