//! Declaring, binding and deleting: every check in RabbitMQ's order, then the topology and its
//! record in one hold of the vhost's lock. An answer that a durable change deserves comes with the
//! LSN it must wait for; zero means at once.

mod binding;
mod exchange;
mod queue;

pub use binding::BindTo;
pub use exchange::DeclareExchange;
pub use queue::{DeclareQueue, Declared};

/// RabbitMQ: CR and LF are taken out of declared names.
#[must_use]
pub fn strip_line_breaks(name: &str) -> std::borrow::Cow<'_, str> {
    if name.bytes().any(|b| b == b'\r' || b == b'\n') {
        return name.replace(['\r', '\n'], "").into();
    }
    name.into()
}
