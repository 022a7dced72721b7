//! Frames that are written most: deliveries and other methods with a content, acks, heartbeats.
//!
//! ```text
//! method frame: deliver, get-ok or return | header frame | body frame | body frame ...
//! ```
//! The parts lie in `Message` as they leave, so a delivery is some copying between fixed octets.

use crate::exception::MethodId;
use crate::limits::{BODY_SIZE_HARD_MAX, FRAME_MIN, FRAME_OVERHEAD};
use crate::message::Message;
use crate::wire::frame::{FRAME_END, FRAME_HEAD_LEN, FrameKind};
use crate::wire::method::{
    BASIC, BASIC_ACK, BASIC_DELIVER, BASIC_GET_OK, BASIC_NACK, BASIC_RETURN,
};
use crate::wire::output::Output;
use bytes::Bytes;

const CLASS_AND_WEIGHT_LEN: usize = 4;

/// A message on its way out, with the content header that it has there.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    pub message: &'a Message,
    pub header: &'a [u8],
}

impl<'a> Content<'a> {
    /// As it was published.
    #[must_use]
    #[inline]
    pub fn of(message: &'a Message) -> Self {
        Self { message, header: message.header() }
    }
}

/// Appends basic.deliver and the content. `frame_max` is the negotiated one, 0 for unlimited.
///
/// # Panics
/// If the tag is longer than 255 bytes: it is ours, or came in a shortstr.
#[inline]
pub fn put_delivery(
    out: &mut Output,
    channel: u16,
    consumer_tag: &[u8],
    delivery_tag: u64,
    redelivered: bool,
    content: Content<'_>,
    frame_max: u32,
) {
    let address = content.message.address();
    let size = 4 + 1 + consumer_tag.len() + 8 + 1 + address.len();
    let buffer = out.buffer_mut();
    let body_len = inline_len(content.message);
    buffer.reserve(size + content.header.len() + body_len + 3 * FRAME_OVERHEAD);
    put_method_head(buffer, channel, size, BASIC_DELIVER);
    put_short(buffer, consumer_tag);
    put_tag_and_bits(buffer, delivery_tag, u8::from(redelivered));
    buffer.extend_from_slice(address);
    buffer.push(FRAME_END);
    put_content(out, channel, content, frame_max);
}

/// Appends basic.get-ok and the content.
pub fn put_get_ok(
    out: &mut Output,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    content: Content<'_>,
    message_count: u32,
    frame_max: u32,
) {
    put_method_frame(out.buffer_mut(), channel, BASIC_GET_OK, |buffer| {
        put_tag_and_bits(buffer, delivery_tag, u8::from(redelivered));
        buffer.extend_from_slice(content.message.address());
        buffer.extend_from_slice(&message_count.to_be_bytes());
    });
    put_content(out, channel, content, frame_max);
}

/// Appends basic.return and the content.
///
/// # Panics
/// If the text is longer than 255 bytes: it is ours.
pub fn put_return(
    out: &mut Output,
    channel: u16,
    code: u16,
    text: &str,
    message: &Message,
    frame_max: u32,
) {
    put_method_frame(out.buffer_mut(), channel, BASIC_RETURN, |buffer| {
        buffer.extend_from_slice(&code.to_be_bytes());
        put_short(buffer, text.as_bytes());
        buffer.extend_from_slice(message.address());
    });
    put_content(out, channel, Content::of(message), frame_max);
}

/// Appends basic.ack, a confirm.
#[inline]
pub fn put_ack(out: &mut Output, channel: u16, tag: u64, multiple: bool) {
    put_settlement(out, channel, BASIC_ACK, tag, u8::from(multiple));
}

/// Appends basic.nack, a negative confirm.
#[inline]
pub fn put_nack(out: &mut Output, channel: u16, tag: u64, multiple: bool) {
    // RabbitMQ: sends requeue as set, the field's default.
    put_settlement(out, channel, BASIC_NACK, tag, u8::from(multiple) | 2);
}

pub fn put_heartbeat(out: &mut Output) {
    out.put(&[FrameKind::Heartbeat as u8, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

#[inline]
fn put_settlement(out: &mut Output, channel: u16, id: MethodId, tag: u64, bits: u8) {
    let buffer = out.buffer_mut();
    buffer.reserve(21);
    put_method_head(buffer, channel, 13, id);
    put_tag_and_bits(buffer, tag, bits);
    buffer.push(FRAME_END);
}

/// Appends a method frame whose fields `put_fields` appends.
pub(crate) fn put_method_frame(
    buffer: &mut Vec<u8>,
    channel: u16,
    id: MethodId,
    put_fields: impl FnOnce(&mut Vec<u8>),
) {
    let start = buffer.len();
    put_method_head(buffer, channel, 0, id);
    put_fields(buffer);
    let size = buffer.len() - start - FRAME_HEAD_LEN;
    let head = frame_head(FrameKind::Method, channel, size);
    buffer[start..start + FRAME_HEAD_LEN].copy_from_slice(&head);
    buffer.push(FRAME_END);
}

#[inline]
fn put_content(out: &mut Output, channel: u16, content: Content<'_>, frame_max: u32) {
    let Content { message, header } = content;
    let buffer = out.buffer_mut();
    let [k, c0, c1, s0, s1, s2, s3] = frame_head(FrameKind::Header, channel, header.len());
    let [class0, class1] = BASIC.to_be_bytes();
    // The weight in a message is for ourselves: clients get zero.
    buffer.extend_from_slice(&[k, c0, c1, s0, s1, s2, s3, class0, class1, 0, 0]);
    buffer.extend_from_slice(&header[CLASS_AND_WEIGHT_LEN..]);
    buffer.push(FRAME_END);
    let payload_max = body_payload_max(frame_max);
    match message.small_body() {
        // RabbitMQ: sends no frame for an empty body.
        Some([]) => {}
        Some(body) if body.len() <= payload_max => put_body_frame(buffer, channel, body),
        Some(body) => {
            for part in body.chunks(payload_max) {
                put_body_frame(buffer, channel, part);
            }
        }
        None => put_large_body(out, channel, message, payload_max),
    }
}

#[inline]
fn put_body_frame(buffer: &mut Vec<u8>, channel: u16, body: &[u8]) {
    buffer.extend_from_slice(&frame_head(FrameKind::Body, channel, body.len()));
    buffer.extend_from_slice(body);
    buffer.push(FRAME_END);
}

/// Splits a body that came in pieces by the receiver's frame_max, not by the pieces.
fn put_large_body(out: &mut Output, channel: u16, message: &Message, payload_max: usize) {
    let mut pieces = message.large_body().iter().cloned();
    let mut piece = Bytes::new();
    let mut body_left = message.body_len();
    while body_left > 0 {
        let size = body_left.min(payload_max);
        body_left -= size;
        out.put(&frame_head(FrameKind::Body, channel, size));
        let mut frame_left = size;
        while frame_left > 0 {
            if piece.is_empty() {
                piece = pieces.next().expect("the pieces of a body are as long as it");
            }
            let part = piece.split_to(frame_left.min(piece.len()));
            frame_left -= part.len();
            out.put_shared(part);
        }
        out.put(&[FRAME_END]);
    }
}

/// Octets of body in one frame. RabbitMQ: frame_max - 8.
fn body_payload_max(frame_max: u32) -> usize {
    match frame_max {
        0 => BODY_SIZE_HARD_MAX as usize,
        limit => limit.max(FRAME_MIN) as usize - FRAME_OVERHEAD,
    }
}

fn inline_len(message: &Message) -> usize {
    message.small_body().map_or(0, <[u8]>::len)
}

#[inline]
fn put_method_head(buffer: &mut Vec<u8>, channel: u16, size: usize, id: MethodId) {
    let [k, c0, c1, s0, s1, s2, s3] = frame_head(FrameKind::Method, channel, size);
    let ([i0, i1], [m0, m1]) = (id.class.to_be_bytes(), id.method.to_be_bytes());
    buffer.extend_from_slice(&[k, c0, c1, s0, s1, s2, s3, i0, i1, m0, m1]);
}

#[inline]
fn frame_head(kind: FrameKind, channel: u16, size: usize) -> [u8; FRAME_HEAD_LEN] {
    let size = u32::try_from(size).expect("a payload that we send is below 4 GiB");
    let ([c0, c1], [s0, s1, s2, s3]) = (channel.to_be_bytes(), size.to_be_bytes());
    [kind as u8, c0, c1, s0, s1, s2, s3]
}

#[inline]
fn put_tag_and_bits(buffer: &mut Vec<u8>, tag: u64, bits: u8) {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = tag.to_be_bytes();
    buffer.extend_from_slice(&[t0, t1, t2, t3, t4, t5, t6, t7, bits]);
}

#[inline]
pub(crate) fn put_short(buffer: &mut Vec<u8>, text: &[u8]) {
    buffer.push(u8::try_from(text.len()).expect("a shortstr has at most 255 bytes"));
    buffer.extend_from_slice(text);
}

pub(crate) fn put_long(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("a longstr that we send is below 4 GiB");
    buffer.extend_from_slice(&len.to_be_bytes());
    buffer.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::INLINE_BODY_MAX;
    use std::io::IoSlice;

    fn header(body_len: usize) -> Vec<u8> {
        let size = (body_len as u64).to_be_bytes();
        [&[0, 60, 0, 0][..], &size, &[0x10, 0, 2]].concat()
    }

    fn delivery(message: &Message, frame_max: u32) -> Output {
        let mut output = Output::new();
        put_delivery(&mut output, 1, b"t", 9, true, Content::of(message), frame_max);
        output
    }

    #[test]
    fn a_small_delivery_is_three_frames() {
        let message = Message::new(b"ex", b"key", &header(4), b"body", &mut Vec::new());
        let mut output = delivery(&message, 4096);
        let fields = b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x09\x01\x02ex\x03key";
        let header = b"\x02\0\x01\0\0\0\x0f\0\x3c\0\0\0\0\0\0\0\0\0\x04\x10\0\x02\xce";
        let body = b"\x03\0\x01\0\0\0\x04body\xce";
        let whole = [&b"\x01\0\x01\0\0\0\x16"[..], fields, b"\xce", header, body].concat();
        assert_eq!(*output.buffer_mut(), whole);
    }

    #[test]
    fn a_dead_letter_leaves_with_no_weight() {
        let message = Message::new(b"", b"q", &header(4), b"body", &mut Vec::new());
        let letter = message.dead_letter(b"", None, header(4), &mut Vec::new());
        assert_ne!(letter.header(), message.header());
        assert_eq!(*delivery(&letter, 0).buffer_mut(), *delivery(&message, 0).buffer_mut());
    }

    #[test]
    fn an_empty_body_has_no_frame() {
        let message = Message::new(b"", b"q", &header(0), b"", &mut Vec::new());
        let mut output = delivery(&message, 4096);
        assert!(output.buffer_mut().ends_with(&[0x10, 0, 2, FRAME_END]));
    }

    #[test]
    fn a_large_body_leaves_by_reference() {
        let piece = Bytes::from(vec![7; 2 * INLINE_BODY_MAX]);
        let header = header(2 * piece.len());
        let pieces = vec![piece.clone(), piece.clone()];
        let message = Message::from_pieces(b"", b"q", &header, pieces, &mut Vec::new());
        let mut output = delivery(&message, 0);
        assert_eq!(output.buffer_mut().len() + 2 * piece.len(), output.len());
        let mut slices = [IoSlice::new(&[]); 8];
        assert_eq!(output.slices(&mut slices), 4, "two pieces between head and end");
        assert_eq!((slices[1].as_ptr(), slices[2].as_ptr()), (piece.as_ptr(), piece.as_ptr()));
    }
}
