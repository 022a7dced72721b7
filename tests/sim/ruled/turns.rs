//! What each turn of the broker leaves of these queues.

use super::chain::{Chain, Span, State};
use super::ledger::Ledger;
use super::{BRIEF, LOOSE, NAMES, Policies, RANKED, SHORT};
use leveret::time::Now;

/// Messages ready and unacked of each queue that is there.
pub(super) type Gauges = [Option<(u64, u64)>; NAMES.len()];

/// How the broker looks between two turns.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    pub(crate) lsn: u64,
    pub(crate) gauges: Gauges,
}

impl Ledger {
    pub(crate) fn begin_turn(&mut self, before: &Glance, now: Now, operations: usize) {
        self.now = now;
        self.alone = (operations == 1).then_some(before.gauges);
    }

    pub(crate) fn end_turn(&mut self, before: &Glance, after: &Glance) {
        let end = if self.failed { u64::MAX } else { after.lsn };
        self.turns.push(Span { before: before.lsn, end });
        for (queue, known) in self.queues.iter().enumerate() {
            let is_there = after.gauges[queue].is_some();
            assert_eq!(is_there, known.is_there, "whether {} is there", NAMES[queue]);
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
        let most = self.chains.iter().filter(|chain| !chain.is_ended()).count() as u64;
        let least = self.chains.iter().filter(|chain| self.must_be_there(chain)).count() as u64;
        self.stats.must_be_there += least;
        let there = least..=most;
        assert!(there.contains(&(ready + unacked)), "{:?} are not {there:?}", after.gauges);
        for queue in [SHORT, RANKED, BRIEF, LOOSE] {
            self.check_expired(queue, after);
        }
        for (place, channel) in self.channels.iter().filter(|(_, channel)| channel.is_open) {
            let waits = channel.published.iter().find(|published| !published.answered);
            assert!(waits.is_none(), "{place:?} waits for a confirm: {waits:?}");
            assert!(channel.commits.is_empty() && channel.gets.is_empty(), "{place:?} waits");
        }
    }

    /// Where every message is due that may be in a queue, none is ready there.
    fn check_expired(&mut self, queue: usize, after: &Glance) {
        let (now, ready) = (self.now.unix.0, after.gauges[queue].map_or(0, |gauges| gauges.0));
        let is_due = |chain: &Chain| chain.due_ms.is_some_and(|due| due <= now);
        let there = |chain: &&Chain| chain.root == queue && chain.state == State::There;
        let mut here = self.chains.iter().filter(there).peekable();
        let any = here.peek().is_some();
        if here.all(is_due) {
            self.stats.must_have_expired += u64::from(any);
            assert_eq!(ready, 0, "ready in {}, and due before {now}", NAMES[queue]);
        }
    }

    /// One client has taken all that is there.
    pub(crate) fn check_drained(&self) {
        let left = self.chains.iter().find(|chain| self.must_be_there(chain));
        assert!(left.is_none(), "the queues are empty, and none gave {left:?}");
    }
}
