//! Records out of frames, one frame after the other, those that are longer than a frame included.
//!
//! ```text
//! frame ── record, record ... ───────────────────────> (Record, Done) (Record, Done) ...
//! run   ── TX, its records in parts ─────────────────> Record, Record ... Done
//!     └─ one long record, alone or within a TX ──────> Record, with the run in which it lies
//! ```
//! A part of a transaction holds whole records of it, or one slice of a long one. What is passed on
//! is no more than read: who applies records must know that a run is whole, as `Scan` does.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::frame::Frame;
use super::long::{Long, Run};
use super::record::{BadRecord, PREFIX_LEN, RawRecord, Records, TX, prefix};

/// What comes out.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// A record, or one of a transaction's, and where it lies if it has frames of its own.
    Record(RawRecord<'a>, Option<Run>),
    /// That was all of one LSN.
    Done,
}

/// What the frames so far left open.
#[derive(Clone, Debug, Default)]
pub(super) struct Assembly {
    /// Bytes of a transaction in frames to come.
    transaction: Option<usize>,
    long: Option<Long>,
}

impl Assembly {
    /// Takes in the next frame.
    #[inline]
    pub(super) fn frame(
        &mut self,
        frame: &Frame<'_>,
        mut each: impl FnMut(Step<'_>) -> Result<(), BadRecord>,
    ) -> Result<(), BadRecord> {
        if frame.header.left > 0 || frame.header.before > 0 {
            return self.part(frame, &mut each);
        }
        let mut records = Records::new(frame.payload);
        while let Some(raw) = records.next_raw()? {
            match raw.parts() {
                None => each(Step::Record(raw, None))?,
                Some(mut parts) => {
                    while let Some(part) = parts.next_raw()? {
                        each(Step::Record(part, None))?;
                    }
                }
            }
            each(Step::Done)?;
        }
        Ok(())
    }

    #[cold]
    fn part(
        &mut self,
        frame: &Frame<'_>,
        each: &mut dyn FnMut(Step<'_>) -> Result<(), BadRecord>,
    ) -> Result<(), BadRecord> {
        let mut at = 0;
        if frame.header.before == 0 {
            // Whoever stopped within a record begins anew with it.
            *self = Self::default();
            let (kind, len) = prefix(frame.payload).ok_or(BadRecord::Truncated)?;
            if kind == TX {
                self.transaction = Some(len);
                at = PREFIX_LEN;
            }
        }
        let rest = frame.payload.get(at..).unwrap_or_default();
        if let Some(left) = &mut self.transaction {
            *left = left.checked_sub(rest.len()).ok_or(BadRecord::TooLong)?;
        }
        if self.long.is_none() && at == 0 {
            self.long = Long::begin(rest, frame.offset, self.transaction.is_some())?;
        }
        match &mut self.long {
            Some(long) => long.add(&frame.header, rest)?,
            None if self.transaction.is_none() => return Err(BadRecord::TooLong),
            None => {
                let mut records = Records::of_transaction(rest, at);
                while let Some(raw) = records.next_raw()? {
                    each(Step::Record(raw, None))?;
                }
            }
        }
        if let Some(long) = self.long.take_if(|long| long.left() == 0) {
            each(Step::Record(long.record(), Some(long.run())))?;
        }
        self.agree(frame)?;
        if frame.header.left == 0 { each(Step::Done) } else { Ok(()) }
    }

    /// What the record says of its length is what the frames say.
    fn agree(&mut self, frame: &Frame<'_>) -> Result<(), BadRecord> {
        let long = self.long.as_ref().map_or(0, Long::left);
        let left = self.transaction.unwrap_or(long);
        if left != frame.header.left as usize || left < long {
            return Err(BadRecord::TooLong);
        }
        self.transaction.take_if(|left| *left == 0);
        Ok(())
    }
}
