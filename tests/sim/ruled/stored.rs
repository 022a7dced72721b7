//! What a start finds of these queues is what the records behind it say.

use super::chain::{Span, State};
use super::copy::Copy;
use super::ledger::Ledger;
use super::{FAN, LATE, LATE_TO, LOOSE, NAMES, Policies, Policy, RANKED};
use leveret::id::QueueId;
use leveret::store::{BoundTo, Disk, Recovered, RecoveredMessage, Store};
use std::collections::BTreeMap;

/// The number behind a key in JSON.
fn number(json: &str, key: &str) -> Option<u32> {
    let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn policies(recovered: &Recovered) -> Policies {
    let mut found = [None; 2];
    let vhost = recovered.definitions.vhost("/");
    for (_, name, value) in vhost.into_iter().flat_map(|vhost| vhost.parameters()) {
        let length = number(value, "max-length").expect("all of them say so");
        let policy = Policy { ttl_ms: number(value, "message-ttl"), length };
        found[usize::from(name == "second")] = Some(policy);
    }
    found
}

impl Ledger {
    /// A broker begins on what `recovered` says; all that is left is safe.
    pub(crate) fn started(&mut self, (store, disk): (&Store, &dyn Disk), recovered: &Recovered) {
        let found = recovered.last_lsn.0;
        assert!(self.channels.is_empty(), "clients are gone before a start");
        self.check_definitions(recovered, found);
        self.chains.iter_mut().for_each(|chain| chain.was_found = false);
        self.waiting.clear();
        self.retrying.clear();
        self.newest_of_group.clear();
        for (id, queue) in recovered.definitions.queues() {
            let at = NAMES.iter().position(|name| *name == queue.name);
            let held = id.is_timed() && queue.name == LATE;
            if at.is_none() && !held {
                continue;
            }
            let left = &recovered.queues[&id];
            for stored in store.read_all(disk, id, left).expect("what is left can be read") {
                match at {
                    Some(at) => self.found_in(at, id, &stored, recovered),
                    None => self.found_held(&stored, recovered),
                }
            }
        }
        self.check_keys(recovered);
        for at in 0..self.chains.len() {
            if !self.chains[at].was_found {
                self.check_missing(at, found);
                self.chains[at].state = State::Gone;
            }
        }
        self.turns[0] = Span { before: 0, end: 0 };
        self.synced = found;
        self.failed = false;
        self.alone = None;
    }

    /// A start has found a message in this queue.
    fn found_in(
        &mut self,
        queue: usize,
        id: QueueId,
        stored: &RecoveredMessage,
        recovered: &Recovered,
    ) {
        let message = &stored.message;
        let mut copy = Copy::new(message.header(), queue, stored.redelivered);
        let returns = recovered.queues[&id].returns.get(&stored.seq);
        copy.count = returns.map(|it| it.times);
        copy.until_ms = returns.filter(|it| it.waits()).map(|it| it.until.0);
        let chain = self.identify(&copy);
        self.check_left(chain, &copy, stored, self.chains[chain].wait.is_some());
        self.note_left(chain, 0);
        let found = recovered.last_lsn.0;
        if (queue, self.chains[chain].root) == (RANKED, RANKED) {
            self.check_found_retry(chain, &copy, found);
        }
        self.check_found(chain, &copy, found, recovered.clean);
    }

    /// A start has found a message in the delayed exchange, where it waits for all its queues.
    fn found_held(&mut self, stored: &RecoveredMessage, recovered: &Recovered) {
        let copy = Copy::new(stored.message.header(), 0, stored.redelivered);
        let chains = self.chains_of(copy.id);
        assert!(!chains.is_empty(), "it was never published: {copy:?}");
        for at in chains {
            let copy = Copy { queue: self.chains[at].root, ..copy.clone() };
            self.check_left(at, &copy, stored, false);
            self.check_found_held(at, stored.seq.time().0, recovered.last_lsn.0);
            self.check_found(at, &copy, recovered.last_lsn.0, recovered.clean);
        }
    }

    /// It is what was published, and was found nowhere else.
    fn check_left(&mut self, at: usize, copy: &Copy, stored: &RecoveredMessage, waited: bool) {
        let message = &stored.message;
        let address = (message.exchange(), message.routing_key());
        let body = message.body_to_vec();
        let publication = &self.chains[at].publication;
        copy.check_content(publication, waited, (message.header(), &body), address);
        self.check_deaths(at, copy);
        assert!(!self.chains[at].was_found, "in two places: {copy:?} of {:?}", self.chains[at]);
        self.chains[at].was_found = true;
    }

    fn check_definitions(&mut self, recovered: &Recovered, found: u64) {
        let definitions = &recovered.definitions;
        let names: BTreeMap<_, _> =
            definitions.queues().map(|(id, queue)| (queue.name.as_str(), id)).collect();
        for (queue, name) in NAMES.iter().enumerate() {
            let is_there = names.contains_key(name);
            let known = &self.queues[queue];
            let is_sure = self.span(known.changed).end <= found && queue != LOOSE;
            assert!(!is_sure || is_there == known.is_there, "whether {name} is there: {known:?}");
            self.queues[queue] = super::ledger::Queue { is_there, ..Default::default() };
        }
        let vhost = definitions.vhost("/");
        let has = |exchange| {
            let mut exchanges = vhost.into_iter().flat_map(|vhost| vhost.exchanges());
            exchanges.any(|(name, _)| name == exchange)
        };
        (self.has_fan, self.has_late) = (has(FAN), has(LATE));
        (self.bound, self.late_bound) = Default::default();
        for binding in vhost.into_iter().flat_map(|vhost| vhost.bindings()) {
            let BoundTo::Queue(id) = binding.destination else { panic!("queues only") };
            let queue = NAMES.iter().position(|name| names.get(name) == Some(&id));
            let key = LATE_TO.iter().position(|to| to.0.as_bytes() == &*binding.key);
            match (queue, key) {
                (Some(queue), None) if binding.source == FAN => drop(self.bound.insert(queue)),
                (Some(queue), Some(key)) => drop(self.late_bound.insert((key, queue))),
                _ => {}
            }
        }
        let policies = policies(recovered);
        let sure = self.history.iter().rposition(|(turn, _)| self.turns[*turn].end <= found);
        let mut possible = self.history[sure.unwrap_or(0)..].iter();
        assert!(possible.any(|it| it.1 == policies), "{policies:?} of {:?}", self.history);
        self.history.clear();
        self.note_policies(policies, 0);
    }

    /// A copy was found behind record `found`.
    fn check_found(&mut self, at: usize, copy: &Copy, found: u64, clean: bool) {
        let is_sure = |turn: usize| self.turns[turn].end <= found;
        let excused = !self.leads_somewhere(copy.queue);
        let chain = &mut self.chains[at];
        let said = format!("behind record {found}, {copy:?} of {chain:?}");
        let may = self.turns[chain.born].before < found && chain.publication.persistent;
        assert!(may, "it cannot be there: {said}");
        let ended = match chain.state {
            State::Gone => true,
            State::Ended(turn) => is_sure(turn),
            State::There | State::Held(..) => false,
        };
        assert!(!ended, "it came back from the dead: {said}");
        chain.purged = chain.purged.filter(|turn| is_sure(*turn));
        chain.has_left = chain.purged.is_some();
        chain.deaths = if chain.deaths.1 <= found { chain.deaths } else { (0, 0) };
        // Deaths that are lost were for nothing, and so was what was delivered behind them.
        chain.delivered = chain.delivered.filter(|deaths| *deaths <= copy.deaths.len());
        let again = chain.delivered == Some(copy.deaths.len());
        assert!(copy.redelivered || clean && !again, "it was delivered before: {said}");
        if copy.queue == RANKED && copy.deaths.is_empty() {
            let limit = self.setup.rules[RANKED].limit.unwrap_or(u32::MAX);
            chain.returns.found(copy.count.unwrap_or(0), limit, is_sure, &said);
            self.stats.recovered_counts += u64::from(copy.count.is_some());
        }
        (chain.state, chain.born, chain.taken, chain.safe) = (State::There, 0, chain.taken, true);
        (chain.ended_with_queue, chain.excused) = (false, excused);
        if copy.deaths.is_empty() {
            assert_ne!(chain.taken, Some(false), "it was refused: {chain:?}");
            chain.taken = Some(true);
        }
        self.stats.recovered += 1;
        self.stats.recovered_letters += u64::from(!copy.deaths.is_empty());
        self.note_seen(at, copy, 0);
    }

    /// No copy was found behind record `found`.
    fn check_missing(&mut self, at: usize, found: u64) {
        let chain = &self.chains[at];
        let stored = chain.publication.persistent && self.setup.rules[chain.root].durable;
        let was_there = chain.safe || self.turns[chain.born].end <= found;
        let ended = match chain.state {
            State::Gone => true,
            State::Ended(turn) => self.turns[turn].before < found,
            State::There | State::Held(..) => false,
        };
        let lost = stored && was_there && !ended && chain.taken == Some(true);
        let lost = lost && !chain.excused && !self.may_have_expired(chain);
        assert!(!lost, "lost behind record {found}: {chain:?}");
    }
}
