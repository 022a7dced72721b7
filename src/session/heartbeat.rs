//! Heartbeats both ways. RabbitMQ: one is sent after each half interval without other output; a
//! peer that sent no byte in two checks, an interval apart, is dead.

use crate::time::Millis;
use crate::wire::Output;
use crate::wire::encode::put_heartbeat;

#[derive(Debug)]
pub(super) struct Heartbeat {
    /// Zero if the client wants none.
    interval_ms: u64,
    send_at: Millis,
    check_at: Millis,
    /// Something other than a heartbeat was sent since the last look.
    sent: bool,
    /// The next bytes to leave are a heartbeat.
    own: bool,
    received: bool,
    missed: u8,
}

impl Heartbeat {
    pub(super) fn off() -> Self {
        Self {
            interval_ms: 0,
            send_at: Millis(0),
            check_at: Millis(0),
            sent: false,
            own: false,
            received: false,
            missed: 0,
        }
    }

    pub(super) fn every(seconds: u16, now: Millis) -> Self {
        let interval_ms = u64::from(seconds) * 1000;
        Self {
            interval_ms,
            send_at: now.plus(interval_ms / 2),
            check_at: now.plus(interval_ms),
            // The handshake is traffic both ways.
            sent: true,
            received: true,
            ..Self::off()
        }
    }

    pub(super) fn interval_s(&self) -> u64 {
        self.interval_ms / 1000
    }

    pub(super) fn sent(&mut self) {
        self.sent = !std::mem::take(&mut self.own);
    }

    pub(super) fn received(&mut self) {
        self.received = true;
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        (self.interval_ms > 0).then(|| self.send_at.min(self.check_at))
    }

    /// Sends and checks what is due; true if the peer is dead. While we are the side that does not
    /// read, silence means nothing.
    pub(super) fn tick(&mut self, now: Millis, reading: bool, output: &mut Output) -> bool {
        if self.interval_ms == 0 {
            return false;
        }
        if now >= self.send_at {
            if !std::mem::take(&mut self.sent) && output.is_empty() {
                put_heartbeat(output);
                self.own = true;
            }
            self.send_at = now.plus(self.interval_ms / 2);
        }
        if now < self.check_at {
            return false;
        }
        self.check_at = now.plus(self.interval_ms);
        let silent = !std::mem::take(&mut self.received) && reading;
        self.missed = if silent { self.missed + 1 } else { 0 };
        self.missed >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_sent_each_half_interval_unless_something_else_was() {
        let mut heartbeat = Heartbeat::every(2, Millis(0));
        let mut output = Output::new();
        assert_eq!(heartbeat.next_deadline(), Some(Millis(1000)));
        assert!(!heartbeat.tick(Millis(1000), true, &mut output));
        assert!(output.is_empty(), "open-ok was sent");
        assert!(!heartbeat.tick(Millis(2000), true, &mut output));
        assert_eq!(output.len(), 8);
        output.advance(8);
        heartbeat.sent();
        assert!(!heartbeat.tick(Millis(3000), true, &mut output));
        assert_eq!(output.len(), 8, "a heartbeat is no other output");
        output.advance(8);
        heartbeat.sent();
        heartbeat.sent();
        assert!(!heartbeat.tick(Millis(4000), true, &mut output));
        assert!(output.is_empty());
    }

    #[test]
    fn two_silent_checks_are_death_unless_we_do_not_read() {
        let mut output = Output::new();
        let mut heartbeat = Heartbeat::every(2, Millis(0));
        assert!(!heartbeat.tick(Millis(2000), true, &mut output));
        assert!(!heartbeat.tick(Millis(4000), true, &mut output));
        assert!(heartbeat.tick(Millis(6000), true, &mut output));
        let mut held = Heartbeat::every(2, Millis(0));
        for at in [2000, 4000, 6000, 8000] {
            assert!(!held.tick(Millis(at), false, &mut output));
        }
        assert!(!held.tick(Millis(10_000), true, &mut output));
    }
}
