//! Configuration: what an operator may choose, with the defaults.
//!
//! This module reads no file: `conf` parses the text of a `rabbitmq.conf`, `cli/` reads files and
//! arguments. Every value in a `Config` has been checked where it came in.

mod alarm;
mod conf;
mod keys;
mod pattern;
mod users;
mod value;

pub use alarm::ResourceLimit;
pub use conf::{ConfigError, NoEffect, Warning};
pub use pattern::compile_pattern;

use crate::limits;
use crate::name::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Everything the broker is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to accept AMQP on, all at `amqp_port`. `[::]`, the default, takes IPv4 as well; a
    /// machine without IPv6 binds `0.0.0.0` in its place.
    pub bind: Vec<IpAddr>,
    /// Zero takes any free port.
    pub amqp_port: u16,
    /// Listeners at other ports than `amqp_port` (`listeners.tcp.2 = 127.0.0.1:5673`).
    pub extra_listeners: Vec<SocketAddr>,
    /// Connections that the kernel keeps waiting to be accepted.
    pub tcp_backlog: u32,
    pub tcp_nodelay: bool,
    /// Created if missing.
    pub data_dir: PathBuf,
    pub durability: Durability,
    pub sizes: Sizes,
    pub log_level: LogLevel,
    pub node_name: Name,
    /// What clients see as `cluster_name`; the node's name if not set.
    pub cluster_name: Option<Name>,
    /// From accept to open-ok.
    pub handshake_timeout_ms: u64,
    /// A delivery that is not acknowledged for so long ends its channel; `None`: it may take for
    /// ever.
    pub consumer_timeout_ms: Option<u64>,
    /// Offered in tune; 0 asks for no heartbeats.
    pub heartbeat_s: u16,
    pub frame_max: u32,
    /// Channels open at once in a connection; 0 is no limit.
    pub channel_max: u16,
    /// Bytes of a message's body.
    pub max_message_size: u64,
    /// Publishers are blocked while the process uses more memory than this (RSS: in a program that
    /// embeds the broker, all of it, with what the allocator keeps).
    pub memory_high_watermark: ResourceLimit,
    /// Publishers are blocked while the data directory has less room than this.
    pub disk_free_limit: ResourceLimit,
    /// Users that may log in from this machine only.
    pub loopback_users: Vec<Name>,
    /// The user that is always there, the vhost that is created if missing, and what the one may do
    /// in the other.
    pub default_user: Name,
    pub default_pass: Secret,
    pub default_user_tags: Vec<Name>,
    pub default_vhost: Name,
    pub default_permissions: PermissionPatterns,
    /// Users besides the default one; an entry with its name counts in its place. Users are not
    /// stored: each start makes them anew from here.
    pub users: Vec<UserConfig>,
    /// Vhosts besides the default one that are created if missing, and stay.
    pub vhosts: Vec<Name>,
}

/// How the store and the queues cut what they hold. Tests use tiny ones, to cross every boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of a journal segment.
    pub segment_bytes: u64,
    /// Segments' worth of dead bytes that a busy broker leaves alone.
    pub slack_segments: u64,
    /// Records of a journal segment, at most, but for what one sync covers.
    pub segment_records: u64,
    /// Payload of a journal frame, at most; a longer record goes over several.
    pub frame_bytes: usize,
    /// Messages of a page of a queue or of an index.
    pub page_len: usize,
    /// Messages that a queue reads ahead, and that come back in one load, at most.
    pub load_len: usize,
    /// Bytes of messages that the queues hold before stored ones leave memory.
    pub resident_bytes: u64,
    /// The same before transient ones are spilled to disk; a part of the memory watermark if not
    /// set, and then only where memory and disk are not the same.
    pub spill_bytes: Option<u64>,
    /// Bytes of a file of spilled messages.
    pub spill_file_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_bytes: limits::SEGMENT_BYTES,
            slack_segments: limits::SLACK_SEGMENTS,
            segment_records: limits::SEGMENT_RECORDS_MAX,
            frame_bytes: limits::FRAME_BYTES,
            page_len: limits::PAGE_LEN,
            load_len: limits::LOAD_LEN,
            resident_bytes: limits::RESIDENT_BYTES,
            spill_bytes: None,
            spill_file_bytes: limits::SPILL_FILE_BYTES,
        }
    }
}

/// When something counts as written.
///
/// The stronger is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// With the operating system: a confirm survives the broker's end, but not power loss.
    Os,
    /// On the disk: a confirm survives power loss.
    #[default]
    Fsync,
}

/// The least severe line that the log shows, by RabbitMQ's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    /// Nothing is logged.
    None,
}

/// A user's permissions in a vhost: three regular expressions for names of exchanges and queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionPatterns {
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// A user, and the same permissions in all vhosts that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserConfig {
    pub name: Name,
    pub password: Secret,
    pub tags: Vec<Name>,
    /// A regular expression; it need not match the whole name of a vhost.
    pub vhost_pattern: String,
    pub permissions: PermissionPatterns,
}

/// A password that shows up in no debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: vec![Ipv6Addr::UNSPECIFIED.into()],
            amqp_port: 5672,
            extra_listeners: Vec::new(),
            tcp_backlog: 128,
            tcp_nodelay: true,
            data_dir: PathBuf::from("leveret-data"),
            durability: Durability::default(),
            sizes: Sizes::default(),
            log_level: LogLevel::default(),
            node_name: "leveret@localhost".into(),
            cluster_name: None,
            handshake_timeout_ms: limits::HANDSHAKE_MS_MAX,
            consumer_timeout_ms: Some(limits::CONSUMER_TIMEOUT_MS),
            heartbeat_s: limits::HEARTBEAT_S,
            frame_max: limits::FRAME_MAX,
            channel_max: limits::CHANNELS_MAX,
            max_message_size: limits::MESSAGE_SIZE_MAX,
            memory_high_watermark: ResourceLimit::Relative(limits::MEMORY_HIGH_WATERMARK),
            disk_free_limit: ResourceLimit::Absolute(limits::DISK_FREE_BYTES_MIN),
            loopback_users: vec!["guest".into()],
            default_user: "guest".into(),
            default_pass: Secret("guest".into()),
            default_user_tags: vec!["administrator".into()],
            default_vhost: "/".into(),
            default_permissions: PermissionPatterns::anything(),
            users: Vec::new(),
            vhosts: Vec::new(),
        }
    }
}

impl Config {
    /// For tests and for a broker inside another program: any free port of 127.0.0.1.
    #[must_use]
    pub fn on_loopback(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            bind: vec![Ipv4Addr::LOCALHOST.into()],
            amqp_port: 0,
            data_dir: data_dir.into(),
            ..Self::default()
        }
    }

    /// Takes over what the text of a `rabbitmq.conf` sets; of several lines for one key the last
    /// counts. `file` is the name for messages; `env` looks up the NAME of a `$(NAME)` in a value.
    ///
    /// # Errors
    /// The first line that cannot be obeyed; `self` may have changed in part.
    pub fn apply_conf(
        &mut self,
        file: &str,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Warning>, ConfigError> {
        conf::apply(self, file, text, env)
    }

    /// Every address to accept AMQP on.
    #[must_use]
    pub fn amqp_listeners(&self) -> Vec<SocketAddr> {
        let bound = self.bind.iter();
        let bound = bound.map(|ip| SocketAddr::new(*ip, self.amqp_port));
        bound.chain(self.extra_listeners.iter().copied()).collect()
    }

    #[must_use]
    pub fn cluster_name(&self) -> &Name {
        self.cluster_name.as_ref().unwrap_or(&self.node_name)
    }
}

impl PermissionPatterns {
    #[must_use]
    pub fn anything() -> Self {
        Self { configure: ".*".into(), write: ".*".into(), read: ".*".into() }
    }
}

impl UserConfig {
    /// A user without tags who may do anything in every vhost.
    #[must_use]
    pub fn new(name: &str, password: &str) -> Self {
        Self {
            name: name.into(),
            password: Secret(password.into()),
            tags: Vec::new(),
            vhost_pattern: ".*".into(),
            permissions: PermissionPatterns::anything(),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word {
            "debug" => Self::Debug,
            "info" => Self::Info,
            "notice" | "warning" => Self::Warning,
            "error" | "critical" | "alert" | "emergency" => Self::Error,
            "none" => Self::None,
            _ => return Err("choose debug, info, warning, error, critical or none".into()),
        })
    }
}

impl std::str::FromStr for Durability {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "fsync" => Ok(Self::Fsync),
            "os" => Ok(Self::Os),
            _ => Err("choose fsync or os".into()),
        }
    }
}
