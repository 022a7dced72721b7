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
//!                           |      requeue, to its old place
//!                           +---- waiting <--- retry ------+
//! ```
//! It owns no socket, file or clock. Deliveries leave through an `Outlet`, records through a
//! `RecordBatch`, everything else that must be done elsewhere as an `Effects`: also what takes time
//! to free. What a verb costs depends on what it settles or hands over, not on how many messages or
//! consumers there are; what was long gives its memory back as it becomes short.
//!
//! A ready message need not be in memory. `page_out` makes pages of the middle of a long queue, a
//! few words for a thousand messages; `Effects::loads` asks for what is wanted again, and `loaded`
//! brings it. Both are driven from outside: this module knows no disk and no budget.
//!
//! Queues that look at a header of their messages dispatch by lanes (`keyed`); the others do not
//! know of it.

mod alive;
mod checkout;
mod consumers;
mod core;
mod damaged;
mod deadletter;
mod delay;
#[cfg(test)]
mod delay_tests;
mod delayed_pages;
mod dispatch;
mod dues;
mod effects;
mod entries;
mod exact;
mod exact_pages;
#[cfg(test)]
mod exact_tests;
mod expiry;
mod free_slots;
mod gets;
mod held_back;
mod hold;
mod keyed;
#[cfg(test)]
mod lifetime_tests;
mod limiter;
mod load;
mod middle;
mod outgoing;
mod outlet;
mod overflow;
mod page;
mod page_out;
mod pages_between;
#[cfg(test)]
mod pages_between_tests;
mod places;
mod purge;
mod ready;
mod residence;
mod retry;
mod returns;
mod rings;
mod runs;
#[cfg(test)]
mod samples;
mod settings;
mod settle;
mod shared;
mod single_active;
mod spill;

pub use self::core::{Delivered, Publish, QueueCore};
pub use alive::Alive;
pub use consumers::{ConsumerKey, ConsumerSpec};
pub use deadletter::{Dead, DeadList, Origin, Reason};
pub use delay::Waiting;
pub use effects::{Effects, Load};
pub use gets::Got;
pub use held_back::Obstacle;
pub use limiter::ChannelLimiter;
pub use load::Paging;
pub use outlet::{Delivery, EndReason, Event, Outlet, Returned};
pub use page::{Page, Paged};
pub use page_out::{Freed, Sweep};
pub use ready::Dropped;
pub use residence::Residence;
pub use settings::{
    Behaviour, DeadLetter, DeadLetterStrategy, Overflow, PolicyValues, QueueSettings, QueueType,
    check_deduplication, check_same_deduplication,
};
pub use settle::Settlement;
pub use shared::{Gone, Queue, Turn};
pub use spill::Transient;
