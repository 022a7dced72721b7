//! Transient messages that are written to disk, so that they can leave memory as others do.

use super::model::{Entry, State};
use super::paging::PageOut;
use super::world::World;
use leveret::id::Seq;
use leveret::queue::{Sweep, Transient};
use leveret::store::OnDisk;

fn is_resident(entry: &Entry) -> bool {
    match entry.state {
        State::Ready { evicted }
        | State::Waiting { evicted }
        | State::Out { evicted, .. }
        | State::Dying { evicted, .. } => !evicted,
        State::Reserved { .. } | State::Damaged => false,
    }
}

impl World {
    /// Writes what the queue named; each must be transient, in memory, and itself.
    pub(super) fn write(&mut self, found: &Transient) {
        for OnDisk { seq, due, message } in &found.messages {
            let entry = self.model.find(seq.0);
            assert!(!entry.persistent && is_resident(entry), "{entry:?}");
            assert_eq!(
                message.routing_key(),
                entry.name.to_string().as_bytes(),
                "another's content"
            );
            assert_eq!(due.0, entry.due, "when it expires is written too");
            self.spilled.insert(seq.0);
        }
    }

    /// What the pager does: writes what may leave memory, and lets it leave.
    pub(super) fn spill(&mut self, keep_head: usize, keep_tail: usize, max: usize) {
        let Some((first, last)) = self.core.pageable(keep_head, keep_tail) else { return };
        let found = self.core.transient(first, last, max);
        assert!(found.steps <= max);
        if let Some(through) = found.through.filter(|through| *through < last) {
            let more = self.core.transient(Seq(through.0 + 1), last, 1);
            assert!(found.steps == max || more.steps == 0, "it stops only where it must");
        }
        self.write(&found);
        self.page_out(PageOut { keep_head, keep_tail, max, holes: 0 });
    }

    /// The same for what was requeued or is out: no transient message stays in memory.
    pub(super) fn spill_aside(&mut self, max: usize) {
        let mut sweep = Sweep::default();
        while !sweep.is_over() {
            let found = self.core.transient_aside(&mut sweep, max);
            assert!(found.steps <= max);
            self.write(&found);
        }
        self.evict_bodies(max, 0);
        let aside = |entry: &&Entry| !matches!(entry.state, State::Ready { .. });
        let mut aside = self.model.entries.iter().filter(aside);
        let out = aside.find(|entry| !entry.persistent && is_resident(entry));
        assert!(out.is_none(), "{out:?} is in memory only");
    }
}
