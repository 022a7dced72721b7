//! The numbers of classes and methods: AMQP 0-9-1, 1.2 to 1.8, and RabbitMQ's extensions.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::exception::MethodId;

pub const CONNECTION: u16 = 10;
pub const CHANNEL: u16 = 20;
pub const ACCESS: u16 = 30;
pub const EXCHANGE: u16 = 40;
pub const QUEUE: u16 = 50;
pub const BASIC: u16 = 60;
pub const CONFIRM: u16 = 85;
pub const TX: u16 = 90;

pub const CONNECTION_START: MethodId = MethodId::new(CONNECTION, 10);
pub const CONNECTION_START_OK: MethodId = MethodId::new(CONNECTION, 11);
pub const CONNECTION_SECURE: MethodId = MethodId::new(CONNECTION, 20);
pub const CONNECTION_SECURE_OK: MethodId = MethodId::new(CONNECTION, 21);
pub const CONNECTION_TUNE: MethodId = MethodId::new(CONNECTION, 30);
pub const CONNECTION_TUNE_OK: MethodId = MethodId::new(CONNECTION, 31);
pub const CONNECTION_OPEN: MethodId = MethodId::new(CONNECTION, 40);
pub const CONNECTION_OPEN_OK: MethodId = MethodId::new(CONNECTION, 41);
pub const CONNECTION_CLOSE: MethodId = MethodId::new(CONNECTION, 50);
pub const CONNECTION_CLOSE_OK: MethodId = MethodId::new(CONNECTION, 51);
pub const CONNECTION_BLOCKED: MethodId = MethodId::new(CONNECTION, 60);
pub const CONNECTION_UNBLOCKED: MethodId = MethodId::new(CONNECTION, 61);
pub const CONNECTION_UPDATE_SECRET: MethodId = MethodId::new(CONNECTION, 70);
pub const CONNECTION_UPDATE_SECRET_OK: MethodId = MethodId::new(CONNECTION, 71);

pub const CHANNEL_OPEN: MethodId = MethodId::new(CHANNEL, 10);
pub const CHANNEL_OPEN_OK: MethodId = MethodId::new(CHANNEL, 11);
pub const CHANNEL_FLOW: MethodId = MethodId::new(CHANNEL, 20);
pub const CHANNEL_FLOW_OK: MethodId = MethodId::new(CHANNEL, 21);
pub const CHANNEL_CLOSE: MethodId = MethodId::new(CHANNEL, 40);
pub const CHANNEL_CLOSE_OK: MethodId = MethodId::new(CHANNEL, 41);

pub const ACCESS_REQUEST: MethodId = MethodId::new(ACCESS, 10);
pub const ACCESS_REQUEST_OK: MethodId = MethodId::new(ACCESS, 11);

pub const EXCHANGE_DECLARE: MethodId = MethodId::new(EXCHANGE, 10);
pub const EXCHANGE_DECLARE_OK: MethodId = MethodId::new(EXCHANGE, 11);
pub const EXCHANGE_DELETE: MethodId = MethodId::new(EXCHANGE, 20);
pub const EXCHANGE_DELETE_OK: MethodId = MethodId::new(EXCHANGE, 21);
pub const EXCHANGE_BIND: MethodId = MethodId::new(EXCHANGE, 30);
pub const EXCHANGE_BIND_OK: MethodId = MethodId::new(EXCHANGE, 31);
pub const EXCHANGE_UNBIND: MethodId = MethodId::new(EXCHANGE, 40);
pub const EXCHANGE_UNBIND_OK: MethodId = MethodId::new(EXCHANGE, 51);

pub const QUEUE_DECLARE: MethodId = MethodId::new(QUEUE, 10);
pub const QUEUE_DECLARE_OK: MethodId = MethodId::new(QUEUE, 11);
pub const QUEUE_BIND: MethodId = MethodId::new(QUEUE, 20);
pub const QUEUE_BIND_OK: MethodId = MethodId::new(QUEUE, 21);
pub const QUEUE_PURGE: MethodId = MethodId::new(QUEUE, 30);
pub const QUEUE_PURGE_OK: MethodId = MethodId::new(QUEUE, 31);
pub const QUEUE_DELETE: MethodId = MethodId::new(QUEUE, 40);
pub const QUEUE_DELETE_OK: MethodId = MethodId::new(QUEUE, 41);
pub const QUEUE_UNBIND: MethodId = MethodId::new(QUEUE, 50);
pub const QUEUE_UNBIND_OK: MethodId = MethodId::new(QUEUE, 51);

pub const BASIC_QOS: MethodId = MethodId::new(BASIC, 10);
pub const BASIC_QOS_OK: MethodId = MethodId::new(BASIC, 11);
pub const BASIC_CONSUME: MethodId = MethodId::new(BASIC, 20);
pub const BASIC_CONSUME_OK: MethodId = MethodId::new(BASIC, 21);
pub const BASIC_CANCEL: MethodId = MethodId::new(BASIC, 30);
pub const BASIC_CANCEL_OK: MethodId = MethodId::new(BASIC, 31);
pub const BASIC_PUBLISH: MethodId = MethodId::new(BASIC, 40);
pub const BASIC_RETURN: MethodId = MethodId::new(BASIC, 50);
pub const BASIC_DELIVER: MethodId = MethodId::new(BASIC, 60);
pub const BASIC_GET: MethodId = MethodId::new(BASIC, 70);
pub const BASIC_GET_OK: MethodId = MethodId::new(BASIC, 71);
pub const BASIC_GET_EMPTY: MethodId = MethodId::new(BASIC, 72);
pub const BASIC_ACK: MethodId = MethodId::new(BASIC, 80);
pub const BASIC_REJECT: MethodId = MethodId::new(BASIC, 90);
pub const BASIC_RECOVER_ASYNC: MethodId = MethodId::new(BASIC, 100);
pub const BASIC_RECOVER: MethodId = MethodId::new(BASIC, 110);
pub const BASIC_RECOVER_OK: MethodId = MethodId::new(BASIC, 111);
pub const BASIC_NACK: MethodId = MethodId::new(BASIC, 120);
pub const BASIC_CREDIT: MethodId = MethodId::new(BASIC, 200);
pub const BASIC_CREDIT_OK: MethodId = MethodId::new(BASIC, 201);
pub const BASIC_CREDIT_DRAINED: MethodId = MethodId::new(BASIC, 202);

pub const CONFIRM_SELECT: MethodId = MethodId::new(CONFIRM, 10);
pub const CONFIRM_SELECT_OK: MethodId = MethodId::new(CONFIRM, 11);

pub const TX_SELECT: MethodId = MethodId::new(TX, 10);
pub const TX_SELECT_OK: MethodId = MethodId::new(TX, 11);
pub const TX_COMMIT: MethodId = MethodId::new(TX, 20);
pub const TX_COMMIT_OK: MethodId = MethodId::new(TX, 21);
pub const TX_ROLLBACK: MethodId = MethodId::new(TX, 30);
pub const TX_ROLLBACK_OK: MethodId = MethodId::new(TX, 31);

/// Class and method of a method frame's payload; `None` if it is too short to name them.
#[must_use]
#[inline]
pub fn method_id(payload: &[u8]) -> Option<MethodId> {
    let (&[c0, c1, m0, m1], _) = payload.split_first_chunk()?;
    let (class, method) = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
    Some(MethodId::new(class, method))
}

/// The name of a method that a client may be at fault with, as RabbitMQ's log writes it.
#[must_use]
pub(crate) fn method_name(id: MethodId) -> Option<&'static str> {
    Some(match id {
        CONNECTION_START_OK => "connection.start_ok",
        CONNECTION_SECURE_OK => "connection.secure_ok",
        CONNECTION_TUNE => "connection.tune",
        CONNECTION_TUNE_OK => "connection.tune_ok",
        CONNECTION_OPEN => "connection.open",
        CONNECTION_CLOSE => "connection.close",
        CONNECTION_CLOSE_OK => "connection.close_ok",
        CONNECTION_UPDATE_SECRET => "connection.update_secret",
        CHANNEL_OPEN => "channel.open",
        CHANNEL_FLOW => "channel.flow",
        CHANNEL_FLOW_OK => "channel.flow_ok",
        CHANNEL_CLOSE => "channel.close",
        CHANNEL_CLOSE_OK => "channel.close_ok",
        ACCESS_REQUEST => "access.request",
        EXCHANGE_DECLARE => "exchange.declare",
        EXCHANGE_DELETE => "exchange.delete",
        EXCHANGE_BIND => "exchange.bind",
        EXCHANGE_UNBIND => "exchange.unbind",
        QUEUE_DECLARE => "queue.declare",
        QUEUE_BIND => "queue.bind",
        QUEUE_PURGE => "queue.purge",
        QUEUE_DELETE => "queue.delete",
        QUEUE_UNBIND => "queue.unbind",
        BASIC_QOS => "basic.qos",
        BASIC_CONSUME => "basic.consume",
        BASIC_CANCEL => "basic.cancel",
        BASIC_PUBLISH => "basic.publish",
        BASIC_GET => "basic.get",
        BASIC_ACK => "basic.ack",
        BASIC_REJECT => "basic.reject",
        BASIC_RECOVER_ASYNC => "basic.recover_async",
        BASIC_RECOVER => "basic.recover",
        BASIC_NACK => "basic.nack",
        BASIC_CREDIT => "basic.credit",
        CONFIRM_SELECT => "confirm.select",
        TX_SELECT => "tx.select",
        TX_COMMIT => "tx.commit",
        TX_ROLLBACK => "tx.rollback",
        _ => return None,
    })
}
