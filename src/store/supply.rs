//! Segments ahead of the writer: files that are as long as a segment and were written once, since
//! syncing such a file is several times faster than syncing one that grows.
//!
//! Nothing is prepared for a broker that stores little: only when a quarter of a segment is used
//! is the next one wanted. Files of dead segments are used again.

use super::disk::Disk;
use super::error::StoreError;
use super::failpoints::Failpoint;
use super::segment::{SEGMENT_HEADER_LEN, file_name};
use crate::id::SegmentNo;
use parking_lot::Mutex;
use std::io::IoSlice;

/// A file that becomes a segment gets its name when all of it is safe.
const NEW_FILE: &str = "segment.new";
const SPARE_PREFIX: &str = "segment.spare";
/// Files of dead segments that are kept for use.
const SPARES_MAX: usize = 2;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
/// Zeros written before they are synced: many at once would hold up the journal's own syncs.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Supply {
    segment_bytes: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The segment that is written to, and how far.
    current: SegmentNo,
    used: u64,
    prepared: Option<SegmentNo>,
    /// Preparing failed while this segment was written to: not tried again before the next.
    failed_in: Option<SegmentNo>,
    /// Files of dead segments.
    spares: Vec<String>,
    spares_made: u64,
}

impl Supply {
    pub(super) fn after(current: SegmentNo, segment_bytes: u64) -> Self {
        let state = State {
            current,
            used: 0,
            prepared: None,
            failed_in: None,
            spares: Vec::new(),
            spares_made: 0,
        };
        Self { segment_bytes, state: Mutex::new(state) }
    }

    /// The writer is in this segment, and that far.
    pub(super) fn used(&self, current: SegmentNo, used: u64) {
        let mut state = self.state.lock();
        (state.current, state.used) = (current, used);
    }

    /// Whether the segment's file is there to be written to; it is the caller's from now on.
    pub(super) fn take(&self, number: SegmentNo) -> bool {
        let mut state = self.state.lock();
        // Whoever prepares a file now must not give it this name.
        state.current = state.current.max(number);
        state.prepared.take_if(|prepared| *prepared == number).is_some()
    }

    /// The segment's file is there, written once.
    #[cfg(test)]
    pub(super) fn adopt(&self, number: SegmentNo) {
        self.state.lock().prepared = Some(number);
    }

    /// The next segment's file should be prepared now.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.state.lock();
        let is_due = state.prepared.is_none() && state.used > self.segment_bytes / 4;
        is_due && state.failed_in != Some(state.current)
    }

    /// Prepares the next segment's file. Slow: it writes as much as a segment holds, unless a dead
    /// segment's file can be used again. Does nothing if room runs out: records need what is left.
    pub(super) fn prepare(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let prepared = self.try_to_prepare(disk);
        if !matches!(prepared, Ok(true)) {
            let mut state = self.state.lock();
            state.failed_in = Some(state.current);
        }
        if prepared.is_err() {
            // The journal itself may need the room; if even this fails, the first error says more.
            let _ = disk.remove(NEW_FILE);
        }
        prepared.map(drop)
    }

    /// False if there is too little room.
    fn try_to_prepare(&self, disk: &dyn Disk) -> Result<bool, StoreError> {
        let spare = self.state.lock().spares.pop();
        match spare {
            Some(spare) => disk.rename(&spare, NEW_FILE)?,
            None if disk.room()?.is_some_and(|room| room / 2 < self.segment_bytes) => {
                return Ok(false);
            }
            None => disk.create(NEW_FILE)?,
        }
        disk.reach(Failpoint::PrepareCreated)?;
        let zeros = ZEROS.get(..SEGMENT_HEADER_LEN).unwrap_or_default();
        disk.write_at(NEW_FILE, 0, &[IoSlice::new(zeros)])?;
        disk.reach(Failpoint::PrepareCleared)?;
        self.fit(disk)?;
        disk.reach(Failpoint::PrepareFilled)?;
        disk.sync(NEW_FILE)?;
        disk.reach(Failpoint::PrepareSynced)?;
        let mut state = self.state.lock();
        let number = SegmentNo(state.current.0 + 1);
        disk.rename(NEW_FILE, &file_name(number))?;
        disk.reach(Failpoint::PrepareRenamed)?;
        disk.sync_dir()?;
        state.prepared = Some(number);
        disk.reach(Failpoint::Prepared)?;
        Ok(true)
    }

    /// Makes the file as long as a segment.
    fn fit(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let mut len = disk.len(NEW_FILE)?;
        if len > self.segment_bytes {
            return disk.truncate(NEW_FILE, self.segment_bytes);
        }
        let mut loose = 0;
        while len < self.segment_bytes {
            let zeros = usize::try_from(self.segment_bytes - len).unwrap_or(ZEROS.len());
            let zeros = ZEROS.get(..zeros.min(ZEROS.len())).unwrap_or_default();
            disk.write_at(NEW_FILE, len, &[IoSlice::new(zeros)])?;
            len += zeros.len() as u64;
            loose += zeros.len() as u64;
            if loose >= SYNC_BYTES {
                disk.sync(NEW_FILE)?;
                loose = 0;
            }
        }
        Ok(())
    }
}

impl Supply {
    /// Takes the file of a dead segment, to use it again or to remove it.
    pub(super) fn recycle(&self, disk: &dyn Disk, file: &str) -> Result<(), StoreError> {
        // A file that never was as long as a segment is quicker made anew.
        let is_long = disk.len(file)? >= self.segment_bytes;
        let mut state = self.state.lock();
        if state.spares.len() >= SPARES_MAX || !is_long {
            drop(state);
            disk.remove(file)?;
            return disk.reach(Failpoint::FreeRemoved);
        }
        state.spares_made += 1;
        let spare = format!("{SPARE_PREFIX}{}", state.spares_made);
        disk.reach(Failpoint::FreeRenames)?;
        disk.rename(file, &spare)?;
        state.spares.push(spare);
        disk.reach(Failpoint::FreeRenamed)
    }
}

impl Supply {
    /// Removes the files that wait to be used again: room is wanted more than speed.
    pub(super) fn drop_spares(&self, disk: &dyn Disk) -> Result<(), StoreError> {
        let spares = std::mem::take(&mut self.state.lock().spares);
        spares.iter().try_for_each(|spare| disk.remove(spare))
    }
}

/// Whether the file waits to become a segment or another file, or was given up on its way.
pub(super) fn is_prepared(file: &str) -> bool {
    file.ends_with(".new") || file.starts_with(SPARE_PREFIX)
}

/// Removes what a crash left of files that were being made, and of files that waited to be used.
pub(super) fn clear(disk: &dyn Disk, files: &[String]) -> Result<(), StoreError> {
    for file in files.iter().filter(|file| is_prepared(file)) {
        disk.remove(file)?;
    }
    Ok(())
}
