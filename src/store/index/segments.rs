//! A few segment numbers in little room: which segments have entries of a queue.

use crate::id::SegmentNo;

/// Sorted and not empty. Many queues have one.
#[derive(Debug)]
pub(super) enum Segments {
    One(SegmentNo),
    Many(Box<[SegmentNo]>),
}

impl Segments {
    pub(super) fn as_slice(&self) -> &[SegmentNo] {
        match self {
            Self::One(segment) => std::slice::from_ref(segment),
            Self::Many(segments) => segments,
        }
    }

    pub(super) fn insert(&mut self, segment: SegmentNo) {
        if let Err(at) = self.as_slice().binary_search(&segment) {
            let mut segments = self.as_slice().to_vec();
            segments.insert(at, segment);
            *self = Self::Many(segments.into());
        }
    }

    /// False if none is left, and then nothing changed.
    pub(super) fn remove(&mut self, segment: SegmentNo) -> bool {
        let left = self.as_slice().iter().copied().filter(|other| *other != segment);
        let left: Vec<_> = left.collect();
        match left.as_slice() {
            [] => return false,
            [one] => *self = Self::One(*one),
            _ => *self = Self::Many(left.into()),
        }
        true
    }

    /// Bytes of RAM beside its own size.
    pub(super) fn memory_len(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(segments) => size_of_val(&**segments),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_and_go_in_order() {
        let mut segments = Segments::One(SegmentNo(5));
        for number in [9, 2, 5, 9] {
            segments.insert(SegmentNo(number));
        }
        assert_eq!(segments.as_slice(), [SegmentNo(2), SegmentNo(5), SegmentNo(9)]);
        assert_eq!(segments.memory_len(), 24);
        assert!(segments.remove(SegmentNo(5)) && segments.remove(SegmentNo(2)));
        assert!(matches!(segments, Segments::One(SegmentNo(9))));
        assert!(!segments.remove(SegmentNo(9)));
        assert_eq!(size_of::<Segments>(), 16);
    }
}
