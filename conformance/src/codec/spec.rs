//! The methods of AMQP 0-9-1 with RabbitMQ's extensions: names, ids and fields in wire order.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bit,
    Octet,
    Short,
    Long,
    LongLong,
    ShortString,
    LongString,
    Table,
}

pub(crate) struct MethodSpec {
    pub(crate) name: &'static str,
    pub(crate) class: u16,
    pub(crate) id: u16,
    pub(crate) fields: &'static [(&'static str, Kind)],
}

use Kind::{Bit, Long, LongLong, LongString, Octet, Short, ShortString, Table};

type Fields = &'static [(&'static str, Kind)];

const TICKET: (&str, Kind) = ("ticket", Short);
const CLOSE: Fields = &[
    ("reply_code", Short),
    ("reply_text", ShortString),
    ("class_id", Short),
    ("method_id", Short),
];
const BIND_EXCHANGES: Fields = &[
    TICKET,
    ("destination", ShortString),
    ("source", ShortString),
    ("routing_key", ShortString),
    ("nowait", Bit),
    ("arguments", Table),
];
const CREDIT: Fields = &[("consumer_tag", ShortString), ("credit", Long), ("drain", Bit)];

const fn method(class: u16, id: u16, name: &'static str, fields: Fields) -> MethodSpec {
    MethodSpec { name, class, id, fields }
}

#[rustfmt::skip]
pub(crate) const METHODS: &[MethodSpec] = &[
    method(10, 10, "connection.start", &[
        ("version_major", Octet), ("version_minor", Octet), ("server_properties", Table),
        ("mechanisms", LongString), ("locales", LongString),
    ]),
    method(10, 11, "connection.start-ok", &[
        ("client_properties", Table), ("mechanism", ShortString), ("response", LongString),
        ("locale", ShortString),
    ]),
    method(10, 20, "connection.secure", &[("challenge", LongString)]),
    method(10, 21, "connection.secure-ok", &[("response", LongString)]),
    method(10, 30, "connection.tune", &[
        ("channel_max", Short), ("frame_max", Long), ("heartbeat", Short),
    ]),
    method(10, 31, "connection.tune-ok", &[
        ("channel_max", Short), ("frame_max", Long), ("heartbeat", Short),
    ]),
    method(10, 40, "connection.open", &[
        ("virtual_host", ShortString), ("capabilities", ShortString), ("insist", Bit),
    ]),
    method(10, 41, "connection.open-ok", &[("known_hosts", ShortString)]),
    method(10, 50, "connection.close", CLOSE),
    method(10, 51, "connection.close-ok", &[]),
    method(10, 60, "connection.blocked", &[("reason", ShortString)]),
    method(10, 61, "connection.unblocked", &[]),
    method(10, 70, "connection.update-secret", &[
        ("new_secret", LongString), ("reason", ShortString),
    ]),
    method(10, 71, "connection.update-secret-ok", &[]),
    method(20, 10, "channel.open", &[("out_of_band", ShortString)]),
    method(20, 11, "channel.open-ok", &[("channel_id", LongString)]),
    method(20, 20, "channel.flow", &[("active", Bit)]),
    method(20, 21, "channel.flow-ok", &[("active", Bit)]),
    method(20, 40, "channel.close", CLOSE),
    method(20, 41, "channel.close-ok", &[]),
    method(30, 10, "access.request", &[
        ("realm", ShortString), ("exclusive", Bit), ("passive", Bit), ("active", Bit),
        ("write", Bit), ("read", Bit),
    ]),
    method(30, 11, "access.request-ok", &[TICKET]),
    method(40, 10, "exchange.declare", &[
        TICKET, ("exchange", ShortString), ("type", ShortString), ("passive", Bit),
        ("durable", Bit), ("auto_delete", Bit), ("internal", Bit), ("nowait", Bit),
        ("arguments", Table),
    ]),
    method(40, 11, "exchange.declare-ok", &[]),
    method(40, 20, "exchange.delete", &[
        TICKET, ("exchange", ShortString), ("if_unused", Bit), ("nowait", Bit),
    ]),
    method(40, 21, "exchange.delete-ok", &[]),
    method(40, 30, "exchange.bind", BIND_EXCHANGES),
    method(40, 31, "exchange.bind-ok", &[]),
    method(40, 40, "exchange.unbind", BIND_EXCHANGES),
    method(40, 51, "exchange.unbind-ok", &[]),
    method(50, 10, "queue.declare", &[
        TICKET, ("queue", ShortString), ("passive", Bit), ("durable", Bit), ("exclusive", Bit),
        ("auto_delete", Bit), ("nowait", Bit), ("arguments", Table),
    ]),
    method(50, 11, "queue.declare-ok", &[
        ("queue", ShortString), ("message_count", Long), ("consumer_count", Long),
    ]),
    method(50, 20, "queue.bind", &[
        TICKET, ("queue", ShortString), ("exchange", ShortString), ("routing_key", ShortString),
        ("nowait", Bit), ("arguments", Table),
    ]),
    method(50, 21, "queue.bind-ok", &[]),
    method(50, 30, "queue.purge", &[TICKET, ("queue", ShortString), ("nowait", Bit)]),
    method(50, 31, "queue.purge-ok", &[("message_count", Long)]),
    method(50, 40, "queue.delete", &[
        TICKET, ("queue", ShortString), ("if_unused", Bit), ("if_empty", Bit), ("nowait", Bit),
    ]),
    method(50, 41, "queue.delete-ok", &[("message_count", Long)]),
    method(50, 50, "queue.unbind", &[
        TICKET, ("queue", ShortString), ("exchange", ShortString), ("routing_key", ShortString),
        ("arguments", Table),
    ]),
    method(50, 51, "queue.unbind-ok", &[]),
    method(60, 10, "basic.qos", &[
        ("prefetch_size", Long), ("prefetch_count", Short), ("global", Bit),
    ]),
    method(60, 11, "basic.qos-ok", &[]),
    method(60, 20, "basic.consume", &[
        TICKET, ("queue", ShortString), ("consumer_tag", ShortString), ("no_local", Bit),
        ("no_ack", Bit), ("exclusive", Bit), ("nowait", Bit), ("arguments", Table),
    ]),
    method(60, 21, "basic.consume-ok", &[("consumer_tag", ShortString)]),
    method(60, 30, "basic.cancel", &[("consumer_tag", ShortString), ("nowait", Bit)]),
    method(60, 31, "basic.cancel-ok", &[("consumer_tag", ShortString)]),
    method(60, 40, "basic.publish", &[
        TICKET, ("exchange", ShortString), ("routing_key", ShortString), ("mandatory", Bit),
        ("immediate", Bit),
    ]),
    method(60, 50, "basic.return", &[
        ("reply_code", Short), ("reply_text", ShortString), ("exchange", ShortString),
        ("routing_key", ShortString),
    ]),
    method(60, 60, "basic.deliver", &[
        ("consumer_tag", ShortString), ("delivery_tag", LongLong), ("redelivered", Bit),
        ("exchange", ShortString), ("routing_key", ShortString),
    ]),
    method(60, 70, "basic.get", &[TICKET, ("queue", ShortString), ("no_ack", Bit)]),
    method(60, 71, "basic.get-ok", &[
        ("delivery_tag", LongLong), ("redelivered", Bit), ("exchange", ShortString),
        ("routing_key", ShortString), ("message_count", Long),
    ]),
    method(60, 72, "basic.get-empty", &[("cluster_id", ShortString)]),
    method(60, 80, "basic.ack", &[("delivery_tag", LongLong), ("multiple", Bit)]),
    method(60, 90, "basic.reject", &[("delivery_tag", LongLong), ("requeue", Bit)]),
    method(60, 100, "basic.recover-async", &[("requeue", Bit)]),
    method(60, 110, "basic.recover", &[("requeue", Bit)]),
    method(60, 111, "basic.recover-ok", &[]),
    method(60, 120, "basic.nack", &[
        ("delivery_tag", LongLong), ("multiple", Bit), ("requeue", Bit),
    ]),
    method(60, 200, "basic.credit", CREDIT),
    method(60, 201, "basic.credit-ok", &[("available", Long)]),
    method(60, 202, "basic.credit-drained", &[
        ("consumer_tag", ShortString), ("credit_drained", Long),
    ]),
    method(85, 10, "confirm.select", &[("nowait", Bit)]),
    method(85, 11, "confirm.select-ok", &[]),
    method(90, 10, "tx.select", &[]),
    method(90, 11, "tx.select-ok", &[]),
    method(90, 20, "tx.commit", &[]),
    method(90, 21, "tx.commit-ok", &[]),
    method(90, 30, "tx.rollback", &[]),
    method(90, 31, "tx.rollback-ok", &[]),
];

/// Class and method id of a method, and 0, 0 for the empty name.
pub(crate) fn method_ids(name: &str) -> (u16, u16) {
    if name.is_empty() {
        return (0, 0);
    }
    let spec = by_name(name);
    (spec.class, spec.id)
}

/// The specification of a method that a case names; an unknown name is the case's mistake.
pub(crate) fn by_name(name: &str) -> &'static MethodSpec {
    METHODS
        .iter()
        .find(|spec| spec.name == name)
        .unwrap_or_else(|| panic!("AMQP 0-9-1 has no method {name}"))
}

pub(crate) fn by_ids(class: u16, id: u16) -> Option<&'static MethodSpec> {
    METHODS.iter().find(|spec| (spec.class, spec.id) == (class, id))
}
