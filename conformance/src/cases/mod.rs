//! The cases. Each is named after its section of the behaviour reference and what it checks;
//! none depends on another.

mod access;
mod binding;
mod channel;
mod confirm;
mod consume;
mod consumer;
mod content;
mod dead_letter;
mod deaths;
mod delivery;
mod exceptions;
mod exchange;
mod exchange_types;
mod frames;
mod get;
mod handshake;
mod headers;
mod heartbeat;
mod limits;
mod ordering;
mod overflow;
mod policies;
mod publish;
mod queue_arguments;
mod queue_declare;
mod queue_delete;
mod queue_lifetime;
mod quorum;
mod reply_to;
mod routing;
mod settle;
mod state;
mod tables;
mod topic;
mod transaction;
mod tuning;

use crate::outcome::{Outcome, holds};
use crate::trial::Trial;

#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Trial<'_>) -> Outcome,
}

impl Case {
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.section, self.slug())
    }

    pub(crate) fn slug(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// The cases of a file, listed under their sections.
macro_rules! cases {
    ($($section:literal: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub(super) const CASES: &[super::Case] = &[
            $($(super::Case { section: $section, name: stringify!($name), run: $name }),+),+
        ];
    };
}
use cases;

const ALL: &[&[Case]] = &[
    access::CASES,
    binding::CASES,
    channel::CASES,
    confirm::CASES,
    consume::CASES,
    consumer::CASES,
    content::CASES,
    dead_letter::CASES,
    deaths::CASES,
    delivery::CASES,
    exceptions::CASES,
    exchange::CASES,
    exchange_types::CASES,
    frames::CASES,
    get::CASES,
    handshake::CASES,
    headers::CASES,
    heartbeat::CASES,
    limits::CASES,
    ordering::CASES,
    overflow::CASES,
    policies::CASES,
    publish::CASES,
    queue_arguments::CASES,
    queue_declare::CASES,
    queue_delete::CASES,
    queue_lifetime::CASES,
    quorum::CASES,
    reply_to::CASES,
    routing::CASES,
    settle::CASES,
    state::CASES,
    tables::CASES,
    topic::CASES,
    transaction::CASES,
    tuning::CASES,
];

/// The cases whose id contains `filter`, by section.
pub(crate) fn matching(filter: &str) -> Vec<Case> {
    let mut cases: Vec<_> = ALL.iter().copied().flatten().copied().collect();
    cases.retain(|case| case.id().contains(filter));
    cases.sort_by_key(|case| section_order(case.section));
    cases
}

/// `2.10` comes after `2.9`.
fn section_order(section: &str) -> Vec<u32> {
    section.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect()
}

/// What a broker says of an exclusive queue of another connection.
fn locked(trial: &Trial<'_>, queue: &str) -> String {
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked {}. It could be originally \
         declared on another connection or the exclusive property value does not match that of \
         the original declaration.",
        trial.at("queue", queue)
    );
    cut(&text)
}

/// A reply text longer than 255 bytes ends in dots.
fn cut(text: &str) -> String {
    if text.len() <= 255 { text.to_owned() } else { format!("{}...", &text[..252]) }
}

/// The prefix and 22 characters of URL-safe base64.
fn generated_name(name: &str, prefix: &str) -> Outcome {
    let random = name.strip_prefix(prefix).unwrap_or_default();
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
    let right = random.len() == 22 && random.bytes().all(allowed);
    holds(right, format!("{name:?} is not {prefix} with 22 characters of base64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_unique() {
        let mut seen = HashSet::new();
        for case in matching("") {
            assert!(seen.insert(case.id()), "{} is there twice", case.id());
        }
    }

    /// Every difference that a case names is a row of `differences.md`.
    #[test]
    fn differences_are_listed() {
        let root = env!("CARGO_MANIFEST_DIR");
        let listed = std::fs::read_to_string(format!("{root}/differences.md")).unwrap();
        for file in std::fs::read_dir(format!("{root}/src/cases")).unwrap() {
            let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for rest in source.split("line: \"").skip(1) {
                let (line, _) = rest.split_once('"').unwrap();
                assert!(listed.contains(&format!("\n| {line} |")), "{line} is not listed");
            }
        }
    }

    #[test]
    fn sections_are_sorted_as_numbers() {
        assert!(section_order("2.9") < section_order("2.10"));
    }
}
