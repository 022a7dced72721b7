//! What a broker says to a publisher: confirms, returns, blocked, close. Reads the publisher's
//! socket, either on a thread of its own or in between the publisher's writes.
use super::confirms::Confirms;
use super::connection::lost;
use super::error::{PerfError, Result};
use super::frame::{
    BASIC_ACK, BASIC_NACK, BASIC_RETURN, CONNECTION_BLOCKED, CONNECTION_CLOSE_OK,
    CONNECTION_UNBLOCKED, Frame, broker_refusal, first_frame, not_amqp, u64_at,
};
use super::histogram::Histogram;
use super::run::Run;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const READ_BYTES: usize = 64 * 1024;

/// The confirms of one publisher, between the one who writes and the one who reads.
pub(crate) struct SharedConfirms {
    confirms: Mutex<Confirms>,
    settled: Condvar,
}

pub(crate) struct Replies {
    run: Arc<Run>,
    index: usize,
    stream: TcpStream,
    /// `buffer[..filled]` is read and not yet looked at.
    buffer: Vec<u8>,
    filled: usize,
    shared: Arc<SharedConfirms>,
    pub(crate) latency: Histogram,
    /// The broker answered our connection.close.
    pub(crate) closed: bool,
}

impl SharedConfirms {
    pub(crate) fn new(window: usize) -> Self {
        Self { confirms: Mutex::new(Confirms::new(window)), settled: Condvar::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Confirms> {
        self.confirms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was settled, or a moment has passed.
    pub(crate) fn wait(&self) {
        let moment = Duration::from_millis(20);
        // Poisoned means that the reader died, which the run reports.
        let _ = self.settled.wait_timeout(self.lock(), moment);
    }
}

impl Replies {
    pub(crate) fn new(
        run: Arc<Run>,
        index: usize,
        stream: TcpStream,
        input: &[u8],
        shared: Arc<SharedConfirms>,
    ) -> Self {
        let mut buffer = vec![0; READ_BYTES.max(input.len() * 2)];
        buffer[..input.len()].copy_from_slice(input);
        let (filled, latency) = (input.len(), Histogram::new());
        Self { run, index, stream, buffer, filled, shared, latency, closed: false }
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Reads once, waiting a moment if nothing is there, and takes in what came.
    pub(crate) fn read(&mut self) -> Result<()> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) if self.closed => return Ok(()),
            Ok(0) => return Err(PerfError::new("the broker hung up")),
            Ok(read) => self.filled += read,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                    return Ok(());
                }
                _ => return Err(lost(&error)),
            },
        }
        let buffer = std::mem::take(&mut self.buffer);
        let taken = self.take_in(&buffer[..self.filled]);
        self.buffer = buffer;
        let done = taken?;
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        // A returned message may come in a frame larger than the buffer.
        if self.filled == self.buffer.len() {
            self.buffer.resize(self.filled * 2, 0);
        }
        Ok(())
    }

    fn take_in(&mut self, input: &[u8]) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        let mut confirms = shared.lock();
        let mut at = 0;
        while let Some(frame) = first_frame(&input[at..])? {
            at += frame.len;
            self.take_frame(&frame, &mut confirms)?;
        }
        let measured = self.run.is_measured().then_some(&mut self.latency);
        confirms.record(self.run.now_ns(), measured);
        self.run.confirmed.set(self.index, confirms.settled());
        shared.settled.notify_one();
        Ok(at)
    }

    fn take_frame(&mut self, frame: &Frame<'_>, confirms: &mut Confirms) -> Result<()> {
        let Some(method) = frame.method() else {
            return Ok(());
        };
        match method {
            BASIC_ACK | BASIC_NACK => {
                let tag = u64_at(frame.payload, 4).ok_or_else(not_amqp)?;
                let multiple = frame.payload.get(12).is_some_and(|bits| bits & 1 == 1);
                let settled = confirms.settle(tag, multiple)?;
                if method == BASIC_NACK {
                    self.run.nacked.fetch_add(settled, Relaxed);
                }
            }
            BASIC_RETURN => drop(self.run.returned.fetch_add(1, Relaxed)),
            CONNECTION_BLOCKED => self.run.blocked.store(true, Relaxed),
            CONNECTION_UNBLOCKED => {}
            CONNECTION_CLOSE_OK => self.closed = true,
            _ => return broker_refusal(frame).map_or(Ok(()), Err),
        }
        Ok(())
    }
}
