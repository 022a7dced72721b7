//! The world: one broker on a disk in memory, some clients, a clock that moves when it is told to,
//! and chance. Nothing happens but by a step, and the same seed takes the same steps.

use super::client::Client;
use super::ops::{Binding, EXCHANGES, Op, QUEUES};
use super::oracle::{Gauges, Oracle};
use super::rng::Rng;
use super::ruled::{self, Ledger};
use super::workload::{Options, Workload, binding};
use leveret::Config;
use leveret::broker::alarm::Alarm;
use leveret::broker::link::Workspace;
use leveret::broker::{Broker, Entropy, StartError};
use leveret::config::Sizes;
use leveret::exchange::ExchangeTypes;
use leveret::session::{Peer, Progress, Scratch, Session};
use leveret::store::{Disk, Failpoint, MemoryDisk};
use leveret::time::{Millis, Now, UnixMillis};
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

/// Steps that a failure shows.
const TRACE_LEN: usize = 60;

/// Whether a session was woken since it last looked.
#[derive(Default)]
pub(crate) struct Flag(pub(super) AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection: a client, its session, and the bytes between them.
pub(crate) struct Seat {
    /// Never used again.
    pub(crate) number: usize,
    /// It uses the queues with rules, and no others.
    pub(crate) is_ruled: bool,
    pub(crate) client: Client,
    pub(crate) session: Session,
    /// Arrived, and not taken.
    pub(crate) wire: Vec<u8>,
    taken: u64,
    pub(crate) woken: Arc<Flag>,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) oracle: Oracle,
    pub(crate) seats: Vec<Seat>,
    pub(crate) workload: Workload,
    pub(crate) ledger: Ledger,
    pub(crate) ruled: ruled::Workload,
    pub(crate) disk: MemoryDisk,
    pub(crate) broker: Arc<Broker>,
    scratch: Scratch,
    reader: Workspace,
    pub(super) ticker: Workspace,
    pub(crate) now: Now,
    connections: usize,
    /// What the first clients declare, of either kind.
    script: VecDeque<Op>,
    pub(super) ruled_script: VecDeque<Op>,
    /// Steps from the disk's failure to the end of the broker.
    pub(crate) fails_in: Option<usize>,
    /// Where the power goes, one place after the other: the last comes first.
    pub(crate) cuts: Vec<Failpoint>,
    /// The places that the disks before this one came to.
    pub(crate) reached: BTreeMap<Failpoint, u64>,
    trace: VecDeque<String>,
    /// Clients go on while the keeper is at work.
    pub(crate) is_busy: bool,
    /// Files of spilled messages.
    pub(crate) spilled: Vec<String>,
    /// Sums up every byte that a client has read (FNV-1a).
    pub(crate) digest: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Deliver,
    Inbox,
    Read,
    Round,
    Load,
    Keep,
    Checkpoint,
    Time,
    Pause,
    Tick,
    Policy,
    Operator,
    Alarm,
    Cut,
    Crash,
    Stop,
    PowerFails,
    DiskFails,
    CatalogueFails,
    FillUp,
}

pub(crate) fn open(disk: &MemoryDisk, seed: u64) -> Result<Arc<Broker>, StartError> {
    let rng = Rng::new(seed);
    let entropy = Entropy::new(move || {
        let mut octets = [0; 16];
        octets.fill_with(|| rng.next() as u8);
        octets
    });
    let sizes = Sizes {
        // A small one is a quarter full soon, and the next one is prepared.
        segment_bytes: if seed.is_multiple_of(2) { 64 * 1024 } else { 6 * 1024 },
        slack_segments: 0,
        segment_records: 50,
        frame_bytes: [100, 500, 4096, 1 << 20][seed as usize / 2 % 4],
        page_len: 4,
        load_len: 8,
        resident_bytes: 2000,
        // Of three worlds one keeps transient messages in memory.
        spill_bytes: (seed % 3 != 1).then_some(2000),
        spill_file_bytes: 3000,
    };
    let config = Config { sizes, ..Config::on_loopback("unused") };
    Broker::open(config, disk, entropy, ExchangeTypes::built_in())
}

impl World {
    /// With queues of both kinds, and clients for each.
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self::exact(seed);
        world.ruled_script = world.ruled.script().collect();
        let ruled = *world.rng.pick(&[2, 3, 5]);
        world.connect(&vec![true; ruled]);
        world
    }

    /// Without queues that have rules.
    pub(crate) fn exact(seed: u64) -> Self {
        let rng = Rng::new(seed);
        let options = Options::new(&rng);
        let setup = ruled::Setup::new(&rng);
        let now = Now { monotonic: Millis(1000), unix: UnixMillis(1_700_000_000_000) };
        let disk = MemoryDisk::new();
        let queues = (0..QUEUES.len()).map(Op::DeclareQueue);
        let exchanges = (1..EXCHANGES.len()).map(Op::DeclareExchange);
        let fanout = (0..QUEUES.len()).map(|queue| Binding { exchange: 1, queue, key: "" });
        let others: Vec<_> = (0..6).map(|_| binding(&rng)).collect();
        let bindings = fanout.chain(others).map(Op::Bind);
        let mut world = Self {
            seed,
            oracle: Oracle::default(),
            seats: Vec::new(),
            workload: Workload::new(options),
            ledger: Ledger::new(setup, now),
            ruled: ruled::Workload::new(setup),
            broker: open(&MemoryDisk::new(), seed).expect("an empty disk opens"),
            disk: MemoryDisk::new(),
            scratch: Scratch::default(),
            reader: Workspace::default(),
            ticker: Workspace::default(),
            now,
            connections: 0,
            script: queues.chain(exchanges).chain(bindings).collect(),
            ruled_script: VecDeque::new(),
            fails_in: None,
            cuts: Vec::new(),
            reached: BTreeMap::new(),
            trace: VecDeque::new(),
            is_busy: false,
            spilled: Vec::new(),
            digest: 0xcbf2_9ce4_8422_2325,
            rng,
        };
        world.start(disk);
        world.connect(&vec![false; options.clients]);
        world
    }

    /// A world in which nothing happens that is not said, with clients that are let in.
    pub(crate) fn still(clients: usize) -> Self {
        Self::still_from(0, clients)
    }

    pub(crate) fn still_from(seed: u64, clients: usize) -> Self {
        let mut world = Self::exact(seed);
        world.script.clear();
        world.seats.clear();
        world.connect(&vec![false; clients]);
        world.calm_down();
        world
    }

    /// A client does this, and the broker has it at once.
    pub(crate) fn say(&mut self, at: usize, channel: u16, op: Op) {
        let client = &mut self.seats[at].client;
        client.send(channel, op, &self.oracle.messages);
        let all = client.out.len();
        self.deliver_bytes(at, all);
    }

    /// A client hears all that the broker has for it now.
    pub(crate) fn hear(&mut self, at: usize) {
        self.inbox(at);
        self.read(at, usize::MAX);
    }

    pub(crate) fn fail_disk(&mut self) {
        self.disk.fail_sync_after(0);
    }

    /// More clients, each of this kind.
    pub(crate) fn connect(&mut self, ruled: &[bool]) {
        for is_ruled in ruled {
            let seat = self.new_seat(*is_ruled);
            self.seats.push(seat);
        }
    }

    pub(crate) fn new_seat(&mut self, is_ruled: bool) -> Seat {
        self.connections += 1;
        let peer = Peer { name: format!("client {}", self.connections), is_loopback: true };
        let session = Session::new(Arc::clone(&self.broker), peer, self.now);
        let woken = Arc::new(Flag::default());
        session.inbox().register(&Waker::from(Arc::clone(&woken)));
        let heartbeat_s = *self.rng.pick(&[0, 0, 5]);
        let (wire, taken) = (Vec::new(), 0);
        let client = Client::new(heartbeat_s);
        Seat { number: self.connections, is_ruled, client, session, wire, taken, woken }
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LEN {
            self.trace.pop_front();
        }
        self.trace.push_back(text());
    }

    pub(crate) fn trace(&self) -> impl Iterator<Item = &str> {
        self.trace.iter().map(String::as_str)
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let vhost = self.broker.vhost("/");
        let queues = vhost.iter().flat_map(|vhost| vhost.queues());
        let exact = queues.filter(|it| QUEUES.iter().any(|queue| *queue.0 == *it.name));
        let gauges = exact.map(|queue| {
            let counters = &queue.counters;
            let (ready, unacked) = (counters.ready.get(), counters.unacked.get());
            (queue.name.to_string(), (ready, unacked, counters.consumers.get()))
        });
        gauges.collect()
    }

    /// One turn of a session, and what the oracle makes of it.
    pub(crate) fn turn(&mut self, at: usize, act: impl FnOnce(&mut Seat, Now, &mut Scratch)) {
        let before = self.gauges();
        let glance = self.glance();
        let seat = &mut self.seats[at];
        let was_blocked = seat.session.is_blocked();
        act(seat, self.now, &mut self.scratch);
        let blocks = !was_blocked && seat.session.is_blocked();
        self.oracle.stats.blocks += u64::from(blocks);
        let operations = seat.client.taken(seat.taken);
        let (number, closed) = (seat.number, seat.session.is_closed());
        if seat.is_ruled {
            self.note_ruled(&glance, number, operations, closed);
            return self.end_other_turn(before, &glance);
        }
        self.oracle.begin_turn(before, operations.len());
        for (channel, op) in operations {
            self.note(|| format!("{number}.{channel} {op:?}"));
            self.oracle.apply((number, channel), &op);
            self.oracle.end_operation();
        }
        if closed {
            self.oracle.end_connection(number);
        }
        let now = self.broker.journal().appended_lsn().0;
        self.oracle.end_turn(&self.gauges(), glance.lsn, now);
        self.check_untouched(&glance);
    }

    /// Until `operations` more were sent: whatever chance says.
    pub(crate) fn run(&mut self, mut operations: usize) {
        self.is_busy = true;
        let Options { crashes, crashes_within, cuts, rounds, catalogue, .. } =
            self.workload.options;
        // Where nobody looks, nothing is drawn.
        let is_ruled = self.seats.iter().any(|seat| seat.is_ruled);
        let policies = if is_ruled { self.ledger.setup().policies } else { 0 };
        let operator = if is_ruled { self.ledger.setup().operator } else { 0 };
        let pauses = if is_ruled { 4000 } else { 0 };
        while operations > 0 {
            let step = self.rng.weighted(&[
                (30_000, Step::Send),
                (25_000, Step::Deliver),
                (15_000, Step::Inbox),
                (20_000, Step::Read),
                (rounds, Step::Round),
                (15_000, Step::Load),
                (rounds / 4, Step::Keep),
                (rounds / 16, Step::Checkpoint),
                (500, Step::Time),
                (pauses, Step::Pause),
                (pauses, Step::Tick),
                (policies, Step::Policy),
                (operator, Step::Operator),
                (300, Step::Alarm),
                (cuts, Step::Cut),
                (crashes, Step::Crash),
                (crashes / 3, Step::Stop),
                (crashes_within, Step::PowerFails),
                (crashes / 2, Step::DiskFails),
                (catalogue, Step::CatalogueFails),
                (catalogue, Step::FillUp),
            ]);
            let at = self.rng.below(self.seats.len());
            self.take(step, at, &mut operations);
            self.fails_in = self.fails_in.map(|steps| steps.saturating_sub(1));
            if self.fails_in == Some(0) || self.disk.is_dark() {
                self.crash();
            }
        }
        self.is_busy = false;
    }

    fn take(&mut self, step: Step, at: usize, operations: &mut usize) {
        match step {
            Step::Send => *operations -= usize::from(self.send(at)),
            Step::Deliver => self.deliver(at),
            Step::Inbox => self.inbox(at),
            Step::Read => {
                let most = self.seats[at].session.output().len();
                let n = if self.rng.percent(50) { most } else { self.rng.below(most + 1) };
                self.read(at, n);
            }
            Step::Round => self.round(),
            Step::Load => drop(self.load()),
            Step::Keep => self.keep(),
            Step::Checkpoint => self.checkpoint(),
            Step::Time => self.let_time_pass(),
            Step::Pause => self.pause(),
            Step::Tick => drop(self.tick()),
            Step::Policy => self.change_policy(),
            Step::Operator => self.order_held(),
            Step::Alarm => self.change_alarm(),
            Step::Cut => self.cut(at),
            Step::Crash => self.crash(),
            Step::PowerFails => self.arm(Failpoint::ALL, 3),
            Step::Stop if self.fails_in.is_none() => self.stop(),
            Step::DiskFails if self.rng.percent(50) => self.disk.fail_sync_after(0),
            Step::DiskFails => {
                let pending = self.broker.journal().pending_bytes();
                self.disk.limit_room(self.rng.below(pending + 100));
            }
            Step::Stop => {}
            Step::CatalogueFails => self.harm_catalogue(),
            Step::FillUp => self.fill_up(),
        }
        if self.disk.is_dark() {
            return;
        }
        for at in 0..self.seats.len() {
            if self.seats[at].client.is_over || self.seats[at].session.is_closed() {
                let left = self.seats[at].session.output().len();
                self.read(at, if self.rng.percent(50) { left } else { 0 });
                self.cut(at);
            }
        }
    }

    /// True if it had something to do.
    pub(super) fn send(&mut self, at: usize) -> bool {
        if self.seats[at].is_ruled {
            return self.send_ruled(at);
        }
        let seat = &mut self.seats[at];
        let ready = seat.client.channels.get(&1).is_some_and(|view| view.is_open());
        let next = match self.script.front() {
            Some(op) if seat.client.is_open && ready && !seat.client.is_closing => Some((1, *op)),
            _ => self.workload.next(&seat.client, &mut self.oracle.messages, &self.rng),
        };
        let Some((channel, op)) = next else { return false };
        if ready && channel == 1 && !self.script.is_empty() {
            self.script.pop_front();
        }
        seat.client.send(channel, op, &self.oracle.messages);
        true
    }

    fn deliver(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        let all = seat.client.out.len();
        let n = match self.rng.below(8) {
            0 => all,
            1 | 2 => self.rng.below(all.min(40) + 1),
            3 => self.rng.below(all + 1),
            _ => seat.client.next_end().unwrap_or(0),
        };
        self.deliver_bytes(at, n);
    }

    pub(crate) fn deliver_bytes(&mut self, at: usize, n: usize) {
        let seat = &mut self.seats[at];
        seat.wire.extend(seat.client.out.drain(..n));
        let mut progress = Progress::More;
        while progress == Progress::More && !self.seats[at].wire.is_empty() {
            if !self.seats[at].session.wants_input() {
                return;
            }
            self.turn(at, |seat, now, scratch| {
                let taken = seat.session.handle_input(now, &seat.wire, scratch);
                seat.wire.drain(..taken.consumed);
                seat.taken += taken.consumed as u64;
                progress = taken.progress;
            });
        }
    }

    /// A session looks into its inbox when it was woken, or could not before.
    pub(crate) fn inbox(&mut self, at: usize) {
        let seat = &self.seats[at];
        if seat.woken.0.swap(false, Ordering::Relaxed) || seat.session.can_deliver() {
            self.turn(at, |seat, now, scratch| seat.session.handle_inbox(now, scratch));
        }
    }

    pub(crate) fn read(&mut self, at: usize, n: usize) {
        let seat = &mut self.seats[at];
        let mut bytes = Vec::new();
        let mut slices = [IoSlice::new(&[]); 64];
        let count = seat.session.output().slices(&mut slices);
        for slice in &slices[..count] {
            bytes.extend_from_slice(slice);
        }
        bytes.truncate(n);
        seat.session.wrote(self.now, bytes.len());
        for byte in &bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
        let (oracle, ledger, number) = (&mut self.oracle, &mut self.ledger, seat.number);
        let lsn = self.broker.journal().appended_lsn().0;
        if seat.is_ruled {
            seat.client.read(&bytes, |channel, seen| ledger.saw((number, channel), lsn, seen));
        } else {
            seat.client.read(&bytes, |channel, seen| oracle.saw((number, channel), seen));
        }
    }

    pub(crate) fn round(&mut self) {
        let journal = self.broker.journal();
        let synced = journal.round(&self.disk).inspect(|_| {
            self.oracle.synced(journal.durable_lsn().0);
            self.ledger.synced(journal.durable_lsn().0);
        });
        let sealed = if self.rng.percent(20) { journal.seal(&self.disk) } else { Ok(()) };
        match synced.and(sealed) {
            Ok(()) => {}
            Err(_) => self.disk_fails(),
        }
    }

    /// An alarm begins or ends; more of them end than begin.
    fn change_alarm(&mut self) {
        let alarm = *self.rng.pick(&[Alarm::Memory, Alarm::Disk]);
        let on = self.rng.percent(40);
        self.note(|| format!("{alarm:?} is low: {on}"));
        self.broker.alarms.set(alarm, on);
    }

    /// The reader brings back what queues want; false if they want nothing.
    pub(crate) fn load(&mut self) -> bool {
        let (before, glance) = (self.gauges(), self.glance());
        self.reader.effects.now = self.now;
        self.ledger.begin_turn(&glance, self.now, 0);
        let any = self.broker.load(&self.disk, &mut self.reader);
        self.oracle.stats.loads += u64::from(any);
        self.end_other_turn(before, &glance);
        any
    }

    pub(crate) fn keep(&mut self) {
        if self.rng.percent(30) {
            self.broker.look_at_space();
        }
        let before = self.broker.residence.total();
        self.beside(|broker, disk| broker.keep(disk));
        let urgent = self.urgent_absent();
        self.broker.relieve(&self.disk);
        let left = self.broker.residence.total() < before;
        self.oracle.stats.pages_out += u64::from(left);
        self.ledger.stats.urgent_left_memory += u64::from(self.urgent_absent() > urgent);
        self.note_spilled();
        self.kept();
    }

    /// Counts what was spilled and is there no more.
    fn note_spilled(&mut self) {
        let files = self.disk.list().unwrap_or_default();
        let spilled: Vec<_> = files.into_iter().filter(|file| file.starts_with("spill")).collect();
        let stats = &mut self.oracle.stats;
        stats.spills += u64::from(spilled.iter().any(|file| !self.spilled.contains(file)));
        stats.spills_reclaimed += u64::from(self.spilled.iter().any(|it| !spilled.contains(it)));
        self.spilled = spilled;
    }

    pub(crate) fn checkpoint(&mut self) {
        // What it could not do is tried again later.
        self.beside(|broker, disk| drop(broker.checkpoint(disk)));
        self.kept();
    }

    /// What the keeper did may have made records safe, and left one of its own.
    fn kept(&mut self) {
        let journal = self.broker.journal();
        self.oracle.kept(journal.durable_lsn().0, journal.appended_lsn().0);
        self.ledger.synced(journal.durable_lsn().0);
        if journal.error().is_some() {
            self.disk_fails();
        }
    }

    fn disk_fails(&mut self) {
        if self.fails_in.is_none() {
            self.oracle.disk_failed();
            self.ledger.disk_failed();
            self.fails_in = Some(1 + self.rng.below(30));
        }
    }

    /// A short time passes, in which messages and queues may become due.
    fn pause(&mut self) {
        let ms = 1 + self.rng.next() % self.ledger.setup().pause_ms_max;
        self.pass(ms);
    }

    fn let_time_pass(&mut self) {
        let ms = self.rng.next() % 6000;
        self.pass(ms);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.monotonic = self.now.monotonic.plus(ms);
        self.now.unix = UnixMillis(self.now.unix.0 + ms);
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            if seat.client.heartbeat_s > 0 && self.rng.percent(80) {
                seat.client.heartbeat();
            }
            if seat.session.next_deadline().is_some_and(|due| due <= self.now.monotonic) {
                self.turn(at, |seat, now, scratch| seat.session.handle_timeout(now, scratch));
            }
        }
    }
}
