//! Encoded records that wait for the store's thread, in blocks whose buffers go round.
//!
//! Small batches are copied into a block, large ones become one by a swap of buffers: whoever
//! appends holds the journal's lock for a copy of at most `SWAP_BYTES`.

use super::batch::Block;
use crate::id::Lsn;
use std::mem;

/// A block takes batches until it is this long.
const BLOCK_BYTES: usize = 256 * 1024;
/// A batch that does not fit and is this long is not copied.
const SWAP_BYTES: usize = 64 * 1024;
/// A frame takes blocks until it is this long; one block may be longer.
pub(super) const FRAME_BYTES: usize = 8 * 1024 * 1024;
/// Empty blocks kept for reuse.
const SPARES_MAX: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Pending {
    blocks: Vec<Block>,
    spares: Vec<Block>,
    last_lsn: Lsn,
}

impl Pending {
    pub(super) fn after(last_lsn: Lsn) -> Self {
        Self { last_lsn, ..Self::default() }
    }

    /// Takes a block's records and leaves it empty. The LSN is that of the last.
    pub(super) fn push(&mut self, block: &mut Block) -> Lsn {
        self.last_lsn.0 += block.records();
        match self.blocks.last_mut() {
            Some(last)
                if last.own_len() + block.own_len() <= BLOCK_BYTES
                    && last.len() + block.len() <= FRAME_BYTES =>
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

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Moves all blocks into `out`, which is empty.
    pub(super) fn take(&mut self, out: &mut Vec<Block>) {
        mem::swap(&mut self.blocks, out);
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
