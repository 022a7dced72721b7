//! The journal's side: what each record left there, and what a queue begins with after a stop.

use super::model::{Entry, Model, State, Stored};
use super::retry::UNKNOWN;
use super::world::{PAGING, QUEUE, World, new_core};
use leveret::id::Seq;
use leveret::queue::{Page, Paged, Settlement};
use leveret::store::{self, Durability, OnDisk, RecoveredMessage, RecoveredQueue};
use leveret::time::UnixMillis;
use std::collections::BTreeMap;

impl World {
    /// Appends the records so far. What they left is known once their deliveries are.
    pub(super) fn append(&mut self) -> Option<u64> {
        let any = !self.records.is_empty();
        any.then(|| self.store.journal().append(&mut self.records).0)
    }

    pub(super) fn remember(&mut self, lsn: Option<u64>) {
        let stored = self.model.stored();
        match lsn {
            Some(lsn) => drop(self.history.insert(lsn, stored)),
            None => {
                let last = self.history.last_key_value().map(|(_, stored)| stored);
                assert_eq!(last, Some(&stored), "a change that must last leaves a record");
            }
        }
    }

    pub(super) fn round(&mut self) {
        self.store.journal().round(&self.disk).expect("a healthy disk takes a round");
    }

    /// A power loss, or a clean stop: the queue begins again with what the journal says.
    pub(super) fn restart(&mut self, clean: bool, seed: u64) {
        if clean {
            while !self.model.consumers.is_empty() {
                self.cancel(0);
            }
            let out: Vec<_> = self.model.out().map(|entry| entry.seq).collect();
            self.settle(&out, Settlement::Requeue, false);
            // What died of a return and has not moved was out: now a record says so.
            self.core.record_dying(&mut self.records);
            let is_dying = |entry: &&mut Entry| matches!(entry.state, State::Dying { .. });
            for entry in self.model.entries.iter_mut().filter(is_dying) {
                entry.redelivered |= entry.was_out && entry.persistent;
            }
            let lsn = self.append();
            if lsn.is_some() {
                self.remember(lsn);
            }
            self.store.journal().close_clean(&self.disk).expect("a healthy disk takes it all");
        }
        let durable = self.store.journal().durable_lsn();
        self.disk = self.disk.crash(seed);
        let (store, mut recovered) =
            store::open(&self.disk, &store::Options::new(Durability::Fsync, 1))
                .expect("what a crash leaves opens");
        assert_eq!(recovered.clean, clean);
        assert!(recovered.last_lsn >= durable, "what was durable stays");
        let queue = recovered.queues.remove(&QUEUE).expect("the queue's own record was synced");
        let at = self.history.range(..=recovered.last_lsn.0).next_back();
        let mut stored = at.expect("the first record is in it").1.clone();
        if !clean {
            stored.iter_mut().for_each(|(_, redelivered, ..)| *redelivered = true);
        }
        let messages = store.read_all(&self.disk, QUEUE, &queue);
        let mut messages = messages.expect("what was recovered can be read");
        let came_back = |seq| queue.returns.get(&seq).map_or((0, 0), |it| (it.times, it.until.0));
        for (seq, _, _, (_, until)) in stored.iter_mut().filter(|it| it.3.1 == UNKNOWN) {
            *until = came_back(Seq(*seq)).1;
        }
        let found = messages.iter().map(|m| (m.seq.0, m.redelivered, m.due.0, came_back(m.seq)));
        assert_eq!(found.collect::<Stored>(), stored, "the journal holds what the queue held");
        let is_old = |seq: u64| Seq(seq).age() < queue.next_seq.0;
        assert!(stored.iter().all(|(seq, ..)| is_old(*seq)), "no seq is given twice");
        assert!(stored.iter().all(|(.., due, _)| *due >= queue.due.0), "nothing expires before");
        self.next_seq = queue.next_seq.0.max(1);
        self.contents.retain(|seq, _| is_old(*seq));
        self.persistent.retain(|seq| is_old(*seq));
        let Model { now, behaviour, .. } = std::mem::take(&mut self.model);
        self.core = new_core(self.durable, &behaviour);
        self.core.restore_next_seq(queue.next_seq);
        self.core.restore_due(queue.due);
        let waits = queue.returns.values().any(|it| it.waits());
        let expires = behaviour.expires_ms.is_some() || queue.due != UnixMillis::NEVER;
        self.asked = (expires || waits).then_some(0);
        self.idle_since = 0;
        self.dead.clear();
        self.model = Model { now, behaviour, ..Model::default() };
        self.spilled.clear();
        self.restore_retrying(&messages, &queue);
        let is_waiting =
            |m: &RecoveredMessage| queue.returns.get(&m.seq).is_some_and(|it| it.waits());
        self.bounds = messages.len();
        messages.retain(|message| !is_waiting(message));
        self.bounds -= messages.len();
        self.restore(messages, &queue, seed);
        self.model.entries.sort_by_key(|entry| entry.seq);
        self.core.restore_returns(queue.returns);
        self.history = BTreeMap::from([(store.journal().appended_lsn().0, stored)]);
        self.store = store;
        self.connect();
        self.finish_aside();
    }

    /// Gives the queue what waits for its next attempt.
    fn restore_retrying(&mut self, messages: &[RecoveredMessage], queue: &RecoveredQueue) {
        for message in messages {
            let Some(came_back) = queue.returns.get(&message.seq).filter(|it| it.waits()) else {
                continue;
            };
            self.recovered(message, queue, State::Waiting { evicted: true });
            let len = u32::try_from(message.message.body_len()).expect("test bodies are small");
            let (place, redelivered) = ((message.seq, len), message.redelivered);
            self.core.restore_retrying(place, redelivered, queue.due, came_back.until);
        }
    }

    /// The model has the message too.
    fn recovered(&mut self, message: &RecoveredMessage, queue: &RecoveredQueue, state: State) {
        let name = message.message.routing_key();
        assert_eq!(name, self.contents[&message.seq.0].routing_key(), "another's content");
        let came_back = queue.returns.get(&message.seq);
        self.model.entries.push(Entry {
            seq: message.seq.0,
            name: String::from_utf8_lossy(name).parse().expect("a name is a number"),
            body_len: message.message.body_len() as u64,
            due: message.due.0,
            persistent: true,
            redelivered: message.redelivered,
            was_out: false,
            times: came_back.map_or(0, |it| it.times),
            until: came_back.map_or(0, |it| it.until.0),
            state,
        });
    }

    /// Gives the queue what was recovered, some of it in pages.
    fn restore(&mut self, messages: Vec<RecoveredMessage>, queue: &RecoveredQueue, seed: u64) {
        let mut messages = messages.into_iter().peekable();
        while let Some(first) = messages.peek().map(|message| message.seq.0) {
            let in_page = seed >> (first % 64) & 1 == 1;
            let few = if in_page { PAGING.page_len } else { 1 };
            let part: Vec<_> = messages.by_ref().take(few).collect();
            for message in &part {
                self.recovered(message, queue, State::Ready { evicted: in_page });
            }
            if in_page {
                self.core.restore_page(page(&part).with_due(queue.due));
                continue;
            }
            for message in part {
                let RecoveredMessage { seq, due, message, redelivered } = message;
                self.core.restore(OnDisk { seq, due, message }, redelivered);
            }
        }
    }
}

fn page(messages: &[RecoveredMessage]) -> Page {
    let (first, last) = (&messages[0], &messages[messages.len() - 1]);
    let bytes = messages.iter().map(|message| message.message.body_len() as u64).sum();
    let is_dense = last.seq.0 - first.seq.0 + 1 == messages.len() as u64
        && messages.iter().all(|message| message.redelivered == first.redelivered);
    if is_dense {
        return Page::dense(first.seq, last.seq, bytes, first.redelivered);
    }
    let paged = messages.iter().map(|message| Paged {
        seq: message.seq,
        body_len: u32::try_from(message.message.body_len()).expect("test bodies are small"),
        persistent: true,
        redelivered: message.redelivered,
        due: UnixMillis::NEVER,
    });
    Page::new(paged).expect("there are some")
}
