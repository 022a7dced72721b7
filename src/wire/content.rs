//! The content of one channel while it arrives: after a publish its header, then its body.
//!
//! ```text
//! idle --begin--> header due --push_header--> body due --push_body--> complete --take--> idle
//!                                  `--- body size 0 ---------------------^
//! ```
//! What has come lies as in `Message`, so that a small one is made by a single copy. Nothing is
//! allocated by the size that a header announces.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::limits::{BODY_SIZE_HARD_MAX, INLINE_BODY_MAX};
use crate::message::Message;
use crate::wire::error::{ContentError, WireError};
use crate::wire::frame::FrameKind;
use crate::wire::method::BASIC;
use crate::wire::publish::Publish;
use bytes::Bytes;

/// Shorter pieces of a large body are gathered up to this, so that a body sent octet by octet does
/// not cost a chunk for each.
const CHUNK_MIN: usize = 16 * 1024;
/// A buffer of at most this is kept for the next content.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// The fixed part of a content header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHeader {
    pub class: u16,
    pub weight: u16,
    pub body_size: u64,
}

impl ContentHeader {
    /// Reads the payload of a content header frame; whether its properties decode is not checked.
    ///
    /// # Errors
    /// A payload that is too short.
    #[inline]
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let Some((&[c0, c1, w0, w1, size @ ..], _)) = payload.split_first_chunk::<12>() else {
            return Err(WireError::unknown_frame(FrameKind::Header as u8, payload));
        };
        Ok(Self {
            class: u16::from_be_bytes([c0, c1]),
            weight: u16::from_be_bytes([w0, w1]),
            body_size: u64::from_be_bytes(size),
        })
    }
}

/// A content that is complete.
#[derive(Clone, Debug)]
pub struct Content {
    pub message: Message,
    pub mandatory: bool,
    pub immediate: bool,
}

/// One channel's content in the making.
#[derive(Debug, Default)]
pub struct Assembly {
    state: State,
    /// Exchange and routing key as shortstrs, then the header, then the body if it is small.
    gathered: Vec<u8>,
    exchange_len: usize,
    /// Where the header begins in `gathered`.
    header_at: usize,
    /// Where the header ends.
    body_at: usize,
    body_size: usize,
    /// A large body's pieces, each as it came or gathered from short ones.
    pieces: Vec<Bytes>,
    /// Short pieces behind the last of `pieces`.
    tail: Vec<u8>,
    pieces_len: usize,
    mandatory: bool,
    immediate: bool,
    is_skipped: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    HeaderDue,
    BodyDue {
        /// Octets that have not come.
        left: usize,
    },
    Complete,
}

impl Assembly {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no content has begun, so that a method may come.
    #[must_use]
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Says whether a method may come, whatever it is.
    ///
    /// # Errors
    /// What is awaited instead.
    #[inline]
    pub fn expect_method(&self) -> Result<(), WireError> {
        match self.state {
            State::Idle => Ok(()),
            State::HeaderDue => Err(WireError::content(ContentError::NotHeader)),
            State::BodyDue { .. } | State::Complete => {
                Err(WireError::content(ContentError::NotBody))
            }
        }
    }

    /// Starts the content of a publish.
    ///
    /// # Errors
    /// As `expect_method`.
    #[inline]
    pub fn begin(&mut self, publish: &Publish<'_>) -> Result<(), WireError> {
        self.expect_method()?;
        self.gathered.clear();
        self.gathered.extend_from_slice(publish.address);
        self.exchange_len = publish.exchange.len();
        self.header_at = publish.address.len();
        self.body_at = self.header_at;
        self.body_size = 0;
        self.mandatory = publish.mandatory;
        self.immediate = publish.immediate;
        self.is_skipped = false;
        self.state = State::HeaderDue;
        Ok(())
    }

    /// Takes the payload of a header frame. Returns whether the content is complete, as it is if it
    /// has no body.
    ///
    /// # Errors
    /// No header is awaited, or it is not one of a basic content that may be sent.
    #[inline]
    pub fn push_header(&mut self, payload: &[u8]) -> Result<bool, WireError> {
        let header = ContentHeader::parse(payload)?;
        let error = match self.state {
            State::HeaderDue if header.weight != 0 => ContentError::NotHeader,
            State::HeaderDue if header.class != BASIC => ContentError::OtherClass(header.class),
            State::HeaderDue if header.body_size > BODY_SIZE_HARD_MAX => {
                ContentError::SizeAboveMax(header.body_size)
            }
            State::HeaderDue => {
                self.gathered.extend_from_slice(payload);
                self.body_at = self.gathered.len();
                self.body_size = usize::try_from(header.body_size).unwrap_or(usize::MAX);
                self.state = match self.body_size {
                    0 => State::Complete,
                    left => State::BodyDue { left },
                };
                return Ok(self.is_complete());
            }
            State::Idle => ContentError::NotMethod,
            State::BodyDue { .. } | State::Complete => ContentError::NotBody,
        };
        Err(WireError::content(error))
    }

    /// Takes the payload of a body frame, or a part of one that is still arriving. Returns whether
    /// the content is complete; in a frame that is still arriving, the end octet may yet be wrong.
    ///
    /// # Errors
    /// No body is awaited, or not that much of it.
    #[inline]
    pub fn push_body(&mut self, piece: &[u8]) -> Result<bool, WireError> {
        let left = match self.state {
            State::BodyDue { left } => left,
            State::Complete => 0,
            State::Idle => return Err(WireError::content(ContentError::NotMethod)),
            State::HeaderDue => return Err(WireError::content(ContentError::NotHeader)),
        };
        let Some(left) = left.checked_sub(piece.len()) else {
            return Err(WireError::content(ContentError::BodyAboveSize));
        };
        if self.body_size <= INLINE_BODY_MAX {
            self.gathered.extend_from_slice(piece);
        } else if !self.is_skipped {
            self.push_large(piece, left);
        }
        self.state = match left {
            0 => State::Complete,
            left => State::BodyDue { left },
        };
        Ok(left == 0)
    }

    fn push_large(&mut self, piece: &[u8], left: usize) {
        self.pieces_len += piece.len();
        if piece.len() >= CHUNK_MIN {
            self.close_tail();
            self.pieces.push(Bytes::copy_from_slice(piece));
        } else {
            self.tail.extend_from_slice(piece);
            if self.tail.len() >= CHUNK_MIN {
                self.close_tail();
            }
        }
        if left == 0 {
            self.close_tail();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(Bytes::copy_from_slice(&self.tail));
            self.tail.clear();
        }
    }

    /// Keeps nothing of the body, neither what has come nor what will: the content will be refused.
    pub fn skip(&mut self) {
        self.is_skipped = true;
        self.forget_large();
    }

    #[must_use]
    pub fn is_skipped(&self) -> bool {
        self.is_skipped
    }

    #[must_use]
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// The exchange of the publish.
    #[must_use]
    pub fn exchange(&self) -> &[u8] {
        self.gathered.get(1..=self.exchange_len).unwrap_or_default()
    }

    /// The routing key of the publish.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.gathered.get(self.exchange_len + 2..self.header_at).unwrap_or_default()
    }

    #[must_use]
    pub fn is_mandatory(&self) -> bool {
        self.mandatory
    }

    #[must_use]
    pub fn is_immediate(&self) -> bool {
        self.immediate
    }

    /// The payload of the content header, empty before it has come. Its properties are not checked.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.gathered.get(self.header_at..self.body_at).unwrap_or_default()
    }

    /// The announced size, 0 before the header has come.
    #[must_use]
    pub fn body_size(&self) -> usize {
        self.body_size
    }

    /// Bytes of an unfinished content that are held, to be charged to the connection.
    #[must_use]
    #[inline]
    pub fn held_len(&self) -> usize {
        if self.is_idle() { 0 } else { self.gathered.len() + self.pieces_len }
    }

    /// Takes a complete content and is idle again. `None` if it is not complete, or was skipped.
    /// `scratch` is reused between calls.
    #[inline]
    pub fn take(&mut self, scratch: &mut Vec<u8>) -> Option<Content> {
        if !self.is_complete() {
            return None;
        }
        let message = (!self.is_skipped).then(|| self.message(scratch));
        self.clear();
        let (mandatory, immediate) = (self.mandatory, self.immediate);
        message.map(|message| Content { message, mandatory, immediate })
    }

    #[inline]
    fn message(&mut self, scratch: &mut Vec<u8>) -> Message {
        if self.body_size <= INLINE_BODY_MAX {
            let stored = Message::from_stored(&self.gathered, self.body_size);
            if let Some(message) = stored {
                return message;
            }
            // Its header is too short for flags; who checks the properties will say so.
            let body = self.gathered.get(self.body_at..).unwrap_or_default();
            return Message::new(self.exchange(), self.key(), self.header(), body, scratch);
        }
        let pieces = std::mem::take(&mut self.pieces);
        Message::from_pieces(self.exchange(), self.key(), self.header(), pieces, scratch)
    }

    /// Drops what has come, as when the channel ends.
    #[inline]
    pub fn clear(&mut self) {
        self.state = State::Idle;
        self.gathered.clear();
        if self.gathered.capacity() > KEPT_BYTES_MAX {
            self.gathered = Vec::new();
        }
        if self.pieces_len > 0 {
            self.forget_large();
        }
    }

    /// Gives back all memory if no content has begun, as an idle channel does.
    pub fn release(&mut self) {
        if self.is_idle() {
            *self = Self::new();
        }
    }

    fn forget_large(&mut self) {
        self.pieces = Vec::new();
        self.tail = Vec::new();
        self.pieces_len = 0;
    }
}

#[cfg(test)]
#[path = "content_tests.rs"]
mod tests;
