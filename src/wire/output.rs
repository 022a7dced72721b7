//! Bytes to write, in order: copied ones in a buffer, large bodies by reference in between.
//!
//! ```text
//! buffer   |  written  |  to write   |  to write              |
//!                      ^ written     ^ shared[0].at           ^ shared[1].at
//! on the wire:          to write, shared[0], to write, shared[1]
//! ```

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// A buffer of at most this is kept for the next batch; a busy connection fills about as much.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Pieces below this are copied, which costs less than a reference and a slice of their own.
const SHARED_BYTES_MIN: usize = 2 * 1024;
/// Written bytes are dropped from the front of a buffer that is never empty, in steps of this.
const COMPACT_BYTES_MIN: usize = 64 * 1024;

#[derive(Debug, Default)]
pub struct Output {
    buffer: Vec<u8>,
    /// Bytes of `buffer` that have been written.
    written: usize,
    shared: VecDeque<Shared>,
    /// Bytes in `shared`.
    shared_len: usize,
}

/// Goes out before the bytes at `buffer[at..]`.
#[derive(Debug)]
struct Shared {
    at: usize,
    bytes: Bytes,
}

impl Output {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends without copying, if that is worth it.
    pub fn put_shared(&mut self, bytes: Bytes) {
        if bytes.len() < SHARED_BYTES_MIN {
            self.put(&bytes);
            return;
        }
        self.shared_len += bytes.len();
        let at = self.buffer.len();
        self.shared.push_back(Shared { at, bytes });
    }

    /// For encoders, which append to it and do nothing else.
    #[inline]
    pub fn buffer_mut(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Bytes that remain to be written.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.written + self.shared_len
    }

    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves all of `other` behind what is here, and leaves it empty.
    pub fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, other);
            other.recycle();
            return;
        }
        let moved_by = self.buffer.len();
        let unwritten = other.buffer.get(other.written..).unwrap_or_default();
        self.buffer.extend_from_slice(unwritten);
        for Shared { at, bytes } in other.shared.drain(..) {
            let at = at - other.written + moved_by;
            self.shared.push_back(Shared { at, bytes });
        }
        self.shared_len += other.shared_len;
        other.recycle();
    }

    /// Fills `out` with what comes next and says how many slices that are.
    pub fn slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut free = out.iter_mut();
        let mut from = self.written;
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if bytes.is_empty() {
                return true;
            }
            let Some(slot) = free.next() else {
                return false;
            };
            *slot = IoSlice::new(bytes);
            count += 1;
            true
        };
        for Shared { at, bytes } in &self.shared {
            let copied = self.buffer.get(from..*at).unwrap_or_default();
            if !put(copied) || !put(bytes) {
                return count;
            }
            from = *at;
        }
        put(self.buffer.get(from..).unwrap_or_default());
        count
    }

    /// Forgets the first `n` bytes, which have been written.
    ///
    /// # Panics
    /// If there were fewer.
    pub fn advance(&mut self, mut n: usize) {
        assert!(n <= self.len(), "more was written than there was to write");
        while let Some(Shared { at, bytes }) = self.shared.front_mut() {
            let copied = (*at - self.written).min(n);
            self.written += copied;
            n -= copied;
            let taken = bytes.len().min(n);
            bytes.advance(taken);
            self.shared_len -= taken;
            n -= taken;
            if !bytes.is_empty() {
                break;
            }
            self.shared.pop_front();
        }
        self.written += n;
        if self.is_empty() {
            self.recycle();
        } else if self.written >= COMPACT_BYTES_MIN && self.written * 2 >= self.buffer.len() {
            self.buffer.drain(..self.written);
            for shared in &mut self.shared {
                shared.at -= self.written;
            }
            self.written = 0;
        }
    }

    /// Gives back all memory if nothing is to be written, as an idle connection does.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::new();
        }
    }

    /// Empties it but keeps a buffer of usual size.
    fn recycle(&mut self) {
        self.shared.clear();
        self.shared_len = 0;
        self.written = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT_BYTES_MAX {
            self.buffer = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 64];
        let count = output.slices(&mut slices);
        let bytes =
            slices[..count].iter().flat_map(|slice| slice.iter()).copied().collect::<Vec<_>>();
        assert_eq!(bytes.len(), output.len());
        bytes
    }

    fn mixed() -> (Output, Vec<u8>) {
        let mut output = Output::new();
        output.put(b"head");
        output.put_shared(Bytes::from(vec![1; 3000]));
        output.put_shared(Bytes::from(vec![2; 5000]));
        output.put(b"mid");
        output.put_shared(Bytes::from_static(b"small"));
        output.put_shared(Bytes::from(vec![3; 4000]));
        let parts = [&b"head"[..], &[1; 3000], &[2; 5000], b"midsmall", &[3; 4000]];
        (output, parts.concat())
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_were_put() {
        for step in [1, 3, 4, 5, 999, 3004, 8004, 12_012] {
            let (mut output, whole) = mixed();
            let mut at = 0;
            while !output.is_empty() {
                assert_eq!(written(&output), whole[at..]);
                let n = step.min(output.len());
                output.advance(n);
                at += n;
            }
            assert_eq!(at, whole.len());
        }
    }

    #[test]
    fn few_slices_take_the_beginning() {
        let (output, whole) = mixed();
        let mut slices = [IoSlice::new(&[]); 2];
        assert_eq!(output.slices(&mut slices), 2);
        assert_eq!([&*slices[0], &*slices[1]].concat(), whole[..3004]);
        assert_eq!(output.slices(&mut []), 0);
    }

    #[test]
    fn what_is_appended_comes_behind() {
        for (ours, theirs) in [(0, 0), (5, 0), (5, 3500), (3500, 5), (9000, 12_012)] {
            let ((mut a, whole), (mut b, _)) = (mixed(), mixed());
            a.advance(ours);
            b.advance(theirs);
            a.append(&mut b);
            assert!(b.is_empty());
            assert_eq!(written(&a), [&whole[ours..], &whole[theirs..]].concat());
        }
        let ((mut empty, _), (mut full, whole)) = (mixed(), mixed());
        empty.advance(empty.len());
        empty.append(&mut full);
        assert_eq!(written(&empty), whole);
    }

    #[test]
    fn a_buffer_that_is_never_empty_does_not_grow_forever() {
        let mut output = Output::new();
        output.put(b"x");
        for _ in 0..10_000 {
            output.put(&[7; 1000]);
            output.put_shared(Bytes::from(vec![8; 3000]));
            output.advance(4000);
        }
        assert_eq!(output.len(), 1);
        assert!(output.buffer.capacity() < 4 * COMPACT_BYTES_MIN);
    }

    #[test]
    fn an_idle_output_owns_nothing() {
        let mut output = Output::new();
        output.put(&[0; 100]);
        output.release();
        assert_eq!(output.len(), 100);
        output.advance(100);
        assert!(output.buffer.capacity() > 0, "kept for the next batch");
        output.release();
        assert_eq!(output.buffer.capacity(), 0);
        output.put(&vec![0; KEPT_BYTES_MAX + 1]);
        output.advance(KEPT_BYTES_MAX + 1);
        assert_eq!(output.buffer.capacity(), 0);
    }
}
