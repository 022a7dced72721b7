//! A publisher's messages, encoded once: a ring of complete publishes that is sent over and over.
//! Only the stamps inside the bodies change, and properties that are taken in turn. Does not write
//! to a socket.
//!
//! ```text
//! bytes  | publish 0 | publish 1 | ... | publish n-1 |   a run is a piece of it, sent in one write
//! body   | clock u64 | sequence number u64 | zeros |     stamped if the body has 16 bytes or more
//! ```
use super::error::{PerfError, Result};
use super::frame::FRAME_HEAD;
use super::plan::{Plan, STAMP_BYTES};
use super::properties::{Properties, Spot};
use super::wire::{self, Envelope};
use std::ops::Range;

/// What one write should carry: enough to make the system call cheap, little enough to stay in
/// the second-level cache between two writes.
pub(crate) const RUN_BYTES: usize = 64 * 1024;
/// What the ring of one publisher may take.
const RING_BYTES_MAX: usize = 1 << 30;

pub(crate) struct Publishes {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    /// Slots that fit in `RUN_BYTES`, at least one.
    run_max: usize,
    /// The slot to send next.
    next: usize,
    stamped: bool,
    /// What changes in the properties of each message.
    spots: Vec<Spot>,
    sender: usize,
}

/// One publish in the ring. It starts where the one before ends.
struct Slot {
    body_at: usize,
    end: usize,
}

impl Publishes {
    /// Encodes this publisher's share of the plan's keys, several times if they are few.
    /// `together` is how many messages it would like to send in one go.
    pub(crate) fn new(plan: &Plan, index: usize, frame_max: u32, together: u64) -> Result<Self> {
        let exchange = plan.exchange_name();
        let mut ring = Self {
            bytes: Vec::new(),
            slots: Vec::new(),
            run_max: 0,
            next: 0,
            stamped: plan.size >= STAMP_BYTES,
            spots: Spot::all(plan),
            sender: index,
        };
        while ring.bytes.len() < RUN_BYTES && (ring.slots.len() as u64) < together.max(1) {
            for key in Plan::share(plan.keys, plan.publishers, index) {
                ring.encode(plan, key, &exchange, frame_max)?;
            }
        }
        let slot_bytes = ring.bytes.len().div_ceil(ring.slots.len());
        ring.run_max = (RUN_BYTES / slot_bytes).max(1);
        Ok(ring)
    }

    fn encode(&mut self, plan: &Plan, key: usize, exchange: &str, frame_max: u32) -> Result<()> {
        let envelope = Envelope {
            exchange,
            routing_key: &plan.routing_key(key),
            mandatory: plan.mandatory,
            properties: &Properties::of(plan, key),
        };
        let body_at = wire::publish(&mut self.bytes, &envelope, plan.size, frame_max);
        self.slots.push(Slot { body_at, end: self.bytes.len() });
        if self.bytes.len() > RING_BYTES_MAX {
            return Err(PerfError::new(
                "the encoded messages of one publisher exceed 1 GiB; lower --keys or --size",
            ));
        }
        Ok(())
    }

    /// The next publishes to send, at most `limit`, and moves on behind them.
    pub(crate) fn take_run(&mut self, limit: u64) -> Range<usize> {
        let left = self.slots.len() - self.next;
        let len = left.min(self.run_max).min(usize::try_from(limit).unwrap_or(usize::MAX));
        let run = self.next..self.next + len;
        self.next = if run.end == self.slots.len() { 0 } else { run.end };
        run
    }

    /// Writes clock and sequence number into a body, if it has the room. A clock of zero means
    /// that this message is not measured.
    pub(crate) fn stamp(&mut self, slot: usize, clock_ns: u64, sequence: u64) {
        if self.stamped {
            let at = self.slots[slot].body_at;
            let stamp = &mut self.bytes[at..at + STAMP_BYTES];
            stamp[..8].copy_from_slice(&clock_ns.to_be_bytes());
            stamp[8..].copy_from_slice(&sequence.to_be_bytes());
        }
    }

    /// Gives the publishes of a run the properties whose turn it is; the first of them is the
    /// publisher's message `sequence`, counted from 1.
    pub(crate) fn take_turns(&mut self, run: &Range<usize>, sequence: u64) {
        if self.spots.is_empty() {
            return;
        }
        for (sequence, slot) in (sequence..).zip(run.clone()) {
            // Between properties and body lie the end of one frame and the head of the next.
            let end = self.slots[slot].body_at - FRAME_HEAD - 1;
            for spot in &self.spots {
                spot.write(&mut self.bytes, end, self.sender, sequence);
            }
        }
    }

    pub(crate) fn encoded(&self, run: &Range<usize>) -> &[u8] {
        let start = run.start.checked_sub(1).map_or(0, |before| self.slots[before].end);
        let end = run.end.checked_sub(1).map_or(0, |last| self.slots[last].end);
        &self.bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{BODY, first_frame};
    use super::super::plan::ExchangeKind;
    use super::*;

    fn ring(plan: &Plan, together: u64) -> Publishes {
        Publishes::new(plan, 0, 4096, together).unwrap()
    }

    fn plan() -> Plan {
        Plan::new("amqp://h".parse().unwrap())
    }

    #[test]
    fn runs_are_whole_publishes_and_wrap_at_the_rings_end() {
        let mut ring = ring(&plan(), u64::MAX);
        let count = ring.slots.len();
        let slot_bytes = ring.encoded(&(0..1)).len();
        assert!(ring.bytes.len() >= RUN_BYTES && ring.bytes.len() == count * slot_bytes);
        let first = ring.take_run(u64::MAX);
        assert_eq!(first, 0..RUN_BYTES / slot_bytes);
        assert_eq!(ring.encoded(&first).len(), first.len() * slot_bytes);
        let second = ring.take_run(u64::MAX);
        assert_eq!(second, first.end..count);
        assert_eq!(ring.take_run(3), 0..3);
    }

    #[test]
    fn every_key_of_the_share_is_in_the_ring_once_a_lap() {
        let exchange = ExchangeKind::Topic;
        let plan = Plan { publishers: 2, keys: 5, bindings: 5, exchange, ..plan() };
        assert_eq!(ring(&plan, 1).slots.len(), 3);
        assert_eq!(ring(&plan, 4).slots.len(), 6);
    }

    #[test]
    fn a_stamp_lands_in_the_first_body_bytes() {
        let mut ring = ring(&Plan { size: 5000, ..plan() }, 2);
        ring.stamp(1, 0x11, 0x22);
        let mut at = ring.slots[0].end;
        let body = loop {
            let frame = first_frame(&ring.bytes[at..]).unwrap().unwrap();
            if frame.kind == BODY {
                break frame;
            }
            at += frame.len;
        };
        assert_eq!((body.payload[7], body.payload[15]), (0x11, 0x22));
    }

    #[test]
    fn every_message_of_every_lap_has_its_own_turn() {
        let headers = vec!["g=7".parse().unwrap(), "id=0".parse().unwrap()];
        let plan = Plan { headers, priorities: 3, size: 0, persistent: true, ..plan() };
        let mut ring = ring(&plan, 5);
        let mut sequence = 1;
        for _ in 0..4 {
            let run = ring.take_run(3);
            ring.take_turns(&run, sequence);
            for slot in run {
                let bytes = ring.encoded(&(slot..slot + 1));
                let method = first_frame(bytes).unwrap().unwrap();
                let header = first_frame(&bytes[method.len..]).unwrap().unwrap();
                let (group, priority) = ((sequence - 1) % 7, (sequence - 1) % 3);
                let text = format!("\x01gS\0\0\0\x02k{group}\x02idS\0\0\0\x11k{sequence:016x}");
                let expected = [text.as_bytes(), &[2, priority as u8]].concat();
                assert!(header.payload.ends_with(&expected), "{sequence}: {header:?}");
                sequence += 1;
            }
        }
    }

    #[test]
    fn a_short_body_is_never_stamped() {
        let mut ring = ring(&Plan { size: 15, ..plan() }, 1);
        let before = ring.bytes.clone();
        ring.stamp(0, 1, 1);
        assert_eq!(ring.bytes, before);
    }
}
