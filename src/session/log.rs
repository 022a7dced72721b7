//! What the log says of a connection's life, in RabbitMQ's words (`rabbit_reader`,
//! `rabbit_channel`): filters and people look for them. An event is a line, with a second one for
//! its reason (`detail`). What a client chose is cut short here, and `server/log` lets none of it
//! end a line.

use super::Session;
use super::handshake::Phase;
use crate::broker::link::Overdue;
use crate::exception::{Exception, MethodId, Resource, beginning};
use crate::limits::{CLIENT_NAME_LOGGED_BYTES, LOG_TEXT_MAX, OUTPUT_STALLED_MS_MAX};
use crate::name::Name;
use crate::wire::ForeignHeader;
use crate::wire::method::method_name;
use std::fmt;
use tracing::Level;

/// Who is at the other end, as far as it has said so.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// What it calls itself (`connection_name`), cut.
    client_name: Option<Box<str>>,
    user: Option<Name>,
    vhost: Option<Name>,
    /// A line has said that it came.
    is_announced: bool,
    /// A line has said that it goes.
    is_over: bool,
}

/// `127.0.0.1:50918 -> 127.0.0.1:5672 - billing`, and user and vhost as they are asked for.
struct Named<'a> {
    session: &'a Session,
    client_name: bool,
    vhost: Option<&'a str>,
    user: Option<&'a str>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session { id, peer, identity, .. } = self.session;
        write!(f, "<0.{}.0> ({}", id.0, peer.name)?;
        if let Some(name) = identity.client_name.as_deref().filter(|_| self.client_name) {
            write!(f, " - {name}")?;
        }
        if let Some(vhost) = self.vhost {
            write!(f, ", vhost: '{vhost}'")?;
        }
        if let Some(user) = self.user {
            write!(f, ", user: '{user}'")?;
        }
        Ok(())
    }
}

impl Session {
    fn named(&self) -> Named<'_> {
        Named { session: self, client_name: true, vhost: None, user: None }
    }

    /// With vhost and user once there is a user.
    fn named_fully(&self) -> Named<'_> {
        let Identity { user, vhost, .. } = &self.identity;
        let user = user.as_deref();
        let vhost = user.map(|_| vhost.as_deref().unwrap_or("none"));
        Named { vhost, user, ..self.named() }
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>, detail: Option<&str>) {
        let connection = self.id.0;
        match level {
            Level::ERROR => tracing::error!(connection, detail, "{line}"),
            Level::WARN => tracing::warn!(connection, detail, "{line}"),
            Level::INFO => tracing::info!(connection, detail, "{line}"),
            _ => tracing::debug!(connection, detail, "{line}"),
        }
    }

    /// The first bytes came. RabbitMQ: who leaves without any was looking whether the port is open.
    pub(super) fn log_accepted(&mut self, level: Level) {
        if !std::mem::replace(&mut self.identity.is_announced, true) {
            let named = self.named();
            self.log(level, format_args!("accepting AMQP connection {named})"), None);
        }
    }

    /// The client says what it calls itself.
    pub(super) fn log_client_name(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        let name = beginning(&name, CLIENT_NAME_LOGGED_BYTES).into_owned();
        let named = self.named();
        let line = format_args!("connection {named}) has a client-provided name: {name}");
        self.log(Level::INFO, line, None);
        self.identity.client_name = Some(name.into());
    }

    pub(super) fn note_user(&mut self, user: &Name) {
        self.identity.user = Some(user.clone());
    }

    pub(super) fn log_opened(&mut self, user: &Name, vhost: &Name) {
        self.identity.vhost = Some(vhost.clone());
        let named = self.named();
        let line = format_args!(
            "connection {named}): user '{user}' authenticated and granted access to vhost '{vhost}'"
        );
        self.log(Level::INFO, line, None);
    }

    /// RabbitMQ: without the client's own name, which filters do not expect here.
    pub(super) fn log_login_refused(&self, why: &str) {
        let named = Named { client_name: false, ..self.named() };
        let line = format_args!("Error on AMQP connection {named}, state: starting):");
        // A login may be as long as a frame.
        self.log(Level::ERROR, line, Some(&beginning(why, LOG_TEXT_MAX)));
    }

    /// What the client has agreed to.
    pub(super) fn log_tuned(&self) {
        let (named, heartbeat_s) = (self.named(), self.heartbeat.interval_s());
        let line = format_args!(
            "connection {named}): frame_max {}, channel_max {}, heartbeat {heartbeat_s} s",
            self.frame_max, self.channel_max
        );
        self.log(Level::DEBUG, line, None);
    }

    /// RabbitMQ: without the client's own name.
    pub(super) fn log_channel_exception(&self, number: u16, exception: &Exception) {
        let named = Named { client_name: false, ..self.named_fully() };
        let line = format_args!("Channel error on connection {named}), channel {number}:");
        let reason = format!(
            "operation {} caused a channel exception {}: {}",
            operation(exception),
            exception.code.name().to_ascii_lowercase(),
            exception.log_text()
        );
        self.log(Level::ERROR, line, Some(&reason));
    }

    /// The peer made a mistake that ends the connection. A shutdown is nobody's: its own line says
    /// that all connections end.
    pub(super) fn log_exception(&self, number: u16, exception: &Exception) {
        if *exception == Exception::shutdown() {
            return;
        }
        let state = self.phase.name();
        let text = exception.log_text();
        if self.phase != Phase::Running {
            let named = Named { vhost: None, ..self.named_fully() };
            let line = format_args!("Error on AMQP connection {named}, state: {state}):");
            return self.log(Level::ERROR, line, Some(&text));
        }
        let named = self.named_fully();
        let line =
            format_args!("Error on AMQP connection {named}, state: {state}), channel {number}:");
        let reason = format!(
            " operation {} caused a connection exception {}: {text:?}",
            operation(exception),
            exception.code.name().to_ascii_lowercase(),
        );
        self.log(Level::ERROR, line, Some(&reason));
    }

    /// What came first is no protocol header of ours.
    pub(super) fn log_bad_header(&mut self, header: &ForeignHeader<'_>) {
        self.log_broken(Level::ERROR, &header.to_string());
    }

    /// The connection ends before it ran, or without a word to the client.
    pub(super) fn log_broken(&mut self, level: Level, why: &str) {
        self.log_accepted(Level::INFO);
        if !std::mem::replace(&mut self.identity.is_over, true) {
            let named = self.named();
            self.log(level, format_args!("closing AMQP connection {named}):"), Some(why));
        }
    }

    pub(super) fn log_time_is_up(&mut self) {
        // It was told to go, and that is logged.
        if matches!(self.phase, Phase::Closing { .. } | Phase::Silent) {
            return;
        }
        let limit_ms = self.broker.config.handshake_timeout_ms;
        let why = format!(
            "handshake_timeout: in state {} after {limit_ms} ms; a slow client needs a higher \
             handshake_timeout",
            self.phase.name()
        );
        self.log_broken(Level::ERROR, &why);
    }

    pub(super) fn log_missed_heartbeats(&mut self) {
        let interval_s = self.heartbeat.interval_s();
        let why = format!("missed heartbeats from client, timeout: {interval_s}s");
        self.log_broken(Level::ERROR, &why);
    }

    pub(super) fn log_stalled(&mut self) {
        let why = format!("it takes no output for {OUTPUT_STALLED_MS_MAX} ms");
        self.log_broken(Level::WARN, &why);
    }

    /// A consumer keeps a delivery for too long.
    pub(super) fn log_overdue(&self, number: u16, overdue: &Overdue) {
        let Overdue { consumers, queue, delivery_tag, timeout_ms } = overdue;
        let tags: Vec<_> = consumers.iter().take(3).map(|tag| &**tag).collect();
        let others = if consumers.len() > tags.len() { " or another" } else { "" };
        let tags = tags.join("' or '");
        let queue = queue.as_ref().map(|queue| {
            let resource = Resource::Queue { vhost: &queue.vhost, name: &queue.name };
            format!(" and {resource}")
        });
        let queue = queue.unwrap_or_default();
        let line = format_args!(
            "Consumer '{tags}'{others} on channel {number}{queue} has timed out waiting for a \
             consumer acknowledgement of a delivery with delivery tag = {delivery_tag}. Timeout \
             used: {timeout_ms} ms. This timeout value can be configured, see consumers doc guide \
             to learn more"
        );
        self.log(Level::WARN, line, None);
    }

    /// The peer's end of the socket is closed; `error` if it did not close it in good order.
    pub fn peer_left(&mut self, error: Option<&str>) {
        let is_told = matches!(self.phase, Phase::Closing { .. } | Phase::Silent | Phase::Closed);
        if is_told || self.identity.is_over {
            return;
        }
        let is_probe = !self.identity.is_announced;
        if is_probe {
            self.log_accepted(Level::DEBUG);
        }
        self.identity.is_over = true;
        let named = self.named_fully();
        let (level, left) = match is_probe {
            true => (Level::DEBUG, "client closed TCP connection without sending any data"),
            false => (Level::WARN, "client unexpectedly closed TCP connection"),
        };
        let why = error.map(|error| format!("{left}: {error}"));
        let line = format_args!("closing AMQP connection {named}):");
        self.log(level, line, Some(why.as_deref().unwrap_or(left)));
    }

    /// Nothing of the connection is left.
    pub(super) fn log_over(&mut self) {
        if self.identity.is_announced && !std::mem::replace(&mut self.identity.is_over, true) {
            let named = self.named_fully();
            self.log(Level::INFO, format_args!("closing AMQP connection {named})"), None);
        }
    }
}

/// The method at fault, as RabbitMQ names it.
fn operation(exception: &Exception) -> &'static str {
    method_name(exception.method.unwrap_or(MethodId::NONE)).unwrap_or("none")
}
