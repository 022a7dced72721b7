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
