use super::*;
use crate::time::UnixMillis;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn entry(seq: u64) -> Entry {
    Entry {
        seq,
        message: None,
        body_len: 0,
        due: UnixMillis::NEVER,
        persistent: false,
        redelivered: false,
        reserved: false,
    }
}

fn entries(seqs: impl IntoIterator<Item = u64>) -> Entries {
    let mut entries = Entries::default();
    entries.extend(seqs.into_iter().map(entry));
    entries
}

fn seqs<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u64> {
    entries.into_iter().map(|entry| entry.seq).collect()
}

/// What the list promises of its inside.
fn check(entries: &Entries) {
    assert!(entries.rest.is_none() || !entries.first.is_empty());
    if let Some(rest) = &entries.rest {
        assert!(!rest.chunks.is_empty() && rest.chunks.iter().all(|chunk| !chunk.is_empty()));
        assert_eq!(rest.len, rest.chunks.iter().map(VecDeque::len).sum::<usize>());
    }
    assert!(entries.chunks().all(|chunk| chunk.len() <= CHUNK_LEN));
    assert!(entries.capacity() <= 4 * entries.len() + 8 * CHUNK_LEN, "{}", entries.capacity());
}

#[derive(Clone, Debug)]
enum Verb {
    PushBack(u64),
    PushFront(u64),
    PopFront(usize),
    PopBack(usize),
    /// Every so many, from there on, so often.
    Remove(u64, u64, u64),
    CutAndJoin(u64),
    Keep(u64, bool),
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => (1..700_u64).prop_map(Verb::PushBack),
        2 => (1..400_u64).prop_map(Verb::PushFront),
        2 => (1..900_usize).prop_map(Verb::PopFront),
        2 => (1..500_usize).prop_map(Verb::PopBack),
        2 => (any::<u64>(), 1..40_u64, 1..500_u64).prop_map(|(a, b, c)| Verb::Remove(a, b, c)),
        2 => any::<u64>().prop_map(Verb::CutAndJoin),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(at, front)| Verb::Keep(at, front)),
    ]
}

proptest! {
    #[test]
    fn a_list_in_chunks_is_a_sorted_set(verbs in vec(verb(), 1..30), gap in 1..4_u64) {
        let mut entries = Entries::default();
        let mut set = BTreeSet::new();
        let (mut low, mut high) = (1_000_000, 1_000_000);
        for verb in verbs {
            match verb {
                Verb::PushBack(count) => (0..count).for_each(|_| {
                    high += gap;
                    entries.push_back(entry(high));
                    set.insert(high);
                }),
                Verb::PushFront(count) => (0..count).for_each(|_| {
                    entries.push_front(entry(low));
                    set.insert(low);
                    low -= gap;
                }),
                Verb::PopFront(count) => for _ in 0..count {
                    prop_assert_eq!(entries.pop_front().map(|it| it.seq), set.pop_first());
                },
                Verb::PopBack(count) => for _ in 0..count {
                    prop_assert_eq!(entries.pop_back().map(|it| it.seq), set.pop_last());
                },
                Verb::Remove(from, step, count) => for at in 0..count {
                    let seq = low + from % (high - low + 2) + at * step;
                    prop_assert_eq!(entries.get_mut(seq).map(|it| it.seq), set.get(&seq).copied());
                    prop_assert_eq!(entries.remove(seq).map(|it| it.seq), set.take(&seq));
                },
                Verb::CutAndJoin(at) => {
                    let seq = low + at % (high - low + 2);
                    let behind = entries.split_off(seq);
                    check(&entries);
                    check(&behind);
                    prop_assert!(seqs(behind.iter()).iter().eq(set.range(seq..)));
                    prop_assert!(seqs(entries.iter()).iter().eq(set.range(..seq)));
                    entries.append(behind);
                }
                Verb::Keep(at, front) => {
                    let seq = low + at % (high - low + 2);
                    let behind = entries.split_off(seq);
                    let cut = set.split_off(&seq);
                    if !front {
                        (entries, set) = (behind, cut);
                    }
                }
            }
            check(&entries);
            prop_assert_eq!(entries.len(), set.len());
            prop_assert_eq!(entries.is_empty(), set.is_empty());
            prop_assert_eq!(entries.front().map(|it| it.seq), set.first().copied());
            prop_assert_eq!(entries.back().map(|it| it.seq), set.last().copied());
        }
        prop_assert!(seqs(entries.iter()).iter().eq(set.iter()));
        for seq in (low..high + 3).step_by(37) {
            let next = entries.iter_from(seq).take(300);
            prop_assert!(seqs(next).iter().eq(set.range(seq..).take(300)));
            let last = entries.last_up_to(seq).map(|it| it.seq);
            prop_assert_eq!(last, set.range(..=seq).next_back().copied());
        }
        for at in (0..set.len() + 2).step_by(91) {
            prop_assert_eq!(entries.nth(at).map(|it| it.seq), set.iter().nth(at).copied());
            let back = entries.nth_back(at).map(|it| it.seq);
            prop_assert_eq!(back, set.iter().nth_back(at).copied());
        }
        let all: Vec<u64> = entries.into_entries().map(|it| it.seq).collect();
        prop_assert!(all.iter().eq(set.iter()));
    }
}

#[test]
fn what_joins_a_long_list_moves_nothing_that_is_there() {
    let mut entries = entries(0..100_000);
    let places = |entries: &Entries| -> Vec<usize> {
        entries.chunks().map(|chunk| std::ptr::from_ref(&chunk[0]).addr()).collect()
    };
    let before = places(&entries);
    entries.extend((100_000..200_000).map(entry));
    assert!(places(&entries).starts_with(&before));
    (0..50_000).for_each(|seq| drop(entries.remove(seq * 2)));
    assert_eq!(entries.len(), 150_000);
}

#[test]
fn a_list_that_was_cut_often_has_few_chunks() {
    let mut entries = entries(0..10_000);
    for seq in 0..10_000 {
        let behind = entries.split_off(seq);
        entries.append(behind);
    }
    let chunks = entries.chunks().count();
    assert!(chunks <= 2 * 10_000_usize.div_ceil(CHUNK_LEN), "{chunks}");
}
