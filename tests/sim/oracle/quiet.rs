//! What must be true once nothing moves: nobody waits in vain, and everything is accounted for.

use super::{Gauges, Oracle, Phase, State};
use crate::ops::QUEUES;

impl Oracle {
    /// All that was sent was taken, all that came was read, and the disk is idle.
    pub(crate) fn check_quiet(&self, gauges: &Gauges) {
        for (place, channel) in &self.channels {
            let due = channel.expected.front();
            assert!(due.is_none(), "{place:?} waits for {due:?}");
            if channel.phase != Phase::Open {
                continue;
            }
            let (published, confirmed) = (channel.publishes.len(), channel.confirmed.len());
            assert_eq!(confirmed, published, "confirms of {place:?}");
            assert!(channel.returns_due.is_empty(), "{place:?} waits for returns");
            assert!(channel.cancels_due.is_empty(), "{place:?} does not know of deleted queues");
        }
        for queue in self.named.iter().flatten() {
            let known = &self.queues[*queue];
            let (ready, unacked, _) = gauges[QUEUES[known.name].0];
            let held = known.count(State::Held);
            assert_eq!(unacked as usize, held, "unacked of {}", QUEUES[known.name].0);
            let idle = known.consumers.iter().find(|(place, tag)| {
                let channel = &self.channels[place];
                let consumer = &channel.consumers[tag];
                let held = channel.tags.len() + channel.kept_settlements.len();
                consumer.no_ack
                    || (consumer.prefetch == 0 || consumer.held < consumer.prefetch)
                        && (channel.limit == 0 || held == 0)
            });
            assert!(ready == 0 || idle.is_none(), "{ready} ready, and {idle:?} could take them");
        }
    }

    /// One client has taken all that is there: nothing that must be there was not.
    pub(crate) fn check_drained(&self) {
        for queue in self.named.iter().flatten().map(|queue| &self.queues[*queue]) {
            let left = queue.copies.iter().find(|copy| copy.state == State::Live);
            let left = left.map(|copy| copy.message);
            assert_eq!(
                left, None,
                "{} is empty, and never gave this message",
                QUEUES[queue.name].0
            );
        }
    }
}
