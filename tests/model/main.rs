//! Property tests against naive models.

mod codec;
mod journal;
mod queue;
mod routing;
