//! The catalogue in its directory: what is put aside, and what damaged files do.

use leveret::store::{Catalogue, CatalogueError, Disk, RealDisk, SledCatalogue};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

/// Chance from a seed (splitmix64): a number below `bound`.
fn below(seed: &mut u64, bound: usize) -> usize {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).expect("it is below a usize")
}

fn count(catalogue: &mut dyn Catalogue) -> Result<usize, CatalogueError> {
    let mut entries = 0;
    catalogue.scan(b"", &mut |_, _| {
        entries += 1;
        true
    })?;
    Ok(entries)
}

fn numbered(number: u32) -> (Vec<u8>, Vec<u8>) {
    let mut key = b"q/".to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    (key, format!("value {number} {}", "x".repeat(60)).into_bytes())
}

fn write_numbered(catalogue: &mut dyn Catalogue, numbers: Range<u32>) {
    let entries = numbers.map(numbered);
    catalogue
        .write(&mut entries.map(|(key, value)| (key, Some(value))).collect())
        .expect("it writes");
    catalogue.flush().expect("it flushes");
}

#[test]
fn two_that_were_put_aside_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    let names = || {
        let entries = fs::read_dir(directory.path().join("catalogue")).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    disk.discard_catalogue().unwrap();
    assert_eq!(names(), ["1"]);
    for round in 1..5_u32 {
        // Open while it is put aside, as one that stalls would be.
        let mut stalled = disk.catalogue().unwrap();
        disk.discard_catalogue().unwrap();
        let mut next = disk.catalogue().unwrap();
        write_numbered(&mut *next, 0..round);
        drop(stalled.write(&mut vec![(b"old".to_vec(), Some(Vec::new()))]));
        drop(stalled);
        assert_eq!(count(&mut *next).unwrap(), round as usize);
    }
    assert_eq!(names(), ["5", "broken-3", "broken-4"]);
}

pub(super) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

pub(super) fn files_under(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_under(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

/// Opens, reads and writes it all, however far it gets.
fn use_it(directory: &Path, time: Duration) -> Result<usize, CatalogueError> {
    let mut catalogue = SledCatalogue::open(directory, time)?;
    let entries = count(&mut catalogue)?;
    catalogue.write(&mut (0..200).map(|n| (numbered(n).0, Some(vec![1]))).collect())?;
    catalogue.flush()?;
    Ok(entries)
}

#[test]
fn a_rotten_directory_neither_hangs_nor_panics_who_asks() {
    let directory = tempfile::tempdir().unwrap();
    let sound = directory.path().join("sound");
    {
        let mut catalogue = SledCatalogue::open(&sound, LONG).unwrap();
        for begin in (0..4000).step_by(200) {
            write_numbered(&mut catalogue, begin..begin + 300);
        }
    }
    let time = Duration::from_secs(2);
    let mut chance = 7;
    let files = files_under(&sound);
    let files: Vec<_> = files.iter().filter(|f| f.metadata().unwrap().len() > 0).collect();
    assert!(files.len() > 4);
    let mut failed = 0;
    for (round, file) in files.iter().cycle().take(files.len().max(24)).enumerate() {
        let rotten = directory.path().join(format!("rotten-{round}"));
        copy_directory(&sound, &rotten);
        let victim = rotten.join(file.strip_prefix(&sound).unwrap());
        let mut bytes = fs::read(&victim).unwrap();
        match below(&mut chance, 3) {
            0 => bytes.truncate(below(&mut chance, bytes.len())),
            _ => {
                let at = below(&mut chance, bytes.len());
                bytes[at] ^= 1 << below(&mut chance, 8);
            }
        }
        fs::write(&victim, bytes).unwrap();
        let begin = Instant::now();
        let outcome = use_it(&rotten, time);
        assert!(begin.elapsed() < LONG, "{outcome:?}");
        failed += usize::from(outcome.is_err());
    }
    assert!(failed > 0, "sled noticed nothing at all");
    let garbage = directory.path().join("garbage");
    fs::create_dir_all(garbage.join("metadata")).unwrap();
    fs::write(garbage.join("metadata/log_0000000000000001"), b"not a log").unwrap();
    drop(use_it(&garbage, time));
}
