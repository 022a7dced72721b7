//! Encoded records that wait for the store's thread, in blocks whose buffers go round.
//!
//! Small batches are copied into a block, large ones become one by a swap of buffers: whoever
//! appends holds the journal's lock for a copy of at most `SWAP_BYTES`.

use super::batch::Block;
use super::reach::Reach;
use crate::config::Durability;
use crate::id::Lsn;
use std::mem;

/// A block takes batches until it is this long.
const BLOCK_BYTES: usize = 256 * 1024;
/// A batch that does not fit and is this long is not copied.
const SWAP_BYTES: usize = 64 * 1024;
/// The same, with the bodies to which it refers.
const BLOCK_BYTES_REFERRED: usize = 8 * 1024 * 1024;
/// Empty blocks kept for reuse.
const SPARES_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Pending {
    blocks: Vec<Block>,
    spares: Vec<Block>,
    last_lsn: Lsn,
    /// The last record that is to be synced, waiting here or not.
    to_sync: Lsn,
    /// One such record waits here.
    wants_sync: bool,
}

impl Pending {
    pub(super) fn after(last_lsn: Lsn) -> Self {
        Self { last_lsn, to_sync: last_lsn, ..Self::default() }
    }

    /// Takes a block's records and leaves it empty. The LSN is that of the last.
    pub(super) fn push(&mut self, block: &mut Block, durability: Durability) -> Lsn {
        self.last_lsn.0 += block.records();
        if durability == Durability::Fsync {
            self.to_sync = self.last_lsn;
            self.wants_sync = true;
        }
        match self.blocks.last_mut() {
            Some(last)
                if last.own_len() + block.own_len() <= BLOCK_BYTES
                    && last.len() + block.len() <= BLOCK_BYTES_REFERRED =>
            {
                last.take_from(block);
            }
            _ if block.own_len() >= SWAP_BYTES => {
                let spare = self.spares.pop().unwrap_or_default();
                self.blocks.push(mem::replace(block, spare));
            }
            _ => {
                let mut fresh = self.spares.pop().unwrap_or_default();
                fresh.reserve(BLOCK_BYTES);
                fresh.take_from(block);
                self.blocks.push(fresh);
            }
        }
        self.last_lsn
    }

    pub(super) fn last_lsn(&self) -> Lsn {
        self.last_lsn
    }

    /// What is reached once every record so far is as safe as it was asked to be.
    pub(super) fn reach(&self) -> Reach {
        Reach { written: self.last_lsn, durable: self.to_sync }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Moves blocks into `out`, which is empty: one, or as many as have `len_max` bytes together.
    /// Says whether one of them may be to be synced.
    pub(super) fn take(&mut self, out: &mut Vec<Block>, len_max: usize) -> bool {
        let mut len = 0;
        let fitting = self.blocks.iter().take_while(|block| {
            len += block.len();
            len <= len_max
        });
        let count = fitting.count().max(1);
        if count >= self.blocks.len() {
            mem::swap(&mut self.blocks, out);
            return mem::take(&mut self.wants_sync);
        }
        out.extend(self.blocks.drain(..count));
        self.wants_sync
    }

    /// Gets back the blocks that were taken.
    pub(super) fn recycle(&mut self, written: &mut Vec<Block>) {
        for mut block in written.drain(..) {
            if self.spares.len() < SPARES_MAX && block.capacity() <= 2 * BLOCK_BYTES {
                block.clear();
                self.spares.push(block);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }
}
