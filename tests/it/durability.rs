//! `x-durability`: what a confirm means is the queue's to say.

use crate::client::*;
use crate::disk::Gate;
use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_until};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret::config::Durability;
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use leveret::{Config, Server};
use std::io::ErrorKind;
use std::sync::Arc;

/// The queue argument, as a table's only field.
fn asking(durability: &str) -> Vec<u8> {
    Fields::default().shortstr("x-durability").octet(b'S').longstr(durability.as_bytes()).0
}

/// A confirming channel 1; queues that are named after their durability, and fanout bindings.
fn with_queues(broker: &TestBroker) -> Raw {
    let mut raw = Raw::channel(broker);
    for name in ["os", "fsync"] {
        let declare = raw::queue_declare_with(1, name, raw::DURABLE, &asking(name));
        raw.call(&declare, QUEUE_DECLARE_OK);
        let bind = Fields::default().short(0).shortstr(name).shortstr("amq.fanout").shortstr("");
        raw.call(&raw::method(1, QUEUE_BIND, bind.octet(0).longstr(&[])), QUEUE_BIND_OK);
    }
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    raw
}

fn publish(raw: &mut Raw, queue: &str, body: &[u8]) {
    raw.send(&raw::publish(1, queue, raw::PERSISTENT, body));
}

fn confirmed(raw: &mut Raw) -> u64 {
    raw.expect(BASIC_ACK).fields().longlong()
}

/// The broker has said nothing more.
fn assert_silent(raw: &Raw) {
    raw.stream.set_nonblocking(true).unwrap();
    let early = raw.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    raw.stream.set_nonblocking(false).unwrap();
}

fn with_default(durability: Durability, disk: Arc<dyn leveret::store::Disk>) -> TestBroker {
    let config = Config { durability, ..Config::on_loopback("unused") };
    TestBroker::run(move || Server::start_on(config, disk)).unwrap()
}

/// Whatever the broker's default, for the queues say what they want.
fn each_waits_for_what_it_asks(default: Durability) {
    let (gate, disk) = Gate::before_a_disk();
    let broker = with_default(default, disk.clone());
    let mut raw = with_queues(&broker);
    gate.shut();
    let syncs = disk.memory.syncs();
    for n in 1..=3 {
        publish(&mut raw, "os", b"x");
        assert_eq!(confirmed(&mut raw), n);
    }
    raw.call(&raw::method(1, QUEUE_PURGE, purge("os")), QUEUE_PURGE_OK);
    let writes = disk.memory.writes();
    publish(&mut raw, "fsync", b"y");
    wait_until("the append", || disk.memory.writes() > writes);
    assert_silent(&raw);
    assert_eq!(disk.memory.syncs(), syncs);
    gate.open();
    assert_eq!(confirmed(&mut raw), 4);
    assert!(disk.memory.syncs() > syncs);
}

fn purge(queue: &str) -> Fields {
    Fields::default().short(0).shortstr(queue).octet(0)
}

#[test]
fn a_confirm_waits_for_the_sync_if_its_queue_asks_for_that() {
    each_waits_for_what_it_asks(Durability::Fsync);
}

#[test]
fn it_does_so_also_if_the_broker_by_itself_would_not_wait() {
    each_waits_for_what_it_asks(Durability::Os);
}

#[test]
fn a_message_for_both_waits_for_the_sync_and_so_does_what_follows_it() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk.clone());
    let mut raw = with_queues(&broker);
    gate.shut();
    let writes = disk.memory.writes();
    let mut message = raw::publish_method(1, "amq.fanout", "", 0);
    message.extend(raw::content_header(1, 4, raw::PERSISTENT));
    message.extend(raw::frame(3, 1, b"both"));
    raw.send(&message);
    wait_until("the append", || disk.memory.writes() > writes);
    publish(&mut raw, "os", b"behind");
    wait_until("both messages", || broker.ready("os") == 2);
    assert_silent(&raw);
    gate.open();
    while confirmed(&mut raw) < 2 {}
}

#[test]
fn on_a_transient_queue_the_argument_has_no_effect() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk);
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare_with(1, "q", 0, &asking("fsync")), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    gate.shut();
    publish(&mut raw, "q", b"x");
    assert_eq!(confirmed(&mut raw), 1);
    gate.open();
}

/// Rounds end anywhere between the records of a turn: nobody may wait for a sync that no one asked
/// for.
#[test]
fn a_mixture_of_both_is_confirmed_to_its_end() {
    let broker = TestBroker::start();
    let mut raw = with_queues(&broker);
    raw.call(&raw::channel_open(2), CHANNEL_OPEN_OK);
    raw.call(&raw::confirm_select(2), CONFIRM_SELECT_OK);
    let mut both = raw::publish_method(1, "amq.fanout", "", 0);
    both.extend(raw::content_header(1, 0, raw::PERSISTENT));
    let [os, fsync] = ["os", "fsync"].map(|name| raw::publish(1, name, raw::PERSISTENT, b"x"));
    let other = raw::publish(2, "os", raw::PERSISTENT, b"x");
    let transient = raw::publish(2, "fsync", raw::TRANSIENT, b"x");
    let parts = [&fsync, &other, &os, &both, &transient, &os, &fsync, &other];
    let mut published = [0, 0];
    let mut confirmed = [0, 0];
    for turn in 0..300_usize {
        // The last of a turn asks for no sync; those before it may have.
        let some = (0..turn % 7).map(|n| parts[(turn + n) % 8]);
        for publish in some.chain([&os, &other]) {
            published[usize::from(publish[2]) - 1] += 1;
            raw.send(publish);
        }
        while confirmed != published {
            let frame = raw.expect(BASIC_ACK);
            confirmed[usize::from(frame.channel) - 1] = frame.fields().longlong();
        }
    }
}

#[test]
fn a_commit_waits_for_the_sync_if_one_of_its_queues_asks_for_that() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk.clone());
    drop(with_queues(&broker));
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::method(1, TX_SELECT, Fields::default()), TX_SELECT_OK);
    let commit = raw::method(1, TX_COMMIT, Fields::default());
    gate.shut();
    publish(&mut raw, "os", b"x");
    raw.call(&commit, TX_COMMIT_OK);
    // Acks count as publishes do.
    let gotten = raw.call(&raw::get(1, "os", false), BASIC_GET_OK);
    raw.content_of(&gotten);
    raw.send(&raw::method(1, BASIC_ACK, Fields::default().longlong(1).octet(0)));
    raw.call(&commit, TX_COMMIT_OK);
    let writes = disk.memory.writes();
    publish(&mut raw, "os", b"x");
    publish(&mut raw, "fsync", b"y");
    raw.send(&commit);
    wait_until("the append", || disk.memory.writes() > writes);
    assert_silent(&raw);
    gate.open();
    raw.expect(TX_COMMIT_OK);
}

#[test]
fn a_power_loss_takes_at_most_what_no_sync_confirmed() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let mut raw = with_queues(&broker);
    publish(&mut raw, "os", b"old");
    confirmed(&mut raw);
    publish(&mut raw, "fsync", b"kept");
    confirmed(&mut raw);
    publish(&mut raw, "os", b"new");
    confirmed(&mut raw);
    let mut counts = Vec::new();
    for seed in 0..20 {
        let after = TestBroker::on(Arc::new(disk.crash(seed)));
        assert_eq!(after.ready("fsync"), 1);
        counts.push(after.ready("os"));
        assert_eq!(after.queue("os").durability(), Durability::Os);
        assert_eq!(after.queue("fsync").durability(), Durability::Fsync);
    }
    // The sync for the other queue covers what came before it.
    assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&1), Some(&2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_argument_is_checked_and_belongs_to_what_a_queue_is() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (connection, mut channel) = channel(&broker).await;
    let place = "invalid arg 'x-durability' for queue 'q' in vhost '/': ";
    let word = |word: &str| AMQPValue::LongString(word.into());
    for (value, reason) in [
        (word("disk"), "\"unsupported durability 'disk'\""),
        (AMQPValue::LongInt(1), "{unacceptable_type,signedint}"),
    ] {
        let refused = declare_with(&channel, Some(value)).await;
        assert_eq!(reply(refused), (406, format!("PRECONDITION_FAILED - {place}{reason}")));
        channel = connection.create_channel().await.unwrap();
    }
    declare_with(&channel, Some(word("os"))).await.unwrap();
    broker.stopped().await.unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (connection, mut channel) = crate::client::channel(&broker).await;
    declare_with(&channel, Some(word("os"))).await.unwrap();
    let place = "inequivalent arg 'x-durability' for queue 'q' in vhost '/': received ";
    for (value, difference) in [
        (Some(word("fsync")), "'fsync' but current is 'os'"),
        (None, "none but current is the value 'os' of type 'longstr'"),
    ] {
        let refused = declare_with(&channel, value).await;
        assert_eq!(reply(refused), (406, format!("PRECONDITION_FAILED - {place}{difference}")));
        channel = connection.create_channel().await.unwrap();
    }
    assert_eq!(broker.queue("q").durability(), Durability::Os);
}

async fn declare_with(
    channel: &lapin::Channel,
    durability: Option<AMQPValue>,
) -> lapin::Result<lapin::Queue> {
    let mut arguments = FieldTable::default();
    if let Some(value) = durability {
        arguments.insert("x-durability".into(), value);
    }
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("q".into(), options, arguments).await
}
