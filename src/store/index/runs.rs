//! Seqs as runs of (first, last), sorted and without overlap.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::page::Entry;
use crate::id::Seq;

/// The first run that ends at or behind `seq`.
pub(super) fn at_or_behind(runs: &[(Seq, Seq)], seq: Seq) -> Option<&(Seq, Seq)> {
    runs.get(runs.partition_point(|run| run.1 < seq))
}

/// Whether one run covers all from `first` to `last`.
pub(super) fn cover(runs: &[(Seq, Seq)], first: Seq, last: Seq) -> bool {
    at_or_behind(runs, first).is_some_and(|run| run.0 <= first && run.1 >= last)
}

/// Those of the sorted entries that lie in a run.
pub(super) fn within<'a>(
    entries: &'a [Entry],
    runs: &'a [(Seq, Seq)],
) -> impl Iterator<Item = &'a Entry> {
    let first = entries.first().map_or(Seq(0), |entry| entry.seq);
    let skipped = runs.partition_point(|run| run.1 < first);
    let mut runs = runs.iter().skip(skipped).peekable();
    entries.iter().filter(move |entry| {
        while runs.next_if(|run| run.1 < entry.seq).is_some() {}
        runs.peek().is_some_and(|run| run.0 <= entry.seq)
    })
}

/// Appends a run that begins behind the last one, or joins it.
pub(in crate::store) fn push(runs: &mut Vec<(Seq, Seq)>, first: Seq, last: Seq) {
    match runs.last_mut() {
        Some(run) if run.1.0.checked_add(1) == Some(first.0) => run.1 = last,
        _ => runs.push((first, last)),
    }
}

/// Sorts runs and joins those that touch or overlap.
pub(in crate::store) fn join(runs: &mut Vec<(Seq, Seq)>) {
    runs.sort_unstable();
    runs.dedup_by(|next, run| {
        let touches = next.0.0 <= run.1.0.saturating_add(1);
        if touches {
            run.1 = run.1.max(next.1);
        }
        touches
    });
}
