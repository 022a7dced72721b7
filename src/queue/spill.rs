//! What of a queue is in memory only: its transient messages, on their way to a disk that keeps
//! them for a while. Which of them are there already, and when more should go, is not known here.

use super::core::QueueCore;
use super::page_out::{Place, Sweep};
use super::ready::Entry;
use super::runs::{joined, runs};
use crate::id::Seq;
use crate::store::OnDisk;

/// Transient messages of a queue, and how far it was looked.
#[derive(Debug, Default)]
pub struct Transient {
    pub messages: Vec<OnDisk>,
    /// The last message that was looked at, transient or not.
    pub through: Option<Seq>,
    /// Messages that were looked at. Fewer than allowed: nothing more is there.
    pub steps: usize,
}

impl Transient {
    pub(super) fn look(&mut self, entry: &Entry) {
        self.steps += 1;
        self.through = Some(Seq(entry.seq));
        // An urgent message may be invisible: it may yet be withdrawn.
        let may_go = !entry.persistent && !entry.reserved;
        if let Some(message) = entry.message.as_ref().filter(|_| may_go) {
            let (seq, due, message) = (Seq(entry.seq), entry.due, message.clone());
            self.messages.push(OnDisk { seq, due, message });
        }
    }
}

impl QueueCore {
    /// The transient messages in memory among those that `pageable` named, from `first` to `last`.
    /// Looks at no more than `max`.
    #[must_use]
    pub fn transient(&self, first: Seq, last: Seq, max: usize) -> Transient {
        let mut found = Transient::default();
        if self.ready.pages_from_map() {
            let between = self.ready.returned.range(first.0..=last.0).take(max);
            between.for_each(|(_, entry)| found.look(entry));
            return found;
        }
        let tail = self.ready.middle.as_ref().map(|middle| &middle.tail);
        for entries in std::iter::once(&self.ready.fifo).chain(tail) {
            let rest = entries.iter_from(first.0).take(max - found.steps);
            rest.take_while(|entry| entry.seq <= last.0 && !entry.reserved)
                .for_each(|entry| found.look(entry));
        }
        found
    }

    /// The transient messages in memory among requeued, checked-out and waiting ones. Looks at no
    /// more than `max` and goes on from where `sweep` stands.
    #[must_use]
    pub fn transient_aside(&self, sweep: &mut Sweep, max: usize) -> Transient {
        let mut found = Transient::default();
        if let Place::Returned(from) = sweep.0 {
            sweep.0 = Place::Slot(0);
            for (seq, entry) in self.ready.returned.range(from..) {
                if found.steps == max {
                    sweep.0 = Place::Returned(*seq);
                    break;
                }
                found.look(entry);
            }
        }
        if let Place::Slot(from) = sweep.0 {
            let to = self.checkout.slots_len().min(from + (max - found.steps));
            (from..to).filter_map(|slot| self.checkout.at(slot)).for_each(|it| found.look(it));
            let over = to >= self.checkout.slots_len();
            sweep.0 = if over { Place::Waiting(0) } else { Place::Slot(to) };
        }
        if let Place::Waiting(from) = sweep.0 {
            sweep.0 = Place::Over;
            for entry in self.retries.iter().flat_map(|retries| retries.entries_from(from)) {
                if found.steps == max {
                    sweep.0 = Place::Waiting(entry.seq);
                    break;
                }
                found.look(entry);
            }
        }
        found
    }

    /// The messages that are not in memory and have not ended, as sorted runs: what the disk must
    /// keep, be they persistent or not. Looks at each message only if some left memory one by one.
    #[must_use]
    pub fn absent_runs(&self) -> Vec<(Seq, Seq)> {
        let mut found = Vec::new();
        let mut paged = 0;
        if let Some(middle) = &self.ready.middle {
            middle.pages.iter().for_each(|page| page.add_runs(usize::MAX, &mut found));
            paged = middle.paged;
        }
        let is_absent = |entry: &&Entry| entry.message.is_none();
        if self.ready.absent > paged {
            let evicted = self.ready.entries().filter(is_absent);
            let mut evicted: Vec<_> = evicted.map(|entry| entry.seq).collect();
            evicted.sort_unstable();
            found.extend(runs(evicted));
        }
        if self.checkout.has_absent() {
            let out = self.checkout.entries().filter(is_absent);
            found.extend(out.map(|entry| (Seq(entry.seq), Seq(entry.seq))));
        }
        if let Some(retries) = self.retries.as_ref().filter(|retries| retries.has_absent()) {
            found.extend(runs(retries.entries_from(0).filter(is_absent).map(|entry| entry.seq)));
        }
        joined(found)
    }
}
