//! basic.ack, nack and reject. Those of one turn are gathered per channel and told to their queues
//! together.

use super::channel::Channel;
use super::{Scratch, Session};
use crate::broker::link::Workspace;
use crate::exception::Exception;
use crate::limits::WORK_PER_LOCK_MAX;
use crate::queue::Settlement;

/// Settlements that count as one operation in the fairness budget, beside their frame.
const WORK_PER_OPERATION: usize = 16;

impl Session {
    pub(super) fn settle(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        how: Settlement,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let workspace = &mut scratch.workspace;
        if channel.settling != how || channel.settled.len() >= WORK_PER_LOCK_MAX {
            channel.flush_settled(workspace);
        }
        channel.settling = how;
        channel.link.take_unacked(tag, multiple, &mut channel.settled)?;
        if channel.link.is_transactional() {
            channel.link.keep_settlement(&mut channel.settled, how)?;
            channel.link.grant_withheld(workspace);
            return Ok(());
        }
        scratch.batch.count_operations(channel.settled.len() / WORK_PER_OPERATION);
        if self.settling.last() != Some(&number) {
            self.settling.push(number);
        }
        Ok(())
    }

    /// Tells the queues what was settled in this turn.
    pub(super) fn flush_settled(&mut self, scratch: &mut Scratch) {
        for number in self.settling.drain(..) {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.flush_settled(&mut scratch.workspace);
            }
        }
    }
}

impl Channel {
    pub(super) fn flush_settled(&mut self, workspace: &mut Workspace) {
        if !self.settled.is_empty() {
            self.link.settle(&mut self.settled, self.settling, workspace);
        }
    }
}
