//! `leveret ctl`: asks the broker that runs on a data directory, over its control socket. Commands,
//! arguments, output and exit codes are rabbitmqctl's, so that its scripts go on working.

mod client;
mod deduplication;
mod delayed;
mod held;
mod policies;
mod table;

use clap::{Args, Subcommand, ValueEnum};
use client::{Client, CtlError};
use serde_json::Value;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Wrong arguments (sysexits, as rabbitmqctl).
pub(crate) const USAGE: u8 = 64;

const LONG_ABOUT: &str = "\
Ask a running broker, as rabbitmqctl does.

Reaches it over the socket control.sock in its data directory, which only the broker's own user \
may use.";

const AFTER_HELP: &str = "\
Examples:
  leveret ctl set_policy --priority 1 --apply-to queues limits '^work\\.' '{\"max-length\":10000}'
  leveret ctl list_policies --formatter json
  leveret ctl -p staging clear_policy limits

Exit codes:
  0   done
  64  wrong arguments
  65  no such virtual host
  69  refused, or no broker runs on the directory
  70  the answer makes no sense";

/// Ask a running broker, as rabbitmqctl does
#[derive(Args, Debug)]
#[command(long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Args, Debug)]
struct Options {
    /// The data directory of the broker
    #[arg(long, value_name = "DIR", default_value = "leveret-data", global = true)]
    data_dir: PathBuf,

    /// The virtual host
    #[arg(short = 'p', long, value_name = "VHOST", default_value = "/", global = true)]
    vhost: String,

    /// Print results only
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Print results only, and no heads of tables
    #[arg(short, long, global = true)]
    silent: bool,

    /// Print no heads of tables
    #[arg(long, global = true)]
    no_table_headers: bool,

    /// How to print results
    #[arg(long, value_enum, default_value = "table", global = true)]
    formatter: Formatter,

    /// Give up after this many seconds
    #[arg(short, long, value_name = "SECONDS", default_value = "60", global = true,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Formatter {
    Table,
    Json,
    Csv,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
enum Command {
    /// Set a policy, in place of the one of that name
    SetPolicy(policies::SetPolicy),
    /// Clear a policy, and what it set
    ClearPolicy(policies::ClearPolicy),
    /// List the policies
    ListPolicies,
    /// Set an operator policy, which limits what policies and arguments ask for
    SetOperatorPolicy(policies::SetPolicy),
    /// Clear an operator policy, and what it limited
    ClearOperatorPolicy(policies::ClearPolicy),
    /// List the operator policies
    ListOperatorPolicies,
    /// List the messages that wait in a delayed exchange, the next first
    ListDelayed(delayed::ListDelayed),
    /// Cancel a message that waits in a delayed exchange
    CancelDelayed(delayed::CancelDelayed),
    /// Let a message that waits in a delayed exchange wait until another time
    RescheduleDelayed(delayed::RescheduleDelayed),
    /// List the queues and exchanges that leave out duplicates: the keys that each remembers, and
    /// how many duplicates it has left out since the start
    ListDeduplication,
    /// List the queues that are held since damage may have hit them, or of which messages cannot be
    /// read, and where that is
    ListHeldQueues,
    /// Let a held queue go on with the messages that are there, or give up those that cannot be
    /// read
    ReleaseQueue(held::ReleaseQueue),
}

/// One question to the broker, and how its answer is printed.
struct Question {
    /// What is done, as it is said beforehand.
    banner: String,
    /// The request.
    request: Value,
    /// The columns of a list; none if there is nothing to print.
    columns: Option<&'static [&'static str]>,
}

pub(crate) fn run(args: &CtlArgs) -> ExitCode {
    match ask(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nobody to read it the code alone says it.
            let _ = write!(io::stderr(), "{error}");
            error.code().into()
        }
    }
}

fn ask(args: &CtlArgs) -> Result<(), CtlError> {
    let CtlArgs { options, command } = args;
    let question = command.question(&options.vhost);
    let is_table = question.columns.is_none() || options.formatter == Formatter::Table;
    if is_table && !options.quiet && !options.silent {
        say(&question.banner);
        say("\n");
    }
    let timeout = Duration::from_secs(options.timeout);
    let answer = Client::connect(&options.data_dir, timeout)?.ask(&question.request)?;
    let Some(columns) = question.columns else { return Ok(()) };
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let has_head = !options.silent && !options.no_table_headers;
    say(&match options.formatter {
        Formatter::Table => table::table(columns, rows, has_head),
        Formatter::Json => table::json(columns, rows),
        Formatter::Csv => table::csv(columns, rows, has_head),
    });
    Ok(())
}

/// With standard output closed the code alone says it.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

impl Command {
    fn question(&self, vhost: &str) -> Question {
        use policies::{OPERATOR, USER, clear, list, set};
        match self {
            Self::SetPolicy(args) => set(&USER, args, vhost),
            Self::ClearPolicy(args) => clear(&USER, args, vhost),
            Self::ListPolicies => list(&USER, vhost),
            Self::SetOperatorPolicy(args) => set(&OPERATOR, args, vhost),
            Self::ClearOperatorPolicy(args) => clear(&OPERATOR, args, vhost),
            Self::ListOperatorPolicies => list(&OPERATOR, vhost),
            Self::ListDelayed(args) => delayed::list(args, vhost),
            Self::CancelDelayed(args) => delayed::cancel(args, vhost),
            Self::RescheduleDelayed(args) => delayed::reschedule(args, vhost),
            Self::ListDeduplication => deduplication::list(vhost),
            Self::ListHeldQueues => held::list(vhost),
            Self::ReleaseQueue(args) => held::release(args, vhost),
        }
    }
}
