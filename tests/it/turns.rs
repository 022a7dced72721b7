//! What a session does with one read and the next, where the cut between them matters, and with
//! what waits for the disk.

use crate::raw::{self, Fields};
use crate::session::{Client, Still};
use leveret::exception::{Exception, MethodId};
use leveret::limits::OUTPUT_HIGH_BYTES;
use leveret::wire::method::*;

fn publish_to_missing(body: &[u8]) -> Vec<u8> {
    let mut bytes = raw::publish_method(1, "no such exchange", "k", 0);
    bytes.extend(raw::content_header(1, body.len() as u64, raw::TRANSIENT));
    bytes.extend(raw::frame(3, 1, body));
    bytes
}

fn close_channel() -> Vec<u8> {
    let fields = Fields::default().short(200).shortstr("").short(0).short(0);
    raw::method(1, CHANNEL_CLOSE, fields)
}

fn channel_close_ok() -> Vec<u8> {
    raw::method(1, CHANNEL_CLOSE_OK, Fields::default())
}

#[test]
fn a_refused_publish_ends_its_channel_wherever_the_reads_cut_it() {
    let still = Still::open();
    let body = vec![b'x'; 40_000];
    let publish = publish_to_missing(&body);
    let behind = raw::queue_declare(2, "on another", 0);
    let bytes = [&publish[..], &behind].concat();
    let len = publish.len();
    let cuts = [1, 12, 60, 80, 100, 20_000, len - 2, len - 1, len];
    for cut in cuts {
        let mut client = still.client();
        client.call(&raw::channel_open(2));
        client.say(&bytes[..cut]);
        client.say(&bytes[cut..]);
        let expected = [CHANNEL_CLOSE, QUEUE_DECLARE_OK];
        assert_eq!(client.methods(), expected, "cut at {cut} of {len}");
        let again = [channel_close_ok(), raw::channel_open(1)].concat();
        let reopened = client.call(&again);
        assert_eq!(reopened, [CHANNEL_OPEN_OK], "cut at {cut} of {len}");
    }
}

#[test]
fn a_close_ok_behind_half_a_body_is_heard() {
    let still = Still::open();
    let mut client = still.client();
    let publish = raw::publish(1, "q", raw::TRANSIENT, &[b'x'; 40_000]);
    let (first, rest) = publish.split_at(20_000);
    client.say(first);
    still.broker.close_connections(&Exception::shutdown());
    client.wake();
    assert_eq!(client.methods(), [CONNECTION_CLOSE]);
    client.say(rest);
    client.say(&raw::method(0, CONNECTION_CLOSE_OK, Fields::default()));
    assert!(client.session.is_closed());
}

/// What `ask` is answered with before the sync and behind it.
fn around_sync(still: &Still, client: &mut Client, ask: &[u8]) -> [Vec<MethodId>; 2] {
    let early = client.call(ask);
    still.sync();
    client.wake();
    [early, client.methods()]
}

#[test]
fn a_reply_that_waits_for_the_disk_waits_though_its_channel_closes() {
    let still = Still::open();
    let mut client = still.client();
    let ask = [raw::queue_declare(1, "q", raw::DURABLE), close_channel()].concat();
    let [early, late] = around_sync(&still, &mut client, &ask);
    assert!(!early.contains(&QUEUE_DECLARE_OK), "declare-ok before the sync");
    assert_eq!([early, late].concat(), [QUEUE_DECLARE_OK, CHANNEL_CLOSE_OK]);

    let tx = |id| raw::method(1, id, Fields::default());
    client.call(&[raw::channel_open(1), tx(TX_SELECT)].concat());
    let publish = raw::publish(1, "q", raw::PERSISTENT, b"x");
    let ask = [publish, tx(TX_COMMIT), close_channel()].concat();
    let [early, late] = around_sync(&still, &mut client, &ask);
    assert!(!early.contains(&TX_COMMIT_OK), "commit-ok before the sync");
    assert_eq!([early, late].concat(), [TX_COMMIT_OK, CHANNEL_CLOSE_OK]);
}

#[test]
fn a_channel_reopened_behind_a_waiting_reply_answers_in_order() {
    let still = Still::open();
    let mut client = still.client();
    let ask = [
        raw::queue_declare(1, "q", raw::DURABLE),
        close_channel(),
        raw::channel_open(1),
        raw::queue_declare(1, "transient", 0),
    ];
    let [early, late] = around_sync(&still, &mut client, &ask.concat());
    let expected = [QUEUE_DECLARE_OK, CHANNEL_CLOSE_OK, CHANNEL_OPEN_OK, QUEUE_DECLARE_OK];
    assert!(!early.contains(&QUEUE_DECLARE_OK), "declare-ok before the sync");
    assert_eq!([early, late].concat(), expected);
}

#[test]
fn a_reply_that_waits_for_the_disk_holds_back_its_channel_alone() {
    let still = Still::open();
    let mut client = still.client();
    client.call(&raw::channel_open(2));
    let ask = [
        raw::queue_declare(1, "durable", raw::DURABLE),
        raw::queue_declare(1, "behind it", 0),
        raw::queue_declare(2, "on another", 0),
    ];
    let [early, late] = around_sync(&still, &mut client, &ask.concat());
    assert_eq!((early.len(), late.len()), (1, 2));
    assert_eq!([early, late].concat(), [QUEUE_DECLARE_OK; 3]);
}

#[test]
fn what_is_delivered_behind_a_waiting_reply_is_bounded() {
    const MESSAGES: u64 = 2_000;
    let still = Still::open();
    let (mut publisher, mut consumer) = (still.client(), still.client());
    consumer.call(&[raw::queue_declare(1, "q", 0), raw::consume(1, "q", false)].concat());
    let waiting = consumer.call(&raw::queue_declare(1, "durable", raw::DURABLE));
    assert!(waiting.is_empty(), "{waiting:?}");
    let publish = raw::publish(1, "q", raw::TRANSIENT, &[b'x'; 10_000]);
    for _ in 0..MESSAGES / 20 {
        publisher.say(&publish.repeat(20));
        consumer.wake();
    }
    let queue = still.broker.vhost("/").unwrap().queue("q").unwrap();
    let out = queue.counters.unacked.get();
    // A consumer's credit is 4 MiB, and the output's high mark 512 KiB.
    assert!(out < 600, "{out} messages of 10 kB wait behind a reply");
    still.sync();
    let mut taken = 0;
    for _ in 0..MESSAGES {
        consumer.wake();
        let delivered = consumer.methods().iter().filter(|id| **id == BASIC_DELIVER).count();
        taken += delivered as u64;
        if taken == MESSAGES {
            return;
        }
    }
    panic!("{taken} of {MESSAGES} came after the sync");
}

#[test]
fn an_asker_that_was_flooded_gets_replies_again_once_it_reads() {
    const REPLIES: &str = "amq.rabbitmq.reply-to";
    let still = Still::open();
    let (mut asker, mut answerer) = (still.client(), still.client());
    asker.call(&raw::consume(1, REPLIES, true));
    asker.call(&raw::queue_declare(1, "requests", 0));
    let reply_to = Fields::default().short(1 << 9).shortstr(REPLIES).0;
    asker.call(&raw::publish(1, "requests", &reply_to, b"?"));
    answerer.say(&raw::get(1, "requests", true));
    let header = &answerer.hear()[1].payload;
    // Class, weight and size, then the flags, then reply_to alone.
    let address = raw::Reader(&header[14..]).shortstr();
    let large = raw::publish(1, &address, raw::TRANSIENT, &vec![b'!'; 100_000]);
    for _ in 0..200 {
        answerer.say(&large);
    }
    let mut flood = 0;
    for _ in 0..200 {
        asker.wake();
        flood += asker.methods().len();
    }
    // Bounded by its credit, but what it had room for has come.
    assert!((20..=60).contains(&flood), "{flood} replies of 100 kB");
    answerer.say(&raw::publish(1, &address, raw::TRANSIENT, b"late"));
    asker.wake();
    assert_eq!(asker.methods(), [BASIC_DELIVER]);
}

#[test]
fn a_get_that_waits_for_its_message_is_answered_though_deliveries_fill_the_output_behind_it() {
    const LEN: usize = 20_000;
    let still = Still::open();
    let mut publisher = still.client();
    publisher.say(&raw::queue_declare(1, "stored", raw::DURABLE));
    publisher.say(&raw::publish(1, "stored", raw::PERSISTENT, b"from disk"));
    still.sync();
    drop(publisher);
    let still = still.restart();
    let (mut publisher, mut client) = (still.client(), still.client());
    client.call(&raw::queue_declare(1, "t", 0));
    assert_eq!(client.call(&raw::consume(1, "t", true)), [BASIC_CONSUME_OK]);
    assert_eq!(client.call(&raw::get(1, "stored", true)), [], "it is not in memory");
    let count = 2 * OUTPUT_HIGH_BYTES / LEN;
    publisher.say(&raw::publish(1, "t", raw::TRANSIENT, &[b'x'; LEN]).repeat(count));
    client.wake();
    assert_eq!(client.methods(), [], "deliveries wait behind the answer");
    // The answer is in the inbox, behind deliveries that have no room in the output.
    publisher.say(&raw::publish(1, "t", raw::TRANSIENT, &[b'x'; LEN]));
    still.load();
    client.wake();
    let mut heard = client.methods();
    assert_eq!(heard.first(), Some(&BASIC_GET_OK));
    while heard.len() < count + 2 {
        client.wake();
        let more = client.methods();
        assert!(!more.is_empty(), "{} of {count} deliveries", heard.len() - 1);
        heard.extend(more);
    }
    assert!(heard[1..].iter().all(|id| *id == BASIC_DELIVER));
    // The connection is read again.
    assert_eq!(client.call(&raw::get(1, "stored", true)), [BASIC_GET_EMPTY]);
}
