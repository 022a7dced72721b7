//! What goes wrong, and how a world comes to rest.

use super::world::{World, open};
use leveret::broker::alarm::Alarm;
use leveret::store::{self, Durability, MemoryDisk};
use std::sync::atomic::Ordering;

impl World {
    /// The socket breaks; the client comes back.
    pub(crate) fn cut(&mut self, at: usize) {
        let number = self.seats[at].number;
        self.note(|| format!("{number} is cut"));
        self.oracle.stats.cuts += 1;
        self.turn(at, |seat, now, scratch| {
            seat.session.drop_connection(now, scratch);
            seat.client.operations.clear();
        });
        let is_ruled = self.seats[at].is_ruled;
        self.forget(number, is_ruled);
        self.seats[at] = self.new_seat(is_ruled);
    }

    /// Power loss: the broker and all connections are gone, and of the disk what chance leaves.
    pub(crate) fn crash(&mut self) {
        self.note(|| "power loss".to_owned());
        self.oracle.stats.crashes += 1;
        if self.disk.is_dark() {
            self.cuts.pop();
            self.oracle.stats.cut_at_points += 1;
        }
        if self.workload.options.catalogue > 0 && self.rng.percent(30) {
            self.harm_catalogue();
        }
        let left = self.power_off();
        let seats: Vec<_> = self.seats.drain(..).map(|it| (it.number, it.is_ruled)).collect();
        seats.iter().for_each(|(number, is_ruled)| self.forget(*number, *is_ruled));
        let clients: Vec<_> = seats.into_iter().map(|seat| seat.1).collect();
        self.start(left);
        self.connect(&clients);
    }

    /// The client of that connection reads nothing more.
    fn forget(&mut self, number: usize, is_ruled: bool) {
        if is_ruled {
            self.ledger.cut(number);
        } else {
            self.oracle.cut(number);
        }
    }

    /// A stop in good order.
    pub(crate) fn stop(&mut self) {
        self.note(|| "clean stop".to_owned());
        self.oracle.stats.clean_stops += 1;
        let clients: Vec<_> = self.seats.iter().map(|seat| seat.is_ruled).collect();
        for at in 0..clients.len() {
            self.cut(at);
        }
        self.seats.clear();
        let journal = self.broker.journal();
        let before = journal.appended_lsn().0;
        let safe = self.broker.close(&self.disk).is_ok();
        self.oracle.stopped(before, journal.appended_lsn().0, safe);
        if self.disk.is_dark() {
            self.cuts.pop();
            self.oracle.stats.cut_at_points += 1;
        }
        let left = self.power_off();
        self.start(left);
        self.connect(&clients);
    }

    /// What the power's loss leaves of the disk.
    fn power_off(&mut self) -> MemoryDisk {
        for (point, times) in self.disk.reached() {
            *self.reached.entry(point).or_default() += times;
        }
        self.disk.crash(self.rng.next())
    }

    /// Recovers a broker from `disk`, after a look at what is there; if the power goes meanwhile,
    /// from what that leaves.
    pub(crate) fn start(&mut self, mut disk: MemoryDisk) {
        loop {
            // All of it is safe, so a second power loss leaves the same.
            let twin = disk.crash(0);
            let options = store::Options::new(Durability::Fsync, 1);
            let (store, recovered) =
                store::open(&twin, &options).expect("what a crash leaves opens");
            self.disk = disk;
            self.spilled.clear();
            if let Some(point) = self.cuts.last() {
                self.disk.cut_power_at(*point, if self.rng.percent(50) { 0 } else { 1 });
            }
            let opened = open(&self.disk, self.rng.next());
            let (synced, lsn) = match &opened {
                Ok(broker) => (broker.journal().durable_lsn().0, broker.journal().appended_lsn().0),
                // The mark of the start may be there.
                Err(_) => (recovered.last_lsn.0, recovered.last_lsn.0 + 1),
            };
            self.oracle.started((&store, &twin), &recovered, synced, lsn);
            self.ledger.started((&store, &twin), &recovered);
            match opened {
                Ok(broker) => {
                    self.broker = broker;
                    self.fails_in = None;
                    return;
                }
                Err(error) => assert!(self.disk.is_dark(), "what a crash leaves opens: {error}"),
            }
            self.note(|| "power loss in a start".to_owned());
            self.cuts.pop();
            self.oracle.stats.cut_starts += 1;
            self.oracle.stats.cut_at_points += 1;
            disk = self.power_off();
        }
    }

    /// What can happen to a sled, while it is in use or at a power loss.
    pub(crate) fn harm_catalogue(&mut self) {
        self.oracle.stats.catalogue_faults += 1;
        match self.rng.below(4) {
            0 => self.disk.lose_catalogue(),
            1 => self.disk.roll_back_catalogue(),
            2 => self.disk.rot_catalogue(self.rng.next()),
            _ => self.disk.stall_catalogue(),
        }
    }

    /// The disk is full for something that no confirm needs, or not any more.
    pub(crate) fn fill_up(&mut self) {
        let parts = ["segment.new", "snapshot", "idx", "spill"].map(Some);
        let part = if self.rng.percent(40) { None } else { *self.rng.pick(&parts) };
        self.note(|| format!("no room for {part:?}"));
        self.disk.fill_up_for(part);
    }

    /// Ends all alarms and lets everything run out, until nothing moves any more.
    pub(crate) fn calm_down(&mut self) {
        for alarm in [Alarm::Memory, Alarm::Disk] {
            self.broker.alarms.set(alarm, false);
        }
        for _ in 0..1000 {
            let mut moved = self.broker.journal().pending_bytes() > 0;
            for at in 0..self.seats.len() {
                let seat = &self.seats[at];
                let out = seat.client.out.len();
                moved |= out + seat.wire.len() + seat.session.output().len() > 0;
                moved |= seat.woken.0.load(Ordering::Relaxed) || seat.session.can_deliver();
                self.deliver_bytes(at, out);
                self.inbox(at);
                self.read(at, usize::MAX);
                if self.seats[at].client.is_over || self.seats[at].session.is_closed() {
                    self.cut(at);
                    moved = true;
                }
            }
            moved |= self.load() | self.tick();
            self.round();
            if self.fails_in.is_some() || self.disk.is_dark() {
                self.crash();
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}
