//! A connection as the case sees it: frames sorted by channel, and expectations about them.

use super::channel::Channel;
use super::wire::{Received, Wire};
use crate::codec::{Frame, HEARTBEAT, METHOD, Method, method_ids};
use crate::outcome::{Outcome, fail, holds, same};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long an expected frame may take. Generous, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) struct Connection {
    wire: RefCell<Wire>,
    /// Frames of channels that nobody has asked for yet, in order of arrival.
    stash: RefCell<VecDeque<Frame>>,
    pub(crate) frame_max: Cell<usize>,
}

impl Connection {
    pub(crate) fn dial(address: &str) -> Outcome<Rc<Self>> {
        Ok(Rc::new(Self {
            wire: RefCell::new(Wire::dial(address)?),
            stash: RefCell::new(VecDeque::new()),
            frame_max: Cell::new(131_072),
        }))
    }

    /// A handle for a channel number, without opening it.
    pub(crate) fn unopened(self: &Rc<Self>, number: u16) -> Channel {
        Channel::new(Rc::clone(self), number)
    }

    pub(crate) fn channel(self: &Rc<Self>, number: u16) -> Outcome<Channel> {
        let channel = self.unopened(number);
        channel.call(&Method::new("channel.open"))?;
        Ok(channel)
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.wire.borrow_mut().send(bytes);
    }

    pub(crate) fn send_frame(&self, frame: &Frame) {
        self.send_bytes(&frame.encode());
    }

    /// Sends a method on channel 0.
    pub(crate) fn send(&self, method: &Method) {
        self.send_frame(&method.frame(0));
    }

    /// The next thing on any channel, heartbeats included.
    pub(crate) fn receive(&self, within: Duration) -> Outcome<Received> {
        if let Some(frame) = self.stash.borrow_mut().pop_front() {
            return Ok(Received::Frame(frame));
        }
        self.wire.borrow_mut().receive(within)
    }

    /// The next frame of a channel. What arrives on channel 0 meanwhile is handed out instead:
    /// it is a connection.close, or nothing that a case waiting for another channel expects.
    pub(crate) fn next_frame(&self, channel: u16) -> Outcome<Frame> {
        let mut stash = self.stash.borrow_mut();
        let wanted = |frame: &Frame| frame.channel == channel || frame.channel == 0;
        if let Some(frame) =
            stash.iter().position(wanted).and_then(|position| stash.remove(position))
        {
            return Ok(frame);
        }
        loop {
            match self.wire.borrow_mut().receive(PATIENCE)? {
                Received::Frame(frame) if frame.kind == HEARTBEAT => {}
                Received::Frame(frame) if wanted(&frame) => return Ok(frame),
                Received::Frame(frame) => stash.push_back(frame),
                Received::Gone => return fail("the broker dropped the connection"),
                Received::Silence => return fail(format!("nothing arrived within {PATIENCE:?}")),
            }
        }
    }

    pub(super) fn next_method(&self, channel: u16) -> Outcome<Method> {
        let frame = self.next_frame(channel)?;
        if frame.kind != METHOD {
            let (kind, channel) = (frame.kind, frame.channel);
            return fail(format!("expected a method, got a frame of type {kind} on {channel}"));
        }
        let method = Method::decode(&frame.payload)?;
        if frame.channel != channel {
            return fail(format!("on channel 0: {method}"));
        }
        Ok(method)
    }

    /// The next method on channel 0, which has to be this one.
    pub(crate) fn expect(&self, name: &str) -> Outcome<Method> {
        expect_name(self.next_method(0)?, name)
    }

    pub(crate) fn call(&self, method: &Method) -> Outcome<Method> {
        self.send(method);
        self.expect(&format!("{}-ok", method.name()))
    }

    /// The next method is connection.close with exactly this; it is answered. `method` names
    /// the method whose ids it carries, empty for none.
    pub(crate) fn expect_close(&self, code: u16, text: &str, method: &str) -> Outcome {
        check_close(&self.expect("connection.close")?, code, text, method_ids(method))?;
        self.send(&Method::new("connection.close-ok"));
        Ok(())
    }

    /// The broker drops the connection without another frame.
    pub(crate) fn expect_gone(&self, within: Duration) -> Outcome<Duration> {
        let (bytes, after) = self.wire.borrow_mut().receive_to_end(within)?;
        holds(bytes.is_empty(), format!("expected the end of the connection, got {bytes:?}"))?;
        Ok(after)
    }

    /// Nothing but heartbeats arrives for so long. Only where no fence can tell.
    pub(crate) fn expect_silence(&self, time: Duration) -> Outcome {
        match self.receive(time)? {
            Received::Silence => Ok(()),
            Received::Frame(frame) if frame.kind == HEARTBEAT => Ok(()),
            other => fail(format!("expected silence, got {other:?}")),
        }
    }

    /// Closes as a well-behaved client does.
    pub(crate) fn close(&self) -> Outcome {
        self.call(&Method::new("connection.close").with("reply_code", 200_u16)).map(drop)
    }
}

pub(super) fn expect_name(method: Method, name: &str) -> Outcome<Method> {
    if method.name() == name { Ok(method) } else { fail(format!("expected {name}, got {method}")) }
}

pub(super) fn check_close(close: &Method, code: u16, text: &str, ids: (u16, u16)) -> Outcome {
    same("reply text", close.text("reply_text").as_str(), text)?;
    same("reply code", close.number("reply_code"), u64::from(code))?;
    let actual = (close.number("class_id"), close.number("method_id"));
    same("class and method id", actual, (u64::from(ids.0), u64::from(ids.1)))
}
