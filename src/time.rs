//! Instants as plain numbers. Nothing here reads a clock: `server/clock.rs` does, and passes `Now`
//! in.

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
