//! What each operation does, at the moment when the broker takes it.

use super::chain::{Chain, Returns, State};
use super::ledger::{Channel, Consumer, Got, Holding, Ledger, Published};
use super::{BRIEF, Publication, RANKED, SHORT, index};
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
            Op::DeclareFan => self.has_fan = true,
            Op::BindFan(queue) if self.has_fan && self.queues[queue].is_there => {
                self.bound.insert(queue);
            }
            Op::BindFan(_) => self.end_channel(place),
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
        }
    }

    fn publish(&mut self, place: Place, publication: Publication) {
        if publication.to.is_none() && !self.has_fan {
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
                let chains = self.enqueue(publication);
                let turn = self.turn();
                let published = Published { chains, turn, answered: false };
                self.channel(place).published.push(published);
            }
        }
    }

    /// Each queue has its own now, or refuses it.
    pub(super) fn enqueue(&mut self, publication: Publication) -> Vec<usize> {
        self.stats.publishes += 1;
        let targets = self.targets(&publication);
        targets.into_iter().map(|root| self.begin(publication, root)).collect()
    }

    fn targets(&self, publication: &Publication) -> Vec<usize> {
        let is_target = |queue: &usize| {
            let is_bound = publication.to.is_some() || self.bound.contains(queue);
            self.queues[*queue].is_there && is_bound
        };
        publication.targets().into_iter().filter(is_target).collect()
    }

    fn begin(&mut self, publication: Publication, root: usize) -> usize {
        let ttl_ms = [self.ttl_ms(root), publication.expiration_ms.map(u64::from)];
        let ttl_ms = ttl_ms.into_iter().flatten().min();
        let born_ms = self.now.unix.0;
        let taken = self.will_take(root);
        self.chains.push(Chain {
            publication,
            root,
            state: State::There,
            born: self.turn(),
            born_ms,
            due_ms: ttl_ms.map(|ms| born_ms + ms),
            taken,
            safe: false,
            excused: taken == Some(false) || !self.leads_somewhere(root),
            ended_with_queue: false,
            has_left: false,
            purged: None,
            deaths: (0, 0),
            delivered: None,
            was_at_root: false,
            rejected_in: Vec::new(),
            returns: Returns::default(),
        });
        let at = self.chains.len() - 1;
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
        for chain in self.chains.iter_mut().filter(|it| it.root == queue && !is_held(it)) {
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
        let mut chains = Vec::new();
        for (publication, targets) in publishes {
            debug_assert_ne!(publication.to, Some(SHORT), "it could be refused");
            self.stats.publishes += 1;
            // A queue that was declared anew since is another one.
            let known = |(queue, begun): &(usize, usize)| {
                self.queues[*queue].is_there && self.queues[*queue].changed == *begun
            };
            for (root, _) in targets.into_iter().filter(known).collect::<Vec<_>>() {
                chains.push(self.begin(publication, root));
            }
        }
        settlements.into_iter().for_each(|(_, holding, how)| self.settled(holding, how));
        let turn = self.turn();
        self.channel(place).commits.push_back((chains, turn));
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
        taken.into_iter().for_each(|(_, holding, how)| self.settled(holding, how));
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
