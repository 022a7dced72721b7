//! What must be true. The oracle sees which operations the broker has taken, in which order, and
//! every frame that a client has read; of the broker itself it looks at gauges and at the disk.
//!
//! It knows exactly what is in which queue, but not who was handed what until a client reads it. A
//! copy of which it cannot know whether it went (purged, or in flight at that moment; handed to a
//! no-ack consumer that was cut off) is `Maybe` there until somebody sees it or a disk is read.

mod acts;
mod ends;
mod quiet;
mod sight;
mod stats;
mod stored;

pub(crate) use stats::Stats;

use super::ops::{Binding, EXCHANGES, Message, Mode, OS_QUEUE, QUEUES, topic_matches};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use stored::Durable;

/// A connection's number, never used again, and a channel of it.
pub(crate) type Place = (usize, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Live,
    /// Live or gone.
    Maybe,
    /// A client has read it and has not settled it.
    Held,
    Gone,
    /// Its queue ended while it was there: a delivery may still be on its way, once.
    Ended,
}

/// A message in a queue; its place is that in `Queue::copies`.
#[derive(Clone, Debug)]
struct Copy {
    message: u32,
    state: State,
    /// It was delivered before: the next delivery has to say so.
    must_be_redelivered: bool,
    /// It may have been handed over before: the next delivery is allowed to say so.
    may_be_redelivered: bool,
}

/// A queue from declare to delete.
#[derive(Debug)]
struct Queue {
    name: usize,
    alive: bool,
    /// In queue order.
    copies: Vec<Copy>,
    /// Where each message's copy is.
    places: BTreeMap<u32, usize>,
    consumers: Vec<(Place, u32)>,
    /// No-ack consumers hand over what nobody can account for until it is read.
    is_loose: bool,
    /// No-ack gets that were not read yet.
    loose_gets: usize,
}

#[derive(Debug)]
struct Consumer {
    queue: usize,
    no_ack: bool,
    exclusive: bool,
    prefetch: u32,
    held: u32,
    /// The broker has it; false from the end on, though deliveries may still be unread.
    is_active: bool,
    /// Its end was read: nothing may follow.
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Holding {
    queue: usize,
    copy: usize,
    consumer: Option<u32>,
}

/// By delivery tag.
type Deliveries = Vec<(u64, Holding)>;

/// A reply that is due. `turn` is when it was earned, if it has to wait for the disk.
#[derive(Debug)]
struct Expected {
    what: Due,
    turn: Option<usize>,
}

#[derive(Debug)]
enum Due {
    /// Any method by its number, without anything to check.
    Method(u32),
    Count {
        method: u32,
        min: usize,
        max: usize,
    },
    Declared {
        queue: usize,
        min: usize,
        max: usize,
        consumers: usize,
    },
    Got {
        queue: usize,
        no_ack: bool,
        exactly: Option<Option<usize>>,
        left: Option<usize>,
    },
    Committed {
        returns_left: usize,
    },
    ChannelClose(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The broker raised an exception, and ignores everything until close-ok.
    Refused,
    /// What the broker had for it is given back; frames may still be unread.
    Closed,
}

/// A channel as the broker has it.
#[derive(Debug)]
struct Channel {
    phase: Phase,
    mode: Mode,
    prefetch: u32,
    limit: u32,
    consumers: BTreeMap<u32, Consumer>,
    /// Read and not settled, by delivery tag.
    tags: BTreeMap<u64, Holding>,
    last_tag: u64,
    empty_gets: u64,
    expected: VecDeque<Expected>,
    /// Publishes to confirm, with the turn that recorded them if the disk has to have them.
    publishes: Vec<(u32, Option<usize>)>,
    confirmed: BTreeSet<u64>,
    returns_due: VecDeque<u32>,
    returns_seen: usize,
    /// Consumers whose queue was deleted: the client is told.
    cancels_due: BTreeSet<u32>,
    kept_publishes: Vec<(u32, Vec<usize>)>,
    /// With whether they end for good.
    kept_settlements: Vec<(Deliveries, bool)>,
    /// The newest first delivery of each queue.
    newest: BTreeMap<usize, usize>,
    /// The close has been read.
    is_over: bool,
}

/// Messages ready and unacked, and consumers, of each queue that is there.
pub(crate) type Gauges = BTreeMap<String, (u64, u64, u64)>;

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    pub(crate) stats: Stats,
    queues: Vec<Queue>,
    named: [Option<usize>; QUEUES.len()],
    exchanges: BTreeSet<usize>,
    bindings: BTreeSet<Binding>,
    channels: BTreeMap<Place, Channel>,
    confirmed_messages: BTreeSet<u32>,
    /// The newest record after each turn.
    turn_lsns: Vec<u64>,
    /// Records that the simulator saw go to the disk.
    synced: u64,
    /// What the disk must hold up to a record.
    snapshots: BTreeMap<u64, Durable>,
    /// What it must hold after each operation of the turn, so far.
    steps: Vec<Durable>,
    /// The same of each turn of several records, by its last.
    turn_steps: BTreeMap<u64, Vec<Durable>>,
    before: Gauges,
    /// The turn takes this operation and nothing else.
    is_single: bool,
    /// The turn's gets.
    gets: Vec<(Place, usize)>,
    /// Whether the turn's one operation must leave exactly one record.
    one_record: bool,
    /// The disk has failed: what happens from now on is of no account.
    failed: bool,
}

impl Oracle {
    /// Begins a turn of the broker, which takes `operations`.
    pub(crate) fn begin_turn(&mut self, before: Gauges, operations: usize) {
        self.before = before;
        self.is_single = operations == 1;
        self.one_record = false;
        self.steps.clear();
        self.stats.operations += operations as u64;
    }

    /// Ends a turn: `after` is how the broker looks now, with records up to `lsn`.
    pub(crate) fn end_turn(&mut self, after: &Gauges, lsn_before: u64, lsn: u64) {
        if self.failed {
            self.turn_lsns.push(u64::MAX);
            return;
        }
        self.turn_lsns.push(lsn);
        self.check_gauges(after);
        self.note_late_gets(after);
        if self.one_record {
            assert_eq!(lsn - lsn_before, 1, "a fan-out or a commit is one record");
            self.stats.single_records += 1;
        }
        let durable = self.durable();
        if lsn == lsn_before {
            let last = self.snapshots.get(&lsn).expect("the last turn's end");
            durable.check_unchanged(last);
        }
        self.snapshots.insert(lsn, durable);
        if lsn > lsn_before + 1 {
            self.turn_steps.insert(lsn, std::mem::take(&mut self.steps));
        }
    }

    /// A get that took nothing though something was ready waits for the disk: what it finds then is
    /// not known now.
    fn note_late_gets(&mut self, after: &Gauges) {
        for (place, queue) in std::mem::take(&mut self.gets) {
            let before = self.gauges(queue);
            let name = QUEUES[self.queues[queue].name].0;
            let after = after.get(name).map(|after| after.0 as usize);
            if before.is_some_and(|(ready, _)| ready > 0 && Some(ready) == after)
                && let Some(Due::Got { exactly, left, .. }) = self
                    .channels
                    .get_mut(&place)
                    .and_then(|channel| channel.expected.back_mut())
                    .map(|expected| &mut expected.what)
            {
                (*exactly, *left) = (None, None);
            }
        }
    }

    pub(crate) fn synced(&mut self, lsn: u64) {
        self.synced = lsn;
        // A part of a turn may be synced: what was there before it counts still.
        let before = self.snapshots.range(..=lsn).next_back().map_or(lsn, |(lsn, _)| *lsn);
        self.snapshots = self.snapshots.split_off(&before);
        self.turn_steps = self.turn_steps.split_off(&lsn);
    }

    /// Messages that cannot be read are in no count: of what is there nothing is sure.
    pub(crate) fn set_aside(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.is_loose = true);
    }

    pub(crate) fn disk_failed(&mut self) {
        self.failed = true;
    }

    fn turn(&self) -> usize {
        self.turn_lsns.len()
    }

    fn is_synced(&self, turn: usize) -> bool {
        self.turn_lsns[turn] <= self.synced
    }

    fn channel(&mut self, place: Place) -> &mut Channel {
        self.channels.get_mut(&place).unwrap_or_else(|| panic!("{place:?} was never opened"))
    }

    fn copy(&mut self, holding: Holding) -> &mut Copy {
        &mut self.queues[holding.queue].copies[holding.copy]
    }

    /// Every queue of a publish, each once.
    fn route(&self, message: &Message) -> Vec<usize> {
        let (_, kind) = EXCHANGES[message.exchange];
        let key: Vec<_> = message.key.split('.').collect();
        let matches = |binding: &&Binding| {
            binding.exchange == message.exchange
                && match kind {
                    "fanout" => true,
                    "direct" => binding.key == message.key,
                    _ => topic_matches(&binding.key.split('.').collect::<Vec<_>>(), &key),
                }
        };
        let names: BTreeSet<_> = if message.exchange == 0 {
            (0..QUEUES.len()).filter(|queue| QUEUES[*queue].0 == message.key).collect()
        } else {
            self.bindings.iter().filter(matches).map(|binding| binding.queue).collect()
        };
        names.into_iter().filter_map(|name| self.named[name]).collect()
    }

    fn is_durable(&self, queue: usize) -> bool {
        QUEUES[self.queues[queue].name].1
    }

    /// Whether what has a record in this queue waits for a sync.
    fn wants_sync(&self, queue: usize) -> bool {
        self.is_durable(queue) && self.queues[queue].alive && self.queues[queue].name != OS_QUEUE
    }

    /// A queue's gauges before this turn, if it has only one operation.
    fn gauges(&self, queue: usize) -> Option<(usize, usize)> {
        let (ready, unacked, _) = *self.before.get(QUEUES[self.queues[queue].name].0)?;
        self.is_single.then_some((ready as usize, unacked as usize))
    }

    /// Every copy that is there is known, and none is on its way.
    fn is_exact(&self, queue: usize) -> bool {
        let known = &self.queues[queue];
        let loose = known.is_loose || known.loose_gets > 0 || known.count(State::Maybe) > 0;
        !loose && self.gauges(queue).is_some_and(|(_, unacked)| unacked == known.count(State::Held))
    }

    /// Every message is in one place: the broker's counts are ours.
    fn check_gauges(&self, after: &Gauges) {
        let alive = self.named.iter().flatten().count();
        assert_eq!(after.len(), alive, "queues that are there: {after:?}");
        for queue in self.named.iter().flatten().map(|queue| &self.queues[*queue]) {
            let name = QUEUES[queue.name].0;
            let (ready, unacked, consumers) = after[name];
            let (live, held) = (queue.count(State::Live), queue.count(State::Held));
            let maybe = queue.count(State::Maybe);
            let there = (ready + unacked) as usize;
            let ours = format!("{live} live, {maybe} perhaps, {held} held");
            let counts = format!("{name}: {ready} ready, {unacked} unacked; {ours}");
            assert_eq!(consumers as usize, queue.consumers.len(), "consumers of {name}");
            assert!(held <= unacked as usize, "held and not unacked: {counts}");
            assert!(there <= live + maybe + held, "too many: {counts}");
            if !queue.is_loose && queue.loose_gets == 0 {
                assert!(there >= live + held, "too few: {counts}");
            }
        }
    }
}

impl Queue {
    fn new(name: usize) -> Self {
        Self {
            name,
            alive: true,
            copies: Vec::new(),
            places: BTreeMap::new(),
            consumers: Vec::new(),
            is_loose: false,
            loose_gets: 0,
        }
    }

    fn count(&self, state: State) -> usize {
        self.copies.iter().filter(|copy| copy.state == state).count()
    }

    fn push(&mut self, message: u32) {
        self.places.insert(message, self.copies.len());
        self.copies.push(Copy {
            message,
            state: State::Live,
            must_be_redelivered: false,
            may_be_redelivered: false,
        });
    }

    /// Something was or may have been on its way to a client that is gone.
    fn was_handed_over(&mut self, no_ack: bool) {
        for copy in &mut self.copies {
            if matches!(copy.state, State::Live | State::Maybe) {
                copy.may_be_redelivered = true;
                if no_ack {
                    copy.state = State::Maybe;
                }
            }
        }
    }
}
