//! From bytes to frames, and frames to whoever they are for.

use super::handshake::Phase;
use super::{Scratch, Session};
use crate::exception::{Exception, MethodId};
use crate::limits::{OPERATIONS_PER_TURN, OUTPUT_HARD_BYTES};
use crate::time::Now;
use crate::wire::frame::FRAME_HEAD_LEN;
use crate::wire::method::{BASIC_PUBLISH, method_id};
use crate::wire::{ClientMethod, Decoded, FrameKind, WireError, decode_frame};

/// What a turn of input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that need not be shown again.
    pub consumed: usize,
    pub progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Idle,
    /// The turn's budget is spent: yield, then show the rest again.
    More,
    /// No input is wanted until the output or the journal has moved on, an alarm is over, or a
    /// message was loaded.
    Held,
    Closed,
}

impl Session {
    /// Takes frames from `input` until it needs more, or must stop.
    pub fn handle_input(&mut self, now: Now, input: &[u8], scratch: &mut Scratch) -> Taken {
        self.now = now;
        scratch.workspace.effects.now = now;
        self.heartbeat.received();
        scratch.batch.begin_turn();
        let mut consumed = 0;
        let mut frames = 0;
        let progress = loop {
            if self.is_closed() {
                break Progress::Closed;
            }
            if consumed == input.len() {
                break Progress::Idle;
            }
            if frames + scratch.batch.operations() >= OPERATIONS_PER_TURN {
                break Progress::More;
            }
            // Confirms and held replies are looked at once in a while: 64 frames add little.
            let stop = self.output.len() >= OUTPUT_HARD_BYTES || self.must_pause();
            if stop || frames % 64 == 0 && !self.wants_input() {
                break Progress::Held;
            }
            match self.step(now, &input[consumed..], scratch) {
                0 => break Progress::Idle,
                taken => consumed += taken,
            }
            frames += 1;
        };
        self.counters.bytes_in.add(consumed as u64);
        self.finish_turn(scratch);
        Taken { consumed, progress }
    }

    /// Takes one frame, or what there is of it. Zero if more is needed.
    fn step(&mut self, now: Now, input: &[u8], scratch: &mut Scratch) -> usize {
        match self.phase {
            Phase::Header => return self.take_protocol_header(input),
            Phase::Silent | Phase::Closing { deaf: true } | Phase::Closed => return input.len(),
            _ => {}
        }
        if let Some(partial) = self.partial_body {
            let (taken, done) = self.go_on_with_body(partial, input, scratch);
            if self.partial_body.is_none() {
                self.content_frame_came();
            }
            if let Err(exception) = done {
                self.raise(partial.channel(), exception, BASIC_PUBLISH, now, scratch);
            }
            return taken;
        }
        match decode_frame(input, self.frame_max) {
            Ok(Decoded::Frame { kind, channel, payload, consumed }) => {
                let rest = &input[consumed..];
                let more = self.take_frame(now, (kind, channel), payload, rest, scratch);
                consumed + more
            }
            Ok(Decoded::Incomplete { head: Some(head) }) if self.phase == Phase::Running => {
                // After an exception the frame is taken as it comes, and kept by nobody.
                self.begin_partial_body(head).unwrap_or_else(|exception| {
                    self.raise(head.channel, exception, BASIC_PUBLISH, now, scratch);
                    FRAME_HEAD_LEN
                })
            }
            Ok(Decoded::Incomplete { .. }) => 0,
            Err(error) => {
                self.fail(&error, now, scratch);
                input.len()
            }
        }
    }

    /// Bytes that are no frames.
    fn fail(&mut self, error: &WireError, now: Now, scratch: &mut Scratch) {
        match self.phase {
            Phase::Starting | Phase::Tuning => {
                self.refuse_silently(now, &error.exception().text());
            }
            Phase::Closing { .. } => self.await_close(true, now),
            _ => {
                self.close_connection_with(0, &error.exception(), now, scratch);
                self.await_close(error.is_fatal(), now);
            }
        }
    }

    /// Takes a whole frame. A publish takes the content frames behind it as well, if they are
    /// there: says how many bytes of `rest` it took.
    fn take_frame(
        &mut self,
        now: Now,
        (kind, number): (FrameKind, u16),
        payload: &[u8],
        rest: &[u8],
        scratch: &mut Scratch,
    ) -> usize {
        if kind == FrameKind::Heartbeat {
            return 0;
        }
        if self.phase != Phase::Running || number == 0 {
            self.take_connection_frame(now, (kind, number), payload, scratch);
            return 0;
        }
        let mut more = 0;
        let taken = match kind {
            FrameKind::Method => match payload {
                [0, 60, 0, 40, ..] => {
                    let taken = self.take_publish(number, payload, rest, scratch);
                    taken.map(|taken| more = taken)
                }
                _ => self.take_method(number, payload, scratch),
            },
            FrameKind::Header => self.take_header(number, payload, scratch),
            FrameKind::Body => self.take_body(number, payload, scratch),
            FrameKind::Heartbeat => Ok(()),
        };
        if matches!(kind, FrameKind::Header | FrameKind::Body) {
            self.content_frame_came();
        }
        if let Err(exception) = taken {
            let method = match kind {
                FrameKind::Method => method_id(payload).unwrap_or(MethodId::NONE),
                _ => BASIC_PUBLISH,
            };
            self.raise(number, exception, method, now, scratch);
        }
        more
    }

    /// A frame on channel 0, or any before the connection runs or while it closes.
    fn take_connection_frame(
        &mut self,
        now: Now,
        (kind, number): (FrameKind, u16),
        payload: &[u8],
        scratch: &mut Scratch,
    ) {
        let closing = matches!(self.phase, Phase::Closing { .. });
        if number != 0 || kind != FrameKind::Method {
            if closing {
                return;
            }
            if matches!(self.phase, Phase::Running | Phase::Opening) {
                let error = WireError::unexpected_frame(kind, payload);
                return self.fail(&error, now, scratch);
            }
            return self.refuse_silently(now, "a frame came before its time");
        }
        let method = match ClientMethod::decode(payload) {
            Ok(method) => method,
            Err(_) if closing => return,
            Err(error) => return self.fail(&error, now, scratch),
        };
        let id = method_id(payload).unwrap_or(MethodId::NONE);
        match (self.phase, &method) {
            (Phase::Closing { .. }, _) => self.take_while_closing(&method),
            (Phase::Running, _) => {
                if let Err(exception) = self.take_connection_method(&method, now, scratch) {
                    self.raise(0, exception, id, now, scratch);
                }
            }
            _ => {
                if let Err(exception) = self.handshake(&method, now) {
                    self.raise(0, exception, id, now, scratch);
                }
            }
        }
    }

    fn take_while_closing(&mut self, method: &ClientMethod<'_>) {
        match method {
            ClientMethod::ConnectionClose(_) => {
                crate::wire::ServerMethod::ConnectionCloseOk.encode(0, &mut self.output);
            }
            ClientMethod::ConnectionCloseOk => self.phase = Phase::Closed,
            _ => {}
        }
    }

    fn take_connection_method(
        &mut self,
        method: &ClientMethod<'_>,
        now: Now,
        scratch: &mut Scratch,
    ) -> Result<(), Exception> {
        match method {
            ClientMethod::ConnectionClose(_) => self.close_by_client(now, scratch),
            ClientMethod::ConnectionUpdateSecret { .. } => {
                // RabbitMQ: internal users have no secret that could run out.
                crate::wire::ServerMethod::ConnectionUpdateSecretOk.encode(0, &mut self.output);
            }
            _ => return Err(self.unexpected_method()),
        }
        Ok(())
    }
}
