//! A connection that publishes while a resource alarm is in force is not read until all alarms are
//! over. What it is owed, deliveries and confirms and heartbeats, still goes out.

use super::Session;
use super::handshake::Phase;
use crate::wire::ServerMethod;

impl Session {
    /// Whether an alarm keeps this connection from being read. One that closes is read again: the
    /// rest of its input is thrown away.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.blocked && self.phase == Phase::Running
    }

    /// A content header or body came. RabbitMQ: during an alarm it is the last frame that is read,
    /// so a body stays behind its header; only a message without a body is still published.
    pub(super) fn content_frame_came(&mut self) {
        if !self.broker.alarms.any() || self.blocked || self.phase != Phase::Running {
            return;
        }
        let Some(reason) = self.broker.alarms.block(self.id, &self.inbox) else { return };
        self.blocked = true;
        if self.capabilities.connection_blocked {
            ServerMethod::ConnectionBlocked { reason }.encode(0, &mut self.output);
        }
    }

    /// All alarms are over.
    pub(super) fn unblock(&mut self) {
        if self.is_blocked() && self.capabilities.connection_blocked {
            ServerMethod::ConnectionUnblocked.encode(0, &mut self.output);
        }
        self.blocked = false;
    }
}
