//! Keys that a queue and two exchanges remember: which publishes are duplicates is predicted, also
//! behind a crash, from the keys whose records are left.

use super::ledger::Ledger;
use super::workload::KEYS;
use super::{LATE, Publication, UNIQUE, Unique, Way};
use leveret::deduplication::{Key, KeyEntry};
use leveret::id::CacheId;
use leveret::store::Recovered;
use leveret::table::Value;

/// What remembers keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    Queue,
    Fan,
    Late,
}

pub(super) const MEMORIES: [Memory; 3] = [Memory::Queue, Memory::Fan, Memory::Late];

/// A key, and what it came with.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: u8,
    due_ms: u64,
    /// The turn that recorded it, and its message; zero for one that a start has found.
    turn: usize,
    id: u32,
    /// It is in the journal.
    stored: bool,
}

impl Known {
    fn is_same(&self, other: &Self) -> bool {
        (self.key, self.due_ms) == (other.key, other.due_ms)
    }
}

/// What one of them was told.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// All keys since the last start, behind those that it found.
    since: Vec<Known>,
    /// Those that are or were in the journal: what the catalogue forgets may come back with it, if
    /// it is rolled back, as far as there is room for it.
    stored: Vec<Known>,
}

/// The newest of each key, as many as are remembered.
fn remembered(all: &[Known], len: usize) -> Vec<Known> {
    let mut newest: Vec<Known> = Vec::new();
    for known in all {
        newest.retain(|other| other.key != known.key);
        newest.push(*known);
        newest.drain(..newest.len().saturating_sub(len));
    }
    newest
}

/// What the keys make of a publish.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Its exchange leaves it out.
    pub(super) is_dropped: bool,
    /// The queue that remembers does.
    pub(super) is_skipped: bool,
    /// Those whose keys stay if it is accepted.
    new: Vec<Memory>,
    /// Turns of its originals.
    pub(super) originals: Vec<usize>,
}

impl Decision {
    /// Whether that queue does not get it.
    pub(super) fn leaves_out(&self, queue: usize) -> bool {
        self.is_dropped || self.is_skipped && queue == UNIQUE
    }
}

impl Ledger {
    fn rule(&self, memory: Memory) -> Option<Unique> {
        match memory {
            Memory::Queue => self.setup.rules[UNIQUE].unique,
            Memory::Fan => self.setup.fan,
            Memory::Late => self.setup.late,
        }
    }

    fn original(&self, memory: Memory, key: u8) -> Option<Known> {
        let rule = self.rule(memory)?;
        let known = remembered(&self.keys[memory as usize].since, rule.len as usize);
        let now = self.now.unix.0;
        known.into_iter().find(|known| known.key == key && now < known.due_ms)
    }

    /// What becomes of a publish that may go to these queues; `claimed` was decided on before, in
    /// the same commit.
    pub(super) fn decide(
        &self,
        publication: &Publication,
        targets: &[usize],
        claimed: &[(Publication, Decision)],
    ) -> Decision {
        let mut decision = Decision::default();
        let Some(key) = publication.key.filter(|_| !targets.is_empty()) else { return decision };
        let of_exchange = match publication.way {
            Way::Queue(_) => None,
            Way::Fan => Some(Memory::Fan),
            Way::Late(_) => Some(Memory::Late),
        };
        let held = publication.held_until(self.now.unix).is_some();
        let of_queue = (targets.contains(&UNIQUE) && !held).then_some(Memory::Queue);
        for memory in of_exchange.into_iter().chain(of_queue) {
            if self.rule(memory).is_none() {
                continue;
            }
            let same = |(other, decision): &(Publication, Decision)| {
                other.key == Some(key) && decision.new.contains(&memory)
            };
            let original = self.original(memory, key);
            decision.originals.extend(original.filter(|it| it.stored).map(|it| it.turn));
            let is_new = original.is_none() && !claimed.iter().any(same);
            match memory {
                _ if is_new => decision.new.push(memory),
                Memory::Queue => decision.is_skipped = true,
                Memory::Fan | Memory::Late => {
                    return Decision { is_dropped: true, new: Vec::new(), ..decision };
                }
            }
        }
        decision
    }

    /// Remembers the keys of a publish that these queues have taken, or that waits.
    pub(super) fn remember(
        &mut self,
        publication: &Publication,
        decision: &Decision,
        taken: &[usize],
    ) {
        self.stats.duplicates += u64::from(decision.is_dropped || decision.is_skipped);
        let (turn, now) = (self.turn(), self.now.unix.0);
        for memory in &decision.new {
            let (Some(rule), Some(key)) = (self.rule(*memory), publication.key) else { continue };
            let accepted = *memory != Memory::Queue || taken.contains(&UNIQUE);
            if accepted && !taken.is_empty() {
                let due_ms = rule.ttl_ms.map_or(u64::MAX, |ms| now + u64::from(ms));
                let (id, stored) = (publication.id, publication.persistent);
                let known = Known { key, due_ms, turn, id, stored };
                let keys = &mut self.keys[*memory as usize];
                keys.since.push(known);
                keys.stored.extend(stored.then_some(known));
            }
        }
    }

    /// What a start found of keys is what the records behind it say; messages whose keys it found
    /// were there.
    pub(super) fn check_keys(&mut self, recovered: &Recovered) {
        let found = recovered.last_lsn.0;
        for memory in MEMORIES {
            let left = entries(recovered, memory);
            let len = self.rule(memory).map_or(0, |rule| rule.len as usize);
            self.check_memory(memory, left, len, found);
        }
    }

    fn check_memory(&mut self, memory: Memory, left: Vec<KeyEntry>, len: usize, found: u64) {
        let now = self.now.unix.0;
        let Keys { since, mut stored } = std::mem::take(&mut self.keys[memory as usize]);
        let table: Vec<_> = (0..KEYS as u8).map(|key| Key::of(Value::I64(key.into()))).collect();
        let known = |entry: KeyEntry| {
            let key = table.iter().position(|other| *other == Some(entry.key));
            let key = key.expect("a key of ours") as u8;
            Known { key, due_ms: entry.due.0, turn: 0, id: 0, stored: true }
        };
        let left: Vec<_> = left.into_iter().map(known).collect();
        let left = remembered(&left, len);
        let is_left = |known: &Known| left.iter().any(|other| other.is_same(known));
        let is_sure = |known: &Known| self.turns[known.turn].end <= found;
        let about = format!("{memory:?} of {len} behind record {found}: {since:?}, and {left:?}");

        stored.retain(|known| self.turns[known.turn].before < found);
        let sure = stored.iter().take_while(|known| is_sure(known)).count();
        let possible: Vec<_> =
            (sure..=stored.len()).flat_map(|end| remembered(&stored[..end], len)).collect();
        let may = |known: &Known| possible.iter().any(|other| other.is_same(known));
        let strange = left.iter().find(|known| known.due_ms > now && !may(known));
        assert!(strange.is_none(), "{strange:?} is known: {about}");

        let mut safe = Vec::new();
        for known in remembered(&since, len).iter().filter(|known| known.stored) {
            let chains = self.chains_of(known.id);
            let was_found = chains.iter().any(|chain| self.chains[*chain].was_found);
            let must = (is_sure(known) || was_found) && known.due_ms > now;
            assert!(!must || is_left(known), "{known:?} is forgotten: {about}");
            // The message was there too, unless the key was known before.
            let may_be_there = self.turns[known.turn].before < found;
            let same = stored.iter().filter(|other| other.is_same(known)).count();
            safe.extend(chains.into_iter().filter(|_| may_be_there && same == 1 && is_left(known)));
        }
        self.stats.keys_recovered += left.len() as u64;
        stored.retain(|known| is_sure(known) || is_left(known));
        stored.iter_mut().for_each(|known| known.turn = 0);
        safe.into_iter().for_each(|at| self.chains[at].safe = true);
        self.keys[memory as usize] = Keys { since: left, stored };
    }
}

/// The keys that a start has found, the oldest first.
fn entries(recovered: &Recovered, memory: Memory) -> Vec<KeyEntry> {
    let definitions = &recovered.definitions;
    let vhost = definitions.vhost("/");
    let mut exchanges = vhost.into_iter().flat_map(|vhost| vhost.exchanges());
    let mut of_exchange = |name: &str| exchanges.find(|it| it.0 == name)?.1.cache;
    let cache = match memory {
        Memory::Queue => {
            let mut queues = definitions.queues().filter(|(id, _)| !id.is_timed());
            queues
                .find(|(_, queue)| queue.name == super::NAMES[UNIQUE])
                .map(|(id, _)| CacheId(id.0))
        }
        Memory::Fan => of_exchange(super::FAN),
        Memory::Late => of_exchange(LATE),
    };
    let left = cache.and_then(|cache| recovered.caches.get(&cache));
    left.map(|left| left.keys.entries.iter().copied().collect()).unwrap_or_default()
}
