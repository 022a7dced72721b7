//! The whole broker from outside: lapin where a good client is enough, raw sockets where it is not,
//! and the program itself where a process must die.

#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

mod alarms;
mod answers;
mod basic;
mod bounds;
mod carbons;
mod cli;
mod client;
mod confirms;
mod counting;
mod crash;
mod ctl;
mod deadletter;
mod deduplication;
mod delays;
mod disk;
mod durability;
mod durable;
mod exact_expiry;
mod exchange_types;
mod exchanges;
mod failed_deliveries;
mod fuzz;
mod held;
mod hostile;
mod keyed;
mod kill;
mod log;
mod perf;
mod pressure;
mod program;
mod queues;
mod raw;
mod retries;
mod session;
mod shortage;
mod sizes;
mod space;
mod spill;
mod strangers;
mod support;
mod turns;
mod wrong_arguments;
mod wrong_headers;
