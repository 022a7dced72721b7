//! What must be true of queues with rules. Each message is a chain: it is in one place, wherever
//! its deaths lead it, until somebody settles it or a rule drops it.
//!
//! What a rule may do is known, when it does so is not: so a message that must be there is one that
//! was taken, was not settled, and that no rule may have dropped. One that a client reads must be
//! allowed to be there. A start must find what the records behind it say.

use super::chain::{Chain, Lane, Span, State};
use super::copy::Copy;
use super::publication::Way;
use super::unique::{Keys, MEMORIES};
use super::{LAST, NAMES, Policies, Policy, RANKED, RuledStats, Setup};
use crate::ops::{How, Mode};
use crate::oracle::Place;
use leveret::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A delivery that a client holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) chain: usize,
    pub(super) queue: usize,
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) queue: usize,
    pub(super) no_ack: bool,
    pub(super) since_ms: u64,
    /// It was the one that gets the messages, if there is only one such.
    pub(super) was_active: bool,
}

#[derive(Debug)]
pub(super) struct Got {
    pub(super) queue: usize,
    pub(super) no_ack: bool,
    pub(super) at_ms: u64,
    /// Something of this rank is ready, and nobody else takes it.
    pub(super) rank: Option<u8>,
}

impl Recorded {
    pub(super) fn new(turn: usize) -> Self {
        Self { chains: Vec::new(), turn, originals: Vec::new() }
    }
}

/// A publish that waits for its confirm.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) recorded: Recorded,
    pub(super) answered: bool,
}

/// What an answer promises.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    pub(super) chains: Vec<usize>,
    pub(super) turn: usize,
    /// Turns of messages of which these were duplicates.
    pub(super) originals: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) is_open: bool,
    pub(super) mode: Mode,
    pub(super) recovering: usize,
    pub(super) consumers: BTreeMap<u32, Consumer>,
    pub(super) gets: VecDeque<Got>,
    pub(super) tags: BTreeMap<u64, Holding>,
    pub(super) kept_settlements: Vec<(u64, Holding, How)>,
    /// With the queues that they are for, and the turns in which these began.
    pub(super) kept_publishes: Vec<(super::Publication, Vec<(usize, usize)>)>,
    pub(super) published: Vec<Published>,
    /// Commits whose ok was not read.
    pub(super) commits: VecDeque<Recorded>,
    /// Of each lane the newest that was delivered for the first time, and until when it waited.
    pub(super) newest: BTreeMap<Lane, (u64, usize)>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) is_there: bool,
    /// The turn of its last declare or end.
    pub(super) changed: usize,
    pub(super) consumers: Vec<(Place, u32)>,
    /// Since when it is unused, monotonic; not known until the first look after a start.
    pub(super) used_ms: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    pub(super) setup: Setup,
    pub(crate) stats: RuledStats,
    pub(super) chains: Vec<Chain>,
    pub(super) index: BTreeMap<(u32, usize), usize>,
    pub(super) queues: [Queue; NAMES.len()],
    pub(super) has_fan: bool,
    pub(super) bound: BTreeSet<usize>,
    pub(super) has_late: bool,
    /// Routing keys and queues.
    pub(super) late_bound: BTreeSet<(usize, usize)>,
    /// Chains that the delayed exchange may hold back, and those that may wait for an attempt.
    pub(super) waiting: BTreeSet<usize>,
    pub(super) retrying: BTreeSet<usize>,
    pub(super) keys: [Keys; MEMORIES.len()],
    /// Of each group the newest that was delivered for the first time since the start.
    pub(super) newest_of_group: BTreeMap<u8, usize>,
    pub(super) channels: BTreeMap<Place, Channel>,
    pub(super) policies: Policies,
    /// Each state of the policies, with the turn that led to it.
    pub(super) history: Vec<(usize, Policies)>,
    /// The shortest time that a queue's messages ever had, and whether its length ever had a limit.
    pub(super) ttl_ms_min: [Option<u64>; NAMES.len()],
    pub(super) had_length: [bool; NAMES.len()],
    /// Records of each turn.
    pub(super) turns: Vec<Span>,
    pub(super) now: Now,
    /// Gauges before the turn, which has this one operation.
    pub(super) alone: Option<super::turns::Gauges>,
    /// How this turn publishes its only message, to the queue that remembers keys or to be held
    /// back.
    pub(super) only_way: Option<Way>,
    /// The disk has failed: what happens from now on is of no account.
    pub(super) failed: bool,
    pub(super) synced: u64,
}

impl Ledger {
    pub(crate) fn new(setup: Setup, now: Now) -> Self {
        let mut ledger = Self {
            setup,
            stats: RuledStats::default(),
            chains: Vec::new(),
            index: BTreeMap::new(),
            queues: Default::default(),
            has_fan: false,
            bound: BTreeSet::new(),
            has_late: false,
            late_bound: BTreeSet::new(),
            waiting: BTreeSet::new(),
            retrying: BTreeSet::new(),
            keys: Default::default(),
            newest_of_group: BTreeMap::new(),
            channels: BTreeMap::new(),
            policies: [None; 2],
            history: vec![(0, [None; 2])],
            ttl_ms_min: setup.rules.map(|rules| rules.ttl_ms.map(u64::from)),
            had_length: setup.rules.map(|rules| rules.length.is_some()),
            turns: vec![Span { before: 0, end: 0 }],
            now,
            alone: None,
            only_way: None,
            failed: false,
            synced: 0,
        };
        ledger.had_length[LAST] = false;
        ledger
    }

    /// The turn that is under way.
    pub(super) fn turn(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn span(&self, turn: usize) -> Span {
        self.turns[turn]
    }

    pub(super) fn channel(&mut self, place: Place) -> &mut Channel {
        self.channels.get_mut(&place).unwrap_or_else(|| panic!("{place:?} was never opened"))
    }

    pub(super) fn policy_of(&self, queue: usize) -> Option<Policy> {
        let [first, second] = self.policies;
        second.or(first).filter(|_| self.setup.is_under_policies(queue))
    }

    /// How long a message may wait there.
    pub(super) fn ttl_ms(&self, queue: usize) -> Option<u64> {
        let argument = self.setup.rules[queue].ttl_ms;
        let policy = self.policy_of(queue).and_then(|policy| policy.ttl_ms);
        [argument, policy].into_iter().flatten().min().map(u64::from)
    }

    pub(super) fn length(&self, queue: usize) -> Option<u64> {
        let policy = self.policy_of(queue).map(|policy| policy.length);
        [self.setup.rules[queue].length, policy].into_iter().flatten().min().map(u64::from)
    }

    /// Whether it refuses what is too much; otherwise its oldest go.
    pub(super) fn refuses(&self, queue: usize) -> bool {
        self.setup.rules[queue].overflow.is_some_and(|overflow| overflow > 0)
    }

    /// Where its dead letters go, if they go anywhere.
    pub(super) fn dead_to(&self, queue: usize) -> Option<usize> {
        self.setup.rules[queue].dead_to
    }

    /// Whether a message of that queue may come to be in this one.
    pub(super) fn leads_to(&self, mut root: usize, queue: usize) -> bool {
        loop {
            if root == queue {
                return true;
            }
            match self.dead_to(root) {
                Some(next) => root = next,
                None => return false,
            }
        }
    }

    /// Whether every queue that its dead letters may come to is there, or they wait for it.
    pub(super) fn leads_somewhere(&self, mut queue: usize) -> bool {
        while let Some(next) = self.dead_to(queue) {
            if !self.queues[next].is_there {
                return self.setup.rules[queue].must_arrive;
            }
            queue = next;
        }
        true
    }

    /// A queue is there from now on. What waited for it, or comes there, may go on to one that is
    /// not.
    pub(super) fn excuse_lost_ways(&mut self, queue: usize) {
        if self.leads_somewhere(queue) {
            return;
        }
        for at in 0..self.chains.len() {
            self.chains[at].excused |= self.leads_to(self.chains[at].root, queue);
        }
    }

    /// Those of these messages that were not settled may have been, in that queue.
    pub(super) fn excuse(&mut self, queue: usize) {
        let now = self.now.unix.0;
        for at in 0..self.chains.len() {
            let root = self.chains[at].root;
            if self.leads_to(root, queue) && !self.chains[at].waits(now) {
                self.chains[at].excused = true;
            }
        }
    }

    /// When it expires in its first queue, at the earliest.
    pub(super) fn expires_ms(&self, chain: &Chain) -> Option<u64> {
        let Some(wait) = &chain.wait else { return chain.due_ms };
        // It may come there under any policy.
        let own_ms = chain.publication.expiration_ms.map(u64::from);
        let ttl_ms = [self.ttl_ms_min[chain.root], own_ms].into_iter().flatten().min();
        ttl_ms.map(|ms| wait.until_ms + ms)
    }

    /// Whether it was to expire where nothing is dead-lettered.
    pub(super) fn may_have_expired(&self, chain: &Chain) -> bool {
        let now = self.now.unix.0;
        self.dead_to(chain.root).is_none() && self.expires_ms(chain).is_some_and(|due| due <= now)
    }

    /// Nothing may have ended it.
    pub(super) fn must_be_there(&self, chain: &Chain) -> bool {
        let there = matches!(chain.state, State::There | State::Held(..));
        there && chain.taken == Some(true) && !chain.excused && !self.may_have_expired(chain)
    }

    /// The best rank that is surely ready in the queue with priorities, if nobody else takes it.
    pub(super) fn best_rank(&self) -> Option<u8> {
        let (ready, unacked) = self.alone.as_ref()?[RANKED]?;
        let others = self.channels.values().flat_map(|channel| &channel.gets);
        let is_awaited = others.clone().any(|got| got.queue == RANKED);
        let is_short = self.had_length[RANKED] || self.setup.no_ack;
        if is_awaited || is_short || ready == 0 || !self.queues[RANKED].consumers.is_empty() {
            return None;
        }
        let here = self.chains.iter().filter(|chain| chain.root == RANKED);
        let held = here.clone().filter(|chain| matches!(chain.state, State::Held(..))).count();
        let limit = self.setup.rules[RANKED].limit.unwrap_or(u32::MAX);
        let stays = |chain: &&Chain| {
            let here = !chain.has_left && chain.deaths.0 == 0;
            let waits = chain.wait.is_some() || chain.retry.is_some();
            let lasts = chain.due_ms.is_none() && chain.returns.max() <= limit && !waits;
            here && lasts && chain.state == State::There && self.must_be_there(chain)
        };
        let ranks = here.filter(stays).map(Chain::rank);
        ranks.min().filter(|_| unacked == held as u64)
    }

    /// The chain of a copy that was found somewhere, if that can be.
    pub(super) fn identify(&self, copy: &Copy) -> usize {
        let key = (copy.id, copy.root());
        let found = self.index.get(&key).copied();
        found.unwrap_or_else(|| panic!("it was never published there: {copy:?}"))
    }

    /// It was allowed to die as it says, and to come to where it is.
    pub(super) fn check_deaths(&mut self, at: usize, copy: &Copy) {
        let chain = &self.chains[at];
        let said = || format!("{copy:?} of {chain:?}");
        let mut next = copy.queue;
        for (nth, death) in copy.deaths.iter().enumerate() {
            assert_eq!(self.dead_to(death.queue), Some(next), "it came another way: {}", said());
            next = death.queue;
            let earlier = copy.deaths.get(nth + 1);
            let since_ms = earlier.map_or_else(|| chain.came_ms(), |it| it.time_ms);
            let died_ms = death.time_ms + 999;
            let in_time = since_ms <= died_ms && death.time_ms <= self.now.unix.0;
            assert!(in_time, "it died at another time: {}", said());
            let may = match death.reason.as_str() {
                "rejected" => chain.rejected_in.contains(&death.queue),
                "expired" if earlier.is_none() => {
                    self.expires_ms(chain).is_some_and(|due| due <= died_ms)
                }
                "expired" => {
                    self.ttl_ms_min[death.queue].is_some_and(|ttl| since_ms + ttl <= died_ms)
                }
                "maxlen" => self.had_length[death.queue],
                "delivery_limit" => {
                    let limit = self.setup.rules[death.queue].limit;
                    limit.is_some_and(|limit| chain.returns.max() > limit)
                }
                _ => false,
            };
            assert!(may, "it had no reason to die: {}", said());
        }
        for death in &copy.deaths {
            match death.reason.as_str() {
                "rejected" => self.stats.rejected += 1,
                "expired" => self.stats.expired += 1,
                "maxlen" => self.stats.maxlen += 1,
                _ => self.stats.delivery_limit += 1,
            }
        }
    }

    /// What policies say from now on.
    pub(super) fn note_policies(&mut self, policies: Policies, turn: usize) {
        self.policies = policies;
        self.history.push((turn, policies));
        for queue in (0..LAST).filter(|queue| self.setup.is_under_policies(*queue)) {
            let ttl_ms = [self.ttl_ms_min[queue], self.ttl_ms(queue)];
            self.ttl_ms_min[queue] = ttl_ms.into_iter().flatten().min();
            self.had_length[queue] |= self.length(queue).is_some();
        }
    }
}
