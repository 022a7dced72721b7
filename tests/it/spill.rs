//! Backlogs of transient messages that memory does not hold, over sockets.

use crate::alarms::capable_greeting;
use crate::program::Program;
use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_until};
use leveret::config::Sizes;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::path::Path;

/// Some times what the queues may hold.
const COUNT: u64 = 8_000;
const DURABLE: u8 = 2;
const EXCLUSIVE: u8 = 4;
const PERSISTENT: &[u8] = &[0x10, 0, 2];

fn broker(directory: &Path) -> TestBroker {
    let sizes = Sizes {
        spill_bytes: Some(1 << 20),
        spill_file_bytes: 300_000,
        load_len: 100,
        ..Sizes::default()
    };
    let config = Config { sizes, ..Config::on_loopback(directory) };
    TestBroker::run(move || Server::start(config)).unwrap()
}

fn spill_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("spill-")).collect()
}

/// The number, and much that is the same.
fn body(n: u64) -> Vec<u8> {
    [&n.to_be_bytes()[..], &[n as u8; 492]].concat()
}

/// Publishes `COUNT` messages, one in `persistent_in` persistent, in step with their confirms.
fn fill(publisher: &mut Raw, queue: &str, persistent_in: u64) {
    let mut confirmed = 0;
    for n in 0..COUNT {
        let is_persistent = n % persistent_in == 0;
        let properties = if is_persistent { PERSISTENT } else { raw::TRANSIENT };
        publisher.send(&raw::publish(1, queue, properties, &body(n)));
        while n + 1 - confirmed > 500 {
            confirmed = publisher.expect(BASIC_ACK).fields().longlong();
        }
    }
    while confirmed < COUNT {
        confirmed = publisher.expect(BASIC_ACK).fields().longlong();
    }
}

fn confirming(broker: &TestBroker, queue: &str, flags: u8) -> Raw {
    let mut raw = Raw::channel(broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    raw.call(&raw::queue_declare(1, queue, flags), QUEUE_DECLARE_OK);
    raw
}

/// What the queues hold leaves memory, but for what one read may bring.
fn wait_for_room(broker: &TestBroker) {
    let residence = &broker.broker.residence;
    wait_until("messages to leave memory", || residence.total() <= 1 << 20);
}

#[test]
fn a_backlog_beyond_the_budget_comes_back_whole_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    for (flags, persistent_in) in [(EXCLUSIVE, COUNT + 1), (DURABLE, COUNT + 1), (DURABLE, 3)] {
        let broker = broker(directory.path());
        let queue = format!("q{flags}.{persistent_in}");
        let mut client = confirming(&broker, &queue, flags);
        fill(&mut client, &queue, persistent_in);
        wait_for_room(&broker);
        assert!(!spill_files(directory.path()).is_empty());
        assert_eq!(broker.ready(&queue), COUNT);
        // A few go back, and come again as they were.
        for n in 0..10 {
            client.send(&raw::get(1, &queue, false));
            let got = client.expect(BASIC_GET_OK);
            assert!(client.content_of(&got).body == body(n));
        }
        let recover = raw::method(1, BASIC_RECOVER, Fields::default().octet(1));
        client.call(&recover, BASIC_RECOVER_OK);
        client.call(&raw::consume(1, &queue, false), BASIC_CONSUME_OK);
        for n in 0..COUNT {
            let delivery = client.delivery();
            assert!(delivery.body == body(n), "not message {n}");
            assert_eq!(delivery.redelivered, n < 10, "message {n}");
            if n % 100 == 99 {
                client.send(&raw::ack(1, delivery.tag, true));
            }
        }
        let all = || broker.queue(&queue).counters.unacked.get() == 0;
        wait_until("the last ack", all);
        wait_until("the files to go", || {
            broker.broker.look_at_space();
            spill_files(directory.path()).is_empty()
        });
        broker.stop().unwrap();
    }
}

#[test]
fn unacked_messages_leave_memory_and_come_back_when_they_are_requeued() {
    let directory = tempfile::tempdir().unwrap();
    let broker = broker(directory.path());
    let mut client = confirming(&broker, "q", DURABLE);
    let mut consumer = Raw::channel(&broker);
    consumer.call(&raw::consume(1, "q", false), BASIC_CONSUME_OK);
    fill(&mut client, "q", COUNT + 1);
    for n in 0..COUNT {
        assert!(consumer.delivery().body == body(n), "not message {n}");
    }
    // One more publish lets the pager look.
    wait_until("messages to leave memory", || {
        client.call(&raw::publish(1, "nowhere", raw::TRANSIENT, b""), BASIC_ACK);
        broker.broker.residence.total() <= 1 << 20
    });
    drop(consumer);
    wait_until("all to be ready again", || broker.ready("q") == COUNT);
    client.call(&raw::consume(1, "q", true), BASIC_CONSUME_OK);
    for n in 0..COUNT {
        let delivery = client.delivery();
        assert!(delivery.body == body(n) && delivery.redelivered, "not message {n}");
    }
}

#[test]
fn what_a_stop_or_a_crash_ends_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    for is_crash in [false, true] {
        let broker = broker(directory.path());
        let mut client = confirming(&broker, "q", DURABLE);
        fill(&mut client, "q", 4);
        wait_for_room(&broker);
        assert!(!spill_files(directory.path()).is_empty());
        let persistent = COUNT / 4 * (1 + u64::from(is_crash));
        if is_crash {
            drop(broker);
            assert!(!spill_files(directory.path()).is_empty());
        } else {
            broker.stop().unwrap();
            assert_eq!(spill_files(directory.path()), [""; 0]);
        }
        let again = TestBroker::in_directory(directory.path());
        assert_eq!(spill_files(directory.path()), [""; 0]);
        assert_eq!(again.ready("q"), persistent);
        again.stop().unwrap();
    }
}

/// Publishes in batches, each once the one before is confirmed, through whatever alarms there are.
fn publish_through_alarms(publisher: &mut Raw, numbers: std::ops::Range<u64>, len: usize) {
    const BATCH: u64 = 100;
    let (mut sent, mut confirmed) = (0, 0);
    while confirmed < numbers.end {
        if confirmed == sent {
            let batch = numbers.clone().skip(sent as usize).take(BATCH as usize);
            let bodies = batch.map(|n| [&n.to_be_bytes()[..], &vec![n as u8; len - 8]].concat());
            let batch = bodies.map(|body| raw::publish(1, "q", raw::TRANSIENT, &body));
            publisher.send(&batch.collect::<Vec<_>>().concat());
            sent += BATCH;
        }
        let frame = publisher.frame();
        match frame.method() {
            Some(BASIC_ACK) => confirmed = frame.fields().longlong(),
            Some(CONNECTION_BLOCKED | CONNECTION_UNBLOCKED) => {}
            _ => panic!("{frame:?}"),
        }
    }
}

#[test]
fn a_backlog_larger_than_the_memory_watermark_is_taken_and_given_back() {
    const LEN: usize = 16_000;
    const COUNT: u64 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rabbitmq.conf");
    std::fs::write(&file, "vm_memory_high_watermark.absolute = 150MB\n").unwrap();
    let data = directory.path().join("data");
    let arguments = ["--config", file.to_str().unwrap()];
    let program = Program::start_with(&data, &arguments);
    let mut publisher = Raw::dial(program.address);
    publisher.send(&capable_greeting(0));
    for reply in [CONNECTION_START, CONNECTION_TUNE, CONNECTION_OPEN_OK, CHANNEL_OPEN_OK] {
        publisher.expect(reply);
    }
    publisher.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    publisher.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    publish_through_alarms(&mut publisher, 0..COUNT, LEN);
    assert!(!spill_files(&data).is_empty());
    let mut consumer = Raw::channel_to(program.address);
    consumer.call(&raw::consume(1, "q", true), BASIC_CONSUME_OK);
    for n in 0..COUNT {
        let body = consumer.delivery().body;
        assert!(body.len() == LEN && body[..8] == n.to_be_bytes(), "not message {n}");
    }
}
