//! The offline check: silent about what is sound, and never silent about what is not. What it says
//! of real files is in `tests/model`.

use super::full_sample::{fill, fill_and_stop, open_text, options};
use super::segment::number_of;
use super::snapshot::FILE as SNAPSHOT;
use super::{Disk, Finding, MemoryDisk, Repair, Report, Severity, check, open, repair};

/// Smaller files are tried byte by byte, larger ones at every so many bytes.
const SMALL: usize = 1000;
const STRIDE: usize = 41;

fn checked(disk: &dyn Disk) -> Report {
    check(disk, options(0).page_len).unwrap()
}

fn sound() -> MemoryDisk {
    let disk = MemoryDisk::new();
    fill_and_stop(&disk);
    disk
}

#[track_caller]
fn assert_finds(report: &Report, severity: Severity, file: &str, words: &str) {
    let finds = |it: &Finding| {
        it.severity == severity && it.file.starts_with(file) && it.what.contains(words)
    };
    assert!(report.findings.iter().any(finds), "{severity:?} {file} {words}: {report:#?}");
}

/// The segments that a disk has, in order.
fn segments(disk: &dyn Disk) -> Vec<String> {
    let files = disk.list().unwrap();
    files.into_iter().filter(|file| number_of(file).is_some()).collect()
}

#[test]
fn a_sound_directory_gives_no_finding_and_is_left_as_it_is() {
    let disk = sound();
    let files = disk.list().unwrap();
    assert!(files.iter().any(|file| file.ends_with(".idx")), "{files:?}");
    let (writes, syncs) = (disk.writes(), disk.syncs());
    let report = checked(&disk);
    assert_eq!(report.findings, []);
    assert_eq!((disk.writes(), disk.syncs()), (writes, syncs));
    let totals = report.totals;
    let text = open_text(&disk);
    let lines = |word| text.lines().filter(|line| line.starts_with(word)).count() as u64;
    assert_eq!((totals.queues, totals.messages), (lines("queue "), lines("message ")));
    assert_eq!(totals.segments, segments(&sound()).len() as u64);
    assert!(totals.records > 60 && totals.bytes > 20_000, "{totals:?}");
    assert_eq!(checked(&MemoryDisk::new()), Report::default());
}

#[test]
fn a_crash_leaves_what_a_start_mends() {
    let disk = MemoryDisk::new();
    drop(fill(&disk));
    let last = segments(&disk).pop().unwrap();
    let mut bytes = disk.contents(&last).unwrap();
    bytes.truncate(bytes.len() - 5);
    disk.overwrite(&last, bytes);
    let report = checked(&disk);
    assert!(!report.is_damaged(), "{report:#?}");
    assert_finds(&report, Severity::Mended, &last, "torn tail");
}

/// Flips a bit of the file: that is found, or a start is none the wiser.
fn flipped(sound: &MemoryDisk, expected: &str, file: &str, at: usize) -> bool {
    let disk = sound.copy();
    let mut bytes = disk.contents(file).unwrap();
    bytes[at] ^= 1 << (at % 8);
    disk.overwrite(file, bytes);
    let is_found = !checked(&disk).findings.is_empty();
    assert!(is_found || open_text(&disk) == expected, "byte {at} of {file} passes");
    is_found
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let sound = sound();
    let expected = open_text(&sound.copy());
    for file in sound.list().unwrap() {
        let len = sound.contents(&file).unwrap().len();
        let stride = if len <= SMALL { 1 } else { STRIDE };
        let tried = (0..len).step_by(stride);
        let found = tried.clone().filter(|at| flipped(&sound, &expected, &file, *at)).count();
        // A segment's header has zeros behind its fields, twice.
        let padding = if number_of(&file).is_some() { 2 * (512 - 56) / stride + 2 } else { 0 };
        assert!(found + padding >= tried.len(), "{file}: {found} of {}", tried.len());
    }
}

#[test]
fn a_rotten_catalogue_is_found_or_harmless() {
    let sound = sound();
    let expected = open_text(&sound.copy());
    let mut found = 0;
    for seed in 0..60 {
        let disk = sound.copy();
        disk.rot_catalogue(seed);
        let report = checked(&disk);
        assert!(!report.is_damaged(), "{report:#?}");
        found += u64::from(!report.findings.is_empty());
        assert_eq!(open_text(&disk), expected, "seed {seed}");
    }
    assert!(found > 30, "{found}");
}

#[test]
fn what_is_gone_is_named() {
    let sound = sound();
    let without = |file: &str| {
        let disk = sound.copy();
        disk.remove(file).unwrap();
        checked(&disk)
    };
    let names = segments(&sound);
    // Nothing names the last segment until a checkpoint is behind it.
    for segment in names.iter().take(names.len() - 1) {
        let report = without(segment);
        assert!(report.is_damaged(), "{segment} is gone: {report:#?}");
    }
    let report = without(SNAPSHOT);
    assert_finds(&report, Severity::Mended, SNAPSHOT, "not there");
    let files = sound.list().unwrap();
    let mut indexes: Vec<_> = files.iter().filter(|file| file.ends_with(".idx")).collect();
    // A checkpoint leaves the newest one to the next start.
    indexes.pop();
    for index in indexes {
        let report = without(index);
        assert_finds(&report, Severity::Mended, index, "not there");
    }
    let disk = sound.copy();
    disk.lose_catalogue();
    assert_finds(&checked(&disk), Severity::Mended, "catalogue", "not there");
    disk.remove(SNAPSHOT).unwrap();
    disk.remove(&segments(&disk)[0]).unwrap();
    assert!(checked(&disk).is_damaged());
}

#[test]
fn a_lost_end_is_known_from_the_catalogue_and_from_the_snapshot() {
    let disk = sound();
    let (store, recovered) = open(&disk, &options(5)).unwrap();
    store.checkpoint_now(&disk, &recovered).unwrap();
    store.journal().close_clean(&disk).unwrap();
    assert_eq!(checked(&disk).findings, []);
    drop(store);
    let last = segments(&disk).pop().unwrap();
    disk.remove(&last).unwrap();
    let disks = [disk.copy(), disk.copy(), disk];
    disks[1].lose_catalogue();
    disks[2].remove(SNAPSHOT).unwrap();
    for disk in &disks {
        assert_finds(&checked(disk), Severity::Damage, &last, "safely stored");
        let files = disk.list().unwrap();
        let refused = open(disk, &options(5)).map(drop).unwrap_err().to_string();
        let expected = "it is not there, though records";
        assert!(refused.starts_with(&format!("cannot read {last}: {expected}")), "{refused}");
        assert_eq!(disk.list().unwrap(), files);
    }
}

/// Writes another version at byte 8 of a block that ends in its checksum.
fn version(block: &mut [u8]) {
    block[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let fields = block.len() - 4;
    let crc = crc32c::crc32c(&block[..fields]);
    block[fields..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn an_unknown_version_of_what_is_derived_is_made_anew() {
    let sound = sound();
    let expected = open_text(&sound.copy());
    let index = sound.list().unwrap().into_iter().find(|file| file.ends_with(".idx")).unwrap();
    let len = |file: &str| sound.contents(file).unwrap().len();
    for (file, block) in [(index.as_str(), len(&index) - 76), (SNAPSHOT, 0)] {
        let disk = sound.copy();
        let mut bytes = disk.contents(file).unwrap();
        version(&mut bytes[block..]);
        disk.overwrite(file, bytes);
        assert_finds(&checked(&disk), Severity::Mended, file, "format version 9");
        assert_eq!(open_text(&disk), expected);
    }
    let disk = sound.copy();
    let mut catalogue = disk.catalogue().unwrap();
    let mut meta = catalogue.get(b"m").unwrap().unwrap();
    meta[0] = 9;
    let end = meta.len() - 4;
    let crc = crc32c::crc32c(&meta[..end]);
    meta[end..].copy_from_slice(&crc.to_le_bytes());
    catalogue.write(&mut vec![(b"m".to_vec(), Some(meta))]).unwrap();
    catalogue.flush().unwrap();
    drop(catalogue);
    assert_finds(&checked(&disk), Severity::Mended, "catalogue", "format version 9");
    assert_eq!(open_text(&disk), expected);
}

#[test]
fn an_unknown_version_of_a_segment_is_refused() {
    let disk = sound();
    let file = segments(&disk).pop().unwrap();
    let mut bytes = disk.contents(&file).unwrap();
    for sector in [0, 512] {
        version(&mut bytes[sector..sector + 64]);
    }
    disk.overwrite(&file, bytes);
    let refused = open(&disk, &options(5)).map(drop).unwrap_err().to_string();
    assert!(refused.contains(&file) && refused.contains("format version 9"), "{refused}");
    assert_finds(&checked(&disk), Severity::Damage, &file, "format version 9");
}

#[test]
fn a_swapped_pair_of_segments_is_named() {
    let disk = sound();
    let segments = segments(&disk);
    let [first, second] = [0, 1].map(|nth| disk.contents(&segments[nth]).unwrap());
    disk.overwrite(&segments[0], second);
    disk.overwrite(&segments[1], first);
    let report = checked(&disk);
    for file in &segments[..2] {
        assert_finds(&report, Severity::Damage, file, "another segment");
    }
}

#[test]
fn all_damage_is_listed_not_only_the_first() {
    let disk = sound();
    let damaged = [0, 2].map(|nth| segments(&disk)[nth].clone());
    for file in &damaged {
        let mut bytes = disk.contents(file).unwrap();
        bytes[1500] ^= 1;
        disk.overwrite(file, bytes);
    }
    let report = checked(&disk);
    damaged.iter().for_each(|file| assert_finds(&report, Severity::Damage, file, "checksum"));
    let files = disk.list().unwrap();
    assert!(matches!(repair(&disk, &options(5)).unwrap(), Repair::Refused(_)));
    assert_eq!(disk.list().unwrap(), files);
}

#[test]
fn a_stray_is_a_note() {
    let disk = sound();
    for file in ["segment.spare1", "segment-0000000099.idx", "letter.txt"] {
        disk.overwrite(file, b"bytes".to_vec());
        assert_finds(&checked(&disk), Severity::Note, file, "");
    }
    assert!(!checked(&disk).is_damaged());
}

#[test]
fn a_rolled_back_catalogue_is_repaired_and_nothing_else_changes() {
    for is_clean in [true, false] {
        let disk = MemoryDisk::new();
        let store = fill(&disk);
        if is_clean {
            store.journal().close_clean(&disk).unwrap();
        }
        drop(store);
        let expected = open_text(&disk.copy());
        assert_eq!(expected.starts_with("clean true"), is_clean);
        disk.roll_back_catalogue();
        assert_finds(&checked(&disk), Severity::Mended, "catalogue", "rolled back");
        let Repair::Done(report) = repair(&disk, &options(5)).unwrap() else {
            panic!("the journal is sound");
        };
        assert_eq!(report.findings, []);
        assert_eq!(open_text(&disk), expected);
    }
}
