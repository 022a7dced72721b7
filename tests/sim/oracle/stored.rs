//! The disk: what must be in it after each record, and what a crash has left of it.

use super::{Oracle, Place, Queue, State};
use crate::ops::{Binding, EXCHANGES, Message, OS_QUEUE, QUEUES};
use crate::ruled::EXCHANGES as RULED;
use leveret::store::{BoundTo, Disk, Recovered, RecoveredMessage, Store};
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

    /// Within a turn: what the disk must hold once the operations so far are in it.
    pub(crate) fn end_operation(&mut self) {
        let durable = self.durable();
        self.steps.push(durable);
    }

    /// What there may be where only the first records of a turn are left. Definitions are as some
    /// of its operations left them, from the first on; of the messages that it changed nothing is
    /// sure. There are several only if a queue was deleted and declared again.
    fn within_turn(&self, recovered: &Recovered) -> Vec<Durable> {
        let found = recovered.last_lsn.0;
        let before = self.snapshots.range(..found).next_back();
        let after = self.snapshots.range(found..).next();
        let Some(((_, before), (lsn, after))) = before.zip(after) else {
            panic!("record {found} is in no turn: {:?}", self.snapshots.keys());
        };
        let steps = self.turn_steps.get(lsn).map_or(&[][..], Vec::as_slice);
        let all: Vec<_> = [before].into_iter().chain(steps).chain([after]).collect();
        let defined = definitions_of(recovered);
        let fitting = all.iter().filter(|step| step.definitions() == defined);
        let mut left: Vec<Durable> = Vec::new();
        for step in fitting {
            if left.iter().all(|other| other.ids() != step.ids()) {
                left.push(step.unsure_of_changes(&all));
            }
        }
        assert!(!left.is_empty(), "{defined:?} after a start, within {all:?}");
        left
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
        let mut possible = match self.snapshots.get(&found) {
            Some(left) => vec![left.clone()],
            None if found == 0 => vec![Durable::default()],
            None => self.within_turn(recovered),
        };
        self.stats.parts_of_turns += u64::from(!self.snapshots.contains_key(&found) && found > 0);
        let stored = |id| store.read_all(disk, id, &recovered.queues[&id]);
        self.stats.lost_turns += self.snapshots.keys().filter(|lsn| **lsn > found).count() as u64;
        let places: BTreeSet<Place> = self.channels.keys().copied().collect();
        assert!(places.is_empty(), "clients are gone before a start: {places:?}");
        let is_exact = |name: &str| QUEUES.iter().any(|queue| queue.0 == name);
        let definitions = recovered.definitions.queues().filter(|it| is_exact(&it.1.name));
        let ids: BTreeMap<_, _> =
            definitions.map(|(id, queue)| (queue.name.as_str(), id)).collect();
        let stored: BTreeMap<_, _> = ids
            .into_iter()
            .map(|(name, id)| (name, stored(id).expect("what was recovered can be read")))
            .collect();
        let fits = |left: &Durable| self.fits(left, &stored);
        let left = possible.swap_remove(possible.iter().position(fits).unwrap_or(0));
        check_definitions(&left, recovered);
        let mut named = [None; QUEUES.len()];
        for (name, (queue, copies)) in &left.queues {
            self.check_messages(*queue, copies, &stored[QUEUES[*name].0], recovered.clean);
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
        self.turn_steps.clear();
        // Whoever waits for an earlier turn is gone.
        self.turn_lsns.iter_mut().for_each(|turn| *turn = u64::MAX);
    }

    /// Each queue is the one in which these messages were.
    fn fits(&self, left: &Durable, stored: &BTreeMap<&str, Vec<RecoveredMessage>>) -> bool {
        left.queues.iter().all(|(name, (queue, _))| {
            let messages = stored.get(QUEUES[*name].0).into_iter().flatten();
            let mut ids = messages.map(|it| Message::id_of(it.message.header()));
            ids.all(|id| self.queues[*queue].places.contains_key(&id))
        })
    }

    /// A queue has what its last record says, whole and in order; nothing that was confirmed and
    /// not settled is missing.
    fn check_messages(
        &mut self,
        queue: usize,
        expected: &[(usize, bool)],
        messages: &[RecoveredMessage],
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
    /// Which queue has which name.
    fn ids(&self) -> Vec<(usize, usize)> {
        self.queues.iter().map(|(name, (queue, _))| (*name, *queue)).collect()
    }

    /// Of the copies that are not surely there in each of `steps`, none is sure.
    fn unsure_of_changes(&self, steps: &[&Self]) -> Self {
        let mut unsure = self.clone();
        for (queue, copies) in unsure.queues.values_mut() {
            let known = steps.iter().flat_map(|step| step.queues.values());
            let known: Vec<_> = known.filter(|it| it.0 == *queue).map(|it| &it.1).collect();
            let all: BTreeSet<_> = known.iter().copied().flatten().map(|it| it.0).collect();
            let sure = |copy| known.iter().all(|copies| copies.contains(&(copy, true)));
            *copies = all.into_iter().map(|copy| (copy, sure(copy))).collect();
        }
        unsure
    }

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
    let is_exact = |name: &&str| QUEUES.iter().any(|queue| queue.0 == *name);
    let queues = definitions.queues().map(|(_, queue)| queue.name.as_str()).filter(is_exact);
    let vhost = definitions.vhost("/");
    let exchanges = vhost.into_iter().flat_map(|vhost| vhost.exchanges());
    let exchanges = exchanges.filter(|(name, _)| !RULED.contains(name));
    let bindings = vhost.into_iter().flat_map(|vhost| vhost.bindings());
    let bindings = bindings.filter(|binding| !RULED.contains(&binding.source.as_str()));
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
    let queues = recovered.definitions.queues().count();
    assert_eq!(recovered.queues.len(), queues, "messages of queues that are there");
    assert_eq!(found.1, expected.1, "exchanges after a start");
    assert_eq!(found.2, expected.2, "bindings after a start");
}
