//! Messages as they are built, stored and changed.

use super::*;

fn header(body_len: u64) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&body_len.to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    header
}

#[test]
fn a_small_message_gives_back_its_parts() {
    let message = Message::new(b"ex", b"key", &header(4), b"body", &mut Vec::new());
    assert_eq!(message.address(), b"\x02ex\x03key");
    assert_eq!(message.exchange(), b"ex");
    assert_eq!(message.routing_key(), b"key");
    assert_eq!(message.header(), header(4));
    assert_eq!(message.small_body(), Some(&b"body"[..]));
    assert_eq!(message.body_len(), 4);
    assert_eq!(size_of::<Option<Message>>(), 8, "a message is one word in every queue entry");
}

#[test]
fn a_large_message_keeps_its_pieces() {
    let piece = Bytes::from(vec![7; INLINE_BODY_MAX]);
    let pieces = vec![piece.clone(), piece];
    let header = header(2 * INLINE_BODY_MAX as u64);
    let message = Message::from_pieces(b"", b"q", &header, pieces, &mut Vec::new());
    assert_eq!(message.large_body().len(), 2);
    assert_eq!(message.body_len(), 2 * INLINE_BODY_MAX);
    assert_eq!(message.header(), header);
    assert_eq!(message.small_body(), None);
}

#[test]
fn blind_keys_go_along_and_are_not_shown() {
    let scratch = &mut Vec::new();
    for body in [&b""[..], b"body", &[7; INLINE_BODY_MAX + 1]] {
        let header = header(body.len() as u64);
        let message = Message::new(b"ex", b"key", &header, body, scratch);
        let blind = message.with_blind_keys(&[b"", b"blind"], scratch);
        let stored = [&*blind.stored_head(), &blind.body_to_vec()].concat();
        let again = Message::from_stored(&stored, body.len()).unwrap();
        let pieces = stored[stored.len() - body.len()..].chunks(5).map(Bytes::copy_from_slice);
        let again_in_pieces =
            Message::from_stored_pieces(&blind.stored_head(), pieces.collect()).unwrap();
        for message in [&blind, &again, &again_in_pieces, &blind.with_header(&header, scratch)] {
            assert_eq!(message.blind_keys().collect::<Vec<_>>(), [&b""[..], b"blind"]);
            assert_eq!(message.head(), [b"\x02ex\x03key", &*header].concat());
            assert_eq!((message.body_to_vec(), message.body_len()), (body.to_vec(), body.len()));
        }
        let plain = blind.dead_letter(b"ex", Some(b"own"), header.clone(), scratch);
        assert_eq!(plain.blind_keys().count(), 0);
        assert_eq!(plain.contiguous().is_some(), message.contiguous().is_some());
        assert_eq!(plain.stored_head(), plain.head());
        let alike = blind.dead_letter(b"ex", None, header, scratch);
        assert_eq!(alike.blind_keys().count(), 2);
    }
}

#[test]
fn a_dead_letter_is_one_until_it_is_published_again() {
    let scratch = &mut Vec::new();
    for body in [&b""[..], b"body", &[7; INLINE_BODY_MAX + 1]] {
        let header = header(body.len() as u64);
        let plain = Message::new(b"ex", b"key", &header, body, scratch);
        let blind = plain.with_blind_keys(&[b"blind"], scratch);
        for message in [plain, blind] {
            let keys: Vec<_> = message.blind_keys().map(<[u8]>::to_vec).collect();
            let letter = message.dead_letter(b"dlx", None, header.clone(), scratch);
            let head = letter.stored_head();
            let stored = [&*head, &letter.body_to_vec()].concat();
            let again = Message::from_stored(&stored, body.len()).unwrap();
            let pieces = body.chunks(5).map(Bytes::copy_from_slice).collect();
            let in_pieces = Message::from_stored_pieces(&head, pieces).unwrap();
            let changed = again.with_header(again.header(), scratch);
            for letter in [&letter, &again, &in_pieces, &changed] {
                assert!(letter.has_died());
                assert!(letter.blind_keys().eq(keys.iter().map(Vec::as_slice)));
                assert_eq!(letter.body_to_vec(), body);
                assert_eq!(letter.contiguous().is_some(), message.contiguous().is_some());
            }
            let stored = [&*message.stored_head(), body].concat();
            assert!(!Message::from_stored(&stored, body.len()).unwrap().has_died());
        }
    }
}

#[test]
fn damaged_blind_keys_are_refused() {
    let message = Message::new(b"", b"q", &header(0), b"", &mut Vec::new());
    let stored = message.with_blind_keys(&[b"key"], &mut Vec::new()).stored_head().into_owned();
    for cut in 0..stored.len() {
        assert!(Message::from_stored(&stored[..cut], 0).is_none_or(|cut| cut.len() < 30));
    }
    for len in [1, 6, 8, 255] {
        let mut stored = stored.clone();
        *stored.last_mut().unwrap() = len;
        assert!(Message::from_stored(&stored, 0).is_none(), "{len}");
    }
}

#[test]
fn damaged_stored_bytes_are_refused() {
    assert!(Message::from_stored(b"", 0).is_none());
    assert!(Message::from_stored(b"\xffshort", 0).is_none());
    assert!(Message::from_stored(b"\x00\x00", 3).is_none());
    let stored = Message::new(b"", b"q", &header(4), b"body", &mut Vec::new());
    let bytes = stored.contiguous().unwrap();
    assert!(Message::from_stored(bytes, 3).is_none(), "the announced size is another");
    assert_eq!(Message::from_stored(bytes, 4).unwrap().small_body(), Some(&b"body"[..]));
}
