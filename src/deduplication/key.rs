//! Keys: what of a message makes it the same as another.
//!
//! A hash, so that all are of one size; a cryptographic one, so that nobody can make up a message
//! for which another one's is left out.

use crate::table::{Value, put_value};
use crate::time::UnixMillis;
use sha2::{Digest, Sha256};

/// Half of a SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub [u8; 16]);

/// A key as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEntry {
    /// Counts the keys of a cache; those of messages that are not stored leave gaps.
    pub number: u64,
    pub key: Key,
    /// Until then it is remembered.
    pub due: UnixMillis,
}

impl Key {
    /// Integers are the same in whatever type; any other value only in its own. `None` for no
    /// value.
    #[must_use]
    pub fn of(value: Value<'_>) -> Option<Self> {
        let mut hash = Sha256::new();
        match (value, value.as_int()) {
            (Value::Void, _) => return None,
            (Value::LongStr(bytes), _) => {
                hash.update(b"S");
                hash.update(bytes);
            }
            (_, Some(number)) => {
                hash.update(b"l");
                hash.update(number.to_be_bytes());
            }
            (other, None) => {
                let mut bytes = Vec::new();
                put_value(&mut bytes, other);
                hash.update(bytes);
            }
        }
        let hash = hash.finalize();
        let half = hash.first_chunk().expect("a hash has 32 octets");
        Some(Self(*half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_in_every_type_and_is_no_text() {
        let key = Key::of(Value::I32(7));
        for same in [Value::I8(7), Value::U8(7), Value::U16(7), Value::U32(7), Value::I64(7)] {
            assert_eq!(Key::of(same), key);
        }
        let others = [
            Value::I32(8),
            Value::LongStr(b"7"),
            Value::Bytes(b"7"),
            Value::Timestamp(7),
            Value::F64(7.0),
            Value::Bool(true),
            Value::LongStr(b""),
        ];
        let mut keys: Vec<_> = others.into_iter().map(Key::of).chain([key]).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 1);
        assert_eq!(Key::of(Value::Void), None);
    }
}
