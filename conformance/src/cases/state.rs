//! Section 1.7: methods at the wrong time, on the wrong channel, or that do not exist.

use super::cases;
use super::handshake::SILENT_CLOSE;
use crate::client::{Channel, Received, declare, exchange};
use crate::codec::{METHOD, Method};
use crate::outcome::{Outcome, holds};
use crate::trial::{Differs, Trial};

cases! {
    "1.7": start_ok_while_running, tune_ok_while_running, open_while_running,
        secure_ok_while_running, open_before_start_ok, tune_ok_before_start_ok,
        channel_open_before_start_ok, channel_open_before_tune_ok,
        channel_open_before_the_connection_is_open, queue_method_on_channel_0,
        channel_method_on_channel_0, connection_method_on_a_channel, unknown_class,
        unknown_method_of_a_class, unknown_method_on_channel_0, undecodable_table_in_a_method;
}

const RUNNING: &str = "CHANNEL_ERROR - unexpected method in connection state running";

fn while_running(trial: &Trial<'_>, method: &Method) -> Outcome {
    let connection = trial.connect()?;
    connection.send(method);
    connection.expect_close(504, RUNNING, method.name())
}

fn start_ok_while_running(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &trial.login().start_ok())
}

fn tune_ok_while_running(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &trial.login().tune_ok())
}

fn open_while_running(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &trial.login().open_vhost())
}

fn secure_ok_while_running(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &Method::new("connection.secure-ok"))
}

fn before_start_ok(trial: &Trial<'_>, method: &Method) -> Outcome {
    let connection = trial.login().greeted()?;
    connection.send(method);
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn open_before_start_ok(trial: &Trial<'_>) -> Outcome {
    before_start_ok(trial, &trial.login().open_vhost())
}

fn tune_ok_before_start_ok(trial: &Trial<'_>) -> Outcome {
    before_start_ok(trial, &trial.login().tune_ok())
}

fn channel_open_before_start_ok(trial: &Trial<'_>) -> Outcome {
    let connection = trial.login().greeted()?;
    connection.unopened(1).send(&Method::new("channel.open"));
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn channel_open_before_tune_ok(trial: &Trial<'_>) -> Outcome {
    let connection = trial.login().authenticated()?;
    connection.unopened(1).send(&Method::new("channel.open"));
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn channel_open_before_the_connection_is_open(trial: &Trial<'_>) -> Outcome {
    let connection = trial.login().authenticated()?;
    connection.send(&trial.login().tune_ok());
    connection.unopened(1).send(&Method::new("channel.open"));
    let text = "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>";
    connection.expect_close(505, text, "")
}

fn queue_method_on_channel_0(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &declare(&trial.queue()))
}

fn channel_method_on_channel_0(trial: &Trial<'_>) -> Outcome {
    while_running(trial, &Method::new("channel.open"))
}

fn connection_method_on_a_channel(trial: &Trial<'_>) -> Outcome {
    let channel = trial.channel()?;
    let method = Method::new("connection.close").with("reply_code", 200_u16);
    channel.kills(&method, 503, "COMMAND_INVALID - unimplemented method")
}

/// RabbitMQ 3.10 resets the connection. Leveret may say connection.close first.
fn undecodable(trial: &Trial<'_>, channel: &Channel, payload: &[u8]) -> Outcome {
    channel.send_frame(METHOD, payload);
    let may_tell =
        Differs { rabbitmq: false, leveret: true, line: "Methods that cannot be decoded" };
    let received = channel.connection.receive(SILENT_CLOSE)?;
    let Received::Frame(frame) = received else {
        return holds(matches!(received, Received::Gone), "the connection is still there");
    };
    let close = Method::decode(&frame.payload)?;
    let told =
        close.name() == "connection.close" && [501, 502, 503].contains(&close.number("reply_code"));
    holds(told && trial.expect(may_tell), format!("expected a reset, got {close}"))
}

fn unknown_class(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, &trial.channel()?, &[0, 99, 0, 10])
}

fn unknown_method_of_a_class(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, &trial.channel()?, &[0, 50, 0, 99])
}

fn unknown_method_on_channel_0(trial: &Trial<'_>) -> Outcome {
    undecodable(trial, &trial.connect()?.unopened(0), &[0, 10, 0, 99])
}

fn undecodable_table_in_a_method(trial: &Trial<'_>) -> Outcome {
    let mut payload = exchange(&trial.exchange(), "direct").payload();
    let length_at = payload.len() - 4;
    payload.truncate(length_at);
    payload.extend(b"\0\0\0\x04\x01kU\0");
    undecodable(trial, &trial.channel()?, &payload)
}
