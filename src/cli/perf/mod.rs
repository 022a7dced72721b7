//! `leveret perf`: puts load on any AMQP 0-9-1 broker and measures it. Uses blocking sockets, one
//! thread a connection, and nothing of the broker itself.
//!
//! ```text
//! args -> plan -> throughput -> topology     declares what the plan needs, by its names
//!                            -> expiring     a queue beside, that expires at once
//!                            -> publisher    publishes, properties, pacing, replies, confirms
//!                            -> consumer     deliveries, histogram
//!                            -> watch        lead, waiting, memory
//!                            -> report
//! scenarios                  many plans, several brokers, one table
//! ```
mod args;
mod confirms;
mod connection;
mod consumer;
mod deliveries;
mod error;
mod expiring;
mod frame;
mod histogram;
mod lead;
mod names;
mod pacing;
mod plan;
mod properties;
mod publisher;
mod publishes;
mod replies;
mod report;
mod run;
mod scenarios;
mod table;
mod throughput;
mod topology;
mod url;
mod usage;
mod watch;
mod wire;

use args::ThroughputArgs;
use clap::{Args, Subcommand};
pub(crate) use error::PerfError;
use error::Result;
use scenarios::ScenariosArgs;
use std::io::Write;
use std::thread::JoinHandle;

/// Put load on an AMQP 0-9-1 broker and measure it
#[derive(Args, Debug)]
pub(crate) struct PerfArgs {
    #[command(subcommand)]
    command: PerfCommand,
}

#[derive(Subcommand, Debug)]
enum PerfCommand {
    /// Publish and consume; report rates, latencies, CPU and memory
    Throughput(Box<ThroughputArgs>),
    /// Run a list of workloads on several brokers in turn; print a table
    Scenarios(ScenariosArgs),
}

/// Runs the load and prints what it measured to standard output.
pub(crate) fn run(args: &PerfArgs) -> Result<()> {
    match &args.command {
        PerfCommand::Throughput(args) => {
            let plan = args.plan()?;
            let report = throughput::measure(plan.clone())?;
            print(&if args.json { report.json(&plan) + "\n" } else { report.text(&plan) });
            Ok(())
        }
        PerfCommand::Scenarios(args) => scenarios::run(args),
    }
}

/// Prints at once: a long run is often watched through a pipe. That nobody listens any more is no
/// failure of the run.
fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Runs may have thousands of threads, none of which goes deep.
const STACK_BYTES: usize = 256 * 1024;

fn start_thread<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    let builder = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
    builder.spawn(body).map_err(|error| {
        PerfError::new(format!("cannot start a thread: {error}; use fewer connections"))
    })
}
