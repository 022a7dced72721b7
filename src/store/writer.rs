//! The end of the journal's file: puts frames there, and knows how far they are safe.

use super::batch::Block;
use super::disk::Disk;
use super::error::StoreError;
use super::frame::FrameHeader;
use super::pending::FRAME_BYTES;
use crate::id::Lsn;
use std::io::IoSlice;

pub(super) const JOURNAL_FILE: &str = "journal";

#[derive(Debug)]
pub(super) struct Writer {
    salt: u64,
    /// The last record that was handed to the operating system.
    written: Lsn,
    /// The last that `fdatasync` covers. Stays behind `written` when no one asks for syncs.
    synced: Lsn,
    /// The last `synced` that a frame states.
    stated: Lsn,
}

impl Writer {
    /// Goes on behind `synced`, with the file known to be safe up to there.
    pub(super) fn after(synced: Lsn, stated: Lsn, salt: u64) -> Self {
        Self { salt, written: synced, synced, stated }
    }

    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    /// Writes the blocks in one frame, or in several if they are long. Returns the bytes.
    pub(super) fn append(&mut self, disk: &dyn Disk, blocks: &[Block]) -> Result<u64, StoreError> {
        let mut rest = blocks;
        let mut bytes = 0;
        while !rest.is_empty() {
            let (frame, later) = rest.split_at(blocks_of_frame(rest));
            bytes += self.append_frame(disk, frame)?;
            rest = later;
        }
        Ok(bytes)
    }

    /// Makes safe what was written.
    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        disk.sync(JOURNAL_FILE)?;
        self.synced = self.written;
        Ok(())
    }

    /// States how far the file is safe, unless it says so: damage up to there is told from a torn
    /// tail. Not synced, since nothing is lost with it. Returns the bytes.
    pub(super) fn seal(&mut self, disk: &dyn Disk) -> Result<u64, StoreError> {
        if self.stated == self.synced {
            return Ok(0);
        }
        self.append_frame(disk, &[])
    }

    fn append_frame(&mut self, disk: &dyn Disk, blocks: &[Block]) -> Result<u64, StoreError> {
        let mut pieces = vec![IoSlice::new(&[])];
        for block in blocks {
            block.slices(&mut pieces);
        }
        let records = blocks.iter().map(Block::records).sum();
        let first_lsn = Lsn(self.written.0 + 1);
        let header = FrameHeader::new(first_lsn, records, self.synced, &pieces);
        let header_bytes = header.encode(self.salt);
        if let Some(first) = pieces.first_mut() {
            *first = IoSlice::new(&header_bytes);
        }
        disk.append(JOURNAL_FILE, &pieces)?;
        self.written.0 += records;
        self.stated = self.synced;
        Ok(header_bytes.len() as u64 + u64::from(header.payload_len))
    }
}

/// How many blocks from the first on make a frame: one at least.
fn blocks_of_frame(blocks: &[Block]) -> usize {
    let mut len = 0;
    let fitting = blocks.iter().take_while(|block| {
        len += block.len();
        len <= FRAME_BYTES
    });
    fitting.count().max(1)
}
