//! The program is killed under load, again and again, and nothing that it confirmed is lost.

use crate::program::Program;
use crate::raw::{self, Delivered, Fields, Raw};
use crate::support::wait_until;
use leveret::wire::method::*;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

const QUEUES: [&str; 2] = ["even", "odd"];
const PUBLISHERS: u64 = 4;
/// Publishes that wait for their confirm.
const WINDOW: u64 = 100;

/// A publisher, and its how manieth message it is.
type Id = (u64, u64);

fn queue_of(publisher: u64) -> &'static str {
    QUEUES[(publisher % 2) as usize]
}

fn body((publisher, n): Id) -> Vec<u8> {
    let padding = n % 300;
    Fields::default()
        .longlong(publisher)
        .longlong(n)
        .0
        .into_iter()
        .chain((0..padding).map(|at| at as u8))
        .collect()
}

fn id_of(delivered: &Delivered) -> Id {
    let mut fields = raw::Reader(&delivered.body);
    let id = (fields.longlong(), fields.longlong());
    assert_eq!(delivered.body, body(id), "changed on its way");
    id
}

/// What a round's clients say while they work.
#[derive(Default)]
struct Progress {
    /// Clients that have begun; one that had not could not tell what it saw.
    begun: AtomicU64,
    confirmed: AtomicU64,
}

/// Publishes until the broker dies; says how many were confirmed and how many were sent.
fn publish(address: SocketAddr, publisher: u64, progress: &Progress) -> (u64, u64) {
    let mut raw = Raw::channel_to(address);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    progress.begun.fetch_add(1, SeqCst);
    let total = &progress.confirmed;
    let (mut sent, mut confirmed) = (0, 0);
    loop {
        while sent - confirmed < WINDOW {
            let body = body((publisher, sent));
            let publish = raw::publish(1, queue_of(publisher), raw::PERSISTENT, &body);
            // It may have gone out, whatever the error says.
            sent += 1;
            if raw.try_send(&publish).is_err() {
                return (last_confirm(&mut raw, confirmed, total), sent);
            }
        }
        match raw.next_frame() {
            None => return (confirmed, sent),
            Some(frame) => confirmed = confirm(&frame, confirmed, total),
        }
    }
}

fn confirm(frame: &raw::Frame, before: u64, total: &AtomicU64) -> u64 {
    assert_eq!(frame.method(), Some(BASIC_ACK));
    let mut fields = frame.fields();
    let (tag, multiple) = (fields.longlong(), fields.octet() == 1);
    assert!(tag > before, "confirmed twice");
    assert!(multiple || tag == before + 1, "an older one is not confirmed");
    total.fetch_add(tag - before, SeqCst);
    tag
}

/// Takes the confirms that had come before the broker died.
fn last_confirm(raw: &mut Raw, before: u64, total: &AtomicU64) -> u64 {
    let mut confirmed = before;
    while let Some(frame) = raw.next_frame() {
        confirmed = confirm(&frame, confirmed, total);
    }
    confirmed
}

/// Consumes until the broker dies, and acks two of three.
fn consume(address: SocketAddr, queue: &str, progress: &Progress) -> Vec<(Id, bool)> {
    let mut raw = Raw::channel_to(address);
    let prefetch = Fields::default().long(0).short(500).octet(0);
    raw.call(&raw::method(1, BASIC_QOS, prefetch), BASIC_QOS_OK);
    raw.call(&raw::consume(1, queue, false), BASIC_CONSUME_OK);
    progress.begun.fetch_add(1, SeqCst);
    let mut seen = Vec::new();
    while let Some(delivered) = raw.try_delivery() {
        let id = id_of(&delivered);
        seen.push((id, delivered.redelivered));
        if !id.1.is_multiple_of(3) && raw.try_send(&raw::ack(1, delivered.tag, false)).is_err() {
            break;
        }
    }
    seen
}

/// Takes all that a queue holds.
fn drain(address: SocketAddr, queue: &str) -> Vec<(Id, bool)> {
    let mut raw = Raw::channel_to(address);
    let declared = raw.call(&raw::queue_declare(1, queue, raw::DURABLE), QUEUE_DECLARE_OK);
    let mut fields = declared.fields();
    fields.shortstr();
    let ready = fields.long() as usize;
    // Not by a consumer: it would be sent what is published before the broker knows it gone.
    raw.send(&raw::get(1, queue, true).repeat(ready));
    let taken = (0..ready).map(|_| {
        let gotten = raw.expect(BASIC_GET_OK);
        let delivered = raw.content_of(&gotten);
        (id_of(&delivered), delivered.redelivered)
    });
    taken.collect()
}

/// What is known of the messages of all rounds.
#[derive(Default)]
struct Ledger {
    /// By publisher: confirmed and sent.
    published: HashMap<u64, (u64, u64)>,
    /// Delivered at least once.
    seen: HashSet<Id>,
}

impl Ledger {
    /// A consumer's whole life, in order.
    fn deliver(&mut self, queue: &str, deliveries: &[(Id, bool)]) {
        let mut last: HashMap<(u64, bool), u64> = HashMap::new();
        for &((publisher, n), redelivered) in deliveries {
            let id = (publisher, n);
            let sent = self.published.get(&publisher).map_or(0, |(_, sent)| *sent);
            assert!(n < sent, "{id:?} was never published");
            assert_eq!(queue_of(publisher), queue, "{id:?} is in the wrong queue");
            let before = last.insert((publisher, redelivered), n);
            assert!(before < Some(n), "{id:?} came behind {before:?}");
            let again = !self.seen.insert(id);
            assert!(redelivered || !again, "{id:?} came again, and did not say so");
        }
    }

    fn assert_nothing_lost(&self) {
        let mut lost = Vec::new();
        for (&publisher, &(confirmed, _)) in &self.published {
            let ids = (0..confirmed).map(|n| (publisher, n));
            lost.extend(ids.filter(|id| !self.seen.contains(id)));
        }
        assert!(lost.is_empty(), "{} confirmed messages are lost: {lost:?}", lost.len());
    }
}

/// One life of the broker: empties it of what the last one left, then loads it until it is killed.
fn round(directory: &Path, number: u64, ledger: &mut Ledger) {
    let program = Program::start(directory);
    let address = program.address;
    for queue in QUEUES {
        ledger.deliver(queue, &drain(address, queue));
    }
    ledger.assert_nothing_lost();

    let progress = Arc::<Progress>::default();
    let publisher = |publisher| {
        let progress = Arc::clone(&progress);
        (publisher, std::thread::spawn(move || publish(address, publisher, &progress)))
    };
    let publishers: Vec<_> =
        (number * PUBLISHERS..(number + 1) * PUBLISHERS).map(publisher).collect();
    let consumer = |queue| {
        let progress = Arc::clone(&progress);
        (queue, std::thread::spawn(move || consume(address, queue, &progress)))
    };
    let consumers: Vec<(&str, JoinHandle<_>)> = QUEUES.map(consumer).into();
    // Earlier or later in the file, and wherever the work stands just then.
    let enough = 1_000 + number * 331;
    let all = PUBLISHERS + QUEUES.len() as u64;
    wait_until("confirms", || {
        progress.begun.load(SeqCst) == all && progress.confirmed.load(SeqCst) > enough
    });
    program.kill();
    for (publisher, thread) in publishers {
        ledger.published.insert(publisher, thread.join().unwrap());
    }
    for (queue, thread) in consumers {
        ledger.deliver(queue, &thread.join().unwrap());
    }
}

#[test]
fn nothing_confirmed_is_lost_when_the_broker_is_killed() {
    let rounds = match std::env::var_os("LEVERET_LONG") {
        Some(_) => 25,
        None => 3,
    };
    let directory = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::default();
    for number in 0..rounds {
        round(directory.path(), number, &mut ledger);
    }
    let last = Program::start(directory.path());
    for queue in QUEUES {
        ledger.deliver(queue, &drain(last.address, queue));
    }
    ledger.assert_nothing_lost();
}

#[test]
fn an_exclusive_queue_does_not_outlive_a_killed_broker() {
    const EXCLUSIVE: u8 = 4;
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path());
    let mut raw = Raw::channel_to(program.address);
    let bits = raw::DURABLE | EXCLUSIVE;
    raw.call(&raw::queue_declare(1, "mine", bits), QUEUE_DECLARE_OK);
    program.kill();
    let program = Program::start(directory.path());
    let mut raw = Raw::channel_to(program.address);
    raw.send(&raw::get(1, "mine", true));
    let expected = "NOT_FOUND - no queue 'mine' in vhost '/'";
    assert_eq!(raw.expect_close(CHANNEL_CLOSE), (404, expected.to_owned()));
}

#[test]
fn sigterm_and_sigint_end_it_in_good_order() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let program = Program::start(directory.path());
        let mut raw = Raw::channel_to(program.address);
        raw.call(&raw::queue_declare(1, signal, raw::DURABLE), QUEUE_DECLARE_OK);
        // Not confirmed, but a stop in good order writes what it has taken.
        raw.send(&raw::publish(1, signal, raw::PERSISTENT, b"kept"));
        raw.call(&raw::queue_declare(1, signal, raw::DURABLE), QUEUE_DECLARE_OK);
        program.signal(signal);
        let (code, text) = raw.expect_close(CONNECTION_CLOSE);
        assert_eq!((code, text.contains("'shutdown'")), (320, true), "{text}");
        raw.send(&raw::method(0, CONNECTION_CLOSE_OK, Fields::default()));
        assert_eq!(program.ended().code(), Some(0));
    }
    let program = Program::start(directory.path());
    let mut raw = Raw::channel_to(program.address);
    for queue in ["TERM", "INT"] {
        let gotten = raw.call(&raw::get(1, queue, true), BASIC_GET_OK);
        let message = raw.content_of(&gotten);
        assert_eq!((&*message.body, message.redelivered), (&b"kept"[..], false));
    }
}
