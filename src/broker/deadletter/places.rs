//! Places that moves take in their new queues, until they are shown or given back.

use crate::broker::Broker;
use crate::broker::again::remembered;
use crate::broker::link::Workspace;
use crate::exchange::{History, Remembered};
use crate::id::{QueueId, Seq};
use crate::limits::WORK_PER_LOCK_MAX;
use crate::message::Message;
use crate::queue::{Dead, Obstacle, Overflow, Publish, Queue, QueueType};
use crate::store::{RecordBatch, Target};
use hashbrown::HashMap;
use std::mem;
use std::sync::Arc;

/// What becomes of a dead letter.
pub(super) enum Fate {
    /// As it is there, the places that the journal must know, and all places.
    Moves { message: Message, row: Vec<Target>, taken: Vec<(Arc<Queue>, Seq)> },
    /// Nobody wants it.
    Ends,
    /// It cannot move now, but has to.
    Waits(Obstacle),
}

/// Queues' places in a batch of moves.
pub(super) struct Places<T> {
    by_queue: HashMap<QueueId, usize>,
    pub(super) all: Vec<(Arc<Queue>, Vec<T>)>,
}

impl<T> Places<T> {
    pub(super) fn new() -> Self {
        Self { by_queue: HashMap::new(), all: Vec::new() }
    }

    pub(super) fn push(&mut self, queue: &Arc<Queue>, place: T) {
        let at = *self.by_queue.entry(queue.id).or_insert(self.all.len());
        match self.all.get_mut(at) {
            Some((_, places)) => places.push(place),
            None => self.all.push((Arc::clone(queue), vec![place])),
        }
    }
}

/// What a batch of moves shows once its records are appended.
pub(super) struct Shown {
    pub(super) places: Places<Seq>,
    /// What exchanges remember of it.
    pub(super) remembered: Vec<(Arc<History>, Remembered)>,
}

impl Shown {
    pub(super) fn new() -> Self {
        Self { places: Places::new(), remembered: Vec::new() }
    }

    /// The exchanges on a letter's way remember it, also if no queue takes it.
    pub(super) fn remember(
        &mut self,
        histories: Vec<Arc<History>>,
        publish: &Publish,
        fate: &Fate,
    ) {
        // What waits is routed again.
        if !matches!(fate, Fate::Waits(_)) {
            let each = histories.into_iter().map(|history| (history, remembered(publish)));
            self.remembered.extend(each);
        }
    }
}

/// One letter's move, with those of the letters that full queues on its way send on.
#[derive(Default)]
pub(super) struct Step {
    /// What the journal must know.
    rows: Vec<(Message, Vec<Target>)>,
    taken: Vec<(Arc<Queue>, Seq)>,
    /// What was sent on and has no places yet, the next one last.
    pub(super) sent_on: Vec<Dead>,
    /// Some of it has moved in an earlier turn.
    pub(super) is_resumed: bool,
    /// Letters that were looked at.
    letters: usize,
}

impl Step {
    /// Begins a letter's move, or goes on with what an earlier turn has left of it.
    pub(super) fn resume(&mut self, sent_on: Vec<Dead>) {
        (self.is_resumed, self.sent_on) = (!sent_on.is_empty(), sent_on);
    }

    /// Adds a letter, and those that full queues made of it.
    pub(super) fn add(&mut self, fate: Fate, sent_on: &mut Vec<Dead>) {
        self.letters += 1;
        // What comes of one goes before the next, so that few of a web wait.
        self.sent_on.extend(sent_on.drain(..).rev());
        if let Fate::Moves { message, row, taken } = fate {
            self.rows.push((message, row));
            self.taken.extend(taken);
        }
    }

    /// What one record may not go beyond is a web of full queues.
    pub(super) fn is_long(&self) -> bool {
        self.letters + self.taken.len() >= WORK_PER_LOCK_MAX
    }

    /// The letters beside the first, and all places; from now on it is another letter's.
    pub(super) fn finish(&mut self) -> usize {
        mem::take(&mut self.letters).saturating_sub(1) + self.taken.len()
    }

    /// Records its places, which are to be shown.
    pub(super) fn record(&mut self, records: &mut RecordBatch, shown: &mut Shown) {
        for (message, row) in self.rows.drain(..) {
            records.enqueue(&message, &row);
        }
        for (queue, seq) in self.taken.drain(..) {
            shown.places.push(&queue, seq);
        }
    }

    /// Gives all places back.
    pub(super) fn withdraw(&mut self, broker: &Broker, workspace: &mut Workspace) {
        (self.rows, self.sent_on) = Default::default();
        // The last first, since what is behind a place moves up.
        for (queue, seq) in self.taken.drain(..).rev() {
            // With the queue the place went.
            let _ = queue.withdraw(&[seq], &mut workspace.turn(broker));
        }
    }
}

/// Reserves the message's places in these queues. If it must arrive, all of them or none.
pub(super) fn reserve_places(
    publish: &Publish,
    queues: &[Arc<Queue>],
    must_arrive: bool,
    broker: &Broker,
    workspace: &mut Workspace,
) -> Fate {
    let is_quorum = |queue: &Arc<Queue>| queue.kind == QueueType::Quorum;
    let persistent = publish.persistent || queues.iter().any(is_quorum);
    let (mut refused, mut gone) = (false, false);
    let (mut taken, mut row) = (Vec::with_capacity(queues.len()), Vec::new());
    let mut target = Vec::with_capacity(1);
    let sent_on = workspace.effects.dead.len();
    for queue in queues {
        let one = std::iter::once(Publish { persistent, ..publish.clone() });
        let found = queue.reserve(one, &mut target, &mut workspace.effects).is_ok();
        match target.pop().flatten() {
            Some(target) => {
                taken.push((Arc::clone(queue), target.seq));
                if persistent && queue.settings.durable {
                    row.push(target);
                }
            }
            None if found => refused |= !sends_on(queue),
            None => gone = true,
        }
    }
    if must_arrive && (refused || gone && taken.is_empty()) {
        // Each try would send one on.
        workspace.effects.dead.truncate(sent_on);
        Step { taken, ..Step::default() }.withdraw(broker, workspace);
        return Fate::Waits(Obstacle::NoTaker);
    }
    Fate::Moves { message: publish.message.clone(), row, taken }
}

/// What it refuses has gone to its own dead-letter exchange.
fn sends_on(queue: &Queue) -> bool {
    let behaviour = queue.behaviour();
    behaviour.overflow == Overflow::RejectPublishDlx && behaviour.dead_letter.is_some()
}
