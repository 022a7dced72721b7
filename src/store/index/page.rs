//! One index page as bytes: entries of one queue in one segment.
//!
//! ```text
//! page  = queue | entries | entry* | crc32c of these u32
//! entry = seq - the one before - 1 | offset - the end of the record before
//!       | record length - the one before | head length - the one before | crc32c of the record u32
//! ```
//! Differences are zigzag, so that any entry may follow any other; all numbers are LEB128 but the
//! checksums. An entry of regular traffic takes 8 to 10 bytes. Where pages lie is not known here.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use crate::id::{QueueId, Seq};
use crate::store::batch::put_varint;
use crate::store::record::take_varint;

/// Four differences of a byte or more, and a checksum.
const ENTRY_LEN_MIN: usize = 8;

/// Queue, count and checksum of a page.
const FRAMING_LEN_MAX: usize = 10 + 5 + 4;

/// Where an ENQUEUE record lies that names a queue's seq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    /// As in a `Place`, like the two that follow.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) body_len: u32,
}

/// What a directory knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHead {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) body_bytes: u64,
    /// Where the page begins among the pages of its index.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) count: u32,
}

impl PageHead {
    /// Every seq from first to last is there.
    pub(super) fn is_dense(&self) -> bool {
        self.last.0.wrapping_sub(self.first.0) == u64::from(self.count).wrapping_sub(1)
    }
}

/// A page in the making. It takes entries in any order; a page that is decoded has ascending seqs.
#[derive(Clone, Debug)]
pub(super) struct OpenPage {
    bytes: Vec<u8>,
    previous: Entry,
    first: Seq,
    count: u32,
    body_bytes: u64,
    ascending: bool,
}

impl OpenPage {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            previous: Entry::default(),
            first: Seq(0),
            count: 0,
            body_bytes: 0,
            ascending: true,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, entry: &Entry) {
        if self.count == 0 {
            self.first = entry.seq;
        } else {
            self.ascending &= entry.seq > self.previous.seq;
        }
        put_entry(&mut self.bytes, &self.previous, entry);
        self.previous = *entry;
        self.count += 1;
        self.body_bytes += u64::from(entry.body_len);
    }

    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// The first seq, if they came in order.
    pub(super) fn ascends_from(&self) -> Option<Seq> {
        self.ascending.then_some(self.first)
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Writes the page behind `out`. The entries must have come in order.
    pub(super) fn write(&self, queue: QueueId, out: &mut Vec<u8>) -> PageHead {
        let at = out.len();
        let len_max = self.bytes.len() + FRAMING_LEN_MAX;
        if out.capacity() - at < len_max {
            // By an eighth: a shelf that doubles would be half empty.
            out.reserve_exact(len_max + at / 8);
        }
        put_varint(out, queue.0);
        put_varint(out, u64::from(self.count));
        out.extend_from_slice(&self.bytes);
        let crc = crc32c::crc32c(out.get(at..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
        PageHead {
            first: self.first,
            last: self.previous.seq,
            body_bytes: self.body_bytes,
            offset: at as u64,
            len: u32::try_from(out.len() - at).expect("a page is far below 4 GiB"),
            count: self.count,
        }
    }

    /// The entries by seq; of those with the same seq the one that came first.
    pub(super) fn sorted(&self) -> Vec<Entry> {
        let mut rest = self.bytes.as_slice();
        let entries = take_entries(&mut rest, self.count());
        let mut entries = entries.expect("what this page encoded can be decoded");
        sort(&mut entries);
        entries
    }

    /// Forgets everything but the buffer.
    pub(super) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        *self = Self { bytes, ..Self::new() };
    }
}

/// Sorts by seq and keeps the first of those with the same.
pub(super) fn sort(entries: &mut Vec<Entry>) {
    entries.sort_by_key(|entry| entry.seq);
    entries.dedup_by_key(|entry| entry.seq);
}

/// The entries of a page that is as `head` says, or what is wrong with it.
pub(super) fn decode(
    bytes: &[u8],
    queue: QueueId,
    head: &PageHead,
) -> Result<Vec<Entry>, &'static str> {
    let (mut rest, crc) = bytes.split_last_chunk().ok_or("an index page is too short")?;
    if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
        return Err("the checksum of an index page differs");
    }
    let mut number = || take_varint(&mut rest).ok();
    if number() != Some(queue.0) || number() != Some(u64::from(head.count)) {
        return Err("an index page is not the one that the directory names");
    }
    let entries = take_entries(&mut rest, head.count as usize).filter(|_| rest.is_empty());
    let entries = entries.ok_or("an index page has bad entries")?;
    let ends = entries.first().zip(entries.last());
    let as_named = ends.is_some_and(|(a, b)| (a.seq, b.seq) == (head.first, head.last));
    if !as_named || !entries.is_sorted_by(|a, b| a.seq < b.seq) {
        return Err("an index page has other seqs than the directory says");
    }
    Ok(entries)
}

#[inline]
fn put_entry(out: &mut Vec<u8>, previous: &Entry, entry: &Entry) {
    let differences = [
        entry.seq.0.wrapping_sub(previous.seq.0).wrapping_sub(1),
        entry.offset.wrapping_sub(end(previous)),
        difference(entry.len, previous.len),
        difference(head_len(entry), head_len(previous)),
    ];
    let differences = differences.map(zigzag);
    let crc = entry.crc.to_le_bytes();
    // Regular traffic is one write of eight bytes.
    if let [Some(seq), Some(offset), Some(len), Some(head_len)] = differences.map(single_byte) {
        let [a, b, c, d] = crc;
        out.extend_from_slice(&[seq, offset, len, head_len, a, b, c, d]);
    } else {
        differences.iter().for_each(|number| put_varint(out, *number));
        out.extend_from_slice(&crc);
    }
}

fn single_byte(number: u64) -> Option<u8> {
    u8::try_from(number).ok().filter(|byte| *byte < 0x80)
}

/// Grows with the bytes that are there, whatever number is announced.
fn take_entries(rest: &mut &[u8], count: usize) -> Option<Vec<Entry>> {
    let mut entries = Vec::with_capacity(count.min(rest.len() / ENTRY_LEN_MIN));
    let mut previous = Entry::default();
    for _ in 0..count {
        let mut number = || Some(unzigzag(take_varint(rest).ok()?));
        let seq = previous.seq.0.wrapping_add(1).wrapping_add(number()?);
        let offset = end(&previous).wrapping_add(number()?);
        let len = u64::from(previous.len).wrapping_add(number()?);
        let head_len = u64::from(head_len(&previous)).wrapping_add(number()?);
        let (crc, tail) = rest.split_first_chunk()?;
        *rest = tail;
        previous = Entry {
            seq: Seq(seq),
            offset,
            len: u32::try_from(len).ok()?,
            crc: u32::from_le_bytes(*crc),
            body_len: u32::try_from(len.checked_sub(head_len)?).ok()?,
        };
        entries.push(previous);
    }
    Some(entries)
}

fn end(entry: &Entry) -> u64 {
    entry.offset.wrapping_add(entry.len.into())
}

/// All of the record but the body.
fn head_len(entry: &Entry) -> u32 {
    entry.len.saturating_sub(entry.body_len)
}

fn difference(to: u32, from: u32) -> u64 {
    u64::from(to).wrapping_sub(from.into())
}

/// A difference of either sign as a number that is small if the difference is.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ 0_u64.wrapping_sub(difference >> 63)
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ 0_u64.wrapping_sub(number & 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(queue: u64, entries: &[Entry]) -> (Vec<u8>, PageHead) {
        let mut page = OpenPage::new();
        entries.iter().for_each(|entry| page.push(entry));
        let mut out = Vec::new();
        let head = page.write(QueueId(queue), &mut out);
        (out, head)
    }

    fn regular(count: u64) -> Vec<Entry> {
        let entry = |at: u64| Entry {
            seq: Seq(1000 + at),
            offset: 4096 + at * 300 + at / 64 * 48,
            len: 300,
            crc: crc32c::crc32c(&at.to_le_bytes()),
            body_len: 240,
        };
        (0..count).map(entry).collect()
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let seq = prop_oneof![0..50_u64, any::<u64>(), Just(u64::MAX)];
        let offset = prop_oneof![0..5000_u64, any::<u64>()];
        (seq, offset, any::<u32>(), any::<u32>(), any::<u32>()).prop_map(
            |(seq, offset, len, crc, body_len)| Entry {
                seq: Seq(seq),
                offset,
                len,
                crc,
                body_len: body_len.min(len),
            },
        )
    }

    proptest! {
        #[test]
        fn any_entries_come_back(mut entries in prop::collection::vec(any_entry(), 1..20)) {
            let mut page = OpenPage::new();
            entries.iter().for_each(|entry| page.push(entry));
            sort(&mut entries);
            prop_assert_eq!(page.sorted(), entries.clone());
            let (bytes, head) = written(9, &entries);
            prop_assert_eq!(decode(&bytes, QueueId(9), &head), Ok(entries.clone()));
            let sum: u64 = entries.iter().map(|entry| u64::from(entry.body_len)).sum();
            prop_assert_eq!(head.body_bytes, sum);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let (_, head) = written(0, &regular(3));
            let crc = crc32c::crc32c(&bytes).to_le_bytes();
            let _ = decode(&[bytes, crc.to_vec()].concat(), QueueId(0), &head);
        }
    }

    #[test]
    fn regular_traffic_takes_nine_bytes_an_entry_or_less() {
        let (bytes, head) = written(7, &regular(1024));
        assert!(bytes.len() <= 9 * 1024, "{} bytes", bytes.len());
        assert!(head.is_dense());
        assert!(size_of::<PageHead>() <= 40);
    }

    #[test]
    fn flips_cuts_and_other_pages_are_refused() {
        let (bytes, head) = written(7, &regular(20));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped, QueueId(7), &head).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len], QueueId(7), &head).is_err(), "{len} bytes");
        }
        assert!(decode(&bytes, QueueId(8), &head).is_err());
        for other in [PageHead { count: 19, ..head }, PageHead { last: Seq(1018), ..head }] {
            assert!(decode(&bytes, QueueId(7), &other).is_err());
        }
        let (disordered, head) = written(7, &[regular(2), regular(3)].concat());
        assert!(decode(&disordered, QueueId(7), &head).is_err());
    }
}
