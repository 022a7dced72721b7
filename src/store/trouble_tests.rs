//! Disks that refuse: what a start and a checkpoint make of it, and that all is there afterwards.

use super::full_sample::{fill, fill_and_stop, open_text, options, text};
use super::samples::{run, vhost};
use super::segment::{file_name, index_name};
use super::{
    Catalogue, CatalogueError, Disk, Layer, MemoryDisk, RealDisk, RecordBatch, StoreError, check,
    open,
};
use crate::id::{QueueId, SegmentNo};
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The catalogue fails to open, and to be put aside, so many times each.
struct Stubborn<'a> {
    disk: &'a MemoryDisk,
    opens: AtomicU64,
    discards: AtomicU64,
}

/// Counts down to zero; true if it was not there yet.
fn takes_one(left: &AtomicU64) -> bool {
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Layer for Stubborn<'_> {
    fn below(&self) -> &dyn Disk {
        self.disk
    }

    fn catalogue(&self) -> Result<Box<dyn Catalogue>, CatalogueError> {
        if takes_one(&self.opens) {
            return Err(CatalogueError::new("open", "catalogue", "no answer within 30s"));
        }
        self.disk.catalogue()
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        if takes_one(&self.discards) {
            let why = io::Error::other("Input/output error");
            return Err(StoreError::io("put aside", self.path("catalogue"), why));
        }
        self.disk.discard_catalogue()
    }
}

#[test]
fn a_catalogue_that_cannot_be_opened_and_then_not_put_aside_is_made_by_a_later_checkpoint() {
    let disk = MemoryDisk::new();
    fill_and_stop(&disk);
    let expected = open_text(&disk.copy());
    let (store, recovered) = open(&disk, &options(5)).unwrap();
    let (opens, discards) = (AtomicU64::new(1), AtomicU64::new(1));
    let stubborn = Stubborn { disk: &disk, opens, discards };
    let error = store.checkpoint_now(&stubborn, &recovered).unwrap_err().to_string();
    assert_eq!(error, "cannot put aside catalogue: Input/output error");
    for _ in 0..2 {
        let mut batch = RecordBatch::new();
        batch.ack(QueueId(3), [run(2, 2)]);
        store.journal().append(&mut batch);
        assert!(store.checkpoint_now(&stubborn, &recovered).unwrap());
    }
    store.journal().close_clean(&disk).unwrap();
    drop(store);
    assert_eq!(check(&disk, options(0).page_len).unwrap().findings, []);
    assert_eq!(open_text(&disk), expected);
}

#[test]
fn a_start_before_the_first_checkpoint_puts_no_catalogue_aside() {
    let directory = tempfile::tempdir().unwrap();
    let disk = RealDisk::open(directory.path()).unwrap();
    for salt in 1..4 {
        let (store, _) = open(&disk, &options(salt)).unwrap();
        let mut batch = RecordBatch::new();
        batch.definition(&vhost("/"));
        store.journal().append(&mut batch);
        store.journal().round(&disk).unwrap();
        // What a crash in the first checkpoint leaves.
        drop(disk.catalogue().unwrap());
    }
    let (store, recovered) = open(&disk, &options(4)).unwrap();
    assert!(store.checkpoint_now(&disk, &recovered).unwrap());
    assert_eq!(disk.broken_catalogues().unwrap(), [] as [String; 0]);
    drop(store);
    let report = check(&disk, options(0).page_len).unwrap();
    assert!(!report.is_damaged(), "{report:#?}");
}

#[test]
fn an_index_whose_segment_is_gone_goes_at_the_next_start() {
    let disk = MemoryDisk::new();
    fill_and_stop(&disk);
    let indexes = |disk: &MemoryDisk| {
        let files = disk.list().unwrap().into_iter();
        files.filter(|file| file.ends_with(".idx")).collect::<Vec<_>>()
    };
    drop(open(&disk, &options(5)).unwrap());
    let expected = indexes(&disk);
    assert!(!expected.is_empty());
    // A power loss came between the removal of the two.
    disk.overwrite(&index_name(SegmentNo(99)), b"of no use".to_vec());
    drop(open(&disk, &options(6)).unwrap());
    assert_eq!(indexes(&disk), expected);
}

#[test]
fn a_start_on_a_full_disk_is_refused_in_one_line_and_harms_nothing() {
    for is_clean in [true, false] {
        let disk = MemoryDisk::new();
        let store = fill(&disk);
        if is_clean {
            store.journal().close_clean(&disk).unwrap();
        }
        drop(store);
        let expected = open_text(&disk.copy());
        disk.limit_room(0);
        for _ in 0..2 {
            let refused = open(&disk, &options(5)).map(drop).unwrap_err().to_string();
            let file = file_name(SegmentNo(13));
            let why = "no storage space; make room on its disk";
            assert_eq!(refused, format!("cannot write to {file}: {why}"));
        }
        disk.limit_room(1 << 30);
        assert_eq!(open_text(&disk), expected);
    }
}

/// Everything can be read, nothing changed.
struct ReadOnly(MemoryDisk);

impl ReadOnly {
    fn refuse<T>(&self, operation: &'static str, file: &str) -> Result<T, StoreError> {
        let error = io::ErrorKind::ReadOnlyFilesystem.into();
        Err(StoreError::io(operation, self.path(file), error))
    }
}

impl Layer for ReadOnly {
    fn below(&self) -> &dyn Disk {
        &self.0
    }

    fn create(&self, file: &str) -> Result<(), StoreError> {
        self.refuse("create", file)
    }

    fn write_at(&self, file: &str, _: u64, _: &[IoSlice<'_>]) -> Result<(), StoreError> {
        self.refuse("write to", file)
    }

    fn truncate(&self, file: &str, _: u64) -> Result<(), StoreError> {
        self.refuse("cut", file)
    }

    fn rename(&self, from: &str, _: &str) -> Result<(), StoreError> {
        self.refuse("rename", from)
    }

    fn remove(&self, file: &str) -> Result<(), StoreError> {
        self.refuse("remove", file)
    }

    fn discard_catalogue(&self) -> Result<(), StoreError> {
        self.refuse("put aside", "catalogue")
    }
}

#[test]
fn a_start_on_a_disk_that_may_only_be_read_is_refused_in_one_line() {
    let disk = MemoryDisk::new();
    fill_and_stop(&disk);
    let expected = open_text(&disk.copy());
    let read_only = ReadOnly(disk);
    let way_out = "read-only filesystem or storage medium; mount it for writing";
    for damage in [|_: &MemoryDisk| {}, |disk: &MemoryDisk| disk.roll_back_catalogue()] {
        damage(&read_only.0);
        let refused = open(&read_only, &options(5)).map(drop).unwrap_err().to_string();
        assert!(refused.starts_with("cannot ") && refused.ends_with(way_out), "{refused}");
        assert!(!refused.contains('\n'), "{refused}");
    }
    assert!(!check(&read_only, options(0).page_len).unwrap().is_damaged());
    assert_eq!(open_text(&read_only.0), expected);
    // A new directory is refused by the first round.
    let (store, _) = open(&ReadOnly(MemoryDisk::new()), &options(5)).unwrap();
    let mut batch = RecordBatch::new();
    batch.definition(&vhost("/"));
    store.journal().append(&mut batch);
    let refused = store.journal().round(&ReadOnly(MemoryDisk::new())).unwrap_err().to_string();
    assert_eq!(refused, format!("cannot create segment-0000000001: {way_out}"));
}

#[test]
fn a_bit_that_flips_where_the_catalogue_says_how_far_it_goes_changes_nothing() {
    let sound = MemoryDisk::new();
    fill_and_stop(&sound);
    let found = |disk: &MemoryDisk| {
        let (store, recovered) = open(disk, &options(9)).unwrap();
        (text(disk, &store, &recovered), recovered.next_queue_id)
    };
    let expected = found(&sound.copy());
    let entry = |disk: &MemoryDisk, key: &[u8]| {
        let value = disk.catalogue().unwrap().get(key).unwrap();
        value.expect("a checkpoint wrote it")
    };
    for key in [b"m", b"j"] {
        for bit in 0..entry(&sound, key).len() * 8 {
            let disk = sound.copy();
            let mut value = entry(&disk, key);
            value[bit / 8] ^= 1 << (bit % 8);
            let change = (key.to_vec(), Some(value));
            disk.catalogue().unwrap().write(&mut vec![change]).unwrap();
            assert_eq!(found(&disk), expected, "bit {bit} of {key:?}");
        }
    }
}
