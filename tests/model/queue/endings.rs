//! The model's messages that end without having been taken: expired, refused, too many, rejected.

use super::model::{Entry, Model, State};
use leveret::queue::{Overflow, Reason};
use std::collections::BTreeSet;

const HERE: State = State::Ready { evicted: false };

impl Model {
    /// Nothing stands before a new message.
    pub(super) fn is_clear(&self) -> bool {
        let waits = |state| matches!(state, State::Ready { .. } | State::Reserved { .. });
        !self.entries.iter().any(|entry| waits(entry.state))
    }

    /// When a message expires that comes now.
    pub(super) fn due(&self, ttl_ms: u64) -> u64 {
        let ttl_ms = self.behaviour.message_ttl_ms.map_or(ttl_ms, |ms| ms.min(ttl_ms));
        self.now.saturating_add(ttl_ms)
    }

    /// There is no room for a message of this size.
    pub(super) fn refuses(&self, body_len: u64) -> bool {
        let taken = |state| {
            matches!(state, State::Ready { .. } | State::Waiting { .. } | State::Reserved { .. })
        };
        let taken = || self.entries.iter().filter(move |entry| taken(entry.state));
        let bytes = taken().map(|entry| entry.body_len).sum::<u64>() + body_len;
        self.behaviour.overflow != Overflow::DropHead
            && (self.behaviour.max_length.is_some_and(|max| taken().count() as u64 >= max)
                || self.behaviour.max_length_bytes.is_some_and(|max| bytes > max))
    }

    /// A message was refused, which may be the end of it or not.
    pub(super) fn refused(&mut self) {
        let dies = self.behaviour.overflow == Overflow::RejectPublishDlx;
        if dies && self.behaviour.dead_letter.is_some() {
            self.deaths.push((None, Reason::MaxLength));
        }
    }

    pub(super) fn die(&mut self, seq: u64, evicted: bool, reason: Reason) {
        if self.behaviour.dead_letter.is_none() {
            self.entries.retain(|entry| entry.seq != seq);
            return;
        }
        let entry = self.find(seq);
        entry.state = State::Dying { told: !evicted, reason, evicted };
        entry.was_out |= matches!(reason, Reason::Rejected | Reason::DeliveryLimit);
        if !evicted {
            self.deaths.push((Some(seq), reason));
        }
    }

    /// What has waited long enough is ready, what has expired at the head is gone; and if a get
    /// waits, so is what it would find.
    pub(super) fn look(&mut self) {
        self.end_waits();
        while let Some(seq) = self.expired(self.head()) {
            self.die(seq, false, Reason::Expired);
        }
        if !self.waiting.is_empty() {
            self.look_for_get();
        }
    }

    /// What has expired is gone, wherever it stood. What is in a page goes once it is read: `stays`
    /// says what is still there.
    pub(super) fn look_anywhere(&mut self, stays: &BTreeSet<u64>) {
        if !self.behaviour.exact_expiry {
            return;
        }
        for entry in self.entries.clone() {
            let State::Ready { evicted } = entry.state else { continue };
            if entry.due <= self.now && !(evicted && stays.contains(&entry.seq)) {
                self.die(entry.seq, evicted, Reason::Expired);
            }
        }
    }

    /// As `look`, past invisible messages.
    pub(super) fn look_for_get(&mut self) {
        while let Some(seq) = self.expired(self.first_visible()) {
            self.die(seq, false, Reason::Expired);
        }
    }

    fn first_visible(&self) -> Option<&Entry> {
        self.visible().next()
    }

    fn expired(&self, entry: Option<&Entry>) -> Option<u64> {
        entry.filter(|entry| entry.state == HERE && entry.due <= self.now).map(|entry| entry.seq)
    }

    /// The queue is as short as it must be, unless the head is invisible or not in memory.
    pub(super) fn trim(&mut self) {
        while self.behaviour.overflow == Overflow::DropHead && self.is_too_long() {
            let oldest = self.head().map_or(u64::MAX, |head| head.seq);
            let hidden = self.entries.iter().find(|e| matches!(e.state, State::Reserved { .. }));
            let oldest = hidden.map_or(oldest, |hidden| hidden.seq.min(oldest));
            let waits = self.waits().next().filter(|entry| entry.seq < oldest);
            if let Some((seq, State::Waiting { evicted })) = waits.map(|e| (e.seq, e.state)) {
                self.die(seq, evicted, Reason::MaxLength);
                continue;
            }
            let head = self.head().filter(|head| head.state == HERE);
            let Some(seq) = head.map(|head| head.seq) else { return };
            self.die(seq, false, Reason::MaxLength);
        }
    }

    fn is_too_long(&self) -> bool {
        let all = || self.visible().chain(self.waits());
        let bytes = all().map(|entry| entry.body_len).sum::<u64>();
        self.behaviour.max_length.is_some_and(|max| all().count() as u64 > max)
            || self.behaviour.max_length_bytes.is_some_and(|max| bytes > max)
    }
}
