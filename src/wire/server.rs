//! What the server says, but for the methods that carry a content (`encode`).

use crate::exception::MethodId;
use crate::table::TableRef;
use crate::wire::encode::{put_ack, put_long, put_method_frame, put_nack, put_short};
use crate::wire::method::*;
use crate::wire::output::Output;

/// A method to a client. Strings of at most 255 bytes, except for `challenge`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServerMethod<'a> {
    ConnectionStart {
        server_properties: TableRef<'a>,
        mechanisms: &'a str,
        locales: &'a str,
    },
    ConnectionSecure {
        challenge: &'a [u8],
    },
    ConnectionTune {
        channel_max: u16,
        frame_max: u32,
        heartbeat: u16,
    },
    ConnectionOpenOk,
    ConnectionClose {
        code: u16,
        text: &'a str,
        method: MethodId,
    },
    ConnectionCloseOk,
    ConnectionBlocked {
        reason: &'a str,
    },
    ConnectionUnblocked,
    ConnectionUpdateSecretOk,

    ChannelOpenOk,
    ChannelFlow {
        active: bool,
    },
    ChannelFlowOk {
        active: bool,
    },
    ChannelClose {
        code: u16,
        text: &'a str,
        method: MethodId,
    },
    ChannelCloseOk,

    AccessRequestOk,

    ExchangeDeclareOk,
    ExchangeDeleteOk,
    ExchangeBindOk,
    ExchangeUnbindOk,

    QueueDeclareOk {
        queue: &'a str,
        message_count: u32,
        consumer_count: u32,
    },
    QueueBindOk,
    QueueUnbindOk,
    QueuePurgeOk {
        message_count: u32,
    },
    QueueDeleteOk {
        message_count: u32,
    },

    BasicQosOk,
    BasicConsumeOk {
        consumer_tag: &'a str,
    },
    BasicCancel {
        consumer_tag: &'a str,
        nowait: bool,
    },
    BasicCancelOk {
        consumer_tag: &'a str,
    },
    BasicGetEmpty,
    BasicRecoverOk,
    BasicAck {
        delivery_tag: u64,
        multiple: bool,
    },
    /// Its requeue bit is set, as RabbitMQ's is.
    BasicNack {
        delivery_tag: u64,
        multiple: bool,
    },

    ConfirmSelectOk,
    TxSelectOk,
    TxCommitOk,
    TxRollbackOk,
}

impl ServerMethod<'_> {
    #[must_use]
    pub fn id(&self) -> MethodId {
        match self {
            Self::ConnectionStart { .. } => CONNECTION_START,
            Self::ConnectionSecure { .. } => CONNECTION_SECURE,
            Self::ConnectionTune { .. } => CONNECTION_TUNE,
            Self::ConnectionOpenOk => CONNECTION_OPEN_OK,
            Self::ConnectionClose { .. } => CONNECTION_CLOSE,
            Self::ConnectionCloseOk => CONNECTION_CLOSE_OK,
            Self::ConnectionBlocked { .. } => CONNECTION_BLOCKED,
            Self::ConnectionUnblocked => CONNECTION_UNBLOCKED,
            Self::ConnectionUpdateSecretOk => CONNECTION_UPDATE_SECRET_OK,
            Self::ChannelOpenOk => CHANNEL_OPEN_OK,
            Self::ChannelFlow { .. } => CHANNEL_FLOW,
            Self::ChannelFlowOk { .. } => CHANNEL_FLOW_OK,
            Self::ChannelClose { .. } => CHANNEL_CLOSE,
            Self::ChannelCloseOk => CHANNEL_CLOSE_OK,
            Self::AccessRequestOk => ACCESS_REQUEST_OK,
            Self::ExchangeDeclareOk => EXCHANGE_DECLARE_OK,
            Self::ExchangeDeleteOk => EXCHANGE_DELETE_OK,
            Self::ExchangeBindOk => EXCHANGE_BIND_OK,
            Self::ExchangeUnbindOk => EXCHANGE_UNBIND_OK,
            Self::QueueDeclareOk { .. } => QUEUE_DECLARE_OK,
            Self::QueueBindOk => QUEUE_BIND_OK,
            Self::QueueUnbindOk => QUEUE_UNBIND_OK,
            Self::QueuePurgeOk { .. } => QUEUE_PURGE_OK,
            Self::QueueDeleteOk { .. } => QUEUE_DELETE_OK,
            Self::BasicQosOk => BASIC_QOS_OK,
            Self::BasicConsumeOk { .. } => BASIC_CONSUME_OK,
            Self::BasicCancel { .. } => BASIC_CANCEL,
            Self::BasicCancelOk { .. } => BASIC_CANCEL_OK,
            Self::BasicGetEmpty => BASIC_GET_EMPTY,
            Self::BasicRecoverOk => BASIC_RECOVER_OK,
            Self::BasicAck { .. } => BASIC_ACK,
            Self::BasicNack { .. } => BASIC_NACK,
            Self::ConfirmSelectOk => CONFIRM_SELECT_OK,
            Self::TxSelectOk => TX_SELECT_OK,
            Self::TxCommitOk => TX_COMMIT_OK,
            Self::TxRollbackOk => TX_ROLLBACK_OK,
        }
    }

    /// Appends the whole frame.
    ///
    /// # Panics
    /// If a string is longer than 255 bytes: they are ours, or came in a shortstr.
    pub fn encode(&self, channel: u16, out: &mut Output) {
        match *self {
            Self::BasicAck { delivery_tag, multiple } => {
                put_ack(out, channel, delivery_tag, multiple);
            }
            Self::BasicNack { delivery_tag, multiple } => {
                put_nack(out, channel, delivery_tag, multiple);
            }
            _ => put_method_frame(out.buffer_mut(), channel, self.id(), |buffer| {
                self.put_fields(buffer);
            }),
        }
    }

    fn put_fields(&self, buffer: &mut Vec<u8>) {
        match *self {
            Self::ConnectionStart { server_properties, mechanisms, locales } => {
                buffer.extend_from_slice(&VERSION);
                put_long(buffer, server_properties.bytes());
                put_long(buffer, mechanisms.as_bytes());
                put_long(buffer, locales.as_bytes());
            }
            Self::ConnectionSecure { challenge } => put_long(buffer, challenge),
            Self::ConnectionTune { channel_max, frame_max, heartbeat } => {
                buffer.extend_from_slice(&channel_max.to_be_bytes());
                buffer.extend_from_slice(&frame_max.to_be_bytes());
                buffer.extend_from_slice(&heartbeat.to_be_bytes());
            }
            Self::ConnectionClose { code, text, method }
            | Self::ChannelClose { code, text, method } => {
                buffer.extend_from_slice(&code.to_be_bytes());
                put_short(buffer, text.as_bytes());
                buffer.extend_from_slice(&method.class.to_be_bytes());
                buffer.extend_from_slice(&method.method.to_be_bytes());
            }
            // Known hosts and cluster id: reserved, empty.
            Self::ConnectionOpenOk | Self::BasicGetEmpty => put_short(buffer, b""),
            Self::ChannelOpenOk => put_long(buffer, b""),
            Self::ConnectionBlocked { reason: text }
            | Self::BasicConsumeOk { consumer_tag: text }
            | Self::BasicCancelOk { consumer_tag: text } => put_short(buffer, text.as_bytes()),
            Self::ChannelFlow { active } | Self::ChannelFlowOk { active } => {
                buffer.push(u8::from(active));
            }
            Self::AccessRequestOk => buffer.extend_from_slice(&TICKET.to_be_bytes()),
            Self::QueueDeclareOk { queue, message_count, consumer_count } => {
                put_short(buffer, queue.as_bytes());
                buffer.extend_from_slice(&message_count.to_be_bytes());
                buffer.extend_from_slice(&consumer_count.to_be_bytes());
            }
            Self::QueuePurgeOk { message_count } | Self::QueueDeleteOk { message_count } => {
                buffer.extend_from_slice(&message_count.to_be_bytes());
            }
            Self::BasicCancel { consumer_tag, nowait } => {
                put_short(buffer, consumer_tag.as_bytes());
                buffer.push(u8::from(nowait));
            }
            _ => {}
        }
    }
}

/// AMQP 0-9-1, 1.4.2.1: major 0, minor 9.
const VERSION: [u8; 2] = [0, 9];
/// RabbitMQ: access.request is always answered with this ticket.
const TICKET: u16 = 1;
