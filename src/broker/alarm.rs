//! Resource alarms: which are in force, and which connections wait for their end. Whoever measures
//! sets and clears them; what counts as too little is not decided here.
//!
//! RabbitMQ: an alarm concerns those who publish while it is in force, and nobody else. So setting
//! one tells nobody; a session asks at each content, enters itself, and is told of the end of all.

use super::link::Inbox;
use crate::id::ConnectionId;
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What there is too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    Memory = 1,
    Disk = 2,
}

/// The alarms of one broker. A leaf in the lock order.
#[derive(Default)]
pub struct Alarms {
    /// The sum of those in force. Written under the lock of `blocked`, read without it.
    in_force: AtomicU8,
    /// Connections that are not read until no alarm is in force.
    blocked: Mutex<HashMap<ConnectionId, Arc<Inbox>>>,
}

impl Alarms {
    /// Whether any is in force: one relaxed load, for each content that comes.
    #[must_use]
    pub fn any(&self) -> bool {
        self.in_force.load(Relaxed) != 0
    }

    #[must_use]
    pub fn is_set(&self, alarm: Alarm) -> bool {
        self.in_force.load(Relaxed) & alarm as u8 != 0
    }

    /// Sets an alarm or clears it; true if that changed something. The end of the last one lets
    /// every blocked connection go on.
    pub fn set(&self, alarm: Alarm, on: bool) -> bool {
        let freed = {
            let mut blocked = self.blocked.lock();
            let before = self.in_force.load(Relaxed);
            let after = if on { before | alarm as u8 } else { before & !(alarm as u8) };
            if before == after {
                return false;
            }
            self.in_force.store(after, Relaxed);
            if after == 0 { std::mem::take(&mut *blocked) } else { HashMap::new() }
        };
        freed.values().for_each(|inbox| inbox.unblock());
        true
    }

    /// Enters a connection that publishes, to be told when it may go on. Says why it may not, in
    /// RabbitMQ's words; `None` if it may, since all alarms have just ended.
    pub fn block(&self, id: ConnectionId, inbox: &Arc<Inbox>) -> Option<&'static str> {
        let mut blocked = self.blocked.lock();
        let reason = reason(self.in_force.load(Relaxed))?;
        blocked.insert(id, Arc::clone(inbox));
        Some(reason)
    }

    /// The connection is over.
    pub fn forget(&self, id: ConnectionId) {
        self.blocked.lock().remove(&id);
    }

    /// Connections that are blocked now.
    #[must_use]
    pub fn blocked_len(&self) -> usize {
        self.blocked.lock().len()
    }
}

/// The text of connection.blocked; RabbitMQ names the disk first, whichever alarm came first.
fn reason(in_force: u8) -> Option<&'static str> {
    let is_set = |alarm: Alarm| in_force & alarm as u8 != 0;
    match (is_set(Alarm::Disk), is_set(Alarm::Memory)) {
        (false, false) => None,
        (false, true) => Some("low on memory"),
        (true, false) => Some("low on disk"),
        (true, true) => Some("low on disk & memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Event;

    fn is_told(inbox: &Inbox) -> bool {
        let mut events: Vec<Event> = Vec::new();
        inbox.take(&mut events).unblocked
    }

    #[test]
    fn the_reason_names_what_is_low_in_rabbitmqs_order() {
        let (alarms, inbox) = (Alarms::default(), Arc::new(Inbox::new()));
        let reason = |alarms: &Alarms| alarms.block(ConnectionId(1), &inbox);
        assert_eq!(reason(&alarms), None);
        assert!(alarms.set(Alarm::Memory, true) && !alarms.set(Alarm::Memory, true));
        assert_eq!(reason(&alarms), Some("low on memory"));
        assert!(alarms.set(Alarm::Disk, true));
        assert_eq!(reason(&alarms), Some("low on disk & memory"));
        assert!(alarms.set(Alarm::Memory, false) && !alarms.set(Alarm::Memory, false));
        assert_eq!(reason(&alarms), Some("low on disk"));
        assert!(alarms.is_set(Alarm::Disk) && !alarms.is_set(Alarm::Memory) && alarms.any());
    }

    #[test]
    fn the_end_of_the_last_alarm_tells_those_who_wait_and_are_still_there() {
        let alarms = Alarms::default();
        let [waiting, gone, idle] = [1, 2, 3].map(|id| (ConnectionId(id), Arc::new(Inbox::new())));
        alarms.set(Alarm::Disk, true);
        for (id, inbox) in [&waiting, &gone] {
            assert!(alarms.block(*id, inbox).is_some());
        }
        alarms.forget(gone.0);
        alarms.set(Alarm::Memory, true);
        alarms.set(Alarm::Disk, false);
        assert!(!is_told(&waiting.1), "memory is still low");
        assert_eq!(alarms.blocked_len(), 1);
        alarms.set(Alarm::Memory, false);
        assert!(!alarms.any());
        assert_eq!([waiting, gone, idle].map(|(_, inbox)| is_told(&inbox)), [true, false, false]);
        assert_eq!(alarms.blocked_len(), 0);
    }
}
