//! The disk: what must be in it after each record, and what a crash has left of it.

use super::{Oracle, Place, Queue, State};
use crate::ops::{Binding, EXCHANGES, Message, OS_QUEUE, QUEUES};
use leveret::store::{BoundTo, Disk, Recovered, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Everything durable at the end of a turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Durable {
    /// By name: which queue it is, and its persistent copies, with whether they are surely there.
    queues: BTreeMap<usize, (usize, Vec<(usize, bool)>)>,
    exchanges: BTreeSet<usize>,
    bindings: BTreeSet<Binding>,
}

impl Durable {
    /// No record was written, so nothing may have changed but what is not sure.
    pub(super) fn check_unchanged(&self, last: &Self) {
        assert_eq!(self.exchanges, last.exchanges, "a change of exchanges left no record");
        assert_eq!(self.bindings, last.bindings, "a change of bindings left no record");
        let names = |durable: &Self| durable.queues.keys().copied().collect::<Vec<_>>();
        assert_eq!(names(self), names(last), "a change of queues left no record");
        for (name, (queue, copies)) in &self.queues {
            let (before, were) = &last.queues[name];
            assert_eq!(queue, before, "a new queue left no record");
            let all: BTreeSet<_> = were.iter().map(|(copy, _)| copy).collect();
            let new = copies.iter().find(|(copy, sure)| *sure && !all.contains(copy));
            assert_eq!(new, None, "a message in {} left no record", QUEUES[*name].0);
            let all: BTreeSet<_> = copies.iter().map(|(copy, _)| copy).collect();
            let lost = were.iter().find(|(copy, sure)| *sure && !all.contains(copy));
            assert_eq!(lost, None, "an end in {} left no record", QUEUES[*name].0);
        }
    }
}

impl Oracle {
    pub(super) fn durable(&self) -> Durable {
        let alive =
            self.named.iter().enumerate().filter_map(|(name, queue)| Some((name, (*queue)?)));
        let durable = alive.filter(|(name, _)| QUEUES[*name].1);
        let queues = durable.map(|(name, queue)| (name, (queue, self.stored(&self.queues[queue]))));
        let lasting = |binding: &&Binding| QUEUES[binding.queue].1;
        Durable {
            queues: queues.collect(),
            exchanges: self.exchanges.clone(),
            bindings: self.bindings.iter().filter(lasting).copied().collect(),
        }
    }

    fn stored(&self, queue: &Queue) -> Vec<(usize, bool)> {
        let copies = queue.copies.iter().enumerate();
        let persistent = copies.filter(|(_, copy)| self.messages[copy.message as usize].persistent);
        let there = persistent.filter(|(_, copy)| copy.state != State::Gone);
        let loose = queue.is_loose || queue.loose_gets > 0;
        there.map(|(at, copy)| (at, copy.state != State::Maybe && !loose)).collect()
    }

    /// A broker stopped in good order behind record `before`, and said so in its last record;
    /// safely, or perhaps.
    pub(crate) fn stopped(&mut self, before: u64, lsn: u64, safe: bool) {
        if !self.failed {
            // The last checkpoint's record changes nothing, and the mark of the stop comes last.
            for lsn in before + 1..=lsn {
                self.snapshots.insert(lsn, self.durable());
            }
        }
        if safe {
            self.synced(lsn);
        }
    }

    /// The keeper was there: records up to `synced` are safe, and those up to `lsn` that no turn
    /// wrote are its own.
    pub(crate) fn kept(&mut self, synced: u64, lsn: u64) {
        if self.failed {
            return;
        }
        let last = self.snapshots.last_key_value().map(|(_, durable)| durable.clone());
        self.snapshots.entry(lsn).or_insert_with(|| last.expect("the last turn's end"));
        if synced > self.synced {
            self.synced(synced);
        }
    }

    /// This record is the last of a turn, or of what a start or the keeper wrote.
    pub(crate) fn ends_turn(&self, lsn: u64) -> bool {
        lsn == 0 || self.snapshots.contains_key(&lsn)
    }

    /// What there may be within a turn whose first records are all that is left: what was changed
    /// by it is not sure. `None` if that is neither there before the turn nor after it.
    fn within_turn(&self, recovered: &Recovered) -> Option<Durable> {
        let found = recovered.last_lsn.0;
        let (_, before) = self.snapshots.range(..found).next_back()?;
        let (_, after) = self.snapshots.range(found..).next()?;
        let defined = definitions_of(recovered);
        let mut left = before.clone();
        left.exchanges.extend(&after.exchanges);
        left.exchanges.retain(|exchange| defined.1.contains(EXCHANGES[*exchange].0));
        left.bindings.extend(&after.bindings);
        left.bindings.retain(|binding| defined.2.contains(&names_of(binding)));
        for (name, (queue, copies)) in &after.queues {
            let (same, all) = left.queues.entry(*name).or_insert((*queue, Vec::new()));
            if same != queue {
                return None;
            }
            let sure = |copies: &[_], copy| copies.contains(&(copy, true));
            let both: BTreeSet<_> = all.iter().chain(copies).map(|(copy, _)| *copy).collect();
            let both = both.into_iter();
            *all = both.map(|copy| (copy, sure(all, copy) && sure(copies, copy))).collect();
        }
        left.queues.retain(|name, _| defined.0.contains(QUEUES[*name].0));
        for (name, (_, copies)) in &mut left.queues {
            if !after.queues.contains_key(name) {
                copies.iter_mut().for_each(|(_, sure)| *sure = false);
            }
        }
        (left.definitions() == defined).then_some(left)
    }

    /// Somebody took the disk away.
    pub(crate) fn forget(&mut self) {
        self.synced = 0;
        self.snapshots.clear();
    }

    /// A start from this can be judged.
    pub(crate) fn knows(&self, recovered: &Recovered) -> bool {
        self.ends_turn(recovered.last_lsn.0) || self.within_turn(recovered).is_some()
    }

    /// A broker begins on what `recovered` says, and has records up to `lsn` by now.
    pub(crate) fn started(
        &mut self,
        (store, disk): (&Store, &dyn Disk),
        recovered: &Recovered,
        synced: u64,
        lsn: u64,
    ) {
        let found = recovered.last_lsn.0;
        assert!(found >= self.synced, "{found} records are left of {} synced ones", self.synced);
        let empty = Durable::default();
        let left = match self.snapshots.get(&found) {
            Some(left) => left.clone(),
            None if found == 0 => empty,
            None => self.within_turn(recovered).unwrap_or_else(|| {
                panic!("record {found} is in no turn: {:?}", self.snapshots.keys())
            }),
        };
        self.stats.lost_turns += self.snapshots.keys().filter(|lsn| **lsn > found).count() as u64;
        check_definitions(&left, recovered);
        let places: BTreeSet<Place> = self.channels.keys().copied().collect();
        assert!(places.is_empty(), "clients are gone before a start: {places:?}");
        let ids: BTreeMap<_, _> =
            recovered.definitions.queues().map(|(id, queue)| (queue.name.as_str(), id)).collect();
        let mut named = [None; QUEUES.len()];
        for (name, (queue, copies)) in &left.queues {
            let id = ids[QUEUES[*name].0];
            let messages = store.read_all(disk, id, &recovered.queues[&id]);
            let messages = messages.expect("what was recovered can be read");
            self.check_messages(*queue, copies, &messages, recovered.clean);
            named[*name] = Some(*queue);
        }
        for queue in &mut self.queues {
            queue.alive = false;
        }
        for queue in named.iter().flatten() {
            self.queues[*queue].alive = true;
        }
        self.named = named;
        self.exchanges = left.exchanges;
        self.bindings = left.bindings;
        self.synced = synced;
        self.failed = false;
        self.snapshots = BTreeMap::from([(synced, self.durable()), (lsn, self.durable())]);
        // Whoever waits for an earlier turn is gone.
        self.turn_lsns.iter_mut().for_each(|turn| *turn = u64::MAX);
    }

    /// A queue has what its last record says, whole and in order; nothing that was confirmed and
    /// not settled is missing.
    fn check_messages(
        &mut self,
        queue: usize,
        expected: &[(usize, bool)],
        messages: &[leveret::store::RecoveredMessage],
        clean: bool,
    ) {
        let mut found = BTreeSet::new();
        for recovered in messages {
            let message = &recovered.message;
            let id = Message::id_of(message.header());
            let published = &self.messages[id as usize];
            assert_eq!(message.header(), published.header(id), "properties of message {id}");
            assert!(message.body_to_vec() == published.body(id), "the body of message {id}");
            assert_eq!(message.exchange(), EXCHANGES[published.exchange].0.as_bytes());
            assert_eq!(message.routing_key(), published.key.as_bytes());
            let at = self.queues[queue].places[&id];
            assert!(found.last().is_none_or(|last| *last < at), "message {id} lost its place");
            found.insert(at);
        }
        let name = QUEUES[self.queues[queue].name].0;
        for (copy, sure) in expected {
            let message = self.queues[queue].copies[*copy].message;
            assert!(!sure || found.contains(copy), "message {message} is missing in {name}");
        }
        let known: BTreeSet<_> = expected.iter().map(|(copy, _)| *copy).collect();
        let stray = found.iter().find(|copy| !known.contains(copy));
        let stray = stray.map(|copy| self.queues[queue].copies[*copy].message);
        assert_eq!(stray, None, "a message came back from the dead in {name}");
        let loose = self.queues[queue].is_loose || self.queues[queue].loose_gets > 0;
        for (at, copy) in self.queues[queue].copies.iter().enumerate() {
            // A confirm that waited for no sync promises nothing here.
            let there = matches!(copy.state, State::Live | State::Held)
                && !loose
                && self.queues[queue].name != OS_QUEUE;
            let confirmed = self.confirmed_messages.contains(&copy.message);
            let persistent = self.messages[copy.message as usize].persistent;
            if there && confirmed && persistent {
                assert!(found.contains(&at), "confirmed message {} is lost", copy.message);
            }
        }
        for (recovered, at) in messages.iter().zip(&found) {
            let copy = &self.queues[queue].copies[*at];
            let (redelivered, id) = (recovered.redelivered, copy.message);
            assert!(redelivered || !copy.must_be_redelivered, "message {id} was delivered before");
            assert!(redelivered || clean, "message {id} may have been delivered");
            assert!(!redelivered || !clean || copy.may_be_redelivered, "message {id} never was");
        }
        self.stats.recovered += found.len() as u64;
        let known = &mut self.queues[queue];
        (known.is_loose, known.loose_gets) = (false, 0);
        for (at, copy) in known.copies.iter_mut().enumerate() {
            copy.state = if found.contains(&at) { State::Live } else { State::Gone };
            copy.may_be_redelivered |= !clean;
        }
    }
}

/// Names of queues, exchanges, and bindings' exchanges, queues and keys.
type Names<'a> = (BTreeSet<&'a str>, BTreeSet<&'a str>, BTreeSet<(&'a str, &'a str, &'a [u8])>);

impl Durable {
    fn definitions(&self) -> Names<'_> {
        let queues = self.queues.keys().map(|name| QUEUES[*name].0);
        let exchanges = self.exchanges.iter().map(|exchange| EXCHANGES[*exchange].0);
        (queues.collect(), exchanges.collect(), self.bindings.iter().map(names_of).collect())
    }
}

fn names_of(binding: &Binding) -> (&'static str, &'static str, &'static [u8]) {
    (EXCHANGES[binding.exchange].0, QUEUES[binding.queue].0, binding.key.as_bytes())
}

fn definitions_of(recovered: &Recovered) -> Names<'_> {
    let definitions = &recovered.definitions;
    let queues = definitions.queues().map(|(_, queue)| queue.name.as_str());
    let vhost = definitions.vhost("/");
    let exchanges = vhost.into_iter().flat_map(|vhost| vhost.exchanges());
    let bindings = vhost.into_iter().flat_map(|vhost| vhost.bindings());
    let bindings = bindings.map(|binding| {
        let BoundTo::Queue(id) = binding.destination else { panic!("queues only") };
        let queue = definitions.queue(id).expect("it is bound").name.as_str();
        (binding.source.as_str(), queue, binding.key.as_slice())
    });
    (queues.collect(), exchanges.map(|(name, _)| name).collect(), bindings.collect())
}

fn check_definitions(left: &Durable, recovered: &Recovered) {
    let (found, expected) = (definitions_of(recovered), left.definitions());
    assert_eq!(found.0, expected.0, "queues after a start");
    assert_eq!(recovered.queues.len(), found.0.len(), "messages of queues that are there");
    assert_eq!(found.1, expected.1, "exchanges after a start");
    assert_eq!(found.2, expected.2, "bindings after a start");
}
