//! One AMQP connection during setup and teardown: handshake, one channel, request and reply.
//!
//! The load itself does not pass through here: publisher and consumer take the socket apart with
//! [`Connection::into_parts`] once the channel is ready.
use super::error::{PerfError, Result};
use super::frame::{
    CHANNEL_OPEN_OK, CONNECTION_CLOSE_OK, CONNECTION_OPEN_OK, CONNECTION_START, CONNECTION_TUNE,
    FRAME_MAX, MethodId, broker_refusal, first_frame, u16_at, u32_at,
};
use super::url::AmqpUrl;
use super::wire;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const CONNECT_MS_MAX: u64 = 5_000;
/// A broker may need long to bind thousands of keys or to delete a long queue.
const REPLY_MS_MAX: u64 = 60_000;

pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes read and not yet looked at.
    input: Vec<u8>,
    frame_max: u32,
}

impl Connection {
    pub(crate) fn open(url: &AmqpUrl, name: &str) -> Result<Self> {
        let stream = connect(url)?;
        let mut connection = Self { stream, input: Vec::new(), frame_max: FRAME_MAX };
        connection.shake_hands(url, name).map_err(|error| {
            error.inside(format_args!("open vhost {} at {}:{}", url.vhost, url.host, url.port))
        })?;
        Ok(connection)
    }

    pub(crate) fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Sends a request and returns the arguments of its reply.
    pub(crate) fn call(&mut self, request: &[u8], reply: MethodId) -> Result<Vec<u8>> {
        self.send(request)?;
        self.receive(reply)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(|error| {
            // The broker's reason for a closed connection may still be readable.
            self.receive(0).err().unwrap_or_else(|| lost(&error))
        })
    }

    /// The arguments of the next method, which must be `expected`.
    pub(crate) fn receive(&mut self, expected: MethodId) -> Result<Vec<u8>> {
        loop {
            if let Some(frame) = first_frame(&self.input)? {
                if let Some(refusal) = broker_refusal(&frame) {
                    return Err(refusal);
                }
                let wanted = frame.method() == Some(expected);
                let arguments = frame.payload.get(4..).unwrap_or_default().to_vec();
                let len = frame.len;
                self.input.drain(..len);
                if wanted {
                    return Ok(arguments);
                }
                continue;
            }
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(PerfError::new("the broker hung up")),
                Ok(read) => self.input.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// The socket, set to give up reads and writes after `wake`, and what it brought already.
    pub(crate) fn into_parts(self, wake: Duration) -> Result<(TcpStream, Vec<u8>)> {
        let wake = Some(wake);
        self.stream
            .set_read_timeout(wake)
            .and_then(|()| self.stream.set_write_timeout(wake))
            .map_err(|error| lost(&error))?;
        Ok((self.stream, self.input))
    }

    pub(crate) fn close(mut self) -> Result<()> {
        let mut request = Vec::new();
        wire::connection_close(&mut request);
        self.call(&request, CONNECTION_CLOSE_OK).map(drop)
    }

    fn shake_hands(&mut self, url: &AmqpUrl, name: &str) -> Result<()> {
        self.send(wire::PROTOCOL_HEADER)?;
        self.receive(CONNECTION_START)?;
        let mut out = Vec::new();
        wire::start_ok(&mut out, url, name);
        let tune = self.call(&out, CONNECTION_TUNE).map_err(|error| {
            error.inside(format_args!("log in as {} (user and password stand in --url)", url.user))
        })?;
        let channel_max = u16_at(&tune, 0).unwrap_or(0);
        // Zero means that the broker sets no limit.
        let offered = u32_at(&tune, 2).filter(|&size| size != 0).unwrap_or(FRAME_MAX);
        self.frame_max = offered.min(FRAME_MAX);
        out.clear();
        wire::tune_ok(&mut out, channel_max, self.frame_max);
        wire::open(&mut out, &url.vhost);
        self.call(&out, CONNECTION_OPEN_OK)?;
        out.clear();
        wire::channel_open(&mut out);
        self.call(&out, CHANNEL_OPEN_OK).map(drop)
    }
}

/// What a broken socket means to the reader.
pub(crate) fn lost(error: &std::io::Error) -> PerfError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => PerfError::new(format!(
            "the broker did not answer within {} s; is it blocked or overloaded?",
            REPLY_MS_MAX / 1000
        )),
        _ => PerfError::new(format!("the connection broke: {error}; look into the broker's log")),
    }
}

fn connect(url: &AmqpUrl) -> Result<TcpStream> {
    let place = format!("{}:{}", url.host, url.port);
    let failed = |reason: &dyn std::fmt::Display| {
        PerfError::new(format!(
            "cannot connect to {place}: {reason}; start the broker or correct --url"
        ))
    };
    let addresses =
        (url.host.as_str(), url.port).to_socket_addrs().map_err(|error| failed(&error))?;
    let mut last_error = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, Duration::from_millis(CONNECT_MS_MAX)) {
            Ok(stream) => {
                let reply_max = Some(Duration::from_millis(REPLY_MS_MAX));
                stream
                    .set_nodelay(true)
                    .and_then(|()| stream.set_read_timeout(reply_max))
                    .and_then(|()| stream.set_write_timeout(reply_max))
                    .map_err(|error| failed(&error))?;
                return Ok(stream);
            }
            Err(error) => last_error = Some(error),
        }
    }
    Err(match last_error {
        Some(error) => failed(&error),
        None => failed(&"the name has no address"),
    })
}
