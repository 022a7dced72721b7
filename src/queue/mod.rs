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
//! `RecordBatch`, everything else that must be done elsewhere as an `Effects`.

mod checkout;
mod consumers;
mod core;
mod dispatch;
mod effects;
mod limiter;
mod outgoing;
mod outlet;
mod ready;
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
