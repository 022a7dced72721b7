//! The suite's own AMQP 0-9-1 codec: frames, methods, properties and field tables.
//!
//! It is written from the specification and shares no code with any broker or client, so that a
//! mistake in one of them cannot hide behind the same mistake here.

mod frame;
mod method;
mod properties;
mod reader;
mod spec;
mod table;

pub(crate) use frame::{BODY, Frame, HEADER, HEARTBEAT, METHOD};
pub(crate) use method::Method;
pub(crate) use properties::{Properties, header_frame};
pub(crate) use reader::{Malformed, Reader};
#[cfg(test)]
pub(crate) use spec::METHODS;
pub(crate) use spec::method_ids;
pub(crate) use table::{Table, Value};
