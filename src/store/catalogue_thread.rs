//! A thread of its own for a catalogue that may err, panic or stall.
//!
//! Owns the thread, the time bound and what becomes of a catalogue that failed: it is never used
//! and never dropped again, since its drop may hang, and nobody waits for its thread. Does not own
//! what keeps the entries: see `catalogue`.

use super::catalogue::{CatalogueError, Change};
use std::any::Any;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// What keeps the entries, on one thread. An error says why in a few words and is the last answer.
pub(super) trait Entries {
    /// Fills the page, which is empty, with the next entries whose keys start with `prefix` and lie
    /// behind `after`, in order. It stays empty at the end.
    fn fill(&mut self, page: &mut Page, prefix: &[u8], after: Option<&[u8]>) -> Result<(), String>;

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), String>;

    fn flush(&mut self) -> Result<(), String>;
}

/// Entries on their way from the thread, in one piece: memory that one thread takes and another
/// gives back in many small ones comes back late.
#[derive(Default)]
pub(super) struct Page {
    bytes: Vec<u8>,
    /// Where each entry's key and value end.
    ends: Vec<(usize, usize)>,
}

/// What crosses the channel at a time. One more entry may follow.
const PAGE_BYTES: usize = 128 << 10;

impl Page {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.ends.push((key_end, self.bytes.len()));
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() + self.ends.len() * size_of::<(usize, usize)>() >= PAGE_BYTES
    }

    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.entry(self.ends.len().checked_sub(1)?).map(|(key, _)| key)
    }

    fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let (key_end, end) = *self.ends.get(index)?;
        let begin = index.checked_sub(1).and_then(|before| self.ends.get(before));
        let begin = begin.map_or(0, |(_, end)| *end);
        Some((self.bytes.get(begin..key_end)?, self.bytes.get(key_end..end)?))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Asks the entries on their thread, and gives them up at the first answer that is none.
pub(super) struct CatalogueThread<E> {
    path: PathBuf,
    answer_time: Duration,
    state: State<E>,
}

enum State<E> {
    Working(Sender<Task<E>>),
    GivenUp(CatalogueError),
}

enum Task<E> {
    /// Says whether all is well.
    Ask(Box<dyn FnOnce(&mut E) -> bool + Send>),
    Close(Sender<()>),
}

impl<E: Entries + 'static> CatalogueThread<E> {
    /// Starts the thread and opens the entries on it.
    ///
    /// # Errors
    /// If they cannot be opened in time.
    pub(super) fn open(
        path: &Path,
        answer_time: Duration,
        open: impl FnOnce() -> Result<E, String> + Send + 'static,
    ) -> Result<Self, CatalogueError> {
        let failed = |reason: &str| CatalogueError::new("open", path, reason);
        let (ask, tasks) = mpsc::channel();
        let (answer, opened) = mpsc::channel();
        thread::Builder::new()
            .name("catalogue".to_owned())
            .spawn(move || {
                let outcome = caught(open);
                let entries = match outcome {
                    Ok(entries) => entries,
                    Err(why) => return drop(answer.send(Err(why))),
                };
                // Before the answer: nobody may be waiting for it any more.
                let entries = ManuallyDrop::new(entries);
                if answer.send(Ok(())).is_ok() {
                    work(entries, &tasks);
                }
            })
            .map_err(|error| failed(&error.to_string()))?;
        receive(&opened, answer_time).map_err(|why| failed(&why))?;
        Ok(Self { path: path.to_owned(), answer_time, state: State::Working(ask) })
    }

    pub(super) fn scan(
        &mut self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CatalogueError> {
        let mut page = Page::default();
        loop {
            let prefix = prefix.to_vec();
            page = self.ask("scan", move |entries| {
                let after = page.last_key().map(<[u8]>::to_vec);
                page.clear();
                entries.fill(&mut page, &prefix, after.as_deref()).map(|()| page)
            })?;
            if page.ends.is_empty() {
                return Ok(());
            }
            for (key, value) in (0..page.ends.len()).map_while(|index| page.entry(index)) {
                if !each(key, value) {
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        let key = key.to_vec();
        self.ask("read", move |entries| entries.get(&key))
    }

    pub(super) fn write(&mut self, changes: &mut Vec<Change>) -> Result<(), CatalogueError> {
        let changes = mem::take(changes);
        self.ask("write to", move |entries| entries.apply(changes))
    }

    pub(super) fn flush(&mut self) -> Result<(), CatalogueError> {
        self.ask("flush", E::flush)
    }

    fn ask<T: Send + 'static>(
        &mut self,
        operation: &'static str,
        act: impl FnOnce(&mut E) -> Result<T, String> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let ask = match &self.state {
            State::Working(ask) => ask,
            State::GivenUp(why) => return Err(why.clone()),
        };
        let (answer, answers) = mpsc::channel();
        let task = move |entries: &mut E| {
            let outcome = caught(|| act(entries));
            let well = outcome.is_ok();
            // An answer that nobody waits for came too late: the entries are given up.
            answer.send(outcome).is_ok() && well
        };
        // If the thread is gone the answer's channel is closed, which says so below.
        drop(ask.send(Task::Ask(Box::new(task))));
        receive(&answers, self.answer_time).map_err(|why| {
            let error = CatalogueError::new(operation, &self.path, &why);
            self.state = State::GivenUp(error.clone());
            error
        })
    }
}

impl<E> Drop for CatalogueThread<E> {
    fn drop(&mut self) {
        if let State::Working(ask) = &self.state {
            let (closed, wait) = mpsc::channel();
            drop(ask.send(Task::Close(closed)));
            // Closed, ended by a panic or too slow: there is nothing more to do about it.
            wait.recv_timeout(self.answer_time).ok();
        }
    }
}

/// The thread's life. The entries are dropped on the clean way out only.
fn work<E: Entries>(mut entries: ManuallyDrop<E>, tasks: &Receiver<Task<E>>) {
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Ask(task) => {
                if !task(&mut entries) {
                    return;
                }
            }
            Task::Close(closed) => {
                if caught(|| entries.flush()).is_ok() {
                    drop(caught(|| {
                        drop(ManuallyDrop::into_inner(entries));
                        Ok(())
                    }));
                }
                closed.send(()).ok();
                return;
            }
        }
    }
}

fn receive<T>(answers: &Receiver<Result<T, String>>, time: Duration) -> Result<T, String> {
    match answers.recv_timeout(time) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {time:?}")),
        Err(RecvTimeoutError::Disconnected) => Err("its thread has ended".to_owned()),
    }
}

/// A panic is an error as any other: what panicked is not used again.
fn caught<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| Err(said(panic.as_ref())))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("without a word"))
}
