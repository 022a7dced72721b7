//! A hash that is the same on every machine and in every version: where keys go depends on it.

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a over parts, each ended so that no two lists of parts are confused.
#[derive(Clone, Copy)]
pub(crate) struct Hasher(u64);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(OFFSET)
    }

    pub(crate) fn part(self, bytes: &[u8]) -> Self {
        let len = (bytes.len() as u64).to_le_bytes();
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        Self(len.iter().chain(bytes).fold(self.0, step))
    }

    pub(crate) fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// Spreads what differs over all bits (the finalizer of splitmix64).
pub(crate) fn mix(mut n: u64) -> u64 {
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A number below `len` of evenly spread `bits`; `len` is not 0.
pub(crate) fn below(bits: u64, len: usize) -> usize {
    let scaled = (u128::from(bits) * len as u128) >> 64;
    usize::try_from(scaled).expect("it is below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_for_ever() {
        assert_eq!(Hasher::new().finish(), mix(OFFSET));
        let golden = Hasher::new().part(b"rabbit").part(b"hare").finish();
        assert_eq!(golden, 16_303_441_062_050_594_874);
    }

    #[test]
    fn parts_are_not_confused() {
        let hash = |parts: &[&[u8]]| {
            parts.iter().fold(Hasher::new(), |hasher, part| hasher.part(part)).finish()
        };
        let all = [hash(&[b"ab"]), hash(&[b"a", b"b"]), hash(&[b"", b"ab"]), hash(&[b"ab", b""])];
        for (nth, one) in all.iter().enumerate() {
            assert!(!all[..nth].contains(one));
        }
    }

    #[test]
    fn every_number_below_is_reached_and_none_above() {
        assert_eq!((below(0, 3), below(u64::MAX / 2, 3), below(u64::MAX, 3)), (0, 1, 2));
        assert_eq!(below(u64::MAX, 1), 0);
    }
}
