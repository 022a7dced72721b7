//! Section 1.8: frames that are too long, broken, of the wrong type or on the wrong channel.

use super::cases;
use super::handshake::SILENT_CLOSE;
use crate::client::{Connection, Login, bind, declare, publish};
use crate::codec::{BODY, Frame, HEADER, HEARTBEAT, METHOD, Method, Properties};
use crate::outcome::{Outcome, holds, same};
use crate::trial::{Differs, Trial};
use std::rc::Rc;

cases! {
    "1.8": frame_above_frame_max, payload_of_frame_max_is_accepted,
        negotiated_frame_max_applies, start_ok_above_4096_bytes, wrong_end_octet,
        fatal_frame_error_ends_the_connection, unknown_frame_type,
        unknown_frame_type_with_a_long_payload, unknown_frame_type_with_sixteen_octets,
        unknown_frame_type_without_payload, octets_are_printed_as_numbers, heartbeat_on_a_channel,
        heartbeat_with_a_payload, heartbeat_is_accepted, body_on_channel_0, header_on_channel_0,
        header_frame_too_short,
        method_with_trailing_bytes, method_with_missing_bytes, invalid_utf8_in_a_queue_name,
        publish_fields_may_be_any_bytes, properties_may_be_any_bytes,
        bodies_are_split_at_frame_max, body_of_exactly_one_frame, empty_body_has_no_frame,
        empty_body_frames_inside_a_content, channels_are_independent;
}

fn frame_above_frame_max(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    connection.channel(1)?;
    let length = 131_073_u32.to_be_bytes();
    connection.send_bytes(&[&[METHOD, 0, 1], &length[..]].concat());
    let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,131073,131064}";
    connection.expect_close(501, text, "")
}

/// A publish whose body is one frame with this payload.
fn publish_in_one_frame(trial: &Trial<'_>, login: &Login, size: usize) -> Outcome {
    let connection = login.open()?;
    let channel = connection.channel(1)?;
    let queue = trial.new_queue(&channel)?;
    connection.frame_max.set(size + 8);
    channel.publish_with(&publish("", &queue), &Properties::new(), &vec![b'x'; size]);
    same("body", channel.take(&queue)?.body.len(), size)
}

fn payload_of_frame_max_is_accepted(trial: &Trial<'_>) -> Outcome {
    publish_in_one_frame(trial, &trial.login(), 131_072)
}

fn negotiated_frame_max_applies(trial: &Trial<'_>) -> Outcome {
    let login = Login { frame_max: 4096, ..trial.login() };
    publish_in_one_frame(trial, &login, 4096)?;
    let connection = login.open()?;
    connection.channel(1)?;
    connection.send_bytes(&[BODY, 0, 1, 0, 0, 0x10, 0x01]);
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}";
    connection.expect_close(501, text, "")
}

/// RabbitMQ 3.10 reads at most 4096 bytes per frame before tune-ok, Leveret 131072.
fn start_ok_above_4096_bytes(trial: &Trial<'_>) -> Outcome {
    let login = trial.login();
    let long = crate::codec::Table::from([("comment", "x".repeat(8000).as_str().into())]);
    let connection = login.greeted()?;
    connection.send(&login.start_ok().with("client_properties", long));
    let accepted = Differs { rabbitmq: false, leveret: true, line: "Frame limit before tune-ok" };
    if trial.expect(accepted) {
        return connection.expect("connection.tune").map(drop);
    }
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn send_with_wrong_end(connection: &Connection) {
    let mut bytes = Frame::new(METHOD, 0, [0, 10, 0, 50]).encode();
    if let Some(end) = bytes.last_mut() {
        *end = 0;
    }
    connection.send_bytes(&bytes);
}

const WRONG_END: &str =
    "FRAME_ERROR - type 1, all octets = <<0,10,0,50>>: {invalid_frame_end_marker,0}";

fn wrong_end_octet(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    send_with_wrong_end(&connection);
    connection.expect_close(501, WRONG_END, "")
}

fn fatal_frame_error_ends_the_connection(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    send_with_wrong_end(&connection);
    connection.expect("connection.close")?;
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

/// Sends a frame and expects this connection exception.
fn refused_frame(trial: &Trial<'_>, frame: &Frame, code: u16, text: &str) -> Outcome {
    let connection = trial.connect()?;
    connection.channel(1)?;
    connection.send_frame(frame);
    connection.expect_close(code, text, "")
}

fn unknown_frame_type(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 9, all octets = <<\"abc\">>: unknown_frame";
    refused_frame(trial, &Frame::new(9, 1, *b"abc"), 501, text)
}

fn unknown_frame_type_with_a_long_payload(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 9, first 16 octets = <<\"abcdefghijklmnop\">>: unknown_frame";
    refused_frame(trial, &Frame::new(9, 1, *b"abcdefghijklmnopq"), 501, text)
}

fn unknown_frame_type_with_sixteen_octets(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 9, all octets = <<\"abcdefghijklmnop\">>: unknown_frame";
    refused_frame(trial, &Frame::new(9, 1, *b"abcdefghijklmnop"), 501, text)
}

fn unknown_frame_type_without_payload(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame";
    refused_frame(trial, &Frame::new(9, 0, []), 501, text)
}

fn octets_are_printed_as_numbers(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 9, all octets = <<97,0,255>>: unknown_frame";
    refused_frame(trial, &Frame::new(9, 1, [b'a', 0, 255]), 501, text)
}

fn heartbeat_on_a_channel(trial: &Trial<'_>) -> Outcome {
    let text = "UNEXPECTED_FRAME - type 8, all octets = <<>>";
    refused_frame(trial, &Frame::new(HEARTBEAT, 1, []), 505, text)
}

fn heartbeat_with_a_payload(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame";
    refused_frame(trial, &Frame::new(HEARTBEAT, 0, *b"x"), 501, text)
}

fn heartbeat_is_accepted(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.connection.send_frame(&Frame::new(HEARTBEAT, 0, []));
    channel.fence()
}

fn body_on_channel_0(trial: &Trial<'_>) -> Outcome {
    let text = "UNEXPECTED_FRAME - type 3, all octets = <<\"x\">>";
    refused_frame(trial, &Frame::new(BODY, 0, *b"x"), 505, text)
}

fn header_on_channel_0(trial: &Trial<'_>) -> Outcome {
    let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let text = "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>";
    refused_frame(trial, &Frame::new(HEADER, 0, payload), 505, text)
}

fn header_frame_too_short(trial: &Trial<'_>) -> Outcome {
    let text = "FRAME_ERROR - type 2, all octets = <<0,60,0,0>>: unknown_frame";
    refused_frame(trial, &Frame::new(HEADER, 1, [0, 60, 0, 0]), 501, text)
}

fn method_with_trailing_bytes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = Method::new("basic.qos");
    channel.send_frame(METHOD, &[method.payload(), vec![9]].concat());
    let text = "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,9>>";
    channel.connection.expect_close(501, text, "basic.qos")
}

fn method_with_missing_bytes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    channel.send_frame(METHOD, &[0, 60, 0, 10, 0, 0]);
    channel.connection.expect_close(501, "FRAME_ERROR - cannot decode <<0,0>>", "basic.qos")
}

fn invalid_utf8_in_a_queue_name(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let text = "FRAME_ERROR - Malformed UTF-8 in shortstr";
    channel.send(&declare("").with("queue", vec![0xC3, 0x28]));
    channel.connection.expect_close(501, text, "")
}

fn publish_fields_may_be_any_bytes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let fanout = trial.new_exchange(&channel, "fanout")?;
    channel.call(&bind(&queue, &fanout, ""))?;
    let method = publish(&fanout, "").with("routing_key", vec![0xFF, 0xC3, 0x28]);
    channel.publish_with(&method, &Properties::new(), b"");
    let content = channel.take(&queue)?;
    let expected = publish("", "").with("routing_key", vec![0xFF, 0xC3, 0x28]);
    same("routing key", content.method.text("routing_key"), expected.text("routing_key"))
}

fn properties_may_be_any_bytes(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    let properties = b"\x80\x00\x03\xff\xc3\x28";
    channel.publish_encoded(&publish("", &queue), properties, b"");
    same("properties", channel.take(&queue)?.encoded.as_slice(), properties.as_slice())
}

/// The body frames of a message of `size` bytes at frame_max 4096.
fn frames_of(trial: &Trial<'_>, size: usize) -> Outcome<Vec<usize>> {
    let connection: Rc<Connection> = Login { frame_max: 4096, ..trial.login() }.open()?;
    let channel = connection.channel(1)?;
    let queue = trial.new_queue(&channel)?;
    channel.publish_with(&publish("", &queue), &Properties::new(), &vec![b'x'; size]);
    let frames = channel.take(&queue)?.frames;
    channel.fence()?;
    Ok(frames)
}

fn bodies_are_split_at_frame_max(trial: &Trial<'_>) -> Outcome {
    same("body frames", frames_of(trial, 10_000)?, [4088, 4088, 1824])
}

fn body_of_exactly_one_frame(trial: &Trial<'_>) -> Outcome {
    same("body frames", frames_of(trial, 4088)?, [4088])
}

fn empty_body_has_no_frame(trial: &Trial<'_>) -> Outcome {
    same("body frames", frames_of(trial, 0)?, [0; 0])
}

fn empty_body_frames_inside_a_content(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let queue = trial.new_queue(&channel)?;
    channel.send(&publish("", &queue));
    channel.send_frame(HEADER, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
    for part in ["", "a", "", "b"] {
        channel.send_frame(BODY, part.as_bytes());
    }
    let content = channel.take(&queue)?;
    holds(content.text() == "ab", format!("expected ab, got {}", content.text()))
}

fn channels_are_independent(trial: &Trial<'_>) -> Outcome {
    let one = trial.channel()?;
    let two = one.sibling()?;
    let queue = trial.new_queue(&one)?;
    one.send(&publish("", &queue));
    two.send(&publish("", &queue));
    two.send_frame(HEADER, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    one.send_frame(HEADER, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    two.send_frame(BODY, b"2");
    two.fence()?;
    one.send_frame(BODY, b"1");
    one.fence()?;
    one.expect_ready(&queue, 2)?;
    one.expect_bodies(&queue, &["2", "1"])
}
