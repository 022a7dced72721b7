//! One consumer: a connection that consumes from its share of the queues, reads in large pieces,
//! acks in one write per read, and times the deliveries that carry a clock reading.
use super::connection::{Connection, lost};
use super::deliveries::{Receive, Scanner};
use super::error::{PerfError, Result};
use super::frame::{BASIC_QOS_OK, CONNECTION_CLOSE_OK, Frame, broker_refusal};
use super::histogram::Histogram;
use super::plan::{Plan, STAMP_BYTES};
use super::publisher::CLOSE_MS_MAX;
use super::run::Run;
use super::wire;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 256 * 1024;
/// Brokers count deferrals in milliseconds: up to one of them less is not too early.
const CLOCK_NS: u64 = 1_000_000;

pub(crate) struct Consumer {
    run: Arc<Run>,
    index: usize,
    stream: TcpStream,
    /// `buffer[..filled]` is read and not yet scanned.
    buffer: Vec<u8>,
    filled: usize,
    scanner: Scanner,
    tally: Tally,
}

/// What a consumer learned, handed over at its end.
pub(crate) struct Consumed {
    pub(crate) latency: Histogram,
    pub(crate) out_of_order: u64,
    /// Deliveries of deferred messages before their time.
    pub(crate) early: u64,
}

/// Counts deliveries and says what to ack.
struct Tally {
    ack_every: u64,
    delivered: u64,
    /// Deliveries since the last ack.
    unacked: u64,
    last_tag: u64,
    /// Encoded acks not yet written.
    acks: Vec<u8>,
    /// Deliveries that were due by then are timed; none is if it is zero.
    timed_until_ns: u64,
    now_ns: u64,
    /// How long messages are deferred. Latency begins after that.
    deferred_ns: u64,
    latency: Histogram,
    early: u64,
    /// Last sequence number seen of each publisher; empty if order says nothing.
    sequences: Vec<u64>,
    out_of_order: u64,
    closing: bool,
    closed: bool,
}

impl Consumer {
    /// Connects and starts to consume: deliveries may arrive from now on.
    pub(crate) fn open(run: &Arc<Run>, index: usize) -> Result<Self> {
        let plan = &run.plan;
        let name = format!("leveret perf consumer {index}");
        let mut connection = Connection::open(&plan.url, &name)?;
        let mut request = Vec::new();
        if plan.prefetch > 0 {
            wire::basic_qos(&mut request, plan.prefetch);
            connection.call(&request, BASIC_QOS_OK)?;
            request.clear();
        }
        let queues = Plan::share(plan.queues, plan.consumers, index);
        for queue in queues.clone() {
            wire::basic_consume(&mut request, &plan.queue(queue), "", plan.ack_every == 0);
        }
        connection.send(&request)?;
        let (stream, input) = connection.into_parts(plan.wake())?;
        let mut buffer = vec![0; READ_BYTES];
        buffer[..input.len()].copy_from_slice(&input);
        // Between the copies of several queues there is no order to keep.
        let ordered = queues.count() == 1 && plan.measures_latency() && plan.keeps_order();
        let publishers = if ordered { plan.publishers } else { 0 };
        Ok(Self {
            run: Arc::clone(run),
            index,
            stream,
            buffer,
            filled: input.len(),
            scanner: Scanner::default(),
            tally: Tally::new(plan.ack_every, plan.deferred_by(), publishers),
        })
    }

    /// Consumes until enough is delivered or the run ends.
    pub(crate) fn consume_all(mut self) -> Consumed {
        let ended = self.consume_loop().and_then(|()| self.close());
        if let Err(error) = ended {
            self.run.fail(error.inside(format_args!("consumer {}", self.index)));
        }
        let Tally { latency, out_of_order, early, .. } = self.tally;
        Consumed { latency, out_of_order, early }
    }

    fn consume_loop(&mut self) -> Result<()> {
        let times = self.run.plan.measures_latency();
        self.scan(u64::MAX)?;
        while !self.run.is_stopped() {
            let limit = self.run.deliveries_left();
            if limit == 0 {
                break;
            }
            if self.read()? {
                let timed_until_ns = self.run.timed_until_ns().filter(|_| times);
                self.tally.timed_until_ns = timed_until_ns.unwrap_or(0);
                if timed_until_ns.is_some() {
                    self.tally.now_ns = self.run.now_ns();
                }
                self.scan(limit)?;
            } else {
                self.tally.ack_rest();
            }
            self.write_acks()?;
        }
        Ok(())
    }

    /// Whether anything came before the socket's timeout.
    fn read(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) if self.tally.closed => Ok(false),
            Ok(0) => Err(PerfError::new("the broker hung up")),
            Ok(read) => {
                self.filled += read;
                Ok(true)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
                _ => Err(lost(&error)),
            },
        }
    }

    fn scan(&mut self, limit: u64) -> Result<()> {
        let done = self.scanner.scan(&self.buffer[..self.filled], limit, &mut self.tally)?;
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        self.run.delivered.set(self.index, self.tally.delivered);
        Ok(())
    }

    /// Writes as many acks as the broker takes. The rest stays for the next time: reading must go
    /// on, or both sides could wait for each other.
    fn write_acks(&mut self) -> Result<()> {
        let mut written = 0;
        while written < self.tally.acks.len() {
            match self.stream.write(&self.tally.acks[written..]) {
                Ok(count) => written += count,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => break,
                    _ => return Err(lost(&error)),
                },
            }
        }
        self.tally.acks.drain(..written);
        Ok(())
    }

    /// Acks the rest and says goodbye, in a limited time: a long backlog may be under way.
    fn close(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(CLOSE_MS_MAX);
        self.tally.ack_rest();
        self.tally.closing = true;
        wire::connection_close(&mut self.tally.acks);
        while !self.tally.closed && Instant::now() < until {
            self.write_acks()?;
            self.scan(u64::MAX)?;
            if !self.tally.closed {
                self.read()?;
            }
        }
        Ok(())
    }
}

impl Tally {
    fn new(ack_every: u64, deferred: Duration, publishers: usize) -> Self {
        Self {
            ack_every,
            delivered: 0,
            unacked: 0,
            last_tag: 0,
            acks: Vec::new(),
            timed_until_ns: 0,
            now_ns: 0,
            deferred_ns: deferred.as_nanos() as u64,
            latency: Histogram::new(),
            early: 0,
            sequences: vec![0; publishers],
            out_of_order: 0,
            closing: false,
            closed: false,
        }
    }

    fn ack_rest(&mut self) {
        if self.unacked > 0 && self.ack_every > 0 {
            wire::basic_ack(&mut self.acks, self.last_tag, true);
            self.unacked = 0;
        }
    }

    fn check_order(&mut self, sequence: u64) {
        let publisher = (sequence >> 48) as usize;
        if let Some(last) = self.sequences.get_mut(publisher) {
            self.out_of_order += u64::from(sequence <= *last);
            *last = sequence;
        }
    }
}

impl Receive for Tally {
    #[inline]
    fn delivered(&mut self, delivery_tag: u64, stamp: &[u8; STAMP_BYTES]) {
        if self.closing {
            return;
        }
        self.delivered += 1;
        self.last_tag = delivery_tag;
        let (clock, sequence) = stamp.split_at(8);
        if clock != [0; 8] && self.timed_until_ns > 0 {
            let number =
                |bytes: &[u8]| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            let due_ns = number(clock).saturating_add(self.deferred_ns);
            if due_ns <= self.timed_until_ns {
                self.latency.record(self.now_ns.saturating_sub(due_ns));
                self.early += u64::from(self.now_ns.saturating_add(CLOCK_NS) < due_ns);
                self.check_order(number(sequence));
            }
        }
        if self.ack_every > 0 {
            self.unacked += 1;
            if self.unacked == self.ack_every {
                wire::basic_ack(&mut self.acks, delivery_tag, self.ack_every > 1);
                self.unacked = 0;
            }
        }
    }

    fn method(&mut self, frame: &Frame<'_>) -> Result<()> {
        if frame.method() == Some(CONNECTION_CLOSE_OK) {
            self.closed = true;
            return Ok(());
        }
        broker_refusal(frame).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn lateness_begins_when_the_deferral_ends() {
        let mut tally = Tally::new(0, Duration::from_millis(500), 0);
        tally.timed_until_ns = u64::MAX;
        for now_ms in [508, 509, 510, 513] {
            tally.now_ns = now_ms * MS;
            let mut stamp = [0; STAMP_BYTES];
            stamp[..8].copy_from_slice(&(10 * MS).to_be_bytes());
            tally.delivered(1, &stamp);
        }
        assert_eq!((tally.latency.count(), tally.latency.max()), (4, 3 * MS));
        assert_eq!(tally.early, 1);
        // It was due when the measured stretch was over, or just before.
        (tally.now_ns, tally.timed_until_ns) = (5_510 * MS, 510 * MS - 1);
        let mut stamp = [0; STAMP_BYTES];
        stamp[..8].copy_from_slice(&(10 * MS).to_be_bytes());
        tally.delivered(2, &stamp);
        tally.timed_until_ns += 1;
        tally.delivered(3, &stamp);
        assert_eq!((tally.latency.count(), tally.latency.max()), (5, 5_000 * MS));
    }
}
