//! How a case ends early: it failed, it does not apply to this broker, or it waits for a feature.

use crate::codec::Malformed;
use std::fmt::Debug;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    Failed(String),
    Skipped(String),
    /// Failed, as the list of awaited cases says it would.
    Awaited(String),
}

pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Failed(format!("malformed bytes from the broker: {malformed}"))
    }
}

pub(crate) fn fail<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Stop::Failed(text.into()))
}

pub(crate) fn same<A, E>(what: &str, actual: A, expected: E) -> Outcome
where
    A: PartialEq<E> + Debug,
    E: Debug,
{
    if actual == expected {
        return Ok(());
    }
    fail(format!("{what}: expected {expected:?}, got {actual:?}"))
}

pub(crate) fn holds(condition: bool, text: impl Into<String>) -> Outcome {
    if condition { Ok(()) } else { fail(text) }
}

/// Asks again and again until it is so. Only for what a broker does in its own time.
pub(crate) fn eventually(what: &str, mut ask: impl FnMut() -> Outcome<bool>) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask()? {
        if Instant::now() >= deadline {
            return fail(format!("not within 10 s: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
