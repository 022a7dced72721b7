//! What a cache remembers, for how long, and what a call costs.

use super::super::key_map::STEPS;
use super::*;
use crate::limits::DEDUPLICATION_BYTES_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

fn key(n: u8) -> Key {
    Key([n; 16])
}

fn stored(cache: &Cache) -> Vec<KeyEntry> {
    let mut found = Vec::new();
    assert_eq!(cache.stored_part(0..u64::MAX, usize::MAX, &mut found), None);
    found
}

/// Publishes a key; says whether it was new.
fn publish(cache: &mut Cache, n: u8, due: u64, now: u64, stored: bool) -> bool {
    let (now, due) = (UnixMillis(now), UnixMillis(due));
    let is_new = cache.find(&key(n), now).is_none();
    if is_new {
        cache.remember(key(n), due, now, stored, &Arc::default());
    }
    is_new
}

#[test]
fn a_duplicate_names_the_record_of_the_first() {
    let mut cache = Cache::new(2);
    cache.remember(key(1), UnixMillis::NEVER, UnixMillis(0), true, &Arc::default());
    assert_eq!(cache.find(&key(1), UnixMillis(9)), Some(Original::default()));
    let original = Original { lsn: Lsn(7), durability: Durability::Fsync };
    cache.appended(&key(1), original);
    assert_eq!(cache.find(&key(1), UnixMillis(9)), Some(original));
    assert_eq!(cache.find(&key(2), UnixMillis(9)), None);
}

#[test]
fn keys_that_come_again_and_again_take_no_more_room() {
    let mut cache = Cache::new(10);
    publish(&mut cache, 0, u64::MAX, 0, false);
    for now in 0..100_000 {
        assert!(publish(&mut cache, 1 + (now % 3) as u8, now + 1, now, false));
        assert!(cache.order.len() <= 2 * 10);
    }
    assert!(!publish(&mut cache, 0, u64::MAX, 100_000, false));
}

#[test]
fn a_key_outlasts_as_many_others_as_there_is_room_for() {
    let mut cache = Cache::new(4);
    (1..=2).for_each(|n| assert!(publish(&mut cache, n, u64::MAX, 0, true)));
    assert!(cache.outlasts(&key(1), 2) && !cache.outlasts(&key(1), 3));
    (3..=4).for_each(|n| assert!(publish(&mut cache, n, u64::MAX, 0, true)));
    assert!(!publish(&mut cache, 1, u64::MAX, 0, true));
    assert!(publish(&mut cache, 5, u64::MAX, 0, true));
    assert!(publish(&mut cache, 1, u64::MAX, 0, true));
    assert!(!cache.outlasts(&key(2), 0));
}

#[test]
fn keys_that_are_too_old_at_once_go_a_few_at_a_time() {
    let (mut cache, budget) = (Cache::new(20_000), Arc::default());
    let number = |n: u64| Key((u128::from(n)).to_be_bytes());
    for n in 0..20_000 {
        cache.remember(number(n), UnixMillis(10), UnixMillis(0), true, &budget);
    }
    let mut held = cache.len();
    for n in 20_000..21_000 {
        cache.begin_hold();
        cache.remember(number(n), UnixMillis::NEVER, UnixMillis(10), true, &budget);
        assert!(cache.len() + TOO_OLD_PER_FIRST_KEY > held, "{held} then {}", cache.len());
        held = cache.len();
    }
    // Long before as many have come again as there is room for, the old ones are gone.
    assert_eq!(cache.len(), 1_000);
}

/// Publishes a turn's keys in one lock hold; says how many keys were looked at or moved.
fn steps_of_hold(cache: &mut Cache, keys: Range<u64>, (due, now): (u64, u64)) -> usize {
    let budget = cache.lender.clone().unwrap_or_default();
    STEPS.set(0);
    cache.begin_hold();
    for n in keys {
        let key = Key(u128::from(n).to_be_bytes());
        cache.remember(key, UnixMillis(due), UnixMillis(now), true, &budget);
    }
    cache.trim();
    STEPS.get()
}

#[test]
fn nobody_waits_for_more_than_a_part_whatever_is_held_or_has_become_too_old() {
    let mut cache = Cache::new(1 << 20);
    let most = |cache: &mut Cache, keys: Range<u64>, times: (u64, u64)| {
        let holds = keys.step_by(10).map(|n| steps_of_hold(cache, n..n + 10, times));
        let most = holds.max().unwrap_or_default();
        assert!(most < 8 * DEDUPLICATION_SWEEP_LEN, "{most} in a hold at {times:?}");
    };
    most(&mut cache, 0..100_000, (10, 0));
    // Those in the middle come again, so that what was said of them says nothing.
    most(&mut cache, 30_000..70_000, (30, 20));
    // And all others, until the old ones have gone and their shares with them.
    most(&mut cache, 200_000..205_000, (100, 40));
    assert_eq!((cache.len(), cache.shares), (5_000, 5));
    // One that stays keeps what comes again and again from going as the oldest.
    most(&mut cache, 300_000..300_010, (u64::MAX, 200));
    for now in 0..5 {
        most(&mut cache, 400_000..420_000, (301 + 2 * now, 300 + 2 * now));
    }
    assert!(cache.order.len() <= 2 * cache.len());
}

#[test]
fn a_turn_of_many_keys_makes_few_more_of_the_old_ones_go_than_it_brings() {
    let mut cache = Cache::new(1 << 20);
    steps_of_hold(&mut cache, 0..100_000, (10, 0));
    steps_of_hold(&mut cache, 200_000..210_000, (30, 20));
    let left = 100_000 - 2 * 10_000;
    assert!(cache.len() <= left + 10_000);
    assert!(cache.len() >= left + 10_000 - DEDUPLICATION_SWEEP_LEN, "{}", cache.len());
}

fn fill(cache: &mut Cache, numbers: Range<u32>, due: u64, budget: &Arc<KeyBudget>) {
    for n in numbers {
        cache.begin_hold();
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&n.to_be_bytes());
        cache.remember(Key(octets), UnixMillis(due), UnixMillis(u64::from(n)), false, budget);
    }
}

#[test]
fn a_cache_without_room_forgets_its_oldest_keys_and_gives_back_what_it_has() {
    let budget = Arc::new(KeyBudget::default());
    let share = DEDUPLICATION_SHARE_LEN as u32;
    budget.set_bytes_max(DEDUPLICATION_BYTES_MAX);
    let mut large = Cache::new(usize::MAX);
    fill(&mut large, 0..20 * share, u64::MAX, &budget);
    let taken = budget.bytes();
    assert_eq!(large.len(), 20 * share as usize);
    budget.set_bytes_max(taken);
    fill(&mut large, 20 * share..21 * share, u64::MAX, &budget);
    assert_eq!((large.len(), budget.bytes()), (large.room(), taken));
    let mut late = Cache::new(usize::MAX);
    fill(&mut late, 0..share, u64::MAX, &budget);
    assert_eq!(late.len(), OWN_LEN, "its first keys are its own");
    drop(large);
    assert_eq!(budget.bytes(), 0);
    fill(&mut late, share..2 * share, u64::MAX, &budget);
    assert!(budget.bytes() > 0 && late.len() > OWN_LEN);
}

#[test]
fn room_that_old_keys_took_is_given_back() {
    let budget = Arc::default();
    let share = DEDUPLICATION_SHARE_LEN as u32;
    let mut cache = Cache::new(usize::MAX);
    fill(&mut cache, 0..3 * share, 3 * u64::from(share), &budget);
    let taken = budget.bytes();
    cache.trim();
    assert_eq!((budget.bytes(), cache.len()), (taken, 3 * share as usize));
    fill(&mut cache, 3 * share..3 * share + 100, u64::MAX, &budget);
    cache.trim();
    assert_eq!((budget.bytes(), cache.len()), (0, 100));
    assert!(cache.by_key.capacity() < 256 && cache.order.capacity() < 256);
}

#[derive(Clone, Copy, Debug)]
struct Step {
    key: u8,
    /// None: without end.
    ttl: Option<u64>,
    passes: u64,
    stored: bool,
    /// Keeps only what is stored, as a restart does.
    restarts: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = prop::option::of(0..20_u64);
    let restarts = prop::bool::weighted(0.05);
    let all = (0..12_u8, ttl, 0..4_u64, any::<bool>(), restarts);
    all.prop_map(|(key, ttl, passes, stored, restarts)| Step { key, ttl, passes, stored, restarts })
}

proptest! {
    #[test]
    fn a_cache_knows_what_a_list_of_the_newest_keys_knows(
        len_max in 1..9_usize,
        steps in vec(step(), 1..200),
    ) {
        let mut cache = Cache::new(len_max);
        // Key, due and whether it is stored, the newest last.
        let mut model: Vec<(u8, u64, bool)> = Vec::new();
        let mut now = 0;
        for step in steps {
            now += step.passes;
            let due = step.ttl.map_or(u64::MAX, |ttl| now + ttl);
            let known = model.iter().any(|known| known.0 == step.key && now < known.1);
            let is_new = publish(&mut cache, step.key, due, now, step.stored);
            prop_assert_eq!(is_new, !known);
            if is_new {
                model.retain(|known| known.0 != step.key);
                model.push((step.key, due, step.stored));
                model.drain(..model.len().saturating_sub(len_max));
            }
            if step.restarts {
                let (stored, next) = (stored(&cache).into_iter(), cache.next_number());
                let stored: Vec<_> = stored.collect();
                prop_assert!(stored.windows(2).all(|pair| pair[0].number < pair[1].number));
                cache = Cache::new(len_max);
                cache.restore(stored, next, &Arc::default());
                model.retain(|known| known.2);
            }
            prop_assert!(cache.len() <= len_max);
            let live = stored(&cache).into_iter().filter(|entry| now < entry.due.0);
            let live: Vec<_> = live.map(|entry| (entry.key, entry.due.0)).collect();
            let expected = model.iter().filter(|known| known.2 && now < known.1);
            let expected: Vec<_> = expected.map(|known| (key(known.0), known.1)).collect();
            prop_assert_eq!(live, expected);
        }
    }
}
