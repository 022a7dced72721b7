//! A broker that cannot start says why in one line, and what to look at; so does a check of its
//! data that cannot look.

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
    let is_of_the_log = |line: &&str| line.contains("+00:00 [");
    let (_, lines): (Vec<_>, Vec<_>) = said.lines().partition(is_of_the_log);
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
    assert_names(&complaint_on(file.path(), &[]), &[path, "not a directory", "--data-dir"]);
    let below = file.path().join("below");
    assert_names(&complaint_on(&below, &[]), &[below.to_str().unwrap(), "--data-dir"]);
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

/// Runs `leveret check`, and gives the exit code, its lines and its complaints.
fn check(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["check"], arguments].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a broker that was stopped leaves.
fn stopped(directory: &Path) -> &str {
    let program = Program::start(directory);
    crate::raw::Raw::channel_to(program.address);
    program.signal("TERM");
    let ended = program.ended();
    assert!(ended.success(), "{ended:?}");
    directory.to_str().unwrap()
}

#[test]
fn a_sound_directory_is_checked_and_repaired_in_silence() {
    let directory = tempfile::tempdir().unwrap();
    let path = stopped(directory.path());
    let (code, said, complaints) = check(&[path]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{said}");
    assert!(said.lines().last().unwrap().starts_with(&format!("{path} is sound: ")), "{said}");
    assert_eq!(check(&[path, "--quiet"]), (Some(0), String::new(), String::new()));
    let (code, said, complaints) = check(&["--repair", path]);
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("there is nothing to repair") && !said.contains("broken-"), "{said}");
    std::fs::remove_dir_all(directory.path().join("catalogue")).unwrap();
    let (code, said, _) = check(&["--repair", path]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the catalogue was made anew from snapshot and journal"), "{said}");
    drop(Program::start(directory.path()));
}

#[test]
fn damage_is_named_with_file_and_byte_and_not_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let path = stopped(directory.path());
    let file = directory.path().join("segment-0000000001");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[1060] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    for arguments in [&[path][..], &["--repair", path]] {
        let (code, said, _) = check(arguments);
        assert_eq!(code, Some(1), "{said}");
        assert_names(&said, &["damage: segment-0000000001 at byte 1024: ", "is damaged: "]);
        assert_eq!(said.contains("nothing was changed"), arguments.len() > 1, "{said}");
        assert!(std::fs::read(&file).unwrap() == bytes);
    }
    let (_, said, _) = check(&["--quiet", path]);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert_eq!(check(&["--accept-loss", path]).0, Some(2), "only with --repair");
    let (code, said, _) = check(&["--repair", "--accept-loss", path]);
    assert_eq!(code, Some(0), "{said}");
    let aside = "segment-0000000001.broken-1";
    assert_names(&said, &["given up: segment-0000000001 at byte 1024: ", aside, " is sound: "]);
    assert!(std::fs::read(directory.path().join(aside)).unwrap() == bytes);
    drop(Program::start(directory.path()));
}

#[test]
fn what_cannot_be_checked_is_named_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let file = directory.path().join("file");
    std::fs::write(&file, "bytes").unwrap();
    let empty = directory.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let busy = directory.path().join("busy");
    let program = Program::start(&busy);
    let cases = [
        (&missing, "No such file"),
        (&file, "not a directory"),
        (&empty, "no broker ever kept its data here"),
        (&busy, "another broker is running"),
    ];
    for (place, why) in cases {
        let path = place.to_str().unwrap();
        for arguments in [&["check", path][..], &["check", "--repair", path]] {
            assert_names(&complaint(arguments, 2), &[path, why]);
        }
    }
    assert!(!missing.exists());
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0);
    crate::raw::Raw::channel_to(program.address);
}

/// Root may read and write everything, so a directory stands in a file's way.
#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("lock")).unwrap();
    let path = directory.path().to_str().unwrap();
    assert_names(&complaint_on(directory.path(), &[]), &[path, "lock"]);
    let kernel = Path::new("/proc/leveret-data");
    assert_names(&complaint_on(kernel, &[]), &["/proc/leveret-data", "create"]);
}

#[test]
fn a_segment_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    stopped(directory.path());
    let file = directory.path().join("segment-0000000001");
    let mut bytes = std::fs::read(&file).unwrap();
    for copy in bytes.chunks_mut(512).take(2) {
        copy[8] = 99;
        let crc = crc32c::crc32c(&copy[..60]);
        copy[60..64].copy_from_slice(&crc.to_le_bytes());
    }
    std::fs::write(&file, bytes).unwrap();
    let said = complaint_on(directory.path(), &[]);
    assert_names(&said, &[file.to_str().unwrap(), "format version 99", "use the version"]);
}
