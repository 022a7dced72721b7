//! A file that rots under a stopped broker: the queues that it cannot have hit are served, the
//! others say where it is damaged and wait for somebody to look.

use crate::program::run;
use crate::raw::{self, DURABLE, Fields, Raw};
use crate::support::TestBroker;
use leveret::wire::method::*;
use std::fs;
use std::path::Path;

const QUEUES: [&str; 3] = ["orders", "mail", "logs"];

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// Exit code, standard output and standard error.
fn leveret(arguments: &[&str]) -> (i32, String, String) {
    let output = run(arguments);
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn publish(raw: &mut Raw, queue: &str, body: &str) {
    // Delivery mode 2.
    let properties = [0x10, 0, 2];
    raw.call(&raw::publish(1, queue, &properties, body.as_bytes()), BASIC_ACK);
}

/// Takes all that is ready.
fn take(broker: &TestBroker, raw: &mut Raw, queue: &str) -> Vec<String> {
    let take = |_| {
        let gotten = raw.call(&raw::get(1, queue, true), BASIC_GET_OK);
        text(raw.content_of(&gotten).body)
    };
    let taken = (0..broker.ready(queue)).map(take).collect();
    raw.call(&raw::get(1, queue, true), BASIC_GET_EMPTY);
    taken
}

/// Changes one byte of the record of that body; says in which file.
fn rot(directory: &Path, body: &str) -> String {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("segment-") || name.ends_with(".idx") {
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes.windows(body.len()).position(|window| window == body.as_bytes());
        if let Some(at) = found {
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            return name;
        }
    }
    panic!("no segment has '{body}'");
}

/// A broker whose queues have three messages each, then killed and one of them hit.
fn damaged(directory: &Path) -> String {
    let broker = TestBroker::in_directory(directory);
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    for queue in QUEUES {
        raw.call(&raw::queue_declare(1, queue, DURABLE), QUEUE_DECLARE_OK);
    }
    for nth in 0..3 {
        QUEUES.iter().for_each(|queue| publish(&mut raw, queue, &format!("{queue} {nth}")));
    }
    drop(broker);
    rot(directory, "mail 1")
}

#[test]
fn a_damaged_file_holds_the_queue_that_it_hit_and_all_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let file = damaged(directory.path());
    let (code, found, _) = leveret(&["check", data_dir]);
    assert_eq!(code, 1, "{found}");
    assert!(found.contains(&format!("held: {file} at byte ")), "{found}");
    assert!(found.contains("queue 'mail' in vhost '/' is held, "), "{found}");
    assert!(!found.contains("'orders'") && !found.contains("'logs'"), "{found}");

    let broker = TestBroker::in_directory(directory.path());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    for queue in ["orders", "logs"] {
        let all: Vec<_> = (0..3).map(|nth| format!("{queue} {nth}")).collect();
        assert_eq!(take(&broker, &mut raw, queue), all);
    }
    raw.call(&raw::queue_declare(1, "mail", DURABLE), QUEUE_DECLARE_OK);
    publish(&mut raw, "mail", "mail 3");
    let bind = Fields::default().short(0).shortstr("mail").shortstr("amq.topic").shortstr("#");
    raw.call(&raw::method(1, QUEUE_BIND, bind.octet(0).longstr(&[])), QUEUE_BIND_OK);
    let purge = raw::method(1, QUEUE_PURGE, Fields::default().short(0).shortstr("mail").octet(0));
    for method in [raw::get(1, "mail", true), raw::consume(1, "mail", true), purge] {
        raw.send(&method);
        let (code, why) = raw.expect_close(CHANNEL_CLOSE);
        let place = format!(
            "RESOURCE_LOCKED - queue 'mail' in vhost '/' is held: {file} is damaged at byte "
        );
        assert!(code == 405 && why.starts_with(&place), "{why}");
        let way_out = "restore the file or run `leveret ctl release_queue mail`";
        assert!(why.ends_with(way_out), "{why}");
        raw.send(&raw::method(1, CHANNEL_CLOSE_OK, Fields::default()));
        raw.call(&raw::channel_open(1), CHANNEL_OPEN_OK);
    }
    serve_again(&broker, data_dir, &file);
}

/// An operator looks at it and lets it go on.
fn serve_again(broker: &TestBroker, data_dir: &str, file: &str) {
    let ctl =
        |arguments: &[&str]| leveret(&[&["ctl", "--data-dir", data_dir, "-q"], arguments].concat());
    let listed = ctl(&["list_held_queues", "--no-table-headers"]).1;
    let row: Vec<_> = listed.trim_end().split('\t').collect();
    assert_eq!(row[..3], ["mail", "3", file], "{listed}");
    assert!(row[3].parse::<u64>().is_ok() && row[4].starts_with("records "), "{listed}");
    let (code, _, complaints) = ctl(&["release_queue", "logs"]);
    let why = "Error:\nqueue 'logs' in vhost '/' is not held\n";
    assert_eq!((code, complaints.as_str()), (69, why));
    let (code, _, complaints) = ctl(&["release_queue", "none"]);
    let why = "Error:\nthere is no queue 'none' in vhost '/'\n";
    assert_eq!((code, complaints.as_str()), (69, why));
    assert_eq!(ctl(&["list_held_queues", "-p", "none"]).0, 65);
    let hope = "; if the file is restored before the next start, they come back";
    assert!(row[4].ends_with(hope), "{listed}");
    assert_eq!(ctl(&["release_queue", "mail"]), (0, String::new(), String::new()));
    assert_eq!(ctl(&["list_held_queues"]).1, "\n");
    let mut raw = Raw::channel(broker);
    assert_eq!(take(broker, &mut raw, "mail"), ["mail 0", "mail 2", "mail 3"]);
}

#[test]
fn a_hold_outlives_restarts_and_so_does_its_end() {
    let directory = tempfile::tempdir().unwrap();
    damaged(directory.path());
    let start = || TestBroker::in_directory(directory.path());
    let is_held = |broker: &TestBroker| {
        let mut raw = Raw::channel(broker);
        raw.send(&raw::get(1, "mail", false));
        let method = raw.frame().method();
        assert!([Some(CHANNEL_CLOSE), Some(BASIC_GET_OK)].contains(&method), "{method:?}");
        method == Some(CHANNEL_CLOSE)
    };
    let broker = start();
    assert!(is_held(&broker));
    broker.stop().unwrap();
    let broker = start();
    assert!(is_held(&broker));
    let data_dir = directory.path().to_str().unwrap();
    assert_eq!(leveret(&["ctl", "--data-dir", data_dir, "release_queue", "mail"]).0, 0);
    assert!(!is_held(&broker));
    drop(broker);
    assert!(!is_held(&start()));
}

#[test]
fn a_file_that_is_restored_after_a_clean_stop_brings_all_back() {
    let directory = tempfile::tempdir().unwrap();
    let name = damaged(directory.path());
    let path = directory.path().join(&name);
    let rotten = fs::read(&path).unwrap();
    let mut whole = rotten.clone();
    let at = whole.windows(6).position(|it| it[1..] == *b"ail 1").unwrap();
    whole[at] = b'm';

    let broker = TestBroker::in_directory(directory.path());
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    publish(&mut raw, "mail", "mail 3");
    drop(raw);
    broker.stop().unwrap();
    fs::write(&path, whole).unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let (code, found, _) = leveret(&["check", data_dir]);
    assert_eq!(code, 0, "{found}");

    let broker = TestBroker::in_directory(directory.path());
    let mut raw = Raw::channel(&broker);
    assert_eq!(take(&broker, &mut raw, "mail"), ["mail 0", "mail 1", "mail 2", "mail 3"]);
    assert_eq!(leveret(&["ctl", "--data-dir", data_dir, "-q", "list_held_queues"]).1, "\n");
}

/// Ten orders behind a checkpoint, and a file that ends before the seventh.
fn cut_short(directory: &Path) {
    let broker = TestBroker::in_directory(directory);
    let mut raw = Raw::channel(&broker);
    raw.call(&raw::confirm_select(1), CONFIRM_SELECT_OK);
    raw.call(&raw::queue_declare(1, "orders", DURABLE), QUEUE_DECLARE_OK);
    (0..10).for_each(|nth| publish(&mut raw, "orders", &format!("order {nth}")));
    drop(raw);
    broker.stop().unwrap();
    // A start writes the index of what it does not replay.
    TestBroker::in_directory(directory).stop().unwrap();
    let path = directory.join("segment-0000000001");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"order 6").unwrap();
    fs::write(&path, &bytes[..at]).unwrap();
}

/// A broker on that, with all messages taken that can be read.
fn drained(directory: &Path) -> (TestBroker, Raw) {
    let broker = TestBroker::in_directory(directory);
    let mut raw = Raw::channel(&broker);
    for nth in 0..6 {
        let gotten = raw.call(&raw::get(1, "orders", true), BASIC_GET_OK);
        assert_eq!(text(raw.content_of(&gotten).body), format!("order {nth}"));
    }
    raw.call(&raw::get(1, "orders", true), BASIC_GET_EMPTY);
    (broker, raw)
}

#[test]
fn what_is_lost_behind_a_checkpoint_is_named_and_counted_and_given_up_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    cut_short(directory.path());
    let (code, found, _) = leveret(&["check", data_dir]);
    assert_eq!(code, 1, "{found}");
    let lost = "4 messages of queue 'orders' in vhost '/' cannot be read, the first is number ";
    assert!(found.contains(lost) && found.contains(" 1 queues, 6 messages "), "{found}");
    assert!(!found.contains("made anew"), "{found}");

    let (broker, raw) = drained(directory.path());
    let ctl =
        |arguments: &[&str]| leveret(&[&["ctl", "--data-dir", data_dir, "-q"], arguments].concat());
    let listed = ctl(&["list_held_queues", "--no-table-headers"]).1;
    let row: Vec<_> = listed.trim_end().split('\t').collect();
    assert_eq!(row[..3], ["orders", "0", "segment-0000000001"], "{listed}");
    let why = "4 messages cannot be read and are set aside: message ";
    assert!(row[3].parse::<u64>().is_ok() && row[4].starts_with(why), "{listed}");
    assert_eq!(ctl(&["release_queue", "orders"]), (0, String::new(), String::new()));
    assert_eq!(ctl(&["release_queue", "orders"]).0, 69, "there is nothing left");
    assert_eq!(ctl(&["list_held_queues"]).1, "\n");
    drop(raw);
    broker.stop().unwrap();
    let broker = TestBroker::in_directory(directory.path());
    assert_eq!(broker.ready("orders"), 0);
}

#[test]
fn a_purge_counts_what_it_takes_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    cut_short(directory.path());
    let (broker, mut raw) = drained(directory.path());
    let if_empty = Fields::default().short(0).shortstr("orders").octet(0b10);
    raw.send(&raw::method(1, QUEUE_DELETE, if_empty));
    assert_eq!(raw.expect_close(CHANNEL_CLOSE).0, 406);
    raw.send(&raw::method(1, CHANNEL_CLOSE_OK, Fields::default()));
    raw.call(&raw::channel_open(1), CHANNEL_OPEN_OK);
    let purge = Fields::default().short(0).shortstr("orders").octet(0);
    let purged = raw.call(&raw::method(1, QUEUE_PURGE, purge), QUEUE_PURGE_OK);
    assert_eq!(purged.fields().long(), 4);
    drop(raw);
    broker.stop().unwrap();
    assert_eq!(TestBroker::in_directory(directory.path()).ready("orders"), 0);
}
