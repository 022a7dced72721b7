//! What the server writes, as amq-protocol reads it.

use super::{drain, header};
use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::Bytes;
use leveret::exception::MethodId;
use leveret::limits::FRAME_MAX;
use leveret::message::Message;
use leveret::table::{TableBuilder, TableRef, Value};
use leveret::wire::encode::{
    Content, put_ack, put_delivery, put_get_ok, put_heartbeat, put_nack, put_return,
};
use leveret::wire::{Output, ServerMethod};
use proptest::prelude::*;

/// amq-protocol's reading of whole frames.
fn parse_all(mut bytes: &[u8]) -> Vec<AMQPFrame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (rest, frame) = parse_frame(bytes).expect("amq-protocol reads what we write");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Methods without fields that say something.
pub(super) const PLAIN: [ServerMethod<'_>; 20] = [
    ServerMethod::ConnectionOpenOk,
    ServerMethod::ConnectionCloseOk,
    ServerMethod::ConnectionUnblocked,
    ServerMethod::ConnectionUpdateSecretOk,
    ServerMethod::ChannelOpenOk,
    ServerMethod::ChannelCloseOk,
    ServerMethod::AccessRequestOk,
    ServerMethod::ExchangeDeclareOk,
    ServerMethod::ExchangeDeleteOk,
    ServerMethod::ExchangeBindOk,
    ServerMethod::ExchangeUnbindOk,
    ServerMethod::QueueBindOk,
    ServerMethod::QueueUnbindOk,
    ServerMethod::BasicQosOk,
    ServerMethod::BasicGetEmpty,
    ServerMethod::BasicRecoverOk,
    ServerMethod::ConfirmSelectOk,
    ServerMethod::TxSelectOk,
    ServerMethod::TxCommitOk,
    ServerMethod::TxRollbackOk,
];

fn encoded(method: &ServerMethod<'_>, channel: u16) -> AMQPFrame {
    let mut output = Output::new();
    method.encode(channel, &mut output);
    let mut frames = parse_all(&drain(output));
    assert_eq!(frames.len(), 1);
    frames.remove(0)
}

#[test]
fn a_client_reads_methods_without_fields() {
    for method in PLAIN {
        let AMQPFrame::Method(3, class) = encoded(&method, 3) else {
            panic!("{method:?} is a method on channel 3");
        };
        let id = MethodId::new(class.get_amqp_class_id(), class.get_amqp_method_id());
        assert_eq!(method.id(), id);
        // `Queue(BindOk(BindOk))` and `QueueBindOk`.
        let name: String = format!("{class:?}").split('(').take(2).collect();
        assert_eq!(format!("{method:?}"), name);
    }
}

fn connection_methods<'a>(
    text: &'a str,
    n: u32,
    server_properties: TableRef<'a>,
) -> [(ServerMethod<'a>, connection::AMQPMethod); 5] {
    use ServerMethod as Ours;
    use connection::AMQPMethod as Theirs;
    let code = (n >> 16) as u16;
    let mut capable = FieldTable::default();
    capable.insert("able".into(), AMQPValue::Boolean(true));
    let start = connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: capable,
        mechanisms: text.into(),
        locales: "en_US".into(),
    };
    let close = connection::Close {
        reply_code: code,
        reply_text: text.into(),
        class_id: 60,
        method_id: code,
    };
    let tune = connection::Tune { channel_max: code, frame_max: n, heartbeat: !code };
    let method = MethodId::new(60, code);
    [
        (
            Ours::ConnectionStart { server_properties, mechanisms: text, locales: "en_US" },
            Theirs::Start(start),
        ),
        (
            Ours::ConnectionSecure { challenge: text.as_bytes() },
            Theirs::Secure(connection::Secure { challenge: text.into() }),
        ),
        (
            Ours::ConnectionTune { channel_max: code, frame_max: n, heartbeat: !code },
            Theirs::Tune(tune),
        ),
        (Ours::ConnectionClose { code, text, method }, Theirs::Close(close)),
        (
            Ours::ConnectionBlocked { reason: text },
            Theirs::Blocked(connection::Blocked { reason: text.into() }),
        ),
    ]
}

fn channel_methods(text: &str, n: u32, active: bool) -> [(ServerMethod<'_>, AMQPClass); 6] {
    use AMQPClass::{Channel, Queue};
    use ServerMethod as Ours;
    let code = (n >> 16) as u16;
    let close =
        channel::Close { reply_code: code, reply_text: text.into(), class_id: 60, method_id: code };
    let method = MethodId::new(60, code);
    let (message_count, consumer_count) = (n, !n);
    let declared = queue::DeclareOk { queue: text.into(), message_count, consumer_count };
    [
        (
            Ours::ChannelFlow { active },
            Channel(channel::AMQPMethod::Flow(channel::Flow { active })),
        ),
        (
            Ours::ChannelFlowOk { active },
            Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active })),
        ),
        (Ours::ChannelClose { code, text, method }, Channel(channel::AMQPMethod::Close(close))),
        (
            Ours::QueueDeclareOk { queue: text, message_count, consumer_count },
            Queue(queue::AMQPMethod::DeclareOk(declared)),
        ),
        (
            Ours::QueuePurgeOk { message_count },
            Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count })),
        ),
        (
            Ours::QueueDeleteOk { message_count },
            Queue(queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count })),
        ),
    ]
}

fn basic_methods(tag: &str, n: u64, flag: bool) -> [(ServerMethod<'_>, basic::AMQPMethod); 5] {
    use ServerMethod as Ours;
    use basic::AMQPMethod as Theirs;
    let (delivery_tag, multiple, nowait) = (n, flag, flag);
    let nack = basic::Nack { delivery_tag, multiple, requeue: true };
    [
        (
            Ours::BasicConsumeOk { consumer_tag: tag },
            Theirs::ConsumeOk(basic::ConsumeOk { consumer_tag: tag.into() }),
        ),
        (
            Ours::BasicCancel { consumer_tag: tag, nowait },
            Theirs::Cancel(basic::Cancel { consumer_tag: tag.into(), nowait }),
        ),
        (
            Ours::BasicCancelOk { consumer_tag: tag },
            Theirs::CancelOk(basic::CancelOk { consumer_tag: tag.into() }),
        ),
        (
            Ours::BasicAck { delivery_tag, multiple },
            Theirs::Ack(basic::Ack { delivery_tag, multiple }),
        ),
        (Ours::BasicNack { delivery_tag, multiple }, Theirs::Nack(nack)),
    ]
}

proptest! {
    #[test]
    fn a_client_reads_methods_with_fields(
        text in "\\PC{0,60}", n: u32, long: u64, flag: bool, channel: u16,
    ) {
        let able = TableBuilder::new().put(b"able", Value::Bool(true)).finish();
        let connection = connection_methods(&text, n, able.as_ref()).into_iter();
        let connection = connection.map(|(ours, theirs)| (ours, AMQPClass::Connection(theirs)));
        let basic = basic_methods(&text, long, flag).into_iter();
        let basic = basic.map(|(ours, theirs)| (ours, AMQPClass::Basic(theirs)));
        for (ours, theirs) in connection.chain(channel_methods(&text, n, flag)).chain(basic) {
            prop_assert_eq!(encoded(&ours, channel), AMQPFrame::Method(channel, theirs));
        }
    }
}

proptest! {
    #[test]
    fn a_message_leaves_in_frames_that_give_it_back(
        names in ("[a-z]{0,20}", "\\PC{0,60}", "\\PC{0,60}"),
        body_len in prop_oneof![0..50_usize, 0..20_000_usize, 16_000..80_000_usize],
        piece_len in 1..40_000_usize,
        frame_max in prop_oneof![Just(0_u32), 4096..9000_u32, Just(FRAME_MAX)],
        tag: u64, flag: bool, channel in 1..=u16::MAX,
    ) {
        let (consumer_tag, exchange, key) = (&names.0, &names.1, &names.2);
        let body: Vec<u8> = (0..body_len).map(|n| n as u8).collect();
        let pieces = body.chunks(piece_len).map(Bytes::copy_from_slice).collect();
        let header = header(body_len, &[0x10, 0, 2]);
        let (exchange, key) = (exchange.as_bytes(), key.as_bytes());
        let message = Message::from_pieces(exchange, key, &header, pieces, &mut Vec::new());

        let mut output = Output::new();
        let content = Content::of(&message);
        put_delivery(
            &mut output, channel, consumer_tag.as_bytes(), tag, flag, content, frame_max,
        );
        put_get_ok(&mut output, channel, tag, flag, content, 7, frame_max);
        put_return(&mut output, channel, 312, "NO_ROUTE", &message, frame_max);
        put_ack(&mut output, channel, tag, flag);
        put_nack(&mut output, channel, tag, flag);
        put_heartbeat(&mut output);
        let mut frames = parse_all(&drain(output)).into_iter();

        let (delivery_tag, redelivered) = (tag, flag);
        let (exchange, routing_key) = (names.1.as_str().into(), names.2.as_str().into());
        let deliver = basic::Deliver {
            consumer_tag: consumer_tag.as_str().into(), delivery_tag, redelivered, exchange,
            routing_key,
        };
        let (exchange, routing_key) = (names.1.as_str().into(), names.2.as_str().into());
        let get_ok =
            basic::GetOk { delivery_tag, redelivered, exchange, routing_key, message_count: 7 };
        let (exchange, routing_key) = (names.1.as_str().into(), names.2.as_str().into());
        let (reply_code, reply_text) = (312, "NO_ROUTE".into());
        let returned = basic::Return { reply_code, reply_text, exchange, routing_key };
        for method in [
            basic::AMQPMethod::Deliver(deliver),
            basic::AMQPMethod::GetOk(get_ok),
            basic::AMQPMethod::Return(returned),
        ] {
            let method = AMQPFrame::Method(channel, AMQPClass::Basic(method));
            prop_assert_eq!(frames.next(), Some(method));
            let Some(AMQPFrame::Header(_, header)) = frames.next() else {
                panic!("a header follows");
            };
            prop_assert_eq!(header.body_size, body_len as u64);
            prop_assert_eq!(*header.properties.delivery_mode(), Some(2));
            let mut got = Vec::new();
            while got.len() < body_len {
                let Some(AMQPFrame::Body(of, part)) = frames.next() else {
                    panic!("the rest of the body follows");
                };
                prop_assert_eq!(of, channel);
                got.extend_from_slice(&part);
                let payload_max = if frame_max == 0 { body_len } else { frame_max as usize - 8 };
                let is_last = got.len() == body_len;
                prop_assert!(part.len() == payload_max || (is_last && part.len() < payload_max));
            }
            prop_assert_eq!(&got, &body);
        }
        let ack = basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: flag });
        prop_assert_eq!(frames.next(), Some(AMQPFrame::Method(channel, AMQPClass::Basic(ack))));
        let nack = basic::Nack { delivery_tag, multiple: flag, requeue: true };
        let nack = AMQPClass::Basic(basic::AMQPMethod::Nack(nack));
        prop_assert_eq!(frames.next(), Some(AMQPFrame::Method(channel, nack)));
        prop_assert_eq!(frames.next(), Some(AMQPFrame::Heartbeat));
        prop_assert_eq!(frames.next(), None);
    }
}
