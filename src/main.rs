//! The `leveret` program: arguments become a configuration, and the configuration a server.
//!
//! Exit codes: 0 after a clean stop, 1 if the server failed, 2 if arguments or configuration are
//! wrong. Those of `ctl` are rabbitmqctl's.

mod cli;

use clap::Parser as _;
use cli::{FAILED, MISCONFIGURED, complain, explain, unread_variables};
use leveret::{Config, server};
use std::path::{Path, absolute};
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
    let file = cli.config_file().map(Path::to_owned);
    let (config, warnings) = match cli.read_config() {
        Ok(read) => read,
        Err(error) => return complain(&error, MISCONFIGURED),
    };
    server::log::install(config.log_level);
    log_start(&config, file.as_deref());
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    unread_variables(|name| std::env::var_os(name).is_some())
        .for_each(|warning| tracing::warn!("{warning}"));
    match server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, FAILED),
    }
}

/// Says which broker this is, and what it starts with.
fn log_start(config: &Config, file: Option<&Path>) {
    let shown =
        |path: &Path| absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
    let file = file.map_or_else(|| "none".to_owned(), shown);
    tracing::info!(
        "starting Leveret {}: process {}, data directory {}, configuration file {file}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        shown(&config.data_dir)
    );
}
