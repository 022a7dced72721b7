//! Property tests against naive models.

mod codec;
mod routing;
