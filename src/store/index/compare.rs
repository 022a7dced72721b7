//! Whether a sealed index says what its segment says.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::SegmentIndexer;
use super::sealed::SealedIndex;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

impl SealedIndex {
    /// Compares every entry with what was read from the segment, checksums included.
    ///
    /// # Errors
    /// Where it differs, or cannot be read.
    pub(in crate::store) fn compare(
        &self,
        built: &SegmentIndexer,
        disk: &dyn Disk,
    ) -> Result<(), StoreError> {
        let path = || disk.path(self.file());
        let differs = |what: &str| StoreError::refused("use", path(), what);
        let mut queues: Vec<_> = built.queues().collect();
        queues.sort_unstable();
        if self.records() != built.records() || !self.queues().eq(queues.iter().copied()) {
            return Err(differs("it has other queues or records than its segment"));
        }
        for queue in queues {
            let (Some(sealed), Some(built)) = (self.view(queue, disk), built.view(queue)) else {
                continue;
            };
            // What lies in memory can be read.
            let pages = built.pages.iter();
            let mut expected = pages.flat_map(|head| built.entries(head).unwrap_or_default());
            for head in sealed.pages.iter() {
                for entry in sealed.entries(head)? {
                    if expected.next() != Some(entry) {
                        let what = format!(
                            "its segment has another message {} of queue {queue}",
                            entry.seq
                        );
                        return Err(StoreError::damaged(path(), head.offset, what));
                    }
                }
            }
            if expected.next().is_some() {
                return Err(differs("it lacks messages that are in its segment"));
            }
        }
        Ok(())
    }
}
