//! One record, as it lies in a frame's payload.
//!
//! ```text
//! record  = kind u8 | payload length u32 | payload         fixed numbers are little-endian
//! ENQUEUE = targets | target* | body length | address, header and body as in `Message`
//! target  = queue * 2 + expires | seq | due if it expires, in Unix milliseconds
//! ACK     = queue | (first, last - first)*                 runs of seqs that are settled for good
//! REQUEUE = queue | (first, last - first)*                 runs that were delivered and came back
//! RETURNED = queue | times | until | (first, last - first)*   as REQUEUE, how often in all, and
//!                                                          until when they wait, or 0
//! PURGE   = queue | below | (first, last - first)*         all below are gone, but not these runs
//! TX      = record*                                        all or nothing
//! KEY     = cache | number | due + 1, or 0 | key 16       what a publish leaves in a cache
//! DEF     = a `Definition`
//! OPENED, CLEAN = nothing                                  a broker began; one stopped cleanly
//! CHECKPOINT = generation | freed segment*                 the catalogue knows all up to a segment
//! ```
//! All other numbers are LEB128. Writing is in `batch`; this file reads, and never trusts.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::definition::Definition;
use crate::deduplication::{Key, KeyEntry};
use crate::id::{CacheId, QueueId, SegmentNo, Seq};
use crate::message::Message;
use crate::time::UnixMillis;
use std::fmt;
use std::ops::RangeInclusive;

pub(super) const ENQUEUE: u8 = 1;
pub(super) const ACK: u8 = 2;
pub(super) const REQUEUE: u8 = 3;
pub(super) const PURGE: u8 = 4;
pub(super) const TX: u8 = 5;
pub(super) const DEF: u8 = 6;
pub(super) const OPENED: u8 = 7;
pub(super) const CLEAN: u8 = 8;
pub(super) const CHECKPOINT: u8 = 9;
pub(super) const RETURNED: u8 = 10;
pub(super) const KEY: u8 = 11;

/// Kind and payload length.
pub(super) const PREFIX_LEN: usize = 5;

/// One queue that a message goes to, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub queue: QueueId,
    pub seq: Seq,
    /// When the message expires there.
    pub due: UnixMillis,
}

impl Target {
    /// One where the message never expires.
    #[must_use]
    pub fn new(queue: QueueId, seq: Seq) -> Self {
        Self { queue, seq, due: UnixMillis::NEVER }
    }
}

/// How a message came back of which that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CameBack {
    /// How often, this time included.
    pub times: u32,
    /// Until then it waits for its next attempt; `AT_ONCE` if it does not.
    pub until: UnixMillis,
}

impl CameBack {
    pub const AT_ONCE: UnixMillis = UnixMillis(0);
    /// What is known of a seq that a timed queue's message gave up before its time. Nothing comes
    /// back to such a queue, so it says this where others say what did.
    pub const GIVEN_UP: Self = Self { times: 0, until: Self::AT_ONCE };

    /// One that is ready again at once.
    #[must_use]
    pub fn at_once(times: u32) -> Self {
        Self { times, until: Self::AT_ONCE }
    }

    /// Whether it waits, be its time past or not.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.until > Self::AT_ONCE
    }
}

/// Runs of seqs, first and last included.
pub(super) type Runs = Vec<RangeInclusive<Seq>>;

#[derive(Debug)]
pub(super) enum Record {
    Enqueue {
        targets: Vec<Target>,
        message: Message,
    },
    Ack {
        queue: QueueId,
        runs: Runs,
    },
    Requeue {
        queue: QueueId,
        runs: Runs,
    },
    Returned {
        queue: QueueId,
        came_back: CameBack,
        runs: Runs,
    },
    Purge {
        queue: QueueId,
        below: Seq,
        except: Runs,
    },
    Key {
        cache: CacheId,
        entry: KeyEntry,
    },
    Definition(Definition),
    Opened,
    Clean,
    /// The catalogue is safe in this generation; these segments hold nothing that lives.
    Checkpoint {
        generation: u64,
        freed: Vec<SegmentNo>,
    },
}

/// Reads records one after the other.
#[derive(Debug)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    /// Where `rest` begins in the payload, the outermost one for the parts of a transaction.
    at: usize,
    within_transaction: bool,
}

/// A record as it lies there, with nothing but its prefix read. Of a message that is longer than a
/// frame this is what comes before its body.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    /// Where it begins in the payload, the outermost one for a part of a transaction.
    pub(super) at: usize,
    kind: u8,
    /// The whole record, prefix included.
    pub(super) bytes: &'a [u8],
    payload: &'a [u8],
    /// Bytes of it that are not here.
    missing: usize,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// It runs past the end of what holds it, or a number has no end.
    Truncated,
    /// It is longer than what it says.
    TooLong,
    UnknownKind(u8),
    /// Within a transaction, where this kind cannot be.
    Misplaced(u8),
    Content,
    Definition,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a record runs past its end"),
            Self::TooLong => f.write_str("a record has bytes left over"),
            Self::UnknownKind(kind) => {
                write!(f, "a record has kind {kind}, unknown to this version")
            }
            Self::Misplaced(kind) => write!(f, "a transaction holds a record of kind {kind}"),
            Self::Content => f.write_str("a record's content is not a message"),
            Self::Definition => f.write_str("a record's definition cannot be read"),
        }
    }
}

impl std::error::Error for BadRecord {}

impl<'a> Records<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload, at: 0, within_transaction: false }
    }

    /// The records of a transaction, from those on that begin at `at` of the payload.
    pub(super) fn of_transaction(rest: &'a [u8], at: usize) -> Self {
        Self { rest, at, within_transaction: true }
    }

    /// The next record, or `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<Record>, BadRecord> {
        self.next_raw()?.map(|raw| raw.decode()).transpose()
    }

    /// As `next`, without looking into the record.
    #[inline]
    pub(super) fn next_raw(&mut self) -> Result<Option<RawRecord<'a>>, BadRecord> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let truncated = BadRecord::Truncated;
        let (kind, len) = prefix(self.rest).ok_or(truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(PREFIX_LEN + len).ok_or(truncated)?;
        if self.within_transaction && matches!(kind, TX | OPENED | CLEAN | CHECKPOINT) {
            return Err(BadRecord::Misplaced(kind));
        }
        let payload = bytes.get(PREFIX_LEN..).ok_or(truncated)?;
        let raw = RawRecord { at: self.at, kind, bytes, payload, missing: 0 };
        self.rest = rest;
        self.at += bytes.len();
        Ok(Some(raw))
    }
}

impl<'a> RawRecord<'a> {
    /// A single record: a transaction is read by its `parts`.
    pub(super) fn decode(&self) -> Result<Record, BadRecord> {
        decode(self.kind, self.payload)
    }

    /// The records of a transaction; `None` for another kind.
    pub(super) fn parts(&self) -> Option<Records<'a>> {
        let (rest, at) = (self.payload, self.at + PREFIX_LEN);
        (self.kind == TX).then_some(Records::of_transaction(rest, at))
    }

    /// One that was put together of parts: `bytes` are all of it, or all but a body of `missing`
    /// bytes.
    pub(super) fn assembled(kind: u8, bytes: &'a [u8], missing: usize) -> Self {
        let payload = bytes.get(PREFIX_LEN..).unwrap_or_default();
        Self { at: 0, kind, bytes, payload, missing }
    }

    /// Of the whole record, prefix included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.missing
    }

    /// Its body lies elsewhere.
    pub(super) fn lacks_body(&self) -> bool {
        self.missing > 0
    }

    /// Of an ENQUEUE without its body: the targets, and the message's address and header.
    pub(super) fn head(&self) -> Result<(Vec<Target>, &'a [u8]), BadRecord> {
        let mut rest = self.payload;
        let mut targets = Vec::new();
        take_targets(&mut rest, &mut targets)?;
        take_varint(&mut rest)?;
        Ok((targets, rest))
    }

    /// For an ENQUEUE, puts its targets in place of what `targets` held and gives the length of the
    /// message's body, without building the message. `None` for another kind, be it an unknown one.
    #[inline]
    pub(super) fn enqueue(&self, targets: &mut Vec<Target>) -> Result<Option<u32>, BadRecord> {
        if self.kind != ENQUEUE {
            return Ok(None);
        }
        let mut rest = self.payload;
        targets.clear();
        take_targets(&mut rest, targets)?;
        let body_len = take_varint(&mut rest)?;
        if body_len > (rest.len() + self.missing) as u64 {
            return Err(BadRecord::Content);
        }
        u32::try_from(body_len).map(Some).map_err(|_| BadRecord::Content)
    }
}

/// The kind of the record that begins here, and the length of its payload.
#[inline]
pub(super) fn prefix(bytes: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = bytes.split_first()?;
    let len = u32::from_le_bytes(*rest.first_chunk()?);
    Some((*kind, usize::try_from(len).ok()?))
}

/// How much of an ENQUEUE record of `len` bytes precedes its body, given its first bytes.
/// `Truncated` says that more of them are needed.
pub(super) fn enqueue_head_len(first: &[u8], len: usize) -> Result<usize, BadRecord> {
    let mut rest = first.get(PREFIX_LEN..).ok_or(BadRecord::Truncated)?;
    take_targets(&mut rest, &mut Vec::new())?;
    let body_len = usize::try_from(take_varint(&mut rest)?).map_err(|_| BadRecord::Content)?;
    let before_head = first.len() - rest.len();
    let head_len = len.checked_sub(body_len).filter(|head_len| *head_len >= before_head);
    head_len.ok_or(BadRecord::Content)
}

fn decode(kind: u8, payload: &[u8]) -> Result<Record, BadRecord> {
    let mut rest = payload;
    let record = match kind {
        ENQUEUE => {
            let mut targets = Vec::new();
            take_targets(&mut rest, &mut targets)?;
            let body_len = usize::try_from(take_varint(&mut rest)?);
            let body_len = body_len.map_err(|_| BadRecord::Content)?;
            let message = Message::from_stored(rest, body_len).ok_or(BadRecord::Content)?;
            return Ok(Record::Enqueue { targets, message });
        }
        DEF => {
            let definition = Definition::decode(rest).ok_or(BadRecord::Definition)?;
            return Ok(Record::Definition(definition));
        }
        ACK => Record::Ack { queue: QueueId(take_varint(&mut rest)?), runs: take_runs(&mut rest)? },
        REQUEUE => {
            Record::Requeue { queue: QueueId(take_varint(&mut rest)?), runs: take_runs(&mut rest)? }
        }
        RETURNED => Record::Returned {
            queue: QueueId(take_varint(&mut rest)?),
            came_back: CameBack {
                times: u32::try_from(take_varint(&mut rest)?).map_err(|_| BadRecord::Truncated)?,
                until: UnixMillis(take_varint(&mut rest)?),
            },
            runs: take_runs(&mut rest)?,
        },
        PURGE => Record::Purge {
            queue: QueueId(take_varint(&mut rest)?),
            below: Seq(take_varint(&mut rest)?),
            except: take_runs(&mut rest)?,
        },
        KEY => Record::Key { cache: CacheId(take_varint(&mut rest)?), entry: take_key(&mut rest)? },
        OPENED => Record::Opened,
        CLEAN => Record::Clean,
        CHECKPOINT => {
            let generation = take_varint(&mut rest)?;
            let mut freed = Vec::new();
            while !rest.is_empty() {
                freed.push(SegmentNo(take_varint(&mut rest)?));
            }
            Record::Checkpoint { generation, freed }
        }
        unknown => return Err(BadRecord::UnknownKind(unknown)),
    };
    if rest.is_empty() { Ok(record) } else { Err(BadRecord::TooLong) }
}

/// Grows with the bytes that are there, whatever number is announced.
fn take_targets(rest: &mut &[u8], targets: &mut Vec<Target>) -> Result<(), BadRecord> {
    for _ in 0..take_varint(rest)? {
        let (marked, seq) = (take_varint(rest)?, Seq(take_varint(rest)?));
        let mut target = Target::new(QueueId(marked >> 1), seq);
        if marked & 1 == 1 {
            target.due = UnixMillis(take_varint(rest)?);
        }
        targets.push(target);
    }
    Ok(())
}

fn take_key(rest: &mut &[u8]) -> Result<KeyEntry, BadRecord> {
    let number = take_varint(rest)?;
    let due = UnixMillis(take_varint(rest)?.wrapping_sub(1));
    let (key, tail) = rest.split_first_chunk().ok_or(BadRecord::Truncated)?;
    *rest = tail;
    Ok(KeyEntry { number, key: Key(*key), due })
}

fn take_runs(rest: &mut &[u8]) -> Result<Runs, BadRecord> {
    let mut runs = Runs::new();
    while !rest.is_empty() {
        let first = take_varint(rest)?;
        let last = first.checked_add(take_varint(rest)?);
        runs.push(Seq(first)..=Seq(last.ok_or(BadRecord::Truncated)?));
    }
    Ok(runs)
}

#[inline]
pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, BadRecord> {
    if let Some((byte, tail)) = rest.split_first()
        && *byte < 0x80
    {
        *rest = tail;
        return Ok((*byte).into());
    }
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(BadRecord::Truncated)?;
        *rest = tail;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return Err(BadRecord::Truncated);
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(BadRecord::Truncated)
}
