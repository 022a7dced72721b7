//! The other end of the control socket.

use leveret::server::control::socket_path;
use serde_json::{Map, Value};
use std::fmt;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Exit codes, as rabbitmqctl's (sysexits).
const NO_VHOST: u8 = 65;
const UNAVAILABLE: u8 = 69;
const SOFTWARE: u8 = 70;

/// Why a command was not carried out.
#[derive(Debug)]
pub(super) enum CtlError {
    NoBroker {
        data_dir: PathBuf,
        why: &'static str,
    },
    /// There seems to be one, but it cannot be asked.
    Unreachable {
        data_dir: PathBuf,
        why: String,
    },
    /// The broker says no.
    Refused {
        kind: String,
        text: String,
    },
    /// What came is no answer.
    Senseless {
        data_dir: PathBuf,
        answer: String,
    },
}

impl CtlError {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Refused { kind, .. } if kind == "no_vhost" => NO_VHOST,
            Self::Refused { kind, .. } if kind == "bad_request" => SOFTWARE,
            Self::NoBroker { .. } | Self::Unreachable { .. } | Self::Refused { .. } => UNAVAILABLE,
            Self::Senseless { .. } => SOFTWARE,
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBroker { data_dir, why } => {
                writeln!(f, "leveret: no broker runs on {}: {why}", data_dir.display())
            }
            Self::Unreachable { data_dir, why } => {
                writeln!(f, "leveret: cannot ask the broker on {}: {why}", data_dir.display())
            }
            // As rabbitmqctl says it, line by line.
            Self::Refused { kind, text } if kind == "no_vhost" => writeln!(f, "{text}"),
            Self::Refused { kind, text } if kind == "invalid" => {
                writeln!(f, "Error:\nValidation failed\n\n{text}\n")
            }
            Self::Refused { text, .. } => writeln!(f, "Error:\n{text}"),
            Self::Senseless { data_dir, answer } => {
                let data_dir = data_dir.display();
                writeln!(
                    f,
                    "leveret: the broker on {data_dir} answers what makes no sense: {answer}"
                )
            }
        }
    }
}

pub(super) struct Client {
    data_dir: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(super) fn connect(data_dir: &Path, timeout: Duration) -> Result<Self, CtlError> {
        let connect = || {
            let stream = UnixStream::connect(socket_path(data_dir))?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| unreachable(data_dir, &error))?;
        Ok(Self { data_dir: data_dir.to_owned(), stream: BufReader::new(stream) })
    }

    /// Sends a request, and returns the value of its answer.
    pub(super) fn ask(&mut self, request: &Value) -> Result<Value, CtlError> {
        let mut answer = String::new();
        let exchanged = writeln!(self.stream.get_mut(), "{request}")
            .and_then(|()| self.stream.read_line(&mut answer));
        exchanged.map_err(|error| unreachable(&self.data_dir, &error))?;
        if answer.is_empty() {
            let why = "it has closed the connection without an answer; its log may say why";
            return Err(CtlError::Unreachable { data_dir: self.data_dir.clone(), why: why.into() });
        }
        self.read(&answer)
    }

    fn read(&self, answer: &str) -> Result<Value, CtlError> {
        let parsed = serde_json::from_str::<Map<String, Value>>(answer);
        let mut fields = parsed.unwrap_or_default();
        if let Some(value) = fields.remove("ok") {
            return Ok(value);
        }
        let text = |name| fields.get("error")?.get(name)?.as_str().map(str::to_owned);
        match (text("kind"), text("text")) {
            (Some(kind), Some(text)) => Err(CtlError::Refused { kind, text }),
            _ => {
                let answer = answer.trim_end().escape_debug().take(200).collect();
                Err(CtlError::Senseless { data_dir: self.data_dir.clone(), answer })
            }
        }
    }
}

fn unreachable(data_dir: &Path, error: &io::Error) -> CtlError {
    let data_dir = data_dir.to_owned();
    let why = match error.kind() {
        ErrorKind::NotFound => {
            let why =
                "there is no control socket; start one, or name its directory with --data-dir";
            return CtlError::NoBroker { data_dir, why };
        }
        ErrorKind::ConnectionRefused => {
            let why = "the last one has ended without a clean stop; start it";
            return CtlError::NoBroker { data_dir, why };
        }
        ErrorKind::PermissionDenied => {
            "only the user that it runs as may, and root; run this command as one of them".into()
        }
        ErrorKind::NotADirectory => {
            "that is no directory; name the broker's with --data-dir".into()
        }
        ErrorKind::InvalidInput => {
            "the path of its socket is too long; use a shorter or a relative --data-dir".into()
        }
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            "it does not answer in time; see --timeout".into()
        }
        _ => error.to_string(),
    };
    CtlError::Unreachable { data_dir, why }
}
