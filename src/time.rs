//! Instants as plain numbers. Nothing here reads a clock: `server/clock.rs` does, and passes `Now`
//! in.

use std::num::NonZeroU64;

/// Milliseconds of a clock that never goes back; zero is the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

/// Milliseconds since the Unix epoch, for what is shown or stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

/// One reading of both clocks, passed into every verb that depends on time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub monotonic: Millis,
    pub unix: UnixMillis,
}

impl UnixMillis {
    /// Later than every clock.
    pub const NEVER: Self = Self(u64::MAX);

    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Millis {
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How long a message waits before it is routed. One word with `Option`, since each publish has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay(NonZeroU64);

impl Delay {
    /// Marks a length of time; all else is a time.
    const LENGTH: NonZeroU64 = NonZeroU64::new(1 << 63).unwrap();

    /// Milliseconds from when it is accepted; more than 2^63 - 1 are as many.
    #[must_use]
    pub fn for_ms(ms: u64) -> Self {
        Self(Self::LENGTH | ms.min(Self::LENGTH.get() - 1))
    }

    #[must_use]
    pub fn until(time: UnixMillis) -> Self {
        Self(NonZeroU64::new(time.0.min(Self::LENGTH.get() - 1)).unwrap_or(NonZeroU64::MIN))
    }

    /// When the wait of a message ends that is accepted now.
    #[must_use]
    pub fn end(self, now: UnixMillis) -> UnixMillis {
        match self.0.get() {
            it if it & Self::LENGTH.get() != 0 => now.plus(it & !Self::LENGTH.get()),
            time => UnixMillis(time),
        }
    }
}
