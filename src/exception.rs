//! What a peer did wrong, as AMQP says it: a reply code, a text, and the method at fault.
//!
//! Every text that a client can see is made here, since clients read them. They are RabbitMQ's.

use crate::command;
use crate::limits::{LOG_TEXT_MAX, REPLY_TEXT_MAX};
use std::borrow::Cow;
use std::fmt;

/// Reply codes of AMQP 0-9-1 that the broker uses (1.2, "constants").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyCode {
    NoRoute = 312,
    ConnectionForced = 320,
    AccessRefused = 403,
    NotFound = 404,
    ResourceLocked = 405,
    PreconditionFailed = 406,
    FrameError = 501,
    SyntaxError = 502,
    CommandInvalid = 503,
    ChannelError = 504,
    UnexpectedFrame = 505,
    ResourceError = 506,
    NotAllowed = 530,
    NotImplemented = 540,
    InternalError = 541,
}

/// What an exception ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Channel,
    Connection,
}

impl ReplyCode {
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::AccessRefused
            | Self::NotFound
            | Self::ResourceLocked
            | Self::PreconditionFailed => Scope::Channel,
            _ => Scope::Connection,
        }
    }

    /// The word before the dash in a reply text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "NO_ROUTE",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::FrameError => "FRAME_ERROR",
            Self::SyntaxError => "SYNTAX_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// A method's class and number; (0, 0) if no method is at fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodId {
    pub class: u16,
    pub method: u16,
}

impl MethodId {
    pub const NONE: Self = Self { class: 0, method: 0 };

    #[must_use]
    pub const fn new(class: u16, method: u16) -> Self {
        Self { class, method }
    }
}

/// An error that closes a channel or a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub code: ReplyCode,
    /// The explanation, without the code's name; may be empty.
    explanation: String,
    /// Set by `at`; the session fills in the method that it runs if nobody did.
    pub method: Option<MethodId>,
}

impl Exception {
    #[must_use]
    pub fn new(code: ReplyCode, explanation: impl Into<String>) -> Self {
        Self { code, explanation: explanation.into(), method: None }
    }

    /// The same, blamed on `method`.
    #[must_use]
    pub fn at(mut self, method: MethodId) -> Self {
        self.method = Some(method);
        self
    }

    #[must_use]
    pub fn explanation(&self) -> &str {
        &self.explanation
    }

    /// The explanation for the log, which has more room than a reply text.
    #[must_use]
    pub fn log_text(&self) -> Cow<'_, str> {
        beginning(&self.explanation, LOG_TEXT_MAX)
    }

    /// The reply text: `NAME - explanation`, at most 255 bytes; a cut one ends in `...`.
    #[must_use]
    pub fn text(&self) -> String {
        if self.explanation.is_empty() {
            return self.code.name().to_owned();
        }
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        if text.len() > REPLY_TEXT_MAX {
            let mut end = REPLY_TEXT_MAX - 3;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        text
    }
}

/// `queue 'q' in vhost '/'`, as every text names a resource.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    Queue { vhost: &'a str, name: &'a str },
    Exchange { vhost: &'a str, name: &'a str },
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name, vhost) = match self {
            Self::Queue { vhost, name } => ("queue", name, vhost),
            Self::Exchange { vhost, name } => ("exchange", name, vhost),
        };
        write!(f, "{kind} '{name}' in vhost '{vhost}'")
    }
}

/// What a user needs on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    Configure,
    Write,
    Read,
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// The value of one argument or flag, as an "inequivalent arg" text prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgumentText {
    pub value: String,
    /// RabbitMQ's name of the wire type, such as `signedint` or `longstr`.
    pub kind: &'static str,
}

impl Exception {
    #[must_use]
    pub fn not_found(resource: Resource<'_>) -> Self {
        Self::new(ReplyCode::NotFound, format!("no {resource}"))
    }

    #[must_use]
    pub fn no_previously_declared_queue() -> Self {
        Self::new(ReplyCode::NotFound, "no previously declared queue")
    }

    #[must_use]
    pub fn access_refused(permission: Permission, resource: Resource<'_>, user: &str) -> Self {
        let text = format!("{permission} access to {resource} refused for user '{user}'");
        Self::new(ReplyCode::AccessRefused, text)
    }

    #[must_use]
    pub fn topic_access_refused(
        permission: Permission,
        topic: &str,
        exchange: &str,
        vhost: &str,
        user: &str,
    ) -> Self {
        let text = format!(
            "{permission} access to topic '{topic}' in exchange '{exchange}' in vhost '{vhost}' \
             refused for user '{user}'"
        );
        Self::new(ReplyCode::AccessRefused, text)
    }

    #[must_use]
    pub fn default_exchange() -> Self {
        let text = "operation not permitted on the default exchange";
        Self::new(ReplyCode::AccessRefused, text)
    }

    /// `what` is "exchange" or "queue".
    #[must_use]
    pub fn reserved_prefix(what: &str, name: &str) -> Self {
        let text = format!("{what} name '{name}' contains reserved prefix 'amq.*'");
        Self::new(ReplyCode::AccessRefused, text)
    }

    #[must_use]
    pub fn system_exchange(resource: Resource<'_>) -> Self {
        let text = format!("deletion of system {resource} not allowed");
        Self::new(ReplyCode::AccessRefused, text)
    }

    #[must_use]
    pub fn internal_exchange(resource: Resource<'_>) -> Self {
        let text = format!("cannot publish to internal {resource}");
        Self::new(ReplyCode::AccessRefused, text)
    }

    #[must_use]
    pub fn exclusive_use(resource: Resource<'_>) -> Self {
        Self::new(ReplyCode::AccessRefused, format!("{resource} in exclusive use"))
    }

    #[must_use]
    pub fn locked(resource: Resource<'_>) -> Self {
        let text = format!(
            "cannot obtain exclusive access to locked {resource}. It could be originally declared \
             on another connection or the exclusive property value does not match that of the \
             original declaration."
        );
        Self::new(ReplyCode::ResourceLocked, text)
    }

    #[must_use]
    pub fn single_active_consumer(resource: Resource<'_>) -> Self {
        let text = format!(
            "cannot obtain access to locked {resource}. basic.get operations are not supported by \
             quorum queues with single active consumer"
        );
        Self::new(ReplyCode::ResourceLocked, text)
    }

    /// Damage in this file, at this byte, may have hit the queue. RabbitMQ has no such thing. The
    /// way out is never cut off: names are, and then the command has none.
    #[must_use]
    pub fn held(vhost: &str, queue: &str, (file, at): (&str, u64), is_restorable: bool) -> Self {
        let code = ReplyCode::ResourceLocked;
        let restore = if is_restorable { "restore the file or " } else { "" };
        let text = |vhost: &str, name: &str, command: &str| {
            let resource = Resource::Queue { vhost, name };
            format!(
                "{resource} is held: {file} is damaged at byte {at}, messages may be missing; \
                 {restore}run `{command}`"
            )
        };
        let text_max = REPLY_TEXT_MAX - code.name().len() - " - ".len();
        let whole = text(vhost, queue, &command::ctl("release_queue", vhost, queue));
        if whole.len() <= text_max {
            return Self::new(code, whole);
        }
        // The command keeps its form, and the names before it get what is left.
        let option = if vhost == "/" { "" } else { "-p VHOST " };
        let command = format!("leveret ctl {option}release_queue NAME");
        let spare = text_max.saturating_sub(text("", "", &command).len());
        let vhost = beginning(vhost, (spare / 2).max(spare.saturating_sub(queue.len())));
        let queue = beginning(queue, spare.saturating_sub(vhost.len()));
        Self::new(code, text(&vhost, &queue, &command))
    }

    #[must_use]
    pub fn consumer_timeout(channel: u16, timeout_ms: u64) -> Self {
        let text = format!(
            "delivery acknowledgement on channel {channel} timed out. Timeout value used: \
             {timeout_ms} ms. This timeout value can be configured, see consumers doc guide to \
             learn more"
        );
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn in_use(resource: Resource<'_>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, format!("{resource} in use"))
    }

    #[must_use]
    pub fn not_empty(resource: Resource<'_>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, format!("{resource} not empty"))
    }

    #[must_use]
    pub fn unknown_exchange_type(kind: &str) -> Self {
        Self::new(ReplyCode::PreconditionFailed, format!("unknown exchange type '{kind}'"))
    }

    /// The plugin that routes for an exchange is not there.
    #[must_use]
    pub fn exchange_type_not_found(resource: Resource<'_>, kind: &str) -> Self {
        let text =
            format!("Cannot route message through {resource}: exchange type {kind} not found");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// A plugin's code panicked; the log has its message.
    #[must_use]
    pub fn exchange_type_failed(kind: &str) -> Self {
        let text = format!("exchange type {kind} failed, see the broker's log");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// A flag or value that both sides have, and that differs.
    #[must_use]
    pub fn inequivalent(arg: &str, resource: Resource<'_>, received: &str, current: &str) -> Self {
        let text = format!(
            "inequivalent arg '{arg}' for {resource}: received '{received}' but current is \
             '{current}'"
        );
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// An argument of which one side may be missing.
    #[must_use]
    pub fn inequivalent_argument(
        arg: &str,
        resource: Resource<'_>,
        received: Option<&ArgumentText>,
        current: Option<&ArgumentText>,
    ) -> Self {
        let are_both = received.is_some() && current.is_some();
        let side = |argument: Option<&ArgumentText>| match argument {
            // RabbitMQ: beside another value a void is none.
            Some(a) if are_both && a.kind == "void" => "none".to_owned(),
            Some(a) if are_both => format!("'{}'", a.value),
            Some(a) => format!("the value '{}' of type '{}'", a.value, a.kind),
            None => "none".to_owned(),
        };
        let text = format!(
            "inequivalent arg '{arg}' for {resource}: received {} but current is {}",
            side(received),
            side(current)
        );
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn invalid_type(kind: &str, arg: &str, resource: Resource<'_>) -> Self {
        let text = format!("invalid type '{kind}' for arg '{arg}' in {resource}");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn invalid_argument(arg: &str, resource: Resource<'_>, reason: &str) -> Self {
        let text = format!("invalid arg '{arg}' for {resource}: {reason}");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// `module` is what RabbitMQ calls the queue's type.
    #[must_use]
    pub fn argument_of_another_type(arg: &str, resource: Resource<'_>, module: &str) -> Self {
        let text = format!("invalid arg '{arg}' for {resource} of queue type {module}");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn invalid_property(property: &str, resource: Resource<'_>) -> Self {
        let text = format!("invalid property '{property}' for {resource}");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn server_named(module: &str) -> Self {
        let text = format!("Cannot declare a server-named queue for type {module}");
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn unknown_delivery_tag(tag: u64) -> Self {
        Self::new(ReplyCode::PreconditionFailed, format!("unknown delivery tag {tag}"))
    }

    #[must_use]
    pub fn precondition(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    #[must_use]
    pub fn not_allowed(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotAllowed, text)
    }

    #[must_use]
    pub fn not_implemented(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotImplemented, text)
    }

    #[must_use]
    pub fn channel_error(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::ChannelError, text)
    }

    #[must_use]
    pub fn unimplemented_method() -> Self {
        Self::new(ReplyCode::CommandInvalid, "unimplemented method")
    }

    /// RabbitMQ says nothing more of an internal failure, nor of properties it cannot decode.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(ReplyCode::InternalError, "")
    }

    #[must_use]
    pub fn shutdown() -> Self {
        let text = "broker forced connection closure with reason 'shutdown'";
        Self::new(ReplyCode::ConnectionForced, text)
    }
}

/// A name, or what of it fits into so many bytes with a mark.
pub(crate) fn beginning(name: &str, len_max: usize) -> Cow<'_, str> {
    if name.len() <= len_max {
        return Cow::Borrowed(name);
    }
    let mut end = len_max.saturating_sub("...".len());
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}...", &name[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_held_queue_ends_with_the_way_out_however_long_names_are() {
        let held = |vhost, queue| Exception::held(vhost, queue, ("segment-12", 345), true).text();
        let text = "RESOURCE_LOCKED - queue 'mail' in vhost 'v 1' is held: segment-12 is damaged \
                    at byte 345, messages may be missing; restore the file or run \
                    `leveret ctl -p 'v 1' release_queue mail`";
        assert_eq!(held("v 1", "mail"), text);
        let passed = Exception::held("v", "mail", ("segment-12", 345), false).text();
        let end = "may be missing; run `leveret ctl -p v release_queue mail`";
        assert!(passed.ends_with(end), "{passed}");
        let default = held("/", "mail");
        assert!(default.ends_with("run `leveret ctl release_queue mail`"), "{default}");
        let names = ["/", "v", &"v".repeat(255), &"é".repeat(127)];
        for (vhost, queue) in names.iter().flat_map(|vhost| names.map(|queue| (*vhost, queue))) {
            let place = ("segment-18446744073709551615", u64::MAX);
            let text = Exception::held(vhost, queue, place, true).text();
            let is_whole = text.ends_with(&format!(" release_queue {queue}`"));
            assert!(is_whole || text.ends_with(" release_queue NAME`"), "{text}");
            assert_eq!(text.contains("leveret ctl -p "), vhost != "/", "{text}");
            assert!(text.len() <= 255, "{text}");
            let start = format!("RESOURCE_LOCKED - queue '{}", queue.chars().next().unwrap());
            assert!(text.starts_with(&start), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_cut_to_a_shortstr() {
        let name = "é".repeat(200);
        let text = Exception::not_found(Resource::Queue { vhost: "/", name: &name }).text();
        assert!(text.len() <= 255 && text.ends_with("..."), "{text}");
        let short = Exception::internal().text();
        assert_eq!(short, "INTERNAL_ERROR");
    }

    #[test]
    fn a_missing_argument_is_called_none() {
        let queue = Resource::Queue { vhost: "/", name: "q" };
        let ttl = ArgumentText { value: "1000".into(), kind: "signedint" };
        assert_eq!(
            Exception::inequivalent_argument("x-message-ttl", queue, None, Some(&ttl)).text(),
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': \
             received none but current is the value '1000' of type 'signedint'"
        );
        let void = ArgumentText { value: "undefined".into(), kind: "void" };
        assert_eq!(
            Exception::inequivalent_argument("x-message-ttl", queue, Some(&void), Some(&ttl))
                .explanation(),
            "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but \
             current is '1000'"
        );
    }
}
