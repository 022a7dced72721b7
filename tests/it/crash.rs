//! What a power loss leaves: every look at the disk is taken just before a sync, when most of it is
//! loose, and a broker is started on it.

use crate::disk::HookedDisk;
use crate::raw::{self, Fields, Raw};
use crate::support::TestBroker;
use leveret::exception::MethodId;
use leveret::store::MemoryDisk;
use leveret::wire::method::*;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// What is left of the disk, and how much the client had been promised by then.
type Crash = (MemoryDisk, usize);

/// A broker whose disk is looked at before each sync, and what was seen.
struct Watched {
    broker: TestBroker,
    promised: Arc<AtomicUsize>,
    crashes: Arc<Mutex<Vec<Crash>>>,
}

impl Watched {
    fn start() -> Self {
        let promised = Arc::new(AtomicUsize::new(0));
        let crashes = Arc::new(Mutex::new(Vec::new()));
        let before_sync = {
            let (promised, crashes) = (Arc::clone(&promised), Arc::clone(&crashes));
            move |disk: &MemoryDisk| {
                let promised = promised.load(SeqCst);
                let mut crashes = crashes.lock().unwrap();
                let seed = crashes.len() as u64;
                crashes.push((disk.crash(seed), promised));
            }
        };
        let broker = TestBroker::on(Arc::new(HookedDisk::new(before_sync)));
        Self { broker, promised, crashes }
    }

    /// At most `count` of the crashes, spread over the run.
    fn crashes(self, count: usize) -> Vec<Crash> {
        drop(self.broker);
        let all = std::mem::take(&mut *self.crashes.lock().unwrap());
        assert!(all.len() > 20, "too few syncs to learn from: {}", all.len());
        let step = all.len().div_ceil(count);
        all.into_iter().step_by(step).collect()
    }
}

/// A broker on what is left, and the numbers in each of the queues, in order; none if a queue is
/// not there.
fn recovered(left: MemoryDisk, queues: &[&str]) -> Vec<Option<Vec<usize>>> {
    let broker = TestBroker::on(Arc::new(left));
    let vhost = broker.broker.vhost("/").unwrap();
    let mut raw = Raw::channel(&broker);
    let contents = queues.iter().map(|name| {
        let queue = vhost.queue(name)?;
        let ready = usize::try_from(queue.counters.ready.get()).unwrap();
        raw.send(&raw::get(1, name, true).repeat(ready + 1));
        let numbers = (0..ready).map(|_| {
            let gotten = raw.expect(BASIC_GET_OK);
            let body = raw.content_of(&gotten).body;
            String::from_utf8(body).unwrap().parse().unwrap()
        });
        let numbers = numbers.collect();
        raw.expect(BASIC_GET_EMPTY);
        Some(numbers)
    });
    contents.collect()
}

fn bind(queue: &str, exchange: &str) -> Vec<u8> {
    let fields = Fields::default().short(0).shortstr(queue).shortstr(exchange);
    raw::method(1, QUEUE_BIND, fields.shortstr("").octet(0).longstr(&[]))
}

fn bare(id: MethodId) -> Vec<u8> {
    raw::method(1, id, Fields::default())
}

#[test]
fn a_crash_leaves_a_run_of_publishes_that_holds_all_confirmed() {
    let watched = Watched::start();
    let mut raw = Raw::channel(&watched.broker);
    raw.call(&raw::queue_declare(1, "q", raw::DURABLE), QUEUE_DECLARE_OK);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    let mut confirmed = 0;
    for n in 0..600_usize {
        let body = n.to_string();
        raw.send(&raw::publish(1, "q", raw::PERSISTENT, body.as_bytes()));
        // Windows of one up to ten.
        while n + 1 - confirmed > n % 10 {
            let upto = raw.expect(BASIC_ACK).fields().longlong();
            confirmed = usize::try_from(upto).unwrap();
            watched.promised.store(confirmed, SeqCst);
        }
    }
    let mut torn = 0;
    for (left, promised) in watched.crashes(120) {
        let contents = recovered(left, &["q"]).remove(0);
        let found = contents.as_ref().map_or(0, Vec::len);
        assert!(found >= promised, "{promised} were confirmed, {found} are left");
        assert_eq!(contents.unwrap_or_default(), (0..found).collect::<Vec<_>>());
        torn += usize::from(found > promised);
    }
    assert!(torn > 0, "no crash left more than was confirmed: they all came too late");
}

#[test]
fn a_crash_leaves_a_message_in_all_its_queues_or_in_none() {
    const QUEUES: [&str; 3] = ["a", "b", "c"];
    let watched = Watched::start();
    let mut raw = Raw::channel(&watched.broker);
    for queue in QUEUES {
        raw.call(&raw::queue_declare(1, queue, raw::DURABLE), QUEUE_DECLARE_OK);
        raw.call(&bind(queue, "amq.fanout"), QUEUE_BIND_OK);
    }
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    for n in 0..200_usize {
        let body = n.to_string();
        let publish = [
            raw::publish_method(1, "amq.fanout", "", 0),
            raw::content_header(1, body.len() as u64, raw::PERSISTENT),
            raw::frame(3, 1, body.as_bytes()),
        ];
        raw.call(&publish.concat(), BASIC_ACK);
        watched.promised.store(n + 1, SeqCst);
    }
    for (left, promised) in watched.crashes(80) {
        let contents = recovered(left, &QUEUES);
        let first = contents[0].clone().unwrap_or_default();
        assert!(first.len() >= promised, "{promised} were confirmed, {} are left", first.len());
        assert_eq!(first, (0..first.len()).collect::<Vec<_>>());
        for other in &contents[1..] {
            assert_eq!(other.clone().unwrap_or_default(), first);
        }
    }
}

#[test]
fn a_crash_leaves_a_transaction_whole_or_not_at_all() {
    const COUNT: usize = 150;
    let watched = Watched::start();
    let mut raw = Raw::channel(&watched.broker);
    for queue in ["in", "out", "copy"] {
        raw.call(&raw::queue_declare(1, queue, raw::DURABLE), QUEUE_DECLARE_OK);
    }
    raw.call(&bare(TX_SELECT), TX_SELECT_OK);
    for n in 0..COUNT {
        let body = n.to_string();
        raw.send(&raw::publish(1, "in", raw::PERSISTENT, body.as_bytes()));
    }
    raw.call(&bare(TX_COMMIT), TX_COMMIT_OK);
    let filled = watched.crashes.lock().unwrap().len();
    for n in 0..COUNT {
        let gotten = raw.call(&raw::get(1, "in", false), BASIC_GET_OK);
        let message = raw.content_of(&gotten);
        assert_eq!(message.body, n.to_string().as_bytes());
        let moved = [
            raw::publish(1, "out", raw::PERSISTENT, &message.body),
            raw::ack(1, message.tag, false),
            raw::publish(1, "copy", raw::PERSISTENT, &message.body),
            bare(TX_COMMIT),
        ];
        raw.call(&moved.concat(), TX_COMMIT_OK);
        watched.promised.store(n + 1, SeqCst);
    }
    let mut crashes = std::mem::take(&mut *watched.crashes.lock().unwrap());
    let moving = crashes.split_off(filled);
    // Until the first commit is safe, all of it is there or nothing.
    for (left, _) in crashes {
        let contents = recovered(left, &["in"]).remove(0).unwrap_or_default();
        assert!([0, COUNT].contains(&contents.len()), "{} of {COUNT}", contents.len());
    }
    *watched.crashes.lock().unwrap() = moving;
    for (left, promised) in watched.crashes(80) {
        let contents = recovered(left, &["in", "out", "copy"]);
        let [left, moved, copied] = &contents.try_into().unwrap();
        let moved = moved.clone().unwrap();
        assert!(moved.len() >= promised, "{promised} were moved, {} are left", moved.len());
        assert_eq!(moved, (0..moved.len()).collect::<Vec<_>>());
        assert_eq!(copied.as_ref(), Some(&moved));
        let rest: Vec<_> = (moved.len()..COUNT).collect();
        assert_eq!(left.as_ref(), Some(&rest));
    }
}

#[test]
fn a_crash_does_not_undo_a_definition_that_was_answered() {
    let watched = Watched::start();
    let mut raw = Raw::channel(&watched.broker);
    let delete = |queue: &str| {
        let fields = Fields::default().short(0).shortstr(queue).octet(0);
        raw::method(1, QUEUE_DELETE, fields)
    };
    // A step makes queue n, the next one removes it.
    for n in 0..60 {
        let queue = format!("q{n}");
        raw.call(&raw::queue_declare(1, &queue, raw::DURABLE), QUEUE_DECLARE_OK);
        watched.promised.store(2 * n + 1, SeqCst);
        raw.call(&delete(&queue), QUEUE_DELETE_OK);
        watched.promised.store(2 * n + 2, SeqCst);
    }
    for (left, promised) in watched.crashes(60) {
        let broker = TestBroker::on(Arc::new(left));
        let queues = broker.broker.vhost("/").unwrap().queues();
        let queues: Vec<_> = queues.iter().map(|q| q.name.to_string()).collect();
        // What was promised, or the step behind it.
        let after = |steps: usize| match steps % 2 {
            0 => vec![],
            _ => vec![format!("q{}", steps / 2)],
        };
        let possible = [after(promised), after(promised + 1)];
        assert!(possible.contains(&queues), "{queues:?} after {promised} steps");
    }
}
