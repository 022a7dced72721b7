//! One frame on the wire:
//!
//! ```text
//! 0      1         3             7                  7 + size
//! +------+---------+-------------+------------------+------+
//! | type | channel | size        | payload          | 0xCE |
//! +------+---------+-------------+------------------+------+
//! ```

use super::reader::{Malformed, Reader};

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
pub(crate) const HEARTBEAT: u8 = 8;
pub(crate) const END: u8 = 0xCE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, channel: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, channel, payload: payload.into() }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind];
        bytes.extend(self.channel.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(&self.payload);
        bytes.push(END);
        bytes
    }

    /// The first frame of `bytes` and its length on the wire, or `None` while it is incomplete.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        if bytes.len() < 7 {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        let (kind, channel) = (reader.u8()?, reader.u16()?);
        let size = reader.u32()? as usize;
        if reader.remaining() <= size {
            return Ok(None);
        }
        let payload = reader.take(size)?.to_vec();
        let end = reader.u8()?;
        if end != END {
            return Err(Malformed(format!("a frame of type {kind} ends in {end:#04x}")));
        }
        Ok(Some((Self { kind, channel, payload }, size + 8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_a_round_trip() {
        let frame = Frame::new(BODY, 513, *b"hello");
        let bytes = frame.encode();
        assert_eq!(bytes, b"\x03\x02\x01\x00\x00\x00\x05hello\xce");
        assert_eq!(Frame::decode(&bytes), Ok(Some((frame, bytes.len()))));
    }

    #[test]
    fn every_proper_prefix_is_incomplete() {
        let bytes = Frame::new(METHOD, 1, *b"abc").encode();
        for length in 0..bytes.len() {
            assert_eq!(Frame::decode(&bytes[..length]), Ok(None));
        }
    }

    #[test]
    fn a_wrong_end_octet_is_malformed() {
        let mut bytes = Frame::new(METHOD, 1, *b"abc").encode();
        *bytes.last_mut().unwrap() = 0;
        assert!(Frame::decode(&bytes).is_err());
    }
}
