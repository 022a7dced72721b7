//! What goes wrong, and how a world comes to rest.

use super::world::World;
use leveret::broker::alarm::Alarm;
use std::sync::atomic::Ordering;

impl World {
    /// The socket breaks; the client comes back.
    pub(crate) fn cut(&mut self, at: usize) {
        let number = self.seats[at].number;
        self.note(|| format!("{number} is cut"));
        self.oracle.stats.cuts += 1;
        self.turn(at, |seat, _, scratch| {
            seat.session.drop_connection(scratch);
            seat.client.operations.clear();
        });
        self.oracle.cut(number);
        self.seats[at] = self.new_seat();
    }

    /// Power loss: the broker and all connections are gone, and of the disk what chance leaves.
    pub(crate) fn crash(&mut self) {
        self.note(|| "power loss".to_owned());
        self.oracle.stats.crashes += 1;
        let left = self.disk.crash(self.rng.next());
        let clients = self.seats.len();
        for seat in self.seats.drain(..) {
            self.oracle.cut(seat.number);
        }
        self.start(left);
        self.connect(clients);
    }

    /// A stop in good order.
    pub(crate) fn stop(&mut self) {
        self.note(|| "clean stop".to_owned());
        self.oracle.stats.clean_stops += 1;
        let clients = self.seats.len();
        for at in 0..clients {
            self.cut(at);
        }
        self.seats.clear();
        let journal = self.broker.journal();
        let safe = self.broker.close(&self.disk).is_ok();
        self.oracle.stopped(journal.appended_lsn().0, safe);
        let left = self.disk.crash(self.rng.next());
        self.start(left);
        self.connect(clients);
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
            moved |= self.load();
            self.round();
            if self.fails_in.is_some() {
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
