//! A catalogue of small ordered entries beside the journal, kept by sled.
//!
//! Owns what may be asked of it and how sled is used; `catalogue_thread` owns the thread and the
//! time bound. Does not own what the entries mean, nor where the directory lies: see `Disk`.
//!
//! It is never the only copy. A power loss leaves what was last flushed, and of the slices written
//! since, the first so many; rot may leave less, or something else. Whoever reads it checks it
//! against the journal, and throws it away when in doubt. `docs/sled.md` says why this version of
//! sled, and what each setting here is for.

use super::catalogue_log;
use super::catalogue_place;
use super::catalogue_thread::{CatalogueThread, Entries, Page};
use rayon_core::ThreadPoolBuilder;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem::ManuallyDrop;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A key and its value from now on; `None` takes the entry away.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Small entries in the order of their keys. After an error every further call fails at once.
pub trait Catalogue: Send {
    /// Passes every entry whose key starts with `prefix`, in the order of the keys, until `each`
    /// says false.
    ///
    /// # Errors
    /// If the catalogue errs or gives no answer in time; `each` may have seen some entries.
    fn scan(
        &mut self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CatalogueError>;

    /// # Errors
    /// If the catalogue errs or gives no answer in time.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError>;

    /// Takes the changes out of the list and makes them as one: `scan` and `get` see them at once,
    /// a crash leaves all or none, and `flush` makes them last. Of two changes of a key the later
    /// holds.
    ///
    /// # Errors
    /// If the catalogue errs or gives no answer in time; the changes may have been made.
    fn write(&mut self, changes: &mut Vec<Change>) -> Result<(), CatalogueError>;

    /// Returns once all that was written survives a power loss.
    ///
    /// # Errors
    /// If the catalogue errs or gives no answer in time.
    fn flush(&mut self) -> Result<(), CatalogueError>;
}

/// Why the catalogue is of no more use, in one line. The broker goes on without it.
#[derive(Clone, Debug)]
pub struct CatalogueError {
    operation: &'static str,
    path: PathBuf,
    reason: String,
}

impl CatalogueError {
    /// `operation` is a verb such as "scan".
    #[must_use]
    pub fn new(operation: &'static str, path: impl Into<PathBuf>, reason: &str) -> Self {
        let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { operation, path: path.into(), reason }
    }

    /// The same of another place, of which this one was a copy.
    pub(super) fn of(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }
}

impl fmt::Display for CatalogueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, path, reason } = self;
        write!(f, "cannot {operation} the catalogue {}: {reason}", path.display())
    }
}

impl std::error::Error for CatalogueError {}

/// How long sled may take for one answer before it counts as stalled.
pub const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A catalogue in a directory of its own. Dropping it closes it cleanly, in bounded time.
pub struct SledCatalogue {
    thread: CatalogueThread<SledEntries>,
}

impl SledCatalogue {
    /// Opens what the directory holds, or a new catalogue. Each call, and this one, takes
    /// `answer_time` at most.
    ///
    /// # Errors
    /// If sled errs, panics or gives no answer in time. It must not be opened there again: the
    /// stalled one may come to life. See `Disk::discard_catalogue`.
    pub fn open(directory: &Path, answer_time: Duration) -> Result<Self, CatalogueError> {
        let place = directory.to_owned();
        let thread =
            CatalogueThread::open(directory, answer_time, move || SledEntries::open(&place))?;
        Ok(Self { thread })
    }
}

impl Catalogue for SledCatalogue {
    fn scan(
        &mut self,
        prefix: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), CatalogueError> {
        self.thread.scan(prefix, each)
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, CatalogueError> {
        self.thread.get(key)
    }

    fn write(&mut self, changes: &mut Vec<Change>) -> Result<(), CatalogueError> {
        self.thread.write(changes)
    }

    fn flush(&mut self) -> Result<(), CatalogueError> {
        self.thread.flush()
    }
}

/// Entries in one leaf, which a flush writes whole. It cannot change once a catalogue exists.
const LEAF_ENTRIES: usize = 64;

/// For leaves that were read. What was written stays in memory whatever is said here.
const CACHE_BYTES: usize = 1 << 20;

/// Fewer entries than a leaf has that is not about to be merged.
const TOUCH_EVERY: usize = 8;

/// The fastest level. Leaves are written whole, so time counts more than the last percent.
const ZSTD_LEVEL: i32 = 1;

/// Sled reads and compacts on rayon's threads, by default as many as there are cores. Who waits for
/// them is none of them, so that one is enough.
const RAYON_THREADS: usize = 1;

/// A thread of sled's has the lock of its directory a little longer than the sled that was closed.
/// Nobody else has it: the data directory has a lock of its own.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Five seconds of them, beside what the attempts take.
const LOCK_PAUSES_MAX: u32 = 100;

/// One sled with one tree: two trees may be flushed at different times.
struct SledEntries {
    sled: sled::Db<LEAF_ENTRIES>,
}

impl SledEntries {
    fn open(directory: &Path) -> Result<Self, String> {
        let logs = catalogue_place::files(&directory.join("metadata"), "log_").map_err(reason)?;
        if !logs.iter().all(|log| catalogue_log::is_whole(log)) {
            return Err("its metadata log is damaged".to_owned());
        }
        // The pool is the process's. Where an embedding program made one before, that one serves.
        // A panic on it would end the process; like this the call that waits for it fails.
        let pool = ThreadPoolBuilder::new().num_threads(RAYON_THREADS);
        let named = pool.thread_name(|n| format!("sled-{n}")).panic_handler(|_| {});
        drop(named.build_global());
        // With a time here sled has a thread that aborts the process when a flush fails.
        let flush_every_ms = None;
        let settings = sled::Config::new()
            .path(directory)
            .cache_capacity_bytes(CACHE_BYTES)
            .zstd_compression_level(ZSTD_LEVEL)
            .flush_every_ms(flush_every_ms);
        let open = || settings.open::<LEAF_ENTRIES>();
        let sled = when_unlocked(open, || thread::sleep(LOCK_PAUSE)).map_err(reason)?;
        Ok(Self { sled })
    }
}

impl Entries for SledEntries {
    fn fill(&mut self, page: &mut Page, prefix: &[u8], after: Option<&[u8]>) -> Result<(), String> {
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let range = self.sled.range::<&[u8], _>((from, Bound::Unbounded));
        // Its drop flushes, which never returns after an error.
        let mut range = ManuallyDrop::new(range);
        for (index, entry) in range.by_ref().enumerate() {
            let (key, value) = entry.map_err(reason)?;
            if !key.starts_with(prefix) {
                break;
            }
            // Where rot makes an old leaf the successor of a new one, the walk goes in circles.
            if page.last_key().or(after).is_some_and(|before| before >= key.as_ref()) {
                return Err("its keys are not in order".to_owned());
            }
            // A range forgets which leaves it brought into the cache, and they stay for good.
            if index % TOUCH_EVERY == 0 {
                self.sled.get(&key).map_err(reason)?;
            }
            page.push(&key, &value);
            if page.is_full() {
                break;
            }
        }
        drop(ManuallyDrop::into_inner(range));
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let value = self.sled.get(key).map_err(reason)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), String> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.sled.apply_batch(batch).map_err(reason)
    }

    fn flush(&mut self) -> Result<(), String> {
        self.sled.flush().map(drop).map_err(reason)
    }
}

/// Opens what may be locked for a little longer; waits between the attempts.
fn when_unlocked<T>(
    mut open: impl FnMut() -> io::Result<T>,
    mut wait: impl FnMut(),
) -> io::Result<T> {
    for _ in 0..LOCK_PAUSES_MAX {
        match open() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(),
            done => return done,
        }
    }
    open()
}

/// Sled puts the places in its source before the reason.
fn reason(error: io::Error) -> String {
    let text = error.to_string();
    text.rsplit(" -> ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_that_was_closed_a_moment_ago_is_opened_once_nobody_has_its_lock() {
        let directory = tempfile::tempdir().unwrap();
        let settings = sled::Config::new().path(directory.path());
        let mut closed_late = Some(settings.open::<LEAF_ENTRIES>().unwrap());
        let wait = || drop(closed_late.take());
        let again = when_unlocked(|| settings.open::<LEAF_ENTRIES>(), wait);
        assert!(again.is_ok(), "{again:?}");
    }

    #[test]
    fn a_lock_is_not_waited_for_without_end_and_nothing_else_is_waited_for() {
        let failing = |kind: ErrorKind| {
            let mut attempts = 0;
            let open = || {
                attempts += 1;
                Err::<(), _>(io::Error::from(kind))
            };
            assert_eq!(when_unlocked(open, || ()).map_err(|error| error.kind()), Err(kind));
            attempts
        };
        assert_eq!(failing(ErrorKind::WouldBlock), LOCK_PAUSES_MAX + 1);
        assert_eq!(failing(ErrorKind::NotFound), 1);
    }
}
