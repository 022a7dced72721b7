//! The distinct destinations behind one thing that matches, such as a key or a trie node.
//!
//! Several bindings may lead from it to one destination; it stays a target until the last is gone.

use super::binding::Destination;
use crate::id::QueueId;
use crate::name::Name;
use std::collections::BTreeMap;

/// Above this many targets a map pays: a fanout to 100 k queues must not unbind in 100 k steps.
const FEW_MAX: usize = 16;

#[derive(Debug)]
pub(super) enum Targets {
    Few(Vec<Target>),
    /// The number of bindings by destination.
    Many(BTreeMap<Destination, usize>),
}

#[derive(Debug)]
pub(super) struct Target {
    destination: Destination,
    bindings: usize,
}

/// What an exchange found for one message. May repeat itself.
pub(super) struct Found<'a> {
    pub(super) queues: &'a mut Vec<QueueId>,
    pub(super) exchanges: &'a mut Vec<Name>,
}

impl Default for Targets {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Targets {
    pub(super) fn add(&mut self, destination: &Destination) {
        let few = match self {
            Self::Many(many) => {
                *many.entry(destination.clone()).or_insert(0) += 1;
                return;
            }
            Self::Few(few) => few,
        };
        if let Some(target) = few.iter_mut().find(|t| t.destination == *destination) {
            target.bindings += 1;
            return;
        }
        // Most keys lead to one queue, and there may be a million keys.
        if few.is_empty() {
            few.reserve_exact(1);
        }
        few.push(Target { destination: destination.clone(), bindings: 1 });
        if few.len() > FEW_MAX {
            let many = few.drain(..).map(|t| (t.destination, t.bindings));
            *self = Self::Many(many.collect());
        }
    }

    /// Forgets one binding to `destination`.
    pub(super) fn remove(&mut self, destination: &Destination) {
        match self {
            Self::Few(few) => {
                let found = few.iter().position(|t| t.destination == *destination);
                let index = found.expect("only what was bound is unbound");
                few[index].bindings -= 1;
                if few[index].bindings == 0 {
                    few.remove(index);
                }
            }
            Self::Many(many) => {
                let bindings = many.get_mut(destination).expect("only what was bound is unbound");
                *bindings -= 1;
                if *bindings == 0 {
                    many.remove(destination);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    pub(super) fn emit(&self, found: &mut Found<'_>) {
        match self {
            Self::Few(few) => few.iter().for_each(|t| found.push(&t.destination)),
            Self::Many(many) => many.keys().for_each(|d| found.push(d)),
        }
    }
}

impl Found<'_> {
    pub(super) fn push(&mut self, destination: &Destination) {
        match destination {
            Destination::Queue(queue) => self.queues.push(*queue),
            Destination::Exchange(name) => self.exchanges.push(name.clone()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The queues that `matches` finds, sorted.
    pub(in crate::exchange) fn queues_found(matches: impl FnOnce(&mut Found<'_>)) -> Vec<u64> {
        let (mut queues, mut exchanges) = (Vec::new(), Vec::new());
        matches(&mut Found { queues: &mut queues, exchanges: &mut exchanges });
        assert!(exchanges.is_empty(), "no exchange was bound");
        queues.sort_unstable();
        queues.into_iter().map(|queue| queue.0).collect()
    }

    pub(in crate::exchange) fn queue(id: u64) -> Destination {
        Destination::Queue(QueueId(id))
    }

    #[test]
    fn a_destination_stays_until_its_last_binding_goes_however_many_there_are() {
        for count in [1, FEW_MAX as u64, 10 * FEW_MAX as u64] {
            let mut targets = Targets::default();
            for id in 0..count {
                targets.add(&queue(id));
                targets.add(&queue(id));
            }
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(queues_found(|found| targets.emit(found)), all);
            for id in 0..count {
                targets.remove(&queue(id));
            }
            assert_eq!(queues_found(|found| targets.emit(found)), all);
            for id in 0..count {
                targets.remove(&queue(id));
            }
            assert!(targets.is_empty());
        }
    }

    #[test]
    fn an_exchange_is_found_by_name() {
        let mut targets = Targets::default();
        targets.add(&Destination::Exchange(Name::new("e")));
        let (mut queues, mut exchanges) = (Vec::new(), Vec::new());
        targets.emit(&mut Found { queues: &mut queues, exchanges: &mut exchanges });
        assert_eq!((queues, exchanges), (vec![], vec![Name::new("e")]));
    }
}
