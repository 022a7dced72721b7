//! Seqs as runs of neighbours, as records name them.

use crate::id::Seq;

/// Collects neighbouring seqs, so that settling in order makes one record.
#[derive(Default)]
pub(super) struct Run(Option<(u64, u64)>);

impl Run {
    pub(super) fn extend(&mut self, seq: u64, write: impl FnOnce((Seq, Seq))) {
        match &mut self.0 {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            run => {
                if let Some((first, last)) = run.replace((seq, seq)) {
                    write((Seq(first), Seq(last)));
                }
            }
        }
    }

    pub(super) fn finish(self, write: impl FnOnce((Seq, Seq))) {
        if let Some((first, last)) = self.0 {
            write((Seq(first), Seq(last)));
        }
    }
}

/// Sorted seqs as runs.
pub(super) fn runs(sorted: impl IntoIterator<Item = u64>) -> Vec<(Seq, Seq)> {
    let mut runs = Vec::new();
    let mut run = Run::default();
    for seq in sorted {
        run.extend(seq, |done| runs.push(done));
    }
    run.finish(|done| runs.push(done));
    runs
}

/// Adds a run behind the others; joins it with the last if they touch.
pub(super) fn add_run(runs: &mut Vec<(Seq, Seq)>, (first, last): (u64, u64)) {
    match runs.last_mut() {
        Some((_, end)) if first <= end.0.saturating_add(1) => *end = Seq(last.max(end.0)),
        _ => runs.push((Seq(first), Seq(last))),
    }
}

/// Adds one seq behind the others, which need not be in order: to the last run if they touch.
pub(super) fn extend_last(runs: &mut Vec<(Seq, Seq)>, seq: u64) {
    match runs.last_mut() {
        Some((_, last)) if last.0 + 1 == seq => *last = Seq(seq),
        _ => runs.push((Seq(seq), Seq(seq))),
    }
}

/// The same runs, sorted and joined. Several sorted lists one behind the other cost little more
/// than to walk over them.
pub(super) fn joined(mut unsorted: Vec<(Seq, Seq)>) -> Vec<(Seq, Seq)> {
    unsorted.sort();
    let mut runs = Vec::with_capacity(unsorted.len());
    unsorted.into_iter().for_each(|(first, last)| add_run(&mut runs, (first.0, last.0)));
    runs
}

/// Whether one of these sorted runs holds `seq`.
pub(super) fn holds(runs: &[(Seq, Seq)], seq: u64) -> bool {
    let at = runs.partition_point(|(_, last)| last.0 < seq);
    runs.get(at).is_some_and(|(first, _)| first.0 <= seq)
}

/// Adds one seq to sorted runs, wherever it belongs.
pub(super) fn insert(runs: &mut Vec<(Seq, Seq)>, seq: u64) {
    if holds(runs, seq) {
        return;
    }
    let at = runs.partition_point(|(_, last)| last.0 < seq);
    let after = runs.get(at).is_some_and(|(first, _)| first.0 == seq + 1);
    let before = at > 0 && runs[at - 1].1.0 + 1 == seq;
    match (before, after) {
        (true, true) => {
            runs[at - 1].1 = runs[at].1;
            runs.remove(at);
        }
        (true, false) => runs[at - 1].1 = Seq(seq),
        (false, true) => runs[at].0 = Seq(seq),
        (false, false) => runs.insert(at, (Seq(seq), Seq(seq))),
    }
}

/// The last of `len` places that stands in one run with place `at`, without looking at each:
/// `seq` says what stands at a place, and seqs increase.
pub(super) fn run_end(at: usize, len: usize, seq: impl Fn(usize) -> u64) -> usize {
    let first = seq(at);
    let joined = |to: usize| to < len && seq(to) - first == (to - at) as u64;
    let (mut end, mut step) = (at, 1);
    while joined(end + step) {
        end += step;
        step *= 2;
    }
    while step > 1 {
        step /= 2;
        if joined(end + step) {
            end += step;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_end_of_a_run_is_found_wherever_it_is() {
        for len in 1..70_usize {
            for gap in 1..=len {
                let seq = |at: usize| at as u64 + 10 * u64::from(at >= gap);
                assert_eq!(run_end(0, len, seq), gap - 1);
                assert_eq!(run_end(gap - 1, len, seq), gap - 1);
                assert_eq!(run_end(gap / 2, gap, seq), gap - 1);
            }
        }
    }

    #[test]
    fn seqs_in_any_order_make_the_runs_that_they_make_sorted() {
        for set in 0..1_u64 << 7 {
            let seqs = || (0..7).filter(move |bit| set >> bit & 1 == 1);
            let (mut up, mut down) = (Vec::new(), Vec::new());
            seqs().for_each(|seq| insert(&mut up, seq));
            seqs().rev().for_each(|seq| insert(&mut down, seq));
            let scattered = seqs().map(|seq| (seq * 3 % 7, seq * 3 % 7)).collect::<Vec<_>>();
            let (mut third, mut sorted) = (Vec::new(), Vec::new());
            scattered.iter().for_each(|(seq, _)| insert(&mut third, *seq));
            sorted.extend(scattered.iter().map(|(seq, _)| *seq));
            sorted.sort_unstable();
            assert_eq!((&up, &down), (&runs(seqs()), &runs(seqs())));
            assert_eq!(third, runs(sorted));
            let unsorted = scattered.iter().map(|(a, b)| (Seq(*a), Seq(*b))).collect();
            assert_eq!(joined(unsorted), third);
            (0..8).for_each(|seq| assert_eq!(holds(&up, seq), set >> seq & 1 == 1));
        }
    }

    #[test]
    fn a_long_run_is_not_walked_over() {
        let looks = Cell::new(0);
        let seq = |at: usize| {
            looks.set(looks.get() + 1);
            at as u64 * 2 - at.min(777_777) as u64
        };
        assert_eq!(run_end(0, 1_000_000, seq), 777_777);
        assert!(looks.get() < 50, "{}", looks.get());
    }
}
