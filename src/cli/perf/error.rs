//! Why a load run stopped: one line that names the thing, the reason and the way out.
use std::fmt;

pub(crate) type Result<T> = std::result::Result<T, PerfError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PerfError {
    text: String,
}

impl PerfError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    /// Says in what the error happened, in front of what it says already.
    pub(crate) fn inside(self, place: impl fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text) }
    }
}

impl fmt::Display for PerfError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for PerfError {}
