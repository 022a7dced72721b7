//! Regular expressions that an operator writes: for names that a user may touch, and for vhosts.

use crate::limits::PATTERN_BYTES_MAX;
use regex::bytes::{Regex, RegexBuilder};

/// Compiles a pattern. It searches, as RabbitMQ's do: who wants the whole name writes `^` and `$`.
///
/// # Errors
/// What is wrong with it, in a line.
pub fn compile_pattern(pattern: &str) -> Result<Regex, String> {
    let regex = RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
    regex.map_err(|error| last_line(&error.to_string()))
}

/// The regex crate draws the pattern on several lines; its last line says what is wrong.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_searches_and_one_that_is_wrong_or_huge_is_a_line() {
        assert!(compile_pattern("b").unwrap().is_match(b"abc"));
        assert!(!compile_pattern("^b").unwrap().is_match(b"abc"));
        for bad in ["(", "[", "(?=a)", "a{1000}{1000}"] {
            let text = compile_pattern(bad).unwrap_err();
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
