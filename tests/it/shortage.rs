//! Alarms that the server sets by itself, when memory or disk run short, over sockets.

use crate::alarms::{capable_greeting, publish, publish_nothing};
use crate::program::Program;
use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_until};
use leveret::broker::alarm::Alarm;
use leveret::config::ResourceLimit;
use leveret::exception::MethodId;
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::net::SocketAddr;
use std::sync::Arc;

/// A socket that is logged in and wants to be told.
fn capable_socket(address: SocketAddr, heartbeat_s: u16) -> Raw {
    let mut raw = Raw::dial(address);
    raw.send(&capable_greeting(heartbeat_s));
    for reply in [CONNECTION_START, CONNECTION_TUNE, CONNECTION_OPEN_OK, CHANNEL_OPEN_OK] {
        raw.expect(reply);
    }
    raw
}

fn confirming_socket(address: SocketAddr) -> Raw {
    let mut raw = capable_socket(address, 0);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    raw
}

fn expect_reason(raw: &mut Raw, reason: &str) {
    assert_eq!(raw.expect(CONNECTION_BLOCKED).fields().shortstr(), reason);
}

#[test]
fn a_disk_that_fills_up_stops_publishers_and_lets_consumers_drain() {
    const PIPELINED: u64 = 100;
    // Near the limit it is looked at ten times a second.
    let disk = Arc::new(MemoryDisk::new());
    disk.limit_room(50_000_100);
    let broker = TestBroker::on(disk.clone());
    let mut consumer = capable_socket(broker.address, 0);
    consumer.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let mut publisher = confirming_socket(broker.address);
    publisher.call(&publish(b"0"), BASIC_ACK);

    disk.limit_room(49_999_999);
    wait_until("the alarm", || broker.broker.alarms.is_set(Alarm::Disk));
    let pipelined: Vec<_> = (1..=PIPELINED).map(|n| publish(n.to_string().as_bytes())).collect();
    publisher.send(&pipelined.concat());
    expect_reason(&mut publisher, "low on disk");
    consumer.call(&raw::consume(1, "q", false), BASIC_CONSUME_OK);
    let delivered = consumer.delivery();
    consumer.send(&raw::ack(1, delivered.tag, false));
    wait_until("the queue to be empty", || broker.queue("q").counters.unacked.get() == 0);
    assert_eq!((delivered.body, broker.ready("q")), (b"0".to_vec(), 0));

    disk.limit_room(1 << 40);
    publisher.expect(CONNECTION_UNBLOCKED);
    let mut confirmed = 1;
    while confirmed <= PIPELINED {
        let tag = publisher.expect(BASIC_ACK).fields().longlong();
        assert!(tag > confirmed, "{tag} after {confirmed}");
        confirmed = tag;
    }
    for n in 1..=PIPELINED {
        assert_eq!(consumer.delivery().body, n.to_string().as_bytes());
    }
}

#[test]
fn memory_above_its_watermark_blocks_from_the_start_on() {
    let limit = ResourceLimit::Absolute(1);
    let config = Config { memory_high_watermark: limit, ..Config::on_loopback("unused") };
    let start = move || Server::start_on(config, Arc::new(MemoryDisk::new()));
    let broker = TestBroker::run(start).unwrap();
    let mut raw = confirming_socket(broker.address);
    raw.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    raw.send(&[publish_nothing(), publish(b"x"), raw::get(1, "q", true)].concat());
    expect_reason(&mut raw, "low on memory");
    assert_eq!(raw.expect(BASIC_ACK).fields().longlong(), 1);
    // It ends in good order, though nobody answers its close.
    let ended = std::thread::spawn(move || broker.stop());
    assert_eq!(raw.expect_close(CONNECTION_CLOSE).0, 320);
    raw.send(&raw::method(0, CONNECTION_CLOSE_OK, Fields::default()));
    assert_eq!(raw.rest(), [] as [MethodId; 0]);
    ended.join().unwrap().unwrap();
}

/// Publishes, each batch when the one before is confirmed, until told to stop; says how many
/// messages were confirmed by then.
fn fill_until_blocked(publisher: &mut Raw) -> u64 {
    const BATCH: usize = 200;
    let (mut sent, mut confirmed) = (0, 0);
    let batch = publish(&[b'x'; 2000]).repeat(BATCH);
    loop {
        if confirmed == sent {
            publisher.send(&batch);
            sent += BATCH as u64;
        }
        let frame = publisher.frame();
        match frame.method() {
            Some(BASIC_ACK) => confirmed = frame.fields().longlong(),
            Some(CONNECTION_BLOCKED) => return confirmed,
            _ => panic!("{frame:?}"),
        }
    }
}

#[test]
fn the_program_gives_memory_back_once_it_is_drained_and_publishers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rabbitmq.conf");
    std::fs::write(&file, "vm_memory_high_watermark.absolute = 150MB\n").unwrap();
    let arguments = ["--config", file.to_str().unwrap()];
    let data = directory.path().join("data");
    // No file can have this name, so nothing is spilled and memory fills up.
    std::fs::create_dir_all(data.join("spill-1")).unwrap();
    let program = Program::start_with(&data, &arguments);
    let mut publisher = confirming_socket(program.address);
    publisher.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    let confirmed = fill_until_blocked(&mut publisher);
    let mut consumer = capable_socket(program.address, 0);
    consumer.call(&raw::consume(1, "q", true), BASIC_CONSUME_OK);
    (0..confirmed).for_each(|_| drop(consumer.delivery()));
    // Nobody does anything any more, but the broker sees that it has memory again.
    while publisher.frame().method() != Some(CONNECTION_UNBLOCKED) {}
}

#[test]
fn a_blocked_peer_that_is_gone_is_found_by_heartbeats() {
    let broker = TestBroker::start();
    let mut client = capable_socket(broker.address, 1);
    client.call(&raw::queue_declare(1, "q", 0), QUEUE_DECLARE_OK);
    // A disk without a notion of room leaves this one alone.
    broker.broker.alarms.set(Alarm::Disk, true);
    client.send(&publish(b"x"));
    expect_reason(&mut client, "low on disk");
    assert_eq!(broker.broker.connections_len(), 1);
    drop(client);
    wait_until("the connection to end", || broker.broker.connections_len() == 0);
    assert_eq!(broker.broker.alarms.blocked_len(), 0);
}
