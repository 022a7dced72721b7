//! The journal against a list of states, one for each record.
//!
//! Whatever is appended, and whenever the power goes, also during a start: what comes back is the
//! state after some record, all of it, and that record is not before the last durable one.

#![allow(clippy::unwrap_used, reason = "where something fails, the test has failed")]

mod mains;
mod steps;

use leveret::id::{Lsn, QueueId, Seq};
use leveret::message::Message;
use leveret::store::{
    self, CameBack, Definition, Disk, Durability, Journal, MemoryDisk, Options, RecordBatch,
    Recovered, Source, Standing, Store, StoreError, Target,
};
use leveret::table::Table;
use leveret::time::UnixMillis;
use mains::Mains;
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use steps::{Change, QUEUES, Step, step};

/// What the queues hold, and which parameters there are, after a record.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    queues: BTreeMap<u64, Queue>,
    /// Values by name.
    parameters: BTreeMap<String, String>,
    clean: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Queue {
    next_seq: u64,
    /// Body and redelivered by seq.
    messages: BTreeMap<u64, (Vec<u8>, bool)>,
    /// How those of them came back last that did.
    returns: BTreeMap<u64, CameBack>,
}

/// One broker's data directory over many starts, and what it should hold.
struct World {
    disk: Mains,
    store: Store,
    durability: Durability,
    /// By LSN, from zero: the state after that record.
    history: Vec<State>,
    /// The queue id that stands for each number now.
    ids: [u64; QUEUES as usize],
    bodies: u64,
    /// Each start has a salt of its own.
    starts: Cell<u64>,
}

impl World {
    fn new(durability: Durability) -> Self {
        let disk = Mains::new(MemoryDisk::new());
        let (store, _) = store::open(&disk, &options(durability, 1)).unwrap();
        let empty = State { clean: true, ..State::default() };
        let mut world = Self {
            disk,
            store,
            durability,
            history: vec![empty],
            ids: [0; QUEUES as usize],
            bodies: 0,
            starts: Cell::new(1),
        };
        world.create_vhost();
        world
    }

    fn create_vhost(&mut self) {
        let mut batch = RecordBatch::new();
        let name = "/".to_owned();
        batch.definition(&Definition::VhostCreated { name });
        let state = self.history.last().unwrap().clone();
        self.append(&mut batch, state);
    }

    fn append(&mut self, batch: &mut RecordBatch, mut state: State) {
        if batch.is_empty() {
            return;
        }
        state.clean = false;
        // Each kind of record, whatever the journal's own, comes before and behind the other.
        let durability = match self.history.len() % 4 {
            0 => Durability::Os,
            1 => Durability::Fsync,
            _ => self.durability,
        };
        let lsn = self.store.journal().append_as(batch, durability);
        if lsn != Journal::NEVER {
            self.history.push(state);
            assert_eq!(lsn.0 as usize, self.history.len() - 1);
        }
    }

    fn step(&mut self, step: &Step) {
        let mut batch = RecordBatch::new();
        let mut state = self.history.last().unwrap().clone();
        match step {
            Step::Record(change) => {
                self.change(change, &mut batch, &mut state);
                self.append(&mut batch, state);
            }
            Step::Transaction(changes) => {
                batch.begin_transaction();
                for change in changes {
                    self.change(change, &mut batch, &mut state);
                }
                batch.end_transaction();
                self.append(&mut batch, state);
            }
            Step::Round => {
                let _ = self.store.journal().round(&self.disk);
            }
            Step::Seal => {
                let _ = self.store.journal().seal(&self.disk);
            }
            Step::Checkpoint => drop(self.checkpoint()),
            Step::Reclaim => self.reclaim(),
            Step::Prepare => drop(self.store.journal().prepare_segment(&self.disk)),
            Step::FailSync => self.disk.disk.fail_sync_after(0),
            Step::StopAndStart => self.stop_and_start(),
            Step::Kill => self.kill(),
            Step::Crash(seed) => self.crash(*seed),
            Step::CrashAfter(changes, seed) => self.disk.light(*changes, *seed),
        }
    }

    fn checkpoint(&mut self) -> Result<bool, StoreError> {
        self.keep(|store, disk, source| store.checkpoint_now(disk, source))
    }

    fn reclaim(&mut self) {
        // What empties a segment is freed by the checkpoint of the next look.
        for _ in 0..2 {
            let _ = self.keep(|store, disk, source| {
                store.checkpoint(disk, source)?;
                let mut looks = true;
                while store.reclaim(disk, source, looks)? {
                    looks = false;
                }
                Ok::<_, StoreError>(())
            });
        }
    }

    fn keep<T>(&mut self, act: impl FnOnce(&Store, &Mains, &dyn Source) -> T) -> T {
        let state = self.history.last().unwrap().clone();
        let source = Standings { state: &state, ids: &self.ids };
        let made = act(&self.store, &self.disk, &source);
        // A checkpoint's own record changes nothing.
        let last = self.store.journal().appended_lsn().0 as usize;
        if last >= self.history.len() {
            self.history.resize(last + 1, State { clean: false, ..state });
        }
        made
    }

    fn change(&mut self, change: &Change, batch: &mut RecordBatch, state: &mut State) {
        match change {
            Change::Declare(number) => self.declare(*number, batch, state),
            Change::Delete(number) => {
                let id = self.ids[*number as usize];
                if state.queues.remove(&id).is_some() {
                    batch.definition(&Definition::QueueDeleted { id: QueueId(id) });
                }
            }
            Change::SetParameter(number, value) => {
                let (name, value) = (format!("p{number}"), value.to_string());
                state.parameters.insert(name.clone(), value.clone());
                batch.definition(&parameter(&name, &value));
            }
            Change::ClearParameter(number) => {
                let name = format!("p{number}");
                if state.parameters.remove(&name).is_some() {
                    let [vhost, component] = ["/", "policy"].map(str::to_owned);
                    batch.definition(&Definition::ParameterCleared { vhost, component, name });
                }
            }
            Change::Publish(numbers, size) => self.publish(numbers, *size, batch, state),
            Change::Ack(number, at, count) => {
                let id = self.ids[*number as usize];
                let Some(queue) = state.queues.get_mut(&id) else {
                    return;
                };
                let acked: Vec<u64> = some(queue, *at, *count);
                queue.messages.retain(|seq, _| !acked.contains(seq));
                queue.returns.retain(|seq, _| !acked.contains(seq));
                batch.ack(QueueId(id), runs(&acked));
            }
            Change::Requeue(number, at, count) => {
                let id = self.ids[*number as usize];
                let Some(queue) = state.queues.get_mut(&id) else {
                    return;
                };
                let back: Vec<u64> = some(queue, *at, *count);
                for seq in &back {
                    queue.messages.get_mut(seq).unwrap().1 = true;
                }
                batch.requeue(QueueId(id), runs(&back));
            }
            Change::Returned(number, at, count) => {
                let id = self.ids[*number as usize];
                let Some(queue) = state.queues.get_mut(&id) else {
                    return;
                };
                // A record says one count for its run.
                let back = some(queue, *at, *count);
                let Some(run) = runs(&back).first().copied() else { return };
                let seqs = run.0.0..=run.1.0;
                let counts = queue.returns.range(seqs.clone()).map(|(_, how)| how.times);
                let times = 1 + counts.max().unwrap_or(0);
                let until = UnixMillis(if *at % 2 == 0 { 0 } else { 1000 + u64::from(times) });
                let how = CameBack { times, until };
                for seq in seqs {
                    queue.messages.get_mut(&seq).unwrap().1 = true;
                    queue.returns.insert(seq, how);
                }
                batch.returned(QueueId(id), run, how);
            }
            Change::Purge(number, spared) => {
                let id = self.ids[*number as usize];
                let Some(queue) = state.queues.get_mut(&id) else {
                    return;
                };
                let spared = some(queue, 0, *spared);
                queue.messages.retain(|seq, _| spared.contains(seq));
                queue.returns.retain(|seq, _| spared.contains(seq));
                batch.purge(QueueId(id), Seq(queue.next_seq), runs(&spared));
            }
        }
    }

    fn declare(&mut self, number: u64, batch: &mut RecordBatch, state: &mut State) {
        if state.queues.contains_key(&self.ids[number as usize]) {
            return;
        }
        let id = 1 + self.ids.iter().max().unwrap();
        self.ids[number as usize] = id;
        state.queues.insert(id, Queue::default());
        batch.definition(&declared(id));
    }

    fn publish(
        &mut self,
        numbers: &[u64],
        size: usize,
        batch: &mut RecordBatch,
        state: &mut State,
    ) {
        self.bodies += 1;
        let mut body = self.bodies.to_be_bytes().to_vec();
        body.resize(8 + size, self.bodies as u8);
        let mut targets = Vec::new();
        for number in numbers {
            let id = self.ids[*number as usize];
            let Some(queue) = state.queues.get_mut(&id) else {
                continue;
            };
            targets.push(Target::new(QueueId(id), Seq(queue.next_seq)));
            queue.messages.insert(queue.next_seq, (body.clone(), false));
            queue.next_seq += 1;
        }
        batch.enqueue(&message(&body), &targets);
    }

    fn stop_and_start(&mut self) {
        let made = self.checkpoint();
        let mut closed = self.history.last().unwrap().clone();
        closed.clean = true;
        self.history.push(closed);
        if made.is_err() || self.store.journal().close_clean(&self.disk).is_err() {
            self.crash(0);
            return;
        }
        let last = self.store.journal().durable_lsn();
        self.expect_start();
        match store::open(&self.disk, &self.options()) {
            Ok((store, recovered)) => {
                assert_eq!(recovered.last_lsn, last);
                self.begin(store, &recovered);
            }
            Err(_) => self.crash(0),
        }
    }

    fn options(&self) -> Options {
        self.starts.set(self.starts.get() + 1);
        options(self.durability, self.starts.get())
    }

    /// The power goes, and goes again while the broker starts, a little later each time.
    fn crash(&mut self, seed: u64) {
        let mut durable = self.store.journal().durable_lsn();
        let mut left = self.disk.unplug(seed);
        for changes in (seed % 7) as usize..9 {
            let twin = twin(&left, seed);
            let (store, recovered) = store::open(&twin, &self.options()).unwrap();
            assert!(recovered.last_lsn >= durable);
            durable = recovered.last_lsn;
            self.check(&store, &twin, &recovered);
            self.remember(&store, &twin, &recovered);
            harm(&left, seed >> 16);
            self.disk = Mains::new(left);
            self.disk.light(changes, seed);
            let _ = store::open(&self.disk, &self.options());
            left = self.disk.unplug(seed ^ changes as u64);
        }
        self.disk = Mains::new(left);
        let (store, recovered) = store::open(&self.disk, &self.options()).unwrap();
        assert!(recovered.last_lsn >= durable);
        self.begin(store, &recovered);
    }

    fn kill(&mut self) {
        let written = self.store.journal().reach().written;
        let twin = twin(&self.disk.disk, 0);
        let (store, left) = store::open(&twin, &self.options()).unwrap();
        assert!(left.last_lsn >= written);
        self.check(&store, &twin, &left);
        self.remember(&store, &twin, &left);
        match store::open(&self.disk, &self.options()) {
            Ok((store, recovered)) => self.begin(store, &recovered),
            Err(_) => self.crash(0),
        }
    }

    /// Forgets what was lost, and expects the mark of the start that comes behind what is left.
    fn remember(&mut self, store: &Store, disk: &dyn Disk, recovered: &Recovered) {
        self.history.truncate(recovered.last_lsn.0 as usize);
        self.history.push(state_of(store, disk, recovered));
        self.expect_start();
    }

    fn expect_start(&mut self) {
        let mut begun = self.history.last().unwrap().clone();
        begun.clean = false;
        self.history.push(begun);
    }

    fn begin(&mut self, store: Store, recovered: &Recovered) {
        let twin = twin(&self.disk.disk, 0);
        self.check(&store, &twin, recovered);
        self.remember(&store, &twin, recovered);
        self.store = store;
        if recovered.last_lsn == Lsn(0) {
            self.history.truncate(1);
            self.create_vhost();
        }
    }

    fn check(&self, store: &Store, disk: &dyn Disk, recovered: &Recovered) {
        let mut expected = self.history[recovered.last_lsn.0 as usize].clone();
        assert_eq!(recovered.clean, expected.clean);
        if !expected.clean {
            let queues = expected.queues.values_mut();
            let messages = queues.flat_map(|queue| queue.messages.values_mut());
            messages.for_each(|message| message.1 = true);
        }
        assert_eq!(state_of(store, disk, recovered), expected);
        let ids: Vec<_> = recovered.definitions.queues().map(|(id, _)| id.0).collect();
        assert_eq!(ids, expected.queues.keys().copied().collect::<Vec<_>>());
    }
}

fn state_of(store: &Store, disk: &dyn Disk, recovered: &Recovered) -> State {
    let queue = |(id, queue): (&QueueId, &store::RecoveredQueue)| {
        let messages = store.read_all(disk, *id, queue).unwrap().into_iter();
        let messages: Vec<_> =
            messages.map(|m| (m.seq.0, (m.message.body_to_vec(), m.redelivered))).collect();
        assert!(messages.is_sorted_by_key(|message| message.0));
        let next_seq = queue.next_seq.0;
        let messages = messages.into_iter().collect();
        let returns = queue.returns.iter().map(|(seq, how)| (seq.0, *how)).collect();
        (id.0, Queue { next_seq, messages, returns })
    };
    let vhosts = recovered.definitions.vhosts();
    let parameters = vhosts.flat_map(|(_, vhost)| vhost.parameters());
    State {
        queues: recovered.queues.iter().map(queue).collect(),
        parameters: parameters
            .map(|(_, name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        clean: recovered.clean,
    }
}

/// What a checkpoint asks for.
struct Standings<'a> {
    state: &'a State,
    ids: &'a [u64],
}

impl Source for Standings<'_> {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        each(Definition::VhostCreated { name: "/".to_owned() });
        self.state.queues.keys().for_each(|id| each(declared(*id)));
        self.state.parameters.iter().for_each(|(name, value)| each(parameter(name, value)));
    }

    fn standings(&self, _: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        for (id, queue) in &self.state.queues {
            let seqs = |marked: bool| {
                let messages = queue.messages.iter().filter(move |it| it.1.1 || !marked);
                messages.map(|(seq, _)| (Seq(*seq), Seq(*seq))).collect()
            };
            let next_seq = Seq(queue.next_seq);
            each(
                QueueId(*id),
                Standing {
                    next_seq,
                    live: seqs(false),
                    redelivered: seqs(true),
                    returns: queue.returns.iter().map(|it| (Seq(*it.0), *it.1)).collect(),
                    ..Standing::default()
                },
            );
        }
    }

    fn live_bytes(&self) -> u64 {
        let messages = self.state.queues.values().flat_map(|queue| queue.messages.values());
        messages.map(|(body, _)| body.len() as u64).sum()
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(1 + self.ids.iter().max().unwrap())
    }
}

fn declared(id: u64) -> Definition {
    Definition::QueueDeclared {
        id: QueueId(id),
        vhost: "/".to_owned(),
        name: format!("q{id}"),
        auto_delete: false,
        arguments: Table::default(),
    }
}

fn parameter(name: &str, value: &str) -> Definition {
    let [vhost, component, name, value] = ["/", "policy", name, value].map(str::to_owned);
    Definition::ParameterSet { vhost, component, name, value }
}

/// Segments so short that a few messages fill one, and frames that many a message does not fit
/// into: of other lengths with each start.
fn options(durability: Durability, salt: u64) -> Options {
    let options = Options::new(durability, salt);
    let frame_bytes = [200, options.frame_bytes, 1000][salt as usize % 3];
    Options { segment_bytes: 2048, frame_bytes, page_len: 4, slack_segments: 0, ..options }
}

/// Up to `count` seqs of a queue from the `at`th on.
fn some(queue: &Queue, at: usize, count: usize) -> Vec<u64> {
    let at = at % queue.messages.len().max(1);
    queue.messages.keys().skip(at).take(count).copied().collect()
}

fn runs(seqs: &[u64]) -> Vec<(Seq, Seq)> {
    let runs = seqs.chunk_by(|a, b| a + 1 == *b);
    runs.map(|run| (Seq(run[0]), Seq(run[run.len() - 1]))).collect()
}

fn message(body: &[u8]) -> Message {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    Message::new(b"", b"key", &header, body, &mut Vec::new())
}

/// The same disk, with a catalogue as it may be found.
fn twin(disk: &MemoryDisk, seed: u64) -> MemoryDisk {
    let twin = disk.crash(0);
    for file in disk.list().unwrap() {
        twin.overwrite(&file, disk.contents(&file).unwrap());
    }
    harm(&twin, seed);
    twin
}

fn harm(disk: &MemoryDisk, seed: u64) {
    match seed % 8 {
        0 => disk.lose_catalogue(),
        1 => disk.roll_back_catalogue(),
        2 => disk.rot_catalogue(seed),
        3 => disk.stall_catalogue(),
        _ => {}
    }
}

/// The power goes at each change of the disk while segments are compacted and freed.
#[test]
fn a_power_loss_while_room_is_given_back_costs_nothing() {
    let publish = |to: &[u64], size| Change::Publish(to.to_vec(), size);
    for (changes, seed) in (0..60).flat_map(|n| [(n, n as u64 * 77 + 4), (n, n as u64 * 91)]) {
        let mut world = World::new(Durability::Fsync);
        (0..2).for_each(|queue| world.step(&Step::Record(Change::Declare(queue))));
        for n in 0..40 {
            let change = publish(if n % 3 == 0 { &[0, 1] } else { &[0] }, 150);
            world.step(&match n % 4 {
                1 => Step::Transaction(vec![change, publish(&[1], 90)]),
                _ => Step::Record(change),
            });
            world.step(&Step::Round);
        }
        world.step(&Step::Checkpoint);
        for at in 1..30 {
            world.step(&Step::Record(Change::Ack(at % 2, at as usize / 3, 2)));
        }
        world.step(&Step::CrashAfter(changes, seed));
        world.reclaim();
        world.crash(seed);
        world.reclaim();
        world.crash(seed + 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn a_power_loss_leaves_the_state_after_a_record(
        steps in vec(step(), 1..80),
        durability in prop_oneof![3 => Just(Durability::Fsync), 1 => Just(Durability::Os)],
        seed: u64,
    ) {
        let mut world = World::new(durability);
        for step in &steps {
            world.step(step);
        }
        world.crash(seed);
        world.crash(seed.rotate_left(7));
    }
}

#[test]
fn a_power_loss_at_any_moment_of_the_first_start_is_no_obstacle() {
    for (changes, seed) in (0..8).flat_map(|changes| (0..100).map(move |seed| (changes, seed))) {
        let disk = Mains::new(MemoryDisk::new());
        disk.light(changes, seed);
        let _ = store::open(&disk, &Options::new(Durability::Fsync, 1));
        let left = disk.unplug(seed);
        let (_, recovered) = store::open(&left, &Options::new(Durability::Fsync, 2)).unwrap();
        assert_eq!(recovered.last_lsn, Lsn(0));
        assert!(left.list().unwrap().is_empty());
    }
}
