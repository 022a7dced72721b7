//! The model of a queue: one list of messages, sorted by seq, each in exactly one state, and the
//! rules that a hand-over must have kept. Every question is answered by looking at all of it. What
//! ends messages that nobody took stands in `endings.rs`.

use leveret::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use leveret::queue::{Behaviour, Delivery, Reason, Settlement};
use std::collections::{BTreeSet, VecDeque};

/// What the journal holds of a queue: seqs, their redelivered flags, when they expire, how often
/// they came back and until when they were to wait.
pub(super) type Stored = Vec<(u64, bool, u64, (u32, u64))>;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) seq: u64,
    /// What its routing key says; never another message's.
    pub(super) name: u64,
    pub(super) body_len: u64,
    /// When it expires.
    pub(super) due: u64,
    /// The journal has to know it.
    pub(super) persistent: bool,
    pub(super) redelivered: bool,
    /// How often it came back, where that is counted, and until when it was to wait then.
    pub(super) times: u32,
    pub(super) until: u64,
    /// It died of a return and has not moved: it was out, though no record says so.
    pub(super) was_out: bool,
    pub(super) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Invisible; `recorded` once its record is in the journal.
    Reserved { recorded: bool },
    /// `evicted` if it is not in memory, alone or in a page.
    Ready { evicted: bool },
    /// It failed, and its next attempt is delayed.
    Waiting { evicted: bool },
    /// The disk cannot give it back; nobody sees it again.
    Damaged,
    /// With a consumer, or with a get if `token` is none of a consumer.
    Out { slot: u32, token: u64, channel: usize, limited: bool, evicted: bool },
    /// A dead letter that has not moved; `told` once the broker has it, and why it died until then.
    Dying { told: bool, reason: Reason, evicted: bool },
}

#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) token: u64,
    pub(super) channel: usize,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) priority: i64,
    pub(super) prefetch: u32,
    pub(super) unacked: u32,
    pub(super) credit_messages: i64,
    pub(super) credit_bytes: i64,
    /// Handed over since the last grant.
    pub(super) drained: (u32, u64),
    /// Equals that took a message since this one could take one and got none.
    pub(super) passed_by: BTreeSet<u64>,
}

/// A channel-wide prefetch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    pub(super) limit: u32,
    pub(super) taken: u32,
}

/// A get that waits for a message to be loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) token: u64,
    pub(super) channel: usize,
    pub(super) no_ack: bool,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) entries: Vec<Entry>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) limits: Vec<Limit>,
    /// Consumers that the channel's limit stopped and that were not told yet that they may go on.
    pub(super) starved: BTreeSet<u64>,
    pub(super) now: u64,
    pub(super) behaviour: Behaviour,
    /// The consumer that gets everything, if one has to.
    pub(super) active: Option<u64>,
    /// Dead letters of this verb, in order; no seq for one that was refused.
    pub(super) deaths: Vec<(Option<u64>, Reason)>,
}

impl Consumer {
    pub(super) fn new(token: u64, channel: usize, no_ack: bool, prefetch: u32) -> Self {
        Self {
            token,
            channel,
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch,
            unacked: 0,
            credit_messages: CONSUMER_CREDIT_MESSAGES.into(),
            credit_bytes: CONSUMER_CREDIT_BYTES.into(),
            drained: (0, 0),
            passed_by: BTreeSet::new(),
        }
    }
}

impl Model {
    pub(super) fn admits(&self, exclusive: bool) -> bool {
        if exclusive && self.behaviour.single_active_consumer {
            return false;
        }
        self.consumers.is_empty() || !exclusive && !self.consumers.iter().any(|c| c.exclusive)
    }

    pub(super) fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Ready { .. }))
    }

    pub(super) fn out(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Out { .. }))
    }

    /// Visible but not in memory.
    pub(super) fn absent(&self) -> Vec<u64> {
        let absent = self.visible().filter(|e| e.state == State::Ready { evicted: true });
        absent.map(|entry| entry.seq).collect()
    }

    pub(super) fn stored(&self) -> Stored {
        let unrecorded = State::Reserved { recorded: false };
        let known = self.entries.iter().filter(|e| e.persistent && e.state != unrecorded);
        let stored = |e: &Entry| (e.seq, e.redelivered, e.due, (e.times, e.until));
        known.map(stored).collect()
    }

    pub(super) fn find(&mut self, seq: u64) -> &mut Entry {
        let found = self.entries.iter_mut().find(|entry| entry.seq == seq);
        found.unwrap_or_else(|| panic!("seq {seq} is no message of this queue"))
    }

    pub(super) fn is_out(&self, seq: u64) -> bool {
        self.out().any(|entry| entry.seq == seq)
    }

    /// What a consumer may be given next: an invisible message holds back those behind it.
    pub(super) fn head(&self) -> Option<&Entry> {
        let passed = |state| !matches!(state, State::Ready { .. } | State::Reserved { .. });
        let head = self.entries.iter().find(|entry| !passed(entry.state))?;
        matches!(head.state, State::Ready { .. }).then_some(head)
    }

    pub(super) fn can_take(&self, consumer: &Consumer) -> bool {
        let limit = self.limits[consumer.channel];
        let acks = consumer.no_ack
            || (consumer.prefetch == 0 || consumer.unacked < consumer.prefetch)
                && (limit.limit == 0 || limit.taken < limit.limit);
        let credit = consumer.credit_messages > 0 && consumer.credit_bytes > 0;
        let turn = !self.behaviour.single_active_consumer || self.active == Some(consumer.token);
        acks && credit && turn && !self.starved.contains(&consumer.token)
    }

    pub(super) fn anyone_can_take(&self) -> bool {
        self.consumers.iter().any(|consumer| self.can_take(consumer))
    }

    /// A consumer got this: was it its turn, and the message's?
    pub(super) fn delivered(&mut self, delivery: &Delivery) {
        let seq = delivery.seq.0;
        let head = self.head().map(|head| (head.seq, head.state));
        let expected = Some((seq, State::Ready { evicted: false }));
        assert_eq!(head, expected, "a consumer gets the head, and only from memory");
        let taker = self.consumers.iter().find(|c| c.token == delivery.token.0);
        let taker = taker.expect("a delivery names a consumer that has not ended").clone();
        assert!(self.can_take(&taker), "seq {seq} went to a consumer that was blocked: {taker:?}");
        let equals = (0..self.consumers.len()).filter(|&at| {
            let other = &self.consumers[at];
            other.token != taker.token && self.can_take(other) && {
                assert!(other.priority <= taker.priority, "{other:?} comes before {taker:?}");
                // Consumers of a limited channel are let go on one after the other.
                let limits = self.limits[other.channel].limit + self.limits[taker.channel].limit;
                other.priority == taker.priority && limits == 0
            }
        });
        for at in equals.collect::<Vec<_>>() {
            let first = self.consumers[at].passed_by.insert(taker.token);
            let waited = self.consumers[at].token;
            assert!(first, "{} took two while its equal {waited} got none", taker.token);
        }
        let limited = !taker.no_ack && self.limits[taker.channel].limit > 0;
        assert_eq!(delivery.limited, limited, "seq {seq} counts in the channel's limit");
        self.limits[taker.channel].taken += u32::from(limited);
        self.leave(delivery, taker.no_ack, taker.channel, limited);
        let taker = self.consumers.iter_mut().find(|c| c.token == delivery.token.0);
        let taker = taker.expect("found above");
        let body_len = delivery.message.body_len() as u64;
        taker.passed_by.clear();
        taker.unacked += u32::from(!taker.no_ack);
        taker.credit_messages -= 1;
        taker.credit_bytes -= body_len as i64;
        taker.drained = (taker.drained.0 + 1, taker.drained.1 + body_len);
        self.forget_blocked();
    }

    /// A get took this; it passes by what is invisible.
    pub(super) fn gotten(&mut self, delivery: &Delivery, get: Waiting, ready_left: u64) {
        let first = self.visible().next().map(|first| (first.seq, first.state));
        let expected = Some((delivery.seq.0, State::Ready { evicted: false }));
        assert_eq!(first, expected, "a get takes the oldest visible message");
        self.leave(delivery, get.no_ack, get.channel, false);
        assert_eq!(ready_left, (self.visible().count() + self.waits().count()) as u64);
    }

    /// A link counts what it got once it sees it, which never stops the get itself.
    pub(super) fn counted(&mut self, got: u64, channel: usize) {
        self.limits[channel].taken += 1;
        if let State::Out { limited, .. } = &mut self.find(got).state {
            *limited = true;
        }
    }

    fn leave(&mut self, delivery: &Delivery, no_ack: bool, channel: usize, limited: bool) {
        let (seq, slot, token) = (delivery.seq.0, delivery.slot, delivery.token.0);
        let name = self.find(seq).name.to_string();
        assert_eq!(delivery.message.routing_key(), name.as_bytes(), "another's content");
        assert_eq!(delivery.redelivered, self.find(seq).redelivered, "redelivered of seq {seq}");
        let counted = self.counts().then_some(self.find(seq).times).filter(|times| *times > 0);
        assert_eq!(delivery.returned.told().map(u32::from), counted, "count of seq {seq}");
        assert_eq!(slot == Delivery::NO_SLOT, no_ack, "seq {seq} is settled, or has a slot");
        if no_ack {
            self.entries.retain(|entry| entry.seq != seq);
        } else {
            self.find(seq).state = State::Out { slot, token, channel, limited, evicted: false };
        }
    }

    /// A delivery ends; says whether it counted in its channel's limit.
    pub(super) fn settled(&mut self, seq: u64, how: Settlement) -> bool {
        let State::Out { token, limited, evicted, .. } = self.find(seq).state else {
            panic!("seq {seq} is not out")
        };
        if let Some(owner) = self.consumers.iter_mut().find(|c| c.token == token) {
            owner.unacked -= 1;
        }
        match how {
            Settlement::Requeue | Settlement::Retry => self.came_back(seq, evicted, how),
            Settlement::Ack => self.entries.retain(|entry| entry.seq != seq),
            Settlement::Discard => self.die(seq, evicted, Reason::Rejected),
        }
        limited
    }

    pub(super) fn purged(&mut self) {
        let stays =
            |state| !matches!(state, State::Ready { .. } | State::Waiting { .. } | State::Damaged);
        self.entries.retain(|entry| stays(entry.state));
    }

    /// The active consumer has ended: the best of those that wait takes over.
    pub(super) fn elect(&mut self) {
        let best = self.consumers.iter().min_by_key(|c| (-c.priority, c.token));
        self.active = best.map(|consumer| consumer.token);
    }

    /// Who cannot take anything does not wait for its turn.
    pub(super) fn forget_blocked(&mut self) {
        for at in 0..self.consumers.len() {
            if !self.can_take(&self.consumers[at]) {
                self.consumers[at].passed_by.clear();
            }
        }
    }
}
