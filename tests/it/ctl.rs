//! `leveret ctl` against running brokers: what it prints, how it ends, and what it changes; and the
//! control socket under those who send it anything else.

use crate::client::{bind, bodies, channel, durable, publish_to, table, transient, word};
use crate::program::{Program, run};
use crate::support::TestBroker;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use leveret::limits::CONTROL_LINE_BYTES_MAX;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Exit code, standard output and standard error of a command to the broker on that directory.
fn ctl(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let directory = directory.to_str().unwrap();
    let output = run(&[&["ctl", "--data-dir", directory], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[track_caller]
fn done(directory: &Path, arguments: &[&str]) -> String {
    let (code, said, complaints) = ctl(directory, arguments);
    assert_eq!((code, complaints.as_str()), (0, ""), "{said}");
    said
}

#[test]
fn policies_are_set_listed_and_cleared_as_by_rabbitmqctl() {
    let directory = tempfile::tempdir().unwrap();
    let _program = Program::start(directory.path());
    let done = |arguments: &[&str]| done(directory.path(), arguments);
    assert_eq!(done(&["list_policies"]), "Listing policies for vhost \"/\" ...\n\n");
    assert_eq!(done(&["list_policies", "--formatter", "json"]), "[]\n");
    let limits = r#"{"message-ttl":100,"max-length":5}"#;
    assert_eq!(
        done(&["set_policy", "--priority", "-3", "--apply-to", "queues", "p", "^q", limits]),
        format!(
            "Setting policy \"p\" for pattern \"^q\" to \"{limits}\" with priority \"-3\" for \
             vhost \"/\" ...\n"
        )
    );
    assert_eq!(done(&["-q", "set_policy", "a\tb", "x", r#"{"queue-mode":"lazy"}"#]), "");
    let head = "vhost\tname\tpattern\tapply-to\tdefinition\tpriority\n";
    let rows = "/\ta b\tx\tall\t{\"queue-mode\":\"lazy\"}\t0\n\
                /\tp\t^q\tqueues\t{\"max-length\":5,\"message-ttl\":100}\t-3\n";
    assert_eq!(
        done(&["list_policies", "-p", "/"]),
        format!("Listing policies for vhost \"/\" ...\n{head}{rows}")
    );
    assert_eq!(done(&["list_policies", "-q"]), format!("{head}{rows}"));
    assert_eq!(done(&["-q", "list_policies", "--no-table-headers"]), rows);
    assert_eq!(done(&["list_policies", "-s"]), rows);
    assert_eq!(
        done(&["list_policies", "--formatter", "json"]),
        concat!(
            "[\n",
            r#"{"vhost":"/","name":"a\tb","pattern":"x","apply-to":"all","#,
            r#""definition":"{\"queue-mode\":\"lazy\"}","priority":0}"#,
            "\n",
            r#",{"vhost":"/","name":"p","pattern":"^q","apply-to":"queues","#,
            r#""definition":"{\"max-length\":5,\"message-ttl\":100}","priority":-3}"#,
            "\n]\n"
        )
    );
    assert_eq!(done(&["clear_policy", "p"]), "Clearing policy \"p\" on vhost \"/\" ...\n");
    done(&["clear_policy", "a\tb"]);
    assert_eq!(done(&["list_policies", "-q"]), "\n");

    assert_eq!(
        done(&["set_operator_policy", "o", "", r#"{"expires":5000}"#]),
        "Setting operator policy override \"o\" for pattern \"\" to \"{\"expires\":5000}\" with \
         priority \"0\" for vhost \"/\" ...\n"
    );
    assert_eq!(
        done(&["list_operator_policies"]),
        format!(
            "Listing operator policy overrides for vhost \"/\" ...\n{head}\
             /\to\t\tall\t{{\"expires\":5000}}\t0\n"
        )
    );
    assert_eq!(
        done(&["clear_operator_policy", "o"]),
        "Clearing operator policy \"o\" on vhost \"/\" ...\n"
    );
}

#[test]
fn what_is_refused_is_said_with_rabbitmqctls_text_and_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let _program = Program::start(directory.path());
    let refused = |arguments: &[&str], code: i32, text: &str| {
        let (found, _, complaints) = ctl(directory.path(), &[&["-q"], arguments].concat());
        assert_eq!((found, complaints.as_str()), (code, text), "{arguments:?}");
    };
    let invalid = |text: &str| format!("Error:\nValidation failed\n\n{text}\n\n");
    refused(
        &["set_policy", "p", "q", r#"{"zzz":2}"#],
        69,
        &invalid("[{<<\"zzz\">>,2}] are not recognised policy settings"),
    );
    refused(
        &["set_policy", "p", "q", r#"{"max-length":-2}"#],
        69,
        &invalid("-2 is not a valid maximum length"),
    );
    for (definition, why) in [
        (r#"{"retry-delay-min":0}"#, "0 is not a valid minimum retry delay"),
        (r#"{"retry-delay-max":1.5}"#, "1.5 is not a valid maximum retry delay"),
        (
            r#"{"retry-delay-min":9,"retry-delay-max":8}"#,
            "8 is not a valid maximum retry delay: the minimum is 9",
        ),
        (r#"{"expiry":"soon"}"#, "<<\"soon\">> is not a valid expiry value"),
        (r#"{"expiry":true}"#, "true is not a valid expiry value"),
        (r#"{"delivery-limit":"x"}"#, "<<\"x\">> is not a valid delivery limit"),
        (r#"{"consumer-timeout":-1}"#, "-1 is not a valid consumer timeout"),
        (
            r#"{"dead-letter-strategy":"maybe"}"#,
            "<<\"maybe\">> is not a valid dead letter strategy",
        ),
        (
            r#"{"group-key":"k"}"#,
            "[{<<\"group-key\">>,<<\"k\">>}] are not recognised policy settings",
        ),
    ] {
        refused(&["set_policy", "p", "q", definition], 69, &invalid(why));
    }
    refused(&["set_policy", "p", "q", "{}"], 69, &invalid("no policy provided"));
    refused(
        &["set_operator_policy", "p", "q", r#"{"dead-letter-exchange":"x"}"#],
        69,
        &invalid("[{<<\"dead-letter-exchange\">>,<<\"x\">>}] are not recognised policy settings"),
    );
    refused(
        &["set_policy", "p", "q", r#"{"max-length":1"#],
        69,
        "Error:\nJSON decoding error. Reason: EOF while parsing an object at line 1 column 15\n",
    );
    refused(&["clear_policy", "p"], 69, "Error:\nParameter does not exist\n");
    refused(&["-p", "nope", "clear_policy", "p"], 69, "Error:\nParameter does not exist\n");
    refused(&["list_policies", "-p", "nope"], 65, "Virtual host 'nope' does not exist\n");
    refused(
        &["set_policy", "-p", "nope", "p", "q", "{}"],
        65,
        "Virtual host 'nope' does not exist\n",
    );
    for wrong in [
        &["set_policy", "p"][..],
        &["set_policy", "p", "q", "{}", "more"],
        &["set_policy", "--priority", "x", "p", "q", "{}"],
        &["list_policies", "--nosuch"],
        &["list_policies", "--formatter", "zz"],
        &["no_such_command"],
        &[],
    ] {
        assert_eq!(ctl(directory.path(), wrong).0, 64, "{wrong:?}");
    }
    assert_eq!(ctl(directory.path(), &["--help"]).0, 0);
    assert_eq!(done(directory.path(), &["list_policies", "-q"]), "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_changes_routes_and_queues_that_are_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (_connection, channel) = channel(&broker).await;
    for (name, kind) in [("e", ExchangeKind::Direct), ("ae", ExchangeKind::Fanout)] {
        let options = ExchangeDeclareOptions::default();
        let table = FieldTable::default();
        channel.exchange_declare(name.into(), kind, options, table).await.unwrap();
    }
    transient(&channel, "bound").await;
    transient(&channel, "left").await;
    bind(&channel, "bound", "e", "key").await;
    bind(&channel, "left", "ae", "").await;
    let publish = async |body: &str| {
        for key in ["key", "other"] {
            publish_to(&channel, "e", key, body, BasicProperties::default()).await;
        }
        // Behind the publishes, so that each was routed.
        (bodies(&channel, "bound").await, bodies(&channel, "left").await)
    };
    let one = |body: &str| vec![body.to_owned()];
    assert_eq!(publish("before").await, (one("before"), vec![]));
    let definition = r#"{"alternate-exchange":"ae","max-length":7}"#;
    done(directory.path(), &["set_policy", "p", "^(e|left)$", definition]);
    assert_eq!(publish("with").await, (one("with"), one("with")));
    assert_eq!(broker.queue("left").behaviour().max_length, Some(7));
    assert_eq!(broker.queue("bound").behaviour().max_length, None);
    done(directory.path(), &["clear_policy", "p"]);
    assert_eq!(publish("after").await, (one("after"), vec![]));
    assert_eq!(broker.queue("left").behaviour().max_length, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_out_duplicates_is_listed_with_what_it_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::in_directory(directory.path());
    let (_connection, channel) = channel(&broker).await;
    let listed =
        |arguments: &[&str]| done(directory.path(), &[&["list_deduplication"], arguments].concat());
    let banner = "Listing queues and exchanges that leave out duplicates in vhost \"/\" ...\n";
    assert_eq!(listed(&[]), format!("{banner}\n"));
    let on = ("x-message-deduplication", AMQPValue::Boolean(true));
    let size = ("x-cache-size", AMQPValue::LongInt(9));
    let arguments = table([on, size.clone()]);
    channel.queue_declare("q".into(), durable(), arguments).await.unwrap();
    transient(&channel, "plain").await;
    let kind = ExchangeKind::Custom("x-message-deduplication".to_owned());
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare("e".into(), kind, options, table([size])).await.unwrap();
    bind(&channel, "plain", "e", "").await;
    for (exchange, id) in [("", "1"), ("", "1"), ("", "2"), ("e", "1"), ("e", "1"), ("e", "1")] {
        let headers = table([("x-deduplication-header", word(id))]);
        let properties = BasicProperties::default().with_headers(headers);
        publish_to(&channel, exchange, "q", "x", properties).await;
    }
    // Behind the publishes.
    transient(&channel, "plain").await;
    let head = "object\tname\tkeys\tcache_size\tbytes\tduplicates\n";
    let rows = "exchange\te\t1\t9\t150\t2\nqueue\tq\t2\t9\t300\t1\n";
    assert_eq!(listed(&[]), format!("{banner}{head}{rows}"));
    let (code, _, complaint) = ctl(directory.path(), &["list_deduplication", "-p", "no"]);
    assert!(code == 65 && complaint.contains("Virtual host 'no' does not exist"), "{complaint}");
}

#[test]
fn policies_survive_a_kill_and_a_stop_and_the_socket_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let socket = path.join("control.sock");
    let program = Program::start(path);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    done(path, &["set_policy", "kept", "q", r#"{"max-length":5}"#]);
    done(path, &["set_policy", "gone", "q", r#"{"max-length":6}"#]);
    done(path, &["clear_policy", "gone"]);
    let listed = done(path, &["list_policies"]);
    assert!(listed.contains("kept") && !listed.contains("gone"), "{listed}");
    program.kill();
    assert!(socket.exists(), "nobody took it away");

    let program = Program::start(path);
    assert_eq!(done(path, &["list_policies"]), listed);
    program.signal("TERM");
    assert!(program.ended().success());
    assert!(!socket.exists());
    assert_eq!(run(&["check", path.to_str().unwrap()]).status.code(), Some(0));

    let _program = Program::start(path);
    assert_eq!(done(path, &["list_policies"]), listed);
}

#[test]
fn without_a_broker_one_line_says_so_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let complaint = |path: &Path, why: &[&str]| {
        let (code, said, complaint) = ctl(path, &["-q", "list_policies"]);
        assert_eq!((code, said.as_str(), complaint.lines().count()), (69, "", 1), "{complaint}");
        let names = [&[path.to_str().unwrap()], why].concat();
        assert!(names.iter().all(|name| complaint.contains(name)), "{complaint}: {names:?}");
    };
    complaint(&directory.path().join("missing"), &["no broker runs on", "--data-dir"]);
    let killed = directory.path().join("killed");
    Program::start(&killed).kill();
    complaint(&killed, &["no broker runs on", "without a clean stop"]);

    let long = directory.path().join("long".repeat(30));
    let program = Program::start(&long);
    complaint(&long, &["too long", "--data-dir"]);
    crate::raw::Raw::channel_to(program.address);

    let in_the_way = directory.path().join("taken");
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("control.sock"), "mine").unwrap();
    let program = Program::start(&in_the_way);
    crate::raw::Raw::channel_to(program.address);
    complaint(&in_the_way, &[]);
    assert_eq!(std::fs::read(in_the_way.join("control.sock")).unwrap(), b"mine");
}

/// A connection to the control socket.
fn connect(directory: &Path) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(directory.join("control.sock")).unwrap();
    stream.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    BufReader::new(stream)
}

fn line(stream: &mut BufReader<UnixStream>) -> Option<String> {
    let mut line = String::new();
    // A connection that is closed with bytes unread may be reset.
    stream.read_line(&mut line).ok().filter(|len| *len > 0).map(|_| line)
}

#[test]
fn what_is_no_request_hurts_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let _program = Program::start(directory.path());
    let mut several = connect(directory.path());
    let requests = "nonsense\n{\"verb\":\"fly\"}\n{\"verb\":\"list_policies\",\"vhost\":\"/\"}\n";
    several.get_mut().write_all(requests.as_bytes()).unwrap();
    assert!(line(&mut several).unwrap().contains("bad_request"));
    assert!(line(&mut several).unwrap().contains("no verb 'fly'"));
    assert_eq!(line(&mut several).unwrap(), "{\"ok\":[]}\n");

    let mut endless = connect(directory.path());
    // It is closed before all of it is taken.
    let _ = endless.get_mut().write_all(&vec![b'x'; CONTROL_LINE_BYTES_MAX + 1]);
    assert_eq!(line(&mut endless), None);

    let mut binary = connect(directory.path());
    binary.get_mut().write_all(b"\xff\xfe\n").unwrap();
    assert_eq!(line(&mut binary), None);

    // Those who are silent take places, but not all of them, and not for ever.
    let silent: Vec<_> = (0..8).map(|_| connect(directory.path())).collect();
    assert_eq!(done(directory.path(), &["list_policies", "-q"]), "\n");
    drop(silent);

    let mut deep = connect(directory.path());
    writeln!(deep.get_mut(), "{}", "[".repeat(CONTROL_LINE_BYTES_MAX - 1)).unwrap();
    assert!(line(&mut deep).unwrap().contains("bad_request"));
}
