//! The index of a segment that takes no more records, as a file of its own.
//!
//! ```text
//! file   = page* | directory | footer
//! footer = magic 8 | format version u32 | segment u64 | salt u64 | end of the indexed part u64
//!        | records u64 | entries u64 | queues u64 | directory offset u64 | crc32c of directory u32
//!        | crc32c of these u32                              fixed numbers are little-endian
//! ```
//! In RAM stays the directory. The file can be lost: whatever is wrong with it, the segment holds
//! all that is needed to build it again. So it gets its name when it is whole, and nothing is ever
//! mended in place.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::builder::SegmentIndexer;
use super::directory::{Directory, DirectoryWriter};
use super::view::{PageBytes, Tally, View};
use crate::id::{QueueId, SegmentNo};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::failpoints::Failpoint;
use std::borrow::Cow;
use std::io::IoSlice;

/// Grows with every change of pages, directory or footer.
const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"LEVERETX";
const FOOTER_LEN: usize = 76;
/// Bytes that are written at once.
const WRITE_LEN: usize = 1024 * 1024;

/// A sealed index: its directory, and the file that has the pages.
#[derive(Debug)]
pub struct SealedIndex {
    file: Box<str>,
    directory: Directory,
    footer: Footer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Footer {
    segment: SegmentNo,
    salt: u64,
    end: u64,
    records: u64,
    entries: u64,
    queues: u64,
    directory_at: u64,
    directory_crc: u32,
}

impl SegmentIndexer {
    /// Writes all of it to `file`, safely, and opens that. `segment` and `salt` say whose index it
    /// is. This one stays as it is, to be asked until the sealed one takes its place.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn seal(
        &self,
        disk: &dyn Disk,
        file: &str,
        segment: SegmentNo,
        salt: u64,
    ) -> Result<SealedIndex, StoreError> {
        let new = format!("{file}.new");
        disk.create(&new)?;
        disk.reach(Failpoint::IndexCreated)?;
        let written = self.write(disk, &new, segment, salt).and_then(|()| {
            disk.reach(Failpoint::IndexWritten)?;
            disk.sync(&new)
        });
        if written.is_err() {
            // A full disk needs the room; if even this fails, the first error says more.
            let _ = disk.remove(&new);
        }
        written?;
        disk.reach(Failpoint::IndexSynced)?;
        disk.rename(&new, file)?;
        disk.reach(Failpoint::IndexRenamed)?;
        disk.sync_dir()?;
        disk.reach(Failpoint::IndexSafe)?;
        SealedIndex::open(disk, file, segment, salt)
    }

    /// As `seal`, for an index that nobody needs after a crash: nothing is synced.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn seal_unsynced(
        &self,
        disk: &dyn Disk,
        file: &str,
        segment: SegmentNo,
        salt: u64,
    ) -> Result<SealedIndex, StoreError> {
        disk.create(file)?;
        let written = self.write(disk, file, segment, salt);
        if written.is_err() {
            // As in `seal`.
            let _ = disk.remove(file);
        }
        written?;
        SealedIndex::open(disk, file, segment, salt)
    }

    fn write(
        &self,
        disk: &dyn Disk,
        file: &str,
        segment: SegmentNo,
        salt: u64,
    ) -> Result<(), StoreError> {
        let mut queues: Vec<_> = self.queues().collect();
        queues.sort_unstable();
        let mut directory = DirectoryWriter::default();
        let mut out = Vec::with_capacity(WRITE_LEN);
        for view in queues.into_iter().filter_map(|queue| self.view(queue)) {
            directory.queue(view.queue, &view.pages);
            for page in view.pages.iter() {
                out.extend_from_slice(view.memory(page));
                if out.len() >= WRITE_LEN {
                    disk.append(file, &[IoSlice::new(&out)])?;
                    out.clear();
                }
            }
        }
        let footer = Footer {
            segment,
            salt,
            end: self.end(),
            records: self.records(),
            entries: directory.entries,
            queues: directory.queues,
            directory_at: directory.pages_len,
            directory_crc: crc32c::crc32c(&directory.bytes),
        };
        let footer = footer.encode();
        let pieces = [&out, &directory.bytes, &footer].map(|piece| IoSlice::new(piece));
        disk.append(file, &pieces)
    }
}

impl SealedIndex {
    /// Opens the index of this segment, reading its directory.
    ///
    /// # Errors
    /// If the file is missing, of another segment or version, or rotten. The caller builds it anew.
    pub fn open(
        disk: &dyn Disk,
        file: &str,
        segment: SegmentNo,
        salt: u64,
    ) -> Result<Self, StoreError> {
        let len = disk.len(file)?;
        let damaged = |offset, what| StoreError::damaged(disk.path(file), offset, what);
        let footer_at = len.checked_sub(FOOTER_LEN as u64);
        let footer_at = footer_at.ok_or_else(|| damaged(0, "an index is too short"))?;
        let mut bytes = [0; FOOTER_LEN];
        disk.read_at(file, footer_at, &mut bytes)?;
        let footer = Footer::decode(&bytes).map_err(|bad| match bad {
            BadFooter::Damaged(what) => damaged(footer_at, what),
            BadFooter::Version(version) => {
                let why = format!("it has format version {version}, not {FORMAT_VERSION}");
                StoreError::refused("read", disk.path(file), why)
            }
        })?;
        if (footer.segment, footer.salt) != (segment, salt) {
            let why = format!("it is the index of segment {}, not of {segment}", footer.segment);
            return Err(StoreError::refused("read", disk.path(file), why));
        }
        let differs = || damaged(footer.directory_at, "the directory of an index is damaged");
        let directory_len = footer_at.checked_sub(footer.directory_at);
        let directory_len = directory_len.and_then(|len| usize::try_from(len).ok());
        let mut bytes = vec![0; directory_len.ok_or_else(differs)?];
        let read = disk.read_at(file, footer.directory_at, &mut bytes)?;
        if read < bytes.len() || crc32c::crc32c(&bytes) != footer.directory_crc {
            return Err(differs());
        }
        let directory = Directory::decode(&bytes, footer.directory_at);
        let directory = directory.filter(|it| it.counts() == (footer.queues, footer.entries));
        let directory = directory.ok_or_else(differs)?;
        Ok(Self { file: file.into(), directory, footer })
    }

    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where the indexed part of the segment's file ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.footer.end
    }

    /// ENQUEUE records of the segment.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.footer.records
    }

    /// Entries for all queues: a record has one for each of its targets.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.footer.entries
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        size_of::<Self>() + self.file.len() + self.directory.memory_len()
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.directory.queues()
    }

    pub(super) fn tally(&self) -> impl Iterator<Item = Tally> {
        self.directory.all().filter_map(|(queue, pages)| Tally::of(queue, pages))
    }

    /// A queue's pages, which are read from `disk` when they are needed.
    pub(super) fn view<'a>(&'a self, queue: QueueId, disk: &'a dyn Disk) -> Option<View<'a>> {
        let pages = Cow::Borrowed(self.directory.pages(queue)?);
        Some(View { queue, pages, bytes: PageBytes::File { disk, file: &self.file } })
    }
}

/// Why bytes are not a footer.
#[derive(Debug, PartialEq, Eq)]
enum BadFooter {
    Damaged(&'static str),
    Version(u32),
}

impl Footer {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        for number in [
            self.segment.0,
            self.salt,
            self.end,
            self.records,
            self.entries,
            self.queues,
            self.directory_at,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.directory_crc.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; FOOTER_LEN]) -> Result<Self, BadFooter> {
        let damaged = BadFooter::Damaged("no index ends here");
        let Some(fields) = bytes.strip_prefix(&MAGIC) else {
            return Err(damaged);
        };
        let Some((_, crc)) = bytes.split_last_chunk() else {
            return Err(damaged);
        };
        let summed = bytes.get(..FOOTER_LEN - 4).unwrap_or_default();
        if crc32c::crc32c(summed) != u32::from_le_bytes(*crc) {
            return Err(BadFooter::Damaged("the checksum of an index's footer differs"));
        }
        let mut rest = fields;
        let version = take(&mut rest).map(u32::from_le_bytes);
        if let Some(version) = version.filter(|version| *version != FORMAT_VERSION) {
            return Err(BadFooter::Version(version));
        }
        Self::take(&mut rest).ok_or(damaged)
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let mut number = || take(rest).map(u64::from_le_bytes);
        Some(Self {
            segment: SegmentNo(number()?),
            salt: number()?,
            end: number()?,
            records: number()?,
            entries: number()?,
            queues: number()?,
            directory_at: number()?,
            directory_crc: take(rest).map(u32::from_le_bytes)?,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_told_from_damage() {
        let numbers = [0; 7].map(u64::to_le_bytes).concat();
        let version = 9_u32.to_le_bytes();
        let mut bytes = [MAGIC.as_slice(), &version, &numbers, &[0; 4]].concat();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let bytes = bytes.first_chunk().unwrap();
        assert_eq!(Footer::decode(bytes), Err(BadFooter::Version(9)));
    }
}
