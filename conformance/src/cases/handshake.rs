//! Sections 1.1 to 1.4: the protocol header, connection.start and authentication.

use super::cases;
use crate::client::{Connection, GREETING, Login, Wire};
use crate::codec::{Method, Table, Value};
use crate::outcome::{Outcome, holds, same};
use crate::trial::{Differs, Trial};
use std::time::Duration;

cases! {
    "1.1": header_of_0_9_1, header_in_single_bytes, header_of_0_9, header_of_0_8,
        header_of_0_9_as_published, header_of_a_later_revision, header_of_http, header_of_tls,
        header_of_zeros;
    "1.2": start_announces_version_locales_and_mechanisms, server_properties,
        capabilities_in_their_order;
    "1.3": unknown_mechanism_is_dropped, mechanism_names_are_case_sensitive,
        capabilities_of_another_type_are_ignored, locale_is_ignored;
    "1.4": plain_with_an_authorization_identity, plain_with_a_third_nul, plain_without_nuls,
        amqplain, amqplain_without_a_password, amqplain_with_broken_table,
        wrong_password_is_told, wrong_password_by_amqplain_is_told, unknown_user_is_told,
        blank_password_is_refused, wrong_password_without_the_capability_is_dropped,
        refused_login_ignores_what_follows;
}

/// How long a broker may keep a connection that it will not serve, on a busy machine.
pub(super) const SILENT_CLOSE: Duration = Duration::from_secs(6);

fn header_of_0_9_1(trial: &Trial<'_>) -> Outcome {
    trial.connect()?.close()
}

fn header_in_single_bytes(trial: &Trial<'_>) -> Outcome {
    let connection = Connection::dial(&trial.login().url.address)?;
    for byte in GREETING {
        connection.send_bytes(&[*byte]);
    }
    connection.expect("connection.start").map(drop)
}

fn start_after(trial: &Trial<'_>, header: &[u8]) -> Outcome<Method> {
    let connection = Connection::dial(&trial.login().url.address)?;
    connection.send_bytes(header);
    connection.expect("connection.start")
}

fn versions(start: &Method) -> (u64, u64) {
    (start.number("version_major"), start.number("version_minor"))
}

fn header_of_0_9(trial: &Trial<'_>) -> Outcome {
    let start = start_after(trial, b"AMQP\x01\x01\0\x09")?;
    same("version", versions(&start), (0, 9))
}

/// The broker answers any other header with its own and closes the connection.
fn refused_header(trial: &Trial<'_>, header: &[u8]) -> Outcome {
    let mut wire = Wire::dial(&trial.login().url.address)?;
    wire.send(header);
    let (answer, _) = wire.receive_to_end(SILENT_CLOSE)?;
    same("answer", answer.as_slice(), GREETING.as_slice())
}

fn old_header(trial: &Trial<'_>, header: &[u8]) -> Outcome {
    let differs = Differs { rabbitmq: false, leveret: true, line: "Protocol headers of 0-8" };
    if trial.expect(differs) {
        return refused_header(trial, header);
    }
    let start = start_after(trial, header)?;
    same("version", versions(&start), (8, 0))
}

fn header_of_0_8(trial: &Trial<'_>) -> Outcome {
    old_header(trial, b"AMQP\x01\x01\x08\0")
}

fn header_of_0_9_as_published(trial: &Trial<'_>) -> Outcome {
    old_header(trial, b"AMQP\x01\x01\x09\x01")
}

fn header_of_a_later_revision(trial: &Trial<'_>) -> Outcome {
    refused_header(trial, b"AMQP\0\0\x09\x02")
}

fn header_of_http(trial: &Trial<'_>) -> Outcome {
    refused_header(trial, b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n")
}

fn header_of_tls(trial: &Trial<'_>) -> Outcome {
    refused_header(trial, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03")
}

fn header_of_zeros(trial: &Trial<'_>) -> Outcome {
    refused_header(trial, &[0; 8])
}

fn start(trial: &Trial<'_>) -> Outcome<Method> {
    start_after(trial, GREETING)
}

fn start_announces_version_locales_and_mechanisms(trial: &Trial<'_>) -> Outcome {
    let start = start(trial)?;
    same("version", versions(&start), (0, 9))?;
    same("locales", start.text("locales").as_str(), "en_US")?;
    let mechanisms = start.text("mechanisms");
    let mut offered: Vec<_> = mechanisms.split(' ').collect();
    offered.sort_unstable();
    for expected in ["AMQPLAIN", "PLAIN"] {
        holds(offered.contains(&expected), format!("{expected} is not in {mechanisms:?}"))?;
    }
    Ok(())
}

fn server_properties(trial: &Trial<'_>) -> Outcome {
    let start = start(trial)?;
    let properties = start.table("server_properties");
    holds(matches!(properties.get("capabilities"), Some(Value::Table(_))), "no capabilities")?;
    for key in ["cluster_name", "copyright", "information", "platform", "product", "version"] {
        let value = properties.get(key);
        holds(matches!(value, Some(Value::Text(_))), format!("{key} is {value:?}"))?;
    }
    same("product", properties.get("product"), Some(&Value::from("RabbitMQ")))?;
    let keys = properties.keys();
    holds(keys.is_sorted(), format!("{keys:?} are not sorted"))
}

fn capabilities_in_their_order(trial: &Trial<'_>) -> Outcome {
    let start = start(trial)?;
    let Some(Value::Table(capabilities)) = start.table("server_properties").get("capabilities")
    else {
        return holds(false, "no capabilities");
    };
    let expected = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    same("capabilities", capabilities, &Table::from(expected.map(|key| (key, true.into()))))
}

/// The broker says nothing to this login and drops the connection.
fn dropped(login: &Login) -> Outcome {
    let connection = login.greeted()?;
    connection.send(&login.start_ok());
    connection.expect_gone(SILENT_CLOSE).map(drop)
}

fn unknown_mechanism_is_dropped(trial: &Trial<'_>) -> Outcome {
    dropped(&Login { mechanism: "NOPE", ..trial.login() })
}

fn mechanism_names_are_case_sensitive(trial: &Trial<'_>) -> Outcome {
    dropped(&Login { mechanism: "plain", ..trial.login() })
}

fn opens_with(trial: &Trial<'_>, start_ok: &Method) -> Outcome {
    let login = trial.login();
    let connection = login.greeted()?;
    connection.send(start_ok);
    connection.expect("connection.tune")?;
    connection.send(&login.tune_ok());
    connection.call(&login.open_vhost())?;
    connection.close()
}

fn capabilities_of_another_type_are_ignored(trial: &Trial<'_>) -> Outcome {
    let properties = Table::from([("capabilities", 5.into()), ("connection_name", 5.into())]);
    opens_with(trial, &trial.login().start_ok().with("client_properties", properties))
}

fn locale_is_ignored(trial: &Trial<'_>) -> Outcome {
    opens_with(trial, &trial.login().start_ok().with("locale", "tlh"))
}

fn respond(trial: &Trial<'_>, mechanism: &'static str, response: Vec<u8>) -> Login {
    Login { mechanism, response: Some(response), ..trial.login() }
}

fn plain_with_an_authorization_identity(trial: &Trial<'_>) -> Outcome {
    dropped(&respond(trial, "PLAIN", b"guest\0guest\0guest".to_vec()))
}

fn plain_with_a_third_nul(trial: &Trial<'_>) -> Outcome {
    dropped(&respond(trial, "PLAIN", b"\0guest\0guest\0".to_vec()))
}

fn plain_without_nuls(trial: &Trial<'_>) -> Outcome {
    dropped(&respond(trial, "PLAIN", b"guest".to_vec()))
}

/// A table without its length: the response's own length stands for it.
fn amqplain_response(entries: Table) -> Vec<u8> {
    entries.encode().split_off(4)
}

fn amqplain_login(trial: &Trial<'_>, password: &str) -> Login {
    let user = trial.user().to_owned();
    let entries = Table::from([("LOGIN", user.as_str().into()), ("PASSWORD", password.into())]);
    respond(trial, "AMQPLAIN", amqplain_response(entries))
}

fn amqplain(trial: &Trial<'_>) -> Outcome {
    let password = trial.login().url.password;
    amqplain_login(trial, &password).open()?.close()
}

fn amqplain_without_a_password(trial: &Trial<'_>) -> Outcome {
    let entries = Table::from([("LOGIN", trial.user().into())]);
    dropped(&respond(trial, "AMQPLAIN", amqplain_response(entries)))
}

fn amqplain_with_broken_table(trial: &Trial<'_>) -> Outcome {
    dropped(&respond(trial, "AMQPLAIN", b"\x05LOGINU\0\0".to_vec()))
}

fn refusal(mechanism: &str) -> String {
    format!(
        "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. \
         For details see the broker logfile."
    )
}

fn told(login: &Login) -> Outcome {
    let connection = login.greeted()?;
    connection.send(&login.start_ok());
    connection.expect_close(403, &refusal(login.mechanism), "")
}

fn wrong_password_is_told(trial: &Trial<'_>) -> Outcome {
    told(&trial.login().user(trial.user(), "not the password"))
}

fn wrong_password_by_amqplain_is_told(trial: &Trial<'_>) -> Outcome {
    told(&amqplain_login(trial, "not the password"))
}

fn unknown_user_is_told(trial: &Trial<'_>) -> Outcome {
    told(&trial.login().user("nobody at all", "guest"))
}

fn blank_password_is_refused(trial: &Trial<'_>) -> Outcome {
    told(&trial.login().user(trial.user(), ""))
}

fn wrong_password_without_the_capability_is_dropped(trial: &Trial<'_>) -> Outcome {
    let login = trial.login().user(trial.user(), "not the password");
    dropped(&Login { capabilities: Vec::new(), ..login })
}

fn refused_login_ignores_what_follows(trial: &Trial<'_>) -> Outcome {
    let login = trial.login().user(trial.user(), "not the password");
    let connection = login.greeted()?;
    connection.send(&login.start_ok());
    let close = connection.expect("connection.close")?;
    same("reply code", close.number("reply_code"), 403)?;
    connection.send(&trial.login().start_ok());
    connection.send(&login.tune_ok());
    connection.send(&login.open_vhost());
    connection.expect_gone(SILENT_CLOSE).map(drop)
}
