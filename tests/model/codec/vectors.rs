//! Golden frames from real traffic: a client's decode, a server's come out of our encoders.

use super::server::PLAIN;
use super::{drain, header};
use amq_protocol::frame::{AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, connection, queue};
use leveret::exception::MethodId;
use leveret::limits::FRAME_MAX;
use leveret::message::Message;
use leveret::table::TableRef;
use leveret::wire::encode::{Content, put_delivery, put_get_ok, put_return};
use leveret::wire::method::{BASIC_CREDIT, BASIC_CREDIT_DRAINED, BASIC_CREDIT_OK};
use leveret::wire::{
    ClientMethod, Decoded, FrameKind, Output, Properties, ServerMethod, decode_frame,
};
use std::fs;
use std::path::{Path, PathBuf};

/// The frame of a file: hex digits and spaces; lines that start with `#` are comments.
fn octets(text: &str) -> Vec<u8> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let digits: Vec<u8> =
        lines.flat_map(str::bytes).filter(|digit| !digit.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| str::from_utf8(pair).expect("hex digits are ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("a frame is hex digits")).collect()
}

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/vectors");
    let entries = fs::read_dir(directory).into_iter().flatten();
    let paths = entries.map(|entry| entry.expect("the directory can be listed").path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "hex")).collect()
}

/// `queue.declare-ok` as a variant is called, in small letters.
fn squeezed(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[test]
fn golden_frames_decode_or_are_reproduced() {
    for file in files() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = octets(&fs::read_to_string(&file).expect("a golden frame is text"));
        let decoded = decode_frame(&bytes, FRAME_MAX).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let Decoded::Frame { kind, payload, channel, consumed } = decoded else {
            panic!("{name} is not a whole frame");
        };
        assert_eq!(consumed, bytes.len(), "{name} is one frame");
        match kind {
            FrameKind::Method => {
                let method =
                    ClientMethod::decode(payload).unwrap_or_else(|e| panic!("{name}: {e:?}"));
                check_method(&name, &method, &bytes, channel);
            }
            FrameKind::Header => {
                Properties::check(payload).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            }
            FrameKind::Body | FrameKind::Heartbeat => {}
        }
    }
}

fn check_method(name: &str, method: &ClientMethod<'_>, bytes: &[u8], channel: u16) {
    let is_server_only = match method {
        // RabbitMQ 4 has no credit methods, and amq-protocol has none either.
        ClientMethod::Unimplemented(BASIC_CREDIT | BASIC_CREDIT_OK | BASIC_CREDIT_DRAINED) => {
            return;
        }
        ClientMethod::Unimplemented(_) => true,
        known => {
            let ours = squeezed(&format!("{known:?}"));
            assert!(ours.starts_with(&squeezed(name)), "{name}: {ours}");
            false
        }
    };
    match reproduced(bytes, channel) {
        Some(again) => assert_eq!(again, bytes, "{name}"),
        None => assert!(!is_server_only, "{name} is not reproduced"),
    }
}

/// What we send for the same method, if it is one that a server sends. Fields are read by
/// amq-protocol.
fn reproduced(bytes: &[u8], channel: u16) -> Option<Vec<u8>> {
    let Ok((_, AMQPFrame::Method(_, class))) = parse_frame(bytes) else {
        panic!("amq-protocol does not read {bytes:?}");
    };
    let mut output = Output::new();
    if let AMQPClass::Basic(method) = &class
        && put_content_method(method, channel, &mut output)
    {
        let mut again = drain(output);
        again.truncate(bytes.len());
        return Some(again);
    }
    let id = MethodId::new(class.get_amqp_class_id(), class.get_amqp_method_id());
    let plain = PLAIN.into_iter().find(|method| method.id() == id);
    plain.or_else(|| with_fields(&class, &bytes[7..]))?.encode(channel, &mut output);
    Some(drain(output))
}

/// Puts a method that a content follows, and an empty content.
fn put_content_method(method: &basic::AMQPMethod, channel: u16, out: &mut Output) -> bool {
    use basic::AMQPMethod::{Deliver, GetOk, Return};
    let header = header(0, &[0, 0]);
    let message = |exchange: &str, key: &str| {
        Message::new(exchange.as_bytes(), key.as_bytes(), &header, b"", &mut Vec::new())
    };
    match method {
        Deliver(m) => {
            let message = message(m.exchange.as_str(), m.routing_key.as_str());
            let tag = m.consumer_tag.as_str().as_bytes();
            put_delivery(
                out,
                channel,
                tag,
                m.delivery_tag,
                m.redelivered,
                Content::of(&message),
                FRAME_MAX,
            );
        }
        GetOk(m) => {
            let message = message(m.exchange.as_str(), m.routing_key.as_str());
            let (tag, count) = (m.delivery_tag, m.message_count);
            put_get_ok(out, channel, tag, m.redelivered, Content::of(&message), count, FRAME_MAX);
        }
        Return(m) => {
            let message = message(m.exchange.as_str(), m.routing_key.as_str());
            put_return(out, channel, m.reply_code, m.reply_text.as_str(), &message, FRAME_MAX);
        }
        _ => return false,
    }
    true
}

fn with_fields<'a>(class: &'a AMQPClass, payload: &'a [u8]) -> Option<ServerMethod<'a>> {
    Some(match class {
        AMQPClass::Connection(method) => connection_method(method, payload)?,
        AMQPClass::Channel(channel::AMQPMethod::Flow(m)) => {
            ServerMethod::ChannelFlow { active: m.active }
        }
        AMQPClass::Channel(channel::AMQPMethod::FlowOk(m)) => {
            ServerMethod::ChannelFlowOk { active: m.active }
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(m)) => ServerMethod::ChannelClose {
            code: m.reply_code,
            text: m.reply_text.as_str(),
            method: MethodId::new(m.class_id, m.method_id),
        },
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(m)) => ServerMethod::QueueDeclareOk {
            queue: m.queue.as_str(),
            message_count: m.message_count,
            consumer_count: m.consumer_count,
        },
        AMQPClass::Queue(queue::AMQPMethod::PurgeOk(m)) => {
            ServerMethod::QueuePurgeOk { message_count: m.message_count }
        }
        AMQPClass::Queue(queue::AMQPMethod::DeleteOk(m)) => {
            ServerMethod::QueueDeleteOk { message_count: m.message_count }
        }
        AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(m)) => {
            ServerMethod::BasicConsumeOk { consumer_tag: m.consumer_tag.as_str() }
        }
        AMQPClass::Basic(basic::AMQPMethod::Cancel(m)) => {
            ServerMethod::BasicCancel { consumer_tag: m.consumer_tag.as_str(), nowait: m.nowait }
        }
        AMQPClass::Basic(basic::AMQPMethod::CancelOk(m)) => {
            ServerMethod::BasicCancelOk { consumer_tag: m.consumer_tag.as_str() }
        }
        AMQPClass::Basic(basic::AMQPMethod::Ack(m)) => {
            ServerMethod::BasicAck { delivery_tag: m.delivery_tag, multiple: m.multiple }
        }
        AMQPClass::Basic(basic::AMQPMethod::Nack(m)) if m.requeue => {
            ServerMethod::BasicNack { delivery_tag: m.delivery_tag, multiple: m.multiple }
        }
        _ => return None,
    })
}

fn connection_method<'a>(
    method: &'a connection::AMQPMethod,
    payload: &'a [u8],
) -> Option<ServerMethod<'a>> {
    use connection::AMQPMethod as Theirs;
    let text = |bytes| str::from_utf8(bytes).expect("RabbitMQ sends text");
    Some(match method {
        Theirs::Start(m) => {
            // Class, method and version come first; amq-protocol has sorted the table.
            let (len, rest) = payload[6..].split_first_chunk().expect("a table has a length");
            let table = &rest[..u32::from_be_bytes(*len) as usize];
            ServerMethod::ConnectionStart {
                server_properties: TableRef::check(table).expect("RabbitMQ sends a table"),
                mechanisms: text(m.mechanisms.as_bytes()),
                locales: text(m.locales.as_bytes()),
            }
        }
        Theirs::Secure(m) => ServerMethod::ConnectionSecure { challenge: m.challenge.as_bytes() },
        Theirs::Tune(m) => ServerMethod::ConnectionTune {
            channel_max: m.channel_max,
            frame_max: m.frame_max,
            heartbeat: m.heartbeat,
        },
        Theirs::Close(m) => ServerMethod::ConnectionClose {
            code: m.reply_code,
            text: m.reply_text.as_str(),
            method: MethodId::new(m.class_id, m.method_id),
        },
        Theirs::Blocked(m) => ServerMethod::ConnectionBlocked { reason: m.reason.as_str() },
        _ => return None,
    })
}
