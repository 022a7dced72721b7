//! Making messages known to the lanes of their keys: in the order of their seqs, and only as far as
//! somebody needs it. What lies on disk is asked for and read through.

use super::super::core::QueueCore;
use super::super::effects::{Effects, Load};
use super::super::ready::{Entry, Head, Ready};
use super::super::runs::runs;
use super::lanes::Sharing;

impl QueueCore {
    /// How many messages should be known that wait. `all_locked`: there is nothing for somebody who
    /// could take a message.
    fn known_len_wanted(&self, all_locked: bool) -> usize {
        let Some(keyed) = &self.keyed else { return 0 };
        let window = self.paging.read_ahead_len.max(1);
        match keyed.sharing {
            Sharing::Turns => usize::MAX,
            Sharing::Locking if all_locked => keyed.lanes.waiting_len() + window,
            Sharing::Locking => window,
        }
    }

    /// Makes messages known for consumers and gets, if there are any. False if nothing came of it.
    pub(super) fn learn_for_takers(&mut self, budget: &mut usize) -> bool {
        let wanted = self.known_len_for_takers();
        self.learn_until(wanted, budget)
    }

    fn known_len_for_takers(&mut self) -> usize {
        let waits = self.has_get_waiters();
        if self.consumers.len() == 0 && !waits {
            return 0;
        }
        let nothing = self.keyed.as_ref().is_some_and(|it| it.lanes.first_free().is_none());
        let all_locked = nothing && (waits || self.consumers.next().is_some());
        self.known_len_wanted(all_locked)
    }

    /// As `learn_for_takers`, for a get that is not among the waiting ones yet.
    pub(super) fn learn_for_get(&mut self, budget: &mut usize) -> bool {
        let nothing = self.keyed.as_ref().is_some_and(|it| it.lanes.first_free().is_none());
        let wanted = self.known_len_wanted(nothing);
        self.learn_until(wanted, budget)
    }

    fn learn_until(&mut self, wanted: usize, budget: &mut usize) -> bool {
        let Some(keyed) = &mut self.keyed else { return false };
        let before = keyed.frontier;
        while *budget > 0
            && keyed.lanes.waiting_len() < wanted
            && self.ready.pass_aside(keyed.frontier, |entry| keyed.learn(entry))
        {
            *budget -= 1;
        }
        keyed.frontier > before
    }

    /// Whether more is to become known and is in memory. Asks for it if it is not, or to go on at
    /// the next tick if `budget` is used up.
    pub(super) fn learns_on(&mut self, budget: usize, effects: &mut Effects) -> bool {
        let wanted = self.known_len_for_takers();
        let Some(keyed) = &self.keyed else { return false };
        if keyed.lanes.waiting_len() >= wanted {
            return false;
        }
        match self.ready.first_behind(keyed.frontier) {
            Head::Resident if budget > 0 => return true,
            Head::Resident => self.ask_again(effects),
            Head::Evicted(seq) => self.ask_to_load(seq, effects),
            Head::Nothing => {}
        }
        false
    }

    /// Asks for a known message that is not in memory, and for those that are taken next.
    pub(super) fn ask_for_known(&mut self, seq: u64, effects: &mut Effects) {
        let Some(keyed) = self.keyed.as_ref().filter(|_| !self.loading) else { return };
        let next = keyed.lanes.next_free(self.paging.load_len);
        let mut bytes = 0;
        let mut wanted = Vec::new();
        for seq in std::iter::once(seq).chain(next.filter(|next| *next != seq)) {
            let Some(entry) = self.ready.returned.get(&seq) else { continue };
            if entry.message.is_some() {
                continue;
            }
            bytes += u64::from(entry.body_len);
            if !wanted.is_empty() && bytes > self.paging.load_bytes {
                break;
            }
            wanted.push(seq);
        }
        wanted.sort_unstable();
        self.loading = true;
        effects.loads.push(Load { queue: self.id, runs: runs(wanted) });
    }
}

impl Ready {
    /// What stands first of all that is newer than `frontier`. Nothing if that is invisible: its
    /// place is decided.
    pub(super) fn first_behind(&self, frontier: u64) -> Head {
        let paged = self.middle.as_ref().map_or(u64::MAX, |middle| middle.first());
        match self.entry_behind(frontier) {
            None if paged < u64::MAX => Head::Evicted(paged),
            None => Head::Nothing,
            Some(entry) if paged < entry.seq => Head::Evicted(paged),
            Some(entry) if entry.reserved => Head::Nothing,
            Some(entry) if entry.message.is_some() => Head::Resident,
            Some(entry) => Head::Evicted(entry.seq),
        }
    }

    /// The first entry that is newer than `frontier`.
    fn entry_behind(&self, frontier: u64) -> Option<&Entry> {
        let beside = self.returned.range(frontier.saturating_add(1)..).next();
        let beside = beside.map(|(_, entry)| entry);
        self.fifo.front().into_iter().chain(beside).min_by_key(|entry| entry.seq)
    }

    /// Moves what `first_behind` called resident into the sorted map, and shows it to `learn`.
    /// False if there is nothing resident.
    fn pass_aside(&mut self, frontier: u64, learn: impl FnOnce(&Entry)) -> bool {
        let last_beside = self.returned.last_key_value().map_or(0, |(seq, _)| *seq);
        let entry = if last_beside <= frontier && self.middle.is_none() {
            // As nearly always, the fifo is all there is.
            let is_resident = |entry: &Entry| !entry.reserved && entry.message.is_some();
            self.fifo.pop_front_if(is_resident)
        } else {
            let Head::Resident = self.first_behind(frontier) else { return false };
            let Some(seq) = self.entry_behind(frontier).map(|entry| entry.seq) else {
                return false;
            };
            self.fifo.pop_front_if(|entry| entry.seq == seq).or_else(|| self.take_returned(seq))
        };
        let Some(entry) = entry else { return false };
        learn(&entry);
        self.insert(entry);
        true
    }

    /// Moves what is not newer than `frontier` from the fifo into the sorted map: messages that
    /// came back when it was empty.
    pub(super) fn put_aside_through(&mut self, frontier: u64) {
        while let Some(entry) = self.fifo.pop_front_if(|entry| entry.seq <= frontier) {
            self.insert(entry);
        }
    }

    /// Whether this message of the sorted map is in memory.
    pub(super) fn is_resident(&self, seq: u64) -> bool {
        !self.has_absent() || self.returned.get(&seq).is_some_and(|entry| entry.message.is_some())
    }

    /// Takes a message out of the sorted map.
    pub(super) fn take_aside(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.take_returned(seq)?;
        self.uncount(&entry);
        Some(entry)
    }
}
