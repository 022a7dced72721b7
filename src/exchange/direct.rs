//! Direct exchanges: a message goes where its routing key equals the binding key, byte by byte.

use super::binding::Binding;
use super::targets::{Found, Targets};
use hashbrown::HashMap;

#[derive(Debug, Default)]
pub(super) struct Direct {
    by_key: HashMap<Box<[u8]>, Targets>,
}

impl Direct {
    pub(super) fn bind(&mut self, binding: &Binding) {
        let targets = self.by_key.entry(binding.key.clone()).or_default();
        targets.add(&binding.destination);
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        let targets = self.by_key.get_mut(&*binding.key).expect("only what was bound is unbound");
        targets.remove(&binding.destination);
        if targets.is_empty() {
            self.by_key.remove(&*binding.key);
        }
    }

    pub(super) fn matches(&self, key: &[u8], found: &mut Found<'_>) {
        if let Some(targets) = self.by_key.get(key) {
            targets.emit(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::tests::{queue, queues_found};
    use super::*;
    use crate::table::TableRef;

    #[test]
    fn keys_are_compared_byte_by_byte() {
        let mut direct = Direct::default();
        let binding = |id, key: &[u8]| Binding::new(queue(id), key, TableRef::EMPTY);
        for (id, key) in [(1, &b"a"[..]), (2, b"a"), (3, b"A"), (4, b""), (5, b"#")] {
            direct.bind(&binding(id, key));
        }
        let matches = |direct: &Direct, key| queues_found(|found| direct.matches(key, found));
        assert_eq!(matches(&direct, b"a"), [1, 2]);
        assert_eq!(matches(&direct, b"A"), [3]);
        assert_eq!(matches(&direct, b""), [4]);
        assert!(matches(&direct, b"b").is_empty());
        direct.unbind(&binding(1, b"a"));
        assert_eq!(matches(&direct, b"a"), [2]);
        direct.unbind(&binding(2, b"a"));
        assert!(matches(&direct, b"a").is_empty());
    }
}
