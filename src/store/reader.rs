//! Brings messages back from segments, given where an index says they lie.
//!
//! Messages that lie near each other are read in one go. Nothing is taken on trust: a record must
//! sum up to what the index says, decode, and be the one of the wanted queue and seq. One that does
//! not is reported with file and offset, and the others come back all the same.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::disk::Disk;
use super::error::StoreError;
use super::index::Place;
use super::record::{BadRecord, Record, Records, Target};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::limits::{MESSAGE_READ_BYTES_MAX, MESSAGE_READ_GAP_MAX};
use crate::message::Message;

/// What came back, and what did not; each by ascending seq.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) messages: Vec<(Seq, Message)>,
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
    read.messages.sort_unstable_by_key(|(seq, _)| *seq);
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
        let target = Target { queue: self.queue, seq: place.seq };
        match bytes.ok_or(Bad::Short).and_then(|bytes| message(bytes, place, target)) {
            Ok(message) => self.read.messages.push((place.seq, message)),
            Err(bad) => {
                let (queue, seq) = (self.queue, place.seq);
                let what = format!("message {seq} of queue {queue}: {}", bad.text());
                let error = StoreError::damaged(self.disk.path(file), place.offset, what);
                self.read.failures.push((place.seq, error));
            }
        }
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

fn message(bytes: &[u8], place: &Place, target: Target) -> Result<Message, Bad> {
    if crc32c::crc32c(bytes) != place.crc {
        return Err(Bad::Sum);
    }
    let mut records = Records::new(bytes);
    match records.next().map_err(Bad::Record)? {
        Some(Record::Enqueue { targets, message })
            if targets.contains(&target)
                && message.body_len() == place.body_len as usize
                && matches!(records.next_raw(), Ok(None)) =>
        {
            Ok(message)
        }
        _ => Err(Bad::Another),
    }
}
