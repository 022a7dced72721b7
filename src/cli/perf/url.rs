//! `amqp://user:password@host:port/vhost`, split and percent-decoded. Opens nothing.
use super::error::{PerfError, Result};
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmqpUrl {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
}

const PORT: u16 = 5672;

impl FromStr for AmqpUrl {
    type Err = PerfError;

    fn from_str(url: &str) -> Result<Self> {
        let bad = |reason: &str| {
            PerfError::new(format!(
                "bad AMQP address: {reason}; write amqp://user:password@host:port/vhost"
            ))
        };
        if url.starts_with("amqps://") {
            return Err(bad("TLS is not spoken by this load generator"));
        }
        let Some(rest) = url.strip_prefix("amqp://") else {
            return Err(bad("it does not start with amqp://"));
        };
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, vhost)) => (authority, Some(vhost)),
            None => (rest, None),
        };
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (login, address),
            None => ("guest:guest", authority),
        };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = split_port(address).ok_or_else(|| bad("the port is not a number"))?;
        let decoded = |text| percent_decoded(text).ok_or_else(|| bad("a % escape is broken"));
        let vhost = match vhost {
            // RabbitMQ: a lone slash names the vhost "", which nobody has.
            None | Some("") => "/".to_owned(),
            Some(name) => decoded(name)?,
        };
        let (user, password) = (decoded(user)?, decoded(password)?);
        let host = if host.is_empty() { "127.0.0.1" } else { host }.to_owned();
        Ok(Self { host, port, user, password, vhost })
    }
}

fn split_port(address: &str) -> Option<(&str, u16)> {
    if let Some(rest) = address.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => port.is_empty().then_some((host, PORT)),
        };
    }
    match address.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((address, PORT)),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> AmqpUrl {
        text.parse().unwrap()
    }

    #[test]
    fn every_part_is_taken_and_decoded() {
        let url = url("amqp://us%40er:p%3Aw@broker.example:5673/%2Fteam");
        assert_eq!((url.user.as_str(), url.password.as_str()), ("us@er", "p:w"));
        assert_eq!((url.host.as_str(), url.port), ("broker.example", 5673));
        assert_eq!(url.vhost, "/team");
    }

    #[test]
    fn what_is_left_out_has_the_customary_default() {
        let bare = url("amqp://");
        assert_eq!(bare, url("amqp://guest:guest@127.0.0.1:5672/%2F"));
        assert_eq!(url("amqp://h/").vhost, "/");
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        assert_eq!((url("amqp://[::1]:7").host.as_str(), url("amqp://[::1]:7").port), ("::1", 7));
        assert_eq!(url("amqp://[::1]").port, PORT);
    }

    #[test]
    fn nonsense_is_refused_with_the_way_out() {
        for text in ["http://h", "amqps://h", "amqp://h:x", "amqp://h/%2", "amqp://[::1"] {
            let error = text.parse::<AmqpUrl>().unwrap_err().to_string();
            assert!(error.contains("amqp://user:password@host:port/vhost"), "{text}: {error}");
        }
    }
}
