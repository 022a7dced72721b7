//! From the first byte to open-ok: protocol header, start, tune, open (AMQP 0-9-1, 2.2.4).

use super::{Capabilities, Session};
use crate::broker::link::Client;
use crate::broker::sasl;
use crate::exception::{Exception, ReplyCode};
use crate::limits::{FRAME_MIN, SILENT_CLOSE_MS};
use crate::session::heartbeat::Heartbeat;
use crate::table::{Table, TableBuilder, TableRef, Value};
use crate::time::Now;
use crate::wire::client::{StartOk, TuneOk};
use crate::wire::method::CONNECTION_TUNE;
use crate::wire::{ClientMethod, ForeignHeader, ServerMethod};
use std::sync::Arc;
use tracing::Level;

/// The RabbitMQ version that clients and tools gate on; our own is `product_version`.
const COMPATIBLE_VERSION: &str = "4.1.0";
const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// RabbitMQ: the header of 0-9 is served as 0-9-1.
const PROTOCOL_HEADER_0_9: [u8; 8] = *b"AMQP\x01\x01\x00\x09";

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Header,
    Starting,
    Tuning,
    Opening,
    Running,
    /// We sent connection.close, or answered the client's; `deaf` if the input has no framing left.
    Closing {
        deaf: bool,
    },
    /// Refused without a word: the peer is dropped when the time is up.
    Silent,
    Closed,
}

impl Phase {
    /// RabbitMQ's name of the state, as its texts print it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Header | Self::Starting => "starting",
            Self::Tuning => "tuning",
            Self::Opening => "opening",
            Self::Running => "running",
            Self::Closing { .. } | Self::Silent | Self::Closed => "closing",
        }
    }
}

impl Session {
    /// Takes the protocol header; says how many bytes it took.
    pub(super) fn take_protocol_header(&mut self, input: &[u8]) -> usize {
        self.log_accepted(Level::INFO);
        let Some(header) = input.first_chunk::<8>() else {
            let known = [PROTOCOL_HEADER, PROTOCOL_HEADER_0_9];
            if known.iter().any(|known| known.starts_with(input)) {
                return 0;
            }
            return self.refuse_protocol(input);
        };
        if ![PROTOCOL_HEADER, PROTOCOL_HEADER_0_9].contains(header) {
            return self.refuse_protocol(input);
        }
        let properties = self.server_properties();
        ServerMethod::ConnectionStart {
            server_properties: properties.as_ref(),
            mechanisms: "PLAIN AMQPLAIN",
            locales: "en_US",
        }
        .encode(0, &mut self.output);
        self.phase = Phase::Starting;
        header.len()
    }

    fn refuse_protocol(&mut self, input: &[u8]) -> usize {
        self.log_bad_header(&ForeignHeader(input));
        self.output.put(&PROTOCOL_HEADER);
        self.phase = Phase::Closed;
        self.phase_ends_at = None;
        input.len()
    }

    fn server_properties(&self) -> Table {
        const CAPABILITIES: [&str; 9] = [
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "consumer_priorities",
            "authentication_failure_close",
            "per_consumer_qos",
            "direct_reply_to",
        ];
        let capabilities = CAPABILITIES
            .iter()
            .fold(TableBuilder::new(), |table, name| table.put(name.as_bytes(), Value::Bool(true)));
        let text = |text: &'static str| Value::LongStr(text.as_bytes());
        let cluster = self.broker.config.cluster_name().as_bytes();
        TableBuilder::new()
            .put(b"capabilities", Value::Table(capabilities.finish().as_ref()))
            .put(b"cluster_name", Value::LongStr(cluster))
            .put(b"copyright", text("The Leveret contributors"))
            .put(b"information", text("Licensed under MIT or Apache-2.0"))
            .put(b"platform", text("Rust"))
            .put(b"product", text("RabbitMQ"))
            .put(b"product_name", text("Leveret"))
            .put(b"product_version", text(env!("CARGO_PKG_VERSION")))
            .put(b"version", text(COMPATIBLE_VERSION))
            .finish()
    }

    /// A connection method before the connection runs.
    pub(super) fn handshake(
        &mut self,
        method: &ClientMethod<'_>,
        now: Now,
    ) -> Result<(), Exception> {
        match (self.phase, method) {
            (Phase::Starting, ClientMethod::ConnectionStartOk(start_ok)) => {
                self.start_ok(start_ok, now);
                Ok(())
            }
            (Phase::Tuning, ClientMethod::ConnectionTuneOk(tune_ok)) => self.tune_ok(tune_ok, now),
            (Phase::Opening, ClientMethod::ConnectionOpen { vhost }) => self.open(vhost),
            (Phase::Opening, _) => Err(self.unexpected_method()),
            _ => {
                self.refuse_silently(now, "a method came before its time");
                Ok(())
            }
        }
    }

    pub(super) fn unexpected_method(&self) -> Exception {
        let state = self.phase.name();
        Exception::channel_error(format!("unexpected method in connection state {state}"))
    }

    fn start_ok(&mut self, start_ok: &StartOk<'_>, now: Now) {
        if let Some(Value::Table(capabilities)) = start_ok.client_properties.get(b"capabilities") {
            let has = |name: &[u8]| capabilities.get(name) == Some(Value::Bool(true));
            self.capabilities = Capabilities {
                authentication_failure_close: has(b"authentication_failure_close"),
                connection_blocked: has(b"connection.blocked"),
                consumer_cancel_notify: has(b"consumer_cancel_notify"),
            };
        }
        if let Some(Value::LongStr(name)) = start_ok.client_properties.get(b"connection_name") {
            self.log_client_name(name);
        }
        let credentials = match start_ok.mechanism {
            "PLAIN" => sasl::parse_plain(start_ok.response),
            "AMQPLAIN" => TableRef::check(start_ok.response).ok().and_then(sasl::parse_amqplain),
            other => {
                let why = format!("unknown authentication mechanism '{other}'");
                return self.refuse_silently(now, &why);
            }
        };
        let Some((user, password)) = credentials else {
            return self.refuse_silently(now, "the response of its login is malformed");
        };
        let access = &self.broker.access;
        match access.authenticate_plain(user, password, self.peer.is_loopback) {
            Ok(user) => {
                let config = &self.broker.config;
                ServerMethod::ConnectionTune {
                    channel_max: config.channel_max,
                    frame_max: config.frame_max,
                    heartbeat: config.heartbeat_s,
                }
                .encode(0, &mut self.output);
                self.note_user(&user.name);
                self.user = Some(user);
                self.phase = Phase::Tuning;
            }
            Err(refused) => {
                self.log_login_refused(&refused.log_text(start_ok.mechanism));
                self.refuse_login(start_ok.mechanism, now);
            }
        }
    }

    /// RabbitMQ: says so at once if the client understands it, and drops it after 3 s in any case.
    fn refuse_login(&mut self, mechanism: &str, now: Now) {
        if self.capabilities.authentication_failure_close {
            let refused = Exception::new(
                ReplyCode::AccessRefused,
                format!(
                    "Login was refused using authentication mechanism {mechanism}. For details \
                     see the broker logfile."
                ),
            );
            self.put_connection_close(&refused);
        }
        self.silence(now);
    }

    pub(super) fn refuse_silently(&mut self, now: Now, why: &str) {
        let why = format!("handshake_error in state {}: {why}", self.phase.name());
        self.log_broken(Level::ERROR, &why);
        self.silence(now);
    }

    fn silence(&mut self, now: Now) {
        self.phase = Phase::Silent;
        self.phase_ends_at = Some(now.monotonic.plus(SILENT_CLOSE_MS));
    }

    fn tune_ok(&mut self, tune_ok: &TuneOk, now: Now) -> Result<(), Exception> {
        let config = &self.broker.config;
        let (frame_max, channel_max) = (config.frame_max, config.channel_max);
        // RabbitMQ: the method at fault is our own tune.
        check_tuned("frame_max", tune_ok.frame_max, FRAME_MIN, frame_max)
            .and_then(|()| {
                check_tuned("channel_max", tune_ok.channel_max.into(), 1, channel_max.into())
            })
            .map_err(|refused| refused.at(CONNECTION_TUNE))?;
        self.frame_max = tune_ok.frame_max;
        self.channel_max = tune_ok.channel_max;
        self.heartbeat = match tune_ok.heartbeat {
            0 => Heartbeat::off(),
            seconds => Heartbeat::every(seconds, now.monotonic),
        };
        self.phase = Phase::Opening;
        self.log_tuned();
        Ok(())
    }

    fn open(&mut self, vhost: &str) -> Result<(), Exception> {
        let Some(user) = self.user.take() else {
            return Err(self.unexpected_method());
        };
        let Some(found) = self.broker.vhost(vhost) else {
            return Err(Exception::not_allowed(format!("vhost {vhost} not found")));
        };
        if !self.broker.access.vhost_access(&user, vhost) {
            let text = format!("access to vhost '{vhost}' refused for user '{}'", user.name);
            return Err(Exception::not_allowed(text));
        }
        self.log_opened(&user.name, &found.name);
        let client = Client::new(self.id, user, found, Arc::clone(&self.inbox));
        self.client = Some(Arc::new(client));
        ServerMethod::ConnectionOpenOk.encode(0, &mut self.output);
        self.phase = Phase::Running;
        self.phase_ends_at = None;
        Ok(())
    }
}

/// RabbitMQ: zero is "no limit", and refused where the server has one.
fn check_tuned(what: &str, asked: u32, min: u32, max: u32) -> Result<(), Exception> {
    if asked != 0 && asked < min {
        return Err(Exception::not_allowed(format!(
            "negotiated {what} = {asked} is lower than the minimum allowed value ({min})"
        )));
    }
    if max != 0 && (asked == 0 || asked > max) {
        let no_limit = if asked == 0 { " (no limit)" } else { "" };
        return Err(Exception::not_allowed(format!(
            "negotiated {what} = {asked}{no_limit} is higher than the maximum allowed value ({max})"
        )));
    }
    Ok(())
}
