//! Queues as the broker holds them: counters that follow every verb, and the end.

use super::world::{Mailbox, message};
use leveret::exception::Exception;
use leveret::id::{ConsumerToken, QueueId, Seq};
use leveret::limits::{CONSUMER_CREDIT_BYTES, CONSUMER_CREDIT_MESSAGES};
use leveret::name::Name;
use leveret::queue::{
    ConsumerKey, ConsumerSpec, DeadList, Delivery, Effects, EndReason, Event, Gone, Got, Outlet,
    Publish, Queue, QueueCore, QueueSettings, Residence, Settlement, Turn,
};
use leveret::store::OnDisk;
use leveret::store::{self, Durability, MemoryDisk, RecordBatch, Store};
use leveret::time::Ttl;
use proptest::prelude::*;
use std::sync::Arc;

struct Bench {
    queue: Queue,
    residence: Arc<Residence>,
    store: Store,
    records: RecordBatch,
    effects: Effects,
    link: Arc<Mailbox>,
}

impl Bench {
    fn new(core: QueueCore) -> Self {
        let (store, _) =
            store::open(&MemoryDisk::new(), &store::Options::new(Durability::Fsync, 1))
                .expect("an empty disk opens");
        let residence = Arc::default();
        let settings = QueueSettings { durable: true, ..QueueSettings::default() };
        Self {
            queue: Queue::new(Name::new("/"), Name::new("q"), settings, core, &residence),
            residence,
            store,
            records: RecordBatch::new(),
            effects: Effects::new(),
            link: Arc::default(),
        }
    }

    fn with<R>(&mut self, verb: impl FnOnce(&Queue, &mut Turn<'_>) -> R) -> R {
        let Self { queue, store, records, effects, .. } = self;
        let (log, dead) = (&**store.journal(), &DeadList::default());
        let answer = verb(queue, &mut Turn { log, records, effects, dead });
        assert!(self.records.is_empty(), "every verb leaves its records with the journal");
        answer
    }

    fn publish(&mut self, count: u64, body_len: usize) -> Result<(), Gone> {
        let publish = |seq| Publish {
            message: message(seq, body_len),
            persistent: true,
            priority: 0,
            ttl: Ttl::FOREVER,
            delay: None,
            mark: 0,
        };
        let mut batch = (0..count).map(publish).collect();
        self.with(|queue, turn| queue.publish(&mut batch, turn)).map(drop)
    }

    fn consume(&mut self, token: u64, no_ack: bool, prefetch: u32) -> Result<ConsumerKey, Gone> {
        let spec = ConsumerSpec {
            outlet: Arc::clone(&self.link) as Arc<dyn Outlet>,
            token: ConsumerToken(token),
            no_ack,
            exclusive: false,
            priority: 0,
            prefetch,
            limiter: Arc::default(),
        };
        let key = self.with(|queue, turn| queue.consume(spec, turn))?;
        Ok(key.expect("nobody is exclusive"))
    }

    fn get(&mut self, token: u64) -> Result<Got, Gone> {
        let outlet = Arc::clone(&self.link) as Arc<dyn Outlet>;
        self.with(|queue, turn| queue.get(&outlet, ConsumerToken(token), false, turn))
    }

    fn delivered(&self) -> Vec<Delivery> {
        let events = self.link.take().into_iter();
        let delivery = |event| match event {
            Event::Delivery(delivery) => delivery,
            other => panic!("not a delivery: {other:?}"),
        };
        events.map(delivery).collect()
    }
}

#[test]
fn a_link_that_drains_nothing_is_given_its_credit_and_no_more() {
    let mut bench = Bench::new(QueueCore::new(QueueId(1), true));
    let key = bench.consume(1, true, 0).unwrap();
    let credit = u64::from(CONSUMER_CREDIT_MESSAGES);
    bench.publish(credit + 10, 0).unwrap();
    assert_eq!(bench.delivered().len() as u64, credit);
    bench.with(|queue, turn| queue.grant(key, 3, 0, turn)).unwrap();
    assert_eq!(bench.delivered().len(), 3);

    let mut bench = Bench::new(QueueCore::new(QueueId(1), true));
    let key = bench.consume(1, false, 0).unwrap();
    let body_len = CONSUMER_CREDIT_BYTES as usize / 2;
    bench.publish(5, body_len).unwrap();
    assert_eq!(bench.delivered().len(), 2, "two bodies use up the bytes");
    bench.with(|queue, turn| queue.grant(key, 1, 1, turn)).unwrap();
    assert_eq!(bench.delivered().len(), 1, "one byte is enough for one more");
}

#[test]
fn a_queue_that_ended_answers_gone_to_every_verb() {
    let mut core = QueueCore::new(QueueId(1), true);
    for seq in [1, 2, 3] {
        core.restore(OnDisk::new(Seq(seq), message(seq, 1)), true);
    }
    assert!(core.evict(Seq(2)).is_some());
    let mut bench = Bench::new(core);
    let key = bench.consume(1, false, 1).unwrap();
    assert!(matches!(bench.get(2), Ok(Got::Later)));
    let out = bench.delivered();
    let pair = [(out[0].slot, out[0].seq)];

    let refused = bench.queue.close_if(&mut bench.effects, |core| Err::<(), _>(core.ready_len()));
    assert_eq!(refused, Err(Some(2)), "what the check says");
    assert!(!bench.queue.is_gone());
    let ended = bench.queue.close_if(&mut bench.effects, |_| Ok::<(), Exception>(()));
    assert!(matches!(ended, Ok(2)), "two were ready");
    let told = bench.link.take();
    assert!(
        matches!(
            told[..],
            [
                Event::Ended { token: ConsumerToken(1), reason: EndReason::QueueGone },
                Event::Got { token: ConsumerToken(2), delivery: None, ready_left: 0 }
            ]
        ),
        "consumers and waiting gets are told: {told:?}"
    );
    let counters = &bench.queue.counters;
    assert_eq!((counters.ready.get(), counters.unacked.get(), counters.consumers.get()), (0, 0, 0));

    let again = bench.queue.close_if(&mut bench.effects, |_| Ok::<(), Exception>(()));
    assert!(matches!(again, Err(None)));
    let mut batch = vec![Publish {
        message: message(9, 1),
        persistent: true,
        priority: 0,
        ttl: Ttl::FOREVER,
        delay: None,
        mark: 0,
    }];
    assert_eq!(bench.with(|queue, turn| queue.publish(&mut batch, turn)), Err(Gone));
    assert_eq!(batch.len(), 1, "what was not taken goes back to the publisher");
    let reserved = bench.queue.reserve(batch.into_iter(), &mut Vec::new(), &mut bench.effects);
    assert_eq!(reserved, Err(Gone));
    assert_eq!(bench.with(|queue, turn| queue.show(&[Seq(1)], turn)), Err(Gone));
    assert!(bench.consume(3, true, 0).is_err());
    assert!(bench.get(4).is_err());
    let ack = Settlement::Ack;
    assert_eq!(bench.with(|queue, turn| queue.settle(&pair, ack, turn)), Err(Gone));
    assert_eq!(bench.with(|queue, turn| queue.settle_recorded(&pair, ack, turn)), Err(Gone));
    assert_eq!(bench.queue.recorded(&pair, ack), [], "the journal has nothing to be told");
    assert_eq!(bench.with(|queue, turn| queue.grant(key, 1, 1, turn)), Err(Gone));
    assert_eq!(bench.with(|queue, turn| queue.cancel(key, turn)), Err(Gone));
    assert_eq!(bench.with(|queue, turn| queue.purge(turn)), Err(Gone));
    let read = vec![OnDisk::new(Seq(2), message(2, 1))];
    assert_eq!(bench.with(|queue, turn| queue.loaded(read, &[Seq(3)], turn)), Err(Gone));
    let all = [(Seq(1), Seq(9))];
    assert_eq!(bench.queue.page_out(&all, 0, 0, 9), Err(Gone));
    assert_eq!(bench.queue.evict_bodies(&all), Err(Gone));
    assert_eq!((bench.queue.alive(), bench.queue.pageable(0, 0)), (Err(Gone), None));
    assert!(bench.link.take().is_empty(), "nobody hears of it again");
}

#[test]
fn what_is_paged_out_leaves_the_residence_and_comes_back_to_a_late_get() {
    let mut bench = Bench::new(QueueCore::new(QueueId(1), true));
    bench.publish(10_000, 100).unwrap();
    let counters = &bench.queue.counters;
    let full = counters.resident_bytes.get();
    assert!(full > 1_000_000 && bench.residence.total() == full);
    let (first, last) = bench.queue.pageable(0, 10).unwrap();
    assert_eq!((first, last), (Seq(1), Seq(9_990)));
    let freed = bench.queue.page_out(&[(first, last)], 0, 10, usize::MAX).unwrap();
    assert_eq!(freed, full / 10_000 * 9_990);
    assert_eq!(counters.resident_bytes.get(), full - freed);
    assert_eq!((counters.ready.get(), counters.ready_bytes.get()), (10_000, 1_000_000));
    assert_eq!(bench.residence.total(), full - freed);

    assert!(matches!(bench.get(1), Ok(Got::Later)));
    let load = bench.effects.loads.pop().unwrap();
    let asked = load.runs.iter().flat_map(|run| run.0.0..=run.1.0);
    let read: Vec<_> = asked.map(|seq| OnDisk::new(Seq(seq), message(seq, 100))).collect();
    assert_eq!(bench.queue.counters.gotten.get(), 0);
    bench.with(|queue, turn| queue.loaded(read, &[], turn)).unwrap();
    let told = bench.link.take();
    assert!(matches!(&told[..], [Event::Got { delivery: Some(got), .. }] if got.seq == Seq(1)));
    let counters = &bench.queue.counters;
    assert_eq!((counters.gotten.get(), counters.unacked.get()), (1, 1));

    let out = bench.queue.evict_bodies(&[(Seq(1), Seq(1))]).unwrap();
    assert_eq!(out, full / 10_000);
    let alive = bench.queue.alive().unwrap();
    assert_eq!(alive.live, [(Seq(1), Seq(10_000))]);
    assert!(bench.residence.total() > 0);
    let ended = bench.queue.close_if(&mut bench.effects, |_| Ok::<(), Exception>(()));
    assert_eq!((ended, bench.residence.total()), (Ok(9_999), 0));
}

proptest! {
    #[test]
    fn counters_agree_with_what_every_link_saw(
        verbs in prop::collection::vec((0..7_u8, 0..8_usize), 1..60),
    ) {
        let mut bench = Bench::new(QueueCore::new(QueueId(1), true));
        let (mut published, mut delivered, mut redelivered, mut acked, mut gone) = (0, 0, 0, 0, 0);
        let mut gotten = 0;
        let mut out: Vec<Delivery> = Vec::new();
        let mut keys = Vec::new();
        for (at, (verb, n)) in verbs.into_iter().enumerate() {
            match verb {
                0 | 1 => {
                    bench.publish(n as u64, 1).unwrap();
                    published += n as u64;
                }
                2 => keys.push(bench.consume(at as u64, false, n as u32).unwrap()),
                3 if !keys.is_empty() => {
                    let key = keys.swap_remove(n % keys.len());
                    bench.with(|queue, turn| queue.cancel(key, turn)).unwrap();
                }
                4 => {
                    if let Got::Message { delivery, .. } = bench.get(at as u64).unwrap() {
                        gotten += 1;
                        out.push(delivery);
                    }
                }
                5 => {
                    let settled: Vec<_> = out.drain(..n.min(out.len())).collect();
                    let pairs: Vec<_> = settled.iter().map(|d| (d.slot, d.seq)).collect();
                    let how = [Settlement::Ack, Settlement::Requeue][at % 2];
                    bench.with(|queue, turn| queue.settle(&pairs, how, turn)).unwrap();
                    if how == Settlement::Ack {
                        acked += pairs.len() as u64;
                        gone += pairs.len() as u64;
                    }
                }
                6 if n == 0 => {
                    gone += bench.with(|queue, turn| queue.purge(turn)).unwrap().0;
                }
                _ => {}
            }
            for event in bench.link.take() {
                if let Event::Delivery(delivery) = event {
                    delivered += 1;
                    redelivered += u64::from(delivery.redelivered);
                    out.push(delivery);
                }
            }
            let counters = &bench.queue.counters;
            let seen = (published, delivered, redelivered, gotten, acked);
            let counted = (
                counters.published.get(),
                counters.delivered.get(),
                counters.redelivered.get(),
                counters.gotten.get(),
                counters.acked.get(),
            );
            prop_assert_eq!(counted, seen);
            prop_assert_eq!(counters.unacked.get(), out.len() as u64);
            prop_assert_eq!(counters.ready.get() + out.len() as u64 + gone, published);
            let depth = (counters.ready.get(), counters.consumers.get());
            prop_assert_eq!(bench.queue.depth(), depth);
            prop_assert_eq!(counters.consumers.get(), keys.len() as u64);
        }
    }
}
