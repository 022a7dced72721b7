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

/// How long a message may wait in a queue. Six octets, since each publish has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl([u16; 3]);

impl Ttl {
    /// For a message that does not say.
    pub const FOREVER: Self = Self([u16::MAX; 3]);

    /// Milliseconds; 2^48 - 1 and more, which is 8900 years, are for ever.
    #[must_use]
    pub const fn of_ms(ms: u64) -> Self {
        match ms >> 48 {
            0 => Self([ms as u16, (ms >> 16) as u16, (ms >> 32) as u16]),
            _ => Self::FOREVER,
        }
    }

    /// In milliseconds, `u64::MAX` if it is for ever.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self.0 {
            [u16::MAX, u16::MAX, u16::MAX] => u64::MAX,
            [low, middle, high] => low as u64 | (middle as u64) << 16 | (high as u64) << 32,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_exact_up_to_what_is_for_ever() {
        for ms in [0, 1, 0xffff, 0x1_0000, 0x1234_5678_9abc, (1 << 48) - 2] {
            assert_eq!(Ttl::of_ms(ms).ms(), ms);
        }
        for ms in [(1 << 48) - 1, 1 << 48, u64::MAX] {
            assert_eq!((Ttl::of_ms(ms), Ttl::of_ms(ms).ms()), (Ttl::FOREVER, u64::MAX));
        }
    }
}
