//! The lines of a connection's life are RabbitMQ's, and no client can forge or inflate them.

use crate::raw::{self, DURABLE, Fields};
use crate::session::{Client, Still, greeting};
use leveret::Config;
use leveret::config::LogLevel;
use leveret::exception::Exception;
use leveret::server::log::subscriber;
use leveret::wire::method::*;
use std::io;
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that `events` writes, without their times.
fn lines(level: LogLevel, events: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let writer = written.clone();
    tracing::subscriber::with_default(subscriber(level, move || writer.clone()), events);
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| line[33..].to_owned()).collect()
}

/// What is said of the first connection of a broker, from its first byte to its end, without what
/// all lines begin with.
fn said_of(events: impl FnOnce(&Still, &mut Client)) -> Vec<String> {
    let still = Still::open();
    let lines = lines(LogLevel::Info, || {
        let mut client = still.accept();
        events(&still, &mut client);
        drop(client);
    });
    lines
        .iter()
        .map(|line| line.replacen(" <0.1.0> ", " ", 1).replacen("<0.1.0>", "#", 1))
        .collect()
}

fn named(name: &str) -> Vec<u8> {
    Fields::default().shortstr("connection_name").octet(b'S').longstr(name.as_bytes()).0
}

fn login(name: &str) -> Vec<u8> {
    let start_ok = raw::start_ok_with(&named(name), b"\0guest\0guest");
    [raw::HEADER, &start_ok, &raw::tune_ok(), &raw::open("/")].concat()
}

fn close() -> Vec<u8> {
    let fields = Fields::default().short(200).shortstr("bye").short(0).short(0);
    raw::method(0, CONNECTION_CLOSE, fields)
}

const ACCEPTED: &str = "[info] accepting AMQP connection # (test)";
const GRANTED: &str =
    "[info] connection # (test): user 'guest' authenticated and granted access to vhost '/'";
const CLOSED: &str = "[info] closing AMQP connection # (test, vhost: '/', user: 'guest')";

#[test]
fn a_connection_is_told_of_from_its_first_byte_to_its_end_with_its_own_name() {
    let said = said_of(|_, client| {
        client.say(&login("billing-worker-7"));
        client.say(&close());
    });
    let expected = [
        ACCEPTED,
        "[info] connection # (test) has a client-provided name: billing-worker-7",
        "[info] connection # (test - billing-worker-7): user 'guest' authenticated and granted \
         access to vhost '/'",
        "[info] closing AMQP connection # (test - billing-worker-7, vhost: '/', user: 'guest')",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_client_that_dies_is_told_of() {
    let said = said_of(|_, client| {
        client.say(&login("dies"));
        client.session.peer_left(None);
    });
    let expected = [
        "[warning] closing AMQP connection # (test - dies, vhost: '/', user: 'guest'):",
        "[warning] client unexpectedly closed TCP connection",
    ];
    assert_eq!(said[3..], expected);
    let said = said_of(|_, client| {
        client.say(raw::HEADER);
        client.session.peer_left(Some("No route to host (os error 113)"));
    });
    let expected = [
        ACCEPTED,
        "[warning] closing AMQP connection # (test):",
        "[warning] client unexpectedly closed TCP connection: No route to host (os error 113)",
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_client_that_was_told_to_go_does_not_die() {
    let said = said_of(|_, client| {
        client.say(&greeting());
        client.say(&close());
        client.session.peer_left(None);
    });
    assert_eq!(said, [ACCEPTED, GRANTED, CLOSED]);
}

#[test]
fn a_look_whether_the_port_is_open_is_told_of_to_those_who_debug() {
    assert_eq!(said_of(|_, client| client.session.peer_left(None)), [""; 0]);
    let still = Still::open();
    let said = lines(LogLevel::Debug, || still.accept().session.peer_left(None));
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|line| line.starts_with("[debug] <0.1.0> ")), "{said:?}");
}

#[test]
fn a_refused_login_has_the_address_and_an_end() {
    let said = said_of(|_, client| {
        client.say(&[raw::HEADER, &raw::start_ok_with(&named("n"), b"\0guest\0no")].concat());
        client.session.peer_left(None);
    });
    let expected = [
        "[error] Error on AMQP connection # (test, state: starting):",
        "[error] PLAIN login refused: user 'guest' - invalid credentials",
        "[info] closing AMQP connection # (test - n)",
    ];
    assert_eq!(said[2..], expected);
}

#[test]
fn a_refused_vhost_names_the_user() {
    let said = said_of(|_, client| {
        let login = raw::start_ok(b"\0guest\0guest");
        client.say(&[raw::HEADER, &login, &raw::tune_ok(), &raw::open("nope")].concat());
    });
    let expected = [
        "[error] Error on AMQP connection # (test, user: 'guest', state: opening):",
        "[error] vhost nope not found",
        "[info] closing AMQP connection # (test, vhost: 'none', user: 'guest')",
    ];
    assert_eq!(said[1..], expected);
}

#[test]
fn a_channel_error_names_method_user_and_vhost() {
    let said = said_of(|_, client| {
        client.say(&greeting());
        client.say(&raw::publish_method(1, "x", "key", 0));
        client.say(&raw::content_header(1, 0, raw::TRANSIENT));
    });
    let expected = [
        "[error] Channel error on connection # (test, vhost: '/', user: 'guest'), channel 1:",
        "[error] operation basic.publish caused a channel exception not_found: no exchange 'x' in \
         vhost '/'",
        CLOSED,
    ];
    assert_eq!(said[2..], expected);
}

#[test]
fn a_connection_error_names_method_channel_and_state() {
    let said = said_of(|_, client| {
        client.say(&greeting());
        client.say(&raw::queue_declare(5, "q", DURABLE));
    });
    let expected = [
        "[error] Error on AMQP connection # (test, vhost: '/', user: 'guest', state: running), \
         channel 5:",
        "[error]  operation queue.declare caused a connection exception channel_error: \"expected \
         'channel.open'\"",
        CLOSED,
    ];
    assert_eq!(said[2..], expected);
}

#[test]
fn what_does_not_speak_amqp_is_shown() {
    let said = said_of(|_, client| client.say(b"GET / HTTP/1.1\r\n"));
    let expected = [
        ACCEPTED,
        "[error] closing AMQP connection # (test):",
        "[error] {bad_header,<<\"GET / HT\">>}: the client speaks HTTP, this port AMQP 0-9-1",
    ];
    assert_eq!(said, expected);
}

#[test]
fn who_does_not_finish_logging_in_is_told_of_with_the_time_that_he_had() {
    let said = said_of(|_, client| {
        client.say(raw::HEADER);
        client.pass(10_000);
    });
    let expected = [
        ACCEPTED,
        "[error] closing AMQP connection # (test):",
        "[error] handshake_timeout: in state starting after 10000 ms; a slow client needs a \
         higher handshake_timeout",
    ];
    assert_eq!(said, expected);
    let said = said_of(|_, client| client.pass(10_000));
    assert_eq!(said, expected, "also if he has said nothing");
}

#[test]
fn missed_heartbeats_are_told_of_as_rabbitmq_does() {
    let said = said_of(|_, client| {
        let login = raw::start_ok_with(&named("hb"), b"\0guest\0guest");
        let fields = Fields::default().short(2047).long(raw::FRAME_MAX).short(1);
        let tune_ok = raw::method(0, CONNECTION_TUNE_OK, fields);
        client.say(&[raw::HEADER, &login, &tune_ok, &raw::open("/")].concat());
        (0..10).for_each(|_| client.pass(500));
    });
    let expected = [
        "[error] closing AMQP connection # (test - hb):",
        "[error] missed heartbeats from client, timeout: 1s",
    ];
    assert_eq!(said[3..], expected);
}

#[test]
fn a_delivery_that_is_never_answered_is_told_of_with_queue_and_consumer() {
    let config = Config { consumer_timeout_ms: Some(5000), ..Config::on_loopback("unused") };
    let still = Still::open_with(config);
    let said = lines(LogLevel::Warning, || {
        let mut client = still.client();
        client.say(&raw::queue_declare(1, "q", 0));
        client.say(&raw::publish(1, "q", raw::TRANSIENT, b"x"));
        let fields = Fields::default().short(0).shortstr("q").shortstr("eats").octet(0);
        client.say(&raw::method(1, BASIC_CONSUME, fields.longstr(&[])));
        client.wake();
        client.hear();
        client.pass(5000);
    });
    let expected = [
        "[warning] <0.1.0> Consumer 'eats' on channel 1 and queue 'q' in vhost '/' has timed out \
         waiting for a consumer acknowledgement of a delivery with delivery tag = 1. Timeout used: \
         5000 ms. This timeout value can be configured, see consumers doc guide to learn more",
        "[error] <0.1.0> Channel error on connection <0.1.0> (test, vhost: '/', user: 'guest'), \
         channel 1:",
        "[error] <0.1.0> operation none caused a channel exception precondition_failed: delivery \
         acknowledgement on channel 1 timed out. Timeout value used: 5000 ms. This timeout value \
         can be configured, see consumers doc guide to learn more",
    ];
    assert_eq!(said, expected);
}

#[test]
fn at_a_shutdown_each_connection_has_one_line() {
    let said = said_of(|_, client| {
        client.say(&greeting());
        client.session.inbox().close(Exception::shutdown());
        client.wake();
    });
    assert_eq!(said, [ACCEPTED, GRANTED, CLOSED]);
}

#[test]
fn what_a_client_calls_itself_ends_no_line_and_is_cut() {
    let forged = "x\n2026-11-20 09:27:54.276904+00:00 [info] <0.9.0> accepting \u{1b}[2K\r\u{202e}";
    let said = said_of(|_, client| {
        client.say(&login(forged));
        client.session.peer_left(None);
    });
    assert_eq!(said.len(), 5, "{said:?}");
    let escaped = "x\\n2026-11-20 09:27:54.276904+00:00 [info] <0.9.0> accepting \\u{1b}[2K\\r";
    assert!(said[1].contains(escaped), "{said:?}");
    assert!(said[3].contains(escaped), "{said:?}");
    let said = said_of(|_, client| {
        client.say(&login(&"é".repeat(30_000)));
        client.say(&close());
    });
    assert!(said.iter().all(|line| line.len() < 400), "{said:?}");
    assert!(said[3].contains("é..., vhost: '/', user: 'guest')"), "{said:?}");
}

#[test]
fn a_login_that_is_refused_is_cut_however_long_it_is() {
    let said = said_of(|_, client| {
        let response = ["\0", &"x".repeat(100_000), "\0no"].concat();
        client.say(&[raw::HEADER, &raw::start_ok(response.as_bytes())].concat());
    });
    assert!(said[2].starts_with("[error] PLAIN login refused: user 'xxx"), "{said:?}");
    assert!(said.iter().all(|line| line.len() < 1100), "{said:?}");
}
