//! What is known of each published message, and what may be found of it.
//!
//! A message is worth one for each queue that it was published to. One that dies in a queue whose
//! dead letters go to two queues is worth half in each of them, and its x-death says so. So
//! whatever moves, the worth of what is there and of what was settled stays the same: more means
//! that a message is in its old place and in a new one, less that it is in neither, or in some of
//! its targets only.

use leveret::message::Message;
use leveret::table::{TableRef, Value};
use leveret::wire::Properties;
use std::collections::{BTreeMap, BTreeSet};

/// What a message is worth in each queue that it was published to.
pub(super) const WHOLE: u64 = 1 << 40;

/// A copy of a message, as it lies in a queue.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    pub(super) id: u32,
    pub(super) queue: usize,
    pub(super) worth: u64,
    /// Queue, reason, count.
    pub(super) deaths: Vec<(String, String, i64)>,
}

impl Copy {
    /// `halving`: the dead letters of that queue go to two queues.
    pub(super) fn new(message: &Message, queue: usize, halving: impl Fn(&str) -> bool) -> Self {
        let body = message.body_to_vec();
        let (id, _) = body.split_first_chunk().expect("a body begins with its number");
        let properties = Properties::check(message.header()).expect("it was checked");
        let deaths = deaths(properties.headers().unwrap_or(TableRef::EMPTY));
        let halvings = deaths.iter().filter(|(queue, ..)| halving(queue));
        let halvings: i64 = halvings.map(|(.., count)| count).sum();
        assert!((0..40).contains(&halvings), "{deaths:?}");
        Self { id: u32::from_be_bytes(*id), queue, worth: WHOLE >> halvings, deaths }
    }
}

fn deaths(headers: TableRef<'_>) -> Vec<(String, String, i64)> {
    let Some(Value::Array(deaths)) = headers.get(b"x-death") else { return Vec::new() };
    let entry = |death: Value<'_>| {
        let Value::Table(death) = death else { panic!("{death:?}") };
        let text = |key: &[u8]| {
            let text = death.get(key).and_then(Value::as_str);
            text.expect("queue and reason are texts").to_owned()
        };
        let count = death.get(b"count").and_then(Value::as_int);
        (text(b"queue"), text(b"reason"), count.expect("a count"))
    };
    deaths.iter().map(entry).collect()
}

/// What is known of one message.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) persistent: bool,
    /// Worth at first: `WHOLE` for each queue.
    pub(super) worth: u64,
    /// It is safe: what a crash leaves has it.
    pub(super) safe: bool,
    /// A queue refused it, and this is the only one that it was published to.
    pub(super) refused_by: Option<usize>,
    /// Something may have dropped it, as the documents say.
    pub(super) droppable: bool,
    /// A refused commit, or a broker that ended, has taken it along.
    pub(super) never: bool,
    /// Worth of what was settled: with the LSN by which that is recorded.
    pub(super) settled: Vec<(u64, u64)>,
    /// How often each queue's copy was rejected.
    pub(super) rejected: BTreeMap<usize, i64>,
}

impl Entry {
    /// What was settled by then.
    fn settled_by(&self, lsn: u64) -> u64 {
        self.settled.iter().filter(|(at, _)| *at <= lsn).map(|(_, worth)| worth).sum()
    }
}

#[derive(Default)]
pub(super) struct Ledger {
    entries: BTreeMap<u32, Entry>,
    pub(super) stats: Stats,
}

/// What the histories came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) crashes: u64,
    pub(super) torn_rounds: u64,
    pub(super) letters: u64,
    pub(super) nacks: u64,
    pub(super) refused_commits: u64,
    pub(super) loads: u64,
    pub(super) checked: u64,
}

impl Stats {
    pub(super) fn plus(self, other: &Self) -> Self {
        Self {
            crashes: self.crashes + other.crashes,
            torn_rounds: self.torn_rounds + other.torn_rounds,
            letters: self.letters + other.letters,
            nacks: self.nacks + other.nacks,
            refused_commits: self.refused_commits + other.refused_commits,
            loads: self.loads + other.loads,
            checked: self.checked + other.checked,
        }
    }
}

impl Ledger {
    pub(super) fn publish(&mut self, entry: Entry) -> u32 {
        let id = u32::try_from(self.entries.len()).expect("few messages");
        self.entries.insert(id, entry);
        id
    }

    pub(super) fn entry(&mut self, id: u32) -> &mut Entry {
        self.entries.get_mut(&id).expect("what is there was published")
    }

    pub(super) fn settled(&mut self, copy: &Copy, lsn: u64) {
        self.entry(copy.id).settled.push((lsn, copy.worth));
    }

    pub(super) fn rejected(&mut self, copy: &Copy) {
        *self.entry(copy.id).rejected.entry(copy.queue).or_default() += 1;
    }

    /// From now on anything of what was published may be gone.
    pub(super) fn drop_any(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.droppable = true);
    }

    /// All of `copies`, and nothing else, is there. What was settled by `lsn` is not, what was
    /// settled later may be: if it is, that is forgotten.
    pub(super) fn check(&mut self, copies: &[Copy], lsn: u64, after_crash: bool, names: &[&str]) {
        self.stats.checked += 1;
        let mut found: BTreeMap<u32, Vec<&Copy>> = BTreeMap::new();
        for copy in copies {
            self.stats.letters += u64::from(!copy.deaths.is_empty());
            found.entry(copy.id).or_default().push(copy);
        }
        for (id, entry) in &mut self.entries {
            let copies = found.remove(id).unwrap_or_default();
            entry.check(*id, &copies, lsn, after_crash, names);
        }
        assert!(found.is_empty(), "never published: {found:?}");
    }
}

impl Entry {
    fn check(&mut self, id: u32, copies: &[&Copy], lsn: u64, after_crash: bool, names: &[&str]) {
        let said = || format!("message {id} {self:?} is {copies:?}, settled by {lsn}");
        let there: u64 = copies.iter().map(|copy| copy.worth).sum();
        let (sure, all) = (self.settled_by(lsn), self.settled_by(u64::MAX));
        assert!(there == 0 || self.persistent, "a transient message is stored: {}", said());
        assert!(there == 0 || !self.never, "what never happened is there: {}", said());
        assert!(there + sure <= self.worth, "in its old place and a new one: {}", said());
        if self.persistent && !self.droppable && !self.never {
            let lost = !self.safe && there + sure == 0;
            assert!(lost || there + all >= self.worth, "in neither place: {}", said());
        }
        if let Some(queue) = self.refused_by {
            let is_there = copies.iter().any(|copy| copy.queue == queue && copy.deaths.is_empty());
            assert!(!is_there, "the queue has refused it: {}", said());
        }
        let places: BTreeSet<_> =
            copies.iter().map(|copy| (copy.queue, format!("{:?}", copy.deaths))).collect();
        assert!(places.len() == copies.len() || self.worth > WHOLE, "twice: {}", said());
        copies.iter().for_each(|copy| self.check_deaths(copy, names));
        if after_crash {
            self.never |= !self.persistent || !self.safe && there + sure == 0;
            self.safe |= there > 0;
            // What came back was not settled.
            let gone = if self.droppable { sure } else { self.worth.saturating_sub(there) };
            self.settled = vec![(0, gone)];
        }
    }

    fn check_deaths(&self, copy: &Copy, names: &[&str]) {
        let rejections: i64 = self.rejected.values().sum();
        for (queue, reason, count) in &copy.deaths {
            let at = names.iter().position(|name| name == queue).expect("a queue of ours");
            let most = match reason.as_str() {
                "rejected" => self.rejected.get(&at).copied().unwrap_or(0),
                // It comes back by itself only after somebody has rejected it.
                _ => 1 + rejections,
            };
            assert!((1..=most).contains(count), "more deaths than happened: {copy:?} {self:?}");
        }
    }
}
