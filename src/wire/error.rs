//! Bytes that a peer may not send, and what it is told. All of these end the connection.

use crate::exception::{Exception, MethodId, ReplyCode};
use crate::limits::{BODY_SIZE_HARD_MAX, FRAME_OVERHEAD, REPLY_TEXT_MAX};
use crate::table::TableError;
use crate::wire::frame::{FrameHead, FrameKind};
use crate::wire::method::{BASIC, BASIC_PUBLISH};
use crate::wire::notation::{Binary, Octets};

/// Why the input cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError(Reason);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    FrameTooLarge {
        kind: u8,
        size: u32,
        payload_max: u32,
    },
    FrameEnd {
        kind: u8,
        end: u8,
        octets: Octets,
    },
    UnknownFrame {
        kind: u8,
        octets: Octets,
    },
    UnexpectedFrame {
        kind: FrameKind,
        octets: Octets,
    },
    UnknownMethod(MethodId),
    /// Fields longer or shorter than the method's; as many of them as a text can show.
    Fields {
        method: MethodId,
        fields: Box<[u8]>,
    },
    Utf8,
    Table {
        method: MethodId,
        error: TableError,
    },
    Content(ContentError),
}

/// A frame that does not continue the content of its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentError {
    NotMethod,
    NotHeader,
    NotBody,
    OtherClass(u16),
    SizeAboveMax(u64),
    BodyAboveSize,
}

impl WireError {
    #[cold]
    pub(crate) fn frame_too_large(head: FrameHead, payload_max: u32) -> Self {
        let FrameHead { kind, size, .. } = head;
        Self(Reason::FrameTooLarge { kind, size, payload_max })
    }

    #[cold]
    pub(crate) fn frame_end(kind: u8, end: u8, payload: &[u8]) -> Self {
        let octets = Octets::of(payload);
        Self(Reason::FrameEnd { kind, end, octets })
    }

    #[cold]
    pub(crate) fn unknown_frame(kind: u8, payload: &[u8]) -> Self {
        let octets = Octets::of(payload);
        Self(Reason::UnknownFrame { kind, octets })
    }

    /// A well-formed frame on a channel or in a state that does not take its kind.
    #[must_use]
    #[cold]
    pub fn unexpected_frame(kind: FrameKind, payload: &[u8]) -> Self {
        let octets = Octets::of(payload);
        Self(Reason::UnexpectedFrame { kind, octets })
    }

    #[cold]
    pub(crate) fn unknown_method(method: MethodId) -> Self {
        Self(Reason::UnknownMethod(method))
    }

    #[cold]
    pub(crate) fn fields(method: MethodId, fields: &[u8]) -> Self {
        let shown = fields.iter().take(REPLY_TEXT_MAX).copied().collect();
        Self(Reason::Fields { method, fields: shown })
    }

    #[cold]
    pub(crate) fn utf8() -> Self {
        Self(Reason::Utf8)
    }

    #[cold]
    pub(crate) fn table(method: MethodId, error: TableError) -> Self {
        Self(Reason::Table { method, error })
    }

    #[cold]
    pub(crate) fn content(error: ContentError) -> Self {
        Self(Reason::Content(error))
    }

    /// Whether the input has lost its framing: nothing more may be read, not even a close-ok.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self.0, Reason::FrameTooLarge { .. } | Reason::FrameEnd { .. })
    }

    /// What the peer is told.
    #[must_use]
    pub fn exception(&self) -> Exception {
        let (code, text, method) = match &self.0 {
            Reason::FrameTooLarge { kind, size, payload_max } => {
                let none = Octets::of(&[]);
                let nominal_max = (*payload_max as usize).saturating_sub(FRAME_OVERHEAD);
                let reason = format!("{{frame_too_large,{size},{nominal_max}}}");
                let text = format!("type {kind}, {none}: {reason}");
                (ReplyCode::FrameError, text, MethodId::NONE)
            }
            Reason::FrameEnd { kind, end, octets } => {
                let text = format!("type {kind}, {octets}: {{invalid_frame_end_marker,{end}}}");
                (ReplyCode::FrameError, text, MethodId::NONE)
            }
            Reason::UnknownFrame { kind, octets } => {
                let text = format!("type {kind}, {octets}: unknown_frame");
                (ReplyCode::FrameError, text, MethodId::NONE)
            }
            Reason::UnexpectedFrame { kind, octets } => {
                let text = format!("type {}, {octets}", *kind as u8);
                (ReplyCode::UnexpectedFrame, text, MethodId::NONE)
            }
            // RabbitMQ: cuts the connection without a word for this and for a broken table.
            Reason::UnknownMethod(method) => {
                let text = format!("unknown method {}.{}", method.class, method.method);
                (ReplyCode::CommandInvalid, text, *method)
            }
            Reason::Table { method, error } => (ReplyCode::SyntaxError, error.to_string(), *method),
            Reason::Fields { method, fields } => {
                let text = format!("cannot decode {}", Binary(fields));
                (ReplyCode::FrameError, text, *method)
            }
            Reason::Utf8 => {
                let text = "Malformed UTF-8 in shortstr".to_owned();
                (ReplyCode::FrameError, text, MethodId::NONE)
            }
            Reason::Content(error) => error.parts(),
        };
        Exception::new(code, text).at(method)
    }
}

impl From<WireError> for Exception {
    fn from(error: WireError) -> Self {
        error.exception()
    }
}

impl ContentError {
    fn parts(self) -> (ReplyCode, String, MethodId) {
        let header = format!("expected content header for class {BASIC}, got");
        match self {
            Self::NotMethod => {
                let text = "expected method frame, got non method frame instead".to_owned();
                (ReplyCode::UnexpectedFrame, text, MethodId::NONE)
            }
            Self::NotHeader => {
                let text = format!("{header} non content header frame instead");
                (ReplyCode::UnexpectedFrame, text, BASIC_PUBLISH)
            }
            Self::OtherClass(class) => {
                let text = format!("{header} one for class {class} instead");
                (ReplyCode::UnexpectedFrame, text, BASIC_PUBLISH)
            }
            Self::NotBody => {
                let text = "expected content body, got non content body frame instead".to_owned();
                (ReplyCode::UnexpectedFrame, text, BASIC_PUBLISH)
            }
            Self::BodyAboveSize => {
                let text = "content body frame exceeds remaining content size".to_owned();
                (ReplyCode::FrameError, text, BASIC_PUBLISH)
            }
            Self::SizeAboveMax(size) => {
                let text = format!(
                    "content body size {size} exceeds maximum allowed size {BODY_SIZE_HARD_MAX}"
                );
                (ReplyCode::FrameError, text, BASIC_PUBLISH)
            }
        }
    }
}
