//! Bringing ready messages back from disk: what a queue asks for, when, and what it does with the
//! answer. Who reads them, and where from, is not known here.

use super::core::{QueueCore, body_len};
use super::effects::{Effects, Load};
use super::page::Marks;
use super::ready::{Entry, Head, Ready};
use super::runs::runs;
use crate::config::Sizes;
use crate::id::Seq;
use crate::limits::{LOAD_BYTES, LOAD_LEN, PAGE_LEN, READ_AHEAD_LEN};
use crate::message::Message;
use crate::store::{OnDisk, RecordBatch};
use crate::time::UnixMillis;
use std::iter::Peekable;
use std::sync::{Arc, LazyLock};

/// The sizes of paging.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// Messages of a page, at most.
    pub page_len: usize,
    /// More is asked for while fewer messages than this are in memory before the first page.
    pub read_ahead_len: usize,
    /// Messages of a load, at most.
    pub load_len: usize,
    /// Body bytes of a load and of what is read ahead, roughly.
    pub load_bytes: u64,
}

impl From<Sizes> for Paging {
    fn from(sizes: Sizes) -> Self {
        Self {
            page_len: sizes.page_len,
            read_ahead_len: sizes.load_len,
            load_len: sizes.load_len,
            ..Self::default()
        }
    }
}

/// That of queues of which nothing is said, which share it.
static USUAL: LazyLock<Arc<Paging>> = LazyLock::new(Arc::default);

impl Paging {
    /// As `default`, shared.
    pub(super) fn usual() -> Arc<Self> {
        Arc::clone(&USUAL)
    }
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            page_len: PAGE_LEN,
            read_ahead_len: READ_AHEAD_LEN,
            load_len: LOAD_LEN,
            load_bytes: LOAD_BYTES,
        }
    }
}

/// A message that was read, or could not be.
pub(super) struct Answer {
    pub(super) seq: u64,
    pub(super) due: UnixMillis,
    pub(super) message: Option<Message>,
}

impl QueueCore {
    /// The answer to a load: messages that it asked for, and those of them that cannot be read,
    /// which are damaged from now on. What was not looked at is in neither, and is asked for again
    /// when its turn comes; so an answer without anything is followed by the same load. What the
    /// queue no longer wants is passed over.
    pub fn loaded(
        &mut self,
        messages: Vec<OnDisk>,
        lost: &[Seq],
        records: &mut RecordBatch,
        effects: &mut Effects,
    ) {
        self.loading = false;
        let found = messages.into_iter().map(|OnDisk { seq, due, message }| Answer {
            seq: seq.0,
            due,
            message: Some(message),
        });
        let never = UnixMillis::NEVER;
        let lost = lost.iter().map(|seq| Answer { seq: seq.0, due: never, message: None });
        let mut answers: Vec<_> = found.chain(lost).collect();
        answers.sort_by_key(|answer| answer.seq);
        if self.absent_dead.is_some() {
            answers.retain(|answer| !self.found_dead(answer.seq, answer.message.as_ref(), effects));
        }
        // A message that could not be read at some checkpoint had no say in the queue's bound.
        let due = answers.iter().map(|answer| answer.due).min().unwrap_or(never);
        self.deadlines.first = self.deadlines.first.min(due);
        if self.keyed.is_some() {
            self.forget_lost(&answers);
        }
        let others = self.ready.dues.is_some() && self.loaded_due(&mut answers, records, effects);
        self.ready.loaded(answers, &mut effects.ended);
        if others {
            // Neither consumers nor what is due wait for more than one load of the other.
            self.ask_for_due(effects);
        }
        self.dispatch(records, effects);
    }

    /// Asks for the message at `seq`, which is absent, and for some behind it.
    pub(super) fn ask_to_load(&mut self, seq: u64, effects: &mut Effects) {
        if !self.loading {
            self.loading = true;
            let runs = self.ready.absent_from(seq, &self.paging);
            effects.loads.push(Load { queue: self.id, runs });
        }
    }

    /// Asks for dead letters that are not in memory, unless something else is asked for.
    #[cold]
    pub(super) fn load_dead(&mut self, effects: &mut Effects) {
        if !self.loading
            && let Some(absent) = &self.absent_dead
        {
            self.loading = true;
            let seqs = absent.keys().copied().take(self.paging.load_len.max(1));
            effects.loads.push(Load { queue: self.id, runs: runs(seqs) });
        }
    }

    /// Asks for what consumers will take next and is not in memory. `took`: a consumer has just
    /// taken something.
    #[cold]
    pub(super) fn read_ahead(&mut self, took: bool, effects: &mut Effects) {
        if self.loading || !(took || self.consumers.next().is_some()) {
            return;
        }
        match self.ready.head() {
            Head::Evicted(seq) => self.ask_to_load(seq, effects),
            Head::Nothing | Head::Resident => {
                if let Some(seq) = self.ready.lacks_ahead(&self.paging) {
                    self.ask_to_load(seq, effects);
                }
            }
        }
    }
}

impl Ready {
    /// The first message in the pages, if too few are in memory before it.
    pub(super) fn lacks_ahead(&self, paging: &Paging) -> Option<u64> {
        let first = self.middle.as_ref()?.pages.front()?;
        let by_bytes = (paging.load_bytes / first.body_len_mean()).max(1);
        let ahead = self.len_before(first.first(), paging);
        let few = ahead < paging.read_ahead_len && (ahead as u64) < by_bytes;
        few.then_some(first.first().0)
    }

    /// The absent message at `seq`, which is the first, and those behind it that one load brings.
    fn absent_from(&self, seq: u64, paging: &Paging) -> Vec<(Seq, Seq)> {
        match &self.middle {
            Some(middle) if middle.first() == seq => self.paged_runs(paging),
            _ => self.evicted_runs(seq, paging),
        }
    }

    fn paged_runs(&self, paging: &Paging) -> Vec<(Seq, Seq)> {
        let (mut found, mut messages, mut bytes) = (Vec::new(), paging.load_len, paging.load_bytes);
        for page in self.middle.iter().flat_map(|middle| &middle.pages) {
            let by_bytes = usize::try_from(bytes / page.body_len_mean()).unwrap_or(usize::MAX);
            let at_least = usize::from(found.is_empty());
            let count = messages.min(by_bytes).max(at_least).min(page.len());
            page.add_runs(count, &mut found);
            if count < page.len() {
                break;
            }
            messages = messages.saturating_sub(count);
            bytes = bytes.saturating_sub(page.bytes());
        }
        found
    }

    /// Messages from `seq` on that were evicted one by one. Looks at as many as a load may have.
    fn evicted_runs(&self, seq: u64, paging: &Paging) -> Vec<(Seq, Seq)> {
        let in_fifo = self.fifo.iter_from(seq).take(paging.load_len.max(1));
        let returned = self.returned.range(seq..).take(paging.load_len.max(1));
        let near = in_fifo.chain(returned.map(|(_, entry)| entry));
        let absent = near.filter(|entry| entry.message.is_none());
        let mut absent: Vec<_> = absent.map(|entry| (entry.seq, entry.body_len)).collect();
        absent.sort_unstable();
        absent.truncate(paging.load_len.max(1));
        let mut bytes = 0;
        runs(absent.into_iter().map_while(|(seq, body_len)| {
            let fits = bytes == 0 || bytes + u64::from(body_len) <= paging.load_bytes;
            bytes += u64::from(body_len);
            fits.then_some(seq)
        }))
    }

    /// Puts what was read to its place. Pages give up their first messages only: from the first on
    /// that the answer does not know, they stay as they are. What is not wanted goes to `unwanted`.
    fn loaded(&mut self, answers: Vec<Answer>, unwanted: &mut Vec<Message>) {
        let mut answers = answers.into_iter().peekable();
        while let Some(answer) = answers.peek() {
            if self.middle.as_ref().is_some_and(|middle| middle.first() == answer.seq) {
                self.load_page(&mut answers, unwanted);
            } else if let Some(answer) = answers.next() {
                self.load_in_place(answer, unwanted);
            }
        }
    }

    fn load_page(
        &mut self,
        answers: &mut Peekable<impl Iterator<Item = Answer>>,
        unwanted: &mut Vec<Message>,
    ) {
        let Some(page) = self.middle.as_mut().and_then(|middle| middle.pop_page()) else { return };
        let mut bytes = page.bytes();
        let mut walk = page.walk();
        while let Some((seq, marks)) = walk.current() {
            let Some(answer) = answers.next_if(|answer| answer.seq <= seq) else { break };
            if answer.seq < seq {
                self.load_in_place(answer, unwanted);
                continue;
            }
            let taken = self.load_paged(answer, marks, bytes);
            bytes -= taken;
            walk.next();
        }
        let rest = walk.rest(bytes);
        if rest.is_none() {
            // What the lost ones had, or what the page had said too much.
            self.count_fewer_bytes(bytes);
        }
        let Some(middle) = &mut self.middle else { return };
        rest.into_iter().for_each(|rest| middle.push_page_front(rest));
        if middle.pages.is_empty()
            && let Some(middle) = self.middle.take()
        {
            middle.join(&mut self.fifo);
        }
    }

    /// The next message of the first page, which says that it has `page_bytes` left, is there or is
    /// lost. Says how many of them are its own.
    fn load_paged(&mut self, answer: Answer, marks: Marks, page_bytes: u64) -> u64 {
        let Some(message) = answer.message else {
            self.count_present(0);
            self.damage(answer.seq, marks.redelivered());
            return 0;
        };
        let entry = Entry {
            seq: answer.seq,
            body_len: body_len(&message),
            message: Some(message),
            due: answer.due,
            persistent: marks.persistent(),
            redelivered: marks.redelivered(),
            reserved: false,
        };
        let bytes = u64::from(entry.body_len);
        let taken = bytes.min(page_bytes);
        self.count_present(taken);
        self.count_more_bytes(bytes - taken);
        if self.dues.is_some() {
            self.insert(entry);
        } else {
            self.mark(&entry);
            self.fifo.push_back(entry);
        }
        taken
    }

    fn load_in_place(&mut self, answer: Answer, unwanted: &mut Vec<Message>) {
        let Some(message) = answer.message else {
            if let Some(entry) = self.take_absent(answer.seq) {
                self.damage(entry.seq, entry.redelivered);
            }
            return;
        };
        match self.find(answer.seq) {
            Some(entry) if entry.message.is_none() => {
                let bytes = entry.body_len.into();
                entry.message = Some(message);
                // One that waited over a restart knew only a bound.
                let bound = std::mem::replace(&mut entry.due, answer.due);
                self.count_present(bytes);
                self.relist((bound, answer.due), answer.seq);
            }
            _ => unwanted.push(message),
        }
    }
}
