//! Sections 1.5 and 1.6: connection.tune, the limits it sets, and connection.open.

use super::cases;
use super::handshake::SILENT_CLOSE;
use crate::client::Login;
use crate::codec::Method;
use crate::outcome::{Outcome, Stop, same};
use crate::trial::{Differs, Trial};

cases! {
    "1.5": tune_announces_the_limits, smallest_limits_are_accepted, frame_max_of_zero_is_refused,
        frame_max_above_the_limit_is_refused, frame_max_below_the_minimum_is_refused,
        channel_max_of_zero_is_refused, channel_max_above_the_limit_is_refused,
        frame_max_is_checked_first, channel_numbers_are_not_limited,
        number_of_channels_is_limited, closed_channels_are_not_counted;
    "1.6": vhost_that_does_not_exist, vhost_without_permission, vhost_is_taken_literally,
        capabilities_and_insist_are_ignored;
}

fn tune_announces_the_limits(trial: &Trial<'_>) -> Outcome {
    let login = trial.login();
    let connection = login.greeted()?;
    connection.send(&login.start_ok());
    let tune = connection.expect("connection.tune")?;
    same("channel_max", tune.number("channel_max"), 2047)?;
    same("frame_max", tune.number("frame_max"), 131_072)?;
    same("heartbeat", tune.number("heartbeat"), 60)
}

fn smallest_limits_are_accepted(trial: &Trial<'_>) -> Outcome {
    let login = Login { frame_max: 4096, channel_max: 1, ..trial.login() };
    let connection = login.open()?;
    connection.channel(1)?;
    connection.close()
}

/// RabbitMQ 3.10 drops the connection in silence, Leveret says why first.
fn refused(trial: &Trial<'_>, login: &Login, text: &str) -> Outcome {
    let connection = login.authenticated()?;
    connection.send(&login.tune_ok());
    let told = Differs { rabbitmq: false, leveret: true, line: "Failed tuning" };
    if !trial.expect(told) {
        return connection.expect_gone(SILENT_CLOSE).map(drop);
    }
    connection.expect_close(530, &format!("NOT_ALLOWED - {text}"), "connection.tune")
}

fn frame_max_of_zero_is_refused(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value \
                (131072)";
    refused(trial, &Login { frame_max: 0, ..trial.login() }, text)
}

fn frame_max_above_the_limit_is_refused(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)";
    refused(trial, &Login { frame_max: 131_073, ..trial.login() }, text)
}

fn frame_max_below_the_minimum_is_refused(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)";
    refused(trial, &Login { frame_max: 4095, ..trial.login() }, text)
}

fn channel_max_of_zero_is_refused(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value \
                (2047)";
    refused(trial, &Login { channel_max: 0, ..trial.login() }, text)
}

fn channel_max_above_the_limit_is_refused(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated channel_max = 3000 is higher than the maximum allowed value (2047)";
    refused(trial, &Login { channel_max: 3000, ..trial.login() }, text)
}

fn frame_max_is_checked_first(trial: &Trial<'_>) -> Outcome {
    let text = "negotiated frame_max = 100 is lower than the minimum allowed value (4096)";
    refused(trial, &Login { frame_max: 100, channel_max: 0, ..trial.login() }, text)
}

fn channel_numbers_are_not_limited(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    connection.channel(65_535)?.fence()?;
    connection.close()
}

fn number_of_channels_is_limited(trial: &Trial<'_>) -> Outcome {
    let connection = Login { channel_max: 2, ..trial.login() }.open()?;
    connection.channel(1)?;
    connection.channel(7)?;
    connection.unopened(3).send(&Method::new("channel.open"));
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated \
                channel_max (2)";
    connection.expect_close(530, text, "")
}

fn closed_channels_are_not_counted(trial: &Trial<'_>) -> Outcome {
    let connection = Login { channel_max: 1, ..trial.login() }.open()?;
    for number in [1, 2, 1, 9] {
        connection.channel(number)?.close()?;
    }
    connection.close()
}

fn missing_vhost(trial: &Trial<'_>, vhost: &str) -> Outcome {
    let login = trial.login();
    let connection = login.authenticated()?;
    connection.send(&login.tune_ok());
    connection.send(&login.open_vhost().with("virtual_host", vhost));
    let text = format!("NOT_ALLOWED - vhost {vhost} not found");
    connection.expect_close(530, &text, "connection.open")
}

fn vhost_that_does_not_exist(trial: &Trial<'_>) -> Outcome {
    missing_vhost(trial, "no-such-vhost")
}

/// Needs a vhost `closed` in which the user has no permissions, as `rabbitmq.sh` makes it.
fn vhost_without_permission(trial: &Trial<'_>) -> Outcome {
    let login = trial.login();
    let connection = login.authenticated()?;
    connection.send(&login.tune_ok());
    connection.send(&login.open_vhost().with("virtual_host", "closed"));
    let close = connection.expect("connection.close")?;
    let text = close.text("reply_text");
    if text == "NOT_ALLOWED - vhost closed not found" {
        return Err(Stop::Skipped("the broker has no vhost closed".to_owned()));
    }
    let user = trial.user();
    let expected = format!("NOT_ALLOWED - access to vhost 'closed' refused for user '{user}'");
    same("reply text", text, expected)?;
    same("reply code", close.number("reply_code"), 530)
}

fn vhost_is_taken_literally(trial: &Trial<'_>) -> Outcome {
    missing_vhost(trial, "//")
}

fn capabilities_and_insist_are_ignored(trial: &Trial<'_>) -> Outcome {
    let login = trial.login();
    let connection = login.authenticated()?;
    connection.send(&login.tune_ok());
    let open = login.open_vhost().with("capabilities", "anything").flags(&["insist"]);
    connection.call(&open)?;
    connection.close()
}
