//! A store that has something of everything, and what it comes back as, as text.

use super::record::{CameBack, Target};
use super::samples::{message, queue, run, to, vhost};
use super::{
    BoundTo, Definition, Disk, Durability, Journal, Options, RecordBatch, Recovered, Store, open,
};
use crate::deduplication::{Key, KeyEntry};
use crate::id::{CacheId, QueueId, Seq};
use crate::table::{Table, TableBuilder, Value};
use crate::time::UnixMillis;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// So small that everything crosses segments, frames and pages.
pub(super) fn options(salt: u64) -> Options {
    let (segment_bytes, frame_bytes, page_len) = (4096, 1024, 8);
    Options { segment_bytes, frame_bytes, page_len, ..Options::new(Durability::Fsync, salt) }
}

fn arguments() -> Table {
    TableBuilder::new().put(b"x-max-length", Value::I32(1000)).finish()
}

fn exchange(name: &str, kind: &str) -> Definition {
    Definition::ExchangeDeclared {
        vhost: "/".to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        auto_delete: false,
        internal: kind == "fanout",
        arguments: arguments(),
        cache: (kind == "topic").then_some(CacheId(9)),
    }
}

fn bound(source: &str, destination: BoundTo, key: &[u8]) -> Definition {
    Definition::Bound {
        vhost: "/".to_owned(),
        source: source.to_owned(),
        destination,
        key: key.to_vec(),
        arguments: arguments(),
    }
}

fn key(number: u64, due: UnixMillis) -> KeyEntry {
    let octet = u8::try_from(number).unwrap();
    KeyEntry { number, key: Key([octet; 16]), due }
}

fn parameter(vhost: &str, name: &str, value: &str) -> Definition {
    let [vhost, component, name, value] = [vhost, "policy", name, value].map(str::to_owned);
    Definition::ParameterSet { vhost, component, name, value }
}

fn body(nth: u64) -> Vec<u8> {
    let len = usize::try_from(nth * 37 % 300).unwrap();
    let mut body = format!("message {nth} ").into_bytes();
    body.resize(body.len() + len, b'a' + u8::try_from(nth % 26).unwrap());
    body
}

fn round(journal: &Journal, disk: &dyn Disk, fill: impl FnOnce(&mut RecordBatch)) {
    let mut batch = RecordBatch::new();
    fill(&mut batch);
    journal.append(&mut batch);
    journal.round(disk).unwrap();
}

fn define(batch: &mut RecordBatch) {
    batch.definition(&vhost("/"));
    batch.definition(&vhost("gone"));
    (1..=5).for_each(|id| batch.definition(&queue(id, "/")));
    batch.definition(&exchange("topics", "topic"));
    batch.definition(&exchange("all", "fanout"));
    batch.definition(&exchange("gone", "direct"));
    batch.definition(&bound("topics", BoundTo::Queue(QueueId(1)), b"a.#"));
    batch.definition(&bound("amq.direct", BoundTo::Queue(QueueId(2)), b"key"));
    batch.definition(&bound("topics", BoundTo::Exchange("all".to_owned()), b"*.b"));
    batch.definition(&bound("gone", BoundTo::Queue(QueueId(1)), b""));
    let (vhost, name) = ("/".to_owned(), "gone".to_owned());
    batch.definition(&Definition::ExchangeDeleted { vhost, name });
    batch.definition(&parameter("/", "kept", "{\"max-length\":5}"));
    batch.definition(&parameter("/", "cleared", "{}"));
    batch.definition(&parameter("gone", "kept", "{}"));
    let [vhost, component, name] = ["/", "policy", "cleared"].map(str::to_owned);
    batch.definition(&Definition::ParameterCleared { vhost, component, name });
    batch.definition(&Definition::VhostDeleted { name: "gone".to_owned() });
    batch.definition(&Definition::QueueDeleted { id: QueueId(5) });
}

/// Messages `from` to `to` of queue 1, every fourth of them in queue 2 and 3 as well.
fn publish(journal: &Journal, disk: &dyn Disk, from: u64, up_to: u64) {
    for nth in from..=up_to {
        round(journal, disk, |batch| {
            let mut targets = vec![to(1, nth)];
            if nth % 4 == 0 {
                targets.extend([to(2, nth / 4), to(3, nth / 4)]);
            }
            batch.enqueue(&message(&body(nth)), &targets);
        });
    }
}

fn settle(batch: &mut RecordBatch) {
    batch.ack(QueueId(1), [run(2, 3), run(17, 17)]);
    batch.requeue(QueueId(1), [run(5, 6)]);
    batch.returned(QueueId(1), run(7, 9), CameBack::at_once(2));
    batch.returned(QueueId(1), run(8, 8), CameBack { times: 3, until: UnixMillis(5000) });
    batch.ack(QueueId(1), [run(9, 9)]);
    batch.begin_transaction();
    batch.ack(QueueId(2), [run(1, 2)]);
    batch.enqueue(&message(&b"within a transaction".repeat(100)), &[to(2, 101), to(4, 1)]);
    batch.key(CacheId(2), &key(1, UnixMillis::NEVER));
    batch.key(CacheId(9), &key(5, UnixMillis(77)));
    batch.key(CacheId(8), &key(1, UnixMillis::NEVER));
    batch.end_transaction();
    batch.purge(QueueId(3), Seq(4), [run(2, 2)]);
}

/// Two checkpoints, with segments before and behind them. Queue 4 has one message of many bytes.
/// Does not stop.
pub(super) fn fill(disk: &dyn Disk) -> Store {
    let (store, _) = open(disk, &options(1)).unwrap();
    let journal = store.journal();
    round(journal, disk, define);
    publish(journal, disk, 1, 40);
    round(journal, disk, settle);
    journal.close_clean(disk).unwrap();
    for nth in [2, 3] {
        let (store, recovered) = open(disk, &options(nth)).unwrap();
        store.checkpoint_now(disk, &recovered).unwrap();
        publish(store.journal(), disk, nth * 30, nth * 30 + 9);
        store.journal().close_clean(disk).unwrap();
    }
    let (store, _) = open(disk, &options(4)).unwrap();
    round(store.journal(), disk, |batch| {
        batch.enqueue(&message(&vec![b'L'; 20_000]), &[Target::new(QueueId(4), Seq(2))]);
        batch.ack(QueueId(3), [run(2, 2)]);
        batch.key(CacheId(9), &key(7, UnixMillis::NEVER));
    });
    store
}

/// As `fill`, and stops cleanly.
pub(super) fn fill_and_stop(disk: &dyn Disk) {
    fill(disk).journal().close_clean(disk).unwrap();
}

/// Everything that came back: a line for each definition and message.
pub(super) fn text(disk: &dyn Disk, store: &Store, recovered: &Recovered) -> String {
    let mut out = format!("clean {}\n", recovered.clean);
    for (name, vhost) in recovered.definitions.vhosts() {
        writeln!(out, "vhost {name}").unwrap();
        for (name, exchange) in vhost.exchanges() {
            let super::StoredExchange { kind, auto_delete, internal, arguments, .. } = exchange;
            let arguments = arguments.as_ref().bytes().escape_ascii();
            writeln!(out, "exchange {name} {kind} {auto_delete} {internal} {arguments}").unwrap();
        }
        for (component, name, value) in vhost.parameters() {
            writeln!(out, "parameter {component} {name} {value}").unwrap();
        }
        for binding in vhost.bindings() {
            let destination = match &binding.destination {
                BoundTo::Queue(id) => format!("queue {id}"),
                BoundTo::Exchange(name) => format!("exchange {name}"),
            };
            let (source, key) = (&binding.source, binding.key.escape_ascii());
            let arguments = binding.arguments.as_ref().bytes().escape_ascii();
            writeln!(out, "binding {source} {destination} {key} {arguments}").unwrap();
        }
    }
    let caches: BTreeMap<_, _> = recovered.caches.iter().collect();
    for (id, cache) in caches {
        writeln!(out, "cache {id} next {}", cache.keys.next_number).unwrap();
        for KeyEntry { number, key, due } in &cache.keys.entries {
            writeln!(out, "key {number} {} due {}", key.0[0], due.0).unwrap();
        }
    }
    for (id, queue) in recovered.definitions.queues() {
        let state = &recovered.queues[&id];
        let (vhost, name, next) = (&queue.vhost, &queue.name, state.next_seq);
        writeln!(out, "queue {id} {vhost} {name} {} next {next}", queue.auto_delete).unwrap();
        for (seq, CameBack { times, until }) in &state.returns {
            writeln!(out, "returned {seq} {times} times, waits until {}", until.0).unwrap();
        }
        for it in store.read_all(disk, id, state).unwrap() {
            let body = it.message.body_to_vec();
            let start = body.get(..20).unwrap_or(&body).escape_ascii().to_string();
            let (len, crc) = (body.len(), crc32c::crc32c(&body));
            let mark = if it.redelivered { "redelivered" } else { "new" };
            let (seq, head) = (it.seq, it.message.head().escape_ascii());
            writeln!(out, "message {seq} {mark} {len} bytes {crc:08x} '{start}' {head}").unwrap();
        }
    }
    out
}

pub(super) fn open_text(disk: &dyn Disk) -> String {
    let (store, recovered) = open(disk, &options(9)).unwrap();
    text(disk, &store, &recovered)
}
