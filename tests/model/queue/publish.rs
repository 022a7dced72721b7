//! How messages come: at once, or to a place that is reserved until its record is written.

use super::model::{Entry, State};
use super::world::{QUEUE, World, message};
use leveret::id::Seq;
use leveret::queue::Publish;
use leveret::store;
use leveret::time::{Ttl, UnixMillis};

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Post {
    pub(super) persistent: bool,
    pub(super) body_len: usize,
    pub(super) ttl_ms: u64,
    pub(super) priority: u8,
}

impl Post {
    pub(super) fn plain(persistent: bool, body_len: usize) -> Self {
        Self { persistent, body_len, ttl_ms: u64::MAX, priority: 0 }
    }
}

impl World {
    /// The message, and the name by which it is known again.
    fn new_publish(&mut self, post: Post, mark: u64) -> Publish {
        self.names += 1;
        let Post { persistent, body_len, ttl_ms, priority } = post;
        let message = message(self.names, body_len);
        Publish { message, persistent, priority, ttl: Ttl::of_ms(ttl_ms), delay: None, mark }
    }

    /// The queue takes it: says its seq.
    fn enter(&mut self, publish: &Publish, state: State) -> u64 {
        let max = self.model.behaviour.max_priority;
        let rank = max.map_or(0, |max| max - max.min(publish.priority));
        let seq = Seq::ranked(rank, self.next_seq).0;
        self.next_seq += 1;
        let name = String::from_utf8_lossy(publish.message.routing_key()).into_owned();
        let entry = Entry {
            seq,
            name: name.parse().expect("a name is a number"),
            body_len: publish.message.body_len() as u64,
            due: self.model.due(publish.ttl.ms()),
            persistent: publish.persistent && self.durable,
            redelivered: false,
            times: 0,
            until: 0,
            was_out: false,
            state,
        };
        self.contents.insert(seq, publish.message.clone());
        if entry.persistent {
            self.persistent.insert(seq);
        }
        let at = self.model.entries.partition_point(|other| other.seq < seq);
        self.model.entries.insert(at, entry);
        seq
    }

    /// A message as the disk gives it back.
    pub(super) fn stored_message(&mut self, seq: u64) -> store::OnDisk {
        let entry = self.model.entries.iter().find(|entry| entry.seq == seq);
        let due = UnixMillis(entry.map_or(u64::MAX, |entry| entry.due));
        store::OnDisk { due, ..store::OnDisk::new(Seq(seq), self.contents[&seq].clone()) }
    }

    pub(super) fn publish(&mut self, batch: &[Post]) {
        let posts = batch.iter().zip(0..);
        let batch: Vec<_> = posts.map(|(post, mark)| self.new_publish(*post, mark)).collect();
        self.core.publish(&mut batch.clone(), &mut self.records, &mut self.effects);
        let refused = std::mem::take(&mut self.effects.refused);
        let mut arrivals = self.collect();
        for publish in &batch {
            let refuses = self.model.refuses(publish.message.body_len() as u64);
            assert_eq!(refused.contains(&publish.mark), refuses, "there is room, or not");
            if refuses {
                self.model.refused();
                continue;
            }
            let is_clear = self.model.is_clear();
            let seq = self.enter(publish, State::Ready { evicted: false });
            if is_clear {
                self.hand_over_at_once(seq, &mut arrivals);
            }
        }
        self.drain_rest(arrivals, true);
        self.check();
    }

    pub(super) fn reserve(&mut self, post: Post) {
        let publish = self.new_publish(post, 7);
        let target = self.core.reserve(publish.clone(), &mut self.effects);
        let refused = std::mem::take(&mut self.effects.refused);
        if self.model.refuses(publish.message.body_len() as u64) {
            assert_eq!((target, &*refused), (None, &[7][..]), "there is no room");
            self.model.refused();
        } else {
            let seq = self.enter(&publish, State::Reserved { recorded: false });
            let due = UnixMillis(self.model.find(seq).due);
            let place = store::Target { queue: QUEUE, seq: Seq(seq), due };
            assert_eq!((target, &*refused), (Some(place), &[][..]), "ages are dense");
        }
        self.finish_aside();
    }

    /// Gives the places back that no record names.
    pub(super) fn withdraw(&mut self) {
        let unrecorded = |entry: &&Entry| entry.state == State::Reserved { recorded: false };
        let seqs = self.model.entries.iter().filter(unrecorded).map(|entry| Seq(entry.seq));
        let seqs: Vec<_> = seqs.collect();
        self.model.entries.retain(|entry| !unrecorded(&entry));
        self.core.withdraw(&seqs, &mut self.records, &mut self.effects);
        self.finish();
    }

    /// Writes the records of what is reserved, and shows it unless another's turn comes between.
    pub(super) fn record(&mut self, show: bool) {
        let reserved = |e: &&mut Entry| matches!(e.state, State::Reserved { .. });
        let mut seqs = Vec::new();
        for entry in self.model.entries.iter_mut().filter(reserved) {
            let due = UnixMillis(entry.due);
            let target = store::Target { queue: QUEUE, seq: Seq(entry.seq), due };
            if entry.persistent && entry.state == (State::Reserved { recorded: false }) {
                self.records.enqueue(&self.contents[&entry.seq], &[target]);
            }
            entry.state = State::Reserved { recorded: true };
            seqs.push(target.seq);
        }
        let lsn = self.append();
        self.remember(lsn);
        if show {
            for seq in &seqs {
                self.model.find(seq.0).state = State::Ready { evicted: false };
            }
            self.core.show(&seqs, &mut self.records, &mut self.effects);
        }
        self.drain(show);
        self.check();
    }
}
