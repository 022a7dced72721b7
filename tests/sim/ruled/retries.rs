//! Messages whose next attempt is delayed: how long they wait, and that none comes back early.

use super::RANKED;
use super::chain::{Chain, State};
use super::copy::Copy;
use super::ledger::Ledger;
use super::turns::Glance;

#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    /// Not before, and no later than; Unix milliseconds.
    pub(super) from_ms: u64,
    until_ms: u64,
    /// The turn that recorded it.
    turn: usize,
}

impl Chain {
    fn retries(&self, now_ms: u64, end: impl Fn(&Retry) -> u64) -> bool {
        let retry = self.retry.as_ref().filter(|_| self.state == State::There);
        retry.is_some_and(|retry| end(retry) > now_ms)
    }
}

impl Ledger {
    /// A client gave it back, in the turn under way.
    pub(super) fn note_failed(&mut self, at: usize) {
        let (turn, now) = (self.turn(), self.now.unix.0);
        let Some((min, max)) = self.setup.rules[RANKED].retry_ms else { return };
        let [from_ms, until_ms] = [min, max].map(|ms| now + u64::from(ms));
        // What expires meanwhile comes back to do so.
        let from_ms = from_ms.min(self.expires_ms(&self.chains[at]).unwrap_or(u64::MAX));
        self.chains[at].retry = Some(Retry { from_ms, until_ms, turn });
        self.retrying.insert(at);
        self.stats.retries += 1;
    }

    /// Whether it surely waits for its next attempt.
    fn must_retry(&self, chain: &Chain) -> bool {
        let limit = self.setup.rules[RANKED].limit.unwrap_or(u32::MAX);
        !self.had_length[RANKED] && chain.returns.max() <= limit && self.must_be_there(chain)
    }

    /// Forgets those whose time has come.
    pub(super) fn note_retried(&mut self) {
        let (now, chains) = (self.now.unix.0, &self.chains);
        self.retrying.retain(|at| chains[*at].retry.is_some_and(|retry| retry.from_ms > now));
    }

    /// No attempt has come early.
    pub(super) fn check_retries(&mut self, after: &Glance) {
        let now = self.now.unix.0;
        let waits = |chain: &&Chain| chain.retries(now, |it| it.from_ms) && self.must_retry(chain);
        let chains = self.retrying.iter().map(|at| &self.chains[*at]);
        let least = chains.filter(waits).count() as u64;
        assert!(least <= after.retrying, "{least} must retry, {} wait", after.retrying);
        self.stats.retrying += least.min(1);
    }

    /// Nothing moves: nobody waits too long.
    pub(super) fn check_retries_quiet(&self, after: &Glance) {
        let now = self.now.unix.0;
        let waits = |chain: &&Chain| chain.retries(now, |it| it.until_ms) || chain.wait.is_some();
        let most = self.chains.iter().filter(waits).count() as u64;
        assert!(after.retrying <= most, "{most} may retry, {} wait", after.retrying);
    }

    /// A client reads it.
    pub(super) fn check_attempt(&mut self, at: usize, copy: &Copy) {
        let now = self.now.unix.0;
        let chain = &mut self.chains[at];
        // What has failed too often waits nowhere.
        let here = copy.queue == RANKED && copy.deaths.is_empty();
        let early = here && chain.retry.is_some_and(|retry| retry.from_ms > now);
        assert!(!early, "its next attempt came at {now}: {chain:?}");
        self.stats.attempts += u64::from(chain.retry.take().is_some() && here);
    }

    /// A start has found it in the queue that delays attempts.
    pub(super) fn check_found_retry(&mut self, at: usize, copy: &Copy, found: u64) {
        let now = self.now.unix.0;
        let limit = self.setup.rules[RANKED].limit.unwrap_or(u32::MAX);
        let chain = &mut self.chains[at];
        let until_ms = copy.until_ms.filter(|until| *until > now);
        let is_sure = |retry: &Retry| self.turns[retry.turn].end <= found;
        let known = chain.retry.filter(|retry| is_sure(retry) && chain.returns.max() <= limit);
        if let Some(retry) = known {
            let waits = until_ms.unwrap_or(now) >= retry.from_ms;
            assert!(waits, "it waits until {until_ms:?}, behind record {found}: {chain:?}");
        }
        chain.retry = until_ms.map(|ms| Retry { from_ms: ms, until_ms: ms, turn: 0 });
        if chain.retry.is_some() {
            self.retrying.insert(at);
        }
        self.stats.recovered_retries += u64::from(until_ms.is_some());
    }
}
