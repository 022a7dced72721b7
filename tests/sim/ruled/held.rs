//! Messages that the delayed exchange holds back: until when, what an operator makes of that, and
//! that none leaves early or stays.

use super::Way;
use super::chain::Chain;
use super::ledger::Ledger;
use super::turns::Glance;
use crate::rng::Rng;
use std::collections::BTreeSet;

/// Until when a message waits. All of its chains say the same.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    /// Unix milliseconds.
    pub(super) until_ms: u64,
    /// The times before, each with the turn that saw the next one in its place, if any has.
    earlier: Vec<(u64, Option<usize>)>,
    /// Messages leave in the order of their times, and of equal times in that of their arrival.
    pub(super) in_order: bool,
    /// It was found where it went from there, with all records up to this one.
    left: Option<u64>,
}

impl Wait {
    pub(super) fn new(until_ms: u64) -> Self {
        Self { until_ms, earlier: Vec::new(), in_order: true, left: None }
    }

    fn is_moving(&self) -> bool {
        self.earlier.last().is_some_and(|(_, moved)| moved.is_none())
    }

    /// Whether a start at `now_ms` may have found it waiting until then, as it does from now on.
    fn found(&mut self, until_ms: u64, now_ms: u64, is_sure: impl Fn(usize) -> bool) -> bool {
        let passed = |(until, moved): &(u64, Option<usize>)| {
            *until == until_ms && !moved.is_some_and(&is_sure)
        };
        // If its new time is over once it can move, it goes behind those that have left by then.
        let late = !self.earlier.is_empty() && (self.until_ms..=now_ms).contains(&until_ms);
        let may = self.until_ms == until_ms || late || self.earlier.iter().any(passed);
        *self = Self { in_order: self.in_order, ..Self::new(until_ms) };
        may
    }
}

impl Chain {
    /// The delayed exchange holds it back at that time.
    pub(super) fn waits(&self, now_ms: u64) -> bool {
        let waits = |wait: &Wait| wait.until_ms > now_ms && wait.left.is_none();
        !self.is_ended() && self.wait.as_ref().is_some_and(waits)
    }
}

/// What an operator does to a message that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Cancel,
    Reschedule(u64),
}

impl Ledger {
    /// Messages that wait, and for which that holds: each once, though it may have several chains.
    fn held(&self, is_counted: impl Fn(&Chain) -> bool) -> usize {
        let now = self.now.unix.0;
        let chains = self.waiting.iter().map(|at| &self.chains[*at]);
        let waiting = chains.filter(|chain| chain.waits(now) && is_counted(chain));
        waiting.map(|chain| chain.publication.id).collect::<BTreeSet<_>>().len()
    }

    /// Some message was rescheduled, and was not seen to wait until its new time.
    pub(crate) fn wants_times(&self) -> bool {
        let mut waits = self.waiting.iter().filter_map(|at| self.chains[*at].wait.as_ref());
        waits.any(Wait::is_moving)
    }

    /// From now on these may leave. What leads to nobody ends then.
    pub(super) fn note_due(&mut self) {
        let now = self.now.unix.0;
        let (chains, bound) = (&mut self.chains, &self.late_bound);
        self.waiting.retain(|at| {
            let chain = &mut chains[*at];
            if let Way::Late(key) = chain.publication.way
                && !chain.waits(now)
            {
                chain.excused |= !bound.contains(&(key, chain.root));
            }
            chain.waits(now)
        });
    }

    /// No message has left before its time. What was rescheduled is seen in its new place.
    pub(super) fn check_held(&mut self, after: &Glance) {
        if !after.held_until.is_empty() {
            let waiting: Vec<_> = self.waiting.iter().copied().collect();
            waiting.into_iter().for_each(|at| self.note_moved(at, after));
        }
        let stays = |chain: &Chain| chain.wait.as_ref().is_some_and(|wait| !wait.is_moving());
        let least = self.held(|chain| stays(chain) && self.must_be_there(chain)) as u64;
        assert!(least <= after.held, "{least} must wait, {} do: some are early", after.held);
    }

    /// Whether a message that was rescheduled has come to its new place, where it alone can be.
    fn note_moved(&mut self, at: usize, after: &Glance) {
        let turn = self.turn() - 1;
        let Chain { wait: Some(wait), publication, .. } = &self.chains[at] else { return };
        if !wait.is_moving() || !after.held_until.contains(&wait.until_ms) {
            return;
        }
        let then = |chain: &&Chain| {
            chain.wait.as_ref().is_some_and(|other| other.until_ms == wait.until_ms)
        };
        let mut others = self.chains.iter().filter(then);
        if others.all(|chain| chain.publication.id == publication.id)
            && let Some(wait) = &mut self.chains[at].wait
            && let Some((_, moved)) = wait.earlier.last_mut()
        {
            *moved = Some(turn);
        }
    }

    /// Nothing moves: nobody waits beyond his time.
    pub(super) fn check_held_quiet(&mut self, after: &Glance) {
        let most = self.held(|_| true) as u64;
        assert!(after.held <= most, "{most} may wait, {} do: some are late", after.held);
        self.stats.held += after.held;
    }

    /// What becomes of the message that waits until that time, if there is only one.
    pub(crate) fn draw_order(&self, until_ms: u64, rng: &Rng) -> Option<(u32, Order)> {
        let waits = self.waiting.iter().map(|at| &self.chains[*at]);
        let waits = waits.filter_map(|chain| Some((chain.wait.as_ref()?, chain)));
        let waits: Vec<_> = waits.filter(|(_, chain)| chain.waits(self.now.unix.0)).collect();
        let then = waits.iter().filter(|(wait, _)| wait.until_ms == until_ms);
        let ids: BTreeSet<_> = then.map(|(_, chain)| chain.publication.id).collect();
        let (Some(id), 1) = (ids.first().copied(), ids.len()) else { return None };
        if rng.percent(30) {
            return Some((id, Order::Cancel));
        }
        let mut until = self.now.unix.0 + 1 + rng.below(200) as u64;
        while waits.iter().any(|(wait, _)| wait.until_ms == until) {
            until += 1;
        }
        Some((id, Order::Reschedule(until)))
    }

    /// The broker has carried that out, in the turn under way.
    pub(crate) fn ordered(&mut self, id: u32, order: Order) {
        let turn = self.turn();
        for at in self.chains_of(id) {
            let chain = &mut self.chains[at];
            match (order, &mut chain.wait) {
                (Order::Reschedule(until_ms), Some(wait)) => {
                    wait.earlier.push((wait.until_ms, None));
                    (wait.until_ms, wait.in_order) = (until_ms, false);
                    // It may have been due, and not have left yet.
                    self.waiting.insert(at);
                    self.stats.rescheduled += 1;
                }
                _ => {
                    chain.end(turn);
                    self.stats.cancelled += 1;
                }
            }
        }
    }

    /// A start has found the message waiting until then, behind record `found`.
    pub(super) fn check_found_held(&mut self, at: usize, until_ms: u64, found: u64) {
        let (turns, now_ms) = (&self.turns, self.now.unix.0);
        let chain = &mut self.chains[at];
        let said = format!("behind record {found}, until {until_ms}: {chain:?}");
        let wait = chain.wait.as_mut().unwrap_or_else(|| panic!("it was not to wait: {said}"));
        assert!(wait.left.is_none_or(|lsn| lsn > found), "it had left: {said}");
        let is_sure = |turn: usize| turns[turn].end <= found;
        assert!(wait.found(until_ms, now_ms, is_sure), "another time: {said}");
        // What came behind its leaving is lost with that.
        (chain.delivered, chain.deaths, chain.retry) = (None, (0, 0), None);
        chain.rejected_in.clear();
        self.waiting.insert(at);
        self.stats.recovered_held += 1;
    }

    /// It was found where it went from there, and all records up to `lsn` may say so.
    pub(super) fn note_left(&mut self, at: usize, lsn: u64) {
        let now = self.now.unix.0;
        let chain = &mut self.chains[at];
        let Some(wait) = &mut chain.wait else { return };
        assert!(wait.until_ms <= now, "it has left before its time, at {now}: {chain:?}");
        wait.left.get_or_insert(lsn);
    }

    /// All chains of a message.
    pub(super) fn chains_of(&self, id: u32) -> Vec<usize> {
        self.index.range((id, 0)..=(id, usize::MAX)).map(|(_, at)| *at).collect()
    }
}
