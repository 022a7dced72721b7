//! Leveret, a message broker that speaks AMQP 0-9-1 as RabbitMQ does.
//!
//! The modules, in the order in which a message meets them: `server` carries bytes, `session`
//! speaks AMQP over `wire`, a `broker::link` is one client's stake in the `broker`, `exchange`
//! routes, `queue` keeps and delivers, `store` makes it last. The rest is vocabulary.
//!
//! To run a broker inside another program, start a [`Server`].

pub mod command;
pub mod config;
pub mod counters;
pub mod deduplication;
pub mod exception;
pub mod id;
pub mod limits;
pub mod message;
pub mod name;
pub mod table;
pub mod time;

pub mod broker;
pub mod exchange;
pub mod queue;
pub mod server;
pub mod session;
pub mod store;
pub mod wire;

pub use config::Config;
pub use server::Server;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
