//! The program itself, as its own process.

use crate::support::{PATIENCE, wait_until};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

fn leveret() -> Command {
    Command::new(env!("CARGO_BIN_EXE_leveret"))
}

/// A broker process. Dropping it kills it.
pub(crate) struct Program {
    pub(crate) address: SocketAddr,
    child: Child,
    /// Open, so that what the program says there finds a reader.
    _stdout: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it, and returns once it serves.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    /// As `start`, with further arguments.
    pub(crate) fn start_with(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = leveret()
            .args(["--amqp-port", "0", "--bind", "127.0.0.1", "--log-level", "none"])
            .arg("--data-dir")
            .arg(data_dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .trim_end()
            .strip_prefix("Server startup complete; AMQP on ")
            .unwrap_or_else(|| panic!("not where it listens: {line:?}"));
        Self { address: address.parse().unwrap(), child, _stdout: stdout }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(sent.success(), "{kill}");
    }

    /// Waits for it to end by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        wait_until("the program to end", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended, and its test with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it to its end, which must come soon.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let mut child = leveret()
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    // What it says fits into the pipes.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("leveret {arguments:?} goes on");
        }
        std::thread::yield_now();
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    Output { status, stdout, stderr }
}
