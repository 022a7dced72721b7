//! A broker that cannot start says why in one line, and what to look at.

use crate::program::{Program, run};
use std::net::TcpListener;
use std::path::Path;

/// What it said, and with which code it ended. The log's own lines are not among it.
#[track_caller]
fn complaint(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("leveret: "), "{said}");
    lines[0].to_owned()
}

/// The complaint of a broker on any port of this machine and on `data_dir`.
#[track_caller]
fn complaint_on(data_dir: &Path, more: &[&str]) -> String {
    let data_dir = data_dir.to_str().unwrap();
    let arguments = ["--bind", "127.0.0.1", "--amqp-port", "0", "--data-dir", data_dir];
    complaint(&[&arguments, more].concat(), 1)
}

#[track_caller]
fn assert_names(complaint: &str, names: &[&str]) {
    for name in names {
        assert!(complaint.contains(name), "'{complaint}' does not name {name}");
    }
}

#[test]
fn a_busy_port_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_, port) = address.rsplit_once(':').unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let arguments = ["--bind", "127.0.0.1", "--amqp-port", port, "--data-dir", data_dir];
    let said = complaint(&arguments, 1);
    assert_names(&said, &[&address, "in use", "--amqp-port"]);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    assert_names(&complaint_on(file.path(), &[]), &[path, "not a directory"]);
    let below = file.path().join("below");
    assert_names(&complaint_on(&below, &[]), &[below.to_str().unwrap()]);
}

#[test]
fn a_second_broker_on_a_data_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Program::start(directory.path());
    let path = directory.path().to_str().unwrap();
    let said = complaint_on(directory.path(), &[]);
    assert_names(&said, &[path, "another broker is running"]);
    // The first did not notice.
    crate::raw::Raw::channel_to(first.address);
}

#[test]
fn a_damaged_journal_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("segment-0000000001");
    std::fs::write(&journal, "these bytes were never a journal".repeat(100)).unwrap();
    let said = complaint_on(directory.path(), &[]);
    assert_names(&said, &[journal.to_str().unwrap()]);
}

#[test]
fn a_configuration_that_cannot_be_obeyed_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("broken.conf");
    std::fs::write(&file, "# fine\nlisteners.tcp.default = many\n").unwrap();
    let path = file.to_str().unwrap();
    let said = complaint(&["--config", path], 2);
    assert_names(&said, &[path, "2", "listeners.tcp.default"]);
    let missing = directory.path().join("missing.conf");
    let missing = missing.to_str().unwrap();
    assert_names(&complaint(&["--config", missing], 2), &[missing]);
}

#[test]
fn a_wrong_argument_is_named() {
    for wrong in ["--amqp-port=65536", "--bind=nowhere", "--log-level=loud"] {
        let output = run(&[wrong]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let (name, value) = wrong.split_once('=').unwrap();
        assert_names(&said, &[name, value]);
    }
}
