//! One TCP connection: bytes out, bytes and frames in, each wait with its limit.

use crate::codec::Frame;
use crate::outcome::{Outcome, fail};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Received {
    Frame(Frame),
    /// End of stream or reset.
    Gone,
    Silence,
}

enum More {
    Bytes,
    Gone,
    Silence,
}

impl Wire {
    pub(crate) fn dial(address: &str) -> Outcome<Self> {
        let stream = match TcpStream::connect(address) {
            Ok(stream) => stream,
            Err(error) => return fail(format!("cannot connect to {address}: {error}")),
        };
        if let Err(error) = stream.set_nodelay(true) {
            return fail(format!("cannot set up the socket: {error}"));
        }
        Ok(Self { stream, received: Vec::new() })
    }

    /// A broker that has closed the connection is noticed by the next read, which also shows
    /// what it said before; an error of the write itself would hide that.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn receive(&mut self, within: Duration) -> Outcome<Received> {
        let deadline = Instant::now() + within;
        loop {
            if let Some((frame, length)) = Frame::decode(&self.received)? {
                self.received.drain(..length);
                return Ok(Received::Frame(frame));
            }
            match self.read_more(deadline)? {
                More::Bytes => {}
                More::Gone => return Ok(Received::Gone),
                More::Silence => return Ok(Received::Silence),
            }
        }
    }

    /// Everything up to the end of the connection, and the time until then.
    pub(crate) fn receive_to_end(&mut self, within: Duration) -> Outcome<(Vec<u8>, Duration)> {
        let start = Instant::now();
        loop {
            match self.read_more(start + within)? {
                More::Bytes => {}
                More::Gone => return Ok((std::mem::take(&mut self.received), start.elapsed())),
                More::Silence => return fail(format!("still connected after {within:?}")),
            }
        }
    }

    fn read_more(&mut self, deadline: Instant) -> Outcome<More> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(More::Silence);
        }
        if let Err(error) = self.stream.set_read_timeout(Some(left)) {
            return fail(format!("cannot set a read timeout: {error}"));
        }
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(More::Gone),
            Ok(count) => {
                self.received.extend(&buffer[..count]);
                Ok(More::Bytes)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(More::Silence),
                ErrorKind::Interrupted => Ok(More::Bytes),
                ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe => Ok(More::Gone),
                _ => fail(format!("cannot read: {error}")),
            },
        }
    }
}
