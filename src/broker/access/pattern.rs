//! The regular expression of one permission, compiled once.

use super::AccessError;
use crate::config::compile_pattern;
use regex::bytes::Regex;

/// A permission's regular expression.
#[derive(Clone)]
pub(super) enum Pattern {
    Anything,
    /// RabbitMQ: an empty pattern allows the empty name only.
    EmptyName,
    Search(Regex),
}

impl Pattern {
    pub(super) fn compile(pattern: &str) -> Result<Self, AccessError> {
        match pattern {
            ".*" => return Ok(Self::Anything),
            "" => return Ok(Self::EmptyName),
            _ => {}
        }
        let regex = compile_pattern(pattern).map(Self::Search);
        regex.map_err(|reason| AccessError::InvalidPattern { pattern: pattern.into(), reason })
    }

    /// Compiles a pattern for routing keys, in which placeholders stand for names.
    pub(super) fn compile_topic(
        pattern: &str,
        user: &str,
        vhost: &str,
    ) -> Result<Self, AccessError> {
        Self::compile(&expand(pattern, user, vhost))
    }

    /// Unanchored, as in RabbitMQ: the pattern may match any part of the name.
    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Anything => true,
            Self::EmptyName => name.is_empty(),
            Self::Search(regex) => regex.is_match(name),
        }
    }
}

/// Puts the names into a topic pattern, escaped, so that a user called `.*` gains nothing.
fn expand(pattern: &str, user: &str, vhost: &str) -> String {
    pattern
        .replace("{username}", &regex::escape(user))
        .replace("{vhost}", &regex::escape(vhost))
        // MQTT alone knows one; in AMQP the placeholder is plain text (RabbitMQ).
        .replace("{client_id}", &regex::escape("{client_id}"))
}
