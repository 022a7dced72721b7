//! Room on disk: what a few old messages keep is given back while the broker runs.

use crate::raw::{self, Fields, Raw};
use crate::support::{PATIENCE, TestBroker, wait_until};
use leveret::config::Sizes;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::path::Path;
use std::time::{Duration, Instant};

const QUEUES: [&str; 2] = ["left", "right"];
const BODY_LEN: usize = 10_000;
/// One message of so many stays.
const STAYS: u64 = 100;
/// What the catalogue, its snapshot and the indexes take, in all.
const OTHERS: u64 = 512 * 1024;

/// Bytes of all files, whatever folder they are in.
fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            // It has just been removed.
            Err(_) => 0,
        })
        .sum()
}

fn publish(broker: &TestBroker, messages: u64) {
    let mut raw = Raw::channel(broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    for n in 0..messages {
        let body = n.to_be_bytes().repeat(BODY_LEN / 8);
        let queue = QUEUES[usize::from(n % 2 == 1)];
        raw.send(&raw::publish(1, queue, raw::PERSISTENT, &body));
        if n % 500 == 499 || n + 1 == messages {
            let mut confirmed = 0;
            while confirmed < n + 1 {
                confirmed = raw.expect(BASIC_ACK).fields().longlong();
            }
        }
    }
}

/// Acks all but each hundredth message of a queue; those go back to it if `requeues`, or stay out
/// with the consumer that is returned.
fn settle(broker: &TestBroker, queue: &str, messages: u64, requeues: bool) -> Raw {
    let mut raw = Raw::channel(broker);
    raw.call(&raw::consume(1, queue, false), BASIC_CONSUME_OK);
    for n in 0..messages {
        let delivered = raw.delivery();
        if n % STAYS > 0 {
            raw.send(&raw::ack(1, delivered.tag, false));
        }
    }
    if requeues {
        let close = Fields::default().short(0).shortstr("").short(0).short(0);
        raw.call(&raw::method(1, CHANNEL_CLOSE, close), CHANNEL_CLOSE_OK);
    }
    raw
}

/// Publishes so many bytes, leaves a few messages, and returns when the directory is small.
fn assert_room_comes_back(total: u64, segment_bytes: u64, looks: bool) {
    let directory = tempfile::tempdir().unwrap();
    let sizes = Sizes { segment_bytes, ..Sizes::default() };
    let config = Config { sizes, ..Config::on_loopback(directory.path()) };
    let broker = TestBroker::run(move || Server::start(config)).unwrap();
    let mut raw = Raw::channel(&broker);
    for queue in QUEUES {
        raw.call(&raw::queue_declare(1, queue, raw::DURABLE), QUEUE_DECLARE_OK);
    }
    let messages = total / BODY_LEN as u64 / 2 * 2;
    publish(&broker, messages);
    let published = bytes(directory.path());
    assert!(published >= total / 100 * 99, "{published} bytes are there");

    let [left, right] = [(QUEUES[0], true), (QUEUES[1], false)];
    let _requeued = settle(&broker, left.0, messages / 2, left.1);
    let _unacked = settle(&broker, right.0, messages / 2, right.1);
    let live = messages / 2 / STAYS * 2 * BODY_LEN as u64;
    let bound = 3 * live + 3 * segment_bytes + OTHERS;
    let begun = Instant::now();
    let counts = |queue: &str| {
        let queue = broker.queue(queue);
        queue.counters.ready.get() + queue.counters.unacked.get()
    };
    wait_until("the acks", || QUEUES.map(counts) == [messages / 2 / STAYS; 2]);
    loop {
        let taken = bytes(directory.path());
        if taken < bound {
            eprintln!(
                "{published} bytes became {taken} in {:?}; {live} live, the bound is {bound}",
                begun.elapsed()
            );
            break;
        }
        let patience = if looks { PATIENCE } else { Duration::from_secs(60) };
        assert!(begun.elapsed() < patience, "{taken} bytes are taken, {live} live: above {bound}");
        if looks {
            broker.broker.look_at_space();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    broker.stop().unwrap();

    let config = Config::on_loopback(directory.path());
    let broker = TestBroker::run(move || Server::start(config)).unwrap();
    let mut raw = Raw::channel(&broker);
    for (at, queue) in QUEUES.iter().enumerate() {
        for n in 0..messages / 2 / STAYS {
            let gotten = raw.call(&raw::get(1, queue, true), BASIC_GET_OK);
            let number = n * STAYS * 2 + at as u64;
            assert_eq!(raw.content_of(&gotten).body, number.to_be_bytes().repeat(BODY_LEN / 8));
        }
        raw.call(&raw::get(1, queue, true), BASIC_GET_EMPTY);
    }
}

#[test]
fn what_a_few_old_messages_keep_is_given_back() {
    assert_room_comes_back(64_000_000, 256 << 10, true);
}

#[test]
fn a_gibibyte_that_was_acked_is_given_back_within_a_minute() {
    if std::env::var_os("LEVERET_LONG").is_some() {
        assert_room_comes_back(1_100_000_000, 4 << 20, false);
    }
}
