//! One task per connection: reads, lets the session work, writes, sleeps.
//!
//! The read buffer and the session's scratch belong to the thread and are lent for one turn, so an
//! idle connection owns neither. Reading and writing go on side by side: a peer that publishes
//! without reading must not lock itself up with us.

use super::clock::Clock;
use crate::session::{Progress, Scratch, Session};
use crate::time::{Millis, Now};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// One read. Half of it is messages in flight between two tasks at full speed.
const READ_BYTES: usize = 256 * 1024;
/// Pieces given to one write.
const SLICES_MAX: usize = 64;
/// A leftover's buffer above this is not kept.
const LEFTOVER_KEPT_BYTES: usize = 4 * 1024;

/// What a thread lends to whichever connection has its turn.
struct Loan {
    scratch: Scratch,
    buffer: Vec<u8>,
}

thread_local! {
    static LOAN: RefCell<Loan> =
        RefCell::new(Loan { scratch: Scratch::default(), buffer: vec![0; READ_BYTES] });
}

/// Lends the thread's buffers for a turn. A turn that panics ends its connection's task alone, so
/// what queues asked of it is passed on, and what else it left behind must not reach the next one.
fn borrow<R>(session: &mut Session, turn: impl FnOnce(&mut Session, &mut Loan) -> R) -> R {
    struct Reset<'a>(&'a mut Session, &'a mut Loan);
    impl Drop for Reset<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.give_up_turn(std::mem::take(&mut self.1.scratch));
            }
        }
    }
    LOAN.with_borrow_mut(|loan| {
        let Reset(session, loan) = &mut Reset(session, loan);
        turn(session, loan)
    })
}

struct Connection<S> {
    stream: S,
    session: Session,
    clock: Clock,
    /// Bytes that the session has not taken: less than a frame, but after a turn cut short.
    leftover: Vec<u8>,
    /// The leftover may be taken without reading more.
    has_more: bool,
    timer: Option<(Millis, Pin<Box<Sleep>>)>,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S>(stream: S, session: Session, clock: Clock)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection =
        Connection { stream, session, clock, leftover: Vec::new(), has_more: false, timer: None };
    let ended = poll_fn(|cx| connection.poll(cx)).await;
    let error = ended.err().filter(|error| !is_closed_socket(error.kind()));
    connection.session.peer_left(error.map(|error| error.to_string()).as_deref());
    let now = clock.now();
    borrow(&mut connection.session, |session, loan| {
        session.drop_connection(now, &mut loan.scratch);
    });
    // The last bytes are on their way; a peer that is gone does not matter any more.
    let _ = poll_fn(|cx| Pin::new(&mut connection.stream).poll_shutdown(cx)).await;
}

/// RabbitMQ: however a peer closes its socket, the words are the same.
fn is_closed_socket(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.inbox().register(cx.waker());
        let now = self.clock.now();
        // A peer that always has input must not keep the heartbeats from being sent.
        if self.session.next_deadline().is_some_and(|at| at <= now.monotonic) {
            borrow(&mut self.session, |session, loan| {
                session.handle_timeout(now, &mut loan.scratch);
            });
        }
        loop {
            borrow(&mut self.session, |session, loan| session.handle_inbox(now, &mut loan.scratch));
            let read =
                if self.session.wants_input() { self.poll_input(cx)? } else { Poll::Pending };
            let held = !self.session.wants_input();
            let written = self.poll_output(cx, now)?;
            if self.session.is_closed() && self.session.output().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match read {
                Poll::Ready(Input::Ended) => return Poll::Ready(Ok(())),
                // There is more, but others want their turn: above all those whom we have woken.
                Poll::Ready(Input::Full) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Input::Some) => continue,
                Poll::Pending => {}
            }
            let freed = self.session.can_deliver() || written && held && self.session.wants_input();
            if !freed && self.poll_timer(cx, now).is_pending() {
                self.session.rest();
                return Poll::Pending;
            }
        }
    }

    /// Reads once and lets the session take what it can.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<Input>> {
        borrow(&mut self.session, |session, Loan { scratch, buffer }| {
            let kept = self.leftover.len();
            if buffer.len() < kept + READ_BYTES / 2 {
                buffer.resize(kept + READ_BYTES, 0);
            }
            buffer[..kept].copy_from_slice(&self.leftover);
            let mut len = kept;
            let mut full = true;
            if !std::mem::take(&mut self.has_more) {
                let mut read = ReadBuf::new(&mut buffer[kept..]);
                match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(()) if read.filled().is_empty() => {
                        return Ok(Poll::Ready(Input::Ended));
                    }
                    Poll::Ready(()) => {
                        full = read.remaining() == 0;
                        len += read.filled().len();
                    }
                }
            }
            // What was read may have been sent just now, and no delay of it begins earlier.
            let now = self.clock.now();
            let taken = session.handle_input(now, &buffer[..len], scratch);
            let left = &buffer[taken.consumed..len];
            self.leftover.clear();
            if self.leftover.capacity() > LEFTOVER_KEPT_BYTES && left.len() < LEFTOVER_KEPT_BYTES {
                self.leftover = Vec::new();
            }
            self.leftover.extend_from_slice(left);
            self.has_more = matches!(taken.progress, Progress::More | Progress::Held);
            if buffer.len() > 2 * READ_BYTES {
                buffer.truncate(READ_BYTES);
                buffer.shrink_to_fit();
            }
            let more = full || taken.progress == Progress::More;
            Ok(Poll::Ready(if more { Input::Full } else { Input::Some }))
        })
    }

    /// Writes what the peer takes; true if it took something.
    fn poll_output(&mut self, cx: &mut Context<'_>, now: Now) -> io::Result<bool> {
        let mut written = false;
        while !self.session.output().is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.session.output().slices(&mut slices);
            let stream = Pin::new(&mut self.stream);
            match stream.poll_write_vectored(cx, &slices[..count])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => self.session.wrote(now, n),
                Poll::Pending => {
                    self.session.wrote(now, 0);
                    break;
                }
            }
            written = true;
        }
        Ok(written)
    }

    /// Sleeps until the session's next deadline. Ready once it was handled.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Now) -> Poll<()> {
        let Some(at) = self.session.next_deadline() else {
            return Poll::Pending;
        };
        match &mut self.timer {
            // A timer that rings too early finds nothing to do and is set again.
            Some((set, _)) if *set <= at => {}
            Some((set, timer)) => {
                timer.as_mut().reset(self.clock.instant(at));
                *set = at;
            }
            timer => {
                let sleep = Box::pin(tokio::time::sleep_until(self.clock.instant(at)));
                *timer = Some((at, sleep));
            }
        }
        let Some((_, timer)) = &mut self.timer else {
            return Poll::Pending;
        };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        let now = if at <= now.monotonic { now } else { self.clock.now() };
        borrow(&mut self.session, |session, loan| {
            session.handle_timeout(now, &mut loan.scratch);
        });
        Poll::Ready(())
    }
}

enum Input {
    /// The socket has no more.
    Some,
    /// There may be more.
    Full,
    Ended,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::link::Workspace;
    use crate::broker::{Broker, Entropy};
    use crate::config::Config;
    use crate::exchange::ExchangeTypes;
    use crate::id::{QueueId, Seq};
    use crate::queue::Load;
    use crate::session::Peer;
    use crate::store::MemoryDisk;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn what_queues_asked_of_a_turn_that_panicked_is_still_done() {
        let disk = MemoryDisk::new();
        let config = Config::on_loopback("unused");
        let broker =
            Broker::open(config, &disk, Entropy::new(|| [1; 16]), ExchangeTypes::core()).unwrap();
        let peer = Peer { name: "test".into(), is_loopback: true };
        let mut session = Session::new(broker.clone(), peer, Now::default());
        let turn = |_: &mut Session, loan: &mut Loan| {
            let runs = vec![(Seq(1), Seq(1))];
            loan.scratch.workspace.effects.loads.push(Load { queue: QueueId(7), runs });
            panic!("a turn goes wrong");
        };
        let turn = AssertUnwindSafe(|| borrow(&mut session, turn));
        assert!(catch_unwind(turn).is_err());
        assert!(broker.load(&disk, &mut Workspace::default()), "the load is wanted");
        let is_new = |loan: &mut Loan| loan.scratch.workspace.effects.loads.is_empty();
        assert!(borrow(&mut session, |_, loan| is_new(loan)), "the next turn has no part in it");
    }
}
