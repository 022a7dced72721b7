//! Frames as the broker sends them: cutting one off the front of a buffer, and reading the few
//! methods whose arguments matter here. Deliveries at full speed are `deliveries.rs`.
use super::error::{PerfError, Result};

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const FRAME_END: u8 = 0xCE;
/// Type, channel and size.
pub(crate) const FRAME_HEAD: usize = 7;
/// What we offer in tune-ok; RabbitMQ's own default.
pub(crate) const FRAME_MAX: u32 = 131_072;

/// Class id in the upper half, method id in the lower, as on the wire.
pub(crate) type MethodId = u32;

pub(crate) const CONNECTION_START: MethodId = 10 << 16 | 10;
pub(crate) const CONNECTION_START_OK: MethodId = 10 << 16 | 11;
pub(crate) const CONNECTION_TUNE: MethodId = 10 << 16 | 30;
pub(crate) const CONNECTION_TUNE_OK: MethodId = 10 << 16 | 31;
pub(crate) const CONNECTION_OPEN: MethodId = 10 << 16 | 40;
pub(crate) const CONNECTION_OPEN_OK: MethodId = 10 << 16 | 41;
pub(crate) const CONNECTION_CLOSE: MethodId = 10 << 16 | 50;
pub(crate) const CONNECTION_CLOSE_OK: MethodId = 10 << 16 | 51;
pub(crate) const CONNECTION_BLOCKED: MethodId = 10 << 16 | 60;
pub(crate) const CONNECTION_UNBLOCKED: MethodId = 10 << 16 | 61;
pub(crate) const CHANNEL_OPEN: MethodId = 20 << 16 | 10;
pub(crate) const CHANNEL_OPEN_OK: MethodId = 20 << 16 | 11;
pub(crate) const CHANNEL_CLOSE: MethodId = 20 << 16 | 40;
pub(crate) const EXCHANGE_DECLARE: MethodId = 40 << 16 | 10;
pub(crate) const EXCHANGE_DECLARE_OK: MethodId = 40 << 16 | 11;
pub(crate) const EXCHANGE_DELETE: MethodId = 40 << 16 | 20;
pub(crate) const EXCHANGE_DELETE_OK: MethodId = 40 << 16 | 21;
pub(crate) const QUEUE_DECLARE: MethodId = 50 << 16 | 10;
pub(crate) const QUEUE_DECLARE_OK: MethodId = 50 << 16 | 11;
pub(crate) const QUEUE_BIND: MethodId = 50 << 16 | 20;
pub(crate) const QUEUE_BIND_OK: MethodId = 50 << 16 | 21;
pub(crate) const QUEUE_PURGE: MethodId = 50 << 16 | 30;
pub(crate) const QUEUE_PURGE_OK: MethodId = 50 << 16 | 31;
pub(crate) const QUEUE_DELETE: MethodId = 50 << 16 | 40;
pub(crate) const QUEUE_DELETE_OK: MethodId = 50 << 16 | 41;
pub(crate) const BASIC_QOS: MethodId = 60 << 16 | 10;
pub(crate) const BASIC_QOS_OK: MethodId = 60 << 16 | 11;
pub(crate) const BASIC_CONSUME: MethodId = 60 << 16 | 20;
pub(crate) const BASIC_CANCEL: MethodId = 60 << 16 | 30;
pub(crate) const BASIC_PUBLISH: MethodId = 60 << 16 | 40;
pub(crate) const BASIC_RETURN: MethodId = 60 << 16 | 50;
pub(crate) const BASIC_DELIVER: MethodId = 60 << 16 | 60;
pub(crate) const BASIC_GET: MethodId = 60 << 16 | 70;
pub(crate) const BASIC_ACK: MethodId = 60 << 16 | 80;
pub(crate) const BASIC_NACK: MethodId = 60 << 16 | 120;
pub(crate) const CONFIRM_SELECT: MethodId = 85 << 16 | 10;
pub(crate) const CONFIRM_SELECT_OK: MethodId = 85 << 16 | 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    /// Bytes the frame takes in the buffer, head and end included.
    pub(crate) len: usize,
}

impl Frame<'_> {
    /// The method's id, if this is a method frame.
    pub(crate) fn method(&self) -> Option<MethodId> {
        if self.kind == METHOD { u32_at(self.payload, 0) } else { None }
    }
}

/// The first frame of `input`, or `None` if it has not arrived whole.
pub(crate) fn first_frame(input: &[u8]) -> Result<Option<Frame<'_>>> {
    let (Some(&kind), Some(size)) = (input.first(), u32_at(input, 3)) else {
        return Ok(None);
    };
    if kind == b'A' || size > FRAME_MAX {
        return Err(not_amqp());
    }
    let end = FRAME_HEAD + size as usize;
    match input.get(end) {
        None => Ok(None),
        Some(&FRAME_END) => {
            Ok(Some(Frame { kind, payload: &input[FRAME_HEAD..end], len: end + 1 }))
        }
        Some(_) => Err(not_amqp()),
    }
}

pub(crate) fn not_amqp() -> PerfError {
    PerfError::new(
        "the broker sent bytes that are no AMQP 0-9-1 frame; is another protocol on this port?",
    )
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_be_bytes(*chunk))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_be_bytes(*chunk))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk))
}

/// The error a method frame brings that ends the connection or the channel, if it is such a one.
pub(crate) fn broker_refusal(frame: &Frame<'_>) -> Option<PerfError> {
    let what = match frame.method()? {
        CONNECTION_CLOSE => "connection",
        CHANNEL_CLOSE => "channel",
        BASIC_CANCEL => return Some(PerfError::new("the broker cancelled the consumer")),
        _ => return None,
    };
    let code = u16_at(frame.payload, 4).unwrap_or(0);
    let text_len = frame.payload.get(6).map_or(0, |&len| usize::from(len));
    let text = frame.payload.get(7..7 + text_len).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    Some(PerfError::refusal(code, format!("the broker closed the {what}: {code} {text}")))
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;

    #[test]
    fn a_frame_is_cut_only_when_it_is_whole() {
        let mut bytes = Vec::new();
        wire::basic_ack(&mut bytes, 7, true);
        let whole = bytes.len();
        bytes.extend_from_slice(&[8, 0, 0]);
        for cut in 0..whole {
            assert_eq!(first_frame(&bytes[..cut]).unwrap(), None);
        }
        let frame = first_frame(&bytes).unwrap().unwrap();
        assert_eq!((frame.len, frame.method()), (whole, Some(BASIC_ACK)));
        assert_eq!(u64_at(frame.payload, 4), Some(7));
    }

    #[test]
    fn a_wrong_end_a_huge_size_and_a_foreign_protocol_are_refused() {
        let mut bytes = Vec::new();
        wire::basic_ack(&mut bytes, 7, true);
        let last = bytes.len() - 1;
        bytes[last] = 0;
        assert!(first_frame(&bytes).is_err());
        assert!(first_frame(b"\x01\0\0\xFF\xFF\xFF\xFF").is_err());
        assert!(first_frame(b"AMQP\0\0\x09\x01").is_err());
    }

    #[test]
    fn the_brokers_code_and_text_are_told() {
        let mut bytes = Vec::new();
        wire::method(&mut bytes, 1, CHANNEL_CLOSE, |out| {
            out.extend_from_slice(&404u16.to_be_bytes());
            wire::short(out, "NOT_FOUND - no queue 'q'");
            out.extend_from_slice(&[0, 60, 0, 20]);
        });
        let frame = first_frame(&bytes).unwrap().unwrap();
        let error = broker_refusal(&frame).unwrap().to_string();
        assert_eq!(error, "the broker closed the channel: 404 NOT_FOUND - no queue 'q'");
    }
}
