//! Property tests against naive models.

mod catalogue;
mod check;
mod codec;
mod deadletter;
mod deduplication;
mod delay;
mod history;
mod journal;
mod keyed;
mod policy;
mod queue;
mod routing;
