//! What a client may say. Names and tables are borrowed from the frame, checked: a `&str` is UTF-8,
//! a `TableRef` has been walked. Reserved fields (ticket, out-of-band and such) are left out.

use crate::exception::MethodId;
use crate::table::TableRef;
use crate::wire::publish::Publish;

/// A method from a client.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClientMethod<'a> {
    ConnectionStartOk(StartOk<'a>),
    ConnectionSecureOk {
        response: &'a [u8],
    },
    ConnectionTuneOk(TuneOk),
    ConnectionOpen {
        vhost: &'a str,
    },
    ConnectionClose(Close<'a>),
    ConnectionCloseOk,
    ConnectionUpdateSecret {
        new_secret: &'a [u8],
        reason: &'a str,
    },

    ChannelOpen,
    ChannelFlow {
        active: bool,
    },
    ChannelFlowOk {
        active: bool,
    },
    ChannelClose(Close<'a>),
    ChannelCloseOk,

    AccessRequest,

    ExchangeDeclare(ExchangeDeclare<'a>),
    ExchangeDelete(ExchangeDelete<'a>),
    ExchangeBind(Bind<'a>),
    ExchangeUnbind(Bind<'a>),

    QueueDeclare(QueueDeclare<'a>),
    QueueBind(Bind<'a>),
    QueueUnbind(Bind<'a>),
    QueuePurge {
        queue: &'a str,
        nowait: bool,
    },
    QueueDelete(QueueDelete<'a>),

    BasicQos(Qos),
    BasicConsume(Consume<'a>),
    BasicCancel {
        consumer_tag: &'a str,
        nowait: bool,
    },
    BasicCancelOk {
        consumer_tag: &'a str,
    },
    BasicPublish(Publish<'a>),
    BasicGet {
        queue: &'a str,
        no_ack: bool,
    },
    BasicAck {
        delivery_tag: u64,
        multiple: bool,
    },
    BasicReject {
        delivery_tag: u64,
        requeue: bool,
    },
    BasicNack {
        delivery_tag: u64,
        multiple: bool,
        requeue: bool,
    },
    BasicRecover {
        requeue: bool,
    },
    BasicRecoverAsync {
        requeue: bool,
    },

    ConfirmSelect {
        nowait: bool,
    },
    TxSelect,
    TxCommit,
    TxRollback,

    /// A known method that only a server sends, or that RabbitMQ 4 no longer has.
    Unimplemented(MethodId),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StartOk<'a> {
    pub client_properties: TableRef<'a>,
    pub mechanism: &'a str,
    pub response: &'a [u8],
    pub locale: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TuneOk {
    pub channel_max: u16,
    pub frame_max: u32,
    /// Interval in seconds.
    pub heartbeat: u16,
}

/// Ends a connection or a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    pub code: u16,
    pub text: &'a str,
    /// The method at fault, if one is.
    pub method: MethodId,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExchangeDeclare<'a> {
    pub exchange: &'a str,
    pub kind: &'a str,
    pub passive: bool,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub nowait: bool,
    pub arguments: TableRef<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeDelete<'a> {
    pub exchange: &'a str,
    pub if_unused: bool,
    pub nowait: bool,
}

/// The fields of queue.bind, queue.unbind, exchange.bind and exchange.unbind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bind<'a> {
    pub source: &'a str,
    /// A queue's name or an exchange's.
    pub destination: &'a str,
    /// Valid UTF-8, as bytes like the routing keys that it is compared with.
    pub key: &'a [u8],
    /// Never set in queue.unbind, which has no such field.
    pub nowait: bool,
    pub arguments: TableRef<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueDeclare<'a> {
    pub queue: &'a str,
    pub passive: bool,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub nowait: bool,
    pub arguments: TableRef<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueDelete<'a> {
    pub queue: &'a str,
    pub if_unused: bool,
    pub if_empty: bool,
    pub nowait: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qos {
    /// In octets.
    pub prefetch_size: u32,
    pub prefetch_count: u16,
    pub global: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Consume<'a> {
    pub queue: &'a str,
    pub consumer_tag: &'a str,
    pub no_local: bool,
    pub no_ack: bool,
    pub exclusive: bool,
    pub nowait: bool,
    pub arguments: TableRef<'a>,
}
