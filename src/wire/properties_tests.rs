//! Properties found, refused and rewritten.

// A wrong index is the test's failure.
#![allow(clippy::indexing_slicing)]

use super::*;
use crate::table::Value;

fn payload(flags: u16, values: &[u8]) -> Vec<u8> {
    [&b"\0\x3c\0\0\0\0\0\0\0\0\0\x05"[..], &flags.to_be_bytes(), values].concat()
}

const EVERYTHING: &[u8] =
    b"\x01c\x01e\0\0\0\x0d\x03BCCV\x01aV\x03BCCV\x02\x09\x01o\x01r\x0242\x01m\
    \0\0\0\0\0\0\x01\0\x01t\x01u\x01a\x01k";

#[test]
fn each_property_is_found_at_its_place() {
    let payload = payload(0xfffc, EVERYTHING);
    let properties = Properties::check(&payload).unwrap();
    assert_eq!(properties.content_type(), Some(&b"c"[..]));
    assert_eq!(properties.content_encoding(), Some(&b"e"[..]));
    assert_eq!(properties.headers().unwrap().get(b"a"), Some(Value::Void));
    assert_eq!(properties.delivery_mode(), Some(2));
    assert!(properties.is_persistent());
    assert_eq!(properties.priority(), Some(9));
    assert_eq!(properties.correlation_id(), Some(&b"o"[..]));
    assert_eq!(properties.reply_to(), Some(&b"r"[..]));
    assert_eq!(properties.expiration(), Some(&b"42"[..]));
    assert_eq!(properties.message_id(), Some(&b"m"[..]));
    assert_eq!(properties.timestamp(), Some(256));
    assert_eq!(properties.kind(), Some(&b"t"[..]));
    assert_eq!(properties.user_id(), Some(&b"u"[..]));
    assert_eq!(properties.app_id(), Some(&b"a"[..]));
    assert_eq!(properties.cluster_id(), Some(&b"k"[..]));
}

#[test]
fn no_flag_no_value() {
    let none = payload(0, b"");
    let properties = Properties::check(&none).unwrap();
    assert_eq!(properties.delivery_mode(), None);
    assert_eq!(properties.expiration(), None);
    assert!(properties.headers().is_none() && !properties.is_persistent());
    let transient = payload(0x1000, &[1]);
    assert!(!Properties::check(&transient).unwrap().is_persistent());
    let persistent = payload(0x1000, &[2]);
    assert!(Properties::check(&persistent).unwrap().is_persistent());
}

#[test]
fn the_two_lowest_flags_are_ignored() {
    let payload = payload(0x1003, &[2]);
    assert!(Properties::check(&payload).unwrap().is_persistent());
}

#[test]
fn values_fill_the_payload_exactly() {
    let whole = payload(0xfffc, EVERYTHING);
    for end in 0..whole.len() {
        let cut = Properties::check(whole.get(..end).unwrap());
        assert_eq!(cut.unwrap_err(), PropertiesError::Truncated, "cut at {end}");
    }
    for (flags, values) in [(0, &b"x"[..]), (0x1000, b"\x02x"), (0x8000, b"\x01cx")] {
        let error = Properties::check(&payload(flags, values)).unwrap_err();
        assert_eq!(error, PropertiesError::Trailing);
    }
    let short = Properties::check(&payload(0x1000, b"")).unwrap_err();
    assert_eq!(short, PropertiesError::Truncated);
    let unknown = Properties::check(&payload(0x2000, b"\0\0\0\x03\x01aU")).unwrap_err();
    assert_eq!(unknown, PropertiesError::Headers(TableError::UnknownType(b'U')));
}

#[test]
fn a_header_is_removed_with_its_duplicates() {
    let before = payload(0xfffc, EVERYTHING);
    let properties = Properties::check(&before).unwrap();
    let after = properties.without_header(b"BCC").unwrap();
    let expected = [&EVERYTHING[..4], b"\0\0\0\x03\x01aV", &EVERYTHING[21..]].concat();
    assert_eq!(after, payload(0xfffc, &expected));
    assert_eq!(properties.without_header(b"CC"), None);
    assert_eq!(Properties::check(&payload(0, b"")).unwrap().without_header(b"BCC"), None);
    let only = payload(0x2000, b"\0\0\0\x05\x03BCCV");
    let emptied = Properties::check(&only).unwrap().without_header(b"BCC").unwrap();
    assert_eq!(emptied, payload(0x2000, b"\0\0\0\0"));
}

#[test]
fn a_reply_to_is_replaced_or_added() {
    let before = payload(0xfffc, EVERYTHING);
    let after = Properties::check(&before).unwrap().with_reply_to(b"new");
    let properties = Properties::check(&after).unwrap();
    assert_eq!(properties.reply_to(), Some(&b"new"[..]));
    assert_eq!(properties.correlation_id(), Some(&b"o"[..]));
    assert_eq!(properties.expiration(), Some(&b"42"[..]));
    let before = payload(0x1101, b"\x02\x0242");
    let after = Properties::check(&before).unwrap().with_reply_to(b"r");
    assert_eq!(after, payload(0x1300, b"\x02\x01r\x0242"));
}
