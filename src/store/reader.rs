//! Brings messages back from segments, given where an index says they lie.
//!
//! Messages that lie near each other are read in one go, those that are longer than a frame one
//! frame at a time. Nothing is taken on trust: a record must sum up to what the index says, decode,
//! and be the one of the wanted queue and seq. One that does not is reported with file and offset,
//! and the others come back all the same.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::frame::{FRAME_MAGIC, FrameHeader};
use super::index::Place;
use super::long::{self, Long};
use super::on_disk::OnDisk;
use super::record::{BadRecord, Record, Records, Target};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::limits::{FRAME_BYTES, MESSAGE_READ_BYTES_MAX, MESSAGE_READ_GAP_MAX};
use crate::message::Message;
use crate::time::UnixMillis;
use bytes::Bytes;

/// What came back, and what did not; each by ascending seq.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) messages: Vec<OnDisk>,
    pub(super) failures: Vec<(Seq, StoreError)>,
}

/// Reads the messages of a queue that lie at `places`. `file_of` names a segment's file.
pub(super) fn read(
    disk: &dyn Disk,
    file_of: &dyn Fn(SegmentNo) -> String,
    queue: QueueId,
    places: &[Place],
) -> Read {
    let mut sorted = places.to_vec();
    sorted.sort_unstable_by_key(|place| (place.segment, place.offset));
    let mut reader = Reader { disk, queue, buffer: Vec::new(), read: Read::default() };
    for places in sorted.chunk_by(|a, b| a.segment == b.segment) {
        let file = places.first().map(|place| file_of(place.segment)).unwrap_or_default();
        let mut rest = places;
        while !rest.is_empty() {
            let (near, others) = rest.split_at(near(rest));
            reader.stretch(&file, near);
            rest = others;
        }
    }
    let mut read = reader.read;
    read.messages.sort_unstable_by_key(|stored| stored.seq);
    read.failures.sort_unstable_by_key(|(seq, _)| *seq);
    read
}

/// How many of the places, the first at least, are read in one go.
fn near(places: &[Place]) -> usize {
    let Some(first) = places.first() else { return 0 };
    let mut end = end(first);
    let mut count = 1;
    for place in places.get(1..).unwrap_or_default() {
        let reach = end.max(self::end(place));
        if place.offset.saturating_sub(end) >= MESSAGE_READ_GAP_MAX
            || reach - first.offset > MESSAGE_READ_BYTES_MAX as u64
        {
            break;
        }
        end = reach;
        count += 1;
    }
    count
}

fn end(place: &Place) -> u64 {
    place.offset.saturating_add(place.len.into())
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    queue: QueueId,
    buffer: Vec<u8>,
    read: Read,
}

impl Reader<'_> {
    /// Reads what lies near each other.
    fn stretch(&mut self, file: &str, places: &[Place]) {
        let Some(first) = places.first() else { return };
        if first.len as usize > FRAME_BYTES && self.has_frames(file, first) {
            return self.run(file, first);
        }
        let from = first.offset;
        let len = places.iter().map(end).max().unwrap_or(from) - from;
        let failed = self.fill(file, from, len).err();
        match failed {
            None => places.iter().for_each(|place| self.record(file, from, place)),
            // A sector that cannot be read must not cost its neighbours.
            Some(_) if places.len() > 1 => {
                places.chunks(1).for_each(|place| self.stretch(file, place));
            }
            Some(error) => self.read.failures.push((first.seq, error)),
        }
    }

    /// Whether frames of its own begin there, and not a bare record, as in a spill file.
    fn has_frames(&self, file: &str, place: &Place) -> bool {
        let mut first = [0; FRAME_MAGIC.len()];
        let read = self.disk.read_at(file, place.offset, &mut first);
        read.is_ok_and(|read| read == first.len()) && first == FRAME_MAGIC
    }

    /// Fills the buffer, as far as the file goes. An index that lies about a length cannot make it
    /// longer than the file.
    fn fill(&mut self, file: &str, from: u64, len: u64) -> Result<(), StoreError> {
        let left = self.disk.len(file)?.saturating_sub(from);
        let len = usize::try_from(len.min(left)).unwrap_or(usize::MAX);
        self.buffer.resize(len, 0);
        self.buffer.shrink_to(MESSAGE_READ_BYTES_MAX);
        let read = self.disk.read_at(file, from, &mut self.buffer)?;
        self.buffer.truncate(read);
        Ok(())
    }

    /// Takes a message out of the buffer, which begins at `from` of the file.
    fn record(&mut self, file: &str, from: u64, place: &Place) {
        let at = usize::try_from(place.offset - from).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(at..).and_then(|rest| rest.get(..place.len as usize));
        if bytes.is_some_and(|bytes| bytes.starts_with(&FRAME_MAGIC)) {
            return self.run(file, place);
        }
        match bytes.ok_or(Bad::Short).and_then(|bytes| message(bytes, place, self.queue)) {
            Ok(message) => self.read.messages.push(message),
            Err(bad) => self.fail(file, place, place.offset, &bad.text()),
        }
    }

    /// Reads a message that has frames of its own, and checks them one by one: its body stays in
    /// the pieces in which they hold it.
    fn run(&mut self, file: &str, place: &Place) {
        let mut pieces = Vec::new();
        let mut long = None;
        let mut add = |header: &FrameHeader, payload: &[u8]| {
            if long.is_none() {
                long = Long::begin(payload, place.offset, false)?;
            }
            long.as_mut().map_or(Err(BadRecord::TooLong), |long| long.add(header, payload))
        };
        let read = long::read(self.disk, file, place.offset, place.len, &mut |header, payload| {
            let added = add(header, &payload);
            pieces.push(Bytes::from(payload));
            added.map_err(|bad| {
                StoreError::damaged(self.disk.path(file), place.offset, bad.to_string())
            })
        });
        if let Err(error) = read {
            return match error.damaged_at() {
                Some(at) => self.fail(file, place, at, &error.reason()),
                None => self.read.failures.push((place.seq, error)),
            };
        }
        let queue = self.queue;
        let message =
            long.ok_or(Bad::Another).and_then(|long| assemble(&long, pieces, place, queue));
        match message {
            Ok(message) => self.read.messages.push(message),
            Err(bad) => self.fail(file, place, place.offset, &bad.text()),
        }
    }

    fn fail(&mut self, file: &str, place: &Place, offset: u64, why: &str) {
        let what = format!("message {}: {why}", place.seq);
        let error = StoreError::damaged(self.disk.path(file), offset, what);
        self.read.failures.push((place.seq, error));
    }
}

/// Why bytes are not the wanted message.
enum Bad {
    Short,
    Sum,
    Record(BadRecord),
    Another,
}

impl Bad {
    fn text(&self) -> String {
        match self {
            Self::Short => "the file ends before its record does".to_owned(),
            Self::Sum => "the checksum of its record differs".to_owned(),
            Self::Record(bad) => bad.to_string(),
            Self::Another => "another record is in its place".to_owned(),
        }
    }
}

/// The message of a record that was read in pieces, a frame's payload each.
fn assemble(
    long: &Long,
    mut pieces: Vec<Bytes>,
    place: &Place,
    queue: QueueId,
) -> Result<OnDisk, Bad> {
    let run = long.run();
    if (run.len, run.crc) != (place.len, place.crc) {
        return Err(Bad::Sum);
    }
    let record = long.record();
    let (targets, head) = record.head().map_err(Bad::Record)?;
    let mut skip = record.bytes.len();
    for piece in &mut pieces {
        let before_body = skip.min(piece.len());
        drop(piece.split_to(before_body));
        skip -= before_body;
    }
    pieces.retain(|piece| !piece.is_empty());
    let message = Message::from_stored_pieces(head, pieces);
    let message = message.filter(|message| message.body_len() == place.body_len as usize);
    let due = due(&targets, queue, place.seq).filter(|_| long.left() == 0);
    let stored = message.zip(due).map(|(message, due)| OnDisk { seq: place.seq, due, message });
    stored.ok_or(Bad::Another)
}

/// When the message expires in its place; `None` if it is in another.
fn due(targets: &[Target], queue: QueueId, seq: Seq) -> Option<UnixMillis> {
    let target = targets.iter().find(|target| (target.queue, target.seq) == (queue, seq));
    target.map(|target| target.due)
}

fn message(bytes: &[u8], place: &Place, queue: QueueId) -> Result<OnDisk, Bad> {
    if crc32c::crc32c(bytes) != place.crc {
        return Err(Bad::Sum);
    }
    let mut records = Records::new(bytes);
    match records.next().map_err(Bad::Record)? {
        Some(Record::Enqueue { targets, message })
            if message.body_len() == place.body_len as usize
                && matches!(records.next_raw(), Ok(None)) =>
        {
            let due = due(&targets, queue, place.seq).ok_or(Bad::Another)?;
            Ok(OnDisk { seq: place.seq, due, message })
        }
        _ => Err(Bad::Another),
    }
}
