//! The keeper has a thread of its own: while it makes a checkpoint, clients go on, and the power
//! goes.

use super::world::World;
use leveret::broker::Broker;
use leveret::store::{Disk, Failpoint, Layer, MemoryDisk, StoreError};
use parking_lot::Mutex;
use std::mem;
use std::sync::Arc;

/// Where a checkpoint holds no lock, from its beginning to where it is the one that a start begins
/// at.
const IN_A_CHECKPOINT: [Failpoint; 8] = [
    Failpoint::CheckpointBegun,
    Failpoint::GatePassed,
    Failpoint::StandingsTaken,
    Failpoint::JournalFlushed,
    Failpoint::MetaWritten,
    Failpoint::CatalogueFlushed,
    Failpoint::CheckpointAppended,
    Failpoint::CheckpointSafe,
];

/// The disk as the keeper sees it: between two steps of a checkpoint something else happens.
struct Beside<'a> {
    disk: &'a MemoryDisk,
    world: Mutex<&'a mut World>,
}

impl Layer for Beside<'_> {
    fn below(&self) -> &dyn Disk {
        self.disk
    }

    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        if IN_A_CHECKPOINT.contains(&point) && !self.disk.is_dark() {
            self.world.lock().go_on(point);
        }
        self.disk.reach(point)
    }
}

impl World {
    /// The keeper does this; in a busy world, beside the clients.
    pub(crate) fn beside(&mut self, act: impl FnOnce(&Broker, &dyn Disk)) {
        let broker = Arc::clone(&self.broker);
        if !self.is_busy {
            return act(&broker, &self.disk);
        }
        if self.workload.options.crashes_within > 0 && self.rng.percent(20) {
            self.arm(&IN_A_CHECKPOINT, 1);
        }
        let disk = mem::take(&mut self.disk);
        act(&broker, &Beside { disk: &disk, world: Mutex::new(self) });
        self.disk = disk;
    }

    /// The power will go at one of these places, at one of so many visits, unless it is to go
    /// somewhere already.
    pub(crate) fn arm(&mut self, points: &[Failpoint], visits: usize) {
        if self.cuts.is_empty() {
            let point = *self.rng.pick(points);
            self.note(|| format!("the power goes at {point:?}"));
            self.cuts.push(point);
            self.disk.cut_power_at(point, self.rng.below(visits) as u64);
        }
    }

    /// Takes back what was armed and has not come yet: from now on the disk is well.
    pub(crate) fn disarm(&mut self) {
        self.cuts.clear();
        self.disk.cut_power_at(Failpoint::RoundBegun, u64::MAX);
        self.disk.fail_sync_after(u64::MAX);
        self.disk.limit_room(usize::MAX);
    }

    /// A client does something meanwhile, perhaps.
    fn go_on(&mut self, point: Failpoint) {
        let at = self.rng.below(self.seats.len());
        let seat = &self.seats[at];
        let is_over = seat.client.is_over || seat.session.is_closed();
        let journal = self.broker.journal();
        if is_over || journal.error().is_some() || self.rng.percent(60) {
            return;
        }
        self.oracle.kept(journal.durable_lsn().0, journal.appended_lsn().0);
        self.ledger.synced(journal.durable_lsn().0);
        self.note(|| format!("meanwhile, at {point:?}:"));
        let before = self.broker.journal().appended_lsn();
        for _ in 0..4 {
            self.send(at);
        }
        let all = self.seats[at].client.out.len();
        self.deliver_bytes(at, all);
        if self.rng.percent(50) {
            self.tick();
        }
        let appended = self.broker.journal().appended_lsn() > before;
        let is_early = matches!(point, Failpoint::CheckpointBegun | Failpoint::GatePassed);
        self.oracle.stats.ahead_of_checkpoints += u64::from(is_early && appended);
    }
}
