//! Property tests against naive models.

mod catalogue;
mod codec;
mod journal;
mod queue;
mod routing;
