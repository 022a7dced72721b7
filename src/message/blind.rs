//! The keys of a BCC header, which lead a message but are not shown. They lie beside it: it keeps
//! them because it may be routed again, as a dead letter or when a delay is over.
//!
//! Each is its length (u32) and its octets.

/// In their order. Mostly there are none.
#[derive(Clone, Default)]
pub(super) struct BlindKeys(Box<[u8]>);

impl BlindKeys {
    /// # Panics
    /// If a key is longer than 4 GiB, which no header is.
    pub(super) fn of(keys: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(keys.iter().map(|key| 4 + key.len()).sum());
        for key in keys {
            let len = u32::try_from(key.len()).expect("a header's value is below 4 GiB");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(key);
        }
        Self(bytes.into())
    }

    /// Of stored bytes, which may be damaged.
    fn check(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while !rest.is_empty() {
            take(&mut rest)?;
        }
        Some(Self(bytes.into()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they take.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || take(&mut rest))
    }

    /// Appends them as they are stored: behind a message's head, found from its end.
    pub(super) fn store(&self, head: &mut Vec<u8>) {
        let len = u32::try_from(self.0.len()).expect("they came in a header below 4 GiB");
        head.extend_from_slice(&self.0);
        head.extend_from_slice(&len.to_be_bytes());
    }

    /// Splits what `store` has appended from the head before it.
    pub(super) fn split_from(stored: &[u8]) -> Option<(&[u8], Self)> {
        let (rest, len) = stored.split_last_chunk()?;
        let at = rest.len().checked_sub(u32::from_be_bytes(*len) as usize)?;
        let (head, keys) = rest.split_at_checked(at)?;
        Some((head, Self::check(keys)?))
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk()?;
    let (key, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
    *rest = after;
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn stored(keys: &[Vec<u8>]) -> Vec<u8> {
        let keys: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        let mut head = b"head".to_vec();
        BlindKeys::of(&keys).store(&mut head);
        head
    }

    proptest! {
        #[test]
        fn what_is_stored_comes_back(keys in vec(vec(any::<u8>(), 0..300), 0..5)) {
            let stored = stored(&keys);
            let (head, back) = BlindKeys::split_from(&stored).unwrap();
            prop_assert_eq!(head, b"head");
            prop_assert_eq!(back.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), keys);
        }

        #[test]
        fn damaged_bytes_are_refused_or_split(stored in vec(0..9_u8, 0..40)) {
            if let Some((head, keys)) = BlindKeys::split_from(&stored) {
                prop_assert_eq!(head.len() + keys.len() + 4, stored.len());
                let taken: usize = keys.iter().map(|key| key.len() + 4).sum();
                prop_assert_eq!(taken, keys.len());
            }
        }
    }
}
