//! The checked-out side of a queue: messages with a consumer or a `get`, each in a slot that its
//! delivery names, so that settling needs no search.
//!
//! A slot keeps its number as long as its message is out, so only free slots at the end can be
//! given back. New messages go to the lowest free slot: so the end empties, however long a few
//! deliveries stay.

use super::alive::Found;
use super::consumers::ConsumerKey;
use super::free_slots::FreeSlots;
use super::ready::Entry;
use crate::limits::MESSAGE_OVERHEAD_BYTES;
#[cfg(test)]
use std::cell::Cell;
use std::ops::Range;

/// Slots for which memory is kept in any case.
const KEPT_MAX: usize = 256;

#[cfg(test)]
thread_local! {
    /// Slots that were walked over.
    pub(super) static STEPS: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
pub(super) struct CheckedOut {
    pub(super) entry: Entry,
    /// `None` for a `get`.
    pub(super) owner: Option<ConsumerKey>,
    /// It is a dead letter that has not moved, and nobody's to settle.
    pub(super) dying: bool,
}

#[derive(Debug, Default)]
pub(super) struct Checkout {
    /// The last is never free.
    slots: Vec<Option<CheckedOut>>,
    /// Only there once a slot is free that is not the last, or a checkpoint copies the queue.
    aside: Option<Box<Aside>>,
    occupied: u32,
    /// Those with content in memory, and the bytes of their bodies.
    resident: u32,
    resident_body_bytes: u64,
}

#[derive(Debug, Default)]
struct Aside {
    free: FreeSlots,
    /// What was taken out since the last part of a copy.
    notes: Option<Found>,
}

impl Checkout {
    pub(super) fn len(&self) -> usize {
        self.occupied as usize
    }

    /// What the messages take in memory.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident_body_bytes + u64::from(self.resident) * MESSAGE_OVERHEAD_BYTES
    }

    /// Keeps the message in the lowest free slot. Never inlined: what needs no slot passes by here.
    #[inline(never)]
    pub(super) fn insert(&mut self, checked_out: CheckedOut) -> u32 {
        debug_assert!(checked_out.entry.message.is_some(), "what goes out is in memory");
        self.keep(checked_out)
    }

    /// As `insert`, for a message that may have no content in memory.
    pub(super) fn keep(&mut self, checked_out: CheckedOut) -> u32 {
        self.occupied += 1;
        if checked_out.entry.message.is_some() {
            self.resident += 1;
            self.resident_body_bytes += u64::from(checked_out.entry.body_len);
        }
        let slot = match self.aside.as_mut().and_then(|aside| aside.free.take_lowest()) {
            Some(slot) => {
                self.slots[slot] = Some(checked_out);
                slot
            }
            None => {
                self.slots.push(Some(checked_out));
                self.slots.len() - 1
            }
        };
        u32::try_from(slot).expect("unacked lists are bounded below 2^32")
    }

    /// Takes a delivery's message out if it is the one meant: a queue's slots are used again.
    pub(super) fn take(&mut self, slot: u32, seq: u64) -> Option<CheckedOut> {
        self.take_as(slot, seq, false)
    }

    /// As `take`, for a dead letter.
    pub(super) fn take_dying(&mut self, slot: u32, seq: u64) -> Option<CheckedOut> {
        self.take_as(slot, seq, true)
    }

    fn take_as(&mut self, slot: u32, seq: u64, dying: bool) -> Option<CheckedOut> {
        let slot = slot as usize;
        let place = self.slots.get_mut(slot)?;
        if !place.as_ref().is_some_and(|out| out.entry.seq == seq && out.dying == dying) {
            return None;
        }
        let taken = place.take()?;
        if let Some(Aside { notes: Some(notes), .. }) = self.aside.as_deref_mut() {
            notes.add(&taken.entry);
        }
        self.occupied -= 1;
        if taken.entry.message.is_some() {
            self.resident -= 1;
            self.resident_body_bytes -= u64::from(taken.entry.body_len);
        }
        if slot + 1 == self.slots.len() {
            self.drop_last();
        } else {
            self.aside.get_or_insert_default().free.insert(slot);
        }
        Some(taken)
    }

    pub(super) fn get(&self, slot: u32, seq: u64) -> Option<&CheckedOut> {
        self.slots.get(slot as usize)?.as_ref().filter(|out| out.entry.seq == seq)
    }

    /// It is a dead letter that has not moved.
    pub(super) fn is_dying(&self, slot: u32, seq: u64) -> bool {
        self.get(slot, seq).is_some_and(|out| out.dying)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries_in(0..self.slots.len())
    }

    /// The messages in these slots, in no order.
    pub(super) fn entries_in(&self, slots: Range<usize>) -> impl Iterator<Item = &Entry> {
        #[cfg(test)]
        STEPS.set(STEPS.get() + slots.len());
        self.slots[slots].iter().flatten().map(|checked_out| &checked_out.entry)
    }

    /// From now on notes what is taken out. The notes are of one copy: nobody else may begin one.
    pub(super) fn begin_notes(&mut self) -> Found {
        let before = self.aside.get_or_insert_default().notes.replace(Found::default());
        debug_assert!(before.is_none(), "there is one checkpoint at a time");
        Found::default()
    }

    /// What was taken out since the last call.
    pub(super) fn take_notes(&mut self) -> Found {
        let notes = self.aside.as_mut().and_then(|aside| aside.notes.as_mut());
        notes.map(std::mem::take).unwrap_or_default()
    }

    /// As `take_notes`, for the last time.
    pub(super) fn end_notes(&mut self) -> Found {
        self.aside.as_mut().and_then(|aside| aside.notes.take()).unwrap_or_default()
    }

    pub(super) fn dying(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten().filter(|out| out.dying).map(|out| &out.entry)
    }

    /// The message in this slot.
    pub(super) fn at(&self, slot: usize) -> Option<&Entry> {
        self.slots.get(slot)?.as_ref().map(|out| &out.entry)
    }

    /// Some message has no content in memory.
    pub(super) fn has_absent(&self) -> bool {
        self.resident < self.occupied
    }

    /// Slots, free ones too.
    pub(super) fn slots_len(&self) -> usize {
        self.slots.len()
    }

    /// Gives the message in this slot to `take`, which may take its content.
    pub(super) fn shed(&mut self, slot: usize, take: impl FnOnce(&mut Entry)) {
        let Some(Some(out)) = self.slots.get_mut(slot) else { return };
        if out.entry.message.is_none() {
            return;
        }
        take(&mut out.entry);
        if out.entry.message.is_none() {
            self.resident -= 1;
            self.resident_body_bytes -= u64::from(out.entry.body_len);
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Entry> {
        let slots = std::mem::take(self).slots;
        slots.into_iter().flatten().map(|out| out.entry).collect()
    }

    /// The last slot became free: it goes, and the free ones before it.
    fn drop_last(&mut self) {
        self.slots.pop();
        if !self.slots.last().is_some_and(Option::is_none) {
            return;
        }
        let Some(Aside { free, .. }) = self.aside.as_deref_mut() else { return };
        let left = free.trim(self.slots.len());
        self.slots.truncate(left);
        let capacity = self.slots.capacity();
        if capacity > KEPT_MAX && left * 8 < capacity {
            self.slots.shrink_to(KEPT_MAX.max(left * 2));
            free.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::publish;
    use super::*;
    use crate::time::UnixMillis;

    fn insert(checkout: &mut Checkout, seq: u64) -> u32 {
        let entry = Entry {
            seq,
            message: Some(publish().message),
            body_len: 1,
            due: UnixMillis::NEVER,
            persistent: false,
            redelivered: false,
            reserved: false,
        };
        checkout.insert(CheckedOut { entry, owner: None, dying: false })
    }

    #[test]
    fn a_slot_serves_one_message_after_the_other_and_knows_which() {
        let mut checkout = Checkout::default();
        assert_eq!([1, 2, 3].map(|seq| insert(&mut checkout, seq)), [0, 1, 2]);
        assert!(checkout.take(1, 2).is_some());
        assert!(checkout.take(1, 2).is_none());
        assert_eq!(insert(&mut checkout, 4), 1);
        assert!(checkout.take(1, 2).is_none() && checkout.get(1, 4).is_some());
        assert_eq!(checkout.len(), 3);
        assert_eq!(checkout.take_all().len(), 3);
        assert_eq!((checkout.len(), insert(&mut checkout, 5)), (0, 0));
    }

    #[test]
    fn one_long_delivery_keeps_few_slots() {
        let mut checkout = Checkout::default();
        for seq in 0..100_000 {
            insert(&mut checkout, seq);
        }
        for slot in 1..100_000 {
            assert!(checkout.take(slot, slot.into()).is_some());
        }
        assert_eq!((checkout.len(), checkout.slots.len()), (1, 1));
        assert!(checkout.slots.capacity() <= KEPT_MAX, "{}", checkout.slots.capacity());
    }

    #[test]
    fn the_end_empties_while_messages_come_and_go() {
        let mut checkout = Checkout::default();
        let mut out: Vec<_> = (0..10_000).map(|seq| (insert(&mut checkout, seq), seq)).collect();
        // All but the first and a few at the end are settled; then a few are always out.
        for (slot, seq) in out.drain(1..9_990) {
            checkout.take(slot, seq);
        }
        for seq in 10_000..10_020 {
            out.push((insert(&mut checkout, seq), seq));
            let (slot, seq) = out.remove(1);
            checkout.take(slot, seq);
        }
        assert_eq!((checkout.len(), checkout.slots.len()), (11, 12));
        assert!(checkout.slots.capacity() <= KEPT_MAX, "{}", checkout.slots.capacity());
    }
}
