//! The shell around the broker: the only place with tokio, clocks, sockets, threads and signals.
//!
//! `Server` is also the embedding API: it starts a broker inside any tokio program, several at once
//! if need be, and leaves nothing global behind.

mod alarms;
mod bell_thread;
mod clock;
mod connection;
pub mod control;
mod listener;
pub mod log;
mod memory;
mod store_thread;

use crate::broker::{Broker, Entropy, StartError};
use crate::config::Config;
use crate::exception::Exception;
use crate::exchange::ExchangeTypes;
use crate::store::{Disk, RealDisk, StoreError};
use alarms::Lookout;
use bell_thread::BellThread;
use clock::Clock;
use std::any::Any;
use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use store_thread::StoreThread;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long clients have to answer connection.close at shutdown. Nothing that they were promised
/// depends on it.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a server did not start, or stopped by itself.
#[derive(Debug)]
pub enum ServerError {
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    Runtime(io::Error),
    Entropy(String),
    Start(StartError),
    /// The store failed: nothing more can be confirmed.
    Store(StoreError),
    /// A thread that the broker cannot do without.
    Panicked {
        thread: &'static str,
        sentence: String,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(
                f,
                "cannot listen on {address}: {error}; choose another address or port with --bind \
                 or --amqp-port"
            ),
            Self::Runtime(error) => write!(f, "cannot start threads: {error}"),
            Self::Entropy(error) => write!(f, "the system gives no random bytes: {error}"),
            Self::Start(error) => {
                let way_out = match error {
                    StartError::Store(error) => start_way_out(error),
                    _ => None,
                };
                write!(f, "{error}{}", way_out.map(|it| format!("; {it}")).unwrap_or_default())
            }
            Self::Store(error) => write!(f, "stopped, since the store failed: {error}"),
            Self::Panicked { thread, sentence } => write!(
                f,
                "stopped, since the thread {thread} panicked, which is a mistake in Leveret: \
                 {sentence}; what was confirmed is safe"
            ),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<StartError> for ServerError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

/// What an operator can do about an error of the system that is not about one file alone.
fn way_out(error: &io::Error) -> Option<&'static str> {
    /// EMFILE: too many in the process; ENFILE: in the machine.
    const NO_FILES: [i32; 2] = [24, 23];
    let is_shortage = error.raw_os_error().is_some_and(|code| NO_FILES.contains(&code));
    is_shortage.then_some("raise the limit on open files (ulimit -n, LimitNOFILE= of a service)")
}

/// The same for a data directory that cannot be used.
fn start_way_out(error: &StoreError) -> Option<&'static str> {
    let Some(source) = std::error::Error::source(error) else {
        let is_file = error.reason() == "it is not a directory";
        return is_file.then_some("choose another with --data-dir");
    };
    let source: &io::Error = source.downcast_ref()?;
    match source.kind() {
        io::ErrorKind::PermissionDenied => Some(
            "let the user that runs leveret write there, or choose another directory with \
             --data-dir",
        ),
        io::ErrorKind::NotADirectory | io::ErrorKind::NotFound => {
            Some("choose another directory with --data-dir")
        }
        _ => way_out(source),
    }
}

/// What a thread says that panicked.
fn panicked(thread: &'static str, panic: &(dyn Any + Send)) -> ServerError {
    let sentence = panic.downcast_ref::<String>().map(String::as_str);
    let sentence = sentence.or_else(|| panic.downcast_ref::<&str>().copied());
    ServerError::Panicked { thread, sentence: sentence.unwrap_or("without a word").to_owned() }
}

/// Serves until SIGTERM or SIGINT, or until the store or a thread fails.
///
/// # Errors
/// Why it did not start, or what ended it.
pub fn run(config: Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    runtime.block_on(async {
        let server = Server::start(config)?;
        // Before anybody knows that it serves: a signal that comes earlier would kill it.
        let mut signals = Signals::listen();
        announce(&server);
        tokio::select! {
            name = signals.next() => tracing::info!("stopping: asked to by {name}"),
            () = server.failed() => {}
        }
        let abort = server.abort.clone();
        let hurry = tokio::spawn(async move {
            let name = signals.next().await;
            tracing::info!("asked to by {name} again: clients are not waited for");
            abort.cancel();
        });
        let stopped = server.stop().await;
        hurry.abort();
        if stopped.is_ok() {
            tracing::info!("stopped: everything is written");
        }
        stopped
    })
}

/// Says where it listens, once it does. Standard output may be closed; the log says it too.
fn announce(server: &Server) {
    let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
    let addresses =
        if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
    let line = format!("Server startup complete; AMQP on {addresses}");
    tracing::info!("{line}");
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The signals that ask it to stop.
struct Signals(Option<(Signal, Signal)>);

impl Signals {
    /// Listens from now on.
    fn listen() -> Self {
        let terminate = signal(SignalKind::terminate()).ok();
        Self(terminate.zip(signal(SignalKind::interrupt()).ok()))
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        let Some((terminate, interrupt)) = &mut self.0 else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}

/// A running broker. Dropping it stops it at once, as a crash would, but for what was confirmed;
/// `stop` ends it in good order.
pub struct Server {
    broker: Arc<Broker>,
    clock: Clock,
    addresses: Vec<SocketAddr>,
    listeners: JoinSet<()>,
    /// No new connections.
    stop: CancellationToken,
    /// No connections.
    abort: CancellationToken,
    /// One of the threads cannot go on.
    failed: CancellationToken,
    /// Stopped before the store is.
    ticker: BellThread,
    reader: BellThread,
    pager: BellThread,
    keeper: BellThread,
    store: StoreThread,
}

impl Server {
    /// Starts a broker on the configured directory and addresses. Must be called inside a tokio
    /// runtime; it accepts when this returns.
    ///
    /// # Errors
    /// What is wrong with the directory, the configuration or an address.
    pub fn start(config: Config) -> Result<Self, ServerError> {
        let disk = RealDisk::open(&config.data_dir).map_err(StartError::Store)?;
        let mut server = Self::start_on(config, Arc::new(disk))?;
        let (broker, stop) = (Arc::clone(&server.broker), server.stop.clone());
        let directory = &server.broker.config.data_dir;
        if let Some(control) = control::listen(directory, broker, server.clock, stop) {
            server.listeners.spawn(control);
        }
        Ok(server)
    }

    /// As `start`, on any disk: `MemoryDisk` for a broker that leaves nothing behind.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_on(config: Config, disk: Arc<dyn Disk>) -> Result<Self, ServerError> {
        Self::start_with(config, disk, ExchangeTypes::built_in())
    }

    /// As `start_on`, with other exchange types than those that come with Leveret.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(
        config: Config,
        disk: Arc<dyn Disk>,
        exchange_types: ExchangeTypes,
    ) -> Result<Self, ServerError> {
        let listeners: Result<Vec<_>, _> = config
            .amqp_listeners()
            .into_iter()
            .map(|address| {
                listener::bind(address, &config)
                    .map_err(|error| ServerError::Listen { address, error })
            })
            .collect();
        let listeners = listeners?;
        let mut probe = [0; 16];
        getrandom::fill(&mut probe).map_err(|error| ServerError::Entropy(error.to_string()))?;
        let broker = Broker::open(config, &*disk, Entropy::new(random_octets), exchange_types)?;
        let failed = CancellationToken::new();
        let clock = Clock::start();
        let start = bell_thread::Start {
            broker: Arc::clone(&broker),
            disk: Arc::clone(&disk),
            clock,
            failed: failed.clone(),
        };
        let keeper = start.keeper().map_err(ServerError::Runtime)?;
        let pager = start.pager().map_err(ServerError::Runtime)?;
        let reader = start.reader().map_err(ServerError::Runtime)?;
        let ticker = start.ticker().map_err(ServerError::Runtime)?;
        let mut lookout = Lookout::new(Arc::clone(&broker), &disk);
        // Before anybody can publish.
        let pause = lookout.look();
        lookout.log_resources();
        let store = StoreThread::start(Arc::clone(&broker), disk, failed.clone())
            .map_err(ServerError::Runtime)?;
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let addresses = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(lookout.run(pause, stop.clone()));
        for listener in listeners {
            let (stop, abort) = (stop.clone(), abort.clone());
            tasks.spawn(listener::accept(listener, Arc::clone(&broker), clock, stop, abort));
        }
        Ok(Self {
            broker,
            clock,
            addresses,
            listeners: tasks,
            stop,
            abort,
            failed,
            ticker,
            reader,
            pager,
            keeper,
            store,
        })
    }

    /// Where it accepts AMQP.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// A URL for the default user and vhost.
    #[must_use]
    pub fn amqp_url(&self) -> String {
        let config = &self.broker.config;
        let address = self.addresses.first().map(ToString::to_string).unwrap_or_default();
        let vhost = config.default_vhost.replace('/', "%2f");
        format!("amqp://{}:{}@{address}/{vhost}", config.default_user, config.default_pass.0)
    }

    /// The broker inside, to look at.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Returns when the store has failed, or a thread that the broker cannot do without.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Closes all connections with 320, writes everything out and ends.
    ///
    /// # Errors
    /// The store's or that of a thread, if it failed meanwhile or before.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        self.stop.cancel();
        self.broker.close_connections(&Exception::shutdown());
        let drained = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            self.abort.cancel();
            while self.listeners.join_next().await.is_some() {}
        }
        let threads = [&mut self.ticker, &mut self.reader, &mut self.pager, &mut self.keeper];
        let stopped = threads.map(BellThread::stop).into_iter().collect();
        match stopped {
            Ok(()) => self.store.stop(),
            // Queues may be half changed: a start believes the journal, not a last checkpoint.
            Err(panicked) => self.store.end().and(Err(panicked)),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

/// # Panics
/// If the system that gave random bytes at start gives none any more.
fn random_octets() -> [u8; 16] {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).expect("the system gave random bytes when the broker started");
    octets
}
