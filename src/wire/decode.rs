//! Decodes a client's methods: one layout per method, which must fill the payload exactly.
//!
//! The order of checks is RabbitMQ's: first the layout, then each field from left to right.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::exception::MethodId;
use crate::table::TableRef;
use crate::wire::client::{
    Bind, ClientMethod, Close, Consume, ExchangeDeclare, ExchangeDelete, Qos, QueueDeclare,
    QueueDelete, StartOk, TuneOk,
};
use crate::wire::error::WireError;
use crate::wire::frame::FrameKind;
use crate::wire::method::*;
use crate::wire::publish::parse_publish;
use nom::combinator::all_consuming;
use nom::multi::length_data;
use nom::number::complete::{be_u8, be_u16, be_u32};
use nom::{IResult, Parser};

type Method<'a> = Result<ClientMethod<'a>, WireError>;

impl<'a> ClientMethod<'a> {
    /// Decodes the payload of a method frame.
    ///
    /// # Errors
    /// An unknown method, a layout or a table that does not decode, a name that is not UTF-8.
    pub fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let (Some(id), Some(octets)) = (method_id(payload), payload.get(4..)) else {
            return Err(WireError::unknown_frame(FrameKind::Method as u8, payload));
        };
        let fields = Fields { id, octets };
        match id.class {
            BASIC => match id {
                BASIC_PUBLISH => parse_publish(payload).map(Self::BasicPublish),
                BASIC_ACK | BASIC_REJECT | BASIC_NACK => settle(fields),
                _ => basic(fields),
            },
            CONNECTION => connection(fields),
            CHANNEL => channel(fields),
            EXCHANGE => exchange(fields),
            QUEUE => queue(fields),
            _ => rest(fields),
        }
    }
}

/// Class 60: ack, reject and nack, by hand for their number.
#[inline]
fn settle(fields: Fields<'_>) -> Method<'_> {
    let Some((tag, &[bits])) = fields.octets.split_first_chunk::<8>() else {
        return Err(WireError::fields(fields.id, fields.octets));
    };
    let delivery_tag = u64::from_be_bytes(*tag);
    let first = bit(bits, 0);
    Ok(match fields.id {
        BASIC_ACK => ClientMethod::BasicAck { delivery_tag, multiple: first },
        BASIC_REJECT => ClientMethod::BasicReject { delivery_tag, requeue: first },
        _ => ClientMethod::BasicNack { delivery_tag, multiple: first, requeue: bit(bits, 1) },
    })
}

fn basic(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        BASIC_QOS => {
            let (prefetch_size, prefetch_count, bits) = fields.read((be_u32, be_u16, be_u8))?;
            ClientMethod::BasicQos(Qos { prefetch_size, prefetch_count, global: bit(bits, 0) })
        }
        BASIC_CONSUME => {
            let (_ticket, queue, tag, bits, arguments) =
                fields.read((be_u16, short, short, be_u8, long))?;
            ClientMethod::BasicConsume(Consume {
                queue: text(queue)?,
                consumer_tag: text(tag)?,
                no_local: bit(bits, 0),
                no_ack: bit(bits, 1),
                exclusive: bit(bits, 2),
                nowait: bit(bits, 3),
                arguments: fields.table(arguments)?,
            })
        }
        BASIC_CANCEL => {
            let (tag, bits) = fields.read((short, be_u8))?;
            ClientMethod::BasicCancel { consumer_tag: text(tag)?, nowait: bit(bits, 0) }
        }
        BASIC_CANCEL_OK => {
            let consumer_tag = text(fields.read(short)?)?;
            ClientMethod::BasicCancelOk { consumer_tag }
        }
        BASIC_GET => {
            let (_ticket, queue, bits) = fields.read((be_u16, short, be_u8))?;
            ClientMethod::BasicGet { queue: text(queue)?, no_ack: bit(bits, 0) }
        }
        BASIC_RECOVER => ClientMethod::BasicRecover { requeue: fields.only_bit()? },
        BASIC_RECOVER_ASYNC => ClientMethod::BasicRecoverAsync { requeue: fields.only_bit()? },
        BASIC_QOS_OK | BASIC_CONSUME_OK | BASIC_RETURN | BASIC_DELIVER | BASIC_GET_OK
        | BASIC_GET_EMPTY | BASIC_RECOVER_OK | BASIC_CREDIT | BASIC_CREDIT_OK
        | BASIC_CREDIT_DRAINED => ClientMethod::Unimplemented(fields.id),
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

fn connection(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        CONNECTION_START_OK => {
            let (properties, mechanism, response, locale) =
                fields.read((long, short, long, short))?;
            ClientMethod::ConnectionStartOk(StartOk {
                client_properties: fields.table(properties)?,
                mechanism: text(mechanism)?,
                response,
                locale: text(locale)?,
            })
        }
        CONNECTION_SECURE_OK => ClientMethod::ConnectionSecureOk { response: fields.read(long)? },
        CONNECTION_TUNE_OK => {
            let (channel_max, frame_max, heartbeat) = fields.read((be_u16, be_u32, be_u16))?;
            ClientMethod::ConnectionTuneOk(TuneOk { channel_max, frame_max, heartbeat })
        }
        CONNECTION_OPEN => {
            let (vhost, _capabilities, _insist) = fields.read((short, short, be_u8))?;
            ClientMethod::ConnectionOpen { vhost: text(vhost)? }
        }
        CONNECTION_CLOSE => ClientMethod::ConnectionClose(fields.close()?),
        CONNECTION_CLOSE_OK => fields.none(ClientMethod::ConnectionCloseOk)?,
        CONNECTION_UPDATE_SECRET => {
            let (new_secret, reason) = fields.read((long, short))?;
            ClientMethod::ConnectionUpdateSecret { new_secret, reason: text(reason)? }
        }
        CONNECTION_START
        | CONNECTION_SECURE
        | CONNECTION_TUNE
        | CONNECTION_OPEN_OK
        | CONNECTION_BLOCKED
        | CONNECTION_UNBLOCKED
        | CONNECTION_UPDATE_SECRET_OK => ClientMethod::Unimplemented(fields.id),
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

fn channel(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        CHANNEL_OPEN => {
            let _out_of_band = text(fields.read(short)?)?;
            ClientMethod::ChannelOpen
        }
        CHANNEL_FLOW => ClientMethod::ChannelFlow { active: fields.only_bit()? },
        CHANNEL_FLOW_OK => ClientMethod::ChannelFlowOk { active: fields.only_bit()? },
        CHANNEL_CLOSE => ClientMethod::ChannelClose(fields.close()?),
        CHANNEL_CLOSE_OK => fields.none(ClientMethod::ChannelCloseOk)?,
        CHANNEL_OPEN_OK => ClientMethod::Unimplemented(fields.id),
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

fn exchange(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        EXCHANGE_DECLARE => {
            let (_ticket, name, kind, bits, arguments) =
                fields.read((be_u16, short, short, be_u8, long))?;
            ClientMethod::ExchangeDeclare(ExchangeDeclare {
                exchange: text(name)?,
                kind: text(kind)?,
                passive: bit(bits, 0),
                durable: bit(bits, 1),
                auto_delete: bit(bits, 2),
                internal: bit(bits, 3),
                nowait: bit(bits, 4),
                arguments: fields.table(arguments)?,
            })
        }
        EXCHANGE_DELETE => {
            let (_ticket, name, bits) = fields.read((be_u16, short, be_u8))?;
            ClientMethod::ExchangeDelete(ExchangeDelete {
                exchange: text(name)?,
                if_unused: bit(bits, 0),
                nowait: bit(bits, 1),
            })
        }
        EXCHANGE_BIND | EXCHANGE_UNBIND => {
            let (_ticket, destination, source, key, bits, arguments) =
                fields.read((be_u16, short, short, short, be_u8, long))?;
            let bind = fields.bind([source, destination, key], bit(bits, 0), arguments)?;
            match fields.id {
                EXCHANGE_BIND => ClientMethod::ExchangeBind(bind),
                _ => ClientMethod::ExchangeUnbind(bind),
            }
        }
        EXCHANGE_DECLARE_OK | EXCHANGE_DELETE_OK | EXCHANGE_BIND_OK | EXCHANGE_UNBIND_OK => {
            ClientMethod::Unimplemented(fields.id)
        }
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

fn queue(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        QUEUE_DECLARE => {
            let (_ticket, name, bits, arguments) = fields.read((be_u16, short, be_u8, long))?;
            ClientMethod::QueueDeclare(QueueDeclare {
                queue: text(name)?,
                passive: bit(bits, 0),
                durable: bit(bits, 1),
                exclusive: bit(bits, 2),
                auto_delete: bit(bits, 3),
                nowait: bit(bits, 4),
                arguments: fields.table(arguments)?,
            })
        }
        QUEUE_BIND => {
            let (_ticket, destination, source, key, bits, arguments) =
                fields.read((be_u16, short, short, short, be_u8, long))?;
            let bind = fields.bind([source, destination, key], bit(bits, 0), arguments)?;
            ClientMethod::QueueBind(bind)
        }
        QUEUE_UNBIND => {
            let (_ticket, destination, source, key, arguments) =
                fields.read((be_u16, short, short, short, long))?;
            let bind = fields.bind([source, destination, key], false, arguments)?;
            ClientMethod::QueueUnbind(bind)
        }
        QUEUE_PURGE => {
            let (_ticket, name, bits) = fields.read((be_u16, short, be_u8))?;
            ClientMethod::QueuePurge { queue: text(name)?, nowait: bit(bits, 0) }
        }
        QUEUE_DELETE => {
            let (_ticket, name, bits) = fields.read((be_u16, short, be_u8))?;
            ClientMethod::QueueDelete(QueueDelete {
                queue: text(name)?,
                if_unused: bit(bits, 0),
                if_empty: bit(bits, 1),
                nowait: bit(bits, 2),
            })
        }
        QUEUE_DECLARE_OK | QUEUE_BIND_OK | QUEUE_PURGE_OK | QUEUE_DELETE_OK | QUEUE_UNBIND_OK => {
            ClientMethod::Unimplemented(fields.id)
        }
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

/// Classes 30, 85 and 90.
fn rest(fields: Fields<'_>) -> Method<'_> {
    Ok(match fields.id {
        ACCESS_REQUEST => {
            let (realm, _bits) = fields.read((short, be_u8))?;
            text(realm)?;
            ClientMethod::AccessRequest
        }
        CONFIRM_SELECT => ClientMethod::ConfirmSelect { nowait: fields.only_bit()? },
        TX_SELECT => fields.none(ClientMethod::TxSelect)?,
        TX_COMMIT => fields.none(ClientMethod::TxCommit)?,
        TX_ROLLBACK => fields.none(ClientMethod::TxRollback)?,
        ACCESS_REQUEST_OK | CONFIRM_SELECT_OK | TX_SELECT_OK | TX_COMMIT_OK | TX_ROLLBACK_OK => {
            ClientMethod::Unimplemented(fields.id)
        }
        unknown => return Err(WireError::unknown_method(unknown)),
    })
}

/// The octets after a method's class and number.
#[derive(Clone, Copy)]
struct Fields<'a> {
    id: MethodId,
    octets: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads a layout that must take all octets.
    fn read<O>(
        self,
        layout: impl Parser<&'a [u8], Output = O, Error = ()>,
    ) -> Result<O, WireError> {
        match all_consuming(layout).parse(self.octets) {
            Ok((_, fields)) => Ok(fields),
            Err(_) => Err(WireError::fields(self.id, self.octets)),
        }
    }

    fn none(self, method: ClientMethod<'a>) -> Method<'a> {
        if self.octets.is_empty() {
            Ok(method)
        } else {
            Err(WireError::fields(self.id, self.octets))
        }
    }

    fn only_bit(self) -> Result<bool, WireError> {
        self.read(be_u8).map(|bits| bit(bits, 0))
    }

    fn close(self) -> Result<Close<'a>, WireError> {
        let (code, reason, class, method) = self.read((be_u16, short, be_u16, be_u16))?;
        Ok(Close { code, text: text(reason)?, method: MethodId::new(class, method) })
    }

    fn bind(
        self,
        [source, destination, key]: [&'a [u8]; 3],
        nowait: bool,
        arguments: &'a [u8],
    ) -> Result<Bind<'a>, WireError> {
        Ok(Bind {
            source: text(source)?,
            destination: text(destination)?,
            key: text(key)?.as_bytes(),
            nowait,
            arguments: self.table(arguments)?,
        })
    }

    fn table(self, octets: &'a [u8]) -> Result<TableRef<'a>, WireError> {
        TableRef::check(octets).map_err(|error| WireError::table(self.id, error))
    }
}

/// AMQP 0-9-1, 4.2.5.3.
fn short(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    length_data(be_u8).parse(input)
}

/// A long string, or a table's content.
fn long(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    length_data(be_u32).parse(input)
}

fn text(octets: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(octets).map_err(|_| WireError::utf8())
}

/// AMQP 0-9-1, 4.2.5.2: the first of adjacent bits is the lowest.
fn bit(bits: u8, position: u8) -> bool {
    bits >> position & 1 != 0
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
