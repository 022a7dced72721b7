//! Frames as we send them: methods for the setup, and whole publishes for the pre-encoded buffers.
//! Writes into a `Vec<u8>`; knows no socket.
//!
//! ```text
//! frame = type u8 | channel u16 | size u32 | payload | 0xCE
//! publish = method frame, header frame, body frames of at most frame_max - 8 bytes each
//! ```
use super::frame::{
    BASIC_ACK, BASIC_CONSUME, BASIC_GET, BASIC_PUBLISH, BASIC_QOS, BODY, CHANNEL_OPEN,
    CONFIRM_SELECT, CONNECTION_CLOSE, CONNECTION_OPEN, CONNECTION_START_OK, CONNECTION_TUNE_OK,
    EXCHANGE_DECLARE, EXCHANGE_DELETE, FRAME_END, FRAME_HEAD, HEADER, METHOD, MethodId, QUEUE_BIND,
    QUEUE_DECLARE, QUEUE_DELETE, QUEUE_PURGE,
};
use super::properties::Properties;
use super::table::Table;
use super::url::AmqpUrl;

/// The one channel every connection here opens.
pub(crate) const CHANNEL: u16 = 1;
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// How a queue is declared, as bits.
pub(crate) const PASSIVE: u8 = 1;
pub(crate) const DURABLE: u8 = 1 << 1;
pub(crate) const EXCLUSIVE: u8 = 1 << 2;

/// What a publish says besides its body.
#[derive(Clone, Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) mandatory: bool,
    pub(crate) properties: &'a Properties,
}

pub(crate) fn method(
    out: &mut Vec<u8>,
    channel: u16,
    id: MethodId,
    arguments: impl FnOnce(&mut Vec<u8>),
) {
    frame(out, METHOD, channel, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        arguments(out);
    });
}

/// A short string; longer ones than 255 bytes are cut.
pub(crate) fn short(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

pub(crate) fn start_ok(out: &mut Vec<u8>, url: &AmqpUrl, connection_name: &str) {
    let capabilities = Table::default()
        .flag("publisher_confirms", true)
        .flag("basic.nack", true)
        .flag("connection.blocked", true)
        .flag("consumer_cancel_notify", true)
        .flag("authentication_failure_close", true);
    let properties = Table::default()
        .string("product", "leveret perf")
        .string("connection_name", connection_name)
        .table("capabilities", &capabilities);
    method(out, 0, CONNECTION_START_OK, |out| {
        long(out, properties.bytes());
        short(out, "PLAIN");
        long(out, format!("\0{}\0{}", url.user, url.password).as_bytes());
        short(out, "en_US");
    });
}

pub(crate) fn tune_ok(out: &mut Vec<u8>, channel_max: u16, frame_max: u32) {
    method(out, 0, CONNECTION_TUNE_OK, |out| {
        out.extend_from_slice(&channel_max.to_be_bytes());
        out.extend_from_slice(&frame_max.to_be_bytes());
        out.extend_from_slice(&0u16.to_be_bytes()); // No heartbeats.
    });
}

pub(crate) fn open(out: &mut Vec<u8>, vhost: &str) {
    method(out, 0, CONNECTION_OPEN, |out| {
        short(out, vhost);
        out.extend_from_slice(&[0, 0]);
    });
}

pub(crate) fn connection_close(out: &mut Vec<u8>) {
    method(out, 0, CONNECTION_CLOSE, |out| {
        out.extend_from_slice(&200u16.to_be_bytes());
        short(out, "done");
        out.extend_from_slice(&[0; 4]);
    });
}

pub(crate) fn channel_open(out: &mut Vec<u8>) {
    method(out, CHANNEL, CHANNEL_OPEN, |out| out.push(0));
}

pub(crate) fn confirm_select(out: &mut Vec<u8>) {
    method(out, CHANNEL, CONFIRM_SELECT, |out| out.push(0));
}

pub(crate) fn exchange_declare(
    out: &mut Vec<u8>,
    name: &str,
    kind: &str,
    durable: bool,
    arguments: &Table,
) {
    named(out, EXCHANGE_DECLARE, name, |out| {
        short(out, kind);
        out.push(u8::from(durable) << 1);
        long(out, arguments.bytes());
    });
}

pub(crate) fn exchange_delete(out: &mut Vec<u8>, name: &str) {
    named(out, EXCHANGE_DELETE, name, |out| out.push(0));
}

/// `bits` are of [`PASSIVE`], [`DURABLE`] and [`EXCLUSIVE`].
pub(crate) fn queue_declare(out: &mut Vec<u8>, name: &str, bits: u8, arguments: &Table) {
    named(out, QUEUE_DECLARE, name, |out| {
        out.push(bits);
        long(out, arguments.bytes());
    });
}

pub(crate) fn queue_bind(
    out: &mut Vec<u8>,
    queue: &str,
    exchange: &str,
    key: &str,
    arguments: &Table,
) {
    named(out, QUEUE_BIND, queue, |out| {
        short(out, exchange);
        short(out, key);
        out.push(0);
        long(out, arguments.bytes());
    });
}

pub(crate) fn queue_purge(out: &mut Vec<u8>, name: &str) {
    named(out, QUEUE_PURGE, name, |out| out.push(0));
}

pub(crate) fn queue_delete(out: &mut Vec<u8>, name: &str) {
    named(out, QUEUE_DELETE, name, |out| out.push(0));
}

pub(crate) fn basic_qos(out: &mut Vec<u8>, prefetch: u16) {
    method(out, CHANNEL, BASIC_QOS, |out| {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&prefetch.to_be_bytes());
        out.push(0);
    });
}

pub(crate) fn basic_consume(out: &mut Vec<u8>, queue: &str, tag: &str, no_ack: bool) {
    named(out, BASIC_CONSUME, queue, |out| {
        short(out, tag);
        out.push(u8::from(no_ack) << 1);
        long(out, &[]);
    });
}

pub(crate) fn basic_get(out: &mut Vec<u8>, queue: &str, no_ack: bool) {
    named(out, BASIC_GET, queue, |out| out.push(u8::from(no_ack)));
}

pub(crate) fn basic_ack(out: &mut Vec<u8>, delivery_tag: u64, multiple: bool) {
    let mut frame = *b"\x01\0\x01\0\0\0\x0D\0\x3C\0\x50\0\0\0\0\0\0\0\0\0\xCE";
    frame[11..19].copy_from_slice(&delivery_tag.to_be_bytes());
    frame[19] = u8::from(multiple);
    out.extend_from_slice(&frame);
}

/// Appends a publish with `size` zero bytes of body; returns where the body's first byte is.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    envelope: &Envelope<'_>,
    size: usize,
    frame_max: u32,
) -> usize {
    debug_assert_eq!(BASIC_ACK & 0xFFFF, 80, "basic_ack spells its id out");
    named(out, BASIC_PUBLISH, envelope.exchange, |out| {
        short(out, envelope.routing_key);
        out.push(u8::from(envelope.mandatory));
    });
    frame(out, HEADER, CHANNEL, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(size as u64).to_be_bytes());
        envelope.properties.write(out);
    });
    let body_at = out.len() + FRAME_HEAD;
    let chunk_max = frame_max as usize - FRAME_HEAD - 1;
    let mut left = size;
    while left > 0 {
        let chunk = left.min(chunk_max);
        frame(out, BODY, CHANNEL, |out| out.resize(out.len() + chunk, 0));
        left -= chunk;
    }
    body_at
}

/// A method that starts with the reserved short and the name of what it is about.
fn named(out: &mut Vec<u8>, id: MethodId, name: &str, rest: impl FnOnce(&mut Vec<u8>)) {
    method(out, CHANNEL, id, |out| {
        out.extend_from_slice(&[0, 0]);
        short(out, name);
        rest(out);
    });
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    payload(out);
    let size = (out.len() - start - FRAME_HEAD) as u32;
    out[start + 3..start + FRAME_HEAD].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

pub(crate) fn long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::frame::first_frame;
    use super::*;

    fn published(size: usize) -> (Vec<u8>, usize) {
        let properties = Properties::default();
        let (exchange, routing_key) = ("", "q");
        let envelope =
            Envelope { exchange, routing_key, mandatory: false, properties: &properties };
        let mut out = Vec::new();
        let body_at = publish(&mut out, &envelope, size, 4096);
        (out, body_at)
    }

    #[test]
    fn an_ack_has_the_bytes_of_the_specification() {
        let mut out = Vec::new();
        basic_ack(&mut out, 0x0102, true);
        let expected = b"\x01\0\x01\0\0\0\x0D\0\x3C\0\x50\0\0\0\0\0\0\x01\x02\x01\xCE";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_small_publish_is_method_header_and_one_body() {
        let (out, body_at) = published(16);
        let method = first_frame(&out).unwrap().unwrap();
        assert_eq!(method.payload, b"\0\x3C\0\x28\0\0\0\x01q\0");
        let header = first_frame(&out[method.len..]).unwrap().unwrap();
        assert_eq!(header.payload, b"\0\x3C\0\0\0\0\0\0\0\0\0\x10\0\0");
        let body = first_frame(&out[method.len + header.len..]).unwrap().unwrap();
        assert_eq!((body.kind, body.payload), (BODY, [0; 16].as_slice()));
        assert_eq!(body_at, method.len + header.len + FRAME_HEAD);
        assert_eq!(method.len + header.len + body.len, out.len());
    }

    #[test]
    fn a_large_body_is_split_by_frame_max_and_an_empty_one_has_no_frame() {
        for (size, frames) in [(0, 0), (1, 1), (4088, 1), (4089, 2), (3 * 4088 + 1, 4)] {
            let (out, _) = published(size);
            let (mut at, mut bodies, mut bytes) = (0, 0, 0);
            while let Some(frame) = first_frame(&out[at..]).unwrap() {
                at += frame.len;
                if frame.kind == BODY {
                    bodies += 1;
                    bytes += frame.payload.len();
                    assert!(frame.len <= 4096);
                }
            }
            assert_eq!((at, bodies, bytes), (out.len(), frames, size));
        }
    }
}
