//! Property tests against naive models.

mod catalogue;
mod check;
mod codec;
mod journal;
mod queue;
mod routing;
