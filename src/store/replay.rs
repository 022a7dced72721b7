//! What the records of a journal add up to.
//!
//! Replaying is idempotent by (queue, seq). What names a queue that is gone is passed over: a
//! publish, an ack and a delete may be under way at the same time, and each is one record.

use super::definition::Definition;
use super::definitions::Definitions;
use super::record::{BadRecord, Record, Records, Runs, Target};
use crate::id::{Lsn, QueueId, SegmentNo, Seq};
use crate::message::Message;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a broker starts with.
#[derive(Debug)]
pub struct Recovered {
    pub definitions: Definitions,
    /// One for each queue of the definitions.
    pub queues: HashMap<QueueId, RecoveredQueue>,
    /// No stored queue ever had this id or a higher one.
    pub next_queue_id: QueueId,
    pub last_lsn: Lsn,
    /// The last broker stopped cleanly, or there was none. Otherwise every message is redelivered.
    pub clean: bool,
    /// What a crash left of its last write, and is cut off now.
    pub torn: Option<Torn>,
}

#[derive(Debug, Default)]
pub struct RecoveredQueue {
    /// No record used this seq or a higher one.
    pub next_seq: Seq,
    /// By ascending seq.
    pub messages: Vec<RecoveredMessage>,
}

#[derive(Clone, Debug)]
pub struct RecoveredMessage {
    pub seq: Seq,
    /// Shared with the other queues that it went to.
    pub message: Message,
    pub redelivered: bool,
}

/// Where a torn tail began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    pub segment: SegmentNo,
    pub offset: u64,
}

#[derive(Debug)]
pub(super) struct Replay {
    definitions: Definitions,
    queues: HashMap<QueueId, Backlog>,
    next_queue_id: QueueId,
    last_lsn: Lsn,
    /// The last record says so, or there is none.
    clean: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    next_seq: Seq,
    messages: BTreeMap<Seq, Entry>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    redelivered: bool,
}

impl Replay {
    pub(super) fn new() -> Self {
        Self {
            definitions: Definitions::default(),
            queues: HashMap::new(),
            next_queue_id: QueueId(1),
            last_lsn: Lsn(0),
            clean: true,
        }
    }

    pub(super) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// Applies a frame's records.
    pub(super) fn frame(&mut self, payload: &[u8]) -> Result<(), BadRecord> {
        let mut records = Records::new(payload);
        while let Some(record) = records.next()? {
            let clean = matches!(record, Record::Clean);
            self.record(record)?;
            self.clean = clean;
            self.last_lsn.0 += 1;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, torn: Option<Torn>) -> Recovered {
        if !self.clean {
            self.redeliver_all();
        }
        let queues = self.queues.into_iter();
        Recovered {
            definitions: self.definitions,
            queues: queues.map(|(id, backlog)| (id, backlog.finish())).collect(),
            next_queue_id: self.next_queue_id,
            last_lsn: self.last_lsn,
            clean: self.clean,
            torn,
        }
    }

    fn record(&mut self, record: Record<'_>) -> Result<(), BadRecord> {
        match record {
            Record::Transaction(mut parts) => {
                while let Some(part) = parts.next()? {
                    self.single(&part);
                }
            }
            single => self.single(&single),
        }
        Ok(())
    }

    fn single(&mut self, record: &Record<'_>) {
        match record {
            Record::Enqueue { targets, message } => self.enqueue(targets, message),
            Record::Ack { queue, runs } => self.change(*queue, |backlog| backlog.ack(runs)),
            Record::Requeue { queue, runs } => {
                self.change(*queue, |backlog| backlog.requeue(runs));
            }
            Record::Purge { queue, below, except } => {
                self.change(*queue, |backlog| backlog.purge(*below, except))
            }
            Record::Definition(definition) => self.define(definition),
            // The broker before this one did not say what it had delivered.
            Record::Opened if !self.clean => self.redeliver_all(),
            Record::Opened | Record::Clean | Record::Transaction(_) => {}
        }
    }

    fn enqueue(&mut self, targets: &[Target], message: &Message) {
        for target in targets {
            self.change(target.queue, |backlog| {
                backlog.saw(target.seq);
                let message = message.clone();
                let redelivered = false;
                let entry = backlog.messages.entry(target.seq);
                entry.or_insert(Entry { message, redelivered });
            });
        }
    }

    fn define(&mut self, definition: &Definition) {
        if !self.definitions.apply(definition) {
            return;
        }
        match definition {
            Definition::QueueDeclared { id, .. } => {
                self.queues.entry(*id).or_default();
                self.next_queue_id = self.next_queue_id.max(QueueId(id.0.saturating_add(1)));
            }
            Definition::QueueDeleted { id } => {
                self.queues.remove(id);
            }
            Definition::VhostDeleted { .. } => {
                let definitions = &self.definitions;
                self.queues.retain(|id, _| definitions.queue(*id).is_some());
            }
            _ => {}
        }
    }

    fn change(&mut self, queue: QueueId, change: impl FnOnce(&mut Backlog)) {
        if let Some(backlog) = self.queues.get_mut(&queue) {
            change(backlog);
        }
    }

    fn redeliver_all(&mut self) {
        for backlog in self.queues.values_mut() {
            for entry in backlog.messages.values_mut() {
                entry.redelivered = true;
            }
        }
    }
}

impl Backlog {
    fn ack(&mut self, runs: &Runs) {
        for run in runs {
            self.saw(*run.end());
            if run.start() == run.end() {
                self.messages.remove(run.start());
            } else {
                let run = self.messages.extract_if(run.clone(), |_, _| true);
                run.for_each(drop);
            }
        }
    }

    fn requeue(&mut self, runs: &Runs) {
        for run in runs {
            self.saw(*run.end());
            for entry in self.messages.range_mut(run.clone()) {
                entry.1.redelivered = true;
            }
        }
    }

    fn purge(&mut self, below: Seq, except: &Runs) {
        self.next_seq = self.next_seq.max(below);
        let mut spared = except.clone();
        spared.sort_unstable_by_key(|run| *run.start());
        let mut from = Seq(0);
        for run in &spared {
            self.remove(from..below.min(*run.start()));
            from = from.max(Seq(run.end().0.saturating_add(1)));
        }
        self.remove(from..below);
    }

    fn remove(&mut self, seqs: Range<Seq>) {
        if seqs.start < seqs.end {
            self.messages.extract_if(seqs, |_, _| true).for_each(drop);
        }
    }

    fn saw(&mut self, seq: Seq) {
        self.next_seq = self.next_seq.max(Seq(seq.0.saturating_add(1)));
    }

    fn finish(self) -> RecoveredQueue {
        let messages = self.messages.into_iter();
        RecoveredQueue {
            next_seq: self.next_seq,
            messages: messages
                .map(|(seq, entry)| RecoveredMessage {
                    seq,
                    message: entry.message,
                    redelivered: entry.redelivered,
                })
                .collect(),
        }
    }
}
