//! The users of a `rabbitmq.conf` besides the default one: `default_users.NAME.FIELD = value`
//! lines, gathered until the last line is read, since a user is made of several.

use super::conf::{Fault, password, pattern};
use super::{Config, UserConfig, keys, value};
use crate::name::Name;
use std::collections::BTreeMap;

const PREFIX: &str = "default_users.";

const FIELDS: &[&str] = &["configure", "password", "read", "tags", "vhost_pattern", "write"];

/// Users by name, as far as the lines up to now describe them.
#[derive(Default)]
pub(super) struct Users<'a> {
    by_name: BTreeMap<&'a str, Draft<'a>>,
}

/// What lines say about one user.
struct Draft<'a> {
    /// Number and key of its first line.
    first: (usize, &'a str),
    /// With a blank password until there is one.
    user: UserConfig,
}

impl<'a> Users<'a> {
    /// Returns whether the key is one of a user's.
    pub(super) fn take(&mut self, line: usize, key: &'a str, text: &str) -> Result<bool, Fault> {
        let Some(rest) = key.strip_prefix(PREFIX) else {
            return Ok(false);
        };
        // A user's name may have dots, a field has none.
        let (name, field) = rest.rsplit_once('.').unwrap_or(("", rest));
        if name.is_empty() || name.len() > 255 || !FIELDS.contains(&field) {
            return Err(unknown(name, field));
        }
        let begin = || Draft { first: (line, key), user: UserConfig::new(name, "") };
        let user = &mut self.by_name.entry(name).or_insert_with(begin).user;
        match field {
            "password" => user.password = password(key, text)?,
            "tags" => user.tags = tags(text)?,
            "vhost_pattern" => user.vhost_pattern = pattern(text)?,
            "configure" => user.permissions.configure = pattern(text)?,
            "write" => user.permissions.write = pattern(text)?,
            "read" => user.permissions.read = pattern(text)?,
            _ => unreachable!("it is one of FIELDS"),
        }
        Ok(true)
    }

    /// Adds the users to the configuration, in the place of earlier ones with the same names. An
    /// error comes with its line's number and key.
    pub(super) fn apply(self, config: &mut Config) -> Result<(), (usize, &'a str, Fault)> {
        for (name, draft) in self.by_name {
            if draft.user.password.0.is_empty() {
                let (line, key) = draft.first;
                let reason = format!("user '{name}' has no password");
                let way_out = format!("add a line {PREFIX}{name}.password = ...");
                return Err((line, key, Fault::new(reason, way_out)));
            }
            config.users.retain(|user| *user.name != *name);
            config.users.push(draft.user);
        }
        Ok(())
    }
}

/// Reads words with commas between them; no words are no tags.
fn tags(text: &str) -> Result<Vec<Name>, Fault> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    words.map(|word| value::name(word).map_err(|way_out| Fault::value(word, way_out))).collect()
}

fn unknown(name: &str, field: &str) -> Fault {
    let way_out = match keys::nearest(field, FIELDS) {
        Some(near) if !name.is_empty() => format!("did you mean {PREFIX}{name}.{near}?"),
        _ => format!("write {PREFIX}NAME. and one of {}", FIELDS.join(", ")),
    };
    Fault::new("there is no such key", way_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PermissionPatterns;

    fn read(text: &str) -> Result<Config, String> {
        let mut config = Config::default();
        let env = |name: &str| (name == "PASSWORD").then(|| "secret".to_owned());
        let warnings = config.apply_conf("rabbitmq.conf", text, &env);
        assert_eq!(warnings.map_err(|error| error.to_string())?, []);
        Ok(config)
    }

    #[test]
    fn a_user_is_made_of_lines_in_any_order() {
        let config = read(
            "default_users.hare.write = ^w\ndefault_users.b.c.password = x\n\
             default_users.hare.tags = policymaker, monitoring\n\
             default_users.hare.vhost_pattern = ^burrow\ndefault_users.hare.configure = ''\n\
             default_users.hare.password = $(PASSWORD)\n",
        );
        let [dotted, hare] = <[UserConfig; 2]>::try_from(config.unwrap().users).unwrap();
        assert_eq!(dotted, UserConfig::new("b.c", "x"));
        let [configure, write, read] = ["", "^w", ".*"].map(str::to_owned);
        let expected = UserConfig {
            tags: vec!["policymaker".into(), "monitoring".into()],
            vhost_pattern: "^burrow".into(),
            permissions: PermissionPatterns { configure, write, read },
            ..UserConfig::new("hare", "secret")
        };
        assert_eq!(hare, expected);
    }

    #[test]
    fn a_user_that_was_there_is_replaced() {
        let mut config =
            Config { users: vec![UserConfig::new("hare", "old")], ..Config::default() };
        config.apply_conf("conf", "default_users.hare.password = new", &|_| None).unwrap();
        assert_eq!(config.users, [UserConfig::new("hare", "new")]);
    }

    #[test]
    fn a_user_without_password_is_an_error_at_its_first_line() {
        assert_eq!(
            read("\ndefault_users.hare.tags = monitoring\ndefault_users.hare.read = .*").err(),
            Some(
                "rabbitmq.conf:2: default_users.hare.tags: user 'hare' has no password; add a line \
                 default_users.hare.password = ..."
                    .to_owned()
            )
        );
    }

    #[test]
    fn an_error_names_the_line_and_a_way_out() {
        let error = |text: &str| read(text).unwrap_err();
        assert_eq!(
            error("default_users.hare.read = ("),
            "rabbitmq.conf:1: default_users.hare.read: '(' is not a regular expression: unclosed \
             group; correct it, or write .* for every name"
        );
        assert_eq!(
            error("default_users.hare.pasword = x"),
            "rabbitmq.conf:1: default_users.hare.pasword: there is no such key; did you mean \
             default_users.hare.password?"
        );
        assert_eq!(
            error("default_users.hare = x"),
            "rabbitmq.conf:1: default_users.hare: there is no such key; write default_users.NAME. \
             and one of configure, password, read, tags, vhost_pattern, write"
        );
        assert_eq!(
            error("default_users.hare.password = encrypted:x"),
            "rabbitmq.conf:1: default_users.hare.password: encrypted values are not read; pass the \
             password in a variable: default_users.hare.password = $(NAME)"
        );
        assert!(error("default_users.hare.password = ''").contains("lets nobody in"));
        assert!(error("default_users..password = x").contains("no such key"));
    }
}
