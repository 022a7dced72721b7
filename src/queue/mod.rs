//! One queue: what waits in it, who takes from it, and what each of its verbs does. Pure but for
//! `shared.rs`, which adds the lock and the counters.
//!
//! ```text
//!            publish / show          dispatch, get             ack, discard
//!   (nothing) ----------> ready ----------------> checked out ------------> (gone)
//!                 ^         |   no-ack: straight to gone   |
//!     reserve     |         +-----------------------> (gone)
//!   (nothing) -> reserved        purge                     |
//!                           ^------------------------------+
//!                                  requeue, to its old place
//! ```
//! It owns no socket, file or clock. Deliveries leave through an `Outlet`, records through a
//! `RecordBatch`, everything else that must be done elsewhere as an `Effects`: also what takes time
//! to free. What a verb costs depends on what it settles or hands over, not on how many messages or
//! consumers there are; what was long gives its memory back as it becomes short.

mod checkout;
mod consumers;
mod core;
mod dispatch;
mod effects;
mod free_slots;
mod limiter;
mod outgoing;
mod outlet;
mod ready;
mod rings;
mod runs;
#[cfg(test)]
mod samples;
mod settings;
mod shared;

pub use self::core::{Delivered, Got, Publish, QueueCore, Settlement};
pub use consumers::{ConsumerKey, ConsumerSpec};
pub use effects::{Effects, Load};
pub use limiter::ChannelLimiter;
pub use outlet::{Delivery, EndReason, Event, Outlet};
pub use ready::Dropped;
pub use settings::QueueSettings;
pub use shared::{Gone, Queue, Turn};
