//! Pages of a timed queue, as `pages_between` has them made. New messages come anywhere between
//! those that wait already, so pages are written anew where messages join or leave them; each holds
//! as many as any page.

use super::middle::Middle;
use super::page::{Page, PageBuilder, Paged};
use super::page_out::Freed;
use super::ready::{Entry, Ready};
use crate::id::Seq;

impl Ready {
    /// What was loaded goes back among the others: no page may begin before the fifo ends.
    pub(super) fn put_aside(&mut self) {
        let fifo = std::mem::take(&mut self.fifo);
        self.returned.extend(fifo.into_entries().map(|entry| (entry.seq, entry)));
    }

    /// As `QueueCore::page_out_between`.
    pub(super) fn page_waiting(
        &mut self,
        stored: &[(Seq, Seq)],
        range: (u64, u64),
        page_len: usize,
    ) -> Freed {
        self.put_aside();
        let mut freed = Freed::default();
        let leaving = self.stored_within(stored, range).collect();
        let joining = self.let_leave(leaving, &mut freed);
        if !joining.is_empty() {
            self.middle.get_or_insert_default().rewrite(joining, page_len);
        }
        freed
    }

    /// Takes a message out of its page.
    pub(super) fn take_paged(&mut self, seq: u64) -> Option<Entry> {
        let middle = self.middle.as_mut()?;
        let Paged { body_len, persistent, redelivered, due, .. } = middle.take_out(seq)?;
        if middle.pages.is_empty()
            && let Some(middle) = self.middle.take()
        {
            middle.join(&mut self.fifo);
        }
        self.count_present(0);
        self.count_fewer_bytes(body_len.into());
        let (message, reserved) = (None, false);
        Some(Entry { seq, message, body_len, due, persistent, redelivered, reserved })
    }
}

impl Middle {
    /// Puts messages, whose seqs increase, into the pages where they belong.
    fn rewrite(&mut self, mut joining: Vec<Paged>, page_len: usize) {
        let (Some(first), Some(last)) = (joining.first(), joining.last()) else { return };
        let from = self.pages.partition_point(|page| page.last() < first.seq);
        let to = self.pages.partition_point(|page| page.first() <= last.seq);
        // The page before has room as often as not.
        let from = from - usize::from(from > 0 && self.pages[from - 1].len() < page_len);
        let touched: Vec<Page> = self.pages.drain(from..to.max(from)).collect();
        for page in &touched {
            self.paged -= page.len();
            joining.extend(page.messages(Seq::time));
        }
        // Two lists in order, one behind the other: that is one pass.
        joining.sort_by_key(|message| message.seq);
        self.paged += joining.len();
        let mut written = Vec::with_capacity(joining.len().div_ceil(page_len));
        let mut open = PageBuilder::default();
        for message in joining {
            if open.len() >= page_len {
                written.extend(std::mem::take(&mut open).finish());
            }
            open.push(message);
        }
        written.extend(open.finish());
        let behind = self.pages.split_off(from);
        self.pages.extend(written.into_iter().chain(behind));
    }

    /// Takes one message out of its page; says its body bytes about.
    fn take_out(&mut self, seq: u64) -> Option<Paged> {
        let at = self.pages.partition_point(|page| page.last().0 < seq);
        let page = self.pages.get(at)?;
        let taken = page.messages(Seq::time).find(|message| message.seq.0 == seq)?;
        let rest = Page::new(page.messages(Seq::time).filter(|message| message.seq.0 != seq));
        self.paged -= 1;
        match rest {
            Some(rest) => self.pages[at] = rest,
            None => drop(self.pages.remove(at)),
        }
        Some(taken)
    }
}

impl Page {
    /// The highest of its seqs up to `last`.
    pub(super) fn last_up_to(&self, last: u64) -> Option<u64> {
        if self.last().0 <= last {
            return Some(self.last().0);
        }
        self.walk().map(|(seq, _)| seq).take_while(|seq| *seq <= last).last()
    }
}
