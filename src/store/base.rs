//! Where a start begins: what the last checkpoint says, read from the catalogue or from a snapshot.

use super::catalogue::CatalogueError;
use super::definitions::Definitions;
use super::entries::{self, Complete, Entry, Meta, Standing};
use super::gap::Gap;
use super::stored_keys::StoredKeys;
use super::sum::Sum;
use crate::id::{CacheId, Lsn, QueueId, SegmentNo};
use hashbrown::HashMap;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) meta: Meta,
    pub(super) definitions: Definitions,
    pub(super) standings: HashMap<QueueId, Standing>,
    pub(super) caches: HashMap<CacheId, StoredKeys>,
    /// The segments before those that are replayed, as far as anything of them lives.
    pub(super) segments: BTreeMap<SegmentNo, Complete>,
    /// Where those of them cannot be read.
    pub(super) gaps: BTreeMap<SegmentNo, Vec<Gap>>,
    /// The journal was safe up to here at least; zero if nobody wrote that down.
    pub(super) safe: Lsn,
}

/// Is passed each entry, and says whether to go on.
type Each<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// The kinds of entries in an order in which each finds what it names.
pub(super) const KINDS: [&[u8]; 13] =
    [b"m", b"j", b"v", b"p", b"x", b"q", b"g", b"b", b"h", b"d", b"t", b"k", b"s"];

impl Base {
    /// Before the first record.
    pub(super) fn empty() -> Self {
        Self {
            meta: Meta {
                format: entries::FORMAT,
                generation: 0,
                replay_from: SegmentNo(1),
                last_lsn: Lsn(0),
                clean: true,
                next_queue: QueueId(1),
                sum: Sum::default(),
            },
            definitions: Definitions::default(),
            standings: HashMap::new(),
            caches: HashMap::new(),
            segments: BTreeMap::new(),
            gaps: BTreeMap::new(),
            safe: Lsn(0),
        }
    }

    /// Reads entries of each of `KINDS` in turn. `None` if no checkpoint ended there.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub(super) fn read(
        mut scan: impl FnMut(&[u8], &mut Each<'_>) -> Result<(), CatalogueError>,
    ) -> Result<Option<Self>, String> {
        let mut base = Self::empty();
        let (mut found, mut wrong) = (false, None);
        let mut sum = Sum::default();
        for kind in KINDS {
            let scanned = scan(kind, &mut |key, value| {
                match entries::read(key, value) {
                    Some(Entry::Meta(meta)) => (base.meta, found) = (meta, true),
                    Some(Entry::Safe(lsn)) => base.safe = lsn,
                    Some(entry) => {
                        sum.add(key, value);
                        base.take(entry);
                    }
                    None => wrong = Some("it holds an entry that cannot be read"),
                }
                wrong.is_none()
            });
            scanned.map_err(|error| error.to_string())?;
            if let Some(wrong) = wrong {
                return Err(wrong.to_owned());
            }
        }
        if found && base.meta.format != entries::FORMAT {
            return Err(format!("it has format version {}", base.meta.format));
        }
        if found && base.meta.sum != sum {
            return Err("some of its entries are not those of its last checkpoint".to_owned());
        }
        Ok(found.then_some(base))
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            // What an unfinished checkpoint left may name what is gone: it is passed over.
            Entry::Definition(definition) => drop(self.definitions.apply(&definition)),
            Entry::Standing(id, part) => {
                let standing = self.standings.entry(id).or_default();
                standing.next_seq = standing.next_seq.max(part.next_seq);
                standing.due = standing.due.min(part.due);
                part.live.runs().for_each(|(first, last)| standing.live.insert(first..=last));
                let redelivered = part.redelivered.runs();
                redelivered.for_each(|(first, last)| standing.redelivered.insert(first..=last));
                standing.returns.extend(part.returns);
            }
            Entry::Keys(id, part) => {
                let keys = self.caches.entry(id).or_default();
                keys.next_number = keys.next_number.max(part.next_number);
                part.entries.into_iter().for_each(|entry| keys.push(entry));
            }
            Entry::Segment(number, complete) => {
                self.segments.insert(number, complete);
            }
            Entry::Gaps(number, gaps) => {
                self.gaps.insert(number, gaps);
            }
            Entry::Meta(_) | Entry::Safe(_) | Entry::Other => {}
        }
    }
}
