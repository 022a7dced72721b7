//! The offline check on real files: it touches none, and no rot in sled's directory fools it.

#![allow(clippy::unwrap_used, reason = "what fails here is the test")]

use super::catalogue::{copy_directory, files_under};
use leveret::store::{
    self, Disk, Durability, Options, RealDisk, RecoveredMessage, Repair, Severity, check, repair,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

fn options(salt: u64) -> Options {
    Options { segment_bytes: 4096, page_len: 8, ..Options::new(Durability::Fsync, salt) }
}

/// Opens it, a little later if need be: sled runs a program, which has our lock until it begins.
fn possess(directory: &Path) -> RealDisk {
    for _ in 0..200 {
        if let Ok(disk) = RealDisk::open(directory) {
            return disk;
        }
        thread::sleep(Duration::from_millis(5));
    }
    RealDisk::open(directory).unwrap()
}

/// As `possess`, to look at it only.
fn look_at(directory: &Path) -> RealDisk {
    for _ in 0..200 {
        if let Ok(disk) = RealDisk::open_to_read(directory) {
            return disk;
        }
        thread::sleep(Duration::from_millis(5));
    }
    RealDisk::open_to_read(directory).unwrap()
}

/// Every definition, and every message.
fn state(directory: &Path) -> String {
    let disk = possess(directory);
    let (store, recovered) = store::open(&disk, &options(9)).unwrap();
    let mut out = format!("{} {:?}", recovered.clean, recovered.definitions);
    for (id, _) in recovered.definitions.queues() {
        for it in store.read_all(&disk, id, &recovered.queues[&id]).unwrap() {
            let RecoveredMessage { seq, message, redelivered, .. } = it;
            out += &format!("\n{id} {seq} {redelivered} {:?}", message.body_to_vec());
        }
    }
    out
}

/// A copy of the golden directory after a start, a checkpoint and a clean stop, with a catalogue.
fn with_catalogue(directory: &Path) -> PathBuf {
    let place = directory.join("sound");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v3");
    copy_directory(&golden, &place);
    fs::remove_file(place.join("expected.txt")).unwrap();
    let disk = possess(&place);
    let (store, recovered) = store::open(&disk, &options(8)).unwrap();
    store.checkpoint_now(&disk, &recovered).unwrap();
    store.journal().close_clean(&disk).unwrap();
    place
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files_under(directory).into_iter();
    let mut all: Vec<_> = files.map(|file| (file.clone(), fs::read(file).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_check_touches_nothing_and_a_rotten_catalogue_is_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let sound = with_catalogue(directory.path());
    let before = contents(&sound);
    let report = check(&look_at(&sound), 8).unwrap();
    assert_eq!(report.findings, []);
    assert!(contents(&sound) == before, "a check changed something");
    let original = directory.path().join("original");
    copy_directory(&sound, &original);
    let expected = state(&original);
    let is_sled = |path: &Path| path.starts_with(sound.join("catalogue"));
    let sled = before.iter().filter(|(path, bytes)| is_sled(path) && !bytes.is_empty());
    let mut found = 0;
    for (nth, (path, bytes)) in sled.enumerate() {
        for part in 0..3 {
            let place = directory.path().join(format!("flipped-{nth}-{part}"));
            copy_directory(&sound, &place);
            let mut flipped = bytes.clone();
            flipped[(bytes.len() - 1) * part / 2] ^= 1;
            fs::write(place.join(path.strip_prefix(&sound).unwrap()), flipped).unwrap();
            let report = check(&look_at(&place), 8).unwrap();
            assert!(!report.is_damaged(), "{}: {report:#?}", path.display());
            found += report.findings.len();
            assert_eq!(state(&place), expected, "{}", path.display());
        }
    }
    assert!(found > 0, "no flip was found");
}

#[test]
fn a_lost_catalogue_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let sound = with_catalogue(directory.path());
    let original = directory.path().join("original");
    copy_directory(&sound, &original);
    let expected = state(&original);
    fs::remove_dir_all(sound.join("catalogue")).unwrap();
    let disk = possess(&sound);
    let report = check(&disk, 8).unwrap();
    let found: Vec<_> = report.findings.iter().map(|it| (it.severity, &*it.file)).collect();
    assert_eq!(found, [(Severity::Mended, "catalogue")]);
    let Repair::Done(report) = repair(&disk, &options(7)).unwrap() else {
        panic!("the journal is sound");
    };
    assert_eq!(report.findings, []);
    assert!(disk.broken_catalogues().unwrap().is_empty());
    drop(disk);
    assert_eq!(state(&sound), expected);
}
