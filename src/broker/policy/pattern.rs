//! A policy's pattern. RabbitMQ's are PCRE; those that real definitions hold go beyond the `regex`
//! crate in one way: a look-ahead right behind the `^`, as in `^(?!amq\.).*`. So these are taken
//! apart, and each part is an expression that takes linear time.

use crate::config::compile_pattern;
use crate::limits::LOOK_AHEADS_MAX;
use regex::bytes::Regex;

#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    search: Regex,
    /// What must, or must not, match at the beginning.
    ahead: Vec<(bool, Regex)>,
}

impl Pattern {
    /// Compiles a pattern; it searches, as in RabbitMQ.
    ///
    /// # Errors
    /// What is wrong with it, in a line.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let mut ahead = Vec::new();
        let mut rest = text.strip_prefix('^').unwrap_or_default();
        while let Some((is_wanted, inner, behind)) = split_look_ahead(rest) {
            if ahead.len() == LOOK_AHEADS_MAX {
                return Err(format!("more than {LOOK_AHEADS_MAX} look-aheads"));
            }
            ahead.push((is_wanted, compile_pattern(&format!("^(?:{inner})"))?));
            rest = behind;
        }
        let search = match ahead.is_empty() {
            true => compile_pattern(text)?,
            // An alternative would not stand behind the look-ahead.
            false if has_alternatives(rest) => {
                return Err("a look-ahead before alternatives is not supported".to_owned());
            }
            false => compile_pattern(&format!("^(?:{rest})"))?,
        };
        Ok(Self { text: text.to_owned(), search, ahead })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        let ahead = self.ahead.iter().all(|(is_wanted, it)| it.is_match(name) == *is_wanted);
        ahead && self.search.is_match(name)
    }
}

/// Whether it is wanted, what is inside, and what stands behind, if `text` begins with one.
fn split_look_ahead(text: &str) -> Option<(bool, &str, &str)> {
    let is_wanted = text.starts_with("(?=");
    if !is_wanted && !text.starts_with("(?!") {
        return None;
    }
    let inner = &text[3..];
    let mut depth = 0;
    let end = syntax(inner).find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth < 0
    });
    end.map(|(at, _)| (is_wanted, &inner[..at], &inner[at + 1..]))
}

/// Whether `|` stands outside of all groups.
fn has_alternatives(text: &str) -> bool {
    let mut depth = 0;
    syntax(text).any(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == '|' && depth == 0
    })
}

/// The characters that are neither escaped nor in a class of characters.
fn syntax(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut escaped, mut class) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let plain = !escaped && !class;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class = true,
            ']' => class = false,
            _ => {}
        }
        plain && *c != '\\' && *c != '['
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching<'a>(pattern: &str, names: &[&'a str]) -> Vec<&'a str> {
        let pattern = Pattern::compile(pattern).unwrap();
        names.iter().copied().filter(|name| pattern.matches(name)).collect()
    }

    #[test]
    fn a_pattern_searches() {
        assert_eq!(matching("q", &["q", "a.q.b", "b"]), ["q", "a.q.b"]);
        assert_eq!(matching("^q$", &["q", "a.q.b"]), ["q"]);
        assert_eq!(matching("", &["", "b"]), ["", "b"]);
        assert_eq!(matching("^a|b$", &["ax", "xb", "x"]), ["ax", "xb"]);
    }

    #[test]
    fn a_look_ahead_behind_the_beginning_is_understood() {
        let names = ["amq.gen-1", "amqp", "orders", "orders.dlx", ""];
        assert_eq!(matching(r"^(?!amq\.).*", &names), names[1..]);
        assert_eq!(matching(r"^(?!amq\.)(?!.*\.dlx$).+", &names), ["amqp", "orders"]);
        assert_eq!(matching(r"^(?!amq\.|orders)", &names), ["amqp", ""]);
        assert_eq!(matching(r"^(?=(o|a))(?!a[m)]q).*s$", &names), ["orders"]);
        assert_eq!(matching(r"^(?!\)x|(a))o", &names), ["orders", "orders.dlx"]);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for bad in ["(", "a(?!b)", "^(?!a", "^(?!(a)", "^(?!a)b|c", "^(?!a)(", "(?<=a)b", r"(a)\1"]
        {
            let text = Pattern::compile(bad).unwrap_err();
            assert_eq!(text.lines().count(), 1, "{bad}: {text}");
        }
    }

    #[test]
    fn so_many_look_aheads_that_they_take_much_memory_are_refused() {
        let with = |count| format!("^{}", r"(?!\w{20})".repeat(count));
        assert!(Pattern::compile(&with(LOOK_AHEADS_MAX)).is_ok());
        let refused = Pattern::compile(&with(6_000)).unwrap_err();
        assert_eq!(refused, "more than 8 look-aheads");
    }
}
