//! Those who do not get as far as a connection: other protocols, bad logins, silence.

use crate::program::Program;
use crate::raw::{self, HEADER, Raw};
use crate::support::{TestBroker, wait_until};
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection that must go on working, with a queue of its own.
pub(crate) struct Healthy {
    raw: Raw,
    pub(crate) queue: String,
}

impl Healthy {
    pub(crate) fn on(address: SocketAddr) -> Self {
        let mut raw = Raw::channel_to(address);
        let declared = raw.call(&raw::queue_declare(1, "", 0), QUEUE_DECLARE_OK);
        let queue = declared.fields().shortstr();
        raw.call(&raw::consume(1, &queue, true), BASIC_CONSUME_OK);
        Self { raw, queue }
    }

    #[track_caller]
    pub(crate) fn check(&mut self, after: &str) {
        let publish = raw::publish(1, &self.queue, raw::TRANSIENT, after.as_bytes());
        self.raw.send(&publish);
        assert_eq!(self.raw.delivery().body, after.as_bytes());
    }
}

#[test]
fn what_is_not_amqp_is_answered_with_the_protocol_and_hung_up() {
    let broker = TestBroker::start();
    let mut healthy = Healthy::on(broker.address);
    let inputs: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client says hello",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x03\x01\x00\x00",
        b"amqp\x00\x00\x09\x01",
        b"\x00",
        b"AMQX",
        &[0xff; 10_000],
    ];
    for input in inputs {
        let mut raw = Raw::dial(broker.address);
        // It may hang up before all of it was taken.
        let _ = raw.try_send(input);
        let mut answer = [0; 8];
        raw.stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, HEADER);
        assert_eq!(raw.next_frame(), None);
        healthy.check("what is not AMQP");
    }
}

#[test]
fn what_comes_before_its_time_is_dropped_without_a_word() {
    let broker = TestBroker::start();
    let mut healthy = Healthy::on(broker.address);
    let login = raw::start_ok(b"\0guest\0guest");
    let inputs: [(&str, Vec<u8>); 12] = [
        ("a wrong password", raw::start_ok(b"\0guest\0wrong")),
        ("an unknown user", raw::start_ok(b"\0nobody\0guest")),
        ("no NUL", raw::start_ok(b"guest")),
        ("four NULs", raw::start_ok(b"\0\0\0\0")),
        ("an oversized frame", b"\x01\x00\x00\xff\xff\xff\xff".to_vec()),
        ("a wrong frame end", b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0b\x00".to_vec()),
        ("a frame of no kind", raw::frame(7, 0, b"x")),
        ("a body", raw::frame(3, 1, b"x")),
        ("an open channel", raw::channel_open(1)),
        ("a tune-ok", raw::tune_ok()),
        ("a login twice", [login.clone(), login.clone()].concat()),
        ("a channel after the login", [login, raw::channel_open(1)].concat()),
    ];
    // All at once: each is kept waiting for some seconds.
    let mut refused: Vec<_> = inputs
        .into_iter()
        .map(|(what, input)| {
            let mut raw = Raw::dial(broker.address);
            raw.send(HEADER);
            raw.expect(CONNECTION_START);
            raw.send(&input);
            (what, raw)
        })
        .collect();
    healthy.check("what comes before its time");
    for (what, raw) in &mut refused {
        let rest = raw.rest();
        let tuned = rest == [CONNECTION_TUNE];
        assert!(rest.is_empty() || tuned, "{what}: {rest:?}");
    }
    healthy.check("what comes before its time");
}

#[test]
fn a_silent_connection_is_dropped_when_its_handshake_takes_too_long() {
    let mut config = Config::on_loopback("unused");
    config.handshake_timeout_ms = 200;
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::run(move || Server::start_on(config, disk)).unwrap();
    let mut healthy = Healthy::on(broker.address);
    let login = [HEADER, &raw::start_ok(b"\0guest\0guest")].concat();
    let beginnings = [&b""[..], b"AM", HEADER, &login];
    let mut silent: Vec<_> = beginnings
        .iter()
        .map(|said| {
            let mut raw = Raw::dial(broker.address);
            raw.send(said);
            raw
        })
        .collect();
    for raw in &mut silent {
        raw.rest();
    }
    wait_until("the others to end", || broker.broker.connections_len() == 1);
    healthy.check("silent connections");
}

#[test]
fn five_hundred_silent_connections_are_not_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let mut healthy = Healthy::on(program.address);
    let beginnings = [&b""[..], b"AMQP", HEADER, b"AMQP\x00\x00\x09\x01\x01\x00\x00\x00\x00"];
    let silent: Vec<_> = (0..500)
        .map(|n| {
            let mut raw = Raw::dial(program.address);
            raw.send(beginnings[n % beginnings.len()]);
            raw
        })
        .collect();
    for _ in 0..100 {
        healthy.check("500 silent connections");
    }
    let mut late = Healthy::on(program.address);
    late.check("500 silent connections");
    drop(silent);
}
