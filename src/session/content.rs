//! Contents whose frames come one by one: headers, bodies, and body frames taken piecewise while
//! they arrive, so that a large one is never gathered in the read buffer.

use super::channel::State;
use super::handshake::Phase;
use super::{Scratch, Session};
use crate::exception::{Exception, ReplyCode};
use crate::limits::PARTIAL_CONTENT_BYTES_MAX;
use crate::wire::frame::{FRAME_END, FRAME_HEAD_LEN};
use crate::wire::{FrameHead, FrameKind, WireError};

/// Body frames below this are awaited whole.
const PIECEWISE_MIN: u32 = 16 * 1024;

/// A body frame of which some payload, or only the end octet, has not come.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartialBody {
    channel: u16,
    left: usize,
}

impl PartialBody {
    pub(super) fn channel(self) -> u16 {
        self.channel
    }
}

impl Session {
    pub(super) fn take_header(
        &mut self,
        number: u16,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        let max = self.broker.config.max_message_size;
        let Self { channels, partial_bytes, .. } = self;
        let channel = match channels.get_mut(&number).map(|channel| (channel.state, channel)) {
            Some((State::Open, channel)) => channel,
            Some((State::Closing, _)) => return Ok(()),
            Some((State::Ended, _)) | None => {
                return Err(WireError::unexpected_frame(FrameKind::Header, payload).exception());
            }
        };
        let complete = channel.assembly.push_header(payload)?;
        channel.charge(partial_bytes);
        check_partial(*partial_bytes)?;
        let size = channel.assembly.body_size();
        if size as u64 > max {
            // The body that follows is taken without being kept.
            channel.assembly.skip();
            channel.charge(partial_bytes);
            let text = format!("message size {size} is larger than configured max size {max}");
            return Err(Exception::precondition(text));
        }
        if complete { self.content_complete(number, scratch) } else { Ok(()) }
    }

    pub(super) fn take_body(
        &mut self,
        number: u16,
        payload: &[u8],
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        if self.take_body_piece(number, payload)? {
            return self.content_complete(number, scratch);
        }
        Ok(())
    }

    fn take_body_piece(&mut self, number: u16, piece: &[u8]) -> Result<bool, Exception> {
        if self.phase != Phase::Running {
            return Ok(false);
        }
        let Self { channels, partial_bytes, .. } = self;
        let channel = match channels.get_mut(&number).map(|channel| (channel.state, channel)) {
            Some((State::Open, channel)) => channel,
            Some((State::Closing, _)) => return Ok(false),
            Some((State::Ended, _)) | None => {
                return Err(WireError::unexpected_frame(FrameKind::Body, piece).exception());
            }
        };
        let complete = channel.assembly.push_body(piece)?;
        channel.charge(partial_bytes);
        check_partial(*partial_bytes)?;
        Ok(complete)
    }

    fn content_complete(&mut self, number: u16, scratch: &mut Scratch) -> Result<(), Exception> {
        let Some(channel) = self.channels.get_mut(&number) else {
            return Ok(());
        };
        let content = channel.assembly.take(&mut scratch.message);
        channel.charge(&mut self.partial_bytes);
        match content {
            Some(content) => self.publish(
                number,
                content.message,
                (content.mandatory, content.immediate),
                scratch,
            ),
            None => Ok(()),
        }
    }

    /// Begins to take a body frame that has not come whole, if it is a large one; says how many
    /// bytes of its head were taken.
    pub(super) fn begin_partial_body(&mut self, head: FrameHead) -> Result<usize, Exception> {
        if head.kind != FrameKind::Body as u8 || head.size < PIECEWISE_MIN {
            return Ok(0);
        }
        self.partial_body = Some(PartialBody { channel: head.channel, left: head.size as usize });
        // Whether a body may come at all.
        self.take_body_piece(head.channel, &[]).map(|_| FRAME_HEAD_LEN)
    }

    /// Goes on with such a frame; says how much was taken, whether or not it did any good.
    pub(super) fn go_on_with_body(
        &mut self,
        partial: PartialBody,
        input: &[u8],
        scratch: &mut Scratch,
    ) -> (usize, Result<(), Exception>) {
        let PartialBody { channel, left } = partial;
        if left > 0 {
            let piece = &input[..input.len().min(left)];
            self.partial_body = Some(PartialBody { channel, left: left - piece.len() });
            return (piece.len(), self.take_body_piece(channel, piece).map(drop));
        }
        self.partial_body = None;
        let end = input[0];
        if end != FRAME_END {
            let error = WireError::frame_end(FrameKind::Body as u8, end, &[]);
            return (input.len(), Err(error.exception()));
        }
        let complete = self.channels.get(&channel).is_some_and(|c| c.assembly.is_complete());
        let done = if complete { self.content_complete(channel, scratch) } else { Ok(()) };
        (1, done)
    }
}

fn check_partial(bytes: usize) -> Result<(), Exception> {
    if bytes <= PARTIAL_CONTENT_BYTES_MAX {
        return Ok(());
    }
    let text = format!("unfinished contents exceed {PARTIAL_CONTENT_BYTES_MAX} bytes");
    Err(Exception::new(ReplyCode::ResourceError, text))
}
