//! What cannot be read, as entries: the gaps of a segment, and those for which a queue is held.

use super::{Entry, get, id_of, put};
use crate::id::{QueueId, SegmentNo};
use crate::store::catalogue::{Catalogue, CatalogueError, Change};
use crate::store::definition::Definition;
use crate::store::gap::Gap;

/// A queue is held for this gap, or not any more.
pub(super) fn hold(id: QueueId, gap: &Gap, is_held: bool) -> Change {
    let place = [gap.segment.0.to_be_bytes(), gap.offset.to_be_bytes()].concat();
    let key = [prefix(id), place].concat();
    if is_held { put(key, gap) } else { (key, None) }
}

/// The queue is gone.
pub(super) fn delete_holds(
    id: QueueId,
    catalogue: &mut dyn Catalogue,
    out: &mut Vec<Change>,
) -> Result<(), CatalogueError> {
    catalogue.scan(&prefix(id), &mut |key, _| {
        out.push((key.to_vec(), None));
        true
    })
}

/// Where a segment cannot be read; nothing if it is gone.
pub(in crate::store) fn segment_gaps(number: SegmentNo, gaps: Option<&[Gap]>) -> Change {
    let key = [b"k", &number.0.to_be_bytes()[..]].concat();
    match gaps {
        Some(gaps) => put(key, &gaps),
        None => (key, None),
    }
}

pub(super) fn read_hold(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (id, gap) = (id_of(key)?, get(value)?);
    Some(Entry::Definition(Definition::QueueHeld { id, gap }))
}

fn prefix(id: QueueId) -> Vec<u8> {
    [b"g", &id.0.to_be_bytes()[..]].concat()
}
