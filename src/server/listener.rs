//! Accepts connections.

use super::clock::Clock;
use super::{connection, way_out};
use crate::broker::Broker;
use crate::config::Config;
use crate::exception::Exception;
use crate::session::{Peer, Session};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// When the process has no file left for another connection, wait for one to close.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds one address. `[::]` takes IPv4 too, and becomes `0.0.0.0` on a machine without IPv6.
pub(super) fn bind(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let bound = bind_socket(address, config);
    match bound {
        Err(error)
            if address.ip().is_unspecified()
                && address.is_ipv6()
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            let v4 = IpAddr::from(Ipv4Addr::UNSPECIFIED);
            bind_socket(SocketAddr::new(v4, address.port()), config)
        }
        bound => bound,
    }
}

fn bind_socket(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// How often the log says that connections cannot be accepted, while it is so.
const SHORTAGE_LINE: Duration = Duration::from_secs(60);

/// When the log last said so.
#[derive(Default)]
struct Shortage(Option<Instant>);

impl Shortage {
    /// Whether this failure is worth a line.
    fn is_news(&mut self, now: Instant) -> bool {
        let is_news = self.0.is_none_or(|said| now.duration_since(said) >= SHORTAGE_LINE);
        if is_news {
            self.0 = Some(now);
        }
        is_news
    }
}

fn log_shortage(error: &io::Error) {
    let way_out = way_out(error).unwrap_or("clients have to try again");
    tracing::error!("cannot accept connections, trying ten times a second: {error}; {way_out}");
}

/// Accepts until told to stop, then waits for the connections to end.
pub(super) async fn accept(
    listener: TcpListener,
    broker: Arc<Broker>,
    clock: Clock,
    stop: CancellationToken,
    abort: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut shortage = Shortage::default();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(task) = start(stream, peer, &broker, clock, &stop) {
                    connections.spawn(task);
                }
            }
            Err(error) => {
                if shortage.is_news(Instant::now()) {
                    log_shortage(&error);
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = abort.cancelled() => connections.shutdown().await,
        () = async { while connections.join_next().await.is_some() {} } => {}
    }
}

fn start(
    stream: TcpStream,
    peer: SocketAddr,
    broker: &Arc<Broker>,
    clock: Clock,
    stop: &CancellationToken,
) -> Option<impl Future<Output = ()> + use<>> {
    let local = stream.local_addr().ok()?;
    // A socket that is closed already will say so when it is read.
    let _ = stream.set_nodelay(broker.config.tcp_nodelay);
    let (peer, local) = (canonical(peer), canonical(local));
    let name = format!("{peer} -> {local}");

    let peer = Peer { name, is_loopback: peer.ip().is_loopback() };
    let session = Session::new(Arc::clone(broker), peer, clock.now());
    if stop.is_cancelled() {
        // It came too late to be among those who are told of the shutdown.
        session.inbox().close(Exception::shutdown());
    }
    Some(connection::serve(stream, session, clock))
}

/// An IPv4 address that came through an IPv6 socket is an IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_that_lasts_is_a_line_a_minute() {
        let mut shortage = Shortage::default();
        let start = Instant::now();
        let tries = (0..1800).map(|nth| start + ACCEPT_RETRY * nth);
        assert_eq!(tries.filter(|at| shortage.is_news(*at)).count(), 3);
    }
}
