//! An operator's command as texts name it: what can be pasted into a shell.

use std::borrow::Cow;
use std::path::Path;

/// `leveret ctl` with a verb about one thing in a vhost, which is named unless it is the default.
#[must_use]
pub fn ctl(verb: &str, vhost: &str, name: &str) -> String {
    // What looks like an option is none behind the dashes.
    let dashes = if name.starts_with('-') { "-- " } else { "" };
    format!("leveret ctl{} {verb} {dashes}{}", vhost_option(vhost), word(name))
}

/// What makes a damaged data directory usable again.
#[must_use]
pub fn accept_loss(directory: &Path) -> String {
    let directory = directory.display().to_string();
    let directory = match directory.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    format!("leveret check {} --repair --accept-loss", word(directory))
}

/// With a blank before it.
pub(crate) fn vhost_option(vhost: &str) -> String {
    match vhost {
        "/" => String::new(),
        _ if vhost.starts_with('-') => format!(" --vhost={}", word(vhost)),
        _ => format!(" -p {}", word(vhost)),
    }
}

/// One word for a shell.
fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_each_name_as_one_word() {
        for (vhost, name, command) in [
            ("/", "mail", "leveret ctl v mail"),
            ("burrow", "a.b", "leveret ctl -p burrow v a.b"),
            ("my burrow", "", "leveret ctl -p 'my burrow' v ''"),
            ("/", "it's; $HOME", r"leveret ctl v 'it'\''s; $HOME'"),
            ("-x", "-y z", "leveret ctl --vhost=-x v -- '-y z'"),
        ] {
            assert_eq!(ctl("v", vhost, name), command);
        }
    }
}
