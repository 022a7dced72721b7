//! A set of seqs as runs of neighbours: what is left of a queue costs as little as it has holes.

use crate::id::Seq;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSet {
    /// First to last; runs neither overlap nor touch.
    runs: BTreeMap<u64, u64>,
}

impl RunSet {
    pub fn insert(&mut self, run: RangeInclusive<Seq>) {
        let (mut first, mut last) = (run.start().0, run.end().0);
        if first > last {
            return;
        }
        // A message behind the last one, as nearly all are.
        if let Some((_, end)) = self.runs.range_mut(..=first).next_back()
            && *end >= first.saturating_sub(1)
        {
            if *end >= last {
                return;
            }
            let before = self.runs.range(..=first).next_back();
            first = before.map_or(first, |(start, _)| *start);
        }
        while let Some((start, end)) = self.runs.range(first..=last.saturating_add(1)).next() {
            let (start, end) = (*start, *end);
            last = last.max(end);
            self.runs.remove(&start);
        }
        self.runs.insert(first, last);
    }

    pub fn remove(&mut self, run: RangeInclusive<Seq>) {
        let (first, last) = (run.start().0, run.end().0);
        if first > last {
            return;
        }
        if let Some((start, end)) = self.runs.range(..first).next_back() {
            let (start, end) = (*start, *end);
            if end >= first {
                self.runs.insert(start, first - 1);
                if end > last {
                    self.runs.insert(last + 1, end);
                    return;
                }
            }
        }
        while let Some((start, end)) = self.runs.range(first..=last).next() {
            let (start, end) = (*start, *end);
            self.runs.remove(&start);
            if end > last {
                self.runs.insert(last + 1, end);
            }
        }
    }

    /// Keeps of the seqs below `below` only those in `except`, which is sorted.
    pub fn remove_below(&mut self, below: Seq, except: &[RangeInclusive<Seq>]) {
        let mut from = 0;
        for run in except {
            if let Some(end) = run.start().0.min(below.0).checked_sub(1)
                && end >= from
            {
                self.remove(Seq(from)..=Seq(end));
            }
            from = from.max(run.end().0.saturating_add(1));
        }
        if let Some(end) = below.0.checked_sub(1)
            && end >= from
        {
            self.remove(Seq(from)..=Seq(end));
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.runs.range(..=seq.0).next_back().is_some_and(|(_, end)| *end >= seq.0)
    }

    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.runs.first_key_value().map(|(first, _)| Seq(*first))
    }

    /// The runs in order, first and last seq of each.
    pub fn runs(&self) -> impl Iterator<Item = (Seq, Seq)> {
        self.runs.iter().map(|(first, last)| (Seq(*first), Seq(*last)))
    }

    /// The runs that have a seq from `first` to `last`, cut to that.
    pub fn within(&self, first: Seq, last: Seq) -> impl Iterator<Item = (Seq, Seq)> {
        let before = self.runs.range(..first.0).next_back();
        let before = before.filter(|(_, end)| **end >= first.0);
        let rest = self.runs.range(first.0..=last.0.max(first.0));
        let all = before.into_iter().chain(rest);
        all.map(move |(start, end)| (Seq(*start).max(first), Seq(*end).min(last)))
            .filter(|(start, end)| start <= end)
    }
}

impl FromIterator<(Seq, Seq)> for RunSet {
    fn from_iter<I: IntoIterator<Item = (Seq, Seq)>>(runs: I) -> Self {
        let mut set = Self::default();
        for (first, last) in runs {
            set.insert(first..=last);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u64),
        Remove(u64, u64),
        RemoveBelow(u64, Vec<(u64, u64)>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let run = || (0..60_u64, 0..8_u64);
        prop_oneof![
            3 => run().prop_map(|(first, more)| Step::Insert(first, first + more)),
            2 => run().prop_map(|(first, more)| Step::Remove(first, first + more)),
            1 => (0..60_u64, vec(run(), 0..4)).prop_map(|(below, mut except)| {
                except.iter_mut().for_each(|run| run.1 += run.0);
                except.sort_unstable();
                Step::RemoveBelow(below, except)
            }),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in vec(step(), 0..60), at in 0..70_u64) {
            let (mut set, mut model) = (RunSet::default(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Insert(first, last) => {
                        set.insert(Seq(first)..=Seq(last));
                        model.extend(first..=last);
                    }
                    Step::Remove(first, last) => {
                        set.remove(Seq(first)..=Seq(last));
                        model.retain(|seq| !(first..=last).contains(seq));
                    }
                    Step::RemoveBelow(below, except) => {
                        let within = |seq: u64, run: &(u64, u64)| run.0 <= seq && seq <= run.1;
                        let stays = |seq| except.iter().any(|run| within(seq, run));
                        model.retain(|seq| *seq >= below || stays(*seq));
                        let except: Vec<_> =
                            except.iter().map(|run| Seq(run.0)..=Seq(run.1)).collect();
                        set.remove_below(Seq(below), &except);
                    }
                }
            }
            let all: Vec<u64> = set.runs().flat_map(|run| run.0.0..=run.1.0).collect();
            prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
            let runs: Vec<_> = set.runs().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].1.0 + 1 < pair[1].0.0));
            prop_assert_eq!(set.contains(Seq(at)), model.contains(&at));
            let within: Vec<u64> =
                set.within(Seq(at), Seq(at + 9)).flat_map(|run| run.0.0..=run.1.0).collect();
            prop_assert_eq!(within, model.range(at..=at + 9).copied().collect::<Vec<_>>());
            prop_assert_eq!(set.first().map(|seq| seq.0), model.first().copied());
            prop_assert_eq!(set.runs().collect::<RunSet>(), set);
        }
    }
}
