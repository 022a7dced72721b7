//! The `leveret` program: arguments become a configuration, and the configuration a server.
//!
//! Exit codes: 0 after a clean stop, 1 if the server failed, 2 if arguments or configuration are
//! wrong. Those of `ctl` are rabbitmqctl's.

mod cli;

use clap::Parser as _;
use cli::{FAILED, MISCONFIGURED, complain, explain};
use leveret::server;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error, std::env::args_os()),
    };
    if let Some(command) = &cli.command {
        return command.run();
    }
    let (config, warnings) = match cli.read_config() {
        Ok(read) => read,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    server::log::install(config.log_level);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILED),
    }
}
