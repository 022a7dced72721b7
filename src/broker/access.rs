//! Who may log in, and what a user may touch: accounts, permissions per vhost, topic permissions.
//!
//! Pure: no file, clock or random source; whoever makes a password hash brings the salt. A channel
//! may keep answers for as long as `version` stands still: it reads the version first, then asks.

mod password;
mod pattern;

pub use password::PasswordHash;

use self::pattern::Pattern;
use crate::config::{PermissionPatterns, compile_pattern};
use crate::exception::Permission;
use crate::name::Name;
use hashbrown::HashMap;
use parking_lot::RwLock;
use regex::bytes::Regex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All accounts of a broker and what they are allowed.
pub struct Access {
    accounts: RwLock<HashMap<Name, Account>>,
    /// Users that may log in from this machine only.
    loopback_users: Box<[Name]>,
    /// Grows with each change, while the accounts are still locked.
    version: AtomicU64,
}

/// A user who logged in, as of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Name,
    pub tags: Arc<[Tag]>,
}

/// What a user is besides his permissions. AMQP itself asks for none but `Impersonator`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    Administrator,
    Monitoring,
    Policymaker,
    Management,
    /// May publish under any user-id.
    Impersonator,
    /// Any other word: kept and shown, without effect.
    Other(Name),
}

/// A login that failed; the client learns only that it did, the log learns why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginRefused {
    /// Wrong or blank password, or no such user: the texts do not tell them apart.
    InvalidCredentials { user: String },
    /// The right password from the wrong place.
    LoopbackOnly { user: String },
}

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessError {
    NoSuchUser(String),
    InvalidPattern { pattern: String, reason: String },
}

struct Account {
    /// Without one, no password lets this user in.
    password: Option<PasswordHash>,
    tags: Arc<[Tag]>,
    /// By vhost.
    grants: HashMap<Name, Grant>,
    /// What the user may do in each vhost that comes, if the name matches.
    default_grant: Option<(Regex, Grant)>,
    /// By vhost, then by exchange.
    topic_grants: HashMap<Name, HashMap<Name, TopicGrant>>,
}

#[derive(Clone)]
struct Grant {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

struct TopicGrant {
    write: Pattern,
    read: Pattern,
}

impl Access {
    /// No accounts yet. `loopback_users` may log in from this machine only.
    #[must_use]
    pub fn new(loopback_users: &[Name]) -> Self {
        Self {
            accounts: RwLock::default(),
            loopback_users: loopback_users.into(),
            version: AtomicU64::new(1),
        }
    }

    /// Changes when any answer given here may have changed.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether the password is right for the user, and the user may come from where the peer is.
    ///
    /// # Errors
    /// Why the login failed, for the log.
    pub fn authenticate_plain(
        &self,
        user: &str,
        password: &str,
        peer_is_loopback: bool,
    ) -> Result<User, LoginRefused> {
        let expected = self.accounts.read().get(user).and_then(|a| a.password);
        // An unknown user costs a hash too, or the time would tell which users exist.
        let right = expected.unwrap_or(PasswordHash::DECOY).verify(password);
        let known = self.user(user).filter(|_| expected.is_some());
        let Some(known) = known.filter(|_| right && !password.is_empty()) else {
            return Err(LoginRefused::InvalidCredentials { user: user.into() });
        };
        // RabbitMQ: only after the password was right, so that the place gives no account away.
        if !peer_is_loopback && self.loopback_users.contains(&known.name) {
            return Err(LoginRefused::LoopbackOnly { user: user.into() });
        }
        Ok(known)
    }

    /// The user of that name, with its tags as they are now.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<User> {
        let accounts = self.accounts.read();
        let (name, account) = accounts.get_key_value(name)?;
        Some(User { name: name.clone(), tags: Arc::clone(&account.tags) })
    }

    /// Whether the user may open the vhost: it has permissions there, whatever they are.
    #[must_use]
    pub fn vhost_access(&self, user: &User, vhost: &str) -> bool {
        let accounts = self.accounts.read();
        let account = accounts.get(&user.name);
        account.is_some_and(|a| a.grants.contains_key(vhost))
    }

    /// Whether the user may do this to the exchange or queue. The default exchange goes by the name
    /// `amq.default`.
    #[must_use]
    pub fn check(&self, user: &User, vhost: &str, permission: Permission, name: &str) -> bool {
        let accounts = self.accounts.read();
        let account = accounts.get(&user.name);
        account
            .and_then(|a| a.grants.get(vhost))
            .is_some_and(|grant| grant.pattern(permission).matches(name.as_bytes()))
    }

    /// Whether the user may write or read this routing key of a topic exchange, for which it has
    /// the permission already. Without a topic permission every key is allowed.
    #[must_use]
    pub fn check_topic(
        &self,
        user: &User,
        vhost: &str,
        exchange: &str,
        permission: Permission,
        routing_key: &[u8],
    ) -> bool {
        let accounts = self.accounts.read();
        let Some(account) = accounts.get(&user.name) else {
            return false;
        };
        let by_exchange = account.topic_grants.get(vhost);
        let grant = by_exchange.and_then(|grants| grants.get(exchange));
        match (grant, permission) {
            (None, _) => true,
            (Some(grant), Permission::Write) => grant.write.matches(routing_key),
            (Some(grant), Permission::Read) => grant.read.matches(routing_key),
            (Some(_), Permission::Configure) => unreachable!("no method configures a topic"),
        }
    }

    /// Creates the user, or changes its password and tags; its permissions stay.
    pub fn set_user(&self, name: &str, password: Option<PasswordHash>, tags: &[Tag]) {
        let mut accounts = self.accounts.write();
        let account = accounts.entry(Name::new(name));
        let account = account.or_insert_with(Account::without_rights);
        account.password = password;
        account.tags = tags.into();
        self.changed();
    }

    /// Whether there was such a user.
    pub fn delete_user(&self, name: &str) -> bool {
        let mut accounts = self.accounts.write();
        let was_there = accounts.remove(name).is_some();
        self.changed();
        was_there
    }

    /// Sets what the user may do in the vhost.
    ///
    /// # Errors
    /// There is no such user, or a pattern is no regular expression; nothing changed then.
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        patterns: &PermissionPatterns,
    ) -> Result<(), AccessError> {
        let grant = Grant::compile(patterns)?;
        self.change_account(user, |account| {
            account.grants.insert(Name::new(vhost), grant);
        })
    }

    /// Sets what the user may do in vhosts of which `create_vhost` tells later, if a part of the
    /// name matches.
    ///
    /// # Errors
    /// There is no such user, or a pattern is no regular expression; nothing changed then.
    pub fn set_default_permissions(
        &self,
        user: &str,
        vhost_pattern: &str,
        patterns: &PermissionPatterns,
    ) -> Result<(), AccessError> {
        let vhosts = compile_pattern(vhost_pattern);
        let vhosts = vhosts.map_err(|reason| {
            let pattern = vhost_pattern.into();
            AccessError::InvalidPattern { pattern, reason }
        })?;
        let grant = Grant::compile(patterns)?;
        self.change_account(user, |account| account.default_grant = Some((vhosts, grant)))
    }

    /// Takes all permissions in the vhost from the user.
    ///
    /// # Errors
    /// There is no such user.
    pub fn clear_permissions(&self, user: &str, vhost: &str) -> Result<(), AccessError> {
        self.change_account(user, |account| {
            account.grants.remove(vhost);
        })
    }

    /// Limits the user to some routing keys of a topic exchange. `{username}` and `{vhost}` stand
    /// for the names of both.
    ///
    /// # Errors
    /// There is no such user, or a pattern is no regular expression; nothing changed then.
    pub fn set_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        write: &str,
        read: &str,
    ) -> Result<(), AccessError> {
        let grant = TopicGrant {
            write: Pattern::compile_topic(write, user, vhost)?,
            read: Pattern::compile_topic(read, user, vhost)?,
        };
        self.change_account(user, |account| {
            let by_exchange = account.topic_grants.entry(Name::new(vhost)).or_default();
            by_exchange.insert(Name::new(exchange), grant);
        })
    }

    /// Lifts the limits on one topic exchange, or without one on all of the vhost.
    ///
    /// # Errors
    /// There is no such user.
    pub fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), AccessError> {
        self.change_account(user, |account| match exchange {
            None => {
                account.topic_grants.remove(vhost);
            }
            Some(exchange) => {
                if let Some(by_exchange) = account.topic_grants.get_mut(vhost) {
                    by_exchange.remove(exchange);
                }
            }
        })
    }

    /// Gives users their default permissions in a vhost, since the vhost is new.
    pub fn create_vhost(&self, vhost: &str) {
        let mut accounts = self.accounts.write();
        for account in accounts.values_mut() {
            if let Some((vhosts, grant)) = &account.default_grant
                && vhosts.is_match(vhost.as_bytes())
            {
                account.grants.insert(Name::new(vhost), grant.clone());
            }
        }
        self.changed();
    }

    /// Forgets all that users were allowed in a vhost, since the vhost is deleted.
    pub fn delete_vhost(&self, vhost: &str) {
        let mut accounts = self.accounts.write();
        for account in accounts.values_mut() {
            account.grants.remove(vhost);
            account.topic_grants.remove(vhost);
        }
        self.changed();
    }

    fn change_account(
        &self,
        user: &str,
        change: impl FnOnce(&mut Account),
    ) -> Result<(), AccessError> {
        let mut accounts = self.accounts.write();
        let account = accounts.get_mut(user);
        let account = account.ok_or_else(|| AccessError::NoSuchUser(user.into()))?;
        change(account);
        self.changed();
        Ok(())
    }

    /// Called with the accounts locked: who sees the new version also waits for the new accounts.
    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Access(version {})", self.version())
    }
}

impl User {
    #[must_use]
    pub fn has_tag(&self, tag: &Tag) -> bool {
        self.tags.contains(tag)
    }

    /// Whether a message of this user may name `user_id` as its sender.
    #[must_use]
    pub fn may_publish_as(&self, user_id: &[u8]) -> bool {
        self.name.as_bytes() == user_id || self.has_tag(&Tag::Impersonator)
    }
}

impl From<&str> for Tag {
    fn from(word: &str) -> Self {
        match word {
            "administrator" => Self::Administrator,
            "monitoring" => Self::Monitoring,
            "policymaker" => Self::Policymaker,
            "management" => Self::Management,
            "impersonator" => Self::Impersonator,
            other => Self::Other(Name::new(other)),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Administrator => "administrator",
            Self::Monitoring => "monitoring",
            Self::Policymaker => "policymaker",
            Self::Management => "management",
            Self::Impersonator => "impersonator",
            Self::Other(word) => word,
        })
    }
}

impl LoginRefused {
    /// The line for the log. `mechanism` is the SASL mechanism that the client chose.
    #[must_use]
    pub fn log_text(&self, mechanism: &str) -> String {
        format!("{mechanism} login refused: {self}")
    }
}

impl fmt::Display for LoginRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidCredentials { user } => write!(f, "user '{user}' - invalid credentials"),
            Self::LoopbackOnly { user } => {
                write!(f, "user '{user}' can only connect via localhost")
            }
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchUser(user) => write!(f, "no user '{user}'"),
            Self::InvalidPattern { pattern, reason } => {
                write!(f, "'{pattern}' is not a regular expression: {reason}")
            }
        }
    }
}

impl Account {
    fn without_rights() -> Self {
        Self {
            password: None,
            tags: [].into(),
            grants: HashMap::new(),
            default_grant: None,
            topic_grants: HashMap::new(),
        }
    }
}

impl Grant {
    fn compile(patterns: &PermissionPatterns) -> Result<Self, AccessError> {
        Ok(Self {
            configure: Pattern::compile(&patterns.configure)?,
            write: Pattern::compile(&patterns.write)?,
            read: Pattern::compile(&patterns.read)?,
        })
    }

    fn pattern(&self, permission: Permission) -> &Pattern {
        match permission {
            Permission::Configure => &self.configure,
            Permission::Write => &self.write,
            Permission::Read => &self.read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(configure: &str, write: &str, read: &str) -> PermissionPatterns {
        PermissionPatterns { configure: configure.into(), write: write.into(), read: read.into() }
    }

    fn access() -> Access {
        let access = Access::new(&["guest".into()]);
        access.set_user(
            "guest",
            Some(PasswordHash::new("guest", [1, 2, 3, 4])),
            &["administrator".into()],
        );
        access.set_user("hare", Some(PasswordHash::new("", [0; 4])), &[]);
        access
    }

    #[test]
    fn a_login_needs_the_password_and_for_guest_the_right_place() {
        let access = access();
        let user = access.authenticate_plain("guest", "guest", true).unwrap();
        assert!(user.has_tag(&Tag::Administrator));
        let refused = |user: &str, password: &str, loopback| {
            let refused = access.authenticate_plain(user, password, loopback);
            refused.unwrap_err().log_text("PLAIN")
        };
        assert_eq!(
            refused("guest", "wrong", false),
            "PLAIN login refused: user 'guest' - invalid credentials"
        );
        assert_eq!(
            refused("guest", "guest", false),
            "PLAIN login refused: user 'guest' can only connect via localhost"
        );
        assert!(refused("nobody", "guest", true).ends_with("'nobody' - invalid credentials"));
    }

    #[test]
    fn a_blank_password_is_refused_even_if_it_was_set() {
        assert!(access().authenticate_plain("hare", "", true).is_err());
    }

    #[test]
    fn a_user_without_password_hash_cannot_log_in() {
        let access = access();
        access.set_user("certificate", None, &[]);
        assert!(access.authenticate_plain("certificate", "x", true).is_err());
    }

    #[test]
    fn patterns_search_unanchored_and_an_empty_one_matches_the_empty_name_only() {
        let access = access();
        let hare = access.user("hare").unwrap();
        assert!(!access.vhost_access(&hare, "/"));
        let rights = patterns("", "^orders[.]", "inbox");
        access.set_permissions("hare", "/", &rights).unwrap();
        assert!(access.vhost_access(&hare, "/") && !access.vhost_access(&hare, "other"));
        let may = |permission, name| access.check(&hare, "/", permission, name);
        assert!(may(Permission::Configure, "") && !may(Permission::Configure, "q"));
        assert!(may(Permission::Write, "orders.eu") && !may(Permission::Write, "my.orders.eu"));
        assert!(may(Permission::Read, "my inbox 1") && !may(Permission::Read, "outbox"));
        assert!(!access.check(&hare, "other", Permission::Read, "inbox"));
        access.clear_permissions("hare", "/").unwrap();
        assert!(!may(Permission::Read, "my inbox 1"));
    }

    #[test]
    fn default_permissions_reach_the_vhosts_that_match_when_they_come() {
        let access = access();
        let hare = access.user("hare").unwrap();
        access.set_default_permissions("hare", "burrow", &patterns("", "w", "")).unwrap();
        assert!(!access.vhost_access(&hare, "my burrow"));
        access.create_vhost("my burrow");
        access.create_vhost("field");
        assert!(access.vhost_access(&hare, "my burrow") && !access.vhost_access(&hare, "field"));
        assert!(access.check(&hare, "my burrow", Permission::Write, "w"));
        assert!(!access.check(&hare, "my burrow", Permission::Read, "w"));
        let bad = access.set_default_permissions("hare", "(", &patterns("", "", ""));
        assert!(matches!(bad, Err(AccessError::InvalidPattern { pattern, .. }) if pattern == "("));
    }

    #[test]
    fn each_change_moves_the_version() {
        let access = access();
        let mut seen = access.version();
        let mut moved = || {
            let moved = access.version() != seen;
            seen = access.version();
            moved
        };
        let rights = patterns(".*", ".*", ".*");
        access.set_permissions("hare", "/", &rights).unwrap();
        assert!(moved());
        access.delete_vhost("/");
        assert!(moved());
        assert!(access.delete_user("hare"));
        assert!(moved());
        let gone = access.set_permissions("hare", "/", &rights);
        assert_eq!(gone, Err(AccessError::NoSuchUser("hare".into())));
        assert!(!moved());
    }

    #[test]
    fn a_topic_permission_limits_one_exchange_and_knows_the_names() {
        let access = access();
        access.set_user("a.*", None, &[]);
        let user = access.user("a.*").unwrap();
        access
            .set_topic_permissions("a.*", "/", "amq.topic", "^{username}[.]{vhost}$", "^x")
            .unwrap();
        let may = |exchange, permission, key: &[u8]| {
            access.check_topic(&user, "/", exchange, permission, key)
        };
        assert!(may("amq.topic", Permission::Write, b"a.*./"));
        assert!(!may("amq.topic", Permission::Write, b"abc./"));
        assert!(!may("amq.topic", Permission::Read, b"y\xff"));
        assert!(may("other", Permission::Write, b"anything"));
        access.clear_topic_permissions("a.*", "/", None).unwrap();
        assert!(may("amq.topic", Permission::Write, b"abc./"));
    }

    #[test]
    fn a_pattern_that_is_wrong_or_huge_changes_nothing() {
        let access = access();
        let version = access.version();
        for bad in ["(", "a{1000}{1000}"] {
            let error = access.set_permissions("hare", "/", &patterns(bad, "", ""));
            let text = error.unwrap_err().to_string();
            assert!(text.lines().count() == 1, "{text}");
        }
        assert_eq!(access.version(), version);
    }

    #[test]
    fn an_impersonator_publishes_as_anyone() {
        let access = access();
        let guest = access.user("guest").unwrap();
        assert!(guest.may_publish_as(b"guest") && !guest.may_publish_as(b"hare"));
        access.set_user("guest", None, &["impersonator".into()]);
        assert!(access.user("guest").unwrap().may_publish_as(b"hare"));
    }
}
