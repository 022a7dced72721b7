//! A golden payload for every method of a client, and what is said of others.

use super::*;
use crate::exception::{Exception, Scope};
use crate::table::Value;

fn told(payload: &[u8]) -> (String, MethodId) {
    let exception: Exception = ClientMethod::decode(payload).unwrap_err().into();
    assert_eq!(exception.code.scope(), Scope::Connection);
    (exception.text(), exception.method.unwrap())
}

/// `a = true`.
const TABLE: &[u8] = b"\x01at\x01";

fn table() -> TableRef<'static> {
    TableRef::check(TABLE).unwrap()
}

fn decodes(vectors: &[(&[u8], ClientMethod<'_>)]) {
    for (payload, method) in vectors {
        assert_eq!(ClientMethod::decode(payload).as_ref(), Ok(method));
        let id = method_id(payload).unwrap();
        let cut = payload.get(..payload.len() - 1).unwrap();
        assert!(ClientMethod::decode(cut).is_err(), "{id:?} one octet short");
        let (text, blamed) = told(&[payload, &b"\x07"[..]].concat());
        assert!(text.starts_with("FRAME_ERROR - cannot decode <<"), "{text}");
        assert_eq!(blamed, id);
    }
}

#[test]
fn connection_methods() {
    let start_ok = StartOk {
        client_properties: table(),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    let close = Close { code: 200, text: "Goodbye", method: MethodId::new(60, 40) };
    let tune_ok = TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
    decodes(&[
        (
            b"\0\x0a\0\x0b\0\0\0\x04\x01at\x01\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US",
            ClientMethod::ConnectionStartOk(start_ok),
        ),
        (b"\0\x0a\0\x15\0\0\0\x02\xffx", ClientMethod::ConnectionSecureOk { response: b"\xffx" }),
        (b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\x3c", ClientMethod::ConnectionTuneOk(tune_ok)),
        (b"\0\x0a\0\x28\x01/\0\x01", ClientMethod::ConnectionOpen { vhost: "/" }),
        (b"\0\x0a\0\x32\0\xc8\x07Goodbye\0\x3c\0\x28", ClientMethod::ConnectionClose(close)),
        (
            b"\0\x0a\0\x46\0\0\0\x01s\x01r",
            ClientMethod::ConnectionUpdateSecret { new_secret: b"s", reason: "r" },
        ),
    ]);
    let close_ok = ClientMethod::decode(b"\0\x0a\0\x33");
    assert_eq!(close_ok, Ok(ClientMethod::ConnectionCloseOk));
}

#[test]
fn channel_and_access_methods() {
    let close = Close { code: 404, text: "", method: MethodId::NONE };
    decodes(&[
        (b"\0\x14\0\x0a\0", ClientMethod::ChannelOpen),
        (b"\0\x14\0\x14\x01", ClientMethod::ChannelFlow { active: true }),
        (b"\0\x14\0\x15\0", ClientMethod::ChannelFlowOk { active: false }),
        (b"\0\x14\0\x28\x01\x94\0\0\0\0\0", ClientMethod::ChannelClose(close)),
        (b"\0\x1e\0\x0a\x05/data\x1f", ClientMethod::AccessRequest),
    ]);
    let close_ok = ClientMethod::decode(b"\0\x14\0\x29");
    assert_eq!(close_ok, Ok(ClientMethod::ChannelCloseOk));
}

#[test]
fn exchange_methods() {
    let declare = ExchangeDeclare {
        exchange: "e",
        kind: "topic",
        passive: false,
        durable: true,
        auto_delete: false,
        internal: true,
        nowait: false,
        arguments: table(),
    };
    let delete = ExchangeDelete { exchange: "e", if_unused: false, nowait: true };
    let bind = Bind {
        source: "src",
        destination: "dst",
        key: b"k",
        nowait: true,
        arguments: TableRef::EMPTY,
    };
    decodes(&[
        (
            b"\0\x28\0\x0a\0\0\x01e\x05topic\x0a\0\0\0\x04\x01at\x01",
            ClientMethod::ExchangeDeclare(declare),
        ),
        (b"\0\x28\0\x14\0\0\x01e\x02", ClientMethod::ExchangeDelete(delete)),
        (b"\0\x28\0\x1e\0\0\x03dst\x03src\x01k\x01\0\0\0\0", ClientMethod::ExchangeBind(bind)),
        (b"\0\x28\0\x28\0\0\x03dst\x03src\x01k\x01\0\0\0\0", ClientMethod::ExchangeUnbind(bind)),
    ]);
}

#[test]
fn queue_methods() {
    let declare = QueueDeclare {
        queue: "q",
        passive: true,
        durable: false,
        exclusive: true,
        auto_delete: false,
        nowait: true,
        arguments: table(),
    };
    let bind =
        Bind { source: "e", destination: "q", key: b"k.#", nowait: false, arguments: table() };
    let delete = QueueDelete { queue: "q", if_unused: false, if_empty: true, nowait: false };
    decodes(&[
        // The three highest bits are no fields.
        (b"\0\x32\0\x0a\0\0\x01q\xf5\0\0\0\x04\x01at\x01", ClientMethod::QueueDeclare(declare)),
        (b"\0\x32\0\x14\0\0\x01q\x01e\x03k.#\0\0\0\0\x04\x01at\x01", ClientMethod::QueueBind(bind)),
        (b"\0\x32\0\x32\0\0\x01q\x01e\x03k.#\0\0\0\x04\x01at\x01", ClientMethod::QueueUnbind(bind)),
        (b"\0\x32\0\x1e\0\0\x01q\x01", ClientMethod::QueuePurge { queue: "q", nowait: true }),
        (b"\0\x32\0\x28\0\0\x01q\x02", ClientMethod::QueueDelete(delete)),
    ]);
}

#[test]
fn basic_methods() {
    let qos = Qos { prefetch_size: 1, prefetch_count: 250, global: true };
    let consume = Consume {
        queue: "q",
        consumer_tag: "t",
        no_local: false,
        no_ack: true,
        exclusive: true,
        nowait: false,
        arguments: table(),
    };
    let publish = parse_publish(b"\0\x3c\0\x28\0\0\x01e\x01k\x01").unwrap();
    decodes(&[
        (b"\0\x3c\0\x0a\0\0\0\x01\0\xfa\x01", ClientMethod::BasicQos(qos)),
        (
            b"\0\x3c\0\x14\0\0\x01q\x01t\x06\0\0\0\x04\x01at\x01",
            ClientMethod::BasicConsume(consume),
        ),
        (b"\0\x3c\0\x1e\x01t\x01", ClientMethod::BasicCancel { consumer_tag: "t", nowait: true }),
        (b"\0\x3c\0\x1f\x01t", ClientMethod::BasicCancelOk { consumer_tag: "t" }),
        (b"\0\x3c\0\x28\0\0\x01e\x01k\x01", ClientMethod::BasicPublish(publish)),
        (b"\0\x3c\0\x46\0\0\x01q\x01", ClientMethod::BasicGet { queue: "q", no_ack: true }),
    ]);
}

#[test]
fn settling_methods() {
    let tag = 0x0102_0304_0506_0708;
    decodes(&[
        (
            b"\0\x3c\0\x50\x01\x02\x03\x04\x05\x06\x07\x08\x01",
            ClientMethod::BasicAck { delivery_tag: tag, multiple: true },
        ),
        (
            b"\0\x3c\0\x5a\x01\x02\x03\x04\x05\x06\x07\x08\x01",
            ClientMethod::BasicReject { delivery_tag: tag, requeue: true },
        ),
        (
            b"\0\x3c\0\x78\x01\x02\x03\x04\x05\x06\x07\x08\x02",
            ClientMethod::BasicNack { delivery_tag: tag, multiple: false, requeue: true },
        ),
        (b"\0\x3c\0\x64\x01", ClientMethod::BasicRecoverAsync { requeue: true }),
        (b"\0\x3c\0\x6e\0", ClientMethod::BasicRecover { requeue: false }),
    ]);
}

#[test]
fn confirm_and_tx_methods() {
    decodes(&[(b"\0\x55\0\x0a\x01", ClientMethod::ConfirmSelect { nowait: true })]);
    let tx = [ClientMethod::TxSelect, ClientMethod::TxCommit, ClientMethod::TxRollback];
    for (number, method) in [10, 20, 30].into_iter().zip(tx) {
        assert_eq!(ClientMethod::decode(&[0, 90, 0, number]), Ok(method));
    }
    let (text, method) = told(b"\0\x5a\0\x0a\0\0");
    assert_eq!(text, "FRAME_ERROR - cannot decode <<0,0>>");
    assert_eq!(method, TX_SELECT);
}

#[test]
fn what_only_a_server_says_is_unimplemented() {
    let server_only: [(u8, &[u8]); 8] = [
        (10, &[10, 20, 30, 41, 60, 61, 71]),
        (20, &[11]),
        (30, &[11]),
        (40, &[11, 21, 31, 51]),
        (50, &[11, 21, 31, 41, 51]),
        (60, &[11, 21, 50, 60, 71, 72, 111, 200, 201, 202]),
        (85, &[11]),
        (90, &[11, 21, 31]),
    ];
    for (class, methods) in server_only {
        for &method in methods {
            let id = MethodId::new(class.into(), method.into());
            let payload = [0, class, 0, method, 1, 2, 3];
            assert_eq!(ClientMethod::decode(&payload), Ok(ClientMethod::Unimplemented(id)));
        }
    }
}

#[test]
fn an_unknown_method_is_named() {
    let (text, method) = told(b"\0\x3c\0\x63");
    assert_eq!(text, "COMMAND_INVALID - unknown method 60.99");
    assert_eq!(method, MethodId::new(60, 99));
    assert_eq!(told(b"\xff\xff\0\x0a").0, "COMMAND_INVALID - unknown method 65535.10");
    assert_eq!(
        told(b"\0\x3c\0"),
        ("FRAME_ERROR - type 1, all octets = <<0,60,0>>: unknown_frame".to_owned(), MethodId::NONE)
    );
}

#[test]
fn names_are_utf8_and_tables_are_checked_after_the_layout() {
    let (text, method) = told(b"\0\x32\0\x1e\0\0\x01\xff\x01");
    assert_eq!(text, "FRAME_ERROR - Malformed UTF-8 in shortstr");
    assert_eq!(method, MethodId::NONE);
    let (text, method) = told(b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x03\x01aU");
    assert_eq!(text, "SYNTAX_ERROR - unknown field type 0x55");
    assert_eq!(method, QUEUE_DECLARE);
    let (text, _) = told(b"\0\x32\0\x0a\0\0\x01\xff\0\0\0\0\x03\x01aU!");
    assert!(text.starts_with("FRAME_ERROR - cannot decode"), "{text}");
}

#[test]
fn a_text_shows_no_more_than_fits() {
    let (text, _) = told(&[&b"\0\x3c\0\x50"[..], &[0; 100_000]].concat());
    assert!(text.starts_with("FRAME_ERROR - cannot decode <<0,0,"));
    assert!(text.len() == 255 && text.ends_with("..."));
}

#[test]
fn a_table_keeps_order_and_duplicates() {
    let payload = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\x0c\x01bt\x01\x01at\x01\x01bt\x00";
    let Ok(ClientMethod::QueueDeclare(declare)) = ClientMethod::decode(payload) else {
        panic!("it is a queue.declare");
    };
    let keys: Vec<_> = declare.arguments.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"b", b"a", b"b"]);
    assert_eq!(declare.arguments.get_last(b"b"), Some(Value::Bool(false)));
}
