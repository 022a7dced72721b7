//! The journal: everything durable, in one order, made safe by one thread.
//!
//! ```text
//! append() ──> pending ──round()──> segment ──> written ──fdatasync──> durable
//!                                                  └── waiters, each told once ──┘
//! ```
//! A round writes what is pending, up to a bound or one long batch, and syncs if one of the records
//! asks for it: those that do not are told of before that. There is no timer: while one round waits
//! for the disk, the next one's records gather. Once the disk has failed nothing is written any
//! more, since nobody can tell what it holds.

use super::batch::{Block, RecordBatch};
use super::bell::Bell;
use super::definition::Definition;
use super::disk::Disk;
use super::entries::Complete;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::pending::Pending;
use super::reach::Reach;
use super::supply::Supply;
use super::waiters::{Waiter, Waiters};
use super::writer::Writer;
use crate::config::Durability;
use crate::counters::Counter;
use crate::id::{Lsn, SegmentNo};
use crate::limits::{DEFINITIONS_PENDING_MAX, ROUND_BYTES};
use parking_lot::{Condvar, Mutex};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the journal counts.
#[derive(Debug, Default)]
pub struct JournalCounters {
    /// Rounds that wrote something.
    pub rounds: Counter,
    pub syncs: Counter,
    pub records: Counter,
    pub bytes: Counter,
}

/// See the module. Shared by all that append and by the thread that calls `round`.
pub struct Journal {
    shared: Mutex<Shared>,
    work: Condvar,
    round: Mutex<Round>,
    /// With the operating system: survives the end of the broker's process.
    written: Waiters,
    /// Synced: survives a power loss.
    durable: Waiters,
    pending_bytes: AtomicUsize,
    /// Of records that say nothing else.
    durability: Durability,
    supply: Arc<Supply>,
    bell: Bell,
    counters: JournalCounters,
}

/// A leaf in the order of locks.
struct Shared {
    pending: Pending,
    /// Appended since the last checkpoint asked for them.
    definitions: Vec<Definition>,
    state: State,
    stopping: bool,
    /// The store's thread waits for `work`. Who appends clears this and wakes it, so that a round
    /// costs one wake-up and not one per append.
    asleep: bool,
}

enum State {
    Open,
    Closed,
    Failed(StoreError),
}

/// What belongs to the thread that writes.
struct Round {
    writer: Writer,
    blocks: Vec<Block>,
}

impl Journal {
    /// The LSN of records that a failed or closed journal did not take: it is never reached, and
    /// waiting for it fails at once.
    pub const NEVER: Lsn = Lsn(u64::MAX);

    /// `definitions` were appended before, and no checkpoint knows them.
    pub(super) fn new(
        writer: Writer,
        durability: Durability,
        definitions: Vec<Definition>,
    ) -> Self {
        let last_lsn = writer.written();
        let supply = Arc::clone(writer.supply());
        Self {
            shared: Mutex::new(Shared {
                pending: Pending::after(last_lsn),
                definitions,
                state: State::Open,
                stopping: false,
                asleep: false,
            }),
            work: Condvar::new(),
            round: Mutex::new(Round { writer, blocks: Vec::new() }),
            written: Waiters::after(last_lsn),
            durable: Waiters::after(last_lsn),
            pending_bytes: AtomicUsize::new(0),
            durability,
            supply,
            bell: Bell::default(),
            counters: JournalCounters::default(),
        }
    }

    /// As `append_as`, with the journal's own durability.
    ///
    /// # Panics
    /// As `append_as`.
    pub fn append(&self, batch: &mut RecordBatch) -> Lsn {
        self.append_as(batch, self.durability)
    }

    /// Takes the batch's records and leaves it empty. Returns the LSN of the last of them; zero,
    /// which is always durable, if there is none; `NEVER` if the journal failed or was closed. With
    /// `Os` they become durable only if another record or a `flush` comes to ask for it.
    ///
    /// # Panics
    /// If the batch has an open transaction.
    pub fn append_as(&self, batch: &mut RecordBatch, durability: Durability) -> Lsn {
        let block = batch.complete();
        if block.is_empty() {
            return Lsn(0);
        }
        let mut shared = self.shared.lock();
        if !matches!(shared.state, State::Open) {
            drop(shared);
            block.clear();
            return Self::NEVER;
        }
        let lsn = self.push(&mut shared, block, durability);
        let wake = mem::take(&mut shared.asleep);
        drop(shared);
        if wake {
            self.work.notify_one();
        }
        lsn
    }

    /// All records up to here are synced, whatever this broker's durability is.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.durable.reached()
    }

    /// How far it is.
    #[must_use]
    pub fn reach(&self) -> Reach {
        Reach { written: self.written.reached(), durable: self.durable.reached() }
    }

    /// Tells `waiter` once: when `lsn` is as safe as that, or when it never will be. It is told at
    /// once, on this thread, if that is known by now. See `Reach::of` for what not to wait for.
    pub fn wait(&self, lsn: Lsn, durability: Durability, waiter: Arc<dyn Waiter>) {
        match durability {
            _ if lsn == Self::NEVER => waiter.failed(),
            Durability::Os => self.written.register(lsn, waiter),
            Durability::Fsync => self.durable.register(lsn, waiter),
        }
    }

    /// The newest record's LSN.
    #[must_use]
    pub fn appended_lsn(&self) -> Lsn {
        self.shared.lock().pending.last_lsn()
    }

    /// What is reached once all that was appended so far is as safe as it was asked to be.
    #[must_use]
    pub fn appended_reach(&self) -> Reach {
        self.shared.lock().pending.reach()
    }

    /// Bytes appended and not yet as safe as their round makes them.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Relaxed)
    }

    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    #[must_use]
    pub fn counters(&self) -> &JournalCounters {
        &self.counters
    }

    /// Why the journal failed, if it did.
    #[must_use]
    pub fn error(&self) -> Option<StoreError> {
        match &self.shared.lock().state {
            State::Failed(error) => Some(error.clone()),
            State::Open | State::Closed => None,
        }
    }

    /// Writes what is pending, `ROUND_BYTES` or one batch that is longer, syncs if any of it asks
    /// for that, and tells who waits. False if nothing was.
    ///
    /// # Errors
    /// The disk's first error. The journal has failed then, and says the same ever after.
    pub fn round(&self, disk: &dyn Disk) -> Result<bool, StoreError> {
        let mut round = self.round.lock();
        let wrote = self.write_pending(&mut round, disk, Durability::Os);
        wrote.inspect_err(|error| self.fail(error))
    }

    /// States on disk how far it is safe, which tells damage from a torn tail; for when there is
    /// nothing else to do. Costs a small write and no sync, and nothing if it was said before.
    ///
    /// # Errors
    /// As for `round`.
    pub fn seal(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut round = self.round.lock();
        let sealed = self.check().and_then(|()| round.writer.seal(disk));
        let bytes = sealed.inspect_err(|error| self.fail(error))?;
        self.counters.bytes.add(bytes);
        Ok(())
    }

    /// Makes durable all that was appended before, whatever this broker's durability is.
    ///
    /// # Errors
    /// As for `round`.
    pub fn flush(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut round = self.round.lock();
        let flushed = self
            .write_all(&mut round, disk)
            .and_then(|()| self.sync(&mut round.writer, disk))
            .map(|()| self.durable.reach(round.writer.synced()));
        flushed.inspect_err(|error| self.fail(error))
    }

    /// Lets the next record begin a new segment.
    pub(super) fn leave_segment(&self) {
        self.round.lock().writer.leave_segment();
    }

    /// The segments that were left since this was asked last.
    pub(super) fn take_complete(&self) -> Vec<(SegmentNo, Complete)> {
        self.round.lock().writer.take_complete()
    }

    /// The segments that were left and that no checkpoint asked for, then the one that is written
    /// to, each with its end; what comes before that is in the page cache at least.
    pub(super) fn extents(&self) -> Vec<(SegmentNo, u64)> {
        let round = self.round.lock();
        let left = round.writer.complete().iter().map(|(number, complete)| (*number, complete.end));
        left.chain([round.writer.position()]).collect()
    }

    /// The catalogue is safe in this generation.
    pub(super) fn append_checkpoint(&self, generation: u64, freed: &[SegmentNo]) {
        let mut batch = RecordBatch::new();
        batch.checkpoint(generation, freed);
        self.append(&mut batch);
    }

    /// Takes the file of a dead segment, to use it again or to remove it.
    pub(super) fn recycle(&self, disk: &dyn Disk, file: &str) -> Result<(), StoreError> {
        self.supply.recycle(disk, file)
    }

    /// Removes the files of dead segments that wait to be used again.
    pub(super) fn drop_spares(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.supply.drop_spares(disk)
    }

    /// Many definitions wait for a checkpoint.
    pub(super) fn has_many_definitions(&self) -> bool {
        self.shared.lock().definitions.len() >= DEFINITIONS_PENDING_MAX
    }

    /// Takes the definitions that were appended since this was asked last, in order.
    pub(super) fn take_definitions(&self) -> Vec<Definition> {
        mem::take(&mut self.shared.lock().definitions)
    }

    /// Rings when there is something to do for a thread that has time.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Prepares the next segment's file if it is wanted. Slow, and beside the rounds.
    ///
    /// # Errors
    /// The disk's. The journal has not failed: it goes on without.
    pub fn prepare_segment(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        if self.supply.is_wanted() { self.supply.prepare(disk) } else { Ok(()) }
    }

    #[cfg(test)]
    pub(super) fn supply_for_tests(&self, number: SegmentNo) {
        self.supply.adopt(number);
    }

    /// The store thread's life: rounds while there is work, sleep while there is none. Returns
    /// after `stop`, with everything appended before it as safe as it asks.
    ///
    /// # Errors
    /// As for `round`.
    pub fn run_until_stopped(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        loop {
            while self.round(disk)? {}
            self.seal(disk)?;
            let mut shared = self.shared.lock();
            while shared.pending.is_empty() {
                if shared.stopping {
                    return Ok(());
                }
                shared.asleep = true;
                self.work.wait(&mut shared);
            }
            shared.asleep = false;
        }
    }

    /// Lets `run_until_stopped` return. Appending is still possible until `close_clean`.
    pub fn stop(&self) {
        let mut shared = self.shared.lock();
        shared.stopping = true;
        drop(shared);
        self.work.notify_one();
    }

    /// Takes no more records, writes those that are pending and, behind them, that the broker
    /// stopped cleanly. Before it, whatever was out with consumers must be requeued or settled.
    ///
    /// # Errors
    /// As for `round`.
    pub fn close_clean(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        {
            let mut shared = self.shared.lock();
            if matches!(shared.state, State::Open) {
                let mut last = RecordBatch::new();
                last.clean();
                self.push(&mut shared, last.complete(), Durability::Fsync);
                shared.state = State::Closed;
            }
        }
        let mut round = self.round.lock();
        let closed = self
            .write_all(&mut round, disk)
            .and_then(|()| round.writer.seal(disk))
            .and_then(|_| self.sync(&mut round.writer, disk));
        closed.inspect_err(|error| self.fail(error))?;
        self.close_waiters();
        Ok(())
    }

    /// Marks that a broker begins on what others wrote, safe before anything is delivered.
    pub(super) fn begin(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut first = RecordBatch::new();
        first.opened();
        self.append(&mut first);
        disk.reach(Failpoint::OpenedAppends)?;
        let mut round = self.round.lock();
        self.write_all(&mut round, disk)?;
        disk.reach(Failpoint::OpenedSafe)
    }

    fn push(&self, shared: &mut Shared, block: &mut Block, durability: Durability) -> Lsn {
        self.pending_bytes.fetch_add(block.len(), Relaxed);
        if !block.definitions().is_empty() {
            shared.definitions.append(block.definitions());
            if shared.definitions.len() >= DEFINITIONS_PENDING_MAX {
                self.bell.ring();
            }
        }
        shared.pending.push(block, durability)
    }

    /// Writes and syncs all that was appended before.
    fn write_all(&self, round: &mut Round, disk: &dyn Disk) -> Result<(), StoreError> {
        let last = self.appended_lsn();
        self.check()?;
        let mut wrote = true;
        while wrote && round.writer.written() < last {
            wrote = self.write_pending(round, disk, Durability::Fsync)?;
        }
        Ok(())
    }

    fn write_pending(
        &self,
        round: &mut Round,
        disk: &dyn Disk,
        at_least: Durability,
    ) -> Result<bool, StoreError> {
        self.check()?;
        let asked = self.shared.lock().pending.take(&mut round.blocks, ROUND_BYTES);
        if round.blocks.is_empty() {
            return Ok(false);
        }
        disk.reach(Failpoint::RoundBegun)?;
        let before = round.writer.written();
        let sync = asked || at_least == Durability::Fsync;
        let bytes = round.writer.append(disk, &round.blocks, sync)?;
        let lsn = round.writer.written();
        let appended = round.blocks.iter().map(Block::len).sum();
        disk.reach(Failpoint::RoundWritten)?;
        // Before anyone is told: who waits because so much is pending must find it gone.
        if !sync {
            self.pending_bytes.fetch_sub(appended, Relaxed);
        }
        self.written.reach(lsn);
        if sync {
            self.sync(&mut round.writer, disk)?;
            disk.reach(Failpoint::RoundSynced)?;
            self.pending_bytes.fetch_sub(appended, Relaxed);
            self.durable.reach(lsn);
        }
        if self.supply.is_wanted() || round.writer.has_complete() {
            self.bell.ring();
        }
        self.shared.lock().pending.recycle(&mut round.blocks);
        self.counters.rounds.add(1);
        self.counters.records.add(lsn.0 - before.0);
        self.counters.bytes.add(bytes);
        disk.reach(Failpoint::RoundOver)?;
        Ok(true)
    }

    fn sync(&self, writer: &mut Writer, disk: &dyn Disk) -> Result<(), StoreError> {
        writer.sync(disk)?;
        self.counters.syncs.add(1);
        Ok(())
    }

    fn check(&self) -> Result<(), StoreError> {
        self.error().map_or(Ok(()), Err)
    }

    /// Keeps the first error, drops what is pending, and tells all that wait.
    fn fail(&self, error: &StoreError) {
        {
            let mut shared = self.shared.lock();
            if !matches!(shared.state, State::Failed(_)) {
                shared.state = State::Failed(error.clone());
            }
            shared.pending.clear();
            self.pending_bytes.store(0, Relaxed);
        }
        self.close_waiters();
    }

    fn close_waiters(&self) {
        self.written.close();
        self.durable.close();
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("durability", &self.durability)
            .field("reach", &self.reach())
            .field("pending_bytes", &self.pending_bytes())
            .finish_non_exhaustive()
    }
}
