//! What is known of one message in one of the queues that it was published to, wherever it went
//! from there. There is never more than one copy of it.

use super::held::Wait;
use super::keys::Holder;
use super::retries::Retry;
use super::{KEYED, Publication, RANK_MAX, RANKED};
use crate::oracle::Place;

/// Records that tell of something lie behind the first and not behind the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) before: u64,
    pub(super) end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Somewhere in a queue, or on its way to a client.
    There,
    /// A client has read it and has not settled it: place and tag.
    Held(Place, u64),
    /// It came to its end in this turn.
    Ended(usize),
    /// No start since has found it.
    Gone,
}

#[derive(Debug)]
pub(super) struct Chain {
    pub(super) publication: Publication,
    /// Where it was published to.
    pub(super) root: usize,
    pub(super) state: State,
    /// The turn that recorded it.
    pub(super) born: usize,
    pub(super) born_ms: u64,
    /// When it expires in that queue, unless it comes there later.
    pub(super) due_ms: Option<u64>,
    /// The queue has taken it; `None` if that is not known.
    pub(super) taken: Option<bool>,
    /// Its confirm or its commit-ok was read, or a start has found it.
    pub(super) safe: bool,
    /// Something may have ended it that nobody saw.
    pub(super) excused: bool,
    /// A delivery may still be on its way.
    pub(super) ended_with_queue: bool,
    /// It is not in its first queue any more, though a crash may bring it back there.
    pub(super) has_left: bool,
    /// This turn has purged it.
    pub(super) purged: Option<usize>,
    /// The most deaths that it was seen with, and a record behind the last.
    pub(super) deaths: (usize, u64),
    /// With so many deaths a client has read it.
    pub(super) delivered: Option<usize>,
    /// It was found in its first queue.
    pub(super) was_at_root: bool,
    /// The start that is under way has found it.
    pub(super) was_found: bool,
    /// Queues in which a client rejected it.
    pub(super) rejected_in: Vec<usize>,
    pub(super) returns: Returns,
    /// The delayed exchange has held it back, or does so still.
    pub(super) wait: Option<Wait>,
    /// Its next attempt is delayed.
    pub(super) retry: Option<Retry>,
    /// Who was given it last.
    pub(super) holder: Option<Holder>,
}

/// Messages of one queue that are delivered in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) root: usize,
    /// Those that waited have another order: that of their times.
    pub(super) held: bool,
    pub(super) group: Option<u8>,
    pub(super) rank: u8,
}

/// How often a message came back to the queue that counts.
#[derive(Debug, Default)]
pub(super) struct Returns {
    /// What a start has found.
    base: u32,
    /// The turns of those that are sure.
    turns: Vec<usize>,
    /// Those that may have been.
    perhaps: u32,
}

impl Returns {
    pub(super) fn add(&mut self, turn: usize) {
        self.turns.push(turn);
    }

    pub(super) fn add_perhaps(&mut self) {
        self.perhaps += 1;
    }

    pub(super) fn min(&self) -> u32 {
        self.base + self.turns.len() as u32
    }

    pub(super) fn max(&self) -> u32 {
        self.min() + self.perhaps
    }

    /// A start has found that count, and has all records of `is_sure` turns. What came back more
    /// often than `limit` has died, and not moved: then its last return is not known either.
    pub(super) fn found(
        &mut self,
        count: u32,
        limit: u32,
        is_sure: impl Fn(usize) -> bool,
        said: &str,
    ) {
        let sure = self.turns.iter().filter(|turn| is_sure(**turn)).count() as u32;
        let all = (self.base + sure).min(limit)..=self.max().min(limit);
        assert!(all.contains(&count), "it came back {count} times, of {all:?}: {said}");
        *self = Self { base: count, turns: Vec::new(), perhaps: 0 };
    }
}

impl Chain {
    /// Those of one lane are delivered in order.
    pub(super) fn lane(&self) -> Lane {
        let held = self.wait.is_some();
        let group = self.publication.group.filter(|_| self.root == KEYED);
        Lane { root: self.root, held, group, rank: self.rank() }
    }

    /// By which deliveries of its first queue are ordered: the lowest first.
    pub(super) fn rank(&self) -> u8 {
        let ranks = if self.root == RANKED { RANK_MAX } else { 0 };
        ranks - self.publication.priority.min(ranks)
    }

    /// When it came to its first queue, at the earliest.
    pub(super) fn came_ms(&self) -> u64 {
        self.wait.as_ref().map_or(self.born_ms, |wait| wait.until_ms)
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_) | State::Gone)
    }

    pub(super) fn end(&mut self, turn: usize) {
        if !self.is_ended() {
            self.state = State::Ended(turn);
        }
    }
}
