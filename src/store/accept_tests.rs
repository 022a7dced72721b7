//! Each damage at which a start is refused, given up: what is left, and what is said of it.

use super::gap_tests::{
    Fill, USUAL, frames, held, hit, hit_header, hit_payload, options, pass_checkpoint, publish,
    round, seqs, start, written,
};
use super::samples::{Opened, message, to, vhost};
use super::segment::{SEGMENT_HEADER_LEN, file_name, index_name};
use super::{Disk, MemoryDisk, accept_loss, check, open};
use crate::id::{QueueId, SegmentNo};
use crate::limits::GAPS_MAX;

/// A start is refused for this reason; what cannot be read is given up, and then all is sound.
fn accepted(disk: &MemoryDisk, why: &str) -> (Vec<String>, Opened) {
    let refusal = open(&disk.copy(), &options()).unwrap_err().to_string();
    assert!(refusal.contains(why), "{refusal}");
    let done = accept_loss(disk, &options()).unwrap();
    assert!(!done.given_up.is_empty());
    assert!(!done.report.is_damaged(), "{:#?}", done.report);
    let report = check(disk, options().page_len).unwrap();
    assert!(!report.is_damaged(), "{report:#?}");
    let again = accept_loss(&disk.copy(), &options()).unwrap();
    assert_eq!(again.given_up, [""; 0], "there is no more");
    drop(start(disk));
    (done.given_up, start(disk))
}

const WAY_OUT: &str = "give up what is lost with `leveret check ";

#[test]
fn a_gap_with_a_definition_or_a_delayed_message_is_given_up_alone() {
    let define: Fill = |batch| batch.definition(&vhost("other"));
    let delay: Fill = |batch| batch.enqueue(&message(b"later"), &[to(QueueId::timed(8).0, 77)]);
    let whole = written(&[USUAL[0], define, USUAL[1], delay, USUAL[2]]);
    for (nth, what) in [(2, "definitions"), (4, "delayed messages of exchange 'queue-8'")] {
        let disk = hit_payload(&whole, nth);
        let file = file_name(SegmentNo(2));
        let before = disk.contents(&file);
        let (given_up, found) = accepted(&disk, WAY_OUT);
        assert_eq!(given_up.len(), 1, "{given_up:?}");
        assert!(given_up[0].starts_with(&file) && given_up[0].contains(what), "{given_up:?}");
        assert!(given_up[0].ends_with("the file as it was is segment-0000000002.broken-1"));
        assert_eq!(disk.contents("segment-0000000002.broken-1"), before);
        assert_eq!(held(&found), [0; 0]);
        for queue in 1..=3 {
            assert_eq!(seqs(&found, queue), [1, 2, 3, 4], "{what}");
        }
    }
}

#[test]
fn what_nobody_can_name_and_more_places_than_a_start_bears_are_given_up() {
    let define: Fill = |batch| batch.definition(&vhost("other"));
    let disk = hit_header(&written(&[USUAL[0], define, USUAL[1], USUAL[2]]), 3);
    let (_, found) = accepted(&disk, WAY_OUT);
    assert_eq!((seqs(&found, 2).len(), seqs(&found, 3).len()), (0, 4));

    let fills: Vec<Fill> = vec![|batch| publish(batch, 1, 1); 2 * GAPS_MAX + 4];
    let disk = written(&fills);
    let places = frames(&disk, 2);
    let nth = (0..=GAPS_MAX).map(|nth| places[2 * nth + 1].1 - 1);
    let disk = nth.fold(disk.copy(), |disk, at| hit(&disk, 2, at));
    assert!(open(&disk.copy(), &options()).is_err());
    let done = accept_loss(&disk, &options()).unwrap();
    assert_eq!(done.given_up.len(), 1, "the others hold the queue");
    assert_eq!((held(&start(&disk)), seqs(&start(&disk), 1)), (vec![1], vec![1]));
}

#[test]
fn a_segment_that_is_not_there_takes_only_its_own_along() {
    let disk = written(&USUAL);
    let (store, _) = open(&disk, &options()).unwrap();
    round(&store, &disk, |batch| publish(batch, 3, 9));
    store.journal().seal(&disk).unwrap();
    drop(store);
    let whole = disk.copy();
    disk.remove(&file_name(SegmentNo(2))).unwrap();
    let (given_up, found) = accepted(&disk, WAY_OUT);
    assert!(given_up[0].starts_with("segment-0000000002 is not there: records "), "{given_up:?}");
    assert_eq!((seqs(&found, 1).len(), seqs(&found, 3)), (0, vec![9]));

    // The same if nobody can say what the file is.
    let file = file_name(SegmentNo(2));
    let mut bytes = whole.contents(&file).unwrap();
    bytes[..SEGMENT_HEADER_LEN].fill(0x55);
    whole.overwrite(&file, bytes);
    let (given_up, found) = accepted(&whole, "this is not a segment of a journal");
    assert!(given_up[0].ends_with("it is segment-0000000002.broken-1 now"), "{given_up:?}");
    assert_eq!(seqs(&found, 3), [9]);
}

#[test]
fn an_old_segment_that_is_gone_or_damaged_costs_its_messages() {
    let disk = written(&USUAL);
    pass_checkpoint(&disk);
    let (store, _) = open(&disk, &options()).unwrap();
    round(&store, &disk, |batch| publish(batch, 3, 9));
    store.journal().seal(&disk).unwrap();
    drop(store);
    let (file, index) = (file_name(SegmentNo(2)), index_name(SegmentNo(2)));
    let damaged = hit_payload(&disk, 1);
    damaged.remove(&index).unwrap();
    let (given_up, found) = accepted(&damaged, "is damaged at byte ");
    assert!(given_up[0].contains("the messages up to byte "), "{given_up:?}");
    assert_eq!((seqs(&found, 1), seqs(&found, 3)), (vec![5], vec![1, 3, 4, 9]));

    disk.remove(&file).unwrap();
    let (given_up, found) = accepted(&disk, WAY_OUT);
    assert!(given_up[0].contains("not settled are lost"), "{given_up:?}");
    assert_eq!((seqs(&found, 1).len(), seqs(&found, 3)), (0, vec![9]));
}

#[test]
fn an_end_that_is_gone_is_cut() {
    let disk = written(&USUAL);
    pass_checkpoint(&disk);
    let last = disk.list().unwrap().into_iter().rfind(|file| !file.ends_with(".idx"));
    let segments = disk.list().unwrap().into_iter().filter(|file| file.starts_with("segment-"));
    let newest = segments.filter(|file| !file.ends_with(".idx")).max();
    assert!(last.is_some());
    disk.remove(&newest.unwrap()).unwrap();
    let (given_up, found) = accepted(&disk, WAY_OUT);
    assert!(given_up[0].contains("is not there: records "), "{given_up:?}");
    assert_eq!([1, 2, 3].map(|id| seqs(&found, id).len()), [5, 4, 3]);
}

#[test]
fn nothing_is_given_up_of_a_journal_that_has_lost_its_definitions() {
    let disk = written(&USUAL);
    disk.lose_catalogue();
    disk.remove(&file_name(SegmentNo(1))).unwrap();
    let before = disk.list().unwrap();
    let refusal = accept_loss(&disk, &options()).unwrap_err().to_string();
    assert!(refusal.contains("segment-0000000001: it is not there"), "{refusal}");
    assert_eq!(disk.list().unwrap(), before);
}
