//! Delayed messages against a list: they leave in the order of their times, of equal times in the
//! order in which they came, none early, each once; wherever they lie meanwhile.

use leveret::id::{QueueId, Seq};
use leveret::message::Message;
use leveret::queue::{Effects, Page, Paged, Paging, Publish, QueueCore};
use leveret::store::{OnDisk, RecordBatch};
use leveret::time::{Delay, Ttl, UnixMillis};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
    /// Several at once, all for the same time.
    Publish {
        delay_ms: u64,
        count: usize,
        reserved: bool,
    },
    Advance(u64),
    Tick,
    /// The latest of what is in memory leaves it, but not this many.
    PageOut {
        keep: usize,
    },
    /// Answers what is asked for, in part.
    Load {
        max: usize,
    },
    /// The nth of those that wait.
    Cancel(usize),
    /// So many of those on their way have arrived.
    Move(usize),
    /// As a start finds it.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    // Many come to be due at one time.
    let delay = prop_oneof![1..4_u64, 1..40_u64].prop_map(|tenths| tenths * 100);
    prop_oneof![
        8 => (delay, 1..5_usize, any::<bool>()).prop_map(|(delay_ms, count, reserved)| {
            Op::Publish { delay_ms, count, reserved }
        }),
        2 => (1..900_u64).prop_map(Op::Advance),
        4 => Just(Op::Tick),
        3 => (0..6_usize).prop_map(|keep| Op::PageOut { keep }),
        3 => (1..9_usize).prop_map(|max| Op::Load { max }),
        3 => any::<usize>().prop_map(Op::Cancel),
        3 => (1..9_usize).prop_map(Op::Move),
        2 => Just(Op::Restart),
    ]
}

struct World {
    core: QueueCore,
    records: RecordBatch,
    effects: Effects,
    /// What was published, by seq: when it is due, and its content.
    disk: BTreeMap<Seq, (UnixMillis, Message)>,
    /// What waits: due, number, seq.
    waiting: Vec<(UnixMillis, u32, Seq)>,
    under_way: Vec<(u32, Seq)>,
    next: u32,
}

fn core() -> QueueCore {
    let paging = Paging { page_len: 4, read_ahead_len: 3, load_len: 6, load_bytes: 1_000 };
    QueueCore::new(QueueId::timed(3), true).with_paging(paging)
}

/// So many have been there that the numbers of a millisecond begin again soon.
const FIRST: u64 = (1 << (Seq::TIME_AT - 1)) - 20;

fn message(number: u32) -> Message {
    let header = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0x10, 0, 2];
    Message::new(b"", b"", &header, &number.to_be_bytes(), &mut Vec::new())
}

impl World {
    fn new() -> Self {
        let mut core = core();
        core.restore_next_seq(Seq(FIRST));
        Self {
            core,
            records: RecordBatch::new(),
            effects: Effects::new(),
            disk: BTreeMap::new(),
            waiting: Vec::new(),
            under_way: Vec::new(),
            next: 0,
        }
    }

    fn publish(&mut self, delay_ms: u64, count: usize, reserved: bool) {
        let due = self.effects.now.unix.plus(delay_ms);
        let known: Vec<_> = self.seqs();
        for nth in 0..count {
            // Half of the kinds of delays there are.
            let delay = if nth % 2 == 0 { Delay::for_ms(delay_ms) } else { Delay::until(due) };
            let publish = Publish {
                message: message(self.next),
                persistent: true,
                priority: 0,
                ttl: Ttl::FOREVER,
                delay: Some(delay),
                mark: 0,
            };
            if reserved {
                let target = self.core.reserve(publish, &mut self.effects);
                let target = target.expect("the queue has no limit");
                assert_eq!(target.due, due);
                self.core.show(&[target.seq], &mut self.records, &mut self.effects);
            } else {
                self.core.publish(&mut vec![publish], &mut self.records, &mut self.effects);
            }
            self.waiting.push((due, self.next, Seq(0)));
            self.next += 1;
        }
        let new: Vec<_> = self.seqs().into_iter().filter(|seq| !known.contains(seq)).collect();
        assert_eq!(new.len(), count);
        let first = self.waiting.len() - count;
        for (waiting, seq) in self.waiting[first..].iter_mut().zip(new) {
            waiting.2 = seq;
            let before = self.disk.insert(seq, (waiting.0, message(waiting.1)));
            assert!(before.is_none(), "{seq} was given before");
        }
    }

    fn seqs(&self) -> Vec<Seq> {
        self.core.waiting(Seq(0), usize::MAX).iter().map(|waiting| waiting.seq).collect()
    }

    /// What has left must be what is due next.
    fn check_left(&mut self) {
        for dead in std::mem::take(&mut self.effects.dead) {
            self.waiting.sort();
            let (due, number, seq) = self.waiting.remove(0);
            assert!(due <= self.effects.now.unix, "{number} is early");
            assert_eq!(dead.message.body_to_vec(), number.to_be_bytes());
            let place = dead.place.expect("it stood in the queue");
            assert_eq!(place.1, seq);
            self.under_way.push(place);
        }
    }

    fn load(&mut self, max: usize) {
        for load in std::mem::take(&mut self.effects.loads) {
            let wanted = load.runs.iter().flat_map(|(first, last)| first.0..=last.0).map(Seq);
            let read = wanted.take(max).map(|seq| {
                let (due, message) = self.disk[&seq].clone();
                OnDisk { seq, due, message }
            });
            let read = read.collect();
            self.core.loaded(read, &[], &mut self.records, &mut self.effects);
            self.check_left();
        }
    }

    fn page_out(&mut self, keep: usize) {
        let stored: Vec<_> = self.disk.keys().map(|seq| (*seq, *seq)).collect();
        let mut below = Seq(u64::MAX);
        while let Some((first, last)) = self.core.pageable_between(keep, below) {
            self.core.page_out_between(&stored, first, last);
            below = first;
        }
    }

    fn arrive(&mut self, count: usize) {
        let count = count.min(self.under_way.len());
        let places: Vec<_> = self.under_way.drain(..count).collect();
        self.core.buried(&places, false, &mut self.records, &mut self.effects);
        self.check_left();
    }

    fn tick(&mut self) {
        self.core.tick(&mut self.records, &mut self.effects);
        self.check_left();
    }

    /// All that waits comes back as pages, as it lies on disk.
    fn restart(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        self.core.buried(&under_way, false, &mut self.records, &mut self.effects);
        self.check_left();
        self.arrive(usize::MAX);
        let alive = self.core.alive();
        self.core = core();
        let now = self.effects.now;
        self.effects = Effects::new();
        self.effects.now = now;
        self.core.restore_next_seq(alive.next_seq);
        self.core.restore_returns(alive.returns);
        let seqs: Vec<_> = self.waiting.iter().map(|(_, _, seq)| *seq).collect();
        let mut sorted = seqs.clone();
        sorted.sort();
        let lives: Vec<_> =
            alive.live.iter().flat_map(|(first, last)| first.0..=last.0).map(Seq).collect();
        assert_eq!(lives, sorted);
        for page in sorted.chunks(4) {
            let paged = page.iter().map(|seq| Paged {
                seq: *seq,
                body_len: 4,
                persistent: true,
                redelivered: false,
                due: UnixMillis::NEVER,
            });
            self.core.restore_page(Page::new(paged).expect("no chunk is empty"));
        }
        self.core.restore_due(alive.due);
        self.tick();
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Publish { delay_ms, count, reserved } => self.publish(delay_ms, count, reserved),
            Op::Advance(ms) => self.effects.now.unix = self.effects.now.unix.plus(ms),
            Op::Tick => self.tick(),
            Op::PageOut { keep } => self.page_out(keep),
            Op::Load { max } => self.load(max),
            Op::Cancel(nth) if !self.waiting.is_empty() => {
                let (_, _, seq) = self.waiting.remove(nth % self.waiting.len());
                let (records, effects) = (&mut self.records, &mut self.effects);
                assert!(self.core.cancel_waiting(seq, records, effects));
                assert!(!self.core.cancel_waiting(seq, records, effects));
                self.check_left();
            }
            Op::Cancel(_) => {}
            Op::Move(count) => self.arrive(count),
            Op::Restart => self.restart(),
        }
        self.check_left();
        self.records = RecordBatch::new();
        self.waiting.sort();
        let expected: Vec<_> = self.waiting.iter().map(|(_, _, seq)| *seq).collect();
        assert_eq!(self.seqs(), expected);
        assert_eq!(self.core.ready_len(), expected.len());
        assert_eq!(self.core.ready_bytes(), 4 * expected.len() as u64);
    }

    /// Time goes on as the queue asks for it, until nothing waits.
    fn run_out(&mut self) {
        while !self.waiting.is_empty() {
            self.load(usize::MAX);
            self.arrive(usize::MAX);
            let Some((_, at)) = self.effects.deadlines.pop() else { continue };
            self.effects.now.unix = self.effects.now.unix.max(at);
            self.tick();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_waits_leaves_in_due_order_never_early_and_once(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
        world.run_out();
        world.arrive(usize::MAX);
        assert_eq!((world.core.ready_len(), world.core.resident_bytes()), (0, 0));
    }
}
