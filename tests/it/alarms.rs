//! Resource alarms, as those who publish see them and nobody else does: sessions, byte for byte.

use crate::raw::{self, Fields, Frame};
use crate::session::{Client, Still};
use leveret::broker::alarm::Alarm;
use leveret::exception::Exception;
use leveret::wire::FrameKind;
use leveret::wire::method::*;

/// As RabbitMQ 3.10.8 sent them: frame head, class and method, a short string, frame end.
const LOW_ON_MEMORY: &[u8] = b"\x01\0\0\0\0\0\x12\0\x0a\0\x3c\x0dlow on memory\xce";
const LOW_ON_DISK: &[u8] = b"\x01\0\0\0\0\0\x10\0\x0a\0\x3c\x0blow on disk\xce";
const LOW_ON_BOTH: &[u8] = b"\x01\0\0\0\0\0\x19\0\x0a\0\x3c\x14low on disk & memory\xce";
const UNBLOCKED: &[u8] = b"\x01\0\0\0\0\0\x04\0\x0a\0\x3d\xce";

/// Everything from the protocol header to channel 1, by a client that wants to be told.
pub(crate) fn capable_greeting(heartbeat_s: u16) -> Vec<u8> {
    let properties = raw::capability("connection.blocked");
    let login = raw::start_ok_with(&properties, b"\0guest\0guest");
    let tune_ok = Fields::default().short(2047).long(raw::FRAME_MAX).short(heartbeat_s);
    let tune_ok = raw::method(0, CONNECTION_TUNE_OK, tune_ok);
    [raw::HEADER, &login, &tune_ok, &raw::open("/"), &raw::channel_open(1)].concat()
}

fn capable_with(still: &Still, heartbeat_s: u16) -> Client {
    let mut client = still.accept();
    assert_eq!(client.call(&capable_greeting(heartbeat_s)).len(), 4);
    client
}

/// A client that wants to be told, with confirms on channel 1.
fn capable(still: &Still) -> Client {
    let mut client = capable_with(still, 0);
    assert_eq!(client.call(&raw::confirm_select(1)), [CONFIRM_SELECT_OK]);
    client
}

pub(crate) fn publish(body: &[u8]) -> Vec<u8> {
    raw::publish(1, "q", raw::TRANSIENT, body)
}

/// A message without a body has no body frame.
pub(crate) fn publish_nothing() -> Vec<u8> {
    [raw::publish_method(1, "", "q", 0), raw::content_header(1, 0, raw::TRANSIENT)].concat()
}

fn declare(still: &Still) {
    assert_eq!(still.client().call(&raw::queue_declare(1, "q", 0)), [QUEUE_DECLARE_OK]);
}

fn ready(still: &Still) -> u64 {
    still.broker.vhost("/").unwrap().queue("q").unwrap().counters.ready.get()
}

/// Goes on where the alarm has stopped it: looks into its inbox, then at what it was not read.
fn go_on(client: &mut Client) {
    client.wake();
    client.say(&[]);
}

/// The publish sequence numbers that these frames confirm.
fn confirmed(frames: &[Frame]) -> u64 {
    let acks = frames.iter().filter(|frame| frame.method() == Some(BASIC_ACK));
    acks.map(|ack| ack.fields().longlong()).max().unwrap_or(0)
}

#[test]
fn a_publisher_is_told_why_it_is_not_read_and_when_it_is_again() {
    let still = Still::open();
    declare(&still);
    let alarms = &still.broker.alarms;
    let mut client = capable(&still);
    alarms.set(Alarm::Memory, true);
    client.wake();
    assert!(client.read().is_empty(), "it has published nothing yet");

    client.say(&[publish_nothing(), publish(b"a"), publish(b"b")].concat());
    let frames = client.read();
    assert!(frames.starts_with(LOW_ON_MEMORY), "{frames:?}");
    // RabbitMQ: what had no body to wait for is published, and confirmed.
    assert_eq!(ready(&still), 1);
    assert!(frames.len() > LOW_ON_MEMORY.len() && client.session.is_blocked());
    assert!(!client.session.wants_input());

    alarms.set(Alarm::Memory, false);
    client.wake();
    let frames = client.read();
    assert!(frames.starts_with(UNBLOCKED) && !client.session.is_blocked(), "{frames:?}");
    client.say(&publish(b"c"));
    assert_eq!(confirmed(&client.hear()), 4);
    let bodies = |frames: Vec<Frame>| {
        let bodies = frames.into_iter().filter(|frame| frame.kind == FrameKind::Body);
        bodies.map(|frame| frame.payload).collect::<Vec<_>>()
    };
    client.say(&raw::get(1, "q", true).repeat(4));
    assert_eq!(bodies(client.hear()), [b"a", b"b", b"c"]);
}

#[test]
fn the_last_frame_that_is_read_is_a_content_header_wherever_the_reads_cut_it() {
    let still = Still::open();
    declare(&still);
    for body in [&[b'x'; 100][..], &[b'x'; 40_000]] {
        let bytes = [publish(body), raw::queue_declare(1, "q", 0)].concat();
        let header_end = publish_nothing().len();
        let cuts = [1, 8, 20, header_end - 1, header_end, header_end + 4, bytes.len() - 9];
        for cut in cuts {
            let mut client = capable(&still);
            still.broker.alarms.set(Alarm::Disk, true);
            let before = ready(&still);
            client.say(&bytes[..cut]);
            let told = client.read();
            assert_eq!(told.is_empty(), cut < header_end, "cut at {cut}: {told:?}");
            client.say(&bytes[cut..]);
            assert_eq!([told, client.read()].concat(), LOW_ON_DISK, "cut at {cut}");
            assert_eq!(ready(&still), before, "a body was read, cut at {cut}");
            still.broker.alarms.set(Alarm::Disk, false);
            go_on(&mut client);
            let methods = client.methods();
            assert_eq!(methods[0], CONNECTION_UNBLOCKED, "cut at {cut}");
            assert!(methods.contains(&BASIC_ACK) && methods.contains(&QUEUE_DECLARE_OK));
            assert_eq!(ready(&still), before + 1);
        }
    }
}

#[test]
fn an_alarm_amid_a_body_lets_the_frame_end() {
    let still = Still::open();
    declare(&still);
    for (first, len) in [(100_000, 100_000), (100_000, 200_000)] {
        let mut client = capable(&still);
        let before = ready(&still);
        let bytes = [publish(&vec![b'x'; len]), publish(b"behind")].concat();
        client.say(&bytes[..first]);
        still.broker.alarms.set(Alarm::Memory, true);
        client.say(&bytes[first..]);
        let whole = u64::from(len < raw::FRAME_MAX as usize);
        assert_eq!(ready(&still) - before, whole, "of {len} bytes, {first} came before");
        assert!(client.read().starts_with(LOW_ON_MEMORY));
        still.broker.alarms.set(Alarm::Memory, false);
        go_on(&mut client);
        assert_eq!(confirmed(&client.hear()), 2);
    }
}

#[test]
fn without_the_capability_nothing_is_said_and_nothing_read() {
    let still = Still::open();
    declare(&still);
    let mut client = still.client();
    still.broker.alarms.set(Alarm::Disk, true);
    client.say(&[publish(b"x"), raw::queue_declare(1, "q", 0)].concat());
    assert!(client.read().is_empty() && client.session.is_blocked());
    still.broker.alarms.set(Alarm::Disk, false);
    go_on(&mut client);
    assert_eq!(client.methods(), [QUEUE_DECLARE_OK]);
    assert_eq!(ready(&still), 1);
}

#[test]
fn who_publishes_nothing_notices_nothing() {
    let still = Still::open();
    declare(&still);
    capable(&still).call(&publish(b"before"));
    still.broker.alarms.set(Alarm::Memory, true);
    // New connections come in, and do everything else.
    let mut client = capable(&still);
    assert_eq!(client.call(&raw::queue_declare(1, "other", raw::DURABLE)), []);
    still.sync();
    client.wake();
    assert_eq!(client.methods(), [QUEUE_DECLARE_OK]);
    let gotten = client.call(&raw::get(1, "q", false));
    assert_eq!(gotten, [BASIC_GET_OK]);
    client.say(&raw::ack(1, 1, false));
    assert_eq!(client.call(&raw::publish_method(1, "", "q", 0)), [], "a method is no content");
    assert!(!client.session.is_blocked());
    still.broker.alarms.set(Alarm::Memory, false);
    client.wake();
    assert!(client.read().is_empty());
}

#[test]
fn an_alarm_that_was_over_before_anybody_published_was_none() {
    let still = Still::open();
    declare(&still);
    let mut client = capable(&still);
    let wakes = client.wakes();
    for alarm in [Alarm::Memory, Alarm::Disk] {
        still.broker.alarms.set(alarm, true);
        still.broker.alarms.set(alarm, false);
    }
    assert_eq!(client.wakes(), wakes);
    assert_eq!(client.call(&publish(b"x")), [BASIC_ACK]);
}

#[test]
fn while_it_is_blocked_a_connection_hears_of_no_other_change() {
    let still = Still::open();
    declare(&still);
    let alarms = &still.broker.alarms;
    let [mut first, mut second] = [capable(&still), capable(&still)];
    alarms.set(Alarm::Memory, true);
    first.say(&publish(b"x"));
    assert_eq!(first.read(), LOW_ON_MEMORY);
    alarms.set(Alarm::Disk, true);
    second.say(&publish(b"x"));
    assert_eq!(second.read(), LOW_ON_BOTH);
    alarms.set(Alarm::Memory, false);
    for client in [&mut first, &mut second] {
        go_on(client);
        assert!(client.read().is_empty() && client.session.is_blocked());
    }
    alarms.set(Alarm::Disk, false);
    // It may be set again before they look: they hear of both, one after the other.
    alarms.set(Alarm::Disk, true);
    for client in [&mut first, &mut second] {
        go_on(client);
        let frames = client.read();
        assert!(frames.starts_with(&[UNBLOCKED, LOW_ON_DISK].concat()), "{frames:?}");
    }
    // The body that had been waiting was the last frame that was read.
    assert_eq!(ready(&still), 2);
}

#[test]
fn a_blocked_connection_gets_deliveries_and_its_acks_wait() {
    let still = Still::open();
    declare(&still);
    let mut client = capable(&still);
    let mut other = capable(&still);
    client.call(&raw::consume(1, "q", false));
    other.call(&publish(b"1"));
    client.wake();
    assert_eq!(client.methods(), [BASIC_DELIVER]);
    let queue = still.broker.vhost("/").unwrap().queue("q").unwrap();
    still.broker.alarms.set(Alarm::Memory, true);
    client.say(&[publish(b"3"), raw::ack(1, 1, false)].concat());
    assert_eq!(client.read(), LOW_ON_MEMORY);

    other.say(&publish_nothing());
    assert_eq!(other.methods(), [CONNECTION_BLOCKED, BASIC_ACK]);
    client.wake();
    assert_eq!(client.methods(), [BASIC_DELIVER]);
    assert_eq!(queue.counters.unacked.get(), 2);
    still.broker.alarms.set(Alarm::Memory, false);
    go_on(&mut client);
    client.wake();
    assert_eq!(client.methods(), [CONNECTION_UNBLOCKED, BASIC_ACK, BASIC_DELIVER]);
    assert_eq!(queue.counters.unacked.get(), 2, "two were delivered since, and one acked");
}

#[test]
fn a_blocked_connection_is_sent_heartbeats_and_owes_none() {
    let still = Still::open();
    declare(&still);
    let mut client = capable_with(&still, 2);
    still.broker.alarms.set(Alarm::Disk, true);
    client.say(&publish(b"x"));
    client.read();
    let mut heartbeats = 0;
    for _ in 0..60 {
        client.pass(1000);
        let frames = client.hear();
        heartbeats += frames.iter().filter(|f| f.kind == FrameKind::Heartbeat).count();
    }
    assert!(!client.session.is_closed());
    assert!(heartbeats > 50, "{heartbeats} heartbeats in a minute");
    still.broker.alarms.set(Alarm::Disk, false);
    go_on(&mut client);
    assert_eq!(ready(&still), 1);
    // From here on silence counts again.
    let dead = (0..8).any(|_| {
        client.pass(1000);
        client.read();
        client.session.is_closed()
    });
    assert!(dead, "alive after 8 silent seconds");
}

#[test]
fn a_refused_publish_blocks_before_its_exception_as_with_rabbitmq() {
    let still = Still::open();
    let mut client = capable(&still);
    still.broker.alarms.set(Alarm::Memory, true);
    let publish = raw::publish_method(1, "missing", "k", 0);
    client.say(&[publish, raw::content_header(1, 0, raw::TRANSIENT)].concat());
    assert_eq!(client.methods(), [CONNECTION_BLOCKED, CHANNEL_CLOSE]);
}

#[test]
fn a_server_that_stops_is_heard_by_the_blocked() {
    let still = Still::open();
    declare(&still);
    let mut client = capable(&still);
    still.broker.alarms.set(Alarm::Memory, true);
    client.say(&publish(b"x"));
    client.read();
    still.broker.close_connections(&Exception::shutdown());
    client.wake();
    assert_eq!(client.methods(), [CONNECTION_CLOSE]);
    // What was not read is thrown away, up to the answer.
    still.broker.alarms.set(Alarm::Memory, false);
    client.wake();
    client.say(&raw::method(0, CONNECTION_CLOSE_OK, Fields::default()));
    assert!(client.session.is_closed());
    assert!(client.read().is_empty(), "the alarm's end is no news for one that closes");
    assert_eq!(ready(&still), 0);
}

#[test]
fn a_blocked_connection_that_is_gone_is_forgotten() {
    let still = Still::open();
    declare(&still);
    let mut client = capable(&still);
    client.call(&raw::consume(1, "q", false));
    still.broker.alarms.set(Alarm::Memory, true);
    client.say(&publish_nothing());
    client.wake();
    assert!(client.methods().contains(&BASIC_DELIVER));
    assert_eq!(still.broker.alarms.blocked_len(), 1);
    drop(client);
    assert_eq!(still.broker.alarms.blocked_len(), 0);
    assert_eq!(ready(&still), 1, "what it had is ready again");
    still.broker.alarms.set(Alarm::Memory, false);
}
