//! The handshake, step by step, so that a case can leave the path at any of them.

use super::connection::Connection;
use crate::codec::{Method, Table, Value};
use crate::outcome::{Outcome, same};
use crate::url::Url;
use std::rc::Rc;

/// The protocol header of 0-9-1.
pub(crate) const GREETING: &[u8; 8] = b"AMQP\0\0\x09\x01";

/// What the client says during the handshake. A case changes a field, then opens.
pub(crate) struct Login {
    pub(crate) url: Url,
    pub(crate) mechanism: &'static str,
    /// The SASL response; made from user and password when absent.
    pub(crate) response: Option<Vec<u8>>,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
}

impl Login {
    pub(crate) fn new(url: &Url) -> Self {
        Self {
            url: url.clone(),
            mechanism: "PLAIN",
            response: None,
            capabilities: vec![
                "authentication_failure_close",
                "consumer_cancel_notify",
                "connection.blocked",
            ],
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 0,
        }
    }

    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        self.url.user = user.to_owned();
        self.url.password = password.to_owned();
        self
    }

    /// Connected, connection.start read.
    pub(crate) fn greeted(&self) -> Outcome<Rc<Connection>> {
        let connection = Connection::dial(&self.url.address)?;
        connection.send_bytes(GREETING);
        connection.expect("connection.start")?;
        Ok(connection)
    }

    pub(crate) fn start_ok(&self) -> Method {
        let plain = format!("\0{}\0{}", self.url.user, self.url.password);
        let capabilities = self.capabilities.iter().map(|key| ((*key).to_owned(), true.into()));
        let client = Table::from([("capabilities", Value::Table(Table(capabilities.collect())))]);
        Method::new("connection.start-ok")
            .with("client_properties", client)
            .with("mechanism", self.mechanism)
            .with("response", self.response.clone().unwrap_or_else(|| plain.into_bytes()))
            .with("locale", "en_US")
    }

    /// Connected up to connection.tune, which is read but not answered.
    pub(crate) fn authenticated(&self) -> Outcome<Rc<Connection>> {
        let connection = self.greeted()?;
        connection.send(&self.start_ok());
        connection.expect("connection.tune")?;
        Ok(connection)
    }

    pub(crate) fn tune_ok(&self) -> Method {
        Method::new("connection.tune-ok")
            .with("channel_max", self.channel_max)
            .with("frame_max", self.frame_max)
            .with("heartbeat", self.heartbeat)
    }

    pub(crate) fn open_vhost(&self) -> Method {
        Method::new("connection.open").with("virtual_host", &self.url.vhost)
    }

    pub(crate) fn open(&self) -> Outcome<Rc<Connection>> {
        let connection = self.authenticated()?;
        connection.send(&self.tune_ok());
        let ok = connection.call(&self.open_vhost())?;
        same("known hosts", ok.text("known_hosts").as_str(), "")?;
        connection.frame_max.set(self.frame_max as usize);
        Ok(connection)
    }
}
