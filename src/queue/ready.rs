//! The ready side of a queue: messages by their seq, oldest first.
//!
//! ```text
//!   fifo, in memory  <  pages, on disk  <  tail, in memory        returned: any place between
//!   `---- head window    `------- middle -------------'
//! ```
//! New messages join at the end of a deque; requeued ones return to their old place by way of a
//! sorted map beside it, so that settling 100 k in random order stays O(n log n). An entry there
//! takes 40 to 80 bytes even without its body; there are never more than were checked out at once,
//! since they are the first to leave again. Urgent ones join there too, and leave it for pages
//! between the others, see `pages_between`. Without pages the fifo is all there is. A queue that
//! was long gives its memory back as it drains.
//!
//! Where messages join or leave in the middle, all that is in memory is in the map, see `mapped`.

use super::damaged::Damaged;
use super::dues::Dues;
use super::entries::Entries;
use super::keyed::Forgotten;
use super::middle::Middle;
use super::page::Page;
use super::retry::Retries;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
use crate::message::Message;
use crate::time::UnixMillis;
use std::collections::BTreeMap;

/// A message in its queue.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// `None` while it lies on disk only.
    pub(super) message: Option<Message>,
    pub(super) body_len: u32,
    /// When it expires.
    pub(super) due: UnixMillis,
    /// The journal knows it, so its end must be told there.
    pub(super) persistent: bool,
    pub(super) redelivered: bool,
    /// Its record is not in the journal yet: invisible, but its place is taken.
    pub(super) reserved: bool,
}

/// Messages that left a queue at once; dropped without the lock, since freeing takes time.
#[derive(Debug, Default)]
pub struct Dropped {
    _fifo: Entries,
    _returned: BTreeMap<u64, Entry>,
    _middle: Option<Box<Middle>>,
    _damaged: Option<Box<Damaged>>,
    _retrying: Option<Box<Retries>>,
    _forgotten: Option<Forgotten>,
    _dues: Option<Dues>,
}

impl Dropped {
    /// The same and what waited for its next attempt.
    pub(super) fn with_retrying(self, _retrying: Option<Box<Retries>>) -> Self {
        Self { _retrying, ..self }
    }

    /// The same and what was known of their keys.
    pub(super) fn with_forgotten(self, _forgotten: Option<Forgotten>) -> Self {
        Self { _forgotten, ..self }
    }
}

/// What stands at the head.
pub(super) enum Head {
    Nothing,
    Resident,
    /// Seq of a message to load first.
    Evicted(u64),
}

#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Seqs increase; gaps where messages were handed over directly.
    pub(super) fifo: Entries,
    /// By seq, none of which is elsewhere: requeued messages, those that stayed in memory when
    /// their neighbours became a page, and urgent ones, which alone may be invisible.
    pub(super) returned: BTreeMap<u64, Entry>,
    /// Only there while there are pages.
    pub(super) middle: Option<Box<Middle>>,
    /// Only there if there are some.
    pub(super) damaged: Option<Box<Damaged>>,
    /// Only there if messages expire wherever they stand.
    pub(super) dues: Option<Box<Dues>>,
    /// New messages join `returned` too.
    pub(super) mapped: bool,
    reserved: usize,
    reserved_bytes: u64,
    bytes: u64,
    /// Visible messages without content: in pages, or evicted one by one.
    pub(super) absent: usize,
    pub(super) absent_bytes: u64,
    /// In fifo and tail nothing from this seq on is marked redelivered.
    pub(super) marked_below: u64,
}

impl Ready {
    pub(super) fn new(mapped: bool) -> Self {
        Self { mapped, ..Self::default() }
    }

    /// Visible messages.
    pub(super) fn len(&self) -> usize {
        let middle = self.middle.as_ref().map_or(0, |middle| middle.len());
        self.fifo.len() + self.returned.len() + middle - self.reserved
    }

    /// Body bytes of visible messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the messages take in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        let resident = self.len() - self.absent + self.reserved;
        let bodies = self.bytes - self.absent_bytes + self.reserved_bytes;
        bodies + resident as u64 * MESSAGE_OVERHEAD_BYTES + self.dues_bytes()
    }

    /// Messages that cannot be read back.
    pub(super) fn damaged_len(&self) -> usize {
        self.damaged.as_ref().map_or(0, |damaged| damaged.len)
    }

    /// Some visible message is not in memory.
    #[inline]
    pub(super) fn has_absent(&self) -> bool {
        self.absent > 0
    }

    /// A visible message has lost its content.
    pub(super) fn count_absent(&mut self, bytes: u64) {
        self.absent += 1;
        self.absent_bytes += bytes;
    }

    /// An absent message has its content again, or is damaged.
    pub(super) fn count_present(&mut self, bytes: u64) {
        self.absent -= 1;
        self.absent_bytes -= bytes;
    }

    /// A loaded message has more body bytes than its page had said.
    pub(super) fn count_more_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// A page ends that had said more body bytes than its messages have.
    pub(super) fn count_fewer_bytes(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.absent_bytes -= bytes;
    }

    /// A damaged message leaves its place.
    pub(super) fn damage(&mut self, seq: u64, redelivered: bool) {
        self.damaged.get_or_insert_default().insert(seq, redelivered);
    }

    /// Nothing stands before a new message, not even an invisible one.
    pub(super) fn is_clear(&self) -> bool {
        self.fifo.is_empty() && self.returned.is_empty() && self.middle.is_none()
    }

    /// Adds a message with the highest seq so far.
    pub(super) fn push(&mut self, entry: Entry) {
        self.count_new(&entry);
        let (entries, paged) = match &mut self.middle {
            None => (&mut self.fifo, None),
            Some(middle) => (&mut middle.tail, middle.pages.back()),
        };
        let last = entries.back().map(|last| last.seq).or_else(|| paged.map(|page| page.last().0));
        if last.is_none_or(|last| last < entry.seq) {
            entries.push_back(entry);
        } else {
            // It is more urgent than others that came before it.
            self.returned.insert(entry.seq, entry);
        }
    }

    /// A message joins.
    pub(super) fn count_new(&mut self, entry: &Entry) {
        if entry.reserved {
            self.reserved += 1;
            self.reserved_bytes += u64::from(entry.body_len);
        } else {
            self.bytes += u64::from(entry.body_len);
        }
    }

    /// A visible message leaves.
    pub(super) fn uncount(&mut self, entry: &Entry) {
        if entry.message.is_none() {
            self.count_present(entry.body_len.into());
        }
        self.bytes -= u64::from(entry.body_len);
    }

    /// As `push`, for a message of an earlier run, which may be marked.
    pub(super) fn restore(&mut self, entry: Entry) {
        if self.dues.is_some() {
            return self.push_mapped(entry);
        }
        self.mark(&entry);
        self.push(entry);
    }

    /// As `restore`, for a page. What was restored since the page before goes aside.
    pub(super) fn restore_page(&mut self, page: Page) {
        debug_assert!(self.fifo.back().is_none_or(|last| last.seq < page.first().0));
        self.leave_unread(&page);
        self.bytes += page.bytes();
        self.absent += page.len();
        self.absent_bytes += page.bytes();
        let middle = self.middle.get_or_insert_default();
        let tail = std::mem::take(&mut middle.tail);
        self.returned.extend(tail.into_entries().map(|entry| (entry.seq, entry)));
        middle.push_page(page);
    }

    /// Remembers how far there are marked messages in fifo and tail.
    pub(super) fn mark(&mut self, entry: &Entry) {
        if entry.redelivered {
            self.marked_below = self.marked_below.max(entry.seq + 1);
        }
    }

    /// Makes a reserved message visible. False if it is not there.
    pub(super) fn show(&mut self, seq: u64) -> bool {
        let Some(entry) = self.find(seq) else {
            return false;
        };
        if !std::mem::take(&mut entry.reserved) {
            return false;
        }
        let bytes = u64::from(entry.body_len);
        self.bytes += bytes;
        self.reserved_bytes -= bytes;
        self.reserved -= 1;
        true
    }

    /// Takes a reserved message out.
    pub(super) fn withdraw(&mut self, seq: u64) {
        if !self.find(seq).is_some_and(|entry| entry.reserved) {
            return;
        }
        if let Some(entry) = self.take_out(seq) {
            self.reserved -= 1;
            self.reserved_bytes -= u64::from(entry.body_len);
        }
    }

    /// Puts a message back to its old place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.bytes += u64::from(entry.body_len);
        if entry.message.is_none() {
            self.count_absent(entry.body_len.into());
        }
        if self.dues.is_some() {
            return self.insert(entry);
        }
        let before_all = match (self.fifo.front(), &self.middle) {
            (Some(first), _) => entry.seq < first.seq,
            (None, None) => true,
            (None, Some(middle)) => entry.seq < middle.first(),
        };
        if before_all && self.returned.is_empty() {
            self.mark(&entry);
            self.fifo.push_front(entry);
        } else {
            self.returned.insert(entry.seq, entry);
        }
    }

    /// What dispatch would take next. It stops at an invisible message: its place is decided.
    pub(super) fn head(&self) -> Head {
        let first_returned = self.returned.first_key_value().map(|(_, entry)| entry);
        let entry = match (self.fifo.front(), first_returned) {
            (Some(a), Some(b)) => {
                if a.seq < b.seq {
                    a
                } else {
                    b
                }
            }
            (Some(a), None) => a,
            (None, first) => return self.head_behind_fifo(first),
        };
        match (&entry.message, entry.reserved) {
            (_, true) => Head::Nothing,
            (Some(_), _) => Head::Resident,
            (None, _) => Head::Evicted(entry.seq),
        }
    }

    /// What stands at the head if nothing visible is in the fifo.
    fn head_behind_fifo(&self, first_returned: Option<&Entry>) -> Head {
        let paged = self.middle.as_ref().map(|middle| middle.first());
        match (paged, first_returned) {
            (Some(paged), Some(entry)) if paged < entry.seq => Head::Evicted(paged),
            (_, Some(entry)) if entry.reserved => Head::Nothing,
            (_, Some(entry)) if entry.message.is_some() => Head::Resident,
            (_, Some(entry)) => Head::Evicted(entry.seq),
            (Some(paged), None) => Head::Evicted(paged),
            (None, None) => Head::Nothing,
        }
    }

    /// The first place that is taken, if only by an invisible message; behind all if none is.
    pub(super) fn first_seq(&self) -> u64 {
        let in_fifo = self.fifo.front().map(|entry| entry.seq);
        let returned = self.returned.first_key_value().map(|(seq, _)| *seq);
        let paged = self.middle.as_ref().map(|middle| middle.first());
        let tail = self.middle.as_ref().and_then(|middle| middle.tail.front());
        let all = [in_fifo, returned, paged, tail.map(|entry| entry.seq)];
        all.into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// Takes the message that `head` called resident.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        let from_fifo = match (self.fifo.front(), self.returned.first_key_value()) {
            (Some(first), Some((seq, _))) => first.seq < *seq,
            (front, _) => front.is_some(),
        };
        let entry = if from_fifo { self.fifo.pop_front()? } else { self.pop_returned()? };
        debug_assert!(!entry.reserved, "dispatch stops at an invisible message");
        debug_assert!(entry.message.is_some(), "dispatch stops at a message that is not there");
        self.bytes -= u64::from(entry.body_len);
        Some(entry)
    }

    /// As `head`, but looks past invisible messages: a `get` must find what was confirmed.
    pub(super) fn first_visible(&self) -> Head {
        let in_fifo = self.fifo.iter().find(|entry| !entry.reserved);
        let first_returned = self.returned.values().find(|entry| !entry.reserved);
        let entry = match (in_fifo, first_returned) {
            (Some(a), Some(b)) => {
                if a.seq < b.seq {
                    a
                } else {
                    b
                }
            }
            (Some(a), None) => a,
            (None, first) => return self.head_behind_fifo(first),
        };
        match entry.message {
            Some(_) => Head::Resident,
            None => Head::Evicted(entry.seq),
        }
    }

    /// When the message expires that `first_visible` called resident.
    pub(super) fn visible_due(&self) -> UnixMillis {
        let in_fifo = self.fifo.iter().find(|entry| !entry.reserved);
        let returned = self.returned.values().find(|entry| !entry.reserved);
        let first = in_fifo.into_iter().chain(returned).min_by_key(|entry| entry.seq);
        first.map_or(UnixMillis::NEVER, |entry| entry.due)
    }

    /// Takes the message that `first_visible` called resident.
    pub(super) fn pop_visible(&mut self) -> Option<Entry> {
        let in_fifo = self.fifo.iter().find(|entry| !entry.reserved).map(|entry| entry.seq);
        let first_returned = self.returned.values().find(|entry| !entry.reserved);
        let first_returned = first_returned.map(|entry| entry.seq);
        let entry = match (in_fifo, first_returned) {
            (Some(seq), returned) if returned.is_none_or(|returned| seq < returned) => {
                self.fifo.remove(seq)?
            }
            (_, returned) => self.take_returned(returned?)?,
        };
        self.bytes -= u64::from(entry.body_len);
        Some(entry)
    }

    /// Takes out everything visible, and what is damaged.
    pub(super) fn take_all(&mut self) -> Dropped {
        let mut fifo = std::mem::take(&mut self.fifo);
        let mut middle = self.middle.take();
        if self.reserved > 0 {
            (self.fifo, fifo) = fifo.into_entries().partition(|entry| entry.reserved);
            if let Some(middle) = &mut middle {
                let tail = std::mem::take(&mut middle.tail).into_entries();
                let (stay, go): (_, Entries) = tail.partition(|entry| entry.reserved);
                self.fifo.append(stay);
                middle.tail = go;
            }
        }
        let mut returned = std::mem::take(&mut self.returned);
        if self.reserved > 0 {
            self.returned = returned.extract_if(.., |_, entry| entry.reserved).collect();
        }
        let dues = self.dues.as_mut().map(|dues| dues.take());
        self.bytes = 0;
        self.absent = 0;
        self.absent_bytes = 0;
        Dropped {
            _fifo: fifo,
            _returned: returned,
            _middle: middle,
            _damaged: self.damaged.take(),
            _retrying: None,
            _forgotten: None,
            _dues: dues,
        }
    }

    /// Body bytes of invisible messages.
    pub(super) fn reserved_bytes(&self) -> u64 {
        self.reserved_bytes
    }

    /// Invisible messages.
    pub(super) fn reserved_len(&self) -> usize {
        self.reserved
    }

    /// Seqs of invisible messages.
    pub(super) fn reserved_seqs(&self) -> impl Iterator<Item = u64> {
        let any = self.reserved > 0;
        let all = || self.in_order().chain(self.returned.values());
        let reserved = any.then(all).into_iter().flatten();
        reserved.filter(|entry| entry.reserved).map(|entry| entry.seq)
    }

    /// Seqs of the visible messages, in order.
    pub(super) fn seqs(&self) -> Vec<u64> {
        let visible = self.in_order().filter(|entry| !entry.reserved).map(|entry| entry.seq);
        let returned = self.returned.values().filter(|entry| !entry.reserved);
        let returned = returned.map(|entry| entry.seq);
        let mut seqs: Vec<u64> = visible.chain(returned).chain(self.paged_seqs()).collect();
        seqs.sort_unstable();
        seqs
    }

    /// Seqs of those of them that are not in memory.
    pub(super) fn absent_seqs(&self) -> Vec<u64> {
        let evicted = self.entries().filter(|entry| entry.message.is_none());
        let evicted = evicted.map(|entry| entry.seq);
        let mut seqs: Vec<u64> = evicted.chain(self.paged_seqs()).collect();
        seqs.sort_unstable();
        seqs
    }

    fn paged_seqs(&self) -> impl Iterator<Item = u64> {
        let pages = self.middle.iter().flat_map(|middle| &middle.pages);
        pages.flat_map(|page| page.walk().map(|(seq, _)| seq))
    }

    /// Those that are in no page.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.in_order().chain(self.returned.values())
    }

    /// Those that are in fifo and tail.
    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.fifo.iter().chain(self.middle.iter().flat_map(|middle| middle.tail.iter()))
    }

    /// The message's entry, if it has one: none is there for what lies in a page.
    pub(super) fn find(&mut self, seq: u64) -> Option<&mut Entry> {
        let tail = self.middle.as_mut().and_then(|middle| middle.tail.get_mut(seq));
        self.fifo.get_mut(seq).or(tail).or_else(|| self.returned.get_mut(&seq))
    }

    /// Takes the message's entry out, wherever it is.
    pub(super) fn take_absent(&mut self, seq: u64) -> Option<Entry> {
        let absent = self.find(seq)?.message.is_none();
        if !absent {
            return None;
        }
        let entry = self.take_out(seq)?;
        self.count_present(entry.body_len.into());
        self.bytes -= u64::from(entry.body_len);
        Some(entry)
    }

    /// Takes the message's entry out, without counting.
    fn take_out(&mut self, seq: u64) -> Option<Entry> {
        let tail = self.middle.as_mut().map(|middle| &mut middle.tail);
        let in_order = self.fifo.remove(seq).or_else(|| tail?.remove(seq));
        in_order.or_else(|| self.take_returned(seq))
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkout::CheckedOut;
    use super::super::entries::CHUNK_LEN;
    use super::super::samples::publish;
    use super::super::{Event, Publish};
    use super::*;

    fn entry(seq: u64) -> Entry {
        Entry {
            seq,
            message: Some(publish().message),
            body_len: 1,
            due: UnixMillis::NEVER,
            persistent: true,
            redelivered: false,
            reserved: false,
        }
    }

    fn ready(seqs: impl IntoIterator<Item = u64>) -> Ready {
        let mut ready = Ready::default();
        seqs.into_iter().for_each(|seq| ready.push(entry(seq)));
        ready
    }

    #[test]
    fn what_every_message_moves_through_is_small() {
        assert_eq!((size_of::<Entry>(), size_of::<Option<CheckedOut>>()), (32, 48));
        assert_eq!((size_of::<Publish>(), size_of::<Event>()), (32, 32));
    }

    #[test]
    fn a_queue_that_was_long_gives_its_memory_back_as_it_drains() {
        let mut ready = ready(0..100_000);
        for seq in 0..100_000 {
            assert_eq!(ready.pop().map(|entry| entry.seq), Some(seq));
            let capacity = ready.fifo.capacity();
            assert!(capacity <= ready.len() + 2 * CHUNK_LEN, "{capacity} for {}", ready.len());
        }
        assert!(ready.fifo.capacity() <= CHUNK_LEN, "{}", ready.fifo.capacity());
        assert_eq!((ready.len(), ready.bytes()), (0, 0));
    }

    #[test]
    fn a_purged_queue_keeps_memory_for_what_is_invisible_only() {
        let mut ready = ready(0..100_000);
        ready.push(Entry { reserved: true, ..entry(100_000) });
        drop(ready.take_all());
        assert!(ready.fifo.capacity() <= CHUNK_LEN, "{}", ready.fifo.capacity());
        assert!(ready.show(100_000));
        drop(ready.take_all());
        assert_eq!((ready.len(), ready.fifo.capacity()), (0, 0));
    }

    #[test]
    fn gets_give_memory_back_too() {
        let mut ready = ready(0..100_000);
        while ready.pop_visible().is_some() {}
        assert!(ready.fifo.capacity() <= CHUNK_LEN, "{}", ready.fifo.capacity());
    }
}
