//! Passwords as they are stored: salted and hashed as RabbitMQ does, so that definitions move.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hint::black_box;

/// A salted password: RabbitMQ's `rabbit_password_hashing_sha256`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PasswordHash {
    salt: [u8; 4],
    digest: [u8; 32],
}

impl PasswordHash {
    /// What an unknown user's password is compared with; no password has this digest.
    pub(super) const DECOY: Self = Self { salt: [0; 4], digest: [0; 32] };

    #[must_use]
    pub fn new(password: &str, salt: [u8; 4]) -> Self {
        Self { salt, digest: digest(salt, password) }
    }

    /// Reads what `to_base64` and RabbitMQ's definitions write.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        let (salt, digest) = bytes.split_first_chunk::<4>()?;
        Some(Self { salt: *salt, digest: digest.try_into().ok()? })
    }

    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode([&self.salt[..], &self.digest[..]].concat())
    }

    /// Takes the same time wherever the digests differ.
    pub(super) fn verify(&self, password: &str) -> bool {
        let given = digest(self.salt, password);
        let pairs = given.iter().zip(&self.digest);
        let difference = pairs.fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
        difference == 0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

fn digest(salt: [u8; 4], password: &str) -> [u8; 32] {
    let hash = Sha256::new().chain_update(salt);
    hash.chain_update(password).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rabbitmq_verifies_the_same_hash() {
        // sha256(01020304 "guest"), computed with another implementation.
        let hash = PasswordHash::new("guest", [1, 2, 3, 4]);
        let stored = "AQIDBEMMOXwY6PKx/JKP9PAqfsb4ozuD0Ta3pxxa9gEYBMmD";
        assert_eq!(hash.to_base64(), stored);
        assert_eq!(PasswordHash::from_base64(stored), Some(hash));
        assert_eq!(PasswordHash::from_base64(&stored[4..]), None);
        assert_eq!(PasswordHash::from_base64(""), None);
    }
}
