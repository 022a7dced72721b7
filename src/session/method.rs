//! Methods on open channels: which file answers which.

use super::channel::{Channel, State};
use super::{Scratch, Session};
use crate::broker::link::Link;
use crate::exception::Exception;
use crate::queue::Settlement;
use crate::wire::{ClientMethod, ServerMethod};
use hashbrown::hash_map::Entry;
use std::sync::Arc;

impl Session {
    /// A method other than basic.publish on a channel of its own.
    pub(super) fn take_method(
        &mut self,
        number: u16,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let known = self.channel(number).map(|channel| channel.state);
        if known == Some(State::Closing) {
            return match ClientMethod::decode(payload) {
                Ok(method) => self.take_on_closing_channel(number, &method),
                Err(_) => Ok(()),
            };
        }
        let method = ClientMethod::decode(payload)?;
        if let Some(channel) = self.channel(number) {
            channel.assembly.expect_method()?;
        }
        match (known, &method) {
            (_, ClientMethod::Unimplemented(_)) => Err(Exception::unimplemented_method()),
            _ if is_connection_method(&method) => Err(Exception::unimplemented_method()),
            (None, ClientMethod::ChannelOpen) => self.open_channel(number),
            (None, _) => Err(Exception::channel_error("expected 'channel.open'")),
            (Some(_), ClientMethod::ChannelOpen) => Err(second_open()),
            (Some(_), method) => self.take_on_open_channel(number, method, scratch),
        }
    }

    /// Settlements are gathered, as publishes are; anything else first lets the queues see what
    /// came before it.
    fn take_on_open_channel(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        match *method {
            ClientMethod::BasicAck { delivery_tag, multiple } => {
                return self.settle(number, delivery_tag, multiple, Settlement::Ack, scratch);
            }
            ClientMethod::BasicReject { delivery_tag, requeue } => {
                return self.settle(number, delivery_tag, false, rejected(requeue), scratch);
            }
            ClientMethod::BasicNack { delivery_tag, multiple, requeue } => {
                return self.settle(number, delivery_tag, multiple, rejected(requeue), scratch);
            }
            _ => self.flush(scratch),
        }
        match method {
            ClientMethod::ChannelFlow { active: true } => {
                self.reply(number, &ServerMethod::ChannelFlowOk { active: true });
                Ok(())
            }
            ClientMethod::ChannelFlow { .. } => Err(Exception::not_implemented("active=false")),
            ClientMethod::ChannelClose(_) => {
                self.close_channel(number, scratch);
                Ok(())
            }
            ClientMethod::AccessRequest => {
                self.reply(number, &ServerMethod::AccessRequestOk);
                Ok(())
            }
            ClientMethod::ExchangeDeclare(_)
            | ClientMethod::ExchangeDelete(_)
            | ClientMethod::ExchangeBind(_)
            | ClientMethod::ExchangeUnbind(_) => self.take_exchange_method(number, method, scratch),
            ClientMethod::QueueDeclare(_)
            | ClientMethod::QueueBind(_)
            | ClientMethod::QueueUnbind(_)
            | ClientMethod::QueuePurge { .. }
            | ClientMethod::QueueDelete(_) => self.take_queue_method(number, method, scratch),
            ClientMethod::BasicQos(_)
            | ClientMethod::BasicConsume(_)
            | ClientMethod::BasicCancel { .. }
            | ClientMethod::BasicCancelOk { .. }
            | ClientMethod::BasicGet { .. }
            | ClientMethod::BasicRecover { .. }
            | ClientMethod::BasicRecoverAsync { .. } => {
                self.take_consumer_method(number, method, scratch)
            }
            ClientMethod::ConfirmSelect { .. }
            | ClientMethod::TxSelect
            | ClientMethod::TxCommit
            | ClientMethod::TxRollback => self.take_mode_method(number, method, scratch),
            _ => Err(Exception::unimplemented_method()),
        }
    }

    fn open_channel(&mut self, number: u16) -> Result<(), Exception> {
        let Some(client) = &self.client else {
            return Err(self.unexpected_method());
        };
        let open = self.channels.len();
        let max = self.channel_max;
        if max != 0 && open >= usize::from(max) {
            return Err(Exception::not_allowed(format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({max})"
            ))
            .at(crate::exception::MethodId::NONE));
        }
        let link = Link::new(Arc::clone(&self.broker), Arc::clone(client), number);
        match self.channels.entry(number) {
            Entry::Occupied(mut ended) => ended.get_mut().reopen(link),
            Entry::Vacant(vacant) => {
                vacant.insert(Channel::new(number, link));
            }
        }
        self.counters.channels.set(self.channels.len() as u64);
        self.reply(number, &ServerMethod::ChannelOpenOk);
        Ok(())
    }

    fn close_channel(&mut self, number: u16, scratch: &mut Scratch) {
        self.end_channel(number, scratch);
        self.reply(number, &ServerMethod::ChannelCloseOk);
        self.forget_channel(number);
    }

    /// RabbitMQ: everything is ignored until close-ok, but for a close, which is answered.
    fn take_on_closing_channel(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
    ) -> Result<(), Exception> {
        match method {
            ClientMethod::ChannelClose(_) => self.reply(number, &ServerMethod::ChannelCloseOk),
            ClientMethod::ChannelCloseOk => self.forget_channel(number),
            ClientMethod::ChannelOpen => return Err(second_open()),
            _ => {}
        }
        Ok(())
    }

    /// The channel is over. Its number is kept while replies of it wait: they leave in order.
    pub(super) fn forget_channel(&mut self, number: u16) {
        let Some(channel) = self.channels.get_mut(&number) else { return };
        if channel.held.is_empty() {
            self.channels.remove(&number);
            self.waiting.retain(|waiting| *waiting != number);
        } else {
            channel.state = State::Ended;
        }
        self.counters.channels.set(self.channels.len() as u64);
    }
}

fn second_open() -> Exception {
    Exception::channel_error("second 'channel.open' seen")
}

fn rejected(requeue: bool) -> Settlement {
    if requeue { Settlement::Retry } else { Settlement::Discard }
}

fn is_connection_method(method: &ClientMethod<'_>) -> bool {
    matches!(
        method,
        ClientMethod::ConnectionStartOk(_)
            | ClientMethod::ConnectionSecureOk { .. }
            | ClientMethod::ConnectionTuneOk(_)
            | ClientMethod::ConnectionOpen { .. }
            | ClientMethod::ConnectionClose(_)
            | ClientMethod::ConnectionCloseOk
            | ClientMethod::ConnectionUpdateSecret { .. }
    )
}
