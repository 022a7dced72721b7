//! Cuts blocks into frames: as many whole records as fit, and a run of frames for one that is
//! longer than a frame may be. Nothing is copied, a frame is a list of slices.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::cast_possible_truncation))]

use super::batch::Block;
use super::frame::FRAME_HEADER_LEN;
use super::record::{self, PREFIX_LEN};
use super::touches::Touches;
use std::io::IoSlice;

/// What the next frame holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// Of its payload.
    pub(super) len: usize,
    /// That end in it.
    pub(super) records: u64,
    /// Bytes of its record in the frames before it, and in those behind it.
    pub(super) before: usize,
    pub(super) left: usize,
    /// What the blocks name from which it is cut.
    pub(super) touches: Touches,
    /// Bytes of this frame, and of those behind it that must lie in the same segment. `None` if it
    /// goes on with a record.
    pub(super) room: Option<u64>,
}

/// The pieces of blocks, from which frames are taken.
pub(super) struct Pieces<'a, 'b> {
    rest: &'b [&'a [u8]],
    /// How much of the first is taken.
    at: usize,
}

/// How the blocks are cut into frames with payloads of at most `len_max` bytes.
pub(super) fn cut(blocks: &[Block], len_max: usize) -> Vec<Cut> {
    let touches = Touches::NONE;
    let mut cuts = Cuts { cuts: Vec::new(), len: 0, records: 0, touches, len_max };
    let mut slices = Vec::new();
    for block in blocks {
        // Blocks of small messages are never looked into.
        if block.len() <= len_max {
            cuts.whole(block.len(), block.records(), block.touches());
            continue;
        }
        slices.clear();
        block.slices(&mut slices);
        let mut pieces = Pieces::new(&slices);
        while let Some((kind, len)) = pieces.record() {
            if len <= len_max {
                cuts.whole(len, 1, block.touches());
            } else {
                cuts.end();
                cuts.long(kind, len, block.touches(), &pieces);
            }
            pieces.skip(len);
        }
    }
    cuts.end();
    cuts.cuts
}

struct Cuts {
    cuts: Vec<Cut>,
    /// Of the frame that is gathered.
    len: usize,
    records: u64,
    touches: Touches,
    len_max: usize,
}

impl Cuts {
    /// Adds what is not cut: it goes into the frame that is gathered, or begins the next one.
    fn whole(&mut self, len: usize, records: u64, touches: Touches) {
        if self.len + len > self.len_max {
            self.end();
        }
        self.len += len;
        self.records += records;
        self.touches.add(touches);
    }

    fn end(&mut self) {
        let Self { len, records, touches, .. } = *self;
        if len > 0 {
            let room = Some((len + FRAME_HEADER_LEN) as u64);
            self.cuts.push(Cut { len, records, before: 0, left: 0, touches, room });
        }
        (self.len, self.records, self.touches) = (0, 0, Touches::NONE);
    }

    /// Adds the frames of one record, which is the next of `pieces`.
    fn long(&mut self, kind: u8, len: usize, touches: Touches, pieces: &Pieces<'_, '_>) {
        let lens = match kind {
            record::TX => self.parts(len, Pieces { ..*pieces }),
            _ => self.slices(len).collect(),
        };
        let mut room = Some((len + lens.len() * FRAME_HEADER_LEN) as u64);
        let (mut before, mut left) = (0, len);
        for len in lens {
            left -= len;
            let records = u64::from(left == 0);
            self.cuts.push(Cut { len, records, before, left, touches, room: room.take() });
            before += len;
        }
    }

    /// The lengths of the slices of a record that is not a transaction.
    fn slices(&self, len: usize) -> impl Iterator<Item = usize> {
        let len_max = self.len_max;
        (0..len).step_by(len_max).map(move |at| len_max.min(len - at))
    }

    /// The lengths of the parts of a transaction: whole records of it, or slices of a long one.
    fn parts(&self, len: usize, mut pieces: Pieces<'_, '_>) -> Vec<usize> {
        let mut lens = Vec::new();
        pieces.skip(PREFIX_LEN);
        let (mut gathered, mut left) = (PREFIX_LEN, len - PREFIX_LEN);
        while left > 0 {
            let record = pieces.record();
            let (_, len) = record.expect("a transaction is as long as its records");
            if gathered + len > self.len_max && gathered > 0 {
                lens.push(gathered);
                gathered = 0;
            }
            if len > self.len_max {
                lens.extend(self.slices(len));
            } else {
                gathered += len;
            }
            pieces.skip(len);
            left -= len;
        }
        lens.extend(Some(gathered).filter(|gathered| *gathered > 0));
        lens
    }
}

impl<'a, 'b> Pieces<'a, 'b> {
    pub(super) fn new(slices: &'b [&'a [u8]]) -> Self {
        Self { rest: slices, at: 0 }
    }

    /// The next `len` bytes, behind what is in `out`.
    pub(super) fn take<'c>(&mut self, len: usize, out: &mut Vec<IoSlice<'c>>)
    where
        'a: 'c,
    {
        self.advance(len, |slice| out.push(IoSlice::new(slice)));
    }

    fn skip(&mut self, len: usize) {
        self.advance(len, |_| {});
    }

    fn advance(&mut self, len: usize, mut each: impl FnMut(&'a [u8])) {
        let mut left = len;
        while left > 0
            && let Some((first, behind)) = self.rest.split_first()
        {
            let here = first.get(self.at..).unwrap_or_default();
            let taken = here.get(..left).unwrap_or(here);
            if !taken.is_empty() {
                each(taken);
            }
            left -= taken.len();
            self.at += taken.len();
            if self.at == first.len() {
                (self.rest, self.at) = (behind, 0);
            }
        }
    }

    /// Kind and length of the record that comes next; its prefix is in one piece.
    fn record(&self) -> Option<(u8, usize)> {
        let (kind, len) = record::prefix(self.rest.first()?.get(self.at..)?)?;
        Some((kind, len + PREFIX_LEN))
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::RecordBatch;
    use super::super::samples::{message, run, to};
    use super::*;
    use crate::id::QueueId;

    fn lens(fill: impl FnOnce(&mut RecordBatch)) -> Vec<(usize, u64, usize)> {
        let mut batch = RecordBatch::new();
        fill(&mut batch);
        let block = std::mem::take(batch.complete());
        let cuts = cut(&[block], 100);
        let sum: u64 = cuts.iter().filter_map(|cut| cut.room).sum();
        let all: usize = cuts.iter().map(|cut| cut.len + FRAME_HEADER_LEN).sum();
        assert_eq!(sum, all as u64, "all that belongs together finds room together");
        assert!(cuts.iter().all(|cut| cut.len <= 100));
        cuts.iter().map(|cut| (cut.len, cut.records, cut.left)).collect()
    }

    fn publish(batch: &mut RecordBatch, body_len: usize) {
        batch.enqueue(&message(&vec![7; body_len]), &[to(1, 1)]);
    }

    /// Of an ENQUEUE, beside the body.
    fn head() -> usize {
        let head = lens(|batch| publish(batch, 1));
        head[0].0 - 1
    }

    #[test]
    fn records_share_a_frame_as_long_as_they_fit() {
        let each = head() + 1;
        let fitting = 100 / each;
        let cuts = lens(|batch| (0..fitting * 2 + 1).for_each(|_| publish(batch, 1)));
        let full = (fitting * each, fitting as u64, 0);
        assert_eq!(cuts, [full, full, (each, 1, 0)]);
        assert_eq!(lens(|_| {}), []);
    }

    #[test]
    fn a_long_record_has_frames_of_its_own_and_counts_with_the_last() {
        let len = head() + 1 + 250;
        let cuts = lens(|batch| {
            batch.ack(QueueId(1), [run(1, 1)]);
            publish(batch, 250);
            batch.ack(QueueId(1), [run(1, 1)]);
        });
        let ack = PREFIX_LEN + 3;
        let run = [(ack, 1, 0), (100, 0, len - 100), (100, 0, len - 200), (len - 200, 1, 0)];
        assert_eq!(cuts[..3], run[..3]);
        assert!(cuts.len() > 4 && cuts.last() == Some(&(ack, 1, 0)), "{cuts:?}");
    }

    #[test]
    fn a_transaction_is_cut_between_its_records_and_within_a_long_one() {
        let each = head() + 1;
        let cuts = lens(|batch| {
            batch.begin_transaction();
            publish(batch, 1);
            publish(batch, 150);
            (0..2).for_each(|_| publish(batch, 1));
            batch.end_transaction();
        });
        let long = each + 150;
        let whole = PREFIX_LEN + 3 * each + long;
        let first = PREFIX_LEN + each;
        assert_eq!(cuts[0], (first, 0, whole - first));
        assert_eq!(cuts[1], (100, 0, whole - first - 100));
        assert_eq!(cuts.iter().map(|cut| cut.1).sum::<u64>(), 1);
        assert_eq!(cuts.last().map(|cut| (cut.1, cut.2)), Some((1, 0)));
    }
}
