//! The command line: what it accepts, and how arguments and a configuration file make a `Config`.
//! Arguments win over the file, the file wins over the defaults.

mod check;
mod ctl;
mod environment;
mod perf;

pub(crate) use environment::unread_variables;

use clap::{Parser, Subcommand};
use leveret::config::{Config, ConfigError, LogLevel, Warning};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const LONG_ABOUT: &str = "\
A message broker that takes RabbitMQ's place under every AMQP 0-9-1 client.

Without arguments it listens on port 5672 of every interface and keeps its data in ./leveret-data. \
The user guest, password guest, may log in from this machine only.";

const AFTER_HELP: &str = "\
Examples:
  leveret
          Serve on port 5672, data in ./leveret-data
  leveret --bind 127.0.0.1 --bind ::1 --data-dir /var/lib/leveret
          Serve this machine only
  leveret --config /etc/rabbitmq/rabbitmq.conf --log-level debug
          Take over a RabbitMQ configuration, and say more
  leveret --amqp-port 0
          Take any free port; the log names it
  leveret check /var/lib/leveret
          Look for damage in the data of a broker that is stopped
  leveret ctl --data-dir /var/lib/leveret list_policies
          Ask the broker that runs on that directory

Signals:
  SIGTERM and SIGINT close all connections, write everything out and end the program. A second
  one does not wait for clients that do not answer.

Exit codes:
  0  stopped as asked
  1  failed while starting or running; the last line on standard error says why
  2  wrong arguments or configuration; nothing was started";

/// A message broker that takes RabbitMQ's place under every AMQP 0-9-1 client
#[derive(Debug, Parser)]
#[command(name = "leveret", version, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    /// Accept connections on this address [default: ::, every interface]
    ///
    /// May be given several times. The default takes IPv4 connections too; without IPv6 on the
    /// machine it is 0.0.0.0. Replaces all listeners of the configuration file.
    #[arg(long, value_name = "ADDRESS", value_parser = ip_address)]
    bind: Vec<IpAddr>,

    /// Accept AMQP connections on this port; 0 takes any free one [default: 5672]
    #[arg(long, value_name = "PORT")]
    amqp_port: Option<u16>,

    /// Keep everything that must survive here [default: leveret-data]
    ///
    /// Created if missing. One broker at a time uses it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Read settings from this file, in the format of rabbitmq.conf [default: none]
    ///
    /// Settings of RabbitMQ that have no effect here are named in the log; unknown ones are an
    /// error. $(NAME) in a value stands for an environment variable.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Log this and what is more severe: debug, info, warning, error, critical, none [default:
    /// info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What the program can do besides serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Check(check::CheckArgs),
    Ctl(ctl::CtlArgs),
    Perf(perf::PerfArgs),
}

impl Command {
    pub(crate) fn run(&self) -> ExitCode {
        match self {
            Self::Check(args) => match check::run(args) {
                Ok(code) => code,
                Err(error) => complain(&error, check::CANNOT_CHECK),
            },
            Self::Ctl(args) => ctl::run(args),
            Self::Perf(args) => match perf::run(args) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error, FAILED),
            },
        }
    }
}

pub(crate) const FAILED: u8 = 1;
pub(crate) const MISCONFIGURED: u8 = 2;

/// Says the last word, whatever the log level. With standard error closed the code alone says it.
pub(crate) fn complain(error: &dyn fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "leveret: {error}");
    code.into()
}

/// Says what is wrong with the arguments, or the help that was asked for.
pub(crate) fn explain(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    // With nobody to read it the code alone says it.
    let _ = error.print();
    let is_ctl = || arguments.skip(1).take(1).any(|argument| argument == "ctl");
    match error.use_stderr() {
        false => ExitCode::SUCCESS,
        true if is_ctl() => ctl::USAGE.into(),
        true => MISCONFIGURED.into(),
    }
}

/// Why there is no configuration to start with.
#[derive(Debug)]
pub(crate) enum CliError {
    Unreadable {
        file: PathBuf,
        error: io::Error,
    },
    /// The line has bytes that are not UTF-8.
    NotText {
        file: PathBuf,
        line: usize,
    },
    Config(ConfigError),
    /// The configuration leaves no address to listen on.
    ListensNowhere,
}

impl Cli {
    /// Puts defaults, file and arguments together.
    pub(crate) fn read_config(self) -> Result<(Config, Vec<Warning>), CliError> {
        let mut config = Config::default();
        let warnings = match &self.config {
            Some(file) => read_conf(&mut config, file)?,
            None => Vec::new(),
        };
        self.apply(&mut config);
        if config.amqp_listeners().is_empty() {
            return Err(CliError::ListensNowhere);
        }
        Ok((config, warnings))
    }

    /// The file that `--config` names.
    pub(crate) fn config_file(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    fn apply(self, config: &mut Config) {
        if !self.bind.is_empty() {
            config.bind = self.bind;
            config.extra_listeners.clear();
        }
        if let Some(port) = self.amqp_port {
            config.amqp_port = port;
            // The file may have said `listeners.tcp = none`; who names a port wants a listener.
            if config.bind.is_empty() {
                config.bind = Config::default().bind;
            }
        }
        if let Some(data_dir) = self.data_dir {
            config.data_dir = data_dir;
        }
        if let Some(log_level) = self.log_level {
            config.log_level = log_level;
        }
    }
}

fn ip_address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "give an IP address, such as 127.0.0.1 or ::1, not a name")
}

fn read_conf(config: &mut Config, file: &Path) -> Result<Vec<Warning>, CliError> {
    let bytes =
        fs::read(file).map_err(|error| CliError::Unreadable { file: file.to_owned(), error })?;
    let text = str::from_utf8(&bytes).map_err(|error| {
        let lines = bytes.iter().take(error.valid_up_to()).filter(|byte| **byte == b'\n');
        CliError::NotText { file: file.to_owned(), line: lines.count() + 1 }
    })?;
    let env = |name: &str| std::env::var(name).ok();
    let name = file.display().to_string();
    config.apply_conf(&name, text, &env).map_err(CliError::Config)
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => {
                let way_out = match error.kind() {
                    io::ErrorKind::NotFound => "give --config a file that is there",
                    io::ErrorKind::PermissionDenied => "let the user that runs leveret read it",
                    _ => "give --config another file",
                };
                write!(f, "cannot read the configuration {}: {error}; {way_out}", file.display())
            }
            Self::NotText { file, line } => {
                let file = file.display();
                write!(f, "{file}:{line}: there are bytes that are not UTF-8; save it as UTF-8")
            }
            Self::ListensNowhere => f.write_str(
                "listeners.tcp = none leaves no address to listen on, since listeners.ssl is not \
                 used yet; remove that line, or give --amqp-port",
            ),
            Self::Config(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &str, conf: &str) -> Config {
        let words = ["leveret"].into_iter().chain(arguments.split_whitespace());
        let mut config = Config::default();
        config.apply_conf("conf", conf, &|_| None).unwrap();
        Cli::try_parse_from(words).unwrap().apply(&mut config);
        config
    }

    fn listeners(config: &Config) -> Vec<String> {
        let listeners = config.amqp_listeners().into_iter();
        listeners.map(|address| address.to_string()).collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn arguments_win_over_the_file() {
        let conf = "listeners.tcp.1 = 10.0.0.1:1\nlisteners.tcp.2 = 10.0.0.1:2\n\
                    log.console.level = error\ndata_dir = from-file";
        let given = config("--bind ::1 --bind 127.0.0.1 --log-level debug", conf);
        assert_eq!(listeners(&given), ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(given.log_level, LogLevel::Debug);
        assert_eq!(given.data_dir.to_str(), Some("from-file"));
        let given = config("--data-dir d --amqp-port 0", "listeners.tcp = none");
        assert_eq!(listeners(&given), ["[::]:0"]);
        assert_eq!(given.data_dir.to_str(), Some("d"));
    }

    #[test]
    fn a_wrong_argument_is_a_usage_error() {
        for bad in ["--bind nowhere", "--amqp-port 65536", "--log-level loud", "serve"] {
            let words = ["leveret"].into_iter().chain(bad.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let cli = Cli::try_parse_from(["leveret", "--config", "no/such.conf"]).unwrap();
        let error = cli.read_config().unwrap_err().to_string();
        let expected = "cannot read the configuration no/such.conf: ";
        assert!(error.starts_with(expected), "{error}");
        assert!(error.ends_with("; give --config a file that is there"), "{error}");
    }

    /// What a program says of a configuration file with these bytes.
    fn refusal(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let path = file.path().to_str().unwrap();
        let cli = Cli::try_parse_from(["leveret", "--config", path]).unwrap();
        cli.read_config().unwrap_err().to_string().replace(path, "conf")
    }

    #[test]
    fn bytes_that_are_not_text_are_named_with_their_line() {
        let said = refusal(b"heartbeat = 10\n# caf\xc3\xa9\n# caf\xe9\n");
        assert_eq!(said, "conf:3: there are bytes that are not UTF-8; save it as UTF-8");
    }

    #[test]
    fn a_broker_that_would_listen_nowhere_is_not_started() {
        let said = refusal(b"listeners.tcp = none\nlisteners.ssl.default = 5671\n");
        assert!(said.starts_with("listeners.tcp = none leaves no address to listen on"), "{said}");
    }

    #[test]
    fn a_name_in_place_of_an_address_says_what_to_give() {
        let error = Cli::try_parse_from(["leveret", "--bind", "localhost"]).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("give an IP address, such as 127.0.0.1 or ::1"), "{said}");
    }
}
