//! The checked-out side of a queue: messages with a consumer or a `get`, each in a slot that its
//! delivery names, so that settling needs no search.

use super::consumers::ConsumerKey;
use super::ready::Entry;

#[derive(Debug)]
pub(super) struct CheckedOut {
    pub(super) entry: Entry,
    /// `None` for a `get`.
    pub(super) owner: Option<ConsumerKey>,
}

#[derive(Debug, Default)]
pub(super) struct Checkout {
    slots: Vec<Option<CheckedOut>>,
    free: Vec<u32>,
}

impl Checkout {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, checked_out: CheckedOut) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(checked_out);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("unacked lists are bounded below 2^32");
        self.slots.push(Some(checked_out));
        slot
    }

    /// Takes the message out if it is the one meant: a queue's slots are used again.
    pub(super) fn take(&mut self, slot: u32, seq: u64) -> Option<CheckedOut> {
        let place = self.slots.get_mut(slot as usize)?;
        if place.as_ref()?.entry.seq != seq {
            return None;
        }
        self.free.push(slot);
        let taken = place.take();
        self.shrink();
        taken
    }

    pub(super) fn get(&self, slot: u32, seq: u64) -> Option<&CheckedOut> {
        self.slots.get(slot as usize)?.as_ref().filter(|out| out.entry.seq == seq)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten().map(|checked_out| &checked_out.entry)
    }

    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        self.free.clear();
        std::mem::take(&mut self.slots).into_iter().flatten().map(|out| out.entry).collect()
    }

    /// An empty checkout that was once large gives its memory back.
    fn shrink(&mut self) {
        if self.slots.len() > 1024 && self.free.len() == self.slots.len() {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
    }
}
