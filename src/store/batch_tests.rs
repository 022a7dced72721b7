//! Records written and read again, whole and damaged.

use super::batch::{Block, RecordBatch};
use super::record;
use super::record::{BadRecord, Record, Records};
use super::samples::{message, queue, run, to};
use crate::id::{QueueId, Seq};
use crate::limits::INLINE_BODY_MAX;
use crate::message::Message;

fn written(block: &Block) -> Vec<u8> {
    let mut pieces = Vec::new();
    block.slices(&mut pieces);
    let bytes = pieces.concat();
    assert_eq!(bytes.len(), block.len());
    bytes
}

fn large() -> Message {
    let body: Vec<u8> = (0..INLINE_BODY_MAX + 9).map(|at| at as u8).collect();
    message(&body)
}

/// One record of each kind, with bodies by reference in between.
fn filled() -> RecordBatch {
    let mut batch = RecordBatch::new();
    batch.enqueue(&large(), &[to(1, 300)]);
    batch.enqueue(&message(b"small"), &[to(1, 301), to(u64::MAX >> 1, u64::MAX)]);
    batch.ack(QueueId(7), [run(1, 1), run(5, 500)]);
    batch.begin_transaction();
    batch.enqueue(&large(), &[to(2, 1)]);
    batch.requeue(QueueId(2), [run(0, 0)]);
    batch.end_transaction();
    batch.purge(QueueId(3), Seq(9), []);
    batch.definition(&queue(4, "/"));
    batch
}

#[test]
fn every_kind_comes_back() {
    let mut batch = filled();
    assert_eq!(batch.records(), 6);
    let bytes = written(batch.complete());
    let mut records = Records::new(&bytes);
    let mut next_raw = || records.next_raw().unwrap().unwrap();
    let mut next = || next_raw().decode().unwrap();
    let Record::Enqueue { targets, message } = next() else { panic!() };
    assert_eq!(targets, [to(1, 300)]);
    assert_eq!(message.body_to_vec(), large().body_to_vec());
    let Record::Enqueue { targets, message } = next() else { panic!() };
    assert_eq!(targets, [to(1, 301), to(u64::MAX >> 1, u64::MAX)]);
    assert_eq!(message.address(), b"\x08exchange\x03key");
    assert_eq!(message.small_body(), Some(&b"small"[..]));
    let Record::Ack { queue: acked, runs } = next() else { panic!() };
    assert_eq!(acked, QueueId(7));
    assert_eq!(runs, [Seq(1)..=Seq(1), Seq(5)..=Seq(500)]);
    let mut parts = next_raw().parts().unwrap();
    assert!(matches!(parts.next(), Ok(Some(Record::Enqueue { .. }))));
    assert!(matches!(parts.next(), Ok(Some(Record::Requeue { .. }))));
    assert!(matches!(parts.next(), Ok(None)));
    let mut next = || next_raw().decode().unwrap();
    let Record::Purge { below, except, .. } = next() else { panic!() };
    assert_eq!((below, except.len()), (Seq(9), 0));
    let Record::Definition(definition) = next() else { panic!() };
    assert_eq!(definition, queue(4, "/"));
    assert!(matches!(records.next(), Ok(None)));
}

#[test]
fn cut_or_flipped_records_never_panic() {
    let bytes = written(filled().complete());
    let read_all = |bytes: &[u8]| {
        let mut records = Records::new(bytes);
        while let Ok(Some(record)) = records.next_raw() {
            let _ = record.decode();
            if let Some(mut parts) = record.parts() {
                while let Ok(Some(_)) = parts.next() {}
            }
        }
    };
    let interesting = |at: &usize| at % 1000 < 60 || bytes.len() - at < 300;
    for at in (0..bytes.len()).filter(interesting) {
        read_all(&bytes[..at]);
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            read_all(&flipped);
        }
    }
}

#[test]
fn what_has_no_effect_leaves_no_record() {
    let mut batch = RecordBatch::new();
    batch.enqueue(&message(b"nowhere"), &[]);
    batch.ack(QueueId(1), []);
    batch.begin_transaction();
    batch.requeue(QueueId(1), []);
    batch.end_transaction();
    assert!(batch.is_empty());
    assert_eq!(batch.records(), 0);
}

#[test]
fn blocks_join_with_bodies_in_their_places() {
    let (mut first, mut second) = (filled(), filled());
    let mut expected = written(first.complete());
    expected.extend(written(second.complete()));
    first.complete().take_from(second.complete());
    assert_eq!(written(first.complete()), expected);
    assert_eq!(first.records(), 12);
    assert!(second.is_empty());
}

#[test]
fn hostile_lengths_are_refused() {
    let refusal = |bytes: &[u8]| Records::new(bytes).next().unwrap_err();
    let truncated = BadRecord::Truncated;
    assert_eq!(refusal(&[record::ACK, 0xff, 0xff, 0xff, 0xff]), truncated);
    assert_eq!(refusal(&[99, 0, 0, 0, 0]), BadRecord::UnknownKind(99));
    assert_eq!(refusal(&[record::CLEAN, 1, 0, 0, 0, 7]), BadRecord::TooLong);
    let endless = [[record::ACK, 11, 0, 0, 0].as_slice(), &[0xff; 11]].concat();
    assert_eq!(refusal(&endless), truncated);
    let many_targets = [record::ENQUEUE, 5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(refusal(&many_targets), truncated);
    let nested = [record::TX, 5, 0, 0, 0, record::TX, 0, 0, 0, 0];
    let mut parts = Records::new(&nested).next_raw().unwrap().unwrap().parts().unwrap();
    assert_eq!(parts.next().unwrap_err(), BadRecord::Misplaced(record::TX));
}
