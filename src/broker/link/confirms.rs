//! Publisher confirms of one channel: which publishes still wait for the disk, and what to say.
//!
//! The client counts its publishes from 1, and so do we. Publishes of one batch wait for the
//! batch's last record; they are confirmed strictly in publish order, which keeps runs long.
//! RabbitMQ may confirm out of order, so no client can rely on either.

use crate::id::Lsn;
use crate::limits::UNCONFIRMED_MAX;
use std::collections::VecDeque;

/// The confirm state of a channel in confirm mode.
#[derive(Debug, Default)]
pub struct Confirms {
    /// Publishes counted so far.
    published: u64,
    /// Publishes that are in some run.
    registered: u64,
    /// Publishes told to the client.
    reported: u64,
    /// Runs in publish order: all up to a number wait for an LSN.
    waiting: VecDeque<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    up_to: u64,
    lsn: Lsn,
}

/// One `basic.ack` to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub up_to: u64,
    pub multiple: bool,
}

impl Confirms {
    /// Counts one publish.
    pub fn publish(&mut self) {
        self.published += 1;
    }

    /// All publishes counted so far are in the journal's buffer up to `lsn`.
    pub fn register(&mut self, lsn: Lsn) {
        if self.registered == self.published {
            return;
        }
        self.registered = self.published;
        // An older run may wait for more: then this one does too, as order demands.
        let lsn = self.waiting.back().map_or(lsn, |run| run.lsn.max(lsn));
        match self.waiting.back_mut() {
            Some(run) if run.lsn == lsn => run.up_to = self.published,
            _ => self.waiting.push_back(Run { up_to: self.published, lsn }),
        }
    }

    /// What may be confirmed now that everything up to `durable` is on disk.
    pub fn report(&mut self, durable: Lsn) -> Option<Ack> {
        let mut up_to = self.reported;
        while let Some(run) = self.waiting.front().filter(|run| run.lsn <= durable) {
            up_to = run.up_to;
            self.waiting.pop_front();
        }
        if up_to == self.reported {
            return None;
        }
        let multiple = up_to - self.reported > 1;
        self.reported = up_to;
        Some(Ack { up_to, multiple })
    }

    /// The LSN that the oldest waiting publish needs.
    #[must_use]
    pub fn next_lsn(&self) -> Option<Lsn> {
        self.waiting.front().map(|run| run.lsn)
    }

    #[must_use]
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// So many wait that the publisher must not be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.published - self.reported >= UNCONFIRMED_MAX as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_publish_that_waits_for_the_disk_holds_back_a_newer_one() {
        let mut confirms = Confirms::default();
        confirms.publish();
        confirms.register(Lsn(5));
        confirms.publish();
        confirms.register(Lsn(0));
        assert_eq!(confirms.report(Lsn(4)), None);
        assert_eq!(confirms.report(Lsn(5)), Some(Ack { up_to: 2, multiple: true }));
        assert_eq!(confirms.report(Lsn(9)), None);
    }

    #[test]
    fn a_single_publish_is_confirmed_without_multiple() {
        let mut confirms = Confirms::default();
        confirms.publish();
        confirms.register(Lsn(0));
        assert_eq!(confirms.report(Lsn(0)), Some(Ack { up_to: 1, multiple: false }));
    }

    #[test]
    fn what_is_not_registered_is_not_confirmed() {
        let mut confirms = Confirms::default();
        confirms.publish();
        assert_eq!(confirms.report(Lsn(100)), None);
        assert_eq!(confirms.next_lsn(), None);
    }
}
