//! A page: what a queue keeps in memory of a run of ready messages whose contents lie on disk. It
//! knows which messages there are and how they are marked, not where they lie.
//!
//! Most pages are dense: every seq from the first to the last, all marked alike. The others have a
//! list, one varint a message: `(seqs skipped since the one before) << 2 | marks`.

use super::ready::Entry;
use super::runs::add_run;
use crate::id::Seq;
use crate::time::UnixMillis;
use std::ops::RangeInclusive;

/// One message on its way into a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paged {
    pub seq: Seq,
    pub body_len: u32,
    /// The journal knows it, so its end must be told there.
    pub persistent: bool,
    pub redelivered: bool,
    /// When it expires.
    pub due: UnixMillis,
}

impl Paged {
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            seq: Seq(entry.seq),
            body_len: entry.body_len,
            persistent: entry.persistent,
            redelivered: entry.redelivered,
            due: entry.due,
        }
    }
}

/// What a message's code says beside its seq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    const PERSISTENT: u8 = 1;
    const REDELIVERED: u8 = 2;
    const BITS: u32 = 2;

    fn new(persistent: bool, redelivered: bool) -> Self {
        Self(u8::from(persistent) * Self::PERSISTENT + u8::from(redelivered) * Self::REDELIVERED)
    }

    pub(super) fn persistent(self) -> bool {
        self.0 & Self::PERSISTENT != 0
    }

    pub(super) fn redelivered(self) -> bool {
        self.0 & Self::REDELIVERED != 0
    }
}

/// Ready messages, seqs ascending; never empty.
#[derive(Debug)]
pub struct Page {
    first: u64,
    last: u64,
    /// Of their bodies.
    bytes: u64,
    count: u32,
    /// Of each, if there are no codes.
    marks: Marks,
    /// None of its messages expires before.
    due: UnixMillis,
    /// What the first one skips means nothing, so that any rest of a page's codes is a page's.
    codes: Option<Box<[u8]>>,
}

impl Page {
    /// Persistent messages: every seq from `first` to `last`, all redelivered or none.
    ///
    /// # Panics
    /// If there is none, or there are 2^32 or more.
    #[must_use]
    pub fn dense(first: Seq, last: Seq, bytes: u64, redelivered: bool) -> Self {
        let count = last.0.checked_sub(first.0).and_then(|more| u32::try_from(more + 1).ok());
        let count = count.expect("a page has one message or more, and fewer than 2^32");
        let marks = Marks::new(true, redelivered);
        let due = UnixMillis::NEVER;
        Self { first: first.0, last: last.0, bytes, count, marks, due, codes: None }
    }

    /// A page of these messages, whose seqs increase. `None` if there are none.
    #[must_use]
    pub fn new(messages: impl IntoIterator<Item = Paged>) -> Option<Self> {
        let mut builder = PageBuilder::default();
        messages.into_iter().for_each(|message| builder.push(message));
        builder.finish()
    }

    #[must_use]
    pub fn first(&self) -> Seq {
        Seq(self.first)
    }

    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.last)
    }

    /// Messages.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a page is never empty")]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Body bytes of its messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// None of its messages expires before.
    pub(super) fn due(&self) -> UnixMillis {
        self.due
    }

    /// The same page, of whose messages some may expire from then on.
    #[must_use]
    pub fn with_due(self, due: UnixMillis) -> Self {
        Self { due, ..self }
    }

    /// The same page with bodies of this many bytes in all.
    pub(super) fn with_bytes(self, bytes: u64) -> Self {
        Self { bytes, ..self }
    }

    /// Body bytes of one message, on average; at least one.
    pub(super) fn body_len_mean(&self) -> u64 {
        (self.bytes / u64::from(self.count)).max(1)
    }

    pub(super) fn walk(&self) -> Walk<'_> {
        Walk { page: self, seq: self.first, left: self.count, at: 0 }
    }

    fn has_gaps(&self) -> bool {
        self.last - self.first + 1 != u64::from(self.count)
    }

    /// Its messages, each as if it had its share of the bodies' bytes, and this due time.
    pub(super) fn messages(&self, due: impl Fn(Seq) -> UnixMillis) -> impl Iterator<Item = Paged> {
        let mean = self.bytes / u64::from(self.count);
        let more = self.bytes % u64::from(self.count);
        self.walk().zip(0_u64..).map(move |((seq, marks), nth)| Paged {
            seq: Seq(seq),
            body_len: u32::try_from(mean + u64::from(nth < more)).unwrap_or(u32::MAX),
            persistent: marks.persistent(),
            redelivered: marks.redelivered(),
            due: due(Seq(seq)),
        })
    }

    /// Whether a message may be the next of this page, if a page has `page_len` of them. One page
    /// has one rank: new messages join behind those of their rank, and no page can be divided
    /// without losing count of whose bytes are where.
    pub(super) fn takes(&self, seq: u64, page_len: usize) -> bool {
        self.len() < page_len && Seq(self.last).rank() == Seq(seq).rank()
    }

    /// Adds its first `count` messages to `runs`. Looks at each only if seqs are missing.
    pub(super) fn add_runs(&self, count: usize, runs: &mut Vec<(Seq, Seq)>) {
        if self.has_gaps() {
            self.walk().take(count).for_each(|(seq, _)| add_run(runs, (seq, seq)));
        } else if count > 0 {
            let last = self.first + (count.min(self.len()) - 1) as u64;
            add_run(runs, (self.first, last));
        }
    }

    /// Adds those that are marked redelivered to `runs`.
    pub(super) fn add_redelivered(&self, runs: &mut Vec<(Seq, Seq)>) {
        if self.codes.is_some() {
            let marked = self.walk().filter(|(_, marks)| marks.redelivered());
            marked.for_each(|(seq, _)| add_run(runs, (seq, seq)));
        } else if self.marks.redelivered() {
            add_run(runs, (self.first, self.last));
        }
    }

    /// Messages that are looked at one by one to name all.
    pub(super) fn steps(&self) -> usize {
        if self.codes.is_some() { self.len() } else { 1 }
    }

    /// As `add_runs` and `add_redelivered`, of these seqs only.
    pub(super) fn add_within(
        &self,
        range: &RangeInclusive<u64>,
        live: &mut Vec<(Seq, Seq)>,
        redelivered: &mut Vec<(Seq, Seq)>,
    ) {
        if range.contains(&self.first) && range.contains(&self.last) {
            self.add_runs(usize::MAX, live);
            self.add_redelivered(redelivered);
        } else if self.codes.is_some() {
            for (seq, marks) in self.walk().filter(|(seq, _)| range.contains(seq)) {
                add_run(live, (seq, seq));
                if marks.redelivered() {
                    add_run(redelivered, (seq, seq));
                }
            }
        } else {
            let run = (self.first.max(*range.start()), self.last.min(*range.end()));
            add_run(live, run);
            if self.marks.redelivered() {
                add_run(redelivered, run);
            }
        }
    }

    /// Memory that it takes, with what it points to.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.codes.as_ref().map_or(0, |codes| codes.len())
    }
}

/// Goes over a page from its first message on.
#[derive(Clone)]
pub(super) struct Walk<'a> {
    page: &'a Page,
    seq: u64,
    left: u32,
    /// Where the code of the message at `seq` begins.
    at: usize,
}

impl Walk<'_> {
    /// The message to which the walk has come.
    pub(super) fn current(&self) -> Option<(u64, Marks)> {
        if self.left == 0 {
            return None;
        }
        let marks = match &self.page.codes {
            None => self.page.marks,
            Some(codes) => Marks((varint(&codes[self.at..]).0 & 0b11) as u8),
        };
        Some((self.seq, marks))
    }

    /// What is left, as a page with bodies of this many bytes.
    pub(super) fn rest(self, bytes: u64) -> Option<Page> {
        (self.left > 0).then(|| Page {
            first: self.seq,
            last: self.page.last,
            bytes,
            count: self.left,
            marks: self.page.marks,
            due: self.page.due,
            codes: self.page.codes.as_ref().map(|codes| Box::from(&codes[self.at..])),
        })
    }
}

impl Iterator for Walk<'_> {
    type Item = (u64, Marks);

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.current()?;
        self.left -= 1;
        if self.left > 0 {
            let mut skipped = 0;
            if let Some(codes) = &self.page.codes {
                self.at += varint(&codes[self.at..]).1;
                skipped = (varint(&codes[self.at..]).0 >> Marks::BITS) as u64;
            }
            self.seq += skipped + 1;
        }
        Some(current)
    }
}

/// A page that grows at its end.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    page: Option<Page>,
    /// Empty as long as the page is dense.
    codes: Vec<u8>,
}

impl PageBuilder {
    pub(super) fn reopen(mut page: Page) -> Self {
        let codes = page.codes.take().map_or_else(Vec::new, <[u8]>::into_vec);
        Self { page: Some(page), codes }
    }

    pub(super) fn len(&self) -> usize {
        self.page.as_ref().map_or(0, Page::len)
    }

    /// As `Page::takes`; a page that is not begun takes any.
    pub(super) fn takes(&self, seq: u64, page_len: usize) -> bool {
        self.page.as_ref().is_none_or(|page| page.takes(seq, page_len))
    }

    pub(super) fn push(&mut self, message: Paged) {
        let Paged { seq: Seq(seq), body_len, persistent, redelivered, due } = message;
        let marks = Marks::new(persistent, redelivered);
        let Some(page) = &mut self.page else {
            let bytes = u64::from(body_len);
            let (first, last, count) = (seq, seq, 1);
            self.page = Some(Page { first, last, bytes, count, marks, due, codes: None });
            return;
        };
        debug_assert!(page.last < seq, "seqs increase");
        let skipped = seq - page.last - 1;
        if self.codes.is_empty() && (skipped > 0 || marks != page.marks) {
            self.codes.resize(page.len(), page.marks.0);
        }
        if !self.codes.is_empty() {
            // Wide, since the ranks of two neighbours may be far apart.
            put_varint(&mut self.codes, u128::from(skipped) << Marks::BITS | u128::from(marks.0));
        }
        page.last = seq;
        page.count += 1;
        page.due = page.due.min(due);
        page.bytes += u64::from(body_len);
    }

    pub(super) fn finish(self) -> Option<Page> {
        let codes = (!self.codes.is_empty()).then(|| self.codes.into_boxed_slice());
        self.page.map(|page| Page { codes, ..page })
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: u128) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The number at the front, and its octets.
fn varint(codes: &[u8]) -> (u128, usize) {
    let mut n = 0;
    for (&octet, at) in codes.iter().zip(0_usize..10) {
        n |= u128::from(octet & 0x7f) << (7 * at);
        if octet < 0x80 {
            return (n, at + 1);
        }
    }
    (n, codes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64, redelivered: bool) -> Paged {
        Paged { seq: Seq(seq), body_len: 10, persistent: true, redelivered, due: UnixMillis::NEVER }
    }

    fn found(page: &Page) -> Vec<(u64, bool)> {
        page.walk().map(|(seq, marks)| (seq, marks.redelivered())).collect()
    }

    #[test]
    fn a_dense_page_is_a_few_words_and_no_list() {
        let page = Page::new((5..1029).map(|seq| message(seq, true))).unwrap();
        assert_eq!((page.memory(), page.len(), page.bytes()), (56, 1024, 10_240));
        assert_eq!((page.first(), page.last()), (Seq(5), Seq(1028)));
        let dense = Page::dense(Seq(5), Seq(1028), 10_240, true);
        assert_eq!(found(&page), found(&dense));
        let mut runs = Vec::new();
        page.add_runs(usize::MAX, &mut runs);
        page.add_redelivered(&mut runs);
        assert_eq!(runs, [(Seq(5), Seq(1028))]);
        assert!(Page::new([]).is_none());
    }

    #[test]
    fn any_page_gives_back_what_went_in_from_any_place_on() {
        let seqs = [1, 2, 3, 40, 41, 1_000, 1_001, 5_000_000_000, 5_000_000_001];
        for marks in 0..1_u32 << seqs.len() {
            let all: Vec<_> =
                seqs.iter().enumerate().map(|(at, seq)| (*seq, marks >> at & 1 == 1)).collect();
            let page = Page::new(all.iter().map(|(seq, marked)| message(*seq, *marked))).unwrap();
            assert_eq!(found(&page), all);
            for taken in 0..=all.len() {
                let mut walk = page.walk();
                walk.by_ref().take(taken).for_each(drop);
                assert_eq!(walk.current().map(|(seq, _)| seq), seqs.get(taken).copied());
                let rest = walk.rest(7);
                assert_eq!(rest.as_ref().map(found).unwrap_or_default(), all[taken..]);
                assert!(rest.is_none_or(|rest| rest.len() == all.len() - taken));
            }
        }
    }

    #[test]
    fn a_page_that_is_opened_again_goes_on() {
        let marked = |seq: u64| seq.is_multiple_of(5);
        for split in 1..30 {
            let first = (1..=split).map(|seq| message(seq, false));
            let mut builder = PageBuilder::reopen(Page::new(first).unwrap());
            for seq in split + 1..=30 {
                builder.push(message(2 * seq, marked(seq)));
            }
            assert_eq!(builder.len(), 30);
            let page = builder.finish().unwrap();
            let rest = (split + 1..=30).map(|seq| (2 * seq, marked(seq)));
            let all: Vec<_> = (1..=split).map(|seq| (seq, false)).chain(rest).collect();
            assert_eq!((found(&page), page.bytes()), (all, 300));
            let mut runs = Vec::new();
            page.add_redelivered(&mut runs);
            let marked = (split + 1..=30).filter(|seq| marked(*seq)).map(|seq| Seq(2 * seq));
            assert_eq!(runs, marked.map(|seq| (seq, seq)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_of_any_ranks_stay_themselves() {
        for (low, high) in [(0, 1), (0, 63), (0, 64), (0, 100), (0, 255), (127, 255)] {
            let seqs = [(low, 1), (low, 2), (high, 1), (high, 2), (high, 1 << 40)];
            let seqs = seqs.map(|(rank, age)| Seq::ranked(rank, age).0);
            let page = Page::new(seqs.map(|seq| message(seq, seq % 2 == 0))).unwrap();
            assert_eq!(found(&page), seqs.map(|seq| (seq, seq % 2 == 0)), "{low} and {high}");
        }
    }

    #[test]
    fn a_page_with_holes_takes_an_octet_or_so_for_each_message() {
        let page = Page::new((0..1024).map(|n| message(n * 3, n % 2 == 0))).unwrap();
        assert!(page.memory() <= 56 + 1024, "{}", page.memory());
        let mut runs = Vec::new();
        page.add_runs(3, &mut runs);
        assert_eq!(runs, [0, 3, 6].map(|seq| (Seq(seq), Seq(seq))));
    }
}
