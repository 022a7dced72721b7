//! Section 1.9: the sequence of method, header and body frames of a content.

use super::cases;
use crate::client::{Channel, publish};
use crate::codec::{BODY, HEADER, Method, Properties, header_frame};
use crate::outcome::{Outcome, holds};
use crate::trial::{Differs, Trial};

cases! {
    "1.9": header_without_a_method, body_without_a_method, method_instead_of_a_header,
        body_instead_of_a_header, header_of_another_class, header_with_a_weight,
        method_instead_of_a_body, header_instead_of_a_body, body_beyond_the_announced_size,
        body_frame_after_an_empty_body, body_size_above_the_hard_limit,
        body_size_above_max_message_size, missing_property_value, trailing_property_bytes,
        unknown_type_in_the_headers, low_flag_bits_are_ignored;
}

const CLASS_BASIC: u16 = 60;

/// A channel on which a publish waits for its header.
fn awaiting_header(trial: &Trial<'_>) -> Outcome<Channel> {
    let channel = trial.channel()?;
    channel.send(&publish("", "nowhere"));
    Ok(channel)
}

fn send_header(channel: &Channel, class: u16, size: u64) {
    let properties = Properties::new().encode();
    channel.connection.send_frame(&header_frame(channel.number, class, size, &properties));
}

fn unexpected(channel: &Channel, text: &str, method: &str) -> Outcome {
    channel.connection.expect_close(505, &format!("UNEXPECTED_FRAME - {text}"), method)
}

const NO_METHOD: &str = "expected method frame, got non method frame instead";
const NO_HEADER: &str =
    "expected content header for class 60, got non content header frame instead";
const NO_BODY: &str = "expected content body, got non content body frame instead";

fn header_without_a_method(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    send_header(&channel, CLASS_BASIC, 1);
    unexpected(&channel, NO_METHOD, "")
}

fn body_without_a_method(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.send_frame(BODY, b"x");
    unexpected(&channel, NO_METHOD, "")
}

fn method_instead_of_a_header(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    channel.send(&Method::new("basic.qos"));
    unexpected(&channel, NO_HEADER, "basic.publish")
}

fn body_instead_of_a_header(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    channel.send_frame(BODY, b"x");
    unexpected(&channel, NO_HEADER, "basic.publish")
}

fn header_of_another_class(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    send_header(&channel, 61, 1);
    let text = "expected content header for class 60, got one for class 61 instead";
    unexpected(&channel, text, "basic.publish")
}

fn header_with_a_weight(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    channel.send_frame(HEADER, &[0, 60, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    unexpected(&channel, NO_HEADER, "basic.publish")
}

fn method_instead_of_a_body(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    send_header(&channel, CLASS_BASIC, 5);
    channel.send(&Method::new("basic.qos"));
    unexpected(&channel, NO_BODY, "basic.publish")
}

fn header_instead_of_a_body(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    send_header(&channel, CLASS_BASIC, 5);
    send_header(&channel, CLASS_BASIC, 5);
    unexpected(&channel, NO_BODY, "basic.publish")
}

/// RabbitMQ 3.10 waits for still more of the body; Leveret refuses.
fn body_beyond_the_announced_size(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    send_header(&channel, CLASS_BASIC, 2);
    channel.send_frame(BODY, b"abc");
    let refused =
        Differs { rabbitmq: false, leveret: true, line: "Body beyond its announced size" };
    if !trial.expect(refused) {
        channel.send(&Method::new("basic.qos"));
        return unexpected(&channel, NO_BODY, "basic.publish");
    }
    let close = channel.connection.expect("connection.close")?;
    let text = close.text("reply_text");
    let expected = "FRAME_ERROR - content body frame exceeds remaining content size";
    let right = close.number("reply_code") == 501 && text.starts_with(expected);
    holds(right, format!("expected 501 {expected}, got {close}"))
}

fn body_frame_after_an_empty_body(trial: &Trial<'_>) -> Outcome {
    let channel = awaiting_header(trial)?;
    send_header(&channel, CLASS_BASIC, 0);
    channel.send_frame(BODY, b"");
    unexpected(&channel, NO_METHOD, "")
}

/// Sends the header of a content that is too large. RabbitMQ 3.10 reads on until the body is
/// complete; Leveret refuses on the header, and what it says is left to the case.
fn announce(trial: &Trial<'_>, size: u64) -> Outcome<Option<Channel>> {
    let channel = awaiting_header(trial)?;
    send_header(&channel, CLASS_BASIC, size);
    let refused = Differs { rabbitmq: false, leveret: true, line: "Announced body size" };
    if trial.expect(refused) {
        return Ok(Some(channel));
    }
    channel.send(&Method::new("basic.qos"));
    unexpected(&channel, NO_BODY, "basic.publish")?;
    Ok(None)
}

fn body_size_above_max_message_size(trial: &Trial<'_>) -> Outcome {
    let Some(channel) = announce(trial, 134_217_729)? else { return Ok(()) };
    // Skipped, like the rest of the body that never comes.
    channel.send_frame(BODY, &[b'x'; 1000]);
    let text = "PRECONDITION_FAILED - message size 134217729 is larger than configured max size \
                134217728";
    channel.expect_close(406, text, "basic.publish")
}

fn body_size_above_the_hard_limit(trial: &Trial<'_>) -> Outcome {
    let Some(channel) = announce(trial, 536_870_913)? else { return Ok(()) };
    let text = "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912";
    channel.connection.expect_close(501, text, "basic.publish")
}

/// Properties that cannot be decoded end the connection.
fn undecodable(trial: &Trial<'_>, properties: &[u8]) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_encoded(&publish("", &queue), properties, b"");
    channel.connection.expect_close(541, "INTERNAL_ERROR", "")
}

fn missing_property_value(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x80\x00")
}

fn trailing_property_bytes(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x80\x00\x01a\x01b")
}

fn unknown_type_in_the_headers(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, b"\x20\x00\x00\x00\x00\x04\x01kU\x00")
}

fn low_flag_bits_are_ignored(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_encoded(&publish("", &queue), b"\x80\x03\x01a", b"body");
    channel.expect_bodies(&queue, &["body"])
}
