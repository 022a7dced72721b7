//! A data directory of this format version, as it was written once, is read by today's code.
//!
//! A directory of `tests/golden` holds no catalogue: sled's files are not ours, and a snapshot
//! holds the same.
//! A new format version gets a directory of its own, written by `LEVERET_GOLDEN=1 cargo test
//! golden`; those before it stay, to be refused with a sentence or read.

use super::frame::FORMAT_VERSION;
use super::full_sample::{fill, open_text, options};
use super::{Disk, MemoryDisk, RealDisk, Severity, check};
use std::io::IoSlice;
use std::path::{Path, PathBuf};

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

/// Ends in a frame that a crash tore, and whose records nobody was told to be safe.
fn torn() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let store = fill(&disk);
    let mut batch = super::RecordBatch::new();
    batch.enqueue(&super::samples::message(b"never confirmed"), &[super::samples::to(1, 900)]);
    store.journal().append(&mut batch);
    store.journal().round(&disk).unwrap();
    let extents = store.journal().extents();
    let (segment, _) = *extents.last().expect("one is written to");
    drop(store);
    let file = super::segment::file_name(segment);
    let mut bytes = disk.contents(&file).unwrap();
    bytes.truncate(bytes.len() - 9);
    disk.overwrite(&file, bytes);
    disk.lose_catalogue();
    disk
}

/// What must come back, beside the data.
const EXPECTED: &str = "expected.txt";

fn write(directory: &Path) {
    let disk = torn();
    let golden = RealDisk::open(directory).unwrap();
    let expected = open_text(&disk.copy()).into_bytes();
    let mut files: Vec<_> = disk.list().unwrap();
    files.push(EXPECTED.to_owned());
    for file in files {
        let bytes = disk.contents(&file).unwrap_or_else(|| expected.clone());
        golden.create(&file).unwrap();
        golden.append(&file, &[IoSlice::new(&bytes)]).unwrap();
    }
    golden.remove("lock").unwrap();
}

/// The data, copied, and what must come back.
fn read(directory: &Path) -> (MemoryDisk, String) {
    let golden = RealDisk::open_to_read(directory).unwrap();
    let disk = MemoryDisk::new();
    for file in golden.list().unwrap() {
        let mut bytes = vec![0; usize::try_from(golden.len(&file).unwrap()).unwrap()];
        assert_eq!(golden.read_at(&file, 0, &mut bytes).unwrap(), bytes.len());
        disk.overwrite(&file, bytes);
    }
    let expected = String::from_utf8(disk.contents(EXPECTED).unwrap()).unwrap();
    disk.remove(EXPECTED).unwrap();
    (disk, expected)
}

#[test]
fn a_golden_directory_comes_back() {
    let directory = golden(FORMAT_VERSION);
    if std::env::var_os("LEVERET_GOLDEN").is_some() {
        write(&directory);
    }
    let (disk, expected) = read(&directory);
    let report = check(&disk, options(0).page_len).unwrap();
    let found: Vec<_> = report.findings.iter().map(|it| (it.severity, &*it.file)).collect();
    let torn = "segment-0000000012";
    assert_eq!(found, [(Severity::Mended, "catalogue"), (Severity::Mended, torn)]);
    assert_eq!(open_text(&disk.copy()), expected);
    // Of this journal nothing was given up yet: it is enough by itself.
    disk.remove("snapshot").unwrap();
    assert_eq!(open_text(&disk), expected);
}

#[test]
fn golden_directories_of_other_versions_are_refused_with_a_sentence() {
    let disk = read(&golden(2)).0;
    let refusal = super::open(&disk, &options(9)).unwrap_err().to_string();
    let expected = format!(
        "cannot read segment-0000000001: it has format version 2, and this broker knows only \
         {FORMAT_VERSION}; use the version of Leveret that wrote it, or a newer one"
    );
    assert_eq!(refusal, expected);
}

#[test]
fn what_the_golden_directory_holds_was_written_down_by_hand() {
    let (_, expected) = read(&golden(FORMAT_VERSION));
    let has = |line: &str| expected.lines().filter(|it| it.starts_with(line)).count();
    assert_eq!(has("clean false"), 1);
    assert_eq!((has("vhost "), has("vhost /")), (1, 1));
    assert_eq!((has("exchange "), has("exchange all fanout")), (2, 1));
    assert_eq!(has("exchange topics topic"), 1);
    assert_eq!((has("parameter "), has("parameter policy kept {\"max-length\":5}")), (1, 1));
    assert_eq!((has("binding "), has("binding topics queue 1 a.#")), (3, 1));
    assert_eq!((has("queue "), has("queue 4 / queue-4 false next 3")), (4, 1));
    assert_eq!((has("returned "), has("returned 8 3 times, waits until 5000")), (2, 1));
    assert_eq!((has("cache "), has("key "), has("cache 9 next 8")), (2, 3, 1));
    assert_eq!((has("key 5 5 due 77"), has("key 1 1 due 18446744073709551615")), (1, 1));
    // Queue 1: 60 but four; 2: 15 but two, and one more; 3: 15 but three; 4: two.
    assert_eq!(has("message "), 56 + 13 + 1 + 12 + 2);
    assert_eq!(has("message 2 redelivered 20000 bytes"), 1);
    assert!(!expected.contains("never confirmed"));
    assert_eq!(has("message 101 redelivered 2000 bytes"), 1);
}
