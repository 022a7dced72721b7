//! When each message of an exact queue expires, in order of time, and the ready side of such a
//! queue: all that is in memory is in its map, where taking out the middle costs no more than
//! taking the head. What follows from a time that has come is `exact`'s.
//!
//! A time takes some 32 octets, wherever its message lies: `DUE_BYTES`. Those of pages from before
//! a start, or from before the queue became exact, are not known: only a bound is, and once it has
//! come these pages are read, each message once.

use super::load::{Answer, Paging};
use super::page::Page;
use super::ready::{Entry, Ready};
use crate::id::Seq;
use crate::limits::{DUE_BYTES, READ_AHEAD_MAPPED_LEN};
use crate::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};

/// Every ready message that expires is in one of `listed`, `overdue` and `asked`, but for those
/// that are invisible, in unread pages, or not swept yet.
#[derive(Debug, Default)]
pub(super) struct Dues {
    pub(super) listed: BTreeSet<(UnixMillis, u64)>,
    /// Those in pages whose time has come.
    pub(super) overdue: BTreeSet<u64>,
    /// The load that is under way, if it is one for what is due.
    pub(super) asked: Option<Asked>,
    pub(super) unread: Option<Unread>,
    /// In the map, what stands before was listed when the queue became exact; then the deques'
    /// messages join it. `None` once that is done.
    pub(super) sweep: Option<u64>,
}

/// What a load for due messages asked for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Of `overdue`; sorted.
    Overdue(Vec<u64>),
    /// Of the pages that are unread.
    Unread(Vec<(Seq, Seq)>),
}

/// Pages whose messages have unknown times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    pub(super) from: u64,
    pub(super) to: u64,
    /// None of them expires before.
    pub(super) due: UnixMillis,
}

impl Dues {
    fn list(&mut self, entry: &Entry) {
        if entry.due != UnixMillis::NEVER && !entry.reserved {
            self.listed.insert((entry.due, entry.seq));
        }
    }

    fn leave_unread(&mut self, page: &Page) {
        if page.due() == UnixMillis::NEVER {
            return;
        }
        let (from, to, due) = (page.first().0, page.last().0, page.due());
        let unread = self.unread.get_or_insert(Unread { from, to, due });
        unread.from = unread.from.min(from);
        unread.to = unread.to.max(to);
        unread.due = unread.due.min(due);
    }

    /// Some visible message may wait for a load.
    pub(super) fn wants_load(&self, now: UnixMillis) -> bool {
        !self.overdue.is_empty() || self.unread.is_some_and(|unread| unread.due <= now)
    }

    /// The first time of all; `None` if not all of them are known, or some are past.
    pub(super) fn first(&self) -> Option<UnixMillis> {
        if self.sweep.is_some() || self.asked.is_some() || !self.overdue.is_empty() {
            return None;
        }
        let listed = self.listed.first().map(|(due, _)| *due);
        let unread = self.unread.map(|unread| unread.due);
        Some(listed.into_iter().chain(unread).min().unwrap_or(UnixMillis::NEVER))
    }

    /// All visible messages are gone; those that stay were never listed.
    pub(super) fn take(&mut self) -> Self {
        let sweep = self.sweep;
        std::mem::replace(self, Self { sweep, ..Self::default() })
    }

    fn bytes(&self) -> u64 {
        let asked = match &self.asked {
            Some(Asked::Overdue(seqs)) => seqs.len(),
            Some(Asked::Unread(_)) | None => 0,
        };
        (self.listed.len() + self.overdue.len() + asked) as u64 * DUE_BYTES
    }
}

impl Ready {
    /// From now on messages expire wherever they stand. What is in memory is swept later; of a
    /// queue that comes from disk nothing is there, and nobody need look at it for that.
    pub(super) fn begin_dues(&mut self) {
        let sweep = self.entries().next().map(|_| 0);
        let mut dues = Dues { sweep, ..Dues::default() };
        let pages = self.middle.iter().flat_map(|middle| &middle.pages);
        pages.for_each(|page| dues.leave_unread(page));
        self.dues = Some(Box::new(dues));
        self.mapped = true;
    }

    pub(super) fn dues_bytes(&self) -> u64 {
        self.dues.as_ref().map_or(0, |dues| dues.bytes())
    }

    /// A message joins, whatever its seq.
    pub(super) fn push_mapped(&mut self, entry: Entry) {
        self.count_new(&entry);
        self.insert(entry);
    }

    /// Puts a counted message into the map.
    pub(super) fn insert(&mut self, entry: Entry) {
        if let Some(dues) = &mut self.dues {
            dues.list(&entry);
        }
        self.returned.insert(entry.seq, entry);
    }

    pub(super) fn pop_returned(&mut self) -> Option<Entry> {
        let (_, entry) = self.returned.pop_first()?;
        self.unlist(entry.due, entry.seq);
        Some(entry)
    }

    pub(super) fn take_returned(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.returned.remove(&seq)?;
        self.unlist(entry.due, seq);
        Some(entry)
    }

    /// Takes a message out whose content has been read, if it is there without, in no page.
    pub(super) fn take_evicted(&mut self, answer: Answer) -> Result<Entry, Answer> {
        let absent = answer.message.is_some().then(|| self.take_absent(answer.seq)).flatten();
        match absent {
            Some(entry) => Ok(Entry { message: answer.message, due: answer.due, ..entry }),
            None => Err(answer),
        }
    }

    /// The message leaves.
    pub(super) fn unlist(&mut self, due: UnixMillis, seq: u64) {
        if let Some(dues) = &mut self.dues
            && due != UnixMillis::NEVER
            && !dues.listed.remove(&(due, seq))
        {
            dues.overdue.remove(&seq);
        }
    }

    /// A message's time was only a bound.
    pub(super) fn relist(&mut self, (bound, due): (UnixMillis, UnixMillis), seq: u64) {
        if let Some(dues) = &mut self.dues
            && bound != due
            && dues.listed.remove(&(bound, seq))
            && due != UnixMillis::NEVER
        {
            dues.listed.insert((due, seq));
        }
    }

    /// These have become visible.
    pub(super) fn list_shown(&mut self, seqs: &[Seq]) {
        let Some(dues) = &mut self.dues else { return };
        let shown = seqs.iter().filter_map(|seq| self.returned.get(&seq.0));
        shown.for_each(|entry| dues.list(entry));
    }

    /// A page of an earlier run comes.
    pub(super) fn leave_unread(&mut self, page: &Page) {
        if let Some(dues) = &mut self.dues {
            dues.leave_unread(page);
        }
    }

    /// Lists what was here when the queue became exact, and puts it into the map.
    pub(super) fn sweep(&mut self, budget: &mut usize) {
        let Some(dues) = &mut self.dues else { return };
        let Some(from) = dues.sweep else { return };
        for (seq, entry) in self.returned.range(from..) {
            if *budget == 0 {
                dues.sweep = Some(*seq);
                return;
            }
            *budget -= 1;
            dues.list(entry);
        }
        dues.sweep = Some(u64::MAX);
        while *budget > 0 {
            let tail = self.middle.as_mut().map(|middle| &mut middle.tail);
            let entry = self.fifo.pop_front().or_else(|| tail?.pop_front());
            let Some(entry) = entry else {
                dues.sweep = None;
                break;
            };
            *budget -= 1;
            dues.list(&entry);
            self.returned.insert(entry.seq, entry);
        }
    }

    /// How many messages are in memory before the first page, as far as it matters for reading
    /// ahead. The map does not know its lengths, so it is not walked for long.
    pub(super) fn len_before(&self, first_paged: Seq, paging: &Paging) -> usize {
        if self.dues.is_none() {
            return self.fifo.len();
        }
        let enough = paging.read_ahead_len.min(READ_AHEAD_MAPPED_LEN);
        let before = self.fifo.len() + before(&self.returned, first_paged.0, enough);
        if before < enough { before } else { usize::MAX }
    }
}

fn before(returned: &BTreeMap<u64, Entry>, seq: u64, max: usize) -> usize {
    returned.range(..seq).take(max).count()
}
