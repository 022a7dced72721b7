//! The only reader of the clock.

use crate::time::{Millis, Now, UnixMillis};
use std::time::{Duration, Instant, SystemTime};

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: Millis(millis(self.start.elapsed())), unix: UnixMillis(millis(unix)) }
    }

    /// When the monotonic clock will show `at`.
    pub(super) fn instant(&self, at: Millis) -> tokio::time::Instant {
        (self.start + Duration::from_millis(at.0)).into()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
