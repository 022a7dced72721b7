//! exchange.* and queue.*: fields to the link's verbs, and their answers back.

use super::{Scratch, Session};
use crate::broker::{BindTo, DeclareExchange, DeclareQueue, strip_line_breaks};
use crate::exception::Exception;
use crate::name::Name;
use crate::store::Reach;
use crate::wire::{ClientMethod, ServerMethod, client};

impl Session {
    pub(super) fn take_exchange_method(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let (link, workspace) = (&mut channel.link, &mut scratch.workspace);
        let (reach, nowait, reply) = match method {
            ClientMethod::ExchangeDeclare(declare) => {
                let name = strip_line_breaks(declare.exchange);
                let reach = if declare.passive {
                    link.check_exchange(&name)?;
                    Reach::default()
                } else {
                    let declare = DeclareExchange {
                        name: &name,
                        kind: declare.kind,
                        durable: declare.durable,
                        auto_delete: declare.auto_delete,
                        internal: declare.internal,
                        arguments: declare.arguments,
                    };
                    link.declare_exchange(&declare, workspace)?
                };
                (reach, declare.nowait, ServerMethod::ExchangeDeclareOk)
            }
            ClientMethod::ExchangeDelete(delete) => {
                let name = strip_line_breaks(delete.exchange);
                let reach = link.delete_exchange(&name, delete.if_unused, workspace)?;
                (reach, delete.nowait, ServerMethod::ExchangeDeleteOk)
            }
            ClientMethod::ExchangeBind(bind) => {
                let (source, destination) = ends(bind);
                let to = BindTo::Exchange(&destination);
                let bound = link.bind(&source, to, bind.key, bind.arguments, workspace)?;
                scratch.batch.count_operations(bound.copies);
                (bound.reach, bind.nowait, ServerMethod::ExchangeBindOk)
            }
            ClientMethod::ExchangeUnbind(bind) => {
                let (source, destination) = ends(bind);
                let to = BindTo::Exchange(&destination);
                let reach = link.unbind(&source, to, bind.key, bind.arguments, workspace)?;
                (reach, bind.nowait, ServerMethod::ExchangeUnbindOk)
            }
            _ => return Err(Exception::unimplemented_method()),
        };
        self.reply_when(number, reach, nowait, &reply);
        Ok(())
    }

    pub(super) fn take_queue_method(
        &mut self,
        number: u16,
        method: &ClientMethod<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        match method {
            ClientMethod::QueueDeclare(declare) => self.declare_queue(number, declare, scratch),
            ClientMethod::QueueBind(bind) => self.bind_queue(number, bind, true, scratch),
            ClientMethod::QueueUnbind(bind) => self.bind_queue(number, bind, false, scratch),
            ClientMethod::QueuePurge { queue, nowait } => {
                let name = self.queue_name(number, queue)?;
                let Some(channel) = self.channels.get_mut(&number) else {
                    return Ok(());
                };
                let (purged, reach) = channel.link.purge_queue(&name, &mut scratch.workspace)?;
                let reply = ServerMethod::QueuePurgeOk { message_count: count(purged) };
                self.reply_when(number, reach, *nowait, &reply);
                Ok(())
            }
            ClientMethod::QueueDelete(delete) => {
                let name = self.queue_name(number, delete.queue)?;
                let name = strip_line_breaks(&name);
                let Some(channel) = self.channels.get_mut(&number) else {
                    return Ok(());
                };
                let conditions = (delete.if_unused, delete.if_empty);
                let workspace = &mut scratch.workspace;
                let (ready, reach) = channel.link.delete_queue(&name, conditions, workspace)?;
                let reply = ServerMethod::QueueDeleteOk { message_count: count(ready) };
                self.reply_when(number, reach, delete.nowait, &reply);
                Ok(())
            }
            _ => Err(Exception::unimplemented_method()),
        }
    }

    fn declare_queue(
        &mut self,
        number: u16,
        declare: &client::QueueDeclare<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let name = strip_line_breaks(declare.queue);
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let declared = if declare.passive {
            channel.link.check_queue(&name, &mut scratch.workspace)?
        } else {
            let wanted = DeclareQueue {
                name: &name,
                durable: declare.durable,
                exclusive: declare.exclusive,
                auto_delete: declare.auto_delete,
                arguments: declare.arguments,
            };
            channel.link.declare_queue(&wanted, &mut scratch.workspace)?
        };
        channel.last_queue = Some(declared.name.clone());
        let reply = ServerMethod::QueueDeclareOk {
            queue: &declared.name,
            message_count: count(declared.ready),
            consumer_count: count(declared.consumers),
        };
        self.reply_when(number, declared.reach, declare.nowait, &reply);
        Ok(())
    }

    fn bind_queue(
        &mut self,
        number: u16,
        bind: &client::Bind<'_>,
        is_bind: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let (source, destination) = ends(bind);
        let name = self.queue_name(number, &destination)?;
        // RabbitMQ: with both empty, the key too becomes the last queue's name.
        let both_empty = destination.is_empty() && bind.key.is_empty();
        let key = if both_empty { name.as_bytes() } else { bind.key };
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let to = BindTo::Queue(&name);
        let (link, workspace) = (&mut channel.link, &mut scratch.workspace);
        let (reach, reply) = if is_bind {
            let bound = link.bind(&source, to, key, bind.arguments, workspace)?;
            scratch.batch.count_operations(bound.copies);
            (bound.reach, ServerMethod::QueueBindOk)
        } else {
            let reach = link.unbind(&source, to, key, bind.arguments, workspace)?;
            (reach, ServerMethod::QueueUnbindOk)
        };
        self.reply_when(number, reach, bind.nowait, &reply);
        Ok(())
    }

    /// An empty name means the channel's last declared queue.
    pub(super) fn queue_name(&self, number: u16, name: &str) -> Result<Name, Exception> {
        if !name.is_empty() {
            return Ok(Name::new(name));
        }
        let last = self.channels.get(&number).and_then(|channel| channel.last_queue.clone());
        last.ok_or_else(Exception::no_previously_declared_queue)
    }
}

fn ends<'a>(bind: &client::Bind<'a>) -> (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>) {
    (strip_line_breaks(bind.source), strip_line_breaks(bind.destination))
}

fn count(messages: u64) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}
