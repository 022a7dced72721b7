//! What each operation does, at the moment when the broker takes it.

use super::chain::{Chain, Returns, State};
use super::held::Wait;
use super::ledger::{Channel, Consumer, Got, Holding, Ledger, Published, Recorded};
use super::unique::Decision;
use super::{BRIEF, Publication, RANKED, SHORT, UNIQUE, Way, index};
use crate::ops::{Consume, How, Mode, Op};
use crate::oracle::Place;
use std::collections::{BTreeMap, VecDeque};

impl Channel {
    fn new() -> Self {
        Self {
            is_open: true,
            mode: Mode::Plain,
            recovering: 0,
            consumers: BTreeMap::new(),
            gets: VecDeque::new(),
            tags: BTreeMap::new(),
            kept_settlements: Vec::new(),
            kept_publishes: Vec::new(),
            published: Vec::new(),
            commits: VecDeque::new(),
            newest: BTreeMap::new(),
        }
    }
}

impl Ledger {
    pub(crate) fn apply(&mut self, place: Place, op: &Op) {
        match op {
            Op::Other => return,
            Op::CloseConnection => return self.end_connection(place.0),
            Op::OpenChannel => {
                self.channels.insert(place, Channel::new());
                return;
            }
            _ => {}
        }
        if !self.channel(place).is_open {
            return;
        }
        match *op {
            Op::CloseChannel => self.end_channel(place),
            Op::DeclareRuled(queue, _) => self.declare(queue),
            Op::DeclareFan(_) => self.has_fan = true,
            Op::DeclareLate(_) => self.has_late = true,
            Op::BindLate(key, queue) if self.has_late && self.queues[queue].is_there => {
                self.late_bound.insert((key, queue));
            }
            Op::BindFan(queue) if self.has_fan && self.queues[queue].is_there => {
                self.bound.insert(queue);
            }
            Op::BindFan(_) | Op::BindLate(..) => self.end_channel(place),
            Op::DeleteQueue(_) if self.queues[BRIEF].is_there => self.end_brief(),
            Op::Purge(number) => self.purge(place, index(number)),
            Op::PublishRuled(publication) => self.publish(place, publication),
            Op::Consume(consume) => self.consume(place, consume),
            Op::Cancel(tag) => self.end_consumer(place, tag),
            Op::Get { queue, no_ack } => self.get(place, index(queue), no_ack),
            Op::Settle { tag, multiple, how } => self.settle(place, tag, multiple, how),
            Op::Recover => {
                let tags = std::mem::take(&mut self.channel(place).tags);
                let requeue = How::Nack { requeue: true };
                tags.into_iter().for_each(|(_, holding)| self.settled(holding, requeue));
                self.unread_is_returned(place);
                self.channel(place).recovering += 1;
            }
            Op::Select(mode) => self.channel(place).mode = mode,
            Op::Commit => self.commit(place),
            Op::Rollback => {
                let channel = self.channel(place);
                channel.kept_publishes.clear();
                let kept = std::mem::take(&mut channel.kept_settlements);
                channel.tags.extend(kept.into_iter().map(|(tag, holding, _)| (tag, holding)));
            }
            _ => {}
        }
    }

    fn declare(&mut self, queue: usize) {
        let (turn, now_ms) = (self.turn(), self.now.monotonic.0);
        let known = &mut self.queues[queue];
        known.used_ms = Some(now_ms);
        if !known.is_there {
            (known.is_there, known.changed) = (true, turn);
            self.excuse_lost_ways(queue);
        }
    }

    fn publish(&mut self, place: Place, publication: Publication) {
        let is_there = match publication.way {
            Way::Queue(_) => true,
            Way::Fan => self.has_fan,
            Way::Late(_) => self.has_late,
        };
        if !is_there {
            return self.end_channel(place);
        }
        match self.channel(place).mode {
            Mode::Transaction => {
                let targets = self.targets(&publication);
                let begun = |queue: usize| (queue, self.queues[queue].changed);
                let targets = targets.into_iter().map(begun).collect();
                self.channel(place).kept_publishes.push((publication, targets));
            }
            Mode::Plain => drop(self.enqueue(publication)),
            Mode::Confirm => {
                let recorded = self.enqueue(publication);
                self.channel(place).published.push(Published { recorded, answered: false });
            }
        }
    }

    /// Each queue has its own now, refuses it, or knows it already.
    fn enqueue(&mut self, publication: Publication) -> Recorded {
        let targets = self.targets(&publication);
        let held = publication.held_until(self.now.unix).is_some();
        let one = held || publication.way == Way::Queue(UNIQUE);
        self.only_way = (self.alone.is_some() && one).then_some(publication.way);
        let decision = self.decide(&publication, &targets, &[]);
        let mut recorded = Recorded::new(self.turn());
        self.accept(publication, decision, targets, &mut recorded);
        recorded
    }

    /// A publish comes to those of the queues that it may go to.
    fn accept(
        &mut self,
        publication: Publication,
        decision: Decision,
        targets: Vec<usize>,
        recorded: &mut Recorded,
    ) {
        self.stats.publishes += 1;
        let wants = |root: &usize| !decision.leaves_out(*root);
        let taken: Vec<_> = targets.into_iter().filter(wants).collect();
        self.remember(&publication, &decision, &taken);
        recorded.chains.extend(taken.into_iter().map(|root| self.begin(publication, root)));
        // The confirm of a transient message promises nothing that a power loss leaves.
        if publication.persistent {
            recorded.originals.extend(decision.originals);
        }
    }

    /// Where it goes now, or later if it is held back.
    fn targets(&self, publication: &Publication) -> Vec<usize> {
        let targets = publication.targets();
        if publication.held_until(self.now.unix).is_some() {
            return targets;
        }
        let is_bound = |queue: &usize| match publication.way {
            Way::Queue(_) => true,
            Way::Fan => self.bound.contains(queue),
            Way::Late(key) => self.late_bound.contains(&(key, *queue)),
        };
        let is_target = |queue: &usize| self.queues[*queue].is_there && is_bound(queue);
        targets.into_iter().filter(is_target).collect()
    }

    fn begin(&mut self, publication: Publication, root: usize) -> usize {
        let born_ms = self.now.unix.0;
        let wait = publication.held_until(self.now.unix).map(Wait::new);
        let ttl_ms = [self.ttl_ms(root), publication.expiration_ms.map(u64::from)];
        let ttl_ms = ttl_ms.into_iter().flatten().min();
        let taken = self.will_take(root);
        self.chains.push(Chain {
            publication,
            root,
            state: State::There,
            born: self.turn(),
            born_ms,
            due_ms: ttl_ms.filter(|_| wait.is_none()).map(|ms| born_ms + ms),
            taken,
            safe: false,
            excused: taken == Some(false) || !self.leads_somewhere(root),
            ended_with_queue: false,
            has_left: false,
            purged: None,
            deaths: (0, 0),
            delivered: None,
            was_at_root: false,
            was_found: false,
            rejected_in: Vec::new(),
            returns: Returns::default(),
            wait,
            retry: None,
            holder: None,
        });
        let at = self.chains.len() - 1;
        if self.chains[at].wait.is_some() {
            self.waiting.insert(at);
        }
        self.index.insert((publication.id, root), at);
        at
    }

    /// Whether the queue takes one more message; not known if others came in the same turn.
    fn will_take(&mut self, queue: usize) -> Option<bool> {
        if !self.refuses(queue) {
            return Some(true);
        }
        let length = self.length(queue)?;
        let (ready, _) = self.alone.as_ref()?[queue]?;
        let takes = ready < length;
        self.stats.exact_admissions += u64::from(takes);
        self.stats.exact_refusals += u64::from(!takes);
        Some(takes)
    }

    fn consume(&mut self, place: Place, Consume { queue, tag, no_ack, .. }: Consume) {
        let queue = index(queue);
        if !self.queues[queue].is_there {
            return self.end_channel(place);
        }
        let since_ms = self.now.unix.0;
        let consumer = Consumer { queue, no_ack, since_ms, was_active: false };
        self.channel(place).consumers.insert(tag, consumer);
        self.queues[queue].consumers.push((place, tag));
        self.note_active(queue);
    }

    fn get(&mut self, place: Place, queue: usize, no_ack: bool) {
        if !self.queues[queue].is_there {
            return self.end_channel(place);
        }
        self.queues[queue].used_ms = Some(self.now.monotonic.0);
        let at_ms = self.now.unix.0;
        let rank = if queue == RANKED { self.best_rank() } else { None };
        self.stats.exact_ranks += u64::from(rank.is_some());
        self.channel(place).gets.push_back(Got { queue, no_ack, at_ms, rank });
    }

    fn purge(&mut self, place: Place, queue: usize) {
        if !self.queues[queue].is_there {
            return self.end_channel(place);
        }
        let is_held = |chain: &Chain| matches!(chain.state, State::Held(..));
        // If nothing is out, all is ready that has not left the queue before. What is out may be
        // on its way to a client, who cannot tell which it is.
        let unacked = self.alone.as_ref().and_then(|gauges| gauges[queue]).map(|it| it.1);
        let is_exact = unacked == Some(0) && !self.setup.no_ack;
        self.stats.exact_purges += u64::from(is_exact);
        let turn = self.turn();
        let now = self.now.unix.0;
        let here = |chain: &Chain| chain.root == queue && !is_held(chain) && !chain.waits(now);
        for chain in self.chains.iter_mut().filter(|chain| here(chain)) {
            // Whether it has come here from where it waited is not known.
            let is_exact = is_exact && chain.wait.is_none();
            if is_exact && queue == BRIEF {
                chain.end(turn);
            } else {
                chain.excused = true;
            }
            if is_exact && !chain.is_ended() {
                chain.has_left = true;
                chain.purged.get_or_insert(turn);
            }
        }
    }

    fn commit(&mut self, place: Place) {
        let channel = self.channel(place);
        let publishes = std::mem::take(&mut channel.kept_publishes);
        let settlements = std::mem::take(&mut channel.kept_settlements);
        // A queue that was declared anew since is another one.
        let known = |(queue, begun): &(usize, usize)| {
            self.queues[*queue].is_there && self.queues[*queue].changed == *begun
        };
        let (mut decided, mut places) = (Vec::new(), Vec::new());
        for (publication, targets) in publishes {
            debug_assert_ne!(publication.way, Way::Queue(SHORT), "it could be refused");
            let held = publication.held_until(self.now.unix).is_some();
            let targets = targets.into_iter().filter(|it| held || known(it)).map(|it| it.0);
            places.push(targets.collect::<Vec<_>>());
            let decision = self.decide(&publication, &places[places.len() - 1], &decided);
            decided.push((publication, decision));
        }
        let mut recorded = Recorded::new(self.turn());
        for ((publication, decision), targets) in decided.into_iter().zip(places) {
            self.accept(publication, decision, targets, &mut recorded);
        }
        settlements.into_iter().for_each(|(_, holding, how)| self.given_back(holding, how));
        self.channel(place).commits.push_back(recorded);
    }

    fn settle(&mut self, place: Place, tag: u64, multiple: bool, how: How) {
        let channel = self.channel(place);
        assert!(channel.tags.contains_key(&tag), "a client settled {tag}, which it does not hold");
        let settled = |other: &u64| *other == tag || multiple && *other < tag;
        let taken = channel.tags.extract_if(..=tag, |other, _| settled(other));
        let taken: Vec<_> = taken.map(|(tag, holding)| (tag, holding, how)).collect();
        if channel.mode == Mode::Transaction {
            return channel.kept_settlements.extend(taken);
        }
        taken.into_iter().for_each(|(_, holding, how)| self.given_back(holding, how));
    }

    /// A client settles a delivery: what it gives back has failed.
    fn given_back(&mut self, holding: Holding, how: How) {
        let failed = matches!(how, How::Nack { requeue: true } | How::Reject { requeue: true });
        let chain = &self.chains[holding.chain];
        let is_held = matches!(chain.state, State::Held(..));
        let counts = (holding.queue, chain.root) == (RANKED, RANKED);
        self.settled(holding, how);
        if failed && is_held && counts {
            self.note_failed(holding.chain);
        }
    }

    /// A delivery ends for good, dies or goes back.
    pub(super) fn settled(&mut self, Holding { chain, queue }: Holding, how: How) {
        let (turn, goes_on) = (self.turn(), self.dead_to(queue).is_some());
        let chain = &mut self.chains[chain];
        if !matches!(chain.state, State::Held(..)) {
            return;
        }
        chain.state = State::There;
        match how {
            How::Ack => chain.end(turn),
            How::Nack { requeue: true } | How::Reject { requeue: true } => {
                if queue == RANKED && chain.root == RANKED {
                    chain.returns.add(turn);
                }
            }
            How::Nack { .. } | How::Reject { .. } if goes_on => {
                chain.rejected_in.push(queue);
                chain.has_left |= chain.root == queue;
            }
            How::Nack { .. } | How::Reject { .. } => chain.end(turn),
        }
    }
}
