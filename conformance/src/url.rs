//! `amqp://user:password@host:port/vhost`, with percent-encoding in user, password and vhost.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// `host:port`.
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix("amqp://")
            .ok_or_else(|| format!("{text}: only amqp:// URLs are understood"))?;
        let (authority, vhost) = match rest.split_once('/') {
            Some((authority, path)) => (authority, decode(path)?),
            None => (rest, "/".to_owned()),
        };
        let (login, host) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let address = if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            host.to_owned()
        } else {
            format!("{host}:5672")
        };
        Ok(Self { address, user: decode(user)?, password: decode(password)?, vhost })
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let octet = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(octet.ok_or_else(|| format!("{text}: two hex digits must follow %"))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| format!("{text}: not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_decoded() {
        let url = Url::parse("amqp://u%40x:p%3Aw@127.0.0.1:5673/%2F").unwrap();
        assert_eq!(url.address, "127.0.0.1:5673");
        assert_eq!((url.user.as_str(), url.password.as_str()), ("u@x", "p:w"));
        assert_eq!(url.vhost, "/");
    }

    #[test]
    fn port_login_and_vhost_have_defaults() {
        let url = Url::parse("amqp://localhost").unwrap();
        assert_eq!(url.address, "localhost:5672");
        assert_eq!((url.user.as_str(), url.vhost.as_str()), ("guest", "/"));
    }

    #[test]
    fn other_schemes_and_broken_escapes_are_refused() {
        assert!(Url::parse("http://localhost").is_err());
        assert!(Url::parse("amqp://localhost/%2").is_err());
    }
}
