//! Records on their way to the journal: encoded under a queue's lock, appended in one go.
//!
//! Small contents are copied once, here. The body of a large message goes by reference: `bodies`
//! says at which place in `bytes` it belongs, and the writer hands both to one vectored write.

use super::definition::Definition;
use super::record::{self, CameBack, PREFIX_LEN, Target};
use super::touches::Touches;
use crate::deduplication::KeyEntry;
use crate::id::{CacheId, QueueId, SegmentNo, Seq};
use crate::message::Message;
use crate::time::UnixMillis;
use bytes::Bytes;

/// An encoder of records, reused for one batch after the other.
#[derive(Debug, Default)]
pub struct RecordBatch {
    block: Block,
    transaction: Option<Start>,
}

/// Encoded records, as the journal keeps them until they are written.
#[derive(Debug, Default)]
pub(super) struct Block {
    bytes: Vec<u8>,
    /// Bodies and where in `bytes` each belongs, in order.
    bodies: Vec<(usize, Bytes)>,
    bodies_len: usize,
    records: u64,
    /// What they name.
    touches: Touches,
    /// Those among the records, for the catalogue.
    definitions: Vec<Definition>,
}

/// Where a record began whose length is not known yet.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: usize,
    bodies_len: usize,
}

impl RecordBatch {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One message for all its queues: after a crash it is in all of them or in none. Without a
    /// target there is nothing to remember.
    pub fn enqueue(&mut self, message: &Message, targets: &[Target]) {
        if targets.is_empty() {
            return;
        }
        let start = self.block.begin(record::ENQUEUE);
        let bytes = &mut self.block.bytes;
        put_varint(bytes, targets.len() as u64);
        for target in targets {
            self.block.touches.add(Touches::queue(target.queue));
            let expires = target.due != UnixMillis::NEVER;
            put_varint(bytes, target.queue.0 << 1 | u64::from(expires));
            put_varint(bytes, target.seq.0);
            if expires {
                put_varint(bytes, target.due.0);
            }
        }
        put_varint(bytes, message.body_len() as u64);
        match message.contiguous() {
            Some(content) => bytes.extend_from_slice(content),
            None => {
                bytes.extend_from_slice(&message.stored_head());
                self.block.refer(message.large_body());
            }
        }
        self.end(start);
    }

    /// Messages settled for good, as runs of (first, last) seq.
    pub fn ack(&mut self, queue: QueueId, runs: impl IntoIterator<Item = (Seq, Seq)>) {
        self.runs(record::ACK, queue, runs);
    }

    /// Messages that were delivered and came back: from now on they are redelivered.
    pub fn requeue(&mut self, queue: QueueId, runs: impl IntoIterator<Item = (Seq, Seq)>) {
        self.runs(record::REQUEUE, queue, runs);
    }

    /// As `requeue`, where it is counted: how each of the run came back.
    pub fn returned(&mut self, queue: QueueId, (first, last): (Seq, Seq), came_back: CameBack) {
        let start = self.block.begin(record::RETURNED);
        self.block.touches.add(Touches::queue(queue));
        put_varint(&mut self.block.bytes, queue.0);
        put_varint(&mut self.block.bytes, came_back.times.into());
        put_varint(&mut self.block.bytes, came_back.until.0);
        self.block.put_runs([(first, last)]);
        self.end(start);
    }

    /// Everything below a seq is gone, but not the runs that are checked out.
    pub fn purge(
        &mut self,
        queue: QueueId,
        below: Seq,
        except: impl IntoIterator<Item = (Seq, Seq)>,
    ) {
        let start = self.block.begin(record::PURGE);
        self.block.touches.add(Touches::queue(queue));
        put_varint(&mut self.block.bytes, queue.0);
        put_varint(&mut self.block.bytes, below.0);
        self.block.put_runs(except);
        self.end(start);
    }

    /// What a publish leaves in a cache: belongs in one transaction with its message.
    pub fn key(&mut self, cache: CacheId, entry: &KeyEntry) {
        let start = self.block.begin(record::KEY);
        self.block.touches.add(Touches::cache(cache));
        let bytes = &mut self.block.bytes;
        put_varint(bytes, cache.0);
        put_varint(bytes, entry.number);
        // Of one that stays for good, which is most of them, this is one byte.
        put_varint(bytes, entry.due.0.wrapping_add(1));
        bytes.extend_from_slice(&entry.key.0);
        self.end(start);
    }

    pub fn definition(&mut self, definition: &Definition) {
        let start = self.block.begin(record::DEF);
        self.block.touches.add(Touches::DEFINITIONS);
        self.block.bytes.extend_from_slice(&definition.encode());
        self.end(start);
        self.block.definitions.push(definition.clone());
    }

    /// From here to `end_transaction` everything is one record, with one LSN.
    ///
    /// # Panics
    /// If a transaction is open: they do not nest.
    pub fn begin_transaction(&mut self) {
        assert!(self.transaction.is_none(), "transactions do not nest");
        self.transaction = Some(self.block.begin(record::TX));
    }

    /// Closes the transaction; an empty one leaves no record.
    ///
    /// # Panics
    /// If none is open.
    pub fn end_transaction(&mut self) {
        let open = self.transaction.take();
        let start = open.expect("a transaction that ends has begun");
        if self.block.bytes.len() == start.at + PREFIX_LEN {
            self.block.bytes.truncate(start.at);
        } else {
            self.end(start);
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// Records so far; those of a transaction are one, once it ended.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.block.records
    }

    /// Forgets everything but the buffers.
    pub fn clear(&mut self) {
        self.block.clear();
        self.transaction = None;
    }

    /// A broker begins on a journal that others wrote before it.
    pub(super) fn opened(&mut self) {
        let start = self.block.begin(record::OPENED);
        self.end(start);
    }

    /// A broker stopped, and everything that was out with consumers is accounted for.
    pub(super) fn clean(&mut self) {
        let start = self.block.begin(record::CLEAN);
        self.end(start);
    }

    /// The catalogue is safe in this generation, and these segments hold nothing that lives.
    pub(super) fn checkpoint(&mut self, generation: u64, freed: &[SegmentNo]) {
        let start = self.block.begin(record::CHECKPOINT);
        put_varint(&mut self.block.bytes, generation);
        for number in freed {
            put_varint(&mut self.block.bytes, number.0);
        }
        self.end(start);
    }

    /// The records, for the journal to take.
    pub(super) fn complete(&mut self) -> &mut Block {
        assert!(self.transaction.is_none(), "a batch is appended after its transaction ended");
        &mut self.block
    }

    fn runs(&mut self, kind: u8, queue: QueueId, runs: impl IntoIterator<Item = (Seq, Seq)>) {
        let start = self.block.begin(kind);
        put_varint(&mut self.block.bytes, queue.0);
        if self.block.put_runs(runs) {
            self.block.touches.add(Touches::queue(queue));
            self.end(start);
        } else {
            self.block.bytes.truncate(start.at);
        }
    }

    fn end(&mut self, start: Start) {
        self.block.patch_len(start);
        if self.transaction.is_none() {
            self.block.records += 1;
        }
    }
}

impl Block {
    /// Bytes that these records take on disk.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.bodies_len
    }

    /// Bytes of it that lie in its own buffer.
    pub(super) fn own_len(&self) -> usize {
        self.bytes.len()
    }

    /// Those of them from this place on.
    pub(super) fn own_from(&self, at: usize) -> &[u8] {
        &self.bytes[at..]
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn reserve(&mut self, capacity: usize) {
        self.bytes.reserve(capacity);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// What they name, or more.
    pub(super) fn touches(&self) -> Touches {
        self.touches
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bodies.clear();
        self.bodies_len = 0;
        self.records = 0;
        self.touches = Touches::NONE;
        self.definitions.clear();
    }

    pub(super) fn definitions(&mut self) -> &mut Vec<Definition> {
        &mut self.definitions
    }

    /// Takes over another's records behind its own; the other is empty then.
    pub(super) fn take_from(&mut self, other: &mut Self) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let bodies = other.bodies.drain(..);
        self.bodies.extend(bodies.map(|(place, body)| (at + place, body)));
        self.bodies_len += other.bodies_len;
        self.records += other.records;
        self.touches.add(other.touches);
        other.clear();
    }

    /// The pieces in the order in which they belong on disk.
    pub(super) fn slices<'a>(&'a self, out: &mut Vec<&'a [u8]>) {
        let mut rest = self.bytes.as_slice();
        let mut at = 0;
        for (place, body) in &self.bodies {
            let (before, after) = rest.split_at(place - at);
            if !before.is_empty() {
                out.push(before);
            }
            out.push(body);
            (rest, at) = (after, *place);
        }
        if !rest.is_empty() {
            out.push(rest);
        }
    }

    fn begin(&mut self, kind: u8) -> Start {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, 0, 0, 0, 0]);
        let bodies_len = self.bodies_len;
        Start { at, bodies_len }
    }

    fn patch_len(&mut self, start: Start) {
        let own = self.bytes.len() - start.at - PREFIX_LEN;
        let len = u32::try_from(own + self.bodies_len - start.bodies_len)
            .expect("limits.rs keeps a record far below 4 GiB");
        self.bytes[start.at + 1..start.at + PREFIX_LEN].copy_from_slice(&len.to_le_bytes());
    }

    fn refer(&mut self, pieces: &[Bytes]) {
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            self.bodies.push((self.bytes.len(), piece.clone()));
            self.bodies_len += piece.len();
        }
    }

    /// False if there was no run.
    fn put_runs(&mut self, runs: impl IntoIterator<Item = (Seq, Seq)>) -> bool {
        let before = self.bytes.len();
        for (first, last) in runs {
            let more = last.0.checked_sub(first.0);
            put_varint(&mut self.bytes, first.0);
            put_varint(&mut self.bytes, more.expect("a run ends at or after its first"));
        }
        self.bytes.len() > before
    }
}

/// LEB128: seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
