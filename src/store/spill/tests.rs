//! Spilled messages: written, read back, damaged, moved and given up.

use super::{Spill, SpillOptions};
use crate::id::{QueueId, Seq};
use crate::limits::INLINE_BODY_MAX;
use crate::store::OnDisk;
use crate::store::samples::{message, queue, run, to, vhost};
use crate::store::{
    Disk, Durability, MemoryDisk, Options, RecordBatch, Severity, Store, check, open,
};
use crate::time::UnixMillis;

const QUEUE: QueueId = QueueId(1);
const ALL: (Seq, Seq) = (Seq(0), Seq(u64::MAX));

fn spill() -> Spill {
    let (file_bytes, reserve_bytes) = (2_000, 10_000);
    Spill::new(SpillOptions { file_bytes, page_len: 4, reserve_bytes, salt: 7 })
}

fn body(seq: u64) -> Vec<u8> {
    format!("body of {seq}").into_bytes()
}

fn stored_message(seq: u64, body: &[u8]) -> OnDisk {
    OnDisk { seq: Seq(seq), due: UnixMillis(seq), message: message(body) }
}

fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<OnDisk> {
    seqs.into_iter().map(|seq| stored_message(seq, &body(seq))).collect()
}

fn write(spill: &Spill, disk: &MemoryDisk, seqs: impl IntoIterator<Item = u64>) {
    spill.write(disk, QUEUE, &messages(seqs)).unwrap();
}

/// Seqs that come back whole, in order, and those that are lost.
fn read(spill: &Spill, disk: &MemoryDisk, wanted: &[(Seq, Seq)]) -> (Vec<u64>, Vec<u64>) {
    let Some(read) = spill.read(disk, QUEUE, wanted, usize::MAX, u64::MAX) else {
        return (vec![], vec![]);
    };
    for OnDisk { seq, due, message } in &read.loaded.messages {
        assert_eq!((message.body_to_vec(), due.0), (body(seq.0), seq.0));
        assert_eq!((message.exchange(), message.routing_key()), (&b"exchange"[..], &b"key"[..]));
    }
    let seqs = read.loaded.messages.iter().map(|it| it.seq.0).collect();
    (seqs, read.loaded.lost.iter().map(|seq| seq.0).collect())
}

fn stored(spill: &Spill, disk: &MemoryDisk) -> Vec<(Seq, Seq)> {
    spill.stored(disk, QUEUE, ALL.0, ALL.1)
}

#[test]
fn messages_come_back_from_many_files_and_nothing_is_synced() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, (1..=500).filter(|seq| seq % 10 != 0));
    spill.write(&disk, QueueId(2), &messages(1..=3)).unwrap();
    let files = disk.list().unwrap();
    let indexes = files.iter().filter(|file| file.ends_with(".idx")).count();
    assert!(indexes > 5 && files.len() == 2 * indexes + 1, "{files:?}");
    assert_eq!(disk.syncs(), 0);
    let (seqs, lost) = read(&spill, &disk, &[run(35, 42), run(490, 600)]);
    let expected = [35, 36, 37, 38, 39, 41, 42].into_iter().chain(491..=499);
    assert_eq!((seqs, lost), (expected.collect(), vec![]));
    assert_eq!(spill.stored(&disk, QUEUE, Seq(8), Seq(12)), [run(8, 9), run(11, 12)]);
    assert_eq!(stored(&spill, &disk).len(), 50);
    let few = spill.read(&disk, QUEUE, &[run(8, 30)], 5, u64::MAX).unwrap();
    assert_eq!((few.loaded.messages.len(), few.rest), (5, vec![run(10, 10)]));
    assert!(spill.read(&disk, QueueId(3), &[ALL], 5, u64::MAX).is_none());
    spill.close(&disk);
    assert!(disk.list().unwrap().is_empty() && spill.is_empty());
}

#[test]
fn bodies_of_any_size_come_back() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    let lens = [0, 1, INLINE_BODY_MAX, INLINE_BODY_MAX + 1, 3 << 20];
    let bodies: Vec<_> = lens.iter().map(|len| vec![*len as u8; *len]).collect();
    let all = (1..).map(Seq).zip(bodies.iter().map(|body| message(body)));
    let all: Vec<_> = all.map(|(seq, message)| OnDisk::new(seq, message)).collect();
    spill.write(&disk, QUEUE, &all).unwrap();
    let read = spill.read(&disk, QUEUE, &[run(1, 5)], usize::MAX, u64::MAX).unwrap();
    assert!(read.loaded.lost.is_empty() && read.rest.is_empty());
    let read = read.loaded.messages.into_iter().map(|it| it.message.body_to_vec());
    assert!(read.eq(bodies));
}

#[test]
fn a_flipped_bit_or_a_torn_end_costs_the_messages_that_it_hits() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, 1..=10);
    let whole = disk.contents("spill-1").unwrap();
    let one = whole.len() / 10;
    for at in 0..10 {
        let mut bytes = whole.clone();
        bytes[at * one + one / 2] ^= 1;
        disk.overwrite("spill-1", bytes);
        let (seqs, lost) = read(&spill, &disk, &[run(1, 10)]);
        assert_eq!((seqs.len(), lost), (9, vec![at as u64 + 1]));
    }
    disk.overwrite("spill-1", whole[..whole.len() - one - 3].to_vec());
    assert_eq!(read(&spill, &disk, &[run(1, 10)]), ((1..=8).collect(), vec![9, 10]));
    disk.remove("spill-1").unwrap();
    assert_eq!(read(&spill, &disk, &[run(9, 10)]), (vec![], vec![9, 10]));
}

#[test]
fn a_rotten_index_costs_its_file_and_no_other() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, 1..=200);
    let mut bytes = disk.contents("spill-2.idx").unwrap();
    bytes[3] ^= 1;
    disk.overwrite("spill-2.idx", bytes);
    let (seqs, lost) = read(&spill, &disk, &[run(1, 200)]);
    assert!(lost.is_empty() && (100..200).contains(&seqs.len()), "{}", seqs.len());
    let [first, second] = stored(&spill, &disk)[..] else { panic!("one file is missing") };
    let gap: Vec<_> = (first.1.0 + 1..second.0.0).collect();
    assert_eq!(gap.len() + seqs.len(), 200);
    // Who wants one of them is told.
    let spilled = spill.read(&disk, QUEUE, &[run(gap[0], gap[1])], 9, u64::MAX).unwrap();
    assert_eq!(spilled.rest, [run(gap[0], gap[1])]);
    // Nothing of the file is wanted any more.
    spill.reclaim(&disk, &|_| vec![ALL]).unwrap();
    assert!(!disk.list().unwrap().contains(&"spill-2".to_owned()));
}

#[test]
fn files_go_when_nothing_in_them_is_wanted() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, 1..=200);
    let all = disk.list().unwrap().len();
    spill.reclaim(&disk, &|_| vec![ALL]).unwrap();
    assert_eq!(disk.list().unwrap().len(), all);
    spill.reclaim(&disk, &|_| vec![run(101, 200)]).unwrap();
    let half = disk.list().unwrap().len();
    assert!(half < all - all / 3, "{half} of {all}");
    assert_eq!(read(&spill, &disk, &[run(101, 200)]).0.len(), 100);
    spill.reclaim(&disk, &|_| vec![]).unwrap();
    assert!(disk.list().unwrap().is_empty() && spill.is_empty());
    // The file that was written to is gone too; the next has a number of its own.
    write(&spill, &disk, [201]);
    assert_eq!(read(&spill, &disk, &[run(1, 300)]), (vec![201], vec![]));
}

#[test]
fn few_that_are_wanted_move_together() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, 1..=1_000);
    spill.write(&disk, QueueId(2), &messages([1])).unwrap();
    let wanted = |queue: QueueId| {
        let few = (1..=1_000).filter(|seq| seq % 20 == 0).map(|seq| run(seq, seq));
        if queue == QUEUE { few.collect() } else { vec![] }
    };
    let all = disk.list().unwrap().len();
    spill.reclaim(&disk, &wanted).unwrap();
    let left = disk.list().unwrap().len();
    assert!(left < all / 4, "{left} of {all}");
    let (seqs, lost) = read(&spill, &disk, &wanted(QUEUE));
    assert_eq!((seqs.len(), lost), (50, vec![]));
    // What was moved stays where it is.
    spill.reclaim(&disk, &wanted).unwrap();
    assert_eq!(disk.list().unwrap().len(), left);
}

#[test]
fn what_cannot_be_read_is_not_moved_and_its_neighbours_stay() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    write(&spill, &disk, 1..=200);
    let mut bytes = disk.contents("spill-1").unwrap();
    bytes[20] ^= 1;
    disk.overwrite("spill-1", bytes);
    for _ in 0..2 {
        spill.reclaim(&disk, &|_| vec![run(1, 2)]).unwrap();
        assert_eq!(disk.list().unwrap(), ["spill-1", "spill-1.idx"]);
    }
    assert_eq!(read(&spill, &disk, &[run(1, 2)]), (vec![2], vec![1]));
}

#[test]
fn a_full_disk_takes_nothing_and_is_tried_again() {
    let (disk, spill) = (MemoryDisk::new(), spill());
    for (full, is_full) in [(Some("spill"), true), (None, false), (Some("idx"), false)] {
        disk.fill_up_for(full);
        let written = spill.write(&disk, QUEUE, &messages(1..=100));
        assert_eq!(written.is_err(), is_full);
    }
    // Without room for an index it stays in memory.
    assert_eq!(read(&spill, &disk, &[run(1, 100)]).0.len(), 100);
    disk.fill_up_for(None);
    disk.limit_room(10_100);
    let refusal = spill.write(&disk, QUEUE, &messages(101..=200)).unwrap_err().to_string();
    let why = "the disk is nearly full, and the journal needs what is left";
    assert!(refusal.ends_with(why), "{refusal}");
    assert_eq!(stored(&spill, &disk), [run(1, 100)]);
}

#[test]
fn a_write_that_fails_in_the_middle_leaves_nothing_behind() {
    let disk = MemoryDisk::new();
    let spill = Spill::new(SpillOptions { reserve_bytes: 0, ..spill().options });
    write(&spill, &disk, 1..=3);
    disk.fill_up_for(Some("spill-1"));
    assert!(spill.write(&disk, QUEUE, &messages(4..=6)).is_err());
    disk.fill_up_for(None);
    write(&spill, &disk, 5..=9);
    assert_eq!(stored(&spill, &disk), [run(1, 3), run(5, 9)]);
    assert_eq!(read(&spill, &disk, &[ALL]), ([1, 2, 3, 5, 6, 7, 8, 9].into(), vec![]));
}

fn opened(disk: &MemoryDisk) -> Store {
    open(disk, &Options::new(Durability::Fsync, 1)).unwrap().0
}

#[test]
fn one_load_brings_back_what_was_spilled_and_what_is_in_the_journal() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let mut records = RecordBatch::new();
    records.definition(&vhost("/"));
    records.definition(&queue(1, "/"));
    for seq in (1..=30).filter(|seq| seq % 3 == 0) {
        records.enqueue(&message(&body(seq)), &[to(1, seq)]);
    }
    store.journal().append(&mut records);
    store.journal().round(&disk).unwrap();
    store.index_new(&disk).unwrap();
    let transient = (1..=30).filter(|seq| seq % 3 > 0 && *seq != 20);
    store.spill(&disk, QUEUE, &messages(transient)).unwrap();
    assert_eq!(store.stored(&disk, QUEUE, Seq(1), Seq(30)).unwrap(), [run(1, 19), run(21, 30)]);
    let loaded = store.load(&disk, QUEUE, &[run(2, 30)], usize::MAX, u64::MAX).unwrap();
    let mut seqs: Vec<_> = loaded.messages.iter().map(|it| it.seq.0).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (2..=30).filter(|seq| *seq != 20).collect::<Vec<_>>());
    assert_eq!(loaded.lost, [Seq(20)], "no file has it");
}

#[test]
fn a_start_removes_what_an_earlier_run_left_and_a_check_only_mentions_it() {
    let disk = MemoryDisk::new();
    let store = opened(&disk);
    let mut records = RecordBatch::new();
    records.definition(&vhost("/"));
    store.journal().append(&mut records);
    store.journal().round(&disk).unwrap();
    store.spill(&disk, QUEUE, &messages(1..=10)).unwrap();
    drop(store);
    disk.overwrite("spill-9.idx", vec![1]);
    let report = check(&disk, 4).unwrap();
    let spilled: Vec<_> =
        report.findings.iter().filter(|it| it.file.starts_with("spill")).collect();
    assert_eq!(spilled.len(), 2, "{:?}", report.findings);
    assert!(spilled.iter().all(|it| it.severity == Severity::Note));
    let before = opened(&disk);
    assert!(disk.list().unwrap().iter().all(|file| !file.starts_with("spill")));
    assert!(!before.has_spilled());
}
