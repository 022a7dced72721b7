//! One publisher: a connection, a ring of encoded publishes, and the loop that writes it out, as
//! fast as the broker reads, at a rate, or within a window of unconfirmed publishes.
//!
//! Who reads the broker's replies: the publisher itself between writes if it has confirms to wait
//! for and no rate to keep (one thread, no wake-ups), otherwise a second thread.
use super::connection::{Connection, lost};
use super::error::{PerfError, Result};
use super::frame::CONFIRM_SELECT_OK;
use super::pacing::{Pacer, sharpen_sleep, sleep_ns};
use super::publishes::Publishes;
use super::replies::{Replies, SharedConfirms};
use super::run::Run;
use super::wire;
use super::{histogram::Histogram, start_thread};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a connection may take to close once the run has ended.
pub(crate) const CLOSE_MS_MAX: u64 = 1_000;
/// A publisher that is too far ahead looks this often whether the consumers have caught up.
const LEAD_NAP_NS: u64 = 500_000;

pub(crate) struct Publisher {
    run: Arc<Run>,
    index: usize,
    stream: TcpStream,
    ring: Publishes,
    pacer: Option<Pacer>,
    started_ns: u64,
    /// When the last sleep for a due time ended.
    woke_ns: u64,
    /// How late sleeps ended: our own doing, and not counted as the broker's latency.
    oversleep: Histogram,
    published: u64,
    quota: u64,
    confirms: Arc<SharedConfirms>,
    reader: Reader,
    /// A write ended in the middle of a frame: nothing can be said on this connection any more.
    cut_off: bool,
}

/// What a publisher learned, handed over at its end.
pub(crate) struct Published {
    pub(crate) confirm_latency: Histogram,
    pub(crate) oversleep: Histogram,
}

enum Reader {
    Own(Box<Replies>),
    Thread(JoinHandle<Histogram>),
}

impl Publisher {
    /// Connects and encodes. Nothing is published before [`Publisher::publish_all`].
    pub(crate) fn open(run: &Arc<Run>, index: usize) -> Result<Self> {
        let plan = &run.plan;
        let name = format!("leveret perf publisher {index}");
        let mut connection = Connection::open(&plan.url, &name)?;
        if plan.confirm_window > 0 {
            let mut request = Vec::new();
            wire::confirm_select(&mut request);
            connection.call(&request, CONFIRM_SELECT_OK)?;
        }
        let pacer =
            (plan.rate > 0).then(|| Pacer::new(plan.rate, plan.publishers as u64, index as u64));
        let together = match (&pacer, plan.confirm_window) {
            (Some(pacer), _) => pacer.per_tick(),
            (None, 0) => u64::MAX,
            (None, window) => window as u64,
        };
        let ring = Publishes::new(plan, index, connection.frame_max(), together)?;
        let (stream, input) = connection.into_parts(plan.wake())?;
        let reading = stream.try_clone().map_err(|error| lost(&error))?;
        let confirms = Arc::new(SharedConfirms::new(plan.confirm_window));
        let replies = Replies::new(Arc::clone(run), index, reading, &input, Arc::clone(&confirms));
        let reader = if plan.confirm_window > 0 && pacer.is_none() {
            Reader::Own(Box::new(replies))
        } else {
            let run = Arc::clone(run);
            Reader::Thread(start_thread("replies", move || watch(&run, replies))?)
        };
        let quota = plan.quota(index).unwrap_or(u64::MAX);
        Ok(Self {
            run: Arc::clone(run),
            index,
            stream,
            ring,
            pacer,
            started_ns: 0,
            woke_ns: 0,
            oversleep: Histogram::new(),
            published: 0,
            quota,
            confirms,
            reader,
            cut_off: false,
        })
    }

    /// Publishes until the quota or the run ends.
    pub(crate) fn publish_all(mut self) -> Published {
        if self.pacer.is_some() {
            sharpen_sleep();
        }
        self.started_ns = self.run.now_ns();
        let ended = self.publish_loop().and_then(|()| self.finish());
        if let Err(error) = ended {
            self.run.fail(error.inside(format_args!("publisher {}", self.index)));
        }
        self.run.publisher_done();
        let confirm_latency = match self.reader {
            Reader::Own(replies) => replies.latency,
            Reader::Thread(thread) => thread.join().unwrap_or_else(|_| Histogram::new()),
        };
        Published { confirm_latency, oversleep: self.oversleep }
    }

    fn publish_loop(&mut self) -> Result<()> {
        while self.published < self.quota && self.run.publishes() {
            let limit = self.due().min(self.quota - self.published);
            if limit > 0 {
                let limit = limit.min(self.room()?);
                self.publish(limit)?;
            }
        }
        Ok(())
    }

    /// How many publishes are due. Sleeps, but not for long, if none is.
    fn due(&mut self) -> u64 {
        let Some(pacer) = &self.pacer else {
            return u64::MAX;
        };
        let now = self.run.now_ns();
        let due = pacer.due_by(now - self.started_ns).saturating_sub(self.published);
        if due == 0 {
            let due_at = self.started_ns + pacer.due_at(self.published);
            sleep_ns((due_at - now).min(self.run.plan.wake().as_nanos() as u64));
            self.woke_ns = self.run.now_ns();
            if self.woke_ns >= due_at && self.run.is_measured() {
                self.oversleep.record(self.woke_ns - due_at);
            }
        }
        due
    }

    /// How many publishes the confirm window allows. Once it is full, waits until a quarter is
    /// free again, so that a broker that confirms one by one does not get one write for each.
    fn room(&mut self) -> Result<u64> {
        let window = self.run.plan.confirm_window as u64;
        if window == 0 {
            return Ok(u64::MAX);
        }
        let mut needed = 1;
        while self.run.publishes() {
            let room = window.saturating_sub(self.confirms.lock().waiting());
            if room >= needed {
                return Ok(room);
            }
            needed = if self.pacer.is_some() { 1 } else { (window / 4).max(1) };
            match &mut self.reader {
                Reader::Own(replies) => replies.read()?,
                Reader::Thread(_) => self.confirms.wait(),
            }
        }
        Ok(0)
    }

    /// Publishes `count` messages, in as many writes as that takes.
    fn publish(&mut self, mut count: u64) -> Result<()> {
        while count > 0 && self.run.publishes() {
            if self.run.is_ahead() {
                sleep_ns(LEAD_NAP_NS);
                continue;
            }
            let run = self.ring.take_run(count);
            let sent = run.len() as u64;
            self.stamp(&run);
            self.ring.take_turns(&run, self.published + 1);
            self.write(&run)?;
            if self.pacer.is_none() {
                self.ring.stamp(run.start, 0, 0);
            }
            self.published += sent;
            self.run.published.set(self.index, self.published);
            count -= sent;
        }
        Ok(())
    }

    /// Tells bodies and confirms when these publishes were due: at a rate each its own time,
    /// however late the broker lets us write it (but not before we woke up for it); otherwise one
    /// time for the first of the write, which is sample enough.
    fn stamp(&mut self, run: &Range<usize>) {
        let confirms = (self.run.plan.confirm_window > 0).then_some(&self.confirms);
        let mut confirms = confirms.map(|shared| shared.lock());
        let sender = (self.index as u64) << 48;
        for (sequence, slot) in (self.published + 1..).zip(run.clone()) {
            let due_at = match &self.pacer {
                Some(pacer) => {
                    Some((self.started_ns + pacer.due_at(sequence - 1)).max(self.woke_ns))
                }
                None => (slot == run.start).then(|| self.run.now_ns()),
            };
            if let Some(due_at) = due_at {
                self.ring.stamp(slot, due_at, sender | sequence);
            }
            match (&mut confirms, due_at) {
                (Some(confirms), Some(due_at)) => confirms.publish_timed(due_at),
                (Some(confirms), None) => confirms.publish(),
                (None, _) if self.pacer.is_none() => return,
                (None, _) => {}
            }
        }
    }

    fn write(&mut self, run: &Range<usize>) -> Result<()> {
        let mut bytes = self.ring.encoded(run);
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if self.run.is_stopped() => {
                        self.cut_off = true;
                        return Ok(());
                    }
                    // The broker may itself wait for us to take our confirms.
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        if let Reader::Own(replies) = &mut self.reader {
                            replies.read()?;
                        }
                    }
                    _ => return Err(self.reason_or(lost(&error))),
                },
            }
        }
        Ok(())
    }

    /// Why the broker closed, if it said so before the write failed.
    fn reason_or(&mut self, error: PerfError) -> PerfError {
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until && !self.run.is_stopped() {
            match &mut self.reader {
                Reader::Own(replies) => {
                    if let Err(reason) = replies.read() {
                        return reason;
                    }
                }
                Reader::Thread(_) => self.confirms.wait(),
            }
        }
        error
    }

    /// Waits for the confirms of a counted run, then closes, which tells that the broker has read
    /// all of it.
    fn finish(&mut self) -> Result<()> {
        while self.run.plan.confirm_window > 0
            && self.run.plan.messages.is_some()
            && !self.run.is_stopped()
            && self.confirms.lock().waiting() > 0
        {
            match &mut self.reader {
                Reader::Own(replies) => replies.read()?,
                Reader::Thread(_) => self.confirms.wait(),
            }
        }
        let mut request = Vec::new();
        wire::connection_close(&mut request);
        if self.cut_off || self.stream.write_all(&request).is_err() {
            return Ok(());
        }
        if let Reader::Own(replies) = &mut self.reader {
            until_closed(&self.run, replies)?;
        }
        if let Reader::Thread(thread) = &self.reader {
            while !thread.is_finished() {
                sleep_ns(1_000_000);
            }
        }
        Ok(())
    }
}

fn watch(run: &Run, mut replies: Replies) -> Histogram {
    if let Err(error) = until_closed(run, &mut replies) {
        run.fail(error.inside(format_args!("publisher {}", replies.index())));
    }
    replies.latency
}

/// Reads until the broker has answered connection.close, or the run is over for long enough.
fn until_closed(run: &Run, replies: &mut Replies) -> Result<()> {
    let mut stopped_at = None;
    while !replies.closed {
        replies.read()?;
        if run.is_stopped() {
            let since = *stopped_at.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_millis(CLOSE_MS_MAX) {
                break;
            }
        }
    }
    Ok(())
}
