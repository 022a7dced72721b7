//! A copy of the catalogue in a plain file, for the day when the catalogue is lost, rolled back or
//! rotten. With the journal from its checkpoint on it gives the same state.
//!
//! ```text
//! file  = magic 8 | format version u32 | generation u64 | entry* | entries u64 | crc32c of all u32
//! entry = key length u32 | value length u32 | key | value        fixed numbers are little-endian
//! ```
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::base::{Base, KINDS};
use super::catalogue::{Catalogue, CatalogueError};
use super::disk::Disk;
use super::entries::{self, Entry, Meta};
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::sum::Sum;
use std::io::IoSlice;

pub(super) const FILE: &str = "snapshot";
const NEW_FILE: &str = "snapshot.new";
const MAGIC: [u8; 8] = *b"LEVERETS";
const FORMAT: u32 = 1;
const HEADER_LEN: usize = 20;
/// Bytes that are written or read at once.
const CHUNK_LEN: usize = 1024 * 1024;

/// Why there is no new snapshot.
#[derive(Debug)]
pub(super) enum SnapshotError {
    Catalogue(CatalogueError),
    Disk(StoreError),
}

/// Writes all entries to the file, in place of the snapshot before, unless they are not those of
/// the checkpoint `meta`: what rots must not take its copy along. Returns its length.
pub(super) fn write(
    disk: &dyn Disk,
    meta: &Meta,
    catalogue: &mut dyn Catalogue,
) -> Result<u64, SnapshotError> {
    let written = write_new(disk, meta, catalogue);
    if written.is_err() {
        // A full disk needs the room; if even this fails, the first error says more.
        let _ = disk.remove(NEW_FILE);
    }
    written
}

fn write_new(
    disk: &dyn Disk,
    meta: &Meta,
    catalogue: &mut dyn Catalogue,
) -> Result<u64, SnapshotError> {
    let create = disk.create(NEW_FILE).and_then(|()| disk.reach(Failpoint::SnapshotCreated));
    create.map_err(SnapshotError::Disk)?;
    let mut out = Out { disk, bytes: Vec::new(), crc: 0, len: 0, failed: None };
    out.bytes.extend_from_slice(&MAGIC);
    out.bytes.extend_from_slice(&FORMAT.to_le_bytes());
    out.bytes.extend_from_slice(&meta.generation.to_le_bytes());
    let (mut entries, mut sum, mut found) = (0_u64, Sum::default(), None);
    for kind in KINDS {
        let scanned = catalogue.scan(kind, &mut |key, value| {
            entries += 1;
            match entries::read(key, value) {
                Some(Entry::Meta(meta)) => found = Some(meta),
                Some(Entry::Safe(_)) => {}
                _ => sum.add(key, value),
            }
            out.entry(key, value)
        });
        scanned.map_err(SnapshotError::Catalogue)?;
    }
    if found != Some(*meta) || sum != meta.sum {
        let why = "its entries are not those of its last checkpoint";
        let error = CatalogueError::new("copy", disk.path("catalogue"), why);
        return Err(SnapshotError::Catalogue(error));
    }
    out.bytes.extend_from_slice(&entries.to_le_bytes());
    out.flush();
    out.bytes.extend_from_slice(&out.crc.to_le_bytes());
    out.flush();
    let len = out.len;
    let written = out.failed.map_or(Ok(()), Err);
    written
        .and_then(|()| disk.reach(Failpoint::SnapshotWritten))
        .and_then(|()| disk.sync(NEW_FILE))
        .and_then(|()| disk.reach(Failpoint::SnapshotSynced))
        .and_then(|()| disk.rename(NEW_FILE, FILE))
        .and_then(|()| disk.reach(Failpoint::SnapshotRenamed))
        .and_then(|()| disk.sync_dir())
        .and_then(|()| disk.reach(Failpoint::SnapshotSafe))
        .map_err(SnapshotError::Disk)?;
    Ok(len)
}

struct Out<'a> {
    disk: &'a dyn Disk,
    bytes: Vec<u8>,
    crc: u32,
    len: u64,
    failed: Option<StoreError>,
}

impl Out<'_> {
    fn entry(&mut self, key: &[u8], value: &[u8]) -> bool {
        for part in [key, value] {
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.bytes.extend_from_slice(&len.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        if self.bytes.len() >= CHUNK_LEN {
            self.flush();
        }
        self.failed.is_none()
    }

    fn flush(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, &self.bytes);
        if self.failed.is_none() {
            let written = self.disk.append(NEW_FILE, &[IoSlice::new(&self.bytes)]);
            self.failed = written.err();
        }
        self.len += self.bytes.len() as u64;
        self.bytes.clear();
    }
}

/// Reads the snapshot; `None` if there is none.
///
/// # Errors
/// The disk's, or what is wrong with it.
pub(super) fn read(disk: &dyn Disk) -> Result<Option<Base>, StoreError> {
    if !disk.list()?.iter().any(|file| file == FILE) {
        return Ok(None);
    }
    let damaged = |offset: u64, what: String| StoreError::damaged(disk.path(FILE), offset, what);
    let len = usize::try_from(disk.len(FILE)?).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let at = bytes.len();
        bytes.resize(len.min(at + CHUNK_LEN), 0);
        let read = disk.read_at(FILE, at as u64, bytes.get_mut(at..).unwrap_or_default())?;
        bytes.truncate(at + read);
        if read == 0 {
            break;
        }
    }
    let whole = bytes.split_last_chunk::<4>();
    let whole = whole.filter(|(rest, crc)| crc32c::crc32c(rest) == u32::from_le_bytes(**crc));
    let entries = whole.and_then(|(rest, _)| rest.get(HEADER_LEN..)?.split_last_chunk::<8>());
    let Some((entries, _)) = entries.filter(|_| bytes.starts_with(&MAGIC)) else {
        return Err(damaged(0, "the checksum of the snapshot differs".to_owned()));
    };
    let format = bytes.get(MAGIC.len()..).and_then(|rest| rest.first_chunk());
    let format = format.map_or(0, |format| u32::from_le_bytes(*format));
    if format != FORMAT {
        let why = format!("it has format version {format}, and this broker knows only {FORMAT}");
        return Err(StoreError::refused("read", disk.path(FILE), why));
    }
    let base = Base::read(|kind, each| {
        let mut rest = entries;
        while let Some((key, value)) = split(&mut rest) {
            if key.starts_with(kind) && !each(key, value) {
                break;
            }
        }
        Ok(())
    });
    base.map_err(|what| damaged(HEADER_LEN as u64, what))
}

fn split<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (key_len, tail) = rest.split_first_chunk()?;
    let (value_len, tail) = tail.split_first_chunk()?;
    let (key, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*key_len)).ok()?)?;
    let (value, tail) =
        tail.split_at_checked(usize::try_from(u32::from_le_bytes(*value_len)).ok()?)?;
    *rest = tail;
    Some((key, value))
}
