//! `leveret check`: what is wrong in a data directory, one line each. What there is to find is in
//! `store::check`.

use clap::Args;
use leveret::config::LogLevel;
use leveret::limits::INDEX_PAGE_LEN;
use leveret::server::log;
use leveret::store::{
    self, Accepted, Disk as _, Durability, Finding, Options, RealDisk, Repair, Report, Severity,
    StoreError, accept_loss, repair,
};
use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

const DAMAGED: u8 = 1;

/// Nothing can be said: no such directory, no permission, or a broker runs on it.
pub(crate) const CANNOT_CHECK: u8 = 2;

const LONG_ABOUT: &str = "\
Look for damage in a data directory whose broker is stopped, and say where it is.

Reads every byte that counts: journal, indexes, snapshot, catalogue and all messages. Changes \
nothing, unless --repair is given.";

const AFTER_HELP: &str = "\
Severities:
  damage   something that was stored is lost; a copy of the file may have it
  held     the same, and a start goes on: it holds the queues that may have lost something
  mended   the next start or checkpoint puts it right by itself
  note     worth knowing, no more

Exit codes:
  0  nothing is damaged
  1  something is
  2  could not look: no such directory, no permission, or a broker runs on it";

/// Look for damage in a data directory whose broker is stopped
#[derive(Args, Debug)]
#[command(long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
pub(crate) struct CheckArgs {
    /// The data directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Make the catalogue anew from snapshot and journal, then look again
    ///
    /// Refused if the journal is damaged so that a start is refused. The catalogue before is kept
    /// aside.
    #[arg(long)]
    repair: bool,

    /// Give up what cannot be read, so that a broker can start again
    ///
    /// Loses messages, and definitions if they were hit; says what, a line each. Each damaged file
    /// is kept as it was beside the one that is used, as FILE.broken-1. Queues that a start can
    /// hold are held all the same.
    #[arg(long, requires = "repair")]
    accept_loss: bool,

    /// Print damage only, and no summary
    #[arg(long, short)]
    quiet: bool,
}

/// Why nothing can be said.
#[derive(Debug)]
pub(crate) enum CheckError {
    Store(StoreError),
    /// No random number for the journal.
    Entropy(getrandom::Error),
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Entropy(error) => write!(f, "cannot get a random number: {error}"),
        }
    }
}

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, CheckError> {
    // What a start would log about the same finding is in the report already.
    log::install(if args.quiet { LogLevel::None } else { LogLevel::Error });
    let disk = RealDisk::open_to_read(&args.directory)?;
    if !args.repair {
        return Ok(print(args, &store::check(&disk, INDEX_PAGE_LEN)?));
    }
    // The directory is there and one of ours; now it may be written to.
    drop(disk);
    let disk = RealDisk::open(&args.directory)?;
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(CheckError::Entropy)?;
    let options = Options::new(Durability::Fsync, u64::from_ne_bytes(salt));
    if args.accept_loss {
        let Accepted { given_up, report } = accept_loss(&disk, &options)?;
        given_up.iter().for_each(|lost| say(&format!("given up: {lost}")));
        return Ok(print(args, &report));
    }
    let before = store::check(&disk, INDEX_PAGE_LEN)?;
    let is_mended = |finding: &Finding| finding.severity == Severity::Mended;
    if !before.is_damaged() && !before.findings.iter().any(is_mended) {
        tell(args, "nothing was changed: there is nothing to repair");
        return Ok(print(args, &before));
    }
    let known = disk.broken_catalogues()?;
    match repair(&disk, &options)? {
        Repair::Done(report) => {
            let aside = disk.broken_catalogues()?.pop().filter(|name| !known.contains(name));
            let aside = aside.map(|name| format!("; the one before is {name}")).unwrap_or_default();
            let done = "the catalogue was made anew from snapshot and journal";
            tell(args, &format!("{done}{aside}"));
            Ok(print(args, &report))
        }
        Repair::Refused(report) => {
            let code = print(args, &report);
            let why = "nothing was changed: the journal is damaged, and a new catalogue would \
                       not bring back what is lost; restore the files above from a copy, or give \
                       up what is lost with --repair --accept-loss";
            say(&format!("{}: {why}", args.directory.display()));
            Ok(code)
        }
    }
}

/// What was done, unless only damage is asked for.
fn tell(args: &CheckArgs, what: &str) {
    if !args.quiet {
        say(&format!("{}: {what}", args.directory.display()));
    }
}

fn print(args: &CheckArgs, report: &Report) -> ExitCode {
    let mut findings: Vec<_> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.severity);
    for finding in findings {
        if matches!(finding.severity, Severity::Damage | Severity::Held) || !args.quiet {
            say(&finding.to_string());
        }
    }
    let damaged = report.is_damaged();
    if !args.quiet {
        let verdict = if damaged { "damaged" } else { "sound" };
        say(&format!("{} is {verdict}: {}", args.directory.display(), report.totals));
    }
    if damaged { DAMAGED.into() } else { ExitCode::SUCCESS }
}

/// With standard output closed the code alone says it.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
