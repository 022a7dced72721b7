//! The text of a `rabbitmq.conf`: `key = value` lines, `#` comments, the last line of a key counts.
//!
//! A key of RabbitMQ's that has no effect here is a warning; any other unknown key, and a value out
//! of its range, is an error of one line that says where, what, why and what to write instead.

use super::alarm::{self, Limits};
use super::keys::{self, Known};
use super::users::Users;
use super::{Config, Secret, compile_pattern, value};
use crate::limits::{BODY_SIZE_HARD_MAX, FRAME_MIN};
use crate::name::Name;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// Largest `frame_max`: a frame is gathered in memory before it is read.
const FRAME_MAX_MAX: u64 = 128 << 20;

/// Keys with a fixed name, for the suggestion to a misspelt one.
const KEYS: &[&str] = &[
    "channel_max",
    "cluster_name",
    "consumer_timeout",
    "data_dir",
    "default_pass",
    "default_permissions.configure",
    "default_permissions.read",
    "default_permissions.write",
    "default_user",
    "default_user_tags.administrator",
    "default_vhost",
    "default_vhosts.1",
    "disk_free_limit.absolute",
    "disk_free_limit.relative",
    "durability",
    "frame_max",
    "handshake_timeout",
    "heartbeat",
    "listeners.tcp",
    "listeners.tcp.default",
    "log.console.level",
    "log.default.level",
    "loopback_users",
    "loopback_users.guest",
    "max_message_size",
    "node_name",
    "tcp_listen_options.backlog",
    "tcp_listen_options.nodelay",
    "vm_memory_high_watermark.absolute",
    "vm_memory_high_watermark.relative",
];

/// A line that the broker cannot obey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: String,
    pub line: usize,
    /// The key, or what stands there in place of one.
    pub key: String,
    pub reason: String,
    pub way_out: String,
}

/// A line that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub file: String,
    pub line: usize,
    pub key: String,
    pub reason: NoEffect,
}

/// Why a line has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoEffect {
    NotUsedYet,
    /// The line of that number sets the same key.
    SetAgain(usize),
    /// The line of that number gives a limit that counts in its place.
    Outweighed(usize),
}

/// Why a line fails, before it is known which.
pub(super) struct Fault {
    reason: String,
    way_out: String,
}

/// What single lines say about lists, until all lines are read.
#[derive(Default)]
struct Lists<'a> {
    /// `listeners.tcp = none`.
    no_listeners: bool,
    listeners: BTreeMap<&'a str, SocketAddr>,
    /// `loopback_users = none`.
    no_loopback_users: bool,
    loopback_users: BTreeMap<&'a str, bool>,
    tags: BTreeMap<&'a str, bool>,
    users: Users<'a>,
    limits: Limits,
    vhosts: BTreeMap<&'a str, Name>,
}

pub(super) fn apply(
    config: &mut Config,
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Warning>, ConfigError> {
    let mut lists = Lists::default();
    let mut warnings = Vec::new();
    let error = |line, key: &str, fault: Fault| {
        let Fault { reason, way_out } = fault;
        ConfigError { file: file.into(), line, key: key.into(), reason, way_out }
    };
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let warning =
        |line, key: &str, reason| Warning { file: file.into(), line, key: key.into(), reason };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split(['=', '#']).next().unwrap_or_default().trim();
        let applied = value_of(line)
            .and_then(|value| interpolate(value, env))
            .and_then(|value| apply_line(config, &mut lists, number, key, &value));
        if !applied.map_err(|fault| error(number, key, fault))? {
            warnings.push(warning(number, key, NoEffect::NotUsedYet));
        } else if let Some(before) = seen.insert(key, number) {
            warnings.push(warning(before, key, NoEffect::SetAgain(number)));
        }
    }
    for (absolute, relative) in alarm::OUTWEIGHED {
        if let (Some(line), Some(by)) = (seen.get(absolute), seen.get(relative)) {
            warnings.push(warning(*line, absolute, NoEffect::Outweighed(*by)));
        }
    }
    warnings.sort_by_key(|warning| warning.line);
    let applied = lists.apply(config);
    applied.map_err(|(number, key, fault)| error(number, key, fault))?;
    Ok(warnings)
}

/// What stands behind the `=`. RabbitMQ: a `#` anywhere begins a comment, except in a value in
/// single quotes.
fn value_of(line: &str) -> Result<&str, Fault> {
    let syntax = |reason: &str| Fault::new(reason, "write key = value, or 'value' in quotes");
    let (key, rest) = line.split_once('=').unwrap_or((line, ""));
    if key.contains('#') || !line.contains('=') {
        return Err(syntax("there is no '='"));
    }
    let rest = rest.trim_start();
    if let Some((quoted, after)) = rest.strip_prefix('\'').and_then(|r| r.split_once('\''))
        && (after.trim().is_empty() || after.trim_start().starts_with('#'))
    {
        return Ok(quoted);
    }
    match rest.split('#').next().unwrap_or_default().trim_end() {
        "" => Err(syntax("there is no value")),
        value => Ok(value),
    }
}

/// Replaces each `$(NAME)` by the environment variable of that name.
fn interpolate(value: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Fault> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("$(") {
        let Some((name, after)) = after.split_once(')') else {
            // The rest may be a password, and this ends in a log.
            return Err(Fault::new(
                "there is a $( without its )",
                "write $(NAME); a value that has $( in it comes from a variable",
            ));
        };
        let Some(variable) = env(name) else {
            return Err(Fault::new(
                format!("the environment has no variable {name}"),
                "set it, or write the value itself",
            ));
        };
        out.push_str(before);
        out.push_str(&variable);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns false if the key is RabbitMQ's and has no effect here.
fn apply_line<'a>(
    config: &mut Config,
    lists: &mut Lists<'a>,
    line: usize,
    key: &'a str,
    value: &str,
) -> Result<bool, Fault> {
    if lists.users.take(line, key, value)?
        || lists.limits.take(key, value)?
        || lists.take(key, value)?
        || apply_scalar(config, key, value)?
    {
        return Ok(true);
    }
    match keys::known(key, value) {
        Some(Known::Meaningless) => Ok(true),
        Some(Known::NotUsedYet) => Ok(false),
        None => {
            let guess = keys::guess(key, KEYS);
            let way_out = guess.unwrap_or_else(|| "remove the line, or put a # before it".into());
            Err(Fault::new("there is no such key", way_out))
        }
    }
}

/// Sets the field that belongs to the key, if there is one.
fn apply_scalar(config: &mut Config, key: &str, text: &str) -> Result<bool, Fault> {
    let fault = |way_out| Fault::value(text, way_out);
    match key {
        "handshake_timeout" => {
            config.handshake_timeout_ms = value::number(text, 1..=86_400_000)
                .map_err(|range| fault(format!("{range}, in milliseconds")))?;
        }
        "consumer_timeout" => {
            config.consumer_timeout_ms = value::timeout(text).map_err(fault)?;
        }
        "heartbeat" => {
            let seconds = value::number(text, 0..=u16::MAX);
            config.heartbeat_s =
                seconds.map_err(|range| fault(format!("{range}, in seconds; 0 is none")))?;
        }
        "frame_max" => {
            let bytes = value::size(text, FRAME_MIN.into()..=FRAME_MAX_MAX).map_err(fault)?;
            config.frame_max = u32::try_from(bytes).expect("the range ends below 4 GiB");
        }
        "channel_max" => {
            config.channel_max = value::number(text, 0..=u16::MAX)
                .map_err(|range| fault(format!("{range}; 0 is no limit")))?;
        }
        "max_message_size" => {
            config.max_message_size = value::size(text, 1..=BODY_SIZE_HARD_MAX).map_err(fault)?;
        }
        "tcp_listen_options.backlog" => {
            config.tcp_backlog = value::number(text, 1..=65_535).map_err(fault)?;
        }
        "tcp_listen_options.nodelay" => {
            config.tcp_nodelay = value::boolean(text).map_err(fault)?;
        }
        "log.console.level" | "log.default.level" => {
            config.log_level = text.parse().map_err(fault)?;
        }
        "durability" => config.durability = text.parse().map_err(fault)?,
        "data_dir" if text.is_empty() => return Err(fault("give a directory".into())),
        "data_dir" => config.data_dir = text.into(),
        "node_name" => config.node_name = value::name(text).map_err(fault)?,
        "cluster_name" => config.cluster_name = Some(value::name(text).map_err(fault)?),
        "default_user" => config.default_user = value::name(text).map_err(fault)?,
        "default_vhost" => config.default_vhost = value::name(text).map_err(fault)?,
        "default_pass" => config.default_pass = password(key, text)?,
        "default_permissions.configure" => config.default_permissions.configure = pattern(text)?,
        "default_permissions.write" => config.default_permissions.write = pattern(text)?,
        "default_permissions.read" => config.default_permissions.read = pattern(text)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Its errors do not repeat the value, since they end in a log.
pub(super) fn password(key: &str, text: &str) -> Result<Secret, Fault> {
    if text.is_empty() {
        return Err(Fault::new("a blank password lets nobody in", "give one"));
    }
    if text.starts_with("encrypted:") {
        return Err(Fault::new(
            "encrypted values are not read",
            format!("pass the password in a variable: {key} = $(NAME)"),
        ));
    }
    Ok(Secret(text.into()))
}

/// Checks a regular expression.
pub(super) fn pattern(text: &str) -> Result<String, Fault> {
    match compile_pattern(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(Fault::new(
            format!("'{text}' is not a regular expression: {error}"),
            "correct it, or write .* for every name",
        )),
    }
}

impl<'a> Lists<'a> {
    /// Returns whether the key is one of a list's.
    fn take(&mut self, key: &'a str, text: &str) -> Result<bool, Fault> {
        let fault = |way_out| Fault::value(text, way_out);
        match key {
            "listeners.tcp" | "loopback_users" if text != "none" => {
                return Err(fault(format!("write {key} = none or {key}.NAME = ...")));
            }
            "listeners.tcp" => self.no_listeners = true,
            "loopback_users" => self.no_loopback_users = true,
            _ => {
                if let Some(name) = key.strip_prefix("listeners.tcp.") {
                    let address = value::listener(text).map_err(fault)?;
                    self.listeners.insert(name, address);
                } else if let Some(user) = key.strip_prefix("loopback_users.") {
                    let only_loopback = value::boolean(text).map_err(fault)?;
                    self.loopback_users.insert(user, only_loopback);
                } else if let Some(tag) = key.strip_prefix("default_user_tags.") {
                    self.tags.insert(tag, value::boolean(text).map_err(fault)?);
                } else if let Some(number) = key.strip_prefix("default_vhosts.") {
                    self.vhosts.insert(number, value::name(text).map_err(fault)?);
                } else {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// An error comes with its line's number and key.
    fn apply(self, config: &mut Config) -> Result<(), (usize, &'a str, Fault)> {
        if self.no_listeners {
            config.bind.clear();
            config.extra_listeners.clear();
        } else if let Some(first) = self.listeners.values().next() {
            let port = first.port();
            let (same, other): (Vec<_>, Vec<_>) =
                self.listeners.values().partition(|a| a.port() == port);
            config.amqp_port = port;
            config.bind = same.iter().map(SocketAddr::ip).collect();
            config.extra_listeners = other;
        }
        if self.no_loopback_users {
            config.loopback_users.clear();
        } else {
            for (user, only_loopback) in self.loopback_users {
                config.loopback_users.retain(|name| **name != *user);
                if only_loopback {
                    config.loopback_users.push(user.into());
                }
            }
        }
        // RabbitMQ: tags that are given take the place of administrator.
        if !self.tags.is_empty() {
            let given = self.tags.into_iter().filter(|(_, given)| *given);
            config.default_user_tags = given.map(|(tag, _)| Name::new(tag)).collect();
        }
        if !self.vhosts.is_empty() {
            config.vhosts = self.vhosts.into_values().collect();
        }
        self.limits.apply(config);
        self.users.apply(config)
    }
}

impl Fault {
    pub(super) fn new(reason: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { reason: reason.into(), way_out: way_out.into() }
    }

    pub(super) fn value(text: &str, way_out: String) -> Self {
        Self::new(format!("'{text}' is not a value for it"), way_out)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, reason, way_out } = self;
        write!(f, "{file}:{line}: {key}: {reason}; {way_out}")
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, key, reason } = self;
        write!(f, "{file}:{line}: {key} ")?;
        match reason {
            NoEffect::NotUsedYet => f.write_str("is not used yet and has no effect"),
            NoEffect::SetAgain(by) => write!(f, "has no effect, since line {by} sets it again"),
            NoEffect::Outweighed(by) => {
                write!(f, "has no effect, since line {by} gives a relative limit")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Config, Vec<String>), String> {
        let mut config = Config::default();
        let env = |name: &str| (name == "SEED").then(|| "hare".to_owned());
        match config.apply_conf("rabbitmq.conf", text, &env) {
            Ok(warnings) => Ok((config, warnings.iter().map(Warning::to_string).collect())),
            Err(error) => Err(error.to_string()),
        }
    }

    fn config(text: &str) -> Config {
        let (config, warnings) = read(text).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        config
    }

    #[test]
    fn the_last_line_of_a_key_counts_and_comments_do_not() {
        let text = "\u{feff}# first\r\nheartbeat=10\n\n  heartbeat = 20 # s\n#heartbeat = 30";
        let (config, warnings) = read(text).unwrap();
        assert_eq!(config.heartbeat_s, 20);
        let expected = "rabbitmq.conf:2: heartbeat has no effect, since line 4 sets it again";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn a_variable_whose_bracket_is_not_closed_is_no_password() {
        let error = read("default_pass = secret$(NOPE").unwrap_err();
        assert_eq!(
            error,
            "rabbitmq.conf:1: default_pass: there is a $( without its ); write $(NAME); a value \
             that has $( in it comes from a variable"
        );
    }

    #[test]
    fn a_key_that_wants_another_part_says_which() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(
            error("vm_memory_high_watermark = 0.5"),
            "rabbitmq.conf:1: vm_memory_high_watermark: there is no such key; did you mean \
             vm_memory_high_watermark.absolute or vm_memory_high_watermark.relative?"
        );
        assert!(
            error("disk_free_limit = 50MB")
                .ends_with("did you mean disk_free_limit.absolute or disk_free_limit.relative?")
        );
    }

    #[test]
    fn who_wants_no_log_on_the_console_is_told_that_there_is_one() {
        let (_, warnings) = read("log.console = false").unwrap();
        let expected = "rabbitmq.conf:1: log.console is not used yet and has no effect";
        assert_eq!(warnings, [expected]);
        assert_eq!(read("log.console = true").unwrap().1, [""; 0]);
    }

    #[test]
    fn a_quoted_value_keeps_its_hash_and_a_bare_one_ends_there() {
        let pass = |text: &str| config(text).default_pass.0;
        assert_eq!(pass("default_pass = 'pa#ss' # new"), "pa#ss");
        assert_eq!(pass("default_pass = pass# new"), "pass");
        assert_eq!(pass("default_pass = a=b"), "a=b");
    }

    #[test]
    fn the_environment_fills_in_values() {
        let config = config("default_user = $(SEED)\ncluster_name = c-$(SEED)-1\n");
        assert_eq!(&*config.default_user, "hare");
        assert_eq!(&**config.cluster_name(), "c-hare-1");
        assert_eq!(
            read("heartbeat = 1\ndefault_user = $(NONE)").unwrap_err(),
            "rabbitmq.conf:2: default_user: the environment has no variable NONE; set it, or write \
             the value itself"
        );
    }

    #[test]
    fn listeners_replace_the_default_and_share_a_port_where_they_can() {
        let listeners = |text: &str| {
            let listeners = config(text).amqp_listeners();
            listeners.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(listeners(""), ["[::]:5672"]);
        assert_eq!(listeners("listeners.tcp.default = 5673"), ["[::]:5673"]);
        assert_eq!(listeners("listeners.tcp = none"), [""; 0]);
        assert_eq!(
            listeners(
                "listeners.tcp.1 = 127.0.0.1:1\nlisteners.tcp.2 = ::1:2\nlisteners.tcp.3 = ::1:1"
            ),
            ["127.0.0.1:1", "[::1]:1", "[::1]:2"]
        );
    }

    #[test]
    fn loopback_users_are_edited_and_tags_replaced() {
        let config = config("loopback_users.guest = false\nloopback_users.admin = true\n");
        assert_eq!(config.loopback_users, [Name::new("admin")]);
        assert_eq!(config.default_user_tags, [Name::new("administrator")]);
        assert!(self::config("loopback_users = none").loopback_users.is_empty());
        let tags = self::config("default_user_tags.monitoring = true").default_user_tags;
        assert_eq!(tags, [Name::new("monitoring")]);
    }

    #[test]
    fn vhosts_are_a_list() {
        assert_eq!(
            config("default_vhosts.2 = b\ndefault_vhosts.1 = /a").vhosts,
            [Name::new("/a"), Name::new("b")]
        );
        assert!(config("").vhosts.is_empty());
    }

    #[test]
    fn every_scalar_key_reaches_its_field() {
        let config = config(
            "handshake_timeout = 5000\nconsumer_timeout = 7000\n\
             frame_max = 256kb\nchannel_max = 0\n\
             max_message_size = 1048576\ntcp_listen_options.backlog = 4096\n\
             tcp_listen_options.nodelay = false\nlog.console.level = warning\n\
             durability = os\ndata_dir = /var/lib/leveret\nnode_name = hare@burrow\n\
             default_vhost = v\ndefault_permissions.configure = ''\n\
             default_permissions.write = w\ndefault_permissions.read = r\n",
        );
        assert_eq!(config.handshake_timeout_ms, 5000);
        assert_eq!(config.consumer_timeout_ms, Some(7000));
        assert_eq!((config.frame_max, config.channel_max), (262_144, 0));
        assert_eq!(config.max_message_size, 1_048_576);
        assert_eq!((config.tcp_backlog, config.tcp_nodelay), (4096, false));
        assert_eq!(config.log_level, crate::config::LogLevel::Warning);
        assert_eq!(config.durability, crate::config::Durability::Os);
        assert_eq!(config.data_dir.to_str(), Some("/var/lib/leveret"));
        assert_eq!((&*config.node_name, &*config.default_vhost), ("hare@burrow", "v"));
        let given = config.default_permissions;
        assert_eq!([given.configure, given.write, given.read], ["", "w", "r"]);
    }

    #[test]
    fn a_consumer_may_be_given_all_time() {
        for none in ["undefined", "false"] {
            let config = config(&format!("consumer_timeout = {none}"));
            assert_eq!(config.consumer_timeout_ms, None);
        }
        assert_eq!(config("").consumer_timeout_ms, Some(1_800_000));
    }

    #[test]
    fn a_key_of_rabbitmq_without_effect_is_a_warning_or_nothing() {
        let (_, warnings) = read("ssl_options.verify = verify_peer\nnet_ticktime = 60").unwrap();
        let expected = "rabbitmq.conf:1: ssl_options.verify is not used yet and has no effect";
        assert_eq!(warnings, [expected]);
    }

    #[test]
    fn an_error_is_one_line_with_a_way_out() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(
            error("\nhartbeat = 10"),
            "rabbitmq.conf:2: hartbeat: there is no such key; did you mean heartbeat?"
        );
        assert_eq!(
            error("heartbeat = 10s"),
            "rabbitmq.conf:1: heartbeat: '10s' is not a value for it; give a whole number from 0 \
             to 65535, in seconds; 0 is none"
        );
        for bad in [
            "heartbeat",
            "heartbeat # = 10",
            "heartbeat =",
            "consumer_timeout = 0",
            "frame_max = 0",
            "max_message_size = 1gb",
            "default_pass = encrypted:xyz",
            "default_pass = ''",
            "loopback_users = guest",
            "default_user_tags.x = maybe",
            "default_permissions.read = [",
            "default_vhosts = v",
            "default_vhosts.1 = ''",
            "listeners.tcp.1 = somewhere",
            "unheard.of = 1",
        ] {
            let text = error(bad);
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    /// Texts made of what lines are made of, whole and torn.
    const TEXTS: &str = "([a-z_.]{0,12}[ ='#$()\\n]{0,3}\\PC{0,4}){0,8}";

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_an_error(text in TEXTS) {
            let _ = read(&text);
            let _ = read(&format!("heartbeat = {text}"));
        }
    }
}
