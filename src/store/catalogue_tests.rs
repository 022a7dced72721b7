//! The catalogue: what it promises, on sled and on its twin, and what becomes of one that fails.
//! What damaged directories do is in `tests/model`.

use super::catalogue_thread::{CatalogueThread, Entries, Page};
use super::memory_file::Chance;
use super::{Catalogue, CatalogueError, Change, Disk, MemoryDisk, RealDisk, SledCatalogue};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

type Entry = (Vec<u8>, Vec<u8>);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const LONG: Duration = Duration::from_secs(30);

fn scanned(catalogue: &mut dyn Catalogue, prefix: &[u8]) -> Result<Vec<Entry>, CatalogueError> {
    let mut entries = Vec::new();
    catalogue.scan(prefix, &mut |key, value| {
        entries.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(entries)
}

fn all(catalogue: &mut dyn Catalogue) -> Model {
    scanned(catalogue, b"").unwrap().into_iter().collect()
}

/// Keys of all lengths under a few prefixes, the empty key and 0xff among them.
fn key(chance: &mut Chance) -> Vec<u8> {
    let mut key = [&b""[..], b"q/", b"q/1", b"d", b"\xff"][chance.below(5)].to_vec();
    for _ in 0..chance.below(3) {
        key.push([0, b'/', b'a', 0xff][chance.below(4)]);
    }
    key
}

fn slice(chance: &mut Chance) -> Vec<Change> {
    let changes = 0..chance.below(30);
    changes
        .map(|_| {
            let value = vec![u8::try_from(chance.below(256)).unwrap(); chance.below(200)];
            (key(chance), (chance.below(3) > 0).then_some(value))
        })
        .collect()
}

fn apply(model: &mut Model, slice: &[Change]) {
    for (key, value) in slice {
        match value {
            Some(value) => model.insert(key.clone(), value.clone()),
            None => model.remove(key),
        };
    }
}

/// Any slices, flushes and openings leave what the model says.
fn follows_the_model(disk: &dyn Disk, seed: u64) {
    let mut chance = Chance(seed);
    let mut model = Model::new();
    let mut catalogue = disk.catalogue().unwrap();
    for _ in 0..60 {
        match chance.below(12) {
            0 => {
                drop(catalogue);
                catalogue = disk.catalogue().unwrap();
            }
            1 | 2 => catalogue.flush().unwrap(),
            3 => {
                let prefix = key(&mut chance);
                let expected = model.iter().filter(|(key, _)| key.starts_with(&prefix));
                let expected: Vec<_> = expected.map(|(k, v)| (k.clone(), v.clone())).collect();
                assert_eq!(scanned(&mut *catalogue, &prefix).unwrap(), expected);
            }
            4 | 5 => {
                let key = key(&mut chance);
                assert_eq!(catalogue.get(&key).unwrap().as_ref(), model.get(&key));
            }
            _ => {
                let mut slice = slice(&mut chance);
                apply(&mut model, &slice);
                catalogue.write(&mut slice).unwrap();
                assert!(slice.is_empty());
            }
        }
    }
    assert_eq!(all(&mut *catalogue), model);
    disk.discard_catalogue().unwrap();
    drop(catalogue);
    assert!(all(&mut *disk.catalogue().unwrap()).is_empty());
}

#[test]
fn sled_follows_the_model() {
    for seed in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        follows_the_model(&RealDisk::open(directory.path()).unwrap(), seed);
    }
}

#[test]
fn the_twin_follows_the_model() {
    for seed in 0..200 {
        follows_the_model(&MemoryDisk::new(), seed);
    }
}

fn numbered(number: u32) -> Entry {
    let mut key = b"q/".to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    (key, format!("value {number} {}", "x".repeat(60)).into_bytes())
}

fn write_numbered(catalogue: &mut dyn Catalogue, numbers: std::ops::Range<u32>) {
    let entries = numbers.map(numbered);
    catalogue.write(&mut entries.map(|(key, value)| (key, Some(value))).collect()).unwrap();
    catalogue.flush().unwrap();
}

#[test]
fn many_entries_come_in_order_and_no_more_than_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    write_numbered(&mut *disk.catalogue().unwrap(), 0..20_000);
    let mut catalogue = disk.catalogue().unwrap();
    assert_eq!(disk.list().unwrap(), [""; 0]);
    let entries = scanned(&mut *catalogue, b"q/").unwrap();
    assert!(entries.into_iter().eq((0..20_000).map(numbered)));
    let mut seen = 0;
    catalogue
        .scan(b"q/", &mut |_, _| {
            seen += 1;
            seen < 5000
        })
        .unwrap();
    assert_eq!(seen, 5000);
}

#[test]
fn a_second_opening_is_refused_while_the_first_lives() {
    let directory = tempfile::tempdir().unwrap();
    let real = RealDisk::open(directory.path()).unwrap();
    let twin = MemoryDisk::new();
    for disk in [&real as &dyn Disk, &twin] {
        let first = disk.catalogue().unwrap();
        assert!(disk.catalogue().is_err());
        drop(first);
        disk.catalogue().unwrap();
    }
}

type Does = fn() -> Result<(), String>;

/// What keeps nothing but a count of its drops, and does what it is told.
struct Bad {
    does: Does,
    drops: Arc<AtomicUsize>,
}

impl Entries for Bad {
    fn fill(&mut self, _: &mut Page, _: &[u8], _: Option<&[u8]>) -> Result<(), String> {
        Ok(())
    }

    fn get(&mut self, _: &[u8]) -> Result<Option<Vec<u8>>, String> {
        (self.does)().map(|()| None)
    }

    fn apply(&mut self, _: Vec<Change>) -> Result<(), String> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::SeqCst);
    }
}

fn bad(time: Duration, does: Does) -> (CatalogueThread<Bad>, Arc<AtomicUsize>) {
    let drops = Arc::<AtomicUsize>::default();
    let entries = Bad { does, drops: Arc::clone(&drops) };
    (CatalogueThread::open(Path::new("somewhere"), time, move || Ok(entries)).unwrap(), drops)
}

#[test]
fn one_that_fails_is_given_up_and_never_dropped() {
    let short = Duration::from_millis(200);
    let cases: [(Duration, Does, &str); 3] = [
        (LONG, || Err("it is\n  full".to_owned()), "it is full"),
        (LONG, || panic!("it {}", "broke"), "it panicked: it broke"),
        (
            short,
            || {
                thread::sleep(Duration::from_millis(400));
                Ok(())
            },
            "no answer within 200ms",
        ),
    ];
    for (time, does, reason) in cases {
        let (mut catalogue, drops) = bad(time, does);
        catalogue.flush().unwrap();
        let error = catalogue.get(b"key").unwrap_err().to_string();
        assert_eq!(error, format!("cannot read the catalogue somewhere: {reason}"));
        assert_eq!(catalogue.flush().unwrap_err().to_string(), error);
        assert_eq!(catalogue.scan(b"", &mut |_, _| true).unwrap_err().to_string(), error);
        drop(catalogue);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(drops.load(Ordering::SeqCst), 0);
    }
    let (catalogue, drops) = bad(LONG, || Ok(()));
    drop(catalogue);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn an_opening_that_stalls_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let refused = SledCatalogue::open(directory.path(), Duration::ZERO).map(drop).unwrap_err();
    assert!(refused.to_string().ends_with(": no answer within 0ns"), "{refused}");
}

#[test]
fn a_crash_of_the_twin_leaves_the_first_slices_since_the_flush() {
    let disk = MemoryDisk::new();
    let mut catalogue = disk.catalogue().unwrap();
    write_numbered(&mut *catalogue, 0..3);
    for number in 3..6 {
        let (key, value) = numbered(number);
        let (gone, _) = numbered(number - 3);
        catalogue.write(&mut vec![(key, Some(value)), (gone, None)]).unwrap();
    }
    let mut left: Vec<Vec<_>> = (0..100)
        .map(|seed| scanned(&mut *disk.crash(seed).catalogue().unwrap(), b"").unwrap())
        .collect();
    left.sort();
    left.dedup();
    let expected: Vec<Vec<_>> = (0..4).map(|n| (n..n + 3).map(numbered).collect()).collect();
    assert_eq!(left, expected);
    disk.roll_back_catalogue();
    assert!(all(&mut *catalogue).is_empty());
}

#[test]
fn the_twin_goes_back_to_the_flush_before_the_last_one() {
    let disk = MemoryDisk::new();
    let mut catalogue = disk.catalogue().unwrap();
    for number in 0..3 {
        write_numbered(&mut *catalogue, number..number + 1);
    }
    drop(catalogue);
    disk.roll_back_catalogue();
    let kept: Vec<_> = scanned(&mut *disk.catalogue().unwrap(), b"").unwrap();
    assert_eq!(kept, [numbered(0), numbered(1)]);
    disk.lose_catalogue();
    assert!(all(&mut *disk.catalogue().unwrap()).is_empty());
}

#[test]
fn the_twin_rots_in_every_way_and_stalls() {
    let mut ways = [0; 4];
    for seed in 0..100 {
        let disk = MemoryDisk::new();
        write_numbered(&mut *disk.catalogue().unwrap(), 0..10);
        disk.rot_catalogue(seed);
        let sound: Vec<_> = (0..10).map(numbered).collect();
        let way = match disk.catalogue().and_then(|mut c| scanned(&mut *c, b"")) {
            Err(_) => 0,
            Ok(entries) if entries.len() < 10 => 1,
            Ok(entries) if entries != sound => 2,
            Ok(_) => 3,
        };
        ways[way] += 1;
    }
    assert!(ways[..3].iter().all(|count| *count > 5), "{ways:?}");
    let disk = MemoryDisk::new();
    let mut catalogue = disk.catalogue().unwrap();
    disk.stall_catalogue();
    let error = catalogue.flush().unwrap_err().to_string();
    assert_eq!(error, "cannot flush the catalogue catalogue: no answer within 30s");
    assert!(disk.catalogue().is_err());
    disk.discard_catalogue().unwrap();
    assert!(catalogue.get(b"").is_err());
    assert!(all(&mut *disk.catalogue().unwrap()).is_empty());
}
