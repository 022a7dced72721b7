//! `leveret perf` puts its loads on a broker and reports them, to the last message.

use crate::program::{Program, run};

/// What a counted run reports as JSON.
#[track_caller]
fn report(broker: &Program, arguments: &[&str]) -> serde_json::Value {
    let url = format!("amqp://guest:guest@{}", broker.address);
    let fixed = ["perf", "throughput", "--json", "--url", &url];
    let output = run(&[&fixed, arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn deferred_messages_all_arrive_and_have_a_lateness() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Program::start(directory.path());
    for way in ["--delay", "--dead-letter-after"] {
        for exchange in ["default", "direct", "fanout", "topic", "headers"] {
            let arguments = [way, "20", "--exchange", exchange, "--queues", "2"];
            let messages = ["--messages", "300", "--rate", "10000"];
            let report = report(&broker, &[arguments.as_slice(), &messages].concat());
            let samples = if exchange == "fanout" { 600 } else { 300 };
            assert_eq!(report["lateness"]["samples"], samples as f64, "{way} {exchange}: {report}");
            assert_eq!(report["backlog_messages"], 0.0, "{report}");
            assert!(report["latency"].is_null(), "{report}");
        }
    }
}

#[test]
fn a_timed_run_waits_for_what_it_deferred() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Program::start(directory.path());
    let times = ["--warm-up", "0", "--duration", "0.2", "--rate", "1000"];
    let report = report(&broker, &[["--delay", "100"].as_slice(), &times].concat());
    assert_eq!(report["never_arrived"], 0.0, "{report}");
}

#[test]
fn headers_priorities_and_queue_arguments_reach_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Program::start(directory.path());
    let url = format!("amqp://guest:guest@{}", broker.address);
    let arguments = ["--queue-argument", "x-max-priority=10", "--priorities", "10"];
    let headers = ["--header", "tenant=100", "--header", "id=0", "--messages", "500"];
    let report = report(&broker, &[arguments.as_slice(), &headers].concat());
    assert_eq!(report["backlog_messages"], 0.0, "{report}");
    let refused = run(&["perf", "throughput", "--url", &url, "--queue-argument", "x-max-length=x"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("406 PRECONDITION_FAILED - invalid arg 'x-max-length'"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_queue_beside_is_filled_and_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Program::start(directory.path());
    let times = ["--warm-up", "0", "--duration", "0.5", "--rate", "1000"];
    let report = report(&broker, &[["--expiring", "1001"].as_slice(), &times].concat());
    // How many are left by then is the machine's matter; the first was taken at once.
    assert!(report["not_expired"].as_f64().is_some_and(|left| left <= 1001.0), "{report}");
}

#[test]
fn arguments_that_contradict_each_other_are_named() {
    for (wrong, names) in [
        (["--header", "n=x"], "'x' is no number of values"),
        (["--queue-argument", "n"], "NAME=VALUE"),
        (["--delay", "0"], "--delay"),
        (["--priorities", "256"], "--priorities"),
    ] {
        let output = run(&[["perf", "throughput"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(names), "{said}");
    }
}

#[test]
fn a_table_of_failures_is_a_failure() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("a=amqp://{nobody}");
    let rows = ["--only", "ack each, prefetch", "--seconds", "1", "--repeat", "1"];
    let output = run(&[&["perf", "scenarios", "--url", &url][..], &rows].concat());
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaints}");
    assert!(complaints.ends_with("no run succeeded; each has said why above\n"), "{complaints}");
}
