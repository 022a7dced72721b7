//! Sections 1.11 to 1.14: heartbeats, the handshake's time limit, connection.update-secret.

use super::cases;
use crate::client::{Channel, Connection, Login, Received};
use crate::codec::{Frame, HEARTBEAT, Method};
use crate::outcome::{Outcome, fail, holds, same};
use crate::trial::Trial;
use std::time::{Duration, Instant};

cases! {
    "1.11": heartbeats_come_every_half_interval, silent_client_is_dropped,
        heartbeats_keep_the_connection, any_traffic_keeps_the_connection,
        heartbeat_of_zero_disables, heartbeat_above_the_suggestion;
    "1.12": unfinished_handshake_is_dropped;
    "1.14": update_secret_is_accepted;
}

fn open_with(trial: &Trial<'_>, heartbeat: u16) -> Outcome<std::rc::Rc<Connection>> {
    Login { heartbeat, ..trial.login() }.open()
}

fn expect_heartbeat(connection: &Connection, within: Duration) -> Outcome {
    match connection.receive(within)? {
        Received::Frame(frame) => same("frame", frame, Frame::new(HEARTBEAT, 0, [])),
        other => fail(format!("expected a heartbeat, got {other:?}")),
    }
}

fn heartbeats_come_every_half_interval(trial: &Trial<'_>) -> Outcome {
    let connection = open_with(trial, 2)?;
    let start = Instant::now();
    for _ in 0..3 {
        expect_heartbeat(&connection, Duration::from_millis(2000))?;
        connection.send_frame(&Frame::new(HEARTBEAT, 0, []));
    }
    let time = start.elapsed();
    let right = (Duration::from_millis(2000)..Duration::from_millis(4500)).contains(&time);
    holds(right, format!("three heartbeats took {time:?}"))
}

/// The end comes after two or three intervals, without a word.
fn silent_client_is_dropped(trial: &Trial<'_>) -> Outcome {
    let connection = open_with(trial, 2)?;
    let start = Instant::now();
    loop {
        match connection.receive(Duration::from_secs(10))? {
            Received::Frame(frame) => same("frame", frame, Frame::new(HEARTBEAT, 0, []))?,
            Received::Gone => break,
            Received::Silence => return fail("the connection is still there"),
        }
    }
    let time = start.elapsed();
    let right = (Duration::from_millis(3900)..Duration::from_millis(8000)).contains(&time);
    holds(right, format!("dropped after {time:?}"))
}

/// Sends something several times for longer than the client may be silent.
fn kept_by(trial: &Trial<'_>, send: impl Fn(&Channel) -> Outcome) -> Outcome {
    let channel = open_with(trial, 1)?.channel(1)?;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(700));
        send(&channel)?;
    }
    channel.fence()
}

fn heartbeats_keep_the_connection(trial: &Trial<'_>) -> Outcome {
    kept_by(trial, |channel| {
        channel.connection.send_frame(&Frame::new(HEARTBEAT, 0, []));
        Ok(())
    })
}

fn any_traffic_keeps_the_connection(trial: &Trial<'_>) -> Outcome {
    kept_by(trial, Channel::fence)
}

fn heartbeat_of_zero_disables(trial: &Trial<'_>) -> Outcome {
    let connection = open_with(trial, 0)?;
    match connection.receive(Duration::from_millis(2500))? {
        Received::Silence => Ok(()),
        other => fail(format!("expected silence, got {other:?}")),
    }
}

fn heartbeat_above_the_suggestion(trial: &Trial<'_>) -> Outcome {
    open_with(trial, 600)?.channel(1)?.fence()
}

fn unfinished_handshake_is_dropped(trial: &Trial<'_>) -> Outcome {
    let connection = trial.login().greeted()?;
    let after = connection.expect_gone(Duration::from_secs(20))?;
    let right = (Duration::from_secs(9)..Duration::from_secs(16)).contains(&after);
    holds(right, format!("dropped after {after:?}"))
}

fn update_secret_is_accepted(trial: &Trial<'_>) -> Outcome {
    let connection = trial.connect()?;
    let update = Method::new("connection.update-secret")
        .with("new_secret", "guest")
        .with("reason", "because");
    connection.call(&update)?;
    connection.channel(1)?.fence()
}
