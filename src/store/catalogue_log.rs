//! Whether the metadata log of a closed sled is whole, for sled itself does not say.
//!
//! Owns the layout of that log's frames, in the version that `Cargo.toml` pins. Sled reads such a
//! log up to the first bad frame and takes that for the end. Its leaves are then found in places
//! that were given away since, and looking for one that is not there never ends: it spins, on a
//! thread that cannot be stopped. What a crash cut off is refused with the rest; a catalogue is
//! made anew more cheaply than it is doubted.

/// ```text
/// length of the payload, 6 bytes | crc32 of it, 2 bytes | payload | crc32 of it all, 4 bytes
/// ```
pub(super) fn is_whole(mut log: &[u8]) -> bool {
    while !log.is_empty() {
        match after_frame(log) {
            Some(rest) => log = rest,
            None => return false,
        }
    }
    true
}

/// Sled turns these bits of a frame's checksum around.
const CHECKSUM_TURNED: u32 = 0xaf;

fn after_frame(log: &[u8]) -> Option<&[u8]> {
    let (length, rest) = log.split_first_chunk::<6>()?;
    let (checked, _) = rest.split_first_chunk::<2>()?;
    let [low, high, ..] = crc32fast::hash(length).to_le_bytes();
    if *checked != [low, high] {
        return None;
    }
    let [a, b, c, d, e, f] = *length;
    let payload_len = usize::try_from(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])).ok()?;
    let (frame, rest) = log.split_at_checked(payload_len.checked_add(8)?)?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let expected = crc32fast::hash(frame) ^ CHECKSUM_TURNED;
    (u32::from_le_bytes(*checksum) == expected).then_some(rest)
}
