//! Lanes one step at a time, and any history of steps against a list that is searched.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CONSUMERS: u32 = 3;

fn consumer(n: u32) -> ConsumerKey {
    ConsumerKey { index: n, generation: n }
}

fn by(n: u32) -> Option<Holder> {
    Some(Holder::Consumer(consumer(n)))
}

fn lanes(sharing: Sharing, messages: &[(u64, &[u8])]) -> Lanes {
    let mut lanes = Lanes::new(sharing);
    messages.iter().for_each(|(seq, key)| lanes.insert(*seq, Some(key)));
    lanes
}

/// Takes everything that is free, for nobody to settle.
fn drained(lanes: &mut Lanes) -> Vec<u64> {
    let mut taken = Vec::new();
    while let Some(seq) = lanes.first_free() {
        lanes.take(seq, None);
        taken.push(seq);
    }
    taken
}

#[test]
fn keys_take_turns_whatever_the_backlog_of_each() {
    let backlog: Vec<_> = (1..=100).map(|seq| (seq, &b"a"[..])).collect();
    let mut lanes = lanes(Sharing::Turns, &backlog);
    for (seq, key) in [(101, b"b"), (102, b"b"), (103, b"c")] {
        lanes.insert(seq, Some(key));
    }
    let taken = drained(&mut lanes);
    assert_eq!(taken[..7], [1, 101, 103, 2, 102, 3, 4]);
    assert_eq!((taken.len(), lanes.lanes.len(), lanes.by_key.len()), (103, 0, 0));
}

#[test]
fn a_key_that_is_held_waits_for_its_consumer_and_others_do_not() {
    let mut lanes = lanes(Sharing::Locking, &[(1, b"a"), (2, b"a"), (3, b"b")]);
    lanes.insert(4, None);
    lanes.insert(5, None);
    lanes.take(1, by(0));
    assert_eq!((lanes.first_free(), lanes.first_held(consumer(0))), (Some(3), Some(2)));
    lanes.take(3, Some(Holder::Get));
    lanes.take(4, by(1));
    assert_eq!((lanes.first_free(), lanes.first_held(consumer(1))), (Some(5), None));
    lanes.settle(1, true);
    assert_eq!((lanes.first_free(), lanes.first_held(consumer(0))), (Some(1), None));
    lanes.settle(3, false);
    assert_eq!(drained(&mut lanes), [1, 2, 5]);
    lanes.settle(4, false);
    assert_eq!((lanes.lanes.len(), lanes.places.is_empty()), (0, true));
}

#[test]
fn a_hundred_thousand_keys_leave_nothing_behind() {
    let mut lanes = Lanes::new(Sharing::Locking);
    for seq in 0..100_000_u64 {
        lanes.insert(seq, Some(&seq.to_be_bytes()));
    }
    assert_eq!(lanes.by_key.len(), 100_000);
    assert_eq!(drained(&mut lanes), Vec::from_iter(0..100_000));
    assert!(lanes.by_key.capacity() <= 2 * KEPT_MAX, "{}", lanes.by_key.capacity());
}

#[test]
fn what_a_purge_leaves_still_holds_its_key() {
    let mut lanes = lanes(Sharing::Locking, &[(1, b"a"), (2, b"a"), (3, b"b")]);
    lanes.take(1, by(0));
    drop(lanes.keep([1, 77].into_iter()));
    assert_eq!((lanes.waiting_len(), lanes.lanes.len()), (0, 1));
    lanes.insert(4, Some(b"a"));
    assert_eq!((lanes.first_free(), lanes.first_held(consumer(0))), (None, Some(4)));
    lanes.settle(1, false);
    assert_eq!(lanes.first_free(), Some(4));
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Option<u8>),
    TakeFree(Option<u32>),
    TakeHeld(u32),
    Settle { nth: usize, waits: bool },
    Forget(usize),
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::option::weighted(0.9, 0..4_u8).prop_map(Step::Insert),
        4 => prop::option::weighted(0.8, 0..=CONSUMERS).prop_map(Step::TakeFree),
        3 => (0..CONSUMERS).prop_map(Step::TakeHeld),
        4 => (any::<usize>(), prop::bool::ANY)
            .prop_map(|(nth, waits)| Step::Settle { nth, waits }),
        1 => any::<usize>().prop_map(Step::Forget),
        1 => Just(Step::Keep),
    ]
}

/// Every message: its key, and who has it.
#[derive(Default)]
struct Naive {
    messages: BTreeMap<u64, (Option<u8>, Option<Holder>)>,
    /// When each key had its last turn.
    served: BTreeMap<Option<u8>, usize>,
    turns: usize,
}

impl Naive {
    fn holder(&self, sharing: Sharing, key: Option<u8>) -> Option<Holder> {
        let locks = sharing == Sharing::Locking && key.is_some();
        let mut of_key = self.messages.values().filter(|(of, _)| *of == key);
        locks.then(|| of_key.find_map(|(_, holder)| *holder)).flatten()
    }

    /// First seqs of the keys that `holder` alone has, or nobody.
    fn firsts(&self, sharing: Sharing, holder: Option<Holder>) -> Vec<u64> {
        let mut firsts = BTreeMap::new();
        for (seq, (key, has)) in &self.messages {
            if has.is_none() && self.holder(sharing, *key) == holder {
                firsts.entry(*key).or_insert(*seq);
            }
        }
        let mut firsts: Vec<_> = firsts.into_values().collect();
        firsts.sort_unstable();
        firsts
    }

    fn nth(&self, nth: usize, out: bool) -> Option<u64> {
        let found = self.messages.iter().filter(|(_, (_, has))| has.is_some() == out);
        let seqs: Vec<_> = found.map(|(seq, _)| *seq).collect();
        seqs.get(nth % seqs.len().max(1)).copied()
    }

    /// Between two turns of a key all others that wait have had one.
    fn check_turn(&mut self, seq: u64) {
        let key = self.messages[&seq].0;
        let last = self.served.get(&key).copied();
        for other in self.firsts(Sharing::Turns, None) {
            let other = self.messages[&other].0;
            let waited = self.served.get(&other).copied().unwrap_or(0);
            assert!(last.is_none_or(|last| waited >= last), "{other:?} waits behind {key:?}");
        }
        self.turns += 1;
        self.served.insert(key, self.turns);
    }
}

fn check(lanes: &Lanes, naive: &Naive) {
    let firsts = naive.firsts(lanes.sharing, None);
    match lanes.sharing {
        Sharing::Locking => assert_eq!(lanes.first_free(), firsts.first().copied()),
        Sharing::Turns => {
            assert!(lanes.first_free().map_or(firsts.is_empty(), |seq| { firsts.contains(&seq) }))
        }
    }
    for n in 0..CONSUMERS {
        let held = naive.firsts(lanes.sharing, by(n)).first().copied();
        assert_eq!(lanes.first_held(consumer(n)), held);
    }
    let waiting = naive.messages.values().filter(|(_, has)| has.is_none()).count();
    assert_eq!(lanes.waiting_len(), waiting);
    let keys: BTreeSet<_> = naive.messages.values().map(|(key, _)| *key).collect();
    assert_eq!(lanes.lanes.len(), keys.len(), "a lane without messages is not there");
    let keyless = usize::from(keys.contains(&None));
    assert_eq!(lanes.by_key.len(), keys.len() - keyless);
}

proptest! {
    #[test]
    fn any_history_leaves_the_lanes_that_a_search_finds(
        locking in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let sharing = if locking { Sharing::Locking } else { Sharing::Turns };
        let (mut lanes, mut naive) = (Lanes::new(sharing), Naive::default());
        let holder_of = |n: Option<u32>| {
            n.map(|n| if n == CONSUMERS { Holder::Get } else { Holder::Consumer(consumer(n)) })
        };
        for (at, step) in steps.into_iter().enumerate() {
            let take = |lanes: &mut Lanes, naive: &mut Naive, seq, holder: Option<Holder>| {
                if sharing == Sharing::Turns {
                    naive.check_turn(seq);
                }
                lanes.take(seq, holder);
                match holder {
                    None => drop(naive.messages.remove(&seq)),
                    Some(holder) => naive.messages.get_mut(&seq).unwrap().1 = Some(holder),
                }
            };
            match step {
                Step::Insert(key) => {
                    let seq = at as u64 + 1;
                    lanes.insert(seq, key.as_ref().map(std::slice::from_ref));
                    // Who comes back has its turn behind those that wait.
                    if !naive.messages.values().any(|(of, has)| *of == key && has.is_none()) {
                        naive.served.insert(key, naive.turns);
                    }
                    naive.messages.insert(seq, (key, None));
                }
                Step::TakeFree(n) => {
                    if let Some(seq) = lanes.first_free() {
                        take(&mut lanes, &mut naive, seq, holder_of(n));
                    }
                }
                Step::TakeHeld(n) => {
                    if let Some(seq) = lanes.first_held(consumer(n)) {
                        take(&mut lanes, &mut naive, seq, holder_of(Some(n)));
                    }
                }
                Step::Settle { nth, waits } => {
                    if let Some(seq) = naive.nth(nth, true) {
                        lanes.settle(seq, waits);
                        let key = naive.messages[&seq].0;
                        let alone =
                            !naive.messages.values().any(|(of, has)| *of == key && has.is_none());
                        if waits {
                            if alone {
                                naive.served.insert(key, naive.turns);
                            }
                            naive.messages.get_mut(&seq).unwrap().1 = None;
                        } else {
                            naive.messages.remove(&seq);
                        }
                    }
                }
                Step::Forget(nth) => {
                    if let Some(seq) = naive.nth(nth, false) {
                        lanes.forget(seq);
                        naive.messages.remove(&seq);
                    }
                }
                Step::Keep => {
                    naive.messages.retain(|_, (_, has)| has.is_some());
                    drop(lanes.keep(naive.messages.keys().copied()));
                }
            }
            check(&lanes, &naive);
        }
    }
}
