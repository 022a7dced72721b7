//! The model: a list of bindings, of which every one is tried for every message.

use leveret::exchange::Kind;
use std::collections::{BTreeMap, BTreeSet};

/// The fields of a table. As a value, 0 is void and any other number is itself.
pub(super) type Fields = Vec<(&'static str, u8)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelBinding {
    pub(super) source: usize,
    pub(super) to: To,
    pub(super) key: &'static str,
    /// Sorted by name, since their order does not distinguish bindings.
    pub(super) arguments: Fields,
    pub(super) x_match: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Queue(u64),
    Exchange(usize),
}

#[derive(Clone, Debug)]
pub(super) struct ModelExchange {
    pub(super) kind: Kind,
    pub(super) auto_delete: bool,
    pub(super) alternate: Option<usize>,
    pub(super) policy: Option<usize>,
}

#[derive(Default)]
pub(super) struct Model {
    pub(super) exchanges: BTreeMap<usize, ModelExchange>,
    pub(super) bindings: Vec<ModelBinding>,
}

impl Model {
    /// Removes what `ends` says, and every exchange that ends with it.
    pub(super) fn remove(&mut self, ends: impl Fn(&ModelBinding) -> bool) {
        let (lost, kept) = self.bindings.drain(..).partition(ends);
        self.bindings = kept;
        let mut lost: Vec<ModelBinding> = lost;
        while let Some(binding) = lost.pop() {
            let source = binding.source;
            let auto_delete = self.exchanges.get(&source).is_some_and(|e| e.auto_delete);
            if auto_delete && self.bindings.iter().all(|b| b.source != source) {
                self.exchanges.remove(&source);
                let (more, kept) =
                    self.bindings.drain(..).partition(|b| b.to == To::Exchange(source));
                self.bindings = kept;
                let more: Vec<ModelBinding> = more;
                lost.extend(more);
            }
        }
    }

    /// RabbitMQ: an exchange reached through others still sees all keys of the message.
    pub(super) fn route(&self, start: usize, keys: &[&str], headers: &Fields) -> BTreeSet<u64> {
        let mut queues = BTreeSet::new();
        let mut reached = BTreeSet::from([start]);
        let mut pending = vec![start];
        while let Some(name) = pending.pop() {
            let Some(exchange) = self.exchanges.get(&name) else {
                continue;
            };
            let bound = self.bindings.iter().filter(|b| b.source == name);
            let matched = bound.filter(|binding| {
                let mut keys = keys.iter();
                keys.any(|key| matches(&exchange.kind, binding, key, headers))
            });
            let mut targets: Vec<_> = matched.map(|b| b.to).collect();
            if targets.is_empty() {
                let alternate = exchange.alternate.or(exchange.policy);
                targets.extend(alternate.map(To::Exchange));
            }
            for target in targets {
                match target {
                    To::Queue(id) => drop(queues.insert(id)),
                    To::Exchange(next) if reached.insert(next) => pending.push(next),
                    To::Exchange(_) => {}
                }
            }
        }
        queues
    }
}

fn matches(kind: &Kind, binding: &ModelBinding, key: &str, headers: &Fields) -> bool {
    match kind {
        Kind::Direct => binding.key == key,
        Kind::Fanout | Kind::Deduplicating | Kind::Plugged(_) => true,
        Kind::Topic => topic_matches(&words(binding.key), &words(key)),
        Kind::Headers => headers_match(binding, headers),
        Kind::Delayed(_) | Kind::Missing(_) => unreachable!("the model declares none"),
    }
}

pub(super) fn words(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split('.').collect() }
}

/// Which prefixes of the key the pattern so far matches, one step of the pattern after the other.
pub(super) fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    let mut prefixes = vec![false; key.len() + 1];
    prefixes[0] = true;
    for step in pattern {
        let before = prefixes.clone();
        for len in 0..=key.len() {
            prefixes[len] = match *step {
                "#" => before[..=len].contains(&true),
                "*" => len > 0 && before[len - 1],
                word => len > 0 && before[len - 1] && key[len - 1] == word,
            };
        }
    }
    prefixes[key.len()]
}

fn headers_match(binding: &ModelBinding, headers: &Fields) -> bool {
    let x_match = binding.x_match.unwrap_or("all");
    let with_x = x_match.ends_with("-with-x");
    let asked = binding.arguments.iter();
    let mut asked = asked.filter(|(name, _)| with_x || !name.starts_with("x-"));
    let holds = |(name, value): &(&str, u8)| {
        let header = headers.iter().rfind(|(other, _)| other == name);
        header.is_some_and(|(_, other)| *value == 0 || value == other)
    };
    if x_match.starts_with("any") { asked.any(holds) } else { asked.all(holds) }
}
