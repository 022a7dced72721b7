//! What a clean stop keeps and what it does not, on files; and a disk that fails.

use crate::client::*;
use crate::disk::Gate;
use crate::raw::{self, Fields, Raw};
use crate::support::{TestBroker, wait_until};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

const DURABLE_EXCHANGE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

async fn exchange(channel: &Channel, name: &str, kind: ExchangeKind, durable: bool) {
    let options = ExchangeDeclareOptions { durable, ..DURABLE_EXCHANGE };
    channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.unwrap();
}

async fn restart(broker: TestBroker, directory: &Path) -> (TestBroker, Connection, Channel) {
    broker.stopped().await.unwrap();
    begin(directory).await
}

async fn begin(directory: &Path) -> (TestBroker, Connection, Channel) {
    let broker = TestBroker::in_directory(directory);
    let (connection, channel) = channel(&broker).await;
    channel.confirm_select(Default::default()).await.unwrap();
    (broker, connection, channel)
}

async fn publish_durably(channel: &Channel, exchange: &str, key: &str, body: &str) {
    let confirm = publish_to(channel, exchange, key, body, persistent()).await;
    assert!(confirm.await.unwrap().is_ack());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_survives_and_what_is_transient_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _connection, channel) = begin(directory.path()).await;
    declare(&channel, "durable", durable()).await;
    transient(&channel, "transient").await;
    exchange(&channel, "kept", ExchangeKind::Fanout, true).await;
    exchange(&channel, "lost", ExchangeKind::Fanout, false).await;
    for queue in ["durable", "transient"] {
        publish_durably(&channel, "", queue, "persistent").await;
        publish(&channel, queue, "transient").await;
        bind(&channel, queue, "kept", "").await;
    }
    let (broker, _connection, channel) = restart(broker, directory.path()).await;
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.exchange("kept").is_some() && vhost.exchange("lost").is_none());
    let queues: Vec<_> = vhost.queues().iter().map(|q| q.name.to_string()).collect();
    assert_eq!(queues, ["durable"]);
    assert_eq!(bodies(&channel, "durable").await, ["persistent"]);
    publish_durably(&channel, "kept", "", "through the binding").await;
    assert_eq!(bodies(&channel, "durable").await, ["through the binding"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_of_every_kind_survive() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _connection, channel) = begin(directory.path()).await;
    let kinds = [
        ("d", ExchangeKind::Direct, "key"),
        ("t", ExchangeKind::Topic, "a.*.#"),
        ("h", ExchangeKind::Headers, ""),
    ];
    for (name, kind, key) in kinds {
        exchange(&channel, name, kind, true).await;
        declare(&channel, name, durable()).await;
        let mut arguments = FieldTable::default();
        if name == "h" {
            arguments.insert("colour".into(), AMQPValue::LongString("red".into()));
        }
        let options = QueueBindOptions::default();
        channel.queue_bind(name.into(), name.into(), key.into(), options, arguments).await.unwrap();
    }
    exchange(&channel, "front", ExchangeKind::Fanout, true).await;
    for name in ["d", "t", "h"] {
        let options = ExchangeBindOptions::default();
        let arguments = FieldTable::default();
        channel
            .exchange_bind(name.into(), "front".into(), "".into(), options, arguments)
            .await
            .unwrap();
    }
    let (_broker, _connection, channel) = restart(broker, directory.path()).await;
    let mut headers = FieldTable::default();
    headers.insert("colour".into(), AMQPValue::LongString("red".into()));
    for (key, headers) in [("key", None), ("a.b.c", None), ("", Some(headers))] {
        let properties = headers.map_or_else(persistent, |h| persistent().with_headers(h));
        publish_to(&channel, "front", key, format!("'{key}'"), properties).await;
    }
    for (queue, expected) in [("d", "'key'"), ("t", "'a.b.c'"), ("h", "''")] {
        assert_eq!(bodies(&channel, queue).await, [expected]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_stays_so_and_the_rest_keeps_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _connection, channel) = begin(directory.path()).await;
    declare(&channel, "q", durable()).await;
    for n in 0..10 {
        publish_durably(&channel, "", "q", &n.to_string()).await;
    }
    channel.basic_qos(6, Default::default()).await.unwrap();
    let mut deliveries = Deliveries::start(&channel, "q").await;
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(deliveries.next().await);
    }
    taken[0].ack(Default::default()).await.unwrap();
    taken[3].ack(Default::default()).await.unwrap();
    taken[4].reject(Default::default()).await.unwrap();
    // The queue goes on to 7, 8 and 9, which are out with the consumer as 1, 2, and 5 are.
    for _ in 0..3 {
        deliveries.next().await;
    }
    let (broker, _connection, channel) = restart(broker, directory.path()).await;
    publish_durably(&channel, "", "q", "new").await;
    let mut expected: Vec<_> = ["1", "2", "5", "6", "7", "8"].map(|n| (n, true)).into();
    expected.extend([("9", false), ("new", false)]);
    let expected: Vec<_> =
        expected.iter().map(|(n, again)| (n.as_bytes().to_vec(), *again)).collect();
    assert_eq!(drain(&channel, "q").await, expected);
    let (_broker, _connection, channel) = restart(broker, directory.path()).await;
    assert!(bodies(&channel, "q").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_unbound_or_deleted_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _connection, channel) = begin(directory.path()).await;
    for queue in ["purged", "deleted", "reborn", "unbound"] {
        declare(&channel, queue, durable()).await;
        publish_durably(&channel, "", queue, "old").await;
        bind(&channel, queue, "amq.fanout", "").await;
    }
    exchange(&channel, "x", ExchangeKind::Fanout, true).await;
    channel.queue_purge("purged".into(), Default::default()).await.unwrap();
    publish_durably(&channel, "", "purged", "new").await;
    for queue in ["deleted", "reborn"] {
        channel.queue_delete(queue.into(), Default::default()).await.unwrap();
    }
    declare(&channel, "reborn", durable()).await;
    let table = FieldTable::default();
    channel.queue_unbind("unbound".into(), "amq.fanout".into(), "".into(), table).await.unwrap();
    channel.exchange_delete("x".into(), Default::default()).await.unwrap();
    let (broker, _connection, channel) = restart(broker, directory.path()).await;
    let vhost = broker.broker.vhost("/").unwrap();
    assert!(vhost.queue("deleted").is_none() && vhost.exchange("x").is_none());
    publish_durably(&channel, "amq.fanout", "", "to the bound").await;
    assert_eq!(bodies(&channel, "purged").await, ["new", "to the bound"]);
    assert!(bodies(&channel, "reborn").await.is_empty());
    assert_eq!(bodies(&channel, "unbound").await, ["old"]);
}

#[test]
fn what_was_unbound_in_another_order_of_arguments_stays_so() {
    let (one, other) = (&b"\x01at\x01\x01bt\x01"[..], &b"\x01bt\x01\x01at\x01"[..]);
    let ends = |to| Fields::default().short(0).shortstr(to).shortstr("amq.headers").shortstr("");
    for (bound, unbound) in [(one, other), (other, one)] {
        let directory = tempfile::tempdir().unwrap();
        let broker = TestBroker::in_directory(directory.path());
        let mut raw = Raw::channel(&broker);
        for queue in ["kept", "unbound", "behind"] {
            raw.call(&raw::queue_declare(1, queue, raw::DURABLE), QUEUE_DECLARE_OK);
        }
        let from_fanout = Fields::default().short(0).shortstr("behind").shortstr("amq.fanout");
        let from_fanout = from_fanout.shortstr("").octet(0).longstr(&[]);
        raw.call(&raw::method(1, QUEUE_BIND, from_fanout), QUEUE_BIND_OK);
        for queue in ["kept", "unbound"] {
            let fields = ends(queue).octet(0).longstr(bound);
            raw.call(&raw::method(1, QUEUE_BIND, fields), QUEUE_BIND_OK);
        }
        let fields = ends("unbound").longstr(unbound);
        raw.call(&raw::method(1, QUEUE_UNBIND, fields), QUEUE_UNBIND_OK);
        let fields = |arguments| ends("amq.fanout").octet(0).longstr(arguments);
        raw.call(&raw::method(1, EXCHANGE_BIND, fields(bound)), EXCHANGE_BIND_OK);
        raw.call(&raw::method(1, EXCHANGE_UNBIND, fields(unbound)), EXCHANGE_UNBIND_OK);
        drop(raw);
        broker.stop().unwrap();

        let broker = TestBroker::in_directory(directory.path());
        let mut raw = Raw::channel(&broker);
        raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
        let headers = Fields(vec![0x20, 0]).longstr(one);
        let publish =
            [raw::publish_method(1, "amq.headers", "", 0), raw::content_header(1, 0, &headers.0)];
        raw.call(&publish.concat(), BASIC_ACK);
        assert_eq!(["kept", "unbound", "behind"].map(|queue| broker.ready(queue)), [1, 0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_exclusive_queue_does_not_outlive_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, _connection, channel) = begin(directory.path()).await;
    let options = QueueDeclareOptions { exclusive: true, ..durable() };
    declare(&channel, "mine", options).await;
    declare(&channel, "ours", durable()).await;
    let (broker, ..) = restart(broker, directory.path()).await;
    let queues = broker.broker.vhost("/").unwrap().queues();
    let queues: Vec<_> = queues.iter().map(|q| q.name.to_string()).collect();
    assert_eq!(queues, ["ours"]);
}

#[test]
fn a_stop_tells_clients_why() {
    let broker = TestBroker::start();
    let mut raw = Raw::channel(&broker);
    let client = std::thread::spawn(move || {
        let closed = raw.expect_close(CONNECTION_CLOSE);
        raw.send(&raw::method(0, CONNECTION_CLOSE_OK, Default::default()));
        (closed, raw.rest())
    });
    broker.stop().unwrap();
    let expected = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!(client.join().unwrap(), ((320, expected.to_owned()), vec![]));
}

#[test]
fn a_confirm_leaves_only_after_the_sync() {
    let (gate, disk) = Gate::before_a_disk();
    let broker = TestBroker::on(disk.clone());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    gate.shut();
    let appends = disk.memory.writes();
    raw.send(&raw::publish(1, "q", raw::PERSISTENT, b"x"));
    // The message is in the queue and in the file; a transient one, too, waits for its turn.
    wait_until("the append", || disk.memory.writes() > appends);
    raw.send(&raw::publish(1, "q", raw::TRANSIENT, b"y"));
    wait_until("both messages", || broker.ready("q") == 2);
    raw.stream.set_nonblocking(true).unwrap();
    let early = raw.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(early.kind(), ErrorKind::WouldBlock);
    raw.stream.set_nonblocking(false).unwrap();
    gate.open();
    let mut confirmed = 0;
    while confirmed < 2 {
        confirmed = raw.expect(BASIC_ACK).fields().longlong();
    }
    assert_eq!(confirmed, 2);
}

#[test]
fn a_sync_that_fails_confirms_nothing_and_ends_the_broker() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    disk.fail_sync_after(0);
    raw.send(&raw::publish(1, "q", raw::PERSISTENT, b"x"));
    let rest = raw.rest();
    assert!(!rest.contains(&BASIC_ACK), "confirmed, though the sync failed: {rest:?}");
    let error = broker.ended().unwrap_err().to_string();
    assert!(error.contains("cannot sync segment-"), "{error}");
}

#[test]
fn a_full_disk_confirms_nothing_and_keeps_what_was_confirmed() {
    let disk = Arc::new(MemoryDisk::new());
    let broker = TestBroker::on(disk.clone());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    raw.call(&raw::publish(1, "q", raw::PERSISTENT, b"kept"), BASIC_ACK);
    disk.limit_room(100);
    raw.send(&raw::publish(1, "q", raw::PERSISTENT, &[b'x'; 1000]));
    let rest = raw.rest();
    assert!(!rest.contains(&BASIC_ACK), "confirmed on a full disk: {rest:?}");
    broker.ended().unwrap_err();
    let left = Arc::new(disk.crash(0));
    let broker = TestBroker::on(left);
    let mut raw = Raw::channel(&broker);
    let gotten = raw.call(&raw::get(1, "q", true), BASIC_GET_OK);
    assert_eq!(raw.content_of(&gotten).body, b"kept");
    raw.call(&raw::get(1, "q", true), BASIC_GET_EMPTY);
}

fn quorum(more: Option<(&str, AMQPValue)>) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if let Some((key, value)) = more {
        arguments.insert(key.into(), value);
    }
    arguments
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_queue_keeps_what_no_delivery_mode_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let (broker, connection, channel) = begin(directory.path()).await;
    channel.queue_declare("quorum".into(), durable(), quorum(None)).await.unwrap();
    declare(&channel, "classic", durable()).await;
    for queue in ["quorum", "classic"] {
        let confirm = publish_to(&channel, "", queue, "transient", Default::default()).await;
        assert!(confirm.await.unwrap().is_ack());
    }
    // In a transaction too.
    let sender = connection.create_channel().await.unwrap();
    sender.tx_select().await.unwrap();
    publish(&sender, "quorum", "committed").await;
    sender.tx_commit().await.unwrap();
    let (_broker, _connection, channel) = restart(broker, directory.path()).await;
    assert_eq!(bodies(&channel, "quorum").await, ["transient", "committed"]);
    assert_eq!(bodies(&channel, "classic").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_from_a_quorum_queue_with_a_single_active_consumer_is_refused() {
    let broker = TestBroker::start();
    let (_connection, channel) = channel(&broker).await;
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    channel.queue_declare("q".into(), durable(), quorum(Some(single))).await.unwrap();
    let (code, text) = reply(channel.basic_get("q".into(), Default::default()).await);
    assert_eq!(code, 405);
    assert_eq!(
        text,
        "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get \
         operations are not supported by quorum queues with single active consumer"
    );
}
