//! The content of one channel: in sequence, out of it, large, skipped.

// A wrong index is the test's failure.
#![allow(clippy::indexing_slicing)]

use super::*;
use crate::exception::{Exception, MethodId};
use crate::wire::method::BASIC_PUBLISH;
use crate::wire::publish::parse_publish;

const PUBLISH: &[u8] = b"\0\x3c\0\x28\0\0\x02ex\x03key\x01";

fn header(body_size: u64) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&body_size.to_be_bytes());
    header.extend_from_slice(&[0x10, 0, 2]);
    header
}

fn begun() -> Assembly {
    let mut assembly = Assembly::new();
    assembly.begin(&parse_publish(PUBLISH).unwrap()).unwrap();
    assembly
}

fn awaiting_body(body_size: u64) -> Assembly {
    let mut assembly = begun();
    assert!(!assembly.push_header(&header(body_size)).unwrap());
    assembly
}

fn told<T: std::fmt::Debug>(result: Result<T, WireError>) -> (String, MethodId) {
    let exception: Exception = result.unwrap_err().into();
    (exception.text(), exception.method.unwrap())
}

#[test]
fn a_small_content_becomes_one_message() {
    let mut assembly = begun();
    assert_eq!((assembly.exchange(), assembly.key()), (&b"ex"[..], &b"key"[..]));
    assert!(assembly.is_mandatory() && !assembly.is_immediate());
    assert!(!assembly.push_header(&header(8)).unwrap());
    assert_eq!((assembly.header(), assembly.body_size()), (&header(8)[..], 8));
    for (piece, is_complete) in [(&b"one"[..], false), (b"", false), (b"three", true)] {
        assert_eq!(assembly.push_body(piece).unwrap(), is_complete);
    }
    let content = assembly.take(&mut Vec::new()).unwrap();
    assert!(content.mandatory && !content.immediate);
    assert_eq!(content.message.address(), b"\x02ex\x03key");
    assert_eq!(content.message.header(), header(8));
    assert_eq!(content.message.small_body(), Some(&b"onethree"[..]));
    assert!(assembly.is_idle() && assembly.take(&mut Vec::new()).is_none());
}

#[test]
fn an_empty_content_is_complete_with_its_header() {
    let mut assembly = begun();
    assert!(assembly.push_header(&header(0)).unwrap());
    let content = assembly.take(&mut Vec::new()).unwrap();
    assert_eq!(content.message.small_body(), Some(&b""[..]));
    let (text, method) = told(assembly.push_body(b""));
    assert_eq!(text, "UNEXPECTED_FRAME - expected method frame, got non method frame instead");
    assert_eq!(method, MethodId::NONE);
}

#[test]
fn a_large_content_keeps_long_pieces_and_gathers_short_ones() {
    let body = vec![5; 100_000];
    for piece_len in [1, 1448, CHUNK_MIN, 60_000, 100_000] {
        let mut assembly = awaiting_body(body.len() as u64);
        for piece in body.chunks(piece_len) {
            let before = assembly.held_len();
            assembly.push_body(piece).unwrap();
            assert_eq!(assembly.held_len(), before + piece.len());
        }
        let message = assembly.take(&mut Vec::new()).unwrap().message;
        assert_eq!(message.body_to_vec(), body);
        let chunks = message.large_body().len();
        assert!(chunks <= body.len() / CHUNK_MIN + 1, "{chunks} chunks of {piece_len}");
        assert_eq!(assembly.held_len(), 0);
    }
}

#[test]
fn nothing_is_allocated_by_an_announced_size() {
    let mut assembly = awaiting_body(BODY_SIZE_HARD_MAX);
    assembly.push_body(b"x").unwrap();
    assert!(assembly.gathered.capacity() + assembly.tail.capacity() < 256);
    assert!(assembly.pieces.capacity() == 0);
}

#[test]
fn a_skipped_body_is_counted_and_not_kept() {
    let mut assembly = awaiting_body(300_000);
    assembly.push_body(&[1; 100_000]).unwrap();
    assembly.skip();
    assert!(assembly.is_skipped() && assembly.held_len() < 1000);
    assert!(!assembly.push_body(&[1; 100_000]).unwrap());
    assert!(assembly.push_body(&[1; 100_000]).unwrap());
    assert!(assembly.held_len() < 1000);
    assert_eq!(assembly.exchange(), b"ex");
    assert!(assembly.take(&mut Vec::new()).is_none());
    assert!(assembly.is_idle());
    assembly.begin(&parse_publish(PUBLISH).unwrap()).unwrap();
    assert!(!assembly.is_skipped());
}

#[test]
fn frames_out_of_sequence_are_told_as_rabbitmq_tells_them() {
    let mut idle = Assembly::new();
    let expected_method = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    assert_eq!(told(idle.push_header(&header(1))).0, expected_method);
    assert_eq!(told(idle.push_body(b"x")).0, expected_method);

    let no_header = "UNEXPECTED_FRAME - expected content header for class 60, got non content \
                     header frame instead";
    let no_header = (no_header.to_owned(), BASIC_PUBLISH);
    let mut due = begun();
    assert_eq!(told(due.expect_method()), no_header);
    assert_eq!(told(due.begin(&parse_publish(PUBLISH).unwrap())), no_header);
    assert_eq!(told(due.push_body(b"x")), no_header);
    let mut weighty = header(1);
    weighty[3] = 1;
    assert_eq!(told(due.push_header(&weighty)), no_header);
    let mut other_class = header(1);
    other_class[1] = 61;
    let other_class = told(due.push_header(&other_class)).0;
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 61 \
                instead";
    assert_eq!(other_class, text);

    let no_body = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let no_body = (no_body.to_owned(), BASIC_PUBLISH);
    let mut due = awaiting_body(4);
    assert_eq!(told(due.expect_method()), no_body);
    assert_eq!(told(due.push_header(&header(1))), no_body);
}

#[test]
fn bodies_that_are_too_long_are_refused() {
    let mut assembly = awaiting_body(4);
    assembly.push_body(b"abc").unwrap();
    let too_long = "FRAME_ERROR - content body frame exceeds remaining content size";
    assert_eq!(told(assembly.push_body(b"de")), (too_long.to_owned(), BASIC_PUBLISH));
    let (text, method) = told(begun().push_header(&header(BODY_SIZE_HARD_MAX + 1)));
    assert_eq!(
        text,
        "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912"
    );
    assert_eq!(method, BASIC_PUBLISH);
    assert!(begun().push_header(&header(BODY_SIZE_HARD_MAX)).is_ok());
}

#[test]
fn a_header_too_short_for_a_size_is_no_header_frame() {
    let (text, method) = told(begun().push_header(&header(1)[..11]));
    assert_eq!(
        text,
        "FRAME_ERROR - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0>>: unknown_frame"
    );
    assert_eq!(method, MethodId::NONE);
}

#[test]
fn a_header_too_short_for_flags_is_left_to_who_checks_properties() {
    let mut assembly = begun();
    assert!(!assembly.push_header(&header(2)[..12]).unwrap());
    assembly.push_body(b"ab").unwrap();
    let message = assembly.take(&mut Vec::new()).unwrap().message;
    assert!(crate::wire::Properties::check(message.header()).is_err());
}

#[test]
fn an_idle_assembly_gives_its_memory_back() {
    let mut assembly = awaiting_body(8);
    assembly.release();
    assert!(!assembly.is_idle(), "it is needed");
    assembly.clear();
    assembly.release();
    assert_eq!(assembly.gathered.capacity(), 0);
}
