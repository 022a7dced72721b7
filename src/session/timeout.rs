//! Deliveries that a client keeps for too long without an answer end their channel. The time is
//! looked at when the first of them may be due, and once a minute: no delivery has a timer.

use super::channel::State;
use super::{Scratch, Session};
use crate::exception::{Exception, MethodId};
use crate::time::Now;

impl Session {
    /// The channel may have to be looked at sooner than the others.
    #[inline]
    pub(super) fn await_acks(&mut self, number: u16) {
        let due = self.channels.get(&number).and_then(|channel| channel.link.acks_due_at());
        self.acks_due_at = self.acks_due_at.into_iter().chain(due).min();
    }

    /// Ends the channels that are overdue.
    pub(super) fn check_acks(&mut self, now: Now, scratch: &mut Scratch) {
        self.acks_due_at = None;
        let open = self.channels.values().filter(|channel| channel.state == State::Open);
        let mut numbers: Vec<_> = open.map(|channel| channel.number).collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            match channel.link.check_acks(now.monotonic) {
                Ok(()) => self.await_acks(number),
                Err(overdue) => {
                    self.log_overdue(number, &overdue);
                    let exception = Exception::consumer_timeout(number, overdue.timeout_ms);
                    self.raise(number, exception, MethodId::NONE, now, scratch);
                }
            }
        }
    }
}
