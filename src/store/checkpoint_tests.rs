//! Checkpoints beside a broker that goes on: a start after a power loss at any of their steps shows
//! what the journal holds, and nothing else.

use super::samples::{Opened, backlog, message, opened, queue, run, to, vhost};
use super::{
    Definition, Durability, Failpoint, MemoryDisk, Options, RecordBatch, Source, Standing, Store,
    check, open,
};
use crate::id::{Lsn, QueueId, Seq};

const QUEUE: QueueId = QueueId(1);

/// Where a checkpoint can be cut, in order.
const STEPS: [Failpoint; 10] = [
    Failpoint::CheckpointBegun,
    Failpoint::GatePassed,
    Failpoint::StandingsTaken,
    Failpoint::JournalFlushed,
    Failpoint::CatalogueOpened,
    Failpoint::SliceWritten,
    Failpoint::MetaWritten,
    Failpoint::CatalogueFlushed,
    Failpoint::CheckpointAppended,
    Failpoint::CheckpointSafe,
];

/// A broker that goes on while its standings are taken: messages 10 to 19 come, and 0 to 4 end.
struct Busy<'a>(&'a Store);

impl Source for Busy<'_> {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        [vhost("/"), queue(1, "/"), queue(2, "/")].into_iter().for_each(each);
    }

    fn standings(&self, _: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        let mut batch = RecordBatch::new();
        publish(&mut batch, 10..20);
        batch.ack(QUEUE, [run(0, 4)]);
        self.0.journal().append(&mut batch);
        each(
            QUEUE,
            Standing {
                next_seq: Seq(20),
                live: vec![run(5, 19)].into_iter().collect(),
                ..Standing::default()
            },
        );
        each(QueueId(2), Standing::default());
    }

    fn live_bytes(&self) -> u64 {
        1000
    }

    fn next_queue_id(&self) -> QueueId {
        QueueId(3)
    }
}

fn publish(batch: &mut RecordBatch, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        batch.enqueue(&message(&seq.to_be_bytes()), &[to(1, seq)]);
    }
}

/// Messages 0 to 9 of queue 1 are safe in a segment that was left; behind it, in no file yet,
/// queue 2 is declared. Says which record is the last that is safe.
fn begin(disk: &MemoryDisk) -> (Store, Lsn) {
    let (store, _) = open(disk, &Options::new(Durability::Fsync, 1)).unwrap();
    let journal = store.journal();
    let mut batch = RecordBatch::new();
    batch.definition(&vhost("/"));
    batch.definition(&queue(1, "/"));
    publish(&mut batch, 0..10);
    journal.append(&mut batch);
    journal.flush(disk).unwrap();
    let safe = journal.durable_lsn();
    journal.leave_segment();
    batch.definition(&queue(2, "/"));
    journal.append(&mut batch);
    (store, safe)
}

/// The queues, and the seqs in queue 1.
fn found(opened: &Opened) -> (usize, Vec<u64>) {
    let seqs = backlog(opened, 1).into_iter().map(|(seq, _, _)| seq);
    (opened.definitions.queues().count(), seqs.collect())
}

#[test]
fn a_start_shows_what_the_journal_holds_wherever_a_checkpoint_was_cut() {
    let (before, after): (Vec<_>, Vec<_>) = ((0..10).collect(), (5..20).collect());
    for (nth, point) in STEPS.into_iter().enumerate() {
        let disk = MemoryDisk::new();
        let (store, safe) = begin(&disk);
        disk.cut_power_at(point, 0);
        store.checkpoint(&disk, &Busy(&store)).unwrap_err();
        assert!(disk.is_dark(), "a checkpoint comes to {point:?}");
        for seed in 0..20 {
            let opened = opened(&disk.crash(seed), 2);
            let about = format!("{point:?}, seed {seed}, record {:?}", opened.last_lsn);
            // From the flush of the journal on all of it is there, before it nothing was written.
            if nth < 3 {
                assert_eq!(opened.last_lsn, safe, "{about}");
                assert_eq!(found(&opened), (1, before.clone()), "{about}");
            } else {
                assert!(opened.last_lsn > safe, "{about}");
                assert_eq!(found(&opened), (2, after.clone()), "{about}");
            }
        }
    }
}

#[test]
fn a_segment_that_was_left_ends_where_the_checkpoint_says_whatever_can_be_stated() {
    let disk = MemoryDisk::new();
    let (store, _) = begin(&disk);
    // The thread that writes has come to its end of work only now.
    store.journal().seal(&disk).unwrap();
    assert!(store.checkpoint(&disk, &Busy(&store)).unwrap());
    store.journal().flush(&disk).unwrap();
    let report = check(&disk, Options::new(Durability::Fsync, 1).page_len).unwrap();
    assert!(!report.is_damaged(), "{report:#?}");
}
