//! Topic exchanges: binding keys are patterns of words between dots. `*` stands for exactly one
//! word, `#` for any number of them; both only as whole words.
//!
//! RabbitMQ 4.3 refuses more than two `#` in a pattern. Here they cost nothing extra, so none is
//! refused.

use super::binding::Binding;
use super::targets::Found;
use super::trie::{Trie, Walk};
use hashbrown::HashSet;

#[derive(Debug, Default)]
pub(super) struct Topic {
    patterns: Trie,
}

/// What matching needs besides the patterns, reused from message to message.
#[derive(Debug, Default)]
pub(super) struct TopicScratch {
    walk: Walk,
    emitted: HashSet<u32>,
}

impl Topic {
    pub(super) fn bind(&mut self, binding: &Binding) {
        self.patterns.add(&binding.key, &binding.destination);
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        self.patterns.remove(&binding.key, &binding.destination);
    }

    /// Takes all keys of a message, so that a pattern which matches many of them emits its targets
    /// once: a sender chooses how many keys there are.
    pub(super) fn matches(
        &self,
        keys: &[&[u8]],
        scratch: &mut TopicScratch,
        found: &mut Found<'_>,
    ) {
        scratch.emitted.clear();
        for key in keys {
            for &node in self.patterns.walk(key, &mut scratch.walk) {
                let targets = self.patterns.targets(node);
                if targets.is_empty() || (keys.len() > 1 && !scratch.emitted.insert(node)) {
                    continue;
                }
                targets.emit(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::tests::{queue, queues_found};
    use super::*;
    use crate::table::TableRef;

    fn matches(topic: &Topic, keys: &[&[u8]]) -> Vec<u64> {
        let mut scratch = TopicScratch::default();
        queues_found(|found| topic.matches(keys, &mut scratch, found))
    }

    #[test]
    fn patterns_match_as_observed_on_rabbitmq() {
        let observed = [
            ("#", "", true),
            ("*", "", false),
            ("", "", true),
            ("#.", "", false),
            ("*.*", ".", true),
            ("a.*", "a.", true),
            ("a.*", "a", false),
            ("a.#", "a", true),
            ("a.#.b", "a.b", true),
            ("a.#.b", "a..b", true),
            ("#.#", "", true),
            ("*.#", "", false),
            ("*.#", "a", true),
            ("a.#.#.b", "a.b", true),
            ("#.*", "a", true),
            ("a#", "ab", false),
            ("a#", "a#", true),
            ("a.*.c", "a..c", true),
            ("A", "a", false),
            ("", ".", false),
            (".", "", false),
            (".", ".", true),
        ];
        for (pattern, key, expected) in observed {
            let mut topic = Topic::default();
            topic.bind(&Binding::new(queue(1), pattern.as_bytes(), TableRef::EMPTY));
            let matched = !matches(&topic, &[key.as_bytes()]).is_empty();
            assert_eq!(matched, expected, "{pattern:?} ~ {key:?}");
        }
    }

    #[test]
    fn a_pattern_emits_its_queues_once_however_many_keys_match() {
        let mut topic = Topic::default();
        for id in 0..3 {
            topic.bind(&Binding::new(queue(id), b"#.b", TableRef::EMPTY));
        }
        assert_eq!(matches(&topic, &[b"a.b", b"b", b"c.b", b"c"]), [0, 1, 2]);
    }

    #[test]
    fn two_spellings_of_a_pattern_are_two_bindings() {
        let mut topic = Topic::default();
        let binding = |key: &[u8]| Binding::new(queue(1), key, TableRef::EMPTY);
        topic.bind(&binding(b"a.#"));
        topic.bind(&binding(b"a.#.#"));
        topic.unbind(&binding(b"a.#"));
        assert_eq!(matches(&topic, &[b"a.b"]), [1]);
        topic.unbind(&binding(b"a.#.#"));
        assert!(matches(&topic, &[b"a.b"]).is_empty());
    }
}
