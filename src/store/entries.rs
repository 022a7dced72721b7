//! What the catalogue holds, as keys and values: every definition, where each queue stands, the
//! segments, and how far all of this goes. Only effects of records that are durable get here.
//!
//! ```text
//! m                                   how far: `Meta`
//! j                                   the LSN of a record that the journal holds safely
//! v name                              a vhost
//! x len vhost name                    an exchange: `StoredExchange`
//! q id                                a queue: `StoredQueue`
//! g id segment offset                 a gap for which a queue is held: `Gap`
//! b destination hash                  a binding, with its vhost
//! s len vhost len source hash         the key of a binding, by its source
//! p len vhost len component name      a parameter: its value
//! h id part                           where a queue stands: `Standing`
//! d id range                          keys of a cache: `KeyRange`
//! t number                            a segment that is complete: `Complete`
//! k number                            where a segment cannot be read: its `Gap`s
//! ```
//! Numbers in keys are big-endian, so that they sort. Values are postcard, those of `m` and `j`
//! with their crc32c behind them: no sum covers these.

mod gaps;
mod keys;

pub(super) use gaps::segment_gaps;
pub(super) use keys::keys;

use super::catalogue::{Catalogue, CatalogueError, Change};
use super::definition::{BoundTo, Definition};
use super::definitions::{StoredBinding, StoredExchange, StoredQueue};
use super::gap::Gap;
use super::record::CameBack;
use super::run_set::RunSet;
use super::stored_keys::StoredKeys;
use super::sum::Sum;
use crate::id::{CacheId, Lsn, QueueId, SegmentNo, Seq};
use crate::time::UnixMillis;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Grows with every change of keys or values.
pub(super) const FORMAT: u32 = 3;

/// Runs of a standing that one entry holds; a queue with more holes has several entries.
const RUNS_MAX: usize = 8192;

/// How far the catalogue goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    /// Counts the checkpoints.
    pub(super) generation: u64,
    /// Records from this segment on are not in the catalogue, or not all of them.
    pub(super) replay_from: SegmentNo,
    /// The last record before that segment.
    pub(super) last_lsn: Lsn,
    /// What a clean stop left, up to there.
    pub(super) clean: bool,
    pub(super) next_queue: QueueId,
    /// Of all other entries.
    pub(super) sum: Sum,
}

/// Which of a queue's seqs live. It may name some that never were stored, but none that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub next_seq: Seq,
    /// None of its messages expires before.
    pub due: UnixMillis,
    pub live: RunSet,
    pub redelivered: RunSet,
    /// How messages that live came back, where that is counted. Of a timed queue the seqs that are
    /// given up, the highest of each time: `CameBack::GIVEN_UP`.
    pub returns: BTreeMap<Seq, CameBack>,
}

impl Default for Standing {
    fn default() -> Self {
        let (live, redelivered) = (RunSet::default(), RunSet::default());
        let returns = BTreeMap::new();
        Self { next_seq: Seq(0), due: UnixMillis::NEVER, live, redelivered, returns }
    }
}

impl Standing {
    /// The age of the oldest message that lives.
    pub(super) fn oldest(&self) -> Option<Seq> {
        self.live.runs().map(|(first, _)| Seq(first.age())).min()
    }
}

/// A segment to which nothing is written any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Complete {
    /// Where its last frame ends.
    pub(super) end: u64,
    pub(super) last_lsn: Lsn,
}

/// One entry, read.
#[derive(Debug)]
pub(super) enum Entry {
    Meta(Meta),
    Definition(Definition),
    Standing(QueueId, Standing),
    Keys(CacheId, StoredKeys),
    Segment(SegmentNo, Complete),
    Gaps(SegmentNo, Vec<Gap>),
    Safe(Lsn),
    /// Says nothing that another entry does not say.
    Other,
}

#[derive(Serialize, Deserialize)]
struct Part {
    next_seq: u64,
    due: u64,
    /// Gap to the end of the run before, and length beyond the first, of each run.
    live: Vec<(u64, u64)>,
    redelivered: Vec<(u64, u64)>,
    /// Gap to the seq before, how often it came back, and until when it waits.
    returns: Vec<(u64, u32, u64)>,
}

#[derive(Serialize, Deserialize)]
struct BindingEntry {
    vhost: String,
    binding: StoredBinding,
}

pub(super) fn meta(meta: &Meta) -> Change {
    put_summed(b"m", meta)
}

/// The journal cannot end before this record any more, or a part of it is lost.
pub(super) fn safe(lsn: Lsn) -> Change {
    put_summed(b"j", &lsn)
}

fn put_summed(key: &[u8], value: &impl Serialize) -> Change {
    let (key, value) = put(key.to_vec(), value);
    let summed = value.map(|mut value| {
        value.extend_from_slice(&crc32c::crc32c(&value).to_le_bytes());
        value
    });
    (key, summed)
}

/// A start that began elsewhere than `Meta` says would take what follows for a torn tail.
fn get_summed<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    let (value, crc) = value.split_last_chunk()?;
    let whole = crc32c::crc32c(value) == u32::from_le_bytes(*crc);
    if whole { get(value) } else { None }
}

pub(super) fn segment(number: SegmentNo, complete: Option<&Complete>) -> Change {
    let key = [b"t", &number.0.to_be_bytes()[..]].concat();
    match complete {
        Some(complete) => put(key, complete),
        None => (key, None),
    }
}

/// The entries of a queue's standing, in place of those that are there.
pub(super) fn standing(
    id: QueueId,
    standing: &Standing,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    let prefix = head_key(id);
    let (live, redelivered): (Vec<_>, Vec<_>) =
        (standing.live.runs().collect(), standing.redelivered.runs().collect());
    let returns: Vec<_> = standing.returns.iter().collect();
    let longest = live.len().max(redelivered.len()).max(returns.len());
    let parts = longest.div_ceil(RUNS_MAX).max(1);
    for part in 0..parts {
        let of = |runs: &[(Seq, Seq)]| gaps(runs.iter().skip(part * RUNS_MAX).take(RUNS_MAX));
        let value = Part {
            next_seq: standing.next_seq.0,
            due: standing.due.0,
            live: of(&live),
            redelivered: of(&redelivered),
            returns: counts(returns.iter().skip(part * RUNS_MAX).take(RUNS_MAX)),
        };
        out.push(put(part_key(&prefix, part), &value));
    }
    // Nearly every standing is one entry and was one before.
    let after = part_key(&prefix, parts);
    catalogue.scan(&prefix, &mut |key, _| {
        if key >= after.as_slice() {
            out.push((key.to_vec(), None));
        }
        true
    })
}

/// What a definition changes, given what is there. Applied in order, whole or in part, and applied
/// again, definitions end in the same entries.
pub(super) fn definition(
    definition: &Definition,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    match definition {
        Definition::VhostCreated { name } => out.push(put(vhost_key(name), &())),
        Definition::VhostDeleted { name } => return delete_vhost(name, catalogue, out),
        Definition::ExchangeDeclared { vhost, name, .. } => {
            let key = [exchange_prefix(vhost), name.as_bytes().to_vec()].concat();
            out.extend(StoredExchange::of(definition).map(|exchange| put(key, &exchange)));
        }
        Definition::ExchangeDeleted { vhost, name } => {
            let key = [exchange_prefix(vhost), name.as_bytes().to_vec()].concat();
            let exchange = catalogue.get(&key)?;
            let exchange = exchange.and_then(|value| get::<StoredExchange>(&value));
            if let Some(cache) = exchange.and_then(|exchange| exchange.cache) {
                keys::delete(cache, catalogue, out)?;
            }
            out.push((key, None));
            let source = source_prefix(vhost, name);
            catalogue.scan(&source, &mut |key, binding| {
                out.extend([(key.to_vec(), None), (binding.to_vec(), None)]);
                true
            })?;
            let destination = BoundTo::Exchange(name.clone());
            delete_bindings(&destination_prefix(vhost, &destination), catalogue, out)?;
        }
        Definition::QueueDeclared { id, .. } => {
            out.extend(StoredQueue::of(definition).map(|queue| put(queue_key(*id), &queue)));
        }
        Definition::QueueDeleted { id } => delete_queue(*id, catalogue, out)?,
        Definition::Bound { vhost, .. } => {
            let Some(binding) = StoredBinding::of(definition) else { return Ok(()) };
            let (key, by_source) = binding_keys(vhost, &binding);
            out.push((by_source, Some(key.clone())));
            out.push(put(key, &BindingEntry { vhost: vhost.clone(), binding }));
        }
        Definition::Unbound { vhost, .. } => {
            let Some(binding) = StoredBinding::of(definition) else { return Ok(()) };
            let (key, by_source) = binding_keys(vhost, &binding);
            out.extend([(key, None), (by_source, None)]);
        }
        Definition::ParameterSet { vhost, component, name, value } => {
            out.push(put(parameter_key(vhost, component, name), value));
        }
        Definition::ParameterCleared { vhost, component, name } => {
            out.push((parameter_key(vhost, component, name), None));
        }
        Definition::QueueHeld { id, gap } => out.push(gaps::hold(*id, gap, true)),
        Definition::QueueReleased { id, gap } => out.push(gaps::hold(*id, gap, false)),
    }
    Ok(())
}

fn delete_vhost(
    name: &str,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    out.push((vhost_key(name), None));
    let mut queues = Vec::new();
    catalogue.scan(b"q", &mut |key, value| {
        if get::<StoredQueue>(value).is_some_and(|queue| queue.vhost == name) {
            queues.extend(id_of(key));
        }
        true
    })?;
    for id in queues {
        delete_queue(id, catalogue, out)?;
    }
    let mut caches = Vec::new();
    catalogue.scan(&exchange_prefix(name), &mut |_, value| {
        caches.extend(get::<StoredExchange>(value).and_then(|exchange| exchange.cache));
        true
    })?;
    for id in caches {
        keys::delete(id, catalogue, out)?;
    }
    for prefix in [exchange_prefix(name), with_len(b's', name), with_len(b'p', name)] {
        catalogue.scan(&prefix, &mut |key, value| {
            out.push((key.to_vec(), None));
            if key.first() == Some(&b's') {
                out.push((value.to_vec(), None));
            }
            true
        })?;
    }
    Ok(())
}

fn delete_queue(
    id: QueueId,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    out.push((queue_key(id), None));
    catalogue.scan(&head_key(id), &mut |key, _| {
        out.push((key.to_vec(), None));
        true
    })?;
    gaps::delete_holds(id, catalogue, out)?;
    keys::delete(CacheId(id.0), catalogue, out)?;
    delete_bindings(&destination_prefix("", &BoundTo::Queue(id)), catalogue, out)
}

fn delete_bindings(
    prefix: &[u8],
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    catalogue.scan(prefix, &mut |key, value| {
        out.push((key.to_vec(), None));
        if let Some(entry) = get::<BindingEntry>(value) {
            out.push((binding_keys(&entry.vhost, &entry.binding).1, None));
        }
        true
    })
}

/// Reads an entry; `None` if it is none of ours, or not any more.
pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (kind, rest) = key.split_first()?;
    Some(match kind {
        b'm' => Entry::Meta(get_summed(value)?),
        b'j' => Entry::Safe(get_summed(value)?),
        b'v' => Entry::Definition(Definition::VhostCreated { name: text(rest)? }),
        b'x' => {
            let (vhost, name) = split_len(rest)?;
            let exchange: StoredExchange = get(value)?;
            sound(exchange.declared(text(vhost)?, text(name)?))?
        }
        b'q' => {
            let queue: StoredQueue = get(value)?;
            sound(queue.declared(id_of(key)?))?
        }
        b'b' => {
            let entry: BindingEntry = get(value)?;
            sound(entry.binding.bound(entry.vhost))?
        }
        b'h' => {
            let part: Part = get(value)?;
            let (live, redelivered) = (runs(&part.live)?, runs(&part.redelivered)?);
            let (next_seq, due) = (Seq(part.next_seq), UnixMillis(part.due));
            let returns = counted(&part.returns)?;
            let standing = Standing { next_seq, due, live, redelivered, returns };
            Entry::Standing(id_of(key)?, standing)
        }
        b'd' => Entry::Keys(CacheId(id_of(key)?.0), keys::read(value)?),
        b'g' => gaps::read_hold(key, value)?,
        b't' => Entry::Segment(number_of(rest)?, get(value)?),
        b'k' => Entry::Gaps(number_of(rest)?, get(value)?),
        b'p' => {
            let (vhost, rest) = split_len(rest)?;
            let (component, name) = split_len(rest)?;
            let (vhost, component, name) = (text(vhost)?, text(component)?, text(name)?);
            let value = get(value)?;
            Entry::Definition(Definition::ParameterSet { vhost, component, name, value })
        }
        b's' => Entry::Other,
        _ => return None,
    })
}

fn sound(definition: Definition) -> Option<Entry> {
    definition.is_sound().then_some(Entry::Definition(definition))
}

fn put(key: Vec<u8>, value: &impl Serialize) -> Change {
    let value = postcard::to_allocvec(value);
    (key, Some(value.expect("an entry is plain strings and numbers")))
}

fn get<T: DeserializeOwned>(value: &[u8]) -> Option<T> {
    let (entry, rest) = postcard::take_from_bytes(value).ok()?;
    rest.is_empty().then_some(entry)
}

/// Each part is read by itself, so its first gap counts from zero.
fn gaps<'a>(runs: impl Iterator<Item = &'a (Seq, Seq)>) -> Vec<(u64, u64)> {
    let mut end = 0;
    let gap = |(first, last): &(Seq, Seq)| {
        let gap = first.0 - end;
        end = last.0;
        (gap, last.0 - first.0)
    };
    runs.map(gap).collect()
}

fn runs(gaps: &[(u64, u64)]) -> Option<RunSet> {
    let mut end = 0_u64;
    let mut set = RunSet::default();
    for (gap, more) in gaps {
        let first = end.checked_add(*gap)?;
        end = first.checked_add(*more)?;
        set.insert(Seq(first)..=Seq(end));
    }
    Some(set)
}

fn counts<'a>(counts: impl Iterator<Item = &'a (&'a Seq, &'a CameBack)>) -> Vec<(u64, u32, u64)> {
    let mut before = 0;
    let gap = |(seq, it): &(&Seq, &CameBack)| {
        (seq.0 - std::mem::replace(&mut before, seq.0), it.times, it.until.0)
    };
    counts.map(gap).collect()
}

fn counted(gaps: &[(u64, u32, u64)]) -> Option<BTreeMap<Seq, CameBack>> {
    let mut seq = 0_u64;
    let mut counts = BTreeMap::new();
    for (gap, times, until) in gaps {
        seq = seq.checked_add(*gap)?;
        counts.insert(Seq(seq), CameBack { times: *times, until: UnixMillis(*until) });
    }
    Some(counts)
}

fn vhost_key(name: &str) -> Vec<u8> {
    [b"v", name.as_bytes()].concat()
}

fn exchange_prefix(vhost: &str) -> Vec<u8> {
    with_len(b'x', vhost)
}

fn parameter_key(vhost: &str, component: &str, name: &str) -> Vec<u8> {
    let mut key = with_len(b'p', vhost);
    put_len(&mut key, component);
    key.extend_from_slice(name.as_bytes());
    key
}

fn queue_key(id: QueueId) -> Vec<u8> {
    [b"q", &id.0.to_be_bytes()[..]].concat()
}

fn head_key(id: QueueId) -> Vec<u8> {
    [b"h", &id.0.to_be_bytes()[..]].concat()
}

fn part_key(prefix: &[u8], part: usize) -> Vec<u8> {
    let part = u32::try_from(part).expect("a queue has fewer holes than that");
    [prefix, &part.to_be_bytes()].concat()
}

fn source_prefix(vhost: &str, source: &str) -> Vec<u8> {
    let mut key = with_len(b's', vhost);
    put_len(&mut key, source);
    key
}

fn destination_prefix(vhost: &str, destination: &BoundTo) -> Vec<u8> {
    match destination {
        BoundTo::Queue(id) => [b"bq", &id.0.to_be_bytes()[..]].concat(),
        BoundTo::Exchange(name) => {
            let mut key = b"bx".to_vec();
            put_len(&mut key, vhost);
            put_len(&mut key, name);
            key
        }
    }
}

/// A binding's own key, and the one by its source.
fn binding_keys(vhost: &str, binding: &StoredBinding) -> (Vec<u8>, Vec<u8>) {
    let identity = postcard::to_allocvec(&(vhost, binding));
    let identity = identity.expect("a binding is plain strings and numbers");
    let hash = Sha256::digest(identity);
    let hash = hash.first_chunk::<16>().expect("a hash has 32 octets");
    let key = [destination_prefix(vhost, &binding.destination), hash.to_vec()].concat();
    let by_source = [source_prefix(vhost, &binding.source), hash.to_vec()].concat();
    (key, by_source)
}

fn with_len(kind: u8, name: &str) -> Vec<u8> {
    let mut key = vec![kind];
    put_len(&mut key, name);
    key
}

fn put_len(key: &mut Vec<u8>, name: &str) {
    let len = u16::try_from(name.len()).expect("a name has at most 255 bytes");
    key.extend_from_slice(&len.to_be_bytes());
    key.extend_from_slice(name.as_bytes());
}

fn split_len(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = key.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

fn id_of(key: &[u8]) -> Option<QueueId> {
    key.get(1..)?.first_chunk().copied().map(u64::from_be_bytes).map(QueueId)
}

fn number_of(rest: &[u8]) -> Option<SegmentNo> {
    rest.first_chunk().copied().map(u64::from_be_bytes).map(SegmentNo)
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
