//! The messages of a queue by their keys: one lane for each key that has any, waiting or checked
//! out, and which lane may give the next message to whom. Seqs only; the messages are elsewhere.
//!
//! ```text
//!   nothing waits <--> free: anybody may take its first message
//!         ^  ^           |
//!         |  |           v   (lanes that lock)
//!         |  +------> held: only the consumer that has one of its messages may
//!         +---------> held by a get: nobody may
//! ```
//! Free lanes stand in one order: by the age of their first message, or in turn. Each step costs
//! O(log n) of the lanes at most, whatever the number of messages; a lane without messages is not
//! there. Keys are looked up once, when their message becomes known.

use super::super::consumers::ConsumerKey;
use super::line::Line;
use super::seq_map::SeqMap;
use super::slots::Slots;
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Keys for which memory is kept in any case.
const KEPT_MAX: usize = 64;

type LaneId = u32;

/// How lanes share the consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// A lane with a key is one consumer's at a time; the lane whose first message is the oldest
    /// comes first.
    Locking,
    /// Lanes take turns.
    Turns,
}

/// Who has messages of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    Consumer(ConsumerKey),
    Get,
}

/// Where a lane stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Nowhere,
    /// With its rank.
    Free(u64),
    /// With its first seq.
    Held(ConsumerKey, u64),
}

#[derive(Debug)]
struct Lane {
    /// `None` for messages without a key, which lock nothing.
    key: Option<Arc<[u8]>>,
    waiting: Line,
    /// Messages that are checked out.
    out: usize,
    holder: Option<Holder>,
    stand: Stand,
}

/// A message's lane, and whether it waits there, as one number.
#[derive(Clone, Copy)]
struct Place {
    lane: LaneId,
    waits: bool,
}

impl Place {
    fn of(seq: u64, places: &SeqMap) -> Option<Self> {
        let number = places.get(seq)?;
        Some(Self { lane: number >> 1, waits: number & 1 == 1 })
    }

    fn number(self) -> u32 {
        self.lane << 1 | u32::from(self.waits)
    }
}

#[derive(Debug)]
pub(super) struct Lanes {
    sharing: Sharing,
    by_key: HashMap<Arc<[u8]>, LaneId>,
    keyless: Option<LaneId>,
    /// Fewer than 2^31.
    lanes: Slots<Lane>,
    /// Of every message, waiting or checked out.
    places: SeqMap,
    waiting_len: usize,
    /// By rank: the seq of the first message, or the turn.
    free: BTreeSet<(u64, LaneId)>,
    /// By the seq of the first message.
    held: BTreeSet<(ConsumerKey, u64, LaneId)>,
    /// Consumers that may have become able to take from what they hold.
    eager: BTreeSet<ConsumerKey>,
    turns: u64,
}

impl Lanes {
    pub(super) fn new(sharing: Sharing) -> Self {
        Self {
            sharing,
            by_key: HashMap::new(),
            keyless: None,
            lanes: Slots::default(),
            places: SeqMap::default(),
            waiting_len: 0,
            free: BTreeSet::new(),
            held: BTreeSet::new(),
            eager: BTreeSet::new(),
            turns: 0,
        }
    }

    /// Messages that wait.
    pub(super) fn waiting_len(&self) -> usize {
        self.waiting_len
    }

    /// A message waits.
    pub(super) fn insert(&mut self, seq: u64, key: Option<&[u8]>) {
        let id = self.lane_with(key);
        if self.add(seq, id) {
            self.place(id);
        }
    }

    /// The message that anybody may take next.
    pub(super) fn first_free(&self) -> Option<u64> {
        self.free.first().and_then(|(_, id)| self.first_of(*id))
    }

    /// The oldest message that only this consumer may take.
    pub(super) fn first_held(&self, consumer: ConsumerKey) -> Option<u64> {
        let mut from = self.held.range((consumer, 0, 0)..);
        from.next().filter(|(key, ..)| *key == consumer).map(|(_, seq, _)| *seq)
    }

    /// The messages that are taken next if every consumer can take: from each of the first free
    /// lanes equally many, at most `max`.
    pub(super) fn next_free(&self, max: usize) -> impl Iterator<Item = u64> {
        let each = (max / self.free.len().max(1)).max(1);
        let lanes = self.free.iter().map(|(_, id)| *id);
        let lanes = lanes.filter_map(|id| self.lanes.get(id));
        lanes.flat_map(move |lane| lane.waiting.firsts(each)).take(max)
    }

    /// A waiting message is taken: checked out with `holder`, or gone.
    pub(super) fn take(&mut self, seq: u64, holder: Option<Holder>) {
        let Some(id) = self.leave(seq) else { return };
        if self.sharing == Sharing::Turns {
            self.stand(id, Stand::Nowhere);
        }
        match (holder, self.lanes.get_mut(id)) {
            (Some(holder), Some(lane)) => {
                self.places.set(seq, Place { lane: id, waits: false }.number());
                lane.out += 1;
                if self.sharing == Sharing::Locking && lane.key.is_some() {
                    lane.holder = Some(holder);
                }
            }
            _ => self.places.remove(seq),
        }
        self.place(id);
    }

    /// A waiting message is gone without having been taken.
    pub(super) fn forget(&mut self, seq: u64) {
        if let Some(id) = self.leave(seq) {
            self.places.remove(seq);
            self.place(id);
        }
    }

    /// A checked-out message is settled: it waits again, or is gone.
    pub(super) fn settle(&mut self, seq: u64, waits: bool) {
        let place = Place::of(seq, &self.places).filter(|place| !place.waits);
        let Some(Place { lane: id, .. }) = place else { return };
        let Some(lane) = self.lanes.get_mut(id) else { return };
        lane.out -= 1;
        if lane.out == 0 {
            lane.holder = None;
        }
        let is_last = lane.out == 0;
        let is_first = waits && self.add(seq, id);
        if !waits {
            self.places.remove(seq);
        }
        if is_last || is_first {
            self.place(id);
        }
    }

    /// The consumer may be able to take more than before.
    pub(super) fn wake(&mut self, consumer: ConsumerKey) {
        if self.first_held(consumer).is_some() {
            self.eager.insert(consumer);
        }
    }

    /// A consumer that may be able to take from what it holds.
    pub(super) fn first_eager(&self) -> Option<ConsumerKey> {
        self.eager.first().copied()
    }

    /// That consumer cannot, or has nothing to take.
    pub(super) fn calm(&mut self, consumer: ConsumerKey) {
        self.eager.remove(&consumer);
    }

    /// What waits is gone at once; of the others only these are left. The lanes of before are the
    /// caller's to drop.
    pub(super) fn keep(&mut self, out: impl Iterator<Item = u64>) -> Self {
        let mut old = std::mem::replace(self, Self::new(self.sharing));
        self.turns = old.turns;
        let mut moved = HashMap::new();
        for seq in out {
            let place = Place::of(seq, &old.places).filter(|place| !place.waits);
            let Some(Place { lane: before, .. }) = place else { continue };
            if let Some(lane) = old.lanes.remove(before) {
                let (waiting, stand) = (Line::default(), Stand::Nowhere);
                moved.insert(before, self.begin(Lane { waiting, stand, ..lane }));
            }
            let Some(&lane) = moved.get(&before) else { continue };
            self.places.set(seq, Place { lane, waits: false }.number());
        }
        old
    }

    fn lane_with(&mut self, key: Option<&[u8]>) -> LaneId {
        let found = match key {
            Some(key) => self.by_key.get(key).copied(),
            None => self.keyless,
        };
        if let Some(id) = found {
            return id;
        }
        let (key, waiting) = (key.map(Arc::from), Line::default());
        self.begin(Lane { key, waiting, out: 0, holder: None, stand: Stand::Nowhere })
    }

    fn begin(&mut self, lane: Lane) -> LaneId {
        let key = lane.key.clone();
        let id = self.lanes.insert(lane);
        match key {
            Some(key) => drop(self.by_key.insert(key, id)),
            None => self.keyless = Some(id),
        }
        id
    }

    fn first_of(&self, id: LaneId) -> Option<u64> {
        self.lanes.get(id)?.waiting.first()
    }

    /// A message waits in this lane. True if it is the first there.
    fn add(&mut self, seq: u64, id: LaneId) -> bool {
        let Some(lane) = self.lanes.get_mut(id) else { return false };
        self.places.set(seq, Place { lane: id, waits: true }.number());
        lane.waiting.add(seq);
        self.waiting_len += 1;
        lane.waiting.first() == Some(seq)
    }

    /// A message waits no longer. Says where it did, if it did.
    fn leave(&mut self, seq: u64) -> Option<LaneId> {
        let place = Place::of(seq, &self.places).filter(|place| place.waits)?;
        self.lanes.get_mut(place.lane)?.waiting.remove(seq);
        self.waiting_len -= 1;
        Some(place.lane)
    }

    /// Puts a lane where it belongs after something in it has changed.
    fn place(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get(id) else { return };
        let first = lane.waiting.first();
        let stand = match (first, lane.holder) {
            (None, _) | (_, Some(Holder::Get)) => Stand::Nowhere,
            (Some(seq), Some(Holder::Consumer(key))) => Stand::Held(key, seq),
            (Some(seq), None) => match (self.sharing, lane.stand) {
                (Sharing::Locking, _) => Stand::Free(seq),
                (Sharing::Turns, stand @ Stand::Free(_)) => stand,
                (Sharing::Turns, _) => {
                    self.turns += 1;
                    Stand::Free(self.turns)
                }
            },
        };
        let ends = first.is_none() && lane.out == 0;
        self.stand(id, stand);
        if ends && let Some(lane) = self.lanes.remove(id) {
            match lane.key {
                Some(key) => drop(self.by_key.remove(&key)),
                None => self.keyless = None,
            }
            if self.by_key.capacity() > KEPT_MAX && self.by_key.len() * 8 < self.by_key.capacity() {
                self.by_key.shrink_to(KEPT_MAX.max(self.by_key.len() * 2));
            }
        }
    }

    fn stand(&mut self, id: LaneId, stand: Stand) {
        let Some(lane) = self.lanes.get_mut(id) else { return };
        let before = std::mem::replace(&mut lane.stand, stand);
        if before == stand {
            return;
        }
        match before {
            Stand::Nowhere => {}
            Stand::Free(rank) => drop(self.free.remove(&(rank, id))),
            Stand::Held(key, seq) => drop(self.held.remove(&(key, seq, id))),
        }
        match stand {
            Stand::Nowhere => {}
            Stand::Free(rank) => drop(self.free.insert((rank, id))),
            Stand::Held(key, seq) => {
                self.held.insert((key, seq, id));
                self.eager.insert(key);
            }
        }
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
