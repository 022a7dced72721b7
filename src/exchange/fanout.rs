//! Fanout exchanges: a message goes to every destination, whatever its key.

use super::binding::Binding;
use super::targets::{Found, Targets};

#[derive(Debug, Default)]
pub(super) struct Fanout {
    targets: Targets,
}

impl Fanout {
    pub(super) fn bind(&mut self, binding: &Binding) {
        self.targets.add(&binding.destination);
    }

    pub(super) fn unbind(&mut self, binding: &Binding) {
        self.targets.remove(&binding.destination);
    }

    pub(super) fn matches(&self, found: &mut Found<'_>) {
        self.targets.emit(found);
    }
}

#[cfg(test)]
mod tests {
    use super::super::targets::tests::{queue, queues_found};
    use super::*;
    use crate::table::TableRef;

    #[test]
    fn a_queue_bound_under_two_keys_is_found_once() {
        let mut fanout = Fanout::default();
        let binding = |id, key: &[u8]| Binding::new(queue(id), key, TableRef::EMPTY);
        for (id, key) in [(1, &b"a"[..]), (1, b"b"), (2, b"")] {
            fanout.bind(&binding(id, key));
        }
        assert_eq!(queues_found(|found| fanout.matches(found)), [1, 2]);
        fanout.unbind(&binding(1, b"a"));
        assert_eq!(queues_found(|found| fanout.matches(found)), [1, 2]);
        fanout.unbind(&binding(1, b"b"));
        assert_eq!(queues_found(|found| fanout.matches(found)), [2]);
    }
}
