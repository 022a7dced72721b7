//! Why a load run stopped: one line that names the thing, the reason and the way out.
use std::fmt;

pub(crate) type Result<T> = std::result::Result<T, PerfError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PerfError {
    text: String,
    unsupported: bool,
}

impl PerfError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), unsupported: false }
    }

    /// The broker lacks what the run is about.
    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Self { text: text.into(), unsupported: true }
    }

    /// The broker closed a channel or the connection with this code. It does not know, or does not
    /// do, what it was asked for if that is 406 PRECONDITION_FAILED, 503 COMMAND_INVALID (an
    /// exchange type) or 540 NOT_IMPLEMENTED.
    pub(crate) fn refusal(reply_code: u16, text: String) -> Self {
        Self { text, unsupported: matches!(reply_code, 406 | 503 | 540) }
    }

    pub(crate) fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    /// Says in what the error happened, in front of what it says already.
    pub(crate) fn inside(self, place: impl fmt::Display) -> Self {
        Self { text: format!("{place}: {}", self.text), ..self }
    }
}

impl fmt::Display for PerfError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for PerfError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stays_one_wherever_it_happened() {
        for (code, unsupported) in [(404, false), (406, true), (503, true), (540, true)] {
            let error = PerfError::refusal(code, "reason".to_owned()).inside("place");
            assert_eq!(error.to_string(), "place: reason");
            assert_eq!(error.is_unsupported(), unsupported, "{code}");
        }
        assert!(!PerfError::new("reason").is_unsupported());
    }
}
