//! The control socket: a Unix socket in the data directory on which an operator on this machine
//! asks the broker to do things. It carries lines; what they say is `broker::control`'s.
//!
//! Only the broker's own user (and root) can connect. Even so nothing here is unbounded: lines,
//! connections at a time, and how long one may take over a line.

mod durable;
mod socket;

pub use socket::{SOCKET_FILE, socket_path};

use crate::broker::Broker;
use crate::broker::link::Workspace;
use crate::limits::{CONTROL_CONNECTIONS_MAX, CONTROL_LINE_BYTES_MAX, CONTROL_LINE_MS_MAX};
use crate::server::clock::Clock;
use socket::Socket;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LINE_MS_MAX: Duration = Duration::from_millis(CONTROL_LINE_MS_MAX);

/// When the process has no file left for another connection, wait for one to close.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts until told to stop. A directory that can hold no socket leaves the broker without one,
/// which the log says: messages go on.
pub(super) fn listen(
    directory: &Path,
    broker: Arc<Broker>,
    clock: Clock,
    stop: CancellationToken,
) -> Option<impl Future<Output = ()> + use<>> {
    match Socket::bind(directory) {
        Ok(socket) => Some(accept(socket, broker, clock, stop)),
        Err(error) => {
            tracing::warn!("no control socket, so leveret ctl cannot reach this broker: {error}");
            None
        }
    }
}

async fn accept(socket: Socket, broker: Arc<Broker>, clock: Clock, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // Never closed, so there is always a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, socket.listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let broker = Arc::clone(&broker);
                connections.spawn(async move {
                    if let Err(error) = serve(stream, broker, clock).await {
                        tracing::debug!("a connection to the control socket ended: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!("cannot accept a control connection: {error}; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    // What was asked is carried out, but not answered any more.
    drop(socket);
    connections.shutdown().await;
}

/// Answers line after line, until the other end has no more or takes too long.
async fn serve(stream: UnixStream, broker: Arc<Broker>, clock: Clock) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Some(request) = timeout(LINE_MS_MAX, read_line(&mut read)).await?? {
        let line = answer(request, &broker, clock).await?;
        timeout(LINE_MS_MAX, write.write_all(line.as_bytes())).await??;
    }
    Ok(())
}

/// The next line without its end; `None` at the end of all.
async fn read_line(read: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut bounded = read.take(CONTROL_LINE_BYTES_MAX as u64 + 1);
    let len = bounded.read_until(b'\n', &mut line).await?;
    if len == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        let text = format!("a line must end, within {CONTROL_LINE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let line = String::from_utf8(line);
    line.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Carries a request out, and returns once what it changed is as safe as the broker keeps things.
async fn answer(request: String, broker: &Arc<Broker>, clock: Clock) -> io::Result<String> {
    let asked = Arc::clone(broker);
    let carried_out = move || {
        let mut workspace = Workspace::default();
        workspace.effects.now = clock.now();
        asked.control(&request, &mut workspace)
    };
    // It may take locks, and touch every queue there is.
    let answer = tokio::task::spawn_blocking(carried_out).await.map_err(io::Error::other)?;
    durable::reached(broker.journal(), answer.reach).await?;
    let mut line = answer.line;
    line.push('\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_read_within_bounds() {
        let mut lines: &[u8] = b"one\n\ntwo\n";
        let mut next = async || read_line(&mut lines).await.unwrap();
        assert_eq!(next().await.as_deref(), Some("one"));
        assert_eq!(next().await.as_deref(), Some(""));
        assert_eq!(next().await.as_deref(), Some("two"));
        assert_eq!(next().await, None);
        let longest = [&vec![b'x'; CONTROL_LINE_BYTES_MAX][..], b"\n"].concat();
        let read = read_line(&mut &*longest).await.unwrap();
        assert_eq!(read.map(|line| line.len()), Some(CONTROL_LINE_BYTES_MAX));
        let too_long = [b"x", &*longest].concat();
        for bad in [&too_long[..], b"cut", b"\xff\n"] {
            let error = read_line(&mut &*bad).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
    }
}
