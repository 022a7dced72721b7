//! Room on disk: files that nobody wants anything of are removed, and of those that hold little
//! that is wanted that little is written again, behind what is new.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::Spill;
use super::files::{Files, file_name};
use crate::id::{QueueId, SegmentNo, Seq};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::reader;
use hashbrown::HashMap;

/// A file of which less than one part in this many is wanted is rewritten.
const WANTED_PART_MIN: u64 = 4;
/// What a record has beside its body, roughly.
const RECORD_OVERHEAD_BYTES: u64 = 64;
/// Queues whose wants are remembered over several files.
const REMEMBERED_MAX: usize = 4_096;
/// Messages that are read and written again at once.
const MOVED_MAX: usize = 1_024;

/// Runs of seqs that a queue cannot do without.
type Wants = Vec<(Seq, Seq)>;

impl Spill {
    /// Gives room back. `wanted` says which messages of a queue are not in memory: they must stay.
    /// Nothing may become absent by what is here before this returns.
    ///
    /// # Errors
    /// The disk's, of writing again. What was not looked at stays as it is.
    pub(in crate::store) fn reclaim(
        &self,
        disk: &dyn Disk,
        wanted: &dyn Fn(QueueId) -> Wants,
    ) -> Result<(), StoreError> {
        let mut files = self.files.lock();
        let mut known: HashMap<QueueId, Wants> = HashMap::new();
        for number in files.numbers() {
            let queues: Vec<_> = self.index.lock().tally(number).map(|it| it.queue).collect();
            let (mut live, mut bytes) = (Vec::new(), 0);
            for queue in queues {
                if known.len() >= REMEMBERED_MAX {
                    known.clear();
                }
                let wants = known.entry(queue).or_insert_with(|| wanted(queue));
                let of_queue = self.ask(disk, |index| index.live(number, queue, wants, disk));
                if of_queue.0 > 0 {
                    live.push((queue, wants.clone()));
                    bytes += of_queue.1 + of_queue.0 * RECORD_OVERHEAD_BYTES;
                }
            }
            let file = files.get(number);
            let is_worth_it = bytes < file.len / WANTED_PART_MIN && !file.is_damaged;
            if live.is_empty() {
                self.remove(&mut files, disk, number);
            } else if is_worth_it && !files.is_current(number) {
                self.rewrite(&mut files, disk, number, &live)?;
            }
        }
        Ok(())
    }

    /// Writes again what is wanted of a file, and removes it. One that cannot be read stays.
    fn rewrite(
        &self,
        files: &mut Files,
        disk: &dyn Disk,
        number: SegmentNo,
        live: &[(QueueId, Wants)],
    ) -> Result<(), StoreError> {
        for (queue, wants) in live {
            let found = self.ask(disk, |index| index.find_in(number, *queue, wants, disk));
            for places in found.places.chunks(MOVED_MAX) {
                let read = reader::read(disk, &file_name, *queue, places);
                if let Some((_, error)) = read.failures.first() {
                    tracing::warn!("a file of transient messages is not rewritten: {error}");
                    files.mark_damaged(number);
                    return Ok(());
                }
                self.write_to(files, disk, *queue, &read.messages)?;
            }
        }
        self.remove(files, disk, number);
        Ok(())
    }
}
