//! Clients that do not read: what they are owed waits in its queue, and nobody else notices.

use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_until};
use leveret::limits::{CONSUMER_CREDIT_BYTES, OUTPUT_HARD_BYTES, OUTPUT_HIGH_BYTES};
use leveret::wire::method::*;
use socket2::SockRef;

/// What a socket pair of this machine may hold at most: the receiver's buffer is fixed, the
/// sender's grows up to 4 MiB.
const SOCKET_BYTES: usize = 8 * 1024 * 1024;

/// A client whose socket takes little.
fn narrow(broker: &TestBroker) -> Raw {
    let raw = Raw::channel(broker);
    SockRef::from(&raw.stream).set_recv_buffer_size(64 * 1024).unwrap();
    raw
}

/// Bytes that differ from message to message, and its number.
fn body(n: u64, len: usize) -> Vec<u8> {
    Fields(vec![n as u8; len - 8]).longlong(n).0
}

/// Publishes messages with these numbers, all of them confirmed.
fn fill(publisher: &mut Raw, queue: &str, numbers: std::ops::Range<u64>, len: usize) {
    let mut confirmed = 0;
    for n in numbers.clone() {
        publisher.send(&raw::publish(1, queue, raw::TRANSIENT, &body(n, len)));
        while n + 1 - numbers.start - confirmed > 100 {
            confirmed = publisher.expect(BASIC_ACK).fields().longlong();
        }
    }
    while confirmed < numbers.end - numbers.start {
        confirmed = publisher.expect(BASIC_ACK).fields().longlong();
    }
}

fn confirming(broker: &TestBroker) -> Raw {
    let mut publisher = Raw::channel(broker);
    publisher.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    publisher
}

#[test]
fn a_consumer_that_does_not_read_leaves_its_messages_in_the_queue() {
    const LEN: usize = 20_000;
    const COUNT: u64 = 10_000;
    let broker = TestBroker::start();
    let mut healthy = Raw::channel(&broker);
    for queue in ["slow", "other"] {
        healthy.call(&raw::queue_declare(1, queue, 0), QUEUE_DECLARE_OK);
    }
    healthy.call(&raw::consume(1, "other", true), BASIC_CONSUME_OK);
    let mut slow = narrow(&broker);
    slow.call(&raw::consume(1, "slow", false), BASIC_CONSUME_OK);

    let mut publisher = confirming(&broker);
    fill(&mut publisher, "slow", 0..COUNT, LEN);
    let queue = broker.queue("slow");
    let ready = queue.counters.ready.get();
    let out = usize::try_from(queue.counters.unacked.get()).unwrap() * LEN;
    let bound = CONSUMER_CREDIT_BYTES as usize + OUTPUT_HIGH_BYTES + SOCKET_BYTES;
    assert!(out <= bound, "{out} bytes are out with a consumer that reads none");
    assert!(ready > COUNT / 2, "only {ready} of {COUNT} messages are ready");

    // Others, on the same queue's broker and by the same publisher, are served.
    for n in 0..100 {
        publisher.send(&raw::publish(1, "other", raw::TRANSIENT, &body(n, 100)));
        assert_eq!(healthy.delivery().body, body(n, 100));
    }
    for n in 0..COUNT {
        let delivery = slow.delivery();
        assert!(delivery.body == body(n, LEN), "not message {n}");
        if n % 100 == 99 {
            slow.send(&raw::ack(1, delivery.tag, true));
        }
    }
    let empty = || queue.counters.ready.get() + queue.counters.unacked.get() == 0;
    wait_until("the queue to be empty", empty);
}

#[test]
fn a_client_that_does_not_read_its_replies_is_not_read() {
    const LEN: usize = 200_000;
    const COUNT: u64 = 400;
    let broker = TestBroker::start();
    let mut publisher = confirming(&broker);
    publisher.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    fill(&mut publisher, "q", 0..COUNT, LEN);
    let mut asker = narrow(&broker);
    let queue = broker.queue("q");
    let asked = usize::try_from(COUNT).unwrap();
    asker.send(&raw::get(1, "q", true).repeat(asked));
    // A get beyond what it was answered waits; the last reply comes as it reads.
    wait_until("the first gets", || queue.counters.gotten.get() > 0);
    for n in 0..COUNT {
        let gotten = queue.counters.gotten.get() - n;
        let out = usize::try_from(gotten).unwrap() * LEN;
        // The bound is looked at every 64 frames.
        let bound = OUTPUT_HARD_BYTES + SOCKET_BYTES + 64 * LEN;
        assert!(out <= bound, "{out} bytes wait for a client that does not read");
        let got = asker.expect(BASIC_GET_OK);
        assert!(asker.content_of(&got).body == body(n, LEN), "not message {n}");
    }
}

#[test]
fn a_consumer_that_goes_without_reading_gives_everything_back() {
    const LEN: usize = 50_000;
    const COUNT: u64 = 400;
    let broker = TestBroker::start();
    let mut publisher = confirming(&broker);
    publisher.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let mut slow = narrow(&broker);
    slow.call(&raw::consume(1, "q", false), BASIC_CONSUME_OK);
    fill(&mut publisher, "q", 0..COUNT, LEN);
    drop(slow);
    let queue = broker.queue("q");
    wait_until("all to be ready again", || queue.counters.ready.get() == COUNT);
    let mut next = Raw::channel(&broker);
    next.call(&raw::consume(1, "q", true), BASIC_CONSUME_OK);
    for n in 0..COUNT {
        assert!(next.delivery().body == body(n, LEN), "not message {n}");
    }
}
