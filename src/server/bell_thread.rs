//! Threads that sleep until a bell rings and then do what is due: the keeper, see `Broker::keep`,
//! the pager, see `Broker::relieve`, the reader, see `Broker::load`, and the ticker, see
//! `Broker::tick`, which also wakes up when something is due.
//!
//! One that panics ends the broker, as the store's thread does: without it memory or the disk would
//! fill up, or consumers wait for good, and nobody knows what it left half done.

use super::clock::{Clock, Jumps};
use super::{ServerError, panicked};
use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::limits::TICK_MS_MAX;
use crate::store::{Bell, Disk};
use crate::time::UnixMillis;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const KEEPER: &str = "leveret-keeper";
const PAGER: &str = "leveret-pager";
const READER: &str = "leveret-reader";
const TICKER: &str = "leveret-ticker";

pub(super) struct BellThread {
    name: &'static str,
    broker: Arc<Broker>,
    bell: fn(&Broker) -> &Bell,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What all of them need.
pub(super) struct Start {
    pub(super) broker: Arc<Broker>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: Clock,
    /// Is cancelled by one that panics.
    pub(super) failed: CancellationToken,
}

impl Start {
    pub(super) fn keeper(&self) -> io::Result<BellThread> {
        let disk = Arc::clone(&self.disk);
        let keep = move |broker: &Broker| {
            broker.keep(&*disk);
            None
        };
        self.thread(KEEPER, |broker| broker.journal().bell(), keep)
    }

    pub(super) fn pager(&self) -> io::Result<BellThread> {
        let disk = Arc::clone(&self.disk);
        let relieve = move |broker: &Broker| {
            broker.relieve(&*disk);
            None
        };
        self.thread(PAGER, |broker| broker.relief_bell(), relieve)
    }

    pub(super) fn reader(&self) -> io::Result<BellThread> {
        let (disk, clock) = (Arc::clone(&self.disk), self.clock);
        let mut workspace = Workspace::default();
        let load = move |broker: &Broker| {
            loop {
                workspace.effects.now = clock.now();
                if !broker.load(&*disk, &mut workspace) {
                    return None;
                }
            }
        };
        self.thread(READER, |broker| broker.loads_bell(), load)
    }

    pub(super) fn ticker(&self) -> io::Result<BellThread> {
        let clock = self.clock;
        let mut workspace = Workspace::default();
        let mut jumps = Jumps::default();
        let tick = move |broker: &Broker| {
            workspace.effects.now = clock.now();
            if let Some(jump_ms) = jumps.seen(workspace.effects.now) {
                log_jump(jump_ms);
            }
            let next = broker.tick(&mut workspace);
            Some(pause(next, clock.now().unix))
        };
        // What was restored may be due.
        self.broker.deadlines_bell().ring();
        self.thread(TICKER, |broker| broker.deadlines_bell(), tick)
    }

    /// `act` says for how long to sleep if the bell does not ring.
    fn thread(
        &self,
        name: &'static str,
        bell: fn(&Broker) -> &Bell,
        mut act: impl FnMut(&Broker) -> Option<Duration> + Send + 'static,
    ) -> io::Result<BellThread> {
        let broker = Arc::clone(&self.broker);
        let stopping = Arc::<AtomicBool>::default();
        let thread = std::thread::Builder::new().name(name.into()).spawn({
            let (broker, stopping) = (Arc::clone(&broker), Arc::clone(&stopping));
            let failed = self.failed.clone();
            move || {
                let guard = failed.drop_guard();
                let mut pause = None;
                loop {
                    match pause {
                        None => bell(&broker).wait(),
                        // There is much to do, and nobody else should have to wait for it.
                        Some(Duration::ZERO) => std::thread::yield_now(),
                        Some(pause) => bell(&broker).wait_for(pause),
                    }
                    if stopping.load(SeqCst) {
                        break;
                    }
                    pause = act(&broker);
                }
                drop(guard.disarm());
            }
        })?;
        Ok(BellThread { name, broker, bell, stopping, thread: Some(thread) })
    }
}

impl BellThread {
    /// Returns once it does nothing any more.
    ///
    /// # Errors
    /// If it had panicked.
    pub(super) fn stop(&mut self) -> Result<(), ServerError> {
        self.stopping.store(true, SeqCst);
        (self.bell)(&self.broker).ring();
        self.thread
            .take()
            .map_or(Ok(()), |thread| thread.join().map_err(|panic| panicked(self.name, &*panic)))
    }
}

impl Drop for BellThread {
    fn drop(&mut self) {
        if !std::thread::panicking()
            && let Err(error) = self.stop()
        {
            // Nobody else would be told.
            panic!("{error}");
        }
    }
}

fn log_jump(jump_ms: i64) {
    let (minutes, direction, effect) = match jump_ms {
        0.. => (jump_ms / 60_000, "forward", "expire or leave their delay at once"),
        _ => (jump_ms / -60_000, "back", "wait for longer than they should"),
    };
    tracing::warn!(
        "the system's clock was set {direction} by {minutes} minutes: messages with a time to live \
         or a delay {effect}"
    );
}

/// The system's clock may be set: however far the next time seems, it is looked at again soon.
fn pause(next: Option<UnixMillis>, now: UnixMillis) -> Duration {
    let ms = next.map_or(TICK_MS_MAX, |next| next.0.saturating_sub(now.0));
    Duration::from_millis(ms.min(TICK_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Entropy;
    use crate::config::Config;
    use crate::exchange::ExchangeTypes;
    use crate::store::MemoryDisk;

    #[test]
    fn a_thread_that_panics_says_so_at_once_and_when_it_is_stopped() {
        let disk = Arc::new(MemoryDisk::new());
        let config = Config::on_loopback("unused");
        let broker =
            Broker::open(config, &*disk, Entropy::new(|| [1; 16]), ExchangeTypes::core()).unwrap();
        let start = Start { broker, disk, clock: Clock::start(), failed: CancellationToken::new() };
        let bell: fn(&Broker) -> &Bell = |broker| broker.relief_bell();
        let mut calm = start.thread(KEEPER, bell, |_| None).unwrap();
        calm.stop().unwrap();
        assert!(!start.failed.is_cancelled());
        let mut thread = start.thread(PAGER, bell, |_| panic!("a page has no {}", "end")).unwrap();
        start.broker.relief_bell().ring();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(start.failed.cancelled());
        let error = thread.stop().unwrap_err().to_string();
        let expected = "stopped, since the thread leveret-pager panicked, which is a mistake in \
                        Leveret: a page has no end; what was confirmed is safe";
        assert_eq!(error, expected);
        thread.stop().expect("it is said once");
    }
}
