//! Messages of one group: in order, and never out with two consumers at the same time.

use super::chain::{Chain, State};
use super::ledger::Ledger;
use super::{KEYED, Keyed};
use crate::oracle::Place;

/// Who was given a message, and from which queue; a get is no consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) queue: usize,
    pub(super) place: Place,
    pub(super) consumer: Option<u32>,
}

impl Ledger {
    /// A client reads a message, and is to settle it: whatever of its group is out is with the same
    /// consumer, and none of those that came before it in the group was passed over.
    pub(super) fn check_group(&mut self, at: usize, holder: Holder, is_first: bool) {
        let Chain { publication, root, .. } = &self.chains[at];
        let groups = self.setup.rules[KEYED].keyed == Some(Keyed::Groups);
        let Some(group) = publication.group.filter(|_| groups && *root == KEYED) else { return };
        if holder.queue != KEYED {
            return;
        }
        self.stats.grouped += 1;
        let of_group = |chain: &&Chain| {
            chain.root == KEYED && chain.publication.group == Some(group) && chain.is_out()
        };
        let others = self.chains.iter().filter(of_group).filter_map(|chain| chain.holder);
        for other in others.filter(|other| other.queue == KEYED) {
            let same = other.consumer.is_some() && other == holder;
            assert!(same, "group {group} is out with {other:?}, and comes to {holder:?}");
            self.stats.groups_held += 1;
        }
        if is_first && self.chains[at].wait.is_none() {
            let newest = self.newest_of_group.entry(group).or_insert(at);
            assert!(*newest <= at, "{newest} came before {at} in group {group}");
            *newest = at;
        }
    }
}

impl Chain {
    fn is_out(&self) -> bool {
        matches!(self.state, State::Held(..))
    }
}
