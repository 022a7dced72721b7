//! confirm.select, tx.select, tx.commit, tx.rollback.

use super::confirms::put_no_route;
use super::{Scratch, Session};
use crate::broker::link::Confirms;
use crate::exception::Exception;
use crate::store::Reach;
use crate::wire::{ClientMethod, ServerMethod};

impl Session {
    pub(super) fn take_mode_method(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let link = &mut channel.link;
        match method {
            ClientMethod::ConfirmSelect { nowait } => {
                if link.is_transactional() {
                    let text = "cannot switch from tx to confirm mode";
                    return Err(Exception::precondition(text));
                }
                link.confirms.get_or_insert_with(Confirms::default);
                self.reply_when(number, Reach::default(), *nowait, &ServerMethod::ConfirmSelectOk);
            }
            ClientMethod::TxSelect => {
                if link.confirms.is_some() {
                    let text = "cannot switch from confirm to tx mode";
                    return Err(Exception::precondition(text));
                }
                link.begin();
                self.reply(number, &ServerMethod::TxSelectOk);
            }
            _ if !link.is_transactional() => {
                return Err(Exception::precondition("channel is not transactional"));
            }
            ClientMethod::TxCommit => return self.commit(number, scratch),
            _ => {
                link.rollback();
                self.reply(number, &ServerMethod::TxRollbackOk);
            }
        }
        Ok(())
    }

    fn commit(&mut self, number: u16, scratch: &mut Scratch) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let committed = channel.link.commit(&mut scratch.workspace)?;
        for message in &committed.returned {
            channel.link.counters.returned.add(1);
            put_no_route(channel.held.out(&mut self.output), number, message, self.frame_max);
        }
        self.reply_when(number, committed.reach, false, &ServerMethod::TxCommitOk);
        Ok(())
    }
}
