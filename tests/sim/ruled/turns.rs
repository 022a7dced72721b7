//! What each turn of the broker leaves of these queues.

use super::chain::{Chain, Span, State};
use super::ledger::Ledger;
use super::publication::Way;
use super::{BRIEF, LATE_TO, LOOSE, NAMES, Policies, RANKED, SHORT, UNIQUE};
use leveret::time::Now;

/// Messages ready and unacked of each queue that is there.
pub(super) type Gauges = [Option<(u64, u64)>; NAMES.len()];

/// How the broker looks between two turns.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    pub(crate) lsn: u64,
    pub(crate) gauges: Gauges,
    /// Messages that the delayed exchange holds back; until when, if the ledger wants to know.
    pub(crate) held: u64,
    pub(crate) held_until: Vec<u64>,
    /// Messages whose next attempt is delayed.
    pub(crate) retrying: u64,
}

impl Ledger {
    pub(crate) fn begin_turn(&mut self, before: &Glance, now: Now, operations: usize) {
        self.now = now;
        self.alone = (operations == 1).then_some(before.gauges);
        self.only_way = None;
        self.note_due();
        self.note_retried();
    }

    pub(crate) fn end_turn(&mut self, before: &Glance, after: &Glance) {
        let end = if self.failed { u64::MAX } else { after.lsn };
        self.turns.push(Span { before: before.lsn, end });
        for (queue, known) in self.queues.iter().enumerate() {
            let is_there = after.gauges[queue].is_some();
            assert_eq!(is_there, known.is_there, "whether {} is there", NAMES[queue]);
        }
        self.check_one_record(before, after);
        self.check_held(after);
        self.check_retries(after);
    }

    /// A message is in one record with all that is remembered of it, if nothing else has moved.
    fn check_one_record(&mut self, before: &Glance, after: &Glance) {
        // Dead letters and messages that were held back go somewhere, which can be seen, but
        // nothing goes to these two.
        let is_there = |queue| [BRIEF, LOOSE].contains(&queue) || self.queues[queue].is_there;
        let bindings = LATE_TO.iter().map(|to| to.1.len()).sum::<usize>();
        let all_lead = (0..NAMES.len()).all(is_there) && self.late_bound.len() == bindings;
        let mut others = (0..NAMES.len()).filter(|queue| *queue != UNIQUE);
        let moved = others.any(|it| before.gauges[it] != after.gauges[it]);
        // What is handed over without acknowledgement has ended.
        let taken = !self.queues[UNIQUE].consumers.is_empty()
            || self.channels.values().any(|channel| !channel.gets.is_empty());
        let there = |glance: &Glance| {
            glance.held + glance.gauges[UNIQUE].map_or(0, |(ready, unacked)| ready + unacked)
        };
        // One that was held back may go on to the queue that remembers keys.
        let alone = match self.only_way {
            Some(Way::Late(_)) => before.gauges[UNIQUE] == after.gauges[UNIQUE],
            Some(_) => before.held == after.held,
            None => false,
        };
        let alone = alone && there(after) <= there(before) + 1;
        if all_lead && alone && !moved && !taken {
            let records = after.lsn - before.lsn;
            assert!(records <= 1, "one publish has left {records} records");
            self.stats.one_record += records;
        }
    }

    /// The ticker was there, in a turn that is not over. A queue that nobody has used for long
    /// enough has ended, and no other.
    pub(crate) fn ticked(&mut self, after: &Glance) {
        self.stats.ticks += 1;
        let now_ms = self.now.monotonic.0;
        let expires_ms = self.setup.rules[BRIEF].expires_ms;
        let queue = &mut self.queues[BRIEF];
        if !queue.is_there {
            return;
        }
        let used_ms = *queue.used_ms.get_or_insert(now_ms);
        let idle = queue.consumers.is_empty();
        let due = idle && expires_ms.is_some_and(|ms| used_ms + u64::from(ms) <= now_ms);
        let ended = after.gauges[BRIEF].is_none();
        assert_eq!(ended, due, "unused since {used_ms} of {expires_ms:?}, now {now_ms}: {queue:?}");
        if ended {
            self.stats.ended_by_themselves += 1;
            self.end_brief();
        }
    }

    /// An operator has set or cleared policies, in a turn that is not over.
    pub(crate) fn set_policies(&mut self, policies: Policies) {
        self.stats.policies += 1;
        let turn = self.turn();
        self.note_policies(policies, turn);
    }

    pub(crate) fn setup(&self) -> &super::Setup {
        &self.setup
    }

    pub(crate) fn policies(&self) -> Policies {
        self.policies
    }

    pub(crate) fn synced(&mut self, lsn: u64) {
        self.synced = self.synced.max(lsn);
    }

    pub(crate) fn disk_failed(&mut self) {
        self.failed = true;
    }

    /// Nothing moves any more: all that must be there is, and nothing else; nobody waits.
    pub(crate) fn check_quiet(&mut self, after: &Glance) {
        let held = self.chains.iter().filter(|it| matches!(it.state, State::Held(..))).count();
        let (ready, unacked) =
            after.gauges.iter().flatten().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        assert_eq!(held as u64, unacked, "held, and unacked");
        let now = self.now.unix.0;
        let chains = self.chains.iter().filter(|chain| !chain.is_ended() && !chain.waits(now));
        let (most, must) = (chains.clone().count() as u64, |it: &&Chain| self.must_be_there(it));
        // Dead letters that nobody takes are neither ready nor out.
        let dying = |chain: &&Chain| self.setup.rules[chain.root].must_arrive;
        let least = chains.clone().filter(|it| must(it) && !dying(it)).count() as u64;
        let least_dying = chains.filter(must).count() as u64;
        self.stats.must_be_there += least;
        let there = least..=most;
        let all = ready + unacked + after.retrying;
        self.stats.held_back += least_dying.saturating_sub(all);
        assert!(there.contains(&all), "{after:?} are not {there:?}");
        for queue in [SHORT, RANKED, BRIEF, LOOSE] {
            self.check_expired(queue, after);
        }
        self.check_held_quiet(after);
        self.check_retries_quiet(after);
        for (place, channel) in self.channels.iter().filter(|(_, channel)| channel.is_open) {
            let waits = channel.published.iter().find(|published| !published.answered);
            assert!(waits.is_none(), "{place:?} waits for a confirm: {waits:?}");
            assert!(channel.commits.is_empty() && channel.gets.is_empty(), "{place:?} waits");
        }
    }

    /// Where every message is due that may be in a queue, none is ready there. If messages expire
    /// wherever they stand, none is ready that is due.
    fn check_expired(&mut self, queue: usize, after: &Glance) {
        if self.setup.rules.iter().any(|rules| rules.dead_to == Some(queue)) {
            return;
        }
        let (now, ready) = (self.now.unix.0, after.gauges[queue].map_or(0, |gauges| gauges.0));
        let is_due = |chain: &&Chain| chain.due_ms.is_some_and(|due| due <= now);
        let there = |chain: &&Chain| chain.root == queue && chain.state == State::There;
        let here = self.chains.iter().filter(there);
        let (due, all) = (here.clone().filter(is_due).count() as u64, here.count() as u64);
        if due == all || self.setup.rules[queue].exact {
            self.stats.must_have_expired += u64::from(due > 0);
            self.stats.expired_amid += u64::from(due > 0 && due < all);
            let name = NAMES[queue];
            assert!(ready <= all - due, "{ready} ready in {name}, {due} of {all} due before {now}");
        }
    }

    /// One client has taken all that is there.
    pub(crate) fn check_drained(&self) {
        // Then they stay where they died, and the next start must find them there.
        let takes_none = self.length(SHORT) == Some(0) && self.refuses(SHORT);
        let takes_none = takes_none || !self.queues[SHORT].is_there;
        let stays = |chain: &Chain| takes_none && self.setup.rules[chain.root].must_arrive;
        let mut chains = self.chains.iter();
        let left = chains.find(|chain| self.must_be_there(chain) && !stays(chain));
        assert!(left.is_none(), "the queues are empty, and none gave {left:?}");
    }
}
