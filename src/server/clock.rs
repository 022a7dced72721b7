//! The only reader of the clock.

use crate::limits::CLOCK_JUMP_MS;
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

/// Notices that the system's clock was set: deadlines of messages are its times, so many of them
/// may expire at once, or wait for longer than they should.
#[derive(Debug, Default)]
pub(super) struct Jumps {
    /// Of the system's clock over the one that never goes back, when last seen.
    ahead_ms: Option<i64>,
}

impl Jumps {
    /// By how many milliseconds the clock has jumped since the last call, if it is much: forward if
    /// it is positive.
    pub(super) fn seen(&mut self, now: Now) -> Option<i64> {
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let ahead_ms = ms(now.unix.0).saturating_sub(ms(now.monotonic.0));
        let before = self.ahead_ms.replace(ahead_ms)?;
        let jump_ms = ahead_ms.saturating_sub(before);
        (jump_ms.unsigned_abs() > CLOCK_JUMP_MS).then_some(jump_ms)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_by_more_than_an_hour_is_noticed_once() {
        let mut jumps = Jumps::default();
        let mut seen = |unix, monotonic| {
            jumps.seen(Now { unix: UnixMillis(unix), monotonic: Millis(monotonic) })
        };
        const HOUR: u64 = CLOCK_JUMP_MS;
        assert_eq!(seen(50 * HOUR, 7), None, "the first look");
        assert_eq!(seen(60 * HOUR, 7 + 10 * HOUR), None, "time has passed, on both");
        assert_eq!(seen(61 * HOUR, 7 + 10 * HOUR), None);
        assert_eq!(seen(62 * HOUR + 1, 7 + 10 * HOUR), Some(3_600_001));
        assert_eq!(seen(62 * HOUR + 1, 7 + 10 * HOUR), None);
        assert_eq!(seen(10 * HOUR + 1, 7 + 10 * HOUR), Some(-52 * 3_600_000));
    }
}
