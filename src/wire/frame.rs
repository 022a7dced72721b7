//! Cuts input into frames without copying.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::wire::error::WireError;
use amq_protocol::protocol::constants;

/// Octets of a frame before its payload.
pub const FRAME_HEAD_LEN: usize = 7;
/// The octet after each payload.
pub const FRAME_END: u8 = constants::FRAME_END;
/// Largest payload where frame_max was negotiated as unlimited.
const PAYLOAD_HARD_MAX: u32 = 128 * 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Method = constants::FRAME_METHOD,
    Header = constants::FRAME_HEADER,
    Body = constants::FRAME_BODY,
    Heartbeat = constants::FRAME_HEARTBEAT,
}

impl FrameKind {
    #[must_use]
    #[inline]
    pub fn from_octet(octet: u8) -> Option<Self> {
        Some(match octet {
            constants::FRAME_METHOD => Self::Method,
            constants::FRAME_HEADER => Self::Header,
            constants::FRAME_BODY => Self::Body,
            constants::FRAME_HEARTBEAT => Self::Heartbeat,
            _ => return None,
        })
    }
}

/// What a frame says before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Any octet: an unknown kind is an error only once the frame is complete.
    pub kind: u8,
    pub channel: u16,
    /// Octets of the payload.
    pub size: u32,
}

impl FrameHead {
    /// Reads the start of a frame, if it has all come.
    #[must_use]
    #[inline]
    pub fn read(input: &[u8]) -> Option<Self> {
        let (&[kind, c0, c1, s0, s1, s2, s3], _) = input.split_first_chunk()?;
        Some(Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            size: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }

    /// Octets of the whole frame, so that one can be skipped whatever is in it.
    #[must_use]
    pub fn frame_len(self) -> usize {
        self.size as usize + FRAME_HEAD_LEN + 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    Frame {
        kind: FrameKind,
        channel: u16,
        payload: &'a [u8],
        /// Octets of input that the frame took.
        consumed: usize,
    },
    /// More input is needed. The head is known from seven octets on, so that a large body need not
    /// be gathered before it is read.
    Incomplete { head: Option<FrameHead> },
}

/// Takes the frame at the start of `input`. `frame_max` is the negotiated one, 0 for unlimited.
///
/// # Errors
/// A payload that is too large, which is known from the head alone; a wrong end octet; an unknown
/// kind; a heartbeat that is not empty or not on channel 0.
#[inline]
pub fn decode_frame(input: &[u8], frame_max: u32) -> Result<Decoded<'_>, WireError> {
    let Some(head) = FrameHead::read(input) else {
        return Ok(Decoded::Incomplete { head: None });
    };
    // RabbitMQ: a payload may be as large as frame_max, though the frame adds 8 octets to it.
    if head.size > payload_max(frame_max) {
        return Err(WireError::frame_too_large(head, payload_max(frame_max)));
    }
    let rest = input.get(FRAME_HEAD_LEN..).unwrap_or_default();
    let Some((payload, &[end, ..])) = rest.split_at_checked(head.size as usize) else {
        return Ok(Decoded::Incomplete { head: Some(head) });
    };
    if end != FRAME_END {
        return Err(WireError::frame_end(head.kind, end, payload));
    }
    let kind = match FrameKind::from_octet(head.kind) {
        Some(FrameKind::Heartbeat) if !payload.is_empty() => None,
        Some(FrameKind::Heartbeat) if head.channel != 0 => {
            return Err(WireError::unexpected_frame(FrameKind::Heartbeat, payload));
        }
        kind => kind,
    };
    let kind = kind.ok_or_else(|| WireError::unknown_frame(head.kind, payload))?;
    Ok(Decoded::Frame { kind, channel: head.channel, payload, consumed: head.frame_len() })
}

#[inline]
fn payload_max(frame_max: u32) -> u32 {
    if frame_max == 0 { PAYLOAD_HARD_MAX } else { frame_max.min(PAYLOAD_HARD_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::FRAME_MAX;

    const PING: &[u8] = b"\x08\0\0\0\0\0\0\xce";

    fn text_of(input: &[u8]) -> String {
        decode_frame(input, FRAME_MAX).unwrap_err().exception().text()
    }

    #[test]
    fn a_frame_is_known_when_its_last_octet_is_there() {
        let frame = b"\x01\x00\x05\0\0\0\x04\0\x3c\0\x0b\xceXX";
        for end in 0..12 {
            let head = (end >= 7).then_some(FrameHead { kind: 1, channel: 5, size: 4 });
            let decoded = decode_frame(frame.get(..end).unwrap(), FRAME_MAX).unwrap();
            assert_eq!(decoded, Decoded::Incomplete { head });
        }
        let whole = Decoded::Frame {
            kind: FrameKind::Method,
            channel: 5,
            payload: &[0, 60, 0, 11],
            consumed: 12,
        };
        assert_eq!(decode_frame(frame, FRAME_MAX).unwrap(), whole);
    }

    #[test]
    fn the_size_is_judged_by_the_head_alone() {
        let error = decode_frame(b"\x01\0\x01\0\x02\0\x01", 131_072).unwrap_err();
        assert!(error.is_fatal());
        assert_eq!(
            error.exception().text(),
            "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}"
        );
        let allowed = decode_frame(b"\x01\0\x01\0\x02\0\0", 131_072).unwrap();
        assert!(matches!(allowed, Decoded::Incomplete { head: Some(_) }));
        assert!(decode_frame(b"\x03\0\x01\xff\xff\xff\xff", 0).is_err());
        assert!(decode_frame(b"\x03\0\x01\x07\xff\xff\xff", 0).is_ok());
    }

    #[test]
    fn broken_frames_are_told_as_rabbitmq_tells_them() {
        let wrong_end = b"\x01\0\0\0\0\0\x04\0\x0a\0\x32\0";
        assert_eq!(
            text_of(wrong_end),
            "FRAME_ERROR - type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,0}"
        );
        assert!(decode_frame(wrong_end, 0).unwrap_err().is_fatal());
        assert_eq!(
            text_of(b"\x09\0\x01\0\0\0\x03abc\xce"),
            "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame"
        );
        assert_eq!(
            text_of(b"\x09\0\x01\0\0\0\x11abcdefghijklmnopq\xce"),
            "FRAME_ERROR - type 9, first 16 octets = <<\"abcdefghijklmnop\">>: unknown_frame"
        );
    }

    #[test]
    fn a_heartbeat_is_empty_and_on_channel_0() {
        assert!(matches!(
            decode_frame(PING, FRAME_MAX),
            Ok(Decoded::Frame { kind: FrameKind::Heartbeat, consumed: 8, .. })
        ));
        assert_eq!(
            text_of(b"\x08\0\x01\0\0\0\0\xce"),
            "UNEXPECTED_FRAME - type 8, all octets = <<>>"
        );
        assert_eq!(
            text_of(b"\x08\0\x01\0\0\0\x01x\xce"),
            "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame"
        );
    }
}
