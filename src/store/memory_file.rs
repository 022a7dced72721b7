//! A file of the disk in memory: its bytes, which of them are safe, and what a power loss leaves of
//! the others.

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct FileBytes {
    bytes: Vec<u8>,
    /// What is safe of them.
    synced: Vec<u8>,
    /// What happened since, in order.
    loose: Vec<Change>,
}

/// What happens to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut(usize),
}

impl FileBytes {
    /// A file of these bytes, all of them safe.
    pub(super) fn safe(bytes: Vec<u8>) -> Self {
        Self { synced: bytes.clone(), bytes, loose: Vec::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What happened is safe from now on.
    pub(super) fn sync(&mut self) {
        for change in self.loose.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.loose.push(change);
    }

    /// What a power loss at this moment leaves.
    pub(super) fn crash(&self, chance: &mut Chance) -> Vec<u8> {
        let mut left = self.synced.clone();
        match chance.below(4) {
            0 => left.clone_from(&self.bytes),
            1 => self.keep_first(&mut left, chance),
            _ => self.keep_some(&mut left, chance),
        }
        left
    }

    /// The first changes, and a part of the one after them.
    fn keep_first(&self, left: &mut Vec<u8>, chance: &mut Chance) {
        let kept = chance.below(self.loose.len() + 1);
        for change in self.loose.iter().take(kept) {
            change.apply(left);
        }
        if let Some(Change::Write { offset, bytes }) = self.loose.get(kept) {
            let part = bytes.iter().take(chance.below(bytes.len() + 1));
            Change::Write { offset: *offset, bytes: part.copied().collect() }.apply(left);
        }
    }

    /// Any of the changes, of writes any sectors; a file may be as long as if all were there.
    fn keep_some(&self, left: &mut Vec<u8>, chance: &mut Chance) {
        const SECTOR: usize = 512;
        let lost_one_in = 1 + chance.below(8);
        for change in &self.loose {
            match change {
                Change::Cut(_) => {
                    if chance.below(2) == 0 {
                        change.apply(left);
                    }
                }
                Change::Write { offset, bytes } => {
                    let mut rest = bytes.as_slice();
                    let mut offset = *offset;
                    while !rest.is_empty() {
                        let (sector, later) =
                            rest.split_at(rest.len().min(SECTOR - offset % SECTOR));
                        if chance.below(lost_one_in) > 0 {
                            Change::Write { offset, bytes: sector.to_vec() }.apply(left);
                        }
                        offset += sector.len();
                        rest = later;
                    }
                }
            }
        }
        if chance.below(2) == 0 && left.len() < self.bytes.len() {
            left.resize(self.bytes.len(), 0);
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Cut(len) => to.truncate(*len),
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                if let Some(place) = to.get_mut(*offset..end) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }
}

/// Chance from a seed (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound as u64).unwrap_or(0)
    }
}
