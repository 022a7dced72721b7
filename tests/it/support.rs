//! A broker to test against, inside this process, and how to wait.
//!
//! Each broker has a runtime of its own, whose threads bear its name: a panic in one of them fails
//! the test that owns the broker, although tokio catches it.

use leveret::broker::Broker;
use leveret::queue::Queue;
use leveret::server::ServerError;
use leveret::store::{Disk, MemoryDisk};
use leveret::{Config, Server};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Nothing that a test waits for takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// How a broker's life ends.
enum End {
    /// In good order.
    Stop,
    /// As if its process were killed; what waits for the disk is still written.
    Drop,
}

type Stopped = Result<(), ServerError>;

/// A running broker. Dropping it is its end as by a crash.
pub(crate) struct TestBroker {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) broker: Arc<Broker>,
    name: String,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<Stopped>>,
}

impl TestBroker {
    /// Leaves nothing behind.
    pub(crate) fn start() -> Self {
        Self::on(Arc::new(MemoryDisk::new()))
    }

    pub(crate) fn on(disk: Arc<dyn Disk>) -> Self {
        let config = Config::on_loopback("unused");
        Self::run(move || Server::start_on(config, disk)).unwrap()
    }

    pub(crate) fn in_directory(directory: &Path) -> Self {
        let config = Config::on_loopback(directory);
        Self::run(move || Server::start(config)).unwrap()
    }

    /// Runs what `start` makes in a thread and a runtime of its own.
    pub(crate) fn run(
        start: impl FnOnce() -> Result<Server, ServerError> + Send + 'static,
    ) -> Result<Self, ServerError> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        watch_panics();
        let name = format!("broker {}", STARTED.fetch_add(1, Ordering::Relaxed));
        let (end, ended) = oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn({
                let name = name.clone();
                move || serve(&name, start, &tell, ended)
            })
            .unwrap();
        let Ok((address, url, broker)) = told.recv() else {
            let refused = thread.join().expect("starting does not panic");
            return Err(refused.expect_err("a broker that starts says so"));
        };
        Ok(Self { address, url, broker, name, end: Some(end), thread: Some(thread) })
    }

    /// Ends it in good order.
    pub(crate) fn stop(mut self) -> Stopped {
        self.finish(End::Stop)
    }

    /// As `stop`, while the clients of this runtime go on.
    pub(crate) async fn stopped(self) -> Stopped {
        tokio::task::spawn_blocking(|| self.stop()).await.unwrap()
    }

    /// Returns once it has ended by itself.
    pub(crate) fn ended(mut self) -> Stopped {
        wait_until("the broker to end", || self.thread.as_ref().unwrap().is_finished());
        self.finish(End::Drop)
    }

    fn finish(&mut self, how: End) -> Stopped {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // It may have ended by itself.
        let _ = self.end.take().unwrap().send(how);
        let stopped = thread.join();
        self.assert_sound();
        stopped.expect("the broker's own thread panicked")
    }

    /// The queue of that name in the default vhost.
    pub(crate) fn queue(&self, name: &str) -> Arc<Queue> {
        let vhost = self.broker.vhost("/").unwrap();
        vhost.queue(name).unwrap_or_else(|| panic!("no queue {name}"))
    }

    pub(crate) fn ready(&self, queue: &str) -> u64 {
        self.queue(queue).counters.ready.get()
    }

    /// Fails if a thread of this broker has panicked.
    pub(crate) fn assert_sound(&self) {
        let panics = panics();
        let ours: Vec<_> = panics.iter().filter(|p| p.thread == self.name).collect();
        assert!(ours.is_empty(), "the broker panicked: {ours:#?}");
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test has failed, and says why better than we could.
            drop(self.end.take());
        } else {
            // What a store that failed says was looked at by those who made it fail.
            let _ = self.finish(End::Drop);
        }
    }
}

type Started = (SocketAddr, String, Arc<Broker>);

fn serve(
    name: &str,
    start: impl FnOnce() -> Result<Server, ServerError>,
    tell: &mpsc::Sender<Started>,
    ended: oneshot::Receiver<End>,
) -> Stopped {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = start()?;
        let broker = Arc::clone(server.broker());
        tell.send((server.addresses()[0], server.amqp_url(), broker)).unwrap();
        tokio::select! {
            end = ended => match end {
                Ok(End::Stop) => server.stop().await,
                Ok(End::Drop) | Err(_) => Ok(()),
            },
            () = server.failed() => server.stop().await,
        }
    })
}

#[derive(Clone, Debug)]
struct Panic {
    thread: String,
    #[expect(dead_code, reason = "shown by a failing test")]
    message: String,
}

static PANICS: Mutex<Vec<Panic>> = Mutex::new(Vec::new());

fn panics() -> MutexGuard<'static, Vec<Panic>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes every panic of the process with its thread's name, and says it as before.
fn watch_panics() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            panics().push(Panic {
                thread: thread.name().unwrap_or_default().to_owned(),
                message: panic.to_string(),
            });
            before(panic);
        }));
    });
}

/// Waits for a condition that somebody else brings about.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// As `wait_until`, for a test whose clients run on the same runtime.
pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The future's outcome, which must come in time.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Bytes that repeat nowhere within a frame, and differ by `seed`.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    });
    words.flatten().take(len).collect()
}
