//! Damage in what a start replays: whom it holds, what goes on, and what is refused as ever.

use super::frame::FRAME_HEADER_LEN;
use super::samples::{Opened, backlog, message, queue, run, to, vhost};
use super::scan::{self, Scan};
use super::segment::{SEGMENT_HEADER_LEN, file_name, index_name};
use super::{
    Definition, Disk, Durability, Gap, MemoryDisk, Options, RecordBatch, Recovered, Severity,
    Source, Standing, Store, check, open, repair,
};
use crate::deduplication::{Key, KeyEntry};
use crate::id::{CacheId, Lsn, QueueId, SegmentNo, Seq};
use crate::limits::GAPS_MAX;
use crate::store::Repair;
use crate::table::Table;
use crate::time::UnixMillis;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

pub(super) type Fill = fn(&mut RecordBatch);

/// Queues that the tests have.
const QUEUES: u64 = 5;

pub(super) fn options() -> Options {
    Options { page_len: 4, frame_bytes: 256, ..Options::new(Durability::Fsync, 7) }
}

pub(super) fn round(store: &Store, disk: &dyn Disk, fill: impl FnOnce(&mut RecordBatch)) {
    let mut batch = RecordBatch::new();
    fill(&mut batch);
    store.journal().append(&mut batch);
    store.journal().round(disk).unwrap();
}

/// Definitions in segment 1 and, in segment 2, a frame of each fill behind that which says that
/// the broker began; then a crash, with all of it safe.
pub(super) fn written(fills: &[Fill]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (store, _) = open(&disk, &options()).unwrap();
    round(&store, &disk, |batch| {
        batch.definition(&vhost("/"));
        (1..=QUEUES).for_each(|id| batch.definition(&queue(id, "/")));
        batch.definition(&Definition::ExchangeDeclared {
            vhost: "/".to_owned(),
            name: "remembers".to_owned(),
            kind: "topic".to_owned(),
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
            cache: Some(CacheId(9)),
        });
        let id = QueueId::timed(8);
        let Definition::QueueDeclared { vhost, name, auto_delete, arguments, .. } = queue(8, "/")
        else {
            unreachable!("it is one")
        };
        batch.definition(&Definition::QueueDeclared { id, vhost, name, auto_delete, arguments });
    });
    store.journal().close_clean(&disk).unwrap();
    let (store, _) = open(&disk, &options()).unwrap();
    fills.iter().for_each(|fill| round(&store, &disk, fill));
    store.journal().seal(&disk).unwrap();
    disk
}

/// Where the frames of a segment begin and end.
pub(super) fn frames(disk: &dyn Disk, segment: u64) -> Vec<(u64, u64)> {
    let file = file_name(SegmentNo(segment));
    let header = scan::header(disk, &file).unwrap().unwrap();
    let mut scan = Scan::new(disk, file, header, u64::MAX).unwrap();
    let (mut offset, mut last) = (SEGMENT_HEADER_LEN as u64, Lsn(header.first_lsn.0 - 1));
    let mut frames = Vec::new();
    while let Ok(frame) = scan.frame(offset, last).unwrap() {
        (offset, last) = (frame.end(), Lsn(last.0 + u64::from(frame.header.records)));
        frames.push((frame.offset, frame.end()));
    }
    frames
}

/// A copy with one byte changed.
pub(super) fn hit(disk: &MemoryDisk, segment: u64, at: u64) -> MemoryDisk {
    let other = disk.copy();
    let file = file_name(SegmentNo(segment));
    let mut bytes = disk.contents(&file).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 0x10;
    other.overwrite(&file, bytes);
    other
}

/// One whose frame of segment 2 has a damaged payload: the first is what the broker began with.
pub(super) fn hit_payload(disk: &MemoryDisk, nth: usize) -> MemoryDisk {
    hit(disk, 2, frames(disk, 2)[nth].1 - 1)
}

pub(super) fn hit_header(disk: &MemoryDisk, nth: usize) -> MemoryDisk {
    hit(disk, 2, frames(disk, 2)[nth].0 + 20)
}

pub(super) fn start(disk: &dyn Disk) -> Opened {
    super::samples::opened_with(disk, &options())
}

pub(super) fn held(opened: &Opened) -> Vec<u64> {
    let ids: BTreeSet<_> = opened.definitions.held().map(|(id, ..)| id.0).collect();
    ids.into_iter().collect()
}

pub(super) fn seqs(opened: &Opened, queue: u64) -> Vec<u64> {
    backlog(opened, queue).iter().map(|entry| entry.0).collect()
}

#[track_caller]
fn assert_refused(disk: &MemoryDisk) {
    let before = disk.contents(&file_name(SegmentNo(2)));
    let refusal = open(disk, &options()).unwrap_err().to_string();
    assert!(refusal.contains("segment-0000000002 is damaged at byte "), "{refusal}");
    let way_out = "were safely stored and cannot be read from here on. Nothing was changed: \
                   restore the file from a copy";
    assert!(refusal.contains(way_out), "{refusal}");
    assert_eq!(disk.contents(&file_name(SegmentNo(2))), before);
}

pub(super) fn publish(batch: &mut RecordBatch, queue: u64, seq: u64) {
    batch.enqueue(&message(b"body"), &[to(queue, seq)]);
}

/// A frame of each of three queues, and one of two of them; then acks.
pub(super) const USUAL: [Fill; 5] = [
    |batch| (1..=4).for_each(|seq| publish(batch, 1, seq)),
    |batch| (1..=4).for_each(|seq| publish(batch, 2, seq)),
    |batch| (1..=4).for_each(|seq| publish(batch, 3, seq)),
    |batch| batch.enqueue(&message(b"both"), &[to(1, 5), to(2, 5)]),
    |batch| {
        batch.ack(QueueId(2), [run(1, 1)]);
        batch.ack(QueueId(3), [run(2, 2)]);
    },
];

#[test]
fn a_damaged_frame_holds_the_queues_that_its_records_name_and_no_other() {
    let disk = written(&USUAL);
    let all = [vec![1, 2, 3, 4, 5], vec![2, 3, 4, 5], vec![1, 3, 4]];
    let whole = start(&disk.copy());
    assert_eq!([1, 2, 3].map(|id| seqs(&whole, id)), all);
    let expected: [(&[u64], [&[u64]; 3]); 5] = [
        (&[1], [&[5], &all[1], &all[2]]),
        (&[2], [&all[0], &[5], &all[2]]),
        (&[3], [&all[0], &all[1], &[]]),
        (&[1, 2], [&[1, 2, 3, 4], &[2, 3, 4], &all[2]]),
        (&[2, 3], [&all[0], &[1, 2, 3, 4, 5], &[1, 2, 3, 4]]),
    ];
    for (nth, (touched, left)) in expected.into_iter().enumerate() {
        let disk = hit_payload(&disk, nth + 1);
        let found = start(&disk);
        assert_eq!(held(&found), touched, "frame {nth}");
        assert_eq!([1, 2, 3].map(|id| seqs(&found, id)), left, "frame {nth}");
        assert!((1..=3).all(|id| backlog(&found, id).iter().all(|entry| entry.2)));
        assert_eq!(found.last_lsn, whole.last_lsn);
        // The gap is found again, and nothing else.
        let again = start(&disk);
        assert_eq!(held(&again), touched, "frame {nth}");
        assert_eq!([1, 2, 3].map(|id| seqs(&again, id)), left, "frame {nth}");
    }
}

#[test]
fn a_damaged_header_holds_what_was_touched_near_before_the_next_frame() {
    let disk = written(&USUAL);
    let of = |nth| held(&start(&hit_header(&disk, nth)));
    assert_eq!(of(1), [1], "of the first frames the next header says little more");
    assert_eq!(of(2), [1, 2]);
    assert_eq!(of(3), [1, 2, 3]);
    let two = hit_header(&hit_payload(&disk, 3), 1);
    assert_eq!(held(&start(&two)), [1, 3], "two gaps");
    assert_eq!(two.len("segment-0000000002").unwrap(), disk.len("segment-0000000002").unwrap());
}

#[test]
fn seqs_that_were_given_in_a_gap_are_not_given_again() {
    let disk = written(&USUAL);
    let next = |disk: &MemoryDisk| start(disk).queues[&QueueId(3)].next_seq;
    assert_eq!(next(&disk.copy()), Seq(5));
    let hit = hit_payload(&disk, 3);
    assert!(next(&hit) >= Seq(5), "{}", next(&hit));
    // So the file may come back, whatever was written meanwhile.
    let first = start(&hit).queues[&QueueId(3)].next_seq.0;
    let (store, _) = open(&hit, &options()).unwrap();
    round(&store, &hit, |batch| publish(batch, 3, first));
    let file = file_name(SegmentNo(2));
    hit.overwrite(&file, disk.contents(&file).unwrap());
    let mended = start(&hit);
    assert_eq!((held(&mended), seqs(&mended, 3)), (vec![], vec![1, 3, 4, first]));
}

#[test]
fn what_names_nobody_holds_nobody_and_all_counts_as_delivered() {
    let disk = written(&USUAL);
    let (store, recovered) = open(&disk, &options()).unwrap();
    round(&store, &disk, |batch| publish(batch, 1, 6));
    store.journal().close_clean(&disk).unwrap();
    drop(recovered);
    let new = |opened: &Opened| backlog(opened, 1).iter().filter(|entry| !entry.2).count();
    assert_eq!(new(&start(&disk.copy())), 1);
    let began = frames(&disk, 3)[0];
    // Header or payload: that a broker began here is not known any more.
    for at in [began.0 + 30, began.1 - 1] {
        let found = start(&hit(&disk, 3, at));
        assert_eq!((held(&found).len(), new(&found)), (0, 0));
        assert_eq!(seqs(&found, 1), [1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn a_damaged_seal_loses_nothing() {
    let disk = written(&USUAL);
    let (store, _) = open(&disk, &options()).unwrap();
    store.journal().seal(&disk).unwrap();
    round(&store, &disk, |batch| publish(batch, 1, 6));
    store.journal().seal(&disk).unwrap();
    let seal = frames(&disk, 3)[1];
    assert_eq!(seal.1 - seal.0, FRAME_HEADER_LEN as u64, "it has no records");
    let found = start(&hit(&disk, 3, seal.0 + 30));
    assert_eq!((held(&found).len(), seqs(&found, 1)), (0, vec![1, 2, 3, 4, 5, 6]));
}

#[test]
fn what_cannot_be_held_is_refused_as_ever() {
    let define: Fill = |batch| batch.definition(&vhost("other"));
    let delay: Fill = |batch| batch.enqueue(&message(b"later"), &[to(QueueId::timed(8).0, 77)]);
    let disk = written(&[USUAL[0], define, USUAL[1], delay, USUAL[2]]);
    assert_refused(&hit_payload(&disk, 2));
    assert_refused(&hit_payload(&disk, 4));
    // Near one of those nobody can say.
    assert_refused(&hit_header(&disk, 3));
    assert_eq!(held(&start(&hit_header(&disk, 1))), [1]);
    assert_eq!(held(&start(&hit_payload(&disk, 3))), [2]);
    // Nothing that can be read is behind it.
    let last = frames(&disk, 2)[5];
    let file = file_name(SegmentNo(2));
    let other = hit(&disk, 2, last.1 - 1);
    let mut bytes = other.contents(&file).unwrap();
    bytes.truncate(usize::try_from(last.1 + 30).unwrap());
    other.overwrite(&file, bytes);
    let found = start(&other);
    assert_eq!((seqs(&found, 3).len(), found.torn.is_some()), (0, true), "never known to be safe");
    let disk = written(&[USUAL[0], USUAL[1]]);
    let seal = *frames(&disk, 2).last().unwrap();
    let stated = hit(&disk, 2, frames(&disk, 2)[2].0 + 40);
    assert_eq!(held(&start(&stated)), [1, 2], "a seal is enough to go on with");
    assert_eq!(seal.1 - seal.0, FRAME_HEADER_LEN as u64);
}

#[test]
fn more_gaps_than_a_start_bears_are_refused() {
    let fills: Vec<Fill> = vec![|batch| publish(batch, 1, 1); 2 * GAPS_MAX + 4];
    let disk = written(&fills);
    let places = frames(&disk, 2);
    let hit_every_other = |count: usize| {
        let nth = (0..count).map(|nth| places[2 * nth + 1].1 - 1);
        nth.fold(disk.copy(), |disk, at| hit(&disk, 2, at))
    };
    assert_eq!(held(&start(&hit_every_other(GAPS_MAX))), [1]);
    assert_refused(&hit_every_other(GAPS_MAX + 1));
}

#[test]
fn a_long_record_is_lost_as_a_whole() {
    let long: Fill = |batch| batch.enqueue(&message(&[7; 1000]), &[to(4, 1)]);
    let disk = written(&[USUAL[0], long, USUAL[1]]);
    let parts = frames(&disk, 2);
    assert!(parts.len() > 6, "{parts:?}");
    for part in &parts[2..parts.len() - 2] {
        for at in [part.0 + 20, part.1 - 1] {
            let found = start(&hit(&disk, 2, at));
            assert!(held(&found).contains(&4) && !held(&found).contains(&2), "{at}");
            assert!(seqs(&found, 4).is_empty() && seqs(&found, 2).len() == 4, "{at}");
        }
    }
}

#[test]
fn a_gap_may_reach_the_end_of_a_segment() {
    let disk = written(&USUAL);
    drop(open(&disk, &options()).unwrap());
    let frames = frames(&disk, 2);
    // The last records and the seal behind them.
    let last = frames[frames.len() - 2];
    let other = hit(&hit(&disk, 2, last.0 + 20), 2, last.1 + 20);
    let found = start(&other);
    assert_eq!(held(&found), [1, 2, 3], "the next segment says what was touched near its end");
    assert_eq!(seqs(&found, 3), [1, 2, 3, 4]);
    assert_eq!(held(&start(&other)), [1, 2, 3]);
    // Cut short, it is the same.
    let file = file_name(SegmentNo(2));
    let mut bytes = disk.contents(&file).unwrap();
    bytes.truncate(usize::try_from(last.0 + 10).unwrap());
    disk.overwrite(&file, bytes);
    assert_eq!(held(&start(&disk)), [1, 2, 3]);
}

/// A start, a checkpoint and a crash.
pub(super) fn pass_checkpoint(disk: &MemoryDisk) {
    let (store, recovered) = open(disk, &options()).unwrap();
    store.checkpoint_now(disk, &recovered).unwrap();
}

#[test]
fn a_hold_outlives_the_checkpoint_behind_which_nothing_is_replayed() {
    let disk = hit_payload(&written(&USUAL), 1);
    pass_checkpoint(&disk);
    for without in ["", "catalogue", "snapshot"] {
        let disk = disk.copy();
        match without {
            "catalogue" => disk.lose_catalogue(),
            "snapshot" => disk.remove(without).unwrap(),
            _ => {}
        }
        // Behind the gap all can be read, with the index or without.
        for index in ["there", "gone"] {
            let found = start(&disk);
            assert_eq!((held(&found), seqs(&found, 1)), (vec![1], vec![5]), "{without} {index}");
            assert_eq!(seqs(&found, 3), [1, 3, 4], "{without} {index}");
            let index = index_name(SegmentNo(2));
            if disk.list().unwrap().contains(&index) {
                disk.remove(&index).unwrap();
            }
        }
    }
}

/// A broker whose queues stay held for as long as it is told.
struct Holding<'a>(&'a Recovered, bool);

impl Source for Holding<'_> {
    fn pass_gate(&self) {}

    fn definitions(&self, each: &mut dyn FnMut(Definition)) {
        self.0.definitions(each);
    }

    fn standings(&self, all: bool, each: &mut dyn FnMut(QueueId, Standing)) {
        self.0.standings(all, each);
    }

    fn live_bytes(&self) -> u64 {
        self.0.live_bytes()
    }

    fn next_queue_id(&self) -> QueueId {
        Source::next_queue_id(self.0)
    }

    fn is_held_for(&self, _: &Gap) -> bool {
        self.1
    }
}

/// The disk with segment 2 as another one has it.
fn restored(disk: &MemoryDisk, from: &MemoryDisk) -> Opened {
    let (disk, file) = (disk.copy(), file_name(SegmentNo(2)));
    disk.overwrite(&file, from.contents(&file).unwrap());
    start(&disk)
}

#[test]
fn a_file_may_be_restored_until_the_journal_has_grown_by_a_bound() {
    let whole = written(&USUAL);
    let disk = hit_payload(&whole, 1);
    let options = Options { segment_bytes: 4096, ..options() };
    let (store, recovered) = open(&disk, &options).unwrap();
    let gap: Gap = *recovered.definitions.holds(QueueId(1)).next().unwrap();
    let holding = Holding(&recovered, true);
    let (mut seq, mut rounds) = (1000, 0);
    while !store.checkpoint_now(&disk, &holding).unwrap() {
        assert!(store.is_restorable(&gap));
        let mended = restored(&disk, &whole);
        assert_eq!((held(&mended), seqs(&mended, 1)[..5].to_vec()), (vec![], vec![1, 2, 3, 4, 5]));
        (seq, rounds) = (seq + 1, rounds + 1);
        round(&store, &disk, |batch| batch.enqueue(&message(&[7; 1000]), &[to(4, seq)]));
    }
    assert!(!store.is_restorable(&gap));
    // Eight segments of 4 KiB, with their headers and what was replayed.
    assert!((12..28).contains(&rounds), "{rounds}");
    drop(store);
    let late = restored(&disk, &whole);
    assert_eq!((held(&late), seqs(&late, 1)), (vec![1], vec![5]));
}

#[test]
fn no_checkpoint_waits_for_a_file_once_its_queues_are_released_or_the_disk_is_full() {
    let disk = hit_payload(&written(&USUAL), 1);
    for (is_held, room) in [(false, None), (true, Some(1 << 20))] {
        let disk = disk.copy();
        let (store, recovered) = open(&disk, &options()).unwrap();
        assert!(!store.checkpoint_now(&disk, &Holding(&recovered, true)).unwrap());
        if let Some(room) = room {
            disk.limit_room(room);
        }
        assert!(store.checkpoint_now(&disk, &Holding(&recovered, is_held)).unwrap());
    }
}

#[test]
fn a_released_queue_stays_so_until_something_else_is_damaged() {
    let disk = hit_payload(&written(&USUAL), 1);
    let (store, recovered) = open(&disk, &options()).unwrap();
    let gap: Gap = *recovered.definitions.holds(QueueId(1)).next().unwrap();
    round(&store, &disk, |batch| {
        batch.definition(&Definition::QueueReleased { id: QueueId(1), gap });
    });
    store.journal().seal(&disk).unwrap();
    drop(store);
    assert_eq!(held(&start(&disk.copy())), [0; 0]);
    assert_eq!(held(&start(&hit_payload_at(&disk, gap.end, 3))), [1, 2]);
    pass_checkpoint(&disk);
    let found = start(&disk);
    assert_eq!((held(&found), seqs(&found, 1)), (vec![], vec![5]));
}

/// Damages the payload of the `nth` frame from `offset` on.
fn hit_payload_at(disk: &MemoryDisk, offset: u64, nth: usize) -> MemoryDisk {
    let file = file_name(SegmentNo(2));
    let header = scan::header(disk, &file).unwrap().unwrap();
    let mut scan = Scan::new(disk, file, header, u64::MAX).unwrap();
    let (mut at, mut end) = (offset, offset);
    for _ in 0..nth {
        let (found, header) = scan.next_header(at, Lsn(0)).unwrap().unwrap();
        end = found + FRAME_HEADER_LEN as u64 + u64::from(header.payload_len);
        at = end;
    }
    hit(disk, 2, end - 1)
}

#[test]
fn a_deleted_queue_takes_its_hold_along() {
    let disk = hit_payload(&written(&USUAL), 4);
    let (store, _) = open(&disk, &options()).unwrap();
    round(&store, &disk, |batch| batch.definition(&Definition::QueueDeleted { id: QueueId(1) }));
    drop(store);
    assert_eq!(held(&start(&disk)), [2]);
    pass_checkpoint(&disk);
    assert_eq!(held(&start(&disk)), [2]);
}

#[test]
fn a_segment_with_a_gap_goes_when_nothing_in_it_lives() {
    let disk = hit_payload(&written(&USUAL), 1);
    let (store, mut recovered) = open(&disk, &options()).unwrap();
    store.checkpoint_now(&disk, &recovered).unwrap();
    let file = file_name(SegmentNo(2));
    assert!(disk.list().unwrap().contains(&file));
    for queue in recovered.queues.values_mut() {
        (queue.pages, queue.changed) = (Vec::new(), true);
    }
    round(&store, &disk, |batch| {
        (1..=3).for_each(|id| batch.ack(QueueId(id), [run(1, 99)]));
    });
    for _ in 0..3 {
        store.checkpoint_now(&disk, &recovered).unwrap();
        while store.reclaim(&disk, &recovered, true).unwrap() {}
        round(&store, &disk, |batch| batch.ack(QueueId(1), [run(1, 1)]));
    }
    drop(store);
    assert!(!disk.list().unwrap().contains(&file), "{:?}", disk.list());
    let found = start(&disk);
    assert_eq!((held(&found), seqs(&found, 3).len()), (vec![1], 0));
}

#[test]
fn an_exchange_that_may_have_forgotten_keys_is_named() {
    let disk = written(&[
        |batch| {
            batch.begin_transaction();
            publish(batch, 1, 1);
            let (key, due) = (Key([3; 16]), UnixMillis::NEVER);
            batch.key(CacheId(9), &KeyEntry { number: 1, key, due });
            batch.end_transaction();
        },
        USUAL[1],
    ]);
    let disk = hit_payload(&disk, 1);
    let report = check(&disk, options().page_len).unwrap();
    let finds = |words: &str| report.findings.iter().any(|it| it.what.contains(words));
    assert!(finds("exchange 'remembers' in vhost '/' may have forgotten keys"), "{report:#?}");
    assert_eq!(held(&start(&disk)), [1]);
}

#[test]
fn a_check_names_the_gap_and_the_held_and_a_repair_keeps_them() {
    let disk = hit_payload(&written(&USUAL), 4);
    let report = check(&disk, options().page_len).unwrap();
    let at = frames(&written(&USUAL), 2)[4].0;
    let lines: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let place = format!("held: segment-0000000002 at byte {at}: ");
    let mut held_lines = lines.iter().filter_map(|line| line.strip_prefix(&place));
    let gap = "the checksum of a frame's payload differs; record";
    assert!(held_lines.next().is_some_and(|line| line.starts_with(gap)), "{lines:#?}");
    for name in ["queue-1", "queue-2"] {
        let line = format!("queue '{name}' in vhost '/' is held, ");
        assert!(held_lines.next().is_some_and(|it| it.starts_with(&line)), "{lines:#?}");
    }
    assert!(held_lines.next().is_none() && report.is_damaged());
    assert!(report.findings.iter().all(|it| it.severity != Severity::Damage), "{report:#?}");
    let Repair::Done(report) = repair(&disk, &options()).unwrap() else { panic!("it was refused") };
    assert!(report.is_damaged() && report.findings.iter().any(|it| it.what.contains("queue-2")));
    assert_eq!(held(&start(&disk)), [1, 2]);
    let refused = hit_payload(&written(&[USUAL[0], |batch| batch.definition(&vhost("x"))]), 2);
    assert!(matches!(repair(&refused, &options()).unwrap(), Repair::Refused(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn whoever_is_not_held_has_what_it_had(
        rounds in vec((vec(1..=QUEUES, 1..4), 0..3_u8, 1..400_usize), 4..24),
        hits in vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
    ) {
        let disk = written(&[]);
        let (store, _) = open(&disk, &options()).unwrap();
        let mut next = [1; QUEUES as usize + 1];
        for (queues, kind, len) in &rounds {
            round(&store, &disk, |batch| {
                for id in queues {
                    let at = usize::try_from(*id).unwrap();
                    match kind {
                        0 => batch.ack(QueueId(*id), [run(next[at] / 2, next[at] / 2)]),
                        _ => {
                            batch.enqueue(&message(&vec![*kind; *len]), &[to(*id, next[at])]);
                            next[at] += 1;
                        }
                    }
                }
            });
        }
        store.journal().seal(&disk).unwrap();
        drop(store);
        let whole = start(&disk.copy());
        let file = file_name(SegmentNo(3));
        let mut bytes = disk.contents(&file).unwrap();
        for (at, bit) in hits {
            let at = SEGMENT_HEADER_LEN + at.index(bytes.len() - SEGMENT_HEADER_LEN);
            bytes[at] ^= 1 << bit;
        }
        disk.overwrite(&file, bytes);
        if open(&disk.copy(), &options()).is_ok() {
            let found = start(&disk);
            let held = held(&found);
            prop_assume!(found.torn.is_none());
            for id in (1..=QUEUES).filter(|id| !held.contains(id)) {
                prop_assert_eq!(seqs(&found, id), seqs(&whole, id), "queue {} of {:?}", id, &held);
            }
        }
    }
}
